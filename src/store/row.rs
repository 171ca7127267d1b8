//! Batches as rows: what a log stores, one after the other.
//!
//! Owns: the head of a row and its checksum, how a batch is cut, and how rows are put together
//! again. Does not know: what records say, or where rows are kept.
//!
//! A log need not notice that what it reads has changed: redb does not, when it opens a file. So
//! every row has a checksum over all of it, and says of which term and batch it is and which part
//! of it. A batch counts when its last row is there. Numbers are big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `cb` |
//! | 2..6 | CRC-32 of all that follows |
//! | 6..8 | format, 1 |
//! | 8..12 | the row's place in its batch; the highest bit is set in the last row |
//! | 12..52 | term, batch, next id, next dispatch, and time, 8 bytes each |
//! | 52.. | records |

use bytes::Bytes;

use super::codec::{self, Encoder, Flaw};
use crate::engine::Timestamp;
use crate::engine::ledger::Stamp;
use crate::engine::record::{Record, Term};

/// The format that this version writes, and the only one so far.
pub const FORMAT: u16 = 1;

/// How large a row is at most where a log takes it. In redb a page is a power of two, of which this
/// leaves little: rows of 80 KB take twice their size.
pub const MAX_ROW: usize = 60 << 10;

const MAGIC: [u8; 2] = *b"cb";
const HEAD: usize = 52;
const LAST: u32 = 1 << 31;

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFlaw {
    /// A later version has written the row.
    #[error("it was written by a later version: {0}")]
    Newer(String),
    /// The row is not as it was written, or is out of place.
    #[error("{0}")]
    Damaged(String),
}

impl From<Flaw> for RowFlaw {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Newer(what) => Self::Newer(what),
            // The checksum holds, so the row is as it was written.
            Flaw::Malformed(what) => Self::Damaged(what),
        }
    }
}

fn damaged(what: impl Into<String>) -> RowFlaw {
    RowFlaw::Damaged(what.into())
}

/// Writes one batch.
#[derive(Debug)]
pub struct BatchWriter {
    stamp: Stamp,
    encoder: Encoder,
}

impl BatchWriter {
    /// Begins a batch.
    pub fn new(stamp: Stamp) -> Self {
        Self {
            stamp,
            encoder: Encoder::after(vec![0; HEAD]),
        }
    }

    /// Appends a record.
    pub fn record(&mut self, record: &Record) {
        self.encoder.record(record);
    }

    /// Returns the rows, none larger than `max_row`, which is more than a head takes.
    pub fn into_rows(self, max_row: usize) -> Vec<Bytes> {
        let stamp = self.stamp;
        let mut bytes = self.encoder.into_bytes();
        // Most batches fit a row, and are not copied.
        if bytes.len() <= max_row {
            seal(&mut bytes, stamp, LAST);
            return vec![bytes.into()];
        }
        let parts = bytes[HEAD..].chunks(max_row.max(HEAD + 1) - HEAD);
        let last = parts.len() as u32 - 1;
        let rows = parts.zip(0..);
        let rows = rows.map(|(part, place)| sealed(stamp, place, place == last, part));
        rows.collect()
    }
}

/// Returns the row with this part of a batch.
pub fn sealed(stamp: Stamp, place: u32, last: bool, part: &[u8]) -> Bytes {
    let mut row = vec![0; HEAD];
    row.extend_from_slice(part);
    seal(&mut row, stamp, if last { LAST | place } else { place });
    row.into()
}

/// Fills the head of a row.
fn seal(row: &mut [u8], stamp: Stamp, place: u32) {
    row[..2].copy_from_slice(&MAGIC);
    row[6..8].copy_from_slice(&FORMAT.to_be_bytes());
    row[8..12].copy_from_slice(&place.to_be_bytes());
    let numbers = [
        stamp.term.0,
        stamp.batch,
        stamp.next_task,
        stamp.next_dispatch,
        stamp.at.0,
    ];
    for (number, at) in numbers.iter().zip((12..).step_by(8)) {
        row[at..at + 8].copy_from_slice(&number.to_be_bytes());
    }
    let sum = crc32fast::hash(&row[6..]);
    row[2..6].copy_from_slice(&sum.to_be_bytes());
}

struct Row<'a> {
    stamp: Stamp,
    place: u32,
    last: bool,
    records: &'a [u8],
}

fn open(row: &[u8]) -> Result<Row<'_>, RowFlaw> {
    let (head, records) = row.split_first_chunk::<HEAD>().ok_or_else(|| {
        damaged(format!(
            "it has {} bytes, fewer than a row's head",
            row.len()
        ))
    })?;
    if head[..2] != MAGIC {
        return Err(damaged("it does not begin as a row does"));
    }
    let number = |at: usize, bytes: usize| {
        let of = &head[at..at + bytes];
        of.iter()
            .fold(0, |number: u64, &byte| number << 8 | u64::from(byte))
    };
    if number(2, 4) != u64::from(crc32fast::hash(&row[6..])) {
        return Err(damaged("its checksum is wrong"));
    }
    let format = number(6, 2);
    if format != u64::from(FORMAT) {
        return Err(RowFlaw::Newer(format!(
            "its format is {format}, and this version reads {FORMAT}"
        )));
    }
    let place = number(8, 4) as u32;
    Ok(Row {
        stamp: Stamp {
            term: Term(number(12, 8)),
            batch: number(20, 8),
            next_task: number(28, 8),
            next_dispatch: number(36, 8),
            at: Timestamp(number(44, 8)),
        },
        place: place & !LAST,
        last: place & LAST != 0,
        records,
    })
}

/// Puts rows together as they are read.
#[derive(Debug, Default)]
pub struct BatchReader {
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    stamp: Stamp,
    next: u32,
    bytes: Vec<u8>,
}

impl BatchReader {
    /// Takes the next row. Returns its batch, if that is whole now.
    ///
    /// A batch that is followed by one of another term before it is whole was never stored, as
    /// far as anybody was told: its writer was cut off. It is passed over.
    ///
    /// # Errors
    ///
    /// The row is damaged, out of place, or of a later version.
    pub fn row(&mut self, row: &[u8]) -> Result<Option<(Stamp, Vec<Record>)>, RowFlaw> {
        let row = open(row)?;
        let begun = self.begun.take();
        let mut begun = match begun {
            Some(begun) if row.place > 0 => begun,
            Some(begun) if begun.stamp.term == row.stamp.term => {
                let batch = begun.stamp.batch;
                return Err(damaged(format!("batch {batch} breaks off before it")));
            }
            _ => Begun {
                stamp: row.stamp,
                next: 0,
                bytes: Vec::new(),
            },
        };
        if row.stamp != begun.stamp || row.place != begun.next {
            let (batch, place) = (row.stamp.batch, row.place);
            return Err(damaged(format!(
                "part {place} of batch {batch} is out of place"
            )));
        }
        if row.last && begun.next == 0 {
            return Ok(Some((row.stamp, codec::decode(row.records)?)));
        }
        begun.bytes.extend_from_slice(row.records);
        begun.next += 1;
        if row.last {
            return Ok(Some((begun.stamp, codec::decode(&begun.bytes)?)));
        }
        self.begun = Some(begun);
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
