//! The end of a scheduler: with a limit, or now.
//!
//! Owns: how long is waited, who is told what was left, and that it is kept until somebody has
//! taken it. Does not know: what the machine does at its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::dev::OneshotSender;

use super::Core;
use crate::actors::Shutdown;
use crate::contain::contained;
use crate::engine::{Audience, Timestamp};
use crate::error::Stopped;
use crate::execute::Leftovers;
use crate::say::say;
use crate::sync::lock;

/// The part of a drain's time that is kept for the last words of links, ...
const LAST_WORDS_SHARE: u32 = 10;
/// ... at the most this much. They are short, and only a peer that does not read makes them long.
const MAX_LAST_WORDS: Duration = Duration::from_secs(1);

/// What was left at the end, for whoever takes it first. Whoever asked may have stopped waiting, so
/// it is here and not in the answer.
#[derive(Clone, Debug, Default)]
pub struct Handover(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    leftovers: Option<Leftovers>,
    /// How long its links may take to say their last words, if its end has a time to keep.
    last_words: Option<Duration>,
}

impl Handover {
    /// Takes it, if the scheduler has ended and nobody has it yet.
    pub fn take(&self) -> Option<Leftovers> {
        lock(&self.0).leftovers.take()
    }

    /// Returns how long its links may take to say their last words, if its end has a time to keep.
    pub fn last_words(&self) -> Option<Duration> {
        lock(&self.0).last_words
    }

    fn keep_to(&self, last_words: Duration) {
        lock(&self.0).last_words = Some(last_words);
    }

    fn put(&self, leftovers: Leftovers) {
        lock(&self.0).leftovers = Some(leftovers);
    }
}

/// Somebody who waits for the end.
pub(super) enum Waiting {
    /// To be given what was left.
    Taker(OneshotSender<Result<Leftovers, Stopped>>),
    /// To be told that it may be taken.
    Told(OneshotSender<Result<(), Stopped>>),
}

/// A shutdown that is under way.
pub(super) struct Ending {
    /// Not before everything has ended, or this moment. `None` is now.
    until: Option<Timestamp>,
    /// When the last words are to have been said, too.
    over: Option<Timestamp>,
    waiting: Vec<Waiting>,
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
        waiting: Option<Waiting>,
    ) {
        self.machine.drain(now);
        let (until, over) = match shutdown {
            Shutdown::Now => (None, None),
            Shutdown::Drain(limit) | Shutdown::FinishRunning(limit) => {
                let last_words = (limit / LAST_WORDS_SHARE).min(MAX_LAST_WORDS);
                (Some(now + (limit - last_words)), Some(now + limit))
            }
        };
        if matches!(shutdown, Shutdown::FinishRunning(_)) {
            self.machine.finish_running(now);
        }
        let ending = self.ending.get_or_insert(Ending {
            until,
            over,
            waiting: Vec::new(),
        });
        ending.until = ending.until.min(until);
        ending.over = ending.over.min(over);
        ending.waiting.extend(waiting);
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
        if let (Some(until), Some(over)) = (ending.until, ending.over) {
            let done = self.machine.is_drained(until) && !unconfirmed;
            if !done && until > now {
                return;
            }
            self.left.keep_to(over.since(now));
        }
        let leftovers = self.wind_up(now);
        self.hand_over(leftovers);
    }

    /// Ends it after a panic on its thread: what was not done is handed over, and whoever waits
    /// hears that it has stopped.
    pub(super) fn break_down(&mut self, message: &str) {
        if self.ended {
            return;
        }
        say!(error: scheduler = %self.machine.name(), reason = message, "the scheduler ends by a panic on its thread");
        let now = self.clock.now();
        // Whatever the panic has left half done, what can still be told is told.
        let leftovers = contained(|| self.wind_up(now)).unwrap_or_default();
        self.hand_over(leftovers);
    }

    /// Has the machine end, and does what follows.
    fn wind_up(&mut self, now: Timestamp) -> Leftovers {
        let rest = self.machine.shut_down(now);
        let named = rest.named.iter().map(|&(audience, watcher)| {
            let client = match audience {
                Audience::Client(client) => self.clients.client(client),
                Audience::Current | Audience::Caller => None,
            };
            (client, watcher.and_then(|it| self.clients.watcher(it)))
        });
        let leftovers = Leftovers::new(rest.unfinished, named.collect(), rest.statuses);
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

    /// Ends, and gives what is left to whoever takes it.
    fn hand_over(&mut self, leftovers: Leftovers) {
        self.left.put(leftovers);
        let ending = self.ending.take();
        self.end();
        for waiting in ending.into_iter().flat_map(|ending| ending.waiting) {
            match waiting {
                // Whoever has stopped waiting takes nothing; the others hear that it has stopped.
                Waiting::Taker(taker) if taker.is_closed() => {}
                Waiting::Taker(taker) => {
                    let given = self.left.take().ok_or(Stopped);
                    if let Err(Ok(back)) = taker.send(given) {
                        self.left.put(back);
                    }
                }
                Waiting::Told(told) => drop(told.send(Ok(()))),
            }
        }
    }
}
