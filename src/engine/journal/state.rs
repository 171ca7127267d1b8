//! What an operator is told of the store.
//!
//! Owns: the values. Does not know: how they come about.

use crate::engine::Timestamp;

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreState {
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
}

/// Why nothing can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFailure {
    /// Since when.
    pub since: Timestamp,
    /// In words for whoever can mend it.
    pub reason: String,
}
