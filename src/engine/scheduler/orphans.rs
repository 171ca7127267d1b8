//! Orphans: runs that the scheduler no longer follows and that may still be going on.
//!
//! Owns: their beginning and end, and what waits for that. Does not know: why a run was given up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SchedulerMachine;
use crate::engine::placement::NodeIndex;
use crate::engine::record::Record;
use crate::engine::roster::{LimitsOf, NodeProcess, Orphan, Waiter, WaitingCancels, Witness};
use crate::engine::tasks::{Slot, Stage, Then};
use crate::engine::timers::Timer;
use crate::engine::{Incarnation, Timestamp};
use crate::status::CancelAnswer;
use crate::task::{Dispatch, TaskId};

/// Runs that nodes say they hold and that the scheduler knows nothing of: as many as a cluster of a
/// million workers can have. They are remembered on a node's word alone, so they are bounded over
/// all nodes.
const MAX_UNKNOWN_RUNS: usize = 1 << 20;

/// Replaced incarnations of one node that are remembered though no run of theirs is waited for, so
/// that they are refused if they return; beyond it the oldest is forgotten. A process with a run
/// that is waited for is remembered for as long as that is, and so there are no more of them than
/// such runs.
pub(super) const MAX_REPLACED: usize = 16;

/// How many runs are known by their nodes' word alone.
#[derive(Debug, Default)]
pub(super) struct UnknownRuns(usize);

impl UnknownRuns {
    /// Counts one more, unless there are as many as may be.
    fn admit(&mut self) -> bool {
        let admitted = self.0 < MAX_UNKNOWN_RUNS;
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
    /// Returns whether a run of this task may be going on in a process of a node that was lost with
    /// it. What can be stopped was stopped when the incarnation's own half of the lease ended.
    pub(super) fn process_may_run(
        &self,
        now: Timestamp,
        slot: Slot,
        node: NodeIndex,
        incarnation: Incarnation,
    ) -> bool {
        let mut processes = self.roster.get(node).lost_processes();
        processes.any(|process| {
            process.incarnation == incarnation
                && (now < process.lease.safe_at() + self.margin() || self.blocks_at(slot, node))
        })
    }

    /// Makes the orphan of a run of a task.
    pub(super) fn orphan_of(&self, slot: Slot, blocking: bool) -> Orphan {
        let task = self.tasks.get(slot);
        let kind = self.catalogue.kind(task.class);
        let orphan = Orphan::of_run(task.id, blocking, task.key().cloned());
        orphan.counted_as(kind, task.group_name())
    }

    /// Returns whether anything waits for the end of a run of a task that is given up: only an
    /// exclusive task, a key and a limit do, and all else is run again at once.
    pub(super) fn is_end_awaited(&self, slot: Slot) -> bool {
        let task = self.tasks.get(slot);
        let kind = self.catalogue.kind(task.class);
        let limited = self.catalogue.counts_runs(kind, task.group_name());
        task.is_exclusive() || task.key().is_some() || limited
    }

    pub(super) fn add_orphan(&mut self, node: NodeIndex, dispatch: Dispatch, orphan: Orphan) {
        // The process that had the run, or has told of it, is on record.
        let incarnation = self.roster.get(node).process().incarnation;
        self.add_orphan_of(node, incarnation, dispatch, orphan);
    }

    /// Adds an orphan of the process of this incarnation, if that is on record.
    pub(super) fn add_orphan_of(
        &mut self,
        node: NodeIndex,
        incarnation: Incarnation,
        dispatch: Dispatch,
        orphan: Orphan,
    ) {
        if !self.roster.get(node).has_lived(incarnation) {
            return;
        }
        // The node may have told lies of this run before.
        self.remove_orphan(node, dispatch);
        if let Some(key) = &orphan.key {
            self.keys.orphan_began(key);
        }
        if orphan.is_counted()
            && let Some(slot) = self.tasks.find(orphan.task)
        {
            self.tasks
                .get_mut(slot)
                .rare()
                .orphans
                .push((node, dispatch));
            self.task_changed(slot);
        }
        let mut processes = self.roster.get_mut(node).processes_mut();
        let process = processes.find(|process| process.incarnation == incarnation);
        let safe_at = process.map(|process| {
            if let Some(limits) = &orphan.limits {
                self.catalogue.orphan_began(limits);
            }
            process.orphans.insert(dispatch, orphan);
            process.lease.safe_at()
        });
        drop(processes);
        if let Some(safe_at) = safe_at {
            self.timers.wake_at(node, safe_at);
        }
        self.roster.touch(node);
    }

    /// Adds a run that the scheduler knows nothing of and that occupies a worker. Beyond
    /// [`MAX_UNKNOWN_RUNS`] it is not remembered: then its node may be given more than it can
    /// start, and will refuse it.
    pub(super) fn add_unknown(&mut self, node: NodeIndex, task: TaskId, dispatch: Dispatch) {
        if !self.unknown_runs.admit() {
            return;
        }
        let witness = match self.was_lost_here(node, task) {
            true => Witness::NodeThatWasLost,
            false => Witness::Node,
        };
        let orphan = Orphan {
            witness,
            ..Orphan::of_run(task, true, None)
        };
        self.add_orphan(node, dispatch, orphan);
    }

    /// Returns whether a task's run was lost with the present incarnation of a node, which has not
    /// been taken back so far: then it may have that run, and no node can say so of a task that it
    /// never had.
    fn was_lost_here(&self, node: NodeIndex, task: TaskId) -> bool {
        let incarnation = self.roster.get(node).incarnation();
        let here = incarnation.map(|incarnation| (Self::node_id(node), incarnation));
        let slot = self.tasks.find(task);
        let rare = slot.and_then(|slot| self.tasks.get(slot).rare.as_ref());
        here.is_some()
            && rare.is_some_and(|rare| rare.lost_processes().any(|&lost| Some(lost) == here))
    }

    pub(super) fn find_orphan(
        &mut self,
        node: NodeIndex,
        dispatch: Dispatch,
    ) -> Option<&mut Orphan> {
        let entry = self.roster.nodes.get_mut(node as usize)?;
        entry
            .processes_mut()
            .find_map(|process| process.orphans.get_mut(&dispatch))
    }

    pub(super) fn remove_orphan(&mut self, node: NodeIndex, dispatch: Dispatch) -> Option<Orphan> {
        let mut processes = self.roster.get_mut(node).processes_mut();
        let orphan = processes.find_map(|process| process.orphans.remove(&dispatch))?;
        drop(processes);
        self.uncount_orphan(node, dispatch, &orphan);
        Some(orphan)
    }

    /// Takes back what was counted of an orphan that has left its incarnation, and tells its
    /// cancels that nothing goes on any more.
    fn uncount_orphan(&mut self, node: NodeIndex, dispatch: Dispatch, orphan: &Orphan) {
        if let Some(waiting) = orphan.waiting() {
            self.stop_orphan_patience(node, dispatch, waiting);
            self.answer(waiting.cancels.tickets(), CancelAnswer::Stopped);
        }
        if let Some(key) = &orphan.key {
            let freed = self.keys.orphan_ended(key);
            freed.into_iter().for_each(|id| self.key_was_freed(id));
        }
        if let Some(limits) = &orphan.limits {
            self.catalogue.orphan_ended(limits);
        }
        if orphan.is_unknown() {
            self.unknown_runs.forget();
        }
        if orphan.is_counted()
            && let Some(slot) = self.tasks.find(orphan.task)
        {
            let rare = self.tasks.get_mut(slot).rare();
            rare.orphans.retain(|it| *it != (node, dispatch));
            self.task_changed(slot);
        }
        self.roster.touch(node);
    }

    /// Records that the key of a task that has settled is free.
    pub(super) fn key_was_freed(&mut self, id: TaskId) {
        if let Some(journal) = &mut self.journal {
            journal.busy.remove(&id);
            journal.record_lazily(self.now, Record::Freed(id));
        }
    }

    /// Ends a run that may have been going on and has never started: what waited for its end goes
    /// on, and its cancels are told what is true of the earlier runs.
    pub(super) fn orphan_never_ran(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch) {
        let Some(orphan) = self.find_orphan(node, dispatch) else {
            return;
        };
        let (task, waiting) = (orphan.task, orphan.take_waiting());
        self.deny_start(task, dispatch);
        if let Some(waiting) = waiting {
            self.stop_orphan_patience(node, dispatch, &waiting);
            self.answer(waiting.cancels.tickets(), waiting.before);
        }
        self.orphan_ended(now, node, dispatch);
    }

    fn stop_orphan_patience(
        &mut self,
        node: NodeIndex,
        dispatch: Dispatch,
        waiting: &WaitingCancels,
    ) {
        for at in waiting.cancels.times() {
            self.timers.stop(at, Timer::OrphanPatience(dispatch, node));
        }
    }

    /// Ends a run that may have been going on: what waited for that goes on.
    pub(super) fn orphan_ended(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch) {
        if let Some(orphan) = self.remove_orphan(node, dispatch) {
            self.let_go(now, node, dispatch, &orphan);
        }
    }

    /// Ends all runs of a node whose process has ended.
    pub(super) fn orphans_ended(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        orphans: BTreeMap<Dispatch, Orphan>,
    ) {
        for (dispatch, orphan) in orphans {
            self.uncount_orphan(node, dispatch, &orphan);
            self.let_go(now, node, dispatch, &orphan);
        }
    }

    /// Lets go on what waited for the end of an orphan.
    fn let_go(&mut self, now: Timestamp, node: NodeIndex, dispatch: Dispatch, orphan: &Orphan) {
        if !orphan.holds_task() {
            return;
        }
        let Some(slot) = self.tasks.find(orphan.task) else {
            return;
        };
        let task = self.tasks.get(slot);
        let Stage::Held(held) = &task.stage else {
            return;
        };
        // The task may be held by a later run.
        if (held.run.node, held.run.dispatch) != (node, dispatch) {
            return;
        }
        if task.is_cancelling() {
            self.settle_cancelled(now, slot);
            return;
        }
        match held.then {
            Then::QueueUnlessItReturns | Then::Queue => self.enqueue(slot, None),
            Then::BackOff(due) if due <= now => self.became_due(due, slot),
            Then::BackOff(due) => self.wait_until(slot, due, Stage::Backoff { due }),
        }
    }

    /// Returns how long after the end of a node's own half of its lease a run that is not exclusive
    /// may be going on: it outlives that, and gets a heartbeat to stop.
    pub(super) fn margin(&self) -> Duration {
        self.outlive + self.config.heartbeat
    }

    /// Ends the orphans of incarnations whose own half of the lease has ended: what could be
    /// stopped was. Exclusive runs stop at four fifths of it, all others by the margin after its
    /// end.
    pub(super) fn end_safe_orphans(&mut self, now: Timestamp, node: NodeIndex) {
        let margin = self.margin();
        let processes = self.roster.get(node).lost_processes();
        let ended: Vec<_> = processes
            .flat_map(|process| {
                let safe_at = process.lease.safe_at();
                process.orphans.iter().map(move |it| (safe_at, it))
            })
            .filter(|(safe_at, (_, orphan))| {
                let safe_at = orphan.safe_at(*safe_at, margin);
                safe_at.is_some_and(|safe_at| safe_at <= now)
            })
            .map(|(_, (&dispatch, _))| dispatch)
            .collect();
        for dispatch in ended {
            self.orphan_ended(now, node, dispatch);
        }
        self.end_idle_orphans(now, node);
    }

    /// Returns whether nothing waits for the end of an orphaned run: its task has settled, no
    /// cancel waits, it has no key, and it counts against no limit.
    pub(super) fn is_idle_orphan(&self, orphan: &Orphan) -> bool {
        let is_limited = |it: &LimitsOf| self.catalogue.counts_runs(&it.kind, it.group.as_ref());
        matches!(orphan.waiter, Waiter::Nobody)
            && orphan.key.is_none()
            && !orphan.limits.as_ref().is_some_and(is_limited)
            && self.tasks.find(orphan.task).is_none()
    }

    /// Ends the orphans of replaced incarnations that nobody waits for: those of tasks that have
    /// settled and have no key. They occupy no worker of the node as it is now.
    pub(super) fn end_idle_orphans(&mut self, now: Timestamp, node: NodeIndex) {
        let processes = self.roster.get(node).past.iter();
        let idle: Vec<_> = processes
            .flat_map(|process| &process.orphans)
            .filter(|(_, orphan)| self.is_idle_orphan(orphan))
            .map(|(&dispatch, _)| dispatch)
            .collect();
        for dispatch in idle {
            self.orphan_ended(now, node, dispatch);
        }
        // A process without runs needs no more probes. It stays on record, so that it is refused if
        // it returns.
        let past = &mut self.roster.get_mut(node).past;
        let (mut idle, mut changed) = (0, false);
        for process in past.iter_mut().filter(|process| process.orphans.is_empty()) {
            changed |= process.probe.take().is_some();
            idle += 1;
        }
        past.retain(|process| {
            let forget = process.orphans.is_empty() && idle > MAX_REPLACED;
            idle -= usize::from(forget);
            changed |= forget;
            !forget
        });
        // It is looked at with each heartbeat, and a commit is dear.
        if changed {
            self.node_changed(node);
        }
    }

    /// Ends replaced incarnations whose process is known to have ended. What the present process
    /// has forgotten goes on with it.
    pub(super) fn end_replaced(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        ended: impl Fn(&NodeProcess) -> bool,
    ) {
        let present = self.roster.get(node).incarnation();
        self.end_past(now, node, |process| {
            Some(process.incarnation) != present && ended(process)
        });
    }

    /// Ends what the process of a node had forgotten: by the node's word nothing goes on there but
    /// what it names.
    pub(super) fn forgotten_ended(&mut self, now: Timestamp, node: NodeIndex) {
        let present = self.roster.get(node).incarnation();
        self.end_past(now, node, |process| Some(process.incarnation) == present);
    }

    pub(super) fn end_past(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        ended: impl Fn(&NodeProcess) -> bool,
    ) {
        let entry = self.roster.get_mut(node);
        let orphans: Vec<_> = entry
            .past
            .iter()
            .filter(|process| ended(process))
            .flat_map(|process| process.orphans.keys().copied())
            .collect();
        for dispatch in orphans {
            self.orphan_ended(now, node, dispatch);
        }
        let past = &mut self.roster.get_mut(node).past;
        let before = past.len();
        past.retain(|process| !ended(process));
        if past.len() < before {
            self.node_changed(node);
        }
    }
}
