//! What a node says of its runs.
//!
//! Owns: the form. Does not know: what follows from it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::status::Failure;
use crate::task::{Dispatch, TaskId};

/// What happened at a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// A run that had waited at the node has started. Not sent if it has ended by the time of
    /// sending.
    Started {
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
    },
    /// An attempt has ended.
    Ended {
        /// The number.
        seq: u64,
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
        /// How.
        end: End,
        /// How long it ran; zero if it never started.
        ran: Duration,
        /// Whether the handler goes on all the same and keeps its worker until [`Report::Freed`].
        overrun: bool,
    },
    /// An overrun handler has really ended, and its worker is free.
    Freed {
        /// The number.
        seq: u64,
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
    },
    /// An assignment was not started and is not held.
    Refused {
        /// The number.
        seq: u64,
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
        /// Why.
        reason: RefusedBy,
    },
    /// An assignment was given back, not started.
    Returned {
        /// The number.
        seq: u64,
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
    },
    /// After a refusal: the node would start something again.
    Ready,
    /// The node takes nothing new from now on, by the wish of its own process.
    Draining,
    /// How many workers of the node are out of reach: a handler blocks their thread, or a run keeps
    /// them that the scheduler does not know. Zero when they are back. The hello says it at first.
    Stalled {
        /// Workers that have no run of this scheduler, and cannot be used now.
        workers: u32,
        /// A task whose handler blocks its thread.
        task: Option<TaskId>,
    },
    /// How many of the node's workers others have now, or have a claim to; none before it is told.
    Lent {
        /// How many of the node's workers others have.
        workers: u32,
    },
    /// A handler told its progress.
    Progress {
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
        /// The encoded value.
        value: Payload,
    },
    /// A handler noted something.
    Note {
        /// The task.
        task: TaskId,
        /// The run.
        dispatch: Dispatch,
        /// At most [`MAX_NOTE_BYTES`](super::MAX_NOTE_BYTES).
        text: Box<str>,
    },
}

impl Report {
    /// Returns the number of a report that must not be lost.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Ended { seq, .. }
            | Self::Freed { seq, .. }
            | Self::Refused { seq, .. }
            | Self::Returned { seq, .. } => Some(*seq),
            Self::Started { .. }
            | Self::Ready
            | Self::Draining
            | Self::Stalled { .. }
            | Self::Lent { .. }
            | Self::Progress { .. }
            | Self::Note { .. } => None,
        }
    }

    /// Returns how long the output or message is that its node keeps until it is acknowledged.
    pub(crate) fn kept_bytes(&self) -> usize {
        match self {
            Self::Ended { end, .. } => match end {
                End::Completed(output) => output.len(),
                End::Failed(failure) | End::Again { failure, .. } => failure.message.len(),
                End::Stopped | End::Dropped => 0,
            },
            _ => 0,
        }
    }
}

/// How an attempt ended: the verdict of the worker that ran it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The handler succeeded; its encoded output.
    Completed(Payload),
    /// The run failed, and its policy gives it no other attempt.
    Failed(Box<Failure>),
    /// The run failed, and another attempt is due after this long.
    Again {
        /// The wait.
        after: Duration,
        /// Why.
        failure: Box<Failure>,
    },
    /// The run was cancelled: it did not start, or has been stopped, or goes on (see `overrun`).
    Stopped,
    /// The node stopped it because its lease was ending.
    Dropped,
}

impl End {
    /// Returns whether it ends a run that never started, if that is said to have run for so long.
    pub(in crate::engine) fn is_of_no_run(&self, ran: Duration) -> bool {
        matches!(self, Self::Stopped | Self::Dropped) && ran.is_zero()
    }
}

/// Why a node did not start an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedBy {
    /// All its workers are taken.
    NoWorker,
    /// Another scheduler has taken the worker since: it is as if the task had not been sent.
    Lent,
    /// The node is draining.
    Draining,
    /// The node's unacknowledged results fill their budget.
    KeptResults,
    /// The node has no handler of this kind.
    UnknownKind,
}
