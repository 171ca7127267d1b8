//! Nodes that die, freeze, return or end in order, and what becomes of their tasks.

use std::time::{Duration, SystemTime};

use callboard::stats::{NodeState, Reason, Stats};
use callboard::status::TaskEventKind;
use callboard::{Cause, Execute, Outcome, Scheduler, TaskEvent};
use futures_util::FutureExt;

use crate::cluster::{
    LEASE, Listener, brisk, calls, endings, execute, find, finish, start, until, until_node,
};
use crate::processes::gate::Gate;
use crate::processes::{NodeProcess, Role};

/// Returns whether a node was not heard for so long.
fn silent(name: &str, long: Duration) -> impl Fn(&Stats) -> bool {
    move |stats| {
        let heard = find(stats, name).and_then(|node| node.last_heard);
        heard.is_some_and(|heard| heard.elapsed().is_ok_and(|silence| silence > long))
    }
}

#[actix::test]
async fn g3_a_killed_nodes_tasks_run_again_with_greater_numbers() {
    let mut dies = NodeProcess::spawn(&Role::new("dies", 3)).await;
    let (scheduler, mut client) = start("loss-numbers", [&dies]).await;
    let mut watcher = Listener::start();
    let gate = Gate::open().await;
    let tasks = calls(3, "gate", &gate.args());
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|task| task.watch(watcher.recipient()))
        .collect();
    execute(&scheduler, tasks).await;
    let first = gate.take(3).await;
    let lives = NodeProcess::spawn(&Role::new("lives", 3)).await;
    scheduler.add_node(lives.node()).await.unwrap();

    dies.kill();
    let second = gate.take(3).await;
    let highest = first.iter().map(|visit| visit.dispatch).max().unwrap();
    for visit in second {
        assert_eq!((&*visit.node, visit.attempt), ("lives", 1));
        assert!(
            visit.dispatch > highest,
            "{} is not above {highest}",
            visit.dispatch
        );
        visit.release().await;
    }
    let statuses = endings(&mut client, 3).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed() && status.reroutes == 1)
    );
    let told = watcher.take(9).await;
    let rerouted = |told: &TaskEvent| matches!(&told.event, TaskEventKind::Rerouted { node } if &**node == "dies");
    assert_eq!(
        told.iter().filter(|told| rerouted(told)).count(),
        3,
        "{told:?}"
    );
    assert_eq!(scheduler.stats().await.unwrap().totals.rerouted, 3);
    finish(scheduler).await;
}

#[actix::test]
async fn a_node_that_returns_at_the_same_address_is_used_again() {
    let mut node = NodeProcess::spawn(&Role::new("phoenix", 2)).await;
    let (scheduler, mut client) = start("loss-return", [&node]).await;
    let role = Role::new("phoenix", 2).listen(node.address());
    let before = until_node(&scheduler, "phoenix", NodeState::Up).await;
    node.kill();
    until_node(&scheduler, "phoenix", NodeState::Lost).await;
    execute(&scheduler, calls(10, "sleep", &1u64)).await;

    let again = NodeProcess::spawn(&role).await;
    let statuses = endings(&mut client, 10).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed())
    );
    let after = until_node(&scheduler, "phoenix", NodeState::Up).await;
    let incarnation = |stats| find(stats, "phoenix").unwrap().incarnation;
    assert_ne!(
        incarnation(&before),
        incarnation(&after),
        "it is another incarnation of the node"
    );
    drop(again);
    finish(scheduler).await;
}

#[actix::test]
async fn a_node_told_to_terminate_finishes_what_runs_and_nothing_runs_twice() {
    let scheduler_listens = Scheduler::builder("loss-terminate")
        .configure(brisk)
        .listen("127.0.0.1:0");
    let mut client = Listener::start();
    let scheduler = scheduler_listens
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let address = scheduler.listen_addr().unwrap();
    let mut ends = NodeProcess::spawn(&Role::new("ends", 4).join(address)).await;
    let gate = Gate::open().await;
    execute(&scheduler, calls(12, "gate", &gate.args())).await;
    let running = gate.take(4).await;

    ends.terminate();
    until_node(&scheduler, "ends", NodeState::Draining).await;
    let stays = NodeProcess::spawn(&Role::new("stays", 4).join(address)).await;
    for _ in 0..8 {
        let visit = gate.next().await;
        assert_eq!(visit.node, "stays", "a draining node took something new");
        visit.release().await;
    }
    for visit in running {
        visit.release().await;
    }
    let (status, gone) = ends.ended().await;
    assert!(status.success() && gone.is_some(), "{status} {gone:?}");
    let statuses = endings(&mut client, 12).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed() && status.reroutes == 0)
    );
    let on_ends = statuses
        .values()
        .filter(|status| status.node.as_deref() == Some("ends"));
    assert_eq!(on_ends.count(), 4);
    drop(stays);
    finish(scheduler).await;
}

#[actix::test]
async fn g9_a_node_frozen_for_less_than_its_lease_reruns_nothing() {
    let node = NodeProcess::spawn(&Role::new("naps", 4)).await;
    let other = NodeProcess::spawn(&Role::new("awake", 4)).await;
    let (scheduler, mut client) = start("loss-nap", [&node, &other]).await;
    let gate = Gate::open().await;
    execute(&scheduler, calls(8, "gate", &gate.args())).await;
    let visits = gate.take(8).await;

    node.freeze();
    until(
        &scheduler,
        "five heartbeats are missing",
        silent("naps", Duration::from_millis(500)),
    )
    .await;
    node.thaw();
    let awake = SystemTime::now();
    until(&scheduler, "it is heard again", |stats| {
        find(stats, "naps").unwrap().last_heard > Some(awake)
    })
    .await;
    for visit in visits {
        visit.release().await;
    }
    let statuses = endings(&mut client, 8).await;
    for status in statuses.values() {
        assert!(
            status.outcome.is_completed() && status.reroutes == 0 && status.attempts == 1,
            "{status:?}"
        );
    }
    let totals = scheduler.stats().await.unwrap().totals;
    assert_eq!((totals.rerouted, totals.stale_reports), (0, 0));
    finish(scheduler).await;
}

#[actix::test]
async fn g8_a_node_frozen_for_longer_loses_its_tasks_and_its_late_results_change_nothing() {
    let node = NodeProcess::spawn(&Role::new("sleeps", 3)).await;
    let (scheduler, mut client) = start("loss-sleep", [&node]).await;
    let gate = Gate::open().await;
    execute(&scheduler, calls(3, "gate", &gate.args())).await;
    let late = gate.take(3).await;
    let other = NodeProcess::spawn(&Role::new("wakes", 3)).await;
    scheduler.add_node(other.node()).await.unwrap();

    node.freeze();
    for visit in late {
        visit.release().await;
    }
    for _ in 0..3 {
        let visit = gate.next().await;
        assert_eq!(visit.node, "wakes");
        visit.release().await;
    }
    let statuses = endings(&mut client, 3).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed() && status.reroutes == 1)
    );
    assert_eq!(
        find(&scheduler.stats().await.unwrap(), "sleeps")
            .unwrap()
            .state,
        NodeState::Lost
    );

    node.thaw();
    let stats = until(&scheduler, "late results are counted", |stats| {
        stats.totals.stale_reports == 3
    })
    .await;
    assert_eq!(stats.totals.completed, 3);
    until_node(&scheduler, "sleeps", NodeState::Up).await;
    assert_eq!(client.left(), 0);
    finish(scheduler).await;
}

#[actix::test]
async fn g10_an_exclusive_task_of_a_dead_node_runs_again_elsewhere() {
    let mut node = NodeProcess::spawn(&Role::new("owner", 1)).await;
    let (scheduler, mut client) = start("loss-exclusive-dead", [&node]).await;
    let gate = Gate::open().await;
    let exclusive = Execute::named("gate", &gate.args()).unwrap().exclusive();
    let exclusive = scheduler.execute(exclusive).await.unwrap();
    let first = gate.next().await;
    let heir = NodeProcess::spawn(&Role::new("heir", 1)).await;
    scheduler.add_node(heir.node()).await.unwrap();

    node.kill();
    first.dropped().await;
    let visit = gate.next().await;
    assert_eq!((visit.task, &*visit.node), (exclusive.get(), "heir"));
    visit.release().await;
    assert!(client.next().await.outcome.is_completed());
    finish(scheduler).await;
}

#[actix::test]
async fn g10_an_exclusive_task_waits_out_the_lease_of_its_silent_node_which_drops_it() {
    let node = NodeProcess::spawn(&Role::new("owner", 2)).await;
    let (scheduler, mut client) = start("loss-exclusive", [&node]).await;
    let gate = Gate::open().await;
    let exclusive = Execute::named("gate", &gate.args()).unwrap().exclusive();
    let exclusive = scheduler.execute(exclusive).await.unwrap();
    let first = gate.next().await;
    execute(&scheduler, calls(1, "gate", &gate.args())).await;
    let plain = gate.next().await;
    let heir = NodeProcess::spawn(&Role::new("heir", 2)).await;
    scheduler.add_node(heir.node()).await.unwrap();

    node.freeze();
    let visits = gate.take(2).await;
    assert!(visits.iter().all(|visit| visit.node == "heir"));
    assert!(visits.iter().any(|visit| visit.task == exclusive.get()));
    let heard = find(&scheduler.stats().await.unwrap(), "owner")
        .unwrap()
        .last_heard
        .unwrap();
    let silence = heard.elapsed().unwrap();
    assert!(silence >= LEASE, "it ran again after {silence:?}");

    node.thaw();
    first.dropped().await;
    plain.dropped().await;
    for visit in visits {
        visit.release().await;
    }
    assert!(
        endings(&mut client, 2)
            .await
            .values()
            .all(|status| status.outcome.is_completed())
    );
    until_node(&scheduler, "owner", NodeState::Up).await;
    finish(scheduler).await;
}

#[actix::test]
async fn g10_an_exclusive_task_that_blocks_waits_for_the_end_of_its_run_which_counts() {
    let node = NodeProcess::spawn(&Role::new("owner", 1)).await;
    let (scheduler, mut client) = start("loss-exclusive-blocks", [&node]).await;
    let gate = Gate::open().await;
    let exclusive = Execute::named("gate.blocking", &gate.args())
        .unwrap()
        .exclusive();
    let exclusive = scheduler.execute(exclusive).await.unwrap();
    let first = gate.next().await;
    let heir = NodeProcess::spawn(&Role::new("heir", 1)).await;
    scheduler.add_node(heir.node()).await.unwrap();

    node.freeze();
    until_node(&scheduler, "owner", NodeState::Lost).await;
    let stats = until(
        &scheduler,
        "the lease is over",
        silent("owner", LEASE * 3 / 2),
    )
    .await;
    assert_eq!(
        (stats.held, stats.running, stats.pending),
        (1, 0, 0),
        "{stats:?}"
    );
    let explained = scheduler.explain(exclusive).await.unwrap().unwrap();
    assert!(
        matches!(&explained.reason, Reason::Exclusive { node } if &**node == "owner"),
        "{explained:?}"
    );

    node.thaw();
    first.release().await;
    // The handler could not be stopped, and nothing was begun beside it: its result counts.
    let status = client.next().await;
    assert!(
        status.id == exclusive && status.outcome.is_completed() && status.attempts == 1,
        "{status:?}"
    );
    assert!(
        gate.next().now_or_never().is_none(),
        "it runs again though it is done"
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g7_a_task_that_keeps_killing_its_nodes_fails_and_is_not_toured_round_the_cluster() {
    let nodes = NodeProcess::spawn_many("victim", 4, 2).await;
    let (scheduler, mut client) = start("loss-tour", &nodes).await;
    let killer = Execute::named("kill", &()).unwrap().max_reroutes(1);
    let killer = scheduler.execute(killer).await.unwrap();
    let status = client.next().await;
    assert_eq!(status.id, killer);
    let Outcome::Failed(failure) = &status.outcome else {
        panic!("{status:?}")
    };
    assert_eq!(failure.cause, Cause::NodeLost);
    assert_eq!(status.reroutes, 2);
    let stats = scheduler.stats().await.unwrap();
    let lost = stats
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Lost)
        .count();
    assert_eq!(lost, 2, "{stats:?}");
    // The rest of the cluster works.
    execute(&scheduler, calls(20, "sleep", &1u64)).await;
    assert!(
        endings(&mut client, 20)
            .await
            .values()
            .all(|status| status.outcome.is_completed())
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g7_a_task_that_kills_before_its_start_is_heard_escapes_the_count_once() {
    let nodes = NodeProcess::spawn_many("unheard", 5, 1).await;
    let (scheduler, mut client) = start("loss-unheard", &nodes).await;
    // Enough that is short before it that it is prefetched.
    let mut tasks = calls(2_000, "echo", &1u64);
    tasks.insert(1_000, Execute::named("kill", &()).unwrap().max_reroutes(0));
    let ids = execute(&scheduler, tasks).await;
    let statuses = endings(&mut client, 2_001).await;
    let Outcome::Failed(failure) = &statuses[&ids[1_000]].outcome else {
        panic!("{:?}", statuses[&ids[1_000]])
    };
    assert_eq!(failure.cause, Cause::NodeLost);
    let stats = scheduler.stats().await.unwrap();
    let lost = stats
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Lost)
        .count();
    assert!((1..=2).contains(&lost), "{stats:?}");
    assert_eq!(stats.totals.completed, 2_000);
    finish(scheduler).await;
}

#[actix::test]
async fn g7_handlers_that_block_every_thread_of_a_node_do_not_lose_it() {
    let node = NodeProcess::spawn(&Role::new("stalls", 4)).await;
    let (scheduler, mut client) = start("loss-stall", [&node]).await;
    let before = find(&scheduler.stats().await.unwrap(), "stalls")
        .unwrap()
        .incarnation;
    // Longer than the lease, on more threads than the node has.
    execute(&scheduler, calls(4, "stall", &2_500u64)).await;
    until(&scheduler, "the stall is noticed", |stats| {
        find(stats, "stalls").unwrap().taken > 0
    })
    .await;
    let statuses = endings(&mut client, 4).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed() && status.reroutes == 0)
    );
    let stats = until_node(&scheduler, "stalls", NodeState::Up).await;
    assert_eq!(find(&stats, "stalls").unwrap().incarnation, before);
    assert_eq!((stats.totals.rerouted, stats.totals.stale_reports), (0, 0));
    finish(scheduler).await;
}
