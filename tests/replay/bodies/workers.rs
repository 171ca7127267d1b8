//! The workers of a node's machine: they do what they are told, and end when the input says.
//!
//! Owns: what runs and what is pipelined behind it. Does not know: who assigned it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use callboard::__internals::engine::WorkerId;
use callboard::__internals::engine::message::{Assignment, End};
use callboard::__internals::engine::node::{NodeAction, NodeEvent};
use callboard::task::Dispatch;

/// Kinds by their index; runs of the second cannot be stopped.
pub const BLOCKING: u16 = 1;

pub struct Run {
    pub assignment: Assignment,
    pub overrun: bool,
}

#[derive(Default)]
pub struct Workers {
    pub runs: BTreeMap<WorkerId, Run>,
    pipelines: BTreeMap<WorkerId, VecDeque<Assignment>>,
    /// For the machine.
    pub said: VecDeque<NodeEvent>,
}

impl Workers {
    pub fn perform(&mut self, action: NodeAction) {
        match action {
            NodeAction::Start {
                worker, assignment, ..
            } => {
                let chain = self.pipelines.entry(worker).or_default();
                chain.push_back(assignment);
                self.begin(worker);
            }
            NodeAction::Stop { worker, dispatch } => {
                let stoppable = self.runs.get(&worker).is_some_and(|run| {
                    run.assignment.dispatch == dispatch && run.assignment.kind != BLOCKING
                });
                if stoppable {
                    self.end(worker, End::Stopped, Duration::from_millis(1), false);
                }
            }
            NodeAction::TakeBack { worker, dispatch } => {
                let chain = self.pipelines.entry(worker).or_default();
                let place = chain.iter().position(|next| next.dispatch == dispatch);
                if let Some(assignment) = place.and_then(|place| chain.remove(place)) {
                    self.said
                        .push_back(NodeEvent::Unstarted { worker, assignment });
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, worker: WorkerId) {
        if !self.runs.contains_key(&worker)
            && let Some(assignment) = self.pipelines.entry(worker).or_default().pop_front()
        {
            let overrun = false;
            self.runs.insert(
                worker,
                Run {
                    assignment,
                    overrun,
                },
            );
        }
    }

    /// Ends the attempt on this worker; one that has overrun ends for good.
    pub fn end(&mut self, worker: WorkerId, end: End, ran: Duration, overrun: bool) {
        let Some(run) = self.runs.get_mut(&worker) else {
            return;
        };
        let dispatch = run.assignment.dispatch;
        if run.overrun {
            self.said.push_back(NodeEvent::Freed { worker, dispatch });
        } else {
            let ended = NodeEvent::Ended {
                worker,
                dispatch,
                end,
                ran,
                overrun,
            };
            self.said.push_back(ended);
            run.overrun = overrun;
            if overrun {
                return;
            }
        }
        self.runs.remove(&worker);
        self.begin(worker);
    }

    /// Gives back what this worker is believed to run, as a thread that stalls does.
    pub fn give_back(&mut self, worker: WorkerId) {
        if self.runs.get(&worker).is_some_and(|run| !run.overrun)
            && let Some(Run { assignment, .. }) = self.runs.remove(&worker)
        {
            self.said
                .push_back(NodeEvent::Unstarted { worker, assignment });
            self.begin(worker);
        }
    }

    pub fn nth(&self, at: usize) -> Option<WorkerId> {
        let count = self.runs.len();
        (count > 0).then(|| self.runs.keys().nth(at % count).copied())?
    }

    pub fn has(&self, dispatch: Dispatch) -> bool {
        self.runs
            .values()
            .any(|run| run.assignment.dispatch == dispatch)
    }
}
