//! The durable load of callboard's bench, on what else keeps tasks on disk: a Redis list whose
//! every write is synced, and apalis on SQLite, likewise synced.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers
//! ```
//!
//! A round prints a line for each: the time until one task at a time is answered, which is when it
//! is on disk, in microseconds; and the rate of a group that is handed in by batches and done by
//! ten workers. A no-op task is done when its end is on disk too. `redis-server` has to be there.
//!
//! Owns: the measures. Does not know: how each does it.

use std::time::{Duration, Instant};

mod list;
mod sqlite;

/// Tasks that are handed in one at a time.
const SINGLE: u64 = 1_000;
/// Tasks of a batch.
const BATCH: u64 = 1_000;
const WORKERS: usize = 10;

/// What is measured of one.
struct Figures {
    answered: Vec<Duration>,
    /// How many tasks were done, and how long it took from the first that was handed in.
    done: (u64, Duration),
}

fn main() {
    print("redis, AOF always", list::measure(100_000));
    print("apalis, SQLite", sqlite::measure(5_000));
}

fn print(name: &str, mut figures: Figures) {
    figures.answered.sort_unstable();
    let at = |share: usize| figures.answered[figures.answered.len() * share / 100].as_micros();
    let (p50, p99) = (at(50), at(99));
    let (count, span) = figures.done;
    let rate = count as f64 / span.as_secs_f64();
    println!("{name:<20} answered p50 {p50} us, p99 {p99} us; {count} in a group {rate:.0}/s");
}

/// Notes how long each takes.
fn spans(mut each: impl FnMut(u64)) -> Vec<Duration> {
    let span = |n| {
        let began = Instant::now();
        each(n);
        began.elapsed()
    };
    (0..SINGLE).map(span).collect()
}
