//! Which kinds and classes are known, and what is forgotten of them.
//!
//! Owns: how a task finds its class, and when kinds and classes come and go. Does not know: what
//! waits in a class, or which nodes may run it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Catalogue, Class, Kind, KindId, NO_KIND, SPARE_CLASSES, Ways};
use crate::engine::queue::{ClassId, Hearer, PlacementRule};
use crate::task::{Labels, TaskKind};

impl Catalogue {
    /// Counts a new task among those of its class, and returns that.
    #[inline]
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

    /// Counts one task less of this class. Those without tasks are forgotten when there are many.
    #[inline]
    pub fn leave(&mut self, id: ClassId) {
        let class = &mut self.classes[id as usize];
        class.members -= 1;
        let emptied = class.members == 0 && self.emptied.insert(id);
        if emptied && self.emptied.len() > SPARE_CLASSES {
            self.forget_empty_classes();
        }
    }

    #[inline]
    pub(super) fn intern(&mut self, kind: &TaskKind) -> KindId {
        // Tasks of one kind tend to come one after the other, and a comparison costs less than a
        // hash.
        let last = self.kinds.get(self.last_kind as usize);
        if last.is_none_or(|last| last.name != *kind) {
            self.last_kind = self.find_or_add_kind(kind);
        }
        self.last_kind
    }

    pub(super) fn find_or_add_kind(&mut self, kind: &TaskKind) -> KindId {
        if let Some(&id) = self.kind_index.get(kind) {
            return id;
        }
        let entry = Kind {
            name: kind.clone(),
            classes: Ways::default(),
            labelled: HashMap::new(),
            offers: BTreeSet::new(),
            paused: false,
            limit: None,
            groups: BTreeMap::new(),
            lately: 0,
        };
        let id = fill(&mut self.kinds, &mut self.free_kinds, entry);
        self.kind_index.insert(kind.clone(), id);
        id
    }

    /// Forgets a kind that no node offers, no class has and no operator has set anything for.
    pub(super) fn forget_unused_kind(&mut self, id: KindId) {
        let kind = &mut self.kinds[id as usize];
        let set = kind.paused || kind.limit.is_some();
        if !set && kind.offers.is_empty() && kind.all_classes().next().is_none() {
            let name = std::mem::replace(&mut kind.name, TaskKind::from(""));
            self.kind_index.remove(&name);
            self.free_kinds.push(id);
        }
    }

    #[inline]
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
        self.classes[id as usize].rest = self.rest_due(id);
        self.classes[id as usize].meter = self.find_meter(kind);
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
        self.fold_accepted(id);
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
}

/// Puts an entry where one was forgotten, or at the end; returns its index.
pub(super) fn fill<T>(entries: &mut Vec<T>, free: &mut Vec<u32>, entry: T) -> u32 {
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
