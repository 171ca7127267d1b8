//! G1: whether whoever waits for a task by its id hears how it ends, once.
//!
//! Owns: the wait, and the judgement of what is answered at once. Does not know: what is answered
//! later, which is the same for all who wait (see `intake`).

use callboard::__internals::engine::{Attached, Audience};
use callboard::task::TaskId;

use super::Given;
use crate::cluster::Cluster;
use crate::scheduler::clock;

impl Cluster {
    /// Lets somebody wait for a task that was handed in before, maybe to an earlier term.
    pub fn attach(&mut self, task: TaskId) {
        let settled = self.is_settled(task);
        self.note_dropped();
        let attached = self.scheduler.machine.attach(clock(self.now), task);
        self.say(|| format!("# attach {task} -> {attached:?}"));
        let facts = self.oracle.now_tasks().get(&task);
        let handled = facts.is_none_or(|facts| {
            // Its callers alone were to be told, and are, when that is stored.
            facts.is_over() || facts.audience == Audience::Caller || facts.given == Given::Unclaimed
        });
        let wrong = match (&attached, facts) {
            (Attached::Waits, _) if settled => Some("somebody waits for it, and it has ended"),
            (Attached::Waits, None) => Some("somebody waits for it, and it was never accepted"),
            (Attached::Waits, Some(_)) => {
                self.oracle.waiting.insert(task);
                None
            }
            (Attached::Over(_), _) if !settled => Some("it is said to be over, and goes on"),
            (Attached::Over(Some(_)), None) => Some("it is said to have ended, and never was"),
            (Attached::Over(Some(_)), Some(facts)) if facts.given == Given::Dropped => {
                Some("nobody was to be told, and yet its ending is remembered")
            }
            (Attached::Over(Some(status)), Some(facts)) => facts.differs_from(status),
            (Attached::Over(None), _) if !handled => {
                Some("nobody has handled its ending, and who asks for it hears nothing")
            }
            (Attached::Over(None), _) => None,
        };
        if let Some(text) = wrong {
            self.fail("G1", task, text.to_owned());
        }
    }
}
