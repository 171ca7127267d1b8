//! How many tasks of a kind go on, and how often they start, where that is limited.
//!
//! Owns: the limits by kind, what has been used of each, and which have nothing left. Does not
//! know: why a task goes on, or who may set a limit. What is left of a limit is in `buckets`, and
//! what follows for groups in `task_groups`.
//!
//! A kind that has nothing left rests, as a paused one does. One that has something left again is
//! looked at once, before the next placement. What has no limit costs one comparison.

use std::collections::{BTreeMap, BTreeSet};

use super::buckets::{Bucket, Left, Rule};
use super::{Catalogue, Kind, KindId, Rest};
use crate::engine::queue::ClassId;
use crate::engine::roster::LimitsOf;
use crate::engine::tasks::{NO_GROUP, Slot, Task, TaskGroupId, Tasks};
use crate::engine::{Timestamp, work};
use crate::limit::Limit;
use crate::task::{TaskGroup, TaskKind};

/// The limits of all kinds.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// How many kinds have one.
    kinds: usize,
    /// The limits of which so much has begun or ended since they were looked at that they must be
    /// again.
    pub changed: BTreeSet<Whose>,
    /// The limits that start as often as they may, or may be forgotten, and when they are looked at
    /// for that.
    pub wakes: BTreeSet<(Timestamp, Whose)>,
}

/// What a limit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Kind(KindId),
    Group(TaskGroupId),
}

/// The limit of a kind, and what is used of it.
#[derive(Debug)]
pub(super) struct Limited {
    limit: Limit,
    rule: Rule,
    /// What each group may, if that is limited.
    pub groups: Option<Rule>,
    /// The groups of which more go on at once than may.
    pub exceeded: BTreeSet<TaskGroupId>,
    bucket: Bucket,
}

/// How many go on of a kind, and of each group of it.
#[derive(Debug, Default)]
pub(crate) struct Going {
    pub all: u32,
    pub groups: BTreeMap<TaskGroup, u32>,
}

/// What is told of the limit of a kind.
#[derive(Clone, Debug)]
pub(crate) struct LimitUse {
    pub kind: TaskKind,
    pub limit: Limit,
    pub going: u32,
    /// How many due tasks wait for it.
    pub waiting: usize,
}

impl Going {
    pub fn add(&mut self, group: Option<&TaskGroup>) {
        self.all += 1;
        if let Some(group) = group {
            *self.groups.entry(group.clone()).or_default() += 1;
        }
    }
}

impl Limited {
    pub fn is_used_up(&self) -> bool {
        self.bucket.is_used_up()
    }

    /// Returns how many more may go on at once, if that is limited.
    pub fn room(&self) -> Option<usize> {
        let room = self.rule.at_once?.saturating_sub(self.bucket.going);
        Some(room as usize)
    }
}

impl Catalogue {
    /// Returns whether any kind has a limit.
    #[inline]
    pub fn has_limits(&self) -> bool {
        self.limits.kinds > 0
    }

    /// Returns whether it is limited how many tasks of a kind, or of a group of it, go on at once,
    /// so that orphaned runs of it count.
    pub fn counts_runs(&self, kind: &TaskKind, group: Option<&TaskGroup>) -> bool {
        if !self.has_limits() {
            return false;
        }
        let id = self.kind_index.get(kind);
        let limited = id.and_then(|&id| self.kinds[id as usize].limit.as_ref());
        limited.is_some_and(|limited| {
            let groups = limited.groups.filter(|_| group.is_some());
            let groups = groups.and_then(|rule| rule.at_once);
            limited.rule.at_once.or(groups).is_some()
        })
    }

    /// Sets the limit of a kind, of which so many go on; takes it away if it limits nothing. What
    /// was used of a rate before counts.
    pub fn set_limit(
        &mut self,
        tasks: &Tasks,
        now: Timestamp,
        kind: &TaskKind,
        limit: Limit,
        going: &Going,
    ) {
        if limit.is_none() {
            self.remove_limit(tasks, now, kind);
            return;
        }
        let id = self.find_or_add_kind(kind);
        let old = self.kinds[id as usize].limit.take();
        self.limits.kinds += usize::from(old.is_none());
        let rule = Rule::new(&limit.of_kind());
        let mut bucket = old.map_or_else(|| Bucket::new(now), |old| old.bucket);
        bucket.follow(&rule, now, going.all);
        self.kinds[id as usize].limit = Some(Box::new(Limited {
            limit,
            rule,
            groups: limit.of_groups().map(|bounds| Rule::new(&bounds)),
            exceeded: BTreeSet::new(),
            bucket,
        }));
        self.look_at_kind(tasks, now, id);
        self.follow_group_limit(tasks, now, id, &going.groups);
    }

    fn remove_limit(&mut self, tasks: &Tasks, now: Timestamp, kind: &TaskKind) {
        let Some(&id) = self.kind_index.get(kind) else {
            return;
        };
        let Some(old) = self.kinds[id as usize].limit.take() else {
            return;
        };
        self.limits.kinds -= 1;
        if let Left::NoneBefore(at) = old.bucket.left {
            self.limits.wakes.remove(&(at, Whose::Kind(id)));
        }
        self.limits.changed.remove(&Whose::Kind(id));
        self.review_kind(tasks, id);
        self.follow_group_limit(tasks, now, id, &BTreeMap::new());
        self.forget_unused_kind(id);
    }

    /// Counts a task that is at a node from now on.
    #[inline]
    pub fn run_began(&mut self, task: &Task) {
        if self.has_limits() {
            let kind = self.classes[task.class as usize].kind;
            self.count(kind, task.group(), true);
        }
    }

    /// Counts a task that is at its node no longer.
    #[inline]
    pub fn run_over(&mut self, task: &Task) {
        if self.has_limits() {
            let kind = self.classes[task.class as usize].kind;
            self.count(kind, task.group(), false);
        }
    }

    /// Counts a run that is an orphan from now on.
    pub fn orphan_began(&mut self, limits: &LimitsOf) {
        self.count_orphan(limits, true);
    }

    /// Counts a run no more that was an orphan.
    pub fn orphan_ended(&mut self, limits: &LimitsOf) {
        self.count_orphan(limits, false);
    }

    fn count_orphan(&mut self, LimitsOf { kind, group }: &LimitsOf, more: bool) {
        if self.has_limits()
            && let Some(&id) = self.kind_index.get(kind)
        {
            let group = group.as_ref().filter(|_| self.group_rule(id).is_some());
            let group = group.map_or(NO_GROUP, |group| self.find_or_add_group(id, group));
            self.count(id, group, more);
        }
    }

    fn count(&mut self, id: KindId, group: TaskGroupId, more: bool) {
        let Some(limited) = &mut self.kinds[id as usize].limit else {
            return;
        };
        if limited.bucket.count(&limited.rule, more) {
            self.limits.changed.insert(Whose::Kind(id));
        }
        if group != NO_GROUP {
            self.count_group(id, group, more);
        }
    }

    /// Uses up a start for a task that has been sent to a node.
    #[inline]
    pub fn has_started(&mut self, tasks: &Tasks, now: Timestamp, slot: Slot) {
        if self.limits.kinds | self.known_groups() != 0 {
            self.note_start(tasks, now, slot);
        }
    }

    fn note_start(&mut self, tasks: &Tasks, now: Timestamp, slot: Slot) {
        let task = tasks.get(slot);
        let (id, group) = (task.class, task.group());
        let class = &mut self.classes[id as usize];
        let rotates = class.queue.rotate(task.lateness(), group);
        let kind = class.kind;
        if rotates {
            // Whose turn it is may have lost other nodes.
            self.announce(tasks, id);
        }
        let limit = self.kinds[kind as usize].limit.as_mut();
        if let Some(limited) = limit {
            limited.bucket.start(&limited.rule, now);
            self.look_at_kind(tasks, now, kind);
            if group != NO_GROUP {
                self.group_started(tasks, now, group);
            }
        }
    }

    /// Lets those have their turns again that may start another by now.
    pub fn look_at_limits(&mut self, tasks: &Tasks, now: Timestamp) {
        for whose in std::mem::take(&mut self.limits.changed) {
            self.look_at(tasks, now, whose);
        }
        while let Some(&(at, whose)) = self.limits.wakes.first().filter(|(at, _)| *at <= now) {
            self.limits.wakes.remove(&(at, whose));
            self.look_at(tasks, now, whose);
        }
    }

    fn look_at(&mut self, tasks: &Tasks, now: Timestamp, whose: Whose) {
        work::step();
        match whose {
            Whose::Kind(id) => self.look_at_kind(tasks, now, id),
            Whose::Group(id) => self.look_at_group(tasks, now, id),
        }
    }

    /// Returns when that is to be done at the latest, for the sake of a rate.
    pub fn next_limit(&self) -> Option<Timestamp> {
        self.limits.wakes.first().map(|&(at, _)| at)
    }

    fn look_at_kind(&mut self, tasks: &Tasks, now: Timestamp, id: KindId) {
        let Some(limited) = &mut self.kinds[id as usize].limit else {
            return;
        };
        let before = limited.bucket.look(&limited.rule, now);
        let left = limited.bucket.left;
        if let Left::NoneBefore(at) = before {
            self.limits.wakes.remove(&(at, Whose::Kind(id)));
        }
        if let Left::NoneBefore(at) = left {
            self.limits.wakes.insert((at, Whose::Kind(id)));
        }
        if (before == Left::Some) != (left == Left::Some) {
            self.review_kind(tasks, id);
        }
    }

    /// Returns what is left of the limit of a class, if it has one, and how many may go on at once.
    pub fn left(&self, class: ClassId) -> Option<(Option<u32>, Left)> {
        let kind = self.classes[class as usize].kind;
        let limited = self.kinds[kind as usize].limit.as_ref()?;
        Some((limited.rule.at_once, limited.bucket.left))
    }

    /// Returns whether more of the kind of a class go on at once than may.
    pub fn is_exceeded(&self, class: ClassId) -> bool {
        let kind = self.classes[class as usize].kind;
        let limited = self.kinds[kind as usize].limit.as_ref();
        limited.is_some_and(|limited| limited.bucket.is_exceeded(&limited.rule))
    }

    /// Returns the limits, in order of kind.
    pub fn limits(&self) -> Vec<LimitUse> {
        if !self.has_limits() {
            return Vec::new();
        }
        let limited = |kind: &Kind| {
            let limited = kind.limit.as_ref()?;
            let classes = kind.all_classes();
            let classes = classes.map(|id| &self.classes[id as usize]);
            let waiting = classes.map(|class| match class.rest {
                Rest::Limited => class.queue.len(),
                Rest::No => class.queue.len() - class.queue.in_turn(),
                Rest::Paused => 0,
            });
            Some(LimitUse {
                kind: kind.name.clone(),
                limit: limited.limit,
                going: limited.bucket.going,
                waiting: waiting.sum(),
            })
        };
        let mut limits: Vec<_> = self.kinds.iter().filter_map(limited).collect();
        limits.sort_by(|one, other| one.kind.cmp(&other.kind));
        limits
    }

    /// Checks that so many go on of each limited kind and group, and that each is looked at when it
    /// has something left.
    pub fn check_limits(&self, going: &BTreeMap<TaskKind, Going>) -> Result<(), String> {
        let limited = self.kinds.iter().zip(0..);
        let limited = limited.filter_map(|(kind, id)| Some((kind, id, kind.limit.as_ref()?)));
        if limited.clone().count() != self.limits.kinds {
            return Err("the limits are miscounted".to_owned());
        }
        for (kind, id, limited) in limited {
            let there = going.get(&kind.name).map_or(0, |going| going.all);
            let (rule, bucket) = (&limited.rule, &limited.bucket);
            self.check_bucket(&kind.name, Whose::Kind(id), rule, bucket, there)?;
        }
        self.check_group_limits(going)
    }

    pub(super) fn check_bucket(
        &self,
        name: &dyn std::fmt::Display,
        whose: Whose,
        rule: &Rule,
        bucket: &Bucket,
        there: u32,
    ) -> Result<(), String> {
        let counted = bucket.going;
        if counted != there {
            return Err(format!(
                "of {name} {there} go on, and {counted} are counted"
            ));
        }
        let kept = match bucket.left {
            _ if self.limits.changed.contains(&whose) => true,
            Left::Some => !bucket.is_full(rule),
            Left::NoneAtOnce => bucket.is_full(rule),
            Left::NoneBefore(at) => self.limits.wakes.contains(&(at, whose)),
        };
        if !kept {
            return Err(format!("G5: {name} would wait for its limit for ever"));
        }
        Ok(())
    }
}
