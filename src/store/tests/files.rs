//! The file of a store: who has it, what else may stand there, and where it may not be made.

use std::fs;

use redb::{Database, TableDefinition};

use super::{WHO, append, batches};
use crate::engine::SchedulerId;
use crate::store::row::MAX_ROW;
use crate::store::table::TableLog;
use crate::store::{Batch, Claimant, LogError, TaskLog};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_file_has_one_opener() {
    let folder = folder();
    let path = folder.path().join("store");
    let mut first = TableLog::at(&path);
    first.claim(&WHO).unwrap();
    let mut second = TableLog::at(&path);
    assert_eq!(second.claim(&WHO), Err(LogError::Locked));
    append(&mut first, 1).unwrap();
    drop(first);
    assert_eq!(second.claim(&WHO).unwrap().last, 1);
}

#[cfg(unix)]
#[test]
fn a_file_is_for_its_user_alone_and_nothing_else_is_left_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("store");
    // What a start has left that was killed in the middle.
    fs::write(folder.path().join("store.new"), "half").unwrap();
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(names, ["store"]);
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let folder = folder();
    let path = folder.path().join("store");
    let refused = |what: &str| {
        let before = fs::read(&path).unwrap();
        let error = TableLog::at(&path).claim(&WHO).unwrap_err();
        assert!(matches!(error, LogError::NotAStore(_)), "{what}: {error}");
        assert_eq!(fs::read(&path).unwrap(), before, "{what}");
    };
    fs::write(&path, "").unwrap();
    refused("an empty file");
    fs::write(&path, vec![b'x'; 10_000]).unwrap();
    refused("a text");
    fs::remove_file(&path).unwrap();
    let other = Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write
        .open_table(TableDefinition::<u64, u64>::new("theirs"))
        .unwrap();
    write.commit().unwrap();
    other.close().unwrap();
    let error = TableLog::at(&path).claim(&WHO).unwrap_err();
    assert!(matches!(error, LogError::NotAStore(_)), "{error}");
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let folder = folder();
    let path = folder.path().join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    Box::new(log).close().unwrap();
    let later = Database::open(&path).unwrap();
    let write = later.begin_write().unwrap();
    {
        let meta = TableDefinition::<&str, &[u8]>::new("meta");
        let mut meta = write.open_table(meta).unwrap();
        meta.insert("format", &[0, 2][..]).unwrap();
    }
    write.commit().unwrap();
    later.close().unwrap();
    let error = TableLog::at(&path).claim(&WHO).unwrap_err();
    assert!(matches!(error, LogError::Newer(_)), "{error}");
}

#[test]
fn a_place_where_nothing_can_be_made_is_refused_with_its_path() {
    let folder = folder();
    let missing = folder.path().join("missing").join("store");
    let error = TableLog::at(&missing).claim(&WHO).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(matches!(error, LogError::NoDirectory(_)), "{error}");
    // A folder in its place.
    let error = TableLog::at(folder.path()).claim(&WHO).unwrap_err();
    assert!(matches!(error, LogError::Unavailable(_)), "{error}");
}

#[cfg(unix)]
#[test]
fn a_file_that_was_removed_or_replaced_is_noticed() {
    let folder = folder();
    let path = folder.path().join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    assert_eq!(log.check(), Ok(()));
    let away = folder.path().join("away");
    fs::rename(&path, &away).unwrap();
    assert!(matches!(log.check(), Err(LogError::Missing(_))));
    assert!(
        matches!(log.reread(), Err(LogError::Missing(_))),
        "nor is it made anew"
    );
    fs::copy(&away, &path).unwrap();
    assert!(matches!(log.check(), Err(LogError::Missing(_))));
    fs::rename(&away, &path).unwrap();
    assert_eq!(log.check(), Ok(()));
    assert_eq!(log.reread(), Ok(0));
    append(&mut log, 1).unwrap();
}

#[test]
fn a_copy_has_what_was_there_at_its_moment_and_goes_on_as_another() {
    let folder = folder();
    let mut log = TableLog::at(folder.path().join("store"));
    log.claim(&WHO).unwrap();
    append(&mut log, 1).unwrap();
    append(&mut log, 2).unwrap();
    let snapshot = log.snapshot().unwrap();
    append(&mut log, 3).unwrap();
    let path = folder.path().join("copy");
    snapshot.copy(&path).unwrap();
    let again = log.snapshot().unwrap();
    assert!(
        again.copy(&path).is_err(),
        "a copy does not replace another"
    );
    append(&mut log, 4).unwrap();
    let mut copy = TableLog::at(&path);
    let who = Claimant {
        new_id: SchedulerId(8),
        ..WHO
    };
    let claim = copy.claim(&who).unwrap();
    assert_eq!(
        (claim.scheduler_id, claim.copied_from),
        (SchedulerId(8), Some(SchedulerId(7)))
    );
    assert_eq!(batches(&mut copy), [1, 2]);
    append(&mut copy, 3).unwrap();
    drop(copy);
    let claim = TableLog::at(&path).claim(&WHO).unwrap();
    assert_eq!(
        (claim.scheduler_id, claim.copied_from),
        (SchedulerId(8), None)
    );
}

#[test]
fn a_file_is_small_after_a_close() {
    let folder = folder();
    let path = folder.path().join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    for number in 1..300 {
        append(&mut log, number).unwrap();
    }
    log.truncate(299).unwrap();
    Box::new(log).close().unwrap();
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes < 2 << 20, "{bytes} bytes");
}

#[test]
fn a_file_is_small_again_when_much_of_it_is_not_needed_and_nobody_reads_it() {
    let folder = folder();
    let path = folder.path().join("store");
    let size = || fs::metadata(&path).unwrap().len();
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    let rows = vec![vec![7u8; MAX_ROW].into(); 40];
    for number in 1..50 {
        let batch = Batch {
            number,
            rows: &rows,
            truncate: None,
            keeping: None,
        };
        log.append(&batch).unwrap();
    }
    let full = size();
    assert!(full > 64 << 20, "{full} bytes");
    log.tidy().unwrap();
    assert_eq!(size(), full, "all of it is needed");
    log.truncate(49).unwrap();
    let reader = log.snapshot().unwrap();
    log.tidy().unwrap();
    let mut read = 0;
    reader
        .replay(&mut |_, _| {
            read += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(read, 40, "who reads it is not disturbed");
    drop(reader);
    log.tidy().unwrap();
    assert!(size() < 8 << 20, "{} bytes", size());
    let reader = log.snapshot().unwrap();
    Box::new(log)
        .close()
        .expect("a reader does not hinder a close");
    drop(reader);
    assert_eq!(TableLog::at(&path).claim(&WHO).unwrap().last, 49);
}
