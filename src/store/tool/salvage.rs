//! What can be had of a damaged store.
//!
//! Owns: the fold that passes over what does not follow, and the new store. Does not know: how
//! damage is found.
//!
//! A scheduler starts on no log with a gap. So what the whole batches come to is written as a new
//! one. It may have tasks as unfinished whose ending was lost, and lacks those that were accepted
//! in a lost part.

use std::path::Path;
use std::time::Duration;

use super::check::{Read, scan};
use super::{ToolError, store};
use crate::engine::keep::{Ended, Keep};
use crate::engine::ledger::{Ledger, Stamp};
use crate::engine::record::{Head, Record, Reserved, Term, Timing};
use crate::engine::{SchedulerId, Timestamp};
use crate::store::row::BatchWriter;
use crate::store::table::{About, TableLog};
use crate::store::writer::{CHECK_EVERY, LogWriter};
use crate::store::{Batch, Claimant, Keeping, KeptEnding, LogError, Snapshot, TaskLog, retained};

/// How many tasks are written with one batch.
const AT_ONCE: usize = 1_000;

/// How many numbers beyond all that are known may have been given out in a part that is lost.
const BEYOND: u64 = 1 << 22;

/// What was saved, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Batches that were whole.
    pub batches: usize,
    /// Tasks in the new store.
    pub tasks: usize,
    /// Tasks that have settled and are kept in it.
    pub kept: usize,
    /// Facts in whole batches that were of no use without a lost one.
    pub dropped: usize,
    /// What is missing, a sentence for each.
    pub missing: Vec<String>,
}

pub(super) fn salvage(
    from: &dyn Snapshot,
    about: &About,
    to: &Path,
) -> Result<Salvaged, ToolError> {
    let scheduler = about.scheduler.as_deref().ok_or(ToolError::Unused)?;
    let scheduler_id = about.scheduler_id.ok_or(ToolError::Unused)?;
    let mut salvaged = Salvaged::default();
    let mut fold = Fold::default();
    scan(from, &mut |read| match read {
        Read::Batch(stamp, records) => {
            salvaged.batches += 1;
            salvaged.dropped += fold.batch(stamp, records);
        }
        Read::Damage(damage) => salvaged.missing.push(damage.to_string()),
    });
    let mut endings = Vec::new();
    for ended in Ended::ALL {
        let read = from.each_kept(ended, None, &mut |bytes| {
            match retained::read(bytes) {
                Ok(task) => endings.push(retained::kept(&task)),
                Err(error) => salvaged.missing.push(error.to_string()),
            }
            Ok(true)
        });
        if let Err(error) = read {
            let what = format!("the {ended} tasks that are kept: {error}");
            salvaged.missing.push(what);
        }
    }
    salvaged.kept = endings.len();
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    super::is_free(part)?;
    let mut log = TableLog::at(part);
    let claim = log.claim(&Claimant {
        scheduler,
        new_id: scheduler_id,
    })?;
    let at = fold.ledger.last().map_or(Timestamp(0), |last| last.at);
    let head = fold.head(scheduler, scheduler_id, claim.term);
    let reserved = head.reserved;
    let mut stamp = Stamp {
        term: claim.term,
        batch: 1,
        next_task: reserved.tasks,
        next_dispatch: reserved.dispatches,
        at,
    };
    keep(&mut log, stamp, head, &endings)?;
    log.mark_copy()?;
    let mut writer = LogWriter::new(Box::new(log), CHECK_EVERY);
    let tasks: Vec<_> = fold.ledger.into_tasks().into_iter().collect();
    salvaged.tasks = tasks.len();
    for some in tasks.chunks(AT_ONCE) {
        stamp.batch += 1;
        let records = some.iter().flat_map(|(_, task)| task.rewritten());
        store(&mut writer, stamp, records.collect())?;
    }
    writer.close()?;
    std::fs::rename(part, to)
        .map_err(|error| LogError::Unavailable(format!("{}: {error}", to.display())))?;
    Ok(salvaged)
}

/// Writes the head, and what is kept.
fn keep(
    log: &mut TableLog<super::FileOpener>,
    stamp: Stamp,
    head: Head,
    endings: &[KeptEnding],
) -> Result<(), LogError> {
    let mut writer = BatchWriter::new(stamp);
    writer.record(&Record::Head(Box::new(head)));
    let all = Keep::all(Duration::MAX).at_most_bytes(u64::MAX);
    log.append(&Batch {
        number: stamp.batch,
        rows: &writer.into_rows(log.max_row()),
        truncate: None,
        keeping: Some(Keeping {
            endings,
            keep: &all,
            now: stamp.at,
        }),
    })
}

/// A fold that passes over what does not follow.
#[derive(Default)]
struct Fold {
    ledger: Ledger,
    /// Batches are numbered anew, since some are missing.
    number: u64,
}

impl Fold {
    /// Takes a batch; returns how many of its facts were of no use.
    fn batch(&mut self, stamp: Stamp, records: Vec<Record>) -> usize {
        self.number += 1;
        let stamp = Stamp {
            batch: self.number,
            ..stamp
        };
        if self.ledger.begin(stamp).is_err() {
            return records.len();
        }
        let has_head = matches!(records.first(), Some(Record::Head(_)));
        if !has_head {
            self.begin_term(stamp);
        }
        let mut dropped = 0;
        for record in records.into_iter().flat_map(singly) {
            let is_head = matches!(record, Record::Head(_));
            let is_refused = self.ledger.apply(record).is_err();
            dropped += usize::from(is_refused);
            if is_head && is_refused {
                self.begin_term(stamp);
            }
        }
        dropped
    }

    /// Begins a term with the last head that is there, if its own was lost; and what was given out
    /// before this batch had been reserved, whether or not that is there.
    fn begin_term(&mut self, stamp: Stamp) {
        let Ok(head) = self.ledger.finish() else {
            return;
        };
        let before = self.ledger.reserved();
        let reserved = Reserved {
            tasks: before.tasks.max(stamp.next_task),
            dispatches: before.dispatches.max(stamp.next_dispatch),
        };
        let record = if head.term == stamp.term {
            Record::Reserved(reserved)
        } else {
            Record::Head(Box::new(Head {
                term: stamp.term,
                at: stamp.at,
                set_back: Duration::ZERO,
                copied_from: None,
                reserved,
                nodes: self.ledger.nodes().values().cloned().collect(),
                settings: self.ledger.settings().list(),
                ..head.clone()
            }))
        };
        // If it is refused, so is what follows, and that is counted.
        let _ = self.ledger.apply(record);
    }

    /// Returns the head of the new store.
    fn head(&self, scheduler: &str, scheduler_id: SchedulerId, term: Term) -> Head {
        let last = self.ledger.last();
        let highest = self.ledger.tasks().keys().last().map_or(0, |id| id.get());
        let next_task = last.map_or(0, |last| last.next_task).max(highest);
        let next_dispatch = last.map_or(0, |last| last.next_dispatch);
        let found = self.ledger.finish().ok();
        let reserved = self.ledger.reserved();
        let beyond = |next: u64, reserved: u64| next.max(reserved).saturating_add(BEYOND);
        Head {
            scheduler: scheduler.into(),
            scheduler_id,
            copied_from: None,
            term,
            at: last.map_or(Timestamp(0), |last| last.at),
            set_back: Duration::ZERO,
            timing: found.map_or(UNKNOWN, |head| head.timing),
            reserved: Reserved {
                tasks: beyond(next_task, reserved.tasks),
                dispatches: beyond(next_dispatch, reserved.dispatches),
            },
            nodes: self.ledger.nodes().values().cloned().collect(),
            settings: self.ledger.settings().list(),
        }
    }
}

/// What is waited for if no head is left that tells it: longer than the defaults.
const UNKNOWN: Timing = Timing {
    heartbeat: Duration::from_secs(2),
    lease: Duration::from_secs(60),
    outlive: Duration::from_secs(60),
};

/// Cuts a record that speaks of many tasks, so that one that is lost spoils no other.
fn singly(record: Record) -> Vec<Record> {
    match record {
        Record::Confirmed(ids) => {
            let each = ids.into_iter().map(|id| Record::Confirmed(vec![id]));
            each.collect()
        }
        Record::Placed { at, runs } => {
            let each = runs.into_iter().map(|run| Record::Placed {
                at: at.clone(),
                runs: vec![run],
            });
            each.collect()
        }
        other => vec![other],
    }
}
