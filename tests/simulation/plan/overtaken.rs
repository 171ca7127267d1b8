//! Cancels that a deadline overtakes while their task's run goes on in a process that another one
//! of its name replaces.
//!
//! Owns: which tasks are due and cancelled then. Does not know: which of them the process has.

use std::time::Duration;

use super::{Fault, MS, Mode, Plan, SECOND};

/// Lets cancels wait to hear of a run as its process is replaced: they wait for a second at most.
pub fn draw_overtaken(seed: u64, plan: &mut Plan) {
    // From a generator of its own, so that all else that a seed draws stays as it is.
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x0DD5_0F7E_4CA1_1CE1);
    let doubles = plan.faults.iter();
    let doubles = doubles.filter(|(_, fault)| matches!(fault, Fault::Double { .. }));
    for at in doubles.map(|&(at, _)| at).collect::<Vec<_>>() {
        let due = at.saturating_sub(rng.u64(..SECOND));
        let begun = due.saturating_sub(8 * SECOND)..due.saturating_sub(SECOND);
        if rng.bool() {
            continue;
        }
        let begun = plan.tasks.iter_mut().filter(|it| begun.contains(&it.at));
        for task in begun {
            if rng.bool() {
                continue;
            }
            let left = due - task.at;
            (task.mode, task.ms, task.fails) = (Mode::Ends, 20_000, 0);
            task.delay = None;
            task.timeout = None;
            task.key = None;
            task.deadline = Some(Duration::from_nanos(left));
            task.cancel_after = Some(left.saturating_sub(rng.u64(..200 * MS)));
        }
    }
}
