//! A log that lives as long as the process.
//!
//! Owns: the rows, and who may write them. Does not know: files. It stands in for one in tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::row::MAX_ROW;
use super::{Batch, Claimant, EachRow, LogError, Snapshot, TaskLog, check_sizes, follows};
use crate::engine::SchedulerId;
use crate::engine::record::{Claim, Term};
use crate::sync::lock;

/// One opener of a log. Clones open the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    kept: Arc<Mutex<Kept>>,
    term: Term,
}

#[derive(Debug, Default)]
struct Kept {
    owner: Option<(String, SchedulerId)>,
    term: Term,
    batches: BTreeMap<u64, Vec<Bytes>>,
}

impl Kept {
    fn last(&self) -> u64 {
        self.batches.keys().next_back().copied().unwrap_or(0)
    }

    fn truncate(&mut self, before: u64) {
        let last = self.last();
        self.batches = self.batches.split_off(&before.min(last));
    }
}

impl MemoryLog {
    fn claimed<R>(
        &self,
        act: impl FnOnce(&mut Kept) -> Result<R, LogError>,
    ) -> Result<R, LogError> {
        let mut kept = lock(&self.kept);
        if kept.term != self.term {
            return Err(LogError::Fenced);
        }
        act(&mut kept)
    }
}

impl TaskLog for MemoryLog {
    fn claim(&mut self, who: &Claimant<'_>) -> Result<Claim, LogError> {
        let mut kept = lock(&self.kept);
        let owner = (who.scheduler.to_owned(), who.new_id);
        let (scheduler, scheduler_id) = kept.owner.get_or_insert(owner).clone();
        if scheduler != who.scheduler {
            return Err(LogError::Foreign { scheduler });
        }
        kept.term = Term(kept.term.0 + 1);
        self.term = kept.term;
        Ok(Claim {
            scheduler_id,
            term: kept.term,
            copied_from: None,
            last: kept.last(),
        })
    }

    fn replay(&mut self, each: EachRow<'_>) -> Result<(), LogError> {
        let batches = lock(&self.kept).batches.clone();
        for (number, rows) in &batches {
            for row in rows {
                each(*number, row)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError> {
        check_sizes(batch.rows, self.max_row())?;
        self.claimed(|kept| {
            if follows(kept.last(), batch.number)? {
                kept.batches.insert(batch.number, batch.rows.to_vec());
            }
            if let Some(before) = batch.truncate {
                kept.truncate(before);
            }
            Ok(())
        })
    }

    fn reread(&mut self) -> Result<u64, LogError> {
        self.claimed(|kept| Ok(kept.last()))
    }

    fn truncate(&mut self, before: u64) -> Result<(), LogError> {
        self.claimed(|kept| {
            kept.truncate(before);
            Ok(())
        })
    }

    fn check(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn max_row(&self) -> usize {
        MAX_ROW
    }

    fn snapshot(&mut self) -> Result<Snapshot, LogError> {
        Err(LogError::Unavailable(
            "it is kept in memory alone".to_owned(),
        ))
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}
