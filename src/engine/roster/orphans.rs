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
    /// The key that stays until it has ended.
    pub key: Option<TaskKey>,
    /// The limits that it counts against, if it is known whose they are.
    pub limits: Option<LimitsOf>,
    pub witness: Witness,
    pub waiter: Waiter,
}

/// Whose limits a run counts against.
#[derive(Clone, Debug)]
pub(crate) struct LimitsOf {
    pub kind: TaskKind,
    pub group: Option<TaskGroup>,
}

/// By whose word the run is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// The scheduler's: it was followed. Its task counts it.
    Scheduler,
    /// Its node's, with which a run of its task was lost. Its task counts it.
    NodeThatWasLost,
    /// Its node's alone. That is not enough to count it among the runs of its task.
    Node,
}

/// What waits for its end, beside its key and limits.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    Nobody,
    /// Its exclusive task is held until it has ended.
    Task,
    /// Its task has settled, and cancels wait to hear what became of it.
    Cancels(Box<WaitingCancels>),
}

/// See [`Waiter::Cancels`].
#[derive(Clone, Debug)]
pub(crate) struct WaitingCancels {
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
            key,
            limits: None,
            witness: Witness::Scheduler,
            waiter: Waiter::Nobody,
        }
    }

    /// Lets it count against the limits of its kind and group.
    pub fn counted_as(self, kind: &TaskKind, group: Option<&TaskGroup>) -> Self {
        let limits = LimitsOf {
            kind: kind.clone(),
            group: group.cloned(),
        };
        Self {
            limits: Some(limits),
            ..self
        }
    }

    /// Returns whether its task counts it.
    pub fn is_counted(&self) -> bool {
        self.witness != Witness::Node
    }

    /// Returns whether only its node has told of it.
    pub fn is_unknown(&self) -> bool {
        self.witness != Witness::Scheduler
    }

    /// Returns whether its task is held until it has ended.
    pub fn holds_task(&self) -> bool {
        matches!(self.waiter, Waiter::Task)
    }

    /// Returns the cancels that wait to hear what became of it.
    pub fn waiting(&self) -> Option<&WaitingCancels> {
        match &self.waiter {
            Waiter::Cancels(waiting) => Some(waiting),
            Waiter::Nobody | Waiter::Task => None,
        }
    }

    /// Takes out the cancels that wait to hear what became of it.
    pub fn take_waiting(&mut self) -> Option<WaitingCancels> {
        match std::mem::replace(&mut self.waiter, Waiter::Nobody) {
            Waiter::Cancels(waiting) => Some(*waiting),
            other => {
                self.waiter = other;
                None
            }
        }
    }

    /// Takes out the tickets of the cancels whose patience has ended by then.
    pub fn take_impatient(&mut self, now: Timestamp) -> Vec<u64> {
        let Waiter::Cancels(waiting) = &mut self.waiter else {
            return Vec::new();
        };
        let ended = waiting.cancels.take_until(now);
        if waiting.cancels.is_empty() {
            self.waiter = Waiter::Nobody;
        }
        ended
    }

    /// Returns when it has ended at the latest, if it can be stopped, in a process whose own half
    /// of the lease ended at `safe_at`: an exclusive run stops at four fifths of it, any other by
    /// `margin` after its end.
    pub fn safe_at(&self, safe_at: Timestamp, margin: Duration) -> Option<Timestamp> {
        let margin = if self.holds_task() {
            Duration::ZERO
        } else {
            margin
        };
        (!self.blocking).then(|| safe_at + margin)
    }
}
