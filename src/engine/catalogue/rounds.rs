//! The order across classes: which is looked at next, and on which node its head is placed.
//!
//! Owns: the heads of all classes, and what has changed since the last placement. Does not know:
//! what becomes of a task that is placed.
//!
//! A round of placement looks at what has changed alone: at the classes with another head, and at
//! those that wait for a group of nodes in which there is room again. What is left has been looked
//! at before and found no room.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::{Catalogue, Class, Heads, Rest};
use crate::engine::heads::ClassHead;
use crate::engine::placement::{GroupId, NodeIndex};
use crate::engine::queue::{ClassId, Hearer, PlacementRule, Turn};
use crate::engine::tasks::{Company, Tasks};
use crate::engine::work;

/// So many waiting classes are gone through without asking first which of them matter.
const FEW: usize = 8;

/// So many nodes are tried for a head that something else goes first at.
const MOST_TRIED: usize = 16;

/// One round of placement.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Classes to look at, under the turn of the head that each had.
    known: BinaryHeap<Reverse<ClassHead>>,
    /// Whether all that wait are looked at, in order, until what has changed has no room.
    all: bool,
    /// What was looked at last: all before it were.
    done: Option<ClassHead>,
}

impl Round {
    /// Adds another head of a class, which is to be looked at.
    pub fn push(&mut self, head: ClassHead) {
        self.known.push(Reverse(head));
    }
}

/// What the choice of a node asks of it.
pub(crate) trait Candidate {
    /// Returns whether it takes a suspect that may be among so many.
    fn takes_suspect(&self, node: NodeIndex, company: Company) -> bool;
    /// Returns what must go first at it, if it has no free worker, beside what waits for one.
    fn retracted(&self, node: NodeIndex) -> Option<Turn>;
}

impl Catalogue {
    /// Makes a class known by the turn of its head.
    #[inline]
    pub(super) fn announce(&mut self, tasks: &Tasks, id: ClassId) {
        let class = &mut self.classes[id as usize];
        let head = match class.rest {
            Rest::No => class.queue.head(tasks),
            Rest::Paused | Rest::Limited => None,
        };
        if class.rule == PlacementRule::Isolated {
            class.company = head.and_then(|(_, slot)| tasks.get(slot).company());
        }
        let head = head.map(|(turn, _)| turn);
        if head == class.announced {
            return;
        }
        let (rule, old) = (class.rule, std::mem::replace(&mut class.announced, head));
        self.heads[rule as usize].change(id, old, head);
        if old.is_none() != head.is_none() {
            self.set_waiting(id, head.is_some());
        }
        if head.is_some() {
            self.mark(id);
        }
        // A head that leaves may have kept others from being prefetched.
        if rule != PlacementRule::Prefetch
            && old.is_some()
            && !self.heads[PlacementRule::Prefetch as usize].is_empty()
        {
            for group in self.classes[id as usize].groups.iter() {
                work::step();
                self.groups.mark(group);
            }
        }
    }

    /// Notes whether a class has tasks that wait.
    fn set_waiting(&mut self, id: ClassId, waits: bool) {
        let class = &self.classes[id as usize];
        let all = &mut self.waiting[class.rule as usize];
        let callers = &mut self.for_callers;
        let callers = (class.hearer == Hearer::Callers).then_some(callers);
        for bits in callers.into_iter().chain([all]) {
            if waits {
                bits.insert(id);
            } else {
                bits.remove(id);
            }
        }
    }

    #[inline]
    fn mark(&mut self, id: ClassId) {
        work::step();
        let class = &mut self.classes[id as usize];
        if !std::mem::replace(&mut class.changed, true) {
            self.changed.push(id);
        }
    }

    /// Returns whether something may be placeable that was not before.
    #[inline]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty() || self.groups.has_changed()
    }

    /// Begins a round in which all is looked at that has changed since the last one.
    pub fn begin_round(&mut self) -> Round {
        let waiting = self.heads.iter().map(Heads::len).sum();
        let all = self.groups.changed_with_room().is_some() && !self.mark_waiting(waiting);
        let mut known = BinaryHeap::new();
        for id in std::mem::take(&mut self.changed) {
            let class = &mut self.classes[id as usize];
            class.changed = false;
            known.extend(class.announced.map(|turn| Reverse((turn, id))));
        }
        Round {
            known,
            all,
            done: None,
        }
    }

    /// Marks the classes that wait for the groups that have changed, unless that takes longer than
    /// to go through all that wait until nothing has room: most of them can be placed then.
    fn mark_waiting(&mut self, waiting: usize) -> bool {
        if waiting <= FEW {
            return waiting == 0;
        }
        let changed = self.groups.changed().iter();
        let profiles = changed.filter_map(|&group| self.profiles[group as usize].as_ref());
        let classes = || profiles.clone().map(|profile| &profile.classes);
        let count = |classes| self.waiting.iter().map(|it| it.count_common(classes)).sum();
        let count: usize = classes().map(count).map(|count: usize| count).sum();
        if count.saturating_mul(count) > waiting {
            return false;
        }
        let ids = classes().flat_map(|it| self.waiting.iter().flat_map(|of| of.common(it)));
        let ids: Vec<_> = ids.collect();
        ids.into_iter().for_each(|id| self.mark(id));
        true
    }

    /// Ends a round before all was looked at: what is left is looked at in the next one.
    pub fn break_off(&mut self, round: Round) {
        for Reverse((_, id)) in round.known {
            self.mark(id);
        }
    }

    /// Takes in that the head of a class has been placed. What goes to free workers alone may have
    /// kept others from being prefetched: these are looked at in this round, in their turn.
    #[inline]
    pub fn placed(&mut self, round: &mut Round, id: ClassId) {
        let plain = self.classes[id as usize].rule == PlacementRule::Prefetch;
        if plain || round.all || self.heads[PlacementRule::Prefetch as usize].is_empty() {
            return;
        }
        let more = self.begin_round();
        let done = round.done;
        let more_known = more.known.into_iter();
        round.all = more.all;
        round
            .known
            .extend(more_known.filter(|Reverse(head)| done.is_none_or(|done| *head > done)));
    }

    /// Returns the class that is looked at next, under the turn of its head.
    pub fn next(&mut self, round: &mut Round) -> Option<ClassHead> {
        loop {
            work::step();
            let known = round.known.peek().map(|&Reverse(head)| head);
            round.all &= self.groups.changed_with_room().is_some();
            let next = [known, self.next_of_all(round)]
                .into_iter()
                .flatten()
                .min()?;
            if known == Some(next) {
                round.known.pop();
            }
            let announced = self.classes[next.1 as usize].announced;
            if announced == Some(next.0) {
                round.done = Some(next);
                return Some(next);
            }
            // The class has another head by now.
            round
                .known
                .extend(announced.map(|turn| Reverse((turn, next.1))));
        }
    }

    #[inline]
    fn next_of_all(&self, round: &Round) -> Option<ClassHead> {
        if !round.all {
            return None;
        }
        let mut first: Option<ClassHead> = None;
        for heads in &self.heads {
            // Most often all that waits is of one rule.
            if !heads.is_empty()
                && let Some(head) = heads.after(round.done)
                && first.is_none_or(|first| head < first)
            {
                first = Some(head);
            }
        }
        first
    }

    /// Returns the new head of a class that was looked at; `true` if it is the next to be looked
    /// at.
    #[inline]
    pub fn next_head(&self, round: &Round, id: ClassId) -> Option<(ClassHead, bool)> {
        let head = self.announced(id)?;
        let goes_first = |other: Option<ClassHead>| other.is_none_or(|other| head <= other);
        let known = round.known.peek().map(|&Reverse(head)| head);
        Some((
            head,
            goes_first(known) && goes_first(self.next_of_all(round)),
        ))
    }

    /// Returns the heads of the classes that callers alone wait for, in order.
    pub fn heads_for_callers(&self) -> BTreeSet<ClassHead> {
        let waiting = self.for_callers.iter().inspect(|_| work::step());
        waiting.filter_map(|id| self.announced(id)).collect()
    }

    /// Returns the head by which a class is known.
    pub fn announced(&self, id: ClassId) -> Option<ClassHead> {
        Some((self.classes[id as usize].announced?, id))
    }

    /// Ends a round in which all has been looked at: what was marked meanwhile, too.
    pub fn end_round(&mut self) {
        for id in self.changed.drain(..) {
            self.classes[id as usize].changed = false;
        }
        self.groups.forget_changes();
    }

    /// Chooses the node for the head of a class; `true` if it is to wait there.
    #[inline]
    pub fn choose(
        &mut self,
        (turn, id): ClassHead,
        nodes: &impl Candidate,
    ) -> Option<(NodeIndex, bool)> {
        let Class {
            groups,
            rule,
            company,
            ..
        } = &self.classes[id as usize];
        let chosen = match rule {
            PlacementRule::Isolated => {
                let mut free = self.groups.free_nodes(groups);
                let company = (*company)?;
                (
                    free.find(|&node| nodes.takes_suspect(node, company))?,
                    false,
                )
            }
            PlacementRule::FreeWorkerOnly => (self.groups.free(groups)?, false),
            PlacementRule::Prefetch => match self.groups.nearest(groups)? {
                (nearest, true) => {
                    // What goes first at the least loaded may not at another, which would be given
                    // to what comes after this head (G6).
                    let others = || self.groups.prefetched_nodes(groups).take(MOST_TRIED);
                    let may_wait = |node| {
                        work::step();
                        let barrier = self.barrier(node, nodes);
                        let barrier = barrier.into_iter().chain(nodes.retracted(node)).min();
                        barrier.is_none_or(|barrier| turn < barrier)
                    };
                    let node = Some(nearest).filter(|&node| may_wait(node));
                    (
                        node.or_else(|| others().find(|&node| may_wait(node)))?,
                        true,
                    )
                }
                free => free,
            },
        };
        self.groups.chosen(chosen.0);
        Some(chosen)
    }

    /// Returns the best turn among what waits for a free worker of a node, and nothing else will do
    /// for: nothing that comes after it may be prefetched to the node, or no worker there would
    /// ever be free.
    #[inline]
    fn barrier(&self, node: NodeIndex, nodes: &impl Candidate) -> Option<Turn> {
        let [_, directs, suspects] = &self.heads;
        if directs.is_empty() && suspects.is_empty() {
            return None;
        }
        let group = self.groups.group_of(node)?;
        let direct = self.first_at(group, PlacementRule::FreeWorkerOnly);
        let mut suspects = suspects.iter();
        let suspect = suspects.find(|(_, id)| {
            work::step();
            let class = &self.classes[*id as usize];
            let takes = |company| nodes.takes_suspect(node, company);
            class.groups.contains(group) && class.company.is_some_and(takes)
        });
        direct
            .into_iter()
            .chain(suspect.map(|(turn, _)| turn))
            .min()
    }

    /// Returns the best turn among all that waits for this node.
    pub fn waiting(&self, node: NodeIndex, nodes: &impl Candidate) -> Option<Turn> {
        let group = self.groups.group_of(node)?;
        let plain = self.first_at(group, PlacementRule::Prefetch);
        plain.into_iter().chain(self.barrier(node, nodes)).min()
    }

    /// Returns how many due tasks wait that a node may run, up to `most`: all of them, or only
    /// those for which callers alone wait.
    pub fn count_waiting(&self, node: NodeIndex, most: u32, for_callers: bool) -> u32 {
        let group = self.groups.group_of(node);
        let profile = group.and_then(|group| self.profiles[group as usize].as_ref());
        let Some(profile) = profile.filter(|_| most > 0) else {
            return 0;
        };
        let waiting = match for_callers {
            true => std::slice::from_ref(&self.for_callers),
            false => self.waiting.as_slice(),
        };
        let ids = waiting.iter().flat_map(|of| of.common(&profile.classes));
        let mut count = 0;
        for id in ids {
            work::step();
            count += self.classes[id as usize].queue.in_turn();
            if count >= most as usize {
                return most;
            }
        }
        // Less than `most`.
        count as u32
    }

    /// Returns the best turn of this rule among what waits for a group of nodes.
    fn first_at(&self, group: GroupId, rule: PlacementRule) -> Option<Turn> {
        let heads = &self.heads[rule as usize];
        let mut first = heads.iter().take(FEW).inspect(|_| work::step());
        let of_few = first.find(|(_, id)| self.classes[*id as usize].groups.contains(group));
        if of_few.is_some() || heads.len() <= FEW {
            return of_few.map(|(turn, _)| turn);
        }
        let classes = &self.profiles[group as usize].as_ref()?.classes;
        let ids = self.waiting[rule as usize].common(classes);
        let ids = ids.inspect(|_| work::step());
        ids.filter_map(|id| self.classes[id as usize].announced)
            .min()
    }

    /// Returns the least loaded node with a free worker that may run a class.
    pub fn free_node(&self, id: ClassId) -> Option<NodeIndex> {
        self.groups.free(&self.classes[id as usize].groups)
    }

    /// Returns the nodes with a free worker that may run a class.
    pub fn free_nodes(&self, id: ClassId) -> impl Iterator<Item = NodeIndex> {
        self.groups.free_nodes(&self.classes[id as usize].groups)
    }

    /// Returns whether any node has a free worker.
    pub fn has_free(&self) -> bool {
        self.groups.has_free()
    }

    /// Returns whether another node than this could run a class.
    pub fn has_other(&self, id: ClassId, node: NodeIndex) -> bool {
        let groups = &self.classes[id as usize].groups;
        self.groups.has_other(groups, node)
    }

    /// Checks that classes are in order, each as often as it has a head.
    pub(super) fn check_heads(&self) -> Result<(), String> {
        for (rule, heads) in [
            PlacementRule::Prefetch,
            PlacementRule::FreeWorkerOnly,
            PlacementRule::Isolated,
        ]
        .into_iter()
        .zip(&self.heads)
        {
            let classes = (0..)
                .zip(&self.classes)
                .filter(|(_, class)| class.rule == rule);
            let mut all: Vec<_> = classes
                .filter_map(|(id, class)| Some((class.announced?, id)))
                .collect();
            all.sort_unstable();
            if !heads.iter().eq(all) {
                return Err("G6: the classes are not in order".to_owned());
            }
        }
        Ok(())
    }
}
