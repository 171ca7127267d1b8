//! G1: what a status says of its task's runs: where and when the last one started, how many were
//! made, and how many were lost.
//!
//! Owns: what was sent to nodes, and what they said of it. Does not know: whether a run may start.

use std::sync::Arc;
use std::time::SystemTime;

use callboard::__internals::engine::Event;
use callboard::__internals::engine::message::{Assignment, End, Report, ToScheduler};
use callboard::status::{TaskEvent, TaskEventKind, TaskStatus};
use callboard::task::{Dispatch, TaskId};
use callboard::trace::TraceParent;

use super::{Facts, Oracle};
use crate::cluster::Cluster;
use crate::plan::{Family, Time, nanos};
use crate::scheduler::clock;

/// What was sent to a node.
pub struct Placing {
    pub dispatch: Dispatch,
    node: Arc<str>,
    prefetched: bool,
    at: SystemTime,
    /// When its node told of a start while it was the latest.
    heard: Option<SystemTime>,
    /// When its node said that it had not started, while it was the latest.
    unstarted: Option<SystemTime>,
    /// Whether its node has said that it has nothing of it any more.
    over: bool,
    /// Whether an earlier term has sent it, which may not have been stored.
    before: bool,
}

/// Whether a run was made, as far as the scheduler could know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    No,
    Perhaps,
    Yes,
}

fn time(now: Time) -> SystemTime {
    clock(now).to_system_time()
}

impl Placing {
    fn sent_at(&self) -> Time {
        self.at.duration_since(time(0)).map_or(0, nanos)
    }
}

impl Cluster {
    /// Judges that a node is told the trace of each task that has one, and that only a first
    /// attempt is a part of it.
    pub fn judge_traces(&mut self, assignments: &[Assignment]) {
        for assignment in assignments {
            let facts = self.oracle.tasks.last();
            let facts = facts.and_then(|tasks| tasks.get(&assignment.task));
            let Some(facts) = facts else {
                continue;
            };
            let given = self.plan.tasks[facts.plan].trace();
            let told = assignment.terms.as_ref().and_then(|it| it.trace.as_ref());
            let is_child = matches!(told, Some(TraceParent::Child(_)));
            if told.map(TraceParent::context) != given.as_ref()
                || is_child && assignment.attempt > 1
            {
                let text = format!("its node is told {told:?}, and its trace is {given:?}");
                self.fail("trace", assignment.task, text);
            }
        }
    }
}

impl Facts {
    /// Returns when it was sent to a node last.
    pub fn last_placed(&self) -> Time {
        self.placings.last().map_or(0, Placing::sent_at)
    }

    /// Returns when a run of it was sent to its node.
    pub fn placed_at(&self, dispatch: Dispatch) -> Time {
        let mut placings = self.placings.iter();
        let placing = placings.find(|placing| placing.dispatch == dispatch);
        placing.map_or(0, Placing::sent_at)
    }

    /// Returns where it was sent last.
    pub fn last_node(&self) -> Option<&Arc<str>> {
        self.placings.last().map(|placing| &placing.node)
    }

    /// Returns where it was sent, each time.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.placings.iter().map(|placing| &placing.node)
    }

    /// Returns where a run of it was sent.
    pub fn node_of(&self, dispatch: Dispatch) -> Option<&Arc<str>> {
        let mut placings = self.placings.iter();
        let placing = placings.find(|placing| placing.dispatch == dispatch);
        placing.map(|placing| &placing.node)
    }

    /// Returns whether a node has it, as far as nodes have told.
    pub fn is_sent(&self) -> bool {
        self.placings.last().is_some_and(|placing| !placing.over)
    }

    /// Begins another term: what was placed is of one before.
    pub fn forget_term_of_runs(&mut self) {
        self.placings.iter_mut().for_each(|it| it.before = true);
    }

    fn made(&self, placing: &Placing, settled_at: SystemTime, told_in_order: bool) -> Made {
        let before = |at: Option<SystemTime>| at.is_some_and(|at| at <= settled_at);
        let mut starts = self.starts.iter();
        let true_start =
            starts.any(|start| start.dispatch == placing.dispatch && time(start.at) <= settled_at);
        let heard = before(placing.heard);
        match (placing.prefetched, true_start) {
            // A deadline that passes meanwhile may have come first, or not.
            _ if placing.unstarted == Some(settled_at) => Made::Perhaps,
            // What an earlier term was told of it may not have been stored.
            _ if placing.before && before(placing.unstarted) => Made::Perhaps,
            _ if before(placing.unstarted) => Made::No,
            (_, true) if placing.before => Made::Perhaps,
            (false, true) => Made::Yes,
            (true, true) if heard && told_in_order => Made::Yes,
            (true, false) if !heard => Made::No,
            _ => Made::Perhaps,
        }
    }

    /// Judges whether a status tells truly of the runs.
    pub fn judge_runs(
        &self,
        status: &TaskStatus,
        family: Family,
    ) -> Result<(), (&'static str, String)> {
        // Elsewhere a link may break with the news of a start on it.
        let told_in_order = family.has_no_faults();
        let made: Vec<_> = self
            .placings
            .iter()
            .map(|placing| self.made(placing, status.settled_at, told_in_order))
            .collect();
        self.judge_last_run(status, &made)?;
        let most = made.iter().filter(|made| **made != Made::No).count();
        let least = made.iter().filter(|made| **made == Made::Yes).count();
        let attempts = status.attempts as usize;
        if attempts > most || (told_in_order && attempts < least) {
            let text = format!("{attempts} attempts are told, {least} to {most} were made");
            return Err(("G1", text));
        }
        // The run that completed was not lost.
        let lost = self.placings.len() - usize::from(status.outcome.is_completed());
        // That it was placed may have been stored before it was sent.
        let lost = lost + self.restarts;
        if status.reroutes as usize > lost {
            let text = format!(
                "{} nodes are said to have been lost under it, and {lost} runs of it can have been",
                status.reroutes
            );
            return Err(("G7", text));
        }
        Ok(())
    }

    fn judge_last_run(
        &self,
        status: &TaskStatus,
        made: &[Made],
    ) -> Result<(), (&'static str, String)> {
        // Of what had ended before this term only the number of attempts is known.
        let known = !self.placings.iter().any(|placing| placing.before);
        if status.node.is_some() != status.started_at.is_some()
            || (status.attempts > 0 && status.node.is_none() && known)
        {
            let text = format!(
                "its node is {:?}, its start {:?}, and it has made {} attempts",
                status.node, status.started_at, status.attempts
            );
            return Err(("G1", text));
        }
        // When it started is known no closer than that it was in an earlier term.
        let told_before =
            |placing: &Placing| placing.before && status.node.as_ref() == Some(&placing.node);
        let mut next = status.settled_at;
        for (placing, made) in self.placings.iter().zip(made).rev() {
            let told_here = status.node.as_ref() == Some(&placing.node)
                && status
                    .started_at
                    .is_some_and(|at| (placing.at..=next).contains(&at));
            match made {
                Made::Yes | Made::Perhaps if told_here => return Ok(()),
                Made::Perhaps if told_before(placing) => return Ok(()),
                Made::Yes => {
                    let text = format!(
                        "its last run was {} on {}, and its status says {:?} at {:?}",
                        placing.dispatch, placing.node, status.node, status.started_at
                    );
                    return Err(("G1", text));
                }
                Made::Perhaps | Made::No => {}
            }
            next = placing.at;
        }
        if status.node.is_none() {
            return Ok(());
        }
        let text = format!(
            "it is said to have run on {:?}, where it never did",
            status.node
        );
        Err(("G1", text))
    }
}

impl Oracle {
    pub fn placed(&mut self, now: Time, node: &Arc<str>, assignments: &[Assignment]) {
        for run in assignments {
            self.judge_number(run);
            let Some(facts) = self.now_tasks().get_mut(&run.task) else {
                continue;
            };
            facts.rerouted = false;
            facts.placings.push(Placing {
                dispatch: run.dispatch,
                node: node.clone(),
                prefetched: run.prefetched,
                at: time(now),
                heard: None,
                unstarted: None,
                over: false,
                before: false,
            });
            self.sent.placed(now, node);
        }
    }

    /// Takes in what nodes say of the latest runs.
    pub fn hear_of_runs(&mut self, now: Time, event: &Event) {
        let Event::Message { link, message } = event else {
            return;
        };
        // What comes on a link that the scheduler has closed is not read.
        if self.closed.contains(link) {
            return;
        }
        let reports = match message {
            ToScheduler::Reports(reports) => reports,
            ToScheduler::Holding(holding) => &holding.reports,
            _ => return,
        };
        for report in reports {
            self.refusals += u64::from(matches!(report, Report::Refused { .. }));
            let (task, dispatch, started) = match report {
                Report::Started { task, dispatch } => (task, dispatch, true),
                Report::Ended {
                    task,
                    dispatch,
                    end,
                    ran,
                    overrun,
                    ..
                } => {
                    let gave_up = matches!(end, End::Stopped | End::Dropped);
                    (task, dispatch, !gave_up || *overrun || !ran.is_zero())
                }
                Report::Refused { task, dispatch, .. }
                | Report::Returned { task, dispatch, .. } => (task, dispatch, false),
                _ => continue,
            };
            let over = !matches!(report, Report::Started { .. });
            self.hear_of_run(now, *task, *dispatch, started, over);
        }
    }

    fn hear_of_run(
        &mut self,
        now: Time,
        task: TaskId,
        dispatch: Dispatch,
        started: bool,
        over: bool,
    ) {
        let facts = self.tasks.last_mut().and_then(|tasks| tasks.get_mut(&task));
        let latest = facts.and_then(|facts| facts.placings.last_mut());
        let Some(placing) = latest.filter(|placing| placing.dispatch == dispatch) else {
            return;
        };
        let noted = if started {
            &mut placing.heard
        } else {
            &mut placing.unstarted
        };
        noted.get_or_insert(time(now));
        if over && !std::mem::replace(&mut placing.over, true) {
            self.sent.over(now, &placing.node);
        }
    }
}

impl Cluster {
    /// Judges that a run is rerouted once: another must have begun, or the lost one have come back,
    /// before the next time.
    pub fn judge_event(&mut self, event: &TaskEvent) {
        if !matches!(event.event, TaskEventKind::Rerouted { .. }) {
            return;
        }
        let facts = self.oracle.now_tasks().get_mut(&event.id);
        if facts.is_some_and(|facts| std::mem::replace(&mut facts.rerouted, true)) {
            self.fail("G8", event.id, "one loss of it is told twice".into());
        }
    }

    /// Lets tasks be rerouted again: what a node that came back holds is taken back, and may be
    /// lost once more.
    pub fn may_be_rerouted_again(&mut self) {
        for facts in self.oracle.now_tasks().values_mut() {
            facts.rerouted = false;
        }
    }

    /// Judges that no node is credited with an ending that it did not report.
    pub fn judge_settled(&mut self) {
        let stats = self.stats();
        let by_scheduler = |cause: &callboard::status::Cause| {
            use callboard::status::Cause;
            matches!(cause, Cause::Deadline | Cause::NodeLost)
        };
        let failed = stats.totals.failed.iter();
        let failed: u64 = failed
            .filter(|(cause, _)| !by_scheduler(cause))
            .map(|(_, count)| count)
            .sum();
        let most = stats.totals.completed + failed + stats.totals.cancelled;
        let told: u64 = stats.nodes.iter().map(|node| node.settled).sum();
        if told > most {
            let text = format!("nodes are said to have settled {told} tasks, not {most} at most");
            self.oracle.fail("G1", None, text);
        }
    }
}
