//! What follows from an end of a run, and from what a node gives back.
//!
//! Owns: whether a task settles, is tried again, waits or goes elsewhere. Does not know: how the report came, or whether
//! it was to be believed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SchedulerMachine;
use crate::engine::message::End;
use crate::engine::placement::NodeIndex;
use crate::engine::roster::Ghost;
use crate::engine::tasks::{Phase, Slot};
use crate::engine::{Action, Note, Timestamp};
use crate::status::{CancelAnswer, Event as TaskEventKind, Failure, Outcome};
use crate::task::Dispatch;

/// Tasks that were rerouted since the last flush, by the node that had them and why: they may be thousands, and are
/// noted together.
#[derive(Debug, Default)]
pub(super) struct Reroutes(BTreeMap<(NodeIndex, &'static str), usize>);

impl Reroutes {
    fn add(&mut self, node: NodeIndex, why: &'static str) {
        *self.0.entry((node, why)).or_default() += 1;
    }

    fn take(&mut self) -> BTreeMap<(NodeIndex, &'static str), usize> {
        std::mem::take(&mut self.0)
    }
}

impl SchedulerMachine {
    /// A task's latest run has ended. If `back`, the task had been counted as rerouted already.
    pub(super) fn ended(
        &mut self,
        now: Timestamp,
        slot: Slot,
        back: bool,
        end: End,
        ran: Duration,
        overrun: bool,
    ) {
        let task = self.tasks.get_mut(slot);
        let (direct, assigned_at) = (task.phase == Phase::Running, task.placed_at);
        let whole = now.since(assigned_at);
        let (node, dispatch, cancelling) = (task.node, task.dispatch, task.is_cancelling());
        let gave_up = matches!(end, End::Stopped | End::Dropped);
        // What was sent to a free worker may have been given back by it, and have been stopped while it waited.
        let ran_at_all = overrun || !gave_up || !ran.is_zero();
        if ran_at_all && !direct {
            // Its start was not told apart from its end. What it says it ran cannot have begun before it had it.
            task.placed_at = assigned_at.max(now - ran);
        }
        task.started = ran_at_all;
        task.has_run |= ran_at_all;
        if overrun {
            let ghost = Ghost::of_run(task.id, true, task.key().cloned());
            self.take_off(slot);
            self.add_ghost(node, dispatch, ghost);
        } else {
            self.take_off(slot);
            let entry = self.roster.get_mut(node);
            if !gave_up {
                // A run that outlasted its link says nothing of the way there and back.
                if direct && assigned_at >= entry.up_at {
                    entry.load.learn(ran, whole);
                } else {
                    entry.load.learn_run(ran);
                }
            }
        }
        match end {
            End::Completed(output) => {
                self.roster.get_mut(node).settled += 1;
                self.settle(now, slot, Outcome::Completed(output), CancelAnswer::TooLate);
            }
            End::Failed(_) | End::Again { .. } | End::Stopped | End::Dropped if cancelling => {
                let answer = self.answer_without_run(now, slot);
                if ran_at_all {
                    let task = self.tasks.get_mut(slot);
                    task.failed_attempts = task.failed_attempts.saturating_add(1);
                    self.roster.get_mut(node).settled += 1;
                }
                self.settle(now, slot, Outcome::Cancelled, answer);
            }
            End::Failed(failure) => {
                self.roster.get_mut(node).settled += 1;
                let task = self.tasks.get_mut(slot);
                task.failed_attempts = task.failed_attempts.saturating_add(1);
                self.settle(now, slot, Outcome::Failed(failure), CancelAnswer::TooLate);
            }
            End::Again { after, failure } => self.try_again(now, slot, after, failure, overrun),
            End::Stopped | End::Dropped => {
                if !back {
                    self.rerouted(slot, "stopped");
                }
                if overrun && self.tasks.get(slot).is_exclusive() {
                    self.hold(slot, Timestamp(0));
                } else {
                    self.tasks.get_mut(slot).dispatch = Dispatch::new(0);
                    self.enqueue(slot);
                }
            }
        }
    }

    fn try_again(
        &mut self,
        now: Timestamp,
        slot: Slot,
        after: Duration,
        failure: Failure,
        overrun: bool,
    ) {
        self.totals.retried += 1;
        let task = self.tasks.get_mut(slot);
        task.failed_attempts = task.failed_attempts.saturating_add(1);
        task.rare().last_failure = Some(failure.clone());
        self.notify(slot, |_, _| TaskEventKind::Retrying { after, failure });
        let due = now + after;
        let task = self.tasks.get_mut(slot);
        if overrun && task.is_exclusive() {
            self.hold(slot, due);
        } else {
            task.dispatch = Dispatch::new(0);
            self.wait_until(slot, due, Phase::Backoff);
        }
    }

    /// Holds an exclusive task until its latest run, a ghost now, can no longer be going on.
    pub(super) fn hold(&mut self, slot: Slot, not_before: Timestamp) {
        let task = self.tasks.get_mut(slot);
        let (node, dispatch) = (task.node, task.dispatch);
        task.phase = Phase::Held;
        let rare = task.rare();
        rare.held_on = Some((Self::node_id(node), dispatch));
        rare.not_before = not_before;
        *self.count(Phase::Held) += 1;
        if not_before != Timestamp(0) {
            // This run has had its end reported; nothing that comes of it later is the task's.
            self.tasks.get_mut(slot).dispatch = Dispatch::new(0);
        }
        if let Some(ghost) = self.find_ghost(node, dispatch) {
            ghost.holds_task = true;
        }
    }

    /// An assignment did not start and is not at its node: its task is pending again under the rank that
    /// it had. One that was asked back, or was counted as rerouted already, is not `rerouted`.
    pub(super) fn never_started(&mut self, now: Timestamp, slot: Slot, asked_back: bool) {
        self.tasks.get_mut(slot).started = false;
        self.left_undone(now, slot, asked_back);
    }

    /// A run is not at its node any more and has reported no end.
    pub(super) fn left_undone(&mut self, now: Timestamp, slot: Slot, asked_back: bool) {
        self.take_off(slot);
        let task = self.tasks.get_mut(slot);
        task.dispatch = Dispatch::new(0);
        if task.is_cancelling() {
            let answer = self.answer_without_run(now, slot);
            self.settle(now, slot, Outcome::Cancelled, answer);
            return;
        }
        if !asked_back {
            let node = self.roster.get(self.tasks.get(slot).node);
            let drained = node.draining || node.leaving;
            self.rerouted(slot, if drained { "drained" } else { "refused" });
        }
        self.enqueue(slot);
    }

    /// A task is pending again for no fault of its own: counts it, and tells a watcher.
    pub(super) fn rerouted(&mut self, slot: Slot, why: &'static str) {
        self.totals.rerouted += 1;
        self.reroutes.add(self.tasks.get(slot).node, why);
        self.notify(slot, |machine, task| TaskEventKind::Rerouted {
            node: machine.roster.get(task.node).name.clone(),
        });
    }

    /// Says of each node once what was rerouted since the last flush.
    pub(super) fn note_reroutes(&mut self) {
        for ((node, reason), count) in self.reroutes.take() {
            self.actions.push(Action::Note(Note::Rerouted {
                node: Self::node_id(node),
                name: self.roster.get(node).name.clone(),
                reason,
                count,
            }));
        }
    }
}
