//! Where a [`Timestamp`] comes from.
//!
//! Owns: the process's clock. Does not know: who reads it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use crate::engine::Timestamp;

/// A clock that never goes back. Copies are the same clock.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The wall clock as it was when the process first asked, and from then on a clock that counts
    /// suspend and that nobody sets.
    #[default]
    Process,
    /// The wall clock as it was when the process first asked, and from then on tokio's clock; for
    /// tests in which that is paused.
    Tokio,
    /// The clock of the process beside a wall clock that shows so many nanoseconds more than it;
    /// for tests that set it.
    Set(&'static AtomicI64),
}

impl Clock {
    /// Returns this moment.
    pub fn now(self) -> Timestamp {
        match self {
            Self::Process | Self::Set(_) => {
                static ORIGIN: OnceLock<(Timestamp, Duration)> = OnceLock::new();
                let &(wall, since) = ORIGIN.get_or_init(|| (wall(), uptime()));
                wall + uptime().saturating_sub(since)
            }
            Self::Tokio => {
                static ORIGIN: OnceLock<(Timestamp, tokio::time::Instant)> = OnceLock::new();
                let &(wall, since) = ORIGIN.get_or_init(|| (wall(), tokio::time::Instant::now()));
                let now = tokio::time::Instant::now();
                // A runtime whose clock is ahead of this one's may have been the first to ask.
                wall + now.saturating_duration_since(since) - since.saturating_duration_since(now)
            }
        }
    }

    /// Returns what the wall clock shows, which somebody may have set since the last look. Tokio's
    /// is never set.
    pub fn wall(self) -> Timestamp {
        match self {
            Self::Process => wall(),
            Self::Tokio => self.now(),
            Self::Set(more) => {
                let more = more.load(Ordering::Relaxed);
                Timestamp(self.now().0.saturating_add_signed(more))
            }
        }
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::default() + since
}

fn uptime() -> Duration {
    // Where there is no such clock, the monotonic one is the nearest: a lease may then outlast a
    // suspend.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const ID: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const ID: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(ID);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests;
