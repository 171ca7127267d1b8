//! The nodes and tasks of a history, and what an operator does to nodes amid its faults.
//!
//! Owns: their ranges. Does not know: the faults of a family.

use std::time::Duration;

use callboard::config::SchedulerConfig;
use callboard::retry::RetryPolicy;

use super::{
    AudiencePlan, BLOCK, Family, Fault, KINDS, MS, Mode, NetPlan, NodePlan, Plan, SECOND, TaskPlan,
    Time, nanos,
};

pub fn draw_config(rng: &mut fastrand::Rng, family: Family) -> SchedulerConfig {
    let mut config = SchedulerConfig::default();
    if rng.bool() {
        config.heartbeat = Duration::from_millis(500);
        config.lease = Duration::from_secs(5);
    }
    config.max_prefetch = match rng.u32(..4) {
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
        // Aside, so that it changes nothing else of what a seed draws.
        let mut aside = fastrand::Rng::with_seed(rng.clone().u64(..));
        if aside.u32(..5) == 0 {
            config.max_status_bytes = aside.u64(1..200);
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

pub fn draw_net(rng: &mut fastrand::Rng, family: Family, config: &SchedulerConfig) -> NetPlan {
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

pub fn draw_nodes(rng: &mut fastrand::Rng, family: Family, active: Time) -> Vec<NodePlan> {
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
                forwarded: false,
                once: false,
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
                    .map(str::to_owned)
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

pub fn draw_tasks(rng: &mut fastrand::Rng, family: Family, active: Time) -> Vec<TaskPlan> {
    let count = match rng.u32(..4) {
        0 => rng.usize(60..200),
        _ => rng.usize(10..60),
    };
    let calm = matches!(family, Family::Calm | Family::Order | Family::Cuts);
    let exclusives = match rng.u32(..6) {
        0 => Some(1),
        1 | 2 => Some(3),
        _ => None,
    };
    let burst = rng.u32(..3) == 0;
    let plain = rng.u32(..4) == 0;
    let keyed_share = if rng.u32(..6) == 0 { 2 } else { 10 };
    let quick = rng.u32(..4) == 0;
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
                    keyed_share,
                    quick,
                    longest,
                    labels: family != Family::Order,
                },
            )
        })
        .collect()
}

pub struct Draw {
    at: Time,
    calm: bool,
    /// One task in so many is exclusive.
    exclusives: Option<u32>,
    plain: bool,
    /// One task in so many has a key.
    keyed_share: u32,
    /// Nearly all are so short that they are pipelined.
    quick: bool,
    longest: u32,
    labels: bool,
}

pub fn draw_task(rng: &mut fastrand::Rng, draw: Draw) -> TaskPlan {
    let one_in = |rng: &mut fastrand::Rng, n: u32| !draw.plain && rng.u32(..n) == 0;
    let quick = draw.quick && rng.u32(..32) != 0;
    let kind = match quick {
        true => 0,
        false => rng.usize(..KINDS.len()),
    };
    let ms = if quick {
        0
    } else if rng.bool() {
        rng.u32(..50)
    } else if draw.longest > 5_000 && one_in(rng, 6) {
        // Longer than a lease.
        rng.u32(..40_000)
    } else {
        rng.u32(..draw.longest)
    };
    let mode = if one_in(rng, 20) {
        Mode::Permanent
    } else if !draw.calm && !quick && kind != BLOCK && one_in(rng, 20) {
        Mode::Endless
    } else {
        Mode::Ends
    };
    let key = (!quick && one_in(rng, draw.keyed_share)).then(|| rng.u8(..5));
    if let Some(key) = key {
        return keyed(rng, key, &draw);
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
        timeout: (mode == Mode::Endless || (draw.labels && one_in(rng, 10))).then(|| {
            let most = if mode == Mode::Endless { 40_000 } else { 5_000 };
            Duration::from_millis(rng.u64(1..most))
        }),
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
                vec!["gpu".to_owned()]
            } else {
                vec!["gpu".to_owned(), "north".to_owned()]
            }
        } else {
            Vec::new()
        },
        exclusive: draw.exclusives.is_some_and(|share| rng.u32(..share) == 0),
        key: None,
        max_reroutes: one_in(rng, 20).then(|| rng.u32(..3)),
        audience: match rng.u32(..8) {
            0 => AudiencePlan::Own,
            1 => AudiencePlan::Caller,
            _ => AudiencePlan::Current,
        },
        watched: one_in(rng, 8),
        // Aside, so that it changes nothing else of what a seed draws.
        notes: fastrand::Rng::with_seed(rng.clone().u64(..)).u8(..4) == 0,
        cancel_after: (!draw.calm && one_in(rng, 10)).then(|| rng.u64(..8 * SECOND)),
        attach_after: None,
        group: None,
    }
}

/// Draws a task with a key. Tasks with one key are equal but for one in six, so that they join.
pub fn keyed(rng: &mut fastrand::Rng, key: u8, draw: &Draw) -> TaskPlan {
    let odd = usize::from(rng.u32(..6) == 0);
    TaskPlan {
        at: draw.at,
        kind: ([0, BLOCK, BLOCK, 1, BLOCK][usize::from(key)] + odd) % KINDS.len(),
        ms: [10, 900, 1800, 6000, 25_000][usize::from(key)] + u32::try_from(odd).unwrap(),
        fails: 0,
        mode: Mode::Ends,
        args_bytes: 0,
        priority: 0,
        delay: None,
        deadline: (!draw.calm && rng.u32(..4) == 0)
            .then(|| Duration::from_millis(rng.u64(1..8_000))),
        timeout: None,
        retry: None,
        labels: Vec::new(),
        exclusive: draw.exclusives.is_some() && rng.bool(),
        key: Some(key),
        max_reroutes: None,
        audience: match rng.u32(..4) {
            0 => AudiencePlan::Own,
            1 | 2 => AudiencePlan::Caller,
            _ => AudiencePlan::Current,
        },
        watched: false,
        notes: fastrand::Rng::with_seed(rng.clone().u64(..)).u8(..4) == 0,
        cancel_after: (!draw.calm && rng.u32(..4) == 0).then(|| rng.u64(..8 * SECOND)),
        attach_after: None,
        group: None,
    }
}

/// Lets an operator take nodes out, or declare them dead, in the middle of what goes wrong there.
pub fn draw_removals(rng: &mut fastrand::Rng, faults: &mut Vec<(Time, Fault)>, nodes: usize) {
    for index in 0..faults.len() {
        let (at, fault) = &faults[index];
        let (node, span) = match *fault {
            Fault::CutHost { node, span, .. }
            | Fault::CutLink { node, span, .. }
            | Fault::FreezeNode { node, span } => (node, span),
            Fault::FreezeScheduler { span } => (rng.usize(..nodes), span),
            Fault::Reset { node, .. }
            | Fault::KillProcess { node, .. }
            | Fault::KillHost { node, .. } => (node, SECOND),
            _ => continue,
        };
        let at = at + rng.u64(..span + SECOND);
        let back = rng.u64(..20 * SECOND);
        match rng.u32(..16) {
            0 => faults.push((at, Fault::RemoveNode { node, back })),
            1 => faults.push((at, Fault::DeclareDead { node })),
            _ => {}
        }
    }
}

/// Draws other schedulers that come while a node hears nothing of its own.
pub fn draw_visits(rng: &mut fastrand::Rng, plan: &mut Plan) {
    let silence = 2 * nanos(plan.config.heartbeat);
    for index in 0..plan.faults.len() {
        let (at, fault) = &plan.faults[index];
        let (node, span) = match *fault {
            Fault::CutHost { node, span, .. } | Fault::CutLink { node, span, .. } => (node, span),
            Fault::Reset { node, .. } => (node, SECOND),
            Fault::FreezeScheduler { span } => (rng.usize(..plan.nodes.len()), span),
            Fault::RestartScheduler { down } => (rng.usize(..plan.nodes.len()), down),
            _ => continue,
        };
        let at = at + rng.u64(..silence) + rng.u64(..span + SECOND);
        let stays = match rng.u32(..3) {
            0 => 0,
            _ => rng.u64(..2 * SECOND),
        };
        if rng.u32(..3) == 0 {
            plan.faults.push((at, Fault::Visit { node, stays }));
        }
    }
}

/// Draws nodes at which no thread can be started for a while.
pub fn draw_no_threads(rng: &mut fastrand::Rng, plan: &mut Plan) {
    if rng.u32(..3) == 0 {
        for _ in 0..rng.usize(1..4) {
            let at = rng.u64(..plan.quiet_from);
            let node = rng.usize(..plan.nodes.len());
            let span = rng.u64(SECOND..10 * SECOND);
            plan.faults.push((at, Fault::NoThread { node, span }));
        }
    }
}

/// Processes that are cut off until another of their name has joined in their place; some of them
/// die then, and the others return.
pub fn draw_replacements(rng: &mut fastrand::Rng, plan: &mut Plan) {
    if rng.u32(..4) != 0 {
        return;
    }
    let silence = 2 * nanos(plan.config.heartbeat);
    let node = rng.usize(..plan.nodes.len());
    let at = rng.u64(SECOND..plan.quiet_from);
    let span = silence + rng.u64(..2 * nanos(plan.config.lease));
    let cut = Fault::CutHost {
        node,
        up: true,
        down: true,
        span,
    };
    plan.faults.push((at, cut));
    let double = at + silence + rng.u64(..SECOND);
    plan.faults.push((double, Fault::Double { node }));
    if rng.bool() {
        let dies = double + SECOND + rng.u64(..20 * SECOND);
        plan.faults.push((dies, Fault::KillOlder { node }));
    }
}

/// Draws nodes with a forwarder in front.
pub fn draw_forwarders(rng: &mut fastrand::Rng, nodes: &mut [NodePlan]) {
    if rng.u32(..6) == 0 {
        for node in nodes.iter_mut().filter(|node| node.listens && !node.local) {
            node.forwarded = rng.bool();
        }
    }
}

/// Draws so many schedulers that a node must forget one that has been away: its own among them, if
/// the lease is over.
pub fn draw_crowds(rng: &mut fastrand::Rng, plan: &mut Plan) {
    let lease = nanos(plan.config.lease);
    for index in 0..plan.faults.len() {
        let (at, fault) = &plan.faults[index];
        let (node, span) = match *fault {
            Fault::CutHost { node, span, .. } => (node, span),
            Fault::FreezeScheduler { span } => (rng.usize(..plan.nodes.len()), span),
            _ => continue,
        };
        if span > lease && rng.u32(..3) == 0 {
            let at = at + rng.u64(lease..span);
            plan.faults.push((at, Fault::Crowd { node }));
        }
    }
}

/// Operators who pause kinds and close intakes for a while.
pub fn draw_pauses(rng: &mut fastrand::Rng, plan: &mut Plan) {
    if rng.u32(..3) > 0 {
        return;
    }
    for _ in 0..rng.usize(1..4) {
        let at = rng.u64(..plan.quiet_from);
        let (kind, span) = (rng.usize(..KINDS.len()), rng.u64(..10 * SECOND));
        let fault = match rng.u32(..6) {
            0 => Fault::CloseIntake { kind, span },
            4.. => Fault::Limit {
                kind,
                concurrency: rng.bool().then(|| rng.u32(1..5)),
                each: rng.bool().then(|| rng.u32(1..3)),
                interval: rng.bool().then(|| rng.u64(1..500 * MS)),
                each_interval: rng.bool().then(|| rng.u64(1..500 * MS)),
                burst: rng.u32(1..6),
                span: 4 * span,
            },
            1 => Fault::Pause { kind: None, span },
            _ => Fault::Pause {
                kind: Some(kind),
                span,
            },
        };
        plan.faults.push((at, fault));
    }
    draw_groups(rng, &mut plan.tasks);
}

/// Puts tasks in groups: of some much is to be done, of others little.
pub fn draw_groups(rng: &mut fastrand::Rng, tasks: &mut [TaskPlan]) {
    if rng.bool() {
        return;
    }
    let groups = rng.u8(1..8);
    // Tasks of one key are equal, so that they join.
    for task in tasks.iter_mut().filter(|task| task.key.is_none()) {
        let most = rng.u8(0..=groups);
        task.group = (most > 0).then(|| rng.u8(..most));
    }
}

/// Returns a node that can run anything, for the quiet end.
pub fn rescue() -> NodePlan {
    NodePlan {
        name: "rescue".to_owned(),
        listens: true,
        joins: false,
        probe: false,
        local: false,
        forwarded: false,
        once: false,
        workers: 4,
        kinds: (0..KINDS.len()).collect(),
        labels: vec!["gpu".to_owned(), "north".to_owned()],
        kept: 64 << 20,
        from: 0,
        drift_ppm: 0,
        offset: SECOND,
    }
}

/// Returns most kinds.
pub fn some_kinds(rng: &mut fastrand::Rng) -> Vec<usize> {
    (0..KINDS.len()).filter(|_| rng.u32(..8) != 0).collect()
}

/// Returns each label or not.
pub fn some_labels(rng: &mut fastrand::Rng) -> Vec<String> {
    let labels = ["gpu", "north"].into_iter().filter(|_| rng.bool());
    labels.map(str::to_owned).collect()
}
