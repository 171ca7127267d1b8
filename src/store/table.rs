//! A log in a redb database.
//!
//! Owns: the tables, and what a commit has in it. Does not know: where the database is kept.
//!
//! After an I/O error redb's handle is of no use, so it is dropped, and the next call opens the
//! database anew. A commit that has failed may be there all the same. What redb reads is not
//! verified when it opens a file, and a file that was changed may make it panic: that is caught,
//! and is damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::database::{Opener, damaged, guarded, of};
use super::file::{self, FileOpener};
use super::row::{FORMAT, MAX_ROW};
use super::{Batch, Claimant, EachRow, LogError, Snapshot, TaskLog, check_sizes, follows};
use crate::contain::shielded;
use crate::engine::SchedulerId;
use crate::engine::record::{Claim, Term};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// By batch, and place in it.
const ROWS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("rows");

const MAGIC: (&str, &[u8]) = ("callboard", b"store");
const FORMAT_KEY: &str = "format";
const SCHEDULER: &str = "scheduler";
const ID: &str = "id";
const TERM: &str = "term";
/// There in a copy that was not opened to be written since.
const COPY: &str = "copy";

/// See the module.
#[derive(Debug)]
pub struct TableLog<O> {
    opener: O,
    open: Option<Arc<Database>>,
    claimed: Option<Claimed>,
}

#[derive(Clone, Copy, Debug)]
struct Claimed {
    scheduler_id: SchedulerId,
    term: Term,
    /// The last batch that is known to be stored.
    last: u64,
}

impl TableLog<FileOpener> {
    /// The log in the file at a path, which is made if there is none.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(FileOpener::new(path.into()))
    }
}

impl<O: Opener> TableLog<O> {
    /// A log that nobody has opened so far.
    pub fn new(opener: O) -> Self {
        Self {
            opener,
            open: None,
            claimed: None,
        }
    }

    /// Does something with the database, which is opened if it is not. Whatever goes wrong, it is
    /// opened anew the next time.
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
        self.with(|db| {
            let read = db.begin_read().map_err(of)?;
            let rows = read.open_table(ROWS).map_err(of)?;
            for entry in rows.iter().map_err(of)? {
                let (key, row) = entry.map_err(of)?;
                each(key.value().0, row.value())?;
            }
            Ok(())
        })
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
            claimed.last = batch.number;
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
        })
    }

    fn check(&mut self) -> Result<(), LogError> {
        self.opener.check()
    }

    fn max_row(&self) -> usize {
        MAX_ROW
    }

    fn snapshot(&mut self) -> Result<Snapshot, LogError> {
        self.with(|db| {
            let read = db.begin_read().map_err(of)?;
            let copy = move |path: &Path| guarded(|| copy(&read, path));
            Ok(Box::new(copy) as Snapshot)
        })
    }

    fn close(mut self: Box<Self>) -> Result<(), LogError> {
        let Some(mut db) = self.open.take().and_then(Arc::into_inner) else {
            return Ok(());
        };
        guarded(move || {
            db.compact().map_err(of)?;
            db.close().map_err(of)
        })
    }
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
struct Found {
    scheduler: Option<String>,
    scheduler_id: Option<SchedulerId>,
    term: Term,
    is_copy: bool,
    last: u64,
}

fn look(db: &Database) -> Result<Found, LogError> {
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
    Ok(Found {
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

fn write_batch(write: &WriteTransaction, batch: &Batch<'_>, last: u64) -> Result<(), redb::Error> {
    if batch.number != last {
        let mut rows = write.open_table(ROWS)?;
        for (row, place) in batch.rows.iter().zip(0..) {
            rows.insert((batch.number, place), &row[..])?;
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

/// Copies all to a new file, which is marked as a copy.
fn copy(read: &ReadTransaction, path: &Path) -> Result<(), LogError> {
    let copy = |to: &Database| -> Result<(), redb::Error> {
        let write = to.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            for entry in read.open_table(META)?.iter()? {
                let (key, value) = entry?;
                meta.insert(key.value(), value.value())?;
            }
            meta.insert(COPY, &[][..])?;
            let mut rows = write.open_table(ROWS)?;
            for entry in read.open_table(ROWS)?.iter()? {
                let (key, value) = entry?;
                rows.insert(key.value(), value.value())?;
            }
        }
        Ok(write.commit()?)
    };
    file::make(path, &|db| copy(db).map_err(of)).map(drop)
}
