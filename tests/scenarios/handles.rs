//! What an application holds: names, starts, Systems, callers that go away, and the end.

use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler};
use callboard::error::{HandlersError, NodeStartError, Refusal, StartError};
use callboard::execute::RunError;
use callboard::{
    Cause, Execute, Handlers, Node, NodeExit, Outcome, Scheduler, Shutdown, Task, TaskContext,
    TaskError, TaskStatus,
};
use serde::{Deserialize, Serialize};

use crate::cluster::{Listener, calls, endings, execute, finish, here, until};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;

#[derive(Serialize, Deserialize)]
struct Double {
    of: u64,
}

impl Task for Double {
    const KIND: &'static str = "double";
    type Output = u64;

    async fn run(self, _: TaskContext) -> Result<u64, TaskError> {
        match self.of {
            0 => Err(TaskError::permanent("nothing to double")),
            of => Ok(of * 2),
        }
    }
}

#[actix::test]
async fn a_name_is_taken_while_its_scheduler_runs_and_free_afterwards() {
    let start = || {
        Scheduler::builder("handle-name")
            .node(here(handlers()))
            .start()
    };
    let first = start().await.unwrap();
    let error = start().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, StartError::NameTaken(name) if name == "handle-name"),
        "{error:?}"
    );
    let found = Scheduler::find("handle-name").unwrap();
    assert!(
        found
            .execute_and_wait(Execute::named("echo", &1u64).unwrap())
            .await
            .is_ok()
    );
    finish(first).await;
    assert!(found.stats().await.is_err());
    assert!(Scheduler::find("handle-name").is_none());
    finish(start().await.unwrap()).await;
}

/// Keeps nothing between the two, so only the clock tells the second where to go on.
#[actix::test]
async fn g3_a_scheduler_that_is_started_again_gives_out_no_number_of_before() {
    async fn run_one() -> (u64, u64) {
        let fence = async |(): (), cx: TaskContext| Ok(cx.dispatch().get());
        let scheduler = Scheduler::builder("handle-numbers")
            .node(here(Handlers::new().on("fence", fence)))
            .start();
        let scheduler = scheduler.await.unwrap();
        let task = Execute::named("fence", &()).unwrap();
        let status = scheduler.execute_and_wait(task).await.unwrap();
        finish(scheduler).await;
        (status.id.get(), status.output().unwrap())
    }
    let (first, second) = (run_one().await, run_one().await);
    assert!(
        second.0 > first.0 && second.1 > first.1,
        "a task and its dispatch, {first:?}, and after a restart {second:?}"
    );
}

#[actix::test]
async fn a_kind_registered_twice_is_a_start_error_of_scheduler_and_node() {
    let twice = || handlers().on("echo", async |n: u64| Ok(n));
    let error = Scheduler::builder("handle-twice")
        .node(here(twice()))
        .start()
        .await
        .map(|_| ())
        .unwrap_err();
    let StartError::Handlers { node, error } = &error else {
        panic!("{error:?}")
    };
    assert!(
        node == "here"
            && matches!(error, HandlersError::Duplicate { kind } if kind.as_str() == "echo")
    );
    assert!(Scheduler::find("handle-twice").is_none());
    let node = callboard::node("twice")
        .handlers(twice())
        .listen("127.0.0.1:0");
    let error = node.start().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            NodeStartError::Handlers(HandlersError::Duplicate { .. })
        ),
        "{error:?}"
    );
}

#[actix::test]
async fn args_that_no_frame_can_hold_are_an_error_if_set_and_shrink_if_left_alone() {
    let start = |max_task_args: Option<usize>| {
        let scheduler = Scheduler::builder("handle-args").node(here(handlers()));
        let scheduler = scheduler.configure(|config| {
            config.max_frame = 1 << 20;
            config.max_task_args = max_task_args.unwrap_or(config.max_task_args);
        });
        scheduler.start()
    };
    match start(Some(1 << 20)).await.map(|_| ()).unwrap_err() {
        StartError::Config(error) => assert_eq!(error.setting, "max_task_args"),
        other => panic!("{other:?}"),
    }
    finish(start(None).await.unwrap()).await;
}

#[actix::test]
async fn g11_another_address_than_loopback_needs_a_secret() {
    let error = Scheduler::builder("handle-secret")
        .listen("0.0.0.0:0")
        .start()
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(
        matches!(&error, StartError::Listen(_)) && error.to_string().contains("secret"),
        "{error}"
    );
    let node = callboard::node("open")
        .handlers(handlers())
        .listen("0.0.0.0:0");
    let error = node.start().await.map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, NodeStartError::Listen(_)) && error.to_string().contains("secret"),
        "{error}"
    );
}

#[test]
fn a_scheduler_works_without_an_actix_system() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let handlers = Handlers::new().task::<Double>();
        let scheduler = Scheduler::builder("handle-no-system")
            .node(here(handlers))
            .start()
            .await
            .unwrap();
        assert_eq!(scheduler.run(&Double { of: 21 }).await.unwrap(), 42);
        let error = scheduler.run(&Double { of: 0 }).await.unwrap_err();
        let RunError::NotCompleted { outcome, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(&**outcome, Outcome::Failed(failure) if failure.cause == Cause::Permanent)
        );
        scheduler.shutdown(Shutdown::Now).await.unwrap();
    });
}

#[actix::test]
async fn a_dropped_run_leaves_the_task_and_its_status_goes_to_the_client() {
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-dropped")
        .node(here(handlers()))
        .client(client.recipient());
    let scheduler = scheduler.start().await.unwrap();
    let gate = Gate::open().await;
    let visit = {
        let waiting = scheduler.execute_and_wait(Execute::named("gate", &gate.args()).unwrap());
        tokio::select! {
            visit = gate.next() => visit,
            status = waiting => panic!("{status:?}"),
        }
    };
    visit.release().await;
    assert!(client.next().await.outcome.is_completed());
    // One that is waited for goes nowhere else.
    scheduler
        .execute_and_wait(Execute::named("echo", &1u64).unwrap())
        .await
        .unwrap();
    assert_eq!(client.left(), 0);
    finish(scheduler).await;
}

/// Makes a System whose clock moves only when nothing can be done.
fn paused() -> actix::SystemRunner {
    actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    })
}

#[test]
fn retries_take_no_time_under_a_paused_clock() {
    paused().block_on(async {
        let scheduler = Scheduler::builder("handle-paused")
            .node(here(handlers()))
            .on_current_arbiter();
        let scheduler = scheduler.start().await.unwrap();
        let before = tokio::time::Instant::now();
        let status = scheduler
            .execute_and_wait(Execute::named("fail", &()).unwrap())
            .await
            .unwrap();
        let took = before.elapsed();
        assert_eq!(status.attempts, 10);
        assert!(
            (9..10).contains(&took.as_secs()),
            "nine waits of a second took {took:?}"
        );
        let timeout = Execute::named("sleep", &86_400_000u64)
            .unwrap()
            .timeout(Duration::from_secs(3600));
        let status = scheduler
            .execute_and_wait(timeout.retry(callboard::RetryPolicy::none()))
            .await
            .unwrap();
        assert!(
            matches!(&status.outcome, Outcome::Failed(failure) if failure.cause == Cause::Timeout)
        );
        finish(scheduler).await;
    });
}

#[test]
fn a_client_whose_window_is_full_gets_the_next_status_as_soon_as_it_confirms() {
    paused().block_on(async {
        let (tx, mut statuses) = tokio::sync::mpsc::unbounded_channel();
        let client = Fragile(usize::MAX, tx).start();
        let scheduler = Scheduler::builder("handle-window")
            .node(here(handlers()))
            .client(client.recipient())
            .configure(|config| config.status_window = 1)
            .on_current_arbiter();
        let scheduler = scheduler.start().await.unwrap();
        let before = tokio::time::Instant::now();
        execute(&scheduler, calls(100, "echo", &1u64)).await;
        for _ in 0..100 {
            statuses.recv().await.unwrap();
        }
        // The clock stands still while anything can be done; a timer that helps out would move it.
        assert_eq!(before.elapsed(), Duration::ZERO);
        finish(scheduler).await;
    });
}

/// A client that dies after so many statuses.
struct Fragile(usize, Listened);

type Listened = tokio::sync::mpsc::UnboundedSender<TaskStatus>;

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Fragile {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, context: &mut Context<Self>) {
        let _ = self.1.send(status);
        self.0 -= 1;
        if self.0 == 0 {
            context.terminate();
        }
    }
}

#[actix::test]
async fn g1_what_a_client_that_died_may_have_handled_is_given_again_and_marked() {
    let scheduler = Scheduler::builder("handle-again")
        .node(here(handlers()))
        .start()
        .await
        .unwrap();
    let mut ids = execute(&scheduler, calls(10, "echo", &1u64)).await;
    until(&scheduler, "ten wait", |stats| {
        stats.unconfirmed_statuses == 10
    })
    .await;
    let (sender, mut handled) = tokio::sync::mpsc::unbounded_channel();
    let fragile = Fragile(3, sender).start();
    scheduler.set_client(fragile.recipient()).await.unwrap();
    let mut early = Vec::new();
    while let Some(status) = handled.recv().await {
        assert!(!status.is_given_again());
        early.push(status.id);
    }
    assert_eq!(early.len(), 3);
    ids.extend(execute(&scheduler, calls(5, "echo", &1u64)).await);
    until(
        &scheduler,
        "none is lost but those that it has handled",
        |stats| stats.unconfirmed_statuses == 12,
    )
    .await;

    let mut client = Listener::start();
    scheduler.set_client(client.recipient()).await.unwrap();
    let statuses = endings(&mut client, 12).await;
    ids.retain(|id| !early.contains(id));
    assert!(ids.iter().eq(statuses.keys()), "{statuses:?}");
    let again = statuses
        .values()
        .filter(|status| status.is_given_again())
        .count();
    assert_eq!(
        again, 7,
        "those that were never given to the first are not marked"
    );
    finish(scheduler).await;
}

#[actix::test]
async fn g2_a_refusal_of_a_bare_message_is_told_by_a_status_and_one_of_the_handle_gives_the_task_back()
 {
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-refused")
        .node(here(handlers()))
        .client(client.recipient())
        .configure(|config| config.max_task_args = 1_000)
        .start()
        .await
        .unwrap();
    let large = || Execute::raw("echo", vec![0u8; 1_001]);
    let error = scheduler.execute(large()).await.unwrap_err();
    assert!(
        matches!(
            error.refusal,
            Refusal::ArgsTooLarge {
                bytes: 1_001,
                limit: 1_000
            }
        ),
        "{error}"
    );
    assert_eq!(error.execute.args(), large().args());
    assert_eq!(client.left(), 0);
    scheduler.addr().do_send(large());
    let status = client.next().await;
    assert!(
        matches!(
            &status.outcome,
            Outcome::Refused(Refusal::ArgsTooLarge { .. })
        ),
        "{status:?}"
    );
    scheduler
        .addr()
        .do_send(Execute::named("echo", &7u64).unwrap());
    assert_eq!(client.next().await.output::<u64>(), Ok(7));
    finish(scheduler).await;
}

#[actix::test]
async fn g2_a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-full")
        .node(here(handlers()))
        .client(client.recipient())
        .configure(|config| config.max_tasks = 4)
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let answers = scheduler.execute_many(calls(6, "gate", &gate.args())).await;
    let refused: Vec<_> = answers
        .into_iter()
        .skip(4)
        .map(Result::unwrap_err)
        .collect();
    assert!(
        refused
            .iter()
            .all(|error| error.refusal == Refusal::QueueFull { limit: 4 })
    );
    gate.next().await.release().await;
    client.next().await;
    let again = refused.into_iter().next().unwrap();
    assert!(again.refusal.is_temporary());
    scheduler.execute(*again.execute).await.unwrap();
    for _ in 0..4 {
        gate.next().await.release().await;
    }
    endings(&mut client, 4).await;
    finish(scheduler).await;
}

#[actix::test]
async fn a_node_in_the_applications_own_process_is_drained_by_its_handle() {
    let node = callboard::node("embedded")
        .handlers(handlers())
        .max_workers(2)
        .threads(1)
        .listen("127.0.0.1:0");
    let node = node.start().await.unwrap();
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-node")
        .node(Node::connect(
            "embedded",
            node.listen_addr().unwrap().to_string(),
        ))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    execute(&scheduler, calls(5, "gate", &gate.args())).await;
    let visits = gate.take(2).await;
    let release = async {
        until(&scheduler, "it drains", |stats| {
            stats.nodes[0].state == callboard::stats::NodeState::Draining
        })
        .await;
        for visit in visits {
            visit.release().await;
        }
    };
    let (gone, ()) = tokio::join!(node.drain(), release);
    assert!(matches!(gone, NodeExit::Drained), "{gone:?}");
    endings(&mut client, 2).await;
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert_eq!(
        left.unfinished.len(),
        3,
        "what had not started was given back"
    );
}
