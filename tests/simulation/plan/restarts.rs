//! Histories of a scheduler with a store that dies and starts again.
//!
//! Owns: when it dies, and for how long it is away. Does not know: what a start finds.

use std::time::Duration;

use super::clients::draw_nobody;
use super::draw::{draw_config, draw_net, draw_nodes, draw_tasks};
use super::pods::draw_pods;
use crate::lives::CLOSING;

use super::{Family, Fault, MS, Plan, SECOND, Time, nanos};

pub fn draw(seed: u64, rng: &mut fastrand::Rng) -> Plan {
    let family = Family::Restarts;
    let mut config = draw_config(rng, family);
    // The default is longer than a history.
    config.outlive = Some(Duration::from_nanos(rng.u64(..=nanos(config.lease))));
    let net = draw_net(rng, family, &config);
    let active = rng.u64(10..40) * SECOND;
    let mut nodes = draw_nodes(rng, family, active);
    if rng.u32(..3) == 0 {
        let node = &mut nodes[0];
        (node.local, node.listens, node.joins, node.probe) = (true, false, false, false);
    }
    let tasks = draw_tasks(rng, family, active);
    let mut plan = Plan {
        family,
        config,
        net,
        nodes,
        tasks,
        faults: Vec::new(),
        quiet_from: active,
        late: 5 * MS,
        client_pace: rng.u64(..20) * MS,
        late_answers: rng.u32(..3) == 0,
        shut_down: false,
        fleet: None,
        store: None,
        max_gone: None,
    };
    plan.draw_store(rng);
    if rng.u32(..4) == 0 {
        plan.store = Some(0);
    }
    if rng.u32(..8) == 0 {
        plan.draw_death(rng);
    } else if rng.bool() {
        plan.draw_restarts_in_time(rng);
    } else {
        plan.draw_restarts(rng);
    }
    if rng.u32(..3) == 0 {
        plan.draw_copies(rng);
    }
    plan.sort_faults();
    plan.config.tell_at_once = rng.u32(..5) == 0;
    // Numbers of a start on a copy rise by the clock alone.
    let goes_back = |(_, fault): &(Time, Fault)| matches!(fault, Fault::PutBack { .. });
    if rng.u32(..3) == 0 && !plan.faults.iter().any(goes_back) {
        plan.draw_clocks(rng);
    }
    for task in &mut plan.tasks {
        let attaches = rng.u32(..4) == 0;
        task.attach_after = attaches.then(|| rng.u64(..20 * SECOND));
    }
    plan.draw_cancels_after_a_start(rng);
    draw_nobody(seed, &mut plan);
    draw_pods(seed, &mut plan);
    plan.sort_faults();
    plan
}

impl Plan {
    /// Returns how long a scheduler must be up before it may be away again for as long as costs
    /// nothing.
    fn between_restarts(&self) -> Time {
        2 * nanos(self.config.heartbeat) + 3 * SECOND
    }

    fn draw_restarts_in_time(&mut self, rng: &mut fastrand::Rng) {
        let most = self.harmless();
        let mut at = SECOND + rng.u64(..8 * SECOND);
        while at < self.quiet_from {
            let down = match rng.u32(..3) {
                0 => most,
                1 => rng.u64(..SECOND),
                _ => rng.u64(..most),
            };
            let fault = match rng.u32(..3) {
                0 => Fault::CloseScheduler {
                    down: down.saturating_sub(CLOSING),
                },
                _ => Fault::RestartScheduler { down },
            };
            self.faults.push((at, fault));
            at += down + self.between_restarts() + rng.u64(..8 * SECOND);
        }
    }

    fn draw_death(&mut self, rng: &mut fastrand::Rng) {
        let death = Fault::DieWithBatch {
            batch: rng.u64(1..300),
            keeps: rng.bool(),
            down: rng.u64(..self.harmless()),
        };
        self.faults.push((0, death));
    }

    /// Returns the same plan, but that all that goes wrong is that the scheduler dies while this
    /// batch is under way, which is stored or not.
    pub fn dying_with(&self, batch: u64, keeps: bool) -> Self {
        let down = self.harmless();
        let death = Fault::DieWithBatch { batch, keeps, down };
        Self {
            faults: vec![(0, death)],
            ..self.clone()
        }
    }

    fn draw_restarts(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.u32(1..8) {
            let at = rng.u64(..self.quiet_from);
            let down = match rng.bool() {
                true => rng.u64(..SECOND),
                false => rng.u64(..2 * nanos(self.config.lease)),
            };
            let fault = match rng.u32(..4) {
                0 => Fault::CloseScheduler { down },
                _ => Fault::RestartScheduler { down },
            };
            self.faults.push((at, fault));
        }
    }

    /// Copies the store now and then, and starts the scheduler again on such a copy.
    fn draw_copies(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..rng.u32(1..3) {
            let copied = rng.u64(..self.quiet_from);
            self.faults.push((copied, Fault::CopyStore));
            for _ in 0..rng.u32(1..3) {
                let age = match rng.bool() {
                    true => rng.u64(..SECOND),
                    false => rng.u64(..10 * SECOND),
                };
                let put_back = Fault::PutBack {
                    marked: rng.bool(),
                    down: rng.u64(..2 * nanos(self.config.lease)),
                };
                self.faults.push((copied + age, put_back));
            }
        }
    }

    /// Sets the wall clock back while the scheduler is away, or before.
    fn draw_clocks(&mut self, rng: &mut fastrand::Rng) {
        let by = match rng.u32(..3) {
            0 => rng.u64(..SECOND),
            1 => rng.u64(..60 * SECOND),
            _ => rng.u64(..3600 * SECOND),
        };
        let at = rng.u64(..self.quiet_from);
        self.faults.push((at, Fault::SetClockBack { by }));
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// Cancels some tasks in the second after a start, in which few nodes have told what they run.
    fn draw_cancels_after_a_start(&mut self, rng: &mut fastrand::Rng) {
        let starts = self.faults.iter().filter_map(|(at, fault)| match fault {
            Fault::RestartScheduler { down }
            | Fault::CloseScheduler { down }
            | Fault::PutBack { down, .. } => Some((*at, at + down)),
            _ => None,
        });
        for (died, started) in starts {
            for _ in 0..rng.u32(..4) {
                let task = rng.choice(&mut self.tasks).filter(|task| task.at < died);
                if let Some(task) = task {
                    let asked = started + rng.u64(..SECOND);
                    task.cancel_after = Some(asked - task.at);
                }
            }
        }
    }

    /// Returns whether all that goes wrong for nodes is that the scheduler is away now and then,
    /// never for so long that it may cost a run, and that its store fails.
    pub fn only_restarts_in_time(&self) -> bool {
        let mut back = 0;
        let mut in_time = |at: Time, down: Time| {
            let in_time = down <= self.harmless() && at >= back;
            back = at + down + self.between_restarts();
            in_time
        };
        let mut faults = self.faults.iter().filter(|(_, it)| !it.is_about_clients());
        let count = faults.clone().count();
        self.family == Family::Restarts
            && faults.all(|(at, fault)| match fault {
                Fault::RestartScheduler { down } => in_time(*at, *down),
                Fault::CloseScheduler { down } => in_time(*at, down + CLOSING),
                // When that is, the store tells.
                Fault::DieWithBatch { down, .. } => count == 1 && *down <= self.harmless(),
                Fault::StoreFull { .. }
                | Fault::StoreUnknown { .. }
                | Fault::SetClockBack { .. } => true,
                _ => false,
            })
    }
}
