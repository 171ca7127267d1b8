//! What a node remembers of its scheduler, its links, and where each dispatch is.
//!
//! Owns: the values. Does not know: when they change.

use super::ahead::Spot;
use crate::engine::message::SchedulerHello;
use crate::engine::numbered::Numbered;
use crate::engine::{Life, LinkId, Timestamp, WorkerId};
use crate::task::Dispatch;

/// The scheduler that is served.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) scheduler: String,
    pub(super) life: Life,
    /// Whether it has ever welcomed the node.
    pub(super) served: bool,
    /// Whether it told the node to leave.
    pub(super) leaving: bool,
    /// Whether an assignment of it was ever refused: then it may wait for [`crate::engine::message::Report::Ready`].
    pub(super) refused: bool,
    /// The largest output that it takes, in bytes.
    pub(super) max_output: usize,
    pub(super) heard: Timestamp,
    pub(super) down_since: Timestamp,
}

impl Session {
    pub(super) fn serves(&self, hello: &SchedulerHello) -> bool {
        self.scheduler == hello.scheduler && self.life == hello.life
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) dialled: bool,
    /// When it was opened, or a hello was last written on it.
    pub(super) since: Timestamp,
    pub(super) heard: Timestamp,
}

/// The one link that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) link: LinkId,
    /// Whether the welcome has come.
    pub(super) up: bool,
    /// The last report that its holdings contain.
    pub(super) sent_through: u64,
}

/// Where a dispatch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// With this worker: its run, or chained behind it. One entry for both, since nearly every short task goes from
    /// the one to the other.
    Worker(WorkerId),
    Ahead(Spot),
}

/// Where each held dispatch is.
pub(super) type Held = Numbered<Dispatch, Place>;
