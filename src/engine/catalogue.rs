//! Which tasks are alike, and which nodes may run them.
//!
//! Owns: the kinds by name, the classes (tasks that the same nodes may run in the same way) and
//! what waits in each, what nodes offer, and which nodes may run which classes by that. Does not
//! know: why a node has room, when a task is due, or who is told what.
//!
//! Kinds and classes are numbered, and their numbers are used again: neither nodes nor applications
//! may fill the memory with ever new names. What nodes offer is in `offers`, the order across
//! classes in `rounds`.

mod offers;
mod rounds;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::bits::Bits;
use super::heads::Heads;
use super::placement::{Groups, OfferId};
use super::queue::{ClassId, Hearer, PlacementRule, Queue, Turn};
use super::tasks::{Company, Slot, Tasks};
use crate::task::{Labels, TaskKind};

pub(crate) use offers::names_bytes;
use offers::{Offer, Profile};
pub(crate) use rounds::Candidate;

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
    /// Its classes without labels: the way of nearly every task.
    classes: Ways,
    /// Its classes with labels.
    labelled: HashMap<Arc<Labels>, Ways>,
    /// The offers that have it.
    offers: BTreeSet<OfferId>,
}

impl Kind {
    fn all_classes(&self) -> impl Iterator<Item = ClassId> {
        let labelled = self.labelled.values().flatten();
        let ways = self.classes.iter().chain(labelled);
        ways.flatten().flatten().copied()
    }
}

/// Tasks that the same nodes may run in the same way.
#[derive(Debug)]
struct Class {
    kind: KindId,
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
            labels,
            rule,
            hearer,
            groups: Bits::default(),
            announced: None,
            company: None,
            changed: false,
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
    /// Those of them that callers alone wait for.
    for_callers: Bits,
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
    /// Counts a new task among those of its class, and returns that.
    pub fn join(
        &mut self,
        kind: &TaskKind,
        labels: &Labels,
        rule: PlacementRule,
        hearer: Hearer,
    ) -> ClassId {
        let kind = self.intern(kind);
        self.join_class(kind, labels, rule, hearer)
    }

    /// Counts a task of one class among those of the same kind and labels that are placed in this
    /// rule and heard of by these, and returns that class. The task must not wait in the old one.
    pub fn change(&mut self, old: ClassId, rule: PlacementRule, hearer: Hearer) -> ClassId {
        let class = &self.classes[old as usize];
        let (kind, labels) = (class.kind, Arc::clone(&class.labels));
        let new = self.join_class(kind, &labels, rule, hearer);
        self.leave(old);
        new
    }

    /// One task less is of this class. Those without tasks are forgotten when there are many.
    pub fn leave(&mut self, id: ClassId) {
        let class = &mut self.classes[id as usize];
        class.members -= 1;
        let emptied = class.members == 0 && self.emptied.insert(id);
        if emptied && self.emptied.len() > SPARE_CLASSES {
            self.forget_empty_classes();
        }
    }

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
        let (id, watched) = (task.class, task.watcher().is_some());
        let turn = Turn::new(task.priority, task.rank);
        let class = &mut self.classes[id as usize];
        class.queue.push(tasks, slot);
        if watched {
            class.watched.insert(slot);
        }
        let news = watched || !class.noted;
        // Behind the head it changes nothing.
        if class.announced.is_none_or(|head| turn < head) {
            self.announce(tasks, id);
        }
        news && self.is_unschedulable(id)
    }

    /// Takes a due task out of its class.
    #[inline]
    pub fn dequeue(&mut self, tasks: &mut Tasks, slot: Slot) {
        let id = tasks.get(slot).class;
        let class = &mut self.classes[id as usize];
        class.queue.remove(tasks, slot);
        if !class.watched.is_empty() {
            class.watched.remove(&slot);
        }
        self.announce(tasks, id);
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

    fn intern(&mut self, kind: &TaskKind) -> KindId {
        // Tasks of one kind tend to come one after the other, and a comparison costs less than a
        // hash.
        let last = self.kinds.get(self.last_kind as usize);
        if last.is_none_or(|last| last.name != *kind) {
            self.last_kind = self.find_or_add_kind(kind);
        }
        self.last_kind
    }

    fn find_or_add_kind(&mut self, kind: &TaskKind) -> KindId {
        if let Some(&id) = self.kind_index.get(kind) {
            return id;
        }
        let entry = Kind {
            name: kind.clone(),
            classes: Ways::default(),
            labelled: HashMap::new(),
            offers: BTreeSet::new(),
        };
        let id = fill(&mut self.kinds, &mut self.free_kinds, entry);
        self.kind_index.insert(kind.clone(), id);
        id
    }

    /// Forgets a kind that no node offers and no class has.
    fn forget_unused_kind(&mut self, id: KindId) {
        let kind = &mut self.kinds[id as usize];
        if kind.offers.is_empty() && kind.all_classes().next().is_none() {
            let name = std::mem::replace(&mut kind.name, TaskKind::from(""));
            self.kind_index.remove(&name);
            self.free_kinds.push(id);
        }
    }

    fn join_class(
        &mut self,
        kind: KindId,
        labels: &Labels,
        rule: PlacementRule,
        hearer: Hearer,
    ) -> ClassId {
        let entry = &self.kinds[kind as usize];
        let known = if labels.is_empty() {
            entry.classes[hearer as usize][rule as usize]
        } else {
            let known = entry.labelled.get(labels);
            known.and_then(|ways| ways[hearer as usize][rule as usize])
        };
        let id = known.unwrap_or_else(|| self.add_class(kind, labels, rule, hearer));
        self.classes[id as usize].members += 1;
        id
    }

    fn add_class(
        &mut self,
        kind: KindId,
        labels: &Labels,
        rule: PlacementRule,
        hearer: Hearer,
    ) -> ClassId {
        let labels = if labels.is_empty() {
            Arc::clone(&self.no_labels)
        } else {
            Arc::new(labels.clone())
        };
        let class = Class::new(kind, Arc::clone(&labels), rule, hearer);
        let id = fill(&mut self.classes, &mut self.free_classes, class);
        let entry = &mut self.kinds[kind as usize];
        if labels.is_empty() {
            entry.classes[hearer as usize][rule as usize] = Some(id);
        } else {
            let ways = entry.labelled.entry(labels).or_default();
            ways[hearer as usize][rule as usize] = Some(id);
        }
        self.find_groups(id);
        id
    }

    fn forget_empty_classes(&mut self) {
        for id in std::mem::take(&mut self.emptied) {
            if self.classes[id as usize].members == 0 {
                self.forget_class(id);
            }
        }
    }

    fn forget_class(&mut self, id: ClassId) {
        let no_labels = Arc::clone(&self.no_labels);
        let forgotten = Class::new(NO_KIND, no_labels, PlacementRule::Prefetch, Hearer::Client);
        let class = std::mem::replace(&mut self.classes[id as usize], forgotten);
        let kind = &mut self.kinds[class.kind as usize];
        if class.labels.is_empty() {
            kind.classes[class.hearer as usize][class.rule as usize] = None;
        } else if let Some(ways) = kind.labelled.get_mut(&class.labels) {
            ways[class.hearer as usize][class.rule as usize] = None;
            if ways.iter().flatten().all(Option::is_none) {
                kind.labelled.remove(&class.labels);
            }
        }
        for group in class.groups.iter() {
            if let Some(profile) = &mut self.profiles[group as usize] {
                profile.classes.remove(id);
            }
        }
        self.free_classes.push(id);
        self.forget_unused_kind(class.kind);
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
            let head = class.queue.head(tasks).map(|(turn, _)| turn);
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
        self.check_offers()
    }
}

/// Puts an entry where one was forgotten, or at the end; returns its index.
fn fill<T>(entries: &mut Vec<T>, free: &mut Vec<u32>, entry: T) -> u32 {
    match free.pop() {
        Some(id) => {
            entries[id as usize] = entry;
            id
        }
        None => {
            entries.push(entry);
            (entries.len() - 1) as u32
        }
    }
}
