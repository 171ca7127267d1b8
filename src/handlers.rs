//! What a user writes: the tasks' types, the functions that run them, and the errors these return.
//!
//! Owns: the registry of a node's handlers, by kind. Does not know: workers, retries, or where a
//! task came from.

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contain::shielded;
use crate::engine::message::{KindOffer, MAX_KINDS};
use crate::error::HandlersError;
use crate::task::TaskKind;

mod context;
mod error;
mod shape;
#[cfg(test)]
mod tests;

pub(crate) use context::{ContextSource, Held, Hold, NodeEnv};
pub use context::{MAX_PROGRESS_BYTES, TaskContext};
pub use error::TaskError;
use shape::{AnyHandler, Async, Blocking, Typed, TypedBlocking};
pub use shape::{AsyncHandler, BlockingHandler};
pub(crate) use shape::{Begun, LocalFuture};

/// What a caller knows of a typed task: its kind, and the types of its args and of its output.
/// Every [`Task`] is a `Call` too. Implement `Call` alone in a caller that does not link the
/// handler.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Resize {
///     key: String,
///     width: u32,
/// }
///
/// impl callboard::handlers::Call for Resize {
///     const KIND: &'static str = "image.resize";
///     type Output = String;
/// }
/// ```
pub trait Call: Serialize + 'static {
    /// The name of the handler that runs it.
    const KIND: &'static str;
    /// The type of the output.
    type Output: DeserializeOwned + 'static;
}

/// A typed task: the value is the args, and `run` is the handler.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use callboard::handlers::{Handlers, Task, TaskContext, TaskError};
///
/// #[derive(Serialize, Deserialize)]
/// struct Resize {
///     key: String,
///     width: u32,
/// }
///
/// impl Task for Resize {
///     const KIND: &'static str = "image.resize";
///     type Output = String;
///
///     async fn run(self, cx: TaskContext) -> Result<String, TaskError> {
///         Ok(format!("{}@{} on {}", self.key, self.width, cx.node()))
///     }
/// }
///
/// let handlers = Handlers::new().task::<Resize>();
/// ```
pub trait Task: Serialize + DeserializeOwned + 'static {
    /// The name of the handler.
    const KIND: &'static str;
    /// The type of the output.
    type Output: Serialize + DeserializeOwned + 'static;

    /// Runs one attempt. The future need not be `Send`; it should not block its thread.
    fn run(self, cx: TaskContext) -> impl Future<Output = Result<Self::Output, TaskError>>;
}

/// A typed task whose handler blocks: the value is the args, and `run` is called on a thread of its
/// own.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use callboard::handlers::{BlockingTask, Call, Handlers, TaskContext, TaskError};
///
/// #[derive(Serialize, Deserialize)]
/// struct Count {
///     below: u64,
/// }
///
/// impl Call for Count {
///     const KIND: &'static str = "prime.count";
///     type Output = usize;
/// }
///
/// impl BlockingTask for Count {
///     fn run(self, _: TaskContext) -> Result<usize, TaskError> {
///         Ok((2..self.below).filter(|n| (2..*n).all(|d| n % d != 0)).count())
///     }
/// }
///
/// let handlers = Handlers::new().blocking_task::<Count>();
/// assert!(handlers.kinds().eq(&["prime.count"]));
/// ```
pub trait BlockingTask: Call<Output: Serialize> + DeserializeOwned {
    /// Runs one attempt. See [`Handlers::on_blocking`] for what may be asked of it.
    ///
    /// # Errors
    ///
    /// The attempt has failed; see [`TaskError`].
    fn run(self, cx: TaskContext) -> Result<Self::Output, TaskError>;
}

impl<T: Task> Call for T {
    const KIND: &'static str = <T as Task>::KIND;
    type Output = <T as Task>::Output;
}

/// The handlers of a node, by kind, and the data they share. Cheap to clone.
///
/// A handler may panic: that costs its attempt alone, and the log tells the file and the line. Only
/// the process's panic hook is told those. So the start of a node's threads puts a hook before the
/// one that is set then, once in a process: it notes the place and calls that one. A hook that is
/// set afterwards takes its place, as everywhere; then the log tells panics without a place, unless
/// that hook calls the one that it found ([`std::panic::take_hook`]).
///
/// ```
/// use callboard::handlers::{Handlers, TaskContext, TaskError};
///
/// struct Pool;
///
/// let handlers = Handlers::new()
///     .on("hello.world", async |n: u64| Ok(n))
///     .on("greet", async |name: String, cx: TaskContext| {
///         let _pool = cx.data::<Pool>()?;
///         Ok(format!("hello {name}, from {}", cx.node()))
///     })
///     .on_blocking("prime.count", |n: u64| {
///         Ok((2..n).filter(|n| (2..*n).all(|d| n % d != 0)).count())
///     })
///     .data(Pool);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Handlers(Arc<Registry>);

#[derive(Clone, Default)]
struct Registry {
    entries: Vec<Entry>,
    data: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl Drop for Registry {
    /// Drops the user's values one by one, on the thread that held the last of them.
    fn drop(&mut self) {
        for entry in self.entries.drain(..) {
            shielded(|| drop(entry));
        }
        for (_, value) in self.data.drain() {
            shielded(|| drop(value));
        }
    }
}

/// One handler.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) kind: TaskKind,
    pub(crate) blocking: bool,
    pub(crate) handler: Arc<dyn AnyHandler>,
}

impl Handlers {
    /// Begins without handlers.
    ///
    /// ```
    /// # use callboard::*;
    /// let handlers = Handlers::new().on("double", async |n: u64| Ok(2 * n));
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handler of a typed task. [`Task`] has an example.
    pub fn task<T: Task>(self) -> Self {
        self.add(<T as Task>::KIND.into(), false, Arc::new(Typed::<T>::new()))
    }

    /// Adds the handler of a typed task that blocks. [`BlockingTask`] has an example.
    pub fn blocking_task<T: BlockingTask>(self) -> Self {
        self.add(T::KIND.into(), true, Arc::new(TypedBlocking::<T>::new()))
    }

    /// Adds an async handler by name. See [`AsyncHandler`] for the shapes it may have.
    ///
    /// It shares its thread with others, so it should not block: what takes long without an `await`
    /// belongs to [`Handlers::on_blocking`].
    ///
    /// ```
    /// # use callboard::*;
    /// let handlers = Handlers::new()
    ///     .on("double", async |n: u64| Ok(2 * n))
    ///     .on("whoami", async |_: (), cx: TaskContext| Ok(cx.node().to_owned()));
    /// ```
    pub fn on<S: 'static>(self, kind: impl Into<TaskKind>, handler: impl AsyncHandler<S>) -> Self {
        self.add(kind.into(), false, Arc::new(Async::new(handler)))
    }

    /// Adds a blocking handler by name. See [`BlockingHandler`] for the shapes it may have.
    ///
    /// It runs on a thread of its own, as many at once as the node has workers. It cannot be
    /// stopped from outside: after a cancel or a timeout it keeps its worker until it returns, so
    /// one that takes long should ask [`TaskContext::is_cancelled`] from time to time.
    ///
    /// ```
    /// # use callboard::*;
    /// let handlers = Handlers::new().on_blocking("sum", |n: u64, cx: TaskContext| {
    ///     let mut sum = 0;
    ///     for k in 0..n {
    ///         if k % 1_000_000 == 0 && cx.is_cancelled() {
    ///             return Err(TaskError::permanent("cancelled"));
    ///         }
    ///         sum += k;
    ///     }
    ///     Ok(sum)
    /// });
    /// ```
    pub fn on_blocking<S: 'static>(
        self,
        kind: impl Into<TaskKind>,
        handler: impl BlockingHandler<S>,
    ) -> Self {
        self.add(kind.into(), true, Arc::new(Blocking::new(handler)))
    }

    /// Shares a value with all handlers, which get it by its type from [`TaskContext::data`]. A
    /// second value of the same type takes the place of the first.
    ///
    /// ```
    /// # use callboard::*;
    /// struct Greeting(&'static str);
    ///
    /// let handlers = Handlers::new()
    ///     .on("greet", async |name: String, cx: TaskContext| {
    ///         let greeting = cx.data::<Greeting>()?;
    ///         Ok(format!("{}, {name}", greeting.0))
    ///     })
    ///     .data(Greeting("hello"));
    /// ```
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        Arc::make_mut(&mut self.0)
            .data
            .insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// Returns the kinds, in the order in which they were added.
    ///
    /// ```
    /// # use callboard::*;
    /// let handlers = Handlers::new().on("a", async |_: ()| Ok(())).on("b", async |_: ()| Ok(()));
    /// assert!(handlers.kinds().eq(&["a", "b"]));
    /// ```
    pub fn kinds(&self) -> impl Iterator<Item = &TaskKind> {
        self.0.entries.iter().map(|entry| &entry.kind)
    }

    /// Checks that every kind has one handler and a usable name. Starting a node does so.
    ///
    /// ```
    /// # use callboard::*;
    /// let handlers = Handlers::new().on("a", async |_: ()| Ok(())).on("a", async |_: ()| Ok(()));
    /// assert!(handlers.validate().is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// The first kind that is wrong. The caller's fault; nothing was started.
    pub fn validate(&self) -> Result<(), HandlersError> {
        if self.0.entries.len() > MAX_KINDS {
            return Err(HandlersError::TooMany {
                kinds: self.0.entries.len(),
                limit: MAX_KINDS,
            });
        }
        let mut seen = HashSet::new();
        for kind in self.kinds() {
            if !kind.is_usable() {
                return Err(HandlersError::InvalidKind { kind: kind.clone() });
            }
            if !seen.insert(kind) {
                return Err(HandlersError::Duplicate { kind: kind.clone() });
            }
        }
        Ok(())
    }

    /// Returns what a node with these handlers offers; assignments name a kind by its index here.
    pub(crate) fn offers(&self) -> Vec<KindOffer> {
        let offer = |entry: &Entry| KindOffer {
            kind: entry.kind.as_str().to_owned(),
            blocking: entry.blocking,
        };
        self.0.entries.iter().map(offer).collect()
    }

    pub(crate) fn entry(&self, kind: u16) -> Option<&Entry> {
        self.0.entries.get(usize::from(kind))
    }

    pub(crate) fn shared<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = self.0.data.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }

    fn add(mut self, kind: TaskKind, blocking: bool, handler: Arc<dyn AnyHandler>) -> Self {
        Arc::make_mut(&mut self.0).entries.push(Entry {
            kind,
            blocking,
            handler,
        });
        self
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds()).finish()
    }
}
