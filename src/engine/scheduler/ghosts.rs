//! Ghosts: runs that the scheduler no longer follows and that may still be going on.
//!
//! Owns: their beginning and end, and what waits for that. Does not know: why a run was given up.

use std::collections::BTreeMap;

use super::SchedulerMachine;
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Ghost, Waiting};
use crate::engine::tasks::{Slot, Stage, Then};
use crate::engine::timers::Timer;
use crate::engine::{Epoch, Timestamp};
use crate::status::CancelAnswer;
use crate::task::{Dispatch, TaskId};

/// Runs that nodes say they hold and that the scheduler knows nothing of: as many as a cluster of a
/// million workers can have. They are remembered on a node's word alone, so they are bounded over
/// all nodes.
const MAX_STRANGERS: usize = 1 << 20;

/// Retired lives of one node that are remembered though no run of theirs is waited for, so that
/// they are refused if they return; beyond it the oldest is forgotten. A life with a run that is
/// waited for is remembered for as long as that is, and so there are no more of them than such
/// runs.
pub(super) const MAX_RETIRED: usize = 16;

/// How many runs are known by their nodes' word alone.
#[derive(Debug, Default)]
pub(super) struct Strangers(usize);

impl Strangers {
    /// Counts one more, unless there are as many as may be.
    fn admit(&mut self) -> bool {
        let admitted = self.0 < MAX_STRANGERS;
        self.0 += usize::from(admitted);
        admitted
    }

    fn forget(&mut self) {
        self.0 -= 1;
    }

    pub(super) fn count(&self) -> usize {
        self.0
    }
}

impl SchedulerMachine {
    /// Whether a run of this task may be going on in a life of a node that was lost with it. What
    /// can be stopped was stopped when the life's own half of the lease ended.
    pub(super) fn life_may_run(
        &self,
        now: Timestamp,
        slot: Slot,
        node: NodeIndex,
        epoch: Epoch,
    ) -> bool {
        let mut lives = self.roster.get(node).lost_lives();
        lives.any(|life| {
            life.epoch == epoch
                && (now < life.lease.safe_at() + self.config.heartbeat
                    || self.blocks_at(slot, node))
        })
    }

    pub(super) fn add_ghost(&mut self, node: NodeIndex, dispatch: Dispatch, ghost: Ghost) {
        // Its node may have told lies of it before.
        self.remove_ghost(node, dispatch);
        if let Some(key) = &ghost.key {
            self.keys.ghost_began(key);
        }
        if ghost.counted
            && let Some(slot) = self.tasks.find(ghost.task)
        {
            self.tasks.get_mut(slot).rare().ghosts += 1;
        }
        // Whoever had the run or told of it is there.
        let life = self.roster.get_mut(node).process_mut();
        life.ghosts.insert(dispatch, ghost);
        self.timers.attend(node, life.lease.safe_at());
        self.roster.touch(node);
    }

    /// A run that the scheduler knows nothing of occupies a worker. Beyond [`MAX_STRANGERS`] it is
    /// not remembered: then its node may be given more than it can start, and will refuse it.
    pub(super) fn add_stranger(&mut self, node: NodeIndex, task: TaskId, dispatch: Dispatch) {
        if !self.strangers.admit() {
            return;
        }
        let ghost = Ghost {
            stranger: true,
            counted: self.was_lost_here(node, task),
            ..Ghost::of_run(task, true, None)
        };
        self.add_ghost(node, dispatch, ghost);
    }

    /// Whether a task's run was lost with the present life of a node, which has not been taken back
    /// so far: then it may have that run, and no node can say so of a task that it never had.
    fn was_lost_here(&self, node: NodeIndex, task: TaskId) -> bool {
        let epoch = self.roster.get(node).epoch();
        let here = epoch.map(|epoch| (Self::node_id(node), epoch));
        let slot = self.tasks.find(task);
        let rare = slot.and_then(|slot| self.tasks.get(slot).rare.as_ref());
        here.is_some() && rare.is_some_and(|rare| rare.lost_lives().any(|&lost| Some(lost) == here))
    }

    pub(super) fn find_ghost(&mut self, node: NodeIndex, dispatch: Dispatch) -> Option<&mut Ghost> {
        let entry = self.roster.nodes.get_mut(node as usize)?;
        entry
            .lives_mut()
            .find_map(|life| life.ghosts.get_mut(&dispatch))
    }

    pub(super) fn remove_ghost(&mut self, node: NodeIndex, dispatch: Dispatch) -> Option<Ghost> {
        let mut lives = self.roster.get_mut(node).lives_mut();
        let ghost = lives.find_map(|life| life.ghosts.remove(&dispatch))?;
        drop(lives);
        self.uncount_ghost(node, dispatch, &ghost);
        Some(ghost)
    }

    /// A ghost has left its incarnation: takes back what was counted of it, and tells its cancels
    /// that nothing goes on any more.
    fn uncount_ghost(&mut self, node: NodeIndex, dispatch: Dispatch, ghost: &Ghost) {
        if let Some(waiting) = &ghost.waiting {
            self.stop_orphan_patience(node, dispatch, waiting);
            self.answer(waiting.cancels.tickets(), CancelAnswer::Stopped);
        }
        if let Some(key) = &ghost.key {
            self.keys.ghost_ended(key);
        }
        if ghost.stranger {
            self.strangers.forget();
        }
        if ghost.counted
            && let Some(slot) = self.tasks.find(ghost.task)
        {
            self.tasks.get_mut(slot).rare().ghosts -= 1;
        }
        self.roster.touch(node);
    }

    /// A run that may have been going on has never started: what waited for its end goes on, and
    /// its cancels are told what is true of the earlier runs.
    pub(super) fn ghost_never_ran(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch) {
        let Some(ghost) = self.find_ghost(node, dispatch) else {
            return;
        };
        let (task, waiting) = (ghost.task, ghost.waiting.take());
        self.deny_start(task, dispatch);
        if let Some(waiting) = waiting {
            self.stop_orphan_patience(node, dispatch, &waiting);
            self.answer(waiting.cancels.tickets(), waiting.before);
        }
        self.ghost_ended(now, node, dispatch);
    }

    fn stop_orphan_patience(&mut self, node: NodeIndex, dispatch: Dispatch, waiting: &Waiting) {
        for at in waiting.cancels.times() {
            self.timers.stop(at, Timer::OrphanPatience(dispatch, node));
        }
    }

    /// A run that may have been going on is not any more: what waited for that goes on.
    pub(super) fn ghost_ended(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch) {
        if let Some(ghost) = self.remove_ghost(node, dispatch) {
            self.let_go(now, node, dispatch, &ghost);
        }
    }

    /// The process of a node has ended, and with it all that it ran.
    pub(super) fn ghosts_ended(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        ghosts: BTreeMap<Dispatch, Ghost>,
    ) {
        for (dispatch, ghost) in ghosts {
            self.uncount_ghost(node, dispatch, &ghost);
            self.let_go(now, node, dispatch, &ghost);
        }
    }

    /// Lets go on what waited for the end of a ghost.
    fn let_go(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch, ghost: &Ghost) {
        if !ghost.holds_task {
            return;
        }
        let Some(slot) = self.tasks.find(ghost.task) else {
            return;
        };
        let task = self.tasks.get(slot);
        let Stage::Held(held) = &task.stage else {
            return;
        };
        // It may be held by a later run.
        if (held.run.node, held.run.dispatch) != (node, dispatch) {
            return;
        }
        if task.is_cancelling() {
            self.settle_cancelled(now, slot);
            return;
        }
        match held.then {
            Then::QueueUnlessItReturns | Then::Queue => self.enqueue(slot, None),
            Then::BackOff(due) if due <= now => self.became_due(slot),
            Then::BackOff(due) => self.wait_until(slot, due, Stage::Backoff { due }),
        }
    }

    /// Ends the ghosts of lives whose own half of the lease has ended: what could be stopped was.
    /// Exclusive runs stop at four fifths of it, all others at its end, so they get a heartbeat
    /// more.
    pub(super) fn end_safe_ghosts(&mut self, now: Timestamp, node: NodeIndex) {
        let margin = self.config.heartbeat;
        let lives = self.roster.get(node).lost_lives();
        let ended: Vec<_> = lives
            .flat_map(|life| {
                let safe_at = life.lease.safe_at();
                life.ghosts.iter().map(move |it| (safe_at, it))
            })
            .filter(|(safe_at, (_, ghost))| {
                let safe_at = ghost.safe_at(*safe_at, margin);
                safe_at.is_some_and(|safe_at| safe_at <= now)
            })
            .map(|(_, (&dispatch, _))| dispatch)
            .collect();
        for dispatch in ended {
            self.ghost_ended(now, node, dispatch);
        }
        self.end_idle_ghosts(now, node);
    }

    /// Ends the ghosts of replaced lives that nobody waits for: those of tasks that have settled
    /// and whose key is none. They occupy no worker of the node as it is now.
    pub(super) fn end_idle_ghosts(&mut self, now: Timestamp, node: NodeIndex) {
        let lives = self.roster.get(node).past.iter();
        let idle: Vec<_> = lives
            .flat_map(|life| &life.ghosts)
            .filter(|(_, ghost)| {
                ghost.key.is_none() && !ghost.holds_task && self.tasks.find(ghost.task).is_none()
            })
            .map(|(&dispatch, _)| dispatch)
            .collect();
        for dispatch in idle {
            self.ghost_ended(now, node, dispatch);
        }
        // A life without runs needs no more probes. It stays on record, so that it is refused if it
        // returns.
        let past = &mut self.roster.get_mut(node).past;
        let mut idle = 0;
        for life in past.iter_mut().filter(|life| life.ghosts.is_empty()) {
            life.probe = None;
            idle += 1;
        }
        past.retain(|life| {
            let forget = life.ghosts.is_empty() && idle > MAX_RETIRED;
            idle -= usize::from(forget);
            !forget
        });
    }
}
