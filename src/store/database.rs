//! What a log in a database needs of the place where that is kept.
//!
//! Owns: the seam below a [`TableLog`](super::table::TableLog), and what each error of redb and of
//! a file means. Does not know: files, or what is in a database.

use std::io;

use redb::Database;

use super::LogError;
use crate::contain::contained;

/// Writes what a new database begins with.
pub type Fill<'a> = &'a dyn Fn(&Database) -> Result<(), LogError>;

/// How a database is had, again after each error.
pub trait Opener: Send {
    /// Opens the database. If it is missing, makes it, and fills it before anybody sees it.
    ///
    /// # Errors
    ///
    /// The database can be neither opened nor made.
    fn open(&mut self, fill: Fill<'_>) -> Result<Database, LogError>;

    /// Returns how many bytes it takes where it is kept, if that can be told.
    fn size(&self) -> Option<u64> {
        None
    }

    /// See [`TaskLog::check`](super::TaskLog::check).
    ///
    /// # Errors
    ///
    /// It is not where the next opener looks.
    fn check(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}

pub(super) fn damaged(what: String) -> LogError {
    LogError::Damaged { batch: 0, what }
}

/// Calls redb, which may panic at what a damaged file holds: that is damage.
pub(super) fn guarded<R>(act: impl FnOnce() -> Result<R, LogError>) -> Result<R, LogError> {
    contained(act)
        .unwrap_or_else(|panic| Err(damaged(format!("the database could not go on: {panic}"))))
}

/// Returns what an error of redb means.
pub(super) fn of(error: impl Into<redb::Error>) -> LogError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => LogError::Locked,
        redb::Error::Corrupted(what) => damaged(what),
        redb::Error::UpgradeRequired(version) => {
            LogError::NotAStore(format!("it is a database of version {version} of redb"))
        }
        redb::Error::Io(error) => of_io(&error),
        other => LogError::Unavailable(other.to_string()),
    }
}

/// Returns what an error of a file means.
pub(super) fn of_io(error: &io::Error) -> LogError {
    let why = error.to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            LogError::Full(why)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            LogError::ReadOnly(why)
        }
        io::ErrorKind::UnexpectedEof => damaged(format!("it is cut short: {why}")),
        io::ErrorKind::InvalidData => LogError::NotAStore(why),
        _ => LogError::Unavailable(why),
    }
}
