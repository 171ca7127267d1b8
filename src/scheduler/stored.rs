//! What the handle does with a scheduler's store.
//!
//! Owns: the threads on which it is read while the scheduler goes on, and what is handed in again.
//! Does not know: what is in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Scheduler;
use crate::contain::contained;
use crate::error::{Refusal, StoreError};
use crate::execute::{Execute, ExecuteAgainError};
use crate::status::TaskStatus;
use crate::store::export::{ExportError, export};
use crate::store::retained::{self, Cursor, SettledFilter};
use crate::store::writer::Reader;
use crate::store::{LogError, Snapshot, refused};
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

/// What became of a task that was handed in again, one of many.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutedAgain {
    /// The task that had settled.
    pub of: TaskId,
    /// The new task, or why it was refused.
    pub answer: Result<TaskId, Refusal>,
}

/// How many tasks are handed in again at once.
const AGAIN_AT_ONCE: usize = 1024;

/// Makes the task once more, due at once, though the first one had to wait.
fn again(status: &TaskStatus) -> Execute {
    Execute::again(status).delay(Duration::ZERO)
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
        self.read_store(move |store| store.copy(&path)).await
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
            Err(ExportError::Store(error)) => Err(error),
            Err(ExportError::Write(error)) => Err(LogError::Unavailable(format!(
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
    /// # async fn example(scheduler: Scheduler) -> Result<(), error::StoreError> {
    /// let mut page = scheduler.failed(None, 100).await?;
    /// for status in &page.statuses {
    ///     println!("{}: {}", status.id, status.outcome);
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
        let filter = SettledFilter::default();
        self.settled_page(filter, after, limit).await
    }

    /// Hands a task in again that has settled and that the store [keeps](crate::Keep): as a new
    /// one, due at once, with the same args and options. Returns its id. Its status says [whose
    /// repeat](TaskStatus::again_of) it is, and goes to the scheduler's client.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # use std::error::Error;
    /// # async fn example(scheduler: Scheduler, id: TaskId) -> Result<(), Box<dyn Error>> {
    /// let again = scheduler.execute_again(id).await?;
    /// println!("{again} repeats {id}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The first one stays kept, and a second call repeats it once more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the task was handed in.
    ///
    /// # Errors
    ///
    /// See [`ExecuteAgainError`]. Nothing was handed in.
    pub async fn execute_again(&self, id: TaskId) -> Result<TaskId, ExecuteAgainError> {
        let status = self.settled(id).await?;
        let status = status.ok_or(ExecuteAgainError::NotKept { id })?;
        Ok(self.execute(again(&status)).await?)
    }

    /// Does what [`execute_again`](Self::execute_again) does with all tasks that a filter means, of
    /// those that the store keeps now: the one that settled first is handed in first. Each is
    /// accepted or refused by itself.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let filter = SettledFilter::default().kind("mail").message("connection refused");
    /// for again in scheduler.execute_again_all(filter).await? {
    ///     println!("{}: {:?}", again.of, again.answer);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// All of them are in memory at once, as they are kept: 64 MiB of args and outcomes by default.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open which tasks were handed in.
    ///
    /// # Errors
    ///
    /// See [`ExecuteAgainError`]: the filter names neither a kind nor a part of the message nor a
    /// time, or the store cannot be read. Nothing was handed in.
    pub async fn execute_again_all(
        &self,
        filter: SettledFilter,
    ) -> Result<Vec<ExecutedAgain>, ExecuteAgainError> {
        if filter.means_all() {
            return Err(ExecuteAgainError::MeansAll);
        }
        let mut kept = self.settled_page(filter, None, usize::MAX).await?.statuses;
        kept.reverse();
        let mut all = Vec::with_capacity(kept.len());
        for statuses in kept.chunks(AGAIN_AT_ONCE) {
            let answers = self.execute_many(statuses.iter().map(again).collect());
            let answers = statuses.iter().zip(answers.await);
            all.extend(answers.map(|(status, answer)| ExecutedAgain {
                of: status.id,
                answer: answer.map_err(|error| error.refusal),
            }));
        }
        Ok(all)
    }

    pub(crate) async fn settled_page(
        &self,
        filter: SettledFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<SettledPage, StoreError> {
        let name = Arc::clone(&self.inner.name);
        let find = move |store: &dyn Snapshot| {
            let page = retained::page(store, &filter, after, limit)?;
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
        read: impl FnOnce(&dyn Snapshot) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reading = move |store: &Reader| {
            let snapshot = store.snapshot().map_err(refused)?;
            read(&*snapshot.ok_or(StoreError::Stopped)?).map_err(refused)
        };
        self.with_store(reading).await
    }

    /// Does something with the store, on a thread of its own.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.inner.store.clone().ok_or(StoreError::NoStore)?;
        let (tx, rx) = oneshot::channel();
        let acting = move || {
            let acted = contained(|| act(&store));
            let broken = |panic| Err(StoreError::Io(panic));
            // Whoever asked may have gone.
            drop(tx.send(acted.unwrap_or_else(broken)));
        };
        let named = thread::Builder::new().name("callboard-read".to_owned());
        let started = named.spawn(acting);
        started.map_err(|error| StoreError::Io(format!("no thread can be started: {error}")))?;
        rx.await.unwrap_or(Err(StoreError::Stopped))
    }
}
