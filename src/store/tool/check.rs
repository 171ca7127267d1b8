//! All that is wrong with a store.
//!
//! Owns: the reading that goes on after damage. Does not know: what is done about it.

use std::fmt;

use crate::engine::keep::Ended;
use crate::engine::ledger::{Illegal, Ledger, Stamp};
use crate::engine::record::Record;
use crate::store::row::BatchReader;
use crate::store::{Snapshot, retained};

/// What there is, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Batches that are whole.
    pub batches: usize,
    /// Tasks that are unfinished, or whose status was not handled so far.
    pub tasks: usize,
    /// Tasks that have settled and are kept.
    pub kept: usize,
    /// What is wrong, a sentence for each.
    pub damage: Vec<String>,
}

/// Reads all there is.
pub(super) fn check(from: &dyn Snapshot) -> Checked {
    let mut checked = Checked::default();
    let mut ledger = Some(Ledger::default());
    scan(from, &mut |read| match read {
        Read::Batch(stamp, records) => {
            checked.batches += 1;
            // What follows from a batch that is missing cannot be judged.
            if let Some(known) = &mut ledger
                && let Err(illegal) = fold(known, stamp, records)
            {
                let batch = stamp.batch;
                checked.damage.push(format!("batch {batch}: {illegal}"));
                ledger = None;
            }
        }
        Read::Damage(damage) => {
            checked.damage.push(damage.to_string());
            ledger = None;
        }
    });
    if let Some(ledger) = &ledger {
        checked.tasks = ledger.tasks().len();
        if checked.batches > 0
            && let Err(illegal) = ledger.finish()
        {
            checked.damage.push(illegal.to_string());
        }
    }
    for ended in Ended::ALL {
        let read = from.each_kept(ended, None, &mut |bytes| {
            match retained::read(bytes) {
                Ok(_) => checked.kept += 1,
                Err(error) => checked.damage.push(error.to_string()),
            }
            Ok(true)
        });
        if let Err(error) = read {
            let what = format!("the {ended} tasks that are kept: {error}");
            checked.damage.push(what);
        }
    }
    checked
}

fn fold(ledger: &mut Ledger, stamp: Stamp, records: Vec<Record>) -> Result<(), Illegal> {
    ledger.begin(stamp)?;
    records
        .into_iter()
        .try_for_each(|record| ledger.apply(record))
}

/// What is met on the way.
#[derive(Debug)]
pub(super) enum Read {
    /// A batch that is whole.
    Batch(Stamp, Vec<Record>),
    /// A part of the log that is not.
    Damage(Damage),
}

/// A part of a log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    Batch { number: u64, what: String },
    Missing { first: u64, last: u64 },
    Rest { after: u64, what: String },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch { number, what } => write!(f, "batch {number}: {what}"),
            Self::Missing { first, last } if first == last => write!(f, "batch {first} is missing"),
            Self::Missing { first, last } => write!(f, "batches {first} to {last} are missing"),
            Self::Rest { after: 0, what } => write!(f, "no batch can be read: {what}"),
            Self::Rest { after, what } => write!(f, "all after batch {after}: {what}"),
        }
    }
}

/// Reads every batch, and goes on after one that is damaged.
pub(super) fn scan(from: &dyn Snapshot, each: &mut dyn FnMut(Read)) {
    let mut batch = Reading::default();
    let end = from.replay(&mut |number, row| {
        if batch.number != Some(number) {
            if let Some(damage) = batch.end() {
                each(Read::Damage(damage));
            }
            if let Some(before) = batch.number.filter(|before| before + 1 < number) {
                each(Read::Damage(Damage::Missing {
                    first: before + 1,
                    last: number - 1,
                }));
            }
            batch = Reading {
                number: Some(number),
                ..Reading::default()
            };
        }
        if let Some(read) = batch.row(number, row) {
            each(read);
        }
        Ok(())
    });
    match (end, batch.end()) {
        (Err(error), _) => each(Read::Damage(Damage::Rest {
            after: batch.number.unwrap_or(0),
            what: error.to_string(),
        })),
        (Ok(()), Some(damage)) => each(Read::Damage(damage)),
        (Ok(()), None) => {}
    }
}

/// The batch that is being read.
#[derive(Default)]
struct Reading {
    number: Option<u64>,
    rows: BatchReader,
    /// Whether it was whole, or is known to be damaged.
    is_known: bool,
}

impl Reading {
    fn row(&mut self, number: u64, row: &[u8]) -> Option<Read> {
        let damaged = |what: String| Some(Read::Damage(Damage::Batch { number, what }));
        match (self.is_known, self.rows.row(row)) {
            (true, _) | (false, Ok(None)) => None,
            (false, Err(flaw)) => {
                self.is_known = true;
                damaged(flaw.to_string())
            }
            (false, Ok(Some((stamp, records)))) => {
                self.is_known = true;
                if stamp.batch == number {
                    Some(Read::Batch(stamp, records))
                } else {
                    damaged(format!("it says that it is batch {}", stamp.batch))
                }
            }
        }
    }

    fn end(&self) -> Option<Damage> {
        let number = self.number.filter(|_| !self.is_known)?;
        let what = "its last rows are missing".to_owned();
        Some(Damage::Batch { number, what })
    }
}
