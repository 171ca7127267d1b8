//! The handle of a scheduler: what an application holds.
//!
//! Owns: the names of a process, and the permits that bound what waits in the mailbox. Does not
//! know: the rules; every method is a message to the actor.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::{Semaphore, oneshot};

use crate::actors::node::RunningNode;
use crate::actors::scheduler::{Handover, SchedulerActor};
use crate::actors::{
    Cancel, End, Explain, GetStats, GetUnfinished, Halt, NoClient, SetClient, SetRetry, Shutdown,
    Submit,
};
use crate::client::Client;
use crate::clock::Clock;
use crate::engine::{Event, LinkId};
use crate::error::{Refusal, Stopped};
use crate::execute::{Execute, ExecuteError, ExecuteMany, Leftovers, RunError};
use crate::handlers::Call;
use crate::host::Host;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::net::Trust;
use crate::retry::RetryPolicy;
use crate::stats::{Explanation, Stats, Unfinished};
use crate::status::{CancelAnswer, Outcome, TaskStatus};
use crate::sync::lock;
use crate::task::TaskId;

mod builder;
mod local;
mod nodes;

pub use builder::SchedulerBuilder;

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
/// The handle's methods and the messages of [`crate::actors`] to [`Scheduler::addr`] do the same.
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
    threads: Arc<Threads>,
    left: Handover,
}

/// What a scheduler's actor keeps alive until it has ended.
struct Threads {
    host: Host,
    current: bool,
    clock: Clock,
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
static NAMES: Mutex<std::collections::BTreeMap<Arc<str>, Claim>> =
    Mutex::new(std::collections::BTreeMap::new());

/// Who has a name.
enum Claim {
    /// One that is being started, and this very name of it.
    Starts(Arc<str>),
    Runs(Arc<Inner>),
}

impl Claim {
    /// Whether it is that of the start which has claimed this very name.
    fn is_of(&self, name: &Arc<str>) -> bool {
        matches!(self, Self::Starts(own) if Arc::ptr_eq(own, name))
    }
}

impl Scheduler {
    /// Begins a scheduler of this name, which must be its own in the process.
    pub fn builder(name: impl AsRef<str>) -> SchedulerBuilder {
        SchedulerBuilder::new(name.as_ref().into())
    }

    /// Begins a scheduler without a name: it is called `callboard`, or `callboard-2` and so on if
    /// others are.
    pub fn unnamed() -> SchedulerBuilder {
        let mut builder = SchedulerBuilder::new(UNNAMED.into());
        builder.unnamed = true;
        builder
    }

    /// The scheduler of this name in this process, if it runs.
    pub fn find(name: &str) -> Option<Self> {
        match lock(&NAMES).get(name)? {
            Claim::Starts(_) => None,
            Claim::Runs(inner) => Some(Self {
                inner: Arc::clone(inner),
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its actor.
    pub fn addr(&self) -> &Addr<SchedulerActor> {
        &self.inner.addr
    }

    /// Where nodes may join it, first; `None` if it does not listen.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.inner.listening
    }

    /// Hands a task in. Its ending goes to its client.
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

    /// Asks for the end of a task. Answered within a second with what happened.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the task may be cancelled or not; asking again answers what is the case.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn cancel(&self, task: TaskId) -> Result<CancelAnswer, Stopped> {
        self.ask(Cancel(task)).await
    }

    /// The snapshot.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing but that the answer is lost.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn stats(&self) -> Result<Stats, Stopped> {
        self.ask(GetStats).await
    }

    /// Every unsettled task, in order of id.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing but that the answer is lost.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, Stopped> {
        self.ask(GetUnfinished).await
    }

    /// What an unsettled task waits for, or does; `None` if no unsettled task has this id.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing but that the answer is lost.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn explain(&self, task: TaskId) -> Result<Option<Explanation>, Stopped> {
        self.ask(Explain(task)).await
    }

    /// Sets the policy of tasks that bring none, for attempts that start from now on.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn set_retry(&self, retry: RetryPolicy) -> Result<(), Stopped> {
        self.ask(SetRetry(retry)).await
    }

    /// Sets the client. Statuses that wait for one go to it.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn set_client(&self, client: impl Into<Client>) -> Result<(), Stopped> {
        let message = SetClient(Some(client.into()));
        self.ask(message).await
    }

    /// Lets statuses wait for the next client; see [`Scheduler::set_client`]. Only so many are
    /// held: where nobody is to come, [`Scheduler::no_client`] is right.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn clear_client(&self) -> Result<(), Stopped> {
        self.ask(SetClient(None)).await
    }

    /// Has nobody told how tasks end that have no client of their own, before another is set. What
    /// waits for the next client is dropped; [`Totals::untold`](crate::stats::Totals::untold)
    /// counts it.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn no_client(&self) -> Result<(), Stopped> {
        self.ask(NoClient).await
    }

    /// Ends it, and returns what was not done. Its name is free then.
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
        let ended = self.ask(End(shutdown)).await;
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
