//! The tasks that a term goes on with.
//!
//! Owns: in which stage each of them begins, and what is blamed for the end of the term before.
//! Does not know: nodes, beyond where a process is by now.

use super::{Open, Own, Recovery, Unrecoverable, Where};
use crate::engine::ledger::Placing;
use crate::engine::placement::NodeIndex;
use crate::engine::record::{AcceptedTask, Changed, PlacedRun, RetainedTask, RunRef, SettledTask};
use crate::engine::roster::Orphan;
use crate::engine::scheduler::SchedulerMachine;
use crate::engine::scheduler::admission::NO_LABELS;
use crate::engine::scheduler::takeover::{Over, Resync};
use crate::engine::tasks::{
    Addressee, Era, NO_SLOT, Past, Prefetch, Rare, Run, Slot, Stage, Suspects, Task, Then,
};
use crate::engine::{Audience, Incarnation, NodeId, Reach, Timestamp};
use crate::status::TaskStatus;
use crate::task::Due;

impl Recovery {
    /// Returns the number of a node's name, that tasks were lost with.
    fn named(&mut self, name: &std::sync::Arc<str>) -> NodeIndex {
        let machine = &mut self.machine;
        let there = machine.roster.names.get(name).copied();
        let there = there.or_else(|| machine.leaving(name));
        let there = there.or_else(|| machine.roster.vacant.get(name).copied());
        there.unwrap_or_else(|| {
            let node = machine.enter_node(name.clone(), Reach::Joins);
            machine.roster.names.remove(name);
            machine.roster.vacate(self.now, node);
            node
        })
    }

    /// Takes over a task that has not settled.
    pub(super) fn open(&mut self, task: Open, own: &Own) -> Result<(), Unrecoverable> {
        let Open {
            due,
            accepted,
            changed,
            placed,
        } = task;
        // One that is not due yet has its turn when it is.
        let due_since = self.times.moment(due).min(self.now);
        let limit = self.machine.config.max_task_args;
        if accepted.args.len() > limit {
            return Err(Unrecoverable::TooLarge {
                task: accepted.id,
                bytes: accepted.args.len(),
                limit,
            });
        }
        // Nodes discard the runs of another scheduler id, so the first term on a copy waits for
        // none.
        let placed = placed.filter(|_| !self.is_copy);
        let changed = changed.map(|mut changed| {
            if self.is_copy {
                changed.orphans.clear();
            }
            changed
        });
        let slot = self.enter(*accepted, due_since, changed.as_deref());
        // A node may have a run of it of which nothing is stored, so the cancel waits for the
        // resync.
        if self.machine.tasks.get(slot).is_cancelling() {
            let id = self.machine.tasks.get(slot).id;
            self.resync().cancels.push(id);
        }
        let held = changed.as_deref().and_then(Changed::held_by).cloned();
        // One that was placed later waits for that run no more.
        let held = held.filter(|held| {
            let mut placed = placed.iter();
            placed.all(|it| it.run.dispatch <= held.dispatch)
        });
        let orphans = changed.as_deref().map(|changed| changed.orphans.clone());
        for run in orphans.unwrap_or_default() {
            if held.as_ref() != Some(&run) {
                self.may_go_on(slot, &run, own);
            }
        }
        let over = changed.as_deref().map(|changed| changed.over);
        // What a node tells of these runs later is no news.
        if let Some(over) = over.filter(|over| over.get() > 0) {
            let id = self.machine.tasks.get(slot).id;
            let takeover = self.machine.takeover.as_mut();
            takeover.map(|it| it.over.insert(id, Over::found(over)));
        }
        let due = changed.and_then(|changed| changed.due);
        let due = due.map(|due| self.times.moment(due));
        match (placed, held) {
            (_, Some(held)) => {
                let ended = over.is_some_and(|over| held.dispatch <= over);
                self.held(slot, &held, ended, due, own);
            }
            (Some(placed), None) => self.placed(slot, &placed, own),
            (None, None) => self.waits(slot, due),
        }
        Ok(())
    }

    fn resync(&mut self) -> &mut Resync {
        let takeover = self.machine.takeover.as_mut();
        let resync = takeover.and_then(|takeover| takeover.resync.as_mut());
        resync.expect("a recovery begins with a resync")
    }

    /// Makes the record of a task, which is in no place yet.
    fn enter(
        &mut self,
        accepted: AcceptedTask,
        due_since: Timestamp,
        changed: Option<&Changed>,
    ) -> Slot {
        let AcceptedTask {
            id,
            at,
            kind,
            args,
            options,
        } = accepted;
        let accepted_at = self.times.moment(at);
        let options = options.as_deref();
        let rare = self.machine.rare_of(accepted_at, options, None);
        let mut task = Task {
            id,
            args,
            rare,
            accepted_at,
            stage: Stage::New,
            rank: 0,
            prev: NO_SLOT,
            next: NO_SLOT,
            class: 0,
            // Clients and callers have ended with their process.
            addressee: Addressee::of(Audience::Current),
            failed_attempts: 0,
            priority: options.map_or(0, |options| options.priority.0),
            past: Past::Fresh,
            prefetch: Prefetch::Allowed,
            era: Era::Past,
        };
        if let Some(changed) = changed {
            self.change(&mut task, changed);
        }
        let machine = &mut self.machine;
        let labels = options.map_or(&NO_LABELS, |options| &options.labels);
        let rule = SchedulerMachine::rule_of(&task);
        let hearer = SchedulerMachine::hearer_of(&task);
        task.class = machine.catalogue.join(&kind, labels, rule, hearer);
        machine.catalogue.join_group(&mut task);
        if let Some(key) = task.key() {
            machine.keys.claim(key.clone(), id);
        }
        machine.catalogue.meter(task.class).recovered += 1;
        task.rank = machine.ranks.take(due_since);
        let deadline = task.deadline();
        let slot = machine.tasks.insert(task);
        // A node may have done it in time, and nobody has heard of that yet.
        if deadline.is_some() {
            self.resync().deadlines.push(id);
        }
        self.keep_due(slot, options.map_or(Due::Now, |options| options.due));
        slot
    }

    /// Lets a task that was to be due later wait for that, if nothing else is known of it.
    fn keep_due(&mut self, slot: Slot, due: Due) {
        let task = self.machine.tasks.get_mut(slot);
        task.stage = match due {
            Due::Now => return,
            Due::After(delay) => Stage::Later {
                due: task.accepted_at + delay,
            },
            Due::At(time) => Stage::Planned {
                at: Timestamp::of_system_time(time),
            },
        };
    }

    fn change(&mut self, task: &mut Task, changed: &Changed) {
        task.failed_attempts = changed.failed_attempts;
        if changed.failed_attempts > 0 || changed.over.get() > 0 {
            task.may_have_run();
        }
        let any = changed.last_failure.is_some()
            || changed.cancelling
            || changed.lost_prefetched.is_some()
            || !changed.lost.is_empty();
        if !any {
            return;
        }
        let alone = Suspects { before: 0, now: 0 };
        let mut losses = Vec::new();
        for at in &changed.lost {
            task.may_have_run();
            losses.push((NodeId(self.named(&at.node)), at.incarnation));
        }
        let lost_prefetched = changed.lost_prefetched.as_ref();
        let lost_prefetched =
            lost_prefetched.map(|at| (NodeId(self.named(&at.node)), at.incarnation));
        if lost_prefetched.is_some() {
            task.past = Past::LostPrefetched;
        }
        // One that returns takes the loss back.
        for (node, incarnation) in losses.iter().copied().chain(lost_prefetched) {
            let entry = self.machine.roster.get_mut(node.0);
            if let Some(process) = entry.latest_process_mut()
                && process.incarnation == incarnation
                && process.is_lost()
            {
                process.lost_tasks.push(task.id);
            }
        }
        let rare: &mut Rare = task.rare();
        rare.last_failure.clone_from(&changed.last_failure);
        rare.cancelling = changed.cancelling;
        rare.lost_prefetched_on = lost_prefetched;
        for lost in losses {
            rare.lost_on.add(lost, alone);
        }
    }

    /// Lets a task that no node has wait until it is due.
    fn waits(&mut self, slot: Slot, backoff: Option<Timestamp>) {
        let machine = &mut self.machine;
        let task = machine.tasks.get_mut(slot);
        let first = std::mem::replace(&mut task.stage, Stage::New);
        match (backoff, first) {
            (Some(due), _) if due > self.now => {
                machine.wait_until(slot, due, Stage::Backoff { due });
            }
            (None, Stage::Later { due }) if due > self.now => {
                machine.wait_until(slot, due, Stage::Later { due });
            }
            (None, Stage::Planned { at }) if at > machine.timers.wall().at(self.now) => {
                machine.plan(self.now, slot, at);
            }
            _ => machine.enqueue(slot, None),
        }
    }

    /// Takes over a task that was placed last on this process.
    fn placed(&mut self, slot: Slot, placing: &Placing, own: &Own) {
        let Placing { at, run } = placing;
        let task = self.machine.tasks.get_mut(slot);
        task.stage = Stage::New;
        // For how long it had waited, the term before has measured.
        task.past = task.past.max(Past::Sent);
        let run_on = |node| Run {
            node,
            dispatch: run.dispatch,
            since: self.placed_by,
            started: !run.prefetched,
        };
        match self.find(at, own) {
            // Its node may have it, until the node says otherwise or its lease ends.
            Where::Leased(node) => {
                let run_there = run_on(node);
                let machine = &mut self.machine;
                if run.blocking {
                    machine.tasks.get_mut(slot).rare().blocking = true;
                }
                let suspect = machine.tasks.get(slot).company();
                machine.put_on(slot, run_there, suspect);
            }
            // The process may return with the run, which is the task's again then.
            Where::Lost(node) => {
                let run_there = run_on(node);
                self.given_up(slot, node, at.incarnation, run);
                let machine = &mut self.machine;
                machine.tasks.get_mut(slot).may_have_run();
                let entry = machine.roster.get(node);
                if entry.latest_process().is_some() {
                    machine.await_return(slot, run_there);
                }
            }
            // Nobody may speak for this run any more, and it may go on all the same.
            Where::Replaced(node) => {
                let run_there = run_on(node);
                self.machine.run_is_over(slot, run.dispatch);
                self.given_up(slot, node, at.incarnation, run);
                let machine = &mut self.machine;
                machine.tasks.get_mut(slot).may_have_run();
                if machine.tasks.get(slot).is_exclusive() {
                    machine.hold(slot, run_there, Then::Queue);
                } else {
                    machine.enqueue(slot, None);
                }
                machine.task_changed(slot);
            }
            // It ended with the scheduler's own process, and may be what ended that: see
            // `blame_own_end`.
            Where::Own => {
                let node = self.named(&at.node);
                let machine = &mut self.machine;
                machine.run_is_over(slot, run.dispatch);
                machine.enqueue(slot, None);
                machine.task_changed(slot);
                let place = (node, at.incarnation);
                let lost = (slot, !run.prefetched);
                self.local.entry(place).or_default().push(lost);
            }
            Where::Over => {
                self.machine.run_is_over(slot, run.dispatch);
                self.machine.tasks.get_mut(slot).may_have_run();
                self.machine.enqueue(slot, None);
                self.machine.task_changed(slot);
            }
        }
    }

    /// Takes over a task that waited for the end of this run.
    fn held(&mut self, slot: Slot, held: &RunRef, ended: bool, due: Option<Timestamp>, own: &Own) {
        let task = self.machine.tasks.get_mut(slot);
        task.stage = Stage::New;
        task.may_have_run();
        let (node, lost) = match self.find(&held.at, own) {
            Where::Leased(node) | Where::Lost(node) => (node, true),
            Where::Replaced(node) => (node, false),
            Where::Own | Where::Over => {
                self.waits(slot, due);
                self.machine.task_changed(slot);
                return;
            }
        };
        self.orphan(slot, node, held);
        let run = Run {
            node,
            dispatch: held.dispatch,
            since: self.placed_by,
            started: true,
        };
        let machine = &mut self.machine;
        match due {
            Some(due) => machine.hold(slot, run, Then::BackOff(due)),
            None if lost && !ended => machine.await_return(slot, run),
            None => machine.hold(slot, run, Then::Queue),
        }
    }

    /// Notes an earlier run of a task that may be going on.
    fn may_go_on(&mut self, slot: Slot, run: &RunRef, own: &Own) {
        self.machine.tasks.get_mut(slot).may_have_run();
        match self.find(&run.at, own) {
            Where::Leased(node) | Where::Lost(node) | Where::Replaced(node) => {
                self.orphan(slot, node, run);
            }
            Where::Own | Where::Over => self.machine.task_changed(slot),
        }
    }

    /// Notes the last run of a task that may be going on in a process that has lost it.
    fn given_up(&mut self, slot: Slot, node: NodeIndex, incarnation: Incarnation, run: &PlacedRun) {
        let machine = &mut self.machine;
        if machine.is_end_awaited(slot) {
            let orphan = machine.orphan_of(slot, run.blocking);
            machine.add_orphan_of(node, incarnation, run.dispatch, orphan);
        }
    }

    fn orphan(&mut self, slot: Slot, node: NodeIndex, run: &RunRef) {
        let machine = &mut self.machine;
        let orphan = machine.orphan_of(slot, run.blocking);
        machine.add_orphan_of(node, run.at.incarnation, run.dispatch, orphan);
    }

    /// Takes over a task that has settled, and whose ending was not handled, or whose key is busy.
    pub(super) fn settled(
        &mut self,
        accepted: AcceptedTask,
        ending: SettledTask,
        confirmed: bool,
        own: &Own,
    ) {
        let key = accepted.options.as_ref().and_then(|it| it.key.clone());
        if let Some(key) = key.filter(|_| !self.is_copy && !ending.busy.is_empty()) {
            self.machine.keys.claim(key.clone(), ending.id);
            for run in &ending.busy {
                if let Where::Leased(node) | Where::Lost(node) | Where::Replaced(node) =
                    self.find(&run.at, own)
                {
                    let orphan = Orphan::of_run(ending.id, run.blocking, Some(key.clone()));
                    let group = accepted.options.as_ref().and_then(|it| it.group.as_ref());
                    let orphan = orphan.counted_as(&accepted.kind, group);
                    let machine = &mut self.machine;
                    machine.add_orphan_of(node, run.at.incarnation, run.dispatch, orphan);
                }
            }
            if let Some(journal) = &mut self.machine.journal {
                let mut accepted = accepted.clone();
                accepted.at = accepted.at - self.times.set_back;
                let ending = ending.clone();
                let task = RetainedTask { accepted, ending };
                journal.busy.insert(task.accepted.id, task);
            }
            self.machine.keys.settled(&key);
            if self.machine.keys.find(&key).is_none() {
                self.machine.key_was_freed(ending.id);
            }
        }
        if confirmed {
            return;
        }
        let task = RetainedTask { accepted, ending };
        let mut status = TaskStatus::new(task.into_ending(self.machine.name.clone()));
        status.mark_given_again();
        self.machine.outbox.push_current(status);
    }

    /// Blames what ran in the scheduler's own process when that ended out of order: it may be what
    /// ended it.
    pub(super) fn blame_own_end(&mut self) {
        let machine = &mut self.machine;
        for ((node, incarnation), runs) in std::mem::take(&mut self.local) {
            let started = runs.iter().filter(|(_, started)| *started);
            let started = started.map(|(slot, _)| machine.tasks.get(*slot).counted_losses());
            let suspects = Suspects::among(started);
            for (slot, started) in runs.iter().copied().filter(|_| !self.closed) {
                if started {
                    machine.lost_with_scheduler(slot, node, incarnation, suspects);
                } else {
                    let task = machine.tasks.get_mut(slot);
                    task.rare().lost_prefetched_on = Some((NodeId(node), incarnation));
                    task.past = Past::LostPrefetched;
                    machine.reclass(slot);
                }
            }
        }
    }
}
