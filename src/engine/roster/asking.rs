//! Where the processes of a node are asked for, and which answers prove the end of one.
//!
//! Owns: which address is dialled or probed, and of which process that tells something. Does not
//! know: when ([`redial`](super::redial)), or what follows from an answer.

use std::time::Duration;

use super::{Node, NodeProcess, State, redial};
use crate::engine::Incarnation;

/// A node that was drained is dialled so many times less often, to see whether a new process stands
/// there.
const DRAINED_INTERVAL: u32 = 10;

impl Node {
    /// Returns the longest wait between two dials or probes.
    pub fn usual_interval(&self) -> Duration {
        if self.drain.is_some() {
            redial::INTERVAL * DRAINED_INTERVAL
        } else {
            redial::INTERVAL
        }
    }

    /// Returns whether it is dialled, if it listens: one that was taken out by hand as long as its
    /// lease runs, since it has to hear of that.
    pub fn is_dialled(&self) -> bool {
        match &self.state {
            State::Connecting | State::Member(_) | State::Dead => true,
            State::Leaving(process) => process.as_ref().is_some_and(|process| !process.is_lost()),
            State::Vacant | State::Free => false,
        }
    }

    /// Returns whether it is dialled though it is up: a process that was dialled has been replaced
    /// by one that joined, and something waits for the end of a run of it. It listens, so it tells
    /// of that when it is dialled. If another process answers there, or the dial is refused, it is
    /// dead.
    pub fn is_dialled_for_the_past(&self) -> bool {
        let present = self.latest_process();
        present.is_some_and(|process| process.joined)
            && self
                .past
                .iter()
                .any(|process| !process.joined && !process.orphans.is_empty())
    }

    /// Returns the incarnation of which a probe would tell something, and where: at the port that
    /// it had named, or at the address at which it was found. They are asked in turn, since
    /// somebody else may answer at one of them for ever.
    pub fn to_probe(&self) -> Option<(Incarnation, &str)> {
        let current = self.latest_process().into_iter();
        let current = current.filter(|process| !self.is_up() && process.joined);
        let named = current.chain(&self.past);
        let named = named.map(|process| (process.incarnation, process.probe.as_deref()));
        let awaited = self
            .past
            .iter()
            .filter(|process| !process.orphans.is_empty());
        let found = awaited.map(|process| (process.incarnation, process.found_at.as_deref()));
        let all = named
            .chain(found)
            .filter_map(|(incarnation, address)| Some((incarnation, address?)));
        next_in_turn(all, self.redial.probed_last())
    }

    /// Returns the address at which a refused dial must be refused to say that a process of it is
    /// dead, in turn where there are several. `None` if a refusal says nothing, or at every address
    /// the same.
    pub fn found_at(&self) -> Option<&str> {
        if self.refusal_means_dead == Some(true) {
            return None;
        }
        let all = self.latest_process().into_iter().chain(&self.past);
        let found = all.filter_map(|process| Some(((), process.found_at.as_deref()?)));
        let (_, address) = next_in_turn(found, self.redial.dialled_last())?;
        Some(address)
    }

    /// Returns whether a process of it is dead if nobody listens at this address any more, or
    /// another process does; whatever the address, if an operator says so.
    pub fn proves_dead(&self, process: &NodeProcess, address: Option<&str>) -> bool {
        match self.refusal_means_dead {
            Some(true) => !process.joined,
            Some(false) => false,
            None => process.found_at.is_some() && process.found_at.as_deref() == address,
        }
    }
}

/// Returns what follows the address that was asked last, or else the first.
fn next_in_turn<'a, T>(
    addresses: impl Iterator<Item = (T, &'a str)> + Clone,
    last: Option<&str>,
) -> Option<(T, &'a str)> {
    let is_last = |(_, address): &(T, &str)| Some(*address) == last;
    let mut later = addresses.clone().skip_while(|it| !is_last(it));
    let next = later.find(|it| !is_last(it));
    next.or_else(|| addresses.clone().next())
}
