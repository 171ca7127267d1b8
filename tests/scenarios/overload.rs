//! More than can be taken: of tasks, of statuses, of outputs. `cargo bench --bench overload` does
//! it with millions.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::prelude::*;
use callboard::error::Refusal;
use callboard::stats::{NodeState, Reason, Stats};
use callboard::{Execute, Outcome, Scheduler, SchedulerConfig, TaskStatus};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::cluster::{Listener, brisk, calls, endings, execute, finish, until, until_node};
use crate::log::Log;
use crate::processes::proxy::{Proxy, Traffic};
use crate::processes::{NodeProcess, PATIENCE, Role};

const WORKERS: u32 = 4;

/// Checks that nothing was lost or silent, and nothing was run twice or in vain.
fn unharmed(log: &Log, stats: &Stats) {
    let mut told = log.lines(&stats.scheduler);
    // That no room is left for statuses is no harm, and told for itself.
    told.retain(|line| !line.contains("clients are behind"));
    assert!(told.is_empty(), "{told:?}");
    assert!(stats.nodes.iter().all(|node| node.state == NodeState::Up));
    assert_eq!((stats.totals.rerouted, stats.totals.stale_reports), (0, 0));
}

async fn start(
    name: &str,
    client: Recipient<TaskStatus>,
    node: &NodeProcess,
    set: impl FnOnce(&mut SchedulerConfig),
) -> Scheduler {
    let builder = Scheduler::builder(name).client(client).node(node.node());
    let builder = builder.configure(brisk).configure(set);
    builder.start().await.unwrap()
}

#[actix::test]
async fn g2_a_flood_through_the_handle_is_refused_and_harms_no_heartbeat() {
    const FLOWS: usize = 100;
    const EACH: usize = 2_000;
    const MOST: usize = 2_000;
    let log = Log::of_this_process();
    let node = NodeProcess::spawn(&Role::new("flooded", WORKERS)).await;
    let mut client = Listener::start();
    let scheduler = start("overload-handle", client.recipient(), &node, |config| {
        config.max_tasks = MOST;
    })
    .await;
    let flow = async || {
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..EACH {
            let task = Execute::named("sleep", &1u64).unwrap();
            match scheduler.execute(task).await {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert_eq!(error.refusal, Refusal::QueueFull { limit: MOST });
                    refused += 1;
                }
            }
        }
        let stats = scheduler.stats().await.unwrap();
        assert!(stats.pending + stats.running <= MOST, "{stats:?}");
        (accepted, refused)
    };
    let counts = futures_util::future::join_all((0..FLOWS).map(|_| flow())).await;
    let accepted: usize = counts.iter().map(|(accepted, _)| accepted).sum();
    let refused: u64 = counts.iter().map(|(_, refused)| refused).sum();
    assert!(refused > 0, "it was no flood");
    for status in endings(&mut client, accepted).await.values() {
        assert!(status.outcome.is_completed(), "{status:?}");
    }
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(stats.totals.executed, accepted as u64);
    assert_eq!(stats.totals.refused, [("queue full", refused)].into());
    unharmed(&log, &stats);
    assert_eq!(client.left(), 0);
    finish(scheduler).await;
}

#[actix::test]
async fn g2_a_flood_of_do_send_is_told_its_refusals_or_their_count() {
    const SENT: usize = 100_000;
    const BATCH: usize = 500;
    const MOST: usize = 2_000;
    let log = Log::of_this_process();
    let node = NodeProcess::spawn(&Role::new("flooded", WORKERS)).await;
    let mut client = Listener::start();
    let scheduler = start("overload-do-send", client.recipient(), &node, |config| {
        config.max_tasks = MOST;
        config.max_statuses = 1_000;
    })
    .await;
    for _ in 0..SENT / BATCH {
        for task in calls(BATCH, "sleep", &1u64) {
            scheduler.addr().do_send(task);
        }
        // Yields until all that it sent has been taken.
        scheduler.stats().await.unwrap();
    }
    let stats = until(&scheduler, "all is settled and told", |stats| {
        stats.pending + stats.running == 0 && stats.unconfirmed_statuses == 0
    })
    .await;
    let totals = &stats.totals;
    let refused = totals.refusals();
    assert_eq!(totals.executed + refused, SENT as u64);
    let (mut done, mut told) = (BTreeSet::new(), BTreeSet::new());
    while client.left() > 0 {
        let status = client.next().await;
        let fresh = match &status.outcome {
            Outcome::Completed(_) => done.insert(status.id),
            Outcome::Refused(Refusal::QueueFull { .. } | Refusal::ClientBehind { .. }) => {
                told.insert(status.id)
            }
            other => panic!("{other}"),
        };
        assert!(fresh, "told twice: {status:?}");
    }
    assert_eq!(done.len() as u64, totals.executed);
    assert!(told.is_disjoint(&done) && !told.is_empty());
    assert_eq!(told.len() as u64 + totals.refusals_not_told, refused);
    assert!(totals.refused["queue full"] > 0, "{totals:?}");
    unharmed(&log, &stats);
    finish(scheduler).await;
}

/// A client that hears one status for each permit.
struct Slow {
    permits: Arc<Semaphore>,
    heard: UnboundedSender<TaskStatus>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Slow {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, context: &mut Self::Context) {
        // A test that has heard enough has dropped the other side.
        let _ = self.heard.send(status);
        let permits = Arc::clone(&self.permits);
        let waiting = async move { permits.acquire().await.unwrap().forget() };
        context.wait(waiting.into_actor(self));
    }
}

impl Slow {
    fn start_one() -> (
        Recipient<TaskStatus>,
        Arc<Semaphore>,
        UnboundedReceiver<TaskStatus>,
    ) {
        let permits = Arc::new(Semaphore::new(0));
        let (heard, statuses) = unbounded_channel();
        let client = Self {
            permits: Arc::clone(&permits),
            heard,
        };
        (client.start().recipient(), permits, statuses)
    }
}

/// Settles tasks until so much waits for the client; then nothing is placed or accepted until it
/// has caught up, and all of them are told once.
async fn waits_for_its_client(
    name: &str,
    task: Execute,
    set: impl FnOnce(&mut SchedulerConfig),
    full: Refusal,
    within: impl Fn(&Stats) -> bool,
) {
    const TASKS: usize = 2_000;
    let log = Log::of_this_process();
    let node = NodeProcess::spawn(&Role::new("patient", WORKERS)).await;
    let (client, permits, mut heard) = Slow::start_one();
    let scheduler = start(name, client, &node, |config| {
        config.status_window = 8;
        config.max_prefetch = 8;
        set(config);
    })
    .await;
    let ids = execute(&scheduler, vec![task.clone(); TASKS]).await;
    let stats = until(&scheduler, "the client is behind", |stats| {
        stats.nodes[0].running + stats.nodes[0].prefetched == 0
    })
    .await;
    assert!(stats.pending > 0 && within(&stats), "{stats:?}");
    let error = scheduler.execute(task.clone()).await.unwrap_err();
    assert_eq!(error.refusal, full);
    scheduler.addr().do_send(task);
    let last = *ids.last().unwrap();
    let explained = scheduler.explain(last).await.unwrap().unwrap();
    assert_eq!(explained.reason, Reason::ClientBehind);

    let mut told = BTreeSet::new();
    for _ in 0..TASKS {
        let status = timeout(PATIENCE, heard.recv()).await;
        let status = status.expect("the client hears no more").unwrap();
        assert!(status.outcome.is_completed(), "{status:?}");
        assert!(told.insert(status.id), "told twice: {status:?}");
        if told.len() % 100 == 0 {
            let stats = scheduler.stats().await.unwrap();
            assert!(within(&stats), "{stats:?}");
        }
        permits.add_permits(1);
    }
    assert!(ids.iter().eq(&told));
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(stats.totals.refused, [(full.cause(), 2)].into());
    assert_eq!(stats.totals.refusals_not_told, 1);
    let warned = log.lines(&stats.scheduler);
    assert_eq!(warned.len(), 1, "{warned:?}");
    unharmed(&log, &stats);
    finish(scheduler).await;
}

/// Tasks that may be placed beyond a bound: those that run and those prefetched.
const PLACED: usize = WORKERS as usize + 8;

#[actix::test]
async fn g1_at_the_bound_of_statuses_nothing_new_is_placed_or_accepted() {
    const MOST: usize = 200;
    waits_for_its_client(
        "overload-client",
        Execute::named("echo", &1u64).unwrap(),
        |config| config.max_statuses = MOST,
        Refusal::ClientBehind { limit: MOST },
        |stats| stats.unconfirmed_statuses <= MOST + PLACED,
    )
    .await;
}

#[actix::test]
async fn g1_at_the_bound_of_their_bytes_nothing_new_is_placed_or_accepted() {
    const MOST: u64 = 1 << 20;
    const OUTPUT: usize = 32 << 10;
    waits_for_its_client(
        "overload-bytes",
        Execute::named("bulk", &OUTPUT).unwrap(),
        |config| config.max_status_bytes = MOST,
        Refusal::StatusBytesFull { limit: MOST },
        |stats| stats.unconfirmed_bytes <= MOST + (PLACED * (OUTPUT + 16)) as u64,
    )
    .await;
}

#[actix::test]
async fn g9_a_node_whose_outputs_are_more_than_its_link_carries_starts_nothing_new_meanwhile() {
    const TASKS: usize = 80;
    const OUTPUT: usize = 1 << 20;
    const KEPT: u64 = 4 << 20;
    let log = Log::of_this_process();
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("overload-outputs")
        .client(client.recipient())
        .configure(brisk)
        .listen("127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let link = Proxy::to(scheduler.listen_addr().unwrap()).await.unwrap();
    let role = Role::new("prolific", WORKERS).join(link.address());
    let node = NodeProcess::spawn(&role.kept(KEPT)).await;
    until_node(&scheduler, "prolific", NodeState::Up).await;
    let before = node.memory_peak();
    link.set(Traffic {
        rate: Some(32 << 20),
        ..Traffic::FREE
    });
    execute(&scheduler, calls(TASKS, "bulk", &OUTPUT)).await;
    for status in endings(&mut client, TASKS).await.values() {
        assert!(
            status.outcome.is_completed() && status.reroutes == 0,
            "{status:?}"
        );
    }
    // They are made much faster than they are carried: had more been started, they would lie there.
    if let (Some(before), Some(after)) = (before, node.memory_peak()) {
        let grown = (after - before) >> 20;
        assert!(
            grown < TASKS as u64 / 2,
            "the node has grown by {grown} MiB"
        );
    }
    let stats = scheduler.stats().await.unwrap();
    let told = log.lines(&stats.scheduler);
    assert!(told.is_empty(), "{told:?}");
    finish(scheduler).await;
}
