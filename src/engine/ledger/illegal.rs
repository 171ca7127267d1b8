//! Records that cannot follow from those before them.
//!
//! Owns: the words for each. Does not know: how one is noticed.

use crate::engine::record::Term;
use crate::task::TaskId;

/// Why a record cannot follow from those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// Batches are missing, or doubled.
    #[error("batch {found} follows batch {last}")]
    Gap {
        /// The number of the one before.
        last: u64,
        /// The number.
        found: u64,
    },
    /// A term does not begin with its head, or is not higher than the one before.
    #[error("{found} follows {last} without a head of its own")]
    Term {
        /// The term before.
        last: Term,
        /// The one that was found.
        found: Term,
    },
    /// A head is that of another scheduler.
    #[error("a head names another scheduler than those before it")]
    OtherScheduler,
    /// No head is left.
    #[error("there is no head")]
    NoHead,
    /// Something was written after the end of its term.
    #[error("a record follows the end of its term")]
    AfterEnd,
    /// A number was given out that was not reserved, or less is reserved than before.
    #[error("{0} is beyond what is reserved")]
    NotReserved(u64),
    /// A task was accepted again as another one.
    #[error("{0} was accepted twice, as two tasks")]
    AcceptedTwice(TaskId),
    /// A record tells of a task that was not accepted, or is over.
    #[error("a record tells of {0}, which is not there")]
    Unknown(TaskId),
    /// A task has settled and goes on.
    #[error("{0} has settled, and then has changed, was placed or has settled again")]
    SettledBefore(TaskId),
    /// The ending of a task was told, or its key freed, before it had settled.
    #[error("{0} was confirmed or freed before it had settled")]
    NotSettled(TaskId),
}
