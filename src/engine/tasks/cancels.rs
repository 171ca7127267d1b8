//! Cancels that wait for their answer.
//!
//! Owns: their tickets, in order of time. Does not know: what they are answered, or which timer
//! ends their patience.

use std::collections::VecDeque;

use crate::engine::{Timestamp, work};

/// The cancels of one task, or of one run of it. Their owner has one timer for each time at which
/// the patience of some of them ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancels(VecDeque<(Timestamp, u64)>);

impl Cancels {
    /// Adds one that is answered by `until` at the latest. Returns that time if none has it so far.
    pub fn push(&mut self, until: Timestamp, ticket: u64) -> Option<Timestamp> {
        let last = self.0.back().map(|&(last, _)| last);
        let until = last.map_or(until, |last| until.max(last));
        self.0.push_back((until, ticket));
        (last != Some(until)).then_some(until)
    }

    /// Takes out those whose patience has ended by then.
    pub fn take_until(&mut self, now: Timestamp) -> Vec<u64> {
        let ended = self.0.partition_point(|&(until, _)| until <= now);
        let ended = self.0.drain(..ended).inspect(|_| work::step());
        ended.map(|(_, ticket)| ticket).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns each time at which the patience of some ends, once and in order.
    pub fn times(&self) -> impl Iterator<Item = Timestamp> {
        let mut before = None;
        let times = self.0.iter().map(|&(until, _)| until);
        times.filter(move |&until| before.replace(until) != Some(until))
    }

    pub fn tickets(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|&(_, ticket)| ticket)
    }
}
