//! With a store: rates and latencies beside those without, and beside what a commit costs on the
//! same disk.
//!
//! The store is made where temporary files are; `TMPDIR` chooses another disk.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use callboard::{Execute, Handlers, Node, Scheduler, Shutdown, Store};
use tempfile::TempDir;

use super::Scale;
use super::board::{Counted, Kept, Nodes};
use super::latency::{latency, percentiles};

/// How many are handed in by one `execute_many`.
const MANY: u64 = 1000;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

fn next(n: u64) -> Execute {
    Execute::named("next", &n).expect("a number")
}

fn rate(count: u64, nodes: Nodes) -> f64 {
    System::new().block_on(async move {
        let kept = Kept::new(folder());
        let counted = Counted::start_kept(count, nodes, kept).await;
        let began = Instant::now();
        counted.send_all(next);
        counted.rate_since(began).await
    })
}

pub fn local(scale: &Scale) -> f64 {
    rate(scale.of(1_000_000), Nodes::Local { workers: 10 })
}

pub fn remote(scale: &Scale) -> f64 {
    rate(scale.of(500_000), Nodes::remote(1, 1, 10))
}

/// Measures an append of 200 bytes and an fdatasync.
pub fn sync(scale: &Scale) -> [f64; 3] {
    let folder = folder();
    let mut file = File::create(folder.path().join("plain")).expect("a file");
    let append = |_| {
        let began = Instant::now();
        file.write_all(&[7; 200]).expect("there is room");
        file.sync_data().expect("it is written");
        began.elapsed().as_secs_f64() * 1e6
    };
    percentiles((0..scale.of(5_000)).map(append).collect())
}

/// Measures one `execute` at a time, until it is answered.
pub fn answered(scale: &Scale) -> [f64; 3] {
    let count = scale.of(5_000);
    System::new().block_on(async move {
        let folder = folder();
        let scheduler = start(&folder).await;
        let mut spans = Vec::new();
        for n in 0..count {
            let began = Instant::now();
            scheduler.execute(next(n)).await.expect("there is room");
            spans.push(began.elapsed().as_secs_f64() * 1e6);
        }
        end(scheduler).await;
        percentiles(spans)
    })
}

/// Measures one task at a time, until its status is handled.
pub fn status(scale: &Scale) -> [f64; 3] {
    let nodes = Nodes::Local { workers: 10 };
    latency(scale.of(5_000), nodes, Some(Kept::new(folder())))
}

/// Measures the same where statuses do not wait for their commit.
pub fn status_at_once(scale: &Scale) -> [f64; 3] {
    let nodes = Nodes::Local { workers: 10 };
    let kept = Kept::new(folder()).tell_at_once();
    latency(scale.of(5_000), nodes, Some(kept))
}

/// Measures how long a start takes with a million unfinished tasks, until an `execute` is answered.
pub fn recovery(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    System::new().block_on(async move {
        let folder = folder();
        let scheduler = start(&folder).await;
        for first in (0..count).step_by(MANY as usize) {
            let batch = (first..count.min(first + MANY)).map(next).collect();
            let answers = scheduler.execute_many(batch).await;
            assert!(answers.iter().all(Result::is_ok), "there is room for all");
        }
        end(scheduler).await;
        let bytes = folder
            .path()
            .join("tasks")
            .metadata()
            .map(|file| file.len());
        let began = Instant::now();
        let scheduler = start(&folder).await;
        scheduler.execute(next(count)).await.expect("there is room");
        let took = began.elapsed();
        eprint!("({} MiB) ", bytes.unwrap_or(0) >> 20);
        end(scheduler).await;
        took.as_secs_f64()
    })
}

/// Measures how large the file is at most while tasks with args of 100 bytes settle, in MiB; prints
/// beside it how large it is after the end.
pub fn file(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    System::new().block_on(async move {
        let folder = folder();
        let path = folder.path().join("tasks");
        let size = || path.metadata().map_or(0, |file| file.len()) as f64 / f64::from(1 << 20);
        let handlers = Handlers::new().on("take", async |args: Bytes| Ok(args.len()));
        let started = Scheduler::unnamed()
            .store(Store::file(&path))
            .node(Node::local("here", handlers).max_workers(10))
            .no_client()
            .start();
        let scheduler = started.await.expect("it starts");
        let args = Bytes::from(vec![7; 100]);
        let mut most = 0.0_f64;
        for _ in 0..count / MANY {
            let batch = (0..MANY).map(|_| Execute::raw("take", args.clone()));
            let answers = scheduler.execute_many(batch.collect()).await;
            assert!(answers.iter().all(Result::is_ok), "there is room for all");
            most = most.max(size());
        }
        loop {
            let stats = scheduler.stats().await.expect("it runs");
            most = most.max(size());
            if stats.pending + stats.running == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        end(scheduler).await;
        eprint!("({:.2} MiB after the end) ", size());
        most
    })
}

/// Starts a scheduler with a store that no node joins.
async fn start(folder: &TempDir) -> Scheduler {
    let started = Scheduler::unnamed()
        .store(Store::file(folder.path().join("tasks")).wait(Duration::from_secs(10)))
        .listen("127.0.0.1:0")
        .no_client()
        .start();
    started.await.expect("it starts")
}

async fn end(scheduler: Scheduler) {
    scheduler.shutdown(Shutdown::Now).await.expect("it runs");
}
