//! Sending due tasks to nodes.
//!
//! Owns: the assignment, the batches that go out. Does not know: why a node has room.

use super::retracting::HELD_UP_AFTER;
use super::{Intake, SchedulerMachine};
use crate::engine::message::{Assignment, Terms};
use crate::engine::placement::NodeIndex;
use crate::engine::tasks::{Company, Era, Retract, Run, Slot, Stage, Task};
use crate::engine::{Action, Timestamp};
use crate::status::TaskEventKind;
use crate::task::Dispatch;
use crate::trace::TraceMode;

impl SchedulerMachine {
    /// Updates the recorded load of every node that changed since the last turn.
    pub(super) fn enter_loads(&mut self) {
        for at in 0..self.roster.touched.len() {
            self.enter_load(self.roster.touched[at]);
        }
    }

    #[inline]
    pub(super) fn enter_load(&mut self, node: NodeIndex) {
        let room = self.roster.get(node).room(self.config.max_prefetch);
        self.catalogue.set_room(node, room);
    }

    /// Places all that can be placed, in order of turn: classes share nodes, so the head whose turn
    /// comes first of all must choose first.
    ///
    /// While clients are behind, only what callers wait for is placed, and what has changed is kept
    /// for when they are not. Nothing is while only what runs is finished.
    pub(super) fn place(&mut self, now: Timestamp) {
        if !self.catalogue.has_changed()
            || self.intake == Intake::Finishing
            || self.dispatches.is_spent()
            || self.is_resyncing()
        {
            return;
        }
        if self.outbox.is_full() {
            self.place_for_callers(now);
            return;
        }
        self.flushes += 1;
        let mut round = self.catalogue.begin_round();
        while let Some(head) = self.catalogue.next(&mut round) {
            let mut head = head;
            while let Some((node, prefetched)) = self.catalogue.choose(head, &self.roster) {
                let (_, class) = head;
                let Some(slot) = self.catalogue.head(&self.tasks, class) else {
                    break;
                };
                self.catalogue.dequeue(&mut self.tasks, slot);
                self.assign(now, node, slot, prefetched);
                self.catalogue.placed(&mut round, class);
                if self.dispatches.is_spent() {
                    self.catalogue.break_off(round);
                    return;
                }
                // While the turn is this class's again, the round is left alone: most often there
                // is one class.
                match self.catalogue.next_head(&round, class) {
                    Some((next, true)) => head = next,
                    Some((next, false)) => {
                        round.push(next);
                        break;
                    }
                    None => break,
                }
            }
        }
        self.catalogue.end_round();
    }

    fn place_for_callers(&mut self, now: Timestamp) {
        let mut heads = self.catalogue.heads_for_callers();
        self.flushes += u64::from(!heads.is_empty());
        while let Some((turn, class)) = heads.pop_first() {
            if self.dispatches.is_spent() {
                return;
            }
            // Another class of its kind may have used up what was left of a limit.
            if self.catalogue.announced(class).is_none() {
                continue;
            }
            let Some((node, prefetched)) = self.catalogue.choose((turn, class), &self.roster)
            else {
                continue;
            };
            let Some(slot) = self.catalogue.head(&self.tasks, class) else {
                continue;
            };
            self.catalogue.dequeue(&mut self.tasks, slot);
            self.assign(now, node, slot, prefetched);
            heads.extend(self.catalogue.announced(class));
        }
    }

    #[inline(always)]
    fn assign(&mut self, now: Timestamp, node: NodeIndex, slot: Slot, prefetched: bool) {
        // Numbers rise over all nodes, so that a later run fences off an earlier one.
        let dispatch = Dispatch::new(self.dispatches.take());
        let task = self.tasks.get(slot);
        let suspect = task.company();
        let must_wait = self.must_be_stored(node, task);
        self.retraction.placed(task.lateness());
        if task.era == Era::Past {
            self.tasks.get_mut(slot).era = Era::PastAndPlaced;
        }
        // What is sent to a free worker starts there, unless its node says otherwise.
        let run = Run {
            node,
            dispatch,
            since: now,
            started: !prefetched,
        };
        self.put_on(slot, run, suspect);
        self.catalogue.has_started(&self.tasks, now, slot);
        if must_wait {
            self.stage(now, slot, dispatch);
        } else {
            let assignment = self.assignment(now, node, slot, dispatch, prefetched);
            // Only a node that is up has room for it.
            self.roster.get_mut(node).channel_mut().assign(assignment);
        }
        // At once, since the next head is placed by it.
        self.enter_load(node);
        if !must_wait && !prefetched {
            self.tell_running(slot);
        }
    }

    /// Returns what is sent to a node of a task that is placed on it.
    #[inline(always)]
    pub(super) fn assignment(
        &self,
        now: Timestamp,
        node: NodeIndex,
        slot: Slot,
        dispatch: Dispatch,
        prefetched: bool,
    ) -> Assignment {
        let task = self.tasks.get(slot);
        let (kind, _) = self
            .catalogue
            .kind_at(node, task.class)
            .expect("a node that may run a class offers its kind");
        Assignment {
            task: task.id,
            dispatch,
            kind,
            attempt: task.attempt(),
            prefetched,
            args: task.args.clone(),
            terms: terms_of(now, task, self.config.trace_mode),
        }
    }

    /// Counts a task among the runs of a node: as a suspect, if it is placed among so many.
    #[inline(always)]
    pub(super) fn put_on(&mut self, slot: Slot, run: Run, suspect: Option<Company>) {
        self.enter(slot, Stage::of(run, suspect));
        let node = run.node;
        let task = self.tasks.get(slot);
        let prefetched = (!run.started).then(|| task.args.len());
        self.catalogue.run_began(task);
        let entry = self.roster.get_mut(node);
        entry.load.put_on(prefetched, suspect);
        if prefetched.is_some() {
            entry.line.push(&mut self.tasks, slot);
            // None is held up before. A look then sees for how long each may wait.
            self.retraction.enter(node, run.since + HELD_UP_AFTER);
        } else {
            self.tasks.link_last(&mut entry.runs, slot);
        }
        self.roster.touch(node);
    }

    /// Forgets that a task was asked back, on a link that is gone: it goes on waiting at its node.
    pub(super) fn forget_retraction(&mut self, slot: Slot) {
        if let Stage::Prefetched {
            node,
            dispatch,
            retracting,
            ..
        } = &mut self.tasks.get_mut(slot).stage
            && let Some(why) = retracting.take()
        {
            let (node, dispatch) = (*node, *dispatch);
            self.retract_over(node, dispatch, why);
            let line = &mut self.roster.get_mut(node).line;
            line.keep(&mut self.tasks, slot);
            self.retraction.enter(node, self.now);
        }
    }

    /// Ends a retraction: the task that was asked back from a node has come back, or will not.
    fn retract_over(&mut self, node: NodeIndex, dispatch: Dispatch, why: Retract) {
        if why == Retract::FreeElsewhere {
            self.retraction.release(dispatch);
        }
        self.roster.get_mut(node).load.retract_over();
    }

    /// Takes a task off its node; what becomes of it is the caller's.
    #[inline]
    pub(super) fn take_off(&mut self, slot: Slot) -> Run {
        let task = self.tasks.get(slot);
        let run = task.stage.placed().expect("a node has the task");
        let (suspect, retracting) = (task.stage.suspect(), task.stage.retracting());
        let prefetched = (!run.started).then(|| task.args.len());
        let node = run.node;
        self.catalogue.run_over(task);
        if let Some(why) = retracting {
            self.retract_over(node, run.dispatch, why);
        }
        let entry = self.roster.get_mut(node);
        if run.started {
            self.tasks.unlink(&mut entry.runs, slot);
        } else {
            let line = &mut entry.line;
            line.remove(&mut self.tasks, slot, retracting.is_some());
        }
        entry.load.take_off(prefetched, suspect);
        self.run_is_over(slot, run.dispatch);
        self.enter(slot, Stage::left(run));
        self.roster.touch(node);
        run
    }

    /// Tells a watcher that a run has started.
    pub(super) fn tell_running(&mut self, slot: Slot) {
        let Some(run) = self.tasks.get(slot).stage.placed() else {
            return;
        };
        self.notify(slot, |machine, task| TaskEventKind::Running {
            node: machine.roster.get(run.node).name.clone(),
            dispatch: run.dispatch,
            attempt: task.attempt(),
        });
    }

    /// Sends what has gathered for each node, a batch each.
    pub(super) fn flush_nodes(&mut self, actions: &mut Vec<Action>) {
        // With its buffer: in the next turn there are as many.
        let mut touched = std::mem::take(&mut self.roster.touched);
        for node in touched.drain(..) {
            let entry = self.roster.get_mut(node);
            entry.touched = false;
            let Some(channel) = entry.channel() else {
                continue;
            };
            let (link, company) = (channel.link(), channel.has_outgoing());
            let mut send = |message| actions.push(Action::Send { link, message });
            // Before the assignments, since it may give the node the room to start them.
            if let Some(acknowledge) = entry.acknowledge(company) {
                send(acknowledge);
            }
            if !company {
                continue;
            }
            entry.channel_mut().flush(send);
        }
        self.roster.touched = touched;
    }
}

#[inline]
fn terms_of(now: Timestamp, task: &Task, tracing: TraceMode) -> Option<Box<Terms>> {
    if task.priority == 0 && task.rare.is_none() {
        return None;
    }
    rare_terms_of(now, task, tracing)
}

fn rare_terms_of(now: Timestamp, task: &Task, tracing: TraceMode) -> Option<Box<Terms>> {
    let mut terms = Terms {
        priority: task.priority,
        ..Terms::default()
    };
    if let Some(rare) = &task.rare {
        terms.timeout = rare.timeout;
        terms.deadline = rare.deadline.map(|deadline| deadline.since(now));
        terms.retry = rare.retry;
        terms.exclusive = rare.exclusive;
        terms.watched = rare.watcher.is_some();
        terms.trace = rare.trace.as_ref().and_then(|context| {
            let mode = rare.trace_mode.unwrap_or(tracing);
            mode.parent(context, task.attempt(), now.since(task.accepted_at))
        });
    }
    (terms != Terms::default()).then(|| Box::new(terms))
}
