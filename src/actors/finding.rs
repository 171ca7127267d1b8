//! One step of a search among the unfinished tasks, and the numbers of plots, as messages.
//!
//! Owns: the messages. Does not know: what passes (see the machine), or when the next step is asked
//! for.

use std::sync::Arc;

use actix::Message;

use crate::error::Stopped;
use crate::search::{Search, Step, TaskFilter};
use crate::task::TaskId;

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): look at some tasks, from the first on
/// or after another, and return at most so many that pass.
#[derive(Clone, Debug)]
pub(crate) struct Find {
    pub filter: Arc<TaskFilter>,
    pub after: Option<TaskId>,
    pub limit: usize,
    /// Whether their args are wanted, too.
    pub with_args: bool,
}

impl Find {
    /// Returns what the machine is asked.
    pub fn search(&self) -> Search<'_> {
        Search {
            filter: &self.filter,
            after: self.after,
            limit: self.limit,
            with_args: self.with_args,
        }
    }
}

impl Message for Find {
    type Result = Result<Step, Stopped>;
}

/// To a [`SchedulerActor`](super::scheduler::SchedulerActor): the numbers of plots.
#[cfg(feature = "dashboard")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct GetPulse;

#[cfg(feature = "dashboard")]
impl Message for GetPulse {
    type Result = Result<crate::engine::meter::Pulse, Stopped>;
}
