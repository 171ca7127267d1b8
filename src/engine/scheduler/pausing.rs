//! What operators wish of kinds: that none of their tasks start, or that none be taken in.
//!
//! Owns: the commands, and what follows for tasks that nodes have. Does not know: who may give
//! them, or how the tasks of a kind are kept from their turns (see the catalogue).

use super::SchedulerMachine;
use crate::engine::Timestamp;
use crate::engine::record::Setting;
use crate::error::{KindError, Refusal};
use crate::stats::Pauses;
use crate::task::TaskKind;

/// So many kinds may be paused, as many limited, and the intake of as many closed: each is
/// remembered by name, whether it is in use or not.
const MAX_KINDS: usize = 1000;

impl SchedulerMachine {
    /// Starts no task of a kind from now on, or of any kind: those that were prefetched are asked
    /// back. What runs goes on, and deadlines and cancels end what waits. Of a scheduler that has a
    /// store the next start goes on with it.
    ///
    /// # Errors
    ///
    /// See [`KindError`]; nothing has changed.
    pub fn pause(&mut self, now: Timestamp, kind: Option<&TaskKind>) -> Result<(), KindError> {
        self.observe(now);
        if let Some(kind) = kind {
            let paused = &self.settings.paused;
            check(kind, paused.contains(kind), paused.len())?;
        }
        self.set_paused(kind, true);
        // What was prefetched is asked back in the next look.
        self.retraction.look_again_at(now);
        Ok(())
    }

    /// Ends a pause of a kind, or that of all. A kind that was paused by its name stays so when the
    /// pause of all ends, and the other way round.
    pub fn resume(&mut self, now: Timestamp, kind: Option<&TaskKind>) {
        self.observe(now);
        self.set_paused(kind, false);
    }

    /// Takes no task of a kind in from now on. What was accepted goes on.
    ///
    /// # Errors
    ///
    /// See [`KindError`]; nothing has changed.
    pub fn close_intake(&mut self, now: Timestamp, kind: &TaskKind) -> Result<(), KindError> {
        self.observe(now);
        let closed = &self.settings.closed;
        check(kind, closed.contains(kind), closed.len())?;
        self.set_intake(kind, false);
        Ok(())
    }

    /// Takes tasks of a kind in again.
    pub fn open_intake(&mut self, now: Timestamp, kind: &TaskKind) {
        self.observe(now);
        self.set_intake(kind, true);
    }

    fn set_paused(&mut self, kind: Option<&TaskKind>, paused: bool) {
        if self.settings.is_paused(kind) == paused {
            return;
        }
        self.set(Setting::Paused(kind.cloned(), paused));
        self.follow_pause(kind);
    }

    /// Tells the catalogue what is set.
    fn follow_pause(&mut self, kind: Option<&TaskKind>) {
        let paused = self.settings.is_paused(kind);
        match kind {
            Some(kind) => self.catalogue.set_paused(&self.tasks, kind, paused),
            None => self.catalogue.set_all_paused(&self.tasks, paused),
        }
    }

    /// Pauses what an earlier term had paused.
    pub(super) fn follow_pauses(&mut self) {
        for kind in self.settings.paused.clone() {
            self.follow_pause(Some(&kind));
        }
        self.follow_pause(None);
    }

    fn set_intake(&mut self, kind: &TaskKind, open: bool) {
        if self.settings.closed.contains(kind) == open {
            self.set(Setting::Intake(kind.clone(), open));
        }
    }

    /// Returns why a task of this kind is not taken in, if an operator wishes so.
    #[inline]
    pub(super) fn intake_refuses(&self, kind: &TaskKind) -> Option<Refusal> {
        let closed = &self.settings.closed;
        let is_closed = !closed.is_empty() && closed.contains(kind);
        is_closed.then(|| Refusal::IntakeClosed { kind: kind.clone() })
    }

    pub(super) fn pauses(&self) -> Pauses {
        Pauses {
            all: self.settings.all_paused,
            kinds: self.settings.paused.iter().cloned().collect(),
            closed: self.settings.closed.iter().cloned().collect(),
        }
    }

    /// Checks that what is set is what the catalogue does.
    pub(super) fn check_pauses(&self) -> Result<(), String> {
        let wanted = |kind| self.settings.all_paused || self.settings.paused.contains(kind);
        for (_, task) in self.tasks.iter() {
            let kind = self.catalogue.kind(task.class);
            if self.catalogue.is_paused(task.class) != wanted(kind) {
                return Err(format!(
                    "{} of the kind {kind:?} is wrongly paused or not",
                    task.id
                ));
            }
        }
        Ok(())
    }
}

/// Checks that a kind may be set as so many others are. `is_set` says that it is among them.
pub(super) fn check(kind: &TaskKind, is_set: bool, set: usize) -> Result<(), KindError> {
    if !kind.is_usable() {
        Err(KindError::Invalid { kind: kind.clone() })
    } else if set >= MAX_KINDS && !is_set {
        Err(KindError::TooMany { limit: MAX_KINDS })
    } else {
        Ok(())
    }
}
