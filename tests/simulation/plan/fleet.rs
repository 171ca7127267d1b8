//! Histories of two schedulers over one fleet of nodes.
//!
//! Owns: what both have to do, and what becomes of the other one: nothing happens to the scheduler
//! that is judged, nor to the nodes. Does not know: how any of it is carried out.

use std::ops::Range;
use std::time::Duration;

use callboard::config::SchedulerConfig;
use serde::{Deserialize, Serialize};

use super::{Family, Fault, KINDS, MS, NetPlan, NodePlan, Plan, SECOND, TaskPlan, Time, nanos};

/// The other scheduler, and what it shares with the one that is judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetPlan {
    /// How many tasks each process runs at once for both.
    pub max_workers_total: Option<u32>,
    pub tasks: Vec<TaskPlan>,
}

impl FleetPlan {
    /// Returns how long the longest of the other's runs takes.
    pub fn longest_run(&self) -> Time {
        let longest = self.tasks.iter().map(|task| Time::from(task.ms)).max();
        longest.unwrap_or(0) * MS / 100 * 120
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum NeighbourFault {
    Dies {
        down: Time,
    },
    /// It ends by its own will.
    ShutsDown {
        down: Time,
    },
    Freezes {
        span: Time,
    },
    /// Its network is cut, towards it, from it, or both.
    CutOff {
        up: bool,
        down: bool,
        span: Time,
    },
    /// All its connections break, and each side may learn of it.
    Resets {
        tells_it: bool,
        tells_nodes: bool,
    },
}

impl NeighbourFault {
    pub fn span(&self) -> Time {
        match *self {
            Self::Dies { down } | Self::ShutsDown { down } => down,
            Self::Freezes { span } | Self::CutOff { span, .. } => span,
            Self::Resets { .. } => 0,
        }
    }
}

pub fn draw(rng: &mut fastrand::Rng) -> Plan {
    let mut config = SchedulerConfig::default();
    config.accept_joins = true;
    config.heartbeat = Duration::from_millis(500);
    config.lease = Duration::from_secs(5);
    config.max_prefetch = match rng.u32(..4) {
        0 => 0,
        1 => rng.u32(1..4),
        _ => 4096,
    };
    // So even that one round trip tells of the next.
    let max = rng.u64(2 * MS..20 * MS);
    let net = NetPlan {
        min: max / 4 * 3,
        max,
        spike: 0,
        dial_timeout: 500 * MS,
    };
    let nodes = draw_nodes(rng);
    let workers = nodes.iter().map(|node| node.workers).max().unwrap_or(1);
    let active = rng.u64(6..14) * SECOND;
    let work = Work {
        until: active,
        workers: nodes.iter().map(|node| u64::from(node.workers)).sum(),
    };
    // Half of the others have more than enough to do all the time.
    let much = if rng.bool() { 25..150 } else { 150..500 };
    let (tasks, others) = (work.draw(rng, 400, 25..300), work.draw(rng, 800, much));
    let fleet = FleetPlan {
        max_workers_total: (rng.u32(..4) != 0).then(|| rng.u32(2..=2 * workers)),
        tasks: others,
    };
    let lease = nanos(config.lease);
    let faults = draw_faults(rng, active, lease);
    Plan {
        family: Family::Fleet,
        config,
        net,
        nodes,
        tasks,
        faults,
        quiet_from: active + SECOND,
        late: 5 * MS,
        client_pace: 0,
        late_answers: false,
        shut_down: false,
        fleet: Some(fleet),
        store: None,
        max_gone: None,
    }
}

fn draw_nodes(rng: &mut fastrand::Rng) -> Vec<NodePlan> {
    (0..rng.usize(1..=3))
        .map(|index| {
            let joins = rng.u32(..3) == 0;
            NodePlan {
                name: format!("node{index}"),
                listens: !joins,
                joins,
                probe: joins && rng.bool(),
                local: false,
                forwarded: false,
                once: false,
                workers: rng.u32(1..=6),
                kinds: (0..KINDS.len()).collect(),
                labels: Vec::new(),
                kept: 64 << 20,
                from: 0,
                drift_ppm: rng.i64(-100..=100),
                offset: rng.u64(1_000..2_000) * 1_000 * SECOND,
            }
        })
        .collect()
}

/// What one of the two has to do.
struct Work {
    until: Time,
    workers: u64,
}

impl Work {
    /// Draws tasks of one length or of very different ones, as much as so many hundredths of what
    /// all nodes can do.
    fn draw(&self, rng: &mut fastrand::Rng, longest: u32, much: Range<u64>) -> Vec<TaskPlan> {
        let short = rng.u32(1..60);
        let long_share = [1, 4, 20, u32::MAX][rng.usize(..4)];
        let long = rng.u32(60..longest);
        let exclusive_share = [1, 3, u32::MAX][rng.usize(..3)];
        let burst = rng.u32(..4) == 0;
        let mean = u64::from(match long_share {
            1 => long,
            4 => (3 * short + long) / 4,
            _ => short,
        });
        let most = self.until / MS * self.workers / mean.max(1);
        let count = (most * rng.u64(much) / 100).clamp(5, 300);
        (0..count)
            .map(|_| TaskPlan {
                at: match burst {
                    true => SECOND + rng.u64(..100 * MS),
                    false => rng.u64(SECOND..self.until),
                },
                kind: rng.usize(..KINDS.len()),
                ms: match rng.u32(..long_share) {
                    0 => rng.u32(long / 2..=long),
                    _ => rng.u32(..=short),
                },
                exclusive: rng.u32(..exclusive_share) == 0,
                ..TaskPlan::default()
            })
            .collect()
    }
}

fn draw_faults(rng: &mut fastrand::Rng, active: Time, lease: Time) -> Vec<(Time, Fault)> {
    let mut faults: Vec<(Time, Fault)> = (0..rng.u32(..6))
        .map(|_| {
            let at = rng.u64(SECOND..active);
            let down = rng.u64(..3 * SECOND);
            let span = match rng.bool() {
                true => rng.u64(..lease / 2),
                false => rng.u64(..2 * lease),
            };
            let which = rng.u32(..3);
            let fault = match rng.u32(..5) {
                0 => NeighbourFault::Dies { down },
                1 => NeighbourFault::ShutsDown { down },
                2 => NeighbourFault::Freezes { span },
                3 => NeighbourFault::CutOff {
                    up: which != 0,
                    down: which != 1,
                    span,
                },
                _ => NeighbourFault::Resets {
                    tells_it: rng.bool(),
                    tells_nodes: rng.bool(),
                },
            };
            (at, Fault::Neighbour(fault))
        })
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}
