//! Handing a task in: the message and its answers.
//!
//! Owns: `Execute`, its builder, and the errors that hand it back. Does not know: who takes it, or
//! what becomes of it.
//!
//! # What may be args
//!
//! Args, outputs and progress values are encoded by [serde](https://serde.rs) as MessagePack with
//! field names. `bytes::Bytes` and [`Payload`] themselves pass as they are, for callers with a
//! format of their own, and so does what [`Execute::raw`] is given.
//!
//! These come out as they went in, also within flattened, tagged and untagged types: numbers (NaN
//! and infinities too), `bool`, `char`, text, bytes, lists, tuples, arrays, maps with keys of any
//! type, structs and enums of every form, `()`, `Option`, and what has a form for people, in which
//! it is written: `IpAddr`, `SocketAddr`, UUIDs, times, decimals.
//!
//! These do not, and are refused when they are encoded, which for args is when the task is made:
//!
//! - a `Some` of what is encoded as nothing, such as `Some(())`, `Some(None)`, `Some` of a unit
//!   struct or of `serde_json::Value::Null`. It would be read as `None`. An enum of one's own tells
//!   them apart, and so does `serde_with::rust::double_option`;
//! - a value that is nested deeper than 128 levels;
//! - a `serde_json::value::RawValue`;
//! - a type whose own `Serialize` announces another number of elements than it writes.
//!
//! These cannot be found so early. The handler then fails, with a message that says why:
//!
//! - `i128` and `u128` within flattened, internally tagged and untagged types, where serde cannot
//!   read them;
//! - bytes after the value, or none at all: args of another format, such as the text `21` for a
//!   number.
//!
//! No error is possible where another type reads the same bytes: the first variant of an untagged
//! enum that fits is taken, and a single byte, such as the text `7`, is a number too.

use std::fmt;
use std::time::{Duration, SystemTime};

use actix::{Message, Recipient};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::encoding;
use crate::error::EncodeError;
use crate::handlers::Call;
use crate::otel::options_here;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::stats::Unfinished;
use crate::status::{TaskEvent, TaskStatus};
use crate::task::{Due, Options, Priority, TaskGroup, TaskId, TaskKey, TaskKind};
use crate::trace::{TraceContext, TraceMode};

mod errors;

#[cfg(feature = "store")]
pub use errors::ExecuteAgainError;
pub use errors::{ExecuteError, RunError};

/// A task to hand in: kind, args, options, and who is told of it.
///
/// The answer is the task's id, or the refusal together with this `Execute`.
///
/// ```
/// use callboard::task::Options;
/// use callboard::trace::{TraceContext, TraceMode};
/// use callboard::{Client, Execute, Priority, RetryPolicy, TaskEvent};
/// use std::time::Duration;
///
/// # fn example(client: Client, watcher: actix::Recipient<TaskEvent>, context: TraceContext)
/// # -> Result<(), callboard::error::EncodeError> {
/// let execute = Execute::named("image.resize", &"cat.png")?
///     .options(Options::default()) // all that follow but the last two, at once
///     .priority(Priority::HIGH)
///     .delay(Duration::from_secs(60)) // or `.run_at(time)`
///     .timeout(Duration::from_secs(5)) // of each attempt
///     .deadline(Duration::from_secs(300)) // of the whole
///     .retry(RetryPolicy::fixed(Duration::from_secs(1)).max_attempts(3))
///     .label("gpu")
///     .labels(["zone=north"])
///     .exclusive()
///     .max_reroutes(2)
///     .key("cat.png")
///     .group("customer-7")
///     .trace(context) // of the caller's span
///     .trace_mode(TraceMode::Link)
///     .client(client)
///     .watch(watcher);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a task runs when it is handed in to a scheduler"]
pub struct Execute {
    kind: TaskKind,
    args: Payload,
    options: Option<Box<Options>>,
    recipients: Option<Box<Recipients>>,
}

/// What a scheduler had not finished when it was shut down.
///
/// ```no_run
/// # use callboard::{Scheduler, Shutdown, error::Stopped};
/// # async fn hand_in_again(old: Scheduler, new: Scheduler) -> Result<(), Stopped> {
/// let left = old.shutdown(Shutdown::Now).await?;
/// for answer in new.execute_many(left.into_executes()).await {
///     if let Err(refused) = answer {
///         eprintln!("{refused}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// Serde can write it, for a process that starts later, and read it. Clients and watchers are of
/// one process: those of single tasks are not among what is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Leftovers {
    /// Tasks that were not settled, in order of id.
    pub unfinished: Vec<Unfinished>,
    /// Statuses that no client had confirmed, oldest first.
    pub statuses: Vec<TaskStatus>,
    /// Tasks that were not settled and are in the store: the next start goes on with them, and they
    /// are not among the `unfinished`.
    #[serde(default)]
    pub stored_tasks: usize,
    /// Statuses in the store that no client had confirmed: the next start gives them to its client.
    #[serde(default)]
    pub stored_statuses: usize,
    /// Who is told of each unfinished task, in the same order. Empty if this was read by serde.
    #[serde(skip)]
    recipients: Vec<(Option<Client>, Option<Recipient<TaskEvent>>)>,
}

impl Leftovers {
    pub(crate) fn new(
        unfinished: Vec<Unfinished>,
        recipients: Vec<(Option<Client>, Option<Recipient<TaskEvent>>)>,
        statuses: Vec<TaskStatus>,
    ) -> Self {
        Self {
            unfinished,
            statuses,
            recipients,
            ..Self::default()
        }
    }

    /// Returns what stays in a store.
    pub(crate) fn in_store(tasks: usize, statuses: usize) -> Self {
        Self {
            stored_tasks: tasks,
            stored_statuses: statuses,
            ..Self::default()
        }
    }

    /// Returns the tasks that were not settled as they were handed in, with their options, their
    /// own clients and their watchers. Attempts that were made do not count for them; a wait for
    /// the next one is over.
    ///
    /// Those that were running may have done their work, or part of it.
    pub fn into_executes(self) -> Vec<Execute> {
        let recipients = self.recipients.into_iter();
        let recipients = recipients.chain(std::iter::repeat_with(Default::default));
        let tasks = self.unfinished.into_iter().zip(recipients);
        let executes = tasks.map(|(task, (client, watcher))| {
            Parts {
                kind: task.kind,
                args: task.args,
                options: Some(Box::new(task.options)),
                client,
                watcher,
            }
            .into()
        });
        executes.collect()
    }
}

/// Who is told of one task, beside the scheduler's client.
#[derive(Clone, Default)]
struct Recipients {
    client: Option<Client>,
    watcher: Option<Recipient<TaskEvent>>,
}

impl Execute {
    /// Makes an `Execute` of a typed task.
    ///
    /// # Errors
    ///
    /// See [`Execute::named`].
    pub fn new<T: Call>(args: &T) -> Result<Self, EncodeError> {
        Self::named(T::KIND, args)
    }

    /// Makes an `Execute` by the name of its handler. `Bytes` pass as they are.
    ///
    /// ```
    /// use callboard::Execute;
    ///
    /// assert!(Execute::named("set", &Some(7)).is_ok());
    /// // It would arrive as `None`.
    /// assert!(Execute::named("set", &Some(None::<u8>)).is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// The args cannot be encoded, or would not be decoded as what they are; see [what may be
    /// args](crate::execute#what-may-be-args).
    pub fn named<A: Serialize + 'static>(
        kind: impl Into<TaskKind>,
        args: &A,
    ) -> Result<Self, EncodeError> {
        Ok(Self::raw(
            kind,
            encoding::encode(args).map_err(EncodeError)?,
        ))
    }

    /// Makes an `Execute` by the name of its handler, with args that are encoded already.
    pub fn raw(kind: impl Into<TaskKind>, args: impl Into<Payload>) -> Self {
        let kind = kind.into();
        Self {
            options: options_here(&kind),
            kind,
            args: args.into(),
            recipients: None,
        }
    }

    /// Sets the order among pending tasks; see [`Options::priority`].
    pub fn priority(self, priority: Priority) -> Self {
        self.with(|options| options.priority = priority)
    }

    /// Makes the task due this long after it is accepted; see [`Options::due`].
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|options| options.due = Due::After(delay))
    }

    /// Makes the task due at this moment of the scheduler's wall clock; see [`Options::due`].
    pub fn run_at(self, at: SystemTime) -> Self {
        self.with(|options| options.due = Due::At(at))
    }

    /// Limits each attempt; see [`Options::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|options| options.timeout = Some(timeout))
    }

    /// Limits the whole task; see [`Options::deadline`].
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|options| options.deadline = Some(deadline))
    }

    /// Sets how failed attempts are retried; see [`Options::retry`].
    pub fn retry(self, retry: RetryPolicy) -> Self {
        self.with(|options| options.retry = Some(retry))
    }

    /// Adds a label that its node must bear.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.labels([label])
    }

    /// Adds labels that its node must bear, all of them.
    pub fn labels(self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.with(|options| options.labels.extend(labels.into_iter().map(Into::into)))
    }

    /// Makes sure that two runs of this task never overlap; see [`Options::exclusive`].
    pub fn exclusive(self) -> Self {
        self.with(|options| options.exclusive = true)
    }

    /// Limits how many nodes may be lost under the task; see [`Options::max_reroutes`].
    pub fn max_reroutes(self, reroutes: u32) -> Self {
        self.with(|options| options.max_reroutes = Some(reroutes))
    }

    /// Names the task, so that handing it in twice runs it once. [`TaskKey`] says what the second
    /// caller gets.
    pub fn key(self, key: impl Into<TaskKey>) -> Self {
        self.with(|options| options.key = Some(key.into()))
    }

    /// Puts the task in a group, which takes turns with others of its kind; see
    /// [`Options::group`] and [`Limit::each_group`](crate::Limit::each_group).
    pub fn group(self, group: impl Into<TaskGroup>) -> Self {
        self.with(|options| options.group = Some(group.into()))
    }

    /// Hands the task in as a part of this trace; see [`trace`](crate::trace).
    pub fn trace(self, context: TraceContext) -> Self {
        self.with(|options| options.trace = Some(context))
    }

    /// Sets how its attempts relate to that trace; see [`Options::trace_mode`].
    pub fn trace_mode(self, mode: TraceMode) -> Self {
        self.with(|options| options.trace_mode = Some(mode))
    }

    /// Sets all options at once; it stays a part of its trace if these name none.
    pub fn options(self, options: Options) -> Self {
        self.with(|current| {
            let trace = current.trace.take();
            *current = options;
            current.trace = current.trace.take().or(trace);
        })
    }

    /// Sends the status to this client instead of the scheduler's. The scheduler lets go of the
    /// client when no unsettled task names it and it has handled every status that it was sent.
    pub fn client(mut self, client: impl Into<Client>) -> Self {
        self.recipients.get_or_insert_default().client = Some(client.into());
        self
    }

    /// Sends what happens to the task before its ending to this watcher.
    pub fn watch(mut self, watcher: Recipient<TaskEvent>) -> Self {
        self.recipients.get_or_insert_default().watcher = Some(watcher);
        self
    }

    /// Makes an `Execute` of a task that has ended, with its options, to be handed in again. Its
    /// client is the scheduler's, unless one is set, it is part of no trace, and its status says
    /// [whose repeat](TaskStatus::again_of) it is.
    pub fn again(status: &TaskStatus) -> Self {
        let again = Self {
            kind: status.kind.clone(),
            args: status.args.clone(),
            options: status.options.clone(),
            recipients: None,
        };
        again.with(|options| {
            options.again_of = Some(status.id);
            options.trace = None;
        })
    }

    /// Returns the kind of the task.
    pub fn kind(&self) -> &TaskKind {
        &self.kind
    }

    /// Returns the args, as they travel.
    pub fn args(&self) -> &Payload {
        &self.args
    }

    /// Returns whether it may join another task.
    pub(crate) fn has_key(&self) -> bool {
        let options = self.options.as_ref();
        options.is_some_and(|options| options.key.is_some())
    }

    fn with(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(self.options.get_or_insert_default());
        self
    }

    pub(crate) fn into_parts(self) -> Parts {
        let recipients = self.recipients.map(|recipients| *recipients);
        let Recipients { client, watcher } = recipients.unwrap_or_default();
        Parts {
            kind: self.kind,
            args: self.args,
            options: self.options,
            client,
            watcher,
        }
    }
}

/// An [`Execute`] taken apart.
pub(crate) struct Parts {
    pub(crate) kind: TaskKind,
    pub(crate) args: Payload,
    pub(crate) options: Option<Box<Options>>,
    pub(crate) client: Option<Client>,
    pub(crate) watcher: Option<Recipient<TaskEvent>>,
}

impl From<Parts> for Execute {
    fn from(parts: Parts) -> Self {
        let told = parts.client.is_some() || parts.watcher.is_some();
        Self {
            kind: parts.kind,
            args: parts.args,
            options: parts.options,
            recipients: told.then(|| {
                Box::new(Recipients {
                    client: parts.client,
                    watcher: parts.watcher,
                })
            }),
        }
    }
}

impl fmt::Debug for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute")
            .field("kind", &self.kind)
            .field("args", &self.args.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Message for Execute {
    type Result = Result<TaskId, ExecuteError>;
}

/// Many tasks to hand in at once. Each is accepted or refused by itself; the answers are in order.
#[derive(Debug)]
pub struct ExecuteMany(pub Vec<Execute>);

impl Message for ExecuteMany {
    type Result = Vec<Result<TaskId, ExecuteError>>;
}

impl Message for TaskStatus {
    type Result = ();
}

impl Message for TaskEvent {
    type Result = ();
}
