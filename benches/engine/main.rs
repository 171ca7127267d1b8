//! The engine alone: what one task costs from its submission to its ending, and what a pending one
//! weighs.
//!
//! `cargo bench --bench engine`. The times are per task, in batches of 64 as the actors drive the
//! machines: `scheduler` is submit, assign, report, settle and confirm of one task beside a crowd
//! that waits for the same workers, or for a kind that no node offers, or with many nodes and no
//! crowd, or with many labels in use; `idle turn` is a turn in which nothing happens while each
//! node has tasks prefetched; `node` is assignment, start, end, report and acknowledgement of one
//! task in a node of ten workers. What it takes to write the reports of many nodes is not the
//! scheduler's, and is left out.
//!
//! Not measured: encoding, mailboxes, threads, links. The weight is counted by the allocator, args
//! and index included, and printed before the times; that counting costs each allocation some
//! nanoseconds.

mod node;
mod scheduler;

use std::time::{Duration, Instant};

use callboard::task::TaskKind;
use criterion::{Bencher, BenchmarkId, Criterion};
use peak_alloc::PeakAlloc;

use node::NodeBench;
use scheduler::SchedulerBench;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const BATCH: u64 = 64;

/// What nodes offer, and what none does.
const OFFERED: &str = "run";
const NOT_OFFERED: &str = "nobody offers this";

/// Times batches, and gives the time of so many tasks.
fn per_task<T>(bencher: &mut Bencher<'_>, mut batch: impl FnMut() -> T) {
    per_task_without(bencher, || {
        batch();
        Duration::ZERO
    });
}

/// The same, without the time that each batch returns.
fn per_task_without(bencher: &mut Bencher<'_>, mut batch: impl FnMut() -> Duration) {
    bencher.iter_custom(|tasks| {
        let batches = tasks.div_ceil(BATCH);
        let began = Instant::now();
        let mut without = Duration::ZERO;
        for _ in 0..batches {
            without += batch();
        }
        let spent = began.elapsed().saturating_sub(without);
        let share = tasks as f64 / (batches * BATCH) as f64;
        Duration::from_secs_f64(spent.as_secs_f64() * share)
    });
}

/// Measures what each of a million pending tasks adds to the heap.
fn weigh() {
    const TASKS: usize = 1_000_000;
    let kind = TaskKind::from(OFFERED);
    let mut bench = SchedulerBench::new(1, 0);
    let before = HEAP.current_usage();
    for _ in 0..TASKS {
        bench.submit(&kind);
    }
    let bytes = (HEAP.current_usage() - before) as f64 / TASKS as f64;
    println!("heap bytes per pending task, args of 9 bytes included: {bytes:.1}");
}

/// Times the scheduler. A crowd is only made for a row that is picked, and then once.
fn time_scheduler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    let offered = TaskKind::from(OFFERED);
    let crowds = [
        ("pending", OFFERED, 1_000),
        ("pending", OFFERED, 100_000),
        ("pending", OFFERED, 10_000_000),
        ("pending elsewhere", NOT_OFFERED, 1_000_000),
    ];
    for (name, kind, tasks) in crowds {
        let mut bench = None;
        group.bench_function(BenchmarkId::new(name, tasks), |bencher| {
            let bench = bench.get_or_insert_with(|| SchedulerBench::crowded(&kind.into(), tasks));
            per_task(bencher, || bench.batch(&offered, BATCH));
        });
    }
    for nodes in [1, 10, 100, 1_000, 10_000] {
        let mut bench = None;
        group.bench_function(BenchmarkId::new("nodes", nodes), |bencher| {
            let bench = bench.get_or_insert_with(|| SchedulerBench::new(nodes, 10));
            per_task_without(bencher, || bench.batch(&offered, BATCH));
        });
    }
    for (nodes, labels) in [(1, 1), (1, 16), (1, 256), (1_000, 256)] {
        let mut bench = None;
        let name = format!("labels at {nodes}");
        group.bench_function(BenchmarkId::new(name, labels), |bencher| {
            let bench = bench.get_or_insert_with(|| SchedulerBench::labelled(nodes, 10, labels));
            per_task(bencher, || bench.batch(&offered, BATCH));
        });
    }
    for nodes in [1, 100, 1_000] {
        let mut bench = None;
        group.bench_function(BenchmarkId::new("idle turn", nodes), |bencher| {
            let bench = bench.get_or_insert_with(|| SchedulerBench::loaded(nodes));
            bencher.iter(|| bench.idle_turn());
        });
    }
    group.finish();
}

fn time_node(criterion: &mut Criterion) {
    let mut bench = NodeBench::new(10);
    criterion.bench_function("node", |bencher| {
        per_task(bencher, || bench.batch(BATCH));
    });
}

fn main() {
    weigh();
    let mut criterion = Criterion::default().configure_from_args();
    time_scheduler(&mut criterion);
    time_node(&mut criterion);
    criterion.final_summary();
}
