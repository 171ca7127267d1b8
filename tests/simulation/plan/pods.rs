//! Nodes with names that never come again, as an orchestrator gives them, and few that may be
//! remembered when they are gone.
//!
//! Owns: how many there are, how long each lives, and how it goes. Does not know: who is
//! forgotten.

use std::time::Duration;

use super::draw::{some_kinds, some_labels};
use super::{Fault, MS, NodePlan, Plan, SECOND, Time};

/// What their names begin with.
const NAME: &str = "pod";

/// Lets few nodes that are gone be remembered now and then, and lets more than these come and go.
pub fn draw_pods(seed: u64, plan: &mut Plan) {
    // From a generator of its own, so that all else that a seed draws stays as it is.
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x90D5_90D5_0000_0001);
    if rng.u32(..8) != 0 {
        return;
    }
    plan.max_gone = Some(match rng.u32(..4) {
        0 => 0,
        1 => rng.usize(1..4),
        _ => rng.usize(4..16),
    });
    // The nodes that join may be too many by themselves.
    if rng.u32(..4) == 0 {
        return;
    }
    // So short that pods are gone for good within a history.
    plan.config.heartbeat = Duration::from_millis(500);
    plan.config.lease = Duration::from_secs(5);
    plan.config.max_prefetch = plan.config.max_prefetch.min(4);
    plan.config.outlive = plan.config.outlive.map(|it| it.min(plan.config.lease));
    let active = plan.quiet_from;
    for number in 0..rng.usize(4..48) {
        let born = rng.u64(..active);
        draw_pod(&mut rng, plan, number, born);
    }
}

fn draw_pod(rng: &mut fastrand::Rng, plan: &mut Plan, number: usize, born: Time) {
    let node = plan.nodes.len();
    let returns = rng.u32(..6) == 0;
    plan.nodes.push(NodePlan {
        name: format!("{NAME}{number:02}"),
        listens: false,
        joins: true,
        probe: rng.bool(),
        local: false,
        forwarded: false,
        once: !returns,
        workers: rng.u32(1..4),
        kinds: some_kinds(rng),
        labels: some_labels(rng),
        kept: 64 << 20,
        from: born,
        drift_ppm: rng.i64(-100..=100),
        offset: rng.u64(1_000..2_000) * 1_000 * SECOND,
    });
    let mut at = born + rng.u64(50 * MS..6 * SECOND);
    let back = rng.u64(..30 * SECOND);
    let span = rng.u64(SECOND..15 * SECOND);
    let mut push = |at: Time, fault: Fault| plan.faults.push((at, fault));
    match rng.u32(..12) {
        // It is away for so long that it may be forgotten, and lives on.
        0 => push(at, Fault::FreezeNode { node, span }),
        1 | 2 => {
            let (up, down) = [(true, true), (true, false), (false, true)][rng.usize(..3)];
            let cut = Fault::CutHost {
                node,
                up,
                down,
                span,
            };
            push(at, cut);
            if rng.bool() {
                push(at + rng.u64(..span), Fault::RemoveNode { node, back });
            }
        }
        3 => push(at, Fault::RemoveNode { node, back }),
        4 => push(at, Fault::DrainNode { node, back: span }),
        _ => {}
    }
    at += rng.u64(..2 * span);
    let end = match rng.u32(..6) {
        0 => Fault::KillHost { node, back },
        1 | 2 => {
            let declared = at + rng.u64(..10 * SECOND);
            if rng.bool() {
                push(declared, Fault::DeclareDead { node });
            }
            let back = Some(back);
            Fault::KillProcess { node, back }
        }
        _ => Fault::NodeStops { node, back },
    };
    push(at, end);
}
