//! What nodes offer, and which of them may run which classes by that.
//!
//! Owns: the offers, and the groups of nodes with the same offer and labels. Does not know: the
//! order in a group (see `placement`), or why a node counts as present.
//!
//! When a node comes whose like is known, nothing is told apart anew. When the first of a group
//! comes or the last one goes, that is told to the classes of the kinds that it offers, and to no
//! others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Catalogue, KindId};
use crate::engine::bits::Bits;
use crate::engine::message::KindOffer;
use crate::engine::placement::{GroupId, NodeIndex, OfferId, Room};
use crate::engine::queue::ClassId;
use crate::engine::work;
use crate::task::{Labels, TaskKind};

/// What a node bears of which nothing is known.
static NO_LABELS: Labels = Labels::new();

/// What some nodes offer: their kinds, in their order.
#[derive(Debug)]
pub(super) struct Offer {
    kinds: Vec<KindOffer>,
    /// The index of each kind, and whether it blocks.
    index: BTreeMap<KindId, (u16, bool)>,
    bytes: usize,
    /// The groups of nodes that offer it.
    pub(super) groups: Bits,
    by_labels: BTreeMap<Arc<Labels>, GroupId>,
}

/// What the nodes of a group have in common.
#[derive(Debug)]
pub(super) struct Profile {
    offer: OfferId,
    labels: Arc<Labels>,
    /// How many nodes it is true of.
    nodes: usize,
    /// The classes that they may run.
    pub(super) classes: Bits,
}

/// Returns about what it takes to remember these names.
pub(crate) fn names_bytes<'a>(names: impl IntoIterator<Item = &'a String>) -> usize {
    const EACH: usize = 64;
    names.into_iter().map(|name| name.len() + EACH).sum()
}

impl Catalogue {
    /// Makes room for a node that offers nothing so far.
    pub fn enter_node(&mut self, node: NodeIndex) {
        self.groups.enter_node(node);
        let nodes = self.node_offers.len().max(node as usize + 1);
        self.node_offers.resize(nodes, None);
    }

    #[inline]
    fn offer(&self, node: NodeIndex) -> Option<&Offer> {
        let offer = self.node_offers[node as usize]?;
        self.offers[offer as usize].as_ref()
    }

    fn profile(&self, node: NodeIndex) -> Option<&Profile> {
        let group = self.groups.group_of(node)?;
        self.profiles[group as usize].as_ref()
    }

    /// Returns the kinds that a node offers, in its order.
    pub fn kinds_at(&self, node: NodeIndex) -> &[KindOffer] {
        self.offer(node).map_or(&[], |offer| &offer.kinds)
    }

    /// Returns the index of a class's kind at a node, and whether it blocks there; `None` if the
    /// node has no handler for it.
    #[inline]
    pub fn kind_at(&self, node: NodeIndex, class: ClassId) -> Option<(u16, bool)> {
        let kind = self.classes[class as usize].kind;
        self.offer(node)?.index.get(&kind).copied()
    }

    pub fn labels_at(&self, node: NodeIndex) -> &Labels {
        self.profile(node)
            .map_or(&NO_LABELS, |profile| &profile.labels)
    }

    /// Returns whether nothing is remembered of a node.
    pub fn has_nothing_of(&self, node: NodeIndex) -> bool {
        self.node_offers[node as usize].is_none() && self.groups.group_of(node).is_none()
    }

    /// Returns about what it takes to remember the kinds and labels of all nodes but one.
    pub fn offered_bytes_without(&self, node: NodeIndex) -> usize {
        let own = self.profile(node).filter(|profile| profile.nodes == 1);
        let alone = |offer: &&Offer| own.is_some() && offer.by_labels.len() == 1;
        let offer = self
            .offer(node)
            .filter(alone)
            .map_or(0, |offer| offer.bytes);
        let labels = own.map_or(0, |profile| names_bytes(&*profile.labels));
        self.offered_bytes - labels - offer
    }

    /// Takes over what a node offers that is not present.
    pub fn set_offer(&mut self, node: NodeIndex, kinds: &[KindOffer], labels: Labels) {
        let same = self.offer(node).is_some_and(|offer| offer.kinds == kinds);
        if same && *self.labels_at(node) == labels {
            return;
        }
        self.clear_offer(node);
        let known = |offer: &Option<Offer>| offer.as_ref().is_some_and(|it| it.kinds == kinds);
        let known = self.offers.iter().position(known);
        let offer = known.map_or_else(|| self.add_offer(kinds), |at| at as OfferId);
        let alike = self.offers[offer as usize].as_ref();
        let alike = alike.and_then(|offer| offer.by_labels.get(&labels).copied());
        let group = alike.unwrap_or_else(|| self.add_group(offer, labels));
        self.node_offers[node as usize] = Some(offer);
        self.groups.enter(node, group);
        if let Some(profile) = &mut self.profiles[group as usize] {
            profile.nodes += 1;
        }
    }

    fn add_offer(&mut self, kinds: &[KindOffer]) -> OfferId {
        let at = vacancy(&mut self.offers);
        let mut index = BTreeMap::new();
        for (number, offer) in (0..).zip(kinds) {
            let kind = self.intern(&TaskKind::from(offer.kind.as_str()));
            self.kinds[kind as usize].offers.insert(at);
            index.insert(kind, (number, offer.blocking));
        }
        let bytes = names_bytes(kinds.iter().map(|offer| &offer.kind));
        self.offered_bytes += bytes;
        self.offers[at as usize] = Some(Offer {
            kinds: kinds.to_vec(),
            index,
            bytes,
            groups: Bits::default(),
            by_labels: BTreeMap::new(),
        });
        at
    }

    /// Makes a group for the first node of its like.
    fn add_group(&mut self, at: OfferId, labels: Labels) -> GroupId {
        let group = vacancy(&mut self.profiles);
        let labels = Arc::new(labels);
        self.offered_bytes += names_bytes(&*labels);
        let mut classes = Bits::default();
        if let Some(offer) = &mut self.offers[at as usize] {
            offer.groups.insert(group);
            offer.by_labels.insert(Arc::clone(&labels), group);
            for &kind in offer.index.keys() {
                for id in self.kinds[kind as usize].all_classes() {
                    work::step();
                    let class = &mut self.classes[id as usize];
                    if class.labels.is_subset(&labels) {
                        class.groups.insert(group);
                        classes.insert(id);
                    }
                }
            }
        }
        self.profiles[group as usize] = Some(Profile {
            offer: at,
            labels,
            nodes: 0,
            classes,
        });
        group
    }

    /// Forgets what a node offered that is not present, and its labels.
    pub fn clear_offer(&mut self, node: NodeIndex) {
        let group = self.groups.group_of(node);
        let emptied = self.groups.leave(node);
        self.node_offers[node as usize] = None;
        if let Some(profile) = group.and_then(|group| self.profiles[group as usize].as_mut()) {
            profile.nodes -= 1;
        }
        let gone = emptied.and_then(|group| Some((group, self.profiles[group as usize].take()?)));
        if let Some((group, profile)) = gone {
            self.group_gone(group, &profile);
        }
    }

    /// Removes a group whose last node is gone.
    fn group_gone(&mut self, group: GroupId, profile: &Profile) {
        self.offered_bytes -= names_bytes(&*profile.labels);
        for id in profile.classes.iter() {
            self.classes[id as usize].groups.remove(group);
        }
        let gone = self.offers[profile.offer as usize].take_if(|offer| {
            offer.groups.remove(group);
            offer.by_labels.remove(&profile.labels);
            offer.by_labels.is_empty()
        });
        let Some(offer) = gone else { return };
        self.offered_bytes -= offer.bytes;
        for kind in offer.index.into_keys() {
            self.kinds[kind as usize].offers.remove(&profile.offer);
            self.forget_unused_kind(kind);
        }
    }

    /// Moves a node to the list of its room.
    #[inline]
    pub fn set_room(&mut self, node: NodeIndex, room: Room) {
        self.groups.set_room(node, room);
    }

    pub fn is_present(&self, node: NodeIndex) -> bool {
        self.groups.is_present(node)
    }

    /// Sets whether a node counts among those that could run something. Returns the classes with
    /// waiting tasks that have lost their last such node by that.
    #[must_use]
    pub fn set_present(&mut self, node: NodeIndex, present: bool) -> Vec<ClassId> {
        let mut lost = Vec::new();
        let Some(group) = self.groups.set_present(node, present) else {
            return lost;
        };
        let Some(profile) = &self.profiles[group as usize] else {
            return lost;
        };
        for id in profile.classes.iter() {
            work::step();
            let class = &mut self.classes[id as usize];
            let mut able = class.groups.common(self.groups.present());
            if able.all(|other| other == group) {
                class.noted = false;
                if !present && class.queue.len() > 0 {
                    lost.push(id);
                }
            }
        }
        lost
    }

    /// Finds the groups that may run a new class.
    pub(super) fn find_groups(&mut self, id: ClassId) {
        let class = &mut self.classes[id as usize];
        for &at in &self.kinds[class.kind as usize].offers {
            let groups = self.offers[at as usize]
                .iter()
                .flat_map(|it| it.groups.iter());
            for group in groups {
                work::step();
                if let Some(profile) = &mut self.profiles[group as usize]
                    && class.labels.is_subset(&profile.labels)
                {
                    class.groups.insert(group);
                    profile.classes.insert(id);
                }
            }
        }
    }

    #[cfg(test)]
    pub fn offered_bytes(&self) -> usize {
        self.offered_bytes
    }

    /// Checks that what is counted of offers, labels and presence is what is there.
    pub(super) fn check_offers(&self) -> Result<(), String> {
        let offers = self.offers.iter().flatten().map(|offer| offer.bytes);
        let profiles = || (0..).zip(&self.profiles);
        let labels = profiles().filter_map(|(_, it)| Some(names_bytes(&*it.as_ref()?.labels)));
        if offers.chain(labels).sum::<usize>() != self.offered_bytes {
            return Err("G11: the bytes of kinds and labels are miscounted".to_owned());
        }
        for (at, profile) in profiles() {
            let nodes = (0..).zip(&self.node_offers);
            let nodes = nodes.filter(|(node, _)| self.groups.group_of(*node) == Some(at));
            let offers: Vec<_> = nodes.map(|(_, offer)| *offer).collect();
            let expected = profile.as_ref().map_or(0, |profile| profile.nodes);
            let offer = profile.as_ref().map(|profile| profile.offer);
            if offers.len() != expected || offers.iter().any(|it| *it != offer) {
                return Err("G11: the nodes of a group are miscounted".to_owned());
            }
            for (id, class) in (0..).zip(&self.classes) {
                let may_run = profile.as_ref().is_some_and(|profile| {
                    let offer = self.offers[profile.offer as usize].as_ref();
                    offer.is_some_and(|offer| offer.index.contains_key(&class.kind))
                        && class.labels.is_subset(&profile.labels)
                });
                let known = profile.as_ref().is_some_and(|it| it.classes.contains(id));
                if (class.groups.contains(at), known) != (may_run, may_run) {
                    return Err("G5: a class does not know which nodes may run it".to_owned());
                }
            }
        }
        self.groups.check()
    }
}

/// Returns the index of a place that nothing takes, the last one if need be.
fn vacancy<T>(entries: &mut Vec<Option<T>>) -> u32 {
    let at = entries.iter().position(Option::is_none);
    at.unwrap_or_else(|| {
        entries.push(None);
        entries.len() - 1
    }) as u32
}
