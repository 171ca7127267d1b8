//! What befalls the nodes, and when.
//!
//! Owns: that one seed draws one plan. Does not know: how a fault is done.

use std::time::Duration;

use crate::LEASE;

/// One way in which a node, or the network to it, fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and a new process under the same name in the end.
    Kill,
    /// SIGSTOP, and SIGCONT in the end.
    Freeze,
    /// Every connection broken, and no new one.
    Cut,
    /// Nothing arrives from the node.
    SilentThere,
    /// Nothing arrives at the node.
    SilentBack,
    /// Nothing arrives either way.
    Silent,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Kill,
        Self::Freeze,
        Self::Cut,
        Self::SilentThere,
        Self::SilentBack,
        Self::Silent,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Freeze => "frozen",
            Self::Cut => "cut off",
            Self::SilentThere => "not heard",
            Self::SilentBack => "deaf",
            Self::Silent => "neither heard nor hearing",
        }
    }
}

/// One fault of one node.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Since the start.
    pub at: Duration,
    pub until: Duration,
    pub node: usize,
    pub fault: Fault,
}

impl Planned {
    /// Returns whether it outlasts the lease.
    pub fn is_long(&self) -> bool {
        self.until - self.at > LEASE
    }
}

/// What a node gets to recover before its next fault: long enough that its exclusive tasks end.
const PAUSE: Duration = Duration::from_secs(3);
/// The pauses between two faults of the whole, in milliseconds.
const BETWEEN: std::ops::Range<u64> = 100..900;
/// How many nodes may be in trouble at once: the others have to do the work.
const AT_ONCE: usize = 8;

/// Draws the faults of so long a run, in order.
pub fn draw(seed: u64, length: Duration, nodes: usize) -> Vec<Planned> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut free = vec![Duration::ZERO; nodes];
    let mut plan: Vec<Planned> = Vec::new();
    let mut at = Duration::from_secs(2);
    while at < length {
        let troubled = plan.iter().filter(|planned| planned.until > at).count();
        let candidates: Vec<_> = (0..nodes).filter(|&node| free[node] <= at).collect();
        if troubled < AT_ONCE
            && let Some(&node) = rng.choice(&candidates)
        {
            let fault = Fault::ALL[rng.usize(..Fault::ALL.len())];
            let lease = LEASE.as_millis() as u64;
            let long = fault != Fault::Kill && rng.u8(..3) == 0;
            let millis = match long {
                true => lease + rng.u64(500..3_000),
                false => rng.u64(50..lease / 2),
            };
            let until = at + Duration::from_millis(millis);
            free[node] = until + PAUSE;
            plan.push(Planned {
                at,
                until,
                node,
                fault,
            });
        }
        at += Duration::from_millis(rng.u64(BETWEEN));
    }
    plan
}

/// One kill of the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// Since the start.
    pub at: Duration,
    /// When it is started again.
    pub until: Duration,
}

/// The pauses between two kills of the scheduler, in milliseconds.
const BETWEEN_KILLS: std::ops::Range<u64> = 3_000..8_000;
/// How long there is none, in milliseconds: never so long that a node's work is lost by it.
const NO_SCHEDULER: std::ops::Range<u64> = 0..1_500;

/// Draws the kills of the scheduler in so long a run, in order.
pub fn draw_outages(seed: u64, length: Duration) -> Vec<Outage> {
    let mut rng = fastrand::Rng::with_seed(!seed);
    let mut plan = Vec::new();
    let mut at = Duration::from_millis(rng.u64(BETWEEN_KILLS));
    // The last process has something left to do.
    while at + Duration::from_secs(3) < length {
        let until = at + Duration::from_millis(rng.u64(NO_SCHEDULER));
        plan.push(Outage { at, until });
        at = until + Duration::from_millis(rng.u64(BETWEEN_KILLS));
    }
    plan
}
