//! Overload with millions: what it costs in memory, and whether the heartbeats notice.
//! `tests/scenarios/overload.rs` has the promises. It fails beyond the bounds below.
//!
//! ```text
//! cargo bench --bench overload -- [handle] [do-send] [bare] [client] [--tasks N]
//! ```
//!
//! - `handle`: `--tasks` (10,000,000) `execute` by a hundred flows, into a queue of 100,000.
//! - `do-send`: as many by `do_send`, where the producer waits for an answer after each 1,000.
//! - `bare`: the same where it only yields to others of its thread. Nothing bounds the mailbox
//!   then.
//! - `client`: a tenth as many, and a client that handles about a thousand statuses a second. It
//!   takes as long.

#![allow(clippy::unwrap_used, reason = "a bench")]

use std::cell::Cell;
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::stats::{NodeState, Stats};
use callboard::{Execute, Outcome, Scheduler, Shutdown, TaskStatus};

use helper::Helper;

#[allow(dead_code, reason = "the other bench kills it")]
#[path = "../throughput/helper.rs"]
mod helper;

const QUEUE: usize = 100_000;
const FLOWS: u64 = 100;
const BATCH: u64 = 1_000;
/// The memory that this process may come to have beyond what it has at the start: a full queue and
/// the statuses of its tasks take a part of it, and it is far below what millions of tasks would
/// take that nothing bounds.
const MEMORY: u64 = 64 << 20;
/// The same where a million tasks wait for a slow client, each with its status.
const MEMORY_HELD: u64 = 320 << 20;
/// The node may be unheard for less than two heartbeats, after which the link would be taken for
/// dead.
const SILENCE: Duration = Duration::from_secs(4);
const MODES: [&str; 4] = ["handle", "do-send", "bare", "client"];

fn main() {
    helper::act_if_told();
    System::new().block_on(bench());
}

async fn bench() {
    let mut tasks = 10_000_000;
    let mut modes = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--tasks" => tasks = args.next().and_then(|n| n.parse().ok()).expect("a number"),
            // Cargo's own.
            "--bench" => {}
            mode => modes.push(
                MODES
                    .into_iter()
                    .find(|known| *known == mode)
                    .expect("a mode"),
            ),
        }
    }
    if modes.is_empty() {
        modes = MODES[..2].to_vec();
    }
    for mode in modes {
        run(mode, if mode == "client" { tasks / 10 } else { tasks }).await;
    }
}

/// Hears how tasks ended; at most so many of them in 10 ms.
#[derive(Default)]
struct Client {
    most: Option<u32>,
    heard: u32,
    done: u64,
    refused: u64,
}

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, context: &mut Self::Context) {
        match status.outcome {
            Outcome::Refused(_) => self.refused += 1,
            _ => self.done += 1,
        }
        self.heard += 1;
        if Some(self.heard) == self.most {
            self.heard = 0;
            context.wait(tokio::time::sleep(Duration::from_millis(10)).into_actor(self));
        }
    }
}

/// Statuses of tasks, and of refusals.
#[derive(Message)]
#[rtype(result = "(u64, u64)")]
struct Heard;

impl Handler<Heard> for Client {
    type Result = MessageResult<Heard>;

    fn handle(&mut self, _: Heard, _: &mut Self::Context) -> Self::Result {
        MessageResult((self.done, self.refused))
    }
}

async fn run(mode: &str, tasks: u64) {
    let slow = mode == "client";
    let arbiter = Arbiter::new();
    let client = Client::start_in_arbiter(&arbiter.handle(), move |_| Client {
        most: slow.then_some(10),
        ..Client::default()
    });
    let scheduler = Scheduler::unnamed()
        .client(client.clone().recipient())
        .listen("127.0.0.1:0")
        .configure(|config| config.max_tasks = if slow { config.max_tasks } else { QUEUE })
        .start()
        .await
        .unwrap();
    let _node = Helper::spawn(&[scheduler.listen_addr().unwrap()], 0, 1, 64, None);
    let up = |stats: &Stats| stats.nodes.iter().any(|node| node.state == NodeState::Up);
    until(&scheduler, up).await;
    let (before, peak, silence) = (memory(), Cell::new(0), Cell::new(Duration::ZERO));
    let started = Instant::now();
    let work = async {
        match mode {
            "handle" => by_handle(&scheduler, tasks).await,
            "client" => by_batches(&scheduler, tasks).await,
            mode => by_do_send(&scheduler, tasks, mode == "bare").await,
        }
        let taken = started.elapsed();
        let done =
            |stats: &Stats| stats.pending + stats.running == 0 && stats.unconfirmed_statuses == 0;
        (taken, until(&scheduler, done).await)
    };
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            peak.set(memory().max(peak.get()));
            let stats = scheduler.stats().await.unwrap();
            let heard = stats.nodes[0].last_heard;
            let quiet = heard
                .and_then(|heard| heard.elapsed().ok())
                .unwrap_or_default();
            silence.set(quiet.max(silence.get()));
        }
    };
    let (taken, stats) = tokio::select! {
        done = work => done,
        () = watch => unreachable!("it never ends"),
    };
    let (done, refused) = client.send(Heard).await.unwrap();
    let totals = &stats.totals;
    println!(
        "{mode}: {tasks} tasks offered in {taken:.1?}, all settled and told after {:.1?}",
        started.elapsed()
    );
    println!(
        "  accepted {}, told {done}; refused {:?}, told {refused}, only counted {}",
        totals.executed, totals.refused, totals.refusals_not_told
    );
    println!(
        "  memory: {} MiB before, {} MiB at most",
        before >> 20,
        peak.get() >> 20
    );
    println!(
        "  the node was unheard for {:.1?} at most; {} tasks rerouted, {} stale reports",
        silence.get(),
        totals.rerouted,
        totals.stale_reports
    );
    assert_eq!(totals.executed, done);
    assert_eq!(
        totals.refusals_not_told + refused,
        if slow || mode == "handle" {
            0
        } else {
            totals.refusals()
        }
    );
    assert!(
        silence.get() < SILENCE,
        "the node was unheard for {:?}",
        silence.get()
    );
    assert_eq!(totals.rerouted, 0, "the node was lost to the load");
    let most = match mode {
        // Nothing bounds the mailbox.
        "bare" => u64::MAX,
        "client" => MEMORY_HELD,
        _ => MEMORY,
    };
    let more = peak.get().saturating_sub(before);
    assert!(more <= most, "it took {} MiB", more >> 20);
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    arbiter.stop();
}

/// Makes a task that takes a worker for a while, so that the queue is soon full.
fn task() -> Execute {
    Execute::named("wait", &1u64).unwrap()
}

async fn by_handle(scheduler: &Scheduler, tasks: u64) {
    let flow = async || {
        for _ in 0..tasks / FLOWS {
            // A refusal is counted by the scheduler.
            let _ = scheduler.execute(task()).await;
        }
    };
    futures_util::future::join_all((0..FLOWS).map(|_| flow())).await;
}

async fn by_do_send(scheduler: &Scheduler, tasks: u64, bare: bool) {
    for _ in 0..tasks / BATCH {
        for _ in 0..BATCH {
            scheduler.addr().do_send(task());
        }
        if bare {
            tokio::task::yield_now().await;
        } else {
            scheduler.stats().await.unwrap();
        }
    }
}

async fn by_batches(scheduler: &Scheduler, tasks: u64) {
    let mut left = tasks;
    while left > 0 {
        let batch = (0..left.min(BATCH)).map(|n| Execute::named("next", &n).unwrap());
        let answers = scheduler.execute_many(batch.collect()).await;
        let accepted = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        left -= accepted;
        if accepted == 0 {
            // The client is behind.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn until(scheduler: &Scheduler, holds: impl Fn(&Stats) -> bool) -> Stats {
    loop {
        let stats = scheduler.stats().await.unwrap();
        if holds(&stats) {
            return stats;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the memory that this process has, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("Linux tells it")
        << 10
}
