//! The actors, and every actix message that they take from outside.
//!
//! Owns: mailboxes, timers and spawned futures. Does not know: the rules. An `if` about tasks,
//! nodes or retries belongs to the engine.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::Message;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::client::Client;
use crate::engine::message::ToNode;
use crate::engine::{Attached, LinkId, Reach, Timestamp};
use crate::error::{NodeError, Stopped};
use crate::execute::Leftovers;
use crate::execute::{Execute, ExecuteError};
use crate::links::LinkSender;
use crate::retry::RetryPolicy;
use crate::snapshot::Snapshot;
use crate::stats::{Explanation, Stats, Unfinished};
use crate::status::{CancelAnswer, TaskStatus};
use crate::task::TaskId;
use crate::trail::TaskTrail;

pub(crate) mod finding;
pub mod kinds;
pub mod node;
pub mod scheduler;
pub mod worker;

mod blocking;
mod executor;
mod run;
#[cfg(test)]
pub(crate) mod tests;
mod thread_queue;
mod threads;

pub use threads::WorkerThreads;

/// To a [`NodeActor`](node::NodeActor): how many workers are taken now?
#[derive(Clone, Copy, Debug)]
pub struct Running;

/// To a [`NodeActor`](node::NodeActor): which schedulers are served now?
#[derive(Clone, Copy, Debug)]
pub struct GetServed;

/// To a [`NodeActor`](node::NodeActor): end, with all threads, now. What runs is dropped and
/// nothing more is reported. To stop in order, give the inbox
/// [`NodeEvent::Drain`](crate::engine::node::NodeEvent::Drain) or
/// [`NodeEvent::Stop`](crate::engine::node::NodeEvent::Stop) and wait for
/// [`RunningNode::gone`](node::RunningNode::gone).
#[derive(Clone, Copy, Debug)]
pub struct Halt;

/// To a [`SchedulerActor`](scheduler::SchedulerActor): an `Execute` from its handle, which holds a
/// permit while it waits in the mailbox.
pub(crate) struct Submit {
    pub(crate) execute: Execute,
    pub(crate) reply: oneshot::Sender<Result<TaskId, ExecuteError>>,
    /// Waits for the status of this task alone.
    pub(crate) caller: Option<oneshot::Sender<TaskStatus>>,
    /// The permit of the handle's queue, which is never closed: whether the scheduler drains or has
    /// stopped is its actor's to say.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// To a [`SchedulerActor`](scheduler::SchedulerActor): tell `caller` how this task ends, unless it
/// is over: then the answer says so, once that is stored.
pub(crate) struct Attach {
    pub(crate) task: TaskId,
    pub(crate) caller: oneshot::Sender<TaskStatus>,
}

/// To a [`SchedulerActor`](scheduler::SchedulerActor): a caller that was to be told how this task
/// ends is gone.
pub(crate) struct Detach(pub(crate) TaskId);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): end this task. Answered within a second with
/// what happened.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::TaskId;
/// # use callboard::messages::Cancel;
/// # use std::error::Error;
/// # async fn example(scheduler: &Scheduler, task: TaskId) -> Result<(), Box<dyn Error>> {
/// let answer = scheduler.addr().send(Cancel(task)).await??;
/// println!("{task}: {answer:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cancel(pub TaskId);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): the snapshot.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::GetStats;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let stats = scheduler.addr().send(GetStats).await??;
/// println!("{} tasks run", stats.running);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GetStats;

/// To a [`SchedulerActor`](scheduler::SchedulerActor): all that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GetSnapshot;

/// To a [`SchedulerActor`](scheduler::SchedulerActor): every unsettled task, in order of id.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::GetUnfinished;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let unfinished = scheduler.addr().send(GetUnfinished).await??;
/// println!("{} tasks have not settled", unfinished.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GetUnfinished;

/// To a [`SchedulerActor`](scheduler::SchedulerActor): what does this task wait for? `None` if it
/// is not unsettled.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::TaskId;
/// # use callboard::messages::Explain;
/// # use std::error::Error;
/// # async fn example(scheduler: &Scheduler, task: TaskId) -> Result<(), Box<dyn Error>> {
/// if let Some(why) = scheduler.addr().send(Explain(task)).await?? {
///     println!("{task} waits: {why:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Explain(pub TaskId);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): what is the trail of this task? See
/// [`Scheduler::trail`](crate::Scheduler::trail).
///
/// ```no_run
/// # use callboard::messages::*;
/// # use callboard::*;
/// # use std::error::Error;
/// # async fn example(scheduler: &Scheduler, id: TaskId) -> Result<(), Box<dyn Error>> {
/// let trail = scheduler.addr().send(GetTrail(id)).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct GetTrail(pub TaskId);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): add a node. Answered when it is up, or the
/// first try to reach it has failed.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::AddNode;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let node = AddNode::connect("node-1", "10.0.0.7:7400").max_workers(8);
/// scheduler.addr().send(node).await??;
/// # Ok(())
/// # }
/// ```
pub struct AddNode {
    pub(crate) name: Arc<str>,
    pub(crate) reach: Reach,
    /// How many workers it may use; by its own setting if `None`.
    pub(crate) workers: Option<u32>,
    /// See [`Node::refusal_means_dead`](crate::Node::refusal_means_dead).
    pub(crate) refusal_means_dead: Option<bool>,
    /// Whether it stays, to be tried for ever, if it cannot be reached at first.
    pub(crate) keep: bool,
    /// The way to a node of this process.
    pub(crate) linked: Option<Linked>,
}

/// The way to a node of this process that was started to be added. It ends if it is not: if this is
/// dropped.
pub(crate) struct Linked {
    pub(crate) link: LinkId,
    sender: Option<Box<dyn LinkSender<ToNode>>>,
    end: Box<dyn Fn() + Send>,
}

impl Linked {
    pub(crate) fn new(
        link: LinkId,
        sender: Box<dyn LinkSender<ToNode>>,
        end: impl Fn() + Send + 'static,
    ) -> Self {
        Self {
            link,
            sender: Some(sender),
            end: Box::new(end),
        }
    }

    /// Takes over what is sent to the node, which has been added.
    pub(crate) fn adopt(mut self) -> Option<Box<dyn LinkSender<ToNode>>> {
        self.sender.take()
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        if self.sender.is_some() {
            (self.end)();
        }
    }
}

impl fmt::Debug for AddNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddNode")
            .field("name", &self.name)
            .field("reach", &self.reach)
            .field("workers", &self.workers)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

impl AddNode {
    /// Asks to add a node that listens at `address` (`host:port`). It is not added if it cannot be
    /// reached.
    pub fn connect(name: impl AsRef<str>, address: impl Into<String>) -> Self {
        Self {
            name: name.as_ref().into(),
            reach: Reach::Dial(address.into()),
            workers: None,
            refusal_means_dead: None,
            keep: false,
            linked: None,
        }
    }

    /// Sets how many workers it may use, instead of its own setting.
    pub fn max_workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }
}

/// To a [`SchedulerActor`](scheduler::SchedulerActor): take this node out; its tasks go elsewhere,
/// the exclusive ones when it has said goodbye or its lease is over.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::RemoveNode;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(RemoveNode("node-1".to_owned())).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RemoveNode(pub String);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): by the sender's word no process of this node
/// is alive, save one that is heard. What waits for the end of a run there goes on at once.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::DeclareDead;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// // Its machine has burnt down.
/// scheduler.addr().send(DeclareDead("node-1".to_owned())).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeclareDead(pub String);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): give this node nothing new. Answered when
/// nothing runs there any more.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::DrainNode;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(DrainNode("node-1".to_owned())).await??;
/// println!("node-1 may be stopped");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DrainNode(pub String);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): how many workers a node may use, or all
/// present and future ones.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::SetWorkers;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let half = SetWorkers { node: Some("node-1".to_owned()), workers: 4 };
/// scheduler.addr().send(half).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SetWorkers {
    /// The node; `None` is all.
    pub node: Option<String>,
    /// From 0 to 1,000,000.
    pub workers: u32,
}

/// To a [`SchedulerActor`](scheduler::SchedulerActor): the policy of tasks that bring none, for
/// attempts that start from now on.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::RetryPolicy;
/// # use callboard::messages::SetRetry;
/// # use std::time::Duration;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let policy = RetryPolicy::fixed(Duration::from_secs(1)).max_attempts(5);
/// scheduler.addr().send(SetRetry(policy)).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SetRetry(pub RetryPolicy);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): the client from now on. Statuses that wait
/// for one go to it.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::Client;
/// # use callboard::messages::SetClient;
/// # use std::error::Error;
/// # async fn example(scheduler: &Scheduler, client: Client) -> Result<(), Box<dyn Error>> {
/// scheduler.addr().send(SetClient(Some(client))).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SetClient(pub Option<Client>);

/// To a [`SchedulerActor`](scheduler::SchedulerActor): nobody wants to be told how tasks end that
/// have no client of their own. What waits for the next client is dropped, and counted.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::messages::NoClient;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// scheduler.addr().send(NoClient).await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoClient;

/// To a [`SchedulerActor`](scheduler::SchedulerActor): end. Answered with what was not done.
///
/// ```
/// # use callboard::Scheduler;
/// # use callboard::Shutdown;
/// # use std::time::Duration;
/// # async fn example(scheduler: &Scheduler) -> Result<(), Box<dyn std::error::Error>> {
/// let left = scheduler.addr().send(Shutdown::Drain(Duration::from_secs(30))).await??;
/// println!("{} tasks were not done", left.unfinished.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Shutdown {
    /// At once: what runs is dropped. With a store nothing is:
    /// what has not settled stays there, nodes in other processes go on with what they run, and
    /// the next start goes on with both.
    Now,
    /// When nothing is due any more and every status is confirmed, and within this time. It takes
    /// in nothing new, and does what runs, what is due, and the retries that come due in time. What
    /// waits for the time it was given ([`Execute::delay`](crate::Execute::delay),
    /// [`Execute::run_at`](crate::Execute::run_at)) is not waited for: it is among the leftovers. A
    /// tenth of the time, at most a second, is kept for telling the nodes.
    Drain(Duration),
    /// When what runs has ended and every status is confirmed, and within this time. It takes in
    /// and starts nothing more: what is due, what was prefetched to nodes and has not started, and
    /// retries are among the leftovers, to be handed in again elsewhere
    /// ([`Leftovers::into_executes`](crate::execute::Leftovers::into_executes)). This is what a
    /// deploy wants. The time is kept as for `Drain`.
    FinishRunning(Duration),
    /// At once, and for good, with a store too: nodes stop what they run, and nothing is left in
    /// the store. Without one it is the same as [`Shutdown::Now`].
    Discard,
}

/// A [`Shutdown`] from the handle, which takes the leftovers from where they are kept.
pub(crate) struct HandleShutdown(pub(crate) Shutdown);

/// Says what each message is answered with.
macro_rules! answers {
    ($($message:ty => $answer:ty;)+) => {
        $(impl Message for $message {
            type Result = $answer;
        })+
    };
}

answers! {
    Running => usize;
    GetServed => Vec<String>;
    Halt => ();
    Submit => ();
    Attach => Result<Attached, Stopped>;
    Detach => ();
    Cancel => Result<CancelAnswer, Stopped>;
    GetStats => Result<Stats, Stopped>;
    GetSnapshot => Result<Box<Snapshot>, Stopped>;
    GetUnfinished => Result<Vec<Unfinished>, Stopped>;
    Explain => Result<Option<Explanation>, Stopped>;
    GetTrail => Result<TaskTrail, Stopped>;
    AddNode => Result<(), NodeError>;
    RemoveNode => Result<(), NodeError>;
    DeclareDead => Result<(), NodeError>;
    DrainNode => Result<(), NodeError>;
    SetWorkers => Result<(), NodeError>;
    SetRetry => Result<(), Stopped>;
    SetClient => Result<(), Stopped>;
    NoClient => Result<(), Stopped>;
    Shutdown => Result<Leftovers, Stopped>;
    HandleShutdown => Result<(), Stopped>;
}

/// Goes to the end of the thread's queue; unlike tokio's `yield_now`, without a look at the
/// sockets.
pub(crate) async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            Poll::Ready(())
        } else {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// The longest sleep while the machine has something due: tokio's timers do not count suspend, and
/// the machine's clock does.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Returns when to look again for what the machine has due.
pub(crate) fn sleep_until(due: Timestamp, now: Timestamp) -> Instant {
    sleep_from(Instant::now(), due, now)
}

/// Returns when to look again, from this moment on, for what the machine has due.
pub(crate) fn sleep_from(moment: Instant, due: Timestamp, now: Timestamp) -> Instant {
    moment + due.since(now).min(LONGEST_SLEEP)
}
