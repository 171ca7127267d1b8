//! Why a task was not handed in, or its output not had.
//!
//! Owns: what is told, and in which words. Does not know: who decides.

use std::fmt;

use super::Execute;
#[cfg(feature = "store")]
use crate::error::StoreError;
use crate::error::{EncodeError, OutputError, Refusal};
use crate::status::Outcome;
use crate::task::TaskId;

/// Why an `Execute` was refused, with the `Execute` handed back. Nothing changed, but for
/// [`Refusal::LeftOver`]: that was accepted.
#[derive(Debug, thiserror::Error)]
pub struct ExecuteError {
    /// Why, whose fault it is, and whether to try again.
    pub refusal: Refusal,
    /// The task as it was handed in.
    pub execute: Box<Execute>,
}

impl fmt::Display for ExecuteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, refusal) = (self.execute.kind(), &self.refusal);
        match refusal {
            Refusal::LeftOver { .. } => write!(f, "the task {kind:?} has not settled: {refusal}"),
            _ => write!(f, "the task {kind:?} was refused: {refusal}"),
        }
    }
}

/// Why a task that has settled was not handed in again. Nothing has changed.
#[cfg(feature = "store")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteAgainError {
    /// The store keeps no such task: it has not settled, or is not kept any more, or there was
    /// none. Trying again does not help.
    #[error("the store keeps no task {id} that has settled; `Store::keep` says which it keeps")]
    NotKept {
        /// The task.
        id: TaskId,
    },
    /// The caller's fault: all that have ended so are meant.
    #[error(
        "the filter means every task that has ended so; name a kind, a part of the message, or a time"
    )]
    MeansAll,
    /// The store cannot tell what it keeps.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The new task was not accepted.
    #[error(transparent)]
    Refused(#[from] ExecuteError),
}

/// Why the output of a task that was run and waited for could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The caller's fault: the args cannot be encoded. Nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The task was not accepted; see the refusal. Nothing changed.
    #[error(transparent)]
    Refused(#[from] ExecuteError),
    /// The task was accepted and did not complete. Its retries have been used up.
    #[error("the task {id} {outcome}")]
    NotCompleted {
        /// The task.
        id: TaskId,
        /// How it ended.
        outcome: Box<Outcome>,
    },
    /// The task completed, and its output is of another type.
    #[error(transparent)]
    Output(OutputError),
    /// The scheduler stopped while it was unsettled. It is among what the shutdown returned.
    #[error(
        "the task was accepted, and the scheduler has stopped before it settled; it is among the leftovers of the shutdown"
    )]
    Stopped,
}
