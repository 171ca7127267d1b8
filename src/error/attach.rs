//! Why it cannot be told how a task ends.

use super::{Stopped, StoreError};
use crate::task::TaskId;

/// Why it cannot be told how a task ends that was handed in before. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// No such task is unsettled, its ending is not waiting to be told, and no store keeps it.
    /// Trying again does not help.
    #[error(
        "{id} is not known: no task of this id was handed in, or it has ended and been told, and its ending is not \
         kept; `Store::keep` says which endings are"
    )]
    Unknown {
        /// The task.
        id: TaskId,
    },
    /// The scheduler has stopped before the task settled. With a store the next start goes on with
    /// the task: ask that.
    #[error(
        "the scheduler has stopped before the task settled; if it has a store, its next start goes on with the task"
    )]
    Stopped,
    /// The task is over, and what is kept of it cannot be read.
    #[error(transparent)]
    Store(StoreError),
}

impl From<Stopped> for AttachError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
