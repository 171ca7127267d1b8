//! The machine of one node: which task runs on which worker, what is reported, and how long it may
//! go on without hearing from its scheduler.
//!
//! Owns: the workers' occupancy, the assignments that wait, the reports that are kept until they
//! are acknowledged, the node's half of the lease, and when to dial. Does not know: handlers,
//! threads, sockets, clocks.

use std::collections::BTreeMap;

use super::message::{HeldRun, Report, ToScheduler};
use super::{LinkId, Memory, Timestamp, WorkerId, move_behind};
use crate::retry::RetryPolicy;
use crate::task::TaskId;

mod check;
mod contract;
mod dial;
mod ending;
mod greeting;
mod lease;
mod links;
mod machines;
mod pipeline;
mod prefetch;
mod state;
mod tasks;
#[cfg(test)]
mod tests;
mod unacked;
mod withdrawal;
mod workers;

use dial::Dialler;
use lease::OwnLease;
use pipeline::Pipelines;
use prefetch::Prefetched;
use state::{Bond, Course, Current, HeldDispatches, Link, LinkStage, Session};
use tasks::AttemptEnd;
use unacked::{Kept, OutgoingReports};
use workers::Workers;

pub use contract::{Gone, NodeAction, NodeEvent, NodeNote, NodeSpec, Serves};
pub use machines::{MAX_SCHEDULERS, Machines};

/// See the module.
#[derive(Debug)]
pub struct NodeMachine {
    spec: NodeSpec,
    /// The limit that its own process has set; a scheduler's word goes with the scheduler.
    own_workers: u32,
    retry: RetryPolicy,
    workers: Workers,
    prefetched: Prefetched,
    pipelines: Pipelines,
    held: HeldDispatches,
    kept: Kept,
    /// Filled only while the link is up.
    outbox: OutgoingReports,
    session: Option<Session>,
    memory: Memory,
    links: BTreeMap<LinkId, Link>,
    current: Option<Current>,
    lease: OwnLease,
    /// Hellos written so far.
    hellos: u64,
    dialler: Dialler,
    course: Course,
    /// Among how many machines the bounds of the process are divided.
    sharers: usize,
    ready_acks: bool,
    /// The last number of workers out of reach that was told; `None` if that is to be told in any
    /// case, since another handler is to blame.
    reported_stalled: Option<u32>,
    /// The last number of workers that was told to work for others.
    reported_lent: u32,
    /// How many tasks wait at its scheduler for these, by its last word on this link.
    wants: u32,
    blamed: Option<TaskId>,
    actions: Vec<NodeAction>,
}

impl NodeMachine {
    /// Makes a node that holds nothing. If it joins, the first effects dial.
    pub fn new(spec: NodeSpec) -> Self {
        Self {
            own_workers: spec.config.max_workers,
            retry: RetryPolicy::default(),
            workers: Workers::new(spec.config.max_workers),
            prefetched: Prefetched::default(),
            pipelines: Pipelines::default(),
            held: HeldDispatches::default(),
            kept: Kept::default(),
            outbox: OutgoingReports::default(),
            session: None,
            memory: spec.memory,
            links: BTreeMap::new(),
            current: None,
            lease: OwnLease::default(),
            hellos: 0,
            dialler: Dialler::new(&spec.joins),
            course: Course::Serving,
            sharers: 1,
            ready_acks: false,
            reported_stalled: Some(0),
            reported_lent: 0,
            wants: 0,
            blamed: None,
            actions: Vec::new(),
            spec,
        }
    }

    /// Takes note of a fact.
    pub fn handle(&mut self, now: Timestamp, event: NodeEvent) {
        // First of all, so that a process which was frozen gives up what it may no longer run
        // before it does anything else.
        self.expire(now);
        match event {
            NodeEvent::LinkOpened {
                link,
                dialled,
                address,
            } => self.link_opened(now, link, dialled, address),
            NodeEvent::LinkClosed { link, reason } => self.link_closed(now, link, reason),
            NodeEvent::DialFailed { address, reason } => {
                self.dialler.answered(&address);
                let note = NodeNote::DialFailed { address, reason };
                self.actions.push(NodeAction::Note(note));
            }
            NodeEvent::Message { link, message } => self.message(now, link, message),
            NodeEvent::Heard { link } => self.heard(now, link),
            NodeEvent::Ended {
                worker,
                dispatch,
                end,
                ran,
                overrun,
            } => {
                let ended = AttemptEnd {
                    worker,
                    dispatch,
                    end,
                    ran,
                    overrun,
                };
                self.ended(now, ended);
            }
            NodeEvent::Freed { worker, dispatch } => self.freed(now, worker, dispatch),
            NodeEvent::Progress {
                worker,
                dispatch,
                value,
            } => self.told(worker, dispatch, |task| Report::Progress {
                task,
                dispatch,
                value,
            }),
            NodeEvent::Note {
                worker,
                dispatch,
                text,
            } => self.told(worker, dispatch, |task| Report::Note {
                task,
                dispatch,
                text,
            }),
            NodeEvent::Unstarted { worker, assignment } => self.unstarted(now, worker, assignment),
            NodeEvent::NoThread { worker, assignment } => {
                self.no_thread(now, worker, assignment);
            }
            NodeEvent::Stalled { workers } => self.stalled(&workers),
            NodeEvent::Resumed { workers } => self.resumed(&workers),
            NodeEvent::Workers(workers) => {
                self.own_workers = workers;
                self.workers.set_limit(workers);
            }
            NodeEvent::Drain => self.drain(Gone::Drained),
            NodeEvent::Stop => self.stop(now),
        }
        // Whatever it was, it may have freed a worker or brought one something to do.
        self.pump(now);
    }

    /// Starts all that can be started and appends the actions to perform, in order.
    pub fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<NodeAction>) {
        self.expire(now);
        self.pump(now);
        // After all free workers have had what waits.
        self.adjust_pipelines(now);
        self.sweep(now);
        // Before the reports: among these are a hello and its holdings, which the reports follow.
        move_behind(&mut self.actions, actions);
        self.tell_workers();
        if let Some(Current {
            link,
            stage: LinkStage::Up,
        }) = self.current
        {
            // Only an acknowledgement lets it start again, and the answer to a beat brings one.
            if !self.prefetched.is_empty() && self.workers.has_free() && self.keeps_too_much() {
                self.lease.hurry(now);
            }
            if let Some(beat) = self.lease.beat(now) {
                let message = ToScheduler::Beat(beat);
                actions.push(NodeAction::Send { link, message });
            }
            self.outbox.flush(link, actions);
        }
        // After the reports, so that a goodbye is the last word on its link.
        self.finish(now);
        self.dial(now);
        move_behind(&mut self.actions, actions);
    }

    /// Returns when the effects are to be taken again at the latest.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.is_gone() {
            return None;
        }
        let idle = self.idle_links().map(|(_, due)| due).min();
        [
            self.lease.next_beat(),
            self.lease.due(),
            self.dial_due(),
            self.hopeless(),
            self.pipelines.due(),
            idle,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Counts the tasks that occupy a worker now, overruns among them.
    pub fn running(&self) -> usize {
        self.workers.busy() as usize
    }

    /// Returns the workers that are occupied now, in order.
    pub fn occupied(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.iter().map(|(worker, _)| worker)
    }

    /// Returns what it holds for the scheduler that it serves: runs in order of their workers, then
    /// what is pipelined to workers, then what waits, in order.
    pub fn holds(&self) -> Vec<HeldRun> {
        self.held_runs()
    }

    /// Returns whether it has told that it is [`NodeAction::Gone`]. It serves nobody from then on.
    pub fn is_gone(&self) -> bool {
        self.course == Course::Gone
    }

    fn stalled(&mut self, workers: &[WorkerId]) {
        self.workers.set_stalled(workers, true);
        self.blamed = self.workers.blamed(workers);
        self.reported_stalled = None;
        let task = self.blamed.map(|task| (task, self.kind_of(task)));
        let note = NodeNote::Stalled { task };
        self.actions.push(NodeAction::Note(note));
    }

    /// Takes note that these workers share a thread that the run of another scheduler blocks.
    fn stalled_by_others(&mut self, workers: &[WorkerId]) {
        self.workers.set_stalled(workers, true);
        self.reported_stalled = None;
    }

    /// Returns the kind of a task that runs here, for the log.
    fn kind_of(&self, task: TaskId) -> String {
        let mut runs = self.workers.iter();
        let run = runs.find(|(_, run)| run.task == task);
        let kind = run.and_then(|(_, run)| self.spec.kinds.get(usize::from(run.kind)));
        kind.map_or_else(String::new, |kind| kind.kind.clone())
    }

    fn resumed(&mut self, workers: &[WorkerId]) {
        self.workers.set_stalled(workers, false);
        self.blamed = None;
        self.reported_stalled = None;
    }

    fn is_current(&self, link: LinkId) -> bool {
        self.current.is_some_and(|current| current.link == link)
    }

    fn is_up(&self) -> bool {
        self.current
            .is_some_and(|current| current.stage == LinkStage::Up)
    }

    fn is_leaving(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.bond >= Bond::Ending)
    }

    fn takes_nothing(&self) -> bool {
        self.course != Course::Serving || self.is_leaving()
    }

    fn send(&mut self, link: LinkId, message: ToScheduler) {
        self.actions.push(NodeAction::Send { link, message });
    }
}
