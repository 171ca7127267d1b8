//! What a pending task weighs.
//!
//! `cargo bench --bench weight`. The weight is counted by the allocator, args and index included.
//! That counting costs each allocation some nanoseconds, so nothing is timed here.

#[allow(dead_code, reason = "what is timed is not weighed")]
mod scheduler;

use callboard::task::TaskKind;
use peak_alloc::PeakAlloc;

use scheduler::SchedulerBench;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What the node offers.
const OFFERED: &str = "run";

fn main() {
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
