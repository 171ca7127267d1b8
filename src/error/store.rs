//! What is wrong with a store, as an application is told.

use crate::task::TaskId;

/// Why a store cannot be used. See the words of each for what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open, and still had when the time was over that
    /// `Store::wait` gives.
    #[error(
        "another process has the store open; stop that one, wait for its end by `Store::wait`, or give this scheduler a \
         file of its own"
    )]
    Locked,
    /// It may not be read or written.
    #[error(
        "the store cannot be written: {0}; make the file and its directory writable for this user"
    )]
    ReadOnly(String),
    /// There is no room on its disk.
    #[error("there is no room to write to the store: {0}; free some space")]
    Full(String),
    /// Its file or its directory is not there.
    #[error("the store is not there: {0}")]
    Missing(String),
    /// What is read is not what was written.
    #[error(
        "the store is damaged at batch {batch}: {what}; nothing of it was used or changed. Start from a backup, or let \
         `callboard store salvage` copy what is whole"
    )]
    Damaged {
        /// The batch, or 0 if none can be named.
        batch: u64,
        /// What is wrong.
        what: String,
    },
    /// A later version has written it.
    #[error("a later version has written the store: {0}; use that version, or another file")]
    Newer(String),
    /// It is another scheduler's.
    #[error(
        "the store is that of the scheduler {scheduler:?}; start the scheduler by that name, or give it another file"
    )]
    Foreign {
        /// Whose.
        scheduler: String,
    },
    /// It is no store.
    #[error("this is no store of callboard: {0}; it was left as it is, so name another file")]
    NotAStore(String),
    /// A task that is stored has larger args than the settings allow.
    #[error(
        "the args of the stored task {task} are {bytes} bytes, more than the limit of {limit}; raise `max_task_args`, \
         and `max_frame` if need be"
    )]
    TooLarge {
        /// The task.
        task: TaskId,
        /// The size of its args.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Something else went wrong with it.
    #[error("the store cannot be used: {0}")]
    Io(String),
    /// The scheduler has none.
    #[error("the scheduler has no store; give its builder one by `store`")]
    NoStore,
    /// The scheduler has stopped.
    #[error("the scheduler has stopped")]
    Stopped,
}

impl From<super::Stopped> for StoreError {
    fn from(_: super::Stopped) -> Self {
        Self::Stopped
    }
}
