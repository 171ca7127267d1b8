//! Moments, and the numbers by which the machines tell things apart.
//!
//! Owns: their types and how each is shown. Does not know: who draws or counts them.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A moment: nanoseconds since the Unix epoch, read from a clock that never goes back and that
/// counts suspend. Two processes need not agree on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the span since `earlier`, zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Converts a moment of the standard library; one before the epoch becomes the epoch.
    pub fn of_system_time(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
        Self(0) + since_epoch.unwrap_or(Duration::ZERO)
    }

    /// Converts to the same moment of the standard library.
    pub fn to_system_time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)
    }
}

/// 2025-01-01, 00:00 UTC, since when ids and dispatches are counted.
const NUMBERS_BEGIN: Timestamp = Timestamp(1_735_689_600_000_000_000);

/// Ids or dispatches that fit a second: more than can be given out in it.
const NUMBERS_A_SECOND: u64 = 1 << 22;

/// Returns the first number that a scheduler which starts when the wall clock shows this gives to
/// a task, or to a dispatch. A later start begins above whatever an earlier one has given out.
pub fn first_number(shows: Timestamp) -> u64 {
    let since = shows.since(NUMBERS_BEGIN).as_nanos();
    let number = since * u128::from(NUMBERS_A_SECOND) / Duration::from_secs(1).as_nanos();
    u64::try_from(number).unwrap_or(u64::MAX).max(1)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", Duration::from_nanos(self.0).as_secs_f64())
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number! {
    /// One start of a scheduler: a random number.
    SchedulerId(u64), "scheduler-"
}
number! {
    /// One start of a node's process: a random number.
    Incarnation(u64), "incarnation-"
}
number! {
    /// For how long a node has forgotten nothing of its scheduler: another number is another
    /// memory.
    Memory(u64), "memory-"
}
number! {
    /// One connection, numbered by the machine's driver; never reused within a process.
    LinkId(u64), "link-"
}
number! {
    /// A node, numbered by its scheduler; within one start of the scheduler it is never that of
    /// another name. One that was removed and is added again may have its number again.
    NodeId(u32), "n"
}
number! {
    /// A client, numbered by the machine's driver; never reused.
    ClientId(u64), "client-"
}
number! {
    /// A worker of a node: an index below the largest number of workers it has had.
    WorkerId(u32), "w"
}

impl Memory {
    /// Returns the one that follows when this one is broken.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl WorkerId {
    /// More than the largest number of workers needs.
    const BITS: u32 = 20;

    /// Returns the number of this worker within the process, whose schedulers have seats.
    pub fn at_seat(self, seat: usize) -> Self {
        Self(self.0 | (seat as u32) << Self::BITS)
    }

    /// Returns the seat of its scheduler.
    pub fn seat(self) -> usize {
        (self.0 >> Self::BITS) as usize
    }

    /// Returns the number by which its scheduler's machine knows this worker.
    pub fn within_seat(self) -> Self {
        Self(self.0 & ((1 << Self::BITS) - 1))
    }
}

/// Index of a node.
pub(crate) type NodeIndex = u32;

#[cfg(test)]
mod tests {
    use super::{NUMBERS_BEGIN, Timestamp, first_number};
    use std::time::Duration;

    #[test]
    fn g3_a_later_start_numbers_from_above_whatever_an_earlier_one_gave_out() {
        let second = Duration::from_secs(1);
        assert_eq!(first_number(NUMBERS_BEGIN + second), 1 << 22);
        // A restart after a millisecond, in which no scheduler gives out four thousand numbers.
        let soon = first_number(NUMBERS_BEGIN + second + Duration::from_millis(1));
        assert_eq!(soon - (1 << 22), 4194);
        // The clock of a machine that has just booted.
        assert_eq!(first_number(Timestamp(0)), 1);
        let in_2093 = NUMBERS_BEGIN + 68 * 365 * 24 * 3600 * second;
        assert!(first_number(in_2093) < 1 << 53, "whole as a number of JSON");
        assert!(first_number(Timestamp(u64::MAX)) < u64::MAX);
    }
}
