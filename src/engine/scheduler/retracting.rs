//! Asking prefetched tasks back that are better placed elsewhere.
//!
//! Owns: which of them are asked back, and why. Does not know: when nodes are looked at, or what
//! becomes of a task that has come back.
//!
//! A prefetched task goes ahead of its turn: it can start at its node alone. So it is asked back
//!
//! - when it has waited for two round trips, and another node has a free worker for it (G5), or
//!   something more urgent waits for its node (G6);
//! - when its node has held it up for [`WAITS`] round trips and average runs: at once if something
//!   less urgent is about, which would start before it ([`PASSED_AFTER`]), and whatever else there
//!   is after [`HELD_UP_AFTER`].
//!
//! When the scheduler finishes what runs and starts nothing more, all of them are asked back; when
//! a kind is paused, all of it; and when more of a kind or of a group go on than its limit allows,
//! all of that kind or group.
//!
//! What was asked back for a free worker, or for having been held up, is sent to free workers only
//! from then on. Nothing that comes after it is prefetched to its nodes meanwhile, and what is less
//! urgent and waits there is asked back. So [`order_bound`] holds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::retraction::INTERVAL;
use super::{Intake, SchedulerMachine};
use crate::engine::Timestamp;
use crate::engine::placement::NodeIndex;
use crate::engine::queue::{ClassId, Turn};
use crate::engine::tasks::{Retract, Slot, Stage};
use crate::engine::work;

/// How many round trips and average runs a node may hold a task up. A node is sent what its workers
/// do in two round trips, so most wait for less than half of this.
const WAITS: u32 = 4;
/// The least wait after which a task was held up, if something less urgent may start before it:
/// well above what threads are late by.
const PASSED_AFTER: Duration = Duration::from_millis(10);
/// The least wait after which a task was held up, whatever else waits. At a node of a busy process
/// a whole line may wait for some tens of milliseconds, and gets on.
pub(super) const HELD_UP_AFTER: Duration = Duration::from_millis(250);
/// How many lanes a turn looks at, so that its cost does not grow with the nodes.
const LANES_IN_A_TURN: usize = 32;
/// How many nodes a lane passes over whose free workers are all spoken for, in any case.
const PASSED_BY_A_LANE: usize = 8;
/// How many more of them the lanes of a turn may pass over, so that its cost does not grow with the
/// nodes.
const PASSED_IN_A_TURN: usize = 1024;

/// Returns for how long a task that is due may see less urgent ones start on workers that may run
/// it (G6), from when it is due, or is prefetched if that is later: 4 round trips and runs, 250 ms
/// at the least, and then at most four round trips more. `round_trip` and `run` are averages of the
/// node to which it was prefetched; of a run at most four round trips count. A task is prefetched
/// at most once beyond its bound. With more than a few nodes add 250 us for each 32 of them.
#[must_use]
pub fn order_bound(round_trip: Duration, run: Duration) -> Duration {
    let run = run.min(round_trip * 4);
    HELD_UP_AFTER.max((round_trip + run) * WAITS) + round_trip * 4 + INTERVAL * 4
}

/// For how many workers of one node tasks are asked back from another in one look, at most.
const MOST_OF_ONE: u32 = 256;

/// Why a look may find something to ask back.
struct Reasons {
    /// Whether a node has a free worker.
    idle: bool,
    /// Whether something that waits here is more urgent than something prefetched.
    overtaken: bool,
    /// The lateness of the least urgent task that may start before a prefetched one.
    lowest: u8,
    /// Whether the scheduler starts nothing more.
    ending: bool,
    /// How many more nodes may be passed over.
    to_pass: Cell<usize>,
}

/// A task to be asked back, and the node whose free worker it is for, if it is for one.
struct Ask {
    slot: Slot,
    why: Retract,
    claims: Option<NodeIndex>,
}

/// What is to be asked back from a node.
#[derive(Default)]
struct ToAskBack {
    tasks: Vec<Ask>,
    /// When the next task may have to be asked back.
    next: Option<Timestamp>,
}

impl SchedulerMachine {
    /// Looks at some nodes with prefetched tasks, if it is time for that, and asks back what is
    /// better placed elsewhere.
    pub(super) fn ask_back(&mut self, now: Timestamp) {
        let reasons = self.reasons();
        if self.retraction.begin_look(now, reasons.is_some()) {
            let reasons = reasons.unwrap_or(Reasons {
                idle: false,
                overtaken: false,
                lowest: 0,
                ending: false,
                to_pass: Cell::new(0),
            });
            let mut lanes = 0;
            while lanes < LANES_IN_A_TURN
                && let Some(node) = self.retraction.next_node()
            {
                lanes += self.look_at(now, node, &reasons).max(1);
            }
            self.retraction.end_look();
        }
        self.timers.set_retract(self.retraction.next_look());
    }

    /// Returns why some prefetched task may be better placed elsewhere, at a cost that does not
    /// grow with anything.
    fn reasons(&self) -> Option<Reasons> {
        let (first, last) = (self.prefetched.first()?, self.prefetched.last()?);
        let queued = self.catalogue.queued();
        let (most, least) = (queued.first(), queued.last().unwrap_or(0));
        let reasons = Reasons {
            idle: self.catalogue.has_free(),
            overtaken: most.is_some_and(|queued| queued < last),
            lowest: last.max(least).max(self.retraction.lowest_placed()),
            ending: self.intake == Intake::Finishing,
            to_pass: Cell::new(PASSED_IN_A_TURN),
        };
        let any = reasons.idle || reasons.overtaken || reasons.ending || first < reasons.lowest;
        any.then_some(reasons)
    }

    /// Asks back what is better placed elsewhere than at this node. Returns how many lanes it has.
    fn look_at(&mut self, now: Timestamp, node: NodeIndex, reasons: &Reasons) -> usize {
        work::step();
        let entry = self.roster.get(node);
        let lanes = entry.line.lanes().len();
        if lanes == 0 {
            self.retraction.leave();
            return 0;
        }
        if !entry.is_up() {
            self.retraction.look_again_at(now + HELD_UP_AFTER);
            return lanes;
        }
        let ToAskBack { tasks, next } = self.find(now, node, reasons);
        if let Some(next) = next {
            self.retraction.look_again_at(next);
        }
        for ask in tasks {
            self.retract(now, node, ask);
        }
        lanes
    }

    /// Finds what is to be asked back from a node.
    fn find(&self, now: Timestamp, node: NodeIndex, reasons: &Reasons) -> ToAskBack {
        let entry = self.roster.get(node);
        let ripe_after = entry.load.ripe_after();
        let held_up_after = entry.load.held_up_after(WAITS);
        let waiting = reasons
            .overtaken
            .then(|| self.catalogue.waiting(node, &self.roster))
            .flatten();
        let mut found = ToAskBack::default();
        let overtaken = waiting.and_then(|first| self.first_overtaken(now, node, first));
        // Of each node as many as it has free workers, whichever lanes they are taken from.
        let mut taken = BTreeMap::new();
        for (key, list) in entry.line.lanes() {
            work::step();
            // What must not start now goes back, however it stands with its node.
            let withdrawn = if self.catalogue.is_paused(key.class) {
                Some(Retract::Paused)
            } else if self.catalogue.is_exceeded(key.class) {
                Some(Retract::OverLimit)
            } else {
                reasons.ending.then_some(Retract::Ending)
            };
            let others = self.catalogue.has_other(key.class, node);
            let overtakes = waiting.is_some_and(|first| first.lateness < key.lateness);
            let free = (reasons.idle && others)
                .then(|| self.free_elsewhere(key.class, node, &taken, &reasons.to_pass));
            let mut free = free.into_iter().flatten().peekable();
            let mut taken_here = Vec::new();
            // Something less urgent is placed meanwhile, and would start before it.
            let held_up_after = match key.lateness < reasons.lowest {
                true => held_up_after.max(PASSED_AFTER),
                false => held_up_after.max(HELD_UP_AFTER),
            };
            let exceeded = self.catalogue.exceeded_groups(key.class);
            let is_over_limit = |slot| {
                let group = self.tasks.get(slot).group();
                exceeded.is_some_and(|groups| groups.contains(&group))
            };
            if exceeded.is_some() && withdrawn.is_none() {
                let over = self.tasks.walk(list).filter(|&slot| {
                    work::step();
                    is_over_limit(slot)
                });
                found.tasks.extend(over.map(|slot| Ask {
                    slot,
                    why: Retract::OverLimit,
                    claims: None,
                }));
            }
            for slot in self.tasks.walk(list).filter(|&slot| !is_over_limit(slot)) {
                work::step();
                let Stage::Prefetched { since, .. } = self.tasks.get(slot).stage else {
                    continue;
                };
                let (ripe_at, held_up_at) = (since + ripe_after, since + held_up_after);
                if let Some(why) = withdrawn {
                    let claims = None;
                    found.tasks.push(Ask { slot, why, claims });
                    continue;
                }
                // Before it is ripe, asking back takes longer than it is likely to wait.
                let claims = (ripe_at <= now).then(|| free.next()).flatten();
                let why = if let Some(other) = claims {
                    taken_here.push(other);
                    Retract::FreeElsewhere
                } else if overtaken.is_some_and(|first| first <= key.lateness) {
                    Retract::Overtaken
                } else if others && held_up_at <= now {
                    Retract::HeldUp
                } else {
                    // All behind it in its lane was prefetched later.
                    let ripe = (free.peek().is_some() || overtakes).then_some(ripe_at);
                    found.look_again_at(ripe);
                    found.look_again_at(others.then_some(held_up_at));
                    break;
                };
                found.tasks.push(Ask { slot, why, claims });
            }
            drop(free);
            for other in taken_here {
                *taken.entry(other).or_default() += 1;
            }
        }
        found
    }

    /// Returns the least lateness of a task that goes back for something more urgent, which waits
    /// for its node under the turn `first`. What comes after that task, and its equals, go back
    /// with it: those that were prefetched later would start before it.
    fn first_overtaken(&self, now: Timestamp, node: NodeIndex, first: Turn) -> Option<u8> {
        let entry = self.roster.get(node);
        let ripe_after = entry.load.ripe_after();
        let is_ripe = |list| {
            work::step();
            let oldest = self.tasks.walk(list).next();
            let run = oldest.and_then(|slot| self.tasks.get(slot).stage.placed());
            run.is_some_and(|run| run.since + ripe_after <= now)
        };
        let mut lanes = entry.line.lanes().iter();
        let (key, _) = lanes.find(|(key, list)| first.lateness < key.lateness && is_ripe(list))?;
        Some(key.lateness)
    }

    /// Returns the nodes other than this with a free worker for a class, each as often as it has
    /// one that is neither claimed nor `taken`, the least loaded first.
    fn free_elsewhere(
        &self,
        class: ClassId,
        node: NodeIndex,
        taken: &BTreeMap<NodeIndex, u32>,
        to_pass: &Cell<usize>,
    ) -> impl Iterator<Item = NodeIndex> {
        let nodes = self.catalogue.free_nodes(class);
        let mut passed = 0;
        let free = nodes.filter(move |&other| other != node);
        let free = free.map_while(move |other| {
            work::step();
            let taken = taken.get(&other).copied().unwrap_or(0);
            let spoken_for = taken + self.retraction.claimed(other);
            let workers = self.roster.get(other).free_workers();
            let workers = workers.saturating_sub(spoken_for).min(MOST_OF_ONE);
            if workers == 0 {
                passed += 1;
                if passed > PASSED_BY_A_LANE {
                    to_pass.set(to_pass.get().checked_sub(1)?);
                }
            }
            Some(std::iter::repeat_n(other, workers as usize))
        });
        free.flatten()
    }

    fn retract(&mut self, now: Timestamp, node: NodeIndex, Ask { slot, why, claims }: Ask) {
        if self.unsend(slot) {
            return;
        }
        let task = self.tasks.get_mut(slot);
        let turn = Turn::new(task.priority, task.rank);
        let Stage::Prefetched {
            dispatch,
            retracting,
            ..
        } = &mut task.stage
        else {
            return;
        };
        *retracting = Some(why);
        let dispatch = *dispatch;
        let entry = self.roster.get_mut(node);
        entry.line.retract(&mut self.tasks, slot);
        entry.channel_mut().retract(dispatch);
        entry.load.retract(turn);
        match (why, claims) {
            (Retract::FreeElsewhere, Some(other)) => {
                let until = now + entry.load.ripe_after();
                self.retraction.claim(dispatch, other, until);
            }
            (Retract::HeldUp, _) => {
                entry.load.is_held_up();
                self.enter_load(node);
            }
            _ => {}
        }
        self.roster.touch(node);
    }
}

impl ToAskBack {
    fn look_again_at(&mut self, at: Option<Timestamp>) {
        self.next = self.next.into_iter().chain(at).min();
    }
}
