//! Which task runs where and when: labels, priorities, delays, and why one waits.

use std::time::Duration;

use callboard::stats::Reason;
use callboard::status::TaskEventKind;
use callboard::{Execute, Node, Priority, Scheduler, TaskEvent, TaskStatus};

use crate::cluster::{Listener, calls, endings, execute, finish, until};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;

/// Starts a scheduler with one worker, which waits at the gate, and its client.
async fn one_busy_worker(name: &str, gate: &Gate) -> (Scheduler, Listener<TaskStatus>) {
    let client = Listener::start();
    let scheduler = Scheduler::builder(name)
        .node(Node::local("here", handlers()).max_workers(1).threads(1))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    execute(&scheduler, calls(1, "gate", &gate.args())).await;
    (scheduler, client)
}

#[actix::test]
async fn g6_one_worker_takes_the_higher_priority_first_and_equals_in_their_order() {
    let gate = Gate::open().await;
    let (scheduler, mut client) = one_busy_worker("placing-priority", &gate).await;
    let first = gate.next().await;
    let priorities = [0, -64, 5, 64, 0, 5, -64, 64, 127, -128].map(Priority);
    let mut expected = Vec::new();
    // One by one, so that the low ones may have been prefetched when the high ones come.
    for priority in priorities {
        let task = Execute::named("gate", &gate.args())
            .unwrap()
            .priority(priority);
        let id = scheduler.execute(task).await.unwrap();
        expected.push((std::cmp::Reverse(priority), id.get()));
    }
    expected.sort();
    first.release().await;
    for (priority, id) in expected {
        let visit = gate.next().await;
        assert_eq!(visit.task, id, "not the turn of priority {:?}", priority.0);
        visit.release().await;
    }
    endings(&mut client, 11).await;
    finish(scheduler).await;
}

#[actix::test]
async fn a_delayed_task_holds_no_worker_and_runs_when_it_is_due() {
    let gate = Gate::open().await;
    let (scheduler, mut client) = one_busy_worker("placing-delay", &gate).await;
    gate.next().await.release().await;
    client.next().await;
    let delay = Duration::from_millis(300);
    let later = Execute::named("echo", &1u64).unwrap().delay(delay);
    let later = scheduler.execute(later).await.unwrap();
    let at = std::time::SystemTime::now() + delay * 2;
    let last = scheduler
        .execute(Execute::named("echo", &2u64).unwrap().run_at(at))
        .await
        .unwrap();
    let stats = scheduler.stats().await.unwrap();
    assert_eq!((stats.due_later, stats.pending, stats.running), (2, 0, 0));
    let explained = scheduler.explain(later).await.unwrap().unwrap();
    assert!(
        matches!(explained.reason, Reason::NotDue { remaining } if remaining <= delay),
        "{explained:?}"
    );
    let now = scheduler
        .execute(Execute::named("echo", &3u64).unwrap())
        .await
        .unwrap();

    let statuses = client.take(3).await;
    assert_eq!(
        statuses.iter().map(|status| status.id).collect::<Vec<_>>(),
        [now, later, last]
    );
    let waited = |status: &TaskStatus| {
        status
            .started_at
            .unwrap()
            .duration_since(status.accepted_at)
            .unwrap()
    };
    assert!(waited(&statuses[1]) >= delay, "{:?}", waited(&statuses[1]));
    assert!(statuses[2].started_at.unwrap() >= at - Duration::from_millis(20));
    finish(scheduler).await;
}

#[actix::test]
async fn g13_a_task_that_no_node_can_run_is_told_with_reasons_and_runs_when_one_can() {
    let mut client = Listener::start();
    let mut watcher = Listener::start();
    let scheduler = Scheduler::builder("placing-labels")
        .node(Node::local("plain", handlers()).max_workers(2).threads(1))
        .node(
            Node::local("north", handlers())
                .max_workers(2)
                .threads(1)
                .labels(["zone=north"]),
        )
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let task = Execute::named("sleep", &1u64)
        .unwrap()
        .labels(["gpu", "zone=north"]);
    let task = scheduler
        .execute(task.watch(watcher.recipient()))
        .await
        .unwrap();
    let TaskEvent {
        id,
        event: TaskEventKind::Unschedulable { reason },
        ..
    } = watcher.next().await
    else {
        panic!()
    };
    assert!(id == task && reason.contains("gpu"), "{reason}");
    let explained = scheduler.explain(task).await.unwrap().unwrap();
    assert_eq!(explained.reason, Reason::NoSuchNode);
    let names: Vec<_> = explained.nodes.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["north", "plain"]);
    assert!(
        explained.nodes.iter().all(|(_, why)| why.contains("gpu")),
        "{explained:?}"
    );
    // What can run is not held up by it.
    execute(&scheduler, calls(10, "sleep", &1u64)).await;
    endings(&mut client, 10).await;

    let able = Node::local("able", handlers())
        .max_workers(1)
        .threads(1)
        .labels(["gpu", "zone=north", "more"]);
    scheduler.add_node(able).await.unwrap();
    let status = client.next().await;
    assert_eq!((status.id, status.node.as_deref()), (task, Some("able")));
    assert!(
        matches!(watcher.next().await.event, TaskEventKind::Running { node, attempt: 1, .. } if &*node == "able")
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g13_a_kind_that_no_node_offers_is_told_and_asked_for() {
    let scheduler = Scheduler::builder("placing-kinds")
        .node(Node::local("here", handlers()).max_workers(1).threads(1))
        .start()
        .await
        .unwrap();
    let mut watcher = Listener::start();
    let task = Execute::named("no.such.kind", &())
        .unwrap()
        .watch(watcher.recipient());
    let task = scheduler.execute(task).await.unwrap();
    let told = watcher.next().await;
    assert!(
        matches!(&told.event, TaskEventKind::Unschedulable { reason } if reason.contains("no.such.kind")),
        "{told:?}"
    );
    assert_eq!(
        scheduler.cancel(task).await,
        Ok(callboard::CancelAnswer::NeverStarted)
    );
    assert_eq!(scheduler.explain(task).await, Ok(None));
    let client = &mut Listener::start();
    scheduler.set_client(client.recipient()).await.unwrap();
    client.next().await;
    finish(scheduler).await;
}

#[actix::test]
async fn explain_says_what_a_task_waits_for_at_each_stage() {
    let gate = Gate::open().await;
    let (scheduler, mut client) = one_busy_worker("placing-explain", &gate).await;
    let visit = gate.next().await;
    let running = callboard::TaskId::new(visit.task);
    let stats = until(&scheduler, "one runs", |stats| stats.running == 1).await;
    assert_eq!(stats.pending, 0);
    let explain = async |id| scheduler.explain(id).await.unwrap().unwrap();
    let Reason::Running { node, dispatch } = explain(running).await.reason else {
        panic!()
    };
    assert_eq!((&*node, dispatch.get()), ("here", visit.dispatch));
    // An exclusive task is never prefetched, so it waits here.
    let waits = Execute::named("sleep", &1u64).unwrap().exclusive();
    let waits = scheduler.execute(waits).await.unwrap();
    assert_eq!(explain(waits).await.reason, Reason::NoFreeWorker);
    let prefetched = scheduler
        .execute(Execute::named("sleep", &1u64).unwrap())
        .await
        .unwrap();
    let reason = explain(prefetched).await.reason;
    assert!(
        matches!(&reason, Reason::Prefetched { node } if &**node == "here")
            || reason == Reason::NoFreeWorker,
        "{reason:?}"
    );
    visit.release().await;
    endings(&mut client, 3).await;

    let fails = Execute::named("fail", &()).unwrap();
    let fails = fails.retry(callboard::RetryPolicy::fixed(Duration::from_secs(600)));
    let fails = scheduler.execute(fails).await.unwrap();
    until(&scheduler, "it waits to be tried again", |stats| {
        stats.waiting_retries == 1
    })
    .await;
    let explained = explain(fails).await;
    assert!(
        matches!(explained.reason, Reason::Backoff { .. }),
        "{explained:?}"
    );
    assert_eq!(explained.attempts, 1);
    let failure = explained.last_failure.unwrap();
    assert!(failure.ends_with("attempt 1 failed"), "{failure}");
    assert_eq!(
        scheduler.cancel(fails).await,
        Ok(callboard::CancelAnswer::Stopped)
    );
    client.next().await;
    finish(scheduler).await;
}
