//! What a database held at one moment.
//!
//! Owns: the reading, and copies. Does not know: what is written meanwhile.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableTable};

use super::super::database::{guarded, of};
use super::{META, ROWS, kept, mark_copy};
use crate::engine::Timestamp;
use crate::engine::keep::Ended;
use crate::store::{EachEnding, EachRow, LogError, Snapshot, file};
use crate::task::{TaskId, TaskKey};

/// Gives every row.
pub fn replay(read: &ReadTransaction, each: EachRow<'_>) -> Result<(), LogError> {
    let rows = read.open_table(ROWS).map_err(of)?;
    for entry in rows.iter().map_err(of)? {
        let (key, row) = entry.map_err(of)?;
        each(key.value().0, row.value())?;
    }
    Ok(())
}

/// See the module.
pub struct Moment(pub ReadTransaction);

impl Snapshot for Moment {
    fn copy(&self, path: &Path) -> Result<(), LogError> {
        guarded(|| copy(&self.0, path))
    }

    fn replay(&self, each: EachRow<'_>) -> Result<(), LogError> {
        guarded(|| replay(&self.0, each))
    }

    fn kept(&self, id: TaskId) -> Result<Option<Bytes>, LogError> {
        guarded(|| kept::find(&self.0, id))
    }

    fn kept_by_key(&self, key: &TaskKey) -> Result<Option<Bytes>, LogError> {
        guarded(|| kept::find_by_key(&self.0, key))
    }

    fn each_kept(
        &self,
        ended: Ended,
        before: Option<(Timestamp, TaskId)>,
        each: EachEnding<'_>,
    ) -> Result<(), LogError> {
        guarded(|| kept::each(&self.0, ended, before, each))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment")
    }
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
            drop(meta);
            mark_copy(&write)?;
            let mut rows = write.open_table(ROWS)?;
            for entry in read.open_table(ROWS)?.iter()? {
                let (key, value) = entry?;
                rows.insert(key.value(), value.value())?;
            }
        }
        kept::copy(read, &write)?;
        Ok(write.commit()?)
    };
    file::make(path, &|db| copy(db).map_err(of)).map(drop)
}
