//! Due tasks in order: priority first, then turn.
//!
//! Owns: the lanes of one class's tasks, and their head. Does not know: which tasks are of one
//! class, or where they may run.
//!
//! A lane is a list threaded through the task records in order of rank, so a pending task costs no
//! entry of its own and leaves the middle at once. What comes back with an old rank (a rerouted
//! task) waits in a small ordered map beside the list: no walk past others in either direction.

use std::collections::BTreeMap;

use super::tasks::{List, NO_SLOT, Place, Slot, Stage, Tasks};

/// Index of a class.
pub(crate) type ClassId = u32;

/// How tasks of a class are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PlacementRule {
    /// On a free worker, or ahead.
    Prefetch,
    /// On a free worker only: it is exclusive, was lost with a node to which it had been
    /// prefetched, or was asked back from one where it did not start in time.
    FreeWorkerOnly,
    /// Has lost two nodes: on a free worker of a node that has no other such task.
    Isolated,
}

/// Who hears how tasks of a class end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hearer {
    /// A client, which has to confirm it: it is placed only while there is room for its status.
    Client,
    /// Callers alone, who wait for it: its status is never held.
    Callers,
}

/// The place in the order: higher priority first, then lower rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// 127 minus the priority, so that less is sooner.
    pub lateness: u8,
    pub rank: u64,
}

impl Turn {
    pub fn new(priority: i8, rank: u64) -> Self {
        Self {
            lateness: (127 - i16::from(priority)) as u8,
            rank,
        }
    }
}

#[derive(Debug)]
struct Lane {
    lateness: u8,
    list: List,
    returned: BTreeMap<u64, Slot>,
}

impl Lane {
    #[inline]
    fn head(&self, tasks: &Tasks) -> Option<(Turn, Slot)> {
        let listed = (self.list.first != NO_SLOT)
            .then(|| (tasks.get(self.list.first).rank, self.list.first));
        let returned = self
            .returned
            .first_key_value()
            .map(|(&rank, &slot)| (rank, slot));
        let (rank, slot) = match (listed, returned) {
            (Some(listed), Some(returned)) => listed.min(returned),
            (head, None) | (None, head) => head?,
        };
        let turn = Turn {
            lateness: self.lateness,
            rank,
        };
        Some((turn, slot))
    }
}

/// Tasks that wait for their turn. See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In order of lateness.
    lanes: Vec<Lane>,
    len: usize,
}

impl Queue {
    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The task whose turn it is.
    pub fn head(&self, tasks: &Tasks) -> Option<(Turn, Slot)> {
        self.lanes.iter().find_map(|lane| lane.head(tasks))
    }

    /// Adds a due task, which is in its stage already, under the rank that it bears.
    #[inline]
    pub fn push(&mut self, tasks: &mut Tasks, slot: Slot) {
        let task = tasks.get(slot);
        let turn = Turn::new(task.priority, task.rank);
        let lane = self.lane(turn.lateness);
        let in_order = lane.list.last == NO_SLOT || tasks.get(lane.list.last).rank < turn.rank;
        if let Stage::Queued { place, .. } = &mut tasks.get_mut(slot).stage {
            *place = if in_order {
                Place::Listed
            } else {
                Place::Returned
            };
        }
        if in_order {
            tasks.link_last(&mut lane.list, slot);
        } else {
            lane.returned.insert(turn.rank, slot);
        }
        self.len += 1;
    }

    /// Takes out a task that waits.
    #[inline]
    pub fn remove(&mut self, tasks: &mut Tasks, slot: Slot) {
        let task = tasks.get(slot);
        let turn = Turn::new(task.priority, task.rank);
        let returned = matches!(
            task.stage,
            Stage::Queued {
                place: Place::Returned,
                ..
            }
        );
        let at = self
            .lanes
            .binary_search_by_key(&turn.lateness, |lane| lane.lateness)
            .expect("a queued task has a lane");
        let lane = &mut self.lanes[at];
        if returned {
            lane.returned.remove(&turn.rank);
        } else {
            tasks.unlink(&mut lane.list, slot);
        }
        // The lane of the default priority stays: it is the one that fills again.
        if lane.list.first == NO_SLOT && lane.returned.is_empty() && turn.lateness != 127 {
            self.lanes.remove(at);
        }
        self.len -= 1;
    }

    fn lane(&mut self, lateness: u8) -> &mut Lane {
        let at = match self
            .lanes
            .binary_search_by_key(&lateness, |lane| lane.lateness)
        {
            Ok(at) => at,
            Err(at) => {
                self.lanes.insert(
                    at,
                    Lane {
                        lateness,
                        list: List::default(),
                        returned: BTreeMap::new(),
                    },
                );
                at
            }
        };
        &mut self.lanes[at]
    }
}
