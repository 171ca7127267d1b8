//! apalis on SQLite, with a write-ahead log that is synced by each transaction.
//!
//! Owns: how it is set up. Does not know: what is made of the times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteStorage};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::{BATCH, Figures, WORKERS, spans};

/// How often it looks for tasks, and is asked what is done.
const LOOK: Duration = Duration::from_millis(5);

pub fn measure(count: u64) -> Figures {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("tasks.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Its own setup switches that off, and a power cut then loses what was answered.
        .synchronous(SqliteSynchronous::Full);
    runtime.block_on(async {
        // Of several, one finds the file locked when its transaction begins to write.
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options).await.expect("a file");
        let migrations = SqliteStorage::migrations();
        migrations.run(&pool).await.expect("tables");
        let mut single = storage(&pool, "single");
        let handle = tokio::runtime::Handle::current();
        let answered = tokio::task::block_in_place(|| {
            spans(|n| handle.block_on(single.push(n)).expect("it is pushed"))
        });
        let done = group(&pool, count).await;
        Figures {
            answered,
            done: (count, done),
        }
    })
}

fn storage(pool: &SqlitePool, queue: &str) -> SqliteStorage<u64> {
    let config = Config::default().queue(queue).batch_size(100);
    SqliteStorage::new(pool).with_config(config)
}

async fn group(pool: &SqlitePool, count: u64) -> Duration {
    let mut storage = storage(pool, "tasks");
    let ran = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&ran);
    let worker = WorkerBuilder::new("worker")
        .backend(storage.clone().poll_with_interval(LOOK))
        .concurrency(WORKERS)
        .build(move |_: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        });
    let began = Instant::now();
    let working = tokio::spawn(worker.run());
    for first in (0..count).step_by(BATCH as usize) {
        let tasks = first..first + BATCH;
        storage
            .push_bulk(tasks.collect())
            .await
            .expect("they are pushed");
    }
    // It runs before its end is stored.
    while ran.load(Ordering::SeqCst) < count || left(pool).await > 0 {
        tokio::time::sleep(LOOK).await;
    }
    let took = began.elapsed();
    working.abort();
    took
}

/// Returns how many tasks of the group are not stored as done.
async fn left(pool: &SqlitePool) -> i64 {
    let query = "SELECT count(*) FROM Jobs WHERE job_type = 'tasks' AND status <> 'Done'";
    sqlx::query_scalar(query)
        .fetch_one(pool)
        .await
        .expect("a number")
}
