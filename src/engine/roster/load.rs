//! How much a node takes: now, and ahead of its workers.
//!
//! Owns: the arithmetic of a node's load, and what is learned from runs for it. Does not know: which node is chosen.

use std::time::Duration;

use super::{Node, State};
use crate::engine::placement::Room;

/// The args of tasks that wait at a node: nothing more is sent ahead beyond it. It is what a line of a gigabit a
/// second carries in an eighth of a second. Large tasks that take less long than their way would pile up at the
/// node without it, in memory that is touched for the first time, which costs more than a copy.
const MAX_AHEAD_BYTES: usize = 16 << 20;
/// The longest round trip that is believed, in nanoseconds: what took longer was held up by a cut or a
/// stall, and whoever sent ahead by it would pile tasks up where they wait.
const MAX_ROUND_TRIP: u64 = 500_000_000;

impl Node {
    /// Workers that are taken, or out of reach.
    pub fn taken(&self) -> u32 {
        // Ghosts of a life occupy its workers; a node without an epoch has none.
        self.running
            .saturating_add(self.ghosts.len() as u32)
            .saturating_add(self.stalled)
    }

    /// Whether it counts among the nodes that could run something.
    pub fn takes_tasks(&self) -> bool {
        self.state == State::Up && !self.draining && !self.leaving && !self.removed
    }

    /// How much may be placed on it.
    pub fn room(&self, max_ahead: u32) -> Room {
        if !self.takes_tasks() || self.refusing {
            return Room::None;
        }
        let taken = self.taken().saturating_add(self.ahead);
        if taken < self.workers {
            return Room::Free {
                taken,
                of: self.workers,
            };
        }
        let places = self.places_ahead(max_ahead);
        if self.ahead < places && self.ahead_bytes < MAX_AHEAD_BYTES {
            Room::Ahead {
                taken: self.ahead,
                of: places,
            }
        } else {
            Room::None
        }
    }

    /// How many tasks may wait at the node, so that its workers do not wait for a round trip: what
    /// they do in two of them. None when a run takes more than four: then the wait is small beside it,
    /// and a task that waits at a node cannot run at another.
    fn places_ahead(&self, max_ahead: u32) -> u32 {
        if self.run_time == 0
            || self.round_trip == 0
            || self.run_time > self.round_trip.saturating_mul(4)
        {
            return 0;
        }
        let per_worker = (self.round_trip.saturating_mul(2)).div_ceil(self.run_time.max(1));
        let usable = self.workers.saturating_sub(self.stalled);
        let places = per_worker.saturating_mul(u64::from(usable));
        u32::try_from(places).unwrap_or(u32::MAX).min(max_ahead)
    }

    /// Learns from a run that was placed on a free worker.
    pub fn learn(&mut self, ran: Duration, whole: Duration) {
        let average = |old: u64, new: Duration, least: u64, most: u64| {
            let new = u64::try_from(new.as_nanos())
                .unwrap_or(most)
                .clamp(least, most);
            if old == 0 {
                new
            } else {
                old - old / 8 + new / 8
            }
        };
        self.run_time = average(self.run_time, ran, 1_000, u64::MAX / 16);
        // The shortest round trip is that of a wake-up between threads.
        self.round_trip = average(
            self.round_trip,
            whole.saturating_sub(ran),
            20_000,
            MAX_ROUND_TRIP,
        );
    }

    /// Learns from a run alone, since its wait says nothing of the round trip.
    pub fn learn_run(&mut self, ran: Duration) {
        let round_trip = Duration::from_nanos(self.round_trip);
        self.learn(ran, ran.saturating_add(round_trip));
    }
}
