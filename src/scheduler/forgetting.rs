//! Forgetting what a scheduler's store keeps of tasks that have settled.
//!
//! Owns: that one is named or a filter means some, and the errors. Does not know: how a store lets
//! go of them.

use super::Scheduler;
use crate::error::StoreError;
use crate::store::refused;
use crate::store::retained::{self, SettledFilter};
use crate::task::TaskId;

/// How many tasks are forgotten in one commit, so that none holds up what else is to be stored.
const IN_A_COMMIT: usize = 1024;

/// Why tasks were not forgotten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The store keeps no such task: it has not settled, or is not kept any more, or there was
    /// none. Trying again does not help.
    #[error("the store keeps no task {id} that has settled; `Store::keep` says which it keeps")]
    NotKept {
        /// The task.
        id: TaskId,
    },
    /// The caller's fault: all that have ended so are meant.
    #[error(
        "the filter means every task that has ended so; name a kind, a part of the message, or a time"
    )]
    MeansAll,
    /// The store cannot be read or written. Try again when it is mended.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Scheduler {
    /// Forgets what the store [keeps](crate::Keep) of a task that has settled: its args and how it
    /// ended. It cannot be handed in again then.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # use std::error::Error;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), Box<dyn Error>> {
    /// scheduler.forget(id).await?;
    /// assert!(scheduler.settled(id).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, it is forgotten, whether or not anybody waits for it.
    ///
    /// # Errors
    ///
    /// See [`ForgetError`]. Nothing was forgotten.
    pub async fn forget(&self, id: TaskId) -> Result<(), ForgetError> {
        match self.forget_these(vec![id]).await? {
            0 => Err(ForgetError::NotKept { id }),
            _ => Ok(()),
        }
    }

    /// Does what [`forget`](Self::forget) does with all tasks that a filter means, of those that
    /// the store keeps now. Returns how many these were.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let filter = SettledFilter::default().kind("mail").message("connection refused");
    /// println!("{} failures are forgotten", scheduler.forget_all(filter).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, all are forgotten, whether or not anybody waits for it.
    ///
    /// # Errors
    ///
    /// See [`ForgetError`]: with [`MeansAll`](ForgetError::MeansAll), when the filter names neither
    /// a kind nor a part of the message nor a time, nothing was forgotten. If the store failed in
    /// between, some may be: the same call goes on with the others.
    pub async fn forget_all(&self, filter: SettledFilter) -> Result<usize, ForgetError> {
        if filter.means_all() {
            return Err(ForgetError::MeansAll);
        }
        let forgetting = self.with_store(move |store| {
            let found = store.snapshot().map_err(refused)?;
            let ids = retained::ids(&*found.ok_or(StoreError::Stopped)?, &filter);
            let mut forgotten = 0;
            for ids in ids.map_err(refused)?.chunks(IN_A_COMMIT) {
                let some = store.forget(ids.to_vec()).map_err(refused)?;
                forgotten += some.ok_or(StoreError::Stopped)?;
            }
            Ok(forgotten)
        });
        Ok(forgetting.await?)
    }

    /// Forgets some tasks by their ids; returns how many of them had been kept.
    pub(crate) async fn forget_these(&self, ids: Vec<TaskId>) -> Result<usize, StoreError> {
        self.with_store(move |store| {
            let forgotten = store.forget(ids).map_err(refused)?;
            forgotten.ok_or(StoreError::Stopped)
        })
        .await
    }

    /// Counts the tasks that a filter means, of those that the store keeps now.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn survey_settled(
        &self,
        filter: SettledFilter,
    ) -> Result<retained::Survey, StoreError> {
        self.with_store(move |store| {
            let found = store.snapshot().map_err(refused)?;
            let found = found.ok_or(StoreError::Stopped)?;
            retained::survey(&*found, &filter).map_err(refused)
        })
        .await
    }
}
