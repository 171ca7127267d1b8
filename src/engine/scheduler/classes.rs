//! Kinds, classes and pools: which tasks are alike, and which nodes may run them.
//!
//! Owns: the interning of kinds, the life of a class, and the rebuilding of pools when what nodes offer
//! changes. Does not know: when a task is due or a node up.

use std::sync::Arc;

use super::SchedulerMachine;
use crate::engine::message::KindOffer;
use crate::engine::placement::{NodeIndex, OfferId, Places, Pools, Selector};
use crate::engine::queue::{Class, ClassId, KindId, Manner};
use crate::engine::roster::{Node, Offer, names_bytes};
use crate::engine::tasks::{Phase, Slot, Task};
use crate::engine::{Action, Note};
use crate::status::{Event as TaskEventKind, TaskEvent};
use crate::task::{Labels, TaskKind};

/// Pools beyond twice the classes, and these, are those of classes that are gone: all are built anew.
const SPARE_POOLS: usize = 64;

/// Classes without labels that are kept though they have no task, since most kinds come again soon. Beyond these
/// all are forgotten, so that an application may make up kinds without end.
pub(super) const SPARE_CLASSES: usize = 1024;

impl SchedulerMachine {
    pub(super) fn intern(&mut self, kind: &TaskKind) -> KindId {
        // Tasks of one kind tend to come one after the other, and a comparison costs less than a hash.
        if self
            .kinds
            .get(self.last_kind as usize)
            .is_some_and(|last| last.name == *kind)
        {
            return self.last_kind;
        }
        let id = self.find_or_add_kind(kind);
        self.last_kind = id;
        id
    }

    fn find_or_add_kind(&mut self, kind: &TaskKind) -> KindId {
        if let Some(&id) = self.kind_index.get(kind) {
            return id;
        }
        let entry = super::Kind {
            name: kind.clone(),
            classes: [None; 3],
            offers: 0,
        };
        let id = match self.free_kinds.pop() {
            Some(id) => {
                self.kinds[id as usize] = entry;
                id
            }
            None => {
                self.kinds.push(entry);
                (self.kinds.len() - 1) as KindId
            }
        };
        self.kind_index.insert(kind.clone(), id);
        id
    }

    /// An offer with this kind is gone.
    fn leave_kind(&mut self, id: KindId) {
        self.kinds[id as usize].offers -= 1;
        self.forget_unused_kind(id);
    }

    /// A kind that no node offers and no class has is forgotten: neither nodes nor applications may fill the
    /// memory with ever new names.
    fn forget_unused_kind(&mut self, id: KindId) {
        let kind = &mut self.kinds[id as usize];
        if kind.offers > 0 || kind.classes.iter().any(Option::is_some) {
            return;
        }
        let first = (id, Arc::clone(&self.no_labels), Manner::Plain);
        let mut labelled = self.class_index.range(first..);
        if labelled.next().is_none_or(|(key, _)| key.0 != id) {
            let name = std::mem::replace(&mut kind.name, TaskKind::from(""));
            self.kind_index.remove(&name);
            self.free_kinds.push(id);
        }
    }

    /// The class of tasks of this kind that are placed in this manner.
    pub(super) fn class_for(
        &mut self,
        kind: KindId,
        labels: &Arc<Labels>,
        manner: Manner,
    ) -> ClassId {
        if labels.is_empty() {
            if let Some(class) = self.kinds[kind as usize].classes[manner as usize] {
                return class;
            }
        } else if let Some(&class) = self.class_index.get(&(kind, Arc::clone(labels), manner)) {
            return class;
        }
        let class = Class::new(kind, Arc::clone(labels), manner);
        let id = match self.free_classes.pop() {
            Some(id) => {
                self.classes[id as usize] = class;
                id
            }
            None => {
                self.classes.push(class);
                (self.classes.len() - 1) as ClassId
            }
        };
        if labels.is_empty() {
            self.kinds[kind as usize].classes[manner as usize] = Some(id);
        } else {
            self.class_index
                .insert((kind, Arc::clone(labels), manner), id);
        }
        if self.pools.list.len() > SPARE_POOLS + 2 * self.classes.len() {
            self.rebuild_pools();
        } else {
            self.find_pool(id);
        }
        id
    }

    /// One task less is of this class. One with labels is forgotten with its last task, others when there are
    /// many.
    pub(super) fn leave_class(&mut self, id: ClassId) {
        let class = &mut self.classes[id as usize];
        class.members -= 1;
        if class.members > 0 {
            return;
        }
        if !class.labels.is_empty() {
            self.forget_class(id);
        } else if !std::mem::replace(&mut class.listed, true) {
            self.emptied.push(id);
            if self.emptied.len() > SPARE_CLASSES {
                self.forget_empty_classes();
            }
        }
    }

    fn forget_empty_classes(&mut self) {
        for id in std::mem::take(&mut self.emptied) {
            let class = &mut self.classes[id as usize];
            class.listed = false;
            if class.members == 0 {
                self.forget_class(id);
            }
        }
    }

    fn forget_class(&mut self, id: ClassId) {
        let forgotten = Class::new(Class::NO_KIND, Arc::clone(&self.no_labels), Manner::Plain);
        let class = std::mem::replace(&mut self.classes[id as usize], forgotten);
        if class.labels.is_empty() {
            self.kinds[class.kind as usize].classes[class.manner as usize] = None;
        } else {
            self.class_index
                .remove(&(class.kind, class.labels, class.manner));
        }
        self.free_classes.push(id);
        self.forget_unused_kind(class.kind);
    }

    fn is_free_class(&self, id: ClassId) -> bool {
        self.classes[id as usize].kind == Class::NO_KIND
    }

    pub(super) fn manner_of(task: &Task) -> Manner {
        if task.losses() >= 2 {
            Manner::Suspect
        } else if task.is_exclusive() || task.lost_ahead {
            Manner::Direct
        } else {
            Manner::Plain
        }
    }

    /// Moves a task to the class of its manner, which its losses decide.
    pub(super) fn reclass(&mut self, slot: Slot) {
        let task = self.tasks.get(slot);
        let (old, manner, queued) = (
            task.class,
            Self::manner_of(task),
            task.phase == Phase::Queued,
        );
        let class = &self.classes[old as usize];
        if class.manner == manner {
            return;
        }
        let (kind, labels) = (class.kind, Arc::clone(&class.labels));
        if queued {
            self.dequeue(slot);
        }
        let new = self.class_for(kind, &labels, manner);
        self.classes[new as usize].members += 1;
        self.tasks.get_mut(slot).class = new;
        self.leave_class(old);
        if queued {
            self.enqueue(slot);
        }
    }

    fn find_pool(&mut self, id: ClassId) {
        let class = &self.classes[id as usize];
        let offers = self.roster.offers.iter().enumerate();
        let offers = offers
            .filter(|(_, offer)| {
                offer
                    .as_ref()
                    .is_some_and(|offer| offer.index.contains_key(&class.kind))
            })
            .map(|(at, _)| at as OfferId)
            .collect();
        let selector = Selector {
            offers,
            labels: Arc::clone(&class.labels),
        };
        let (pool, new) = self.pools.find_or_add(selector);
        self.classes[id as usize].pool = pool;
        if new {
            for node in 0..self.roster.nodes.len() as NodeIndex {
                if self.roster.get(node).offer.is_some() && self.enter_pool(node, pool) {
                    self.enter_load(node);
                }
            }
        }
    }

    /// Enters a node into a pool if it belongs there.
    fn enter_pool(&mut self, node: NodeIndex, pool: u32) -> bool {
        let entry = self.roster.get_mut(node);
        let selector = &self.pools.list[pool as usize].selector;
        let belongs = entry
            .offer
            .is_some_and(|offer| selector.admits(offer, &entry.labels));
        if belongs {
            Pools::enter(&mut entry.places, pool);
            self.pools.list[pool as usize].present += usize::from(entry.present);
        }
        belongs
    }

    /// Builds all pools from the classes and the nodes.
    fn rebuild_pools(&mut self) {
        self.pools.clear();
        for node in &mut self.roster.nodes {
            node.places = Places::new();
        }
        for id in 0..self.classes.len() as ClassId {
            if !self.is_free_class(id) {
                self.classes[id as usize].announced = None;
                self.find_pool(id);
                self.announce(id);
            }
        }
    }

    /// Takes over what a node offers; classes are told apart anew if nobody has offered just that.
    pub(super) fn set_offer(&mut self, node: NodeIndex, kinds: &[KindOffer], labels: Labels) {
        let same = self.roster.get(node).offer.is_some_and(|offer| {
            self.roster.offers[offer as usize]
                .as_ref()
                .is_some_and(|offer| offer.kinds == kinds)
        });
        if same && self.roster.get(node).labels == labels {
            return;
        }
        self.clear_offer(node);
        let offers = &self.roster.offers;
        let known = offers
            .iter()
            .position(|offer| offer.as_ref().is_some_and(|offer| offer.kinds == kinds));
        self.roster.offered_bytes += names_bytes(&labels);
        let entry = self.roster.get_mut(node);
        entry.label_bytes = names_bytes(&labels);
        entry.labels = labels;
        match known {
            Some(at) => {
                entry.offer = Some(at as OfferId);
                self.roster.offers[at]
                    .as_mut()
                    .expect("a known offer")
                    .nodes += 1;
                for pool in 0..self.pools.list.len() as u32 {
                    self.enter_pool(node, pool);
                }
                self.enter_load(node);
            }
            None => {
                let index = kinds
                    .iter()
                    .zip(0..)
                    .map(|(offer, at)| {
                        let kind = self.intern(&TaskKind::from(offer.kind.as_str()));
                        self.kinds[kind as usize].offers += 1;
                        (kind, (at, offer.blocking))
                    })
                    .collect();
                let bytes = names_bytes(kinds.iter().map(|offer| &offer.kind));
                self.roster.offered_bytes += bytes;
                let offer = Some(Offer {
                    kinds: kinds.to_vec(),
                    index,
                    bytes,
                    nodes: 1,
                });
                let at = self.roster.offers.iter().position(Option::is_none);
                let at = at.unwrap_or_else(|| {
                    self.roster.offers.push(None);
                    self.roster.offers.len() - 1
                });
                self.roster.offers[at] = offer;
                self.roster.get_mut(node).offer = Some(at as OfferId);
                self.rebuild_pools();
            }
        }
    }

    /// Forgets what a node offered, and its labels.
    pub(super) fn clear_offer(&mut self, node: NodeIndex) {
        self.set_present(node, false);
        self.pools
            .set_room(&mut self.roster, node, crate::engine::placement::Room::None);
        let entry = self.roster.get_mut(node);
        entry.places = Places::new();
        entry.labels = Labels::new();
        let (label_bytes, offer) = (std::mem::take(&mut entry.label_bytes), entry.offer.take());
        self.roster.offered_bytes -= label_bytes;
        if let Some(at) = offer {
            let offer = &mut self.roster.offers[at as usize];
            if let Some(known) = offer {
                known.nodes -= 1;
                if known.nodes == 0 {
                    let kinds = std::mem::take(&mut known.index);
                    self.roster.offered_bytes -= known.bytes;
                    *offer = None;
                    for kind in kinds.into_keys() {
                        self.leave_kind(kind);
                    }
                    self.rebuild_pools();
                }
            }
        }
    }

    /// Whether a node counts among those that could run something.
    pub(super) fn set_present(&mut self, node: NodeIndex, present: bool) {
        let entry = self.roster.get_mut(node);
        if entry.present == present {
            return;
        }
        entry.present = present;
        let pools: Vec<_> = entry.places.iter().map(|place| place.pool).collect();
        for pool in pools {
            let count = &mut self.pools.list[pool as usize].present;
            if present {
                *count += 1;
            } else {
                *count -= 1;
            }
            if *count == usize::from(present) {
                self.presence_changed(pool);
            }
        }
    }

    /// The first node of a pool came, or the last one went.
    fn presence_changed(&mut self, pool: u32) {
        for id in 0..self.classes.len() as ClassId {
            let class = &mut self.classes[id as usize];
            if class.pool != pool || class.members == 0 {
                continue;
            }
            class.noted = false;
            if class.queued() > 0 {
                self.note_unschedulable(id, None);
            }
        }
    }

    /// Says that no present node can run a class: to the operator once, to watchers each time.
    pub(super) fn note_unschedulable(&mut self, id: ClassId, newcomer: Option<Slot>) {
        let class = &self.classes[id as usize];
        if self.pools.list[class.pool as usize].present > 0 {
            return;
        }
        let reason = self.why_unschedulable(id);
        if !class.noted
            && let Some((_, slot)) = class.head(&self.tasks)
        {
            let task = self.tasks.get(slot).id;
            self.actions.push(Action::Note(Note::Unschedulable {
                task,
                reason: reason.clone(),
            }));
        }
        let tell = |slot| {
            let task = self.tasks.get(slot);
            let event = TaskEvent {
                id: task.id,
                event: TaskEventKind::Unschedulable {
                    reason: reason.clone(),
                },
            };
            task.watcher()
                .map(|watcher| Action::Notify { watcher, event })
        };
        let told: Vec<_> = match newcomer {
            Some(slot) => tell(slot).into_iter().collect(),
            None => class.watched.iter().copied().filter_map(tell).collect(),
        };
        self.actions.extend(told);
        self.classes[id as usize].noted = true;
    }

    /// Why no present node can run a class, in a sentence.
    pub(super) fn why_unschedulable(&self, id: ClassId) -> String {
        let class = &self.classes[id as usize];
        let kind = &self.kinds[class.kind as usize].name;
        let offers = |node: &Node| {
            node.present
                && node
                    .offer
                    .and_then(|offer| self.roster.offers[offer as usize].as_ref())
                    .is_some_and(|offer| offer.index.contains_key(&class.kind))
        };
        if !self.roster.nodes.iter().any(|node| node.present) {
            "no node is up".to_owned()
        } else if !self.roster.nodes.iter().any(offers) {
            format!("no node that is up has a handler for the kind {kind:?}")
        } else {
            format!(
                "no node that is up and has a handler for the kind {kind:?} bears all of the labels {:?}",
                class.labels
            )
        }
    }

    /// Adds a due task to its class, under the rank that it bears.
    pub(super) fn enqueue(&mut self, slot: Slot) {
        let id = self.tasks.get(slot).class;
        let watched = self.tasks.get(slot).watcher().is_some();
        let class = &mut self.classes[id as usize];
        class.push(&mut self.tasks, slot);
        if watched {
            class.watched.insert(slot);
        }
        let (pool, noted) = (class.pool, class.noted);
        *self.count(Phase::Queued) += 1;
        self.announce(id);
        if self.pools.list[pool as usize].present == 0 && (watched || !noted) {
            self.note_unschedulable(id, Some(slot));
        }
    }

    /// Takes a due task out of its class.
    pub(super) fn dequeue(&mut self, slot: Slot) {
        let id = self.tasks.get(slot).class;
        let class = &mut self.classes[id as usize];
        class.remove(&mut self.tasks, slot);
        if !class.watched.is_empty() {
            class.watched.remove(&slot);
        }
        *self.count(Phase::Queued) -= 1;
        self.announce(id);
    }

    fn announce(&mut self, id: ClassId) {
        let class = &mut self.classes[id as usize];
        let head = class.head(&self.tasks).map(|(turn, _)| turn);
        if head != class.announced {
            self.pools
                .announce(class.pool, id, class.manner, class.announced, head);
            class.announced = head;
        }
    }
}
