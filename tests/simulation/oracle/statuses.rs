//! G1: whether a status is told to whom it must be, and whether what it says is true.
//!
//! Owns: the judgement of an ending. Does not know: what a status says of runs (see `runs`).

use callboard::__internals::engine::Audience;
use callboard::status::{Cause, Outcome, TaskStatus};
use callboard::task::TaskId;

use super::{Facts, Given, Holder, Oracle};
use crate::args::output;
use crate::cluster::Cluster;
use crate::plan::{Family, Mode, TaskPlan, Time, nanos};
use crate::scheduler::clock;

impl Oracle {
    /// Judges a new status, or one given again.
    pub fn judge_status(
        &mut self,
        to: Option<u64>,
        status: &TaskStatus,
        family: Family,
        plan: &TaskPlan,
        now: Time,
    ) -> Result<(), (&'static str, String)> {
        let heir = self.heir(self.tasks.last().unwrap()[&status.id].audience);
        let gone = self.gone.clone();
        let clock_was_set = self.clock_was_set;
        let facts = self
            .now_tasks()
            .get_mut(&status.id)
            .expect("looked up before");
        if let Some(difference) = facts.differs_from(status) {
            return Err(("G1", format!("{difference}: {}", status.outcome)));
        }
        match facts.given {
            Given::Confirmed | Given::Answered => {
                return Err(("G1", "its status was confirmed and is given again".into()));
            }
            Given::Stored if !status.is_given_again() => {
                return Err(("G1", "a status of an earlier term is not marked".into()));
            }
            Given::Dropped => {
                return Err(("G1", "nobody was to be told, and yet its status is".into()));
            }
            Given::Nowhere if status.is_given_again() => {
                return Err(("G1", "its first status says that it is given again".into()));
            }
            Given::With(client) if !gone.contains(&client) || !status.is_given_again() => {
                return Err((
                    "G1",
                    format!(
                        "its status is given to {to:?} while client {client} has it, or is not marked"
                    ),
                ));
            }
            _ => {}
        }
        let callers = facts.audience == Audience::Caller && facts.given == Given::Nowhere;
        if !callers && facts.holder.is_none() {
            // It has ended since who is told has changed last.
            facts.holder = heir;
        }
        let right = match facts.holder {
            Some(Holder::Client(client)) => to == Some(client),
            Some(Holder::Next | Holder::Nobody) => false,
            None => callers && to.is_none(),
        };
        if !right {
            let text = format!("its status goes to {to:?}, not to {:?}", facts.holder);
            return Err(("G1", text));
        }
        facts.given = to.map_or(Given::Answered, Given::With);
        if facts.told.is_none() {
            facts.told = Some((now, status.outcome.clone()));
            facts.judge_outcome(status, family, plan, now)?;
            if !clock_was_set {
                facts.judge_runs(status, family)?;
            }
        }
        Ok(())
    }
}

impl Facts {
    /// Judges whether an ending is true.
    pub fn judge_outcome(
        &self,
        status: &TaskStatus,
        family: Family,
        plan: &TaskPlan,
        now: Time,
    ) -> Result<(), (&'static str, String)> {
        let quiet = family.loses_no_node();
        if self.must_be_cancelled && status.outcome != Outcome::Cancelled {
            return Err((
                "G12",
                format!(
                    "a cancel was said to have succeeded, and yet it {}",
                    status.outcome
                ),
            ));
        }
        if self.to_be_cancelled && matches!(status.outcome, Outcome::Failed(_)) {
            let text = format!("it was to be cancelled, and yet it {}", status.outcome);
            return Err(("G12", text));
        }
        match &status.outcome {
            Outcome::Completed(bytes) => {
                if !self
                    .completed
                    .iter()
                    .any(|dispatch| output(*dispatch) == *bytes)
                {
                    return Err((
                        "G1",
                        "it is said to have completed with what no run of it returned".into(),
                    ));
                }
                if quiet && status.attempts as usize != self.starts.len() {
                    return Err((
                        "G1",
                        format!(
                            "{} attempts are told, {} were made",
                            status.attempts,
                            self.starts.len()
                        ),
                    ));
                }
            }
            Outcome::Cancelled if self.cancel_asked => {}
            Outcome::Cancelled => {
                return Err(("G12", "it is cancelled, though nobody asked".into()));
            }
            Outcome::Failed(failure) => match failure.cause {
                Cause::Deadline => {
                    let due = plan
                        .deadline
                        .map(|deadline| self.accepted_at + nanos(deadline));
                    if due.is_none_or(|due| now < due) {
                        return Err(("G12", "its deadline has not passed".into()));
                    }
                }
                // What was sent to a worker counts as started: whether it was is not known of a
                // lost node.
                Cause::NodeLost if !quiet && status.reroutes > 0 => {}
                Cause::Permanent if plan.mode == Mode::Permanent => {}
                cause if self.failed_by.contains(&cause) => {}
                cause => {
                    return Err((
                        "G7",
                        format!("it is said to have failed by {cause}, which did not happen"),
                    ));
                }
            },
            other => return Err(("G1", format!("it was accepted, and yet: {other}"))),
        }
        Ok(())
    }
}

impl Cluster {
    /// Judges that each status that was given again in this term is counted as such.
    pub fn judge_given_again(&mut self) {
        let given = self.oracle.given_again;
        let counted = self.scheduler.machine.metrics(clock(self.now)).redelivered;
        if given != counted {
            let text = format!("{given} statuses were given again and {counted} are counted");
            self.oracle.fail("statuses", None, text);
        }
    }

    /// Returns whether nobody claimed the answer of a task, and the scheduler may not know of that
    /// yet.
    pub fn is_answer_under_way(&self, task: TaskId) -> bool {
        self.oracle
            .tasks
            .last()
            .and_then(|tasks| tasks.get(&task))
            .is_some_and(|facts| facts.given == Given::Unclaimed)
    }
}
