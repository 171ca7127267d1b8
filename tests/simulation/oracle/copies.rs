//! G1, G3, G10: what still holds when a copy is put in the place of a store.
//!
//! Owns: what had been told by the time of the copy, which it must know, and what may be forgotten
//! with all that came later. Does not know: how a copy is made, or what else a start must find (see
//! `terms`).

use std::collections::BTreeSet;

use callboard::__internals::engine::ledger::LedgerState;
use callboard::task::{Dispatch, TaskId};

use super::{Facts, Given, Oracle};
use crate::cluster::Cluster;

/// What had been told when a store was copied.
#[derive(Clone, Default)]
pub struct ToldSoFar {
    /// The last batch of the copy.
    last: u64,
    /// Tasks of which somebody had handled the ending.
    handled: BTreeSet<TaskId>,
    /// Tasks of which it was told how they had ended, and that was stored.
    told: BTreeSet<TaskId>,
    /// Tasks of which a cancel was said to have succeeded.
    cancelled: BTreeSet<TaskId>,
    /// Tasks of which it was said that they were to be cancelled.
    cancelling: BTreeSet<TaskId>,
}

/// What was sent before a copy was put in the store's place.
pub struct Forgotten {
    /// The last of it.
    last: Dispatch,
    /// What the copy knows of it, if nodes go on with that.
    but: BTreeSet<Dispatch>,
}

impl Cluster {
    /// Returns what is told by now, and stored.
    pub fn told_so_far(&mut self) -> ToldSoFar {
        let (last, stored_until) = (self.last_batch(), self.told_is_stored_until());
        self.note_dropped();
        let mut so_far = ToldSoFar {
            last,
            ..ToldSoFar::default()
        };
        for (id, facts) in self.oracle.now_tasks() {
            let mut note = |to: fn(&mut ToldSoFar) -> &mut BTreeSet<TaskId>, is_so: bool| {
                if is_so {
                    to(&mut so_far).insert(*id);
                }
            };
            let handled = facts.is_over();
            let told = facts.told.as_ref().is_some_and(|it| it.0 <= stored_until);
            note(|it| &mut it.handled, handled);
            note(|it| &mut it.told, told);
            note(|it| &mut it.cancelled, facts.must_be_cancelled);
            note(|it| &mut it.cancelling, facts.cancel_promised);
        }
        so_far
    }
}

impl Oracle {
    /// Begins to go on from a copy, which knows of these runs alone.
    pub fn forget_runs(&mut self, but: BTreeSet<Dispatch>) {
        let last = self.terms.highest.unwrap_or(Dispatch::new(0));
        self.terms.forgotten.push(Forgotten { last, but });
    }

    /// Returns whether a run was sent before a copy was put in the store's place, which does not
    /// know of it: it may go on beside what follows, until its node hears of the start on the copy
    /// or has done without a scheduler for too long.
    pub fn is_forgotten(&self, run: Dispatch) -> bool {
        self.forgotten_by(run) > 0
    }

    /// Counts the copies that do not know of a run. What one knows of is kept apart from what comes
    /// after it.
    pub fn forgotten_by(&self, run: Dispatch) -> usize {
        let copies = self.terms.forgotten.iter();
        copies
            .filter(|it| run <= it.last && !it.but.contains(&run))
            .count()
    }
}

impl Facts {
    /// Takes back what was told of a task since a copy was made that is put in the store's place,
    /// and that has this of it. Returns whether there was ever such a task.
    pub fn go_back(
        &mut self,
        id: TaskId,
        found: Option<&LedgerState>,
        stored: u64,
        so_far: &ToldSoFar,
    ) -> Result<bool, (&'static str, String)> {
        let was_handled = so_far.handled.contains(&id);
        match found {
            None if was_handled => Ok(true),
            None if self.batch <= so_far.last => {
                let text =
                    "it was accepted when the store was copied, and the copy does not have it";
                Err(("G1", text.into()))
            }
            None if self.batch > stored && self.starts.is_empty() && self.told.is_none() => {
                Ok(false)
            }
            // It was accepted since, and nobody hears of it any more.
            None => {
                self.given = Given::Answered;
                Ok(true)
            }
            Some(LedgerState::Open { .. }) => {
                // It runs again, and may end otherwise.
                if !so_far.told.contains(&id) {
                    self.told = None;
                }
                self.settled_before = false;
                self.must_be_cancelled &= so_far.cancelled.contains(&id);
                self.cancel_promised &= so_far.cancelling.contains(&id);
                Ok(true)
            }
            Some(LedgerState::Settled { .. }) => {
                if !was_handled {
                    // It is given again to the first client.
                    self.given = Given::Stored;
                }
                Ok(true)
            }
        }
    }
}
