//! What is wrong with a store, as an application is told.

use crate::task::TaskId;

/// Why a store cannot be used. See the words of each for what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open, or the last start on it has left a handler running in
    /// this process that blocks and whose task is exclusive, and so it was until the time of
    /// `Store::wait` was over. Nothing was changed. Try again when that has ended.
    #[error(
        "the store is in use, by another process or by a handler that blocks and that the last start has left running in \
         this one; stop that process, wait for the end by `Store::wait`, or give this scheduler a file of its own"
    )]
    Locked,
    /// This user may not read or write the store.
    #[error(
        "the store cannot be written: {0}; make the file and its directory writable for this user"
    )]
    ReadOnly(String),
    /// There is no room on the disk of the store.
    #[error("there is no room to write to the store: {0}; free some space")]
    Full(String),
    /// The file of the store, or its directory, is not there.
    #[error("the store is not there: {0}")]
    Missing(String),
    /// The store is damaged: what is read is not what was written.
    #[error(
        "the store is damaged at batch {batch}: {what}; nothing of it was used or changed. Start from a backup, or let \
         `callboard store salvage` copy what is whole"
    )]
    Damaged {
        /// The first damaged batch; 0 if none can be named.
        batch: u64,
        /// What is wrong.
        what: String,
    },
    /// A later version of callboard has written the store.
    #[error("a later version has written the store: {0}; use that version, or another file")]
    Newer(String),
    /// The store belongs to another scheduler.
    #[error(
        "the store is that of the scheduler {scheduler:?}; start the scheduler by that name, or give it another file"
    )]
    Foreign {
        /// The name of that scheduler.
        scheduler: String,
    },
    /// The file is no store.
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
    /// Something else went wrong with the store.
    #[error("the store cannot be used: {0}")]
    Io(String),
    /// The scheduler has no store.
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
