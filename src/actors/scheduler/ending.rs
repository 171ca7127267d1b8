//! The end of a scheduler: drained with a limit, or now.
//!
//! Owns: how long is waited and who is told what was left. Does not know: what the machine does at its end.

use tokio::sync::oneshot;

use super::Core;
use crate::actors::Shutdown;
use crate::engine::Timestamp;
use crate::engine::scheduler::Leftovers;

/// A shutdown that is under way.
pub(super) struct Ending {
    /// Not before everything has ended, or this moment. `None` is now.
    until: Option<Timestamp>,
    told: Vec<oneshot::Sender<Leftovers>>,
}

impl Ending {
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

impl Core {
    /// Begins to end; a later call can only make it sooner.
    pub(super) fn begin_ending(
        &mut self,
        now: Timestamp,
        shutdown: Shutdown,
        told: Option<oneshot::Sender<Leftovers>>,
    ) {
        self.machine.drain(now);
        let until = match shutdown {
            Shutdown::Now => None,
            Shutdown::Drain(limit) => Some(now + limit),
        };
        let ending = self.ending.get_or_insert(Ending {
            until,
            told: Vec::new(),
        });
        ending.until = ending.until.min(until);
        ending.told.extend(told);
    }

    /// Ends if everything has ended, or the time is up.
    pub(super) fn go_on_ending(&mut self, now: Timestamp) {
        let Some(ending) = &self.ending else {
            return;
        };
        if self.ended {
            return;
        }
        let unconfirmed = self.machine.client().is_some() && self.machine.has_unconfirmed();
        let done = self.machine.is_idle() && !unconfirmed;
        if !done && ending.until.is_some_and(|until| until > now) {
            return;
        }
        let leftovers = self.machine.shut_down(now);
        tracing::info!(
            scheduler = %self.machine.name(),
            unfinished = leftovers.unfinished.len(),
            statuses = leftovers.statuses.len(),
            "the scheduler has stopped"
        );
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.take_effects(now, &mut actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        let told = self
            .ending
            .take()
            .map(|ending| ending.told)
            .unwrap_or_default();
        self.end();
        // The first that asked gets it; the others hear that it has stopped.
        let mut leftovers = Some(leftovers);
        for waiting in told {
            if let Some(given) = leftovers.take() {
                leftovers = waiting.send(given).err();
            }
        }
    }
}
