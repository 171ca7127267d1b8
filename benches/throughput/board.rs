//! callboard, as a user drives it.

use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use callboard::{Execute, Node, Outcome, Scheduler, SchedulerBuilder, Shutdown, TaskStatus};
use tokio::sync::oneshot;

use super::Scale;
use super::helper::{Helper, handlers};

/// Counts statuses and decodes their outputs.
struct Client {
    left: u64,
    sum: u64,
    done: Option<oneshot::Sender<u64>>,
}

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        match &status.outcome {
            Outcome::Completed(output) if output.len() > 16 => self.sum += output.len() as u64,
            Outcome::Completed(_) => self.sum += status.output::<u64>().expect("a number"),
            other => panic!("a task of the bench {other}"),
        }
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // The bench waits for it.
            let _ = done.send(self.sum);
        }
    }
}

/// A scheduler and its client, which hears `count` endings.
struct Board {
    scheduler: Scheduler,
    arbiter: Arbiter,
    done: oneshot::Receiver<u64>,
    helpers: Vec<Helper>,
}

enum Nodes {
    Local {
        workers: u32,
    },
    /// So many processes with so many nodes each.
    Remote {
        processes: u32,
        nodes: u32,
        workers: u32,
    },
}

impl Board {
    async fn start(count: u64, nodes: Nodes) -> Self {
        let (tx, done) = oneshot::channel();
        let arbiter = Arbiter::new();
        let client = Client::start_in_arbiter(&arbiter.handle(), move |_| Client {
            left: count,
            sum: 0,
            done: Some(tx),
        });
        let builder: SchedulerBuilder =
            Scheduler::unnamed()
                .client(client.recipient())
                .configure(|config| {
                    config.max_tasks = 20_000_000;
                    config.max_args_bytes = 1 << 34;
                    // What is sent without waiting must not be refused because the client is behind.
                    config.max_statuses = 20_000_000;
                });
        let mut helpers = Vec::new();
        let scheduler = match nodes {
            Nodes::Local { workers } => {
                let node = Node::local("local", handlers())
                    .max_workers(workers)
                    .threads(1);
                builder.node(node).start().await.expect("it starts")
            }
            Nodes::Remote {
                processes,
                nodes,
                workers,
            } => {
                let scheduler = builder
                    .listen("127.0.0.1:0")
                    .start()
                    .await
                    .expect("it starts");
                let address = scheduler.listen_addr().expect("it listens");
                for process in 0..processes {
                    helpers.push(Helper::spawn(address, process * nodes, nodes, workers));
                }
                wait_for(&scheduler, processes * nodes).await;
                scheduler
            }
        };
        Self {
            scheduler,
            arbiter,
            done,
            helpers,
        }
    }

    async fn end(self) {
        self.scheduler
            .shutdown(Shutdown::Now)
            .await
            .expect("it runs");
        self.arbiter.stop();
    }
}

/// Waits until so many nodes are up.
async fn wait_for(scheduler: &Scheduler, nodes: u32) {
    loop {
        let stats = scheduler.stats().await.expect("it runs");
        let up = stats
            .nodes
            .iter()
            .filter(|node| node.workers > 0 && node.reason.is_empty());
        if up.count() >= nodes as usize {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The rate at which so many numbers are done by these nodes.
fn rate(count: u64, nodes: Nodes) -> f64 {
    System::new().block_on(async move {
        let mut board = Board::start(count, nodes).await;
        let began = Instant::now();
        for n in 0..count {
            let execute = Execute::call("next", &n).expect("a number");
            board.scheduler.addr().do_send(execute);
        }
        (&mut board.done).await.expect("the client lives");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        board.end().await;
        rate
    })
}

pub fn local(scale: &Scale) -> f64 {
    rate(scale.of(1_000_000), Nodes::Local { workers: 10 })
}

pub fn local_many(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    System::new().block_on(async move {
        let mut board = Board::start(count, Nodes::Local { workers: 10 }).await;
        let began = Instant::now();
        let mut n = 0;
        while n < count {
            let batch =
                (n..count.min(n + 1000)).map(|n| Execute::call("next", &n).expect("a number"));
            board.scheduler.execute_many(batch.collect()).await;
            n += 1000;
        }
        (&mut board.done).await.expect("the client lives");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        board.end().await;
        rate
    })
}

fn remote(processes: u32, nodes: u32) -> Nodes {
    Nodes::Remote {
        processes,
        nodes,
        workers: 10,
    }
}

pub fn remote_one(scale: &Scale) -> f64 {
    rate(scale.of(500_000), remote(1, 1))
}

pub fn remote_four(scale: &Scale) -> f64 {
    rate(scale.of(500_000), remote(4, 1))
}

pub fn nodes_one(scale: &Scale) -> f64 {
    rate(scale.of(200_000), remote(1, 1))
}

pub fn nodes_ten(scale: &Scale) -> f64 {
    rate(scale.of(200_000), remote(1, 10))
}

pub fn nodes_hundred(scale: &Scale) -> f64 {
    rate(scale.of(200_000), remote(1, 100))
}

pub fn nodes_thousand(scale: &Scale) -> f64 {
    rate(scale.of(200_000), remote(1, 1000))
}

/// One task at a time; prints the percentiles and returns the median, in microseconds.
fn latency(count: u64, nodes: Nodes) -> f64 {
    System::new().block_on(async move {
        let board = Board::start(1, nodes).await;
        let mut spans = Vec::new();
        for n in 0..count {
            let began = Instant::now();
            let execute = Execute::call("next", &n).expect("a number");
            let status = board
                .scheduler
                .settle(execute)
                .await
                .expect("it is accepted");
            assert_eq!(status.output::<u64>().expect("a number"), n + 1);
            spans.push(began.elapsed().as_secs_f64() * 1e6);
        }
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| percentile(&mut spans, share));
        eprint!("p50 {p50:.1} us, p99 {p99:.1} us, p999 {p999:.1} us: ");
        board.end().await;
        p50
    })
}

pub fn percentile(spans: &mut [f64], share: f64) -> f64 {
    spans.sort_by(f64::total_cmp);
    let at = (spans.len() as f64 * share) as usize;
    spans[at.min(spans.len() - 1)]
}

pub fn latency_local(scale: &Scale) -> f64 {
    latency(scale.of(20_000), Nodes::Local { workers: 10 })
}

pub fn latency_remote(scale: &Scale) -> f64 {
    latency(scale.of(20_000), remote(1, 1))
}

/// So many tasks pending, then ten workers: the rate at which they are done.
fn drain(count: u64) -> f64 {
    System::new().block_on(async move {
        let mut board = Board::start(count, Nodes::Local { workers: 0 }).await;
        for n in 0..count {
            let execute = Execute::call("next", &n).expect("a number");
            board.scheduler.addr().do_send(execute);
        }
        // Answered when all that was sent before has been taken in.
        let stats = board.scheduler.stats().await.expect("it runs");
        assert_eq!(stats.pending as u64, count);
        let (began, cpu) = (Instant::now(), cpu_time());
        board
            .scheduler
            .set_workers("local", 10)
            .await
            .expect("it is there");
        (&mut board.done).await.expect("the client lives");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        // Other processes of a shared machine take time from the rate and not from this.
        let cpu = (cpu_time() - cpu).as_secs_f64() * 1e6 / count as f64;
        eprint!("{cpu:.2} us of processor a task: ");
        board.end().await;
        rate
    })
}

/// Ten thousand are done in a moment, so several such crowds are.
pub fn pending_few(scale: &Scale) -> f64 {
    let mut rates: Vec<_> = (0..scale.of(20)).map(|_| drain(10_000)).collect();
    percentile(&mut rates, 0.5)
}

pub fn pending_many(scale: &Scale) -> f64 {
    drain(scale.of(1_000_000))
}

pub fn pending_most(scale: &Scale) -> f64 {
    drain(scale.of(10_000_000))
}

/// Args and outputs of 1 MiB, four at a time: bytes in one direction.
pub fn large(scale: &Scale) -> f64 {
    let count = scale.of(400);
    System::new().block_on(async move {
        let nodes = Nodes::Remote {
            processes: 1,
            nodes: 1,
            workers: 4,
        };
        let mut board = Board::start(count, nodes).await;
        let body = Bytes::from(vec![7_u8; 1 << 20]);
        let began = Instant::now();
        for _ in 0..count {
            let execute = Execute::raw("echo", body.clone());
            board
                .scheduler
                .execute(execute)
                .await
                .expect("it is accepted");
        }
        (&mut board.done).await.expect("the client lives");
        let rate = (count << 20) as f64 / began.elapsed().as_secs_f64();
        board.end().await;
        rate
    })
}

/// Tasks that await 20 ms on 4,000 workers: 200,000 a second would be ideal.
pub fn await_many(scale: &Scale) -> f64 {
    let count = scale.of(600_000);
    System::new().block_on(async move {
        let nodes = Nodes::Remote {
            processes: 1,
            nodes: 1,
            workers: 4000,
        };
        let mut board = Board::start(count, nodes).await;
        let began = Instant::now();
        for _ in 0..count {
            let execute = Execute::call("wait", &20_u64).expect("a number");
            board.scheduler.addr().do_send(execute);
        }
        (&mut board.done).await.expect("the client lives");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        board.end().await;
        rate
    })
}

/// Four processes, one of which is killed when a third of the tasks is done.
pub fn killed(scale: &Scale) -> f64 {
    let count = scale.of(500_000);
    System::new().block_on(async move {
        let mut board = Board::start(count, remote(4, 1)).await;
        let began = Instant::now();
        for n in 0..count {
            let execute = Execute::call("next", &n).expect("a number");
            board.scheduler.addr().do_send(execute);
        }
        loop {
            let stats = board.scheduler.stats().await.expect("it runs");
            if stats.totals.completed > count / 3 {
                break;
            }
        }
        board.helpers[0].kill();
        (&mut board.done).await.expect("the client lives");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        board.end().await;
        rate
    })
}

/// What this process costs with a hundred links and nothing to do.
pub fn idle(scale: &Scale) -> f64 {
    let span = Duration::from_secs(scale.of(10));
    System::new().block_on(async move {
        let board = Board::start(1, remote(1, 100)).await;
        let (before, began) = (cpu_time(), Instant::now());
        tokio::time::sleep(span).await;
        let share = (cpu_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
        board.end().await;
        share * 100.0
    })
}

/// The processor time of this process, all threads.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
