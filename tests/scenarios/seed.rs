//! The nine scenarios that every application begins with: nodes come, die and return, clients too.

use std::collections::BTreeMap;
use std::time::Duration;

use callboard::stats::{NodeState, TaskState};
use callboard::{
    Cause, ClientGone, Execute, Node, Outcome, RetryPolicy, Scheduler, Shutdown, TaskStatus,
};

use crate::cluster::{Listener, calls, endings, execute, finish, nodes_of, until};
use crate::processes::gate::Gate;
use crate::processes::handlers::{Seen, handlers};
use crate::processes::{NodeProcess, PATIENCE};

#[actix::test]
async fn g5_every_worker_of_every_node_is_used_and_stats_say_so() {
    let nodes = NodeProcess::spawn_many("nodes", 3, 10).await;
    let mut client = Listener::start();
    let mut builder = Scheduler::builder("seed-all-nodes")
        .node(Node::local("here", handlers()).max_workers(10))
        .client(client.recipient());
    for nodes in &nodes {
        builder = builder.node(nodes.node());
    }
    let scheduler = builder.start().await.unwrap();
    let gate = Gate::open().await;

    let ids = execute(&scheduler, calls(40, "gate", &gate.args())).await;
    let visits = gate.take(40).await;
    let stats = until(&scheduler, "all run", |stats| stats.running == 40).await;
    assert_eq!(stats.nodes.len(), 4);
    for node in &stats.nodes {
        assert_eq!(
            (node.state, node.workers, node.running),
            (NodeState::Up, 10, 10),
            "{node:?}"
        );
    }
    for visit in visits {
        visit.release().await;
    }

    let statuses = endings(&mut client, 40).await;
    assert!(ids.iter().eq(statuses.keys()));
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed() && status.attempts == 1)
    );
    let stats = scheduler.stats().await.unwrap();
    assert_eq!((stats.pending, stats.running), (0, 0));
    assert_eq!((stats.totals.executed, stats.totals.completed), (40, 40));
    assert!(
        stats.nodes.iter().all(|node| node.settled == 10),
        "{stats:?}"
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g4_five_thousand_tasks_on_ten_nodes_never_take_more_than_the_workers() {
    let nodes = NodeProcess::spawn_many("ten", 10, 7).await;
    let mut client = Listener::start();
    let mut builder = Scheduler::builder("seed-five-thousand").client(client.recipient());
    for node in &nodes {
        builder = builder.node(node.node());
    }
    let scheduler = builder.start().await.unwrap();

    execute(&scheduler, calls(5_000, "count", &2u64)).await;
    let mut most = 0;
    let mut done = 0;
    let mut statuses: Vec<TaskStatus> = Vec::new();
    while done < 5_000 {
        let stats = scheduler.stats().await.unwrap();
        for node in &stats.nodes {
            assert!(node.running <= node.workers, "{node:?}");
            most = most.max(node.running);
        }
        statuses.push(client.next().await);
        let more = client.left();
        statuses.extend(client.take(more).await);
        done = statuses.len();
    }

    assert_eq!(most, 7, "stats never showed a full node");
    let mut at_once = BTreeMap::new();
    for status in &statuses {
        let seen: Seen = status.output().unwrap();
        let peak = at_once.entry(seen.node).or_insert(0);
        *peak = seen.at_once.max(*peak);
    }
    assert_eq!(at_once.len(), 10, "{at_once:?}");
    assert!(at_once.values().all(|&peak| peak == 7), "{at_once:?}");
    let ids: std::collections::BTreeSet<_> = statuses.iter().map(|status| status.id).collect();
    assert_eq!(ids.len(), 5_000);
    finish(scheduler).await;
}

#[actix::test]
async fn g1_a_hundred_tasks_that_fail_ten_times_have_a_hundred_endings() {
    let nodes = NodeProcess::spawn_many("failing", 2, 10).await;
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("seed-ten-failures")
        .node(nodes[0].node())
        .node(nodes[1].node())
        .retry(RetryPolicy::fixed(Duration::from_millis(1)).max_attempts(10))
        .client(client.recipient())
        .start()
        .await
        .unwrap();

    execute(&scheduler, calls(100, "fail", &())).await;
    for status in endings(&mut client, 100).await.into_values() {
        let Outcome::Failed(failure) = &status.outcome else {
            panic!("{status:?}")
        };
        assert_eq!((failure.cause, status.attempts), (Cause::Error, 10));
        assert_eq!(failure.message, "attempt 10 failed");
    }
    let totals = scheduler.stats().await.unwrap().totals;
    assert_eq!((totals.retried, totals.failed[&Cause::Error]), (900, 100));
    assert_eq!(client.left(), 0);
    finish(scheduler).await;
}

#[actix::test]
async fn g8_with_all_nodes_dead_the_tasks_wait_for_new_nodes_and_are_done_there() {
    let mut old = NodeProcess::spawn_many("old", 2, 5).await;
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("seed-all-down")
        .node(old[0].node())
        .node(old[1].node())
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    execute(&scheduler, calls(100, "gate", &gate.args())).await;
    let first = gate.take(10).await;

    for node in &mut old {
        node.kill();
    }
    for visit in first {
        visit.dropped().await;
    }
    // The lease would hold for 15 s: it is the refused dial that tells.
    let stats = until(&scheduler, "all wait", |stats| stats.pending == 100).await;
    assert!(
        stats.nodes.iter().all(|node| node.state == NodeState::Lost),
        "{stats:?}"
    );

    let new = NodeProcess::spawn_many("new", 2, 5).await;
    for node in &new {
        scheduler.add_node(node.node()).await.unwrap();
    }
    for _ in 0..100 {
        gate.next().await.release().await;
    }
    let statuses = endings(&mut client, 100).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed())
    );
    assert_eq!(
        nodes_of(statuses.values()),
        ["new0", "new1"].map(str::to_owned).into()
    );
    assert_eq!(
        statuses
            .values()
            .filter(|status| status.reroutes == 1)
            .count(),
        10
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g8_a_task_that_kills_its_node_is_done_on_another() {
    let mut nodes = NodeProcess::spawn_many("mortal", 3, 4).await;
    let mut client = Listener::start();
    let mut builder = Scheduler::builder("seed-killer").client(client.recipient());
    for node in &nodes {
        builder = builder.node(node.node());
    }
    let scheduler = builder.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();

    let mut tasks = calls(99, "sleep", &2u64);
    tasks.insert(
        50,
        Execute::named("kill.once", &folder.path().join("killed")).unwrap(),
    );
    let ids = execute(&scheduler, tasks).await;
    let statuses = endings(&mut client, 100).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome.is_completed()),
        "{statuses:?}"
    );
    let killer = &statuses[&ids[50]];
    // A task that was prefetched may start, and kill, before its start is heard.
    assert!(killer.reroutes <= 1 && killer.attempts == 1, "{killer:?}");

    let stats = scheduler.stats().await.unwrap();
    let lost: Vec<_> = stats
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Lost)
        .collect();
    assert_eq!(lost.len(), 1, "{stats:?}");
    let dead = nodes
        .iter_mut()
        .find(|node| node.name() == &*lost[0].name)
        .unwrap();
    assert_eq!(dead.died().await, Some(9));
    finish(scheduler).await;
}

#[actix::test]
async fn unfinished_lists_all_that_runs_and_waits_and_so_does_shutdown() {
    let node = NodeProcess::spawn_many("busy", 1, 10).await.remove(0);
    let scheduler = Scheduler::builder("seed-unfinished")
        .node(node.node())
        // Longer than the test's patience: what ends the runs below is the scheduler's goodbye.
        .configure(|config| config.lease = PATIENCE * 3)
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let tasks = calls(100, "gate", &gate.args());
    let args = tasks[0].args().clone();
    let ids = execute(&scheduler, tasks).await;
    let visits = gate.take(10).await;
    until(&scheduler, "ten run", |stats| stats.running == 10).await;

    let unfinished = scheduler.unfinished().await.unwrap();
    assert!(
        ids.iter().eq(unfinished.iter().map(|task| &task.id)),
        "{unfinished:?}"
    );
    assert!(
        unfinished
            .iter()
            .all(|task| task.kind.as_str() == "gate" && task.args == args)
    );
    let running: Vec<_> = unfinished
        .iter()
        .filter_map(|task| match &task.state {
            TaskState::Running { node, dispatch } => {
                Some((task.id.get(), node.to_string(), dispatch.get()))
            }
            _ => None,
        })
        .collect();
    let mut at_gate: Vec<_> = visits
        .iter()
        .map(|visit| (visit.task, visit.node.clone(), visit.dispatch))
        .collect();
    at_gate.sort();
    assert_eq!(running, at_gate);

    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert!(ids.iter().eq(left.unfinished.iter().map(|task| &task.id)));
    for visit in visits {
        // A node that is told that its scheduler goes has nobody to work for.
        visit.dropped().await;
    }
}

#[actix::test]
async fn a_permanent_failure_is_not_retried_and_all_nodes_are_used() {
    let nodes = NodeProcess::spawn_many("permanent", 4, 5).await;
    let mut client = Listener::start();
    let mut builder = Scheduler::builder("seed-permanent").client(client.recipient());
    for node in &nodes {
        builder = builder.node(node.node());
    }
    let scheduler = builder.start().await.unwrap();

    execute(&scheduler, calls(200, "fail.permanently", &())).await;
    let statuses = endings(&mut client, 200).await;
    for status in statuses.values() {
        let Outcome::Failed(failure) = &status.outcome else {
            panic!("{status:?}")
        };
        assert_eq!((failure.cause, status.attempts), (Cause::Permanent, 1));
        assert_eq!(Some(failure.message.as_str()), status.node.as_deref());
    }
    assert_eq!(nodes_of(statuses.values()).len(), 4);
    assert_eq!(scheduler.stats().await.unwrap().totals.retried, 0);
    finish(scheduler).await;
}

#[actix::test]
async fn g1_statuses_are_held_for_the_next_client_when_the_first_is_gone() {
    let node = NodeProcess::spawn_many("held", 1, 10).await.remove(0);
    let mut first = Listener::start();
    let scheduler = Scheduler::builder("seed-client-gone-hold")
        .node(node.node())
        .client(first.recipient())
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let ids = execute(&scheduler, calls(30, "gate", &gate.args())).await;
    gate.next().await.release().await;
    let told = first.next().await;
    until(&scheduler, "the first is confirmed", |stats| {
        stats.totals.completed == 1 && stats.unconfirmed_statuses == 0
    })
    .await;

    assert!(first.die().await.is_empty());
    for _ in 0..29 {
        gate.next().await.release().await;
    }
    until(&scheduler, "all done", |stats| {
        stats.unconfirmed_statuses == 29
    })
    .await;
    let mut second = Listener::start();
    scheduler.set_client(second.recipient()).await.unwrap();
    let statuses = endings(&mut second, 29).await;
    assert!(!statuses.contains_key(&told.id));
    assert!(
        ids.iter()
            .all(|id| *id == told.id || statuses.contains_key(id))
    );
    finish(scheduler).await;
}

#[actix::test]
async fn a_scheduler_may_be_told_to_stop_when_its_client_is_gone() {
    let node = NodeProcess::spawn_many("stopped", 1, 2).await.remove(0);
    let client = Listener::<TaskStatus>::start();
    let name = "seed-client-gone-stop";
    let scheduler = Scheduler::builder(name)
        .node(node.node())
        .client(client.recipient())
        .on_client_gone(ClientGone::Stop)
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    execute(&scheduler, calls(4, "gate", &gate.args())).await;
    let visits = gate.take(2).await;

    client.die().await;
    for visit in visits {
        visit.dropped().await;
    }
    let ended = async {
        // The name is free a moment after the last answer.
        while scheduler.stats().await.is_ok() || Scheduler::find(name).is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("it goes on");
}

#[actix::test]
async fn unnamed_schedulers_live_beside_each_other() {
    let mut client = Listener::start();
    let start = async |name: &str| {
        Scheduler::unnamed()
            .node(Node::local(name, handlers()).max_workers(2))
            .client(client.recipient())
            .start()
            .await
            .unwrap()
    };
    let (one, other) = (start("one").await, start("other").await);
    for scheduler in [&one, &other] {
        execute(scheduler, calls(5, "sleep", &1u64)).await;
    }
    let statuses = client.take(10).await;
    let on = |node: &str| {
        statuses
            .iter()
            .filter(|status| status.node.as_deref() == Some(node))
            .count()
    };
    assert_eq!((on("one"), on("other")), (5, 5));
    assert_ne!(one.name(), other.name());
    finish(one).await;
    finish(other).await;
}
