//! A disk that is full, fails, or was changed.

use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskOpener, Fault};
use super::{WHO, append, batches, rows};
use crate::store::database::{Fill, Opener};
use crate::store::table::TableLog;
use crate::store::{LogError, TaskLog};

fn log(disk: &Disk) -> TableLog<DiskOpener> {
    TableLog::new(DiskOpener(disk.clone()))
}

fn begun(disk: &Disk) -> TableLog<DiskOpener> {
    let mut log = log(disk);
    log.claim(&WHO).unwrap();
    append(&mut log, 1).unwrap();
    append(&mut log, 2).unwrap();
    log
}

#[test]
fn a_sync_that_fails_leaves_it_open_until_it_is_read_again() {
    for kept in [true, false] {
        let disk = Disk::default();
        let mut log = begun(&disk);
        disk.set(Fault::Sync { kept });
        let unknown = append(&mut log, 3);
        assert!(matches!(unknown, Err(LogError::Unknown(_))), "{unknown:?}");
        let last = loop {
            // It cannot be told while the disk fails: opening syncs too.
            match log.reread() {
                Ok(last) => break last,
                Err(_) if disk.len() > 0 => disk.set(Fault::None),
                Err(error) => panic!("{error}"),
            }
        };
        let there = batches(&mut log);
        assert_eq!(there.last(), Some(&last), "kept: {kept}");
        if kept {
            assert_eq!(last, 3);
        }
        append(&mut log, 3).unwrap();
        append(&mut log, 4).unwrap();
        assert_eq!(batches(&mut log), [1, 2, 3, 4]);
    }
}

#[test]
fn a_full_disk_refuses_a_batch_whole_opens_all_the_same_and_goes_on_when_there_is_room() {
    let disk = Disk::default();
    let mut log = begun(&disk);
    disk.set(Fault::Full(disk.len()));
    let mut number = 3;
    let refused = loop {
        match append(&mut log, number) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("no room"), "{refused}");
    assert_eq!(log.reread(), Ok(number - 1), "nothing of it is there");
    drop(log);
    let mut log = self::log(&disk);
    let claim = log.claim(&WHO).expect("a store opens on a full disk");
    assert_eq!(claim.last, number - 1);
    disk.set(Fault::None);
    append(&mut log, number).expect("it goes on by itself");
    assert_eq!(batches(&mut log).last(), Some(&number));
}

#[test]
fn a_disk_that_is_gone_for_a_while_costs_nothing_that_was_stored() {
    let disk = Disk::default();
    let mut log = begun(&disk);
    disk.set(Fault::Gone);
    assert!(append(&mut log, 3).is_err());
    assert!(log.reread().is_err());
    assert!(append(&mut log, 3).is_err());
    disk.set(Fault::None);
    let last = log.reread().unwrap();
    append(&mut log, last + 1).unwrap();
    assert_eq!(batches(&mut log).len() as u64, last + 1);
}

#[test]
fn an_older_copy_in_its_place_is_noticed_when_it_is_opened_again() {
    let disk = Disk::default();
    let place = Arc::new(Mutex::new(disk.clone()));
    let mut log = TableLog::new(Place(Arc::clone(&place)));
    let copy = |disk: &Disk| disk.after_crash(&mut fastrand::Rng::with_seed(1));
    log.claim(&WHO).unwrap();
    append(&mut log, 1).unwrap();
    let of_term_before = copy(&disk);
    log.claim(&WHO).unwrap();
    append(&mut log, 2).unwrap();
    let of_this_term = copy(&disk);
    append(&mut log, 3).unwrap();
    *place.lock().unwrap() = of_this_term;
    for _ in 0..2 {
        assert_eq!(log.reread(), Err(LogError::RolledBack));
        assert_eq!(append(&mut log, 4), Err(LogError::RolledBack));
    }
    *place.lock().unwrap() = of_term_before;
    let refused = log.reread();
    assert_eq!(
        refused,
        Err(LogError::Fenced),
        "its term is that of another start"
    );
    *place.lock().unwrap() = disk;
    append(&mut log, 4).expect("it goes on when the right one is back");
    assert_eq!(batches(&mut log), [1, 2, 3, 4]);
}

/// Opens the disk that is there now.
struct Place(Arc<Mutex<Disk>>);

impl Opener for Place {
    fn open(&mut self, fill: Fill<'_>) -> Result<redb::Database, LogError> {
        DiskOpener(self.0.lock().unwrap().clone()).open(fill)
    }
}

/// Rows are given as they were written, or nothing is: who puts them together sees the rest by
/// their checksums. So other bytes than those of a row may come, but no panic.
#[test]
fn g11_a_flipped_bit_in_the_file_is_an_error_or_is_seen_by_its_row() {
    let disk = Disk::default();
    drop(begun(&disk));
    let written = disk.after_crash(&mut fastrand::Rng::with_seed(1));
    let mut rng = fastrand::Rng::with_seed(2);
    let whole: Vec<_> = (1..3).flat_map(|number| rows(number, 3)).collect();
    let (mut refused, mut other) = (0, 0);
    for _ in 0..400 {
        let disk = written.after_crash(&mut rng);
        disk.flip(rng.usize(..disk.len() as usize * 8));
        let mut log = log(&disk);
        let mut found = Vec::new();
        let read = log.claim(&WHO).and_then(|_| {
            log.replay(&mut |_, row| {
                found.push(row.to_vec());
                Ok(())
            })
        });
        match read {
            Err(_) => refused += 1,
            Ok(()) if found != whole => other += 1,
            Ok(()) => {}
        }
    }
    assert!(refused + other > 0, "no flipped bit was met");
}

#[test]
fn a_file_that_was_cut_short_is_refused_in_words() {
    let disk = Disk::default();
    drop(begun(&disk));
    let written = disk.after_crash(&mut fastrand::Rng::with_seed(1));
    let length = written.len() as usize;
    for length in (1..length).step_by(length / 97) {
        let disk = written.after_crash(&mut fastrand::Rng::with_seed(1));
        disk.cut_short(length);
        let mut log = log(&disk);
        let read = log.claim(&WHO).and_then(|_| log.replay(&mut |_, _| Ok(())));
        if let Ok(()) = read {
            assert_eq!(batches(&mut log), [1, 2], "{length} bytes are left");
        }
    }
}
