//! What is measured: when an attempt begins or ends, and the snapshot of it all.
//!
//! Owns: what is counted of the scheduler as a whole, and which moments a time is taken between.
//! Does not know: how tasks and runs get where they are, or how the snapshot is written.
//!
//! The counters of kinds are in the catalogue, and what a turn takes only its driver knows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SchedulerMachine;
use crate::engine::Timestamp;
use crate::engine::meter::{
    AttemptResult, Histogram, KindMetrics, MachineMetrics, StateCounts, ending_of, nanos,
};
use crate::engine::placement::NodeIndex;
use crate::engine::ranks::due_at;
use crate::engine::tasks::{Past, Phase, Retract, Run, Slot, Stage, Task};
use crate::status::{Cause, Failure};
use crate::trail::PastAttempt;

/// Why a link that was up is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// Either side has closed it, or the network has.
    Closed,
    /// The node has another one.
    Replaced,
    /// Its node was lost: nothing came on it for too long, or another process has taken its place.
    Lost,
}

/// What is counted of the scheduler as a whole.
#[derive(Debug, Default)]
pub(super) struct Meter {
    reroutes: BTreeMap<&'static str, u64>,
    reroute: Histogram,
    links_lost: BTreeMap<&'static str, u64>,
    pub round_trip: Histogram,
    pub store_errors: u64,
}

impl Meter {
    /// Counts a task that is pending again for no fault of its own.
    pub fn rerouted(&mut self, why: &'static str) {
        *self.reroutes.entry(why).or_default() += 1;
    }

    /// Counts a task that was asked back and has come.
    pub fn came_back(&mut self) {
        self.rerouted("retracted");
    }

    pub fn link_ended(&mut self, end: LinkEnd) {
        let why = match end {
            LinkEnd::Closed => "closed",
            LinkEnd::Replaced => "replaced",
            LinkEnd::Lost => "node_lost",
        };
        *self.links_lost.entry(why).or_default() += 1;
    }
}

/// Returns for how many nanoseconds a task had been due when an attempt began, if that was its
/// first, before the task is told that it has. That is counted when the attempt ends, in one look
/// at the task; until then the snapshot looks at what runs.
#[inline(always)]
pub(super) fn first_wait(task: &Task, began: Timestamp) -> Option<u64> {
    (task.past == Past::Fresh).then(|| began.0.saturating_sub(due_at(task.rank).0))
}

impl SchedulerMachine {
    /// Counts for how long a task had waited whose first attempt, as far as was known, has not
    /// begun after all. It is not counted again.
    pub(super) fn note_wait(&mut self, slot: Slot, run: Run) {
        if run.started {
            self.count_wait(slot, run.since);
        }
    }

    pub(super) fn count_wait(&mut self, slot: Slot, began: Timestamp) {
        let task = self.tasks.get_mut(slot);
        let wait = first_wait(task, began);
        task.past = task.past.max(Past::Sent);
        self.catalogue.meter(task.class).waited(wait);
    }

    /// Looks now and then which kinds are counted by name, if there are many.
    #[inline]
    pub(super) fn review_meters(&mut self, now: Timestamp) {
        if self.catalogue.is_review_due(now) {
            // What runs counts as the kind's from the start, and must not leave its counter.
            for node in 0..self.roster.nodes.len() {
                let runs: Vec<_> = self.tasks.walk(&self.roster.nodes[node].runs).collect();
                for slot in runs {
                    if let Some(run) = self.tasks.get(slot).stage.placed()
                        && !self.is_staged(run.dispatch)
                    {
                        self.note_wait(slot, run);
                    }
                }
            }
            self.catalogue.review_meters();
        }
    }

    /// Counts an attempt of which nobody waits for the end any more, if it has begun.
    pub(super) fn attempt_given_up(&mut self, slot: Slot, run: Run, result: AttemptResult) {
        if run.started {
            self.note_wait(slot, run);
            let ran = self.now.since(run.since);
            if result == AttemptResult::Lost {
                self.remember_attempt(slot, run, ran, &Failure::new(Cause::NodeLost, ""));
            }
            let class = self.tasks.get(slot).class;
            self.catalogue
                .meter(class)
                .attempt_ended(result, nanos(ran));
        }
    }

    /// Adds an attempt that failed or was lost to the trail of its task.
    pub(super) fn remember_attempt(
        &mut self,
        slot: Slot,
        run: Run,
        ran: Duration,
        failure: &Failure,
    ) {
        let attempt = PastAttempt {
            node: self.roster.get(run.node).name.clone(),
            dispatch: run.dispatch,
            started_at: self.wall_time(run.since),
            ran,
            cause: failure.cause,
            message: failure.message.clone(),
        };
        self.trails.attempt(self.tasks.get(slot).id, attempt);
    }

    /// Measures how long it took until a task of a lost node was pending again, from when the node
    /// was heard last. What waits for the end of a run is not.
    pub(super) fn note_reroute(&mut self, now: Timestamp, node: NodeIndex, slot: Slot) {
        if matches!(self.tasks.get(slot).stage, Stage::Queued { .. }) {
            let entry = self.roster.get(node);
            let heard = if entry.is_local() {
                now
            } else {
                entry.last_heard
            };
            self.meter.reroute.add(now.since(heard));
        }
    }

    /// Returns all that is measured, but for what is in the [stats](Self::stats).
    pub fn metrics(&self, now: Timestamp) -> MachineMetrics {
        MachineMetrics {
            states: self.state_counts(),
            kinds: self.kind_metrics(now),
            wanted_workers: self.wanted_workers(),
            reroutes: self.meter.reroutes.clone(),
            reroute: self.meter.reroute.clone(),
            links_lost: self.meter.links_lost.clone(),
            round_trip: self.meter.round_trip.clone(),
            delivered: self.outbox.delivered,
            redelivered: self.outbox.redelivered,
            store_errors: self.meter.store_errors,
        }
    }

    fn state_counts(&self) -> StateCounts {
        let (paused, limited) = (self.catalogue.resting(), self.catalogue.limited());
        StateCounts {
            unstored: self.count_of(Phase::Unstored),
            due: self.count_of(Phase::Queued) - paused - limited,
            later: self.count_of(Phase::Later),
            backoff: self.count_of(Phase::Backoff),
            held: self.count_of(Phase::Held),
            limited,
            paused,
            prefetched: self.count_of(Phase::Prefetched),
            running: self.count_of(Phase::Running),
        }
    }

    fn kind_metrics(&self, now: Timestamp) -> Vec<KindMetrics> {
        let mut kinds = self.catalogue.kind_metrics(&self.tasks, now);
        for node in &self.roster.nodes {
            for slot in self.tasks.walk(&node.runs) {
                let task = self.tasks.get(slot);
                let of = &mut kinds[self.catalogue.meter_id(task.class)];
                of.running += 1;
                if let Stage::Running {
                    since, dispatch, ..
                } = task.stage
                {
                    of.oldest_running = of.oldest_running.max(now.since(since));
                    // What is not sent may still be sent later, or elsewhere.
                    if !self.is_staged(dispatch) {
                        of.counts.waited(first_wait(task, since));
                    }
                }
            }
            for slot in node.line.walk(&self.tasks) {
                let task = self.tasks.get(slot);
                let of = &mut kinds[self.catalogue.meter_id(task.class)];
                of.pending += 1;
                *of.by_priority.entry(task.priority).or_default() += 1;
                let held_back = matches!(
                    task.stage.retracting(),
                    Some(Retract::Paused | Retract::OverLimit)
                );
                if !held_back && !self.catalogue.is_paused(task.class) {
                    of.oldest_due = of.oldest_due.max(now.since(due_at(task.rank)));
                }
            }
        }
        kinds
    }

    /// Counts the workers that are taken, and those that what waits for a worker could use.
    fn wanted_workers(&self) -> usize {
        let nodes = self.roster.nodes.iter();
        let orphaned: usize = nodes.map(|node| node.orphan_count()).sum();
        let placed = self.count_of(Phase::Running) + self.count_of(Phase::Prefetched);
        placed + orphaned + self.catalogue.startable()
    }

    /// Checks that what is counted agrees with what there is.
    pub(super) fn check_meter(&self) -> Result<(), String> {
        let sum = self.catalogue.metered();
        let states = self.state_counts();
        let unfinished = (self.tasks.len() - states.unstored) as u64;
        let settled = sum.settle.count();
        let begun = sum.accepted + sum.recovered;
        let placed = (states.prefetched + states.running) as u64;
        let at_nodes = self.roster.nodes.iter().map(|node| {
            let tally = node.load.tally();
            u64::from(tally.running + tally.prefetched)
        });
        let checks = [
            (
                "tasks by state",
                states.sum() as u64,
                self.tasks.len() as u64,
            ),
            ("accepted tasks", begun, settled + unfinished),
            (
                "tasks handed in",
                self.totals.executed,
                sum.accepted + states.unstored as u64,
            ),
            ("settled tasks", settled, self.totals.settled()),
            ("retries", sum.retried, self.totals.retried),
            ("tasks at nodes", placed, at_nodes.sum()),
            (
                "reroutes",
                self.totals.rerouted,
                self.meter.reroutes.values().sum::<u64>()
                    - self.meter.reroutes.get("retracted").copied().unwrap_or(0),
            ),
        ];
        for (what, one, other) in checks {
            if one != other {
                return Err(format!("{what} are miscounted: {one} and {other}"));
            }
        }
        for (name, count) in sum.endings() {
            let failed = self.totals.failed.iter();
            let told = match name {
                "completed" => self.totals.completed,
                "cancelled" => self.totals.cancelled,
                _ => failed
                    .filter(|(cause, _)| ending_of(**cause) == name)
                    .map(|(_, count)| *count)
                    .sum(),
            };
            if count != told {
                return Err(format!("{count} tasks are {name}, {told} are counted"));
            }
        }
        let completed = sum
            .attempts()
            .find(|(result, _)| *result == AttemptResult::Ok);
        if completed.is_none_or(|(_, times)| times.count() != self.totals.completed) {
            return Err("the attempts that succeeded are miscounted".to_owned());
        }
        if sum.wait.count() > begun {
            return Err("more tasks have waited than there were".to_owned());
        }
        Ok(())
    }
}
