//! What is measured of kinds: their counters, and how long the oldest of their tasks wait.
//!
//! Owns: whose counters those of a class are, and what is told of classes as one kind. Does not
//! know: when anything is counted, or what nodes have.

use std::cmp::Reverse;

use super::{Catalogue, KindId, Rest};
use crate::engine::Timestamp;
use crate::engine::meter::{KindMeter, KindMeters, KindMetrics, MeterId, OTHER, OTHER_NAME};
use crate::engine::queue::{ClassId, priority_of};
use crate::engine::ranks::due_at;
use crate::engine::tasks::Tasks;
use crate::task::TaskKind;

impl Catalogue {
    /// Counts a task of a class that was accepted for good.
    #[inline(always)]
    pub fn accepted(&mut self, id: ClassId) {
        self.classes[id as usize].accepted += 1;
    }

    /// Adds what a class counts of accepted tasks to the counters of its kind.
    pub(super) fn fold_accepted(&mut self, id: ClassId) {
        let class = &mut self.classes[id as usize];
        let accepted = std::mem::take(&mut class.accepted);
        if accepted > 0 {
            self.meters.get(class.meter).accepted += accepted;
            self.kinds[class.kind as usize].lately += accepted;
        }
    }

    /// Returns the counters of the kind of a class. What it has accepted of late is not in them.
    #[inline(always)]
    pub fn meter(&mut self, id: ClassId) -> &mut KindMeter {
        self.meters.get(self.classes[id as usize].meter)
    }

    /// Returns the sum of all that was counted of kinds.
    pub fn metered(&self) -> KindMeter {
        let mut sum = self.meters.sum();
        sum.accepted += self.classes.iter().map(|class| class.accepted).sum::<u64>();
        sum
    }

    /// Returns how many tasks have failed, of each kind that is counted by name.
    #[cfg(feature = "dashboard")]
    pub fn failed_by_kind(&self) -> Vec<(TaskKind, u64)> {
        let meters = self.meters.all().iter();
        let named = meters.filter_map(|meter| Some((meter.kind.clone()?, meter.failed())));
        named.collect()
    }

    /// Finds the counters of the kind of a new class.
    pub(super) fn find_meter(&mut self, kind: KindId) -> MeterId {
        self.meters.find(&self.kinds[kind as usize].name)
    }

    /// Returns whether it is to be looked now which kinds are counted by name.
    #[inline]
    pub fn is_review_due(&mut self, now: Timestamp) -> bool {
        self.meters.is_review_due(now)
    }

    /// Names the kinds that had most tasks of late.
    #[cold]
    pub fn review_meters(&mut self) {
        for id in 0..self.classes.len() as ClassId {
            self.fold_accepted(id);
        }
        let lately = |kind: &TaskKind| {
            let id = self.kind_index.get(kind);
            id.map_or(0, |&id| self.kinds[id as usize].lately)
        };
        let mut named: Vec<_> = self
            .meters
            .named()
            .map(|(meter, kind)| (lately(kind), meter))
            .collect();
        named.sort_unstable();
        let kinds = self.kind_index.iter();
        let kinds = kinds.filter(|(_, id)| self.kinds[**id as usize].lately > 0);
        let mut others: Vec<_> = kinds
            .filter(|(kind, _)| !self.meters.named().any(|(_, named)| named == *kind))
            .filter(|(kind, _)| kind.as_str() != OTHER_NAME)
            .map(|(kind, &id)| (Reverse(self.kinds[id as usize].lately), kind.clone(), id))
            .collect();
        others.sort_unstable();
        for ((weakest, meter), (Reverse(lately), kind, id)) in named.into_iter().zip(others) {
            if !KindMeters::displaces(lately, weakest) {
                break;
            }
            let old = self.meters.replace(meter, kind);
            self.use_meter(id, meter);
            if let Some(&old) = old.and_then(|old| self.kind_index.get(&old)) {
                self.use_meter(old, OTHER);
            }
        }
        for kind in &mut self.kinds {
            kind.lately = KindMeters::faded(kind.lately);
        }
    }

    fn use_meter(&mut self, kind: KindId, meter: MeterId) {
        let classes: Vec<_> = self.kinds[kind as usize].all_classes().collect();
        for id in classes {
            self.classes[id as usize].meter = meter;
        }
    }

    /// Returns whose counters those of a class are.
    pub fn meter_id(&self, id: ClassId) -> usize {
        self.classes[id as usize].meter as usize
    }

    /// Returns how many due tasks wait for a limit of their kind or group.
    pub fn limited(&self) -> usize {
        if !self.has_limits() {
            return 0;
        }
        let classes = self.classes.iter();
        let limited = classes.map(|class| match class.rest {
            Rest::Limited => class.queue.len(),
            Rest::No => class.queue.len() - class.queue.in_turn(),
            Rest::Paused => 0,
        });
        limited.sum()
    }

    /// Returns what is known of each kind that is counted by name, after all others as one, but for
    /// what nodes have.
    pub fn kind_metrics(&self, tasks: &Tasks, now: Timestamp) -> Vec<KindMetrics> {
        let meters = self.meters.all().iter();
        let counts = meters.map(|counts| KindMetrics {
            counts: counts.clone(),
            ..KindMetrics::default()
        });
        let mut all: Vec<_> = counts.collect();
        for class in &self.classes {
            all[class.meter as usize].counts.accepted += class.accepted;
        }
        let waiting = self.classes.iter().filter(|class| class.queue.len() > 0);
        for class in waiting {
            let of = &mut all[class.meter as usize];
            of.pending += class.queue.len();
            for waiting in class.queue.counts() {
                let priority = priority_of(waiting.lateness);
                *of.by_priority.entry(priority).or_default() += waiting.all as usize;
            }
            if class.rest == Rest::No
                && let Some(rank) = class.queue.oldest(tasks)
            {
                of.oldest_due = of.oldest_due.max(now.since(due_at(rank)));
            }
        }
        all
    }

    /// Returns how many could start of the tasks that wait, if there were workers enough.
    pub fn startable(&self) -> usize {
        let waiting = self.classes.iter().filter(|class| class.rest == Rest::No);
        let waiting = waiting.map(|class| class.queue.in_turn());
        let all: usize = waiting.sum();
        if !self.has_limits() {
            return all;
        }
        let kinds = self.kinds.iter().zip(0..);
        let beyond = kinds.map(|(kind, id)| {
            let Some(limited) = &kind.limit else {
                return 0;
            };
            let classes = kind.all_classes().map(|id| &self.classes[id as usize]);
            let waiting = classes.filter(|class| class.rest == Rest::No);
            let waiting: usize = waiting.map(|class| class.queue.in_turn()).sum();
            let startable = waiting - self.beyond_groups(id);
            let room = limited.room().unwrap_or(usize::MAX);
            waiting - startable.min(room)
        });
        all - beyond.sum::<usize>()
    }
}
