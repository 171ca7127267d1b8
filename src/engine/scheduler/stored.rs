//! What waits until it is stored, and what follows when it is or cannot be.
//!
//! Owns: which tasks, assignments, acknowledgements and promises wait, and when they go on. Does
//! not know: how facts become records (see `recording`), in which batch each goes (see the
//! journal), or where batches are kept.

use super::{Intake, JournalState, SchedulerMachine};
use crate::engine::ids::NodeIndex;
use crate::engine::journal::{OnceStored, UnderWay};
use crate::engine::keep::Keep;
use crate::engine::ledger::{Sealed, Stamp};
use crate::engine::record::{Record, Setting};
use crate::engine::tasks::{Era, Run, Slot, Stage, Task};
use crate::engine::timers::Timer;
use crate::engine::{Action, Audience, ClientId, Note, Refused, Submission, Timestamp};
use crate::error::Refusal;
use crate::status::{CancelAnswer, Outcome, TaskStatus};
use crate::task::{Dispatch, TaskId};

impl SchedulerMachine {
    /// Returns the next batch to be stored, if it is due and none is under way. An
    /// [`Event::Stored`](crate::engine::Event::Stored) or
    /// [`Event::NotStored`](crate::engine::Event::NotStored) answers it. Call it after the effects
    /// were taken and performed.
    pub fn seal(&mut self, now: Timestamp) -> Option<Sealed> {
        self.observe(now);
        self.note_confirmed();
        let mut journal = self.journal.take()?;
        // The last head names that timing, and the next term would wait for it in vain.
        if self.earlier_timing_ended(now) {
            journal.head.get_or_insert_default();
        }
        let sealed = journal.due().filter(|&due| due <= now).and_then(|_| {
            journal.settle_early(|id| self.tasks.find(id).is_none());
            let at = journal.time(now);
            let plan = journal.cleaning.plan(journal.next_is());
            if plan.head {
                journal.head.get_or_insert_default();
            }
            let gathered = journal.gathered().next()?;
            let mut records = self.compose(&journal, gathered, true, at);
            let again = self.write_again(&journal, &plan.again, &mut records);
            let stamp = Stamp {
                term: journal.term(),
                batch: journal.next(),
                next_task: self.task_ids.next(),
                next_dispatch: journal.unrecorded_with_next(self.unrecorded_from()),
                at,
            };
            // The next batch says of a node only what differs from this.
            for record in &records {
                match record {
                    Record::Head(head) => {
                        let nodes = head.nodes.iter().cloned();
                        journal.nodes = nodes.map(|fact| (fact.name.clone(), fact)).collect();
                    }
                    Record::Node(fact) if fact.is_vacant() => {
                        journal.nodes.remove(&fact.name);
                    }
                    Record::Node(fact) => {
                        journal.nodes.insert(fact.name.clone(), (**fact).clone());
                    }
                    _ => {}
                }
            }
            journal.head = None;
            journal.changed_nodes.clear();
            journal.settings.clear();
            journal
                .cleaning
                .sealed(stamp.batch, &records, plan.truncate);
            journal.begin(self.reservation(&journal), again);
            Some(Sealed {
                stamp,
                records,
                truncate: plan.truncate,
            })
        });
        self.journal = Some(journal);
        sealed
    }

    /// Returns up to which batch all is durable; without a store all that is decided is final.
    pub fn stored(&self) -> u64 {
        self.journal.as_ref().map_or(u64::MAX, |it| it.stored())
    }

    /// Returns with which batch what was decided so far is durable; 0 without a store.
    pub fn promised_with(&self) -> u64 {
        self.journal.as_ref().map_or(0, |it| it.promised_with())
    }

    /// Returns whether anything that was promised is still to be stored. After the end of the term
    /// nothing that arises is.
    pub fn is_storing(&self) -> bool {
        self.journal.as_ref().is_some_and(|it| it.is_storing())
    }

    /// Sets how much of what settles is written down once more, to be looked at.
    pub fn keeping(mut self, keep: Keep) -> Self {
        if let Some(journal) = &mut self.journal {
            journal.keep = keep;
        }
        self
    }

    /// Returns how the store is, if there is one.
    pub fn store_state(&self) -> Option<JournalState> {
        self.journal.as_ref().map(|journal| journal.state())
    }

    pub(super) fn seal_due(&self) -> Option<Timestamp> {
        self.journal.as_ref()?.due()
    }

    /// Returns why a task with so many bytes of args cannot wait to be stored.
    #[inline]
    pub(super) fn store_refuses(&self, bytes: usize) -> Option<Refusal> {
        let journal = self.journal.as_ref()?;
        if let Some(failure) = journal.failure() {
            let reason = failure.reason.clone();
            return Some(Refusal::StoreFailed { reason });
        }
        let limit = self.config.max_unstored_bytes;
        (!journal.admits(bytes, limit)).then_some(Refusal::StoreBehind { limit })
    }

    /// Keeps back what says something that is not stored.
    pub(super) fn gate(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.note_confirmed();
        if let Some(journal) = &mut self.journal {
            journal.gate(now, actions, self.config.tell_at_once);
        }
    }

    /// Notes which endings clients have confirmed, or nobody wants to know.
    fn note_confirmed(&mut self) {
        if let (Some(journal), Some(over)) = (&mut self.journal, &mut self.outbox.over) {
            for task in over.drain(..) {
                journal.confirmed(self.now, task);
            }
        }
    }

    pub(super) fn client_gone(&mut self, client: ClientId) {
        let journal = self.journal.as_mut();
        let kept_back = journal.and_then(|journal| journal.client_gone(client));
        self.outbox.gone(client, kept_back);
    }

    /// Offers an ending to the client, since nobody waits for it and nobody else was told.
    pub(super) fn unclaimed(&mut self, status: TaskStatus) {
        if let Some(journal) = &mut self.journal
            && !matches!(status.outcome, Outcome::Refused(_))
        {
            journal.not_confirmed(status.id);
        }
        self.outbox.unclaimed(status);
    }

    /// Takes an operator's setting over, and writes it down.
    pub(super) fn set(&mut self, setting: Setting) {
        self.settings.set(setting.clone());
        if let Some(journal) = &mut self.journal {
            journal.set(self.now, setting);
        }
    }

    /// Lets the reports of a node that were taken so far, the last with a body of so many bytes, be
    /// acknowledged when what they have brought is stored.
    pub(super) fn acknowledge_later(&mut self, node: NodeIndex, bytes: usize) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let entry = self.roster.get_mut(node);
        let process = entry.process_mut();
        match journal.reported(node) {
            Some(batch) => process.acknowledge_with(batch, bytes),
            None => {
                process.may_acknowledge();
                if !entry.is_local() && entry.is_up() {
                    entry.channel_mut().owe(1, bytes);
                }
            }
        }
        self.roster.touch(node);
    }

    fn acknowledge_stored(&mut self, batch: u64, nodes: Vec<NodeIndex>) {
        for node in nodes {
            let entry = self.roster.get_mut(node);
            for process in &mut entry.past {
                process.stored(batch);
            }
            let Some(process) = entry.latest_process_mut() else {
                continue;
            };
            let (reports, bytes) = process.stored(batch);
            if reports > 0 && !entry.is_local() && entry.is_up() {
                entry.channel_mut().owe(reports, bytes);
            }
            self.roster.touch(node);
        }
    }

    /// Stores a process of a node that the store does not know. The next term would not wait for
    /// its word of what it runs, so nothing is sent to it before that is stored.
    pub(super) fn store_process(&mut self, now: Timestamp, node: NodeIndex) {
        if let Some(journal) = &mut self.journal
            && !self.roster.get(node).is_local()
        {
            self.roster.get_mut(node).process_mut().stored_with = journal.firm_batch(now);
        }
    }

    /// Returns whether a task is sent to a node only when it is stored that it was: if two runs of
    /// it must never overlap, if it may end this process, or if the store does not know the node's.
    #[inline]
    pub(super) fn must_be_stored(&self, node: NodeIndex, task: &Task) -> bool {
        let Some(journal) = &self.journal else {
            return false;
        };
        let entry = self.roster.get(node);
        task.is_exclusive()
            || (task.era != Era::Present && entry.is_local())
            || entry.process().stored_with > journal.stored()
    }

    /// Lets a task that was placed wait until that is stored.
    #[cold]
    pub(super) fn stage(&mut self, now: Timestamp, slot: Slot, dispatch: Dispatch) {
        let task = self.tasks.get(slot);
        if let (Some(journal), Some(run)) = (&mut self.journal, task.stage.placed()) {
            journal.staged(now, task.id, dispatch);
            self.roster.get_mut(run.node).staged += 1;
        }
    }

    #[inline]
    pub(super) fn is_staged(&self, dispatch: Dispatch) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| journal.staged.contains(&dispatch))
    }

    /// Takes a task back from a node that it was placed on and not sent to: it never started.
    /// Returns whether that was so.
    pub(super) fn unsend(&mut self, slot: Slot) -> bool {
        let run = self.tasks.get(slot).stage.placed();
        let staged = self.journal.as_mut().map(|journal| &mut journal.staged);
        let unsent = run
            .zip(staged)
            .is_some_and(|(run, staged)| staged.remove(&run.dispatch));
        if unsent {
            let run = self.take_off(slot);
            self.roster.get_mut(run.node).staged -= 1;
            self.tasks.get_mut(slot).stage = Stage::left(Run {
                started: false,
                ..run
            });
            self.reclass(slot);
            self.enqueue(slot, None);
        }
        unsent
    }

    /// Takes all back from a node that was placed on it and not sent.
    pub(super) fn unsend_all(&mut self, node: NodeIndex) {
        let staged = self.journal.as_ref().map(|journal| journal.staged.len());
        if staged.unwrap_or(0) > 0 {
            for slot in self.runs_of(node) {
                self.unsend(slot);
            }
        }
    }

    /// Sends tasks of which it is stored by now where they were placed.
    pub(super) fn send_staged(&mut self, now: Timestamp) {
        let to_send = self
            .journal
            .as_mut()
            .map(|it| std::mem::take(&mut it.to_send));
        for (id, dispatch) in to_send.into_iter().flatten() {
            let journal = self.journal.as_mut();
            if !journal.is_some_and(|journal| journal.staged.remove(&dispatch)) {
                continue;
            }
            let Some(slot) = self.tasks.find(id) else {
                continue;
            };
            match &mut self.tasks.get_mut(slot).stage {
                Stage::Running { since, .. } | Stage::Prefetched { since, .. } => *since = now,
                _ => continue,
            }
            let Some(run) = self.tasks.get(slot).stage.placed() else {
                continue;
            };
            let assignment = self.assignment(now, run.node, slot, dispatch, !run.started);
            let entry = self.roster.get_mut(run.node);
            entry.staged -= 1;
            entry.channel_mut().assign(assignment);
            self.roster.touch(run.node);
            if run.started {
                self.tell_running(slot);
            }
        }
    }

    /// Goes on with what has waited for a batch: all up to it is durable.
    pub(super) fn batch_stored(&mut self, now: Timestamp, batch: u64, bytes: u64) {
        let journal = self.journal.as_mut();
        let Some((under_way, failure)) = journal.and_then(|it| it.batch_stored(batch, bytes))
        else {
            return;
        };
        if let Some(failure) = failure {
            let failed_for = now.since(failure.since);
            self.actions
                .push(Action::Note(Box::new(Note::StoreBack { failed_for })));
        }
        let UnderWay {
            batch,
            accepted,
            then: OnceStored { staged, reported },
            reserved,
            ..
        } = under_way;
        self.task_ids.end_at(reserved.tasks);
        self.dispatches.end_at(reserved.dispatches);
        if let Some(journal) = &mut self.journal {
            journal.to_send.extend(staged);
        }
        self.acknowledge_stored(batch, reported);
        for id in accepted {
            self.task_stored(now, id);
        }
    }

    fn task_stored(&mut self, now: Timestamp, id: TaskId) {
        let Some(slot) = self.tasks.find(id) else {
            return;
        };
        let task = self.tasks.get(slot);
        let Stage::Unstored { due } = task.stage else {
            return;
        };
        let bytes = task.args.len();
        let (cancelling, class) = (task.is_cancelling(), task.class);
        if let Some(journal) = &mut self.journal {
            journal.no_longer_unstored(bytes);
        }
        if cancelling {
            self.catalogue.accepted(class);
            self.settle_cancelled(now, slot);
        } else {
            self.begin(now, slot, due);
        }
    }

    /// Takes back the batch that was under way, and is not there. What was to be accepted is
    /// refused; all else is tried again.
    pub(super) fn batch_not_stored(
        &mut self,
        now: Timestamp,
        batch: u64,
        records: Vec<Record>,
        reason: String,
    ) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let refused = journal.batch_not_stored(batch, records);
        self.refuse_unstored(refused, &reason);
        self.store_failing(now, reason);
    }

    /// Refuses what waits to be accepted, since nothing can be stored, but for what may be stored
    /// already.
    pub(super) fn store_failing(&mut self, now: Timestamp, reason: String) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        self.meter.store_errors += 1;
        let refused = journal.take_accepted();
        if journal.fails(now, reason.clone()) {
            let reason = reason.clone();
            self.actions
                .push(Action::Note(Box::new(Note::StoreFailing { reason })));
        }
        self.refuse_unstored(refused, &reason);
    }

    /// Takes tasks back that were accepted and cannot be stored: nothing of them is left.
    fn refuse_unstored(&mut self, ids: Vec<TaskId>, reason: &str) {
        let slots = ids.into_iter().filter_map(|id| self.tasks.find(id));
        let slots: Vec<_> = slots.collect();
        let refused: Vec<_> = slots
            .into_iter()
            .map(|slot| self.refused(slot, reason))
            .collect();
        if !refused.is_empty() {
            self.actions.push(Action::TakenBack { refused });
        }
    }

    fn refused(&mut self, slot: Slot, reason: &str) -> (TaskId, Refused) {
        let options = self.options_as_accepted(self.tasks.get(slot));
        let (kind, task) = self.take_out(slot);
        let Task {
            id,
            args,
            rare,
            addressee,
            ..
        } = task;
        if let Some(journal) = &mut self.journal {
            journal.no_longer_unstored(args.len());
        }
        let mut watcher = None;
        if let Some(rare) = rare {
            for at in rare.cancels.times() {
                self.timers.stop(at, Timer::Patience(id, slot));
            }
            self.answer(rare.cancels.tickets(), CancelAnswer::NotFound);
            if let Some(key) = &rare.key {
                self.keys.settled(key);
            }
            if let Some(watcher) = rare.watcher {
                self.watchers.release(watcher);
            }
            watcher = rare.watcher;
        }
        let audience = addressee.audience();
        if let Audience::Client(client) = audience {
            self.outbox.disengage(client);
        }
        let refusal = Refusal::StoreFailed {
            reason: reason.to_owned(),
        };
        // It has never been a task, though it was counted as one when it was handed in.
        self.totals.executed -= 1;
        *self.totals.refused.entry(refusal.cause()).or_default() += 1;
        let submission = Box::new(Submission {
            kind,
            args,
            options,
            audience,
            watcher,
        });
        (
            id,
            Refused {
                refusal,
                submission,
            },
        )
    }

    /// Ends this term of a scheduler that has a store: its links are closed, and nodes go on, for
    /// the next start to take over. What is left goes into the batches that are still to be sealed,
    /// the last of which says that the term has ended.
    pub fn close(&mut self, now: Timestamp) {
        self.observe(now);
        self.intake = Intake::Finishing;
        self.stopped = true;
        // What runs in this process ends with it in order, and is no loss.
        for node in (0..).take(self.roster.nodes.len()) {
            let local = self.roster.get(node).is_local();
            self.unsend_all(node);
            let runs = local.then(|| self.runs_of(node));
            for slot in runs.into_iter().flatten() {
                self.left_undone(now, slot);
            }
        }
        for link in self.links_up() {
            self.fail(now, link, "the scheduler ends, and the next one goes on");
        }
        self.end_all_patience();
        if let Some(journal) = &mut self.journal {
            journal.end(now, None);
        }
    }
}
