//! Pipelined starts: assignments that a worker was given beside the run it has, so that short runs
//! follow one another without a word to the node between them.
//!
//! Owns: how many a worker is given, in which order they succeed, and how they are taken back. Does
//! not know: how a worker keeps them, links, or what is reported of a run.
//!
//! A pipelined assignment has not started, for any purpose but one: only its worker can say that it
//! will not start there after all.
//!
//! This serves the bench rows `local` (5.5 times as many tasks a second as without), `local-many`
//! (7 times), `remote-1` (3.6 times) and `pending-1M` (9 times), measured with and without in one
//! run. [`MAX_PIPELINE`] = 0 turns it off.

use std::collections::VecDeque;
use std::time::Duration;

use super::lease::LeaseStage;
use super::prefetch::WaitingAssignment;
use super::state::Whereabouts;
use super::workers::{Known, Owner, RunState, WorkerRun};
use super::{NodeAction, NodeMachine};
use crate::engine::message::{Assignment, Report};
use crate::engine::{Timestamp, WorkerId};
use crate::task::Dispatch;

/// Runs that take longer on average are not pipelined: to ask for the next then costs little beside
/// the run.
const SHORT_RUN: Duration = Duration::from_micros(50);
/// What a pipeline may take in all on average. It bounds how much later than a free worker's a
/// pipelined start may be, and is several times what two wake-ups between threads cost.
const PIPELINE_SPAN: Duration = Duration::from_micros(300);
/// The most that one pipeline holds, however short the runs: far more gain nothing, and each may
/// have to be taken back. With 0 nothing is pipelined.
const MAX_PIPELINE: usize = 64;
/// A pipeline counts on short runs. What is behind a run that has lasted this long goes elsewhere.
/// Well above [`PIPELINE_SPAN`], since a worker tells its ends in batches.
const LONG_RUN: Duration = Duration::from_millis(1);
/// The least that a run is counted at, below what clocks can tell.
const SHORTEST_RUN: u64 = 100;

/// Why a pipelined assignment is taken back; of two reasons the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The assignment is to wait at its place among the others.
    Requeue,
    /// The assignment is to go back to the scheduler; if it has begun, it goes on.
    Return,
    /// The assignment is to go back to the scheduler; if it has begun, it is dropped: the lease or
    /// the node ends.
    Drop,
    /// The scheduler has cancelled the assignment.
    Cancel,
}

/// An assignment in a pipeline.
#[derive(Debug)]
pub(super) struct Pipelined {
    /// What it will be on its worker.
    pub(super) run: WorkerRun,
    bytes: u64,
    /// Set once it was asked back.
    pub(super) why: Option<Why>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    /// The pipelines by worker; grows as workers are first given one.
    lists: Vec<VecDeque<Pipelined>>,
    len: usize,
    bytes: u64,
    /// Moving average of a run, in nanoseconds; 0 before the first.
    average: u64,
    /// When a pipeline is to be looked at, if nothing happens until then.
    due: Option<Timestamp>,
    /// Kept for its allocation.
    fit: Vec<WorkerId>,
}

impl Pipelines {
    /// Learns from a run.
    pub(super) fn learn(&mut self, ran: Duration) {
        let most = u64::MAX / 16;
        let ran = u64::try_from(ran.as_nanos()).unwrap_or(most);
        let ran = ran.clamp(SHORTEST_RUN, most);
        self.average = match self.average {
            0 => ran,
            old => old - old / 8 + ran / 8,
        };
    }

    /// Returns how many may be behind one run.
    fn depth(&self) -> usize {
        let average = Duration::from_nanos(self.average);
        if average.is_zero() || average > SHORT_RUN {
            return 0;
        }
        let depth = PIPELINE_SPAN.as_nanos() / average.as_nanos();
        usize::try_from(depth).map_or(MAX_PIPELINE, |depth| depth.min(MAX_PIPELINE))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    #[inline]
    fn len_of(&self, worker: WorkerId) -> usize {
        self.lists.get(worker.0 as usize).map_or(0, VecDeque::len)
    }

    /// Returns whether one more may follow. Behind one that was asked back none may: that one waits
    /// at its place again, and would come after what it goes before (G6).
    #[inline]
    fn takes_more(&self, worker: WorkerId, depth: usize) -> bool {
        self.lists.get(worker.0 as usize).is_none_or(|list| {
            list.len() < depth && list.back().is_none_or(|last| last.why.is_none())
        })
    }

    #[inline]
    fn push(&mut self, worker: WorkerId, run: WorkerRun, bytes: u64) {
        let index = worker.0 as usize;
        if self.lists.len() <= index {
            self.lists.resize_with(index + 1, VecDeque::new);
        }
        self.len += 1;
        self.bytes += bytes;
        let why = None;
        self.lists[index].push_back(Pipelined { run, bytes, why });
    }

    #[inline]
    fn pop(&mut self, worker: WorkerId) -> Option<Pipelined> {
        let pipelined = self.lists.get_mut(worker.0 as usize)?.pop_front()?;
        self.len -= 1;
        self.bytes -= pipelined.bytes;
        Some(pipelined)
    }

    fn find(&mut self, worker: WorkerId, dispatch: Dispatch) -> Option<&mut Pipelined> {
        let list = self.lists.get_mut(worker.0 as usize)?;
        list.iter_mut()
            .find(|pipelined| pipelined.run.dispatch == dispatch)
    }

    fn remove(&mut self, worker: WorkerId, dispatch: Dispatch) -> Option<Pipelined> {
        let list = self.lists.get_mut(worker.0 as usize)?;
        let place = list
            .iter()
            .position(|pipelined| pipelined.run.dispatch == dispatch)?;
        let pipelined = list.remove(place)?;
        self.len -= 1;
        self.bytes -= pipelined.bytes;
        Some(pipelined)
    }

    /// Returns all, worker by worker, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &Pipelined)> {
        let lists = match self.len {
            0 => &[],
            _ => self.lists.as_slice(),
        };
        lists.iter().zip(0..).flat_map(|(list, worker)| {
            list.iter()
                .map(move |pipelined| (WorkerId(worker), pipelined))
        })
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut Pipelined)> {
        let lists = match self.len {
            0 => &mut [],
            _ => self.lists.as_mut_slice(),
        };
        lists.iter_mut().zip(0..).flat_map(|(list, worker)| {
            list.iter_mut()
                .map(move |pipelined| (WorkerId(worker), pipelined))
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let len = self.lists.iter().map(VecDeque::len).sum::<usize>();
        let bytes = self
            .iter()
            .map(|(_, pipelined)| pipelined.bytes)
            .sum::<u64>();
        if (len, bytes) != (self.len, self.bytes) {
            return Err(format!(
                "{} pipelined assignments with {} bytes are counted, {len} with {bytes} are",
                self.len, self.bytes
            ));
        }
        match self.lists.iter().map(VecDeque::len).max() {
            Some(longest) if longest > MAX_PIPELINE => Err(format!("a pipeline holds {longest}")),
            _ => Ok(()),
        }
    }
}

impl NodeMachine {
    /// Takes back what is behind a run that is not short, and gives workers more of what waits.
    pub(super) fn adjust_pipelines(&mut self, now: Timestamp) {
        self.shorten_pipelines(now);
        self.lengthen_pipelines(now);
        let lists = self.pipelines.lists.iter().zip(0..);
        let unasked = lists.filter(|(list, _)| list.iter().rev().any(|next| next.why.is_none()));
        let started =
            unasked.filter_map(|(_, worker)| Some(self.workers.run(WorkerId(worker))?.started));
        self.pipelines.due = match self.pipelines.len {
            0 => None,
            _ => started.min().map(|started| started + LONG_RUN),
        };
    }

    /// Returns whether a worker may have a pipeline.
    fn may_pipeline(&self, now: Timestamp, worker: WorkerId) -> bool {
        // What is behind a run must have its turn soon. One that was told to stop, that overruns,
        // that blocks, or that an earlier scheduler left behind may hold its worker for long.
        self.workers.is_usable(worker)
            && self.workers.run(worker).is_some_and(|run| {
                run.owner == Owner::Session
                    && run.state.goes_on()
                    && !run.blocking
                    && now.since(run.started) < LONG_RUN
            })
    }

    fn shorten_pipelines(&mut self, now: Timestamp) {
        if self.pipelines.len == 0 {
            return;
        }
        // A node that keeps too much starts nothing new, and a pipelined start would be new.
        // Nor does one have what another scheduler should.
        let full = self.keeps_too_much() || self.workers.is_over_share();
        for index in 0..self.pipelines.lists.len() {
            // No larger than the largest worker's number.
            let worker = WorkerId(index as u32);
            if self.pipelines.len_of(worker) > 0 && (full || !self.may_pipeline(now, worker)) {
                for pipelined in &mut self.pipelines.lists[index] {
                    ask_back(&mut self.actions, worker, pipelined, Why::Requeue);
                }
            }
        }
    }

    fn lengthen_pipelines(&mut self, now: Timestamp) {
        // While a worker is free, `pump` gives it what waits. Once the lease is about to end
        // nothing is pipelined: all of it would soon be asked back.
        let depth = self.pipelines.depth();
        if depth == 0
            || self.prefetched.is_empty()
            || self.workers.has_free()
            || self.workers.is_over_share()
            || self.takes_nothing()
            || self.keeps_too_much()
            || self.lease.stage() != LeaseStage::Whole
        {
            return;
        }
        let mut fit = std::mem::take(&mut self.pipelines.fit);
        fit.extend(self.workers.usable().filter(|&worker| {
            self.pipelines.takes_more(worker, depth) && self.may_pipeline(now, worker)
        }));
        self.spread(depth, &fit);
        fit.clear();
        self.pipelines.fit = fit;
    }

    /// Gives each of these workers one after the other the next that waits, the shortest pipelines
    /// first.
    fn spread(&mut self, depth: usize, fit: &[WorkerId]) {
        let lengths = fit.iter().map(|&worker| self.pipelines.len_of(worker));
        let shortest = lengths.min().unwrap_or(depth);
        for length in shortest..depth {
            for &worker in fit {
                if self.pipelines.len_of(worker) <= length && !self.pipeline_next(worker) {
                    return;
                }
            }
        }
    }

    /// Pipelines the first task that waits, if it may be.
    #[inline]
    fn pipeline_next(&mut self, worker: WorkerId) -> bool {
        // One that its scheduler believes to run must not wait in a pipeline, which counts as
        // waiting. An exclusive one must stop for certain at four fifths of the lease, and of a
        // pipelined one the node does not know whether it has begun. A blocking one could hold up
        // what is pipelined behind it, for nothing can stop it. None of these is passed over: that
        // would break the order (G6).
        let may = self.prefetched.first().is_some_and(|waiting| {
            let assignment = &waiting.assignment;
            !waiting.start_reported && !assignment.is_exclusive() && !self.blocks(assignment)
        });
        if !may {
            return false;
        }
        let Some((spot, WaitingAssignment { assignment, .. })) = self.prefetched.pop() else {
            return false;
        };
        let mut run = self.run_of(&assignment);
        run.spot = Some(spot);
        let bytes = assignment.args.len() as u64;
        self.held.insert(run.dispatch, Whereabouts::Worker(worker));
        self.pipelines.push(worker, run, bytes);
        let retry = self.retry_of(&assignment);
        self.actions.push(NodeAction::Start {
            worker,
            assignment,
            retry,
        });
        true
    }

    /// Gives a worker, which a run has left, to the next of its pipeline, or frees it. Whether the
    /// next was asked back makes no difference until the worker says that it did not start.
    #[inline]
    pub(super) fn succeed(&mut self, now: Timestamp, worker: WorkerId) {
        let Some(Pipelined { mut run, why, .. }) = self.pipelines.pop(worker) else {
            self.workers.free(worker);
            return;
        };
        let (task, dispatch) = (run.task, run.dispatch);
        // The worker has begun it, or is about to give it back. The machine takes it for begun, so
        // that the worker is never thought free while something may run there (G4).
        run.started = now;
        if run.owner == Owner::Session {
            if self.is_up() {
                let position = self.outbox.push(Report::Started { task, dispatch });
                run.known = Known::Announced(position);
            }
            match why {
                Some(Why::Cancel) => run.state = RunState::Cancelled,
                Some(Why::Drop) => run.state = RunState::Dropping,
                // If it has begun, it goes on here.
                Some(Why::Return) => run.state = RunState::Retracted,
                Some(Why::Requeue) | None => {}
            }
        } else {
            // Its scheduler has let it go: if it has begun, it is stopped like the run before it.
            run.state = RunState::Cancelled;
        }
        if !run.state.goes_on() {
            self.actions.push(NodeAction::Stop { worker, dispatch });
        }
        self.workers.replace(worker, run);
    }

    /// Asks one pipelined assignment back.
    pub(super) fn ask_back(&mut self, worker: WorkerId, dispatch: Dispatch, why: Why) {
        if let Some(pipelined) = self.pipelines.find(worker, dispatch) {
            ask_back(&mut self.actions, worker, pipelined, why);
        }
    }

    /// Asks all back that are pipelined for the scheduler which is served.
    pub(super) fn ask_all_back(&mut self, why: Why) {
        for (worker, pipelined) in self.pipelines.iter_mut() {
            ask_back(&mut self.actions, worker, pipelined, why);
        }
    }

    /// Asks all back; nothing is said of them any more.
    pub(super) fn discard_pipelines(&mut self, owner: Owner) {
        for (worker, pipelined) in self.pipelines.iter_mut() {
            ask_back(&mut self.actions, worker, pipelined, Why::Cancel);
            if pipelined.run.owner != Owner::Nobody {
                pipelined.run.owner = owner;
            }
        }
    }

    /// Takes a pipelined assignment back that its thread has not begun. Returns the assignment if
    /// it was not pipelined.
    pub(super) fn unpipelined(
        &mut self,
        worker: WorkerId,
        assignment: Assignment,
    ) -> Option<Assignment> {
        let dispatch = assignment.dispatch;
        let Some(pipelined) = self.pipelines.remove(worker, dispatch) else {
            return Some(assignment);
        };
        if pipelined.run.owner != Owner::Session {
            return None;
        }
        self.held.remove(&dispatch);
        // Without a reason of its own it comes from a stalled thread, and waits again like one
        // asked back to do so, and so does what is pipelined behind it. What may not wait any more,
        // for whatever has happened since, goes to the scheduler.
        if pipelined.why.is_none() {
            for behind in &mut self.pipelines.lists[worker.0 as usize] {
                ask_back(&mut self.actions, worker, behind, Why::Requeue);
            }
        }
        match (pipelined.why, pipelined.run.spot) {
            (Some(Why::Cancel), _) => self.never_started(assignment.task, dispatch),
            (Some(Why::Requeue) | None, Some(spot)) if self.may_wait(&assignment) => {
                let start_reported = false;
                self.prefetched.put_back(
                    spot,
                    WaitingAssignment {
                        assignment,
                        start_reported,
                    },
                );
                self.held.insert(dispatch, Whereabouts::Prefetched(spot));
            }
            _ => self.give_back(assignment.task, dispatch),
        }
        None
    }

    pub(super) fn check_pipelines(&self) -> Result<(), String> {
        self.pipelines.check()?;
        for (worker, Pipelined { run, why, .. }) in self.pipelines.iter() {
            let dispatch = run.dispatch;
            if self.workers.run(worker).is_none() {
                return Err(format!(
                    "G5: {dispatch} is pipelined to {worker}, which is free"
                ));
            }
            if run.exclusive || run.blocking {
                return Err(format!(
                    "{dispatch} is exclusive or blocks, and is pipelined"
                ));
            }
            let given_up = self.takes_nothing() || self.lease.stage() == LeaseStage::Ended;
            if why.is_none() && (given_up || run.owner != Owner::Session) {
                return Err(format!("{dispatch} is pipelined and was not asked back"));
            }
            if run.owner == Owner::Session
                && self.held.get(&dispatch) != Some(&Whereabouts::Worker(worker))
            {
                return Err(format!(
                    "{dispatch} is pipelined to {worker} and is not found"
                ));
            }
        }
        Ok(())
    }
}

fn ask_back(actions: &mut Vec<NodeAction>, worker: WorkerId, pipelined: &mut Pipelined, why: Why) {
    if pipelined.why.is_none() {
        let dispatch = pipelined.run.dispatch;
        actions.push(NodeAction::TakeBack { worker, dispatch });
    }
    pipelined.why = pipelined.why.max(Some(why));
}
