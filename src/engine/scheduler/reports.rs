//! What nodes say of their runs.
//!
//! Owns: telling a live report from a late, doubled or hostile one. Does not know: how a report
//! came, when a node is lost, or what follows from an end.

use super::SchedulerMachine;
use crate::engine::message::{RefusedBy, Report};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{NodeProcess, Readiness};
use crate::engine::tasks::{Prefetch, Retract, Run, Slot, Stage};
use crate::engine::{Action, Note, Timestamp};
use crate::task::{Dispatch, TaskId};

/// What a run of which a node tells is to the scheduler.
pub(super) enum Told {
    /// The latest run of this task, which the node has.
    Live(Slot),
    /// The latest run of this task. It was given up for lost, and may be taken back.
    GivenUp(Slot),
    /// A run that is no longer followed, and that may still be going on.
    Orphan,
    /// Neither: superseded, or doubled.
    Stale,
}

impl SchedulerMachine {
    /// Takes in what a node reports. `Err` says how it broke the protocol.
    pub(super) fn reports(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        reports: Vec<Report>,
    ) -> Result<(), String> {
        for report in reports {
            let (mut new, mut stored) = (true, None);
            if let Some(seq) = report.seq() {
                let entry = self.roster.get_mut(node);
                let process = entry.process_mut();
                new = process.take_report(seq);
                if self.journal.is_some() {
                    stored = Some(report.kept_bytes());
                } else {
                    process.may_acknowledge();
                    // The welcome acknowledges what comes in a comparison.
                    if !entry.is_local() && entry.is_up() {
                        entry.channel_mut().owe(1, report.kept_bytes());
                    }
                    self.roster.touch(node);
                }
            }
            if new {
                self.report(now, node, report)?;
            } else {
                self.totals.stale_reports += 1;
            }
            if let Some(bytes) = stored {
                self.acknowledge_later(node, bytes);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn report(&mut self, now: Timestamp, node: NodeIndex, report: Report) -> Result<(), String> {
        match report {
            Report::Started { task, dispatch } => match self.find_run(node, task, dispatch)? {
                Told::Live(slot) => self.started(now, slot),
                Told::GivenUp(slot) if self.keeps_runs(node) => {
                    // The run goes on, so a second one beside it would be one too many.
                    self.reclaim(slot);
                    self.started(now, slot);
                }
                Told::GivenUp(_) | Told::Orphan => {}
                Told::Stale => self.totals.stale_reports += 1,
            },
            Report::Ended {
                task,
                dispatch,
                end,
                ran,
                overrun,
                ..
            } => {
                // What it has refused it may take now. If not, it refuses once more.
                self.reporter(node).turned_ready();
                match self.find_run(node, task, dispatch)? {
                    Told::Live(slot) => self.ended(now, slot, false, end, ran, overrun),
                    Told::GivenUp(slot) => {
                        // The end counts as if the run had never been given up: what it has done
                        // is not done again.
                        self.reclaim(slot);
                        self.ended(now, slot, true, end, ran, overrun);
                    }
                    // The run was given up before: what came of it is late, and only its worker
                    // counts.
                    Told::Orphan => {
                        self.totals.stale_reports += 1;
                        self.ended_before(task, dispatch, &end);
                        if !overrun && end.is_of_no_run(ran) {
                            self.orphan_never_ran(now, node, dispatch);
                        } else if !overrun {
                            self.orphan_ended(now, node, dispatch);
                        }
                    }
                    Told::Stale => {
                        self.totals.stale_reports += 1;
                        self.ended_before(task, dispatch, &end);
                        if !overrun && end.is_of_no_run(ran) {
                            self.deny_start(task, dispatch);
                        }
                        // Nobody waits for its end, but its handler still has a worker there.
                        if overrun {
                            self.check_own(node, dispatch)?;
                            self.add_unknown(node, task, dispatch);
                        }
                    }
                }
            }
            Report::Freed { task, dispatch, .. } => {
                self.check_holder(node, task, dispatch)?;
                // Only what overran is told of as freed, and that became an orphan when its end was
                // told.
                self.reporter(node).turned_ready();
                if self.roster.get(node).process().has_orphan(dispatch) {
                    self.orphan_ended(now, node, dispatch);
                } else {
                    self.totals.stale_reports += 1;
                }
            }
            Report::Refused {
                task,
                dispatch,
                reason,
                ..
            } => {
                self.reporter(node).has_refused();
                // One that drains refuses for good: without a word of it, nothing more is sent.
                if reason == RefusedBy::Draining {
                    self.reporter(node).readiness = Readiness::Leaving;
                    self.set_present(node, false);
                }
                let lent = reason == RefusedBy::Lent;
                self.not_started(now, node, task, dispatch, lent)?;
            }
            Report::Returned { task, dispatch, .. } => {
                self.not_started(now, node, task, dispatch, false)?;
            }
            Report::Draining => {
                // What it has goes on or comes back; it only takes nothing new.
                self.reporter(node).readiness = Readiness::Leaving;
                self.set_present(node, false);
                self.roster.touch(node);
            }
            Report::Ready => {
                let process = self.reporter(node);
                // Draining is for good. A node that took it back again and again would have every
                // task that waits looked at each time.
                if process.readiness == Readiness::Leaving {
                    return Err("it would start something again, though it drains".to_owned());
                }
                process.turned_ready();
                // An operator may have it drain meanwhile.
                let present = self.roster.get(node).takes_tasks();
                self.set_present(node, present);
                self.roster.touch(node);
            }
            Report::Stalled { workers, task } => {
                self.stalled(node, workers, task);
                if workers == 0 {
                    self.forgotten_ended(now, node);
                }
            }
            Report::Lent { workers } => {
                let entry = self.roster.get_mut(node);
                entry.load.lent(workers);
                if let Some(channel) = entry.state.channel_mut() {
                    channel.lent();
                }
                self.wants.lent(node);
                self.roster.touch(node);
            }
            Report::Progress {
                task,
                dispatch,
                value,
            } => {
                self.makes_progress(now, node, task, dispatch, value)?;
            }
            Report::Note {
                task,
                dispatch,
                text,
            } => {
                self.notes(now, node, task, dispatch, text)?;
            }
        }
        Ok(())
    }

    /// Returns the process that reports.
    fn reporter(&mut self, node: NodeIndex) -> &mut NodeProcess {
        self.roster.get_mut(node).process_mut()
    }

    /// Checks that a node was given the number of a run. An honest node cannot tell of one that was
    /// never given out, nor of one that an earlier process of its name was given: what that runs
    /// goes on all the same.
    #[inline]
    fn check_number(&self, node: NodeIndex, dispatch: Dispatch) -> Result<(), String> {
        if !self.dispatches.has_given(dispatch.get()) {
            return Err(format!(
                "it told of the run {dispatch}, which was never assigned"
            ));
        }
        if self.is_staged(dispatch) {
            return Err(format!(
                "it told of the run {dispatch}, which was not sent to it"
            ));
        }
        let mut past = self.roster.get(node).past.iter();
        if past.any(|process| process.orphans.contains_key(&dispatch)) {
            return Err(format!(
                "it told of the run {dispatch}, which an earlier process of its name has"
            ));
        }
        Ok(())
    }

    /// Checks besides that no other node was given the run.
    pub(super) fn check_holder(
        &self,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
    ) -> Result<(), String> {
        self.check_number(node, dispatch)?;
        let task = self.tasks.find(task).map(|slot| self.tasks.get(slot));
        match task.filter(|task| {
            let run = task.stage.placed().or_else(|| task.stage.given_up());
            run.is_some_and(|run| run.dispatch == dispatch && run.node != node)
        }) {
            None => Ok(()),
            Some(task) => Err(format!(
                "it told of {}{dispatch}, which another node has",
                task.id
            )),
        }
    }

    /// Checks that what this node runs for one task is not told of as another's. Looks through the
    /// node's runs.
    fn check_own(&self, node: NodeIndex, dispatch: Dispatch) -> Result<(), String> {
        let mut runs = self.runs_of(node).into_iter();
        let run = runs.find(|&slot| {
            let run = self.tasks.get(slot).stage.placed();
            run.is_some_and(|run| run.dispatch == dispatch)
        });
        match run.map(|slot| self.tasks.get(slot).id) {
            None => Ok(()),
            Some(task) => Err(format!(
                "it told of the run {dispatch} under another task than {task}, which it was given"
            )),
        }
    }

    /// Finds what a reported run is to the scheduler. `Err` if the node cannot have it.
    #[inline(always)]
    pub(super) fn find_run(
        &self,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
    ) -> Result<Told, String> {
        // Of what it has and was sent, nothing else has to be checked.
        match self.find_live(node, task, dispatch) {
            Some(slot) if !self.is_staged(dispatch) => Ok(Told::Live(slot)),
            _ => self.find_other(node, task, dispatch),
        }
    }

    fn find_other(
        &self,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
    ) -> Result<Told, String> {
        self.check_holder(node, task, dispatch)?;
        Ok(self.find_held(node, task, dispatch))
    }

    /// Finds the task that a node has by this run.
    #[inline]
    fn find_live(&self, node: NodeIndex, task: TaskId, dispatch: Dispatch) -> Option<Slot> {
        self.tasks.find(task).filter(|&slot| {
            let run = self.tasks.get(slot).stage.placed();
            run.is_some_and(|run| run.dispatch == dispatch && run.node == node)
        })
    }

    /// Finds what a run is to the scheduler of which its node has told before.
    pub(super) fn find_held(&self, node: NodeIndex, task: TaskId, dispatch: Dispatch) -> Told {
        if let Some(slot) = self.find_live(node, task, dispatch) {
            return Told::Live(slot);
        }
        if let Some(slot) = self.tasks.find(task)
            && let Some(run) = self.tasks.get(slot).stage.given_up()
            && (run.node, run.dispatch) == (node, dispatch)
            && self.may_reclaim(slot, node)
        {
            return Told::GivenUp(slot);
        }
        if self.roster.get(node).process().has_orphan(dispatch) {
            Told::Orphan
        } else {
            Told::Stale
        }
    }

    /// Returns whether a run that goes on at a node may be its task's again. One that was taken out
    /// stops all that it has, and tells of no end of it: only an end that it had told before may
    /// count.
    pub(super) fn keeps_runs(&self, node: NodeIndex) -> bool {
        !self.roster.get(node).is_removed()
    }

    /// Returns whether a run that was given up may be its task's again: not if the task has lost
    /// two other nodes and its node has another such, which only a node that lies can bring about.
    fn may_reclaim(&self, slot: Slot, node: NodeIndex) -> bool {
        let entry = self.roster.get(node);
        let here = entry
            .incarnation()
            .map(|incarnation| (Self::node_id(node), incarnation));
        let rare = self.tasks.get(slot).rare.as_ref();
        let company = rare.and_then(|rare| rare.lost_on.company_without(here));
        company.is_none_or(|company| entry.load.takes_suspect(company))
    }

    /// Takes back a run that was given up for lost, goes on, and was followed by no later one: it
    /// is the task's run again, and its loss is not counted.
    pub(super) fn reclaim(&mut self, slot: Slot) {
        let stage = &self.tasks.get(slot).stage;
        let Some(run) = stage.given_up() else {
            return;
        };
        if matches!(stage, Stage::Queued { .. }) {
            self.catalogue.dequeue(&mut self.tasks, slot);
        }
        let node = run.node;
        self.remove_orphan(node, run.dispatch);
        self.trails.goes_on(self.tasks.get(slot).id, run.dispatch);
        if let Some(incarnation) = self.roster.get(node).incarnation() {
            self.uncount_loss(slot, node, incarnation);
        }
        let suspect = self.tasks.get(slot).company();
        self.put_on(slot, run, suspect);
        self.reclass(slot);
    }

    /// Starts a task that waited at its node.
    pub(super) fn started(&mut self, now: Timestamp, slot: Slot) {
        if let Stage::Prefetched { suspect, .. } = self.tasks.get(slot).stage {
            let run = Run {
                since: now,
                started: true,
                ..self.take_off(slot)
            };
            self.tasks.get_mut(slot).has_started();
            self.put_on(slot, run, suspect);
            self.tell_running(slot);
        }
    }

    /// Takes back an assignment that was not started and is not at the node any more. If its worker
    /// was `lent` meanwhile, it is as if it had never been sent.
    fn not_started(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
        lent: bool,
    ) -> Result<(), String> {
        match self.find_run(node, task, dispatch)? {
            Told::Live(slot) => {
                let why = self.tasks.get(slot).stage.retracting();
                if matches!(why, Some(Retract::FreeElsewhere | Retract::HeldUp)) {
                    self.tasks.get_mut(slot).prefetch = Prefetch::Spent;
                }
                if why.is_some() {
                    self.meter.came_back();
                }
                self.never_started(now, slot, lent || why.is_some());
            }
            Told::GivenUp(slot) => {
                // The loss ended no run, so it is not counted; but the task was counted as rerouted
                // then.
                self.reclaim(slot);
                self.never_started(now, slot, true);
            }
            Told::Orphan => self.orphan_never_ran(now, node, dispatch),
            Told::Stale => {
                self.totals.stale_reports += 1;
                self.deny_start(task, dispatch);
            }
        }
        self.roster.touch(node);
        Ok(())
    }

    /// Takes back the start of a run that was given up and has never started, by the word of its
    /// node.
    pub(super) fn deny_start(&mut self, task: TaskId, dispatch: Dispatch) {
        if let Some(slot) = self.tasks.find(task) {
            self.tasks.get_mut(slot).deny_start(dispatch);
        }
    }

    fn stalled(&mut self, node: NodeIndex, workers: u32, task: Option<TaskId>) {
        // Nobody is to be accused by a node that never had it.
        let task = task.filter(|&task| self.has_at(node, task));
        let entry = self.roster.get_mut(node);
        if entry.load.stalled(workers, task) {
            let name = entry.name.clone();
            let task = task.and_then(|task| {
                let class = self.tasks.get(self.tasks.find(task)?).class;
                Some((task, self.catalogue.kind(class).clone()))
            });
            self.actions.push(Action::Note(Box::new(Note::NodeStalled {
                node: Self::node_id(node),
                name,
                task,
            })));
        }
        self.roster.touch(node);
    }

    /// Returns whether a run of a task is at a node, or may be.
    fn has_at(&self, node: NodeIndex, task: TaskId) -> bool {
        let slot = self.tasks.find(task);
        let placed = slot.is_some_and(|slot| {
            let task = self.tasks.get(slot);
            task.stage.placed().is_some_and(|run| run.node == node)
        });
        let mut orphans = self.roster.get(node).process().orphans.values();
        placed || orphans.any(|orphan| orphan.task == task && !orphan.is_unknown())
    }
}
