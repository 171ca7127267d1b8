//! A log that lives as long as the process.
//!
//! Owns: the rows, and who may write them. Does not know: files. It stands in for one in tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::row::MAX_ROW;
use super::{
    Batch, Claimant, EachEnding, EachRow, Keeping, KeptEnding, LogError, Snapshot, TaskLog,
    check_sizes, follows,
};
use crate::engine::keep::Ended;
use crate::engine::record::{Claim, Term};
use crate::engine::{SchedulerId, Timestamp};
use crate::sync::lock;
use crate::task::{TaskId, TaskKey};

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
    endings: BTreeMap<(Ended, Timestamp, TaskId), KeptEnding>,
}

/// What such a log held at one moment.
#[derive(Debug)]
struct Moment {
    batches: BTreeMap<u64, Vec<Bytes>>,
    endings: BTreeMap<(Ended, Timestamp, TaskId), KeptEnding>,
}

impl Kept {
    fn keep(&mut self, keeping: &Keeping<'_>) {
        for ending in keeping.endings {
            self.endings.retain(|(_, _, id), _| *id != ending.id);
            let place = (ending.ended, ending.at, ending.id);
            self.endings.insert(place, ending.clone());
        }
        for ended in Ended::ALL {
            loop {
                let all = || self.endings.values().filter(|it| it.ended == ended);
                let bytes = all().map(|it| it.bytes.len() as u64).sum();
                let Some(oldest) = all().next() else { break };
                let age = keeping.now.since(oldest.at);
                if !keeping
                    .keep
                    .lets_go(ended, age, all().count() as u64, bytes)
                {
                    break;
                }
                let place = (ended, oldest.at, oldest.id);
                self.endings.remove(&place);
            }
        }
    }

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
        replay(&batches, each)
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError> {
        check_sizes(batch.rows, self.max_row())?;
        self.claimed(|kept| {
            if follows(kept.last(), batch.number)? {
                kept.batches.insert(batch.number, batch.rows.to_vec());
                if let Some(keeping) = &batch.keeping {
                    kept.keep(keeping);
                }
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

    fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, LogError> {
        let kept = lock(&self.kept);
        Ok(Box::new(Moment {
            batches: kept.batches.clone(),
            endings: kept.endings.clone(),
        }))
    }

    fn forget(&mut self, ids: &[TaskId]) -> Result<usize, LogError> {
        self.claimed(|kept| {
            let before = kept.endings.len();
            kept.endings.retain(|(_, _, id), _| !ids.contains(id));
            Ok(before - kept.endings.len())
        })
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}

impl Snapshot for Moment {
    fn copy(&self, _: &Path) -> Result<(), LogError> {
        Err(LogError::Unavailable(
            "it is kept in memory alone".to_owned(),
        ))
    }

    fn replay(&self, each: EachRow<'_>) -> Result<(), LogError> {
        replay(&self.batches, each)
    }

    fn kept(&self, id: TaskId) -> Result<Option<Bytes>, LogError> {
        let found = self.endings.values().find(|it| it.id == id);
        Ok(found.map(|it| it.bytes.clone()))
    }

    fn kept_by_key(&self, key: &TaskKey) -> Result<Option<Bytes>, LogError> {
        let has_key = |it: &&KeptEnding| it.key.as_ref() == Some(key);
        let found = self.endings.values().filter(has_key);
        let last = found.max_by_key(|it| (it.at, it.id));
        Ok(last.map(|it| it.bytes.clone()))
    }

    fn each_kept(
        &self,
        ended: Ended,
        before: Option<(Timestamp, TaskId)>,
        each: EachEnding<'_>,
    ) -> Result<(), LogError> {
        let is_before = |it: &&KeptEnding| {
            it.ended == ended && before.is_none_or(|before| (it.at, it.id) < before)
        };
        for ending in self.endings.values().rev().filter(is_before) {
            if !each(&ending.bytes)? {
                break;
            }
        }
        Ok(())
    }
}

fn replay(batches: &BTreeMap<u64, Vec<Bytes>>, each: EachRow<'_>) -> Result<(), LogError> {
    for (number, rows) in batches {
        for row in rows {
            each(*number, row)?;
        }
    }
    Ok(())
}
