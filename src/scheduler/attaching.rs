//! Waiting for a task that was handed in before.
//!
//! Owns: where its ending is looked for, and that a caller which is dropped is let go of. Does not
//! know: when the task settles.

use tokio::sync::oneshot;

use super::Scheduler;
use crate::actors::{Attach, Detach};
use crate::engine::Attached;
use crate::error::AttachError;
#[cfg(feature = "store")]
use crate::error::StoreError;
use crate::status::TaskStatus;
use crate::task::TaskId;

impl Scheduler {
    /// Waits for a task that was handed in before, also in an earlier start on the same store, and
    /// returns its status. Its client is told besides. A task that has settled is answered at once,
    /// as long as its client has not handled its status, or if the store keeps it (`Store::keep`).
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), error::AttachError> {
    /// let status = scheduler.attach(id).await?;
    /// println!("{id}: {}", status.outcome);
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
    /// See [`AttachError`]: nothing is known of the task, or the scheduler has stopped.
    pub async fn attach(&self, task: TaskId) -> Result<TaskStatus, AttachError> {
        loop {
            let (caller, status) = oneshot::channel();
            let mut waiting = Waiting {
                scheduler: self,
                task,
                status: Some(status),
            };
            match self.ask(Attach { task, caller }).await? {
                Attached::Waits => match waiting.ended().await {
                    Some(status) => return Ok(status),
                    // It was not accepted after all, or the scheduler has stopped: it tells which.
                    None => continue,
                },
                Attached::Over(Some(status)) => return Ok(status),
                Attached::Over(None) => return self.kept(task).await,
            }
        }
    }

    /// Returns how a task ended that nobody is to be told of any more.
    async fn kept(&self, task: TaskId) -> Result<TaskStatus, AttachError> {
        #[cfg(feature = "store")]
        match self.settled(task).await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) | Err(StoreError::NoStore) => {}
            Err(StoreError::Stopped) => return Err(AttachError::Stopped),
            Err(error) => return Err(AttachError::Store(error)),
        }
        Err(AttachError::Unknown { id: task })
    }
}

/// A caller that waits. If it is dropped before, the scheduler forgets it.
struct Waiting<'a> {
    scheduler: &'a Scheduler,
    task: TaskId,
    /// `None` when it is over.
    status: Option<oneshot::Receiver<TaskStatus>>,
}

impl Waiting<'_> {
    /// Returns the status; `None` if nobody is to tell it any more.
    async fn ended(&mut self) -> Option<TaskStatus> {
        let status = self.status.as_mut()?.await.ok();
        self.status = None;
        status
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Dropped first, so that it is found to be gone.
        if self.status.take().is_some() {
            self.scheduler.inner.addr.do_send(Detach(self.task));
        }
    }
}
