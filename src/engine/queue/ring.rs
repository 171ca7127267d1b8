//! Groups of one lane take turns.
//!
//! Owns: the tasks of each group in the lane, which groups may start one, and whose turn it is.
//! Does not know: why a group may not start one.
//!
//! Of the groups that may start one, each starts one in turn, and then goes behind all others. One
//! that may not has no place: nobody walks past it. It comes back behind all others. The tasks
//! without a group are a group of their own, and always may start; the lane itself keeps them.

use std::collections::{BTreeMap, BTreeSet};

use super::Row;
use crate::engine::tasks::{NO_GROUP, Slot, TaskGroupId, Tasks};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ring {
    rows: BTreeMap<TaskGroupId, Row>,
    /// The groups that may start one.
    standing: BTreeMap<TaskGroupId, Position>,
    /// The same, in the order in which they have their turns.
    order: BTreeSet<(u64, TaskGroupId)>,
    /// The same, in order of their first tasks.
    oldest: BTreeSet<(u64, TaskGroupId)>,
    /// The place behind all others.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    place: u64,
    /// The rank of its first task.
    rank: u64,
}

impl Ring {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the group whose turn it is, and the rank of the oldest task that may start.
    pub fn first(&self) -> Option<(TaskGroupId, u64)> {
        let (_, group) = self.order.first()?;
        let (rank, _) = self.oldest.first()?;
        Some((*group, *rank))
    }

    pub fn row(&self, group: TaskGroupId) -> Option<&Row> {
        self.rows.get(&group)
    }

    pub fn may_start(&self, group: TaskGroupId) -> bool {
        self.standing.contains_key(&group)
    }

    /// Adds a task of a group. Returns the rank of its first one.
    pub fn push(&mut self, tasks: &mut Tasks, slot: Slot, group: TaskGroupId) -> Option<u64> {
        let row = self.rows.entry(group).or_default();
        row.push(tasks, slot);
        row.first_rank(tasks)
    }

    /// Takes a task of a group out. Returns the rank of its first one, if it has any left.
    pub fn remove(&mut self, tasks: &mut Tasks, slot: Slot, group: TaskGroupId) -> Option<u64> {
        let row = self.rows.get_mut(&group)?;
        row.remove(tasks, slot);
        let rank = row.first_rank(tasks);
        if rank.is_none() {
            self.rows.remove(&group);
        }
        rank
    }

    /// Gives a group a place, by the rank of its first task, or takes it away.
    pub fn stand(&mut self, group: TaskGroupId, rank: Option<u64>) {
        let before = self.standing.get(&group).copied();
        if let Some(before) = before {
            self.oldest.remove(&(before.rank, group));
        }
        let Some(rank) = rank else {
            if let Some(before) = before {
                self.order.remove(&(before.place, group));
                self.standing.remove(&group);
            }
            return;
        };
        let place = before.map_or(self.next, |before| before.place);
        if before.is_none() {
            self.next += 1;
            self.order.insert((place, group));
        }
        self.oldest.insert((rank, group));
        self.standing.insert(group, Position { place, rank });
    }

    /// Puts a group that has started a task behind all others.
    pub fn rotate(&mut self, group: TaskGroupId) {
        if let Some(standing) = self.standing.get_mut(&group) {
            self.order.remove(&(standing.place, group));
            standing.place = self.next;
            self.order.insert((standing.place, group));
            self.next += 1;
        }
    }

    /// Checks that those that may start one have a place, and counts the tasks of those that may
    /// not.
    pub fn check(
        &self,
        tasks: &Tasks,
        plain: &Row,
        may_start: &impl Fn(TaskGroupId) -> bool,
    ) -> Result<u32, String> {
        let mut kept = 0;
        let plain = Some((&NO_GROUP, plain)).filter(|(_, plain)| plain.len > 0);
        let mut standing = 0;
        for (&group, row) in self.rows.iter().chain(plain) {
            let rank = row.first_rank(tasks);
            let place = self.standing.get(&group);
            let may = group == NO_GROUP || may_start(group);
            let expected = rank.filter(|_| may);
            if rank.is_none() || place.map(|it| it.rank) != expected {
                return Err("G5: a group has no turn, or a turn that it may not have".to_owned());
            }
            if let Some(place) = place {
                standing += 1;
                let listed = self.order.contains(&(place.place, group));
                if !listed || !self.oldest.contains(&(place.rank, group)) {
                    return Err("G6: a group is not in its place".to_owned());
                }
            } else {
                kept += row.len;
            }
        }
        if [self.standing.len(), self.order.len(), self.oldest.len()] != [standing; 3] {
            return Err("G6: a group without tasks has a turn".to_owned());
        }
        Ok(kept)
    }
}
