//! Runs that the scheduler no longer follows.
//!
//! Owns: what is remembered of such a run, and when it has ended at the latest. Does not know: what
//! waits for that end.

use std::time::Duration;

use crate::engine::Timestamp;
use crate::engine::tasks::Cancels;
use crate::status::CancelAnswer;
use crate::task::{TaskGroup, TaskId, TaskKey, TaskKind};

/// A run that the scheduler no longer follows and that may still be going on.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    pub task: TaskId,
    /// Whether it can only end by itself.
    pub blocking: bool,
    /// The kind of the run, against the limit of which it counts, if that is known.
    pub kind: Option<TaskKind>,
    /// The group of the run, against the limit of which it counts.
    pub group: Option<TaskGroup>,
    /// The key that stays until it has ended.
    pub key: Option<TaskKey>,
    /// Whether its (exclusive) task is held until it has ended.
    pub holds_task: bool,
    /// Whether only its node has told of it.
    pub unknown: bool,
    /// Whether its task counts it. The word of a node is not enough for that.
    pub counted: bool,
    /// The cancels that wait to hear what became of it; its task has settled.
    pub waiting: Option<Box<WaitingCancel>>,
}

/// See [`Orphan::waiting`].
#[derive(Clone, Debug)]
pub(crate) struct WaitingCancel {
    pub cancels: Cancels,
    /// What is true of the earlier runs, and so of the task if this one has never started.
    pub before: CancelAnswer,
}

impl Orphan {
    /// Makes the orphan of a run that was followed so far.
    pub fn of_run(task: TaskId, blocking: bool, key: Option<TaskKey>) -> Self {
        Self {
            task,
            blocking,
            kind: None,
            group: None,
            key,
            holds_task: false,
            unknown: false,
            counted: true,
            waiting: None,
        }
    }

    /// Lets it count against the limits of its kind and group.
    pub fn counted_as(self, kind: &TaskKind, group: Option<&TaskGroup>) -> Self {
        Self {
            kind: Some(kind.clone()),
            group: group.cloned(),
            ..self
        }
    }

    /// Returns when it has ended at the latest, if it can be stopped, in a process whose own half
    /// of the lease ended at `safe_at`: an exclusive run stops at four fifths of it, any other by
    /// `margin` after its end.
    pub fn safe_at(&self, safe_at: Timestamp, margin: Duration) -> Option<Timestamp> {
        let margin = if self.holds_task {
            Duration::ZERO
        } else {
            margin
        };
        (!self.blocking).then(|| safe_at + margin)
    }
}
