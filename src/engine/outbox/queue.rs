//! What one client has not confirmed.
//!
//! Owns: which statuses are with the client, in which deliveries, and which still wait for room.
//! Does not know: what is counted, or who else is told.

use std::collections::VecDeque;
use std::ops::Range;

use crate::status::TaskStatus;

/// Statuses that went to a client together.
#[derive(Debug)]
struct Delivery {
    number: u64,
    /// Each is taken out as it is confirmed.
    statuses: Vec<Option<TaskStatus>>,
    open: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct StatusQueue {
    /// The deliveries, in order of their numbers. One of which nothing is open is not kept, so that
    /// a status that is never confirmed keeps nothing but its own delivery.
    deliveries: VecDeque<Delivery>,
    /// Statuses in them that are not confirmed.
    with_client: usize,
    /// Oldest first.
    waiting: VecDeque<TaskStatus>,
}

impl StatusQueue {
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.waiting.is_empty()
    }

    /// Returns whether a status waits for its way to the client.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns whether a status can go to the client now.
    pub fn is_ready(&self, window: usize) -> bool {
        self.waits() && self.with_client < window
    }

    pub fn push(&mut self, status: TaskStatus) {
        self.waiting.push_back(status);
    }

    pub fn append(&mut self, statuses: &mut VecDeque<TaskStatus>) {
        self.waiting.append(statuses);
    }

    /// Takes what goes to the client now, as the delivery of this number, which must be higher than
    /// all before.
    pub fn deliver(&mut self, number: u64, window: usize) -> Vec<TaskStatus> {
        let room = window.saturating_sub(self.with_client);
        let count = room.min(self.waiting.len());
        let statuses: Vec<_> = self.waiting.drain(..count).collect();
        self.with_client += count;
        self.deliveries.push_back(Delivery {
            number,
            statuses: statuses.iter().cloned().map(Some).collect(),
            open: count,
        });
        statuses
    }

    /// Takes out what the client has handled. What it has confirmed before, or was never given, is
    /// passed over.
    pub fn confirm(
        &mut self,
        delivery: u64,
        handled: Range<usize>,
        mut confirmed: impl FnMut(TaskStatus),
    ) {
        let found = self
            .deliveries
            .binary_search_by_key(&delivery, |it| it.number);
        let Ok(at) = found else {
            return;
        };
        let group = &mut self.deliveries[at];
        let end = handled.end.min(group.statuses.len());
        let statuses = group.statuses[handled.start.min(end)..end].iter_mut();
        for status in statuses.filter_map(Option::take) {
            group.open -= 1;
            self.with_client -= 1;
            confirmed(status);
        }
        if group.open == 0 {
            self.deliveries.remove(at);
        }
    }

    /// Returns all that is not confirmed, oldest first.
    pub fn statuses(&self) -> impl Iterator<Item = &TaskStatus> {
        let delivered = self.deliveries.iter().flat_map(|group| &group.statuses);
        delivered.flatten().chain(&self.waiting)
    }

    /// Lets what is in deliveries from this one on wait again, since they have not gone out.
    /// Returns what that is.
    pub fn take_back(&mut self, from: u64) -> impl Iterator<Item = &TaskStatus> {
        let at = self.deliveries.partition_point(|group| group.number < from);
        let groups = self.deliveries.split_off(at).into_iter();
        let mut back: VecDeque<_> = groups.flat_map(|it| it.statuses).flatten().collect();
        let count = back.len();
        self.with_client -= count;
        back.append(&mut self.waiting);
        self.waiting = back;
        self.waiting.iter().take(count)
    }

    /// Takes all that is not confirmed, oldest first. What was with the client may have been
    /// handled by it.
    pub fn into_statuses(self) -> impl Iterator<Item = TaskStatus> {
        let delivered = self.deliveries.into_iter().flat_map(|group| group.statuses);
        let again = delivered.flatten().map(|mut status| {
            status.mark_given_again();
            status
        });
        again.chain(self.waiting)
    }

    pub fn check(&self, window: usize) -> Result<(), String> {
        let open: usize = self.deliveries.iter().map(|group| group.open).sum();
        if open != self.with_client || open > window {
            return Err(format!(
                "{open} statuses are with it, {} are counted, the window is {window}",
                self.with_client
            ));
        }
        Ok(())
    }
}
