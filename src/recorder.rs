//! Where the batches of a scheduler go, as its actor sees it.
//!
//! Owns: the seam between the actor and a store. Does not know: files, or what records say.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::engine::Event;
use crate::engine::ledger::Sealed;
use crate::engine::meter::Histogram;
use crate::error::StoreError;

/// Stores batches, one at a time, and never blocks its caller but at its end: or, where all is to
/// stay on one thread, at once.
pub trait Recorder: Send {
    /// Asks for a batch to be stored. What became of it is returned, if it is known at once, or
    /// comes through the inbox.
    fn append(&mut self, sealed: Sealed) -> Option<Event>;

    /// Looks again for what could not be known at once, and gives room back that is not needed,
    /// when the time has come that [`due`](Self::due) tells.
    fn look(&mut self) -> Option<Event> {
        None
    }

    /// Returns when to look again.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Returns what is known of where the batches are.
    fn report(&self) -> StoreReport;

    /// Closes it in order, after what it was given has been stored, and waits for that, but on a
    /// disk that hangs no longer than `limit`.
    ///
    /// # Errors
    ///
    /// What was wrong. What was said to be stored is so all the same.
    fn close(self: Box<Self>, limit: Duration) -> Result<(), StoreError>;
}

/// What is known of a store beside its batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// How large it is, if that can be told.
    pub bytes: Option<u64>,
    /// When the last batch was stored, and how long that took.
    pub last: Option<(SystemTime, Duration)>,
    /// How long commits took.
    pub commits: Histogram,
}

impl fmt::Debug for dyn Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
