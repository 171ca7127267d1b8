//! What a node remembers of its scheduler, its links, and where each dispatch is.
//!
//! Owns: the values. Does not know: when they change.

use super::Gone;
use super::prefetch::Spot;
use crate::engine::message::SchedulerHello;
use crate::engine::numbered::Numbered;
use crate::engine::{LinkId, SchedulerId, Timestamp, WorkerId};
use crate::task::Dispatch;

/// What has passed between a node and its scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bond {
    /// The two have said hello; the scheduler has given the node nothing.
    Greeted,
    /// The scheduler has welcomed the node.
    Served,
    /// The scheduler ends, and told the node so.
    Ending,
    /// The scheduler told the node to leave.
    Leaving,
}

/// How far a node is from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Serving,
    /// The node takes nothing new, for good.
    Ending(Gone),
    /// The node has told that it is gone.
    Gone,
}

/// The scheduler that is served.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) scheduler: String,
    pub(super) scheduler_id: SchedulerId,
    /// The highest term of it that has said hello.
    pub(super) term: u64,
    /// The highest dispatch that it has sent.
    pub(super) seen: Dispatch,
    pub(super) bond: Bond,
    /// Whether an assignment of it was ever refused: then it may wait for
    /// [`crate::engine::message::Report::Ready`].
    pub(super) refused: bool,
    /// The largest output that it takes, in bytes.
    pub(super) max_output: usize,
    pub(super) heard: Timestamp,
    pub(super) down_since: Timestamp,
}

impl Session {
    /// Returns whether a hello is that of the scheduler which is served, in whatever term: what it
    /// has given the node is its own over all of them.
    pub(super) fn is_of(&self, hello: &SchedulerHello) -> bool {
        self.scheduler == hello.scheduler && self.scheduler_id == hello.scheduler_id
    }

    /// Returns whether a later term of the scheduler that says hello is served.
    pub(super) fn supersedes(&self, hello: &SchedulerHello) -> bool {
        self.is_of(hello) && self.term > hello.term
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) dialled: bool,
    /// The address of this end.
    pub(super) address: String,
    /// When it was opened, or a hello was last written on it.
    pub(super) since: Timestamp,
    pub(super) heard: Timestamp,
}

/// The one link that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) link: LinkId,
    pub(super) stage: LinkStage,
}

/// How far the link that counts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkStage {
    /// The hello was written, and then what is held, with the reports up to this one.
    Greeted { sent_through: u64 },
    /// The welcome has come.
    Up,
}

/// Where a dispatch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// With this worker: its run, or pipelined behind it. One entry for both, since nearly every
    /// short task goes from the one to the other.
    Worker(WorkerId),
    Prefetched(Spot),
}

/// Where each held dispatch is.
pub(super) type HeldDispatches = Numbered<Dispatch, Whereabouts>;
