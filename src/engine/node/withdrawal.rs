//! Taking assignments back from where they wait, and stopping those that run.
//!
//! Owns: what a retraction, a cancel, and the end of the lease or of the node do with each
//! assignment. Does not know: why the scheduler or the process wants it, or how a worker stops.

use super::lease::LeaseStage;
use super::pipeline::Why;
use super::prefetch::Spot;
use super::state::Whereabouts;
use super::workers::{Owner, RunState};
use super::{NodeAction, NodeMachine, NodeNote};
use crate::engine::Timestamp;
use crate::engine::message::{Assignment, End, Report};
use crate::task::Dispatch;

impl NodeMachine {
    /// Gives back what has not started.
    pub(super) fn retract(&mut self, dispatches: &[Dispatch]) {
        for &dispatch in dispatches {
            match self.held.get(&dispatch) {
                Some(&Whereabouts::Prefetched(spot)) => self.give_back_spot(spot),
                // Its run is found in no pipeline, and goes on.
                Some(&Whereabouts::Worker(worker)) => self.ask_back(worker, dispatch, Why::Return),
                None => {}
            }
        }
    }

    fn give_back_spot(&mut self, spot: Spot) {
        if let Some(waiting) = self.prefetched.take(spot) {
            let Assignment { task, dispatch, .. } = waiting.assignment;
            self.held.remove(&dispatch);
            self.give_back(task, dispatch);
        }
    }

    /// Ends what has not started, and stops what has.
    pub(super) fn cancel(&mut self, dispatches: &[Dispatch]) {
        for &dispatch in dispatches {
            match self.held.get(&dispatch) {
                Some(&Whereabouts::Prefetched(spot)) => {
                    if let Some(waiting) = self.prefetched.take(spot) {
                        self.held.remove(&dispatch);
                        self.never_started(waiting.assignment.task, dispatch);
                    }
                }
                Some(&Whereabouts::Worker(worker)) => {
                    match self.workers.run_mut(worker, dispatch) {
                        Some(run) if run.state.goes_on() => {
                            run.state = RunState::Cancelled;
                            self.actions.push(NodeAction::Stop { worker, dispatch });
                        }
                        // It was told to stop before, and its end will say so.
                        Some(_) => {}
                        None => self.ask_back(worker, dispatch, Why::Cancel),
                    }
                }
                None => {}
            }
        }
    }

    /// Gives back all that waits, or only what is exclusive, which is never pipelined.
    pub(super) fn return_waiting(&mut self, all: bool) {
        if all {
            self.ask_all_back(Why::Return);
        }
        let spots: Vec<Spot> = self
            .prefetched
            .iter()
            .filter(|(_, waiting)| all || waiting.assignment.is_exclusive())
            .map(|(spot, _)| spot)
            .collect();
        for spot in spots {
            self.give_back_spot(spot);
        }
    }

    /// Stops every run, or only what is exclusive, to report it as dropped. A blocking one goes on:
    /// it is dropped at once for the scheduler, and its worker is freed when it really ends.
    pub(super) fn drop_runs(&mut self, now: Timestamp, all: bool) {
        if all {
            self.ask_all_back(Why::Drop);
        }
        let mut overruns = Vec::new();
        let mut runs = 0;
        for (worker, run) in self.workers.iter_mut() {
            let wanted = run.owner == Owner::Session && (all || run.exclusive);
            if !wanted || !run.state.goes_on() {
                continue;
            }
            runs += 1;
            let dispatch = run.dispatch;
            self.actions.push(NodeAction::Stop { worker, dispatch });
            // The end of an async run follows at once, and its worker reports it. A blocking one
            // may take any time, for which the scheduler must not wait.
            if run.blocking {
                run.state = RunState::Overrun;
                overruns.push(*run);
            } else {
                run.state = RunState::Dropping;
            }
        }
        for run in overruns {
            self.outbox.retract(run.known);
            self.report(|seq| Report::Ended {
                seq,
                task: run.task,
                dispatch: run.dispatch,
                end: End::Dropped,
                ran: now.since(run.started),
                overrun: true,
            });
        }
        if runs > 0 {
            let session = self.session.as_ref();
            let scheduler = session.map_or_else(String::new, |it| it.scheduler.clone());
            self.actions
                .push(NodeAction::Note(NodeNote::Dropped { scheduler, runs }));
        }
    }

    /// Gives up what the lease no longer covers.
    pub(super) fn expire(&mut self, now: Timestamp) {
        // A process that was frozen may find both stages past.
        while let Some(stage) = self.lease.expire(now) {
            let all = stage == LeaseStage::Ended;
            self.return_waiting(all);
            self.drop_runs(now, all);
        }
    }
}
