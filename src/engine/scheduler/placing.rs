//! Sending due tasks to nodes, and asking back those that wait at a busy node while another is idle.
//!
//! Owns: the assignment, the batches that go out. Does not know: why a node has
//! room.

use std::time::Duration;

use super::SchedulerMachine;
use crate::engine::message::{Assignment, MAX_BATCH, Terms, ToNode};
use crate::engine::placement::NodeIndex;
use crate::engine::queue::Turn;
use crate::engine::roster::Outgoing;
use crate::engine::tasks::{Company, NO_SLOT, Run, Slot, Stage, Task};
use crate::engine::{Action, Timestamp};
use crate::status::Event as TaskEventKind;
use crate::task::Dispatch;

/// The most tasks of one node that one flush looks at to ask them back: the rest follows in the next.
const RECALL_SWEEP: usize = 64;
/// A task that waits at a node for less than this is not asked back: the asking takes as long.
const RECALL_AFTER: Duration = Duration::from_millis(1);

impl SchedulerMachine {
    /// Enters the load of every node that something has happened to.
    pub(super) fn enter_loads(&mut self) {
        for at in 0..self.roster.touched.len() {
            self.enter_load(self.roster.touched[at]);
        }
    }

    pub(super) fn enter_load(&mut self, node: NodeIndex) {
        let room = self.roster.get(node).room(self.config.max_ahead);
        self.catalogue.set_room(node, room);
    }

    /// Places all that can be placed, in order of turn: classes share nodes, so the head whose turn comes
    /// first of all must choose first.
    pub(super) fn place(&mut self, now: Timestamp) {
        if !self.catalogue.has_changed() || self.outbox.is_full() {
            return;
        }
        self.flushes += 1;
        let mut round = self.catalogue.begin_round();
        while let Some(head) = self.catalogue.next(&mut round) {
            let mut head = head;
            while let Some((node, ahead)) = self.catalogue.choose(head, &self.roster) {
                let (_, class) = head;
                let Some(slot) = self.catalogue.head(&self.tasks, class) else {
                    break;
                };
                self.catalogue.dequeue(&mut self.tasks, slot);
                self.assign(now, node, slot, ahead);
                // While the turn is this class's again, the round is left alone: most often there is one
                // class.
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

    fn assign(&mut self, now: Timestamp, node: NodeIndex, slot: Slot, ahead: bool) {
        // Numbers rise over all nodes, so that a later run fences off an earlier one.
        let dispatch = Dispatch::new(self.dispatches.take());
        let task = self.tasks.get(slot);
        let suspect = task.company();
        let (kind, _) = self
            .catalogue
            .kind_at(node, task.class)
            .expect("a node that may run a class offers its kind");
        let assignment = Assignment {
            task: task.id,
            dispatch,
            kind,
            attempt: task.attempt(),
            ahead,
            args: task.args.clone(),
            terms: terms_of(now, task),
        };
        // What is sent to a free worker starts there, unless its node says otherwise.
        let run = Run {
            node,
            dispatch,
            since: now,
            started: !ahead,
        };
        self.put_on(slot, run, suspect);
        // Only a node that is up has room for it.
        self.roster.get_mut(node).channel_mut().assign(assignment);
        // At once, since the next head is placed by it.
        self.enter_load(node);
        if !ahead {
            self.tell_running(slot);
        }
    }

    /// Counts a task among the runs of a node: as a suspect, if it is placed among so many.
    pub(super) fn put_on(&mut self, slot: Slot, run: Run, suspect: Option<Company>) {
        self.enter(slot, Stage::of(run, suspect));
        let node = run.node;
        let ahead = (!run.started).then(|| self.tasks.get(slot).args.len());
        let entry = self.roster.get_mut(node);
        entry.load.put_on(ahead, suspect);
        if ahead.is_some() {
            self.retraction.enter(node);
        }
        self.tasks.link_last(&mut entry.runs, slot);
        self.roster.touch(node);
    }

    /// A task was asked back on a link that is gone, or is no longer at its node.
    pub(super) fn forget_recall(&mut self, slot: Slot) {
        if let Stage::Prefetched {
            node, retracting, ..
        } = &mut self.tasks.get_mut(slot).stage
            && std::mem::take(retracting)
        {
            self.roster.get_mut(*node).load.recall_over();
        }
    }

    /// Takes a task off its node; what becomes of it is the caller's.
    pub(super) fn take_off(&mut self, slot: Slot) -> Run {
        self.forget_recall(slot);
        let task = self.tasks.get(slot);
        let run = task.stage.placed().expect("a node has the task");
        let suspect = task.stage.suspect();
        let ahead = (!run.started).then(|| task.args.len());
        self.enter(slot, Stage::left(run));
        let node = run.node;
        let entry = self.roster.get_mut(node);
        entry.load.take_off(ahead, suspect);
        if ahead.is_some() && entry.load.tally().ahead == 0 {
            self.retraction.leave(node);
        }
        self.tasks.unlink(&mut entry.runs, slot);
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

    /// Asks tasks back that have waited at a busy node while a node that may run them has a free worker, or
    /// while something waits that goes first there.
    pub(super) fn recall(&mut self, now: Timestamp) {
        for node in self.retraction.begin_look(now) {
            let entry = self.roster.get(node);
            if !entry.is_up() {
                continue;
            }
            let patience = RECALL_AFTER.max(entry.load.round_trip().saturating_mul(2));
            let overtaken = self.overtaken(now, node, patience);
            // What was sent last would start last there, so it gains most by going elsewhere.
            let mut at = self.roster.get(node).runs.last;
            // Each free worker elsewhere takes one task, so a node's are counted once for all of
            // this one's.
            let mut budget: std::collections::BTreeMap<u32, u32> =
                std::collections::BTreeMap::new();
            for _ in 0..RECALL_SWEEP {
                if at == NO_SLOT {
                    break;
                }
                let slot = at;
                let task = self.tasks.get(slot);
                at = task.prev;
                let Stage::Prefetched {
                    dispatch,
                    since,
                    retracting: false,
                    ..
                } = task.stage
                else {
                    continue;
                };
                let elsewhere = self
                    .catalogue
                    .free_node(task.class)
                    .filter(|it| *it != node);
                let mut none = 0;
                let idle = elsewhere.map_or(&mut none, |elsewhere| {
                    budget
                        .entry(elsewhere)
                        .or_insert_with(|| self.roster.get(elsewhere).free_workers())
                });
                let turn = Turn::new(task.priority, task.rank);
                let after = overtaken.is_some_and(|first| first <= turn);
                if *idle == 0 && !after {
                    continue;
                }
                let ripe_at = since + patience;
                // It may be about to start: asking for it takes as long as the wait that it would
                // save.
                if ripe_at > now && !after {
                    self.retraction.look_again_at(ripe_at);
                    continue;
                }
                *idle = idle.saturating_sub(1);
                if let Stage::Prefetched { retracting, .. } = &mut self.tasks.get_mut(slot).stage {
                    *retracting = true;
                }
                let entry = self.roster.get_mut(node);
                entry.channel_mut().recall(dispatch);
                entry.load.recall(turn);
                self.roster.touch(node);
            }
        }
        self.timers.set_retract(self.retraction.next_look());
    }

    /// The best turn among the tasks that have waited long enough at a node and after which something goes
    /// that waits here. What comes after it goes back with it, or would start before it.
    fn overtaken(&mut self, now: Timestamp, node: NodeIndex, patience: Duration) -> Option<Turn> {
        let entry = self.roster.get(node);
        let waiting = self.catalogue.waiting(node, &self.roster)?;
        let mut at = entry.runs.last;
        let mut first: Option<Turn> = None;
        for _ in 0..RECALL_SWEEP {
            if at == NO_SLOT {
                break;
            }
            let task = self.tasks.get(at);
            at = task.prev;
            let turn = Turn::new(task.priority, task.rank);
            let Stage::Prefetched {
                since,
                retracting: false,
                ..
            } = task.stage
            else {
                continue;
            };
            if turn < waiting {
                continue;
            }
            let ripe_at = since + patience;
            if ripe_at > now {
                self.retraction.look_again_at(ripe_at);
            } else if first.is_none_or(|first| turn < first) {
                first = Some(turn);
            }
        }
        first
    }

    /// Sends what has gathered for each node, a batch each.
    pub(super) fn flush_nodes(&mut self, actions: &mut Vec<Action>) {
        for node in std::mem::take(&mut self.roster.touched) {
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
            let Outgoing {
                assign,
                cancel,
                recall,
            } = entry.channel_mut().take_outgoing();
            in_batches(cancel, |batch| send(ToNode::Cancel(batch)));
            in_batches(assign, |batch| send(ToNode::Assign(batch)));
            // Behind the assignments, since one of them may be asked back at once.
            in_batches(recall, |batch| send(ToNode::Recall(batch)));
        }
    }
}

fn in_batches<T>(mut all: Vec<T>, mut send: impl FnMut(Vec<T>)) {
    while all.len() > MAX_BATCH {
        let rest = all.split_off(MAX_BATCH);
        send(std::mem::replace(&mut all, rest));
    }
    if !all.is_empty() {
        send(all);
    }
}

fn terms_of(now: Timestamp, task: &Task) -> Option<Box<Terms>> {
    if task.priority == 0 && task.rare.is_none() {
        return None;
    }
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
    }
    (terms != Terms::default()).then(|| Box::new(terms))
}
