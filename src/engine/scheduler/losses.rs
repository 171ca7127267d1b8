//! When a node is lost, and what that means for its tasks.
//!
//! Owns: leases, and incarnations that were replaced. Does not know: what nodes say while they are
//! up, whom to ask whether they live (see `asking`), or when a run that was given up has ended (see
//! `orphans`).

use super::SchedulerMachine;
use super::metering::LinkEnd;
use crate::engine::meter::AttemptResult;
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Expired, NodeProcess};
use crate::engine::tasks::{Past, Run, Slot, Stage, Suspects, Task, Then};
use crate::engine::{Action, Incarnation, Note, Reach, Timestamp};
use crate::status::{CancelAnswer, Cause, Failure, Outcome};
use crate::task::TaskId;

/// The share of a heartbeat for which a lease that has ended is looked at once more.
const LAST_LOOK: u32 = 4;

/// What is known of the process of a node that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The process has ended: no run of it can be going on.
    Dead,
    /// The node has said goodbye: no run of it can be going on.
    Left,
    /// The runs of the node may go on, and it may return.
    Unproven,
}

impl SchedulerMachine {
    /// Looks at one node whose time has come.
    pub(super) fn wake_at(&mut self, now: Timestamp, node: NodeIndex) {
        let entry = self.roster.get(node);
        if entry.is_local() {
            // A process elsewhere that had this name before may still have runs.
            if !entry.past.is_empty() {
                self.end_safe_orphans(now, node);
                self.plan_wakeup(now, node);
            }
            return;
        }
        match entry
            .leased()
            .and_then(|process| process.lease.expired(now))
        {
            // The driver of the machine may have been asleep: what the node has said is read before
            // it is lost.
            Some(Expired::Look) => {
                let last_look = now + self.config.heartbeat / LAST_LOOK;
                let process = self.roster.get_mut(node).process_mut();
                process.lease.look_until(last_look);
            }
            Some(Expired::Over) => self.lose(now, node, Loss::Unproven, "its lease has ended"),
            None => {}
        }
        self.end_safe_orphans(now, node);
        self.finish_removal(now, node);
        self.find_out(now, node);
        self.plan_wakeup(now, node);
    }

    /// Asks for the next look at a node. Only what lies ahead is planned: what was due has just
    /// been looked at, and waits for an event.
    fn plan_wakeup(&mut self, now: Timestamp, node: NodeIndex) {
        let silence = self.config.heartbeat.saturating_mul(2);
        let margin = self.margin();
        let in_handshake = self.is_in_handshake(node);
        let entry = self.roster.get(node);
        let mut next: Option<Timestamp> = None;
        let mut at = |time: Timestamp| {
            if time > now {
                next = Some(next.map_or(time, |earlier| earlier.min(time)));
            }
        };
        if let Some(process) = entry.leased().filter(|_| !entry.is_local()) {
            at(process.lease.until());
        }
        if matches!(entry.reach, Reach::Dial(_))
            && !in_handshake
            && entry.is_dialled()
            && let Some(dial_at) = entry.redial.dial_due()
        {
            // While its link works there is nothing to learn from a dial.
            if entry.is_up() && !entry.is_dialled_for_the_past() {
                at(dial_at.max(entry.last_heard + silence));
            } else {
                at(dial_at);
            }
        }
        if entry.to_probe().is_some()
            && let Some(probe_at) = entry.redial.probe_due()
        {
            at(probe_at);
        }
        // Tasks settle without a look at the runs of theirs that are not followed any more.
        if entry.past.iter().any(|process| !process.orphans.is_empty()) {
            at(now + self.config.lease);
        }
        for process in entry.lost_processes() {
            let safe_at = process.lease.safe_at();
            let orphans = process.orphans.values();
            let ends = orphans.filter_map(|orphan| orphan.safe_at(safe_at, margin));
            ends.for_each(&mut at);
            // Then nothing of it can be going on, and its record may go.
            if entry.is_leaving() {
                at(safe_at + margin);
            }
        }
        if let Some(next) = next {
            self.timers.wake_at(node, next);
        }
    }

    /// Loses a node: its tasks go elsewhere.
    pub(super) fn lose(&mut self, now: Timestamp, node: NodeIndex, loss: Loss, reason: &str) {
        self.forget_link(node, LinkEnd::Lost, reason);
        self.set_present(node, false);
        let runs = self.runs_of(node);
        let entry = self.roster.get_mut(node);
        let was_with_us = entry.leased().is_some();
        entry.reason = reason.to_owned();
        if let Some(process) = entry.latest_process_mut() {
            process.lost();
        }
        self.roster.away += 1;
        self.node_changed(node);
        let entry = self.roster.get_mut(node);
        entry.load.stalled(0, None);
        let name = entry.name.clone();
        let rerouted = runs.len();
        let started = runs.iter().map(|&slot| self.tasks.get(slot));
        let started = started.filter(|task| matches!(task.stage, Stage::Running { .. }));
        let suspects = Suspects::among(started.map(Task::counted_losses));
        for slot in runs {
            self.lose_run(now, node, slot, suspects, loss, reason);
        }
        let dead = loss != Loss::Unproven;
        if dead {
            self.end_process(now, node);
        }
        self.enter_load(node);
        self.roster.touch(node);
        if was_with_us && loss != Loss::Left && !self.stopped {
            self.actions.push(Action::Note(Box::new(Note::NodeLost {
                node: Self::node_id(node),
                name,
                rerouted,
                dead,
                reason: reason.to_owned(),
            })));
        }
        self.leave_recorded(node);
        self.finish_removal(now, node);
        self.timers.wake_at(node, now);
    }

    /// Forgets a node that was taken out by hand when all its processes have ended. By that command
    /// the operator vouches that a process which is silent until its lease is over is dead.
    pub(super) fn finish_removal(&mut self, now: Timestamp, node: NodeIndex) {
        if !self.roster.get(node).is_leaving() {
            return;
        }
        let margin = self.margin();
        // What holds no run has nothing to be waited for.
        let is_over = |process: &NodeProcess| {
            process.orphans.is_empty() || process.lease.safe_at() + margin <= now
        };
        self.end_replaced(now, node, is_over);
        let entry = self.roster.get(node);
        // What it has forgotten goes on with it.
        let over = entry.latest_process().is_none_or(|present| {
            let own = |process: &&NodeProcess| process.incarnation == present.incarnation;
            present.is_lost() && entry.processes().filter(own).all(is_over)
        });
        if !over {
            return;
        }
        self.end_process(now, node);
        if self.roster.get(node).past.is_empty() {
            self.node_changed(node);
            self.forget_link(node, LinkEnd::Lost, "it was removed");
            self.clear_offer(node);
            self.roster.vacate(now, node);
        }
    }

    /// Takes an operator's word that no process of a node is alive that is not heard. Returns
    /// whether there was one to say so of.
    pub(super) fn declared_dead(&mut self, now: Timestamp, node: NodeIndex) -> bool {
        let silence = self.config.heartbeat.saturating_mul(2);
        let entry = self.roster.get(node);
        let comparing = entry.latest_process().is_some() && self.is_in_handshake(node);
        let heard = entry.is_up() && (entry.is_local() || !entry.is_silent(now, silence));
        let alive = heard || comparing;
        let mut past = entry.past.iter();
        let replaced = past.any(|process| Some(process.incarnation) != entry.incarnation());
        if !alive && entry.latest_process().is_some() {
            self.lose(now, node, Loss::Dead, "it was declared dead");
        }
        self.end_replaced(now, node, |_| true);
        self.finish_removal(now, node);
        self.timers.wake_at(node, now);
        replaced || !alive
    }

    /// Ends the process of a node's current incarnation: none of its runs is going on.
    fn end_process(&mut self, now: Timestamp, node: NodeIndex) {
        let entry = self.roster.get_mut(node);
        entry.redial.process_ended();
        // Taken before its runs end: what waits for them is answered as by a process that is gone.
        if let Some(ended) = entry.state.take_latest_process() {
            self.node_changed(node);
            self.lost_for_good(node, &ended.lost_tasks);
            self.orphans_ended(now, node, ended.orphans);
            // And with it all that it had forgotten.
            self.end_past(now, node, |process| {
                process.incarnation == ended.incarnation
            });
        }
    }

    fn lose_run(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        slot: Slot,
        suspects: Suspects,
        loss: Loss,
        reason: &str,
    ) {
        let incarnation = self.roster.get(node).process().incarnation;
        let run = self.take_off(slot);
        let blocking = self.blocks_at(slot, node);
        let result = match self.tasks.get(slot).is_cancelling() {
            true => AttemptResult::Cancelled,
            false => AttemptResult::Lost,
        };
        self.attempt_given_up(slot, run, result);
        let task = self.tasks.get_mut(slot);
        // What was prefetched may have started unheard.
        task.may_have_run();
        let cancelling = task.is_cancelling();
        if loss == Loss::Unproven && self.is_end_awaited(slot) {
            let orphan = self.orphan_of(slot, blocking);
            self.add_orphan(node, run.dispatch, orphan);
        }
        // Any end of a task that is to be cancelled is that cancel.
        if cancelling {
            let goes_on =
                loss == Loss::Unproven && self.process_may_run(now, slot, node, incarnation);
            let answer = if goes_on {
                CancelAnswer::StillRunning
            } else {
                self.answer_without_run(now, slot)
            };
            self.settle(now, slot, Outcome::Cancelled, answer);
            return;
        }
        self.rerouted(slot, node, "lost");
        let lost = (Self::node_id(node), incarnation);
        let task = self.tasks.get_mut(slot);
        let rare = task.rare();
        if run.started {
            // The task may be what ended the node: one that keeps losing nodes is failed, not
            // toured round the cluster.
            rare.lost_on.add(lost, suspects);
            let limit = rare.max_reroutes.unwrap_or(self.config.max_reroutes) as usize;
            if rare.lost_on.counted() > limit {
                let failure = self.too_many_losses(slot, reason);
                self.settle(now, slot, Outcome::Failed(failure), CancelAnswer::TooLate);
                return;
            }
        } else {
            // Of what had not started nobody knows. It is sent to free workers only from now on,
            // so the next loss tells.
            rare.lost_prefetched_on = Some(lost);
            task.past = Past::LostPrefetched;
        }
        self.reclass(slot);
        if loss != Loss::Unproven {
            // Nothing returns from a process that is dead.
            self.enqueue(slot, None);
        } else {
            self.await_return(slot, run);
        }
        self.note_reroute(now, node, slot);
    }

    /// Lets a task go on whose run was given up and may still come back: an exclusive one when that
    /// run can no longer be going on, any other at once.
    pub(super) fn await_return(&mut self, slot: Slot, run: Run) {
        let task = self.tasks.get(slot);
        let (id, exclusive) = (task.id, task.is_exclusive());
        let process = self.roster.get_mut(run.node).process_mut();
        process.lost_tasks.push(id);
        if exclusive {
            self.hold(slot, run, Then::QueueUnlessItReturns);
        } else {
            self.enqueue(slot, Some(run));
        }
    }

    pub(super) fn too_many_losses(&self, slot: Slot, reason: &str) -> Failure {
        let task = self.tasks.get(slot);
        let names: Vec<_> = task
            .rare
            .iter()
            .flat_map(|rare| rare.lost_on.all())
            .filter_map(|(node, _)| self.roster.nodes.get(node.0 as usize))
            .map(|node| node.name.as_ref())
            .collect();
        let nodes = match names.as_slice() {
            [name] => format!("the node {name} was lost"),
            names => format!("{} nodes were lost ({})", names.len(), names.join(", ")),
        };
        Failure::new(
            Cause::NodeLost,
            format!(
                "{nodes} while {} ({}) ran there, more than its max_reroutes allow; the last one because {reason}",
                task.id,
                self.catalogue.kind(task.class)
            ),
        )
    }

    /// Takes back what the process of a node was blamed for, which was thought lost and is back. A
    /// run of its that was given up and not taken back stays on record: that it will not be is
    /// decided with its task, or with the process.
    pub(super) fn process_returned(&mut self, node: NodeIndex) {
        let process = self.roster.get_mut(node).process_mut();
        let incarnation = process.incarnation;
        let mut lost = std::mem::take(&mut process.lost_tasks);
        lost.retain(|&id| {
            let Some(slot) = self.tasks.find(id) else {
                return false;
            };
            self.uncount_loss(slot, node, incarnation);
            self.reclass(slot);
            let given_up = self.tasks.get(slot).stage.given_up();
            given_up.is_some_and(|run| run.node == node)
        });
        self.roster.get_mut(node).process_mut().lost_tasks = lost;
    }

    /// Takes back what one task blames a process of a node for. Its class is left to the caller.
    pub(super) fn uncount_loss(&mut self, slot: Slot, node: NodeIndex, incarnation: Incarnation) {
        if let Some(rare) = &mut self.tasks.get_mut(slot).rare {
            let entry = (Self::node_id(node), incarnation);
            rare.lost_on.uncount_loss(entry);
            rare.lost_prefetched_on.take_if(|lost| *lost == entry);
            self.task_changed(slot);
        }
    }

    /// Retires the process of a node: another stands where it was, and it is not known that the old
    /// one is dead; or the process is the same and has forgotten its runs.
    pub(super) fn retire(&mut self, now: Timestamp, node: NodeIndex, reason: &str) {
        self.lose(now, node, Loss::Unproven, reason);
        let entry = self.roster.get_mut(node);
        if let Some(mut process) = entry.state.take_latest_process() {
            let lost = process.replaced();
            entry.past.push(process);
            self.node_changed(node);
            self.lost_for_good(node, &lost);
        }
        self.end_idle_orphans(now, node);
        self.timers.wake_at(node, now);
    }

    /// Gives up for good the runs of a process that has been replaced or has ended: they will not
    /// be taken back, so nobody may speak for them.
    fn lost_for_good(&mut self, node: NodeIndex, lost: &[TaskId]) {
        for &id in lost {
            let Some(slot) = self.tasks.find(id) else {
                continue;
            };
            let task = self.tasks.get_mut(slot);
            if let Some(run) = task.stage.given_up().filter(|run| run.node == node) {
                task.give_up_for_good();
                self.run_is_over(slot, run.dispatch);
                self.task_changed(slot);
            }
        }
    }
}
