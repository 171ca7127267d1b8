//! Ghosts: runs that the scheduler no longer follows and that may still be going on.
//!
//! Owns: their beginning and end, and what waits for that. Does not know: why a run was given up.

use super::SchedulerMachine;
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Ghost, State};
use crate::engine::tasks::{Phase, Slot};
use crate::engine::{Epoch, Timestamp};
use crate::status::Outcome;
use crate::task::{Dispatch, TaskId};

/// Runs that nodes say they hold and that the scheduler knows nothing of: as many as a cluster of a million
/// workers can have. They are remembered on a node's word alone, so they are bounded over all nodes.
const MAX_STRANGERS: usize = 1 << 20;

impl SchedulerMachine {
    /// Whether a run of this task may be going on in a life of a node that was lost with it. What can be
    /// stopped was stopped when the life's own half of the lease ended.
    pub(super) fn life_may_run(
        &self,
        now: Timestamp,
        slot: Slot,
        node: NodeIndex,
        epoch: Epoch,
    ) -> bool {
        let entry = self.roster.get(node);
        let safe_at = if entry.epoch == Some(epoch) {
            Some(entry.safe_at)
        } else {
            let life = entry.retired.iter().find(|life| life.epoch == epoch);
            life.map(|life| life.safe_at)
        };
        safe_at.is_some_and(|safe_at| {
            now < safe_at + self.config.heartbeat || self.blocks_at(slot, node)
        })
    }

    pub(super) fn add_ghost(&mut self, node: NodeIndex, dispatch: Dispatch, ghost: Ghost) {
        if let Some(key) = &ghost.key {
            self.keys.ghost_began(key);
        }
        if let Some(slot) = self.tasks.find(ghost.task) {
            self.tasks.get_mut(slot).rare().ghosts += 1;
        }
        self.roster.get_mut(node).ghosts.insert(dispatch, ghost);
        self.roster.touch(node);
        let at = self.roster.get(node).safe_at;
        self.roster.attend(node, at);
    }

    /// A run that the scheduler knows nothing of occupies a worker. Beyond [`MAX_STRANGERS`] it is not
    /// remembered: then its node may be given more than it can start, and will refuse it.
    pub(super) fn add_stranger(&mut self, node: NodeIndex, task: TaskId, dispatch: Dispatch) {
        if self.strangers >= MAX_STRANGERS {
            return;
        }
        self.strangers += 1;
        let ghost = Ghost {
            task,
            blocking: true,
            key: None,
            holds_task: false,
            stranger: true,
        };
        self.add_ghost(node, dispatch, ghost);
    }

    pub(super) fn find_ghost(&mut self, node: NodeIndex, dispatch: Dispatch) -> Option<&mut Ghost> {
        let entry = self.roster.nodes.get_mut(node as usize)?;
        if entry.ghosts.contains_key(&dispatch) {
            return entry.ghosts.get_mut(&dispatch);
        }
        entry
            .retired
            .iter_mut()
            .find_map(|life| life.ghosts.get_mut(&dispatch))
    }

    pub(super) fn remove_ghost(&mut self, node: NodeIndex, dispatch: Dispatch) -> Option<Ghost> {
        let entry = self.roster.get_mut(node);
        let ghost = match entry.ghosts.remove(&dispatch) {
            Some(ghost) => ghost,
            None => entry
                .retired
                .iter_mut()
                .find_map(|life| life.ghosts.remove(&dispatch))?,
        };
        if let Some(key) = &ghost.key {
            self.keys.ghost_ended(key);
        }
        self.strangers -= usize::from(ghost.stranger);
        if let Some(slot) = self.tasks.find(ghost.task)
            && let Some(rare) = &mut self.tasks.get_mut(slot).rare
        {
            // A node that lies may have named a task before it was there.
            rare.ghosts = rare.ghosts.saturating_sub(1);
        }
        self.roster.touch(node);
        Some(ghost)
    }

    /// A run that may have been going on is not any more: what waited for that goes on.
    pub(super) fn ghost_ended(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch) {
        let Some(ghost) = self.remove_ghost(node, dispatch) else {
            return;
        };
        if !ghost.holds_task {
            return;
        }
        let Some(slot) = self.tasks.find(ghost.task) else {
            return;
        };
        let task = self.tasks.get_mut(slot);
        let Some(rare) = task.rare.as_mut() else {
            return;
        };
        if task.phase != Phase::Held || rare.held_on != Some((Self::node_id(node), dispatch)) {
            return;
        }
        rare.held_on = None;
        let (not_before, cancelling) = (rare.not_before, rare.cancelling);
        task.dispatch = Dispatch::new(0);
        if cancelling {
            // Still counted as held: settling takes it out.
            let answer = self.answer_without_run(now, slot);
            self.settle(now, slot, Outcome::Cancelled, answer);
            return;
        }
        *self.count(Phase::Held) -= 1;
        if not_before == Timestamp(0) {
            self.enqueue(slot);
        } else if not_before <= now {
            self.became_due_first(slot);
        } else {
            self.wait_until(slot, not_before, Phase::Backoff);
        }
    }

    /// Ends the ghosts of lives whose own half of the lease has ended: what could be stopped was. Exclusive
    /// runs stop at four fifths of it, all others at its end, so they get a heartbeat more.
    pub(super) fn end_safe_ghosts(&mut self, now: Timestamp, node: NodeIndex) {
        let margin = self.config.heartbeat;
        let entry = self.roster.get_mut(node);
        let mut ended = Vec::new();
        let mut collect =
            |safe_at: Timestamp, ghosts: &std::collections::BTreeMap<Dispatch, Ghost>| {
                for (&dispatch, ghost) in ghosts {
                    let safe = if ghost.holds_task {
                        safe_at
                    } else {
                        safe_at + margin
                    };
                    if !ghost.blocking && safe <= now {
                        ended.push(dispatch);
                    }
                }
            };
        if entry.state == State::Lost {
            collect(entry.safe_at, &entry.ghosts);
        }
        for life in &entry.retired {
            collect(life.safe_at, &life.ghosts);
        }
        for dispatch in ended {
            self.ghost_ended(now, node, dispatch);
        }
        // A life without runs needs no more probes. It stays on record, so that it is refused if it returns.
        for life in &mut self.roster.get_mut(node).retired {
            if life.ghosts.is_empty() {
                life.probe = None;
            }
        }
    }
}
