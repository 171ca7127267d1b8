//! Batches come back from their rows, and damaged rows are found out.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::engine::record::AcceptedTask;
use crate::store::codec::tests::record;
use crate::task::TaskId;

fn stamp(batch: u64, term: u64) -> Stamp {
    Stamp {
        term: Term(term),
        batch,
        next_task: 7,
        next_dispatch: 8,
        at: Timestamp(9),
    }
}

fn rows(stamp: Stamp, records: &[Record], max_row: usize) -> Vec<Bytes> {
    let mut writer = BatchWriter::new(stamp);
    for record in records {
        writer.record(record);
    }
    writer.into_rows(max_row)
}

fn read(rows: &[Bytes]) -> Result<Vec<(Stamp, Vec<Record>)>, RowFlaw> {
    let mut reader = BatchReader::default();
    let mut batches = Vec::new();
    for row in rows {
        batches.extend(reader.row(row)?);
    }
    Ok(batches)
}

/// Records that take more than a row of this test.
fn large() -> Vec<Record> {
    let task = |id| {
        Record::Accepted(Box::new(AcceptedTask {
            id: TaskId::new(id),
            at: Timestamp(0),
            kind: "kind".into(),
            args: vec![id as u8; 100].into(),
            options: None,
        }))
    };
    (1..4).map(task).collect()
}

proptest! {
    #[test]
    fn batches_come_back_from_rows_of_any_size(
        records in vec(record(), 0..8),
        max_row in 60..100_000usize,
    ) {
        let rows = rows(stamp(1, 1), &records, max_row);
        prop_assert!(rows.iter().all(|row| row.len() <= max_row));
        prop_assert_eq!(read(&rows), Ok(vec![(stamp(1, 1), records)]));
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_row_is_damage() {
    let whole = rows(stamp(1, 1), &large(), MAX_ROW);
    for bit in 0..whole[0].len() * 8 {
        let mut flipped = whole[0].to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = read(&[flipped.into()]);
        assert!(
            matches!(found, Err(RowFlaw::Damaged(_))),
            "bit {bit}: {found:?}"
        );
    }
    for length in 0..whole[0].len() {
        let found = read(&[whole[0].slice(..length)]);
        assert!(
            matches!(found, Err(RowFlaw::Damaged(_))),
            "{length} bytes: {found:?}"
        );
    }
}

#[test]
fn a_later_format_is_told_from_damage() {
    let mut row = rows(stamp(1, 1), &large(), MAX_ROW)[0].to_vec();
    row[7] = 2;
    let sum = crc32fast::hash(&row[6..]);
    row[2..6].copy_from_slice(&sum.to_be_bytes());
    let what = "its format is 2, and this version reads 1".to_owned();
    assert_eq!(read(&[row.into()]), Err(RowFlaw::Newer(what)));
}

#[test]
fn a_batch_without_its_last_row_counts_for_nothing() {
    let first = rows(stamp(1, 1), &large(), 150);
    assert!(first.len() > 2);
    let broken_off = &first[..first.len() - 1];
    assert_eq!(read(broken_off), Ok(Vec::new()));
    // A later term goes on after what its writer could not finish, ...
    let next = rows(stamp(1, 2), &large(), MAX_ROW);
    let read_on = read(&[broken_off, &next[..]].concat());
    assert_eq!(read_on, Ok(vec![(stamp(1, 2), large())]));
    // ... the same one cannot.
    let next = rows(stamp(2, 1), &large(), MAX_ROW);
    let refused = read(&[broken_off, &next[..]].concat());
    assert_eq!(refused, Err(damaged("batch 1 breaks off before it")));
}

#[test]
fn rows_that_are_missing_doubled_or_mixed_up_are_damage() {
    let all = rows(stamp(1, 1), &large(), 150);
    let other = rows(stamp(2, 1), &large(), 150);
    for wrong in [
        vec![all[1].clone()],
        vec![all[0].clone(), all[0].clone()],
        vec![all[0].clone(), all[2].clone()],
        vec![all[0].clone(), other[1].clone()],
    ] {
        assert!(matches!(read(&wrong), Err(RowFlaw::Damaged(_))));
    }
}
