//! Telling nodes how many tasks wait for workers of theirs that other schedulers have.
//!
//! Owns: which nodes have told of such workers, and what they were answered. Does not know: how a
//! node shares its workers, or what becomes of the tasks.
//!
//! Nothing is sent for a worker that another scheduler has: it would wait at the node, though it
//! may run elsewhere. What is told here brings the share back instead.

use std::collections::BTreeSet;

use super::{Intake, SchedulerMachine};
use crate::engine::placement::NodeIndex;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Nodes that have told of workers which others have, and some that have none any more.
    lenders: BTreeSet<NodeIndex>,
    /// What the last answers were based on; `None` if a node has told something since.
    told_for: Option<WantsBasis>,
}

/// What the answers are based on, beside what the nodes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WantsBasis {
    queue_changes: u64,
    /// Whether anything is placed, and whether only what callers wait for.
    places: bool,
    for_callers: bool,
}

impl Wants {
    /// Takes in that a node has told how many of its workers others have.
    pub(super) fn lent(&mut self, node: NodeIndex) {
        self.lenders.insert(node);
        self.told_for = None;
    }
}

impl SchedulerMachine {
    /// Answers the nodes that have told of workers which others have. Costs nothing while there are
    /// none, or while nothing has changed.
    pub(super) fn tell_wants(&mut self) {
        if self.wants.lenders.is_empty() {
            return;
        }
        let waiting = WantsBasis {
            queue_changes: self.catalogue.queue_changes(),
            places: self.intake != Intake::Finishing && !self.is_resyncing(),
            for_callers: self.outbox.is_full(),
        };
        if self.wants.told_for == Some(waiting) {
            return;
        }
        let mut lenders = std::mem::take(&mut self.wants.lenders);
        lenders.retain(|&node| self.tell_wants_to(node, waiting));
        self.wants = Wants {
            lenders,
            told_for: Some(waiting),
        };
    }

    /// Returns whether there may be more to tell.
    fn tell_wants_to(&mut self, node: NodeIndex, waiting: WantsBasis) -> bool {
        let entry = self.roster.get(node);
        if !entry.is_up() {
            return false;
        }
        let lent = entry.load.lent_workers();
        let most = match waiting.places && entry.takes_tasks() {
            true => lent,
            false => 0,
        };
        // All that could be placed has been, so what waits here waits for these workers.
        let wants = self
            .catalogue
            .count_waiting(node, most, waiting.for_callers);
        if self.roster.get_mut(node).channel_mut().want(wants) {
            self.roster.touch(node);
        }
        lent > 0
    }
}
