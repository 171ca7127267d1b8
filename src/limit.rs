//! How many tasks of a kind may go on at once, and how often one may start.
//!
//! Owns: the limit as a value, and its range. Does not know: what goes on, or clocks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many tasks of a kind may go on at once, and how often one may start, at one scheduler over
/// all its nodes. The default is no limit.
///
/// - [`concurrency`](Limit::concurrency): so many at once. All that may be going on counts: what
///   runs, what was sent ahead to a busy node, and runs that were given up and may still go on.
/// - [`rate`](Limit::rate): so many in each period, evenly, and up to [`burst`](Limit::burst) of
///   them at once after a pause. What counts is that a task is sent to a node, so a retry counts,
///   too; one that was sent ahead starts a little later.
/// - [`each_group`](Limit::each_group): the same for each
///   [group](crate::task::Options::group) of the kind's tasks, beside what the kind may. With one
///   at once a group is a lock: no two tasks of it go on at a time.
///
/// ```
/// use std::time::Duration;
/// use callboard::Limit;
///
/// let limit = Limit::concurrency(40)
///     .rate(100, Duration::from_secs(1))
///     .burst(20)
///     .each_group(Limit::concurrency(2));
/// assert!(limit.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Limit {
    concurrency: Option<u32>,
    rate: Option<Rate>,
    burst: Option<u32>,
    #[serde(default)]
    each_group: Option<Bounds>,
}

/// What a limit bounds: for a kind, or for a group of its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    pub concurrency: Option<u32>,
    pub rate: Option<Rate>,
    pub burst: Option<u32>,
}

/// So many starts in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub starts: u32,
    pub period: Duration,
}

impl Limit {
    /// Makes a limit that limits nothing, to which a [`rate`](Limit::rate) can be added.
    ///
    /// ```
    /// use std::time::Duration;
    /// use callboard::Limit;
    ///
    /// assert!(Limit::new().rate(5, Duration::from_secs(60)).check().is_ok());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows so many at once: at least 1.
    pub fn concurrency(tasks: u32) -> Self {
        Self {
            concurrency: Some(tasks),
            ..Self::default()
        }
    }

    /// Allows so many starts in each period, at least 1 in some time that is not zero. They are
    /// spread evenly: with 100 in a second, one each 10 ms.
    pub fn rate(mut self, starts: u32, period: Duration) -> Self {
        self.rate = Some(Rate { starts, period });
        self
    }

    /// Allows so many starts at once if there were none for long enough: at least 1, which is the
    /// default. Only with a [`rate`](Limit::rate).
    pub fn burst(mut self, starts: u32) -> Self {
        self.burst = Some(starts);
        self
    }

    /// Allows each group of the kind's tasks no more than this, whatever the kind itself may. A
    /// limit for groups within groups is left out, and tasks without a group have no such limit.
    ///
    /// ```
    /// use callboard::Limit;
    ///
    /// let one_at_a_time = Limit::new().each_group(Limit::concurrency(1));
    /// assert!(one_at_a_time.check().is_ok() && !one_at_a_time.is_none());
    /// ```
    pub fn each_group(mut self, limit: Limit) -> Self {
        let bounds = limit.of_kind();
        self.each_group = Some(bounds).filter(|bounds| *bounds != Bounds::default());
        self
    }

    /// Returns whether this limits nothing.
    ///
    /// ```
    /// use callboard::Limit;
    ///
    /// assert!(Limit::new().is_none() && !Limit::concurrency(1).is_none());
    /// ```
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that each number is in its range.
    ///
    /// ```
    /// use callboard::Limit;
    ///
    /// assert!(Limit::concurrency(0).check().unwrap_err().contains("at least 1"));
    /// assert!(Limit::concurrency(7).burst(3).check().is_err(), "a burst of what?");
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.of_kind().check()?;
        self.each_group.map_or(Ok(()), |bounds| bounds.check())
    }

    /// Returns what the tasks of a kind may together.
    pub(crate) fn of_kind(&self) -> Bounds {
        Bounds {
            concurrency: self.concurrency,
            rate: self.rate,
            burst: self.burst,
        }
    }

    /// Returns what those of each group may, if that is limited.
    pub(crate) fn of_groups(&self) -> Option<Bounds> {
        self.each_group
    }

    #[cfg(feature = "store")]
    pub(crate) fn of_bounds(of_kind: Bounds, each_group: Option<Bounds>) -> Self {
        let Bounds {
            concurrency,
            rate,
            burst,
        } = of_kind;
        Self {
            concurrency,
            rate,
            burst,
            each_group,
        }
    }
}

impl Bounds {
    fn check(&self) -> Result<(), String> {
        let starts = self.rate.map(|rate| rate.starts);
        for (number, name) in [
            (self.concurrency, "concurrency"),
            (starts, "rate"),
            (self.burst, "burst"),
        ] {
            if number == Some(0) {
                return Err(format!(
                    "the {name} of a limit must be at least 1; pause the kind instead"
                ));
            }
        }
        if self.rate.is_some_and(|rate| rate.period.is_zero()) {
            return Err("the period of a limit must be longer than zero".to_owned());
        }
        if self.burst.is_some() && self.rate.is_none() {
            return Err("a limit without a rate can have no burst".to_owned());
        }
        Ok(())
    }

    /// Returns how long after a start the next one is due, and how much sooner it may come.
    pub fn pace(&self) -> Option<(Duration, Duration)> {
        let Rate { starts, period } = self.rate?;
        let interval = period.as_nanos().div_ceil(u128::from(starts.max(1)));
        let interval = Duration::from_nanos(u64::try_from(interval).unwrap_or(u64::MAX));
        let ahead = self.burst.unwrap_or(1).saturating_sub(1);
        Some((interval, interval.saturating_mul(ahead)))
    }
}
