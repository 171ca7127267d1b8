//! The file of a store alone: what a commit costs, how long a million tasks take to be read, and
//! how large the file is.
//!
//! `cargo bench --bench store -- [FOLDER] [--quick]`: the file is made in a temporary folder there,
//! or where those usually are. `--quick` leaves out what waits for the disk alone. Beside each
//! latency stands that of an append and an fdatasync on the same disk, measured in the same run.
//!
//! Not measured: the scheduler, and the threads between it and the writer.

#![allow(clippy::unwrap_used, reason = "a bench")]

use std::fs::{File, metadata};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use callboard::__internals::engine::ledger::{Sealed, Stamp};
use callboard::__internals::engine::record::{
    AcceptedTask, FinalOutcome, Head, Record, Reserved, RetainedTask, SettledTask, Term, Timing,
};
use callboard::__internals::engine::{SchedulerId, Timestamp};
use callboard::__internals::store::recovery::recover;
use callboard::__internals::store::row::BatchReader;
use callboard::__internals::store::table::TableLog;
use callboard::__internals::store::writer::{CHECK_EVERY, LogWriter, Written};
use callboard::__internals::store::{Claimant, TaskLog};
use callboard::Keep;
use callboard::task::TaskId;

const SINGLES: u64 = 2_000;
const CROWD: u64 = 1_000_000;
const BATCH: u64 = 1_000;

const WHO: Claimant<'static> = Claimant {
    scheduler: "bench",
    new_id: SchedulerId(1),
};

fn main() {
    let folder = match std::env::args().skip(1).find(|arg| !arg.starts_with('-')) {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let path = folder.path().join("store");
    let mut book = Book::open(&path, &Keep::nothing());
    if !std::env::args().any(|arg| arg == "--quick") {
        let plain = append_and_sync(&folder.path().join("plain"));
        println!("append of 200 bytes and fdatasync, p50: {plain:?}");
        let single = median((0..SINGLES).map(|_| timed(|| book.accept(1))).collect());
        let times = single.as_secs_f64() / plain.as_secs_f64();
        println!("a batch of one task, p50: {single:?}, {times:.2} of that");
    }
    let took = timed(|| (0..CROWD / BATCH).for_each(|_| book.accept(BATCH)));
    rate("accepted, a thousand a batch", took);
    println!("the file with {CROWD} unfinished: {}", size(&path));
    let tasks = book.next_task - 1;
    book.close();
    reading(&path, tasks);

    std::fs::remove_file(&path).unwrap();
    living(&path, "nothing kept", &Keep::nothing());
    std::fs::remove_file(&path).unwrap();
    let all = Keep::all(Duration::MAX);
    living(&path, "all kept within 64 MiB", &all);
    std::fs::remove_file(&path).unwrap();
    living(&path, "all kept", &all.at_most_bytes(u64::MAX));
}

/// Times a million tasks that are accepted, settle and are confirmed.
fn living(path: &Path, kept: &str, keep: &Keep) {
    let mut book = Book::open(path, keep);
    let mut largest = 0;
    let took = timed(|| {
        for _ in 0..CROWD / BATCH {
            book.live(BATCH);
            largest = largest.max(metadata(path).unwrap().len());
        }
    });
    let what = format!("accepted, settled and confirmed, a thousand a batch, {kept}");
    rate(&what, took);
    let largest = largest as f64 / f64::from(1 << 20);
    println!("the file meanwhile, at most: {largest:.1} MiB");
    let took = timed(|| book.close());
    println!("after a close, which took {took:?}: {}", size(path));
}

/// Times what a start does with the file, part by part: each is done anew, with those before it.
fn reading(path: &Path, tasks: u64) {
    let open = || {
        let mut log = TableLog::at(path);
        log.claim(&WHO).unwrap();
        log
    };
    let told = |what: &str, took| println!("{CROWD} unfinished, {what}: {took:?}");
    told("opened and claimed", timed(|| drop(open())));
    let mut log = open();
    let mut sum = 0;
    let mut read = |_, row: &[u8]| {
        sum ^= crc32fast::hash(row);
        Ok(())
    };
    told(
        "read, and the checksums",
        timed(|| log.replay(&mut read).unwrap()),
    );
    assert_ne!(sum, 0);
    drop(log);
    let mut log = open();
    let mut reader = BatchReader::default();
    let mut kept = Vec::new();
    let mut decode = |_, row: &[u8]| {
        kept.extend(reader.row(row).unwrap());
        Ok(())
    };
    told(
        "read and decoded",
        timed(|| log.replay(&mut decode).unwrap()),
    );
    drop((log, kept));
    let mut ledger = None;
    let took = timed(|| {
        ledger = Some(
            recover(&mut TableLog::at(path), &WHO, &mut drop)
                .unwrap()
                .1
                .ledger,
        )
    });
    told("opened, claimed, read, decoded and folded", took);
    assert_eq!(ledger.unwrap().tasks().len() as u64, tasks);
}

fn rate(what: &str, took: Duration) {
    println!("{what}: {:.0}/s", CROWD as f64 / took.as_secs_f64());
}

fn size(path: &Path) -> String {
    let bytes = metadata(path).unwrap().len();
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn timed(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn append_and_sync(path: &Path) -> Duration {
    let mut file = File::create(path).unwrap();
    let append = |_| {
        timed(|| {
            file.write_all(&[7; 200]).unwrap();
            file.sync_data().unwrap();
        })
    };
    median((0..SINGLES).map(append).collect())
}

fn accepted(id: TaskId) -> AcceptedTask {
    AcceptedTask {
        id,
        at: Timestamp(id.get()),
        kind: "bench.task".into(),
        args: vec![id.get() as u8; 100].into(),
        options: None,
    }
}

/// A store, and what it was told so far.
struct Book {
    writer: LogWriter,
    keeps: bool,
    batch: u64,
    next_task: u64,
    head: Head,
}

impl Book {
    fn open(path: &Path, keep: &Keep) -> Self {
        let mut log = TableLog::at(path);
        log.claim(&WHO).unwrap();
        let second = Duration::from_secs(1);
        let mut book = Self {
            writer: LogWriter::new(Box::new(log), CHECK_EVERY).keeping(keep.clone()),
            keeps: *keep != Keep::nothing(),
            batch: 0,
            next_task: 1,
            head: Head {
                scheduler: "bench".into(),
                scheduler_id: WHO.new_id,
                copied_from: None,
                term: Term(1),
                at: Timestamp(0),
                set_back: Duration::ZERO,
                timing: Timing {
                    heartbeat: second,
                    lease: second,
                    outlive: second,
                },
                reserved: Reserved {
                    tasks: u64::MAX,
                    dispatches: u64::MAX,
                },
                nodes: Vec::new(),
                settings: Vec::new(),
            },
        };
        book.store(vec![Record::Head(Box::new(book.head.clone()))], None);
        book
    }

    fn accept(&mut self, count: u64) {
        let records = self.accepted(count);
        self.store(records, None);
    }

    /// Accepts tasks in one batch, and settles and confirms them in the next, which drops the
    /// first.
    fn live(&mut self, count: u64) {
        let first = self.next_task;
        let mut records = vec![Record::Head(Box::new(self.head.clone()))];
        records.extend(self.accepted(count));
        self.store(records, None);
        let ids = (first..first + count).map(TaskId::new);
        let mut records = Vec::new();
        for id in ids.clone() {
            let ending = SettledTask {
                id,
                outcome: FinalOutcome::Completed(b"done".into()),
                node: Some("n1".into()),
                attempts: 1,
                reroutes: 0,
                started_at: Some(Timestamp(1)),
                at: Timestamp(2),
                busy: Vec::new(),
            };
            records.push(Record::Settled(Box::new(ending.clone())));
            if self.keeps {
                let accepted = accepted(id);
                records.push(Record::Retained(Box::new(RetainedTask {
                    accepted,
                    ending,
                })));
            }
        }
        records.push(Record::Confirmed(ids.collect()));
        self.store(records, Some(self.batch + 1));
    }

    fn accepted(&mut self, count: u64) -> Vec<Record> {
        let ids = self.next_task..self.next_task + count;
        self.next_task += count;
        let ids = ids.map(TaskId::new);
        ids.map(|id| Record::Accepted(Box::new(accepted(id))))
            .collect()
    }

    fn store(&mut self, records: Vec<Record>, truncate: Option<u64>) {
        self.batch += 1;
        let stamp = Stamp {
            term: Term(1),
            batch: self.batch,
            next_task: self.next_task,
            next_dispatch: 1,
            at: Timestamp(0),
        };
        let (written, _) = self.writer.append(Sealed {
            stamp,
            records,
            truncate,
        });
        assert!(matches!(written, Written::Stored { .. }), "{written:?}");
    }

    fn close(self) {
        self.writer.close().unwrap();
    }
}
