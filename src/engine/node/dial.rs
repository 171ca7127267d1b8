//! Which scheduler a joining node dials, and when.
//!
//! Owns: the addresses, whose turn it is, which dials are under way. Does not know: whether a link
//! is wanted.

use std::time::Duration;

use crate::engine::Timestamp;

/// The wait between two dials.
const REDIAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Address {
    address: String,
    under_way: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Dialler {
    addresses: Vec<Address>,
    turn: usize,
    last: Option<Timestamp>,
}

impl Dialler {
    pub(super) fn new(joins: &[String]) -> Self {
        let mut addresses: Vec<Address> = Vec::with_capacity(joins.len());
        for address in joins {
            // The same address twice would let two dials to it be under way.
            if addresses.iter().all(|known| known.address != *address) {
                addresses.push(Address {
                    address: address.clone(),
                    under_way: false,
                });
            }
        }
        Self {
            addresses,
            turn: 0,
            last: None,
        }
    }

    pub(super) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    pub(super) fn has(&self, address: &str) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.any(|known| known.address == *address)
    }

    /// Adds an address, which is not being dialled.
    pub(super) fn add(&mut self, address: String) {
        if !self.has(&address) {
            let under_way = false;
            self.addresses.push(Address { address, under_way });
        }
    }

    /// Takes all addresses.
    pub(super) fn take(&mut self) -> Vec<String> {
        let addresses = std::mem::take(&mut self.addresses);
        addresses.into_iter().map(|known| known.address).collect()
    }

    pub(super) fn remove(&mut self, address: &str) {
        self.addresses.retain(|known| known.address != *address);
        self.turn = 0;
    }

    /// Returns the earliest time at which a dial may begin; `None` if there is nobody to dial, or
    /// every dial is under way.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.addresses
            .iter()
            .any(|address| !address.under_way)
            .then(|| self.last.map_or(Timestamp::default(), |last| last + REDIAL))
    }

    /// Begins a dial to the next address in turn.
    pub(super) fn dial(&mut self, now: Timestamp) -> Option<String> {
        let count = self.addresses.len();
        let index = (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|&index| !self.addresses[index].under_way)?;
        self.turn = (index + 1) % count;
        self.last = Some(now);
        self.addresses[index].under_way = true;
        Some(self.addresses[index].address.clone())
    }

    /// Takes in that a dial has led to a link, or to nothing.
    pub(super) fn answered(&mut self, address: &str) {
        if let Some(known) = self
            .addresses
            .iter_mut()
            .find(|known| known.address == address)
        {
            known.under_way = false;
        }
    }
}
