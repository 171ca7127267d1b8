//! Where a scheduler's records outlast its process.
//!
//! Owns: the seam between batches of records and what keeps them, and the words for all that may be
//! wrong there. Does not know: when a record is written, or what follows from it: see
//! [`engine::record`](crate::engine::record) and [`engine::ledger`](crate::engine::ledger).
//!
//! [`codec`] writes records as bytes and [`row`] cuts a batch of them into rows. A [`TaskLog`]
//! keeps those: [`memory`] for tests, [`table`] in a redb database, which [`file`] makes and opens.
//! [`recovery`] reads one when a scheduler starts, and [`writer`] drives it from then on. [`Store`]
//! is what an application says of all this.

use std::path::Path;

use bytes::Bytes;

use crate::engine::SchedulerId;
use crate::engine::record::Claim;

pub mod codec;
pub mod database;
pub mod file;
pub mod memory;
mod place;
pub(crate) mod recorder;
pub mod recovery;
pub mod row;
pub mod table;
pub mod writer;

pub(crate) use place::Opened;
pub use place::Store;

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
    /// Its number, one more than that of the last one; any from 1 on if there was none.
    pub number: u64,
    /// Its rows.
    pub rows: &'a [Bytes],
    /// Batches before this one are not needed any more.
    pub truncate: Option<u64>,
}

/// Hears each row of a log: the number of its batch, and the row.
pub type EachRow<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), LogError>;

/// Takes a copy of what a log held at one moment, to a new file.
pub type Snapshot = Box<dyn FnOnce(&Path) -> Result<(), LogError> + Send>;

/// Where batches are kept. It is called from one thread, which it may block. Every method may be
/// called again after an error.
pub trait TaskLog: Send {
    /// Makes this the only writer. One that was it before is refused from now on, or this one is.
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
    /// Nothing was stored, but for [`LogError::Unknown`]: then `reread` tells.
    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError>;

    /// Opens it anew and returns the number of the last batch that is there, 0 if none is.
    ///
    /// # Errors
    ///
    /// It cannot be told, or another has taken it over.
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

    /// Prepares a copy of what it holds now, which is marked as one.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn snapshot(&mut self) -> Result<Snapshot, LogError>;

    /// Closes it in order. What was appended is durable in any case.
    ///
    /// # Errors
    ///
    /// It could not be tidied up. The next opening does that.
    fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// What is wrong with a log, in words for whoever can mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A later term has taken the log over.
    #[error("another scheduler has opened the store since and goes on with it; stop this one")]
    Fenced,
    /// It holds less than was stored.
    #[error(
        "the store holds less than was stored: an older copy stands in its place; stop the scheduler, and start it on \
         the right file"
    )]
    RolledBack,
    /// Another process has it open.
    #[error(
        "another process has the store open; stop that one, or give this scheduler a file of its own"
    )]
    Locked,
    /// There is no room.
    #[error("there is no room to write: {0}; free some space, and the store goes on by itself")]
    Full(String),
    /// It cannot be written.
    #[error(
        "the store cannot be written: {0}; make the file and its directory writable for this user"
    )]
    ReadOnly(String),
    /// It cannot be reached now, and nothing was stored.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// It is not known whether a batch was stored.
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
    /// A later version has written it.
    #[error("a later version has written the store: {0}; use that version")]
    Newer(String),
    /// It is another scheduler's.
    #[error("the store is that of the scheduler {scheduler:?}; use that name, or another file")]
    Foreign {
        /// Whose.
        scheduler: String,
    },
    /// It is no store.
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
        /// Its size.
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

/// Whether a batch is to be stored after the last one; `false` if it is that one.
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
