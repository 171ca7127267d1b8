//! What an operator is told of the store.
//!
//! Owns: the values. Does not know: how they come about.

use super::Journal;
use crate::engine::Timestamp;

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalState {
    /// Since when nothing can be stored and why, if so.
    pub failure: Option<StoreFailure>,
    /// Tasks that wait to be stored.
    pub unstored_tasks: usize,
    /// About how many bytes these take.
    pub unstored_bytes: u64,
    /// Batches that were stored in this term.
    pub batches: u64,
    /// The bytes of these.
    pub bytes: u64,
    /// The bytes that the log has.
    pub log_bytes: u64,
    /// How many of them are needed still, by estimate.
    pub living_bytes: u64,
}

/// Why nothing can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFailure {
    /// Since when nothing can be stored.
    pub since: Timestamp,
    /// What is wrong, in words for an operator.
    pub reason: String,
}

impl Journal {
    /// Returns how the store is.
    pub fn state(&self) -> JournalState {
        JournalState {
            failure: self.failure().cloned(),
            unstored_tasks: self.unstored_tasks,
            unstored_bytes: self.unstored_bytes,
            batches: self.batches,
            bytes: self.bytes,
            log_bytes: self.cleaning.bytes(),
            living_bytes: self.cleaning.living_bytes(),
        }
    }
}
