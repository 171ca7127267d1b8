//! The end of a scheduler: what still gets done, and what is handed back.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use callboard::error::{Refusal, Stopped};
use callboard::execute::RunError;
use callboard::stats::{TaskState, Unfinished};
use callboard::{
    Execute, Handlers, Priority, RetryPolicy, Scheduler, Shutdown, Task, TaskContext, TaskError,
    TaskEvent,
};
use serde::{Deserialize, Serialize};

use crate::cluster::{Listener, calls, endings, execute, finish, here, until};
use crate::processes::gate::{self, Gate};
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
            .send(Execute::named("echo", &1u64).unwrap())
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
        .execute(Execute::named("echo", &1u64).unwrap())
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
    let execute = Execute::named("echo", &7_u64)
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
    let call = || Execute::named("second", &7_u64).unwrap();
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

#[actix::test]
async fn who_waits_for_a_task_that_a_shutdown_hands_back_hears_that_it_had_been_accepted() {
    let scheduler = Scheduler::builder("handle-accepted")
        .node(here(handlers().task::<Waits>()))
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let task = Execute::named("gate", &gate.args()).unwrap();
    let (settling, running) = (scheduler.clone(), scheduler.clone());
    let settling = actix::spawn(async move { settling.execute_and_wait(task).await });
    let waits = Waits(gate.args());
    let running = actix::spawn(async move { running.run(&waits).await });
    let visits = gate.take(2).await;
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    let settled = settling.await.unwrap().unwrap_err();
    let Refusal::LeftOver { id } = settled.refusal else {
        panic!("{settled}");
    };
    assert!(left.unfinished.iter().any(|task| task.id == id));
    let ran = running.await.unwrap().unwrap_err();
    assert!(matches!(ran, RunError::Stopped), "{ran:?}");
    assert_eq!(left.unfinished.len(), 2);
    for words in [settled.to_string(), ran.to_string()] {
        assert!(!words.contains("refused"), "{words}");
        assert!(words.contains("accepted") && words.contains("leftovers"));
    }
    for visit in visits {
        visit.dropped().await;
    }
}

/// Waits at a gate.
#[derive(Serialize, Deserialize)]
struct Waits(SocketAddr);

impl Task for Waits {
    const KIND: &'static str = "waits";
    type Output = ();

    async fn run(self, cx: TaskContext) -> Result<(), TaskError> {
        gate::wait(self.0, cx).await.map(drop)
    }
}

#[actix::test]
async fn a_shutdown_that_finishes_what_runs_starts_nothing_more_and_hands_back_the_rest() {
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-finish")
        .node(here(handlers()))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    // So that some are prefetched of a free worker.
    execute(&scheduler, calls(20, "echo", &1u64)).await;
    endings(&mut client, 20).await;
    let gate = Gate::open().await;
    let hour = Duration::from_secs(3600);
    let mut tasks = calls(10, "gate", &gate.args());
    tasks.push(Execute::named("gate", &gate.args()).unwrap().delay(hour));
    let ids = execute(&scheduler, tasks).await;
    let visits = gate.take(2).await;
    let mut ending = Box::pin(scheduler.shutdown(Shutdown::FinishRunning(hour)));
    poll_fn(|cx| {
        assert!(ending.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let refused = scheduler.execute(Execute::named("echo", &1u64).unwrap());
    assert_eq!(refused.await.unwrap_err().refusal, Refusal::Draining);
    // Until the node has given it back, it may still start what was prefetched to it.
    until(&scheduler, "what was prefetched is back", |stats| {
        stats.nodes[0].prefetched == 0
    })
    .await;
    for visit in visits {
        visit.release().await;
    }
    // Longer than a test may take.
    let left = ending.await.unwrap();
    let told = client.take(2).await;
    let told: Vec<_> = told.iter().map(|status| status.id).collect();
    let rest: Vec<_> = ids.iter().filter(|id| !told.contains(id)).collect();
    assert!(
        left.unfinished.iter().map(|task| &task.id).eq(rest),
        "{left:?}"
    );
    let pending = |task: &Unfinished| task.state == TaskState::Pending;
    assert!(left.unfinished.iter().all(pending), "{left:?}");
    assert_eq!((client.left(), left.into_executes().len()), (0, 9));
}

#[actix::test]
async fn a_retry_is_not_waited_for_where_only_what_runs_is_finished() {
    let scheduler = Scheduler::builder("handle-finish-retry")
        .node(here(handlers()))
        .start()
        .await
        .unwrap();
    let second = RetryPolicy::fixed(Duration::from_millis(1));
    let failing = Execute::named("fail", &())
        .unwrap()
        .retry(second.max_attempts(u32::MAX));
    let id = scheduler.execute(failing).await.unwrap();
    until(&scheduler, "it is tried again", |stats| {
        stats.totals.retried > 2
    })
    .await;
    let finish = Shutdown::FinishRunning(Duration::from_secs(3600));
    let left = scheduler.shutdown(finish).await.unwrap();
    assert!(
        left.unfinished.iter().map(|task| task.id).eq([id]),
        "{left:?}"
    );
}
