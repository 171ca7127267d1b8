//! The one ending of a task, and the ways to it that are not a node's report: cancel and deadline.
//!
//! Owns: the forgetting of a task and the making of its status, cancels and their answers,
//! deadlines. Does not know: what a report says.

use super::{CANCEL_PATIENCE, SchedulerMachine};
use crate::engine::meter::AttemptResult;
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Waiter, WaitingCancels};
use crate::engine::tasks::{Era, Past, Run, Slot, Stage, Task};
use crate::engine::timers::Timer;
use crate::engine::{Action, Audience, Note, Timestamp};
use crate::status::{CancelAnswer, Cause, Ending, Failure, Outcome};
use crate::task::{Dispatch, TaskId, TaskKind};

impl SchedulerMachine {
    /// Settles a task that no node has any more: its one ending. `answer` is for the callers
    /// that asked to cancel it.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        slot: Slot,
        outcome: Outcome,
        answer: CancelAnswer,
    ) {
        self.detach(slot);
        self.settle_detached(now, slot, outcome, answer);
    }

    /// Settles a task that waits nowhere and is at no node: as [`SchedulerMachine::settle`], for
    /// what has just been taken off its node.
    pub(super) fn settle_detached(
        &mut self,
        now: Timestamp,
        slot: Slot,
        outcome: Outcome,
        answer: CancelAnswer,
    ) {
        // Read first: once the task is taken out, the next one may have its slot.
        let task = self.tasks.get(slot);
        let last_start = task.last_start();
        let options = self.options(task);
        let reroutes = task.losses() as u32;
        // The end of the attempt that completed it is counted with its ending.
        if !outcome.is_completed() {
            let took = now.0.saturating_sub(task.accepted_at.0);
            self.catalogue.meter(task.class).settled(&outcome, took);
        }
        let (kind, task) = self.take_out(slot);
        let Task {
            id,
            args,
            rare,
            accepted_at,
            addressee,
            failed_attempts,
            era,
            ..
        } = task;
        let (mut key, mut callers) = (None, false);
        if let Some(rare) = rare {
            if let Some(deadline) = rare.deadline {
                self.timers.stop(deadline, Timer::Deadline(id, slot));
            }
            for at in rare.cancels.times() {
                self.timers.stop(at, Timer::Patience(id, slot));
            }
            self.answer(rare.cancels.tickets(), answer);
            // The key stays busy for as long as an orphan has it.
            if let Some(name) = &rare.key {
                // Nor is it free while a node that has not spoken in this term may have a run.
                if era != Era::Present {
                    self.key_waits_for_silent(id, name);
                }
                self.keys.settled(name);
            }
            if let Some(watcher) = rare.watcher {
                self.watchers.release(watcher);
            }
            key = rare.key;
            callers = rare.callers;
        }
        // The attempts that failed are counted already, by the caller.
        let last_attempt = u32::from(outcome.is_completed());
        match &outcome {
            Outcome::Completed(_) => self.totals.completed += 1,
            Outcome::Failed(failure) => *self.totals.failed.entry(failure.cause).or_default() += 1,
            Outcome::Cancelled => self.totals.cancelled += 1,
            // What was refused has never been a task.
            Outcome::Refused(_) => {}
        }
        let ending = Ending {
            scheduler: self.name.clone(),
            id,
            key,
            kind,
            args,
            options,
            outcome,
            node: last_start.map(|start| self.roster.get(start.node).name.clone()),
            attempts: failed_attempts.saturating_add(last_attempt),
            reroutes,
            accepted_at: self.wall_time(accepted_at),
            started_at: last_start.map(|start| self.wall_time(start.at)),
            settled_at: self.wall_time(now),
        };
        if self.journal.is_some() {
            self.write_settled(now, &ending, last_start.map(|start| start.at));
        }
        if let Outcome::Failed(failure) = &ending.outcome {
            self.actions.push(Action::Note(Box::new(Note::Failed {
                task: ending.id,
                kind: ending.kind.clone(),
                attempt: ending.attempts,
                node: ending.node.clone(),
                failure: failure.clone(),
                again: false,
            })));
        }
        let status = self.outbox.status(ending);
        // Callers that joined are answered beside the audience, which alone has to confirm.
        if callers {
            self.outbox.push_caller(status.clone(), false);
        }
        match addressee.audience() {
            Audience::Current => self.outbox.push_current(status),
            Audience::Caller => self.outbox.push_caller(status, true),
            Audience::Client(client) => self.outbox.settle(client, status),
        }
    }

    /// Takes a task out of all that counts it, and returns its kind and its record. The next task
    /// takes its slot, so the caller stops every timer that names it.
    #[inline(always)]
    pub(super) fn take_out(&mut self, slot: Slot) -> (TaskKind, Task) {
        let task = self.tasks.get(slot);
        let (phase, lateness) = (task.stage.phase(), task.lateness());
        self.leave_phase(phase, lateness);
        let task = self.tasks.remove(slot);
        // The name is taken before the class is left, which may forget it with its last task.
        let kind = self.catalogue.kind(task.class).clone();
        self.catalogue.leave_group(&task);
        self.catalogue.leave(task.class);
        (kind, task)
    }

    /// Settles a task as cancelled that no node has any more.
    pub(super) fn settle_cancelled(&mut self, now: Timestamp, slot: Slot) {
        let answer = self.answer_without_run(now, slot);
        self.settle(now, slot, Outcome::Cancelled, answer);
    }

    /// Takes a task out of wherever it waits. One that a node has must have been taken off it.
    pub(super) fn detach(&mut self, slot: Slot) {
        let task = self.tasks.get(slot);
        match &task.stage {
            Stage::Queued { .. } => self.catalogue.dequeue(&mut self.tasks, slot),
            Stage::Later { due } | Stage::Backoff { due } => {
                self.timers.stop(*due, Timer::Due(task.id, slot));
            }
            Stage::Planned { at } => self.timers.stop(*at, Timer::DueAt(task.id, slot)),
            Stage::Held(held) => {
                let run = held.run;
                if let Some(orphan) = self.find_orphan(run.node, run.dispatch) {
                    orphan.waiter = Waiter::Nobody;
                }
            }
            Stage::New
            | Stage::Unstored { .. }
            | Stage::Prefetched { .. }
            | Stage::Running { .. }
            | Stage::Left { .. } => {}
        }
    }

    /// Lets go of a task's run at its node without an end of it, which counts as this result: the
    /// run becomes an orphan, which keeps its worker, and is told to stop.
    pub(super) fn abandon(&mut self, slot: Slot, result: AttemptResult) -> Run {
        let run = self.take_off(slot);
        self.attempt_given_up(slot, run, result);
        let blocking = self.blocks_at(slot, run.node);
        // What was prefetched may have started unheard.
        self.tasks.get_mut(slot).may_have_run();
        let orphan = self.orphan_of(slot, blocking);
        self.add_orphan(run.node, run.dispatch, orphan);
        self.roster.get_mut(run.node).cancel(run.dispatch);
        run
    }

    /// Returns whether the handler of a task cannot be stopped at this node.
    pub(super) fn blocks_at(&self, slot: Slot, node: NodeIndex) -> bool {
        self.blocks(self.tasks.get(slot), node)
    }

    pub(super) fn blocks(&self, task: &Task, node: NodeIndex) -> bool {
        match self.catalogue.kind_at(node, task.class) {
            Some((_, blocking)) => blocking,
            None => task.rare.as_ref().is_some_and(|rare| rare.blocking),
        }
    }

    /// Returns what a cancel is told of a task that no node has any more: an earlier run, whose
    /// attempt is over or whose node was lost, may still be going on.
    pub(super) fn answer_without_run(&self, now: Timestamp, slot: Slot) -> CancelAnswer {
        let task = self.tasks.get(slot);
        let goes_on = task.rare.as_ref().is_some_and(|rare| {
            !rare.orphans.is_empty()
                || rare.lost_processes().any(|&(node, incarnation)| {
                    self.process_may_run(now, slot, node.0, incarnation)
                })
        });
        match (goes_on, task.past >= Past::MayHaveRun) {
            (true, _) => CancelAnswer::StillRunning,
            (false, true) => CancelAnswer::Stopped,
            (false, false) => CancelAnswer::NeverStarted,
        }
    }

    /// Settles a task whose deadline has passed, at once; what is to be cancelled is cancelled by
    /// it.
    pub(super) fn deadline_passed(&mut self, now: Timestamp, slot: Slot) {
        self.unsend(slot);
        let task = self.tasks.get(slot);
        let (cancelling, placed) = (task.is_cancelling(), task.stage.placed());
        if placed.is_some_and(|run| run.started) {
            // The attempt is over, though nobody waits for the node to stop it.
            self.tasks.get_mut(slot).attempt_failed();
        }
        match (cancelling, placed) {
            (true, Some(_)) => self.abandon_cancelled(now, slot),
            (true, None) => self.settle_cancelled(now, slot),
            (false, placed) => {
                if placed.is_some() {
                    self.abandon(slot, AttemptResult::Deadline);
                }
                let failure = self.too_late(slot);
                self.settle(now, slot, Outcome::Failed(failure), CancelAnswer::TooLate);
            }
        }
    }

    /// Settles a task that is to be cancelled without waiting for its node. What became of its run
    /// is not known before the node tells: until then, or until their patience ends, its cancels
    /// wait.
    pub(super) fn abandon_cancelled(&mut self, now: Timestamp, slot: Slot) {
        let before = self.answer_without_run(now, slot);
        let run = self.abandon(slot, AttemptResult::Cancelled);
        let (node, dispatch) = (run.node, run.dispatch);
        if before != CancelAnswer::StillRunning {
            let id = self.tasks.get(slot).id;
            let cancels = std::mem::take(&mut self.tasks.get_mut(slot).rare().cancels);
            for at in cancels.times() {
                self.timers.stop(at, Timer::Patience(id, slot));
                self.timers.start(at, Timer::OrphanPatience(dispatch, node));
            }
            if let Some(orphan) = self.find_orphan(node, dispatch)
                && !cancels.is_empty()
            {
                let waiting = WaitingCancels { cancels, before };
                orphan.waiter = Waiter::Cancels(Box::new(waiting));
            }
        }
        self.settle(now, slot, Outcome::Cancelled, CancelAnswer::StillRunning);
    }

    /// Returns what a task whose deadline has passed has failed by.
    fn too_late(&self, slot: Slot) -> Failure {
        let task = self.tasks.get(slot);
        let deadline = task.deadline();
        let given = deadline.map_or_else(Default::default, |deadline| {
            deadline.since(task.accepted_at)
        });
        let mut message = format!("the task did not end within its deadline of {given:?}");
        if let Some(failure) = task.last_failure() {
            message = format!("{message}; its last attempt failed: {failure}");
        }
        Failure::new(Cause::Deadline, message)
    }

    /// Asks for the end of a task. Answered once by [`Action::CancelAnswer`] with this `ticket`,
    /// within a second.
    pub fn cancel(&mut self, now: Timestamp, task: TaskId, ticket: u64) {
        self.observe(now);
        let Some(slot) = self.tasks.find(task) else {
            let answer = if self.task_ids.has_given(task.get()) {
                CancelAnswer::TooLate
            } else {
                CancelAnswer::NotFound
            };
            self.actions.push(Action::CancelAnswer { ticket, answer });
            return;
        };
        self.unsend(slot);
        let rare = self.tasks.get_mut(slot).rare();
        let first = !std::mem::replace(&mut rare.cancelling, true);
        if let Some(until) = rare.cancels.push(now + CANCEL_PATIENCE, ticket) {
            self.timers.start(until, Timer::Patience(task, slot));
        }
        if self.defer_cancel(slot) {
            self.cancel_asked(slot, first);
            return;
        }
        match self.tasks.get(slot).stage {
            Stage::New
            | Stage::Left { .. }
            | Stage::Later { .. }
            | Stage::Planned { .. }
            | Stage::Backoff { .. }
            | Stage::Queued { .. } => {
                self.settle_cancelled(now, slot);
            }
            // The task is cancelled once it is stored; or an earlier run may be going on, and the
            // truth is not known before that has ended.
            Stage::Unstored { .. } | Stage::Held(_) => self.cancel_asked(slot, first),
            Stage::Prefetched { node, dispatch, .. } | Stage::Running { node, dispatch, .. } => {
                // The node answers, or the patience ends. Once told, it need not be told again.
                if first {
                    self.roster.get_mut(node).cancel(dispatch);
                    self.roster.touch(node);
                }
                self.cancel_asked(slot, first);
            }
        }
    }

    /// Stores that a cancel was asked for, before anybody is told that the run goes on.
    fn cancel_asked(&mut self, slot: Slot, first: bool) {
        if first && let Some(journal) = &mut self.journal {
            journal.changed(self.now, self.tasks.get(slot).id);
        }
    }

    /// Cancels have waited long enough: they are told that the run goes on. The intent stays.
    pub(super) fn patience_ended(&mut self, at: Timestamp, slot: Slot) {
        let ended = self.tasks.get_mut(slot).rare().cancels.take_until(at);
        self.answer(ended, CancelAnswer::StillRunning);
    }

    /// Cancels have waited long enough for the end of an orphaned run: they are told that it goes
    /// on.
    pub(super) fn orphan_outlasts(&mut self, at: Timestamp, node: NodeIndex, dispatch: Dispatch) {
        let orphan = self.find_orphan(node, dispatch);
        let ended = orphan.map(|orphan| orphan.take_impatient(at));
        self.answer(ended.unwrap_or_default(), CancelAnswer::StillRunning);
    }

    /// Tells every cancel that the run goes on, since nobody will be told more.
    pub(super) fn end_all_patience(&mut self) {
        for (at, timer) in self.timers.take_patience() {
            match timer {
                Timer::Patience(_, slot) => self.patience_ended(at, slot),
                Timer::OrphanPatience(dispatch, node) => self.orphan_outlasts(at, node, dispatch),
                _ => {}
            }
        }
    }

    pub(super) fn answer(&mut self, tickets: impl IntoIterator<Item = u64>, answer: CancelAnswer) {
        let answers = tickets
            .into_iter()
            .map(|ticket| Action::CancelAnswer { ticket, answer });
        self.actions.extend(answers);
    }
}
