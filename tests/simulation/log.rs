//! The scheduler's store: a log in memory that is slow, full, or does not know what it has.
//!
//! Owns: when a batch is stored or not, and the check that the log says what the machine believes.
//! Does not know: what batches are for.

use callboard::__internals::engine::Event;
use callboard::__internals::engine::SchedulerId;
use callboard::__internals::engine::ledger::{Ledger, Sealed};
use callboard::__internals::engine::record::{Claim, Term};

use crate::cluster::{Cluster, Ev};
use crate::plan::{SECOND, Time};
use crate::scheduler::{SchedulerIn, clock};

/// See the module.
#[derive(Default)]
pub struct SimLog {
    /// The longest time that an append takes.
    slow: Time,
    /// The fold of what is stored.
    ledger: Ledger,
    under_way: Option<Sealed>,
    /// Until when nothing can be stored.
    full_until: Time,
    /// Until when it cannot be told what was stored.
    unknown_until: Time,
    /// Whether what became of the batch that is under way was not known for a while.
    unknown: bool,
    /// When the machine last heard that nothing can be stored.
    pub failed_at: Option<Time>,
    /// Whether nothing was stored since.
    pub failing: bool,
}

impl SimLog {
    pub fn new(slow: Time) -> Self {
        Self {
            slow,
            ..Self::default()
        }
    }

    /// Whether what is sealed is not stored at once.
    pub fn is_slow(&self) -> bool {
        self.slow > 0
    }

    /// All that is sealed so far.
    fn sealed(&self) -> Result<Ledger, String> {
        let mut ledger = self.ledger.clone();
        if let Some(sealed) = &self.under_way {
            fold(&mut ledger, sealed)?;
        }
        Ok(ledger)
    }
}

/// A start on an empty log.
pub fn claim(scheduler_id: SchedulerId) -> Claim {
    Claim {
        scheduler_id,
        term: Term(1),
        copied_from: None,
        last: 0,
    }
}

fn fold(ledger: &mut Ledger, sealed: &Sealed) -> Result<(), String> {
    let illegal = |illegal| format!("an illegal batch: {illegal}");
    ledger.begin(sealed.stamp).map_err(illegal)?;
    for record in sealed.records.iter().cloned() {
        ledger.apply(record).map_err(illegal)?;
    }
    Ok(())
}

impl Cluster {
    /// Stores what is due. Returns whether the machine was told of it already.
    pub fn keep(&mut self) -> bool {
        let Some(log) = &mut self.scheduler.log else {
            return false;
        };
        let Some(sealed) = self.scheduler.machine.seal(clock(self.now)) else {
            return false;
        };
        self.oracle.wakeups.effect();
        let doubled = log.under_way.replace(sealed).is_some();
        let slow = log.slow;
        if doubled {
            let text = "two batches are under way at once".to_owned();
            self.oracle.fail("contract", None, text);
        }
        if slow == 0 {
            self.appended();
            return true;
        }
        let span = self.log_rng.u64(..slow);
        let term = self.term;
        self.after(span, Ev::Appended { term });
        false
    }

    /// The append of a batch has ended, or it is looked again what became of it.
    pub fn appended(&mut self) {
        let Some(log) = &mut self.scheduler.log else {
            return;
        };
        if self.now < log.unknown_until {
            (log.unknown, log.failing) = (true, true);
            log.failed_at = Some(self.now);
            let term = self.term;
            self.after(SECOND, Ev::Appended { term });
            let reason = "nobody knows".to_owned();
            self.hear_of_log(Event::StoreFailing { reason });
            return;
        }
        let lost = std::mem::take(&mut log.unknown) && self.log_rng.bool();
        let Some(sealed) = log.under_way.take() else {
            return;
        };
        let batch = sealed.stamp.batch;
        let event = if lost || self.now < log.full_until {
            log.failing = true;
            log.failed_at = Some(self.now);
            Event::NotStored {
                batch,
                records: sealed.records,
                reason: "it is full".to_owned(),
            }
        } else {
            log.failing = false;
            let folded = fold(&mut log.ledger, &sealed);
            if let Err(text) = folded {
                self.oracle.fail("log", None, text);
            }
            Event::Stored { batch, bytes: 1 }
        };
        self.hear_of_log(event);
    }

    /// At once without a delay, since then it is part of the turn that has sealed the batch.
    fn hear_of_log(&mut self, event: Event) {
        if self.scheduler.log.as_ref().is_some_and(SimLog::is_slow) {
            self.tell_scheduler(event);
        } else {
            self.scheduler_handles(SchedulerIn::Event(event));
        }
    }

    pub fn log_is_full(&mut self, span: Time) {
        if let Some(log) = &mut self.scheduler.log {
            log.full_until = self.now + span;
        }
    }

    pub fn log_is_unknown(&mut self, span: Time) {
        if let Some(log) = &mut self.scheduler.log {
            log.unknown_until = self.now + span;
        }
    }

    pub fn log_heals(&mut self) {
        if let Some(log) = &mut self.scheduler.log {
            (log.full_until, log.unknown_until) = (0, 0);
        }
    }

    /// How long it may take until what is decided is told.
    pub fn log_takes(&self) -> Time {
        self.scheduler.log.as_ref().map_or(0, |log| 4 * log.slow)
    }

    /// Whether the machine heard since then that nothing can be stored.
    pub fn log_failed_since(&self, since: Time) -> bool {
        let log = self.scheduler.log.as_ref();
        log.is_some_and(|log| log.failing || log.failed_at >= Some(since))
    }

    /// The log says what the machine believes.
    pub fn check_log(&mut self) {
        let Some(log) = &self.scheduler.log else {
            return;
        };
        let checked = log.sealed();
        let checked = checked.and_then(|it| self.scheduler.machine.check_log(&it));
        if let Err(text) = checked {
            self.oracle.fail("log", None, text);
        }
    }
}
