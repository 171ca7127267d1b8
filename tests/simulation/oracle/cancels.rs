//! G12: whether a cancel is answered, in time and in truth.
//!
//! Owns: the judgement of the answers. Does not know: how a run is stopped.
use std::sync::Arc;

use callboard::status::{CancelAnswer, Outcome};
use callboard::task::TaskId;

use super::{Expectation, Ticket};
use crate::cluster::{Cluster, Ev};
use crate::plan::{MS, SECOND, nanos};
use crate::scheduler::clock;

impl Cluster {
    pub fn cancel(&mut self, task: TaskId) {
        let ticket = self.oracle.tickets.len() as u64;
        let settled_before = self.is_settled(task);
        self.say(|| format!("# cancel {task}, ticket {ticket}"));
        self.oracle.tickets.push(Ticket {
            term: self.term,
            task,
            asked: self.now,
            settled_before,
            answered: false,
        });
        if let Some(facts) = self.oracle.now_tasks().get_mut(&task) {
            facts.cancel_asked = true;
            facts.to_be_cancelled |= !settled_before;
        }
        self.scheduler.machine.cancel(clock(self.now), task, ticket);
        let asked = self.now;
        self.after(
            SECOND + self.plan.late + 100 * MS + self.log_takes(),
            Ev::Expect(Box::new(Expectation::Cancelled { ticket, asked })),
        );
    }

    pub fn cancel_answer(&mut self, ticket: u64, answer: CancelAnswer) {
        self.say(|| format!("cancel {ticket} is answered: {answer:?}"));
        let Some(it) = self
            .oracle
            .tickets
            .get_mut(usize::try_from(ticket).unwrap())
        else {
            self.oracle
                .fail("G12", None, format!("there is no cancel {ticket}"));
            return;
        };
        let (task, term, life) = (it.task, it.term, self.life);
        if std::mem::replace(&mut it.answered, true) || term != self.term {
            self.fail("G12", task, "its cancel is answered twice".into());
            return;
        }
        // A deadline may have given the answer before the second was over.
        let patient = it.asked + SECOND <= self.now;
        let settled_before = it.settled_before;
        let settled = self.is_settled(task);
        let asked = self.now.saturating_sub(SECOND + self.plan.late);
        if answer == CancelAnswer::StillRunning
            && patient
            && !self.oracle.is_disturbed(asked, self.now)
            && self.procs.iter().any(|proc| {
                let mut runs = proc.runs.values();
                proc.alive
                    && !self.oracle.superseded.contains(&proc.incarnation)
                    && runs.any(|run| {
                        run.life == life
                            && run.task == task
                            && !self.oracle.is_forgotten(run.dispatch)
                            && run.started < asked
                            && !run.stop_asked
                            && !run.reported
                    })
            })
        {
            self.fail(
                "G12",
                task,
                "a second after its cancel its run was not asked to stop".into(),
            );
        }
        let going = match answer {
            CancelAnswer::Stopped => self.still_going(task),
            _ => None,
        };
        let facts = self.oracle.now_tasks().get(&task);
        let has_run = facts.is_some_and(|facts| !facts.starts.is_empty());
        let may_be_unknown = self.may_be_unknown(task);
        let true_answer = match answer {
            // What could not be stored was never accepted.
            CancelAnswer::NotFound => settled_before || !self.is_accepted(task),
            CancelAnswer::TooLate => settled,
            CancelAnswer::Stopped => settled && going.is_none(),
            CancelAnswer::NeverStarted => settled && (!has_run || may_be_unknown),
            // What was on its way to a node that was lost may have begun there.
            CancelAnswer::StillRunning => {
                !settled_before && (has_run || self.oracle.is_disturbed(0, self.now))
            }
            _ => false,
        };
        if !true_answer {
            let text = format!(
                "its cancel is answered {answer:?}, but it was settled before: {settled_before}, is settled: {settled}, runs on: {:?}",
                going,
            );
            self.fail("G12", task, text);
        }
        let Some(facts) = self.oracle.now_tasks().get_mut(&task) else {
            return;
        };
        let cancelled = matches!(answer, CancelAnswer::Stopped | CancelAnswer::NeverStarted);
        facts.cancel_promised |= answer == CancelAnswer::StillRunning;
        let told = facts.outcome().cloned();
        facts.must_be_cancelled |= cancelled;
        let contradiction = match told {
            Some(Outcome::Cancelled) => answer == CancelAnswer::TooLate && !settled_before,
            Some(_) => cancelled,
            None => false,
        };
        if contradiction {
            self.fail(
                "G12",
                task,
                format!("its cancel is answered {answer:?}, but it was told: {told:?}"),
            );
        }
    }

    /// Returns the node where a run of the task goes on that is said to have stopped. One whose
    /// process is frozen has stopped if it gets no further when that wakes; one on a node that is
    /// lost may still be about to stop.
    fn still_going(&mut self, task: TaskId) -> Option<Arc<str>> {
        let (now, lease) = (self.now, nanos(self.plan.config.lease));
        let life = self.life;
        let mut going = None;
        for proc in &mut self.procs {
            if proc.passes_for_dead(now, lease) {
                continue;
            }
            let lost = self.oracle.superseded.contains(&proc.incarnation);
            for (worker, run) in &mut proc.runs {
                let other = run.life != life || run.task != task;
                let may_go_on = run.vouched || self.oracle.is_forgotten(run.dispatch);
                if other || may_go_on || run.last_step {
                    continue;
                }
                if run.blocking {
                    going = Some(Arc::clone(&proc.name));
                } else if proc.frozen || proc.stalled.contains(worker) {
                    run.must_stop = true;
                } else if !(lost && run.stop_asked) {
                    going = Some(Arc::clone(&proc.name));
                }
            }
        }
        going
    }
}
