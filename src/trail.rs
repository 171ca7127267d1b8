//! The trail of a task: attempts that failed or were lost, notes, and progress.
//!
//! Owns: the form in which it is told. Does not know: how much of it is kept, and for how long; see
//! `engine::trails`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::error::OutputError;
use crate::payload::Payload;
use crate::status::Cause;
use crate::task::Dispatch;

/// What the scheduler remembers of a task's attempts, from
/// [`Scheduler::trail`](crate::Scheduler::trail).
///
/// The trails of all tasks take at most 16 MiB of memory. Beyond that the scheduler forgets first
/// that of the task that has told nothing for the longest time. A restart forgets all, and
/// `Scheduler::forget` forgets none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskTrail {
    /// The last attempts that failed or were lost with their node, and after which the task was
    /// tried again or was to be, oldest first: at most [`TaskTrail::MAX_ATTEMPTS`] of them.
    pub attempts: Vec<PastAttempt>,
    /// What handlers noted by [`TaskContext::note`](crate::TaskContext::note), oldest first: at
    /// most the last [`TaskTrail::MAX_NOTES`].
    pub notes: Vec<TaskNote>,
    /// The last progress that was sent, if a handler told any by
    /// [`TaskContext::progress`](crate::TaskContext::progress): without a watcher at most one a
    /// second.
    pub progress: Option<TaskProgress>,
}

impl TaskTrail {
    /// The most attempts that are remembered of a task.
    pub const MAX_ATTEMPTS: usize = 8;

    /// The most notes that are remembered of a task.
    pub const MAX_NOTES: usize = 32;
}

/// An attempt that failed or was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PastAttempt {
    /// The node that ran it.
    pub node: Arc<str>,
    /// The run's fencing number.
    pub dispatch: Dispatch,
    /// When it began.
    pub started_at: SystemTime,
    /// How long it ran; of a lost one, how long until it was given up.
    pub ran: Duration,
    /// Why; [`Cause::NodeLost`] if its node was lost, or stopped it since its
    /// lease ended.
    pub cause: Cause,
    /// The first 256 bytes of what the handler said of that.
    pub message: String,
}

/// What a handler noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskNote {
    /// The fencing number of the run that noted it.
    pub dispatch: Dispatch,
    /// When the scheduler heard it.
    pub at: SystemTime,
    /// At most 256 bytes.
    pub text: String,
}

/// How far a handler was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskProgress {
    /// The fencing number of the run that told it.
    pub dispatch: Dispatch,
    /// When the scheduler heard it.
    pub at: SystemTime,
    /// What it told, encoded; decode it with [`TaskProgress::decode`].
    pub value: Payload,
}

impl TaskProgress {
    /// Decodes what the handler passed to `TaskContext::progress`.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # use std::error::Error;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), Box<dyn Error>> {
    /// if let Some(progress) = scheduler.trail(id).await?.progress {
    ///     println!("{} percent", progress.decode::<u8>()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// It is not a `T`.
    pub fn decode<T: serde::de::DeserializeOwned + 'static>(&self) -> Result<T, OutputError> {
        encoding::decode(&self.value).map_err(OutputError::Decode)
    }
}
