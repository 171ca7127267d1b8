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

/// One part in so many of a drain's time is kept for the last words of links.
const LAST_WORDS_SHARE: u32 = 10;
/// The longest time that is kept for these. They are short, and take long only if a peer does not
/// read.
const MAX_LAST_WORDS: Duration = Duration::from_secs(1);

/// How long the end waits for a disk that does not answer, unless it has a time of its own.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(10);

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
pub(super) enum Waiter {
    /// Somebody who is to be given what was left.
    Taker(OneshotSender<Result<Leftovers, Stopped>>),
    /// Somebody who is to be told that it may be taken.
    Told(OneshotSender<Result<(), Stopped>>),
}

/// A shutdown that is under way.
pub(super) struct ShutdownStep {
    stage: Stage,
    /// When the last words are to have been said, too.
    over: Option<Timestamp>,
    waiting: Vec<Waiter>,
}

enum Stage {
    /// Not before everything has ended, or this moment; `None` is now.
    Working {
        until: Option<Timestamp>,
        rest: RestGoes,
    },
    /// The store is given what it has still to take, if that is done by then.
    Storing {
        leftovers: Leftovers,
        until: Timestamp,
    },
}

/// What becomes of the tasks that have not settled, where there is a store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RestGoes {
    /// The tasks stay in the store, and nodes stay at work, for the next start.
    On,
    /// The tasks are given up.
    Away,
}

impl ShutdownStep {
    pub fn until(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Working { until, .. } => until,
            Stage::Storing { until, .. } => Some(until),
        }
    }
}

impl Core {
    /// Begins to end; a later call can only make it sooner.
    pub(super) fn begin_ending(
        &mut self,
        now: Timestamp,
        shutdown: Shutdown,
        waiting: Option<Waiter>,
    ) {
        self.machine.drain(now);
        let (until, over) = match shutdown {
            Shutdown::Now | Shutdown::Discard => (None, None),
            Shutdown::Drain(limit) | Shutdown::FinishRunning(limit) => {
                let last_words = (limit / LAST_WORDS_SHARE).min(MAX_LAST_WORDS);
                (Some(now + (limit - last_words)), Some(now + limit))
            }
        };
        if matches!(shutdown, Shutdown::FinishRunning(_)) {
            self.machine.finish_running(now);
        }
        let rest = match shutdown {
            Shutdown::Discard => RestGoes::Away,
            _ => RestGoes::On,
        };
        let ending = self.ending.get_or_insert(ShutdownStep {
            stage: Stage::Working { until, rest },
            over,
            waiting: Vec::new(),
        });
        if let Stage::Working {
            until: earlier,
            rest: before,
        } = &mut ending.stage
        {
            *earlier = (*earlier).min(until);
            *before = (*before).max(rest);
        }
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
        match ending.stage {
            Stage::Working { until, rest } => {
                let unconfirmed = self.machine.client().is_some() && self.machine.has_unconfirmed();
                if let Some(until) = until {
                    let done = self.machine.is_drained(until) && !unconfirmed;
                    if !done && until > now {
                        return;
                    }
                }
                self.begin_storing(now, rest);
            }
            Stage::Storing { until, .. } => {
                if self.machine.is_storing() && !self.store_fails() && now < until {
                    return;
                }
                self.finish(now);
            }
        }
    }

    /// Ends the machine, and lets what is left of it go to the store, if there is one.
    fn begin_storing(&mut self, now: Timestamp, rest: RestGoes) {
        let leftovers = match (rest, &self.recorder) {
            (RestGoes::On, Some(_)) => {
                let leftovers = self.stored_leftovers(now);
                self.machine.close(now);
                leftovers
            }
            _ => self.wind_up(now),
        };
        if let Some(ending) = &mut self.ending {
            let until = ending.over.unwrap_or(now + STORE_PATIENCE);
            ending.stage = Stage::Storing { leftovers, until };
        }
        match self.recorder {
            // The turns that follow store it.
            Some(_) => self.bell.ring(),
            None => self.finish(now),
        }
    }

    /// Ends, now that all is stored that can be.
    fn finish(&mut self, now: Timestamp) {
        let Some(ending) = self.ending.take() else {
            return;
        };
        if let Some(over) = ending.over {
            self.left.keep_to(over.since(now));
        }
        let leftovers = match ending.stage {
            Stage::Storing { leftovers, .. } => leftovers,
            Stage::Working { .. } => Leftovers::default(),
        };
        say!(info: scheduler = %self.machine.name(),
            unfinished = leftovers.unfinished.len(),
            statuses = leftovers.statuses.len(),
            stored_tasks = leftovers.stored_tasks,
            stored_statuses = leftovers.stored_statuses,
            "the scheduler has stopped"
        );
        self.hand_over(leftovers, ending.waiting);
    }

    /// Returns what stays in the store, for the next start.
    fn stored_leftovers(&self, now: Timestamp) -> Leftovers {
        let stats = self.machine.stats(now);
        let waiting = stats.pending + stats.due_later + stats.waiting_retries + stats.held;
        Leftovers::in_store(waiting + stats.running, stats.unconfirmed_statuses)
    }

    /// Ends it after a panic in what somebody asked, who then hears that it has stopped.
    pub(super) fn broken(&mut self, message: &str) -> Stopped {
        self.break_down(message);
        Stopped
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
        let leftovers = contained(|| match self.recorder {
            // What is stored goes on at the next start, as after the end of a process.
            Some(_) => self.stored_leftovers(now),
            None => self.wind_up(now),
        });
        let ending = self.ending.take();
        let waiting = ending.map(|ending| ending.waiting).unwrap_or_default();
        self.hand_over(leftovers.unwrap_or_default(), waiting);
    }

    /// Ends the machine, and does what follows.
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
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.take_effects(now, &mut actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        leftovers
    }

    /// Ends, and gives what is left to whoever takes it.
    fn hand_over(&mut self, leftovers: Leftovers, waiting: Vec<Waiter>) {
        self.left.put(leftovers);
        self.end();
        for waiting in waiting {
            match waiting {
                // Whoever has stopped waiting takes nothing; the others hear that it has stopped.
                Waiter::Taker(taker) if taker.is_closed() => {}
                Waiter::Taker(taker) => {
                    let given = self.left.take().ok_or(Stopped);
                    if let Err(Ok(back)) = taker.send(given) {
                        self.left.put(back);
                    }
                }
                Waiter::Told(told) => drop(told.send(Ok(()))),
            }
        }
    }
}
