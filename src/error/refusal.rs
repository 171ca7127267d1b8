//! Why one side of a link does not want it.
//!
//! Owns: the reasons, each with what to do about it. Does not know: who refuses whom.

use serde::{Deserialize, Serialize};

/// Why a peer's connection was refused. The peer is sent this message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum LinkRefusal {
    /// No protocol version is common to both.
    #[error(
        "no common protocol version: ours are {ours_min} to {ours_max}, the peer's {theirs_min} to {theirs_max}; update the older side"
    )]
    Version {
        /// Our lowest.
        ours_min: u32,
        /// Our highest.
        ours_max: u32,
        /// The peer's lowest.
        theirs_min: u32,
        /// The peer's highest.
        theirs_max: u32,
    },
    /// Another live process has this node's name. The peer may try again.
    #[error("another process is the node {name:?}, and it was heard a moment ago")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// A later process has taken this node's name for good. The peer must stop.
    #[error("a later process has replaced this one as the node {name:?}")]
    Replaced {
        /// The name.
        name: String,
    },
    /// The node at the dialled address says another name than the one expected.
    #[error("the node at this address is named {found:?}, not {expected:?}")]
    WrongName {
        /// Who was expected.
        expected: String,
        /// Who answered.
        found: String,
    },
    /// The scheduler does not take nodes that join by themselves, or has removed this one.
    #[error("the scheduler does not know the node {name:?} and takes none that join")]
    NotExpected {
        /// The name.
        name: String,
    },
    /// The scheduler has as many nodes, or as many kinds and labels of nodes, as it can keep.
    #[error(
        "the scheduler knows as many nodes, or kinds and labels of nodes, as it can; remove nodes that are gone"
    )]
    TooMany,
    /// The scheduler may send args that the node would not take.
    #[error(
        "the node takes frames of at most {takes} bytes and the scheduler may send it {needs}; raise `max_frame` on \
         the node (`configure_link`), or lower `max_task_args` on the scheduler"
    )]
    SmallFrames {
        /// The node's `max_frame`.
        takes: u64,
        /// The scheduler's `max_task_args`, and what a frame holds beside.
        needs: u64,
    },
    /// The node serves another scheduler, heard a moment ago.
    #[error("the node serves the scheduler {name:?}, which was heard a moment ago")]
    Busy {
        /// The scheduler that it serves.
        name: String,
    },
    /// The node serves a later start of this scheduler. The peer must not go on.
    #[error(
        "the node serves a later start of this scheduler (term {term}): the store of this one is a copy, or was put \
         back to an earlier state. If the later one runs, stop this one; if this one is to go on in its place, end the \
         later one and run `callboard store relive` on the store of this one, which takes up none of what runs now"
    )]
    Superseded {
        /// The term that the node serves.
        term: u64,
    },
    /// The node serves other schedulers only.
    #[error("the node does not serve the scheduler {name:?}; add it to the node's `schedulers`")]
    NotServed {
        /// The scheduler.
        name: String,
    },
    /// The node serves as many schedulers as one can. The peer may try again.
    #[error("the node serves {limit} schedulers at once, which is as many as it can")]
    TooManySchedulers {
        /// How many that is.
        limit: usize,
    },
    /// With TLS, the peer's certificate does not bear the name that the peer claims.
    #[error("{message}")]
    NotCertified {
        /// The name, and what is wrong with it.
        message: String,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
    /// The side is stopping.
    #[error("this side is stopping")]
    Stopping,
}
