//! Which tasks are alike, and which nodes may run them.
//!
//! Owns: the kinds by name, the classes (tasks that the same nodes may run in the same way) and
//! what waits in each, what nodes offer, and which nodes may run which classes by that. Does not
//! know: why a node has room, when a task is due, or who is told what.
//!
//! Kinds and classes are numbered, and their numbers are used again: neither nodes nor applications
//! may fill the memory with ever new names. What nodes offer is in `offers`, the order across
//! classes in `rounds`, which classes rest in `pauses`, which kinds and classes are known in
//! `register`, what goes on of a kind or of a group of its tasks in `limits` and `task_groups`,
//! what is counted of a kind in `metering`.

mod buckets;
mod limits;
mod metering;
mod offers;
mod pauses;
mod register;
mod rounds;
mod task_groups;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::bits::Bits;
use super::heads::Heads;
use super::meter::{KindMeters, MeterId, OTHER};
use super::placement::{Groups, OfferId};
use super::priorities::Priorities;
use super::queue::{ClassId, Hearer, PlacementRule, Queue, Turn};
use super::tasks::{Company, Slot, TaskGroupId, Tasks};
use crate::task::{Labels, TaskGroup, TaskKind};

pub(crate) use buckets::Left;
pub(crate) use limits::Going;
use limits::{Limited, Limits};
pub(crate) use offers::names_bytes;
use offers::{Offer, Profile};
pub(crate) use rounds::Candidate;
use task_groups::TaskGroups;

/// Classes that are kept though they have no task, since most kinds and labels come again soon.
/// Beyond these all are forgotten, so that an application may make up names without end.
pub(crate) const SPARE_CLASSES: usize = 1024;

/// Index of a kind.
type KindId = u32;

/// The kind of a class that is forgotten.
const NO_KIND: KindId = KindId::MAX;

/// Classes of one kind and one set of labels, by hearer and rule.
type Ways = [[Option<ClassId>; 3]; 2];

/// A kind that a task or a node has named.
#[derive(Debug)]
struct Kind {
    name: TaskKind,
    /// The classes without labels: the way of nearly every task.
    classes: Ways,
    /// The classes with labels.
    labelled: HashMap<Arc<Labels>, Ways>,
    /// The offers that have it.
    offers: BTreeSet<OfferId>,
    /// Whether an operator has paused the kind. It is remembered then.
    paused: bool,
    /// What may go on of the kind, if that is limited. It is remembered then, too.
    limit: Option<Box<Limited>>,
    /// The groups of its tasks.
    groups: BTreeMap<TaskGroup, TaskGroupId>,
    /// About how many tasks it had of late, at the last review.
    lately: u64,
}

impl Kind {
    fn all_classes(&self) -> impl Iterator<Item = ClassId> {
        let labelled = self.labelled.values().flatten();
        let ways = self.classes.iter().chain(labelled);
        ways.flatten().flatten().copied()
    }
}

/// Whether the tasks of a class have turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// The tasks have turns.
    No,
    /// The kind is paused, or all are.
    Paused,
    /// As many of the kind go on, or have started of late, as may.
    Limited,
}

/// Tasks that the same nodes may run in the same way.
#[derive(Debug)]
struct Class {
    kind: KindId,
    /// The counters of the kind.
    meter: MeterId,
    /// Tasks that were accepted and are not in these yet.
    accepted: u64,
    labels: Arc<Labels>,
    rule: PlacementRule,
    hearer: Hearer,
    /// The groups of nodes that may run it.
    groups: Bits,
    /// The turn under which it waits among the other classes, if it has due tasks.
    announced: Option<Turn>,
    /// Among how many suspects the task of that turn may be, if it is one.
    company: Option<Company>,
    /// Whether something of it may be placeable that was not at the last placement.
    changed: bool,
    /// Whether none of its tasks has a turn.
    rest: Rest,
    /// Unsettled tasks of this class, queued or not.
    members: usize,
    /// Whether it was said that no present node can run it.
    noted: bool,
    /// Waiting tasks that somebody watches.
    watched: BTreeSet<Slot>,
    queue: Queue,
}

impl Class {
    fn new(kind: KindId, labels: Arc<Labels>, rule: PlacementRule, hearer: Hearer) -> Self {
        Self {
            kind,
            meter: OTHER,
            accepted: 0,
            labels,
            rule,
            hearer,
            groups: Bits::default(),
            announced: None,
            company: None,
            changed: false,
            rest: Rest::No,
            members: 0,
            noted: false,
            watched: BTreeSet::new(),
            queue: Queue::default(),
        }
    }

    fn is_forgotten(&self) -> bool {
        self.kind == NO_KIND
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    kinds: Vec<Kind>,
    kind_index: HashMap<TaskKind, KindId>,
    free_kinds: Vec<KindId>,
    /// The kind that was named last.
    last_kind: KindId,
    classes: Vec<Class>,
    free_classes: Vec<ClassId>,
    /// Classes that have lost their last task, and may have others since.
    emptied: BTreeSet<ClassId>,
    no_labels: Arc<Labels>,
    /// The classes with due tasks, in order, by the rule of their placement; the same as sets.
    heads: [Heads; 3],
    waiting: [Bits; 3],
    /// The classes among them that callers alone wait for.
    for_callers: Bits,
    /// How often a task has come to wait or has ceased to.
    queue_changes: u64,
    /// The priorities of what waits for its turn.
    queued: Priorities,
    /// How many due tasks have none, since they are paused.
    resting: usize,
    /// Whether an operator has paused all kinds.
    all_paused: bool,
    limits: Limits,
    meters: KindMeters,
    task_groups: TaskGroups,
    /// Classes in which something may be placeable that was not at the last placement.
    changed: Vec<ClassId>,
    groups: Groups,
    offers: Vec<Option<Offer>>,
    /// What the nodes of each group have in common.
    profiles: Vec<Option<Profile>>,
    /// About what it takes to remember the kinds and labels of all nodes.
    offered_bytes: usize,
    /// The offer of each node: apart from its group, since it is read for each assignment.
    node_offers: Vec<Option<OfferId>>,
}

impl Catalogue {
    /// Returns the kind of a class.
    pub fn kind(&self, id: ClassId) -> &TaskKind {
        let kind = self.classes[id as usize].kind;
        &self.kinds[kind as usize].name
    }

    pub fn labels(&self, id: ClassId) -> &Labels {
        &self.classes[id as usize].labels
    }

    #[inline]
    pub fn rule(&self, id: ClassId) -> PlacementRule {
        self.classes[id as usize].rule
    }

    #[inline]
    pub fn hearer(&self, id: ClassId) -> Hearer {
        self.classes[id as usize].hearer
    }

    /// Returns the task of a class whose turn it is.
    #[inline]
    pub fn head(&self, tasks: &Tasks, id: ClassId) -> Option<Slot> {
        let head = self.classes[id as usize].queue.head(tasks);
        head.map(|(_, slot)| slot)
    }

    /// Adds a due task to its class, under the rank that it bears. Returns whether somebody is to
    /// be told that no present node can run it.
    #[inline]
    #[must_use]
    pub fn enqueue(&mut self, tasks: &mut Tasks, slot: Slot) -> bool {
        let task = tasks.get(slot);
        let (id, watched, group) = (task.class, task.watcher().is_some(), task.group());
        let turn = Turn::new(task.priority, task.rank);
        let may_start = self.may_start(group);
        let class = &mut self.classes[id as usize];
        class.queue.push(tasks, slot, group, may_start);
        self.queue_changes += 1;
        match class.rest {
            Rest::No if may_start => self.queued.add(turn.lateness),
            Rest::Paused => self.resting += 1,
            Rest::No | Rest::Limited => {}
        }
        if watched {
            class.watched.insert(slot);
        }
        let news = watched || !class.noted;
        // Behind the head it changes nothing, but among how many suspects that may be.
        let isolated = class.rule == PlacementRule::Isolated;
        if class.announced.is_none_or(|head| turn < head) || isolated {
            self.announce(tasks, id);
        }
        news && self.is_unschedulable(id)
    }

    /// Takes a due task out of its class.
    #[inline]
    pub fn dequeue(&mut self, tasks: &mut Tasks, slot: Slot) {
        let task = tasks.get(slot);
        let (id, lateness, group) = (task.class, task.lateness(), task.group());
        let class = &mut self.classes[id as usize];
        let had_turn = class.queue.remove(tasks, slot, group);
        self.queue_changes += 1;
        match class.rest {
            Rest::No if had_turn => self.queued.remove(lateness),
            Rest::Paused => self.resting -= 1,
            Rest::No | Rest::Limited => {}
        }
        if !class.watched.is_empty() {
            class.watched.remove(&slot);
        }
        self.announce(tasks, id);
    }

    /// Returns a number that differs whenever other tasks wait than before.
    pub fn queue_changes(&self) -> u64 {
        self.queue_changes
    }

    /// Returns whether a node offers a kind, present or not.
    pub fn offers(&self, kind: &TaskKind) -> bool {
        let id = self.kind_index.get(kind);
        id.is_some_and(|&id| !self.kinds[id as usize].offers.is_empty())
    }

    /// Returns whether no present node can run a class.
    pub fn is_unschedulable(&self, id: ClassId) -> bool {
        let groups = &self.classes[id as usize].groups;
        !groups.intersects(self.groups.present())
    }

    /// Notes that it is said of a class that no present node can run it. Returns the task of which
    /// it is said, unless it was said before.
    pub fn note_unschedulable(&mut self, tasks: &Tasks, id: ClassId) -> Option<Slot> {
        let noted = std::mem::replace(&mut self.classes[id as usize].noted, true);
        self.head(tasks, id).filter(|_| !noted)
    }

    /// Returns the waiting tasks of a class that somebody watches.
    pub fn watched(&self, id: ClassId) -> Vec<Slot> {
        self.classes[id as usize].watched.iter().copied().collect()
    }

    /// Says in a sentence why no present node can run a class.
    pub fn why_unschedulable(&self, id: ClassId) -> String {
        let kind = self.kind(id);
        let up = self.groups.present();
        let offers = &self.kinds[self.classes[id as usize].kind as usize].offers;
        let offers = offers
            .iter()
            .filter_map(|&at| self.offers[at as usize].as_ref());
        if up.is_empty() {
            "no node is up".to_owned()
        } else if !offers.into_iter().any(|offer| offer.groups.intersects(up)) {
            format!("no node that is up has a handler for the kind {kind:?}")
        } else {
            format!(
                "no node that is up and has a handler for the kind {kind:?} bears all of the labels {:?}",
                self.labels(id)
            )
        }
    }

    /// Returns how many kinds are known by name, and how many classes have tasks.
    pub fn in_use(&self) -> (usize, usize) {
        let classes = self.classes.iter().filter(|class| class.members > 0);
        (self.kind_index.len(), classes.count())
    }

    /// Returns how many kinds are known by name, and how many records of kinds and classes there
    /// are.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize, usize) {
        let known = self.kind_index.len();
        (known, self.kinds.len(), self.classes.len())
    }

    /// Checks that classes, kinds and groups agree with each other and with the tasks.
    pub fn check(&self, tasks: &Tasks) -> Result<(), String> {
        let mut members = BTreeMap::new();
        for (_, task) in tasks.iter() {
            *members.entry(task.class).or_insert(0_usize) += 1;
        }
        for (id, class) in (0..).zip(&self.classes) {
            if class.members != members.get(&id).copied().unwrap_or(0) {
                return Err("the members of a class are miscounted".to_owned());
            }
            if class.members == 0 && !class.is_forgotten() && !self.emptied.contains(&id) {
                return Err("a class without tasks would never be forgotten".to_owned());
            }
            class.queue.check(tasks, |group| self.may_start(group))?;
            let head = class.queue.head(tasks).filter(|_| class.rest == Rest::No);
            let head = head.map(|(turn, _)| turn);
            let known = |rule: PlacementRule| self.waiting[rule as usize].contains(id);
            let for_callers = head.is_some() && class.hearer == Hearer::Callers;
            if head != class.announced
                || head.is_some() != known(class.rule)
                || for_callers != self.for_callers.contains(id)
            {
                return Err("G6: a class is not known by its head".to_owned());
            }
        }
        self.check_heads()?;
        self.check_pauses()?;
        self.check_groups(tasks)?;
        self.check_offers()
    }
}
