//! Which node: the least loaded of those that may run a class.
//!
//! Owns: pools (the nodes that may run the same classes), each pool's nodes by load, and each
//! pool's classes by the turn of their heads. Does not know: tasks, links, what nodes offer, or why
//! one has room.
//!
//! Classes whose tasks the same nodes may run share a pool, and a node is in as many pools as there
//! are selectors in use that it fulfils, normally one or two. Nodes stand in lists by load level with a bitmap
//! over the levels, so the least loaded is found, and a node moved, without a search; within a level
//! the one that waited longest comes first.

use std::collections::BTreeMap;
use std::iter::successors;
use std::sync::Arc;

use super::heads::Heads;
pub(crate) use super::ids::NodeIndex;
use super::queue::{ClassId, Manner, Turn};
use crate::task::Labels;

/// Index of a pool.
pub(crate) type PoolId = u32;
/// Index of an offer: a set of kinds that some nodes offer.
pub(crate) type OfferId = u32;

const NO_NODE: NodeIndex = u32::MAX;
/// Levels below this one are those of nodes with a free worker; the others may be sent ahead to.
const AHEAD: u8 = 64;
/// In no list.
const NOWHERE: u8 = u8::MAX;

/// How much room a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// None, or it is not up.
    None,
    /// A free worker: so many of so many are taken.
    Free {
        /// Taken workers.
        taken: u32,
        /// All workers, more than are taken.
        of: u32,
    },
    /// No free worker, but so many of so many places ahead are taken.
    Ahead {
        /// Taken places.
        taken: u32,
        /// All places, more than are taken.
        of: u32,
    },
}

impl Room {
    fn level(self) -> u8 {
        // Rounded up, so that only an idle node is on level 0.
        let share = |taken: u32, of: u32| {
            (u64::from(taken) * 62)
                .div_ceil(u64::from(of.max(1)))
                .min(63) as u8
        };
        match self {
            Self::None => NOWHERE,
            Self::Free { taken, of } => share(taken, of),
            Self::Ahead { taken, of } => AHEAD + share(taken, of),
        }
    }
}

/// A node's place in one pool.
#[derive(Clone, Copy, Debug)]
struct Place {
    pool: PoolId,
    level: u8,
    prev: NodeIndex,
    next: NodeIndex,
}

/// The places of a node: as many as pools it is in.
type Places = Vec<Place>;

/// What nodes must have to be in a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector {
    /// The offers with the kind.
    pub offers: Vec<OfferId>,
    pub labels: Arc<Labels>,
}

impl Selector {
    pub fn admits(&self, offer: OfferId, labels: &Labels) -> bool {
        self.offers.binary_search(&offer).is_ok() && self.labels.is_subset(labels)
    }
}

#[derive(Debug)]
pub(crate) struct Pool {
    pub selector: Selector,
    /// Nodes of it that are up, with room or without.
    pub present: usize,
    /// Whether something may be placeable since the last placement.
    pub dirty: bool,
    heads: [Heads; 3],
    first: [NodeIndex; 128],
    last: [NodeIndex; 128],
    levels: u128,
}

impl Pool {
    fn new(selector: Selector) -> Self {
        Self {
            selector,
            present: 0,
            dirty: false,
            heads: Default::default(),
            first: [NO_NODE; 128],
            last: [NO_NODE; 128],
            levels: 0,
        }
    }

    fn head(&self, manner: Manner) -> Option<(Turn, ClassId)> {
        self.heads[manner as usize].first()
    }

    fn least(&self, from: u8, to: u8) -> Option<NodeIndex> {
        let mask = (u128::MAX << from) & (u128::MAX >> (128 - u32::from(to)));
        let level = (self.levels & mask).trailing_zeros();
        (level < 128).then(|| self.first[level as usize])
    }

    /// The least loaded node with a free worker.
    pub fn free(&self) -> Option<NodeIndex> {
        self.least(0, AHEAD)
    }

    /// The node with the shortest way to a worker.
    pub fn ahead(&self) -> Option<NodeIndex> {
        self.least(AHEAD, 128)
    }
}

/// How a node stands in the pools.
#[derive(Debug)]
struct Standing {
    /// The level of the lists that it is in.
    level: u8,
    /// Whether it counts among those that could run something.
    present: bool,
    places: Places,
}

/// All pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pub list: Vec<Pool>,
    by_selector: BTreeMap<Selector, PoolId>,
    dirty: Vec<PoolId>,
    nodes: Vec<Standing>,
}

impl Pools {
    /// The pool of this selector; `true` if it is new and its nodes are to be entered.
    pub fn find_or_add(&mut self, selector: Selector) -> (PoolId, bool) {
        if let Some(&pool) = self.by_selector.get(&selector) {
            return (pool, false);
        }
        let pool = self.list.len() as PoolId;
        self.list.push(Pool::new(selector.clone()));
        self.by_selector.insert(selector, pool);
        (pool, true)
    }

    /// Forgets all pools. Nodes keep their room.
    pub fn clear(&mut self) {
        self.list.clear();
        self.by_selector.clear();
        self.dirty.clear();
        for node in &mut self.nodes {
            node.places.clear();
        }
    }

    fn mark(&mut self, pool: PoolId) {
        if let Some(entry) = self.list.get_mut(pool as usize)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(pool);
        }
    }

    pub fn take_dirty(&mut self) -> Vec<PoolId> {
        for &pool in &self.dirty {
            self.list[pool as usize].dirty = false;
        }
        std::mem::take(&mut self.dirty)
    }

    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Makes a class's head known to its pool, in place of the turn under which it was known.
    pub fn announce(
        &mut self,
        pool: PoolId,
        class: ClassId,
        manner: Manner,
        old: Option<Turn>,
        new: Option<Turn>,
    ) {
        self.list[pool as usize].heads[manner as usize].change(class, old, new);
        // A head that leaves may have kept others from being sent ahead.
        if new.is_some() || manner != Manner::Plain {
            self.mark(pool);
        }
    }

    /// The best turn among the waiting heads of a node's pools that only a free worker will do for: nothing
    /// that comes after it may be sent ahead to the node, or no worker there would ever be free.
    fn barrier(&self, node: NodeIndex, takes_suspect: bool) -> Option<Turn> {
        let heads = self.nodes[node as usize].places.iter().flat_map(|place| {
            let pool = &self.list[place.pool as usize];
            let suspect = pool.head(Manner::Suspect).filter(|_| takes_suspect);
            [pool.head(Manner::Direct), suspect]
        });
        heads.flatten().map(|(turn, _)| turn).min()
    }

    /// The best turn among all that waits for this node.
    pub fn waiting(&self, node: NodeIndex, takes_suspect: bool) -> Option<Turn> {
        let plain = self.nodes[node as usize]
            .places
            .iter()
            .filter_map(|place| self.list[place.pool as usize].head(Manner::Plain))
            .map(|(turn, _)| turn);
        plain.chain(self.barrier(node, takes_suspect)).min()
    }

    /// The class whose turn it is in this pool, among those that its room allows. `takes_suspect`
    /// says whether a node has no suspect, `retracted` what must go first at a node without a free
    /// worker beside what waits for one.
    pub fn next(
        &self,
        pool: PoolId,
        takes_suspect: impl Fn(NodeIndex) -> bool,
        retracted: impl Fn(NodeIndex) -> Option<Turn>,
    ) -> Option<(Turn, ClassId)> {
        let entry = &self.list[pool as usize];
        let plain = entry.head(Manner::Plain);
        if entry.free().is_none() {
            let node = entry.ahead()?;
            let barrier = self.barrier(node, takes_suspect(node));
            let barrier = barrier.into_iter().chain(retracted(node)).min();
            return plain.filter(|(turn, _)| barrier.is_none_or(|barrier| *turn < barrier));
        }
        let suspects = entry
            .head(Manner::Suspect)
            .filter(|_| self.free_nodes(pool).any(&takes_suspect));
        [plain, entry.head(Manner::Direct), suspects]
            .into_iter()
            .flatten()
            .min()
    }

    /// Nodes of a pool with a free worker, least loaded first.
    pub fn free_nodes(&self, pool: PoolId) -> impl Iterator<Item = NodeIndex> {
        let entry = &self.list[pool as usize];
        (0..AHEAD)
            .filter(|&level| entry.levels & (1 << level) != 0)
            .flat_map(move |level| {
                let some = |node| (node != NO_NODE).then_some(node);
                successors(some(entry.first[usize::from(level)]), move |&node| {
                    let mut places = self.nodes[node as usize].places.iter();
                    some(places.find(|place| place.pool == pool)?.next)
                })
            })
    }

    /// Makes room for a node that is in no pool so far.
    pub fn enter_node(&mut self, node: NodeIndex) {
        if self.nodes.len() <= node as usize {
            self.nodes.resize_with(node as usize + 1, || Standing {
                level: NOWHERE,
                present: false,
                places: Places::new(),
            });
        }
    }

    /// Enters a node into a pool, in the list of its room.
    pub fn enter(&mut self, node: NodeIndex, pool: PoolId) {
        let standing = &mut self.nodes[node as usize];
        let (at, level) = (standing.places.len(), standing.level);
        standing.places.push(Place {
            pool,
            level: NOWHERE,
            prev: NO_NODE,
            next: NO_NODE,
        });
        self.list[pool as usize].present += usize::from(standing.present);
        if level != NOWHERE {
            self.link(node, at, level);
        }
    }

    /// Takes a node out of all pools. It must not be present.
    pub fn leave(&mut self, node: NodeIndex) {
        debug_assert!(!self.is_present(node), "its pools would still count it");
        self.set_room(node, Room::None);
        self.nodes[node as usize].places = Places::new();
    }

    /// Moves a node to the list of its room in every pool that it is in.
    pub fn set_room(&mut self, node: NodeIndex, room: Room) {
        let level = room.level();
        self.nodes[node as usize].level = level;
        for at in 0..self.nodes[node as usize].places.len() {
            self.unlink(node, at);
            if level != NOWHERE {
                self.link(node, at, level);
            }
        }
    }

    pub fn is_present(&self, node: NodeIndex) -> bool {
        self.nodes[node as usize].present
    }

    /// Sets whether a node counts among those that could run something. Returns the pools whose
    /// first such node has come, or whose last one has gone.
    pub fn set_present(&mut self, node: NodeIndex, present: bool) -> Vec<PoolId> {
        let mut changed = Vec::new();
        let standing = &mut self.nodes[node as usize];
        if standing.present == present {
            return changed;
        }
        standing.present = present;
        for place in &standing.places {
            let count = &mut self.list[place.pool as usize].present;
            if present {
                *count += 1;
            } else {
                *count -= 1;
            }
            if *count == usize::from(present) {
                changed.push(place.pool);
            }
        }
        changed
    }

    #[inline]
    fn unlink(&mut self, node: NodeIndex, at: usize) {
        let place = self.nodes[node as usize].places[at];
        if place.level == NOWHERE {
            return;
        }
        let pool = &mut self.list[place.pool as usize];
        let level = usize::from(place.level);
        match place.prev {
            NO_NODE => pool.first[level] = place.next,
            prev => neighbour(&mut self.nodes, prev, place.pool).next = place.next,
        }
        match place.next {
            NO_NODE => pool.last[level] = place.prev,
            next => neighbour(&mut self.nodes, next, place.pool).prev = place.prev,
        }
        if pool.first[level] == NO_NODE {
            pool.levels &= !(1 << level);
        }
        self.nodes[node as usize].places[at].level = NOWHERE;
    }

    #[inline]
    fn link(&mut self, node: NodeIndex, at: usize, level: u8) {
        let id = self.nodes[node as usize].places[at].pool;
        let pool = &mut self.list[id as usize];
        let last = pool.last[usize::from(level)];
        match last {
            NO_NODE => pool.first[usize::from(level)] = node,
            last => neighbour(&mut self.nodes, last, id).next = node,
        }
        pool.last[usize::from(level)] = node;
        pool.levels |= 1 << level;
        self.nodes[node as usize].places[at] = Place {
            pool: id,
            level,
            prev: last,
            next: NO_NODE,
        };
        self.mark(id);
    }

    /// Checks that each node is in the pools that `belongs` says, and that each pool counts those
    /// that are present.
    pub fn check(&self, belongs: impl Fn(NodeIndex, &Selector) -> bool) -> Result<(), String> {
        for (id, pool) in (0..).zip(&self.list) {
            let mut present = 0;
            for (node, standing) in (0..).zip(&self.nodes) {
                let is_in = standing.places.iter().any(|place| place.pool == id);
                present += usize::from(is_in && standing.present);
                if is_in != belongs(node, &pool.selector) {
                    return Err("G5: a node is not in the pools that it belongs to".to_owned());
                }
            }
            if present != pool.present {
                return Err("G5: the present nodes of a pool are miscounted".to_owned());
            }
        }
        Ok(())
    }
}

fn neighbour(nodes: &mut [Standing], node: NodeIndex, pool: PoolId) -> &mut Place {
    nodes[node as usize]
        .places
        .iter_mut()
        .find(|place| place.pool == pool)
        .expect("a neighbour in a pool's list is in the pool")
}
