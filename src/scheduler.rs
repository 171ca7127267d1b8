//! The handle of a scheduler: what an application holds.
//!
//! Owns: the names of a process, and the permits that bound what waits in the mailbox. Does not
//! know: the rules; what is to be decided goes to the actor as a message.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::{Semaphore, oneshot};

use crate::actors::node::RunningNode;
use crate::actors::scheduler::{Handover, SchedulerActor};
use crate::actors::{Halt, HandleShutdown, Shutdown, Submit};
use crate::clock::Clock;
use crate::engine::{Event, LinkId};
use crate::error::{Refusal, Stopped};
use crate::execute::{Execute, ExecuteError, ExecuteMany, Leftovers, RunError};
use crate::handlers::{Call, Hold};
use crate::host::Host;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::net::Trust;
use crate::net::traffic::LinkTraffic;
use crate::status::{Outcome, TaskStatus};
#[cfg(feature = "store")]
use crate::store::writer::Reader;
use crate::sync::lock;
use crate::task::TaskId;

mod asking;
mod attaching;
mod builder;
mod finding;
#[cfg(feature = "store")]
mod forgetting;
mod kinds;
mod local;
mod measuring;
mod nodes;
#[cfg(feature = "metrics")]
mod publishing;
#[cfg(feature = "dashboard")]
mod pulse;
#[cfg(feature = "store")]
mod stored;

pub use builder::SchedulerBuilder;
#[cfg(feature = "store")]
pub use forgetting::ForgetError;
#[cfg(feature = "store")]
pub use stored::{ExecutedAgain, SettledPage};

/// How many `Execute` of the handle may wait in the actor's mailbox; more wait for a permit. Bounds
/// the memory that a flood through the handle takes.
const PERMITS: usize = 4096;

/// The name of a scheduler that was given none.
const UNNAMED: &str = "callboard";

/// A scheduler that runs in this process. Clones are the same; it runs on when they are dropped,
/// until it is shut down.
///
/// It does not survive a fork: its threads are those of the process that started it, so in a child
/// that does not `exec` every call waits for ever, and its name stays taken. Such a child starts
/// one of its own, under another name.
///
/// The handle's methods and the messages of [`crate::messages`] to [`Scheduler::addr`] do the same.
/// The handle waits when too much is under way; a flood of bare `do_send` fills the actor's
/// mailbox, which actix does not bound.
#[derive(Clone)]
pub struct Scheduler {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    addr: Addr<SchedulerActor>,
    listening: Option<SocketAddr>,
    permits: Arc<Semaphore>,
    inbox: Inbox<Incoming<Event>>,
    trust: Trust,
    traffic: LinkTraffic,
    threads: Arc<Threads>,
    left: Handover,
    #[cfg(feature = "dashboard")]
    marks: pulse::Marks,
    /// The thread that tells its metrics, if one does.
    #[cfg(feature = "metrics")]
    publisher: Mutex<Option<std::thread::ThreadId>>,
    /// What reads its store, if it has one.
    #[cfg(feature = "store")]
    store: Option<Reader>,
}

/// What a scheduler's actor keeps alive until it has ended.
struct Threads {
    host: Host,
    current: bool,
    clock: Clock,
    /// What is to stay while a handler of an exclusive task may be running, if anything.
    hold: Option<Hold>,
    /// Nodes of this process, by their links.
    nodes: Mutex<Vec<(LinkId, RunningNode)>>,
}

/// Frees the name and ends the threads when the actor has ended.
struct Guard {
    name: Arc<str>,
    left: Handover,
    threads: Option<Arc<Threads>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Out of the lock first: what is removed may be the last handle.
        let removed = lock(&NAMES).remove(&self.name);
        drop(removed);
        if let Some(threads) = self.threads.take() {
            for (_, node) in lock(&threads.nodes).drain(..) {
                node.addr.do_send(Halt);
            }
            if let Some(limit) = self.left.last_words() {
                threads.host.limit_last_words(limit);
            }
            threads.host.stop();
        }
    }
}

/// The schedulers of this process.
static NAMES: Mutex<std::collections::BTreeMap<Arc<str>, NameOwner>> =
    Mutex::new(std::collections::BTreeMap::new());

/// Who has a name.
enum NameOwner {
    /// A scheduler that is being started, and this very name of it.
    Starts(Arc<str>),
    Runs(Arc<Inner>),
}

impl NameOwner {
    /// Returns whether it is that of the start which has claimed this very name.
    fn is_of(&self, name: &Arc<str>) -> bool {
        matches!(self, Self::Starts(own) if Arc::ptr_eq(own, name))
    }
}

impl Scheduler {
    /// Begins a scheduler of this name, which no other scheduler of the process may have.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use actix::{Addr, prelude::*};
    /// # use callboard::*;
    /// # async fn example<A>(handlers: Handlers, client: Addr<A>) -> Result<(), error::StartError>
    /// # where
    /// #     A: Actor<Context = Context<A>> + Handler<TaskStatus, Result = ()>,
    /// # {
    /// let mut config = SchedulerConfig::default();
    /// config.max_tasks = 1_000_000;
    /// let scheduler = Scheduler::builder("orders")
    ///     .config(config) // first: it replaces what was set before
    ///     .configure(|config| config.lease = Duration::from_secs(30))
    ///     .configure_link(|link| link.max_unproved = 256)
    ///     .retry(RetryPolicy::fixed(Duration::from_secs(5)).max_attempts(20))
    ///     .limit("mail.send", Limit::concurrency(40)) // at once, over all nodes
    ///     .trace_mode(trace::TraceMode::Link) // each attempt has a trace of its own
    ///     .refuse_unknown_kinds()
    ///     .store(Store::file("orders.redb")) // without it, all ends with the process
    ///     .tell_at_once() // or not: it spares a commit; see `SchedulerConfig`
    ///     .secret("at least sixteen bytes") // or `.tls(..)`; see `Tls`
    ///     .node(Node::local("here", handlers))
    ///     .node(Node::connect("node-1", "10.0.0.2:7000"))
    ///     .listen("0.0.0.0:7100")
    ///     .require_all_nodes()
    ///     .start_timeout(Duration::from_secs(20))
    ///     .client(Client::in_groups(&client)) // or `.no_client()`
    ///     .on_client_gone(ClientGone::Hold)
    ///     .start() // for tests, `.on_current_arbiter()` before
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(name: impl AsRef<str>) -> SchedulerBuilder {
        SchedulerBuilder::new(name.as_ref().into())
    }

    /// Begins a scheduler without a name: it is called `callboard`, or `callboard-2` and so on if
    /// others are.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(handlers: Handlers) -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::local("here", handlers);
    /// let scheduler = Scheduler::unnamed().node(node).no_client().start().await?;
    /// assert!(scheduler.name().starts_with("callboard"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn unnamed() -> SchedulerBuilder {
        let mut builder = SchedulerBuilder::new(UNNAMED.into());
        builder.unnamed = true;
        builder
    }

    /// Returns the scheduler of this name in this process, if it runs.
    ///
    /// ```
    /// assert!(callboard::Scheduler::find("nobody").is_none());
    /// ```
    pub fn find(name: &str) -> Option<Self> {
        match lock(&NAMES).get(name)? {
            NameOwner::Starts(_) => None,
            NameOwner::Runs(inner) => Some(Self {
                inner: Arc::clone(inner),
            }),
        }
    }

    /// Returns the scheduler's name.
    ///
    /// ```no_run
    /// # fn example(scheduler: callboard::Scheduler) {
    /// println!("{} runs", scheduler.name());
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the address of the scheduler's actor, for those who would rather send messages:
    /// [`Execute`], [`ExecuteMany`], and those of [`crate::messages`].
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let id = scheduler.addr().send(Execute::named("double", &21u64)?).await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn addr(&self) -> &Addr<SchedulerActor> {
        &self.inner.addr
    }

    /// Returns the first address at which nodes may join it; `None` if it does not listen.
    ///
    /// ```no_run
    /// # fn example(scheduler: callboard::Scheduler) {
    /// if let Some(address) = scheduler.listen_addr() {
    ///     println!("nodes may join at {address}");
    /// }
    /// # }
    /// ```
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.inner.listening
    }

    /// Hands a task in. Its ending goes to its client.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let execute = Execute::named("double", &21u64)?;
    /// match scheduler.execute(execute).await {
    ///     Ok(id) => println!("{id} was accepted"),
    ///     Err(refused) if refused.refusal.is_temporary() => println!("later: {refused}"),
    ///     Err(refused) => return Err(refused.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the task was handed in. With a [key](crate::TaskKey)
    /// it can be handed in again without running twice.
    ///
    /// # Errors
    ///
    /// The refusal, whose fault it is and whether to try again, with the `Execute`. Nothing has
    /// changed.
    pub async fn execute(&self, execute: Execute) -> Result<TaskId, ExecuteError> {
        self.submit(execute, None).await
    }

    /// Hands many tasks in, in one message. Each is accepted or refused by itself; the answers are
    /// in order.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let tasks: Result<Vec<_>, _> = (1..=100u64).map(|n| Execute::named("double", &n)).collect();
    /// for answer in scheduler.execute_many(tasks?).await {
    ///     if let Err(refused) = answer {
    ///         println!("{refused}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As for [`Scheduler::execute`]: all were handed in, or none.
    pub async fn execute_many(&self, tasks: Vec<Execute>) -> Vec<Result<TaskId, ExecuteError>> {
        let kept = tasks.clone();
        let permits = u32::try_from(tasks.len().clamp(1, PERMITS)).unwrap_or(1);
        let _permit = self.inner.permits.acquire_many(permits).await;
        match self.inner.addr.send(ExecuteMany(tasks)).await {
            Ok(answers) => answers,
            Err(_) => kept
                .into_iter()
                .map(|execute| Err(refused(Refusal::Stopped, execute)))
                .collect(),
        }
    }

    /// Hands a typed task in and waits for its output. No client has to be told of it, so it is
    /// taken in and placed also while clients are behind.
    ///
    /// ```no_run
    /// # use serde::Serialize;
    /// # #[derive(Serialize)]
    /// # struct Double(u64);
    /// # impl callboard::Call for Double {
    /// #     const KIND: &'static str = "double";
    /// #     type Output = u64;
    /// # }
    /// # async fn example(scheduler: callboard::Scheduler) {
    /// let doubled = scheduler.run(&Double(21)).await; // Ok(42)
    /// # }
    /// ```
    ///
    /// Dropping the future leaves the task running. Inside a handler this can starve a node: a
    /// worker that waits for a task is not free to run it, so with all workers waiting none is
    /// left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the task running, if it was handed in; its status goes to the
    /// client, unless that is behind by as much as may be held.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn run<T: Call>(&self, task: &T) -> Result<T::Output, RunError> {
        let (tx, rx) = oneshot::channel();
        self.submit(Execute::new(task)?, Some(tx)).await?;
        let status = rx.await.map_err(|_| RunError::Stopped)?;
        match &status.outcome {
            Outcome::Completed(_) => status.output().map_err(RunError::Output),
            outcome => Err(RunError::NotCompleted {
                id: status.id,
                outcome: Box::new(outcome.clone()),
            }),
        }
    }

    /// Hands a task in, with options or by the name of its kind, and waits for its status, which
    /// then goes nowhere else (but see [`TaskKey`](crate::TaskKey) for those that share a key).
    /// What is said of [`Scheduler::run`] holds here too.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let execute = Execute::named("double", &21u64)?.priority(Priority::HIGH);
    /// let status = scheduler.execute_and_wait(execute).await?;
    /// println!("{} on {:?}: {}", status.id, status.node, status.output::<u64>()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As for [`Scheduler::run`].
    ///
    /// # Errors
    ///
    /// The refusal with the `Execute`; [`Refusal::LeftOver`] if it was accepted, and the scheduler
    /// stopped before it settled.
    pub async fn execute_and_wait(&self, execute: Execute) -> Result<TaskStatus, ExecuteError> {
        let kept = execute.clone();
        let (tx, rx) = oneshot::channel();
        let id = self.submit(execute, Some(tx)).await?;
        rx.await
            .map_err(|_| refused(Refusal::LeftOver { id }, kept))
    }

    async fn submit(
        &self,
        execute: Execute,
        caller: Option<oneshot::Sender<TaskStatus>>,
    ) -> Result<TaskId, ExecuteError> {
        let kept = execute.clone();
        let permit = Arc::clone(&self.inner.permits).acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        self.inner.addr.do_send(Submit {
            execute,
            reply,
            caller,
            permit: permit.ok(),
        });
        match answer.await {
            Ok(Ok(task)) => Ok(task),
            // As it was handed in: the scheduler has not seen the client of one whose caller waits.
            Ok(Err(ExecuteError { refusal, .. })) => Err(refused(refusal, kept)),
            Err(_) => Err(refused(Refusal::Stopped, kept)),
        }
    }

    /// Sends a message whose answer may be that the scheduler has stopped.
    async fn ask<M, T, E>(&self, message: M) -> Result<T, E>
    where
        M: Message<Result = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Stopped> + Send + 'static,
        SchedulerActor: Handler<M>,
        Context<SchedulerActor>: ToEnvelope<SchedulerActor, M>,
    {
        let answer = self.inner.addr.send(message).await;
        answer.unwrap_or_else(|_| Err(Stopped.into()))
    }

    /// Ends the scheduler, and returns what was not done. Its name is free then.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let limit = std::time::Duration::from_secs(10);
    /// let left = scheduler.shutdown(Shutdown::FinishRunning(limit)).await?;
    /// println!("{} tasks are to be handed in again", left.unfinished.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If it has stopped by itself, since its client is gone or by a panic on its thread, this
    /// returns what was left then. What was not done is kept until a call returns it, also after
    /// the end. A later call can only make the end come sooner.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the scheduler ends. What was left can be had by another call.
    ///
    /// # Errors
    ///
    /// It has stopped already, and what was left has been taken.
    pub async fn shutdown(&self, shutdown: Shutdown) -> Result<Leftovers, Stopped> {
        let ended = self.ask(HandleShutdown(shutdown)).await;
        // The name is freed by the actor's end, which is awaited so that it can be used again at
        // once.
        let _ = self.inner.addr.send(Halt).await;
        // So that an application that ends now has told its nodes.
        self.inner.threads.host.ended().await;
        // Nothing is awaited from here on: it is returned, or still there.
        self.inner.left.take().ok_or(ended.err().unwrap_or(Stopped))
    }
}

fn refused(refusal: Refusal, execute: Execute) -> ExecuteError {
    ExecuteError {
        refusal,
        execute: Box::new(execute),
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("name", &self.inner.name)
            .field("listening", &self.inner.listening)
            .finish_non_exhaustive()
    }
}

/// An address of an actor of this crate must be able to live on any thread.
const _: fn() = || {
    fn sendable<T: Send + Sync>() {}
    fn actor<A: Actor>() {}
    sendable::<Scheduler>();
    actor::<SchedulerActor>();
};
