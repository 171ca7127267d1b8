//! The faults of a family and when they come.
//!
//! Owns: their ranges. Does not know: nodes and tasks, or how a fault is carried out.

use super::{Fault, MS, Plan, SECOND, Time, nanos};

impl Plan {
    /// Returns the longest cut that must cost nothing: the lease, less a heartbeat and a second. A
    /// history with exclusive tasks must stay within four fifths of the lease, when a node drops
    /// them.
    pub fn harmless(&self) -> Time {
        let lease = nanos(self.config.lease);
        let kept = if self.tasks.iter().any(|task| task.exclusive) {
            lease / 5 * 4
        } else {
            lease
        };
        kept - nanos(self.config.heartbeat) - SECOND
    }

    pub fn draw_cuts(&self, rng: &mut fastrand::Rng) -> Vec<(Time, Fault)> {
        let most = self.harmless();
        let settle = 2 * nanos(self.config.heartbeat) + 3 * SECOND;
        let mut faults = Vec::new();
        if rng.u32(..5) == 0 {
            // A scheduler that was frozen must read before it expires anyone: as a cut of all at
            // once.
            let mut at = 2 * SECOND + rng.u64(..5 * SECOND);
            while at < self.quiet_from {
                let span = if rng.bool() {
                    most
                } else {
                    rng.u64(100 * MS..most)
                };
                faults.push((at, Fault::FreezeScheduler { span }));
                at += span + settle + rng.u64(..10 * SECOND);
            }
            return faults;
        }
        for node in 0..self.nodes.len() {
            let mut at = 2 * SECOND + rng.u64(..5 * SECOND);
            while at < self.quiet_from {
                let span = if rng.bool() {
                    most
                } else {
                    rng.u64(100 * MS..most)
                };
                let (up, down) = directions(rng);
                faults.push((
                    at,
                    match rng.u32(..6) {
                        5 => Fault::FreezeNode { node, span },
                        0 => Fault::Reset {
                            node,
                            tell_scheduler: rng.bool(),
                            tell_node: rng.bool(),
                        },
                        1 => Fault::CutLink {
                            node,
                            up,
                            down,
                            span,
                        },
                        _ => Fault::CutHost {
                            node,
                            up,
                            down,
                            span,
                        },
                    },
                ));
                at += span + settle + rng.u64(..10 * SECOND);
            }
        }
        faults
    }

    pub fn draw_kills(&self, rng: &mut fastrand::Rng) -> Vec<(Time, Fault)> {
        let count = rng.usize(1..6);
        (0..count)
            .map(|_| {
                let at = rng.u64(SECOND..self.quiet_from);
                let node = rng.usize(..self.nodes.len());
                let fault = match rng.u32(..5) {
                    0 => Fault::KillHost {
                        node,
                        back: rng.u64(..40) * SECOND,
                    },
                    1 => Fault::NodeStops {
                        node,
                        back: rng.u64(..10) * SECOND,
                    },
                    _ => Fault::KillProcess {
                        node,
                        back: match rng.u32(..3) {
                            0 => None,
                            1 => Some(rng.u64(..200 * MS)),
                            _ => Some(rng.u64(..20 * SECOND)),
                        },
                    },
                };
                (at, fault)
            })
            .collect()
    }

    /// Draws a store that takes its time, and what becomes of it.
    pub fn draw_store(&mut self, rng: &mut fastrand::Rng) {
        let slow = match rng.u32(..3) {
            0 => rng.u64(1..400 * MS),
            _ => rng.u64(1..20 * MS),
        };
        self.store = Some(slow);
        for _ in 0..rng.usize(..4) {
            let at = rng.u64(..self.quiet_from);
            let span = rng.u64(..5 * SECOND);
            let fault = match rng.u32(..2) {
                0 => Fault::StoreFull { span },
                _ => Fault::StoreUnknown { span },
            };
            self.faults.push((at, fault));
        }
    }

    pub fn draw_everything(&self, rng: &mut fastrand::Rng) -> Vec<(Time, Fault)> {
        let lease = nanos(self.config.lease);
        let count = rng.usize(1..16);
        let mut faults = self.draw_kills(rng);
        faults.truncate(rng.usize(..3));
        for _ in 0..count {
            let at = rng.u64(SECOND..self.quiet_from);
            let node = rng.usize(..self.nodes.len());
            let span = if rng.bool() {
                rng.u64(..lease)
            } else {
                rng.u64(..lease * 2)
            };
            let back = rng.u64(..20 * SECOND);
            let (up, down) = directions(rng);
            faults.push((
                at,
                match rng.u32(..26) {
                    0..4 => Fault::CutHost {
                        node,
                        up,
                        down,
                        span,
                    },
                    4..6 => Fault::CutLink {
                        node,
                        up,
                        down,
                        span,
                    },
                    6..9 => Fault::Reset {
                        node,
                        tell_scheduler: rng.bool(),
                        tell_node: rng.bool(),
                    },
                    9 => Fault::Slow {
                        node,
                        bytes_per_ms: 1 << rng.u32(..8),
                        span,
                    },
                    10..13 => Fault::FreezeNode { node, span },
                    13 => Fault::FreezeScheduler { span },
                    14 => Fault::RestartScheduler {
                        down: rng.u64(..20 * SECOND),
                    },
                    15 => Fault::Double { node },
                    16 => Fault::ClientDies {
                        gap: rng.u64(..5 * SECOND),
                    },
                    17 => Fault::ClientSlow { span },
                    18 => Fault::OwnClientDies,
                    19 => Fault::RemoveNode { node, back },
                    20 => Fault::DrainNode { node, back },
                    21 => Fault::NodeDrains { node, back },
                    22 => Fault::SetWorkers {
                        node: rng.bool().then_some(node),
                        workers: rng.u32(..6),
                    },
                    23 => Fault::NodeWorkers {
                        node,
                        workers: rng.u32(..6),
                    },
                    24 => Fault::SetRetry {
                        attempts: rng.u32(1..12),
                    },
                    _ => {
                        if rng.u32(..4) == 0 && at > self.quiet_from / 4 * 3 {
                            Fault::Drain
                        } else {
                            Fault::Stall {
                                node,
                                span: rng.u64(..5 * SECOND),
                            }
                        }
                    }
                },
            ));
        }
        // A node of the own process is taken out again before it is up.
        let mut again = Vec::new();
        for (at, fault) in &faults {
            if let Fault::RemoveNode { node, back } = *fault
                && self.nodes[node].local
            {
                let soon = at + back + rng.u64(..80_000);
                again.push((soon, Fault::RemoveNode { node, back }));
            }
        }
        faults.extend(again);
        faults
    }
}

fn directions(rng: &mut fastrand::Rng) -> (bool, bool) {
    match rng.u32(..4) {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    }
}
