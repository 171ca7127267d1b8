//! What a client is told: how a task ended, and, for a watcher, what it goes through.
//!
//! Owns: the values that leave the scheduler. Does not know: who receives them or how they travel.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::error::{OutputError, Refusal};
use crate::payload::Payload;
use crate::task::{Dispatch, Options, TaskId, TaskKey, TaskKind};

/// The one ending of a task, as a message to its client.
///
/// Cheap to clone: the contents are shared. Its fields are those of [`Ending`], to which it
/// dereferences. It is shown by `Debug` without the whole of its args and output, and serde can
/// write and read it:
///
/// ```
/// use callboard::status::{Ending, Outcome};
/// use callboard::TaskStatus;
///
/// let mut ending = Ending::for_test("image.resize", Outcome::Completed(vec![1].into()));
/// ending.attempts = 3;
/// let text = serde_json::to_string(&TaskStatus::new(ending)).unwrap();
/// let status: TaskStatus = serde_json::from_str(&text).unwrap();
/// assert_eq!(status.attempts, 3);
/// assert_eq!(status.output::<u8>(), Ok(1));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskStatus {
    ending: Arc<Ending>,
    again: bool,
}

impl TaskStatus {
    /// Wraps an ending; for tests of a client.
    pub fn new(ending: Ending) -> Self {
        Self {
            ending: Arc::new(ending),
            again: false,
        }
    }

    /// Returns whether this status may have been handled before, by a client that died before it
    /// confirmed.
    pub fn is_given_again(&self) -> bool {
        self.again
    }

    /// Returns the task that it repeats, if it was handed in again; see
    /// [`Execute::again`](crate::Execute::again).
    pub fn again_of(&self) -> Option<TaskId> {
        self.ending.options.as_ref()?.again_of
    }

    /// Returns its options, as they were handed in.
    pub fn options(&self) -> Options {
        self.ending.options.as_deref().cloned().unwrap_or_default()
    }

    /// Wraps an ending as [`TaskStatus::new`] does, but reuses an allocation that nobody else
    /// holds.
    pub(crate) fn within(mut spare: Arc<Ending>, ending: Ending) -> Self {
        match Arc::get_mut(&mut spare) {
            Some(room) => *room = ending,
            None => spare = Arc::new(ending),
        }
        Self {
            ending: spare,
            again: false,
        }
    }

    /// Returns the allocation, if nobody else holds it and it owns no other memory.
    pub(crate) fn into_spare(mut self) -> Option<Arc<Ending>> {
        let ending = Arc::get_mut(&mut self.ending)?;
        let holds_nothing = ending.args.shared().is_none()
            && ending.key.is_none()
            && ending.options.is_none()
            && matches!(&ending.outcome, Outcome::Completed(output) if output.shared().is_none());
        holds_nothing.then_some(self.ending)
    }

    pub(crate) fn mark_given_again(&mut self) {
        self.again = true;
    }

    /// Decodes the output of a completed task. `Bytes` gives it as it is.
    ///
    /// # Errors
    ///
    /// [`OutputError::NotCompleted`] if the task did not complete, [`OutputError::Decode`] if the
    /// bytes are not a `T`. Neither changes anything; trying again gives the same answer.
    pub fn output<T: serde::de::DeserializeOwned + 'static>(&self) -> Result<T, OutputError> {
        match &self.outcome {
            Outcome::Completed(output) => encoding::decode(output).map_err(OutputError::Decode),
            other => Err(OutputError::NotCompleted(other.to_string())),
        }
    }
}

impl Deref for TaskStatus {
    type Target = Ending;

    fn deref(&self) -> &Ending {
        &self.ending
    }
}

/// How a task ended, and where and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ending {
    /// The name of the scheduler that settled it.
    pub scheduler: Arc<str>,
    /// The task.
    pub id: TaskId,
    /// The caller's own name for it, if there was one.
    pub key: Option<TaskKey>,
    /// The kind.
    pub kind: TaskKind,
    /// The args, as they were handed in.
    pub args: Payload,
    /// The options, as they were handed in; `None` if there were none. [`TaskStatus::options`]
    /// gives them either way.
    pub options: Option<Box<Options>>,
    /// How it ended.
    pub outcome: Outcome,
    /// The node of its last run that started; `None` if it never ran. Whether a run that was lost
    /// with its node had started is not known: what was sent to a free worker counts as started.
    /// After a restart of a scheduler with a store nothing is known of runs that had ended before.
    pub node: Option<Arc<str>>,
    /// Attempts that were made, 0 if it never ran. Runs that were lost with their nodes are counted
    /// in `reroutes` instead.
    pub attempts: u32,
    /// Nodes that were lost under it while it ran.
    pub reroutes: u32,
    /// When it was accepted. This moment and the next two are given as the scheduler's wall clock
    /// has them when the task settles: if it was set meanwhile, what came before is told as by the
    /// new setting.
    pub accepted_at: SystemTime,
    /// When its last run that started was started; `None` if it never ran. After a restart of a
    /// scheduler with a store, a run from before counts from when the scheduler last stored
    /// anything before it ended, or, if it had not stored where it was, from when its node has told
    /// of it.
    pub started_at: Option<SystemTime>,
    /// When this ending was decided.
    pub settled_at: SystemTime,
}

impl Ending {
    /// Makes an ending for the test of a client: task 1 of the scheduler `test`, at its first
    /// attempt on the node `test`, at the Unix epoch.
    pub fn for_test(kind: impl Into<TaskKind>, outcome: Outcome) -> Self {
        let now = SystemTime::UNIX_EPOCH;
        Self {
            scheduler: "test".into(),
            id: TaskId::new(1),
            key: None,
            kind: kind.into(),
            args: Payload::new(),
            options: None,
            outcome,
            node: Some("test".into()),
            attempts: 1,
            reroutes: 0,
            accepted_at: now,
            started_at: Some(now),
            settled_at: now,
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler succeeded; its encoded output. Decode it with [`TaskStatus::output`].
    Completed(Payload),
    /// The task was given up.
    Failed(Failure),
    /// The task was cancelled before it could complete.
    Cancelled,
    /// The task was never accepted. Told only for an `Execute` that was sent without waiting for a
    /// reply.
    Refused(Refusal),
}

impl Outcome {
    /// Returns whether the handler succeeded.
    pub fn is_completed(&self) -> bool {
        matches!(self, Self::Completed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed(output) => write!(f, "completed with {} bytes of output", output.len()),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

/// Why a task, or one attempt of it, failed. An error:
///
/// ```
/// use callboard::{Cause, Failure};
///
/// fn give_up() -> Result<(), Box<dyn std::error::Error>> {
///     Err(Failure::new(Cause::Permanent, "no such image"))?
/// }
/// assert_eq!(give_up().unwrap_err().to_string(), "permanent error: no such image");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{cause}: {message}")]
#[non_exhaustive]
pub struct Failure {
    /// The kind of failure.
    pub cause: Cause,
    /// What the handler, or the scheduler, said of it. At most [`Failure::MAX_MESSAGE`] bytes.
    pub message: String,
    /// Where in the code it was raised, as file and line: of a panic, unless the application has
    /// set a hook for panics after the node started.
    #[serde(default)]
    pub place: Option<Box<str>>,
}

/// Returns as many whole letters of a text as fit into so many bytes.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Failure {
    /// The longest place that is kept, in bytes; a longer one loses its beginning.
    pub(crate) const MAX_PLACE: usize = 512;

    /// The longest message that is kept, in bytes; longer ones are cut.
    pub const MAX_MESSAGE: usize = 4096;

    /// Makes a failure with this message, cut at [`Failure::MAX_MESSAGE`] bytes.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(beginning(&message, Self::MAX_MESSAGE).len());
        Self {
            cause,
            message,
            place: None,
        }
    }

    pub(crate) fn raised_at(mut self, place: Option<Box<str>>) -> Self {
        self.place = place.map(|place| {
            let least = place.len().saturating_sub(Self::MAX_PLACE);
            let from = (least..=place.len()).find(|&from| place.is_char_boundary(from));
            from.map_or_else(Box::default, |from| Box::from(&place[from..]))
        });
        self
    }
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// The handler returned an error, on every attempt that the policy gave it.
    Error,
    /// The handler returned a permanent error: it asked for no retry.
    Permanent,
    /// The handler panicked on its last attempt.
    Panic,
    /// The last attempt did not end within its timeout.
    Timeout,
    /// The task did not end within its deadline.
    Deadline,
    /// The task lost more nodes than it may.
    NodeLost,
    /// The args or the output could not be encoded or decoded.
    Codec,
    /// The output is larger than a frame may be.
    OutputTooLarge,
}

impl Cause {
    /// The causes in the order of their numbers. Peers and files of other versions have these: a
    /// new cause goes to the end, and none changes its place.
    const NUMBERED: [Self; 8] = [
        Self::Error,
        Self::Permanent,
        Self::Panic,
        Self::Timeout,
        Self::Deadline,
        Self::NodeLost,
        Self::Codec,
        Self::OutputTooLarge,
    ];

    /// Returns the number that stands for it on a link and in a store: its place in the enum.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the cause with this number; `None` if this version has none.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        Self::NUMBERED.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Permanent => "permanent error",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline passed",
            Self::NodeLost => "nodes lost",
            Self::Codec => "encoding",
            Self::OutputTooLarge => "output too large",
        })
    }
}

/// What a cancel achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CancelAnswer {
    /// The task is settled as cancelled, and no run of it had ever begun.
    NeverStarted,
    /// The task is settled as cancelled, and no run of it goes on: what ran has ended or was
    /// stopped.
    Stopped,
    /// The task had settled otherwise before the cancel could act on it.
    TooLate,
    /// A run still goes on, or is not known to have ended, and keeps its worker. If it is the
    /// task's present run, a second has passed, and the task settles when the run ends: as
    /// completed if that is what the run reports, as cancelled otherwise. If it is an earlier one
    /// (a blocking handler whose attempt had timed out, or a run on a node that was lost), the task
    /// is settled as cancelled already, and nothing that comes of that run changes it.
    StillRunning,
    /// No unsettled task has this id.
    NotFound,
}

/// Something that happened to a task before its ending, for a watcher.
///
/// Events are told as they happen, without confirmation; a watcher that dies loses them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskEvent {
    /// The task.
    pub id: TaskId,
    /// The kind.
    pub kind: TaskKind,
    /// The caller's own name for it, if there is one.
    pub key: Option<TaskKey>,
    /// What happened.
    pub event: TaskEventKind,
}

/// What happened to a watched task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaskEventKind {
    /// A run has started.
    Running {
        /// The node of the run.
        node: Arc<str>,
        /// The fencing number.
        dispatch: Dispatch,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// An attempt failed and another will be made.
    Retrying {
        /// The wait before the next attempt.
        after: Duration,
        /// Why the last one failed.
        failure: Failure,
    },
    /// The task is pending again because its node was lost, refused it or was drained.
    Rerouted {
        /// The node that was lost, or that gave the task back.
        node: Arc<str>,
    },
    /// No present node can run it.
    Unschedulable {
        /// Why, in a sentence.
        reason: String,
    },
    /// The handler reported progress; decode it with [`TaskEventKind::progress`].
    Progress(Payload),
}

impl TaskEventKind {
    /// Decodes what the handler passed to `TaskContext::progress`.
    ///
    /// # Errors
    ///
    /// [`OutputError::NotCompleted`] for another event, [`OutputError::Decode`] if the bytes are
    /// not a `T`.
    pub fn progress<T: serde::de::DeserializeOwned + 'static>(&self) -> Result<T, OutputError> {
        match self {
            Self::Progress(value) => encoding::decode(value).map_err(OutputError::Decode),
            other => Err(OutputError::NotCompleted(format!("{other:?}"))),
        }
    }
}
