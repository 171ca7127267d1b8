//! When prefetched tasks are looked at, to retract some.
//!
//! Owns: which nodes have prefetched tasks, when they are looked at and in which order, and which
//! free workers tasks were asked back for. Does not know: which of the tasks are retracted.
//!
//! Nodes are looked at in rounds, a few in a turn, so no turn costs more with more nodes. A round
//! begins when the earliest task that a look before has seen is due, or at once while something may
//! be better placed than it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Timestamp;
use crate::engine::placement::NodeIndex;
use crate::engine::work;
use crate::task::Dispatch;

/// Nodes are looked at no oftener than this: a turn may come for each few tasks, and nothing is
/// retracted before it has waited four times as long.
pub(super) const INTERVAL: Duration = Duration::from_micros(250);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retraction {
    /// Nodes with prefetched tasks, and some that have none any more.
    nodes: Vec<NodeIndex>,
    /// By node, whether it is among them.
    listed: Vec<bool>,
    /// Where among them the round that is under way goes on.
    at: Option<usize>,
    /// When the next round is due, as far as the looks since the last one began have seen.
    due: Option<Timestamp>,
    looked_at: Timestamp,
    next_look: Option<Timestamp>,
    /// The lateness of the least urgent task that was placed since the last round ended.
    lowest_placed: u8,
    /// Tasks that were asked back for the free worker of another node, which, and by when.
    claims: BTreeMap<Dispatch, (NodeIndex, Timestamp)>,
    /// How many are claimed of each node by those.
    claimed: BTreeMap<NodeIndex, u32>,
}

impl Retraction {
    /// Enters a node that has a prefetched task, which is to be looked at no later than `at`.
    #[inline]
    pub(super) fn enter(&mut self, node: NodeIndex, at: Timestamp) {
        let index = node as usize;
        if self.listed.len() <= index {
            self.listed.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.listed[index], true) {
            self.nodes.push(node);
        }
        // What the node had before may not have been worth another look.
        self.look_again_at(at);
    }

    /// Notes that a task of this lateness was placed.
    #[inline]
    pub(super) fn placed(&mut self, lateness: u8) {
        self.lowest_placed = self.lowest_placed.max(lateness);
    }

    pub(super) fn lowest_placed(&self) -> u8 {
        self.lowest_placed
    }

    /// Begins a look, if it is time for one or if there is reason to. Then the nodes to look at
    /// follow.
    pub(super) fn begin_look(&mut self, now: Timestamp, reason: bool) -> bool {
        let under_way = self.at.is_some();
        let due = self.due.is_some_and(|due| due <= now);
        if self.nodes.is_empty() || !(under_way || reason || due) {
            self.next_look = self.due.filter(|_| !self.nodes.is_empty());
            return false;
        }
        let rest_until = self.looked_at + INTERVAL;
        if now < rest_until {
            self.next_look = Some(rest_until);
            return false;
        }
        if !under_way {
            // The round finds out anew.
            self.due = None;
            self.at = Some(0);
            self.end_claims(now);
        }
        self.looked_at = now;
        true
    }

    /// Returns the next node of the round.
    pub(super) fn next_node(&mut self) -> Option<NodeIndex> {
        let at = self.at.as_mut()?;
        let node = *self.nodes.get(*at)?;
        *at += 1;
        Some(node)
    }

    /// Drops the node that was returned last, which has no prefetched task any more.
    pub(super) fn leave(&mut self) {
        if let Some(at) = &mut self.at {
            *at -= 1;
            let node = self.nodes.swap_remove(*at);
            self.listed[node as usize] = false;
        }
    }

    /// Ends a look: the round is over, or goes on after an interval.
    pub(super) fn end_look(&mut self) {
        if self.at.is_some_and(|at| at < self.nodes.len()) {
            self.next_look = Some(self.looked_at + INTERVAL);
        } else {
            self.at = None;
            self.lowest_placed = 0;
            // What was seen when it began may have come due before it was over.
            let due = self.due.map(|due| due.max(self.looked_at + INTERVAL));
            self.next_look = due.filter(|_| !self.nodes.is_empty());
        }
    }

    /// Asks for the next round no later than `at`.
    #[inline]
    pub(super) fn look_again_at(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.next_look
    }

    /// Claims a free worker of this node, until then at most, for a task that was asked back.
    pub(super) fn claim(&mut self, dispatch: Dispatch, node: NodeIndex, until: Timestamp) {
        self.claims.insert(dispatch, (node, until));
        *self.claimed.entry(node).or_default() += 1;
    }

    /// Releases the worker that was claimed for a task that was asked back: it is back, or will not
    /// come.
    pub(super) fn release(&mut self, dispatch: Dispatch) {
        let Some((node, _)) = self.claims.remove(&dispatch) else {
            return;
        };
        if let Some(count) = self.claimed.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.claimed.remove(&node);
            }
        }
    }

    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Returns how many workers of this node are claimed.
    pub(super) fn claimed(&self, node: NodeIndex) -> u32 {
        self.claimed.get(&node).copied().unwrap_or(0)
    }

    /// Lets go of what is claimed for too long: a node may be out of reach. Asks for a look when
    /// the next claim ends.
    fn end_claims(&mut self, now: Timestamp) {
        let over = |(&dispatch, &(_, until)): (&Dispatch, &(NodeIndex, Timestamp))| {
            work::step();
            (until <= now).then_some(dispatch)
        };
        let over: Vec<_> = self.claims.iter().filter_map(over).collect();
        for dispatch in over {
            self.release(dispatch);
        }
        if let Some(until) = self.claims.values().map(|&(_, until)| until).min() {
            self.look_again_at(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{INTERVAL, Retraction};
    use crate::engine::Timestamp;
    use crate::engine::placement::NodeIndex;
    use crate::task::Dispatch;

    const START: Timestamp = Timestamp(1_700_000_000_000_000_000);
    const LONG: Duration = Duration::from_secs(1);

    /// Takes a look at no more than so many nodes.
    fn look(retraction: &mut Retraction, now: Timestamp, most: usize) -> Vec<NodeIndex> {
        if !retraction.begin_look(now, true) {
            return Vec::new();
        }
        let nodes = std::iter::from_fn(|| retraction.next_node());
        let nodes = nodes.take(most).collect();
        retraction.end_look();
        nodes
    }

    #[test]
    fn nodes_are_looked_at_once_in_a_round_and_once_in_an_interval() {
        let mut retraction = Retraction::default();
        assert!(look(&mut retraction, START, 9).is_empty());
        assert_eq!(retraction.next_look(), None);
        for node in [2, 1, 2, 0] {
            retraction.enter(node, START + LONG);
        }
        assert_eq!(look(&mut retraction, START, 2), [2, 1]);
        assert_eq!(retraction.next_look(), Some(START + INTERVAL));
        assert!(look(&mut retraction, START, 9).is_empty());
        assert_eq!(look(&mut retraction, START + INTERVAL, 2), [0]);
        assert_eq!(retraction.next_look(), None, "nothing is to be looked at");
        assert_eq!(look(&mut retraction, START + INTERVAL * 2, 9), [2, 1, 0]);
    }

    #[test]
    fn a_node_that_has_left_is_looked_at_again_when_it_has_entered_again() {
        let mut retraction = Retraction::default();
        (0..3).for_each(|node| retraction.enter(node, START + LONG));
        assert!(retraction.begin_look(START, true));
        assert_eq!(retraction.next_node(), Some(0));
        retraction.leave();
        assert_eq!(retraction.next_node(), Some(2));
        assert_eq!(retraction.next_node(), Some(1));
        assert_eq!(retraction.next_node(), None);
        retraction.end_look();
        retraction.enter(0, START + LONG);
        assert_eq!(look(&mut retraction, START + INTERVAL, 9), [2, 1, 0]);
    }

    #[test]
    fn a_node_that_is_listed_already_is_looked_at_for_what_is_new_there() {
        let mut retraction = Retraction::default();
        retraction.enter(1, START + LONG);
        look(&mut retraction, START, 9);
        assert_eq!(retraction.next_look(), None);
        retraction.enter(1, START + LONG);
        assert!(!retraction.begin_look(START + INTERVAL, false));
        assert_eq!(retraction.next_look(), Some(START + LONG));
    }

    #[test]
    fn without_a_reason_a_round_begins_when_the_earliest_task_is_due() {
        let mut retraction = Retraction::default();
        retraction.enter(1, START + LONG);
        retraction.look_again_at(START + LONG * 2);
        assert!(!retraction.begin_look(START + INTERVAL, false));
        assert_eq!(retraction.next_look(), Some(START + LONG));
        assert!(retraction.begin_look(START + LONG, false));
        assert_eq!(retraction.next_node(), Some(1));
        retraction.look_again_at(START + LONG * 3);
        retraction.end_look();
        assert_eq!(retraction.next_look(), Some(START + LONG * 3));
    }

    #[test]
    fn a_free_worker_is_claimed_until_the_task_has_come_or_for_a_while() {
        let mut retraction = Retraction::default();
        retraction.enter(1, START + LONG * 9);
        for (number, after) in [(7, 1), (8, 1), (9, 2)] {
            retraction.claim(Dispatch::new(number), 4, START + LONG * after);
        }
        retraction.release(Dispatch::new(7));
        retraction.release(Dispatch::new(7));
        assert_eq!((retraction.claimed(4), retraction.claimed(5)), (2, 0));
        look(&mut retraction, START + LONG, 9);
        assert_eq!(retraction.claimed(4), 1);
        assert_eq!(retraction.next_look(), Some(START + LONG * 2));
        look(&mut retraction, START + LONG * 2, 9);
        assert_eq!(retraction.claimed(4), 0);
    }

    #[test]
    fn what_comes_due_while_a_round_is_under_way_is_looked_at_after_an_interval() {
        let mut retraction = Retraction::default();
        (0..2).for_each(|node| retraction.enter(node, START + LONG));
        retraction.claim(Dispatch::new(7), 4, START + INTERVAL / 2);
        assert_eq!(look(&mut retraction, START, 1), [0]);
        assert_eq!(look(&mut retraction, START + INTERVAL, 9), [1]);
        assert_eq!(retraction.next_look(), Some(START + INTERVAL * 2));
    }
}
