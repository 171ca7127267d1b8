//! The scheduler's store: a log in memory that is slow, full, or does not know what it has.
//!
//! Owns: when a batch is stored or not, and the check that the log says what the machine believes.
//! Does not know: what batches are for.

use std::collections::BTreeSet;

use callboard::__internals::engine::Event;
use callboard::__internals::engine::SchedulerId;
use callboard::__internals::engine::found::Found;
use callboard::__internals::engine::ledger::{Ledger, LedgerState, Sealed};
use callboard::__internals::engine::record::{Claim, Term};
use callboard::__internals::testing::{NARROW, RecordLog};
use callboard::task::Dispatch;

use crate::cluster::{Cluster, Ev};
use crate::oracle::ToldSoFar;
use crate::plan::{SECOND, Time};
use crate::scheduler::{SchedulerIn, clock};

/// See the module.
pub struct SimLog {
    /// The longest time that an append takes.
    slow: Time,
    /// What is stored, without what was dropped.
    stored: RecordLog,
    under_way: Option<Sealed>,
    /// Until when nothing can be stored.
    full_until: Time,
    /// Until when it cannot be told what was stored.
    unknown_until: Time,
    /// Whether what became of the batch that is under way was not known for a while.
    unknown: bool,
    outage: Outage,
    dies_with: Option<DiesWith>,
    /// The last start of all, that nodes may have seen.
    last_start: Option<(SchedulerId, Term)>,
    /// The scheduler whose it is, and the term of its last start, as far as it says.
    owner: Option<(SchedulerId, Term)>,
    /// The copy of it that was made last.
    copy: Option<Copy>,
    /// Set while it is a copy on which nobody has started: what had been told when it was made.
    pub put_back: Option<PutBack>,
}

/// What it was when it was copied.
struct Copy {
    stored: RecordLog,
    owner: Option<(SchedulerId, Term)>,
    told: ToldSoFar,
}

/// That a copy was put in its place.
pub struct PutBack {
    /// Whether whoever starts takes another id.
    is_marked: bool,
    /// What was told by the time of the copy.
    pub told: ToldSoFar,
    /// The runs that it knows of, if these are followed.
    pub known: BTreeSet<Dispatch>,
}

/// With which batch the scheduler dies.
struct DiesWith {
    batch: u64,
    /// Whether that is stored.
    keeps: bool,
    down: Time,
}

/// Whether the machine has heard that nothing can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    Never,
    /// Nothing was stored since.
    Lasts,
    /// Something was stored at this time, for the first time since.
    Over(Time),
}

impl SimLog {
    pub fn new(slow: Time) -> Self {
        Self {
            slow,
            stored: RecordLog::within(NARROW),
            under_way: None,
            full_until: 0,
            unknown_until: 0,
            unknown: false,
            outage: Outage::Never,
            dies_with: None,
            last_start: None,
            owner: None,
            copy: None,
            put_back: None,
        }
    }

    /// Takes in that whoever wrote to it has died. A batch that was under way is there, or not.
    fn crash(&mut self, keeps: bool) -> Result<(), String> {
        self.unknown = false;
        let under_way = self.under_way.take();
        let batch = under_way.as_ref().map(|sealed| sealed.stamp.batch);
        let meant = self.dies_with.take_if(|it| Some(it.batch) == batch);
        let keeps = meant.map_or(keeps, |it| it.keeps);
        let under_way = under_way.filter(|_| keeps);
        let stored = under_way.map(|sealed| self.stored.append(sealed));
        stored.transpose().map(drop)
    }

    /// Returns what the next start on it may do. It keeps the id that is there, but not on a copy
    /// that is marked as one.
    pub fn claim(&mut self, new_id: SchedulerId) -> Claim {
        let ledger = self.stored.ledger();
        let is_marked = self.put_back.take().is_some_and(|it| it.is_marked);
        let (owner, before) = self.owner.unwrap_or((new_id, Term(0)));
        let scheduler_id = if is_marked { new_id } else { owner };
        let term = Term(before.0 + 1);
        self.owner = Some((scheduler_id, term));
        self.last_start = self.owner;
        let written_by = ledger.finish().ok().map(|head| head.scheduler_id);
        Claim {
            scheduler_id,
            term,
            copied_from: written_by.filter(|id| *id != scheduler_id),
            last: ledger.last().map_or(0, |last| last.batch),
        }
    }

    /// Copies what is stored, by the time of which this was told.
    fn copy(&mut self, told: ToldSoFar) {
        self.copy = Some(Copy {
            stored: self.stored.clone(),
            owner: self.owner,
            told,
        });
    }

    /// Puts the last copy in its place, if there is one. One that is not marked is refused by
    /// nodes that have seen a later term, so it is marked by hand then.
    fn put_back(&mut self, marked: bool) -> bool {
        let Some(copy) = &self.copy else {
            return false;
        };
        let is_marked = marked || copy.owner != self.last_start;
        let written_by = copy.stored.ledger().finish().ok();
        let written_by = written_by.map(|head| head.scheduler_id);
        let is_followed = !is_marked && written_by == copy.owner.map(|(id, _)| id);
        self.stored = copy.stored.clone();
        self.owner = copy.owner;
        let tasks = self.stored.ledger().tasks().values();
        let runs = tasks
            .filter(|_| is_followed)
            .flat_map(|task| match &task.state {
                LedgerState::Open { changed, placed } => {
                    let orphans = changed.iter().flat_map(|it| &it.orphans);
                    let orphans = orphans.map(|run| run.dispatch);
                    let placed = placed.iter().map(|it| it.run.dispatch);
                    orphans.chain(placed).collect()
                }
                LedgerState::Settled { ending, .. } => {
                    let busy = ending.busy.iter().map(|run| run.dispatch);
                    busy.collect::<Vec<_>>()
                }
            });
        self.put_back = Some(PutBack {
            is_marked,
            known: runs.collect(),
            told: copy.told.clone(),
        });
        true
    }

    /// Returns what whoever starts on it finds.
    pub fn found(&self) -> Result<Found, String> {
        self.stored.found()
    }

    /// Returns all that is sealed so far.
    fn sealed(&self) -> Result<Ledger, String> {
        match &self.under_way {
            None => Ok(self.stored.ledger().clone()),
            Some(sealed) => self.stored.with(sealed),
        }
    }
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
        let batch = log.under_way.as_ref().map(|sealed| sealed.stamp.batch);
        let dies_with = log.dies_with.as_ref();
        let dies_with = dies_with.filter(|it| Some(it.batch) == batch);
        let dies_with = dies_with.map(|it| it.down);
        if doubled {
            let text = "two batches are under way at once".to_owned();
            self.oracle.fail("contract", None, text);
        }
        let term = self.term;
        if let Some(down) = dies_with {
            self.after(0, Ev::DieWithBatch { term, down });
            return false;
        }
        if slow == 0 {
            // That is part of the turn that has sealed the batch.
            if let Some(event) = self.append() {
                self.scheduler_handles(SchedulerIn::Event(event));
            }
            return true;
        }
        let span = self.log_rng.u64(..slow);
        self.after(span, Ev::Appended { term });
        false
    }

    /// Ends the append of a batch, or looks again what became of it.
    pub fn appended(&mut self) {
        if let Some(event) = self.append() {
            self.tell_scheduler(event);
        }
    }

    /// Returns what is told of the batch that is under way.
    fn append(&mut self) -> Option<Event> {
        let log = self.scheduler.log.as_mut()?;
        if self.now < log.unknown_until {
            log.unknown = true;
            let term = self.term;
            self.after(SECOND, Ev::Appended { term });
            let reason = "nobody knows".to_owned();
            return Some(Event::StoreFailing { reason });
        }
        let lost = std::mem::take(&mut log.unknown) && self.log_rng.bool();
        let sealed = log.under_way.take()?;
        let batch = sealed.stamp.batch;
        if lost || self.now < log.full_until {
            return Some(Event::NotStored {
                batch,
                records: sealed.records,
                reason: "it is full".to_owned(),
            });
        }
        let bytes = log.stored.append(sealed).unwrap_or_else(|text| {
            self.oracle.fail("log", None, text);
            0
        });
        Some(Event::Stored { batch, bytes })
    }

    /// Notes what the machine hears of an append.
    pub fn hears_of_log(&mut self, event: &Event) {
        let Some(log) = &mut self.scheduler.log else {
            return;
        };
        log.outage = match (event, log.outage) {
            (Event::StoreFailing { .. } | Event::NotStored { .. }, _) => Outage::Lasts,
            (Event::Stored { .. }, Outage::Lasts) => Outage::Over(self.now),
            (_, outage) => outage,
        };
    }

    /// Takes in that its process has died.
    pub fn log_crashes(&mut self) {
        let keeps = self.log_rng.bool();
        let crashed = self.scheduler.log.as_mut().map(|log| log.crash(keeps));
        if let Some(Err(text)) = crashed {
            self.oracle.fail("log", None, text);
        }
    }

    /// Copies it, as a backup does.
    pub fn log_is_copied(&mut self) {
        if !self.scheduler.alive || self.scheduler.frozen {
            return;
        }
        let told = self.told_so_far();
        if let Some(log) = &mut self.scheduler.log {
            log.copy(told);
        }
    }

    /// Puts the last copy in its place, of which it may be known that it is one.
    pub fn log_is_put_back(&mut self, marked: bool) {
        let log = self.scheduler.log.as_mut();
        if log.is_some_and(|log| log.put_back(marked)) {
            self.say(|| "# a copy of the store is put in its place".to_owned());
        }
    }

    /// Lets its process die with this batch.
    pub fn log_kills(&mut self, batch: u64, keeps: bool, down: Time) {
        if let Some(log) = &mut self.scheduler.log {
            log.dies_with = Some(DiesWith { batch, keeps, down });
        }
    }

    /// Returns the last batch that it has.
    pub fn last_batch(&self) -> u64 {
        let log = self.scheduler.log.as_ref();
        let last = log.and_then(|log| log.stored.ledger().last());
        last.map_or(0, |last| last.batch)
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

    /// Returns whether something is on its way into it.
    pub fn is_log_behind(&self) -> bool {
        let log = self.scheduler.log.as_ref();
        log.is_some_and(|log| log.under_way.is_some())
    }

    /// Returns how long it may take until what is decided is told.
    pub fn log_takes(&self) -> Time {
        self.scheduler.log.as_ref().map_or(0, |log| 4 * log.slow)
    }

    /// Returns whether nothing can be stored, as far as the machine has heard.
    pub fn log_fails(&self) -> bool {
        let log = self.scheduler.log.as_ref();
        log.is_some_and(|log| log.outage == Outage::Lasts)
    }

    /// Returns whether nothing could be stored at any time since then, as far as the machine has
    /// heard.
    pub fn log_failed_since(&self, since: Time) -> bool {
        let outage = self.scheduler.log.as_ref().map(|log| log.outage);
        match outage {
            None | Some(Outage::Never) => false,
            Some(Outage::Lasts) => true,
            Some(Outage::Over(at)) => at >= since,
        }
    }

    /// Judges that the log says what the machine believes.
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
