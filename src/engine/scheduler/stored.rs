//! What is stored, and what follows when it is or cannot be.
//!
//! Owns: how facts become records. Does not know: where these are kept.

use super::{SchedulerMachine, StoreState};
use crate::engine::Timestamp;
use crate::engine::journal::UnderWay;
use crate::engine::ledger::{Ledger, Sealed, Stamp};
use crate::engine::record::{Head, Record, Reserved, Timing};

/// How many ids, and how many dispatches, are reserved at once. The next ones are when half of them
/// have been given out.
const BLOCK: u64 = 1 << 20;

impl SchedulerMachine {
    /// Returns the next batch to be stored, if it is due and none is under way. An
    /// [`Event::Stored`](crate::engine::Event::Stored) or
    /// [`Event::NotStored`](crate::engine::Event::NotStored) answers it. Call it after the effects
    /// were taken and performed.
    pub fn seal(&mut self, now: Timestamp) -> Option<Sealed> {
        self.observe(now);
        let due = self.seal_due()?;
        if due > now {
            return None;
        }
        let journal = self.journal.as_mut()?;
        let (batch, gathered) = journal.begin();
        let at = journal.time(now);
        let mut records = Vec::new();
        if let Some(set_back) = journal.take_head() {
            journal.reserved = Reserved {
                tasks: self.task_ids.next() + BLOCK,
                dispatches: self.dispatches.next() + BLOCK,
            };
            let config = &self.config;
            records.push(Record::Head(Box::new(Head {
                scheduler: self.name.clone(),
                scheduler_id: self.id,
                copied_from: journal.copied_from(),
                term: journal.term(),
                at,
                set_back,
                timing: Timing {
                    heartbeat: config.heartbeat,
                    lease: config.lease,
                    outlive: config.outlive.unwrap_or_default(),
                },
                reserved: journal.reserved,
                nodes: Vec::new(),
                settings: Vec::new(),
            })));
        }
        records.extend(gathered.records);
        let stamp = Stamp {
            term: journal.term(),
            batch,
            next_task: self.task_ids.next(),
            next_dispatch: self.dispatches.next(),
            at,
        };
        journal.sent(UnderWay {
            batch,
            accepted: gathered.accepted,
            staged: gathered.staged,
            reported: gathered.reported,
            reserved: journal.reserved,
        });
        Some(Sealed {
            stamp,
            records,
            truncate: None,
        })
    }

    /// Returns up to which batch all is durable; without a store all that is decided is final.
    pub fn stored(&self) -> u64 {
        self.journal.as_ref().map_or(u64::MAX, |it| it.stored())
    }

    /// Returns with which batch what was decided so far is durable; 0 without a store.
    pub fn promised_with(&self) -> u64 {
        self.journal.as_ref().map_or(0, |it| it.promised_with())
    }

    /// Returns how the store is, if there is one.
    pub fn store_state(&self) -> Option<StoreState> {
        self.journal.as_ref().map(|journal| journal.state())
    }

    /// Returns what the log says once all that was written down is stored.
    pub fn project(&self) -> Ledger {
        Ledger::default()
    }

    /// Ends this term of a scheduler that has a store: nodes go on, for the next one to take over.
    /// What is left of the term goes into the batches that are still to be sealed.
    pub fn close(&mut self, now: Timestamp) {
        self.observe(now);
        self.drain(now);
        self.stopped = true;
    }

    pub(super) fn seal_due(&self) -> Option<Timestamp> {
        self.journal.as_ref()?.due()
    }

    pub(super) fn batch_stored(&mut self, _now: Timestamp, batch: u64, bytes: u64) {
        let journal = self.journal.as_mut();
        let _under_way = journal.and_then(|journal| journal.batch_stored(batch, bytes));
    }

    pub(super) fn batch_not_stored(
        &mut self,
        _now: Timestamp,
        _batch: u64,
        _records: Vec<Record>,
        _reason: String,
    ) {
    }

    pub(super) fn store_failing(&mut self, _now: Timestamp, _reason: String) {}
}
