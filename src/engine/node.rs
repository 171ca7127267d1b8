//! The machine of one node: which task runs on which worker, what is reported, and how long it may go
//! on without hearing from its scheduler.
//!
//! Owns: the workers' occupancy, the assignments that wait, the reports that are kept until they are
//! acknowledged, the node's half of the lease, and when to dial. Does not know: handlers, threads,
//! sockets, clocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::message::{Assignment, End, HeldRun, KindOffer, ToNode, ToScheduler};
use super::{Epoch, LinkId, Timestamp, WorkerId};
use crate::config::NodeConfig;
use crate::error::LinkRefusal;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::task::{Dispatch, Labels, TaskId};

mod ahead;
mod chain;
mod check;
mod dial;
mod ending;
mod kept;
mod lease;
mod links;
mod state;
mod tasks;
#[cfg(test)]
mod tests;
mod workers;

use ahead::Ahead;
use chain::Chains;
use dial::Dialler;
use kept::{Kept, Outbox};
use lease::Lease;
use state::{Current, Held, Link, Session};
use tasks::Ended;
use workers::Workers;

/// What a node is, from its start to its end.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name.
    pub name: Arc<str>,
    /// The life of its process.
    pub epoch: Epoch,
    /// What it offers; assignments name a kind by its index here.
    pub kinds: Vec<KindOffer>,
    /// The labels it bears.
    pub labels: Labels,
    /// Its bounds.
    pub config: NodeConfig,
    /// Where its process can be probed, if it dials by itself.
    pub probe: Option<String>,
    /// Schedulers to dial, for ever. Empty: it waits to be dialled.
    pub joins: Vec<String>,
    /// The largest body that its links take, in bytes; `None` where there is no such bound.
    pub max_frame: Option<u64>,
    /// Whether its one link is inside the process: then it never breaks, needs no beats and no lease, and
    /// reports need not be kept.
    pub local: bool,
}

/// A fact, for a [`NodeMachine`].
#[derive(Debug)]
pub enum NodeEvent {
    /// A proved connection is open.
    LinkOpened {
        /// The connection.
        link: LinkId,
        /// The address that was dialled; `None` if the scheduler dialled.
        dialled: Option<String>,
    },
    /// A connection is closed, by whichever side.
    LinkClosed {
        /// The connection.
        link: LinkId,
        /// What was seen, in words.
        reason: String,
    },
    /// A dial did not lead to a link.
    DialFailed {
        /// The address.
        address: String,
        /// What was seen, in words.
        reason: String,
    },
    /// A message has arrived.
    Message {
        /// On this connection.
        link: LinkId,
        /// The message.
        message: ToNode,
    },
    /// A part of a message has arrived: a proof of life.
    Heard {
        /// On this connection.
        link: LinkId,
    },
    /// An attempt has ended.
    Ended {
        /// The worker that ran it.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
        /// The worker's verdict.
        end: End,
        /// How long it ran.
        ran: Duration,
        /// Whether the handler goes on and keeps the worker until [`NodeEvent::Freed`].
        overrun: bool,
    },
    /// An overrun handler has really ended.
    Freed {
        /// The worker.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
    },
    /// A handler told its progress.
    Progress {
        /// The worker.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
        /// The encoded value.
        value: Payload,
    },
    /// A started assignment was taken back before its worker had begun it: from a stalled thread, or by
    /// [`NodeAction::TakeBack`]. It is told before the end of anything that was started there behind it.
    Unstarted {
        /// The worker.
        worker: WorkerId,
        /// The assignment, as it was started.
        assignment: Assignment,
    },
    /// These workers' thread is blocked by a handler.
    Stalled {
        /// All workers of that thread.
        workers: Vec<WorkerId>,
    },
    /// These workers' thread answers again.
    Resumed {
        /// All workers of that thread.
        workers: Vec<WorkerId>,
    },
    /// From now on run at most so many at once; from the node's own handle.
    Workers(u32),
    /// Finish what runs, take nothing new, then say goodbye; from the node's own handle or a signal.
    Drain,
    /// Stop at once: abort what can be aborted, report it as [`End::Dropped`], say goodbye.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done, from a [`NodeMachine`].
#[derive(Debug)]
pub enum NodeAction {
    /// Send a message. If the link is closed already, drop it.
    Send {
        /// On this connection.
        link: LinkId,
        /// The message.
        message: ToScheduler,
    },
    /// Close a connection, after what was sent on it before.
    Close {
        /// The connection.
        link: LinkId,
        /// Why, in words, for the log.
        reason: String,
    },
    /// Dial a scheduler; answer with [`NodeEvent::LinkOpened`] or [`NodeEvent::DialFailed`], once. At
    /// most one dial per address is under way.
    Dial {
        /// Where.
        address: String,
    },
    /// Run an assignment on a worker. If that is occupied, the worker begins it when its run has really
    /// ended, in the order of these actions, unless it is taken back before.
    Start {
        /// The worker.
        worker: WorkerId,
        /// What to run.
        assignment: Assignment,
        /// The policy that its verdict follows.
        retry: RetryPolicy,
    },
    /// Do not begin an assignment that was started on an occupied worker. Answer with
    /// [`NodeEvent::Unstarted`] if it had not begun, and else not at all: its own end tells of it.
    TakeBack {
        /// The worker.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
    },
    /// Stop a run: drop its future, or tell a blocking handler that it is cancelled. The worker answers
    /// with [`NodeEvent::Ended`] (and `End::Stopped`), unless its own verdict is under way already.
    Stop {
        /// The worker.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
    },
    /// The node has nothing more to do and its process may end (or, in a process that listens on, wait
    /// for the next scheduler).
    Gone(Gone),
    /// Something an operator wants to read.
    Note(NodeNote),
}

/// Why a node has nothing more to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was drained or stopped, by its own process.
    Drained,
    /// Its scheduler told it to drain or to leave.
    Dismissed,
    /// Another process has taken its name for good.
    Replaced,
}

/// Something an operator wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeNote {
    /// The link to this scheduler is up.
    Serving {
        /// Its name.
        scheduler: String,
    },
    /// The link is broken; the node works on.
    LinkLost {
        /// What was seen.
        reason: String,
    },
    /// The lease has ended, or nearly; these runs were stopped.
    Dropped {
        /// How many.
        runs: usize,
    },
    /// A link was refused, by either side.
    Refused {
        /// Why.
        reason: LinkRefusal,
    },
    /// A dial failed.
    DialFailed {
        /// The address.
        address: String,
        /// What was seen.
        reason: String,
    },
    /// A handler blocks its thread.
    Stalled {
        /// Its task.
        task: Option<TaskId>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct NodeMachine {
    spec: NodeSpec,
    /// The limit that its own process has set; a scheduler's word goes with the scheduler.
    own_workers: u32,
    retry: RetryPolicy,
    workers: Workers,
    ahead: Ahead,
    chains: Chains,
    held: Held,
    kept: Kept,
    /// Filled only while the link is up.
    outbox: Outbox,
    session: Option<Session>,
    links: BTreeMap<LinkId, Link>,
    current: Option<Current>,
    lease: Lease,
    /// Hellos written so far.
    hellos: u64,
    dialler: Dialler,
    /// Set once it takes nothing new, for good.
    ending: Option<Gone>,
    gone: bool,
    ready_owed: bool,
    /// The last number of stalled workers that was told; `None` if that is to be told in any case.
    told_stalled: Option<u32>,
    stall_news: bool,
    blamed: Option<TaskId>,
    actions: Vec<NodeAction>,
}

impl NodeMachine {
    /// A node that holds nothing. If it joins, the first effects dial.
    pub fn new(spec: NodeSpec, now: Timestamp) -> Self {
        let _ = now;
        Self {
            own_workers: spec.config.max_workers,
            retry: RetryPolicy::default(),
            workers: Workers::new(spec.config.max_workers),
            ahead: Ahead::default(),
            chains: Chains::default(),
            held: Held::default(),
            kept: Kept::default(),
            outbox: Outbox::default(),
            session: None,
            links: BTreeMap::new(),
            current: None,
            lease: Lease::default(),
            hellos: 0,
            dialler: Dialler::new(&spec.joins),
            ending: None,
            gone: false,
            ready_owed: false,
            told_stalled: Some(0),
            stall_news: false,
            blamed: None,
            actions: Vec::new(),
            spec,
        }
    }

    /// Takes note of a fact.
    pub fn handle(&mut self, now: Timestamp, event: NodeEvent) {
        // First of all, so that a process which was frozen gives up what it may no longer run before it
        // does anything else.
        self.expire(now);
        match event {
            NodeEvent::LinkOpened { link, dialled } => self.link_opened(now, link, dialled),
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
                let ended = Ended {
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
            } => self.progress(worker, dispatch, value),
            NodeEvent::Unstarted { worker, assignment } => self.unstarted(now, worker, assignment),
            NodeEvent::Stalled { workers } => self.stalled(&workers),
            NodeEvent::Resumed { workers } => self.resumed(&workers),
            NodeEvent::Workers(workers) => {
                self.own_workers = workers;
                self.workers.set_limit(workers);
            }
            NodeEvent::Drain => self.drain(Gone::Drained),
            NodeEvent::Stop => self.stop(now),
            NodeEvent::Tick => {}
        }
        self.pump(now);
    }

    /// Starts all that can be started and appends the actions to perform, in order.
    pub fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<NodeAction>) {
        self.expire(now);
        self.pump(now);
        self.chain(now);
        self.sweep(now);
        actions.append(&mut self.actions);
        self.tell_workers();
        if let Some(Current { link, up: true, .. }) = self.current {
            if !self.ahead.is_empty() && self.workers.has_free() && self.keeps_too_much() {
                self.lease.hurry(now);
            }
            if let Some(beat) = self.lease.beat(now) {
                let message = ToScheduler::Beat(beat);
                actions.push(NodeAction::Send { link, message });
            }
            self.outbox.flush(link, actions);
        }
        self.finish(now);
        self.dial(now);
        actions.append(&mut self.actions);
    }

    /// When a [`NodeEvent::Tick`] is due at the latest.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.gone {
            return None;
        }
        let idle = self.idle_links().map(|(_, due)| due).min();
        [
            self.lease.next_beat(),
            self.lease.due(),
            self.dial_due(),
            self.hopeless(),
            self.chains.due(),
            idle,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Tasks that occupy a worker now, overruns among them.
    pub fn running(&self) -> usize {
        self.workers.busy() as usize
    }

    /// What it holds for the scheduler that it serves: runs in order of their workers, then what is chained to
    /// workers, then what waits, in order.
    pub fn holds(&self) -> Vec<HeldRun> {
        self.held_runs()
    }

    /// Whether it has told that it is [`NodeAction::Gone`]. It serves nobody from then on.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    fn stalled(&mut self, workers: &[WorkerId]) {
        self.workers.set_stalled(workers, true);
        self.blamed = self.workers.blamed(workers);
        self.stall_news = true;
        let note = NodeNote::Stalled { task: self.blamed };
        self.actions.push(NodeAction::Note(note));
    }

    fn resumed(&mut self, workers: &[WorkerId]) {
        self.workers.set_stalled(workers, false);
        self.blamed = None;
        self.stall_news = true;
    }

    fn is_current(&self, link: LinkId) -> bool {
        self.current.is_some_and(|current| current.link == link)
    }

    fn is_up(&self) -> bool {
        self.current.is_some_and(|current| current.up)
    }

    fn is_leaving(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.leaving)
    }

    fn takes_nothing(&self) -> bool {
        self.ending.is_some() || self.is_leaving()
    }

    fn send(&mut self, link: LinkId, message: ToScheduler) {
        self.actions.push(NodeAction::Send { link, message });
    }
}
