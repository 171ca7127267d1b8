//! What becomes of the clients of a history, and when nobody is to be told.
//!
//! Owns: when an operator says so, and what goes before it. Does not know: what is dropped then.

use super::{Family, Fault, MS, Plan, SECOND};

/// Lets an operator say now and then that nobody is to be told, also while statuses wait for the
/// next client, or are with one that is slow, dies, or is the client no more.
pub fn draw_nobody(seed: u64, plan: &mut Plan) {
    // From a generator of its own, so that all else that a seed draws stays as it is.
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x4E0B_0D1E_5E77_1E00);
    if rng.u32(..6) != 0 {
        return;
    }
    if rng.u32(..3) == 0 {
        // So little is with a client at once that more waits for it.
        plan.config.status_window = rng.usize(1..4);
        plan.client_pace = plan.client_pace.max(rng.u64(..50) * MS);
    }
    let restarts = plan.family == Family::Restarts;
    for _ in 0..rng.usize(1..4) {
        let at = rng.u64(..plan.quiet_from);
        let gap = rng.u64(..10 * SECOND);
        let before = at.saturating_sub(rng.u64(..=gap));
        match rng.u32(..5) {
            0 => plan.faults.push((before, Fault::ClientDies { gap })),
            1 => plan.faults.push((before, Fault::ClearClient { gap })),
            2 => {
                let span = rng.u64(..20 * SECOND);
                plan.faults.push((before, Fault::ClientSlow { span }));
            }
            // Nobody was to be told from the start.
            3 => plan.faults.push((0, Fault::TellNobody { span: Some(at) })),
            _ => {}
        }
        let span = match rng.u32(..4) {
            // Not before the next start of the scheduler, if at all.
            0 | 1 if restarts => None,
            0 => None,
            1 => Some(rng.u64(..SECOND)),
            _ => Some(rng.u64(..20 * SECOND)),
        };
        plan.faults.push((at, Fault::TellNobody { span }));
        // The one that was the client until then is an own one of nobody now.
        for _ in 0..rng.usize(..3) {
            let after = at + rng.u64(..3 * SECOND);
            plan.faults.push((after, Fault::OwnClientDies));
        }
    }
}
