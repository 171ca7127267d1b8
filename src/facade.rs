//! What is measured of a scheduler, told to the facade `metrics`.
//!
//! Owns: how counters, gauges and labels become those of the facade, and that what is told no more
//! does not stand still. Does not know: which metrics there are, or when they are told.

use std::collections::BTreeSet;
use std::mem;

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};

use crate::engine::meter::Histogram;
use crate::prometheus::{Outlet, Type, Value, tell};
use crate::snapshot::Snapshot;
use crate::stats::MetricsDetail;

/// A gauge, by its name and its labels.
type Gauge = (&'static str, Vec<(&'static str, String)>);

/// Tells one scheduler's metrics, again and again.
#[derive(Debug)]
pub(crate) struct Facade {
    scheduler: String,
    family: (&'static str, Type),
    /// The gauges that were told this time, and the time before.
    told: BTreeSet<Gauge>,
    before: BTreeSet<Gauge>,
}

impl Facade {
    pub fn new(scheduler: &str) -> Self {
        Self {
            scheduler: scheduler.to_owned(),
            family: ("", Type::Gauge),
            told: BTreeSet::new(),
            before: BTreeSet::new(),
        }
    }

    /// Tells all but histograms.
    pub fn tell(&mut self, snapshot: &Snapshot) {
        tell(self, snapshot, MetricsDetail::Totals);
        let told = mem::take(&mut self.told);
        let before = mem::replace(&mut self.before, told);
        before.difference(&self.before).for_each(zero);
    }

    /// Sets all gauges to zero: nothing of what they told is so any more.
    pub fn end(self) {
        self.before.iter().for_each(zero);
    }
}

/// Sets a gauge to zero. The facade cannot take one back.
fn zero((name, labels): &Gauge) {
    gauge!(*name, of(labels)).set(0.0);
}

fn of(labels: &[(&'static str, String)]) -> Vec<Label> {
    let each = labels.iter();
    each.map(|(name, value)| Label::new(*name, value.clone()))
        .collect()
}

impl Outlet for Facade {
    fn family(&mut self, name: &'static str, of_type: Type, help: &'static str) {
        self.family = (name, of_type);
        match of_type {
            Type::Counter => describe_counter!(name, help),
            Type::Gauge => describe_gauge!(name, help),
            Type::Histogram => {}
        }
    }

    fn number(&mut self, labels: &[(&'static str, &str)], value: Value) {
        let (name, of_type) = self.family;
        let scheduler = [("scheduler", self.scheduler.as_str())];
        let labels = scheduler.iter().chain(labels);
        let labels: Vec<_> = labels
            .map(|&(name, value)| (name, value.to_owned()))
            .collect();
        let value = match (of_type, value) {
            (Type::Counter, Value::Count(count)) => {
                counter!(name, of(&labels)).absolute(count);
                return;
            }
            (_, Value::Count(count)) => count as f64,
            (_, Value::Nanos(nanos)) => nanos as f64 / 1e9,
            (_, Value::Ratio(ratio)) => ratio,
        };
        gauge!(name, of(&labels)).set(value);
        self.told.insert((name, labels));
    }

    fn histogram(&mut self, _: &[(&'static str, &str)], _: &Histogram) {}
}
