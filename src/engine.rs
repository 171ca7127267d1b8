//! The engine: all that is decided, and nothing that is done.
//!
//! Three machines. [`scheduler::SchedulerMachine`] tracks what is pending and running on which
//! node; [`node::NodeMachine`] keeps the workers of one node within their number, its results until
//! they are acknowledged, and its lease; [`worker::Attempts`] gives the verdict after one attempt.
//! The two first speak to each other in [`message`]s over links that may delay, break and return;
//! their drivers carry the messages.
//!
//! The contract of a machine:
//!
//! - *Commands* come from people and may be refused. A refusal changes nothing.
//! - *Events* are facts and are never refused. A stale one is counted and ignored, a hostile one
//!   closes its link.
//! - `take_effects(now, ..)` places all that can be placed and hands over the actions to perform,
//!   in order. Calling it once after many commands and events is what makes a batch cheap. The
//!   answer to a command is to be passed on only after the effects that followed it were taken, and
//!   with a store only when what it promises is stored.
//! - `next_wakeup()` says when the effects are to be taken again at the latest. Every event brings
//!   `now` along, so a late look costs promptness and never correctness.
//!
//! The engine knows no actix, tokio, socket, clock, thread or random source. Time and chance are
//! arguments, and no order of a hash map reaches an effect, so one seed gives one history.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Refusal;
use crate::payload::Payload;
use crate::stats::{ClientState, StatusRoom};
use crate::status::{CancelAnswer, Failure, TaskEvent, TaskStatus};
use crate::task::{Dispatch, Options, TaskId, TaskKind};

mod bits;
mod catalogue;
pub mod cleaning;
pub mod found;
mod heads;
mod ids;
mod journal;
pub mod keep;
mod keys;
pub mod ledger;
pub mod message;
pub mod meter;
pub mod node;
mod numbered;
mod outbox;
mod pending_acks;
mod placement;
mod priorities;
mod queue;
mod ranks;
pub mod record;
mod roster;
pub mod scheduler;
mod sequence;
mod tasks;
mod timers;
mod trails;
mod wall;
mod watchers;
mod work;
pub mod worker;

pub use ids::{
    ClientId, Incarnation, LinkId, Memory, NodeId, SchedulerId, Timestamp, WorkerId, first_number,
};
use message::{ToNode, ToScheduler};
use record::Record;

/// Who is told how a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Audience {
    /// The client that the scheduler has when it tells.
    #[default]
    Current,
    /// This client; the current one if it is gone.
    Client(ClientId),
    /// A caller that waits for this task alone. The status goes out as [`Action::Answer`] and
    /// counts as confirmed, unless it comes back as [`Event::Unclaimed`]. So it is taken in and
    /// placed however much is held for clients. It is answered too if it joins a task with another
    /// audience.
    Caller,
}

/// A task as it is handed in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The handler's name.
    pub kind: TaskKind,
    /// The encoded args.
    pub args: Payload,
    /// The rest; `None` is the default options, and costs nothing.
    pub options: Option<Box<Options>>,
    /// Who is told how it ended.
    pub audience: Audience,
    /// Who is told of its [`TaskEvent`]s.
    pub watcher: Option<ClientId>,
}

/// What became of an accepted [`Submission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The submission is a task of its own.
    New(TaskId),
    /// A task with its key, kind and args is there already; nothing was added. That task keeps its
    /// audience, unless only callers waited for it: then this submission's audience is told
    /// besides.
    Joined(TaskId),
}

impl Accepted {
    /// Returns the task that will have the ending.
    pub fn id(self) -> TaskId {
        match self {
            Self::New(id) | Self::Joined(id) => id,
        }
    }
}

/// What is known of a task whose ending somebody else wants to be told.
#[derive(Clone, Debug)]
pub enum Attached {
    /// The task has not settled. Its status goes out as [`Action::Answer`], beside what its
    /// audience is told.
    Waits,
    /// The task has settled, and this is how, if somebody is still to be told; or there was no such
    /// task. This may be told once all that is decided now is stored.
    Over(Option<TaskStatus>),
}

/// A refused [`Submission`], handed back.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// What was handed in, unchanged.
    pub submission: Box<Submission>,
}

/// How a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The node lives in this process; its link does not break and needs no lease.
    Local,
    /// The scheduler dials it at this address.
    Dial(String),
    /// The node dials the scheduler.
    Joins,
}

/// Who began a link; `W` is whom this side dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin<W = NodeId> {
    /// This side dialled, or has the other one in its process.
    Dialled(W),
    /// The other side dialled, from this host: its address without the port, as it stands before
    /// `:port`.
    Came(String),
}

/// A fact, for a [`scheduler::SchedulerMachine`].
#[derive(Debug)]
pub enum Event {
    /// A proved connection is open.
    LinkOpened {
        /// The connection.
        link: LinkId,
        /// Who began it.
        origin: Origin,
        /// The address of the other end, as this side sees it; empty within a process.
        peer: String,
    },
    /// A connection is closed, by whichever side.
    LinkClosed {
        /// The connection.
        link: LinkId,
        /// What was seen, as text.
        reason: String,
    },
    /// A dial did not lead to a link.
    DialFailed {
        /// Who was dialled.
        node: NodeId,
        /// Whether there was the answer that nobody listens, at the address which the dial had
        /// named, or else at all that the listed one stands for.
        refused: bool,
        /// What was seen, as text.
        reason: String,
    },
    /// A probe of the port that a joined node had named was answered.
    Probed {
        /// The node.
        node: NodeId,
        /// The incarnation of its process that named the port.
        incarnation: Incarnation,
        /// Whether the port answered that nobody listens there.
        refused: bool,
    },
    /// A message has arrived.
    Message {
        /// On this connection.
        link: LinkId,
        /// The message.
        message: ToScheduler,
    },
    /// What has arrived is no message. [`Event::LinkClosed`] follows.
    Malformed {
        /// On this connection.
        link: LinkId,
        /// What is wrong with it, as text.
        reason: String,
    },
    /// A part of a message has arrived: a proof of life.
    Heard {
        /// On this connection.
        link: LinkId,
    },
    /// The client has handled some of the statuses of a delivery: the handling of each has ended.
    Confirmed {
        /// The client.
        client: ClientId,
        /// The number of the delivery.
        delivery: u64,
        /// The statuses of it that were handled, by their places.
        handled: Range<usize>,
    },
    /// What the wall clock shows. It is told before what refers to it, and with each look.
    WallClock {
        /// The time.
        shows: Timestamp,
    },
    /// The client is gone.
    ClientGone {
        /// The client.
        client: ClientId,
    },
    /// Nobody waits for this answer any more, and nobody else was told.
    Unclaimed(TaskStatus),
    /// All up to this batch is durable.
    Stored {
        /// The number of the batch.
        batch: u64,
        /// The bytes that it takes; 0 if they are not known.
        bytes: u64,
    },
    /// The batch that was under way is not there: the next one has its number.
    NotStored {
        /// The number of the batch.
        batch: u64,
        /// The records of the batch.
        records: Vec<Record>,
        /// Why, in words for an operator.
        reason: String,
    },
    /// Nothing can be stored now. Of a batch that is under way it is not known yet whether it is
    /// there.
    StoreFailing {
        /// Why, in words for an operator.
        reason: String,
    },
}

/// What is to be done, from a [`scheduler::SchedulerMachine`].
#[derive(Debug)]
pub enum Action {
    /// Send a message. If the link is closed already, drop it.
    Send {
        /// On this connection.
        link: LinkId,
        /// The message.
        message: ToNode,
    },
    /// Close a connection, after what was sent on it before.
    Close {
        /// The connection.
        link: LinkId,
        /// The reason, for the log.
        reason: String,
    },
    /// Dial a node; answer with [`Event::LinkOpened`] or [`Event::DialFailed`], once. At most one
    /// dial per node is under way.
    Dial {
        /// The node.
        node: NodeId,
        /// Where.
        address: String,
        /// The one address of those that this stands for at which its process was found; a refusal
        /// counts if it comes from there. Without it all must refuse.
        found_at: Option<String>,
    },
    /// Dial a port only to see whether anybody listens; answer with [`Event::Probed`], once.
    Probe {
        /// The node.
        node: NodeId,
        /// The incarnation of its process that named the port.
        incarnation: Incarnation,
        /// Where.
        address: String,
    },
    /// Give statuses to a client, in order; answer with [`Event::Confirmed`] as it handles them or
    /// [`Event::ClientGone`].
    Deliver {
        /// The client.
        client: ClientId,
        /// The number of this delivery; later ones have higher numbers.
        delivery: u64,
        /// The statuses.
        statuses: Vec<TaskStatus>,
    },
    /// Forget a client or watcher: no unsettled task names it, and it has confirmed all that it was
    /// told. Its number may be given to another from now on.
    LetGo {
        /// The client or watcher.
        client: ClientId,
    },
    /// Give a status to the callers that wait for its task.
    Answer {
        /// The status.
        status: TaskStatus,
        /// Whether nobody else is told. Then, if none of them waits any more, answer with
        /// [`Event::Unclaimed`].
        alone: bool,
    },
    /// Answer a cancel.
    CancelAnswer {
        /// The number that came with the cancel.
        ticket: u64,
        /// What happened.
        answer: CancelAnswer,
    },
    /// Tell a watcher.
    Notify {
        /// The watcher.
        watcher: ClientId,
        /// What happened.
        event: TaskEvent,
    },
    /// Tasks that had been accepted are refused after all, since they could not be stored. Callers
    /// that wait for an acceptance, or have joined such a task, hear this instead; without any, its
    /// audience is told, see
    /// [`tell_refusal`](scheduler::SchedulerMachine::tell_refusal).
    TakenBack {
        /// The tasks that were refused, and why.
        refused: Vec<(TaskId, Refused)>,
    },
    /// Something an operator wants to read.
    Note(Box<Note>),
}

/// Something that an operator, or a caller that waits for a node, wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A node is up, in this incarnation of its process; `joined` if it came by itself.
    NodeUp {
        /// The node.
        node: NodeId,
        /// The name.
        name: Arc<str>,
        /// The incarnation.
        incarnation: Incarnation,
        /// Whether it dialled in.
        joined: bool,
    },
    /// A node's link is broken.
    NodeUnreachable {
        /// The node.
        node: NodeId,
        /// The name.
        name: Arc<str>,
        /// What was seen.
        reason: String,
    },
    /// A node is lost; so many of its tasks went elsewhere.
    NodeLost {
        /// The node.
        node: NodeId,
        /// The name.
        name: Arc<str>,
        /// Tasks that are pending again.
        rerouted: usize,
        /// Whether its process is known to be dead: then nothing runs there any more.
        dead: bool,
        /// How it is known.
        reason: String,
    },
    /// Tasks are pending again for no fault of theirs: told once for each batch, node and reason.
    Rerouted {
        /// The node that they were placed on.
        node: NodeId,
        /// The name.
        name: Arc<str>,
        /// In a word: the node was `lost` or `removed`, has `refused` them, has given them back
        /// since it `drained`, or has `stopped` their runs since its lease was ending.
        reason: &'static str,
        /// How many tasks.
        count: usize,
    },
    /// A node could not be reached, or its connection was refused.
    NodeRefused {
        /// The node, if it is known.
        node: Option<NodeId>,
        /// The name of the node, or what it said.
        name: Arc<str>,
        /// Why.
        reason: String,
    },
    /// A node is drained, or left by its own wish: nothing runs there any more.
    NodeLeft {
        /// The node.
        node: NodeId,
        /// The name.
        name: Arc<str>,
    },
    /// A handler blocks one of a node's threads, or keeps a worker though its scheduler is gone.
    NodeStalled {
        /// The node.
        node: NodeId,
        /// The name.
        name: Arc<str>,
        /// The task whose handler blocks a thread, and its kind, if it is one of this scheduler.
        task: Option<(TaskId, TaskKind)>,
    },
    /// A task has failed for good, or an attempt of it has panicked.
    Failed {
        /// The task.
        task: TaskId,
        /// The kind.
        kind: TaskKind,
        /// The attempt, from 1; zero if none had begun.
        attempt: u32,
        /// Where the attempt ran, if one did.
        node: Option<Arc<str>>,
        /// Why.
        failure: Failure,
        /// Whether it is tried again.
        again: bool,
    },
    /// A round trip on the link of a node takes more than a fifth of the lease.
    SlowLink {
        /// The node.
        node: NodeId,
        /// The name.
        name: Arc<str>,
        /// How long it takes, by the node's word.
        round_trip: Duration,
        /// The lease.
        lease: Duration,
    },
    /// Much is held for clients.
    StatusesHeld {
        /// Statuses.
        held: usize,
        /// How many may be.
        limit: usize,
        /// Bytes in them.
        bytes: u64,
        /// How many may be.
        bytes_limit: u64,
        /// What room is left.
        room: StatusRoom,
        /// Who is to be told what is for no client of its own.
        client: ClientState,
    },
    /// A node was sent a dispatch by this scheduler id that its store knows nothing of: the store
    /// was put back to an earlier state.
    RolledBack {
        /// The dispatch.
        seen: Dispatch,
    },
    /// Nothing can be stored: no task is accepted, and no ending is told, until it can.
    StoreFailing {
        /// Why.
        reason: String,
    },
    /// What was to be stored is.
    StoreBack {
        /// How long nothing could be stored.
        failed_for: Duration,
    },
    /// No present node can run this task; said once per kind and labels, until a node can.
    Unschedulable {
        /// One task that waits for such a node.
        task: TaskId,
        /// The kind.
        kind: TaskKind,
        /// Why.
        reason: String,
    },
}

/// Moves all of `from` behind what `to` has, without a copy where that is nothing.
fn move_behind<T>(from: &mut Vec<T>, to: &mut Vec<T>) {
    if to.is_empty() {
        std::mem::swap(from, to);
    } else {
        to.append(from);
    }
}
