//! When a failed attempt is tried again.
//!
//! Owns: the policy as a value and the arithmetic of its waits. Does not know: clocks or random
//! sources; jitter is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Backoff {
    /// Always the same wait.
    Fixed(Duration),
    /// A wait drawn evenly from zero to `base * 2^(attempt - 1)`, never above `cap`: the "full jitter"
    /// of M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    Exponential {
        /// The ceiling of the first wait.
        base: Duration,
        /// The ceiling of every wait.
        cap: Duration,
    },
}

impl Backoff {
    /// The wait after failed attempt number `attempt` (from 1). `jitter` is an even draw from all
    /// of `u64`; a fixed backoff ignores it.
    pub fn delay(&self, attempt: u32, jitter: u64) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::Exponential { base, cap } => {
                let doublings = attempt.saturating_sub(1).min(63);
                let ceiling = (1u128 << doublings)
                    .saturating_mul(base.as_nanos())
                    .min(cap.as_nanos());
                // The product cannot overflow: a ceiling is at most 2^94 ns only when cap is, so it
                // is narrowed to u64 nanoseconds (584 years) first.
                let ceiling = u64::try_from(ceiling).unwrap_or(u64::MAX);
                let drawn = (u128::from(ceiling) * u128::from(jitter)) >> 64;
                Duration::from_nanos(u64::try_from(drawn).unwrap_or(u64::MAX))
            }
        }
    }
}

/// How often a task is tried and how long it waits between tries.
///
/// The default is a fixed wait of one second and 10 attempts, the first one counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    backoff: Backoff,
    /// 0 means without end.
    max_attempts: u32,
}

impl RetryPolicy {
    /// The wait of the default policy.
    pub const DEFAULT_DELAY: Duration = Duration::from_secs(1);
    /// The attempts of the default policy, the first one counted.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 10;

    /// The same wait before every retry.
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            backoff: Backoff::Fixed(delay),
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
        }
    }

    /// Waits that double, with full jitter, from `base` up to `cap`.
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Self {
            backoff: Backoff::Exponential { base, cap },
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
        }
    }

    /// One attempt and no retry.
    pub const fn none() -> Self {
        Self::fixed(Duration::ZERO).max_attempts(1)
    }

    /// Limits the attempts, the first one counted: 10 means 10 tries. Range: from 1; 0 is taken as 1.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// Tries without end.
    pub const fn forever(mut self) -> Self {
        self.max_attempts = 0;
        self
    }

    /// The limit of attempts; `None` is without end.
    pub const fn limit(&self) -> Option<u32> {
        match self.max_attempts {
            0 => None,
            limit => Some(limit),
        }
    }

    /// The wait before the attempt after failed attempt number `attempt` (from 1), or `None` if that
    /// was the last one. `jitter` is an even draw from all of `u64`.
    pub fn next_delay(&self, attempt: u32, jitter: u64) -> Option<Duration> {
        match self.limit() {
            Some(limit) if attempt >= limit => None,
            _ => Some(self.backoff.delay(attempt, jitter)),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::fixed(Self::DEFAULT_DELAY)
    }
}
