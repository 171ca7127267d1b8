//! What operators allow of a kind: how many tasks at once, and how often one starts.
//!
//! Owns: the command, and the count of what goes on when a limit is set. Does not know: how a limit
//! keeps tasks from their turns (see the catalogue).

use std::collections::BTreeMap;

use super::SchedulerMachine;
use super::pausing::check;
use crate::engine::Timestamp;
use crate::engine::catalogue::{Going, Left};
use crate::engine::placement::NodeIndex;
use crate::engine::record::Setting;
use crate::engine::tasks::Task;
use crate::error::KindError;
use crate::limit::Limit;
use crate::stats::{LimitStats, Reason};
use crate::task::TaskKind;

impl SchedulerMachine {
    /// Sets how many tasks of a kind may go on at once and how often one may start, from now on;
    /// takes a limit away by one that limits nothing. What runs beyond it is not stopped; what was
    /// prefetched is asked back. Of a scheduler that has a store the next start goes on with it.
    ///
    /// # Errors
    ///
    /// See [`KindError`]; nothing has changed.
    pub fn set_limit(
        &mut self,
        now: Timestamp,
        kind: &TaskKind,
        limit: Limit,
    ) -> Result<(), KindError> {
        self.observe(now);
        let limits = &self.settings.limits;
        check(kind, limits.contains_key(kind), limits.len())?;
        limit.check().map_err(KindError::Limit)?;
        self.set(Setting::Limit(kind.clone(), limit));
        let going = self.going_at_nodes().remove(kind).unwrap_or_default();
        let tasks = &self.tasks;
        self.catalogue.set_limit(tasks, now, kind, limit, &going);
        // What was prefetched beyond a limit that was lowered is asked back in the next look.
        self.retraction.look_again_at(now);
        Ok(())
    }

    /// Limits what an earlier term had limited.
    pub(super) fn follow_limits(&mut self, now: Timestamp) {
        let mut all = self.going_at_nodes();
        for (kind, &limit) in &self.settings.limits {
            let going = all.remove(kind).unwrap_or_default();
            let tasks = &self.tasks;
            self.catalogue.set_limit(tasks, now, kind, limit, &going);
        }
    }

    /// Counts what may go on of each kind and group, at a cost that grows with what nodes have and
    /// not with what is pending.
    fn going_at_nodes(&self) -> BTreeMap<TaskKind, Going> {
        let nodes = 0..self.roster.nodes.len() as NodeIndex;
        let runs = nodes.flat_map(|node| self.runs_of(node));
        self.going(runs.map(|slot| self.tasks.get(slot)))
    }

    /// Counts what may go on of each kind and group: what nodes have, and orphaned runs.
    fn going<'a>(&'a self, placed: impl Iterator<Item = &'a Task>) -> BTreeMap<TaskKind, Going> {
        let mut all: BTreeMap<TaskKind, Going> = BTreeMap::new();
        for task in placed {
            let kind = self.catalogue.kind(task.class).clone();
            all.entry(kind).or_default().add(task.group_name());
        }
        let nodes = self.roster.nodes.iter();
        let processes = nodes.flat_map(|node| node.processes());
        for orphan in processes.flat_map(|process| process.orphans.values()) {
            if let Some(limits) = &orphan.limits {
                let going = all.entry(limits.kind.clone()).or_default();
                going.add(limits.group.as_ref());
            }
        }
        all
    }

    /// Lets the kinds have their turns again that may start another.
    #[inline]
    pub(super) fn look_at_limits(&mut self, now: Timestamp) {
        if self.catalogue.has_limits() {
            self.catalogue.look_at_limits(&self.tasks, now);
        }
    }

    /// Returns why a due task waits for the limit of its kind, or of its group, if it does.
    pub(super) fn why_limited(&self, now: Timestamp, task: &Task) -> Option<Reason> {
        if let Some((at_once, left)) = self.catalogue.left(task.class) {
            let limit = at_once.unwrap_or(u32::MAX);
            match left {
                Left::Some => {}
                Left::NoneAtOnce => return Some(Reason::AtLimit { limit }),
                Left::NoneBefore(at) => {
                    let remaining = at.since(now);
                    return Some(Reason::RateUsedUp { remaining });
                }
            }
        }
        let (at_once, left) = self.catalogue.left_of_group(task)?;
        let limit = at_once.unwrap_or(u32::MAX);
        match left {
            Left::Some => None,
            Left::NoneAtOnce => Some(Reason::GroupAtLimit { limit }),
            Left::NoneBefore(at) => Some(Reason::GroupRateUsedUp {
                remaining: at.since(now),
            }),
        }
    }

    pub(super) fn limit_stats(&self) -> Vec<LimitStats> {
        let limits = self.catalogue.limits().into_iter();
        let limits = limits.map(|it| LimitStats {
            kind: it.kind,
            limit: it.limit,
            going: it.going,
            waiting: it.waiting,
        });
        limits.collect()
    }

    /// Checks that limits count what is there.
    pub(super) fn check_limits(&self) -> Result<(), String> {
        if !self.catalogue.has_limits() {
            return Ok(());
        }
        let tasks = self.tasks.iter().map(|(_, task)| task);
        let placed = tasks.filter(|task| task.stage.placed().is_some());
        self.catalogue.check_limits(&self.going(placed))
    }
}
