//! Where a scheduler's records outlast its process.
//!
//! Owns: the seam between batches of records and what keeps them, and the words for all that may be
//! wrong there. Does not know: when a record is written, or what follows from it: see
//! [`engine::record`](crate::engine::record) and [`engine::ledger`](crate::engine::ledger).
//!
//! [`codec`] writes records as bytes and [`row`] cuts a batch of them into rows. A [`TaskLog`]
//! keeps those: [`memory`] for tests, [`table`] in a redb database, which [`file`] makes and opens.
//! [`recovery`] reads one when a scheduler starts, and [`writer`] drives it from then on. What has
//! settled is kept beside it as [`retained`] writes it, and [`export`] tells of all that is there.
//! [`Store`] is what an application says of all this.

use std::path::Path;

use bytes::Bytes;

use crate::engine::keep::{Ended, Keep};
use crate::engine::record::Claim;
use crate::engine::{SchedulerId, Timestamp};
use crate::task::{TaskId, TaskKey};

pub mod codec;
pub mod database;
pub mod export;
pub mod file;
pub mod json;
mod left_running;
pub mod memory;
mod place;
pub(crate) mod recorder;
pub mod recovery;
pub mod retained;
pub mod row;
pub mod table;
#[cfg(feature = "cli")]
pub mod tool;
pub mod writer;

pub(crate) use left_running::LeftRunning;
pub use place::Store;
pub(crate) use place::{Opened, refused};

/// Who wants to write.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    /// The scheduler's name.
    pub scheduler: &'a str,
    /// The scheduler id of a log that is new, or that was a copy.
    pub new_id: SchedulerId,
}

/// The rows of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The number of the batch, one more than that of the last one; any from 1 on if there was
    /// none.
    pub number: u64,
    /// The rows of the batch.
    pub rows: &'a [Bytes],
    /// Batches before this one are not needed any more.
    pub truncate: Option<u64>,
    /// What is kept beside the log, if anything is to be done about that.
    pub keeping: Option<Keeping<'a>>,
}

/// Tasks that have settled and are kept beside the log, and which of all that are kept stay so.
#[derive(Clone, Copy, Debug)]
pub struct Keeping<'a> {
    /// The endings that are new.
    pub endings: &'a [KeptEnding],
    /// How much is kept.
    pub keep: &'a Keep,
    /// The time at which this is decided.
    pub now: Timestamp,
}

/// A task that has settled, as it is kept. Its bytes are those that [`retained`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEnding {
    /// The task.
    pub id: TaskId,
    /// How it ended.
    pub ended: Ended,
    /// When the task settled.
    pub at: Timestamp,
    /// The key of the task.
    pub key: Option<TaskKey>,
    /// All that is known of the task.
    pub bytes: Bytes,
}

/// Hears each row of a log: the number of its batch, and the row.
pub type EachRow<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), LogError>;

/// Hears what is kept of one task; `false` is enough.
pub type EachEnding<'a> = &'a mut dyn FnMut(&[u8]) -> Result<bool, LogError>;

/// What a log held at one moment, to be read on any thread while the log goes on.
pub trait Snapshot: Send {
    /// Copies all to a new file, which is marked as a copy.
    ///
    /// # Errors
    ///
    /// This cannot be read, or the file cannot be made.
    fn copy(&self, path: &Path) -> Result<(), LogError>;

    /// Gives every row, in order: the number of its batch, and the row.
    ///
    /// # Errors
    ///
    /// A row cannot be read, or `each` has refused one: its error is returned.
    fn replay(&self, each: EachRow<'_>) -> Result<(), LogError>;

    /// Returns what is kept of a task that has settled.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn kept(&self, id: TaskId) -> Result<Option<Bytes>, LogError>;

    /// Returns what is kept of the last task with this key that has settled.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn kept_by_key(&self, key: &TaskKey) -> Result<Option<Bytes>, LogError>;

    /// Gives what is kept of those that have ended so, newest first, from before this time and
    /// task, or from the last one.
    ///
    /// # Errors
    ///
    /// One cannot be read, or `each` has refused it: its error is returned.
    fn each_kept(
        &self,
        ended: Ended,
        before: Option<(Timestamp, TaskId)>,
        each: EachEnding<'_>,
    ) -> Result<(), LogError>;
}

/// Where batches are kept. It is called from one thread, which it may block. Every method may be
/// called again after an error.
pub trait TaskLog: Send {
    /// Makes this the only writer. The writer before is refused from now on, or else this one is.
    ///
    /// # Errors
    ///
    /// Another has it open, it is another scheduler's, or it cannot be read or written.
    fn claim(&mut self, who: &Claimant<'_>) -> Result<Claim, LogError>;

    /// Gives every row that is kept, in order: the number of its batch, and the row.
    ///
    /// # Errors
    ///
    /// A row cannot be read, or `each` has refused one: its error is returned.
    fn replay(&mut self, each: EachRow<'_>) -> Result<(), LogError>;

    /// Appends all rows of a batch, or none. They are durable when it returns. A batch that is
    /// there already is not stored again.
    ///
    /// # Errors
    ///
    /// Nothing was stored, except perhaps after [`LogError::Unknown`]: then `reread` tells.
    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError>;

    /// Opens the log anew. Returns the number of the last batch that is there, 0 if there is none.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or another process has taken it over.
    fn reread(&mut self) -> Result<u64, LogError>;

    /// Batches before this one are not needed any more. When they go is the log's affair; the last
    /// batch always stays.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    fn truncate(&mut self, before: u64) -> Result<(), LogError>;

    /// Checks that what is appended is where the next opener finds it.
    ///
    /// # Errors
    ///
    /// It was removed, or something else stands in its place.
    fn check(&mut self) -> Result<(), LogError>;

    /// Returns how large a row may be, in bytes.
    fn max_row(&self) -> usize;

    /// Returns what it holds now.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, LogError>;

    /// Forgets what is kept of these tasks. Returns how many of them had been kept.
    ///
    /// # Errors
    ///
    /// Nothing was forgotten.
    fn forget(&mut self, ids: &[TaskId]) -> Result<usize, LogError>;

    /// Gives room back that is not needed any more, if that is worth while. It is called when
    /// nothing was appended for a while, and may take a moment.
    ///
    /// # Errors
    ///
    /// The room could not be given back; nothing is lost.
    fn tidy(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    /// Closes the log in order. What was appended is durable in any case.
    ///
    /// # Errors
    ///
    /// The log could not be tidied up. The next opening does that.
    fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// What is wrong with a log, in words for whoever can mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A later term has taken the log over.
    #[error("another scheduler has opened the store since and goes on with it; stop this one")]
    Fenced,
    /// The log holds less than was stored.
    #[error(
        "the store holds less than was stored: an older copy stands in its place; stop the scheduler, and start it on \
         the right file"
    )]
    RolledBack,
    /// Another process has the log open.
    #[error(
        "another process has the store open; stop that one, or give this scheduler a file of its own"
    )]
    Locked,
    /// There is no room.
    #[error("there is no room to write: {0}; free some space, and the store goes on by itself")]
    Full(String),
    /// The log cannot be written.
    #[error(
        "the store cannot be written: {0}; make the file and its directory writable for this user"
    )]
    ReadOnly(String),
    /// The log cannot be reached now, and nothing was stored.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// Nobody knows whether a batch was stored.
    #[error("it is not known whether the store has taken it: {0}")]
    Unknown(String),
    /// What is read is not what was written.
    #[error("the store is damaged at batch {batch}: {what}; nothing of it was used or changed")]
    Damaged {
        /// The batch, or 0 if none can be named.
        batch: u64,
        /// What is wrong.
        what: String,
    },
    /// A later version of callboard has written the log.
    #[error("a later version has written the store: {0}; use that version")]
    Newer(String),
    /// The log belongs to another scheduler.
    #[error("the store is that of the scheduler {scheduler:?}; use that name, or another file")]
    Foreign {
        /// The name of that scheduler.
        scheduler: String,
    },
    /// The file is no store.
    #[error("this is no store of callboard: {0}; it was left as it is")]
    NotAStore(String),
    /// The file was removed, or something else stands in its place.
    #[error(
        "{0}; what was stored since lives only as long as this process, so shut the scheduler down and start it anew"
    )]
    Missing(String),
    /// There is no directory to make the file in.
    #[error("there is no directory {0} for the store; make it, or name another file")]
    NoDirectory(String),
    /// A row is larger than may be.
    #[error("a row of {bytes} bytes is larger than the {limit} that the store takes")]
    TooLarge {
        /// The size of the batch.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A batch does not follow the last one.
    #[error("batch {number} was to follow batch {last}")]
    Misplaced {
        /// The last batch.
        last: u64,
        /// The one that was refused.
        number: u64,
    },
}

/// Returns whether a batch is to be stored after the last one; `false` if it is that one.
fn follows(last: u64, number: u64) -> Result<bool, LogError> {
    match last {
        0 if number > 0 => Ok(true),
        _ if number == last => Ok(false),
        _ if last.checked_add(1) == Some(number) => Ok(true),
        _ => Err(LogError::Misplaced { last, number }),
    }
}

fn check_sizes(rows: &[Bytes], limit: usize) -> Result<(), LogError> {
    match rows.iter().map(Bytes::len).find(|&bytes| bytes > limit) {
        Some(bytes) => Err(LogError::TooLarge { bytes, limit }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
