//! Looking for unfinished tasks, a bounded step at a time.
//!
//! Owns: how many are looked at in a step, and what is told of each. Does not know: who asks, or
//! what stands in args.

use super::SchedulerMachine;
use crate::engine::Timestamp;
#[cfg(feature = "dashboard")]
use crate::engine::meter::Pulse;
use crate::engine::tasks::{Phase, Task};
use crate::search::{FoundState, FoundTask, Search, Step, TaskFilter};
use crate::task::Priority;

/// How many tasks one step looks at. With 512 and a million pending, the p99 latency of a new task
/// was 2.5 times as high.
const LOOKS: usize = 64;

impl SchedulerMachine {
    /// Looks at some tasks in order of id, from the first one or after another, and returns those
    /// that a filter lets through as far as it does not look into args: at most so many.
    pub(crate) fn look_for(&self, now: Timestamp, search: &Search<'_>) -> Step {
        let mut step = Step::default();
        for slot in self.tasks.after(search.after) {
            let task = self.tasks.get(slot);
            step.looked += 1;
            if let Some(found) = self.found(now, search.filter, task) {
                let args = search.with_args.then(|| task.args.clone());
                step.tasks.push((found, args));
            }
            if step.looked >= LOOKS as u64 || step.tasks.len() >= search.limit {
                step.next = Some(task.id);
                break;
            }
        }
        step
    }

    /// Returns the numbers that a dashboard asks for each second.
    #[cfg(feature = "dashboard")]
    pub(crate) fn pulse(&self) -> Pulse {
        let nodes = self.roster.names.values();
        let up = nodes.map(|&node| self.roster.get(node));
        let up = up.filter(|node| node.is_up());
        let metered = self.catalogue.metered();
        let runs = metered.runs();
        let running = self.count_of(Phase::Running) as u64;
        Pulse {
            accepted: self.totals.executed,
            started: runs.count() + running,
            settled: self.totals.settled(),
            failed: self.totals.failed.values().sum(),
            due: (self.count_of(Phase::Queued) + self.count_of(Phase::Prefetched)) as u64,
            running,
            wait: metered.wait,
            runs,
            failed_of: self.catalogue.failed_by_kind(),
            up: up.map(|node| node.name.clone()).collect(),
        }
    }

    /// Returns what is told of a task of which all is true that is asked.
    fn found(&self, now: Timestamp, filter: &TaskFilter, task: &Task) -> Option<FoundTask> {
        let kind = self.catalogue.kind(task.class);
        if filter.kind.as_ref().is_some_and(|asked| asked != kind)
            || filter.key.is_some() && filter.key.as_ref() != task.key()
            || filter.group.is_some() && filter.group.as_ref() != task.group_name()
            || filter
                .older
                .is_some_and(|age| now.since(task.accepted_at) <= age)
        {
            return None;
        }
        let (state, runs) = match task.stage.phase() {
            Some(Phase::Later) => (FoundState::Later, false),
            Some(Phase::Backoff) => (FoundState::Backoff, false),
            Some(Phase::Held) => (FoundState::Held, false),
            Some(Phase::Prefetched) => (FoundState::Prefetched, false),
            Some(Phase::Running) => (FoundState::Running, true),
            Some(Phase::Queued | Phase::Unstored) | None => (FoundState::Due, false),
        };
        let attempts = task.failed_attempts.saturating_add(u32::from(runs));
        let node = task.stage.placed().map(|run| self.roster.get(run.node));
        if filter.state.is_some_and(|asked| asked != state)
            || filter.attempts.is_some_and(|over| attempts <= over)
            || filter
                .node
                .as_ref()
                .is_some_and(|asked| node.is_none_or(|node| *node.name != **asked))
        {
            return None;
        }
        Some(FoundTask {
            id: task.id,
            kind: kind.clone(),
            key: task.key().cloned(),
            group: task.group_name().cloned(),
            priority: Priority(task.priority),
            state,
            node: node.map(|node| node.name.clone()),
            accepted_at: self.wall_time(task.accepted_at),
            attempts,
            reroutes: u32::try_from(task.losses()).unwrap_or(u32::MAX),
            args_bytes: task.args.len() as u64,
            exclusive: task.is_exclusive(),
        })
    }
}
