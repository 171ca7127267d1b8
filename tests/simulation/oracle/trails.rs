//! What is remembered of a task's way.
//!
//! Owns: the judgement of notes and of attempts that came to nothing. Does not know: how they came.

use std::collections::BTreeSet;

use callboard::status::Outcome;
use callboard::task::{Dispatch, TaskId};

use super::Facts;
use crate::args::{notes, output};
use crate::cluster::Cluster;
use crate::scheduler::clock;

impl Cluster {
    /// Judges that a note is of a run that began, and that no attempt is told twice, nor that which
    /// completed the task. Where no link was lost, each start has left its note.
    pub fn judge_trails(&mut self) {
        // A link may also be replaced by another, where nothing goes wrong.
        let metrics = self.scheduler.machine.metrics(clock(self.now));
        let links_stay = metrics.links_lost.iter().all(|(_, count)| *count == 0);
        let faultless = self.plan.family.has_no_faults() && links_stay;
        let mut wrong: Option<(TaskId, String)> = None;
        for (&id, facts) in self.oracle.now_tasks() {
            let trail = self.scheduler.machine.trail(id);
            let noted: Vec<Dispatch> = trail.notes.iter().map(|it| it.dispatch).collect();
            let lost: Vec<Dispatch> = trail.attempts.iter().map(|it| it.dispatch).collect();
            let distinct: BTreeSet<_> = lost.iter().collect();
            let begun = |dispatch: &Dispatch| {
                let mut starts = facts.starts.iter();
                facts.unstarted.contains(dispatch) || starts.any(|it| it.dispatch == *dispatch)
            };
            let text = if !noted.iter().all(begun) {
                format!("{noted:?} have noted something, and not all of them began")
            } else if distinct.len() != lost.len() {
                format!("{lost:?} are told to have come to nothing")
            } else if lost.iter().any(|&dispatch| facts.settled_by(dispatch)) {
                format!("one of {lost:?} has completed the task, not come to nothing")
            } else if faultless && facts.ends_undisturbed() && !facts.has_noted(&noted) {
                format!("{noted:?} have noted something, and more began")
            } else {
                continue;
            };
            wrong = Some((id, text));
        }
        if let Some((id, text)) = wrong {
            self.fail("trail", id, text);
        }
    }
}

impl Facts {
    /// Returns whether nothing can settle the task while a run of it goes on.
    fn ends_undisturbed(&self) -> bool {
        let options = self.sent.options.as_ref();
        let deadline = options.and_then(|options| options.deadline);
        !self.cancel_asked && deadline.is_none() && self.restarts == 0 && self.starts.len() < 16
    }

    /// Returns whether the task was completed by this run.
    fn settled_by(&self, dispatch: Dispatch) -> bool {
        matches!(self.outcome(), Some(Outcome::Completed(it)) if *it == output(dispatch))
    }

    fn has_noted(&self, noted: &[Dispatch]) -> bool {
        !notes(&self.sent.args) || self.starts.iter().all(|it| noted.contains(&it.dispatch))
    }
}
