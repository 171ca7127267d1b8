//! All that a scheduler's machine waits for until a time.
//!
//! Owns: the order in which times come, and when each node is looked at next. Does not know: what
//! follows when one has come.
//!
//! A task that waits for a time costs one entry, and nobody keeps a time of the machine anywhere
//! else: what is waited for is one more [`Timer`]. What waits for a time of the wall clock is kept
//! by that, so that nothing is to be done when the clock is set.

use std::collections::BTreeSet;

use super::placement::NodeIndex;
use super::tasks::Slot;
use super::wall::WallClock;
use super::{LinkId, Timestamp, work};
use crate::task::{Dispatch, TaskId};

/// What is waited for. If several fall at one instant, the earlier variant goes first: a task whose
/// deadline passes as it becomes due does not become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The deadline of a task, older tasks first.
    Deadline(TaskId, Slot),
    /// A task becomes due, older tasks first.
    Due(TaskId, Slot),
    /// A task becomes due at a time of the wall clock, which starts and stops this timer.
    DueAt(TaskId, Slot),
    /// Cancels of a task are answered at the latest.
    Patience(TaskId, Slot),
    /// Cancels of a task that has settled are: they wait for the end of a run of it.
    OrphanPatience(Dispatch, NodeIndex),
    /// A link that is being set up has been silent for too long.
    Handshake(LinkId),
    /// A node is looked at.
    Node(NodeIndex),
    /// Prefetched tasks are looked at, to retract some.
    Retract,
    /// A kind may start another that starts as often as it may.
    Limit,
    /// Nodes that an earlier term had are waited for no longer.
    Takeover,
    /// Nodes that are gone are looked at, to forget some.
    Forget,
}

/// Ten million tasks may wait for their time.
const _: () = assert!(size_of::<(Timestamp, Timer)>() <= 24);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    all: BTreeSet<(Timestamp, Timer)>,
    /// The timers of the wall clock, by its time.
    planned: BTreeSet<(Timestamp, Timer)>,
    wall: WallClock,
    /// When each node is looked at.
    nodes: Vec<Option<Timestamp>>,
    /// When prefetched tasks are looked at.
    retract: Option<Timestamp>,
    /// When the first kind may start another.
    limit: Option<Timestamp>,
}

impl Timers {
    /// Starts a timer of a task or a link. The caller remembers `at`, to stop it.
    pub fn start(&mut self, at: Timestamp, timer: Timer) {
        self.set_of(timer).insert((at, timer));
    }

    /// Stops a timer, unless it has come already.
    pub fn stop(&mut self, at: Timestamp, timer: Timer) {
        self.set_of(timer).remove(&(at, timer));
    }

    fn set_of(&mut self, timer: Timer) -> &mut BTreeSet<(Timestamp, Timer)> {
        match timer {
            Timer::DueAt(..) => &mut self.planned,
            _ => &mut self.all,
        }
    }

    /// Sets the wall clock.
    pub fn set_wall(&mut self, wall: WallClock) {
        self.wall = wall;
    }

    /// Returns the wall clock as it was last set.
    pub fn wall(&self) -> WallClock {
        self.wall
    }

    /// Returns whether anything waits for a time of the wall clock.
    pub fn follows_wall(&self) -> bool {
        !self.planned.is_empty()
    }

    /// Asks for a look at a node no later than `at`.
    pub fn wake_at(&mut self, node: NodeIndex, at: Timestamp) {
        if self.nodes.len() <= node as usize {
            self.nodes.resize(node as usize + 1, None);
        }
        let planned = &mut self.nodes[node as usize];
        if planned.is_none_or(|earlier| earlier > at) {
            if let Some(later) = planned.replace(at) {
                self.all.remove(&(later, Timer::Node(node)));
            }
            self.all.insert((at, Timer::Node(node)));
        }
    }

    /// Sets when prefetched tasks are looked at, in place of what was set before.
    pub fn set_retract(&mut self, at: Option<Timestamp>) {
        if self.retract == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut self.retract, at) {
            self.all.remove(&(old, Timer::Retract));
        }
        if let Some(at) = at {
            self.all.insert((at, Timer::Retract));
        }
    }

    /// Sets when the first kind may start another, in place of what was set before.
    pub fn set_limit(&mut self, at: Option<Timestamp>) {
        if self.limit == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut self.limit, at) {
            self.all.remove(&(old, Timer::Limit));
        }
        if let Some(at) = at {
            self.all.insert((at, Timer::Limit));
        }
    }

    /// Returns the time of the next timer.
    pub fn next(&self) -> Option<Timestamp> {
        self.first().map(|(at, _)| at)
    }

    fn first(&self) -> Option<(Timestamp, Timer)> {
        let planned = self.planned.first();
        let planned = planned.map(|&(at, timer)| (self.wall.moment(at), timer));
        self.all.first().copied().into_iter().chain(planned).min()
    }

    /// Takes out the next timer whose time has come, and returns it with its time.
    pub fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, Timer)> {
        let (at, timer) = self.first().filter(|&(at, _)| at <= now)?;
        work::step();
        self.set_of(timer).pop_first();
        match timer {
            Timer::Node(node) => self.nodes[node as usize] = None,
            Timer::Retract => self.retract = None,
            Timer::Limit => self.limit = None,
            _ => {}
        }
        Some((at, timer))
    }

    /// Stops the timers of all cancels, and returns them in order of time.
    pub fn take_patience(&mut self) -> Vec<(Timestamp, Timer)> {
        let is_patience = |timer| matches!(timer, Timer::Patience(..) | Timer::OrphanPatience(..));
        let taken = self.iter().filter(|&(_, timer)| is_patience(timer));
        let taken = taken.collect();
        self.all.retain(|&(_, timer)| !is_patience(timer));
        taken
    }

    pub fn contains(&self, at: Timestamp, timer: Timer) -> bool {
        match timer {
            Timer::DueAt(..) => self.planned.contains(&(at, timer)),
            _ => self.all.contains(&(at, timer)),
        }
    }

    /// Returns all timers, in order, and then those of the wall clock, in order of that.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, Timer)> {
        self.all.iter().chain(&self.planned).copied()
    }

    pub fn check(&self) -> Result<(), String> {
        let nodes = self.nodes.iter().zip(0..);
        let nodes = nodes.filter_map(|(at, node)| Some(((*at)?, Timer::Node(node))));
        let retract = self.retract.map(|at| (at, Timer::Retract));
        let limit = self.limit.map(|at| (at, Timer::Limit));
        let noted: BTreeSet<_> = nodes.chain(retract).chain(limit).collect();
        let alone = |timer| matches!(timer, Timer::Node(_) | Timer::Retract | Timer::Limit);
        if !self.iter().filter(|&(_, timer)| alone(timer)).eq(noted) {
            return Err("a look at a node is noted for another time than it comes at".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a timer of each kind, `which` of them.
    fn timer(kind: usize, which: u32) -> Timer {
        let task = TaskId::new(u64::from(which) + 1);
        match kind {
            0 => Timer::Deadline(task, which),
            1 => Timer::Due(task, which),
            2 => Timer::Patience(task, which),
            3 => Timer::Handshake(LinkId(u64::from(which))),
            4 => Timer::Node(which),
            _ => Timer::Retract,
        }
    }

    #[test]
    fn of_timers_at_one_instant_the_kinds_go_in_order_and_the_older_first_in_each() {
        let mut timers = Timers::default();
        let at = Timestamp(7);
        for (kind, which) in [(3, 1), (1, 2), (2, 1), (0, 2), (1, 1), (0, 1)] {
            timers.start(at, timer(kind, which));
        }
        timers.set_retract(Some(at));
        timers.wake_at(0, at);
        let popped: Vec<_> = std::iter::from_fn(|| timers.pop(at)).collect();
        let order = [
            (0, 1),
            (0, 2),
            (1, 1),
            (1, 2),
            (2, 1),
            (3, 1),
            (4, 0),
            (5, 0),
        ];
        assert_eq!(popped, order.map(|(kind, which)| (at, timer(kind, which))));
    }

    #[test]
    fn the_patience_of_cancels_is_taken_in_order_of_time_and_nothing_else_is() {
        let mut timers = Timers::default();
        let due = (Timestamp(2), timer(1, 1));
        let orphan = Timer::OrphanPatience(Dispatch::new(1), 0);
        timers.start(Timestamp(3), timer(2, 1));
        timers.start(due.0, due.1);
        timers.start(Timestamp(1), timer(2, 2));
        timers.start(Timestamp(2), orphan);
        let taken = [(1, timer(2, 2)), (2, orphan), (3, timer(2, 1))];
        let taken = taken.map(|(at, timer)| (Timestamp(at), timer));
        assert_eq!(timers.take_patience(), taken);
        assert_eq!(timers.iter().collect::<Vec<_>>(), [due]);
    }

    #[test]
    fn what_waits_for_the_wall_clock_follows_it() {
        let mut timers = Timers::default();
        let (planned, due) = (Timer::DueAt(TaskId::new(1), 0), timer(1, 2));
        timers.start(Timestamp(100), planned);
        timers.start(Timestamp(50), due);
        assert_eq!(timers.next(), Some(Timestamp(50)));
        // Set on by 70, at 10 of the machine's clock.
        timers.set_wall(WallClock::showing(Timestamp(80), Timestamp(10)));
        assert_eq!(timers.next(), Some(Timestamp(30)));
        assert_eq!(timers.pop(Timestamp(29)), None);
        // Set back.
        timers.set_wall(WallClock::showing(Timestamp(0), Timestamp(29)));
        assert_eq!(timers.pop(Timestamp(60)), Some((Timestamp(50), due)));
        assert_eq!(timers.pop(Timestamp(128)), None);
        assert_eq!(timers.pop(Timestamp(129)), Some((Timestamp(129), planned)));
        assert!(!timers.follows_wall());
    }

    proptest! {
        #[test]
        fn what_comes_is_the_least_of_what_was_started_and_not_stopped(
            steps in proptest::collection::vec((0..8usize, 0..4u32, 0..20u64), 0..200)
        ) {
            let mut timers = Timers::default();
            let mut model: Vec<(Timestamp, Timer)> = Vec::new();
            for (step, which, at) in steps {
                let at = Timestamp(at);
                match step {
                    0..4 => {
                        let entry = (at, timer(step, which));
                        timers.start(entry.0, entry.1);
                        model.retain(|other| *other != entry);
                        model.push(entry);
                    }
                    4 => {
                        timers.wake_at(which, at);
                        let node = timer(4, which);
                        let known = model.iter().position(|&(_, other)| other == node);
                        let earlier = known.map(|known| model.swap_remove(known).0);
                        model.push((earlier.map_or(at, |earlier| earlier.min(at)), node));
                    }
                    5 => {
                        let set = Some(at).filter(|_| which > 0);
                        timers.set_retract(set);
                        model.retain(|&(_, other)| other != Timer::Retract);
                        model.extend(set.map(|at| (at, Timer::Retract)));
                    }
                    6 => {
                        let entry = (at, timer(which as usize, which));
                        timers.stop(entry.0, entry.1);
                        model.retain(|other| *other != entry);
                    }
                    _ => {
                        let next = model.iter().min().copied().filter(|&(next, _)| next <= at);
                        prop_assert_eq!(timers.pop(at), next);
                        model.retain(|other| Some(*other) != next);
                    }
                }
                prop_assert_eq!(timers.next(), model.iter().min().map(|&(at, _)| at));
                prop_assert_eq!(timers.check(), Ok(()));
            }
            model.sort();
            prop_assert_eq!(timers.iter().collect::<Vec<_>>(), model);
        }
    }
}
