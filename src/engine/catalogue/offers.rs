//! What nodes offer, and the pools that follow from it.
//!
//! Owns: the offers, each node's part in them, and the building of pools when they change. Does not
//! know: the order in a pool (see `placement`), or why a node counts as present.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Catalogue, KindId};
use crate::engine::message::KindOffer;
use crate::engine::placement::{NodeIndex, OfferId, PoolId, Room, Selector};
use crate::engine::queue::ClassId;
use crate::task::{Labels, TaskKind};

/// What some nodes offer: their kinds, in their order.
#[derive(Debug)]
pub(super) struct Offer {
    kinds: Vec<KindOffer>,
    /// The index of each kind, and whether it blocks.
    index: BTreeMap<KindId, (u16, bool)>,
    bytes: usize,
    nodes: usize,
}

/// About what it takes to remember these names.
pub(crate) fn names_bytes<'a>(names: impl IntoIterator<Item = &'a String>) -> usize {
    const EACH: usize = 64;
    names.into_iter().map(|name| name.len() + EACH).sum()
}

impl Catalogue {
    /// Makes room for a node that offers nothing so far.
    pub fn enter_node(&mut self, node: NodeIndex) {
        self.pools.enter_node(node);
        let nodes = self.node_offers.len().max(node as usize + 1);
        self.node_offers.resize(nodes, None);
        self.node_labels.resize(nodes, Labels::new());
    }

    #[inline]
    fn offer(&self, node: NodeIndex) -> Option<&Offer> {
        let offer = self.node_offers[node as usize]?;
        self.offers[offer as usize].as_ref()
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
        &self.node_labels[node as usize]
    }

    /// Returns whether nothing is remembered of a node.
    pub fn has_nothing_of(&self, node: NodeIndex) -> bool {
        self.node_offers[node as usize].is_none() && self.labels_at(node).is_empty()
    }

    /// Returns about what it takes to remember the kinds and labels of all nodes but one.
    pub fn offered_bytes_without(&self, node: NodeIndex) -> usize {
        let alone = self.offer(node).filter(|offer| offer.nodes == 1);
        let labels = names_bytes(self.labels_at(node));
        self.offered_bytes - labels - alone.map_or(0, |offer| offer.bytes)
    }

    /// Takes over what a node offers that is not present. Classes are told apart anew if nobody has
    /// offered just that.
    pub fn set_offer(&mut self, node: NodeIndex, kinds: &[KindOffer], labels: Labels) {
        let same = self.offer(node).is_some_and(|offer| offer.kinds == kinds);
        if same && *self.labels_at(node) == labels {
            return;
        }
        self.clear_offer(node);
        self.offered_bytes += names_bytes(&labels);
        self.node_labels[node as usize] = labels;
        let known = |offer: &Option<Offer>| offer.as_ref().is_some_and(|it| it.kinds == kinds);
        match self.offers.iter().position(known) {
            Some(at) => {
                self.node_offers[node as usize] = Some(at as OfferId);
                if let Some(offer) = &mut self.offers[at] {
                    offer.nodes += 1;
                }
                for pool in 0..self.pools.list.len() as PoolId {
                    self.enter_pool(node, pool);
                }
            }
            None => {
                self.node_offers[node as usize] = Some(self.add_offer(kinds));
                self.rebuild_pools();
            }
        }
    }

    fn add_offer(&mut self, kinds: &[KindOffer]) -> OfferId {
        let mut index = BTreeMap::new();
        for (at, offer) in (0..).zip(kinds) {
            let kind = self.intern(&TaskKind::from(offer.kind.as_str()));
            self.kinds[kind as usize].offers += 1;
            index.insert(kind, (at, offer.blocking));
        }
        let bytes = names_bytes(kinds.iter().map(|offer| &offer.kind));
        self.offered_bytes += bytes;
        let offer = Some(Offer {
            kinds: kinds.to_vec(),
            index,
            bytes,
            nodes: 1,
        });
        let at = self.offers.iter().position(Option::is_none);
        let at = at.unwrap_or_else(|| {
            self.offers.push(None);
            self.offers.len() - 1
        });
        self.offers[at] = offer;
        at as OfferId
    }

    /// Forgets what a node offered that is not present, and its labels.
    pub fn clear_offer(&mut self, node: NodeIndex) {
        self.pools.leave(node);
        let labels = std::mem::take(&mut self.node_labels[node as usize]);
        self.offered_bytes -= names_bytes(&labels);
        let Some(at) = self.node_offers[node as usize].take() else {
            return;
        };
        let gone = self.offers[at as usize].take_if(|offer| {
            offer.nodes -= 1;
            offer.nodes == 0
        });
        if let Some(offer) = gone {
            self.offered_bytes -= offer.bytes;
            for kind in offer.index.into_keys() {
                self.leave_kind(kind);
            }
            self.rebuild_pools();
        }
    }

    /// Moves a node to the list of its room in every pool that it is in.
    #[inline]
    pub fn set_room(&mut self, node: NodeIndex, room: Room) {
        self.pools.set_room(node, room);
    }

    /// Sets whether a node counts among those that could run something. Returns the classes with
    /// waiting tasks that have lost their last such node by that.
    #[must_use]
    pub fn set_present(&mut self, node: NodeIndex, present: bool) -> Vec<ClassId> {
        let mut lost = Vec::new();
        for pool in self.pools.set_present(node, present) {
            for (id, class) in (0..).zip(&mut self.classes) {
                if class.pool == pool {
                    class.noted = false;
                    if !present && class.queue.len() > 0 {
                        lost.push(id);
                    }
                }
            }
        }
        lost
    }

    pub(super) fn find_pool(&mut self, id: ClassId) {
        let class = &self.classes[id as usize];
        let offers = self.offers.iter().zip(0..);
        let offers = offers.filter_map(|(offer, at)| {
            let has_kind = offer.as_ref()?.index.contains_key(&class.kind);
            has_kind.then_some(at)
        });
        let selector = Selector {
            offers: offers.collect(),
            labels: Arc::clone(&class.labels),
        };
        let (pool, new) = self.pools.find_or_add(selector);
        self.classes[id as usize].pool = pool;
        if new {
            for node in 0..self.node_offers.len() as NodeIndex {
                self.enter_pool(node, pool);
            }
        }
    }

    /// Enters a node into a pool if it belongs there.
    fn enter_pool(&mut self, node: NodeIndex, pool: PoolId) {
        let selector = &self.pools.list[pool as usize].selector;
        if self.belongs(node, selector) {
            self.pools.enter(node, pool);
        }
    }

    fn belongs(&self, node: NodeIndex, selector: &Selector) -> bool {
        let offer = self.node_offers[node as usize];
        offer.is_some_and(|offer| selector.admits(offer, self.labels_at(node)))
    }

    /// Builds all pools from the classes and the nodes.
    pub(super) fn rebuild_pools(&mut self) {
        self.pools.clear();
        for id in 0..self.classes.len() as ClassId {
            if self.classes[id as usize].is_forgotten() {
                continue;
            }
            self.find_pool(id);
            let class = &self.classes[id as usize];
            if class.announced.is_some() {
                self.pools
                    .announce(class.pool, id, class.manner, None, class.announced);
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
        let labels = self.node_labels.iter().map(names_bytes);
        if offers.chain(labels).sum::<usize>() != self.offered_bytes {
            return Err("G11: the bytes of kinds and labels are miscounted".to_owned());
        }
        for (at, offer) in (0..).zip(&self.offers) {
            let nodes = self.node_offers.iter().filter(|offer| **offer == Some(at));
            if nodes.count() != offer.as_ref().map_or(0, |offer| offer.nodes) {
                return Err("G11: the nodes with an offer are miscounted".to_owned());
            }
        }
        self.pools
            .check(|node, selector| self.belongs(node, selector))
    }
}
