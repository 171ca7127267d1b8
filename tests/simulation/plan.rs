//! What happens in one history: the nodes, the tasks, the faults and when, all drawn from one seed.
//!
//! Owns: the choice of a family and everything drawn within it. Does not know: how any of it is carried out.

use std::time::Duration;

use callboard::config::SchedulerConfig;
use callboard::retry::RetryPolicy;

/// Nanoseconds of true time since the start of a history.
pub type Time = u64;
pub const MS: Time = 1_000_000;
pub const SECOND: Time = 1_000 * MS;
pub const NEVER: Time = u64::MAX;

/// The kinds that exist, and whether a run of it can be stopped from outside.
pub const KINDS: [(&str, bool); 4] = [
    ("quick", false),
    ("slow", false),
    ("block", true),
    ("rare", false),
];
pub const BLOCK: usize = 2;

/// Which promises a history strains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// No faults at all.
    Calm,
    /// One node, one worker, no faults: the order of starts is exact.
    Order,
    /// Only cuts too short to cost anything.
    Cuts,
    /// Processes and machines that die and return.
    Kills,
    /// Everything.
    Everything,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub family: Family,
    pub config: SchedulerConfig,
    pub net: NetPlan,
    pub nodes: Vec<NodePlan>,
    pub tasks: Vec<TaskPlan>,
    pub faults: Vec<(Time, Fault)>,
    /// From here on nothing is handed in and every fault heals.
    pub quiet_from: Time,
    /// How late a tick may come.
    pub late: Time,
    /// How long a client takes over one status.
    pub client_pace: Time,
    /// Whether the history ends with `shut_down` in the middle of things.
    pub shut_down: bool,
}

#[derive(Clone, Debug)]
pub struct NetPlan {
    pub min: Time,
    pub max: Time,
    /// One message in so many takes 200 ms; 0 is none.
    pub spike: u32,
    /// How long whoever drives a machine waits for a dial.
    pub dial_timeout: Time,
}

#[derive(Clone, Debug)]
pub struct NodePlan {
    pub name: String,
    /// The scheduler dials it.
    pub listens: bool,
    /// It dials the scheduler.
    pub joins: bool,
    /// It names a port to probe.
    pub probe: bool,
    /// It lives in the scheduler's process.
    pub local: bool,
    pub workers: u32,
    pub kinds: Vec<usize>,
    pub labels: Vec<&'static str>,
    pub kept: u64,
    /// When it is there; and when it is made known, if it is dialled.
    pub from: Time,
    pub drift_ppm: i64,
    pub offset: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ends by itself, after as many failures as asked for.
    Ends,
    /// Fails for good.
    Permanent,
    /// Ends only when it is stopped.
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudiencePlan {
    Current,
    Own,
    Caller,
}

#[derive(Clone, Debug)]
pub struct TaskPlan {
    pub at: Time,
    pub kind: usize,
    pub ms: u32,
    pub fails: u8,
    pub mode: Mode,
    pub args_bytes: usize,
    pub priority: i8,
    pub delay: Option<Duration>,
    pub deadline: Option<Duration>,
    pub timeout: Option<Duration>,
    pub retry: Option<RetryPolicy>,
    pub labels: Vec<&'static str>,
    pub exclusive: bool,
    pub key: Option<u8>,
    pub max_reroutes: Option<u32>,
    pub audience: AudiencePlan,
    pub watched: bool,
    pub cancel_after: Option<Time>,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// The network of a node's machine is cut, towards the scheduler, from it, or both.
    CutHost {
        node: usize,
        up: bool,
        down: bool,
        span: Time,
    },
    /// The newest connection of a node is stuck while fresh ones would work.
    CutLink {
        node: usize,
        up: bool,
        down: bool,
        span: Time,
    },
    /// A connection breaks while both processes live; what is in flight is lost.
    Reset {
        node: usize,
        tell_scheduler: bool,
        tell_node: bool,
    },
    /// A node's network is slow.
    Slow {
        node: usize,
        bytes_per_ms: u64,
        span: Time,
    },
    /// A process dies; its machine says so to whoever dials.
    KillProcess {
        node: usize,
        back: Option<Time>,
    },
    /// A whole machine dies, silently.
    KillHost {
        node: usize,
        back: Time,
    },
    FreezeNode {
        node: usize,
        span: Time,
    },
    FreezeScheduler {
        span: Time,
    },
    RestartScheduler {
        down: Time,
    },
    /// Another process of the same name dials in.
    Double {
        node: usize,
    },
    ClientDies {
        gap: Time,
    },
    ClientSlow {
        span: Time,
    },
    OwnClientDies,
    RemoveNode {
        node: usize,
        back: Time,
    },
    DrainNode {
        node: usize,
        back: Time,
    },
    NodeDrains {
        node: usize,
        back: Time,
    },
    NodeStops {
        node: usize,
        back: Time,
    },
    SetWorkers {
        node: Option<usize>,
        workers: u32,
    },
    NodeWorkers {
        node: usize,
        workers: u32,
    },
    SetRetry {
        attempts: u32,
    },
    /// A handler blocks a thread of the node.
    Stall {
        node: usize,
        span: Time,
    },
    Drain,
}

impl Plan {
    /// The history of this seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x9E37_79B9_7F4A_7C15);
        let family = match rng.u32(..20) {
            0..2 => Family::Calm,
            2..4 => Family::Order,
            4..8 => Family::Cuts,
            8..12 => Family::Kills,
            _ => Family::Everything,
        };
        let config = draw_config(&mut rng, family);
        let net = draw_net(&mut rng, family, &config);
        let active = rng.u64(10..40) * SECOND;
        let late = if family == Family::Everything && rng.u32(..3) == 0 {
            300 * MS
        } else {
            5 * MS
        };
        let nodes = draw_nodes(&mut rng, family, active);
        let tasks = draw_tasks(&mut rng, family, active);
        let mut plan = Self {
            family,
            client_pace: if family == Family::Everything {
                rng.u64(0..20) * MS
            } else {
                MS
            },
            config,
            net,
            nodes,
            tasks,
            faults: Vec::new(),
            quiet_from: active,
            late,
            shut_down: family == Family::Everything && rng.u32(..10) == 0,
        };
        plan.faults = match family {
            Family::Calm | Family::Order => Vec::new(),
            Family::Cuts => plan.draw_cuts(&mut rng),
            Family::Kills => plan.draw_kills(&mut rng),
            Family::Everything => plan.draw_everything(&mut rng),
        };
        plan.faults.sort_by_key(|(at, _)| *at);
        if let Some((last, _)) = plan.faults.last() {
            plan.quiet_from = plan.quiet_from.max(*last + SECOND);
        }
        plan
    }

    /// The longest cut that must cost nothing: the lease, less a heartbeat and a second. A history with
    /// exclusive tasks must stay within four fifths of the lease, when a node drops them.
    fn harmless(&self) -> Time {
        let lease = nanos(self.config.lease);
        let kept = if self.tasks.iter().any(|task| task.exclusive) {
            lease / 5 * 4
        } else {
            lease
        };
        kept - nanos(self.config.heartbeat) - SECOND
    }

    fn draw_cuts(&self, rng: &mut fastrand::Rng) -> Vec<(Time, Fault)> {
        let most = self.harmless();
        let settle = 2 * nanos(self.config.heartbeat) + 3 * SECOND;
        let mut faults = Vec::new();
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
                    match rng.u32(..5) {
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

    fn draw_kills(&self, rng: &mut fastrand::Rng) -> Vec<(Time, Fault)> {
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

    fn draw_everything(&self, rng: &mut fastrand::Rng) -> Vec<(Time, Fault)> {
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
        faults
    }
}

pub fn nanos(span: Duration) -> Time {
    Time::try_from(span.as_nanos()).unwrap()
}

fn directions(rng: &mut fastrand::Rng) -> (bool, bool) {
    match rng.u32(..4) {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    }
}

fn draw_config(rng: &mut fastrand::Rng, family: Family) -> SchedulerConfig {
    let mut config = SchedulerConfig::default();
    if rng.bool() {
        config.heartbeat = Duration::from_millis(500);
        config.lease = Duration::from_secs(5);
    }
    config.max_ahead = match rng.u32(..4) {
        0 => 0,
        1 => rng.u32(1..8),
        _ => 4096,
    };
    config.retry = match rng.u32(..3) {
        0 => RetryPolicy::exponential(Duration::from_millis(100), Duration::from_secs(3)),
        _ => RetryPolicy::fixed(Duration::from_millis(rng.u64(..1500))),
    };
    config.accept_joins = true;
    if family == Family::Everything {
        if rng.u32(..5) == 0 {
            config.max_statuses = rng.usize(1..20);
        }
        if rng.u32(..4) == 0 {
            config.max_tasks = rng.usize(5..60);
        }
        if rng.u32(..4) == 0 {
            config.status_window = rng.usize(1..5);
        }
        if rng.u32(..4) == 0 {
            config.max_reroutes = rng.u32(..3);
        }
    }
    config
}

fn draw_net(rng: &mut fastrand::Rng, family: Family, config: &SchedulerConfig) -> NetPlan {
    let max = match family {
        Family::Cuts => rng.u64(MS..40 * MS),
        _ => rng.u64(MS..50 * MS),
    };
    NetPlan {
        min: 100_000,
        max,
        spike: if family == Family::Everything && rng.bool() {
            50
        } else {
            0
        },
        dial_timeout: match family {
            Family::Everything => rng.u64(300..3000) * MS,
            _ => 500 * MS,
        }
        .min(nanos(config.lease) / 4),
    }
}

fn draw_nodes(rng: &mut fastrand::Rng, family: Family, active: Time) -> Vec<NodePlan> {
    let count = if family == Family::Order {
        1
    } else {
        rng.usize(1..=6)
    };
    (0..count)
        .map(|index| {
            let local = matches!(family, Family::Calm | Family::Order | Family::Everything)
                && index == 0
                && rng.u32(..5) == 0;
            let how = if local { 9 } else { rng.u32(..6) };
            NodePlan {
                name: format!("node{index}"),
                listens: how < 3 || how == 5,
                joins: (3..=5).contains(&how),
                probe: (3..=5).contains(&how) && rng.bool(),
                local,
                workers: if family == Family::Order {
                    1
                } else {
                    rng.u32(1..=5)
                },
                kinds: (0..KINDS.len())
                    .filter(|_| family == Family::Order || rng.u32(..8) != 0)
                    .collect(),
                labels: ["gpu", "north"]
                    .into_iter()
                    .filter(|_| rng.bool())
                    .collect(),
                kept: if family == Family::Everything && rng.u32(..10) == 0 {
                    rng.u64(20..400)
                } else {
                    64 << 20
                },
                from: if rng.u32(..4) == 0 {
                    rng.u64(..active / 2)
                } else {
                    0
                },
                drift_ppm: rng.i64(-100..=100),
                offset: rng.u64(1_000..2_000) * 1_000 * SECOND,
            }
        })
        .collect()
}

fn draw_tasks(rng: &mut fastrand::Rng, family: Family, active: Time) -> Vec<TaskPlan> {
    let count = match rng.u32(..4) {
        0 => rng.usize(60..200),
        _ => rng.usize(10..60),
    };
    let calm = matches!(family, Family::Calm | Family::Order | Family::Cuts);
    let exclusives = rng.u32(..3) == 0;
    let burst = rng.u32(..3) == 0;
    let plain = rng.u32(..4) == 0;
    // Long tasks by the hundred would only stretch the history.
    let longest = if count > 60 { 1500 } else { 8000 };
    (0..count)
        .map(|_| {
            let at = if burst {
                rng.u64(..MS * 100)
            } else {
                rng.u64(..active)
            };
            draw_task(
                rng,
                Draw {
                    at,
                    calm,
                    exclusives,
                    plain,
                    longest,
                    labels: family != Family::Order,
                },
            )
        })
        .collect()
}

struct Draw {
    at: Time,
    calm: bool,
    exclusives: bool,
    plain: bool,
    longest: u32,
    labels: bool,
}

fn draw_task(rng: &mut fastrand::Rng, draw: Draw) -> TaskPlan {
    let one_in = |rng: &mut fastrand::Rng, n: u32| !draw.plain && rng.u32(..n) == 0;
    let kind = rng.usize(..KINDS.len());
    let ms = if rng.bool() {
        rng.u32(..50)
    } else {
        rng.u32(..draw.longest)
    };
    let mode = if one_in(rng, 20) {
        Mode::Permanent
    } else if !draw.calm && kind != BLOCK && one_in(rng, 20) {
        Mode::Endless
    } else {
        Mode::Ends
    };
    let key = one_in(rng, 10).then(|| rng.u8(..5));
    if let Some(key) = key {
        return keyed(rng, draw.at, key, draw.exclusives);
    }
    TaskPlan {
        at: draw.at,
        kind,
        ms,
        fails: if one_in(rng, 6) { rng.u8(1..4) } else { 0 },
        mode,
        args_bytes: if one_in(rng, 30) { 4000 } else { 0 },
        priority: if one_in(rng, 3) { rng.i8(-2..3) } else { 0 },
        delay: one_in(rng, 10).then(|| Duration::from_millis(rng.u64(..10_000))),
        deadline: (!draw.calm && one_in(rng, 12))
            .then(|| Duration::from_millis(rng.u64(1..20_000))),
        timeout: (mode == Mode::Endless || (!draw.calm && one_in(rng, 10)))
            .then(|| Duration::from_millis(rng.u64(1..5_000))),
        retry: if mode == Mode::Endless {
            Some(RetryPolicy::fixed(Duration::from_millis(200)).max_attempts(rng.u32(1..4)))
        } else {
            one_in(rng, 8).then(|| {
                RetryPolicy::fixed(Duration::from_millis(rng.u64(..2000)))
                    .max_attempts(rng.u32(1..6))
            })
        },
        labels: if draw.labels && one_in(rng, 6) {
            if rng.bool() {
                vec!["gpu"]
            } else {
                vec!["gpu", "north"]
            }
        } else {
            Vec::new()
        },
        exclusive: draw.exclusives && one_in(rng, 3),
        key: None,
        max_reroutes: one_in(rng, 20).then(|| rng.u32(..3)),
        audience: match rng.u32(..8) {
            0 => AudiencePlan::Own,
            1 => AudiencePlan::Caller,
            _ => AudiencePlan::Current,
        },
        watched: one_in(rng, 8),
        cancel_after: (!draw.calm && one_in(rng, 10)).then(|| rng.u64(..8 * SECOND)),
    }
}

/// Tasks with one key are equal but for one in six, so that they join.
fn keyed(rng: &mut fastrand::Rng, at: Time, key: u8, exclusives: bool) -> TaskPlan {
    let odd = usize::from(rng.u32(..6) == 0);
    TaskPlan {
        at,
        kind: (usize::from(key) + odd) % KINDS.len(),
        ms: u32::from(key) * 900 + u32::try_from(odd).unwrap(),
        fails: 0,
        mode: Mode::Ends,
        args_bytes: 0,
        priority: 0,
        delay: None,
        deadline: None,
        timeout: None,
        retry: None,
        labels: Vec::new(),
        exclusive: exclusives && rng.bool(),
        key: Some(key),
        max_reroutes: None,
        audience: AudiencePlan::Current,
        watched: false,
        cancel_after: None,
    }
}
