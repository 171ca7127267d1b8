//! How long what has settled is kept to be looked at.
//!
//! Owns: the bounds, by outcome. Does not know: where it is kept, or who looks.

use std::fmt;
use std::time::Duration;

use super::record::FinalOutcome;

/// How many bytes of tasks with one outcome are kept if nothing is said of that.
const BYTES: u64 = 64 << 20;

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What a store keeps of tasks that have settled, after their status was handled: their args,
/// options and ending.
///
/// By default the failed ones for a week. Each outcome has bounds of its own, and what is beyond
/// one of them goes, oldest first: an age, at most 64 MiB unless something else is said, and a
/// number if one is.
///
/// ```
/// use callboard::Keep;
/// use std::time::Duration;
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// let keep = Keep::failures(30 * DAY)
///     .at_most_bytes(1 << 30)
///     .and(Keep::completed(DAY).at_most(10_000));
/// ```
///
/// # Cost
///
/// An outcome that is not kept costs nothing. A task that is kept is written once more, in the
/// commit that has its ending, and once it is beyond a bound another commit takes it out: some
/// microseconds of the store's thread for both, and no commit more. The bench `store` has a row
/// with all of a million tasks kept. What is too old goes with a later batch, within a minute if
/// there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is given to a store"]
pub struct Keep {
    completed: Option<Bound>,
    failed: Option<Bound>,
    cancelled: Option<Bound>,
}

/// How much is kept of one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    span: Duration,
    count: u64,
    bytes: u64,
}

/// How a task has ended, without what it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// The task has completed.
    Completed,
    /// The task has failed.
    Failed,
    /// The task was cancelled.
    Cancelled,
}

impl Ended {
    /// All of them, in the order of their numbers in a store.
    pub const ALL: [Self; 3] = [Self::Completed, Self::Failed, Self::Cancelled];

    /// Returns the number that stands for it in a store.
    pub const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn of(outcome: &FinalOutcome) -> Self {
        match outcome {
            FinalOutcome::Completed(_) => Self::Completed,
            FinalOutcome::Failed(_) => Self::Failed,
            FinalOutcome::Cancelled => Self::Cancelled,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// The failed ones for a week.
impl Default for Keep {
    fn default() -> Self {
        Self::failures(WEEK)
    }
}

impl Keep {
    /// Keeps nothing.
    pub fn nothing() -> Self {
        Self {
            completed: None,
            failed: None,
            cancelled: None,
        }
    }

    /// Keeps the tasks that have failed for so long.
    pub fn failures(span: Duration) -> Self {
        Self {
            failed: Some(Bound::of(span)),
            ..Self::nothing()
        }
    }

    /// Keeps the tasks that have completed for so long.
    pub fn completed(span: Duration) -> Self {
        Self {
            completed: Some(Bound::of(span)),
            ..Self::nothing()
        }
    }

    /// Keeps the tasks that were cancelled for so long.
    pub fn cancelled(span: Duration) -> Self {
        Self {
            cancelled: Some(Bound::of(span)),
            ..Self::nothing()
        }
    }

    /// Keeps all tasks for so long.
    pub fn all(span: Duration) -> Self {
        let bound = Some(Bound::of(span));
        Self {
            completed: bound,
            failed: bound,
            cancelled: bound,
        }
    }

    /// Keeps at most so many tasks of each outcome that it keeps so far.
    pub fn at_most(mut self, count: u64) -> Self {
        self.bounds().for_each(|bound| bound.count = count);
        self
    }

    /// Keeps at most so many bytes of each outcome that it keeps so far.
    pub fn at_most_bytes(mut self, bytes: u64) -> Self {
        self.bounds().for_each(|bound| bound.bytes = bytes);
        self
    }

    /// Keeps what the other one does, too; of what both keep its bounds count.
    pub fn and(self, other: Self) -> Self {
        Self {
            completed: other.completed.or(self.completed),
            failed: other.failed.or(self.failed),
            cancelled: other.cancelled.or(self.cancelled),
        }
    }

    /// Returns whether tasks that have ended so are kept.
    pub(crate) fn keeps(&self, ended: Ended) -> bool {
        self.bound(ended).is_some()
    }

    /// Returns whether the oldest of so many tasks is beyond a bound, of which this is the age
    /// and that is how many bytes all take.
    #[cfg(any(feature = "store", test))]
    pub(crate) fn lets_go(&self, ended: Ended, age: Duration, count: u64, bytes: u64) -> bool {
        self.bound(ended)
            .is_none_or(|bound| age > bound.span || count > bound.count || bytes > bound.bytes)
    }

    fn bound(&self, ended: Ended) -> Option<Bound> {
        match ended {
            Ended::Completed => self.completed,
            Ended::Failed => self.failed,
            Ended::Cancelled => self.cancelled,
        }
    }

    fn bounds(&mut self) -> impl Iterator<Item = &mut Bound> {
        let all = [&mut self.completed, &mut self.failed, &mut self.cancelled];
        all.into_iter().flatten()
    }
}

impl Bound {
    fn of(span: Duration) -> Self {
        Self {
            span,
            count: u64::MAX,
            bytes: BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_bounds_of_its_own() {
        let second = Duration::from_secs(1);
        let keep = Keep::all(second)
            .at_most(3)
            .and(Keep::failures(2 * second).at_most_bytes(10));
        assert!(Ended::ALL.into_iter().all(|ended| keep.keeps(ended)));
        assert!(!keep.lets_go(Ended::Completed, second, 3, BYTES));
        assert!(keep.lets_go(Ended::Completed, 2 * second, 1, 1), "too old");
        assert!(keep.lets_go(Ended::Cancelled, second, 4, 1), "too many");
        assert!(
            keep.lets_go(Ended::Cancelled, second, 1, BYTES + 1),
            "too large"
        );
        assert!(!keep.lets_go(Ended::Failed, 2 * second, 100, 10));
        assert!(keep.lets_go(Ended::Failed, 2 * second, 1, 11));
        assert!(Keep::nothing().lets_go(Ended::Failed, Duration::ZERO, 1, 1));
        assert_eq!(Keep::default(), Keep::failures(7 * 24 * 60 * 60 * second));
    }
}
