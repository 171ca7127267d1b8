//! What must hold of every log, and what of those that may lose power.
//!
//! `conformance` and `retention` run over each implementation; `cuts` and `faults` over redb on a
//! disk that fails as it is told to, and `files` over the file itself. `kept` reads one that an
//! earlier version has written.

mod conformance;
mod cuts;
mod disk;
mod faults;
mod files;
mod idle;
mod kept;
mod retention;
mod whole;

use bytes::Bytes;

use super::{Batch, Claimant, LogError, TaskLog};
use crate::engine::SchedulerId;

pub(crate) const WHO: Claimant<'static> = Claimant {
    scheduler: "orders",
    new_id: SchedulerId(7),
};

/// Makes rows that tell their batch and place.
fn rows(number: u64, count: u8) -> Vec<Bytes> {
    let row = |place| {
        let mut row = number.to_be_bytes().to_vec();
        row.push(place);
        row.extend(vec![number as u8; 300]);
        Bytes::from(row)
    };
    (0..count).map(row).collect()
}

fn append(log: &mut dyn TaskLog, number: u64) -> Result<(), LogError> {
    log.append(&Batch {
        number,
        rows: &rows(number, 3),
        truncate: None,
        keeping: None,
    })
}

/// Returns the numbers of the batches that are there; each must be whole and as it was written.
fn batches(log: &mut dyn TaskLog) -> Vec<u64> {
    let mut found: Vec<(u64, Vec<Bytes>)> = Vec::new();
    let read = log.replay(&mut |number, row| {
        match found.last_mut() {
            Some((last, rows)) if *last == number => rows.push(Bytes::copy_from_slice(row)),
            _ => found.push((number, vec![Bytes::copy_from_slice(row)])),
        }
        Ok(())
    });
    read.expect("all of it can be read");
    for (number, found) in &found {
        assert_eq!(*found, rows(*number, 3), "batch {number} is whole");
    }
    found.into_iter().map(|(number, _)| number).collect()
}
