//! What must hold of every log.

use super::disk::{Disk, DiskOpener};
use super::{WHO, append, batches, rows};
use crate::store::memory::MemoryLog;
use crate::store::table::TableLog;
use crate::store::{Batch, Claimant, LogError, TaskLog};

/// Opens the same log each time.
pub(super) type Open = Box<dyn FnMut() -> Box<dyn TaskLog>>;

/// Runs it over each implementation.
pub(super) fn each(run: fn(&mut Open)) {
    let memory = MemoryLog::default();
    println!("in memory");
    run(&mut (Box::new(move || Box::new(memory.clone()) as Box<dyn TaskLog>) as Open));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    println!("in a file");
    run(&mut (Box::new(move || Box::new(TableLog::at(&path)) as Box<dyn TaskLog>) as Open));
    let disk = Disk::default();
    println!("on a disk that may fail");
    let open = move || Box::new(TableLog::new(DiskOpener(disk.clone()))) as Box<dyn TaskLog>;
    run(&mut (Box::new(open) as Open));
}

pub(super) fn claimed(open: &mut Open) -> Box<dyn TaskLog> {
    let mut log = open();
    log.claim(&WHO).unwrap();
    log
}

#[test]
fn what_was_appended_is_there_in_order_after_a_close_and_after_a_drop() {
    each(|open| {
        let mut log = claimed(open);
        assert_eq!(batches(&mut *log), [0; 0]);
        for number in 5..8 {
            append(&mut *log, number).unwrap();
        }
        assert_eq!(batches(&mut *log), [5, 6, 7]);
        log.close().unwrap();
        let mut log = claimed(open);
        append(&mut *log, 8).unwrap();
        drop(log);
        let mut log = open();
        assert_eq!(log.claim(&WHO).unwrap().last, 8);
        assert_eq!(batches(&mut *log), [5, 6, 7, 8]);
    });
}

#[test]
fn terms_rise_and_the_id_stays_and_other_schedulers_are_refused() {
    each(|open| {
        let first = open().claim(&WHO).unwrap();
        let other_id = Claimant {
            new_id: crate::engine::SchedulerId(8),
            ..WHO
        };
        let second = open().claim(&other_id).unwrap();
        assert_eq!(second.scheduler_id, first.scheduler_id);
        assert!(second.term > first.term);
        let other = Claimant {
            scheduler: "invoices",
            ..WHO
        };
        let scheduler = "orders".to_owned();
        assert_eq!(open().claim(&other), Err(LogError::Foreign { scheduler }));
        let third = open().claim(&WHO).unwrap();
        assert!(
            third.term > second.term,
            "what was refused has changed nothing"
        );
    });
}

#[test]
fn a_batch_that_does_not_follow_is_refused_and_a_repeated_one_stored_once() {
    each(|open| {
        let mut log = claimed(open);
        append(&mut *log, 1).unwrap();
        append(&mut *log, 2).unwrap();
        append(&mut *log, 2).unwrap();
        for number in [0, 1, 4] {
            let refused = append(&mut *log, number);
            assert_eq!(refused, Err(LogError::Misplaced { last: 2, number }));
        }
        assert_eq!(batches(&mut *log), [1, 2]);
        assert_eq!(log.reread(), Ok(2));
        append(&mut *log, 3).unwrap();
        assert_eq!(batches(&mut *log), [1, 2, 3]);
    });
}

#[test]
fn a_truncated_log_keeps_the_rest_and_goes_on() {
    each(|open| {
        let mut log = claimed(open);
        for number in 1..6 {
            append(&mut *log, number).unwrap();
        }
        log.truncate(3).unwrap();
        assert_eq!(batches(&mut *log), [3, 4, 5]);
        // With a batch, and again as the batch is repeated.
        for _ in 0..2 {
            let batch = Batch {
                number: 6,
                rows: &rows(6, 3),
                truncate: Some(5),
                keeping: None,
            };
            log.append(&batch).unwrap();
            assert_eq!(batches(&mut *log), [5, 6]);
        }
        // The last one stays, so that the next has its number.
        log.truncate(100).unwrap();
        assert_eq!(batches(&mut *log), [6]);
        assert_eq!(
            append(&mut *log, 1),
            Err(LogError::Misplaced { last: 6, number: 1 })
        );
        append(&mut *log, 7).unwrap();
        drop(log);
        assert_eq!(batches(&mut *open()), [6, 7]);
    });
}

#[test]
fn a_row_at_the_limit_is_taken_and_one_above_refused() {
    each(|open| {
        let mut log = claimed(open);
        let limit = log.max_row();
        let row = |bytes| [vec![1u8; bytes].into()];
        let batch = |number, rows| Batch {
            number,
            rows,
            truncate: None,
            keeping: None,
        };
        let (fits, above) = (row(limit), row(limit + 1));
        log.append(&batch(1, &fits)).unwrap();
        let bytes = limit + 1;
        assert_eq!(
            log.append(&batch(2, &above)),
            Err(LogError::TooLarge { bytes, limit })
        );
        assert_eq!(log.reread(), Ok(1));
    });
}

#[test]
fn a_replay_ends_with_the_error_of_who_hears_it() {
    each(|open| {
        let mut log = claimed(open);
        append(&mut *log, 1).unwrap();
        append(&mut *log, 2).unwrap();
        let mut heard = 0;
        let refused = log.replay(&mut |batch, _| {
            heard += 1;
            let what = "not this one".to_owned();
            if batch == 2 {
                Err(LogError::Damaged { batch, what })
            } else {
                Ok(())
            }
        });
        assert!(matches!(refused, Err(LogError::Damaged { batch: 2, .. })));
        assert_eq!(heard, 4);
        append(&mut *log, 3).unwrap();
        assert_eq!(batches(&mut *log), [1, 2, 3]);
    });
}

#[test]
fn whoever_was_the_writer_before_is_refused() {
    let memory = MemoryLog::default();
    let (mut first, mut second) = (memory.clone(), memory);
    first.claim(&WHO).unwrap();
    append(&mut first, 1).unwrap();
    second.claim(&WHO).unwrap();
    assert_eq!(append(&mut first, 2), Err(LogError::Fenced));
    assert_eq!(first.truncate(2), Err(LogError::Fenced));
    assert_eq!(first.reread(), Err(LogError::Fenced));
    append(&mut second, 2).unwrap();
    // One that has it open to read goes on meanwhile.
    let mut reader = second.clone();
    let mut seen = Vec::new();
    let read = reader.replay(&mut |number, _| {
        second.truncate(2).unwrap();
        seen.push(number);
        Ok(())
    });
    read.unwrap();
    assert_eq!(seen, [1, 1, 1, 2, 2, 2]);
}
