//! What few tasks need, behind one pointer.
//!
//! Owns: the options of a task that has any, its watcher and cancels, and what became of its
//! earlier runs. Does not know: what is common to all tasks.

use super::{Cancels, Losses, NO_GROUP, Start, TaskGroupId};
use crate::engine::ids::NodeIndex;
use crate::engine::{ClientId, Incarnation, NodeId, Timestamp};
use crate::retry::RetryPolicy;
use crate::status::Failure;
use crate::task::{Dispatch, TaskGroup, TaskId, TaskKey};
use crate::trace::{TraceContext, TraceMode};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub timeout: Option<std::time::Duration>,
    pub deadline: Option<Timestamp>,
    pub retry: Option<RetryPolicy>,
    pub max_reroutes: Option<u32>,
    pub key: Option<TaskKey>,
    pub group: Option<InGroup>,
    pub trace: Option<TraceContext>,
    pub trace_mode: Option<TraceMode>,
    /// The task that it repeats.
    pub again_of: Option<TaskId>,
    pub watcher: Option<ClientId>,
    /// Whether callers wait for its ending beside its audience.
    pub callers: bool,
    pub exclusive: bool,
    /// Whether the run that an earlier term has placed can only end by itself: its node has not
    /// said again what it offers.
    pub blocking: bool,
    /// A cancel was asked for.
    pub cancelling: bool,
    /// Cancels that were not answered.
    pub cancels: Cancels,
    /// incarnations of nodes that were lost under a started run of it.
    pub lost_on: Losses,
    /// The incarnation that was lost when the task had been prefetched to it. There is one at most.
    pub lost_prefetched_on: Option<(NodeId, Incarnation)>,
    /// The starts of runs that cannot be the task's again, the last one last: since what was sent
    /// to a free worker counts as started, its node may deny the last ones. None is from before
    /// the last that is certain.
    pub starts: Vec<Start>,
    /// Earlier runs of it that are orphans.
    pub orphans: Vec<(NodeIndex, Dispatch)>,
    pub last_failure: Option<Failure>,
    /// When its progress has come as fast as it may: see `reports`.
    pub progress_until: Timestamp,
}

/// The group of a task: its name, and its number in the catalogue.
#[derive(Debug)]
pub(crate) struct InGroup {
    pub name: TaskGroup,
    pub id: TaskGroupId,
}

impl InGroup {
    /// Makes a group that the catalogue does not know yet.
    pub fn new(name: TaskGroup) -> Self {
        Self { name, id: NO_GROUP }
    }
}

/// Starts that a node may deny: more only a task has whose nodes were removed under it again and
/// again.
const MAX_STARTS: usize = 16;

impl Rare {
    pub(super) fn note_start(&mut self, start: Start) {
        if self.starts.len() == MAX_STARTS {
            self.starts.remove(0);
        }
        self.starts.push(start);
    }

    /// Returns the incarnations that were lost with a run of it, or with what may have become one.
    pub fn lost_processes(&self) -> impl Iterator<Item = &(NodeId, Incarnation)> {
        self.lost_on.all().chain(&self.lost_prefetched_on)
    }
}
