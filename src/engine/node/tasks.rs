//! The assignments of a node, from their arrival to the report of their end.
//!
//! Owns: whether an assignment starts, waits or is refused, and what is reported of it. Does not
//! know: how the reports travel, why the node is told to stop something.

use std::time::Duration;

use super::lease::LeaseStage;
use super::prefetch::{MAX_PREFETCH, Spot, WaitingAssignment};
use super::state::Whereabouts;
use super::unacked::bounded;
use super::workers::{Known, Owner, RunState, WorkerRun};
use super::{NodeAction, NodeMachine};
use crate::engine::message::{Assignment, End, RefusedBy, Report};
use crate::engine::{Timestamp, WorkerId};

use crate::retry::RetryPolicy;
use crate::task::{Dispatch, TaskId};

/// The most kept reports of assignments that never started; a scheduler that assigns more without
/// acknowledging them breaks the protocol. Four times what can wait, so that a retraction of all of
/// it is far from it.
const MAX_UNSTARTED_REPORTS: usize = 4 * MAX_PREFETCH;

/// An attempt's end, as its worker tells it.
pub(super) struct AttemptEnd {
    pub(super) worker: WorkerId,
    pub(super) dispatch: Dispatch,
    pub(super) end: End,
    pub(super) ran: Duration,
    pub(super) overrun: bool,
}

impl NodeMachine {
    pub(super) fn assign(
        &mut self,
        now: Timestamp,
        assignments: Vec<Assignment>,
    ) -> Result<(), String> {
        if let Some(session) = &mut self.session {
            let sent = assignments.iter().map(|assignment| assignment.dispatch);
            session.seen = sent.fold(session.seen, Dispatch::max);
        }
        for assignment in assignments {
            if self.kept.unstarted() >= MAX_UNSTARTED_REPORTS {
                return Err(format!(
                    "{MAX_UNSTARTED_REPORTS} assignments were given back and not acknowledged"
                ));
            }
            // It has come twice, and must not run twice.
            if self.held.contains_key(&assignment.dispatch) {
                continue;
            }
            match self.refusal(&assignment) {
                Some(reason) => self.refuse_assignment(&assignment, reason),
                None if self.can_start() => {
                    // What was sent to a free worker is running for its scheduler from then on.
                    let start_reported = !assignment.prefetched;
                    self.start(
                        now,
                        WaitingAssignment {
                            assignment,
                            start_reported,
                        },
                        None,
                    );
                }
                None => {
                    let dispatch = assignment.dispatch;
                    let spot = self.prefetched.push(assignment);
                    self.held.insert(dispatch, Whereabouts::Prefetched(spot));
                }
            }
        }
        Ok(())
    }

    /// Returns why an assignment can neither start nor wait.
    fn refusal(&self, assignment: &Assignment) -> Option<RefusedBy> {
        // What holds for good comes first, so that the scheduler does not try again here in vain.
        if self.takes_nothing() {
            return Some(RefusedBy::Draining);
        }
        if usize::from(assignment.kind) >= self.spec.kinds.len() {
            return Some(RefusedBy::UnknownKind);
        }
        let given_up = match self.lease.stage() {
            LeaseStage::Whole => false,
            LeaseStage::Expiring => assignment.is_exclusive(),
            LeaseStage::Ended => true,
        };
        if given_up {
            return Some(RefusedBy::NoWorker);
        }
        // Only what was prefetched may wait. What was sent to a free worker is running for its
        // scheduler: it starts now or is refused. If it waited, it would be running nowhere, and
        // could not be asked back for a worker that is free elsewhere.
        let pipelined = (self.pipelines.len(), self.pipelines.bytes());
        if self.can_start()
            || (assignment.prefetched
                && self
                    .prefetched
                    .has_room(assignment, pipelined, self.sharers))
        {
            None
        } else if self.keeps_too_much() && self.workers.has_free() {
            Some(RefusedBy::KeptResults)
        } else if self.workers.waits_for_others() {
            Some(RefusedBy::Lent)
        } else {
            Some(RefusedBy::NoWorker)
        }
    }

    fn refuse_assignment(&mut self, assignment: &Assignment, reason: RefusedBy) {
        let (task, dispatch) = (assignment.task, assignment.dispatch);
        // A scheduler that was refused sends nothing until it hears that something would start
        // again.
        self.ready_acks = true;
        if let Some(session) = &mut self.session {
            session.refused = true;
        }
        self.report(|seq| Report::Refused {
            seq,
            task,
            dispatch,
            reason,
        });
    }

    pub(super) fn keeps_too_much(&self) -> bool {
        let most = self.spec.config.max_kept_bytes / self.sharers as u64;
        self.kept.bytes() >= most.max(1)
    }

    /// Returns whether something would start now.
    pub(super) fn can_start(&self) -> bool {
        self.workers.has_free()
            && !self.takes_nothing()
            && !self.keeps_too_much()
            && self.lease.stage() != LeaseStage::Ended
    }

    /// Starts what waits while it can.
    pub(super) fn pump(&mut self, now: Timestamp) {
        while !self.prefetched.is_empty() && self.can_start() {
            match self.prefetched.pop() {
                Some((spot, waiting)) => self.start(now, waiting, Some(spot)),
                None => return,
            }
        }
    }

    /// Puts an assignment on a free worker.
    fn start(&mut self, now: Timestamp, waiting: WaitingAssignment, spot: Option<Spot>) {
        let WaitingAssignment {
            assignment,
            start_reported,
        } = waiting;
        let (task, dispatch) = (assignment.task, assignment.dispatch);
        let known = if start_reported {
            Known::Yes
        } else if self.is_up() {
            Known::Announced(self.outbox.push(Report::Started { task, dispatch }))
        } else {
            // The next holdings, or what follows the welcome, tell of it.
            Known::No
        };
        let retry = self.retry_of(&assignment);
        let run = WorkerRun {
            known,
            started: now,
            spot,
            ..self.run_of(&assignment)
        };
        // The callers have asked `can_start`.
        if let Some(worker) = self.workers.occupy(run) {
            self.held.insert(dispatch, Whereabouts::Worker(worker));
            self.actions.push(NodeAction::Start {
                worker,
                assignment,
                retry,
            });
        }
    }

    /// Returns what an assignment is on its worker, before its start.
    pub(super) fn run_of(&self, assignment: &Assignment) -> WorkerRun {
        WorkerRun {
            task: assignment.task,
            dispatch: assignment.dispatch,
            kind: assignment.kind,
            blocking: self.blocks(assignment),
            exclusive: assignment.is_exclusive(),
            state: RunState::Running,
            owner: Owner::Session,
            known: Known::No,
            started: Timestamp::default(),
            spot: None,
        }
    }

    pub(super) fn blocks(&self, assignment: &Assignment) -> bool {
        let kind = self.spec.kinds.get(usize::from(assignment.kind));
        kind.is_some_and(|kind| kind.blocking)
    }

    pub(super) fn retry_of(&self, assignment: &Assignment) -> RetryPolicy {
        let terms = assignment.terms.as_deref();
        terms.and_then(|terms| terms.retry).unwrap_or(self.retry)
    }

    pub(super) fn ended(&mut self, now: Timestamp, ended: AttemptEnd) {
        let AttemptEnd {
            worker,
            dispatch,
            end,
            ran,
            overrun,
        } = ended;
        // The worker has gone on to another run: the end of this one is known.
        let Some(run) = self.workers.run_mut(worker, dispatch) else {
            return;
        };
        let before = run.state;
        let (task, known, owner) = (run.task, run.known, run.owner);
        // The worker comes first, whether or not anybody wants to hear of the run: it is free when
        // the handler has ended, and not before (G4).
        if overrun {
            run.state = RunState::Overrun;
        } else {
            self.succeed(now, worker);
        }
        self.pipelines.learn(ran);
        // Its scheduler has let the node go, or another start of the scheduler has followed it:
        // nothing is reported.
        if owner != Owner::Session {
            return;
        }
        // An overrun stays held: a scheduler that comes back must learn that its worker is taken.
        if !overrun {
            self.held.remove(&dispatch);
        }
        if before == RunState::Overrun && (overrun || matches!(end, End::Stopped | End::Dropped)) {
            // Its end was reported when it was dropped.
            if !overrun {
                self.report_freed(task, dispatch);
            }
            return;
        }
        // One that was dropped and could not be stopped has come to an end of its own all the same.
        // It is told instead: what was done need not be done again, if nobody has begun it anew.
        // A start that has not been sent yet need not be: the end says that there was one.
        self.outbox.retract(known);
        let end = match end {
            // A worker knows that it was told to stop, but not why.
            End::Stopped if before == RunState::Dropping => End::Dropped,
            end => match &self.session {
                Some(session) => bounded(end, session.max_output),
                None => end,
            },
        };
        self.report(|seq| Report::Ended {
            seq,
            task,
            dispatch,
            end,
            ran,
            overrun,
        });
    }

    pub(super) fn freed(&mut self, now: Timestamp, worker: WorkerId, dispatch: Dispatch) {
        let Some(run) = self.workers.run_mut(worker, dispatch) else {
            return;
        };
        let (task, owner) = (run.task, run.owner);
        // Its end has not been told, and must be (G1): the worker owes that first.
        if owner == Owner::Session && run.state != RunState::Overrun {
            return;
        }
        self.succeed(now, worker);
        if owner == Owner::Session {
            self.held.remove(&dispatch);
            self.report_freed(task, dispatch);
        }
    }

    fn report_freed(&mut self, task: TaskId, dispatch: Dispatch) {
        self.report(|seq| Report::Freed {
            seq,
            task,
            dispatch,
        });
    }

    /// Passes on what a handler has told on its way. That is never kept: it is worth nothing once
    /// the attempt has ended or a link was lost.
    pub(super) fn told(
        &mut self,
        worker: WorkerId,
        dispatch: Dispatch,
        report: impl FnOnce(TaskId) -> Report,
    ) {
        let up = self.is_up();
        let Some(run) = self.workers.run_mut(worker, dispatch) else {
            return;
        };
        let goes_on = run.owner == Owner::Session && run.state != RunState::Overrun;
        if up && goes_on {
            let report = report(run.task);
            self.outbox.push(report);
        }
    }

    /// Takes back an assignment that a worker has given back: its thread is stalled, or it was
    /// asked to.
    pub(super) fn unstarted(&mut self, now: Timestamp, worker: WorkerId, assignment: Assignment) {
        // One that the machine still has in a pipeline has never been a run. Any other was taken
        // for begun, and its worker is free only now.
        let Some(assignment) = self.unpipelined(worker, assignment) else {
            return;
        };
        let dispatch = assignment.dispatch;
        let Some(run) = self.workers.run_mut(worker, dispatch) else {
            return;
        };
        let run = *run;
        self.succeed(now, worker);
        if self.blamed == Some(run.task) {
            // What has not started blocks nothing.
            self.blamed = self.workers.blamed_anywhere();
        }
        if run.owner != Owner::Session {
            return;
        }
        self.held.remove(&dispatch);
        let unheard = self.outbox.retract(run.known);
        // What was wanted of the run meanwhile decides what becomes of it.
        match run.state {
            // It waits for another worker: where it was before, or, if its scheduler believes that
            // it runs, before all that do not.
            RunState::Running if self.may_wait(&assignment) => {
                let start_reported = run.known != Known::No && !unheard;
                let waiting = WaitingAssignment {
                    assignment,
                    start_reported,
                };
                let spot = match run.spot {
                    Some(spot) if !start_reported => {
                        self.prefetched.put_back(spot, waiting);
                        spot
                    }
                    _ => self.prefetched.push_front(waiting),
                };
                self.held.insert(dispatch, Whereabouts::Prefetched(spot));
            }
            // What has not started is not dropped: the scheduler may place it elsewhere at once.
            RunState::Running | RunState::Retracted | RunState::Dropping => {
                self.give_back(run.task, dispatch);
            }
            RunState::Cancelled => self.never_started(run.task, dispatch),
            // It was reported as dropped, since its handler could not be stopped; it never began.
            RunState::Overrun => self.report_freed(run.task, dispatch),
        }
    }

    /// Takes in that a worker could not begin an assignment. It goes to the scheduler, which may
    /// have a node that can, and the worker is left alone for a while.
    pub(super) fn no_thread(&mut self, now: Timestamp, worker: WorkerId, assignment: Assignment) {
        // First the worker, so that nothing goes to it at once.
        self.workers.set_stalled(&[worker], true);
        let run = self.workers.run_mut(worker, assignment.dispatch);
        if let Some(run) = run.filter(|run| run.state == RunState::Running) {
            run.state = RunState::Retracted;
        }
        self.unstarted(now, worker, assignment);
    }

    pub(super) fn may_wait(&self, assignment: &Assignment) -> bool {
        !self.takes_nothing()
            && match self.lease.stage() {
                LeaseStage::Whole => true,
                LeaseStage::Expiring => !assignment.is_exclusive(),
                LeaseStage::Ended => false,
            }
    }

    pub(super) fn give_back(&mut self, task: TaskId, dispatch: Dispatch) {
        self.report(|seq| Report::Returned {
            seq,
            task,
            dispatch,
        });
    }

    pub(super) fn never_started(&mut self, task: TaskId, dispatch: Dispatch) {
        self.report(|seq| Report::Ended {
            seq,
            task,
            dispatch,
            end: End::Stopped,
            ran: Duration::ZERO,
            overrun: false,
        });
    }

    /// Numbers a report, keeps it and, if the link is up, puts it into the outbox.
    pub(super) fn report(&mut self, report: impl FnOnce(u64) -> Report) {
        let report = report(self.kept.number());
        match (self.is_up(), self.spec.local) {
            // What is kept goes out with the holdings, or after the welcome.
            (false, _) => self.kept.push(report),
            // A local link loses nothing, so nobody would acknowledge it.
            (true, true) => {
                self.outbox.push(report);
            }
            (true, false) => {
                self.kept.push(report.clone());
                self.outbox.push(report);
            }
        }
    }

    /// Puts into the outbox what the scheduler should know of the workers.
    pub(super) fn tell_workers(&mut self) {
        if !self.is_up() {
            return;
        }
        let workers = self.workers.out_of_reach();
        if self.reported_stalled != Some(workers) {
            self.reported_stalled = Some(workers);
            let task = self.blamed;
            self.outbox.push(Report::Stalled { workers, task });
        }
        let lent = self.workers.lent();
        if self.reported_lent != lent {
            self.reported_lent = lent;
            self.outbox.push(Report::Lent { workers: lent });
        }
        if self.ready_acks && self.can_start() {
            self.ready_acks = false;
            self.outbox.push(Report::Ready);
        }
    }
}
