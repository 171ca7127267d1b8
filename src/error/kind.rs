//! Why a wish about a kind was not followed.
//!
//! Owns: the reasons. Does not know: what can be wished.

use super::Stopped;
use crate::task::TaskKind;

/// Why a kind could not be paused or limited, or its intake not be closed. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// The caller's fault: no kind can have this name.
    #[error(
        "{kind:?} cannot be the name of a kind: it must have 1 to {} bytes, none of them control or invisible characters",
        TaskKind::MAX_BYTES
    )]
    Invalid {
        /// The name.
        kind: TaskKind,
    },
    /// The caller's fault: as many kinds are set so already as can be. Set some of them back.
    #[error("{limit} kinds are set so already, which is as many as can be; set some of them back")]
    TooMany {
        /// How many that is.
        limit: usize,
    },
    /// The caller's fault: a number of a limit is out of its range.
    #[error("{0}")]
    Limit(String),
    /// The scheduler has stopped.
    #[error("the scheduler has stopped")]
    Stopped,
}

impl From<Stopped> for KindError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
