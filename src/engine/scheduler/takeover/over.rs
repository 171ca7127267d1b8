//! What is over of the runs of one task that an earlier term had accepted.
//!
//! Owns: which ends of its runs are known. Does not know: what a node tells, or what follows from
//! that.

use std::ops::Range;

use crate::task::Dispatch;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::engine::scheduler) struct Over {
    /// The last run that was over when the term began, and all before it.
    found: Dispatch,
    /// The last run that is over, as far as the task goes, and all before it.
    upto: Dispatch,
    /// The run that was recorded last, if a node has told of a later one.
    superseded: Option<Dispatch>,
    /// The runs of which it was told in this term how they have ended.
    ended: Vec<Dispatch>,
}

impl Over {
    /// Makes the record of a task of which nothing is known.
    pub fn nothing() -> Self {
        Self::found(Dispatch::new(0))
    }

    /// Makes the record of a task of which the store says that all up to this run are over.
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

    /// Notes that a run is over, as far as the task goes.
    pub fn is_over(&mut self, dispatch: Dispatch) {
        self.upto = self.upto.max(dispatch);
    }

    /// Notes that a node has told how a run has ended.
    pub fn ended(&mut self, dispatch: Dispatch) {
        self.is_over(dispatch);
        self.ended.push(dispatch);
    }

    /// Notes that a later run than the one that was recorded is the task's.
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
