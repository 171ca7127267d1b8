//! Histories of load: more to do than workers, runs of very different length, several priorities.
//!
//! Owns: their nodes, their tasks and when these come. Does not know: faults, of which there are
//! none.

use callboard::config::SchedulerConfig;

use super::draw::{draw_groups, some_kinds, some_labels};
use super::{Family, KINDS, MS, NetPlan, NodePlan, Plan, SECOND, TaskPlan, Time};

/// What a history asks of its tasks.
struct Mix {
    /// The longest of the short runs, in milliseconds.
    short: u32,
    /// The longest of the long ones.
    long: u32,
    /// One task in so many is long.
    long_share: u32,
    priorities: Vec<i8>,
    /// One task in so many is exclusive.
    exclusive_share: u32,
    /// One task in so many asks for a label.
    label_share: u32,
}

/// Draws one; a big one has nodes of up to 200 workers and up to 2,000 tasks.
pub fn draw(mut rng: fastrand::Rng, big: bool) -> Plan {
    let rng = &mut rng;
    let mut config = SchedulerConfig::default();
    config.accept_joins = true;
    config.max_prefetch = match rng.u32(..8) {
        0 => 0,
        1 | 2 => rng.u32(1..8),
        _ => 4096,
    };
    let max = rng.u64(MS..50 * MS);
    let mix = Mix {
        short: rng.u32(1..=u32::try_from(4 * max / MS).unwrap_or(1)),
        long: rng.u32(1_000..8_000),
        long_share: [8, 30, 100][rng.usize(..3)],
        priorities: match rng.u32(..4) {
            0 => vec![0],
            1 => vec![-128, 127],
            2 => vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            _ => vec![-2, -1, 0, 1, 2],
        },
        exclusive_share: [5, 50, u32::MAX][rng.usize(..3)],
        label_share: [5, u32::MAX][rng.usize(..2)],
    };
    let nodes = draw_nodes(rng, big);
    let mut tasks = draw_tasks(rng, &mix, &nodes, big);
    let last = tasks.iter().map(|task| task.at).max().unwrap_or(0);
    // Drawn last, so that a history of before is the same but for this.
    if rng.u32(..3) == 0 {
        tasks.extend(nobodys(rng, last));
    }
    draw_groups(rng, &mut tasks);
    Plan {
        family: Family::Load,
        config,
        net: NetPlan {
            min: 100_000,
            max,
            spike: 0,
            dial_timeout: 500 * MS,
        },
        nodes,
        tasks,
        faults: Vec::new(),
        quiet_from: last + SECOND,
        late: 5 * MS,
        client_pace: 0,
        late_answers: false,
        shut_down: false,
        fleet: None,
        store: None,
        max_gone: None,
    }
}

fn draw_nodes(rng: &mut fastrand::Rng, big: bool) -> Vec<NodePlan> {
    let workers = if big { 200 } else { 5 };
    let narrow = rng.u32(..3) == 0;
    (0..rng.usize(2..=5))
        .map(|index| NodePlan {
            name: format!("node{index}"),
            listens: true,
            joins: false,
            probe: false,
            local: index == 0 && rng.u32(..5) == 0,
            forwarded: false,
            once: false,
            workers: if narrow { 1 } else { rng.u32(1..=workers) },
            kinds: some_kinds(rng),
            labels: some_labels(rng),
            kept: 64 << 20,
            // Some come when others are full.
            from: if rng.u32(..4) == 0 {
                rng.u64(..20 * SECOND)
            } else {
                0
            },
            drift_ppm: rng.i64(-100..=100),
            offset: rng.u64(1_000..2_000) * 1_000 * SECOND,
        })
        .collect()
}

/// Draws tasks that come for as long as they take all workers, more or less: first short ones, then
/// of all lengths.
fn draw_tasks(rng: &mut fastrand::Rng, mix: &Mix, nodes: &[NodePlan], big: bool) -> Vec<TaskPlan> {
    let count = if big {
        rng.usize(200..=2_000)
    } else {
        rng.usize(60..300)
    };
    let learned = rng.usize(..count / 2);
    let mut tasks: Vec<TaskPlan> = (0..count)
        .map(|index| {
            let one_in = |rng: &mut fastrand::Rng, n: u32| rng.u32(..n) == 0;
            let long = index >= learned && one_in(rng, mix.long_share);
            TaskPlan {
                kind: rng.usize(..KINDS.len()),
                ms: if long {
                    rng.u32(mix.long / 2..=mix.long)
                } else {
                    rng.u32(..=mix.short)
                },
                priority: mix.priorities[rng.usize(..mix.priorities.len())],
                exclusive: one_in(rng, mix.exclusive_share),
                labels: if one_in(rng, mix.label_share) {
                    vec!["gpu".to_owned()]
                } else {
                    Vec::new()
                },
                ..TaskPlan::default()
            }
        })
        .collect();
    let work: Time = tasks
        .iter()
        .map(|task| Time::from(task.ms.max(1)) * MS)
        .sum();
    let workers: Time = nodes.iter().map(|node| Time::from(node.workers)).sum();
    // From half of what they can do to twice as much.
    let span = work / workers * 100 / rng.u64(50..200);
    let burst = rng.u32(..4) == 0;
    for (index, task) in tasks.iter_mut().enumerate() {
        let steady = span / count as Time * index as Time;
        task.at = SECOND
            + if burst {
                rng.u64(..=span / 8)
            } else {
                steady + rng.u64(..10 * MS)
            };
    }
    tasks
}

/// Draws tasks that no node may run, all of different labels. As long as they wait, a round of
/// placement goes through what has changed alone.
fn nobodys(rng: &mut fastrand::Rng, last: Time) -> impl Iterator<Item = TaskPlan> {
    (0..rng.usize(10..40)).map(move |number| TaskPlan {
        at: SECOND,
        labels: vec![format!("nobody's {number}")],
        cancel_after: Some(last),
        ..TaskPlan::default()
    })
}
