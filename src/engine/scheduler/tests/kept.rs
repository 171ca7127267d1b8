//! A board whose machine has a store.
//!
//! Owns: what is kept of what the machine writes down, and the check that it says what the machine
//! believes. Does not know: what a test makes of it.

use super::{Board, STOPS};
use crate::config::SchedulerConfig;
use crate::engine::ledger::Sealed;
use crate::engine::record::{Claim, Record, Term};
use crate::engine::scheduler::SchedulerMachine;
use crate::engine::{Audience, ClientId, Event, SchedulerId, Submission, Timestamp};
use crate::error::Refusal;
use crate::payload::Payload;
use crate::testing::{Checks, DrivenScheduler, NARROW, RecordLog};

/// Returns the claim of the first term on an empty log.
pub(super) fn claim() -> Claim {
    Claim {
        scheduler_id: SchedulerId(1),
        term: Term(1),
        copied_from: None,
        last: 0,
    }
}

/// What is kept of what a machine writes down, and when it is told that it is stored.
pub(super) struct Kept {
    /// What was stored, without what was dropped.
    pub(super) log: RecordLog,
    /// Whether a batch is not stored before a test says so.
    pub(super) by_hand: bool,
    pub(super) under_way: Option<Sealed>,
    /// What was stored.
    pub(super) records: Vec<Record>,
}

impl Kept {
    /// Takes what is due, and returns what the machine is told of it.
    pub(super) fn turn(&mut self, now: Timestamp, machine: &mut DrivenScheduler) -> Option<Event> {
        if let Some(sealed) = machine.seal(now) {
            assert!(self.under_way.is_none(), "two batches are under way");
            self.under_way = Some(sealed);
        }
        let ledger = match &self.under_way {
            None => Ok(self.log.ledger().clone()),
            Some(sealed) => self.log.with(sealed),
        };
        if let Err(wrong) = ledger.and_then(|ledger| machine.check_log(&ledger)) {
            panic!("{wrong}");
        }
        if self.by_hand { None } else { self.stored() }
    }

    pub(super) fn stored(&mut self) -> Option<Event> {
        let sealed = self.under_way.take()?;
        let batch = sealed.stamp.batch;
        self.records.extend(sealed.records.iter().cloned());
        match self.log.append(sealed) {
            Ok(bytes) => Some(Event::Stored { batch, bytes }),
            Err(wrong) => panic!("{wrong}"),
        }
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            log: RecordLog::within(NARROW),
            by_hand: false,
            under_way: None,
            records: Vec::new(),
        }
    }
}

impl Board {
    /// Makes a scheduler that has a store, in its first term.
    pub(super) fn stored(set: impl FnOnce(&mut SchedulerConfig)) -> Self {
        let mut config = None;
        let mut board = Self::configured(Checks::EachStep, |it| {
            set(it);
            config = Some(it.clone());
        });
        let (now, config) = (board.now, config.unwrap_or_default());
        let kept = Kept::default();
        let found = kept.log.found().expect("it is empty");
        let begun = SchedulerMachine::recover("board".into(), config, found, claim(), now, now);
        let machine = begun.expect("an empty log fits any settings");
        board.machine = DrivenScheduler::new(machine, Checks::EachStep);
        board.machine.set_client(now, Some(ClientId(1)));
        board.store = Some(kept);
        board.settle_down();
        board
    }

    pub(super) fn store(&mut self) -> &mut Kept {
        self.store.as_mut().expect("it has a store")
    }

    /// Lets batches be stored from now on when a test says so.
    pub(super) fn by_hand(&mut self) {
        self.store().by_hand = true;
    }

    /// Stores the batch that is under way.
    pub(super) fn batch_stored(&mut self) {
        let event = self.store().stored().expect("a batch is under way");
        self.event(event);
    }

    /// Fails to store the batch that is under way.
    pub(super) fn batch_not_stored(&mut self) {
        let sealed = self.store().under_way.take();
        let sealed = sealed.expect("a batch is under way");
        self.event(Event::NotStored {
            batch: sealed.stamp.batch,
            records: sealed.records,
            reason: "the disk is full".to_owned(),
        });
    }

    pub(super) fn under_way(&self) -> bool {
        let store = self.store.as_ref();
        store.is_some_and(|store| store.under_way.is_some())
    }

    pub(super) fn refusal(&mut self) -> Option<Refusal> {
        let submission = Submission {
            kind: STOPS.into(),
            args: Payload::new(),
            options: None,
            audience: Audience::Current,
            watcher: None,
        };
        let submitted = self.machine.submit(self.now, submission);
        self.settle_down();
        submitted.err().map(|refused| refused.refusal)
    }

    /// Handles all that the client was told.
    pub(super) fn confirm_all(&mut self) {
        for delivery in 1..=self.told.len() as u64 {
            self.event(Event::Confirmed {
                client: ClientId(1),
                delivery,
                handled: 0..1,
            });
        }
    }
}
