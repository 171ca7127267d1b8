//! What is over of the runs of one task that an earlier term had accepted.
//!
//! Owns: which ends of its runs are known. Does not know: what a node tells, or what follows from
//! that.

use std::ops::Range;

use crate::task::Dispatch;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::engine::scheduler) struct Over {
    /// All up to this one were when the term began.
    found: Dispatch,
    /// All up to this one are, as far as the task goes.
    upto: Dispatch,
    /// The run that was recorded last, if a node has told of a later one.
    superseded: Option<Dispatch>,
    /// Those of which it was told in this term how they have ended.
    ended: Vec<Dispatch>,
}

impl Over {
    /// Nothing is known of a task.
    pub fn nothing() -> Self {
        Self::found(Dispatch::new(0))
    }

    /// The store says that all up to this one are over.
    pub fn found(upto: Dispatch) -> Self {
        Self {
            found: upto,
            upto,
            superseded: None,
            ended: Vec::new(),
        }
    }

    /// Returns up to which one all are over.
    pub fn upto(&self) -> Dispatch {
        self.upto
    }

    /// A run is over, as far as the task goes.
    pub fn is_over(&mut self, dispatch: Dispatch) {
        self.upto = self.upto.max(dispatch);
    }

    /// A node has told how a run has ended.
    pub fn ended(&mut self, dispatch: Dispatch) {
        self.is_over(dispatch);
        self.ended.push(dispatch);
    }

    /// A later run than the one that was recorded is the task's.
    pub fn superseded(&mut self, recorded: Dispatch) {
        self.superseded = Some(recorded);
    }

    /// Returns whether a node may tell news by the end of this run, which is not the task's: it had
    /// one before, in the `tail` or recorded, and it is not known how that ended.
    pub fn is_news(&self, dispatch: Dispatch, tail: &Range<u64>) -> bool {
        let may_be = tail.contains(&dispatch.get()) || self.superseded == Some(dispatch);
        may_be && dispatch > self.found && !self.ended.contains(&dispatch)
    }
}
