//! What a log held when a scheduler starts on it.
//!
//! Owns: the way from rows to a ledger, and the words for what cannot be read. Does not know: what
//! a scheduler makes of it.

use super::row::{BatchReader, RowFlaw};
use super::{Claimant, EachRow, LogError, Snapshot, TaskLog};
use crate::engine::found::Found;
use crate::engine::ledger::{Illegal, Ledger};
use crate::engine::record::Claim;

/// How far the reading is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The batch that was read last.
    pub batch: u64,
    /// The tasks that are known so far.
    pub tasks: usize,
}

/// Takes a log over, and folds all that is there; `watch` hears how far it is, after each batch.
///
/// # Errors
///
/// It cannot be taken over or read, or what is there cannot have been written so. Nothing was
/// changed but the term.
pub fn recover(
    log: &mut dyn TaskLog,
    who: &Claimant<'_>,
    watch: &mut dyn FnMut(Progress),
) -> Result<(Claim, Found), LogError> {
    let mut claim = log.claim(who)?;
    let found = fold(|each| log.replay(each), watch)?;
    // The last head says whose state it is. A claim alone does not: a start on a copy takes the
    // mark off, and may end before it stores anything.
    if let Ok(head) = found.ledger.finish() {
        let another = head.scheduler_id != claim.scheduler_id;
        claim.copied_from = another.then_some(head.scheduler_id);
    }
    Ok((claim, found))
}

/// Folds what a log held at one moment.
///
/// # Errors
///
/// It cannot be read, or what is there cannot have been written so.
pub fn read(from: &dyn Snapshot) -> Result<Ledger, LogError> {
    Ok(fold(|each| from.replay(each), &mut drop)?.ledger)
}

fn fold(
    replay: impl FnOnce(EachRow<'_>) -> Result<(), LogError>,
    watch: &mut dyn FnMut(Progress),
) -> Result<Found, LogError> {
    let mut reader = BatchReader::default();
    let mut found = Found::default();
    let mut bytes = 0;
    replay(&mut |batch, row| {
        bytes += row.len() as u64;
        let read = reader.row(row).map_err(|flaw| match flaw {
            RowFlaw::Newer(what) => LogError::Newer(what),
            RowFlaw::Damaged(what) => LogError::Damaged { batch, what },
        });
        let Some((stamp, records)) = read? else {
            return Ok(());
        };
        let illegal = |illegal: Illegal| LogError::Damaged {
            batch,
            what: illegal.to_string(),
        };
        if stamp.batch != batch {
            let what = format!("it says that it is batch {}", stamp.batch);
            return Err(LogError::Damaged { batch, what });
        }
        let bytes = std::mem::take(&mut bytes);
        found.batch(stamp, records, bytes).map_err(illegal)?;
        watch(Progress {
            batch,
            tasks: found.ledger.tasks().len(),
        });
        Ok(())
    })?;
    if let Some(last) = found.ledger.last() {
        let what = |illegal: Illegal| LogError::Damaged {
            batch: last.batch,
            what: illegal.to_string(),
        };
        found.ledger.finish().map_err(what)?;
    }
    Ok(found)
}
