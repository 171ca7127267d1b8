//! The engine alone: what one task costs from its submission to its ending.
//!
//! `cargo bench --bench engine`. The times are per task, in batches of 64 as the actors drive the
//! machines: `scheduler` is submit, assign, report, settle and confirm of one task beside a crowd
//! that waits for the same workers, or for a kind that no node offers, or with many nodes and no
//! crowd, or with many labels in use; `idle turn` is a turn in which nothing happens while each
//! node has tasks prefetched; `node` is assignment, start, end, report and acknowledgement of one
//! task in a node of ten workers. What it takes nodes to take what they are sent and to write what
//! they report is not the scheduler's, and is left out.
//!
//! Not measured: encoding, mailboxes, threads, links. What a pending task weighs is measured by
//! `cargo bench --bench weight`.

mod node;
mod scheduler;

use std::time::{Duration, Instant};

use callboard::task::TaskKind;
use criterion::{Bencher, BenchmarkId, Criterion};

use node::NodeBench;
use scheduler::SchedulerBench;

const BATCH: u64 = 64;

/// What nodes offer, and what none does.
const OFFERED: &str = "run";
const NOT_OFFERED: &str = "nobody offers this";

/// Times batches, and gives the time of so many tasks, without the time that each batch returns.
fn per_task(bencher: &mut Bencher<'_>, mut batch: impl FnMut() -> Duration) {
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
            per_task(bencher, || bench.batch(&offered, BATCH));
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
        per_task(bencher, || {
            bench.batch(BATCH);
            Duration::ZERO
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    time_scheduler(&mut criterion);
    time_node(&mut criterion);
    criterion.final_summary();
}
