//! What follows from an end of a run, and from what a node gives back.
//!
//! Owns: whether a task settles, is tried again, waits or goes elsewhere. Does not know: how the
//! report came, or whether it was to be believed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SchedulerMachine;
use super::metering::first_wait;
use crate::engine::message::End;
use crate::engine::meter::{AttemptResult, nanos};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::Waiter;
use crate::engine::tasks::{Era, Held, Run, Slot, Stage, Task, Then};
use crate::engine::{Action, Note, Timestamp};
use crate::status::{CancelAnswer, Cause, Failure, Outcome, TaskEventKind};

/// Tasks that were rerouted since the last flush, by the node that had them and why: they may be
/// thousands, and are noted together.
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
    /// Ends the run that a node has of a task. If `back`, the task had been counted as rerouted
    /// already.
    #[inline]
    pub(super) fn ended(
        &mut self,
        now: Timestamp,
        slot: Slot,
        back: bool,
        end: End,
        ran: Duration,
        overrun: bool,
    ) {
        let mut run = self.take_off(slot);
        let Run { node, dispatch, .. } = run;
        self.end_is_known(slot, dispatch);
        let (direct, assigned_at) = (run.started, run.since);
        let whole = now.since(assigned_at);
        let gave_up = matches!(end, End::Stopped | End::Dropped);
        let dropped = end == End::Dropped;
        // What was sent to a free worker may have been given back by it, and have been stopped
        // while it waited.
        let ran_at_all = overrun || !end.is_of_no_run(ran);
        if ran_at_all && !direct {
            // The start was not told apart from the end. The run cannot have begun before the node
            // had it, whatever the node says.
            run.since = assigned_at.max(now - ran);
        }
        run.started = ran_at_all;
        let task = self.tasks.get_mut(slot);
        task.stage = Stage::left(run);
        let cancelling = task.is_cancelling();
        if ran_at_all {
            match &end {
                End::Again { failure, .. } => self.remember_attempt(slot, run, ran, failure),
                End::Dropped => {
                    self.remember_attempt(slot, run, ran, &Failure::new(Cause::NodeLost, ""));
                }
                End::Completed(_) | End::Failed(_) | End::Stopped => {}
            }
            let task = self.tasks.get_mut(slot);
            let wait = first_wait(task, run.since);
            let took = now.0.saturating_sub(task.accepted_at.0);
            task.has_started();
            let meter = self.catalogue.meter(task.class);
            meter.waited(wait);
            if matches!(end, End::Completed(_)) {
                meter.completed(nanos(ran), took);
            } else {
                meter.attempt_ended(attempt_result(&end, cancelling), nanos(ran));
            }
        } else if direct {
            // It was thought to have begun, and was told so.
            self.count_wait(slot, assigned_at);
        }
        if overrun {
            // The attempt is over, and the run still has its worker.
            let orphan = self.orphan_of(slot, true);
            self.add_orphan(node, dispatch, orphan);
        } else if !gave_up {
            // A run that outlasted its link says nothing of the way there and back, nor does one of
            // which only the comparison tells: its way was the cut.
            let entry = self.roster.get_mut(node);
            let channel = entry.channel();
            if direct && channel.is_some_and(|channel| assigned_at >= channel.since()) {
                entry.load.learn(ran, whole);
            } else {
                entry.load.learn_run(ran);
            }
        }
        // Only a run that still goes on can hold its task up.
        let orphaned = overrun.then_some(run);
        match end {
            End::Completed(output) => {
                self.roster.get_mut(node).settled += 1;
                self.settle_detached(now, slot, Outcome::Completed(output), CancelAnswer::TooLate);
            }
            // Another node may have a later run of it, and has not said so yet.
            End::Again { .. } | End::Stopped | End::Dropped
                if cancelling && self.may_run_unheard(self.tasks.get(slot)) =>
            {
                if ran_at_all {
                    self.tasks.get_mut(slot).attempt_failed();
                }
                self.enqueue(slot, None);
                self.defer_cancel(slot);
            }
            // Any end but a completion is the cancel that was asked for.
            End::Failed(_) | End::Again { .. } | End::Stopped | End::Dropped if cancelling => {
                let answer = self.answer_without_run(now, slot);
                if ran_at_all {
                    self.tasks.get_mut(slot).attempt_failed();
                    self.roster.get_mut(node).settled += 1;
                }
                self.settle_detached(now, slot, Outcome::Cancelled, answer);
            }
            End::Failed(failure) => {
                self.roster.get_mut(node).settled += 1;
                self.tasks.get_mut(slot).attempt_failed();
                self.settle_detached(now, slot, Outcome::Failed(*failure), CancelAnswer::TooLate);
            }
            End::Again { after, failure } => self.try_again(now, slot, after, *failure, orphaned),
            End::Stopped | End::Dropped => {
                if !back {
                    self.rerouted(slot, node, "stopped");
                }
                let exclusive = self.tasks.get(slot).is_exclusive();
                match (orphaned.filter(|_| exclusive), dropped) {
                    // The node has dropped it, and nothing else may run before its handler has
                    // ended. If that ends by itself, its end is the task's.
                    (Some(run), true) => self.await_return(slot, run),
                    // The run was stopped by a wish of this side, so nothing that its handler still
                    // says makes it the task's again.
                    (Some(run), false) => self.hold(slot, run, Then::Queue),
                    (None, _) => self.enqueue(slot, None),
                }
            }
        }
    }

    /// Returns whether a run of a task may go on of which nothing is known before a resync is over.
    /// Of exclusive tasks it is stored before they are sent.
    pub(super) fn may_run_unheard(&self, task: &Task) -> bool {
        task.era == Era::Past && !task.is_exclusive() && self.is_resyncing()
    }

    fn try_again(
        &mut self,
        now: Timestamp,
        slot: Slot,
        after: Duration,
        failure: Failure,
        orphaned: Option<Run>,
    ) {
        self.totals.retried += 1;
        let task = self.tasks.get_mut(slot);
        self.catalogue.meter(task.class).retried += 1;
        task.attempt_failed();
        task.rare().last_failure = Some(failure.clone());
        if failure.cause == Cause::Panic {
            let (class, last_start) = (task.class, task.last_start());
            let note = Note::Failed {
                task: task.id,
                kind: self.catalogue.kind(class).clone(),
                attempt: task.failed_attempts,
                node: last_start.map(|start| self.roster.get(start.node).name.clone()),
                failure: failure.clone(),
                again: true,
            };
            self.actions.push(Action::Note(Box::new(note)));
        }
        self.notify(slot, |_, _| TaskEventKind::Retrying { after, failure });
        let due = now + after;
        match orphaned.filter(|_| self.tasks.get(slot).is_exclusive()) {
            Some(run) => self.hold(slot, run, Then::BackOff(due)),
            None => self.wait_until(slot, due, Stage::Backoff { due }),
        }
    }

    /// Holds an exclusive task until a run of it, which is an orphan now, can no longer be going
    /// on.
    pub(super) fn hold(&mut self, slot: Slot, run: Run, then: Then) {
        self.enter(slot, Stage::Held(Box::new(Held { run, then })));
        if let Some(orphan) = self.find_orphan(run.node, run.dispatch) {
            orphan.waiter = Waiter::Task;
        }
    }

    /// Takes back an assignment that did not start and is not at its node: its task is pending
    /// again under the rank that it had. One that was asked back, that found its worker lent, or
    /// that was counted as rerouted already, is not `rerouted`.
    pub(super) fn never_started(&mut self, now: Timestamp, slot: Slot, asked_back: bool) {
        let run = self.take_off(slot);
        self.note_wait(slot, run);
        // What was sent to a free worker counted as started until now.
        self.tasks.get_mut(slot).stage = Stage::left(Run {
            started: false,
            ..run
        });
        self.went_undone(now, slot, run.node, asked_back);
    }

    /// Takes off a run that is not at its node any more and has reported no end.
    pub(super) fn left_undone(&mut self, now: Timestamp, slot: Slot) {
        let run = self.take_off(slot);
        self.attempt_given_up(slot, run, AttemptResult::Lost);
        if run.started {
            self.tasks.get_mut(slot).may_have_run();
        }
        self.went_undone(now, slot, run.node, false);
    }

    /// Makes pending again what was taken off a node without an end, or cancels it if that was
    /// asked for.
    fn went_undone(&mut self, now: Timestamp, slot: Slot, node: NodeIndex, asked_back: bool) {
        if self.tasks.get(slot).is_cancelling() {
            self.settle_cancelled(now, slot);
            return;
        }
        if !asked_back {
            let drained = self.roster.get(node).drains();
            self.rerouted(slot, node, if drained { "drained" } else { "refused" });
        }
        self.reclass(slot);
        self.enqueue(slot, None);
    }

    /// Counts a task that is pending again for no fault of its own, and tells a watcher.
    pub(super) fn rerouted(&mut self, slot: Slot, node: NodeIndex, why: &'static str) {
        self.totals.rerouted += 1;
        self.meter.rerouted(why);
        self.reroutes.add(node, why);
        self.notify(slot, |machine, _| TaskEventKind::Rerouted {
            node: machine.roster.get(node).name.clone(),
        });
    }

    /// Notes for each node, once, what was rerouted since the last flush.
    pub(super) fn note_reroutes(&mut self) {
        for ((node, reason), count) in self.reroutes.take() {
            self.actions.push(Action::Note(Box::new(Note::Rerouted {
                node: Self::node_id(node),
                name: self.roster.get(node).name.clone(),
                reason,
                count,
            })));
        }
    }
}

/// Returns how an attempt has ended of a task that is to be cancelled, or is not.
fn attempt_result(end: &End, cancelling: bool) -> AttemptResult {
    match end {
        End::Completed(_) => AttemptResult::Ok,
        End::Failed(failure) | End::Again { failure, .. } => AttemptResult::of(failure.cause),
        End::Stopped | End::Dropped if cancelling => AttemptResult::Cancelled,
        End::Stopped | End::Dropped => AttemptResult::Lost,
    }
}
