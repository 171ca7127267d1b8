//! Which node: the least loaded of those that may run a class.
//!
//! Owns: the groups of nodes that are alike, each group's nodes by load, and the groups by their
//! least loaded node. Does not know: tasks, classes, links, why nodes are alike, or why one has
//! room.
//!
//! Nodes that offer the same and bear the same labels may run the same classes, so a node is in one
//! group, whatever is asked for. There it stands in a list by load level, with a bitmap over the
//! levels: it is moved, and the least loaded is found, without a search. Within a level the one
//! that waited longest comes first. A class knows its groups as a set of bits, and the groups on
//! each level are another, so the best of hundreds of groups is found in a few words. Nothing is
//! kept for a class or a label: that there are many costs nothing when a node's load changes.

use std::iter::successors;

use super::bits::Bits;
pub(crate) use super::ids::NodeIndex;
use super::work;

/// Index of an offer: a set of kinds that some nodes offer.
pub(crate) type OfferId = u32;
/// Index of a group of nodes that are alike.
pub(crate) type GroupId = u32;

const NO_NODE: NodeIndex = u32::MAX;
const NO_GROUP: GroupId = u32::MAX;
/// Levels below this one are those of nodes with a free worker; the others may be prefetched to.
const AHEAD: u8 = 64;
const LEVELS: u8 = 128;
/// The levels of nodes with a free worker.
const FREE: u128 = (1 << AHEAD) - 1;
/// How many groups on one level are compared, to choose the one whose first node has waited
/// longest. If there are more, they take turns.
const COMPARED: usize = 16;
/// The level of a node that is in no list.
const NOWHERE: u8 = u8::MAX;

/// How much room a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// No room, or the node is not up.
    None,
    /// A free worker: so many of so many are taken.
    Free {
        /// Taken workers.
        taken: u32,
        /// All workers, more than are taken.
        of: u32,
    },
    /// No free worker, but so many of so many places ahead are taken.
    Prefetched {
        /// Taken places.
        taken: u32,
        /// All places, more than are taken.
        of: u32,
    },
}

impl Room {
    fn level(self) -> u8 {
        let share = |taken: u32, of: u32| {
            // Most often a node of many is idle, and a division takes long beside the rest.
            if taken == 0 {
                return 0;
            }
            // Rounded up, so that only an idle node is on level 0.
            (u64::from(taken) * 62)
                .div_ceil(u64::from(of.max(1)))
                .min(63) as u8
        };
        match self {
            Self::None => NOWHERE,
            Self::Free { taken, of } => share(taken, of),
            Self::Prefetched { taken, of } => AHEAD + share(taken, of),
        }
    }
}

/// Lists by level, of which some are empty.
#[derive(Debug)]
struct Group {
    /// Nodes in it, and those of them that could run something.
    nodes: u32,
    present: u32,
    /// Whether a node of it may have room that it had not at the last placement.
    changed: bool,
    levels: u128,
    first: [NodeIndex; LEVELS as usize],
    last: [NodeIndex; LEVELS as usize],
}

impl Default for Group {
    fn default() -> Self {
        Self {
            nodes: 0,
            present: 0,
            changed: false,
            levels: 0,
            first: [NO_NODE; LEVELS as usize],
            last: [NO_NODE; LEVELS as usize],
        }
    }
}

impl Group {
    /// Returns the level of its least loaded node; [`LEVELS`] if none has room.
    fn best(&self) -> u8 {
        self.levels.trailing_zeros() as u8
    }
}

/// Where a node stands.
#[derive(Clone, Debug)]
struct Position {
    group: GroupId,
    level: u8,
    /// Whether it counts among those that could run something.
    present: bool,
    /// How many had moved when it moved last.
    since: u64,
    prev: NodeIndex,
    next: NodeIndex,
}

const APART: Position = Position {
    group: NO_GROUP,
    level: NOWHERE,
    present: false,
    since: 0,
    prev: NO_NODE,
    next: NO_NODE,
};

/// The groups of which the least loaded node is on one level.
#[derive(Clone, Debug, Default)]
struct Level {
    groups: Bits,
    count: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Groups {
    list: Vec<Group>,
    nodes: Vec<Position>,
    by_level: Vec<Level>,
    levels: u128,
    /// Groups with a node that could run something.
    present: Bits,
    changed: Vec<GroupId>,
    /// Where the groups that take turns are gone through from.
    turn: GroupId,
    moves: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            nodes: Vec::new(),
            by_level: vec![Level::default(); usize::from(LEVELS)],
            levels: 0,
            present: Bits::default(),
            changed: Vec::new(),
            turn: 0,
            moves: 0,
        }
    }
}

impl Groups {
    /// Returns the least loaded node of these groups with a free worker.
    pub fn free(&self, groups: &Bits) -> Option<NodeIndex> {
        let (node, _) = self.least(groups, self.levels & FREE)?;
        Some(node)
    }

    /// Returns the node of these groups with the shortest way to a worker; `true` if it has none
    /// free.
    #[inline]
    pub fn nearest(&self, groups: &Bits) -> Option<(NodeIndex, bool)> {
        let (node, level) = self.least(groups, self.levels)?;
        Some((node, level >= usize::from(AHEAD)))
    }

    /// Returns the node of these groups on the lowest of these levels, and its level.
    #[inline]
    fn least(&self, groups: &Bits, mut levels: u128) -> Option<(NodeIndex, usize)> {
        if let [only] = &self.list[..] {
            // Where all nodes are alike there are no groups to compare.
            let level = (only.levels & levels).trailing_zeros() as usize;
            let node = *only.first.get(level)?;
            return groups.contains(0).then_some((node, level));
        }
        while levels != 0 {
            let level = levels.trailing_zeros() as usize;
            levels &= levels - 1;
            let (mut least, mut compared) = (None, 0);
            let on_level = &self.by_level[level].groups;
            on_level.visit_common(groups, self.turn, |group| {
                let node = self.list[group as usize].first[level];
                let since = self.nodes[node as usize].since;
                if least.is_none_or(|(before, _)| since < before) {
                    least = Some((since, node));
                }
                compared += 1;
                compared < COMPARED
            });
            if let Some((_, node)) = least {
                return Some((node, level));
            }
        }
        None
    }

    /// Returns the nodes of these groups with a free worker, those of one group least loaded first.
    pub fn free_nodes(&self, groups: &Bits) -> impl Iterator<Item = NodeIndex> {
        self.nodes_in(groups, FREE)
    }

    /// Returns the nodes of these groups that may be prefetched to, if none has a free worker.
    pub fn prefetched_nodes(&self, groups: &Bits) -> impl Iterator<Item = NodeIndex> {
        self.nodes_in(groups, !FREE)
    }

    /// Returns the nodes of these groups on some levels.
    fn nodes_in(&self, groups: &Bits, some: u128) -> impl Iterator<Item = NodeIndex> {
        let best = in_order(self.levels & some);
        let best =
            best.flat_map(move |level| self.by_level[usize::from(level)].groups.common(groups));
        best.flat_map(move |group| {
            let group = &self.list[group as usize];
            let there = |node| (node != NO_NODE).then_some(node);
            in_order(group.levels & some).flat_map(move |level| {
                successors(there(group.first[usize::from(level)]), move |&node| {
                    there(self.nodes[node as usize].next)
                })
            })
        })
    }

    /// Returns whether any node has a free worker.
    pub fn has_free(&self) -> bool {
        self.levels & FREE != 0
    }

    /// Returns whether another node than this could run what these groups may.
    pub fn has_other(&self, groups: &Bits, node: NodeIndex) -> bool {
        let Position { group, present, .. } = self.nodes[node as usize];
        groups.common(&self.present).any(|id| {
            work::step();
            let own = u32::from(present && id == group);
            self.list[id as usize].present > own
        })
    }

    /// Takes in that a node of this group was chosen: the next one is of another, if that is loaded
    /// as little.
    #[inline]
    pub fn chosen(&mut self, node: NodeIndex) {
        self.turn = self.nodes[node as usize].group.wrapping_add(1);
    }

    /// Makes room for a node that is in no group so far.
    pub fn enter_node(&mut self, node: NodeIndex) {
        if self.nodes.len() <= node as usize {
            self.nodes.resize(node as usize + 1, APART);
        }
    }

    /// Enters a node that is in no group into one.
    pub fn enter(&mut self, node: NodeIndex, group: GroupId) {
        if self.list.len() <= group as usize {
            self.list.resize_with(group as usize + 1, Group::default);
        }
        self.list[group as usize].nodes += 1;
        self.nodes[node as usize].group = group;
    }

    /// Takes a node that is not present out of its group. Returns that, if nobody is left in it.
    pub fn leave(&mut self, node: NodeIndex) -> Option<GroupId> {
        debug_assert!(!self.is_present(node), "its group would still count it");
        self.set_room(node, Room::None);
        let group = std::mem::replace(&mut self.nodes[node as usize].group, NO_GROUP);
        let entry = self.list.get_mut(group as usize)?;
        entry.nodes -= 1;
        (entry.nodes == 0).then_some(group)
    }

    pub fn group_of(&self, node: NodeIndex) -> Option<GroupId> {
        let group = self.nodes[node as usize].group;
        (group != NO_GROUP).then_some(group)
    }

    /// Moves a node to the list of its room. One in no group has none.
    #[inline]
    pub fn set_room(&mut self, node: NodeIndex, room: Room) {
        let (level, id) = (room.level(), self.nodes[node as usize].group);
        if id == NO_GROUP {
            return;
        }
        work::step();
        let standing = &mut self.nodes[node as usize];
        if standing.level == level
            && level != NOWHERE
            && (standing.prev, standing.next) == (NO_NODE, NO_NODE)
        {
            // It is alone there, first and last.
            self.moves += 1;
            standing.since = self.moves;
            self.mark(id);
            return;
        }
        let before = self.list[id as usize].best();
        self.unlink(node);
        if level != NOWHERE {
            self.link(node, level);
            self.mark(id);
        }
        let after = self.list[id as usize].best();
        if before != after {
            self.move_group(id, before, after);
        }
    }

    fn move_group(&mut self, id: GroupId, before: u8, after: u8) {
        if let Some(level) = self.by_level.get_mut(usize::from(before)) {
            level.groups.remove(id);
            level.count -= 1;
            if level.count == 0 {
                self.levels &= !(1 << before);
            }
        }
        if let Some(level) = self.by_level.get_mut(usize::from(after)) {
            level.groups.insert(id);
            level.count += 1;
            self.levels |= 1 << after;
        }
    }

    fn unlink(&mut self, node: NodeIndex) {
        let Position {
            group,
            level,
            prev,
            next,
            ..
        } = self.nodes[node as usize];
        if level == NOWHERE {
            return;
        }
        let (group, level) = (&mut self.list[group as usize], usize::from(level));
        match prev {
            NO_NODE => group.first[level] = next,
            prev => self.nodes[prev as usize].next = next,
        }
        match next {
            NO_NODE => group.last[level] = prev,
            next => self.nodes[next as usize].prev = prev,
        }
        if group.first[level] == NO_NODE {
            group.levels &= !(1 << level);
        }
        self.nodes[node as usize].level = NOWHERE;
    }

    fn link(&mut self, node: NodeIndex, level: u8) {
        let group = &mut self.list[self.nodes[node as usize].group as usize];
        let last = std::mem::replace(&mut group.last[usize::from(level)], node);
        match last {
            NO_NODE => group.first[usize::from(level)] = node,
            last => self.nodes[last as usize].next = node,
        }
        group.levels |= 1 << level;
        self.moves += 1;
        let standing = &mut self.nodes[node as usize];
        (standing.level, standing.prev, standing.next) = (level, last, NO_NODE);
        standing.since = self.moves;
    }

    /// Notes that something may be placeable in a group that was not.
    #[inline]
    pub fn mark(&mut self, id: GroupId) {
        let group = &mut self.list[id as usize];
        if !std::mem::replace(&mut group.changed, true) {
            self.changed.push(id);
        }
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Returns a group that has changed and in which a node has room. Those without are forgotten.
    pub fn changed_with_room(&mut self) -> Option<GroupId> {
        while let Some(&id) = self.changed.last() {
            let group = &mut self.list[id as usize];
            if group.levels != 0 {
                return Some(id);
            }
            group.changed = false;
            self.changed.pop();
        }
        None
    }

    /// Returns the groups that have changed.
    pub fn changed(&self) -> &[GroupId] {
        &self.changed
    }

    /// Forgets all changes, which have been looked at.
    pub fn forget_changes(&mut self) {
        for id in self.changed.drain(..) {
            self.list[id as usize].changed = false;
        }
    }

    pub fn is_present(&self, node: NodeIndex) -> bool {
        self.nodes[node as usize].present
    }

    /// Returns the groups with a node that could run something.
    pub fn present(&self) -> &Bits {
        &self.present
    }

    /// Sets whether a node counts among those that could run something. Returns its group, if its
    /// first such node has come or its last one has gone.
    pub fn set_present(&mut self, node: NodeIndex, present: bool) -> Option<GroupId> {
        let standing = &mut self.nodes[node as usize];
        if standing.present == present {
            return None;
        }
        standing.present = present;
        let id = standing.group;
        let group = self.list.get_mut(id as usize)?;
        if present {
            group.present += 1;
        } else {
            group.present -= 1;
        }
        if group.present != u32::from(present) {
            return None;
        }
        if present {
            self.present.insert(id);
        } else {
            self.present.remove(id);
        }
        Some(id)
    }

    /// Checks that what is counted of groups and levels is what is there.
    pub fn check(&self) -> Result<(), String> {
        for (id, group) in (0..).zip(&self.list) {
            let nodes = || self.nodes.iter().filter(|node| node.group == id);
            let present = nodes().filter(|node| node.present).count();
            if (nodes().count(), present) != (group.nodes as usize, group.present as usize) {
                return Err("G5: the nodes of a group are miscounted".to_owned());
            }
            if self.present.contains(id) != (present > 0) {
                return Err("G5: a group is wrongly counted as present or absent".to_owned());
            }
            let roomy = nodes().filter(|node| node.level != NOWHERE);
            let best = roomy.map(|node| node.level).min().unwrap_or(LEVELS);
            let known = (0..).zip(&self.by_level);
            let known = known.filter(|(_, level)| level.groups.contains(id));
            let known: Vec<u8> = known.map(|(level, _)| level).collect();
            if group.best() != best || known != Vec::from_iter(Some(best).filter(|it| *it < LEVELS))
            {
                return Err("G5: a group is not known by its least loaded node".to_owned());
            }
        }
        Ok(())
    }
}

/// Returns the levels of a bitmap, in order.
fn in_order(levels: u128) -> impl Iterator<Item = u8> {
    let rest = successors(Some(levels), |rest| Some(rest & rest.wrapping_sub(1)));
    rest.take_while(|rest| *rest != 0)
        .map(|rest| rest.trailing_zeros() as u8)
}
