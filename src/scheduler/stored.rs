//! What the handle does with a scheduler's store.
//!
//! Owns: the threads on which it is read while the scheduler goes on. Does not know: what is in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::Scheduler;
use crate::contain::contained;
use crate::error::StoreError;
use crate::status::TaskStatus;
use crate::store::export::{ExportError, export};
use crate::store::retained::{self, Cursor, SettledFilter};
use crate::store::{LogError, Snapshot};
use crate::task::{TaskId, TaskKey};

/// Some of the tasks that a store keeps after their end, newest first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SettledPage {
    /// How they ended.
    pub statuses: Vec<TaskStatus>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<Cursor>,
}

impl Scheduler {
    /// Copies the store to a new file, as it is at one moment, while the scheduler goes on. No file
    /// may be there.
    ///
    /// A scheduler that is started on the copy is another one to its nodes. It runs again what has
    /// settled since, and does not know what was accepted since; ids and fencing numbers are not
    /// used again.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), error::StoreError> {
    /// scheduler.backup("/backup/orders.redb").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, the copy is made or not; half of one is never at the path.
    ///
    /// # Errors
    ///
    /// The scheduler has no store or has stopped, or the file cannot be made.
    pub async fn backup(&self, path: impl Into<PathBuf>) -> Result<(), StoreError> {
        let path = path.into();
        self.read_store(move |store| Ok(store.copy(&path)?)).await
    }

    /// Writes every task in the store as a line of JSON, as they are at one moment, while the
    /// scheduler goes on: first those whose status was not handled so far, then those that are
    /// [kept](crate::Keep). Returns what was written to.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let file = std::io::BufWriter::new(std::fs::File::create("orders.jsonl")?);
    /// scheduler.export(file).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, all is written, whether or not anybody waits for it.
    ///
    /// # Errors
    ///
    /// The scheduler has no store or has stopped, it cannot be read, or not be written to `to`.
    pub async fn export<W: io::Write + Send + 'static>(&self, to: W) -> Result<W, StoreError> {
        let mut to = to;
        let exporting = move |store: &dyn Snapshot| match export(store, &mut to) {
            Ok(()) => Ok(to),
            Err(ExportError::Store(error)) => Err(error.into()),
            Err(ExportError::Write(error)) => Err(StoreError::Io(format!(
                "the export cannot be written: {error}"
            ))),
        };
        self.read_store(exporting).await
    }

    /// Returns how a task ended that the store [keeps](crate::Keep); `None` if it keeps none of
    /// this id.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), error::StoreError> {
    /// if let Some(status) = scheduler.settled(id).await? {
    ///     println!("{id}: {}", status.outcome);
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
    /// The scheduler has no store or has stopped, or it cannot be read.
    pub async fn settled(&self, id: TaskId) -> Result<Option<TaskStatus>, StoreError> {
        let name = Arc::clone(&self.inner.name);
        let find = move |store: &dyn Snapshot| {
            let found = retained::find(store, id)?;
            Ok(found.map(|task| retained::status(task, name)))
        };
        self.read_store(find).await
    }

    /// Returns how the last task with this key ended that has settled and that the store
    /// [keeps](crate::Keep); `None` if it keeps none.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), error::StoreError> {
    /// let paid = scheduler.settled_by_key("invoice-7").await?;
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
    /// As for [`Scheduler::settled`].
    pub async fn settled_by_key(
        &self,
        key: impl Into<TaskKey>,
    ) -> Result<Option<TaskStatus>, StoreError> {
        let (key, name) = (key.into(), Arc::clone(&self.inner.name));
        let find = move |store: &dyn Snapshot| {
            let found = retained::find_by_key(store, &key)?;
            Ok(found.map(|task| retained::status(task, name)))
        };
        self.read_store(find).await
    }

    /// Returns at most so many of the failed tasks that the store [keeps](crate::Keep), newest
    /// first: from the last one on, or after an earlier page.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut page = scheduler.failed(None, 100).await?;
    /// for status in &page.statuses {
    ///     println!("{}: {}", status.id, status.outcome);
    ///     scheduler.execute(Execute::again(status)).await?;
    /// }
    /// page = scheduler.failed(page.next, 100).await?;
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
    /// As for [`Scheduler::settled`].
    pub async fn failed(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<SettledPage, StoreError> {
        let name = Arc::clone(&self.inner.name);
        let find = move |store: &dyn Snapshot| {
            let page = retained::page(store, &SettledFilter::default(), after, limit)?;
            let tasks = page.tasks.into_iter();
            let statuses = tasks.map(|task| retained::status(task, Arc::clone(&name)));
            Ok(SettledPage {
                statuses: statuses.collect(),
                next: page.next,
            })
        };
        self.read_store(find).await
    }

    /// Reads what is stored, on a thread of its own.
    async fn read_store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.inner.store.clone().ok_or(StoreError::NoStore)?;
        let (tx, rx) = oneshot::channel();
        let reading = move || {
            let read = contained(|| {
                let snapshot = reader.snapshot()?;
                read(&*snapshot.ok_or(StoreError::Stopped)?)
            });
            let broken = |panic| Err(LogError::Unavailable(panic).into());
            // Whoever asked may have gone.
            drop(tx.send(read.unwrap_or_else(broken)));
        };
        let named = thread::Builder::new().name("callboard-read".to_owned());
        let started = named.spawn(reading);
        started.map_err(|error| StoreError::Io(format!("no thread can be started: {error}")))?;
        rx.await.unwrap_or(Err(StoreError::Stopped))
    }
}
