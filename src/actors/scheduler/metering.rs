//! What the actor alone can measure: how long its turns take, and what operators have done.
//!
//! Owns: these counts, and the snapshot of all that is measured. Does not know: what the machine
//! counts, or how the snapshot is written.
//!
//! It reads no clock: a turn reads one at its beginning, and at its end to know when the next one
//! is due.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::{Context, Handler};

use super::{Core, SchedulerActor};
use crate::actors::GetSnapshot;
use crate::config::SchedulerConfig;
use crate::engine::Timestamp;
use crate::engine::meter::Histogram;
use crate::error::Stopped;
use crate::snapshot::{Done, LinkBytes, Snapshot};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TurnMeter {
    turns: Histogram,
    busy: Duration,
    /// Until when all work is in `busy`.
    counted: Timestamp,
    actions: BTreeMap<(&'static str, Done), u64>,
}

impl TurnMeter {
    /// Counts a turn that began at this moment, and the messages before it, the first of which came
    /// at `noted`.
    pub fn turned(&mut self, began: Timestamp, noted: Option<Timestamp>, took: Duration) {
        self.turns.add(took);
        if let Some(noted) = noted {
            self.busy += began.since(noted.max(self.counted));
        }
        self.busy += took;
        self.counted = began + took;
    }

    /// Counts what an operator asked for.
    pub fn acted(&mut self, name: &'static str, done: Done) {
        *self.actions.entry((name, done)).or_default() += 1;
    }
}

/// Returns the settings by which rules tell how full a scheduler is.
fn bounds(config: &SchedulerConfig) -> [(&'static str, u64); 4] {
    [
        ("max_tasks", config.max_tasks as u64),
        ("max_args_bytes", config.max_args_bytes),
        ("max_statuses", config.max_statuses as u64),
        ("max_status_bytes", config.max_status_bytes),
    ]
}

impl Core {
    fn snapshot(&self, now: Timestamp) -> Snapshot {
        let recorder = self.recorder.as_ref();
        Snapshot {
            stats: self.stats(now),
            machine: self.machine.metrics(now),
            turns: self.turns.turns.clone(),
            busy: self.turns.busy,
            actions: self.turns.actions.clone(),
            commits: recorder.map(|recorder| recorder.report().commits),
            bounds: bounds(self.machine.config()),
            bytes: LinkBytes::default(),
        }
    }
}

impl Handler<GetSnapshot> for SchedulerActor {
    type Result = Result<Box<Snapshot>, Stopped>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Context<Self>) -> Self::Result {
        self.with(|core, now| {
            // What has been noted so far is to be seen in the numbers.
            core.turn(false);
            Box::new(core.snapshot(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_of_work_is_counted_twice() {
        let at = |millis| Timestamp(1 << 60) + Duration::from_millis(millis);
        let span = Duration::from_millis;
        let mut meter = TurnMeter::default();
        meter.turned(at(10), None, span(2));
        assert_eq!(meter.busy, span(2));
        // Messages from 20 on, and then a turn.
        meter.turned(at(25), Some(at(20)), span(3));
        assert_eq!(meter.busy, span(10));
        // A message that took a turn of its own, from 30 to 34, came at 29.
        meter.turned(at(30), None, span(4));
        meter.turned(at(36), Some(at(29)), span(1));
        assert_eq!(meter.busy, span(17), "from 30 to 37, and ten before");
        assert_eq!(meter.turns.count(), 4);
        assert_eq!(meter.turns.sum_nanos(), span(10).as_nanos());
    }
}
