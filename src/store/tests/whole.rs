//! From records to a file and back: the writer and the recovery.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::WHO;
use super::disk::{Disk, DiskOpener, Fault};
use crate::engine::found::Found;
use crate::engine::ledger::tests::{Author, fold};
use crate::engine::ledger::{Ledger, Sealed, Stamp};
use crate::engine::record::{Claim, Record, Term};
use crate::engine::{SchedulerId, Timestamp};
use crate::store::recovery::recover;
use crate::store::row::BatchWriter;
use crate::store::table::TableLog;
use crate::store::writer::{CHECK_EVERY, LogWriter, WriterThread, Written};
use crate::store::{Batch, Claimant, EachRow, LogError, Snapshot, TaskLog};
use crate::task::TaskId;

fn sealed(stamp: Stamp, records: Vec<Record>) -> Sealed {
    Sealed {
        stamp,
        records,
        truncate: None,
    }
}

fn stamp(batch: u64) -> Stamp {
    Stamp {
        term: Term(1),
        batch,
        next_task: 1,
        next_dispatch: 1,
        at: Timestamp(0),
    }
}

fn head() -> Vec<Record> {
    vec![crate::engine::ledger::tests::head(1)]
}

fn on(disk: &Disk) -> TableLog<DiskOpener> {
    TableLog::new(DiskOpener(disk.clone()))
}

#[test]
fn what_a_scheduler_wrote_is_what_the_next_one_knows() {
    let mut author = Author::new();
    for step in 0..200u8 {
        author.step(step.wrapping_mul(37), step);
    }
    author.seal();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    let (told, hears) = channel();
    let writer = LogWriter::new(Box::new(log), CHECK_EVERY);
    let writer = WriterThread::start(writer, move |written| told.send(written).unwrap()).unwrap();
    for (stamp, records) in author.batches.clone() {
        writer.append(sealed(stamp, records));
        let written = hears.recv().unwrap();
        assert!(matches!(written, Written::Stored { batch, .. } if batch == stamp.batch));
    }
    let snapshot = writer.snapshot().recv().unwrap().unwrap();
    snapshot.copy(&folder.path().join("copy")).unwrap();
    writer.close(Duration::MAX).unwrap();
    let (claim, Found { ledger, .. }) = recover(&mut TableLog::at(&path), &WHO, &mut drop).unwrap();
    assert_eq!(claim.last, author.batches.len() as u64);
    assert_eq!(ledger, fold(&author.batches).unwrap());
    let (_, Found { ledger: copied, .. }) = recover(
        &mut TableLog::at(folder.path().join("copy")),
        &WHO,
        &mut drop,
    )
    .unwrap();
    assert_eq!(copied, ledger);
}

#[test]
fn a_copy_whose_first_start_has_stored_nothing_is_still_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let mut log = TableLog::at(folder.path().join("store"));
    log.claim(&WHO).unwrap();
    let mut author = Author::new();
    author.seal();
    for (stamp, records) in author.batches.clone() {
        let mut rows = BatchWriter::new(stamp);
        records.iter().for_each(|record| rows.record(record));
        let rows = rows.into_rows(log.max_row());
        let batch = Batch {
            number: stamp.batch,
            rows: &rows,
            truncate: None,
            keeping: None,
        };
        log.append(&batch).unwrap();
    }
    log.snapshot().unwrap().copy(&path).unwrap();
    let author_id = fold(&author.batches)
        .unwrap()
        .finish()
        .unwrap()
        .scheduler_id;
    for new_id in [8, 9] {
        let who = Claimant {
            new_id: SchedulerId(new_id),
            ..WHO
        };
        let (claim, _) = recover(&mut TableLog::at(&path), &who, &mut drop).unwrap();
        assert_eq!(claim.copied_from, Some(author_id), "start as {new_id}");
        assert_ne!(claim.scheduler_id, author_id);
    }
}

#[test]
fn an_empty_log_recovers_to_nothing() {
    let (claim, Found { ledger, .. }) =
        recover(&mut on(&Disk::default()), &WHO, &mut drop).unwrap();
    assert_eq!((claim.term, claim.last), (Term(1), 0));
    assert_eq!(ledger, Ledger::default());
}

#[test]
fn what_cannot_have_been_written_is_refused_with_its_batch() {
    let refused = |stamp, number, records: &[Record]| {
        let mut writer = BatchWriter::new(stamp);
        records.iter().for_each(|record| writer.record(record));
        let mut log = on(&Disk::default());
        log.claim(&WHO).unwrap();
        let batch = Batch {
            number,
            rows: &writer.into_rows(log.max_row()),
            truncate: None,
            keeping: None,
        };
        log.append(&batch).unwrap();
        match recover(&mut log, &WHO, &mut drop) {
            Err(LogError::Damaged { batch, what }) => (batch, what),
            other => panic!("{other:?}"),
        }
    };
    let unknown = [head(), vec![Record::Freed(TaskId::new(5))]].concat();
    let (batch, what) = refused(stamp(3), 3, &unknown);
    assert_eq!(
        (batch, &*what),
        (3, "a record tells of t5, which is not there")
    );
    assert_eq!(
        refused(stamp(3), 3, &[]),
        (3, "there is no head".to_owned())
    );
    let (_, what) = refused(stamp(4), 3, &head());
    assert_eq!(what, "it says that it is batch 4");
}

#[test]
fn a_writer_tells_what_became_of_a_batch_whose_commit_failed() {
    let begin = |disk: &Disk| {
        let mut log = on(disk);
        log.claim(&WHO).unwrap();
        LogWriter::new(Box::new(log), CHECK_EVERY)
    };
    let disk = Disk::default();
    let mut writer = begin(&disk);
    disk.set(Fault::Sync { kept: true });
    let (failing, unknown) = writer.append(sealed(stamp(1), head()));
    // While the disk fails it cannot be read either; nothing is told of the batch before.
    assert!(matches!(failing, Written::Failing { .. }), "{failing:?}");
    let unknown = unknown.expect("it is handed back");
    disk.set(Fault::None);
    let settled = writer.resolve(unknown).expect("it is known now");
    assert!(
        matches!(settled, Written::Stored { batch: 1, bytes } if bytes > 0),
        "{settled:?}"
    );

    disk.set(Fault::Full(disk.len()));
    let mut batch = 2;
    let (reason, records) = loop {
        match writer.append(sealed(stamp(batch), head())).0 {
            Written::Stored { .. } => batch += 1,
            Written::NotStored {
                reason, records, ..
            } => break (reason, records),
            Written::Failing { reason } => panic!("{reason}"),
        }
    };
    assert_eq!(records, head());
    assert!(reason.to_string().contains("no room"), "{reason}");
    disk.set(Fault::None);
    let (stored, _) = writer.append(sealed(stamp(batch), records));
    assert!(matches!(stored, Written::Stored { .. }), "{stored:?}");
}

#[test]
fn a_batch_of_which_nothing_was_known_for_a_while_is_refused_for_what_went_wrong_with_it() {
    let disk = Disk::default();
    let mut log = on(&disk);
    log.claim(&WHO).unwrap();
    let (told, hears) = channel();
    let writer = LogWriter::new(Box::new(log), CHECK_EVERY);
    let writer = WriterThread::start(writer, move |written| told.send(written).unwrap()).unwrap();
    disk.set(Fault::Sync { kept: false });
    writer.append(sealed(stamp(1), head()));
    assert!(matches!(hears.recv().unwrap(), Written::Failing { .. }));
    disk.set(Fault::None);
    // Any order has it ask again.
    drop(writer.snapshot());
    match hears.recv().unwrap() {
        Written::NotStored { reason, .. } => {
            let reason = reason.to_string();
            assert!(reason.contains("the sync failed"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    writer.close(Duration::MAX).unwrap();
}

#[cfg(unix)]
#[test]
fn a_writer_refuses_what_nobody_would_find_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut log = TableLog::at(&path);
    log.claim(&WHO).unwrap();
    let mut writer = LogWriter::new(Box::new(log), Duration::ZERO);
    assert_eq!(writer.check(), None);
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    assert!(matches!(writer.check(), Some(Written::Failing { .. })));
    let (refused, _) = writer.append(sealed(stamp(1), head()));
    assert!(matches!(refused, Written::NotStored { .. }), "{refused:?}");
    std::fs::rename(folder.path().join("away"), &path).unwrap();
    let (stored, _) = writer.append(sealed(stamp(1), head()));
    assert!(matches!(stored, Written::Stored { .. }), "{stored:?}");
}

/// A log whose disk does not answer when it is closed.
struct Hangs(TableLog<DiskOpener>, Receiver<()>);

impl TaskLog for Hangs {
    fn claim(&mut self, who: &Claimant<'_>) -> Result<Claim, LogError> {
        self.0.claim(who)
    }

    fn replay(&mut self, each: EachRow<'_>) -> Result<(), LogError> {
        self.0.replay(each)
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError> {
        self.0.append(batch)
    }

    fn reread(&mut self) -> Result<u64, LogError> {
        self.0.reread()
    }

    fn truncate(&mut self, before: u64) -> Result<(), LogError> {
        self.0.truncate(before)
    }

    fn check(&mut self) -> Result<(), LogError> {
        self.0.check()
    }

    fn max_row(&self) -> usize {
        self.0.max_row()
    }

    fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, LogError> {
        self.0.snapshot()
    }

    fn forget(&mut self, ids: &[TaskId]) -> Result<usize, LogError> {
        self.0.forget(ids)
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        // Until the test is over.
        let _ = self.1.recv();
        Ok(())
    }
}

#[test]
fn a_disk_that_hangs_at_the_close_is_not_waited_for_for_ever() {
    let (over, hangs) = channel();
    let log = Hangs(on(&Disk::default()), hangs);
    let writer = LogWriter::new(Box::new(log), CHECK_EVERY);
    let writer = WriterThread::start(writer, drop).unwrap();
    let closed = writer.close(Duration::from_millis(1));
    assert!(
        matches!(&closed, Err(LogError::Unavailable(why)) if why.contains("has not answered")),
        "{closed:?}"
    );
    drop(over);
}
