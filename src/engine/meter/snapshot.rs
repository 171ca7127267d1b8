//! What the machine of a scheduler tells of itself, to be measured.
//!
//! Owns: plain numbers. Does not know: how they are gathered, or how they are written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Histogram, KindMeter};

/// All unsettled tasks by where they are: each is in one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    /// Tasks that wait to be stored before they are accepted.
    pub unstored: usize,
    /// Tasks that are due, and wait for nothing but a worker.
    pub due: usize,
    /// Tasks that wait for the time they were given.
    pub later: usize,
    /// Tasks that wait for their next attempt.
    pub backoff: usize,
    /// Exclusive tasks that wait until an earlier run can no longer be going on.
    pub held: usize,
    /// Due tasks that wait for a limit of their kind or group.
    pub limited: usize,
    /// Due tasks that wait for an operator.
    pub paused: usize,
    /// Tasks that were prefetched to a busy node.
    pub prefetched: usize,
    /// Tasks that run.
    pub running: usize,
}

impl StateCounts {
    /// Returns each state by its name.
    pub fn all(&self) -> [(&'static str, usize); 9] {
        [
            ("unstored", self.unstored),
            ("due", self.due),
            ("later", self.later),
            ("backoff", self.backoff),
            ("held", self.held),
            ("limited", self.limited),
            ("paused", self.paused),
            ("prefetched", self.prefetched),
            ("running", self.running),
        ]
    }

    /// Counts all unsettled tasks.
    pub fn sum(&self) -> usize {
        self.all().into_iter().map(|(_, count)| count).sum()
    }
}

/// What is known of a kind, or of all that are not counted by name.
#[derive(Clone, Debug, Default)]
pub struct KindMetrics {
    /// The counters.
    pub counts: KindMeter,
    /// Due tasks that do not run, for whatever reason.
    pub pending: usize,
    /// How many of these there are of each priority.
    pub by_priority: BTreeMap<i8, usize>,
    /// Tasks that run.
    pub running: usize,
    /// How long the oldest task has been due that waits for a worker alone; zero if none does.
    pub oldest_due: Duration,
    /// How long the oldest run goes on; zero if none does.
    pub oldest_running: Duration,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MachineMetrics {
    /// All unsettled tasks by state.
    pub states: StateCounts,
    /// The kinds that are counted by name, after all others as one.
    pub kinds: Vec<KindMetrics>,
    /// How many workers could work now.
    pub wanted_workers: usize,
    /// Tasks that became pending again, by why.
    pub reroutes: BTreeMap<&'static str, u64>,
    /// From when a lost node was heard last to when its tasks were pending again.
    pub reroute: Histogram,
    /// Links of nodes that were lost, by why.
    pub links_lost: BTreeMap<&'static str, u64>,
    /// How long heartbeats took to be answered.
    pub round_trip: Histogram,
    /// Statuses that were handed to clients, and those among them that had been before.
    pub delivered: u64,
    /// Statuses that were handed out once more.
    pub redelivered: u64,
    /// How often nothing could be stored.
    pub store_errors: u64,
}
