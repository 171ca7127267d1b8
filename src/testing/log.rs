//! A log in memory, that drops its beginning as it is told to.
//!
//! Owns: the batches that are kept, and the check that no other one is needed. Does not know: when
//! a batch is stored, or what it is for.

use crate::engine::cleaning::{Bounds, Cleaning};
use crate::engine::found::Found;
use crate::engine::ledger::{Ledger, Sealed, Stamp};
use crate::engine::record::Record;

/// Bounds that a few tasks exceed, so that a log is cleaned all the time.
pub const NARROW: Bounds = Bounds {
    room: 1 << 10,
    last_room: 0,
    again: 256,
    max_small: 8,
    small: 1 << 10,
    worth_a_head: 512,
    worth_a_last_head: 0,
    dropped: 3,
    dropped_bytes: 4 << 10,
};

/// See the module.
#[derive(Clone, Debug)]
pub struct RecordLog {
    bounds: Bounds,
    /// The batches that are kept.
    kept: Vec<(Stamp, Vec<Record>)>,
    /// The fold of all batches that there were.
    ledger: Ledger,
}

impl RecordLog {
    /// Makes an empty log. Whoever starts on it keeps it within these bounds.
    pub fn within(bounds: Bounds) -> Self {
        Self {
            bounds,
            kept: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// Returns the fold of all.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns how many batches are kept.
    pub fn batches(&self) -> usize {
        self.kept.len()
    }

    /// Stores a batch, and drops what it says is not needed. Returns how many bytes it has.
    ///
    /// # Errors
    ///
    /// It cannot follow, or something that was dropped is needed.
    pub fn append(&mut self, sealed: Sealed) -> Result<u64, String> {
        self.ledger = self.with(&sealed)?;
        let bytes = size(&sealed.records);
        self.kept.push((sealed.stamp, sealed.records));
        if let Some(before) = sealed.truncate {
            self.kept.retain(|(stamp, _)| stamp.batch >= before);
            let left = self.found()?.ledger;
            if left != self.ledger {
                return Err(format!(
                    "something before batch {before} is needed: without that {left:?} is known, and with it {:?}",
                    self.ledger
                ));
            }
        }
        Ok(bytes)
    }

    /// Returns the fold of all with a batch that is under way.
    ///
    /// # Errors
    ///
    /// It cannot follow.
    pub fn with(&self, sealed: &Sealed) -> Result<Ledger, String> {
        let mut found = Found {
            ledger: self.ledger.clone(),
            cleaning: Cleaning::default(),
        };
        take(&mut found, sealed.stamp, &sealed.records)?;
        Ok(found.ledger)
    }

    /// Returns what whoever starts on it finds: in what is kept alone.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn found(&self) -> Result<Found, String> {
        let mut found = Found {
            ledger: Ledger::default(),
            cleaning: Cleaning::within(self.bounds),
        };
        for (stamp, records) in &self.kept {
            take(&mut found, *stamp, records)?;
        }
        if !self.kept.is_empty() {
            let head = found.ledger.finish();
            head.map_err(|illegal| format!("what is kept of the log is illegal: {illegal}"))?;
        }
        Ok(found)
    }
}

fn take(found: &mut Found, stamp: Stamp, records: &[Record]) -> Result<(), String> {
    let taken = found.batch(stamp, records.to_vec(), size(records));
    taken.map_err(|illegal| format!("batch {} is illegal: {illegal}", stamp.batch))
}

fn size(records: &[Record]) -> u64 {
    let sizes = records.iter().map(|record| match record {
        Record::Accepted(task) => 30 + task.args.len() as u64,
        _ => 40,
    });
    50 + sizes.sum::<u64>()
}
