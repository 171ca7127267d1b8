//! A scheduler that has nothing to do sleeps: its wakeup does not come up again and again without
//! any effect.
//!
//! Owns: the ticks that came to nothing, one after the other. Does not know: what the machine was
//! to look at.

use std::collections::VecDeque;

use crate::cluster::Cluster;
use crate::plan::{MS, Time};
use crate::scheduler::clock;

/// So many ticks in a row may come to nothing: each node and each link that was set up is looked at
/// once.
const VAIN_TICKS: usize = 20;
/// If they come within so short a time; what looks once in each heartbeat is far from it.
const WITHIN: Time = 200 * MS;

#[derive(Default)]
pub struct Wakeups {
    vain: VecDeque<Time>,
}

impl Wakeups {
    /// Notes that something has come in, or gone out.
    pub fn effect(&mut self) {
        self.vain.clear();
    }

    /// Notes that a tick has come to nothing. Returns whether that makes a busy loop.
    fn vain(&mut self, now: Time) -> bool {
        self.vain.push_back(now);
        if self.vain.len() > VAIN_TICKS {
            self.vain.pop_front();
        }
        let oldest = self.vain.front().copied().unwrap_or(now);
        self.vain.len() == VAIN_TICKS && now - oldest <= WITHIN
    }
}

impl Cluster {
    /// Counts tasks by what they wait for.
    pub fn counts(&self) -> [usize; 5] {
        let stats = self.scheduler.machine.stats(clock(self.now));
        [
            stats.pending,
            stats.due_later,
            stats.waiting_retries,
            stats.held,
            stats.running,
        ]
    }

    /// Judges what a tick has come to; `before` is how the tasks were counted before it.
    pub fn judge_tick(&mut self, before: [usize; 5]) {
        if self.counts() != before {
            self.oracle.wakeups.effect();
        } else if self.oracle.wakeups.vain(self.now) {
            let wakeup = self.scheduler.machine.next_wakeup();
            let text = format!(
                "{VAIN_TICKS} ticks without an event have come to nothing within {} ms, and the next \
                 is due at {wakeup:?}: a busy loop",
                WITHIN / MS
            );
            self.oracle.fail("contract", None, text);
        }
    }
}
