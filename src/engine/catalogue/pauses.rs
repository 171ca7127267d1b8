//! Which classes rest: those of kinds that an operator has paused, or of which as many go on as
//! may.
//!
//! Owns: what is paused, which classes rest, and how many tasks wait for an operator alone. Does
//! not know: who may pause, what becomes of tasks that nodes have, or what is left of a limit.
//!
//! A class that rests keeps its tasks in order and has no head: it costs no placement anything, and
//! holds nothing up.

use super::{Catalogue, KindId, Rest};
use crate::engine::priorities::Priorities;
use crate::engine::queue::ClassId;
use crate::engine::tasks::{Task, Tasks};
use crate::task::TaskKind;

impl Catalogue {
    /// Lets the tasks of a kind rest, or have their turns again.
    pub fn set_paused(&mut self, tasks: &Tasks, kind: &TaskKind, paused: bool) {
        let known = self.kind_index.get(kind).copied();
        let id = match (known, paused) {
            (Some(id), _) => id,
            (None, true) => self.find_or_add_kind(kind),
            (None, false) => return,
        };
        self.kinds[id as usize].paused = paused;
        self.review_kind(tasks, id);
        if !paused {
            self.forget_unused_kind(id);
        }
    }

    /// Lets all tasks rest, or have their turns again but for those of paused kinds.
    pub fn set_all_paused(&mut self, tasks: &Tasks, paused: bool) {
        self.all_paused = paused;
        for id in 0..self.classes.len() as ClassId {
            if !self.classes[id as usize].is_forgotten() {
                self.review_rest(tasks, id);
            }
        }
    }

    /// Returns whether a task has no turn: its class rests, or its group may not start one.
    pub fn rests(&self, task: &Task) -> bool {
        self.classes[task.class as usize].rest != Rest::No || !self.may_start(task.group())
    }

    /// Returns whether they wait for an operator alone.
    #[inline]
    pub fn is_paused(&self, id: ClassId) -> bool {
        self.classes[id as usize].rest == Rest::Paused
    }

    /// Returns how many due tasks do.
    pub fn resting(&self) -> usize {
        self.resting
    }

    /// Returns the priorities of the due tasks that have turns.
    pub fn queued(&self) -> &Priorities {
        &self.queued
    }

    pub(super) fn rest_due(&self, id: ClassId) -> Rest {
        let kind = &self.kinds[self.classes[id as usize].kind as usize];
        if self.all_paused || kind.paused {
            Rest::Paused
        } else if kind.limit.as_ref().is_some_and(|it| it.is_used_up()) {
            Rest::Limited
        } else {
            Rest::No
        }
    }

    /// Looks anew whether the classes of a kind rest, after a change by which they may.
    pub(super) fn review_kind(&mut self, tasks: &Tasks, id: KindId) {
        // Most kinds have few classes, and are looked at often if they have a limit.
        let classes: Vec<_> = self.kinds[id as usize].all_classes().collect();
        for class in classes {
            self.review_rest(tasks, class);
        }
    }

    fn review_rest(&mut self, tasks: &Tasks, id: ClassId) {
        let rest = self.rest_due(id);
        let class = &mut self.classes[id as usize];
        let before = std::mem::replace(&mut class.rest, rest);
        if before == rest {
            return;
        }
        for waiting in class.queue.counts() {
            match before {
                Rest::No => self.queued.remove_many(waiting.lateness, waiting.in_turn),
                Rest::Paused => self.resting -= waiting.all as usize,
                Rest::Limited => {}
            }
            match rest {
                Rest::No => self.queued.add_many(waiting.lateness, waiting.in_turn),
                Rest::Paused => self.resting += waiting.all as usize,
                Rest::Limited => {}
            }
        }
        self.queue_changes += 1;
        self.announce(tasks, id);
    }

    /// Checks that the right classes rest, and that what rests is counted.
    pub(super) fn check_pauses(&self) -> Result<(), String> {
        let mut resting = 0;
        for (id, class) in (0..).zip(&self.classes) {
            let counts = class.queue.counts().map(|waiting| waiting.all as usize);
            let counted: usize = counts.sum();
            if counted != class.queue.len() {
                return Err("the tasks of a lane are miscounted".to_owned());
            }
            if class.is_forgotten() {
                continue;
            }
            if class.rest != self.rest_due(id) {
                return Err(
                    "a class rests though it may not, or does not though it must".to_owned(),
                );
            }
            if class.rest == Rest::Paused {
                resting += counted;
            }
        }
        if resting != self.resting {
            return Err("the tasks that rest are miscounted".to_owned());
        }
        Ok(())
    }
}
