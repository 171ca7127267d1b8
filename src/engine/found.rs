//! What a scheduler finds in a log when it starts on it.
//!
//! Owns: that what the log says and what is to be cleaned of it come from the same batches. Does
//! not know: how a log is read, or what a scheduler makes of it.

use super::cleaning::Cleaning;
use super::ledger::{Illegal, Ledger, Stamp};
use super::record::Record;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What it says.
    pub ledger: Ledger,
    /// How it is cleaned.
    pub cleaning: Cleaning,
}

impl Found {
    /// Takes the next batch, which has so many bytes.
    ///
    /// # Errors
    ///
    /// It cannot follow from those before it. All is of no use then.
    pub fn batch(&mut self, stamp: Stamp, records: Vec<Record>, bytes: u64) -> Result<(), Illegal> {
        self.cleaning.found(stamp.batch, &records, bytes);
        self.ledger.begin(stamp)?;
        records.into_iter().try_for_each(|it| self.ledger.apply(it))
    }
}
