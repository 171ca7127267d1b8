//! What the handle of a scheduler wishes of kinds.
//!
//! Owns: the methods that pause, resume and limit kinds, and close and open their intake. Does not
//! know: what follows for their tasks; every method is a message to the actor.

use super::Scheduler;
use crate::actors::kinds::{CloseIntake, OpenIntake, Pause, Resume, SetLimit};
use crate::error::{KindError, Stopped};
use crate::limit::Limit;
use crate::task::TaskKind;

impl Scheduler {
    /// Starts no task of a kind any more, until [`Scheduler::resume`]. Its pending tasks stay, in
    /// their order, and more are accepted; deadlines and cancels end what waits, and a shutdown
    /// that drains leaves it over. What runs goes on; a retry of it waits.
    ///
    /// What was sent ahead to a busy node is asked back. It may still start before the node hears
    /// of it: within one way over the link, and 250 us for each 32 nodes; at a node whose link is
    /// broken, until that is whole again.
    ///
    /// The pause outlasts a restart, if the scheduler has a store. [`Scheduler::explain`] says of a
    /// task that its kind is paused, and [`Stats::pauses`](crate::stats::Stats::pauses) what is.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.pause("mail.send").await?;
    /// // The mail server is being moved.
    /// scheduler.resume("mail.send").await?;
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
    /// [`KindError`].
    pub async fn pause(&self, kind: impl Into<TaskKind>) -> Result<(), KindError> {
        self.ask(Pause(Some(kind.into()))).await
    }

    /// Ends a pause of a kind. If all are paused, its tasks wait on.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.resume("mail.send").await?;
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
    /// [`Stopped`].
    pub async fn resume(&self, kind: impl Into<TaskKind>) -> Result<(), Stopped> {
        self.ask(Resume(Some(kind.into()))).await
    }

    /// Starts no task of any kind any more, until [`Scheduler::resume_all`]; otherwise as
    /// [`Scheduler::pause`].
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.pause_all().await?;
    /// assert!(scheduler.stats().await?.pauses.all);
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
    /// [`KindError::Stopped`].
    pub async fn pause_all(&self) -> Result<(), KindError> {
        self.ask(Pause(None)).await
    }

    /// Ends a pause of all kinds. Those that are paused by name stay so.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.resume_all().await?;
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
    /// [`Stopped`].
    pub async fn resume_all(&self) -> Result<(), Stopped> {
        self.ask(Resume(None)).await
    }

    /// Takes no task of a kind in any more, until [`Scheduler::open_intake`]: each is refused by
    /// [`Refusal::IntakeClosed`](crate::error::Refusal::IntakeClosed), which is temporary. What was
    /// accepted goes on, and what joins a task by its key is answered as before. It outlasts a
    /// restart, if the scheduler has a store.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.close_intake("report.build").await?;
    /// let refused = scheduler.execute(Execute::named("report.build", &7u64)?).await.unwrap_err();
    /// assert!(refused.refusal.is_temporary());
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
    /// [`KindError`].
    pub async fn close_intake(&self, kind: impl Into<TaskKind>) -> Result<(), KindError> {
        self.ask(CloseIntake(kind.into())).await
    }

    /// Takes tasks of a kind in again.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.open_intake("report.build").await?;
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
    /// [`Stopped`].
    pub async fn open_intake(&self, kind: impl Into<TaskKind>) -> Result<(), Stopped> {
        self.ask(OpenIntake(kind.into())).await
    }

    /// Limits how many tasks of a kind may go on at once, over all nodes, and how often one may
    /// start, from now on. What runs beyond it is not stopped. It replaces the limit that was set
    /// before, by the [builder](crate::SchedulerBuilder::limit) too, and outlasts a restart if the
    /// scheduler has a store. [`Limit::new`] takes a limit away.
    ///
    /// A task that waits for its limit holds nothing else up: others of other kinds go first.
    /// [`Scheduler::explain`] says what it waits for, and
    /// [`Stats::limits`](crate::stats::Stats::limits) how much of each limit is used.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # use std::time::Duration;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let limit = Limit::concurrency(40).rate(100, Duration::from_secs(1)).burst(20);
    /// scheduler.set_limit("mail.send", limit).await?;
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
    /// [`KindError`].
    pub async fn set_limit(
        &self,
        kind: impl Into<TaskKind>,
        limit: Limit,
    ) -> Result<(), KindError> {
        self.ask(SetLimit {
            kind: kind.into(),
            limit,
        })
        .await
    }
}
