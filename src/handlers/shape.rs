//! The shapes that a handler may have, and how each is begun.
//!
//! Owns: the step from a user's function to a future or a blocking call over bytes. Does not know:
//! who polls it, or what is made of how it ended.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::ContextSource;
use super::{BlockingTask, Task, TaskContext, TaskError};
use crate::encoding;
use crate::engine::worker::Tried;
use crate::payload::Payload;

/// An attempt that is under way. It need not be `Send`: it stays on its thread.
pub type LocalFuture = Pin<Box<dyn Future<Output = Tried>>>;

/// What beginning an attempt led to.
pub enum Begun {
    /// A future to poll.
    Future(LocalFuture),
    /// A call to make where blocking is allowed.
    Blocking(Box<dyn FnOnce() -> Tried + Send>),
    /// The end, already.
    Ended(Tried),
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future(_) => f.write_str("Future"),
            Self::Blocking(_) => f.write_str("Blocking"),
            Self::Ended(tried) => f.debug_tuple("Ended").field(tried).finish(),
        }
    }
}

/// An async function or closure of one argument, or of an argument and a [`TaskContext`], that
/// returns `Result<_, TaskError>`.
///
/// The argument is any type that serde can deserialize, and the output any that it can serialize;
/// [`bytes::Bytes`] stands for the bytes as they are. The future need not be `Send`. `Shape` is
/// inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an async handler",
    label = "this is not an async function of one argument, or of an argument and a `TaskContext`, that returns `Result<_, TaskError>`",
    note = "write `async |args: Args| Ok(output)` or `async |args: Args, cx: TaskContext| Ok(output)`, with the type of the argument",
    note = "the argument must be `Deserialize` without borrowing, the output `Serialize`, and all that the closure captures `Send + Sync + 'static`",
    note = "a function that is not async and blocks belongs to `on_blocking`"
)]
pub trait AsyncHandler<Shape>: Send + Sync + 'static {
    #[doc(hidden)]
    fn begin(self: &Arc<Self>, args: &Payload, seed: &mut ContextSource<'_>) -> Begun;
}

/// A function or closure of one argument, or of an argument and a [`TaskContext`], that may block
/// and returns `Result<_, TaskError>`.
///
/// As [`AsyncHandler`], but called on another thread, where the args are decoded and the output is
/// encoded.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a blocking handler",
    label = "this is not a function of one argument, or of an argument and a `TaskContext`, that returns `Result<_, TaskError>`",
    note = "write `|args: Args| Ok(output)` or `|args: Args, cx: TaskContext| Ok(output)`, with the type of the argument",
    note = "the argument must be `Deserialize` without borrowing, the output `Serialize`, and all that the closure captures `Send + Sync + 'static`",
    note = "an async function belongs to `on`"
)]
pub trait BlockingHandler<Shape>: Send + Sync + 'static {
    #[doc(hidden)]
    fn begin(self: &Arc<Self>, args: &Payload, seed: &mut ContextSource<'_>) -> Begun;
}

/// The shape of a handler that takes its argument alone.
#[derive(Debug)]
pub struct Plain<A, O>(PhantomData<fn(A) -> O>);

/// The shape of a handler that takes a context too.
#[derive(Debug)]
pub struct WithContext<A, O>(PhantomData<fn(A) -> O>);

impl<F, A, O> AsyncHandler<Plain<A, O>> for F
where
    F: AsyncFn(A) -> Result<O, TaskError> + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    fn begin(self: &Arc<Self>, args: &Payload, _: &mut ContextSource<'_>) -> Begun {
        match decode(args) {
            Ok(args) => {
                let handler = Arc::clone(self);
                Begun::Future(Box::pin(async move { tried(handler(args).await) }))
            }
            Err(tried) => Begun::Ended(tried),
        }
    }
}

impl<F, A, O> AsyncHandler<WithContext<A, O>> for F
where
    F: AsyncFn(A, TaskContext) -> Result<O, TaskError> + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    fn begin(self: &Arc<Self>, args: &Payload, seed: &mut ContextSource<'_>) -> Begun {
        match decode(args) {
            Ok(args) => {
                let handler = Arc::clone(self);
                let context = seed.context();
                Begun::Future(Box::pin(async move { tried(handler(args, context).await) }))
            }
            Err(tried) => Begun::Ended(tried),
        }
    }
}

impl<F, A, O> BlockingHandler<Plain<A, O>> for F
where
    F: Fn(A) -> Result<O, TaskError> + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    fn begin(self: &Arc<Self>, args: &Payload, _: &mut ContextSource<'_>) -> Begun {
        let (handler, args) = (Arc::clone(self), args.clone());
        Begun::Blocking(Box::new(move || match decode(&args) {
            Ok(args) => tried(handler(args)),
            Err(tried) => tried,
        }))
    }
}

impl<F, A, O> BlockingHandler<WithContext<A, O>> for F
where
    F: Fn(A, TaskContext) -> Result<O, TaskError> + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    O: Serialize + 'static,
{
    fn begin(self: &Arc<Self>, args: &Payload, seed: &mut ContextSource<'_>) -> Begun {
        let (handler, args, context) = (Arc::clone(self), args.clone(), seed.context());
        Begun::Blocking(Box::new(move || match decode(&args) {
            Ok(args) => tried(handler(args, context)),
            Err(tried) => tried,
        }))
    }
}

/// A handler of any shape, as a node holds it.
pub(crate) trait AnyHandler: Send + Sync {
    fn begin(&self, args: &Payload, seed: &mut ContextSource<'_>) -> Begun;
}

pub(super) struct Async<H, S>(Arc<H>, PhantomData<fn() -> S>);

impl<H, S> Async<H, S> {
    pub(super) fn new(handler: H) -> Self {
        Self(Arc::new(handler), PhantomData)
    }
}

impl<H: AsyncHandler<S>, S> AnyHandler for Async<H, S> {
    fn begin(&self, args: &Payload, seed: &mut ContextSource<'_>) -> Begun {
        self.0.begin(args, seed)
    }
}

pub(super) struct Blocking<H, S>(Arc<H>, PhantomData<fn() -> S>);

impl<H, S> Blocking<H, S> {
    pub(super) fn new(handler: H) -> Self {
        Self(Arc::new(handler), PhantomData)
    }
}

impl<H: BlockingHandler<S>, S> AnyHandler for Blocking<H, S> {
    fn begin(&self, args: &Payload, seed: &mut ContextSource<'_>) -> Begun {
        self.0.begin(args, seed)
    }
}

pub(super) struct Typed<T>(PhantomData<fn() -> T>);

impl<T> Typed<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Task> AnyHandler for Typed<T> {
    fn begin(&self, args: &Payload, seed: &mut ContextSource<'_>) -> Begun {
        match decode::<T>(args) {
            Ok(task) => {
                let context = seed.context();
                Begun::Future(Box::pin(async move { tried(task.run(context).await) }))
            }
            Err(tried) => Begun::Ended(tried),
        }
    }
}

pub(super) struct TypedBlocking<T>(PhantomData<fn() -> T>);

impl<T> TypedBlocking<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: BlockingTask> AnyHandler for TypedBlocking<T> {
    fn begin(&self, args: &Payload, seed: &mut ContextSource<'_>) -> Begun {
        let (args, context) = (args.clone(), seed.context());
        Begun::Blocking(Box::new(move || match decode::<T>(&args) {
            Ok(task) => tried(task.run(context)),
            Err(tried) => tried,
        }))
    }
}

fn decode<A: DeserializeOwned + 'static>(args: &Payload) -> Result<A, Tried> {
    encoding::decode(args).map_err(|error| Tried::Codec {
        message: format!("the args cannot be decoded: {error}"),
    })
}

fn tried<O: Serialize + 'static>(result: Result<O, TaskError>) -> Tried {
    match result.map(|output| encoding::encode(&output)) {
        Ok(Ok(output)) => Tried::Output(output),
        Ok(Err(error)) => Tried::Codec {
            message: format!("the output cannot be encoded: {error}"),
        },
        Err(error) => error.into_tried(),
    }
}
