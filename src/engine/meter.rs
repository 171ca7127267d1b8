//! What is counted so that it can be measured: histograms of times, and what is counted of a kind.
//!
//! Owns: the buckets, and the counters of one kind. Does not know: which kind has counters of its
//! own (see `kinds`), when anything happens, and how it is told.
//!
//! All of it is whole numbers to which is added. To find the bucket of a time takes one look into a
//! table and one comparison, since no two bounds are within one power of two.

use std::time::Duration;

use crate::status::{Cause, Outcome};
use crate::task::TaskKind;

mod kinds;
#[cfg(feature = "dashboard")]
mod pulse;
mod snapshot;

pub(crate) use kinds::{KindMeters, MeterId, NAMED, OTHER, OTHER_NAME};
#[cfg(feature = "dashboard")]
pub use pulse::Pulse;
pub use snapshot::{KindMetrics, MachineMetrics, StateCounts};

/// The upper bounds of the buckets, in nanoseconds: from 0.1 ms to an hour.
pub const BOUNDS: [u64; 21] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    900_000_000_000,
    3_600_000_000_000,
];

/// The buckets, the last of which has no bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// By the position of the highest bit of a time: the first bucket in which it may be, and the bound
/// of that.
const FIRST: [(u64, usize); 64] = {
    let mut first = [(u64::MAX, 0); 64];
    let mut bit = 0;
    while bit < 64 {
        let mut at = 0;
        while at < BOUNDS.len() && BOUNDS[at] < 1 << bit {
            at += 1;
        }
        let bound = if at < BOUNDS.len() {
            BOUNDS[at]
        } else {
            u64::MAX
        };
        first[bit] = (bound, at);
        bit += 1;
    }
    first
};

const _: () = {
    let mut at = 1;
    while at < BOUNDS.len() {
        assert!(BOUNDS[at - 1].ilog2() < BOUNDS[at].ilog2());
        at += 1;
    }
};

/// How many times fell into each bucket, and their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    /// In nanoseconds.
    sum: u128,
}

impl Histogram {
    /// Adds a time.
    #[inline]
    pub fn add(&mut self, time: Duration) {
        self.add_nanos(nanos(time));
    }

    /// Adds a time of so many nanoseconds.
    #[inline(always)]
    pub fn add_nanos(&mut self, nanos: u64) {
        let (bound, first) = FIRST[(nanos | 1).ilog2() as usize];
        self.buckets[first + usize::from(nanos > bound)] += 1;
        self.sum += u128::from(nanos);
    }

    /// Adds all that another one has.
    pub fn absorb(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(other.buckets) {
            *own += more;
        }
        self.sum += other.sum;
    }

    /// Returns what was added since another state of the same histogram.
    #[cfg(feature = "dashboard")]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (own, before) in since.buckets.iter_mut().zip(earlier.buckets) {
            *own = own.saturating_sub(before);
        }
        since.sum = since.sum.saturating_sub(earlier.sum);
        since
    }

    /// Returns the bound, in nanoseconds, below which so many of a hundred times are;
    /// [`u64::MAX`] if no bound is above them, and `None` if no time was added.
    #[cfg(feature = "dashboard")]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let mut bounds = self.cumulative();
        let bound = bounds.find(|(_, below)| below * 100 >= all * percent);
        Some(bound.map_or(u64::MAX, |(bound, _)| bound))
    }

    /// Returns how many times were added.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all times, in nanoseconds.
    pub fn sum_nanos(&self) -> u128 {
        self.sum
    }

    /// Returns the bounds in nanoseconds, and how many times were not above each.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        BOUNDS.iter().zip(self.buckets).map(move |(&bound, count)| {
            below += count;
            (bound, below)
        })
    }
}

/// Returns a time in nanoseconds; the longest that can be told, if it is longer.
#[inline]
pub(crate) fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(u64::from(time.subsec_nanos()))
}

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The handler has succeeded.
    Ok,
    /// The handler has returned an error, or what it returned cannot be told.
    Error,
    /// The handler has panicked.
    Panic,
    /// The attempt has not ended within its timeout.
    Timeout,
    /// The attempt was cut by the deadline of its task.
    Deadline,
    /// The attempt was stopped by a cancel.
    Cancelled,
    /// The attempt was given up with its node, or stopped by it.
    Lost,
}

impl AttemptResult {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Error,
        Self::Panic,
        Self::Timeout,
        Self::Deadline,
        Self::Cancelled,
        Self::Lost,
    ];

    /// Returns how an attempt has ended that failed by this cause.
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Error | Cause::Permanent | Cause::Codec | Cause::OutputTooLarge => Self::Error,
            Cause::Panic => Self::Panic,
            Cause::Timeout => Self::Timeout,
            Cause::Deadline => Self::Deadline,
            Cause::NodeLost => Self::Lost,
        }
    }

    /// Returns its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}

/// The names in metrics of how tasks end otherwise than completed: cancelled, and failed by each
/// cause in the order of its number.
const OTHER_ENDINGS: [&str; 9] = [
    "cancelled",
    "error",
    "permanent",
    "panic",
    "timeout",
    "deadline",
    "node_lost",
    "codec",
    "output_too_large",
];

/// Returns the name in metrics of how a task ends that fails by this cause.
pub(crate) fn ending_of(cause: Cause) -> &'static str {
    OTHER_ENDINGS[1 + usize::from(cause.number())]
}

/// What is counted of one kind, or of all that have no counters of their own.
#[derive(Clone, Debug, Default)]
pub struct KindMeter {
    /// The kind; `None` is all that have no counters of their own.
    pub kind: Option<TaskKind>,
    /// Tasks accepted in this term.
    pub accepted: u64,
    /// Unsettled tasks that this term has taken over from the one before.
    pub recovered: u64,
    /// Attempts that were followed by another.
    pub retried: u64,
    /// From when a task was due to the start of its first attempt.
    pub wait: Histogram,
    /// From when a task was accepted to its ending.
    pub settle: Histogram,
    other_endings: [u64; OTHER_ENDINGS.len()],
    attempts: [Histogram; AttemptResult::ALL.len()],
}

impl KindMeter {
    pub(crate) fn of(kind: TaskKind) -> Self {
        Self {
            kind: Some(kind),
            ..Self::default()
        }
    }

    /// Counts an attempt that took so many nanoseconds.
    #[inline(always)]
    pub(crate) fn attempt_ended(&mut self, result: AttemptResult, nanos: u64) {
        self.attempts[result as usize].add_nanos(nanos);
    }

    /// Counts for how many nanoseconds a task had waited, if it begins its first attempt.
    #[inline(always)]
    pub(crate) fn waited(&mut self, nanos: Option<u64>) {
        if let Some(nanos) = nanos {
            self.wait.add_nanos(nanos);
        }
    }

    /// Counts an attempt that succeeded after so many nanoseconds, and the ending of its task,
    /// which was accepted so many before.
    #[inline(always)]
    pub(crate) fn completed(&mut self, ran: u64, took: u64) {
        self.attempt_ended(AttemptResult::Ok, ran);
        self.settle.add_nanos(took);
    }

    /// Counts another ending of a task, which was accepted so many nanoseconds before.
    pub(crate) fn settled(&mut self, outcome: &Outcome, nanos: u64) {
        self.settle.add_nanos(nanos);
        match outcome {
            // That is counted with the attempt.
            Outcome::Completed(_) => {}
            Outcome::Failed(failure) => {
                self.other_endings[1 + usize::from(failure.cause.number())] += 1;
            }
            // What was refused has never been a task.
            Outcome::Cancelled | Outcome::Refused(_) => self.other_endings[0] += 1,
        }
    }

    /// Returns how many tasks have ended in each way, by its name.
    pub fn endings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let others: u64 = self.other_endings.iter().sum();
        let completed = ("completed", self.settle.count() - others);
        let others = OTHER_ENDINGS.into_iter().zip(self.other_endings);
        std::iter::once(completed).chain(others)
    }

    /// Returns how many tasks have failed, by whatever cause.
    #[cfg(feature = "dashboard")]
    pub fn failed(&self) -> u64 {
        // The first are those that were cancelled.
        self.other_endings[1..].iter().sum()
    }

    /// Returns how long all attempts took, however they have ended.
    #[cfg(feature = "dashboard")]
    pub fn runs(&self) -> Histogram {
        let mut runs = Histogram::default();
        self.attempts.iter().for_each(|of| runs.absorb(of));
        runs
    }

    /// Returns how long attempts took, by how they have ended.
    pub fn attempts(&self) -> impl Iterator<Item = (AttemptResult, &Histogram)> {
        AttemptResult::ALL.into_iter().zip(&self.attempts)
    }

    /// Adds all that another one has.
    fn absorb(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.recovered += other.recovered;
        self.retried += other.retried;
        self.wait.absorb(&other.wait);
        self.settle.absorb(&other.settle);
        for (own, more) in self.other_endings.iter_mut().zip(other.other_endings) {
            *own += more;
        }
        for (own, more) in self.attempts.iter_mut().zip(&other.attempts) {
            own.absorb(more);
        }
    }
}

#[cfg(test)]
mod tests;
