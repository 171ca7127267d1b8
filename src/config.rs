//! Every knob: meaning, default, range, and what too high or too low does.
//!
//! Owns: the values and their validation. Does not know: how they are set or used.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::ConfigError;
use crate::limit::Limit;
use crate::retry::RetryPolicy;
use crate::task::TaskKind;
use crate::trace::TraceMode;

/// The settings of a scheduler. Each has a default that suits a small cluster on a local network.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// How failed attempts are retried, unless a task says otherwise.
    pub retry: RetryPolicy,
    /// How attempts relate to the trace context of their task, unless the task says otherwise; see
    /// [`TraceMode`].
    pub trace_mode: TraceMode,
    /// How many nodes may be lost under a task before it fails. Default 5, from 0. Too low: an
    /// unlucky task fails in a rolling restart by kill; too high: a task that kills its node costs
    /// more nodes. A loss that it shares with other tasks under which two nodes were lost does not
    /// count: such a loss halves their number at one node, until the one that kills is alone.
    pub max_reroutes: u32,
    /// How many tasks may be unsettled. Default 4,000,000, from 1 to 4,294,967,294. A pending task
    /// with args of 9 bytes takes about 117 bytes of heap.
    pub max_tasks: usize,
    /// How many bytes the args of unsettled tasks may take. Default 1 GiB, from 1.
    pub max_args_bytes: u64,
    /// How large the args of one task may be, in bytes. At most `max_frame` less 64 KiB, which is
    /// the default too, but never more than 16 MiB less 64 KiB.
    pub max_task_args: usize,
    /// How many statuses may wait for clients. Default 100,000, from 1. At the limit nothing new is
    /// placed and `Execute` is refused, so too low a limit idles workers when a client is slow.
    /// What a `run` or `execute_and_wait` waits for is not held, and goes on.
    pub max_statuses: usize,
    /// How many bytes of args, outputs and messages of failures the statuses that wait for clients
    /// may hold. Default 1 GiB, from 1. At the limit the same holds as for `max_statuses`; the
    /// outputs of what runs already may go beyond it.
    pub max_status_bytes: u64,
    /// How many statuses may be with one client at once, unconfirmed. Default 4096, from 1. Low
    /// values cost a round trip to the client more often; high ones fill its mailbox.
    pub status_window: usize,
    /// The largest number of tasks prefetched to one node beside its free workers. Default 4096,
    /// from 0 to 65,536, which is what a node takes; 0 turns prefetching off, and every task then
    /// waits for a round trip. What is prefetched may start out of turn, within a bound of round
    /// trips and runs; see G6 in [the guarantees](crate::guide::guarantees).
    pub max_prefetch: u32,
    /// How often a node proves that it lives. Default 2 s, from 10 ms, at most a fifth of `lease`.
    pub heartbeat: Duration,
    /// How long a proof of life holds. Default 15 s, from five heartbeats to a day. Short: a loaded
    /// or distant node is thought lost; long: the tasks of a silent machine wait that long for
    /// another. A WARN tells of a link on which a round trip takes more than a fifth of it.
    pub lease: Duration,
    /// The largest frame on a link, in bytes. Default 16 MiB, 128 KiB to 1 GiB. Bounds args and
    /// outputs: an output that is larger, less 64 KiB, fails its task. A node whose own `max_frame`
    /// is smaller than `max_task_args` and 64 KiB is refused.
    pub max_frame: usize,
    /// Whether to refuse a task whose kind no known node offers. A node that is away is still
    /// known. Default `false`: the task waits, and its watcher is told.
    pub refuse_unknown_kinds: bool,
    /// How many tasks of a kind may go on at once and how often one may start, by kind. Default: no
    /// limits. What [`set_limit`](crate::Scheduler::set_limit) has set goes before it, also in an
    /// earlier start, if there is a store.
    pub limits: BTreeMap<TaskKind, Limit>,
    /// Whether nodes that are not listed may join. Set by listening.
    pub accept_joins: bool,
    /// How long a node goes on, after its lease has ended, with what is not exclusive: so long may
    /// a scheduler be away, beyond the lease, before what its nodes run is given up. At most a day.
    /// By default a minute with a store, and 0 without one, since a scheduler that is started again
    /// without a store follows nothing. Long: after a cut of a scheduler that lives, a run that was
    /// replaced goes on for so much longer, and a key and the answer of a cancel may wait for it.
    pub outlive: Option<Duration>,
    /// How many bytes of tasks may wait to be stored. Default 64 MiB, from 1. At the limit
    /// `Execute` is refused until the store has caught up. Without a store it means nothing.
    pub max_unstored_bytes: u64,
    /// Whether a status is told before its ending is stored. Default `false`. `true` spares it a
    /// commit, which takes place within 20 ms, together with others; then a task whose ending was
    /// told may run again, and end otherwise, if the scheduler's process dies before. Without a
    /// store it means nothing.
    pub tell_at_once: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            trace_mode: TraceMode::default(),
            max_reroutes: 5,
            max_tasks: 4_000_000,
            max_args_bytes: 1 << 30,
            max_task_args: DEFAULT_MAX_FRAME - FRAME_OVERHEAD,
            max_statuses: 100_000,
            max_status_bytes: 1 << 30,
            status_window: 4096,
            max_prefetch: 4096,
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(15),
            max_frame: DEFAULT_MAX_FRAME,
            refuse_unknown_kinds: false,
            limits: BTreeMap::new(),
            accept_joins: false,
            outlive: None,
            max_unstored_bytes: 64 << 20,
            tell_at_once: false,
        }
    }
}

/// The default of `max_frame`: 16 MiB.
pub const DEFAULT_MAX_FRAME: usize = 16 << 20;

/// The largest `max_frame`: 1 GiB.
pub const MAX_FRAME: usize = 1 << 30;

/// What a frame may hold beside the largest args or output: 64 KiB.
pub const FRAME_OVERHEAD: usize = 64 << 10;

impl SchedulerConfig {
    /// The longest lease, a day: a node takes none that is longer, since it may wait for two.
    pub const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);

    /// The most tasks that a node lets wait for a worker: what is prefetched beyond it is refused.
    pub const MAX_PREFETCH: u32 = 65_536;

    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("max_tasks", self.max_tasks)?;
        check(
            "max_tasks",
            u32::try_from(self.max_tasks).is_ok_and(|tasks| tasks < u32::MAX),
            "must be below 4,294,967,295",
        )?;
        at_least_one("max_args_bytes", self.max_args_bytes)?;
        at_least_one("max_statuses", self.max_statuses)?;
        at_least_one("max_status_bytes", self.max_status_bytes)?;
        at_least_one("status_window", self.status_window)?;
        check(
            "max_prefetch",
            self.max_prefetch <= Self::MAX_PREFETCH,
            "must be at most 65,536",
        )?;
        check(
            "heartbeat",
            self.heartbeat >= Duration::from_millis(10),
            "must be at least 10 ms",
        )?;
        check(
            "lease",
            self.lease >= self.heartbeat.saturating_mul(5),
            "must be at least five heartbeats",
        )?;
        check(
            "lease",
            self.lease <= Self::MAX_LEASE,
            "must be at most a day",
        )?;
        at_least_one("max_unstored_bytes", self.max_unstored_bytes)?;
        check(
            "outlive",
            self.outlive.unwrap_or_default() <= Self::MAX_LEASE,
            "must be at most a day",
        )?;
        check(
            "max_frame",
            (128 << 10..=MAX_FRAME).contains(&self.max_frame),
            "must be from 128 KiB to 1 GiB",
        )?;
        check(
            "max_task_args",
            self.max_task_args <= self.max_frame.saturating_sub(FRAME_OVERHEAD),
            "must leave 64 KiB of `max_frame` for the rest of a frame",
        )?;
        let mut limits = self.limits.iter();
        let ok = limits.all(|(kind, limit)| kind.is_usable() && limit.check().is_ok());
        check(
            "limits",
            ok,
            "must name kinds, and have limits whose numbers are at least 1",
        )
    }
}

/// The settings of a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// How many tasks may run at once. Default: one per core. From 0 to 1,000,000; 0 takes nothing.
    pub max_workers: u32,
    /// How many bytes of results may wait for the scheduler's acknowledgement. From 1, default 64
    /// MiB. When it is full, which takes a broken or slow link or a budget of less than 64 KiB, the
    /// node asks the scheduler to acknowledge what it took, and starts nothing new until then.
    pub max_kept_bytes: u64,
    /// The largest output of a task, in bytes. Default 16 MiB less 64 KiB, from 0 to 1 GiB less 64
    /// KiB. A larger one fails its attempt. For a node in another process it is at most `max_frame`
    /// of its links less 64 KiB, and an output that is larger than that of the scheduler fails the
    /// task.
    pub max_output: usize,
    /// How many threads run async handlers. Default: one per core. From 1 to 1024.
    pub threads: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            max_workers: u32::try_from(cores).unwrap_or(u32::MAX),
            max_kept_bytes: 64 << 20,
            max_output: DEFAULT_MAX_FRAME - FRAME_OVERHEAD,
            threads: cores,
        }
    }
}

/// The shortest time that a dial and its proof get, however short the heartbeat is.
pub(crate) const MIN_HANDSHAKE: Duration = Duration::from_secs(1);

impl NodeConfig {
    /// The most workers that a node may have.
    pub const MAX_WORKERS: u32 = 1_000_000;

    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(
            "max_workers",
            self.max_workers <= Self::MAX_WORKERS,
            "must be at most 1,000,000",
        )?;
        at_least_one("max_kept_bytes", self.max_kept_bytes)?;
        check(
            "max_output",
            self.max_output <= MAX_FRAME - FRAME_OVERHEAD,
            "must be at most 1 GiB less 64 KiB",
        )?;
        check(
            "threads",
            (1..=1024).contains(&self.threads),
            "must be from 1 to 1024",
        )
    }
}

fn at_least_one<N: Default + PartialEq>(
    setting: &'static str,
    value: N,
) -> Result<(), ConfigError> {
    check(setting, value != N::default(), "must be at least 1")
}

fn check(setting: &'static str, holds: bool, reason: &str) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError {
            setting,
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SchedulerConfig;

    #[test]
    fn no_more_is_sent_ahead_than_a_node_takes() {
        let with = |max_prefetch| SchedulerConfig {
            max_prefetch,
            ..SchedulerConfig::default()
        };
        assert!(with(SchedulerConfig::MAX_PREFETCH).validate().is_ok());
        let refused = with(SchedulerConfig::MAX_PREFETCH + 1).validate();
        assert_eq!(refused.unwrap_err().setting, "max_prefetch");
    }
}
