//! What the machine has to do when the catalogue changes: counts kept, people told, rooms entered.
//!
//! Owns: who is told that no present node can run a task, and the rule that a task's past
//! demands. Does not know: which tasks are alike or which nodes may run them (see the catalogue),
//! when a task is due or a node up.

use super::SchedulerMachine;
use crate::engine::message::KindOffer;
use crate::engine::placement::NodeIndex;
use crate::engine::queue::{ClassId, Hearer, PlacementRule};
use crate::engine::tasks::{Past, Place, Prefetch, Run, Slot, Stage, Task};
use crate::engine::{Action, Audience, Note};
use crate::status::TaskEventKind;
use crate::task::Labels;

impl SchedulerMachine {
    pub(super) fn rule_of(task: &Task) -> PlacementRule {
        if task.company().is_some() {
            PlacementRule::Isolated
        } else if task.is_exclusive()
            || task.past == Past::LostPrefetched
            || task.prefetch == Prefetch::Spent
        {
            PlacementRule::FreeWorkerOnly
        } else {
            PlacementRule::Prefetch
        }
    }

    pub(super) fn hearer_of(task: &Task) -> Hearer {
        match task.addressee.audience() {
            Audience::Caller => Hearer::Callers,
            Audience::Current | Audience::Client(_) => Hearer::Client,
        }
    }

    /// Moves a task to the class of its rule, which its losses decide, and of its hearer.
    pub(super) fn reclass(&mut self, slot: Slot) {
        let task = self.tasks.get(slot);
        let (old, rule, hearer) = (task.class, Self::rule_of(task), Self::hearer_of(task));
        let queued = matches!(task.stage, Stage::Queued { .. });
        let line = match task.stage {
            Stage::Prefetched {
                node, retracting, ..
            } => Some((node, retracting.is_some())),
            _ => None,
        };
        // The catalogue knows among how many suspects a head may be.
        let same = self.catalogue.rule(old) == rule && self.catalogue.hearer(old) == hearer;
        if same && (rule != PlacementRule::Isolated || !queued) {
            return;
        }
        if queued {
            self.catalogue.dequeue(&mut self.tasks, slot);
        }
        let new = self.catalogue.change(old, rule, hearer);
        match line {
            // The lanes of a line are by class.
            Some((node, false)) => {
                let line = &mut self.roster.get_mut(node).line;
                line.remove(&mut self.tasks, slot, false);
                self.tasks.get_mut(slot).class = new;
                line.push(&mut self.tasks, slot);
            }
            _ => self.tasks.get_mut(slot).class = new,
        }
        if queued {
            self.enter_lane(slot);
        }
    }

    /// Lets a due task wait for its turn, under the rank that it bears. `given_up` is a run that
    /// was lost with its node and may be the task's again.
    #[inline]
    pub(super) fn enqueue(&mut self, slot: Slot, given_up: Option<Run>) {
        let stage = Stage::Queued {
            place: Place::Listed,
            given_up: given_up.map(Box::new),
        };
        self.enter(slot, stage);
        self.enter_lane(slot);
    }

    #[inline]
    fn enter_lane(&mut self, slot: Slot) {
        if self.catalogue.enqueue(&mut self.tasks, slot) {
            let class = self.tasks.get(slot).class;
            self.tell_unschedulable(class, vec![slot]);
        }
    }

    /// Takes over what a node offers.
    pub(super) fn set_offer(&mut self, node: NodeIndex, kinds: &[KindOffer], labels: Labels) {
        self.set_present(node, false);
        self.catalogue.set_offer(node, kinds, labels);
        self.enter_load(node);
    }

    /// Forgets what a node offered, and its labels.
    pub(super) fn clear_offer(&mut self, node: NodeIndex) {
        self.set_present(node, false);
        self.catalogue.clear_offer(node);
    }

    /// Sets whether a node counts among those that could run something.
    pub(super) fn set_present(&mut self, node: NodeIndex, present: bool) {
        // What others hold up may be better placed on it.
        self.retraction.look_again_at(self.now);
        for class in self.catalogue.set_present(node, present) {
            let watched = self.catalogue.watched(class);
            self.tell_unschedulable(class, watched);
        }
    }

    /// Tells that no present node can run a class: the operator once, watchers of these tasks each
    /// time.
    fn tell_unschedulable(&mut self, class: ClassId, slots: Vec<Slot>) {
        let reason = self.catalogue.why_unschedulable(class);
        if let Some(first) = self.catalogue.note_unschedulable(&self.tasks, class) {
            self.actions
                .push(Action::Note(Box::new(Note::Unschedulable {
                    task: self.tasks.get(first).id,
                    kind: self.catalogue.kind(class).clone(),
                    reason: reason.clone(),
                })));
        }
        for slot in slots {
            self.notify(slot, |_, _| TaskEventKind::Unschedulable {
                reason: reason.clone(),
            });
        }
    }
}
