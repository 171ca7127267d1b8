//! A log in a redb database.
//!
//! Owns: the tables, and what a commit has in it. Does not know: where the database is kept.
//!
//! After an I/O error redb's handle is of no use, so it is dropped, and the next call opens the
//! database anew. A commit that has failed may be there all the same. What redb reads is not
//! verified when it opens a file, and a file that was changed may make it panic: that is caught,
//! and is damage.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    CompactionError, Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::database::{Opener, damaged, guarded, of};
use super::file::FileOpener;
use super::row::{FORMAT, MAX_ROW};
use super::{Batch, Claimant, EachRow, LogError, Snapshot, TaskLog, check_sizes, follows};
use crate::contain::shielded;
use crate::engine::SchedulerId;
use crate::engine::record::{Claim, Term};
use crate::task::TaskId;

mod content;
mod kept;
mod moment;

use content::Content;
use moment::{Moment, replay};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// The rows, by batch and place in it.
const ROWS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("rows");

const MAGIC: (&str, &[u8]) = ("callboard", b"store");
const FORMAT_KEY: &str = "format";
const SCHEDULER: &str = "scheduler";
const ID: &str = "id";
const TERM: &str = "term";
/// Present in a copy until somebody opens it to write.
const COPY: &str = "copy";

/// A file that is not larger is left as it is while it is written to.
const LARGE: u64 = 64 << 20;
/// A file that is not larger is left as it is when it is closed.
const SMALL: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct TableLog<O> {
    opener: O,
    open: Option<Arc<Database>>,
    claimed: Option<Claimed>,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
struct Claimed {
    scheduler_id: SchedulerId,
    term: Term,
    /// The last batch that is known to be stored.
    last: u64,
}

impl TableLog<FileOpener> {
    /// Makes the log in the file at a path, which is made if there is none.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(FileOpener::new(path.into()))
    }
}

impl<O: Opener> TableLog<O> {
    /// Makes a log that nobody has opened so far.
    pub fn new(opener: O) -> Self {
        Self {
            opener,
            open: None,
            claimed: None,
            content: Content::default(),
        }
    }

    /// Returns what it says of itself.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn about(&mut self) -> Result<About, LogError> {
        self.with(|db| look(db))
    }

    /// Marks it as a copy, so that the next claim takes a new id.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn mark_copy(&mut self) -> Result<(), LogError> {
        self.with(|db| {
            let write = db.begin_write().map_err(of)?;
            mark_copy(&write).map_err(of)?;
            write.commit().map_err(of)
        })
    }

    /// Does something with the database, and opens it first if it is not open. After any error the
    /// next call opens it anew.
    fn with<R>(
        &mut self,
        act: impl FnOnce(&Arc<Database>) -> Result<R, LogError>,
    ) -> Result<R, LogError> {
        let db = match &self.open {
            Some(db) => Arc::clone(db),
            None => self.reopen()?,
        };
        let done = guarded(|| act(&db));
        if done.is_err() {
            self.open = None;
            // Its drop writes, and may panic.
            shielded(|| drop(db));
        }
        done
    }

    fn reopen(&mut self) -> Result<Arc<Database>, LogError> {
        let db = Arc::new(guarded(|| self.opener.open(&found))?);
        if let Some(claimed) = &mut self.claimed {
            let found = guarded(|| look(&db))?;
            if (found.scheduler_id, found.term) != (Some(claimed.scheduler_id), claimed.term) {
                return Err(LogError::Fenced);
            }
            if found.last < claimed.last {
                return Err(LogError::RolledBack);
            }
            claimed.last = found.last;
        }
        self.open = Some(Arc::clone(&db));
        Ok(db)
    }
}

impl<O: Opener> TaskLog for TableLog<O> {
    fn claim(&mut self, who: &Claimant<'_>) -> Result<Claim, LogError> {
        self.claimed = None;
        let claim = self.with(|db| {
            let found = look(db)?;
            if let Some(scheduler) = found.scheduler.filter(|name| name != who.scheduler) {
                return Err(LogError::Foreign { scheduler });
            }
            let copied_from = found.scheduler_id.filter(|_| found.is_copy);
            let kept = found.scheduler_id.filter(|_| !found.is_copy);
            let claim = Claim {
                scheduler_id: kept.unwrap_or(who.new_id),
                term: Term(found.term.0 + 1),
                copied_from,
                last: found.last,
            };
            let write = db.begin_write().map_err(of)?;
            write_meta(&write, who.scheduler, &claim).map_err(of)?;
            write.commit().map_err(of)?;
            Ok(claim)
        })?;
        self.claimed = Some(Claimed {
            scheduler_id: claim.scheduler_id,
            term: claim.term,
            last: claim.last,
        });
        Ok(claim)
    }

    fn replay(&mut self, each: EachRow<'_>) -> Result<(), LogError> {
        let mut content = Content::default();
        let each: EachRow<'_> = &mut |number, row| {
            content.add(number, row.len());
            each(number, row)
        };
        self.with(|db| {
            let read = db.begin_read().map_err(of)?;
            replay(&read, each)
        })?;
        self.content = content;
        Ok(())
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError> {
        check_sizes(batch.rows, self.max_row())?;
        let Some(claimed) = self.claimed else {
            return Err(LogError::Fenced);
        };
        // After an error the last one is known only when it is open again.
        let opened = self.open.is_some();
        let appended = self.with(|db| {
            let last = if opened { claimed.last } else { look(db)?.last };
            if !follows(last, batch.number)? && batch.truncate.is_none() {
                return Ok(());
            }
            let write = db.begin_write().map_err(of)?;
            write_batch(&write, batch, last).map_err(of)?;
            write.commit().map_err(|error| match of(error) {
                LogError::Full(why) => LogError::Unknown(format!("there is no room: {why}")),
                other => LogError::Unknown(other.to_string()),
            })
        });
        if let (Ok(()), Some(claimed)) = (&appended, &mut self.claimed) {
            if claimed.last < batch.number {
                let bytes = batch.rows.iter().map(Bytes::len).sum();
                self.content.add(batch.number, bytes);
            }
            claimed.last = batch.number;
            self.content.cut(batch.truncate.unwrap_or(0));
        }
        appended
    }

    fn reread(&mut self) -> Result<u64, LogError> {
        self.open = None;
        self.with(|db| Ok(look(db)?.last))
    }

    fn truncate(&mut self, before: u64) -> Result<(), LogError> {
        self.with(|db| {
            let write = db.begin_write().map_err(of)?;
            cut(&write, before).map_err(of)?;
            write.commit().map_err(of)
        })?;
        self.content.cut(before);
        Ok(())
    }

    fn check(&mut self) -> Result<(), LogError> {
        self.opener.check()
    }

    fn max_row(&self) -> usize {
        MAX_ROW
    }

    fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, LogError> {
        self.with(|db| {
            let read = db.begin_read().map_err(of)?;
            Ok(Box::new(Moment(read)) as Box<dyn Snapshot>)
        })
    }

    fn forget(&mut self, ids: &[TaskId]) -> Result<usize, LogError> {
        self.with(|db| {
            let write = db.begin_write().map_err(of)?;
            let found = kept::forget(&write, ids).map_err(of)?;
            write.commit().map_err(of)?;
            Ok(found)
        })
    }

    fn tidy(&mut self) -> Result<(), LogError> {
        let Some(db) = &self.open else { return Ok(()) };
        let content = self.content.bytes + guarded(|| kept_bytes(db))?;
        let is_large = |bytes| bytes > LARGE && bytes / 4 > content;
        if content > LARGE || !self.opener.size().is_some_and(is_large) {
            return Ok(());
        }
        match self.open.as_mut().and_then(Arc::get_mut) {
            Some(db) => guarded(|| compact(db)),
            None => Ok(()),
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), LogError> {
        let Some(mut db) = self.open.take().and_then(Arc::into_inner) else {
            return Ok(());
        };
        let content = self.content.bytes;
        let size = self.opener.size();
        guarded(move || {
            let content = content + kept_bytes(&db)?;
            if size.is_none_or(|bytes| bytes > SMALL && bytes / 4 > content) {
                compact(&mut db)?;
            }
            db.close().map_err(of)
        })
    }
}

/// Moves all to the beginning of the file, and cuts it; not while somebody reads what it held.
fn compact(db: &mut Database) -> Result<(), LogError> {
    match db.compact() {
        Ok(_) | Err(CompactionError::TransactionInProgress) => Ok(()),
        Err(error) => Err(of(error)),
    }
}

fn kept_bytes(db: &Database) -> Result<u64, LogError> {
    kept::bytes(&db.begin_read().map_err(of)?)
}

/// Makes the tables of a store that is new.
fn found(db: &Database) -> Result<(), LogError> {
    let write = db.begin_write().map_err(of)?;
    let mark = |write: &WriteTransaction| -> Result<(), redb::Error> {
        let mut meta = write.open_table(META)?;
        meta.insert(MAGIC.0, MAGIC.1)?;
        meta.insert(FORMAT_KEY, &FORMAT.to_be_bytes()[..])?;
        write.open_table(ROWS)?;
        Ok(())
    };
    mark(&write).map_err(of)?;
    write.commit().map_err(of)
}

/// What a database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name of the scheduler that has used it.
    pub scheduler: Option<String>,
    /// The id of that scheduler.
    pub scheduler_id: Option<SchedulerId>,
    /// The term of its last start.
    pub term: Term,
    /// Whether it is a copy that nobody has used since.
    pub is_copy: bool,
    /// The last batch.
    pub last: u64,
}

fn look(db: &Database) -> Result<About, LogError> {
    let others = || LogError::NotAStore("it is a database of another program".to_owned());
    let read = db.begin_read().map_err(of)?;
    let meta = match read.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return Err(others());
        }
        meta => meta.map_err(of)?,
    };
    let get = |key| -> Result<Option<Vec<u8>>, LogError> {
        let value = meta.get(key).map_err(of)?;
        Ok(value.map(|value| value.value().to_vec()))
    };
    let number = |key| {
        let bytes = get(key)?.map(<[u8; 8]>::try_from).transpose();
        let bytes = bytes.map_err(|_| damaged(format!("its {key} is no number")))?;
        Ok::<_, LogError>(bytes.map(u64::from_be_bytes))
    };
    if get(MAGIC.0)?.as_deref() != Some(MAGIC.1) {
        return Err(others());
    }
    let format = get(FORMAT_KEY)?.unwrap_or_default();
    if format != FORMAT.to_be_bytes() {
        let found = format
            .iter()
            .fold(0u64, |all, &byte| all << 8 | u64::from(byte));
        return Err(LogError::Newer(format!(
            "its format is {found}, and this version reads {FORMAT}"
        )));
    }
    let scheduler = get(SCHEDULER)?.map(String::from_utf8).transpose();
    let rows = read.open_table(ROWS).map_err(of)?;
    let last = rows.last().map_err(of)?;
    Ok(About {
        scheduler: scheduler.map_err(|_| damaged("its scheduler has no name".to_owned()))?,
        scheduler_id: number(ID)?.map(SchedulerId),
        term: Term(number(TERM)?.unwrap_or(0)),
        is_copy: get(COPY)?.is_some(),
        last: last.map_or(0, |(key, _)| key.value().0),
    })
}

fn write_meta(write: &WriteTransaction, name: &str, claim: &Claim) -> Result<(), redb::Error> {
    let mut meta = write.open_table(META)?;
    meta.insert(SCHEDULER, name.as_bytes())?;
    meta.insert(ID, &claim.scheduler_id.0.to_be_bytes()[..])?;
    meta.insert(TERM, &claim.term.0.to_be_bytes()[..])?;
    meta.remove(COPY)?;
    Ok(())
}

fn mark_copy(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(META)?.insert(COPY, &[][..])?;
    Ok(())
}

fn write_batch(write: &WriteTransaction, batch: &Batch<'_>, last: u64) -> Result<(), redb::Error> {
    if batch.number != last {
        let mut rows = write.open_table(ROWS)?;
        for (row, place) in batch.rows.iter().zip(0..) {
            rows.insert((batch.number, place), &row[..])?;
        }
        if let Some(keeping) = &batch.keeping {
            kept::keep(write, keeping)?;
        }
    }
    match batch.truncate {
        Some(before) => cut(write, before),
        None => Ok(()),
    }
}

fn cut(write: &WriteTransaction, before: u64) -> Result<(), redb::Error> {
    let mut rows = write.open_table(ROWS)?;
    let last = rows.last()?.map_or(0, |(key, _)| key.value().0);
    rows.retain_in(..(before.min(last), 0), |_, _| false)?;
    Ok(())
}
