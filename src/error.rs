//! One error per public operation. Each says whose fault it is, what changed and whether trying
//! again helps.
//!
//! Owns: the enums and their sentences. Does not know: who raises them, or the errors that hand an
//! `Execute` back, which are in [`execute`](crate::execute).

mod attach;
mod kind;
mod refusal;
mod store;

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::task::{TaskId, TaskKey, TaskKind};

pub use attach::AttachError;
pub use kind::KindError;
pub use refusal::LinkRefusal;
pub use store::StoreError;

/// Why an `Execute` was refused, which changes nothing. For one that is waited for it may also be
/// why the task has not settled ([`Refusal::LeftOver`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Load, not the caller's fault: as many tasks are unsettled as the scheduler may hold. Try
    /// again later.
    #[error(
        "the scheduler holds {limit} unsettled tasks, its limit; try again when some have settled"
    )]
    QueueFull {
        /// The limit, in tasks.
        limit: usize,
    },
    /// Load, not the caller's fault: the args of the unsettled tasks fill their budget. Try again
    /// later.
    #[error(
        "the args of unsettled tasks fill their budget of {limit} bytes; try again when some have settled"
    )]
    BytesFull {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The client's fault: too many statuses wait for it. Try again when it has handled some.
    #[error(
        "{limit} statuses wait for a client, the limit; let the client handle some, or set a client"
    )]
    ClientBehind {
        /// The limit, in statuses.
        limit: usize,
    },
    /// The client's fault: the statuses that wait for it fill their budget. Try again when it has
    /// handled some.
    #[error(
        "the statuses that wait for a client fill their budget of {limit} bytes; let the client handle some, or set a client"
    )]
    StatusBytesFull {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Nobody's fault: the scheduler is shutting down. Trying again does not help.
    #[error("the scheduler is shutting down and takes nothing new")]
    Draining,
    /// Nobody's fault: the scheduler has stopped. Trying again does not help.
    #[error("the scheduler has stopped")]
    Stopped,
    /// Nobody's fault, and no refusal: the task that was waited for had been accepted, and the
    /// scheduler has stopped before it settled. It is among the leftovers that its shutdown
    /// returns, and may have run. Handing it in again beside those would run it twice.
    #[error(
        "{id} was accepted, and the scheduler has stopped before it settled; it is among the leftovers of the shutdown, so hand in either those or this again"
    )]
    LeftOver {
        /// The task.
        id: TaskId,
    },
    /// The caller's fault: the args do not fit a frame. Trying again does not help.
    #[error(
        "the args are {bytes} bytes, more than the limit of {limit}; pass large data by reference"
    )]
    ArgsTooLarge {
        /// The size of the args.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The caller's fault: this key belongs to an earlier task of another kind or with other args.
    #[error(
        "the key {key:?} belongs to {id}, which has another kind or other args; use another key"
    )]
    KeyConflict {
        /// The key.
        key: TaskKey,
        /// The task that has it.
        id: TaskId,
    },
    /// Nobody's fault: the earlier task with this key has settled, but a run of it may still be
    /// going on somewhere. Try again later.
    #[error(
        "{id} with the key {key:?} has settled, but a run of it may still be going on; try again later"
    )]
    KeyBusy {
        /// The key.
        key: TaskKey,
        /// The settled task.
        id: TaskId,
    },
    /// The caller's fault: an option is out of its range.
    #[error("the option `{option}` is out of range: {reason}")]
    InvalidOption {
        /// The option that is wrong.
        option: Cow<'static, str>,
        /// Why.
        reason: String,
    },
    /// The caller's fault: the name of the kind is empty, too long, or has control or invisible
    /// characters.
    #[error(
        "{kind:?} cannot be the name of a kind: it must have 1 to {} bytes, none of them control or invisible characters",
        TaskKind::MAX_BYTES
    )]
    InvalidKind {
        /// The name.
        kind: TaskKind,
    },
    /// The caller's fault, or a node is still to come: no node offers the kind. Only where this was
    /// asked for by [`refuse_unknown_kinds`](crate::SchedulerBuilder::refuse_unknown_kinds);
    /// otherwise the task waits.
    #[error("no node offers the kind {kind:?}; is its name right, and has its node been up?")]
    UnknownKind {
        /// The name.
        kind: TaskKind,
    },
    /// An operator's wish ([`close_intake`](crate::Scheduler::close_intake)), and nobody's fault:
    /// no task of this kind is taken in for now. Try again when its intake is open again.
    #[error("the intake of the kind {kind:?} is closed; try again when an operator has opened it")]
    IntakeClosed {
        /// The kind.
        kind: TaskKind,
    },
    /// The store's fault, and not the caller's: tasks cannot be stored now. Try again later; it is
    /// looked each second whether they can.
    #[error(
        "the store cannot take the task: {reason}; it was not accepted, so try again when the store goes on"
    )]
    StoreFailed {
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// Load, not the caller's fault: the tasks that wait to be stored fill their budget. Try again
    /// later.
    #[error(
        "the tasks that wait to be stored fill their budget of {limit} bytes; try again when the store has caught up"
    )]
    StoreBehind {
        /// The limit, in bytes.
        limit: u64,
    },
}

impl Refusal {
    /// All that [`Refusal::cause`] may say.
    pub(crate) const CAUSES: [&'static str; 16] = [
        "queue full",
        "bytes full",
        "client behind",
        "status bytes full",
        "draining",
        "stopped",
        "left over",
        "args too large",
        "key conflict",
        "key busy",
        "invalid option",
        "invalid kind",
        "unknown kind",
        "intake closed",
        "store failed",
        "store behind",
    ];

    /// Returns whether the same `Execute` may be accepted later without a change on the caller's
    /// side.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::QueueFull { .. }
                | Self::BytesFull { .. }
                | Self::ClientBehind { .. }
                | Self::StatusBytesFull { .. }
                | Self::KeyBusy { .. }
                | Self::IntakeClosed { .. }
                | Self::StoreFailed { .. }
                | Self::StoreBehind { .. }
        )
    }

    /// Returns the cause in a word or two, as [`Totals::refused`](crate::stats::Totals::refused)
    /// counts it.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue full",
            Self::BytesFull { .. } => "bytes full",
            Self::ClientBehind { .. } => "client behind",
            Self::StatusBytesFull { .. } => "status bytes full",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::LeftOver { .. } => "left over",
            Self::ArgsTooLarge { .. } => "args too large",
            Self::KeyConflict { .. } => "key conflict",
            Self::KeyBusy { .. } => "key busy",
            Self::InvalidOption { .. } => "invalid option",
            Self::InvalidKind { .. } => "invalid kind",
            Self::UnknownKind { .. } => "unknown kind",
            Self::IntakeClosed { .. } => "intake closed",
            Self::StoreFailed { .. } => "store failed",
            Self::StoreBehind { .. } => "store behind",
        }
    }
}

/// Why a scheduler could not be started. Nothing was left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The caller's fault: a setting is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The caller's fault: the handlers of a local node cannot be used.
    #[error("the handlers of the node {node:?}: {error}")]
    Handlers {
        /// The node.
        node: String,
        /// What is wrong with them.
        error: HandlersError,
    },
    /// The caller's fault: a scheduler of this name runs in this process.
    #[error(
        "a scheduler named {0:?} runs in this process already; shut it down first or use another name"
    )]
    NameTaken(String),
    /// The caller's fault: no node was given, and none can join.
    #[error("the scheduler has no node and none can join; give it a node, or let it listen")]
    NoNodes,
    /// The caller's fault: the client has stopped already, and the scheduler was to stop with it
    /// ([`on_client_gone`](crate::SchedulerBuilder::on_client_gone)).
    #[error("the client has stopped already, and the scheduler was to stop with its client")]
    ClientGone,
    /// No node answered and none can join; or, as was required, not all did. Try again when they
    /// are up.
    #[error(
        "these nodes are not up: {}; see that their processes run and take this scheduler, and start it again",
        .0.iter().map(|(name, reason)| format!("{name} ({reason})")).collect::<Vec<_>>().join("; ")
    )]
    Unreachable(Vec<(String, String)>),
    /// Two nodes have the same name, or a node's name or options cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The address cannot be listened at.
    #[error(transparent)]
    Listen(ListenFault),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system could not start a thread, or had no descriptors for one, or no runtime runs on
    /// this one.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// Why a node could not be started. Nothing was left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeStartError {
    /// The caller's fault: a setting is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The caller's fault: its handlers cannot be used.
    #[error(transparent)]
    Handlers(#[from] HandlersError),
    /// The caller's fault: it neither listens nor joins.
    #[error("the node would never be reached; let it listen, or join a scheduler")]
    NoWay,
    /// The address cannot be listened at.
    #[error(transparent)]
    Listen(ListenFault),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system could not start a thread.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// Why [`NodeBuilder::run`](crate::NodeBuilder::run) did not end as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeRunError {
    /// The node could not be started. Nothing was left running.
    #[error(transparent)]
    Start(#[from] NodeStartError),
    /// The thread of the node ended before it: by a panic, which the log tells, or with the actix
    /// System that it was started in. What ran there is given up; a handler that blocks may still
    /// be running.
    #[error("the thread of the node ended before it; what it ran is given up")]
    Failed,
    /// No scheduler has welcomed the node within the time that
    /// [`join_within`](crate::NodeBuilder::join_within) gives. The reason tells whose fault it is;
    /// trying again helps if the scheduler was not there.
    #[error("no scheduler has welcomed the node within {limit:?}: {reason}")]
    NotJoined {
        /// The time.
        limit: Duration,
        /// What was seen last.
        reason: String,
    },
}

/// Why the links of a scheduler or a node cannot be secured by TLS. The fault of its setup;
/// nothing was started. Trying again helps when the files have been mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or does not hold what it should.
    #[error("the TLS file {file}: {problem}")]
    File {
        /// The path, as given.
        file: String,
        /// What is wrong and what would be right, without the contents of the file.
        problem: String,
    },
    /// A scheduler, a node in another process, or one of the peers that are to be taken, has a name
    /// that no certificate can bear.
    #[error(
        "the name {name:?} cannot stand in a certificate, so it cannot be used with TLS; use a DNS name in lower \
         case: letters, digits and hyphens, with dots between its parts, such as `node-1` or `node-1.example.org`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A secret was given besides certificates, which would say twice, and in two ways, who is
    /// trusted.
    #[error(
        "both a shared secret and certificates were given; give one of them, the same on all sides"
    )]
    AlsoSecret,
}

/// Why an address cannot be listened at; see its words. The caller's fault, or another process has
/// it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ListenFault(pub(crate) String);

/// Why a set of handlers cannot be used. The caller's fault; nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandlersError {
    /// Two handlers have the same kind.
    #[error("the kind {kind:?} is registered twice; give each handler a kind of its own")]
    Duplicate {
        /// The kind.
        kind: TaskKind,
    },
    /// The name of a kind is empty, too long, or has control or invisible characters.
    #[error(
        "{kind:?} cannot be the name of a kind: it must have 1 to {} bytes, none of them control or invisible characters",
        TaskKind::MAX_BYTES
    )]
    InvalidKind {
        /// The name.
        kind: TaskKind,
    },
    /// A node may offer only so many kinds.
    #[error("{kinds} kinds are registered, more than the limit of {limit}")]
    TooMany {
        /// How many there are.
        kinds: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why an output could not be had from a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The task did not complete, so there is no output.
    #[error("there is no output: the task {0}")]
    NotCompleted(String),
    /// The caller's fault: the output is of another type.
    #[error("the output is not of this type: {0}")]
    Decode(String),
}

/// Why args could not be encoded. The caller's fault; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the args cannot be encoded: {0}")]
pub struct EncodeError(pub(crate) String);

/// Why a change to the set of nodes failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No node has this name. Nothing changed.
    #[error("no node is named {0:?}")]
    NotFound(String),
    /// A node of this name is there already. Nothing changed.
    #[error("a node named {0:?} is there already")]
    NameTaken(String),
    /// The node was to be declared dead, and was heard within two heartbeats. Nothing changed; try
    /// again when it is silent.
    #[error("the node {0:?} was heard just now, so that it cannot be declared dead")]
    Alive(String),
    /// The node does not answer, refuses this scheduler, or is lost. One that was to be added was
    /// not, unless the store knew it; try again when it is up. One that was to drain is lost, and
    /// runs may be going on there: it is given nothing new if it returns. If it is known to be
    /// dead, declare it dead.
    #[error(
        "the node {name:?} is not up ({reason}); see that its process runs and takes this scheduler, and try again"
    )]
    Unreachable {
        /// The name.
        name: String,
        /// What was seen.
        reason: String,
    },
    /// The caller's fault: a value is out of its range. Nothing changed.
    #[error("{0}")]
    Invalid(String),
    /// The scheduler has stopped. Nothing changed.
    #[error("the scheduler has stopped")]
    Stopped,
}

/// The scheduler has stopped, so that nothing could be asked of it. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler has stopped")]
pub struct Stopped;

impl From<Stopped> for NodeError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// A setting that is out of its range, or was made where it has no effect. The caller's fault;
/// nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting `{setting}` cannot be so: {reason}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting that is wrong.
    pub setting: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Why a link could not be set up or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The network, or a peer that went away. Dialling again is automatic.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer did not prove that it is trusted, or found that we are not. Check that both sides
    /// have the same secret, or both certificates.
    #[error("the proof of trust failed: {0}")]
    Proof(String),
    /// The peer's certificate is not trusted, or ours is not, or one of the two speaks no TLS 1.3.
    /// See the words for what to do; then dialling again, which is automatic, helps.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The peer sent what is not a frame of this protocol.
    #[error("the peer sent a malformed frame: {0}")]
    Malformed(String),
    /// A frame is larger than the limit.
    #[error("a frame of {bytes} bytes is larger than the limit of {limit}")]
    FrameTooLarge {
        /// The claimed size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The handshake took longer than it may.
    #[error("the peer did not finish the handshake in time")]
    HandshakeTimeout,
}
