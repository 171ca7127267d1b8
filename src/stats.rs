//! The snapshot that tests, dashboards and operators read.
//!
//! Owns: plain numbers and names. Does not know: how they are gathered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Refusal;
use crate::limit::Limit;
use crate::payload::Payload;
use crate::status::Cause;
use crate::task::{Dispatch, Labels, Options, TaskId, TaskKey, TaskKind};

/// The state of a scheduler at one moment. Serde can write it, for a dashboard, and read it:
///
/// ```
/// let stats = callboard::stats::Stats::default();
/// let text = serde_json::to_string(&stats).unwrap();
/// let again: callboard::stats::Stats = serde_json::from_str(&text).unwrap();
/// assert_eq!(again.pending, 0);
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// The scheduler's name.
    pub scheduler: Arc<str>,
    /// Tasks that are due and wait for a worker, those prefetched to a busy node among them.
    pub pending: usize,
    /// Tasks that wait for the time they were given.
    pub due_later: usize,
    /// Tasks that wait for their next attempt.
    pub waiting_retries: usize,
    /// Exclusive tasks that wait until an earlier run of theirs can no longer be going on.
    pub held: usize,
    /// How many of the pending tasks wait since their kind is paused, or all are.
    #[serde(default)]
    pub paused: usize,
    /// What operators have paused, and which intakes they have closed.
    #[serde(default)]
    pub pauses: Pauses,
    /// The limits of kinds, in order of kind.
    #[serde(default)]
    pub limits: Vec<LimitStats>,
    /// Tasks that run on a worker.
    pub running: usize,
    /// Bytes of args of all unsettled tasks.
    pub args_bytes: u64,
    /// Statuses that no client has confirmed yet.
    pub unconfirmed_statuses: usize,
    /// Bytes of args, outputs and messages of failures that these hold.
    pub unconfirmed_bytes: u64,
    /// How much room there is for more of them.
    #[serde(default)]
    pub status_room: StatusRoom,
    /// Who is told how tasks without a client of their own have ended.
    #[serde(default)]
    pub client: ClientState,
    /// Every node that was named or has joined, in order of name. A removed node is not among them,
    /// even while it finishes its runs. Of nodes that had joined and are gone, the last 1,024 at
    /// most are.
    pub nodes: Vec<NodeStats>,
    /// Counts since the start.
    pub totals: Totals,
    /// How often the scheduler has placed a batch of work.
    pub flushes: u64,
    /// How its store is; `None` if it has none.
    #[serde(default)]
    pub store: Option<StoreStats>,
}

/// How much metrics tell: see [`Scheduler::prometheus`](crate::Scheduler::prometheus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricsDetail {
    /// Nothing by node: as many series, however many nodes there are.
    #[default]
    Totals,
    /// Some of it also by node: the first 100 by name, all others together as `other`.
    PerNode,
}

/// What operators hold back in a [`Stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pauses {
    /// Whether all kinds are paused.
    pub all: bool,
    /// The kinds that are paused by name, in order: none of their tasks start.
    pub kinds: Vec<TaskKind>,
    /// The kinds of which no task is taken in, in order.
    pub closed: Vec<TaskKind>,
}

/// The limit of a kind in a [`Stats`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LimitStats {
    /// The kind.
    pub kind: TaskKind,
    /// What is allowed.
    pub limit: Limit,
    /// Tasks that nodes have, and runs that were given up and may still go on. After a limit was
    /// lowered it may be more than that.
    pub going: u32,
    /// Due tasks that wait since nothing is left of the limit; they are among `pending`.
    pub waiting: usize,
}

/// How the store of a scheduler is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreStats {
    /// Whether it takes what it is given.
    pub state: StoreState,
    /// Tasks that wait to be stored.
    pub unstored: usize,
    /// About how many bytes these take.
    pub unstored_bytes: u64,
    /// Batches that were stored since the start.
    pub batches: u64,
    /// The bytes of these.
    pub batch_bytes: u64,
    /// How large its file is, if that can be told.
    pub file_bytes: Option<u64>,
    /// How many bytes of it say what has happened to tasks; the rest is what is kept of those that
    /// have settled, and room to be used again.
    pub log_bytes: u64,
    /// How many bytes of these are needed still, by estimate: by tasks that have not settled, or
    /// whose ending nobody has handled.
    pub living_bytes: u64,
    /// When the last batch was stored.
    pub last_commit: Option<SystemTime>,
    /// How long that took.
    pub commit_time: Option<Duration>,
}

impl StoreStats {
    /// Returns the share of [`log_bytes`](Self::log_bytes) that is needed still, from 0 to 1; 1 if
    /// there are none. What is not needed goes by itself, at the latest when it is half, and more
    /// than 16 MiB.
    pub fn living_share(&self) -> f64 {
        match self.log_bytes {
            0 => 1.0,
            bytes => self.living_bytes as f64 / bytes as f64,
        }
    }
}

/// Whether a store takes what it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StoreState {
    /// The store takes all.
    #[default]
    Healthy,
    /// The store takes nothing now. Until it does, no task is accepted and no status is told; it is
    /// tried again each second. What runs goes on.
    Failing {
        /// Since when nothing can be stored.
        since: SystemTime,
        /// What is wrong, and what to do about it.
        reason: String,
    },
}

/// How much room there is for statuses that no client has confirmed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[non_exhaustive]
pub enum StatusRoom {
    /// Enough.
    #[default]
    Ample,
    /// No client is set, and at least a tenth of what may be held is.
    Low,
    /// None: nothing is placed or accepted but what a `run` or `execute_and_wait` waits for, before
    /// a client has handled some.
    None,
}

/// Who is told how tasks ended that have no client of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClientState {
    /// The next client: none is set, or the last is gone. Statuses are held for it.
    #[default]
    Awaited,
    /// A client that is there.
    Set,
    /// Nobody, as was asked for by [`no_client`](crate::SchedulerBuilder::no_client). Endings are
    /// only counted.
    Unwanted,
}

/// One node in a [`Stats`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeStats {
    /// The name.
    pub name: Arc<str>,
    /// What the scheduler believes of it.
    pub state: NodeState,
    /// Why it is not up, in a sentence; empty if it is.
    pub reason: String,
    /// Workers it may use at once.
    pub workers: u32,
    /// Tasks that run there.
    pub running: u32,
    /// Tasks prefetched to it that have not started.
    pub prefetched: u32,
    /// Workers taken by runs that were given up but go on, those for an earlier start of the
    /// scheduler among them, or by a handler that blocks its thread.
    pub taken: u32,
    /// The latest incarnation of its process; `None` if it was never up, or this one is known to
    /// have ended.
    pub incarnation: Option<u64>,
    /// How long a heartbeat of it took to be answered, by its own clock; `None` before it has told,
    /// and for a node of the scheduler's own process.
    #[serde(default)]
    pub round_trip: Option<Duration>,
    /// Whether that is more than a fifth of the lease. Then a short silence may lose the node, and
    /// a longer [`lease`](crate::SchedulerConfig::lease) is right. It is so until a round trip
    /// takes less than a tenth.
    #[serde(default)]
    pub slow_link: bool,
    /// When it was last heard; `None` if never. The scheduler's own node is always heard.
    pub last_heard: Option<SystemTime>,
    /// Tasks whose ending it has reported. A deadline, for example, ends a task without its node.
    pub settled: u64,
    /// Links under its name that were closed because it broke the protocol: a node may report only
    /// on what it was assigned. More than 0 is a fault, or an enemy; an honest node has none.
    pub violations: u64,
    /// The labels it bears.
    pub labels: Labels,
    /// The kinds it offers.
    pub kinds: Vec<TaskKind>,
}

/// What a scheduler believes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NodeState {
    /// Named, but never reached so far.
    Connecting,
    /// Reached, and given work.
    Up,
    /// Finishing what runs; given nothing new.
    Draining,
    /// The link is broken; the node keeps its tasks until its lease ends.
    Unreachable,
    /// The lease has ended, or the process is known to be dead: its tasks went elsewhere.
    Lost,
}

/// Counts since the start of a scheduler.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Tasks accepted.
    pub executed: u64,
    /// Tasks refused, by [`Refusal::cause`](crate::error::Refusal::cause). What was told to a
    /// client and what was only counted are both in it.
    #[serde(deserialize_with = "causes")]
    pub refused: BTreeMap<&'static str, u64>,
    /// Tasks that joined an earlier one by key.
    pub joined: u64,
    /// Tasks completed.
    pub completed: u64,
    /// Tasks failed, by cause.
    pub failed: BTreeMap<Cause, u64>,
    /// Tasks cancelled.
    pub cancelled: u64,
    /// Attempts that failed and were followed by another.
    pub retried: u64,
    /// Times that a task became pending again because its node was lost, refused it or was drained.
    pub rerouted: u64,
    /// Reports about superseded or unknown runs, which changed no task: at most a worker became
    /// free.
    pub stale_reports: u64,
    /// Messages that a node had no business to send, and frames of proved nodes that could not be
    /// read; each closed its link. Those of nodes whose name was not known yet are counted here
    /// alone.
    pub violations: u64,
    /// Statuses that nobody waited for any more (a dropped `run` or `execute_and_wait`) while no
    /// client was set, or no room was left for them.
    pub unclaimed: u64,
    /// Endings that were only counted, since nobody wants to be told ([`ClientState::Unwanted`]).
    #[serde(default)]
    pub untold: u64,
    /// Refusals that were only counted, since too many statuses of refusals were waiting, or nobody
    /// wants to be told.
    pub refusals_not_told: u64,
}

/// Reads counts by cause. Those of a later version are counted as `other`.
fn causes<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<&'static str, u64>, D::Error> {
    let mut causes = BTreeMap::new();
    for (cause, count) in BTreeMap::<String, u64>::deserialize(from)? {
        let known = Refusal::CAUSES.into_iter().find(|known| *known == cause);
        *causes.entry(known.unwrap_or("other")).or_default() += count;
    }
    Ok(causes)
}

impl Totals {
    /// Returns how many tasks have settled in any way.
    pub fn settled(&self) -> u64 {
        self.completed + self.cancelled + self.failed.values().sum::<u64>()
    }

    /// Returns how many tasks were refused for any cause.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// A task that is not settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unfinished {
    /// The task.
    pub id: TaskId,
    /// The caller's own name for it, if there is one.
    pub key: Option<TaskKey>,
    /// The kind.
    pub kind: TaskKind,
    /// The args.
    pub args: Payload,
    /// The options, as they were handed in. A delay is what is left of it.
    pub options: Options,
    /// Where it is.
    pub state: TaskState,
}

/// Where an unsettled task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskState {
    /// Waiting.
    Pending,
    /// Running, on this node.
    Running {
        /// The node.
        node: Arc<str>,
        /// The run's fencing number.
        dispatch: Dispatch,
    },
}

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The task.
    pub id: TaskId,
    /// What the task waits for, or what it does.
    pub reason: Reason,
    /// Attempts made so far.
    pub attempts: u32,
    /// Why the last attempt failed, if one did.
    pub last_failure: Option<String>,
    /// For a task that waits for a worker: what speaks against each node, in order of name, at most
    /// [`Explanation::MAX_NODES`] of them.
    pub nodes: Vec<(Arc<str>, String)>,
}

impl Explanation {
    /// The most nodes that are explained one by one.
    pub const MAX_NODES: usize = 100;
}

/// What an unsettled task waits for, or does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// The task is not stored yet.
    NotStored,
    /// The task waits for the time it was given.
    NotDue {
        /// The time that is left.
        remaining: Duration,
    },
    /// The task waits for its next attempt.
    Backoff {
        /// The time that is left.
        remaining: Duration,
    },
    /// Nodes that may run it are present, but all their workers are taken.
    NoFreeWorker,
    /// Nodes that may run it are present, but none has a worker: `max_workers` is 0 on each of
    /// them.
    NoWorkers,
    /// No present node may run it.
    NoSuchNode,
    /// The task has lost two nodes, and waits for a node with few enough such tasks, or none.
    Suspect,
    /// The task is exclusive, and an earlier run of it may still be going on.
    Exclusive {
        /// The node of that run.
        node: Arc<str>,
    },
    /// Nothing is placed but what callers wait for, since too many statuses wait for a client.
    ClientBehind,
    /// Nothing is started any more: the scheduler ends when what runs has ended.
    Ending,
    /// The task's kind is paused, or all are, until an operator resumes it.
    Paused,
    /// As many tasks of its kind go on as its [`Limit`] allows.
    AtLimit {
        /// How many that is.
        limit: u32,
    },
    /// As many tasks of its kind have started of late as the rate of its [`Limit`] allows.
    RateUsedUp {
        /// How long until the next may start.
        remaining: Duration,
    },
    /// As many of its group go on as the limit of its kind allows for each, or runs of such that
    /// were given up may still go on.
    GroupAtLimit {
        /// How many may go on at once.
        limit: u32,
    },
    /// As many of its group have started of late as the limit of its kind allows for each.
    GroupRateUsedUp {
        /// How long until the next may start.
        remaining: Duration,
    },
    /// The task was prefetched to this node and has not started.
    Prefetched {
        /// The node.
        node: Arc<str>,
    },
    /// The task runs on this node.
    Running {
        /// The node.
        node: Arc<str>,
        /// The run's fencing number.
        dispatch: Dispatch,
    },
}
