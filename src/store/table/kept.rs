//! The tables of what is kept beside a log.
//!
//! Owns: their order, their indexes, and that they stay within their bounds. Does not know: what
//! is written of a task.

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::{META, of};
use crate::engine::Timestamp;
use crate::engine::keep::Ended;
use crate::store::retained::label;
use crate::store::{EachEnding, Keeping, KeptEnding, LogError};
use crate::task::{TaskId, TaskKey};

/// The tasks that have settled, by id.
const SETTLED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("settled");
/// The size of each, by outcome, time and task.
const SETTLED_AT: TableDefinition<'_, (u8, u64, u64), u64> = TableDefinition::new("settled_at");
/// The last task with a key.
const SETTLED_KEY: TableDefinition<'_, &str, u64> = TableDefinition::new("settled_key");
/// The key in `meta` of how many tasks there are with each outcome, and how many bytes, 8 bytes
/// each.
const TOTALS: &str = "settled";

/// How many tasks are kept of each outcome, and how many bytes they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals([(u64, u64); 3]);

impl Totals {
    fn read(bytes: &[u8]) -> Self {
        let mut totals = Self::default();
        let (numbers, _) = bytes.as_chunks::<8>();
        let (pairs, _) = numbers.as_chunks::<2>();
        for (total, [count, bytes]) in totals.0.iter_mut().zip(pairs) {
            *total = (u64::from_be_bytes(*count), u64::from_be_bytes(*bytes));
        }
        totals
    }

    fn write(self) -> Vec<u8> {
        let numbers = self.0.iter().flat_map(|(count, bytes)| [count, bytes]);
        numbers.flat_map(|number| number.to_be_bytes()).collect()
    }
}

/// The tables while they are changed.
struct Tables<'a> {
    settled: Table<'a, u64, &'static [u8]>,
    at: Table<'a, (u8, u64, u64), u64>,
    key: Table<'a, &'static str, u64>,
    totals: Totals,
}

impl<'a> Tables<'a> {
    fn open(write: &'a WriteTransaction, totals: Totals) -> Result<Self, redb::Error> {
        Ok(Self {
            settled: write.open_table(SETTLED)?,
            at: write.open_table(SETTLED_AT)?,
            key: write.open_table(SETTLED_KEY)?,
            totals,
        })
    }

    fn put(&mut self, ending: &KeptEnding) -> Result<(), redb::Error> {
        self.remove(ending.id)?;
        let (id, number, size) = (
            ending.id.get(),
            ending.ended.number(),
            ending.bytes.len() as u64,
        );
        self.settled.insert(id, &ending.bytes[..])?;
        self.at.insert((number, ending.at.0, id), size)?;
        if let Some(key) = &ending.key {
            self.key.insert(key.as_str(), id)?;
        }
        if let Some((count, bytes)) = self.totals.0.get_mut(usize::from(number)) {
            *count += 1;
            *bytes += size;
        }
        Ok(())
    }

    /// Takes a task out; returns whether it was there.
    fn remove(&mut self, id: TaskId) -> Result<bool, redb::Error> {
        let old = self
            .settled
            .remove(id.get())?
            .map(|old| old.value().to_vec());
        let Some(old) = old else {
            return Ok(false);
        };
        let Some(label) = label(&old) else {
            // Its place by time goes when it is the oldest.
            return Ok(true);
        };
        self.take_place((label.ended, label.at, id.get()))?;
        if let Some(key) = label.key
            && self
                .key
                .get(key)?
                .is_some_and(|last| last.value() == id.get())
        {
            self.key.remove(key)?;
        }
        Ok(true)
    }

    fn take_place(&mut self, place: (u8, u64, u64)) -> Result<(), redb::Error> {
        let size = self.at.remove(place)?.map(|size| size.value());
        if let Some(size) = size
            && let Some((count, bytes)) = self.totals.0.get_mut(usize::from(place.0))
        {
            *count = count.saturating_sub(1);
            *bytes = bytes.saturating_sub(size);
        }
        Ok(())
    }

    /// Takes out what is beyond a bound.
    fn bound(&mut self, keeping: &Keeping<'_>) -> Result<(), redb::Error> {
        for ended in Ended::ALL {
            let number = ended.number();
            loop {
                let mut all = self
                    .at
                    .range((number, 0, 0)..=(number, u64::MAX, u64::MAX))?;
                let oldest = all.next().transpose()?.map(|(place, _)| place.value());
                drop(all);
                let Some(place) = oldest else { break };
                let (count, bytes) = self.totals.0[usize::from(number)];
                let age = keeping.now.since(Timestamp(place.1));
                if !keeping.keep.lets_go(ended, age, count, bytes) {
                    break;
                }
                self.remove(TaskId::new(place.2))?;
                self.take_place(place)?;
            }
        }
        Ok(())
    }
}

/// Changes the tables, and what `meta` says of them.
fn change<R>(
    write: &WriteTransaction,
    act: impl FnOnce(&mut Tables<'_>) -> Result<R, redb::Error>,
) -> Result<R, redb::Error> {
    let before = totals(write)?;
    let mut tables = Tables::open(write, before)?;
    let done = act(&mut tables)?;
    let after = tables.totals;
    if after != before {
        write.open_table(META)?.insert(TOTALS, &after.write()[..])?;
    }
    Ok(done)
}

fn totals(write: &WriteTransaction) -> Result<Totals, redb::Error> {
    let meta = write.open_table(META)?;
    let found = meta.get(TOTALS)?;
    Ok(found.map_or_else(Totals::default, |bytes| Totals::read(bytes.value())))
}

/// Keeps what has settled, and takes out what is beyond a bound.
pub fn keep(write: &WriteTransaction, keeping: &Keeping<'_>) -> Result<(), redb::Error> {
    if keeping.endings.is_empty() && totals(write)? == Totals::default() {
        return Ok(());
    }
    change(write, |tables| {
        for ending in keeping.endings {
            tables.put(ending)?;
        }
        tables.bound(keeping)
    })
}

/// Forgets tasks; returns how many there were.
pub fn forget(write: &WriteTransaction, ids: &[TaskId]) -> Result<usize, redb::Error> {
    change(write, |tables| {
        let mut found = 0;
        for id in ids {
            found += usize::from(tables.remove(*id)?);
        }
        Ok(found)
    })
}

/// Copies the tables.
pub fn copy(read: &ReadTransaction, write: &WriteTransaction) -> Result<(), redb::Error> {
    if let Some(from) = there(read.open_table(SETTLED))? {
        let mut to = write.open_table(SETTLED)?;
        for entry in from.iter()? {
            let (id, bytes) = entry?;
            to.insert(id.value(), bytes.value())?;
        }
    }
    if let Some(from) = there(read.open_table(SETTLED_AT))? {
        let mut to = write.open_table(SETTLED_AT)?;
        for entry in from.iter()? {
            let (place, size) = entry?;
            to.insert(place.value(), size.value())?;
        }
    }
    if let Some(from) = there(read.open_table(SETTLED_KEY))? {
        let mut to = write.open_table(SETTLED_KEY)?;
        for entry in from.iter()? {
            let (key, id) = entry?;
            to.insert(key.value(), id.value())?;
        }
    }
    Ok(())
}

/// Returns how many bytes all take.
pub fn bytes(read: &ReadTransaction) -> Result<u64, LogError> {
    let meta = read.open_table(META).map_err(of)?;
    let found = meta.get(TOTALS).map_err(of)?;
    let totals = found.map_or_else(Totals::default, |bytes| Totals::read(bytes.value()));
    Ok(totals.0.iter().map(|(_, bytes)| bytes).sum())
}

/// See [`Snapshot::kept`](crate::store::Snapshot::kept).
pub fn find(read: &ReadTransaction, id: TaskId) -> Result<Option<Bytes>, LogError> {
    let Some(settled) = there(read.open_table(SETTLED)).map_err(of)? else {
        return Ok(None);
    };
    let found = settled.get(id.get()).map_err(of)?;
    Ok(found.map(|bytes| Bytes::copy_from_slice(bytes.value())))
}

/// See [`Snapshot::kept_by_key`](crate::store::Snapshot::kept_by_key).
pub fn find_by_key(read: &ReadTransaction, key: &TaskKey) -> Result<Option<Bytes>, LogError> {
    let Some(keys) = there(read.open_table(SETTLED_KEY)).map_err(of)? else {
        return Ok(None);
    };
    let found = keys.get(key.as_str()).map_err(of)?;
    match found {
        Some(id) => find(read, TaskId::new(id.value())),
        None => Ok(None),
    }
}

/// See [`Snapshot::each_kept`](crate::store::Snapshot::each_kept).
pub fn each(
    read: &ReadTransaction,
    ended: Ended,
    before: Option<(Timestamp, TaskId)>,
    each: EachEnding<'_>,
) -> Result<(), LogError> {
    let at = there(read.open_table(SETTLED_AT)).map_err(of)?;
    let settled = there(read.open_table(SETTLED)).map_err(of)?;
    let (Some(at), Some(settled)) = (at, settled) else {
        return Ok(());
    };
    let number = ended.number();
    let first = (number, 0, 0);
    let places = match before {
        Some((time, id)) => at.range(first..(number, time.0, id.get())),
        None => at.range(first..(number + 1, 0, 0)),
    };
    for place in places.map_err(of)?.rev() {
        let (place, _) = place.map_err(of)?;
        let found = settled.get(place.value().2).map_err(of)?;
        if let Some(bytes) = found
            && !each(bytes.value())?
        {
            break;
        }
    }
    Ok(())
}

/// Returns a table, if it is there: a store that never kept anything has none.
fn there<T>(table: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
