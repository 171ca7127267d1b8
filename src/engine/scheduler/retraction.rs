//! When prefetched tasks are looked at, to retract some.
//!
//! Owns: which nodes have prefetched tasks, and when they are looked at. Does not know: which of
//! the tasks are retracted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::Timestamp;
use crate::engine::placement::NodeIndex;

/// All nodes with prefetched tasks are looked at no oftener than this: a flush may come for each
/// few tasks, and nothing is retracted before it has waited four times as long.
const PAUSE: Duration = Duration::from_micros(250);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retraction {
    nodes: BTreeSet<NodeIndex>,
    looked_at: Timestamp,
    next_look: Option<Timestamp>,
}

impl Retraction {
    /// A node has a prefetched task.
    pub(super) fn enter(&mut self, node: NodeIndex) {
        self.nodes.insert(node);
    }

    /// A node has none any more.
    pub(super) fn leave(&mut self, node: NodeIndex) {
        self.nodes.remove(&node);
    }

    /// Begins a look and returns the nodes to look at: none before the pause since the last look is
    /// over.
    pub(super) fn begin_look(&mut self, now: Timestamp) -> Vec<NodeIndex> {
        self.next_look = None;
        let pause_until = self.looked_at + PAUSE;
        if self.nodes.is_empty() {
            return Vec::new();
        }
        if now < pause_until {
            self.look_again_at(pause_until);
            return Vec::new();
        }
        self.looked_at = now;
        self.nodes.iter().copied().collect()
    }

    /// Asks for the next look no later than `at`.
    pub(super) fn look_again_at(&mut self, at: Timestamp) {
        self.next_look = Some(self.next_look.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.next_look
    }
}

#[cfg(test)]
mod tests {
    use super::{PAUSE, Retraction};
    use crate::engine::Timestamp;

    const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

    #[test]
    fn nodes_with_prefetched_tasks_are_looked_at_once_in_a_pause() {
        let mut retraction = Retraction::default();
        assert!(retraction.begin_look(START).is_empty());
        assert_eq!(retraction.next_look(), None);
        retraction.enter(2);
        retraction.enter(1);
        assert_eq!(retraction.begin_look(START), [1, 2]);
        assert_eq!(retraction.next_look(), None);
        assert!(retraction.begin_look(START).is_empty());
        assert_eq!(retraction.next_look(), Some(START + PAUSE));
        assert_eq!(retraction.begin_look(START + PAUSE), [1, 2]);
        retraction.leave(1);
        assert_eq!(retraction.begin_look(START + PAUSE * 2), [2]);
    }

    #[test]
    fn the_earliest_look_that_was_asked_for_counts_until_it_is_made() {
        let mut retraction = Retraction::default();
        retraction.enter(1);
        for after in [3, 1, 2] {
            retraction.look_again_at(START + PAUSE * after);
        }
        assert_eq!(retraction.next_look(), Some(START + PAUSE));
        retraction.begin_look(START + PAUSE);
        assert_eq!(retraction.next_look(), None);
    }
}
