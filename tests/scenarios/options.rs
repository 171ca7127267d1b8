//! What may be asked for one task, and its cancel.

use std::time::Duration;

use callboard::error::Refusal;
use callboard::status::TaskEventKind;
use callboard::{
    CancelAnswer, Cause, Execute, Node, Outcome, RetryPolicy, Scheduler, TaskId, TaskStatus,
};

use crate::cluster::{Listener, calls, endings, execute, find, finish, until};
use crate::processes::gate::{Gate, Visit};
use crate::processes::handlers::handlers;

/// Starts a scheduler with so many workers in this process, and its client.
async fn start(name: &str, workers: u32) -> (Scheduler, Listener<TaskStatus>) {
    let client = Listener::start();
    let scheduler = Scheduler::builder(name)
        .node(
            Node::local("here", handlers())
                .max_workers(workers)
                .threads(1),
        )
        .client(client.recipient())
        .retry(RetryPolicy::fixed(Duration::from_millis(1)))
        .start()
        .await
        .unwrap();
    (scheduler, client)
}

fn cause(status: &TaskStatus) -> Cause {
    match &status.outcome {
        Outcome::Failed(failure) => failure.cause,
        other => panic!("{} did not fail: {other}", status.id),
    }
}

async fn running(scheduler: &Scheduler, gate: &Gate, kind: &str) -> (TaskId, Visit) {
    let id = execute(scheduler, calls(1, kind, &gate.args())).await[0];
    (id, gate.next().await)
}

#[actix::test]
async fn a_key_joins_the_same_task_and_conflicts_with_another_until_its_run_has_ended() {
    let (scheduler, mut client) = start("option-key", 2).await;
    let gate = Gate::open().await;
    let task = |key: &str| Execute::named("gate", &gate.args()).unwrap().key(key);
    let first = scheduler.execute(task("k")).await.unwrap();
    let visit = gate.next().await;
    assert_eq!(scheduler.execute(task("k")).await.unwrap(), first);
    let others = [
        Execute::named("gate", &1u64),
        Execute::named("echo", &gate.args()),
    ];
    for other in others {
        let error = scheduler
            .execute(other.unwrap().key("k"))
            .await
            .unwrap_err();
        assert!(
            matches!(&error.refusal, Refusal::KeyConflict { id, .. } if *id == first),
            "{error}"
        );
        assert!(!error.refusal.is_temporary());
    }
    visit.release().await;
    let status = client.next().await;
    assert_eq!(
        (status.id, status.key.as_ref().map(|key| key.as_str())),
        (first, Some("k"))
    );

    let second = scheduler.execute(task("k")).await.unwrap();
    assert_ne!(second, first, "its run has ended, so it is a new task");
    gate.next().await.release().await;
    assert_eq!(client.next().await.id, second);
    let totals = scheduler.stats().await.unwrap().totals;
    assert_eq!((totals.executed, totals.joined), (2, 1));
    assert_eq!(totals.refused, [("key conflict", 2)].into());
    assert_eq!(client.left(), 0);
    finish(scheduler).await;
}

#[actix::test]
async fn a_key_is_busy_while_a_run_of_its_settled_task_goes_on() {
    let (scheduler, mut client) = start("option-key-busy", 1).await;
    let gate = Gate::open().await;
    let task = || {
        Execute::named("gate.blocking", &gate.args())
            .unwrap()
            .key("k")
    };
    let first = task()
        .timeout(Duration::from_millis(50))
        .retry(RetryPolicy::none());
    let first = scheduler.execute(first).await.unwrap();
    let visit = gate.next().await;
    assert_eq!(cause(&client.next().await), Cause::Timeout);
    let error = scheduler.execute(task()).await.unwrap_err();
    assert!(
        matches!(&error.refusal, Refusal::KeyBusy { id, .. } if *id == first),
        "{error}"
    );
    assert!(error.refusal.is_temporary());
    visit.release().await;
    until(&scheduler, "the worker is free", |stats| {
        find(stats, "here").unwrap().taken == 0
    })
    .await;
    scheduler.execute(*error.execute).await.unwrap();
    gate.next().await.release().await;
    assert!(client.next().await.outcome.is_completed());
    finish(scheduler).await;
}

#[actix::test]
async fn g12_a_deadline_settles_a_pending_and_a_running_task_at_once() {
    let (scheduler, mut client) = start("option-deadline", 1).await;
    let gate = Gate::open().await;
    // The one that waits comes to its end long before the worker is free, however slow the machine
    // is.
    let (late, soon) = (Duration::from_secs(2), Duration::from_millis(50));
    let task = |deadline| {
        Execute::named("gate", &gate.args())
            .unwrap()
            .deadline(deadline)
    };
    let runs = scheduler.execute(task(late)).await.unwrap();
    let visit = gate.next().await;
    let waits = scheduler.execute(task(soon)).await.unwrap();
    let statuses = endings(&mut client, 2).await;
    assert_eq!(statuses[&waits].attempts, 0);
    for (id, deadline) in [(runs, late), (waits, soon)] {
        let status = &statuses[&id];
        assert_eq!(cause(status), Cause::Deadline);
        let took = status
            .settled_at
            .duration_since(status.accepted_at)
            .unwrap();
        assert!(took >= deadline, "{took:?}");
    }
    visit.dropped().await;
    // Its worker is free again.
    assert!(
        scheduler
            .execute_and_wait(Execute::named("echo", &1u64).unwrap())
            .await
            .unwrap()
            .outcome
            .is_completed()
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g4_a_blocking_task_keeps_its_worker_after_its_deadline() {
    let (scheduler, mut client) = start("option-deadline-blocking", 1).await;
    let gate = Gate::open().await;
    let task = Execute::named("gate.blocking", &gate.args()).unwrap();
    let id = scheduler
        .execute(task.deadline(Duration::from_millis(100)))
        .await
        .unwrap();
    let visit = gate.next().await;
    let status = client.next().await;
    assert_eq!((status.id, cause(&status)), (id, Cause::Deadline));
    let waits = scheduler
        .execute(Execute::named("echo", &1u64).unwrap())
        .await
        .unwrap();
    let stats = until(&scheduler, "it is taken", |stats| {
        find(stats, "here").unwrap().taken == 1
    })
    .await;
    assert_eq!((stats.running, stats.pending), (0, 1));
    visit.release().await;
    assert_eq!(client.next().await.id, waits);
    finish(scheduler).await;
}

#[actix::test]
async fn g12_cancel_is_answered_with_what_happened() {
    let (scheduler, mut client) = start("option-cancel", 2).await;
    let gate = Gate::open().await;
    let (stopped, visit) = running(&scheduler, &gate, "gate").await;
    let (blocking, other) = running(&scheduler, &gate, "gate.blocking").await;
    let never = execute(&scheduler, calls(1, "gate", &gate.args())).await[0];
    let later = Execute::named("echo", &1u64)
        .unwrap()
        .delay(Duration::from_secs(600));
    let later = scheduler.execute(later).await.unwrap();

    assert_eq!(
        scheduler.cancel(never).await,
        Ok(CancelAnswer::NeverStarted)
    );
    assert_eq!(
        scheduler.cancel(later).await,
        Ok(CancelAnswer::NeverStarted)
    );
    assert_eq!(scheduler.cancel(stopped).await, Ok(CancelAnswer::Stopped));
    visit.dropped().await;
    let statuses = endings(&mut client, 3).await;
    assert!(
        statuses
            .values()
            .all(|status| status.outcome == Outcome::Cancelled),
        "{statuses:?}"
    );
    assert_eq!(
        (statuses[&never].attempts, statuses[&never].node.as_deref()),
        (0, None)
    );
    assert_eq!(statuses[&stopped].node.as_deref(), Some("here"));

    assert_eq!(
        scheduler.cancel(blocking).await,
        Ok(CancelAnswer::StillRunning)
    );
    assert_eq!(client.left(), 0, "it is not settled while it runs");
    assert_eq!(scheduler.stats().await.unwrap().running, 1);
    other.release().await;
    let status = client.next().await;
    assert_eq!(status.id, blocking);
    assert!(
        status.outcome.is_completed(),
        "success was reported: {status:?}"
    );
    assert_eq!(
        scheduler.cancel(TaskId::new(1 << 40)).await,
        Ok(CancelAnswer::NotFound)
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g12_a_cancel_comes_too_late_for_a_task_that_succeeds() {
    let (scheduler, mut client) = start("option-cancel-late", 1).await;
    let gate = Gate::open().await;
    let (id, visit) = running(&scheduler, &gate, "gate.blocking").await;
    let release = async {
        // Answered after the cancel was taken, since a mailbox is in order.
        scheduler.stats().await.unwrap();
        visit.release().await;
    };
    let (answer, ()) = tokio::join!(scheduler.cancel(id), release);
    assert_eq!(answer, Ok(CancelAnswer::TooLate));
    assert!(client.next().await.outcome.is_completed());
    finish(scheduler).await;
}

#[actix::test]
async fn g7_a_timeout_costs_an_attempt_and_is_retried() {
    let (scheduler, mut client) = start("option-timeout", 1).await;
    let gate = Gate::open().await;
    let task = Execute::named("gate", &gate.args())
        .unwrap()
        .timeout(Duration::from_millis(50));
    let task = task.retry(RetryPolicy::fixed(Duration::ZERO).max_attempts(3));
    scheduler.execute(task).await.unwrap();
    for attempt in 1..=3 {
        let visit = gate.next().await;
        assert_eq!(visit.attempt, attempt);
        visit.dropped().await;
    }
    let status = client.next().await;
    assert_eq!((cause(&status), status.attempts), (Cause::Timeout, 3));
    finish(scheduler).await;
}

#[actix::test]
async fn g7_errors_panics_and_bad_args_are_told_apart_and_harm_nobody() {
    let (scheduler, mut client) = start("option-causes", 2).await;
    let call = |kind: &str| {
        Execute::named(kind, &())
            .unwrap()
            .retry(RetryPolicy::none())
    };
    let kinds = [
        ("fail", Cause::Error),
        ("fail.permanently", Cause::Permanent),
        ("panic", Cause::Panic),
        ("echo", Cause::Codec),
    ];
    let ids = execute(&scheduler, kinds.map(|(kind, _)| call(kind))).await;
    let statuses = endings(&mut client, 4).await;
    for (id, (kind, expected)) in ids.iter().zip(kinds) {
        assert_eq!(cause(&statuses[id]), expected, "{kind}");
    }
    let panic = &statuses[&ids[2]].outcome;
    assert!(panic.to_string().contains("as it was told to"), "{panic}");
    let failed = scheduler.stats().await.unwrap().totals.failed;
    assert_eq!(failed.values().sum::<u64>(), 4);
    assert_eq!(failed.len(), 4);
    execute(&scheduler, calls(20, "sleep", &1u64)).await;
    endings(&mut client, 20).await;
    finish(scheduler).await;
}

#[actix::test]
async fn a_tasks_own_policy_goes_before_the_schedulers() {
    let (scheduler, _client) = start("option-policy", 1).await;
    let mut watcher = Listener::start();
    let task = Execute::named("fail.until", &12u32).unwrap();
    let task = task.retry(RetryPolicy::fixed(Duration::from_millis(1)).max_attempts(12));
    let status = scheduler
        .execute_and_wait(task.watch(watcher.recipient()))
        .await
        .unwrap();
    assert_eq!((status.output::<u32>(), status.attempts), (Ok(12), 12));
    let mut retries = 0;
    for told in watcher.take(23).await {
        match told.event {
            TaskEventKind::Running { attempt, .. } => assert_eq!(attempt, retries + 1),
            TaskEventKind::Retrying { failure, .. } => {
                retries += 1;
                assert_eq!(
                    (failure.cause, failure.message.as_str()),
                    (Cause::Error, "not yet")
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(retries, 11);
    scheduler.set_retry(RetryPolicy::none()).await.unwrap();
    let status = scheduler
        .execute_and_wait(Execute::named("fail", &()).unwrap())
        .await
        .unwrap();
    assert_eq!(status.attempts, 1);
    finish(scheduler).await;
}

#[actix::test]
async fn progress_reaches_the_watcher_in_order_before_the_ending() {
    let (scheduler, _client) = start("option-progress", 1).await;
    let mut watcher = Listener::start();
    let task = Execute::named("progress", &20u32)
        .unwrap()
        .watch(watcher.recipient());
    let status = scheduler.execute_and_wait(task).await.unwrap();
    let told = watcher.take(21).await;
    assert!(told.iter().all(|told| told.id == status.id));
    assert!(matches!(told[0].event, TaskEventKind::Running { .. }));
    let steps: Vec<u32> = told[1..]
        .iter()
        .map(|told| told.event.progress().unwrap())
        .collect();
    assert_eq!(steps, (1..=20).collect::<Vec<_>>());
    let trail = scheduler.trail(status.id).await.unwrap();
    assert_eq!(trail.progress.unwrap().decode::<u32>(), Ok(20));
    finish(scheduler).await;
}

#[actix::test]
async fn a_task_may_have_a_client_of_its_own() {
    let (scheduler, mut client) = start("option-client", 1).await;
    let mut own = Listener::start();
    let task = Execute::named("echo", &1u64)
        .unwrap()
        .client(own.recipient());
    let id = scheduler.execute(task).await.unwrap();
    let other = execute(&scheduler, calls(1, "echo", &2u64)).await[0];
    assert_eq!(client.next().await.id, other);
    let status = own.next().await;
    assert_eq!((status.id, status.output::<u64>()), (id, Ok(1)));
    assert_eq!((client.left(), own.left()), (0, 0));
    finish(scheduler).await;
}
