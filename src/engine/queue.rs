//! Due tasks in order: priority first, then turn.
//!
//! Owns: the lanes of one class's tasks, and their head. Does not know: which tasks are of one
//! class, or where they may run.
//!
//! A lane is a list threaded through the task records in order of rank, so a pending task costs no
//! entry of its own and leaves the middle at once. What comes back with an old rank (a rerouted
//! task) waits in a small ordered map beside the list: no walk past others in either direction.
//!
//! Where tasks of a lane are in groups, these take turns (see `ring`). The lane stands among others
//! under the rank of its oldest task that may start, whichever group's turn it is.

mod ring;

use std::collections::BTreeMap;

use super::tasks::{List, NO_GROUP, NO_SLOT, Place, Slot, Stage, TaskGroupId, Tasks};
use ring::Ring;

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

/// Returns the priority of a lateness.
pub(crate) fn priority_of(lateness: u8) -> i8 {
    (127 - i16::from(lateness)) as i8
}

/// Tasks of one lane and one group, in order of rank.
#[derive(Debug, Default)]
struct Row {
    list: List,
    returned: BTreeMap<u64, Slot>,
    /// How many wait in it.
    len: u32,
}

impl Row {
    #[inline]
    fn head(&self, tasks: &Tasks) -> Option<(u64, Slot)> {
        let listed = (self.list.first != NO_SLOT)
            .then(|| (tasks.get(self.list.first).rank, self.list.first));
        let returned = self
            .returned
            .first_key_value()
            .map(|(&rank, &slot)| (rank, slot));
        match (listed, returned) {
            (Some(listed), Some(returned)) => Some(listed.min(returned)),
            (head, None) | (None, head) => head,
        }
    }

    fn first_rank(&self, tasks: &Tasks) -> Option<u64> {
        self.head(tasks).map(|(rank, _)| rank)
    }

    #[inline]
    fn push(&mut self, tasks: &mut Tasks, slot: Slot) {
        let rank = tasks.get(slot).rank;
        let in_order = self.list.last == NO_SLOT || tasks.get(self.list.last).rank < rank;
        if let Stage::Queued { place, .. } = &mut tasks.get_mut(slot).stage {
            *place = if in_order {
                Place::Listed
            } else {
                Place::Returned
            };
        }
        if in_order {
            tasks.link_last(&mut self.list, slot);
        } else {
            self.returned.insert(rank, slot);
        }
        self.len += 1;
    }

    #[inline]
    fn remove(&mut self, tasks: &mut Tasks, slot: Slot) {
        let task = tasks.get(slot);
        let returned = matches!(
            task.stage,
            Stage::Queued {
                place: Place::Returned,
                ..
            }
        );
        if returned {
            self.returned.remove(&task.rank);
        } else {
            tasks.unlink(&mut self.list, slot);
        }
        self.len -= 1;
    }
}

#[derive(Debug)]
struct Lane {
    lateness: u8,
    /// Tasks without a group.
    plain: Row,
    /// The tasks with a group, if there are any.
    ring: Option<Box<Ring>>,
    /// How many wait in it.
    len: u32,
    /// How many of these are of groups that may not start one.
    kept: u32,
}

impl Lane {
    fn new(lateness: u8) -> Self {
        Self {
            lateness,
            plain: Row::default(),
            ring: None,
            len: 0,
            kept: 0,
        }
    }

    #[inline(always)]
    fn head(&self, tasks: &Tasks) -> Option<(Turn, Slot)> {
        let (rank, slot) = match &self.ring {
            None => self.plain.head(tasks)?,
            Some(ring) => {
                let (group, rank) = ring.first()?;
                let row = match group {
                    NO_GROUP => &self.plain,
                    group => ring.row(group)?,
                };
                (rank, row.head(tasks)?.1)
            }
        };
        let turn = Turn {
            lateness: self.lateness,
            rank,
        };
        Some((turn, slot))
    }

    /// Adds a task where others are in groups, or it is.
    fn push_in_turn(&mut self, tasks: &mut Tasks, slot: Slot, group: TaskGroupId, may_start: bool) {
        let plain = &mut self.plain;
        let ring = self.ring.get_or_insert_with(|| {
            let mut ring = Box::<Ring>::default();
            ring.stand(NO_GROUP, plain.first_rank(tasks));
            ring
        });
        let rank = match group {
            NO_GROUP => {
                plain.push(tasks, slot);
                plain.first_rank(tasks)
            }
            group => ring.push(tasks, slot, group),
        };
        if may_start {
            ring.stand(group, rank);
        } else {
            self.kept += 1;
        }
    }

    /// Takes a task out. Returns whether it might have started.
    #[inline]
    fn remove(&mut self, tasks: &mut Tasks, slot: Slot, group: TaskGroupId) -> bool {
        self.len -= 1;
        let Some(ring) = &mut self.ring else {
            self.plain.remove(tasks, slot);
            return true;
        };
        let rank = match group {
            NO_GROUP => {
                self.plain.remove(tasks, slot);
                self.plain.first_rank(tasks)
            }
            group => ring.remove(tasks, slot, group),
        };
        let may_start = ring.may_start(group);
        if may_start {
            ring.stand(group, rank);
        } else {
            self.kept -= 1;
        }
        if ring.is_empty() {
            self.ring = None;
        }
        may_start
    }

    /// Lets a group have turns, or no more. Returns how many of its tasks wait here.
    fn let_start(&mut self, tasks: &Tasks, group: TaskGroupId, may_start: bool) -> Option<u32> {
        let ring = self.ring.as_mut()?;
        let row = ring.row(group)?;
        let (len, rank) = (row.len, row.first_rank(tasks));
        if ring.may_start(group) == may_start {
            return None;
        }
        if may_start {
            self.kept -= len;
        } else {
            self.kept += len;
        }
        ring.stand(group, rank.filter(|_| may_start));
        Some(len)
    }
}

/// Tasks that wait for their turn. See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The lanes, in order of lateness.
    lanes: Vec<Lane>,
    len: usize,
}

/// How many wait of one priority, as turns tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub lateness: u8,
    pub all: u32,
    /// The tasks among them whose group may start one, or that have no group.
    pub in_turn: u32,
}

impl Queue {
    /// Returns how many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns how many of them have turns.
    pub fn in_turn(&self) -> usize {
        self.counts().map(|it| it.in_turn as usize).sum()
    }

    /// Returns how many wait of each priority of which there are any.
    pub fn counts(&self) -> impl Iterator<Item = Waiting> {
        let lanes = self.lanes.iter().filter(|lane| lane.len > 0);
        lanes.map(|lane| Waiting {
            lateness: lane.lateness,
            all: lane.len,
            in_turn: lane.len - lane.kept,
        })
    }

    /// Returns how many of a group have turns.
    pub fn in_turn_of(&self, group: TaskGroupId) -> usize {
        let rings = self.lanes.iter().filter_map(|lane| lane.ring.as_ref());
        let rings = rings.filter(|ring| ring.may_start(group));
        let rows = rings.filter_map(|ring| ring.row(group));
        rows.map(|row| row.len as usize).sum()
    }

    /// Returns the lowest rank among the tasks that have turns.
    pub fn oldest(&self, tasks: &Tasks) -> Option<u64> {
        let heads = self.lanes.iter().filter_map(|lane| lane.head(tasks));
        heads.map(|(turn, _)| turn.rank).min()
    }

    /// Returns the task whose turn it is, and the turn under which it stands among other classes.
    pub fn head(&self, tasks: &Tasks) -> Option<(Turn, Slot)> {
        self.lanes.iter().find_map(|lane| lane.head(tasks))
    }

    /// Adds a due task, which is in its stage already, under the rank that it bears. Its group may
    /// start one, or not.
    #[inline]
    pub fn push(&mut self, tasks: &mut Tasks, slot: Slot, group: TaskGroupId, may_start: bool) {
        let lateness = tasks.get(slot).lateness();
        let lane = self.lane(lateness);
        if group == NO_GROUP && lane.ring.is_none() {
            lane.plain.push(tasks, slot);
        } else {
            lane.push_in_turn(tasks, slot, group, may_start);
        }
        lane.len += 1;
        self.len += 1;
    }

    /// Takes out a task that waits. Returns whether it had a turn.
    #[inline]
    pub fn remove(&mut self, tasks: &mut Tasks, slot: Slot, group: TaskGroupId) -> bool {
        let lateness = tasks.get(slot).lateness();
        let at = self.find(lateness).expect("a queued task has a lane");
        let lane = &mut self.lanes[at];
        let may_start = lane.remove(tasks, slot, group);
        // The lane of the default priority stays: it is the one that fills again.
        if lane.len == 0 && lateness != 127 {
            self.lanes.remove(at);
        }
        self.len -= 1;
        may_start
    }

    /// Puts the group of a task that has started, and has this lateness, behind all other groups.
    /// Returns whether there are groups at all.
    pub fn rotate(&mut self, lateness: u8, group: TaskGroupId) -> bool {
        if let Ok(at) = self.find(lateness)
            && let Some(ring) = &mut self.lanes[at].ring
        {
            ring.rotate(group);
            return true;
        }
        false
    }

    /// Lets a group have turns, or no more. Returns how many of its tasks wait, by lateness.
    pub fn let_start(
        &mut self,
        tasks: &Tasks,
        group: TaskGroupId,
        may_start: bool,
    ) -> Vec<(u8, u32)> {
        let lanes = self.lanes.iter_mut();
        let moved = lanes.filter_map(|lane| {
            let count = lane.let_start(tasks, group, may_start)?;
            Some((lane.lateness, count))
        });
        moved.collect()
    }

    /// Checks that groups have turns that may start one, and no others.
    pub fn check(
        &self,
        tasks: &Tasks,
        may_start: impl Fn(TaskGroupId) -> bool,
    ) -> Result<(), String> {
        for lane in &self.lanes {
            let kept = match &lane.ring {
                Some(ring) if ring.is_empty() => return Err("a lane has an idle ring".to_owned()),
                Some(ring) => ring.check(tasks, &lane.plain, &may_start)?,
                None => 0,
            };
            if kept != lane.kept {
                return Err("the tasks of groups at their limits are miscounted".to_owned());
            }
        }
        Ok(())
    }

    #[inline]
    fn find(&self, lateness: u8) -> Result<usize, usize> {
        let lanes = &self.lanes;
        lanes.binary_search_by_key(&lateness, |lane| lane.lateness)
    }

    #[inline]
    fn lane(&mut self, lateness: u8) -> &mut Lane {
        let at = self.find(lateness).unwrap_or_else(|at| {
            self.lanes.insert(at, Lane::new(lateness));
            at
        });
        &mut self.lanes[at]
    }
}
