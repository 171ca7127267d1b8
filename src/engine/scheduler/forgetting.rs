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
use crate::engine::timers::Timer;
use crate::engine::work;

/// The most nodes that are gone and remembered, but for those that something names.
pub(super) const MAX_GONE: usize = 1024;

/// When too many are gone, one in so many of the most is forgotten besides, so that the next look
/// at which those are, which goes through all tasks, comes after as many more.
const ROUND_SHARE: usize = 8;

impl SchedulerMachine {
    /// Remembers at most so many nodes that are gone in place of 1,024, but for those that
    /// something names. Call it before anything else.
    pub fn remembering_gone(mut self, most: usize) -> Self {
        self.max_gone = most;
        self
    }

    /// Forgets the oldest of the nodes that are gone, if there may be too many.
    pub(super) fn forget_gone(&mut self, now: Timestamp) {
        let many = self.roster.away > self.roster.look_above.max(self.max_gone);
        let due = self.roster.look_at.is_some_and(|at| at <= now);
        if !many && !due {
            return;
        }
        let round = self.max_gone / ROUND_SHARE;
        let mut gone = self.gone(now);
        let excess = gone.len().saturating_sub(self.max_gone - round);
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
        if self.roster.away > self.max_gone {
            self.roster.look_above = self.roster.away + round;
            // Leases end, and tasks that name a node settle, without any more nodes being away.
            self.plan_look(Some(now + self.config.lease));
        } else {
            self.roster.look_above = self.max_gone;
            self.plan_look(None);
        }
    }

    fn plan_look(&mut self, at: Option<Timestamp>) {
        if let Some(before) = std::mem::replace(&mut self.roster.look_at, at) {
            self.timers.stop(before, Timer::Forget);
        }
        if let Some(at) = at {
            self.timers.start(at, Timer::Forget);
        }
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
        let mut named = BTreeSet::new();
        // One by one: to collect them would gather them all first.
        named.extend(tasks.flat_map(|(_, task)| task.named_nodes()));
        named
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
