//! Where all that is measured is told.
//!
//! Owns: the types of metrics and of their numbers. Does not know: which metrics there are, or what
//! becomes of them.

use std::time::Duration;

use crate::engine::meter::Histogram;

/// The type of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// A number of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Count(u64),
    /// A time in nanoseconds, told in seconds.
    Nanos(u128),
    Ratio(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Self::Nanos(time.as_nanos())
    }
}

/// Takes in families of metrics, each before its samples.
pub(crate) trait Outlet {
    /// Begins a family, whose samples follow. `help` has no line break and no backslash.
    fn family(&mut self, name: &'static str, of_type: Type, help: &'static str);

    /// Takes in a sample of the family.
    fn number(&mut self, labels: &[(&'static str, &str)], value: Value);

    /// Takes in a histogram of the family.
    fn histogram(&mut self, labels: &[(&'static str, &str)], times: &Histogram);
}

impl dyn Outlet + '_ {
    /// Takes in a sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&'static str, &str)], value: impl Into<Value>) {
        self.number(labels, value.into());
    }
}
