//! The end of a scheduler: what still gets done, and what is handed back.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use callboard::error::{Refusal, Stopped};
use callboard::{
    Execute, Handlers, Priority, RetryPolicy, Scheduler, Shutdown, TaskError, TaskEvent,
};

use crate::cluster::{Listener, calls, endings, execute, finish, here, until};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;

#[actix::test]
async fn a_shutdown_that_drains_refuses_what_is_new_and_ends_when_all_is_done() {
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-drain")
        .node(here(handlers()))
        .client(client.recipient());
    let scheduler = scheduler.start().await.unwrap();
    let gate = Gate::open().await;
    execute(&scheduler, calls(5, "gate", &gate.args())).await;
    let addr = scheduler.addr().clone();
    let release = async {
        let visit = gate.next().await;
        let refused = addr
            .send(Execute::call("echo", &1u64).unwrap())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.refusal, Refusal::Draining);
        visit.release().await;
        for _ in 0..4 {
            gate.next().await.release().await;
        }
    };
    let (left, ()) = tokio::join!(
        scheduler.shutdown(Shutdown::Drain(Duration::from_secs(60))),
        release
    );
    let left = left.unwrap();
    assert!(
        left.unfinished.is_empty() && left.statuses.is_empty(),
        "{left:?}"
    );
    assert_eq!(endings(&mut client, 5).await.len(), 5);
    let error = scheduler
        .execute(Execute::call("echo", &1u64).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.refusal, Refusal::Stopped);
}

#[actix::test]
async fn a_shutdown_returns_what_was_not_done_when_its_time_is_over_and_what_no_client_took() {
    let scheduler = Scheduler::builder("handle-leftovers")
        .node(here(handlers()))
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let done = execute(&scheduler, calls(3, "echo", &1u64)).await;
    until(&scheduler, "three are done", |stats| {
        stats.unconfirmed_statuses == 3
    })
    .await;
    let stuck = execute(&scheduler, calls(4, "gate", &gate.args())).await;
    let visits = gate.take(2).await;
    let left = scheduler
        .shutdown(Shutdown::Drain(Duration::from_millis(50)))
        .await
        .unwrap();
    assert!(
        stuck.iter().eq(left.unfinished.iter().map(|task| &task.id)),
        "{left:?}"
    );
    let mut statuses: Vec<_> = left.statuses.iter().map(|status| status.id).collect();
    statuses.sort();
    assert_eq!(statuses, done);
    for visit in visits {
        visit.dropped().await;
    }
}

#[actix::test]
async fn what_was_left_is_kept_until_somebody_has_taken_it() {
    let scheduler = Scheduler::builder("handle-kept")
        .node(here(handlers()))
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let stuck = execute(&scheduler, calls(4, "gate", &gate.args())).await;
    let visits = gate.take(2).await;
    // Begun, and dropped, as by a timeout that has elapsed.
    let mut begun = Box::pin(scheduler.shutdown(Shutdown::Drain(Duration::from_secs(60))));
    poll_fn(|cx| {
        assert!(begun.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(begun);
    // One that asks the actor, and waits no longer.
    drop(
        scheduler
            .addr()
            .send(Shutdown::Drain(Duration::from_secs(60))),
    );
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert!(
        stuck.iter().eq(left.unfinished.iter().map(|task| &task.id)),
        "{left:?}"
    );
    let taken = scheduler.shutdown(Shutdown::Now).await;
    assert!(matches!(taken, Err(Stopped)), "{taken:?}");
    for visit in visits {
        visit.dropped().await;
    }
}

#[actix::test]
async fn what_was_left_is_handed_in_again_as_it_was() {
    let (mut client, mut watcher) = (Listener::start(), Listener::<TaskEvent>::start());
    let start = |name: &str| Scheduler::builder(name).node(here(handlers())).start();
    let nowhere = Scheduler::builder("handle-again").listen("127.0.0.1:0");
    let scheduler = nowhere.start().await.unwrap();
    let retry = RetryPolicy::fixed(Duration::from_millis(1)).max_attempts(3);
    let later = SystemTime::now() + Duration::from_secs(3600);
    let execute = Execute::call("echo", &7_u64)
        .unwrap()
        .retry(retry)
        .priority(Priority::HIGH)
        .timeout(Duration::from_secs(9))
        .deadline(Duration::from_secs(7200))
        .exclusive()
        .max_reroutes(1)
        .key("again")
        .run_at(later)
        .client(client.recipient())
        .watch(watcher.recipient());
    scheduler.execute(execute.clone()).await.unwrap();
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    let options = left.unfinished[0].options.clone();
    let again = left.into_executes().pop().unwrap();
    assert_eq!(format!("{again:?}"), format!("{execute:?}"));
    // Now at once, to see who is told.
    let scheduler = start("handle-again-2").await.unwrap();
    scheduler
        .execute(again.delay(Duration::ZERO))
        .await
        .unwrap();
    let event = watcher.next().await;
    assert_eq!(
        (event.kind.as_str(), event.key.unwrap().as_str()),
        ("echo", "again")
    );
    let status = client.next().await;
    assert_eq!(status.output::<u64>().unwrap(), 7);
    let mut told = status.options();
    told.due = options.due;
    assert_eq!(told, options);
    assert_eq!(Execute::again(&status).kind(), execute.kind());
    finish(scheduler).await;
}

#[actix::test]
async fn a_drain_waits_for_retries_that_come_due_in_time_and_not_for_what_is_planned() {
    let mut client = Listener::start();
    let tried = AtomicU64::new(0);
    let handlers = Handlers::new().on("second", async move |n: u64| {
        match tried.fetch_add(1, Ordering::Relaxed) {
            0 => Err(TaskError::retry("not yet")),
            _ => Ok(n),
        }
    });
    let scheduler = Scheduler::builder("handle-planned")
        .node(here(handlers))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let call = || Execute::call("second", &7_u64).unwrap();
    let hour = Duration::from_secs(3600);
    let planned = scheduler.execute(call().delay(hour)).await.unwrap();
    let second = RetryPolicy::fixed(Duration::from_millis(50));
    let retried = scheduler.execute(call().retry(second)).await.unwrap();
    // Longer than a test may take.
    let left = scheduler.shutdown(Shutdown::Drain(hour)).await.unwrap();
    let left: Vec<_> = left.unfinished.iter().map(|task| task.id).collect();
    assert_eq!(left, [planned]);
    let status = client.next().await;
    assert_eq!((status.id, status.attempts), (retried, 2));
}
