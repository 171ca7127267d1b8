//! What the handle asks of a scheduler that runs, and tells it.
//!
//! Owns: the methods about tasks that were handed in, statistics, the client and the policy of
//! retries. Does not know: the rules; every method is a message to the actor.

use super::Scheduler;
use crate::actors::{
    Cancel, Explain, GetStats, GetTrail, GetUnfinished, NoClient, SetClient, SetRetry,
};
use crate::client::Client;
use crate::error::Stopped;
use crate::retry::RetryPolicy;
use crate::stats::{Explanation, Stats, Unfinished};
use crate::status::CancelAnswer;
use crate::task::TaskId;
use crate::trail::TaskTrail;

impl Scheduler {
    /// Cancels a task. The answer comes within a second and says what happened; see
    /// [`CancelAnswer`].
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), error::Stopped> {
    /// match scheduler.cancel(id).await? {
    ///     CancelAnswer::NeverStarted | CancelAnswer::Stopped => println!("nothing of it runs"),
    ///     CancelAnswer::TooLate => println!("it had ended before"),
    ///     CancelAnswer::StillRunning => println!("its handler has not returned yet"),
    ///     other => println!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Returns a snapshot of the scheduler: its queue, its nodes, and counts since its start.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let stats = scheduler.stats().await?;
    /// println!("{} pending, {} running", stats.pending, stats.running);
    /// for node in &stats.nodes {
    ///     println!("{}: {:?} {}", node.name, node.state, node.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Returns every unsettled task, in order of id.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// for task in scheduler.unfinished().await? {
    ///     println!("{} {:?} {:?}", task.id, task.kind, task.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Explains what an unsettled task waits for, or does; `None` if no unsettled task has this id.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), error::Stopped> {
    /// if let Some(explanation) = scheduler.explain(id).await? {
    ///     println!("{id}: {:?}, {:?}", explanation.reason, explanation.nodes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Returns the trail of a task: its last attempts that failed or were lost, what handlers
    /// [noted](crate::TaskContext::note), and the last progress that was sent. It is empty for a
    /// task that told nothing, and for one whose trail has been forgotten; see [`TaskTrail`].
    /// Settled tasks have theirs as others do.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), error::Stopped> {
    /// for note in scheduler.trail(id).await?.notes {
    ///     println!("{id}, run {}: {}", note.dispatch, note.text);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing but that the answer is lost.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn trail(&self, task: TaskId) -> Result<TaskTrail, Stopped> {
        self.ask(GetTrail(task)).await
    }

    /// Sets the policy of tasks that bring none, for attempts that start from now on.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let policy = RetryPolicy::fixed(std::time::Duration::from_secs(30)).forever();
    /// scheduler.set_retry(policy).await?;
    /// # Ok(())
    /// # }
    /// ```
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
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler, client: Client) -> Result<(), error::Stopped> {
    /// scheduler.set_client(client).await?;
    /// # Ok(())
    /// # }
    /// ```
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

    /// Lets statuses wait for the next client; see [`Scheduler::set_client`]. How many are held is
    /// bounded: if nobody is to come, call [`Scheduler::no_client`] instead.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.clear_client().await?; // the client restarts
    /// # Ok(())
    /// # }
    /// ```
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

    /// Tells nobody how tasks end that have no client of their own, until another client is set.
    /// What waits for the next client is dropped;
    /// [`Totals::untold`](crate::stats::Totals::untold) counts it. The client that was set until
    /// now is still told of what had ended; if it dies meanwhile, what it has not handled is
    /// dropped and counted, too.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.no_client().await?;
    /// # Ok(())
    /// # }
    /// ```
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
}
