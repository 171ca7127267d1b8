//! How many tasks a second, and how many bytes.

use std::time::{Duration, Instant};

use actix::System;
use bytes::Bytes;
use callboard::Execute;

use super::Scale;
use super::board::{Counted, Nodes, wait_for};
use super::helper::Helper;
use super::latency::percentile;

/// How many are handed in by one `execute_many`.
const MANY: u64 = 1000;

fn next(n: u64) -> Execute {
    Execute::named("next", &n).expect("a number")
}

/// Measures the rate at which so many are done by these nodes.
fn rate(count: u64, nodes: Nodes) -> f64 {
    rate_of(count, nodes, next)
}

fn rate_of(count: u64, nodes: Nodes, execute: fn(u64) -> Execute) -> f64 {
    System::new().block_on(async move {
        let counted = Counted::start(count, nodes).await;
        let began = Instant::now();
        counted.send_all(execute);
        counted.rate_since(began).await
    })
}

pub fn local(scale: &Scale) -> f64 {
    rate(scale.of(1_000_000), Nodes::Local { workers: 10 })
}

pub fn local_each(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    System::new().block_on(async move {
        let counted = Counted::start_each(count, Nodes::Local { workers: 10 }).await;
        let began = Instant::now();
        counted.send_all(next);
        counted.rate_since(began).await
    })
}

pub fn local_many(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    System::new().block_on(async move {
        let counted = Counted::start(count, Nodes::Local { workers: 10 }).await;
        let began = Instant::now();
        for first in (0..count).step_by(MANY as usize) {
            let batch = (first..count.min(first + MANY)).map(next).collect();
            let ids = counted.scheduler().execute_many(batch).await;
            assert!(ids.iter().all(Result::is_ok), "there is room for all");
        }
        counted.rate_since(began).await
    })
}

pub fn remote_one(scale: &Scale) -> f64 {
    rate(scale.of(500_000), Nodes::remote(1, 1, 10))
}

/// Measures two schedulers that share one node process, each with half of the tasks. Returns twice
/// the rate of the slower one.
pub fn two_schedulers(scale: &Scale) -> f64 {
    let count = scale.of(500_000) / 2;
    System::new().block_on(async move {
        let boards = [
            Counted::start(count, Nodes::Awaited).await,
            Counted::start(count, Nodes::Awaited).await,
        ];
        let addresses = boards.each_ref().map(|board| {
            let address = board.scheduler().listen_addr();
            address.expect("it listens")
        });
        let _helper = Helper::spawn(&addresses, 0, 1, 10, None);
        for board in &boards {
            wait_for(board.scheduler(), 1).await;
        }
        let began = Instant::now();
        for board in &boards {
            board.send_all(next);
        }
        let [one, other] = boards.map(|board| board.rate_since(began));
        let (one, other) = tokio::join!(one, other);
        2.0 * one.min(other)
    })
}

#[cfg(feature = "tls")]
pub fn tls_one(scale: &Scale) -> f64 {
    rate(scale.of(500_000), Nodes::remote(1, 1, 10).tls())
}

pub fn remote_four(scale: &Scale) -> f64 {
    rate(scale.of(500_000), Nodes::remote(4, 1, 10))
}

fn one_process(scale: &Scale, nodes: u32) -> f64 {
    rate(scale.of(500_000), Nodes::remote(1, nodes, 10))
}

pub fn nodes_one(scale: &Scale) -> f64 {
    one_process(scale, 1)
}

pub fn nodes_ten(scale: &Scale) -> f64 {
    one_process(scale, 10)
}

pub fn nodes_hundred(scale: &Scale) -> f64 {
    one_process(scale, 100)
}

pub fn nodes_thousand(scale: &Scale) -> f64 {
    one_process(scale, 1000)
}

/// Measures the rate at which so many pending tasks are done, once there are ten workers.
fn drain(count: u64) -> f64 {
    System::new().block_on(async move {
        let counted = Counted::start(count, Nodes::Local { workers: 0 }).await;
        counted.send_all(next);
        // Answered when all that was sent before has been taken in.
        let stats = counted.scheduler().stats().await.expect("it runs");
        assert_eq!(stats.pending as u64, count);
        let began = Instant::now();
        let set = counted.scheduler().set_workers("local", 10).await;
        set.expect("it is there");
        counted.rate_since(began).await
    })
}

/// Measures many crowds of ten thousand, since one is done in a moment. Returns the median.
pub fn pending_few(scale: &Scale) -> f64 {
    let mut rates: Vec<_> = (0..scale.of(50)).map(|_| drain(10_000)).collect();
    percentile(&mut rates, 0.5)
}

pub fn pending_many(scale: &Scale) -> f64 {
    drain(scale.of(1_000_000))
}

pub fn pending_most(scale: &Scale) -> f64 {
    drain(scale.of(10_000_000))
}

/// Args and outputs of 1 MiB, four workers: bytes in one direction.
pub fn large(scale: &Scale) -> f64 {
    mebibytes(scale, Nodes::remote(1, 1, 4))
}

#[cfg(feature = "tls")]
pub fn tls_large(scale: &Scale) -> f64 {
    mebibytes(scale, Nodes::remote(1, 1, 4).tls())
}

fn mebibytes(scale: &Scale, nodes: Nodes) -> f64 {
    let count = scale.of(400);
    System::new().block_on(async move {
        let counted = Counted::start(count, nodes).await;
        let body = Bytes::from(vec![7_u8; 1 << 20]);
        let began = Instant::now();
        for _ in 0..count {
            let execute = Execute::raw("echo", body.clone());
            let id = counted.scheduler().execute(execute).await;
            id.expect("it is accepted");
        }
        counted.rate_since(began).await * f64::from(1 << 20)
    })
}

/// Measures tasks that await 20 ms on 4,000 workers of one node.
pub fn await_many(scale: &Scale) -> f64 {
    rate_of(scale.of(1_000_000), Nodes::remote(1, 1, 4000), |_| {
        Execute::named("wait", &20_u64).expect("a number")
    })
}

/// What a thousand tasks of 100 ms may take on four processes of ten workers, one of which is
/// killed at half.
const HALVED_WITHIN: Duration = Duration::from_millis(3_200);
/// What a loaded machine may add to that, by starting processes and threads late, before the bench
/// fails.
const TOLERANCE: Duration = Duration::from_millis(800);

/// Runs a thousand tasks of 100 ms on four processes of ten workers, one of which is killed when
/// half are done. Returns the seconds until all are done once. Without the kill it would be 2.5 s;
/// five hundred on thirty workers alone are 1.7 s.
pub fn halved(_: &Scale) -> f64 {
    const COUNT: u64 = 1_000;
    System::new().block_on(async {
        let nodes = Nodes::remote(4, 1, 10);
        let mut counted = Counted::start_with_mark(COUNT, COUNT / 2, nodes).await;
        let began = Instant::now();
        counted.send_all(|_| Execute::named("wait", &100_u64).expect("a number"));
        counted.mark().await;
        counted.kill_one();
        let seconds = COUNT as f64 / counted.rate_since(began).await;
        let most = HALVED_WITHIN + TOLERANCE;
        assert!(
            seconds < most.as_secs_f64(),
            "it took {seconds:.2} s, and {HALVED_WITHIN:?} are promised"
        );
        seconds
    })
}

/// Measures four processes, one of which is killed when a third of the tasks is done.
pub fn killed(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    System::new().block_on(async move {
        let mut counted = Counted::start(count, Nodes::remote(4, 1, 10)).await;
        let began = Instant::now();
        counted.send_all(next);
        counted.mark().await;
        counted.kill_one();
        counted.rate_since(began).await
    })
}
