//! Groups of tasks within a kind: what goes on of each, and which may start another.
//!
//! Owns: the groups by name, and what has been used of the limit of each. Does not know: in which
//! order groups have their turns (see the ring of a queue), or what the limit of a kind is.
//!
//! Names of groups come and go: one without tasks is forgotten, unless its limit counts something.

use std::collections::{BTreeMap, BTreeSet};

use super::buckets::{Bucket, Left, Rule};
use super::limits::{Going, Whose};
use super::register::fill;
use super::{Catalogue, KindId, NO_KIND, Rest};
use crate::engine::queue::ClassId;
use crate::engine::tasks::{NO_GROUP, Task, TaskGroupId, Tasks};
use crate::engine::{Timestamp, work};
use crate::task::{TaskGroup, TaskKind};

/// The groups of all kinds.
#[derive(Debug, Default)]
pub(super) struct TaskGroups {
    entries: Vec<Entry>,
    free: Vec<TaskGroupId>,
}

#[derive(Debug)]
struct Entry {
    /// [`NO_KIND`] if it is forgotten.
    kind: KindId,
    name: TaskGroup,
    /// Unsettled tasks.
    members: usize,
    /// What is used of its limit, if it has one.
    bucket: Bucket,
    /// When it is looked at for the sake of a rate.
    wake: Option<Timestamp>,
}

impl Catalogue {
    /// Counts a new task among those of its group, if it is in one.
    #[inline]
    pub fn join_group(&mut self, task: &mut Task) {
        let Some(rare) = &mut task.rare else {
            return;
        };
        if let Some(group) = &mut rare.group {
            let kind = self.classes[task.class as usize].kind;
            group.id = self.find_or_add_group(kind, &group.name);
            self.task_groups.entries[group.id as usize].members += 1;
        }
    }

    /// Counts one task less of its group, if it was in one.
    #[inline]
    pub fn leave_group(&mut self, task: &Task) {
        if task.group() != NO_GROUP {
            self.leave_group_of(task.group());
        }
    }

    fn leave_group_of(&mut self, id: TaskGroupId) {
        let entry = &mut self.task_groups.entries[id as usize];
        entry.members -= 1;
        if entry.members > 0 {
            return;
        }
        let kind = entry.kind;
        match self.group_rule(kind) {
            // What is used of its limit is looked at with the next change.
            Some(_) => {
                self.limits.changed.insert(Whose::Group(id));
            }
            None => self.forget_group(id),
        }
    }

    /// Returns whether a group may start a task.
    #[inline]
    pub(super) fn may_start(&self, group: TaskGroupId) -> bool {
        group == NO_GROUP || !self.task_groups.entries[group as usize].bucket.is_used_up()
    }

    /// Returns what each group of a kind may, if that is limited.
    pub(super) fn group_rule(&self, kind: KindId) -> Option<Rule> {
        self.kinds[kind as usize].limit.as_ref()?.groups
    }

    pub(super) fn find_or_add_group(&mut self, kind: KindId, name: &TaskGroup) -> TaskGroupId {
        if let Some(&id) = self.kinds[kind as usize].groups.get(name) {
            return id;
        }
        let entry = Entry {
            kind,
            name: name.clone(),
            members: 0,
            bucket: Bucket::new(Timestamp(0)),
            wake: None,
        };
        let groups = &mut self.task_groups;
        let id = fill(&mut groups.entries, &mut groups.free, entry);
        self.kinds[kind as usize].groups.insert(name.clone(), id);
        id
    }

    fn forget_group(&mut self, id: TaskGroupId) {
        let entry = &mut self.task_groups.entries[id as usize];
        if let Some(at) = entry.wake.take() {
            self.limits.wakes.remove(&(at, Whose::Group(id)));
        }
        self.limits.changed.remove(&Whose::Group(id));
        let kind = std::mem::replace(&mut entry.kind, NO_KIND);
        let name = std::mem::replace(&mut entry.name, TaskGroup::new(""));
        self.kinds[kind as usize].groups.remove(&name);
        self.task_groups.free.push(id);
    }

    /// Follows the limit of a kind, which has changed, in its groups, of which so many go on.
    pub(super) fn follow_group_limit(
        &mut self,
        tasks: &Tasks,
        now: Timestamp,
        kind: KindId,
        going: &BTreeMap<TaskGroup, u32>,
    ) {
        let rule = self.group_rule(kind);
        if rule.is_some() {
            for name in going.keys() {
                self.find_or_add_group(kind, name);
            }
        }
        for (name, id) in self.kinds[kind as usize].groups.clone() {
            let bucket = &mut self.task_groups.entries[id as usize].bucket;
            match &rule {
                Some(rule) => bucket.follow(rule, now, going.get(&name).copied().unwrap_or(0)),
                None => bucket.forget(now),
            }
            self.note_exceeded(kind, id);
            self.look_at_group(tasks, now, id);
        }
    }

    pub(super) fn count_group(&mut self, kind: KindId, id: TaskGroupId, more: bool) {
        let Some(rule) = self.group_rule(kind) else {
            return;
        };
        let entry = &mut self.task_groups.entries[id as usize];
        let is_over = entry.bucket.going == 1 && !more && entry.members == 0;
        if entry.bucket.count(&rule, more) || is_over {
            self.limits.changed.insert(Whose::Group(id));
        }
        self.note_exceeded(kind, id);
    }

    /// Notes whether more of a group go on at once than may.
    fn note_exceeded(&mut self, kind: KindId, id: TaskGroupId) {
        let bucket = &self.task_groups.entries[id as usize].bucket;
        let Some(limited) = &mut self.kinds[kind as usize].limit else {
            return;
        };
        let is_exceeded = limited.groups.is_some_and(|rule| bucket.is_exceeded(&rule));
        if is_exceeded {
            limited.exceeded.insert(id);
        } else if !limited.exceeded.is_empty() {
            limited.exceeded.remove(&id);
        }
    }

    /// Returns the groups of a class's kind of which more go on at once than may, if there are any.
    pub fn exceeded_groups(&self, class: ClassId) -> Option<&BTreeSet<TaskGroupId>> {
        let kind = self.classes[class as usize].kind;
        let limited = self.kinds[kind as usize].limit.as_ref()?;
        Some(&limited.exceeded).filter(|groups| !groups.is_empty())
    }

    /// Uses up a start of a group, of which a task has been sent to a node.
    pub(super) fn group_started(&mut self, tasks: &Tasks, now: Timestamp, id: TaskGroupId) {
        let entry = &self.task_groups.entries[id as usize];
        if let Some(rule) = self.group_rule(entry.kind) {
            self.task_groups.entries[id as usize]
                .bucket
                .start(&rule, now);
            self.look_at_group(tasks, now, id);
        }
    }

    /// Looks whether a group may start another, and whether anything is to be remembered of it.
    pub(super) fn look_at_group(&mut self, tasks: &Tasks, now: Timestamp, id: TaskGroupId) {
        let kind = self.task_groups.entries[id as usize].kind;
        let rule = self.group_rule(kind);
        let entry = &mut self.task_groups.entries[id as usize];
        let bucket = &mut entry.bucket;
        let before = match &rule {
            Some(rule) => bucket.look(rule, now),
            None => std::mem::replace(&mut bucket.left, Left::Some),
        };
        let left = bucket.left;
        let idle = entry.members == 0 && bucket.going == 0;
        let whole_at = bucket.whole_at();
        let wake = match left {
            Left::NoneBefore(at) => Some(at),
            _ => (idle && whole_at > now).then_some(whole_at),
        };
        let old = std::mem::replace(&mut entry.wake, wake);
        if let Some(at) = old {
            self.limits.wakes.remove(&(at, Whose::Group(id)));
        }
        if let Some(at) = wake {
            self.limits.wakes.insert((at, Whose::Group(id)));
        }
        if (before == Left::Some) != (left == Left::Some) {
            self.let_start(tasks, kind, id, left == Left::Some);
        }
        if idle && wake.is_none() {
            self.forget_group(id);
        }
    }

    /// Lets a group have its turns, or no more.
    fn let_start(&mut self, tasks: &Tasks, kind: KindId, group: TaskGroupId, may_start: bool) {
        let classes: Vec<_> = self.kinds[kind as usize].all_classes().collect();
        for id in classes {
            work::step();
            let class = &mut self.classes[id as usize];
            let moved = class.queue.let_start(tasks, group, may_start);
            if moved.is_empty() {
                continue;
            }
            if class.rest == Rest::No {
                for (lateness, count) in moved {
                    match may_start {
                        true => self.queued.add_many(lateness, count),
                        false => self.queued.remove_many(lateness, count),
                    }
                }
            }
            self.queue_changes += 1;
            self.announce(tasks, id);
        }
    }

    /// Returns what is left of the limit of a task's group, if it has one, and how many may go on
    /// at once.
    pub fn left_of_group(&self, task: &Task) -> Option<(Option<u32>, Left)> {
        if task.group() == NO_GROUP {
            return None;
        }
        let rule = self.group_rule(self.classes[task.class as usize].kind)?;
        let entry = &self.task_groups.entries[task.group() as usize];
        Some((rule.at_once, entry.bucket.left))
    }

    /// Returns how many of the tasks of a kind that have turns could not start all the same, since
    /// more of their groups would go on at once than may.
    pub(super) fn beyond_groups(&self, kind: KindId) -> usize {
        let Some(at_once) = self.group_rule(kind).and_then(|rule| rule.at_once) else {
            return 0;
        };
        let entry = &self.kinds[kind as usize];
        let beyond = entry.groups.values().map(|&group| {
            let classes = entry.all_classes().map(|id| &self.classes[id as usize]);
            let waiting = classes.filter(|class| class.rest == Rest::No);
            let waiting = waiting.map(|class| class.queue.in_turn_of(group));
            let bucket = &self.task_groups.entries[group as usize].bucket;
            let room = at_once.saturating_sub(bucket.going) as usize;
            waiting.sum::<usize>().saturating_sub(room)
        });
        beyond.sum()
    }

    /// Returns how many groups are known.
    #[inline]
    pub fn known_groups(&self) -> usize {
        self.task_groups.entries.len() - self.task_groups.free.len()
    }

    pub(super) fn check_group_limits(
        &self,
        going: &BTreeMap<TaskKind, Going>,
    ) -> Result<(), String> {
        for (kind, kind_id) in self.kinds.iter().zip(0..) {
            let Some(rule) = self.group_rule(kind_id) else {
                continue;
            };
            for (name, &id) in &kind.groups {
                let groups = going.get(&kind.name).map(|going| &going.groups);
                let there = groups.and_then(|groups| groups.get(name));
                let there = there.copied().unwrap_or(0);
                let bucket = &self.task_groups.entries[id as usize].bucket;
                self.check_bucket(name, Whose::Group(id), &rule, bucket, there)?;
                let noted = kind.limit.iter().any(|it| it.exceeded.contains(&id));
                if noted != bucket.is_exceeded(&rule) {
                    return Err(format!("more of {name} go on than may, or is said to"));
                }
            }
        }
        Ok(())
    }

    /// Checks that groups count their tasks, and that none is kept for nothing.
    pub(super) fn check_groups(&self, tasks: &Tasks) -> Result<(), String> {
        let mut members = BTreeMap::new();
        let ids = tasks.iter().map(|(_, task)| task.group());
        for id in ids.filter(|&id| id != NO_GROUP) {
            *members.entry(id).or_insert(0_usize) += 1;
        }
        let known = self.task_groups.entries.iter().zip(0..);
        let known = known.filter(|(entry, _)| entry.kind != NO_KIND);
        if known.clone().count() != self.known_groups() {
            return Err("the groups of tasks are miscounted".to_owned());
        }
        for (entry, id) in known {
            if entry.members != members.remove(&id).unwrap_or(0) {
                return Err("the tasks of a group are miscounted".to_owned());
            }
            let remembered = entry.wake.is_some()
                || entry.bucket.going > 0
                || self.limits.changed.contains(&Whose::Group(id));
            if entry.members == 0 && !remembered {
                return Err("a group without tasks would never be forgotten".to_owned());
            }
        }
        if !members.is_empty() {
            return Err("the group of a task is not known".to_owned());
        }
        Ok(())
    }
}
