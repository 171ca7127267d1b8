//! What links cost while there is nothing to do.

use std::time::{Duration, Instant};

use actix::System;

use super::Scale;
use super::board::{Counted, Nodes};

/// Measures the share of a core that this process takes with a hundred idle links, in percent.
pub fn hundred_links(scale: &Scale) -> f64 {
    let span = Duration::from_secs(scale.of(20));
    System::new().block_on(async move {
        let counted = Counted::start(1, Nodes::remote(1, 100, 10)).await;
        let (before, began) = (cpu_time(), Instant::now());
        tokio::time::sleep(span).await;
        let share = (cpu_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
        counted.end().await;
        share * 100.0
    })
}

/// Returns the processor time of this process, all threads.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
