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
    /// A wait drawn evenly from zero to `base * 2^(attempt - 1)`, never above `cap`: the "full
    /// jitter" of M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    Exponential {
        /// The ceiling of the first wait.
        base: Duration,
        /// The ceiling of every wait.
        cap: Duration,
    },
}

impl Backoff {
    /// Returns the wait after failed attempt number `attempt` (from 1). `jitter` is an even draw
    /// from all of `u64`; a fixed backoff ignores it.
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
///
/// ```
/// use callboard::RetryPolicy;
/// use std::time::Duration;
///
/// let soon = Duration::from_millis(100);
/// let five_times = RetryPolicy::exponential(soon, Duration::from_secs(10)).max_attempts(5);
/// assert_eq!(five_times.limit(), Some(5));
/// assert!(five_times.next_delay(1, u64::MAX).is_some_and(|wait| wait <= soon));
/// assert_eq!(five_times.next_delay(5, 0), None); // it was the last one
///
/// let until_it_works = RetryPolicy::fixed(Duration::from_secs(1)).forever();
/// assert_eq!(until_it_works.limit(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
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

    /// Waits the same time before every retry.
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

    /// Allows one attempt and no retry.
    pub const fn none() -> Self {
        Self::fixed(Duration::ZERO).max_attempts(1)
    }

    /// Limits the attempts, the first one counted: 10 means 10 tries. Range: from 1; 0 is taken as
    /// 1.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// Tries without end.
    pub const fn forever(mut self) -> Self {
        self.max_attempts = 0;
        self
    }

    /// Returns the wait between two attempts.
    #[cfg(feature = "store")]
    pub(crate) const fn backoff(&self) -> Backoff {
        self.backoff
    }

    /// Returns the limit of attempts; `None` is without end.
    pub const fn limit(&self) -> Option<u32> {
        match self.max_attempts {
            0 => None,
            limit => Some(limit),
        }
    }

    /// Returns the wait before the attempt after failed attempt number `attempt` (from 1), or
    /// `None` if that was the last one. `jitter` is an even draw from all of `u64`.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_default_is_ten_tries_a_second_apart() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.limit(), Some(10));
        assert_eq!(policy.next_delay(1, 0), Some(SECOND));
        assert_eq!(policy.next_delay(9, u64::MAX), Some(SECOND));
        assert_eq!(policy.next_delay(10, 0), None);
    }

    #[test]
    fn none_is_one_try_and_zero_is_taken_as_one() {
        assert_eq!(RetryPolicy::none().next_delay(1, 0), None);
        let policy = RetryPolicy::fixed(SECOND).max_attempts(0);
        assert_eq!(policy.limit(), Some(1));
        assert_eq!(policy.next_delay(1, 0), None);
    }

    #[test]
    fn forever_has_no_last_try() {
        let policy = RetryPolicy::fixed(SECOND).forever();
        assert_eq!(policy.limit(), None);
        assert_eq!(policy.next_delay(u32::MAX, 0), Some(SECOND));
    }

    #[test]
    fn exponential_ceilings_double_up_to_the_cap() {
        let backoff = Backoff::Exponential {
            base: SECOND,
            cap: SECOND * 5,
        };
        // Half of all draws are below this one.
        let half = |attempt| backoff.delay(attempt, 1 << 63);
        assert_eq!(half(1), SECOND / 2);
        assert_eq!(half(2), SECOND);
        assert_eq!(half(3), SECOND * 2);
        assert_eq!(half(4), SECOND * 5 / 2);
        assert_eq!(half(u32::MAX), SECOND * 5 / 2);
        assert_eq!(backoff.delay(3, 0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_wait_is_above_its_ceiling(
            base: Duration,
            cap: Duration,
            attempt: u32,
            jitter: u64,
        ) {
            let delay = Backoff::Exponential { base, cap }.delay(attempt, jitter);
            prop_assert!(delay <= cap);
            let again = Backoff::Exponential { base, cap }.delay(attempt.saturating_add(1), jitter);
            prop_assert!(attempt == 0 || delay <= again, "later waits are no shorter for the same draw");
        }

        #[test]
        fn a_full_draw_comes_close_to_the_ceiling(millis in 1..1_000_000u64, attempt in 1..10u32) {
            let base = Duration::from_millis(millis);
            let backoff = Backoff::Exponential { base, cap: Duration::from_secs(u64::MAX) };
            let ceiling = base * 2u32.pow(attempt - 1);
            let delay = backoff.delay(attempt, u64::MAX);
            prop_assert!(delay <= ceiling && ceiling - delay <= Duration::from_nanos(1));
        }
    }
}
