//! The tasks that were prefetched to one node and have not started there, as far as is known.
//!
//! Owns: their order, apart from what runs at the node. Does not know: when one of them is asked
//! back, or why.
//!
//! Tasks of one priority and class are in a lane of their own, first come first. So a look for what
//! may go elsewhere never walks past what may not.

use crate::engine::queue::ClassId;
use crate::engine::tasks::{List, NO_SLOT, Slot, Tasks};

/// What the tasks of a lane share: less is sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub lateness: u8,
    pub class: ClassId,
}

impl LaneKey {
    fn of(tasks: &Tasks, slot: Slot) -> Self {
        let task = tasks.get(slot);
        Self {
            lateness: task.lateness(),
            class: task.class,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The lanes, in order of their keys; none is empty.
    lanes: Vec<(LaneKey, List)>,
    /// Tasks that were asked back.
    retracting: List,
}

impl Line {
    /// Adds a task behind those of its lane.
    #[inline]
    pub fn push(&mut self, tasks: &mut Tasks, slot: Slot) {
        let key = LaneKey::of(tasks, slot);
        let at = self.lane_at(key).unwrap_or_else(|at| {
            self.lanes.insert(at, (key, List::default()));
            at
        });
        tasks.link_last(&mut self.lanes[at].1, slot);
    }

    /// Takes out a task, which was asked back or not.
    #[inline]
    pub fn remove(&mut self, tasks: &mut Tasks, slot: Slot, retracting: bool) {
        if retracting {
            tasks.unlink(&mut self.retracting, slot);
            return;
        }
        let at = match self.lanes.len() {
            1 => Ok(0),
            _ => self.lane_at(LaneKey::of(tasks, slot)),
        };
        if let Ok(at) = at {
            let list = &mut self.lanes[at].1;
            tasks.unlink(list, slot);
            if list.first == NO_SLOT {
                self.lanes.remove(at);
            }
        }
    }

    /// Puts a task that is asked back among those.
    pub fn retract(&mut self, tasks: &mut Tasks, slot: Slot) {
        self.remove(tasks, slot, false);
        tasks.link_last(&mut self.retracting, slot);
    }

    /// Puts a task that was asked back in vain behind those of its lane.
    pub fn keep(&mut self, tasks: &mut Tasks, slot: Slot) {
        self.remove(tasks, slot, true);
        self.push(tasks, slot);
    }

    /// Returns the lanes of tasks that were not asked back, in order of priority, each with the
    /// list of its tasks.
    pub fn lanes(&self) -> &[(LaneKey, List)] {
        &self.lanes
    }

    /// Returns all tasks: lane by lane, then those that were asked back.
    pub fn walk<'a>(&'a self, tasks: &'a Tasks) -> impl Iterator<Item = Slot> + 'a {
        let lanes = self.lanes.iter().map(|(_, list)| list);
        lanes
            .chain([&self.retracting])
            .flat_map(|list| tasks.walk(list))
    }

    #[inline]
    fn lane_at(&self, key: LaneKey) -> Result<usize, usize> {
        match self.lanes[..] {
            // Most often all that waits is alike.
            [(only, _)] if only == key => Ok(0),
            _ => self.lanes.binary_search_by_key(&key, |&(key, _)| key),
        }
    }
}
