//! What a [`NodeMachine`](super::NodeMachine) is made of, what it is told, and what it wants done.
//!
//! Owns: the values that cross its border. Does not know: what follows from them.

use std::sync::Arc;
use std::time::Duration;

use crate::config::NodeConfig;
use crate::engine::message::{Assignment, End, KindOffer, ToNode, ToScheduler};
use crate::engine::{Incarnation, LinkId, Memory, WorkerId};
use crate::error::LinkRefusal;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::task::{Dispatch, Labels, TaskId};

/// What a node is, from its start to its end.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// The name.
    pub name: Arc<str>,
    /// The incarnation of its process.
    pub incarnation: Incarnation,
    /// The memory with which it begins: a random number.
    pub memory: Memory,
    /// What it offers; assignments name a kind by its index here.
    pub kinds: Vec<KindOffer>,
    /// The labels it bears.
    pub labels: Labels,
    /// The bounds.
    pub config: NodeConfig,
    /// Where its process can be probed, if it dials by itself: addresses at which it listens.
    pub probes: Vec<String>,
    /// Whether a refusal there means that it is dead: by its own word, and else by the addresses
    /// that both sides of a link see.
    pub refusal_means_dead: Option<bool>,
    /// Schedulers to dial, for ever. Empty: it waits to be dialled.
    pub joins: Vec<String>,
    /// Whether the end of its scheduler is its own, if it joined.
    pub end_with_scheduler: bool,
    /// The largest body that its links take, in bytes; `None` where there is no such bound.
    pub max_frame: Option<u64>,
    /// Whether its one link is inside the process: then it never breaks, needs no beats and no
    /// lease, and reports need not be kept.
    pub local: bool,
}

/// Which schedulers a process serves.
#[derive(Clone, Debug, Default)]
pub struct Serves {
    /// Only these, by name; anybody if empty.
    pub only: Vec<String>,
    /// How many tasks may run at once for all of them; no more than for each if `None`.
    pub max_workers: Option<u32>,
}

impl NodeSpec {
    /// Returns the port at which a scheduler that sees this end of a link can probe the process, if
    /// one is open there: at the same host, or at all of the same family.
    pub(super) fn probe_beside(&self, address: &str) -> Option<String> {
        if self.refusal_means_dead == Some(false) {
            return None;
        }
        let host = address.rsplit_once(':').map(|(host, _)| host);
        let of_all = match host {
            Some(host) if host.starts_with('[') => "[::]",
            _ => "0.0.0.0",
        };
        let covers = |listens| host.is_none_or(|host| [host, of_all].contains(&listens));
        let ports = self.probes.iter().filter_map(|it| it.rsplit_once(':'));
        let mut ports = ports.filter(|(listens, _)| covers(listens));
        ports.next().map(|(_, port)| port.to_owned())
    }
}

/// A fact, for a [`NodeMachine`](super::NodeMachine).
#[derive(Debug)]
pub enum NodeEvent {
    /// A proved connection is open.
    LinkOpened {
        /// The connection.
        link: LinkId,
        /// The address that was dialled; `None` if the scheduler dialled.
        dialled: Option<String>,
        /// The address of this end, as its socket has it; empty within a process.
        address: String,
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
    /// A handler noted something.
    Note {
        /// The worker.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
        /// At most [`MAX_NOTE_BYTES`](crate::engine::message::MAX_NOTE_BYTES).
        text: Box<str>,
    },
    /// A started assignment was taken back before its worker had begun it: from a stalled thread,
    /// or by [`NodeAction::TakeBack`]. It is told before the end of anything that was started there
    /// behind it.
    Unstarted {
        /// The worker.
        worker: WorkerId,
        /// The assignment, as it was started.
        assignment: Assignment,
    },
    /// An assignment was not begun: its handler blocks, and no thread could be started for it. Its
    /// worker is out of use until [`NodeEvent::Resumed`].
    NoThread {
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
    /// These workers' thread answers again, or a thread may be started for them again.
    Resumed {
        /// All workers of that thread.
        workers: Vec<WorkerId>,
    },
    /// From now on run at most so many at once; from the node's own handle.
    Workers(u32),
    /// Finish what runs, take nothing new, then say goodbye; from the node's own handle or a
    /// signal.
    Drain,
    /// Stop at once: abort what can be aborted, report it as [`End::Dropped`], say goodbye.
    Stop,
}

/// What is to be done, from a [`NodeMachine`](super::NodeMachine).
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
    /// Dial a scheduler; answer with [`NodeEvent::LinkOpened`] or [`NodeEvent::DialFailed`], once.
    /// At most one dial per address is under way.
    Dial {
        /// Where.
        address: String,
        /// How long the dial and its proof may take at most, by the lease. `None` leaves it to the
        /// driver, before any scheduler has said what its lease is.
        within: Option<Duration>,
    },
    /// Run an assignment on a worker. If that is occupied, the worker begins it when its run has
    /// really ended, in the order of these actions, unless it is taken back before.
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
    /// Stop a run: drop its future, or tell a blocking handler that it is cancelled. The worker
    /// answers with [`NodeEvent::Ended`] (and `End::Stopped`), unless its own verdict is under way
    /// already.
    Stop {
        /// The worker.
        worker: WorkerId,
        /// The run.
        dispatch: Dispatch,
    },
    /// The node has nothing more to do and its process may end (or, in a process that listens on,
    /// wait for the next scheduler).
    Gone(Gone),
    /// Something an operator wants to read.
    Note(NodeNote),
}

/// Why a node has nothing more to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The node was drained or stopped, by its own process.
    Drained,
    /// The node was told by its scheduler to drain or to leave.
    Dismissed,
    /// Another process has taken its name for good.
    Replaced,
}

/// Something an operator wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeNote {
    /// The link to this scheduler is up.
    Serving {
        /// The name.
        scheduler: String,
    },
    /// The link is broken; the node works on.
    LinkLost {
        /// The scheduler's name.
        scheduler: String,
        /// What was seen.
        reason: String,
    },
    /// The scheduler was shut down; what ran for it is stopped.
    SchedulerEnded {
        /// The name.
        scheduler: String,
        /// Whether the node waits for its next start, rather than ending with it.
        waits: bool,
    },
    /// The scheduler has let the node go; what ran for it is stopped.
    LetGo {
        /// The scheduler's name.
        scheduler: String,
    },
    /// The lease has ended, or nearly; these runs were stopped.
    Dropped {
        /// The scheduler's name.
        scheduler: String,
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
        /// The task that blocks, and its kind.
        task: Option<(TaskId, String)>,
    },
}
