//! What a handler may know of the attempt that it is, and may tell.
//!
//! Owns: the context and the flag that says that its attempt is to end. Does not know: who sets it
//! and why.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Handlers, TaskError};
use crate::engine::WorkerId;
use crate::engine::message::Assignment;
use crate::engine::node::NodeEvent;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::task::{Dispatch, TaskId, TaskKind};
use crate::trace::TraceParent;

mod telling;

pub use crate::engine::message::MAX_PROGRESS_BYTES;
use telling::Pace;

/// What is to stay while a handler is running.
pub(crate) type Held = Arc<dyn Any + Send + Sync>;

/// Makes what is to stay while a handler is running, however its node has ended.
#[derive(Clone)]
pub struct Hold(Arc<dyn Fn() -> Held + Send + Sync>);

impl Hold {
    #[cfg(feature = "store")]
    pub(crate) fn new(begin: impl Fn() -> Held + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }

    /// Makes it for a handler that begins now.
    pub(crate) fn begin(&self) -> Held {
        (self.0)()
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

/// What all attempts on a node share.
#[derive(Debug)]
pub(crate) struct NodeEnv {
    pub(crate) node: Arc<str>,
    pub(crate) handlers: Handlers,
    pub(crate) inbox: Inbox<Incoming<NodeEvent>>,
    /// Who has which seat.
    pub(crate) schedulers: RwLock<Vec<Option<Arc<str>>>>,
    /// What is to stay while a handler of an exclusive task is running, if anything.
    pub(crate) hold: Option<Hold>,
}

impl NodeEnv {
    /// Takes note of who has which seat.
    pub(crate) fn name_schedulers<'a>(&self, names: impl Iterator<Item = Option<&'a str>>) {
        let names = names.map(|name| name.map(Arc::from)).collect();
        *self
            .schedulers
            .write()
            .unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Returns the scheduler that a worker works for.
    fn scheduler_of(&self, worker: WorkerId) -> Arc<str> {
        let names = self.schedulers.read();
        let names = names.unwrap_or_else(PoisonError::into_inner);
        let name = names.get(worker.seat()).cloned().flatten();
        name.unwrap_or_else(|| Arc::from(""))
    }
}

/// The attempt that a handler runs. A clone stands for the same attempt.
///
/// What the handler starts on the side may keep a clone. There, too, it tells whether the attempt
/// was cancelled or has timed out.
#[derive(Clone)]
pub struct TaskContext(Arc<Attempt>);

struct Attempt {
    env: Arc<NodeEnv>,
    worker: WorkerId,
    scheduler: Arc<str>,
    task: TaskId,
    dispatch: Dispatch,
    kind: TaskKind,
    attempt: u32,
    started: Instant,
    deadline: Option<Instant>,
    trace: Option<TraceParent>,
    progress: Pace,
    notes: Pace,
    cancelled: AtomicBool,
    notify: Notify,
}

impl TaskContext {
    /// Makes a context for the test of a handler: task 0, attempt 1, kind, node and scheduler
    /// `test`, no deadline, no shared data.
    ///
    /// ```
    /// # use callboard::handlers::{TaskContext, TaskError};
    /// async fn attempt(_: (), cx: TaskContext) -> Result<u32, TaskError> {
    ///     Ok(cx.attempt())
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// assert_eq!(attempt((), TaskContext::for_test()).await, Ok(1));
    /// # });
    /// ```
    pub fn for_test() -> Self {
        Self::for_test_with(&Handlers::new())
    }

    /// Makes a context as [`TaskContext::for_test`] does, with the shared data of `handlers`.
    ///
    /// ```
    /// # use callboard::*;
    /// let cx = TaskContext::for_test_with(&Handlers::new().data(7u8));
    /// assert_eq!(cx.data::<u8>().ok().as_deref(), Some(&7));
    /// ```
    pub fn for_test_with(handlers: &Handlers) -> Self {
        Self(Arc::new(Attempt {
            env: Arc::new(NodeEnv {
                node: "test".into(),
                handlers: handlers.clone(),
                inbox: Inbox::new(),
                schedulers: RwLock::new(vec![Some("test".into())]),
                hold: None,
            }),
            worker: WorkerId(0),
            scheduler: "test".into(),
            task: TaskId::new(0),
            dispatch: Dispatch::new(0),
            kind: "test".into(),
            attempt: 1,
            started: Instant::now(),
            deadline: None,
            trace: None,
            progress: Pace::unwatched(),
            notes: Pace::notes(),
            cancelled: AtomicBool::new(false),
            notify: Notify::new(),
        }))
    }

    /// Returns the task's id.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// println!("{} begins", cx.id());
    /// ```
    pub fn id(&self) -> TaskId {
        self.0.task
    }

    /// Returns the fencing number of this run: greater than that of every earlier run of the task.
    /// See [`Dispatch`].
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// // WHERE id = $3 AND fence <= $2
    /// let fence = cx.dispatch().get();
    /// ```
    pub fn dispatch(&self) -> Dispatch {
        self.0.dispatch
    }

    /// Returns the number of the attempt, from 1.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// let last_chance = cx.attempt() == RetryPolicy::DEFAULT_MAX_ATTEMPTS;
    /// ```
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Returns what a span of this attempt is to that which handed the task in; `None` if nobody
    /// said what trace that was a part of, or it is to be told to no node. See
    /// [`trace`](crate::trace).
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// if let Some(parent) = cx.trace() {
    ///     println!("{} is a part of {}", cx.id(), parent.context().traceparent());
    /// }
    /// ```
    pub fn trace(&self) -> Option<&TraceParent> {
        self.0.trace.as_ref()
    }

    /// Returns the name under which the handler is registered.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// assert_eq!(cx.kind(), &"test");
    /// ```
    pub fn kind(&self) -> &TaskKind {
        &self.0.kind
    }

    /// Returns the name of the scheduler whose run this is. A node may serve several: exclusive
    /// tasks, keys and fencing numbers hold within one.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// let row = format!("{}/{}", cx.scheduler(), cx.id());
    /// ```
    pub fn scheduler(&self) -> &str {
        &self.0.scheduler
    }

    /// Returns the name of the node that this runs on.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// assert_eq!(cx.node(), "test");
    /// ```
    pub fn node(&self) -> &str {
        &self.0.env.node
    }

    /// Returns when the whole task must have ended, if it has a deadline; fit for
    /// [`tokio::time::timeout_at`].
    ///
    /// ```
    /// # use callboard::*;
    /// # async fn ask() -> Result<u64, std::io::Error> { Ok(1) }
    /// async fn handler(_: (), cx: TaskContext) -> Result<u64, TaskError> {
    ///     match cx.deadline() {
    ///         Some(deadline) => Ok(tokio::time::timeout_at(deadline, ask()).await??),
    ///         None => Ok(ask().await?),
    ///     }
    /// }
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Returns how long it is until [`TaskContext::deadline`]; zero when that has passed.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// let too_late = cx.time_left().is_some_and(|left| left.as_secs() < 1);
    /// ```
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.0.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns what was given to [`Handlers::data`] as a `T`.
    ///
    /// ```
    /// # use callboard::*;
    /// async fn greet(name: String, cx: TaskContext) -> Result<String, TaskError> {
    ///     Ok(format!("{}, {name}", cx.data::<String>()?))
    /// }
    /// # let handlers = Handlers::new().on("greet", greet).data("hello".to_owned());
    /// ```
    ///
    /// # Errors
    ///
    /// A permanent [`TaskError`] if no `T` was given: no other attempt on this node will find one.
    pub fn data<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, TaskError> {
        self.0.env.handlers.shared::<T>().ok_or_else(|| {
            TaskError::permanent(format!(
                "no shared {} is on the node {:?}; give one with `Handlers::data`",
                type_name::<T>(),
                self.node()
            ))
        })
    }

    /// Returns whether this attempt is to end: it was cancelled, has timed out, or the node is
    /// stopping.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// for page in 1..=1000 {
    ///     if cx.is_cancelled() {
    ///         break;
    ///     }
    ///     // ... write the page ...
    /// }
    /// ```
    ///
    /// An async handler need not ask, since its future is dropped. A blocking one cannot be stopped
    /// from outside, and should ask from time to time and return.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Waits until [`TaskContext::is_cancelled`]: for what a handler has started on the side.
    ///
    /// ```
    /// # use callboard::*;
    /// # async fn copy() {}
    /// async fn handler(_: (), cx: TaskContext) -> Result<(), TaskError> {
    ///     let side = cx.clone();
    ///     let copying = tokio::spawn(async move {
    ///         tokio::select! {
    ///             () = copy() => {}
    ///             () = side.cancelled() => {} // the attempt is over: leave
    ///         }
    ///     });
    ///     Ok(copying.await?)
    /// }
    /// # let handlers = Handlers::new().on("copy", handler);
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it may be called again, in a `select!` for example.
    pub async fn cancelled(&self) {
        let notified = self.0.notify.notified();
        tokio::pin!(notified);
        // Enabled before the flag is read, so that no notice between the two is missed.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }

    /// Sets what [`TaskContext::is_cancelled`] says, and wakes those who wait; for tests of
    /// handlers. It does not cancel the task.
    ///
    /// ```
    /// # use callboard::*;
    /// # let cx = TaskContext::for_test();
    /// cx.cancel();
    /// assert!(cx.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("id", &self.id())
            .field("dispatch", &self.dispatch())
            .field("kind", self.kind())
            .field("attempt", &self.attempt())
            .field("node", &self.node())
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// Makes a context for the handlers that take one, and for no other.
pub struct ContextSource<'a> {
    pub(crate) env: &'a Arc<NodeEnv>,
    pub(crate) worker: WorkerId,
    pub(crate) assignment: &'a Assignment,
    pub(crate) kind: &'a TaskKind,
    pub(crate) started: Instant,
    /// The context, once it is made: its flag must be set when the attempt is to end.
    pub(crate) made: Option<TaskContext>,
}

impl fmt::Debug for ContextSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextSource")
            .field("kind", &self.kind)
            .field("worker", &self.worker)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

impl ContextSource<'_> {
    pub(super) fn context(&mut self) -> TaskContext {
        let terms = self.assignment.terms.as_deref();
        let context = TaskContext(Arc::new(Attempt {
            env: Arc::clone(self.env),
            worker: self.worker,
            scheduler: self.env.scheduler_of(self.worker),
            task: self.assignment.task,
            dispatch: self.assignment.dispatch,
            kind: self.kind.clone(),
            attempt: self.assignment.attempt,
            started: self.started,
            // A span too long for the clock is no deadline.
            deadline: terms
                .and_then(|terms| terms.deadline)
                .and_then(|left| self.started.checked_add(left)),
            trace: terms.and_then(|terms| terms.trace.clone()),
            progress: match terms {
                Some(terms) if terms.watched => Pace::watched(),
                _ => Pace::unwatched(),
            },
            notes: Pace::notes(),
            cancelled: AtomicBool::new(false),
            notify: Notify::new(),
        }));
        self.made = Some(context.clone());
        context
    }
}
