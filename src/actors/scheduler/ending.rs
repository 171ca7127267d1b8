//! The end of a scheduler: drained with a limit, or now.
//!
//! Owns: how long is waited and who is told what was left. Does not know: what the machine does at its end.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::Core;
use crate::actors::Shutdown;
use crate::contain::contained;
use crate::engine::Timestamp;
use crate::engine::scheduler::Leftovers;
use crate::say::say;
use crate::sync::lock;

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

/// What was left of a scheduler that has ended, until somebody takes it. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Unclaimed(Arc<Mutex<Option<Leftovers>>>);

impl Unclaimed {
    fn keep(&self, leftovers: Leftovers) {
        *lock(&self.0) = Some(leftovers);
    }

    /// Takes what was left, which is there once.
    pub fn take(&self) -> Option<Leftovers> {
        lock(&self.0).take()
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
        let leftovers = self.wind_up(now);
        self.hand_over(leftovers);
    }

    /// Ends it after a panic on its thread: what was not done is handed over, and whoever waits hears that it
    /// has stopped.
    pub(super) fn break_down(&mut self, message: &str) {
        if self.ended {
            return;
        }
        say!(error: scheduler = %self.machine.name(), message, "the scheduler ends by a panic on its thread");
        let now = self.clock.now();
        // Whatever the panic has left half done, what can still be told is told.
        let leftovers = contained(|| self.wind_up(now)).unwrap_or_default();
        self.hand_over(leftovers);
    }

    /// Has the machine end, and does what follows.
    fn wind_up(&mut self, now: Timestamp) -> Leftovers {
        let leftovers = self.machine.shut_down(now);
        say!(info: scheduler = %self.machine.name(),
            unfinished = leftovers.unfinished.len(),
            statuses = leftovers.statuses.len(),
            "the scheduler has stopped"
        );
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.take_effects(now, &mut actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        leftovers
    }

    /// Ends, and gives what is left to whoever asked, or else keeps it.
    fn hand_over(&mut self, leftovers: Leftovers) {
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
        if let Some(leftovers) = leftovers {
            self.unclaimed_leftovers.keep(leftovers);
        }
    }
}
