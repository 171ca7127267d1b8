//! What a term does not know of the one before, until its nodes have spoken.
//!
//! Owns: the *resync* before anything is placed, the runs that nodes have and no record tells of,
//! the nodes that only the store knows, and the sign of a store that was put back. Does not know:
//! how records are read (see `recovery`).
//!
//! A placing is stored lazily, so the last ones of a term may have been sent without a record: the
//! *tail* of its dispatches. For these alone a node's word counts. Nothing is placed, and no
//! deadline or cancel settles a task of that term, before every node that was up has spoken, is
//! lost or dead, or the resync has lasted long enough. If this term ends before that, its tail is
//! the next one's too.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use super::SchedulerMachine;
use crate::engine::message::{End, HeldRun};
use crate::engine::meter::AttemptResult;
use crate::engine::placement::NodeIndex;
use crate::engine::record::Timing;
use crate::engine::roster::{Orphan, State};
use crate::engine::tasks::{Era, Run, Slot, Stage, Task};
use crate::engine::timers::Timer;
use crate::engine::{Action, Incarnation, NodeId, Note, Reach, Timestamp};
use crate::status::{CancelAnswer, Outcome};
use crate::task::{Dispatch, TaskId, TaskKey};

mod over;

pub(super) use over::Over;

/// What a lost process of the scheduler itself is told to have ended by.
const OWN_END: &str = "the scheduler's own process has ended";

/// See the module.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) resync: Option<Resync>,
    /// Dispatches that may have been given out without a record.
    pub(super) tail: Range<u64>,
    /// The runs that are over of tasks of an earlier term, where that is known.
    pub(super) over: HashMap<TaskId, Over>,
    /// The first dispatch of this term.
    pub(super) first: u64,
    /// Nodes that only the store knows so far.
    pub(super) recorded: BTreeMap<NodeIndex, Recorded>,
    /// Processes that were up and have not spoken in this term.
    pub(super) silent: Vec<(NodeIndex, Incarnation)>,
    /// What nodes of the term before may still go by, as long as that is not what this one says.
    pub(super) earlier: Option<Earlier>,
    /// Whether it was told that the store was put back.
    pub(super) rolled_back: bool,
}

/// What nodes may still go by that were not heard in this term: the longer of what it says and the
/// one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    pub(super) timing: Timing,
    /// When no node goes by it any more.
    pub(super) until: Timestamp,
}

/// What is known of a node that nobody has named in this term. It may be named at any time, and
/// what it runs goes on then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// The node was not heard.
    Unheard,
    /// The node has answered, and stays.
    Heard,
    /// The node was lost before, and is not dialled any more.
    Left,
}

/// A run of which a node tells before anything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToldRun {
    pub(super) task: TaskId,
    pub(super) dispatch: Dispatch,
    pub(super) started: bool,
}

/// The resync, and what waits for its end: until then nodes speak.
#[derive(Debug)]
pub(super) struct Resync {
    pub(super) until: Timestamp,
    /// Tasks that have a deadline.
    pub(super) deadlines: Vec<TaskId>,
    /// Tasks that are to be cancelled.
    pub(super) cancels: Vec<TaskId>,
    /// Tasks under which too many processes were lost.
    pub(super) doomed: Vec<TaskId>,
}

impl SchedulerMachine {
    /// Returns how long at most nodes that were up are waited for.
    pub(super) fn longest_resync(&self) -> Duration {
        let redial = self.config.heartbeat.saturating_mul(2) + Duration::from_secs(1);
        redial.min(self.config.lease)
    }

    /// Returns whether nothing is placed, since nodes of the term before may have more than is
    /// known.
    #[inline]
    pub(super) fn is_resyncing(&self) -> bool {
        let takeover = self.takeover.as_ref();
        takeover.is_some_and(|takeover| takeover.resync.is_some())
    }

    /// Returns the first dispatch that may have been given out without a record of it.
    pub(super) fn unrecorded_from(&self) -> u64 {
        match self.takeover.as_deref() {
            Some(Takeover {
                resync: Some(_),
                tail,
                ..
            }) => tail.start,
            _ => self.dispatches.next(),
        }
    }

    /// Returns the dispatch up to which all runs are over of a task that has none.
    pub(super) fn all_over(&self, task: &Task) -> Dispatch {
        match self.takeover.as_deref() {
            // Another node may have a run of it, of which nothing is known.
            Some(takeover) if self.may_run_unheard(task) => {
                let over = takeover.over.get(&task.id);
                over.map_or(Dispatch::new(0), Over::upto)
            }
            _ => Dispatch::new(self.dispatches.next().saturating_sub(1)),
        }
    }

    /// Notes that a run of a task is over, as far as the task goes.
    #[inline(always)]
    pub(super) fn run_is_over(&mut self, slot: Slot, dispatch: Dispatch) {
        if self.takeover.is_some()
            && let Some(over) = self.over_of(slot)
        {
            over.is_over(dispatch);
        }
    }

    /// Notes that a node tells how a run of a task has ended.
    #[inline]
    pub(super) fn end_is_known(&mut self, slot: Slot, dispatch: Dispatch) {
        if self.takeover.is_some()
            && let Some(over) = self.over_of(slot)
        {
            over.ended(dispatch);
        }
    }

    fn over_of(&mut self, slot: Slot) -> Option<&mut Over> {
        let takeover = self.takeover.as_mut()?;
        let task = self.tasks.get(slot);
        let over = (task.era == Era::Past).then(|| takeover.over.entry(task.id))?;
        Some(over.or_insert_with(Over::nothing))
    }

    /// Returns what nodes may still go by.
    pub(super) fn timing(&self) -> Timing {
        let earlier = self.takeover.as_ref().and_then(|it| it.earlier);
        earlier.map_or(self.own_timing(), |earlier| earlier.timing)
    }

    /// Returns what nodes go by that were heard in this term.
    pub(super) fn own_timing(&self) -> Timing {
        Timing {
            heartbeat: self.config.heartbeat,
            lease: self.config.lease,
            outlive: self.outlive,
        }
    }

    /// Returns whether no node goes by the timing of an earlier term any more, which is to be
    /// written down: the next term would wait for it too.
    pub(super) fn earlier_timing_ended(&mut self, now: Timestamp) -> bool {
        let ended = |earlier: &mut Earlier| earlier.until <= now;
        let earlier = self.takeover.as_mut().map(|it| &mut it.earlier);
        earlier.is_some_and(|earlier| earlier.take_if(ended).is_some())
    }

    /// Ends the resync, if every node that was up has spoken, is lost or dead, or it has lasted.
    pub(super) fn end_resync(&mut self, now: Timestamp) {
        let Some(Takeover {
            resync: Some(Resync { until, .. }),
            silent,
            ..
        }) = self.takeover.as_deref()
        else {
            return;
        };
        let until = *until;
        let waits = |(node, incarnation): &(NodeIndex, Incarnation)| {
            let process = self.roster.get(*node).leased();
            process.is_some_and(|process| process.incarnation == *incarnation)
        };
        if now < until && silent.iter().any(waits) {
            return;
        }
        self.timers.stop(until, Timer::Takeover);
        let resync = self.takeover.as_mut().and_then(|it| it.resync.take());
        if let Some(resync) = resync {
            self.go_on(now, resync);
        }
    }

    /// Lets what had waited go on.
    fn go_on(&mut self, now: Timestamp, resync: Resync) {
        for id in resync.cancels {
            if let Some(slot) = self.tasks.find(id)
                && self.tasks.get(slot).is_cancelling()
                && waits_here(&self.tasks.get(slot).stage)
            {
                self.settle_cancelled(now, slot);
            }
        }
        for id in resync.doomed {
            if let Some(slot) = self.tasks.find(id)
                && waits_here(&self.tasks.get(slot).stage)
            {
                let failure = self.too_many_losses(slot, OWN_END);
                self.settle(now, slot, Outcome::Failed(failure), CancelAnswer::TooLate);
            }
        }
        for id in resync.deadlines {
            if let Some(slot) = self.tasks.find(id)
                && let Some(deadline) = self.tasks.get(slot).deadline()
            {
                self.timers.start(deadline, Timer::Deadline(id, slot));
            }
        }
    }

    /// Lets a task that is to be cancelled wait for the end of the resync, if a node may have a run
    /// of it of which nothing is known. Returns whether it waits.
    pub(super) fn defer_cancel(&mut self, slot: Slot) -> bool {
        let task = self.tasks.get(slot);
        let waits = task.era == Era::Past && waits_here(&task.stage);
        let resync = self.takeover.as_mut().and_then(|it| it.resync.as_mut());
        match resync.filter(|_| waits) {
            Some(resync) => {
                resync.cancels.push(task.id);
                true
            }
            None => false,
        }
    }

    /// Adopts the runs of which a node tells. What is in the tail, later than what is known of its
    /// task, and not exclusive, may be its task's.
    pub(super) fn adopt(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        told: impl Iterator<Item = ToldRun>,
    ) {
        let Some(takeover) = &self.takeover else {
            return;
        };
        let tail = takeover.tail.clone();
        for run in told.filter(|run| tail.contains(&run.dispatch.get())) {
            let (id, dispatch) = (run.task, run.dispatch);
            let over = self.takeover.as_ref().and_then(|it| it.over.get(&id));
            // What is known to be over is news to nobody.
            if over.is_some_and(|over| dispatch <= over.upto()) {
                continue;
            }
            let Some(slot) = self.tasks.find(id) else {
                continue;
            };
            let task = self.tasks.get(slot);
            // The exclusive are stored before they are sent.
            if task.era != Era::Past || task.is_exclusive() {
                continue;
            }
            let known = task.stage.placed();
            let known = known.or_else(|| task.stage.given_up());
            if known.is_some_and(|run| run.dispatch >= dispatch) {
                continue;
            }
            let run = Run {
                node,
                dispatch,
                since: now,
                started: run.started,
            };
            // Whatever was recorded of the task was over when this run of it was sent.
            match &mut self.tasks.get_mut(slot).stage {
                Stage::Queued { given_up, .. } => *given_up = Some(Box::new(run)),
                Stage::Prefetched { .. } | Stage::Running { .. } => {
                    self.abandon(slot, AttemptResult::Lost);
                    if let (Some(over), Some(recorded)) = (self.over_of(slot), known) {
                        over.superseded(recorded.dispatch);
                    }
                    self.enqueue(slot, Some(run));
                }
                Stage::Later { .. } | Stage::Planned { .. } | Stage::Backoff { .. } => {
                    self.detach(slot);
                    self.enqueue(slot, Some(run));
                }
                Stage::New | Stage::Unstored { .. } | Stage::Held(_) | Stage::Left { .. } => {
                    continue;
                }
            }
            // Unless it is taken back, it is over when its process is.
            let process = self.roster.get_mut(node).process_mut();
            process.lost_tasks.push(id);
            if let Some(journal) = &mut self.journal {
                journal.placed(now, id);
            }
        }
    }

    /// Takes in the end of a run that is not its task's, since another node has told of a later
    /// one. An attempt of the term before that has failed counts all the same.
    pub(super) fn ended_before(&mut self, id: TaskId, dispatch: Dispatch, end: &End) {
        let (Some(takeover), Some(slot)) = (&self.takeover, self.tasks.find(id)) else {
            return;
        };
        let End::Again { failure, .. } = end else {
            return;
        };
        let task = self.tasks.get(slot);
        let nothing = Over::nothing();
        let over = takeover.over.get(&id).unwrap_or(&nothing);
        let is_news = over.is_news(dispatch, &takeover.tail);
        let later = |run: Run| run.dispatch > dispatch;
        let is_later = task.stage.placed().is_none_or(later);
        if !is_news || !is_later || task.era != Era::Past || task.is_exclusive() {
            return;
        }
        self.end_is_known(slot, dispatch);
        let task = self.tasks.get_mut(slot);
        task.attempt_failed();
        task.rare().last_failure = Some((**failure).clone());
        self.task_changed(slot);
    }

    /// Takes in that a node has told all that it holds.
    pub(super) fn has_spoken(&mut self, node: NodeIndex, held: &BTreeMap<Dispatch, HeldRun>) {
        let Some(incarnation) = self.roster.get(node).incarnation() else {
            return;
        };
        let Some(takeover) = &mut self.takeover else {
            return;
        };
        if let Some(recorded) = takeover.recorded.get_mut(&node) {
            *recorded = Recorded::Heard;
        }
        let place = (node, incarnation);
        let Some(at) = takeover.silent.iter().position(|it| *it == place) else {
            return;
        };
        takeover.silent.swap_remove(at);
        // What has settled meanwhile, and whose key waited for this word, may be going on.
        for run in held.values() {
            let orphans = &self.roster.get(node).process().orphans;
            let mut feared = orphans.iter().filter(|(dispatch, orphan)| {
                orphan.task == run.task && orphan.key.is_some() && !held.contains_key(dispatch)
            });
            let Some((&feared, orphan)) = feared.next() else {
                continue;
            };
            let orphan = Orphan {
                limits: orphan.limits.clone(),
                ..Orphan::of_run(run.task, true, orphan.key.clone())
            };
            self.add_orphan(node, run.dispatch, orphan);
            self.remove_orphan(node, feared);
        }
    }

    /// Makes the key of a task of an earlier term, which settles, wait for the processes that have
    /// not spoken: they may have a run of it of which nothing is known.
    pub(super) fn key_waits_for_silent(&mut self, id: TaskId, key: &TaskKey) {
        let silent = self.takeover.as_ref().map(|it| it.silent.clone());
        for (node, incarnation) in silent.unwrap_or_default() {
            // No run has this number.
            let dispatch = Dispatch::new(self.dispatches.take());
            let orphan = Orphan::of_run(id, false, Some(key.clone()));
            self.add_orphan_of(node, incarnation, dispatch, orphan);
        }
    }

    /// Checks which dispatches a node says that it has seen. One that nobody can have given out, by
    /// what the store says, proves that the store was put back.
    pub(super) fn check_seen(&mut self, seen: Dispatch) {
        let Some(takeover) = &mut self.takeover else {
            return;
        };
        let number = seen.get();
        let unknown = (takeover.tail.end..takeover.first).contains(&number)
            || number >= self.dispatches.next();
        if unknown && !takeover.rolled_back {
            takeover.rolled_back = true;
            self.actions
                .push(Action::Note(Box::new(Note::RolledBack { seen })));
        }
    }

    /// Claims the record that the store has of a node that is added, if nobody has named it so far:
    /// what it runs goes on.
    pub(super) fn claim_recorded(
        &mut self,
        now: Timestamp,
        name: &str,
        reach: &Reach,
    ) -> Option<NodeIndex> {
        let there = self.roster.names.get(name).copied();
        let node = there.or_else(|| self.leaving(name))?;
        self.takeover.as_mut()?.recorded.remove(&node)?;
        if self.roster.leaving.remove(&node) {
            let entry = self.roster.get_mut(node);
            entry.state = match entry.state.take_latest_process() {
                Some(process) => State::Member(process),
                None => State::Dead,
            };
            let name = entry.name.clone();
            self.roster.names.insert(name, node);
        }
        let entry = self.roster.get_mut(node);
        if entry.reach != *reach {
            entry.reach = reach.clone();
            // What happens at another address says nothing of the process that was found before.
            for process in entry.processes_mut() {
                process.found_at = None;
                process.joined = true;
            }
            if *reach == Reach::Local && self.roster.get(node).latest_process().is_some() {
                self.retire(now, node, "the node is in the scheduler's own process now");
            }
        }
        self.node_changed(node);
        self.timers.wake_at(node, now);
        Some(node)
    }

    /// Forgets that a node is one that the store knows: it was taken out by hand, or another has
    /// its record.
    pub(super) fn not_recorded(&mut self, node: NodeIndex) {
        if let Some(takeover) = &mut self.takeover {
            takeover.recorded.remove(&node);
        }
    }

    /// Stops dialling a lost node that only the store knows.
    pub(super) fn leave_recorded(&mut self, node: NodeIndex) {
        let takeover = self.takeover.as_mut();
        match takeover.and_then(|it| it.recorded.get_mut(&node)) {
            Some(recorded) if *recorded == Recorded::Unheard => *recorded = Recorded::Left,
            _ => return,
        }
        let entry = self.roster.get_mut(node);
        if matches!(entry.reach, Reach::Dial(_)) && !entry.is_removed() {
            entry.leave();
            let name = entry.name.clone();
            self.roster.names.remove(&name);
            self.roster.leaving.insert(node);
        }
    }

    /// Counts the end of the scheduler's own process as a loss against a task that it ran.
    pub(super) fn lost_with_scheduler(
        &mut self,
        slot: Slot,
        node: NodeIndex,
        incarnation: Incarnation,
        suspects: crate::engine::tasks::Suspects,
    ) {
        let limit = self.config.max_reroutes;
        let lost = (NodeId(node), incarnation);
        let task = self.tasks.get_mut(slot);
        task.may_have_run();
        let id = task.id;
        let rare = task.rare();
        rare.lost_on.add(lost, suspects);
        let limit = rare.max_reroutes.unwrap_or(limit) as usize;
        let doomed = rare.lost_on.counted() > limit;
        self.reclass(slot);
        let resync = self.takeover.as_mut().and_then(|it| it.resync.as_mut());
        if let Some(resync) = resync.filter(|_| doomed) {
            resync.doomed.push(id);
        }
    }
}

/// Returns whether a task waits here for no run that is known.
fn waits_here(stage: &Stage) -> bool {
    matches!(
        stage,
        Stage::Later { .. } | Stage::Planned { .. } | Stage::Backoff { .. } | Stage::Queued { .. }
    )
}
