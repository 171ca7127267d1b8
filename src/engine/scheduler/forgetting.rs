//! Which nodes that are gone are remembered, and for how long.
//!
//! Owns: the bound on how many, and who must not be forgotten. Does not know: when a node is lost,
//! or why.
//!
//! Nodes with names that never come again, such as one for each start of a container, come and go
//! for years. One that was taken out by hand leaves its name, since tasks may tell that they have
//! run there; one that had joined stays among the nodes, so that an operator sees what became of
//! it.

use std::collections::BTreeSet;

use super::SchedulerMachine;
use super::hello::MAX_NODES;
use crate::engine::Timestamp;
use crate::engine::placement::NodeIndex;
use crate::engine::work;

/// The most nodes that are gone and remembered, but for those that something names.
pub(super) const MAX_GONE: usize = 1024;

/// How many more may be gone before the scheduler looks again which those are: that goes through
/// all tasks.
const ROUND: usize = 128;

impl SchedulerMachine {
    /// Forgets the oldest of the nodes that are gone, if there may be too many.
    pub(super) fn forget_gone(&mut self, now: Timestamp) {
        if self.roster.away <= self.roster.look_above.max(MAX_GONE) {
            return;
        }
        let mut gone = self.gone(now);
        let excess = gone.len().saturating_sub(MAX_GONE - ROUND);
        if excess > 0 {
            let named = self.named_by_tasks();
            gone.retain(|(_, node)| !named.contains(node));
            gone.truncate(excess);
            for (_, node) in gone {
                self.clear_offer(node);
                self.node_changed(node);
                self.roster.forget(node);
            }
        }
        let away = self.roster.nodes.iter().filter(|node| node.is_away());
        self.roster.away = away.count();
        self.roster.look_above = self.roster.away + ROUND;
    }

    /// Returns the nodes that are gone, those first that have been for longest.
    fn gone(&self, now: Timestamp) -> Vec<(Timestamp, NodeIndex)> {
        let margin = self.margin();
        let entries = (0..).zip(&self.roster.nodes).inspect(|_| work::step());
        // One that is about to be set up has said hello on a link.
        let gone = entries
            .filter(|(node, entry)| entry.is_gone(now, margin) && !self.is_in_handshake(*node));
        let mut gone: Vec<_> = gone.map(|(node, entry)| (entry.last_heard, node)).collect();
        gone.sort_unstable();
        gone
    }

    /// Returns the nodes that unsettled tasks have run on, or were lost with.
    fn named_by_tasks(&self) -> BTreeSet<NodeIndex> {
        let tasks = self.tasks.iter().inspect(|_| work::step());
        tasks.flat_map(|(_, task)| task.named_nodes()).collect()
    }

    /// Returns whether as many nodes are there as may be. Those that are gone do not count.
    pub(super) fn has_no_room_for_a_node(&self, now: Timestamp) -> bool {
        let names = &self.roster.names;
        if names.len() < MAX_NODES {
            return false;
        }
        let margin = self.margin();
        let there = |node: &&NodeIndex| !self.roster.get(**node).is_gone(now, margin);
        names.values().filter(there).count() >= MAX_NODES
    }
}
