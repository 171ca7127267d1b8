//! What the public types promise beside the protocol: settings that count, words, and what comes
//! back.

use std::fmt::{Debug, Display};

use callboard::error::{NodeError, Refusal, StartError};
use callboard::execute::Leftovers;
use callboard::handlers::{BlockingTask, Call};
use callboard::stats::{NodeState, Reason, Stats, Unfinished};
use callboard::task::TaskKind;
use callboard::{
    Execute, Handlers, Node, Outcome, Scheduler, SchedulerBuilder, Shutdown, TaskContext,
    TaskError, TaskEvent, TaskKey, TaskStatus,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::{Listener, finish, until, until_node};
use crate::log::Log;
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;

fn one_worker(name: &str) -> SchedulerBuilder {
    Scheduler::builder(name).node(Node::local("here", handlers()).max_workers(1))
}

fn echo(n: u64) -> Execute {
    Execute::named("echo", &n).unwrap()
}

#[test]
fn what_is_stored_and_compared_can_be() {
    fn stored<T: Serialize + DeserializeOwned + Debug>() {}
    stored::<Stats>();
    stored::<TaskStatus>();
    stored::<Outcome>();
    stored::<TaskKind>();
    stored::<TaskKey>();
    stored::<TaskEvent>();
    stored::<Unfinished>();
    stored::<Leftovers>();
    fn name<T>()
    where
        T: AsRef<str> + PartialEq<str> + for<'a> PartialEq<&'a str> + Display,
    {
    }
    name::<TaskKind>();
    name::<TaskKey>();
}

#[actix::test]
async fn the_stats_of_a_scheduler_and_its_statuses_survive_json() {
    let scheduler = one_worker("api-json").start().await.unwrap();
    let unusable = scheduler.execute(Execute::named("", &()).unwrap()).await;
    unusable.unwrap_err();
    let completed = scheduler.execute_and_wait(echo(7)).await.unwrap();
    let failing = Execute::named("echo", &"no number").unwrap().key("k");
    let failed = scheduler.execute_and_wait(failing).await.unwrap();
    assert!(matches!(failed.outcome, Outcome::Failed(_)));
    for status in [completed, failed] {
        let text = serde_json::to_string(&status).unwrap();
        let read: TaskStatus = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{status:?}"));
        assert_eq!(read.outcome, status.outcome);
        assert_eq!((&read.args, &read.key), (&status.args, &status.key));
    }
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(stats.totals.refused["invalid kind"], 1);
    let text = serde_json::to_string(&stats).unwrap();
    let read: Stats = serde_json::from_str(&text).unwrap();
    assert_eq!(format!("{read:?}"), format!("{stats:?}"));
    finish(scheduler).await;
}

#[actix::test]
async fn what_a_node_in_another_process_does_not_take_from_here_is_refused() {
    let there = || Node::connect("there", "127.0.0.1:1");
    for (setting, node) in [
        ("labels", there().labels(["gpu"])),
        ("threads", there().threads(2)),
        (
            "configure",
            there().configure(|config| config.max_output = 1),
        ),
    ] {
        let start = Scheduler::builder("api-misplaced").node(node).start().await;
        match start.unwrap_err() {
            StartError::Config(error) => assert_eq!(error.setting, setting),
            other => panic!("{other}"),
        }
    }
    let scheduler = one_worker("api-misplaced").start().await.unwrap();
    let added = scheduler.add_node(there().labels(["gpu"])).await;
    assert!(matches!(added, Err(NodeError::Invalid(words)) if words.contains("labels")));
    finish(scheduler).await;
}

#[actix::test]
async fn a_setting_that_would_be_overwritten_is_refused() {
    let frame = one_worker("api-frame").configure_link(|link| link.max_frame = 1 << 20);
    let joins = one_worker("api-joins").configure(|config| config.accept_joins = true);
    for (setting, builder) in [("max_frame", frame), ("accept_joins", joins)] {
        match builder.start().await.unwrap_err() {
            StartError::Config(error) => assert_eq!(error.setting, setting),
            other => panic!("{other}"),
        }
    }
}

#[actix::test]
async fn a_scheduler_listens_at_every_address_that_it_was_given() {
    let scheduler = Scheduler::builder("api-listen")
        .listen("127.0.0.1:0")
        .listen("127.0.0.2:0")
        .start()
        .await
        .unwrap();
    let first = scheduler.listen_addr().unwrap();
    assert_eq!(first.ip().to_string(), "127.0.0.1");
    finish(scheduler).await;
    // The same port at two addresses, so that both are known.
    let port = first.port();
    let scheduler = Scheduler::builder("api-listen")
        .listen(format!("127.0.0.1:{port}"))
        .listen(format!("127.0.0.2:{port}"))
        .start()
        .await
        .unwrap();
    for host in ["127.0.0.1", "127.0.0.2"] {
        let node = callboard::node(host)
            .handlers(handlers())
            .join(format!("{host}:{port}"))
            .start()
            .await
            .unwrap();
        until_node(&scheduler, host, NodeState::Up).await;
        node.stop().await;
    }
    finish(scheduler).await;
}

#[actix::test]
async fn an_unknown_kind_is_refused_by_who_asked_for_it_and_waits_otherwise() {
    let strict = one_worker("api-strict").refuse_unknown_kinds();
    let strict = strict.start().await.unwrap();
    let mistyped = || Execute::named("ehco", &1u64).unwrap();
    let error = strict.execute(mistyped()).await.unwrap_err();
    assert!(
        matches!(&error.refusal, Refusal::UnknownKind { kind } if *kind == "ehco"),
        "{error}"
    );
    assert!(
        strict
            .execute_and_wait(echo(1))
            .await
            .unwrap()
            .outcome
            .is_completed()
    );
    finish(strict).await;
    let patient = one_worker("api-patient").start().await.unwrap();
    patient.execute(mistyped()).await.unwrap();
    let leftovers = patient.shutdown(Shutdown::Now).await.unwrap();
    assert_eq!(leftovers.unfinished.len(), 1);
}

#[actix::test]
async fn statuses_wait_once_the_client_is_cleared() {
    let (mut first, mut second) = (Listener::start(), Listener::start());
    let scheduler = one_worker("api-clear").client(first.recipient());
    let scheduler = scheduler.start().await.unwrap();
    scheduler.execute(echo(1)).await.unwrap();
    first.next().await;
    scheduler.clear_client().await.unwrap();
    let id = scheduler.execute(echo(2)).await.unwrap();
    until(&scheduler, "both have completed", |stats| {
        stats.totals.completed == 2
    })
    .await;
    scheduler.set_client(second.recipient()).await.unwrap();
    let told: TaskStatus = second.next().await;
    assert_eq!(told.id, id);
    assert_eq!(first.left(), 0);
    finish(scheduler).await;
}

#[actix::test]
async fn g2_what_a_refused_settle_hands_back_still_has_its_client() {
    let mut own = Listener::start();
    let gate = Gate::open().await;
    let scheduler = one_worker("api-back").configure(|config| config.max_tasks = 1);
    let scheduler = scheduler.start().await.unwrap();
    let busy = Execute::named("gate", &gate.args()).unwrap();
    scheduler.execute(busy).await.unwrap();
    let visit = gate.next().await;
    let error = scheduler
        .execute_and_wait(echo(7).client(own.recipient()))
        .await
        .unwrap_err();
    assert!(matches!(error.refusal, Refusal::QueueFull { .. }));
    visit.release().await;
    until(&scheduler, "one has completed", |stats| {
        stats.totals.completed == 1
    })
    .await;
    let id = scheduler.execute(*error.execute).await.unwrap();
    let status: TaskStatus = own.next().await;
    assert_eq!((status.id, status.output::<u64>()), (id, Ok(7)));
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert_eq!(left.statuses.len(), 1, "that of the one without a client");
}

#[actix::test]
async fn g13_a_task_that_waits_for_workers_where_there_are_none_is_told_so() {
    let node = Node::local("here", handlers()).max_workers(0);
    let scheduler = Scheduler::builder("api-zero").node(node);
    let scheduler = scheduler.start().await.unwrap();
    let id = scheduler.execute(echo(1)).await.unwrap();
    let explained = scheduler.explain(id).await.unwrap().unwrap();
    assert_eq!(explained.reason, Reason::NoWorkers);
    let (_, words) = &explained.nodes[0];
    assert!(words.contains("no workers"), "{words}");
    scheduler.set_workers("here", 1).await.unwrap();
    until(&scheduler, "one has completed", |stats| {
        stats.totals.completed == 1
    })
    .await;
    scheduler.shutdown(Shutdown::Now).await.unwrap();
}

#[actix::test]
async fn a_kind_is_paused_and_its_intake_closed_until_the_operator_takes_it_back() {
    let scheduler = one_worker("api-pause").start().await.unwrap();
    scheduler.pause("echo").await.unwrap();
    scheduler.pause_all().await.unwrap();
    let id = scheduler.execute(echo(1)).await.unwrap();
    scheduler.resume_all().await.unwrap();
    let explained = scheduler.explain(id).await.unwrap().unwrap();
    assert_eq!(explained.reason, Reason::Paused);
    scheduler.close_intake("echo").await.unwrap();
    let refused = scheduler.execute(echo(2)).await.unwrap_err();
    assert!(refused.refusal.is_temporary(), "{refused}");
    scheduler.open_intake("echo").await.unwrap();
    let waits = scheduler.execute_and_wait(*refused.execute);
    let resumes = async {
        until(&scheduler, "both wait", |stats| stats.paused == 2).await;
        scheduler.resume("echo").await.unwrap();
    };
    let (status, ()) = tokio::join!(waits, resumes);
    assert_eq!(status.unwrap().output::<u64>(), Ok(2));
    scheduler.shutdown(Shutdown::Now).await.unwrap();
}

#[actix::test]
async fn a_status_is_not_shown_with_the_whole_of_its_args_and_output() {
    let scheduler = one_worker("api-debug").start().await.unwrap();
    let large = bytes::Bytes::from(vec![7; 1 << 20]);
    let task = Execute::named("echo", &large).unwrap();
    let status = scheduler.execute_and_wait(task).await.unwrap();
    assert_eq!(status.args.len(), 1 << 20);
    let shown = format!("{status:?}");
    assert!(shown.len() < 2000, "{} bytes", shown.len());
    assert!(shown.contains("1048576 bytes"), "{shown}");
    finish(scheduler).await;
}

#[derive(Serialize, Deserialize)]
struct Length {
    text: String,
}

impl Call for Length {
    const KIND: &'static str = "length";
    type Output = (usize, bool);
}

impl BlockingTask for Length {
    fn run(self, cx: TaskContext) -> Result<(usize, bool), TaskError> {
        // A thread of tokio's blocking pool has no arbiter.
        let own = actix::Arbiter::try_current().is_none();
        if cx.attempt() == 1 {
            return Ok((self.text.len(), own));
        }
        Err(TaskError::permanent("once is enough"))
    }
}

#[actix::test]
async fn a_typed_task_that_blocks_runs_on_a_thread_of_its_own() {
    let handlers = Handlers::new().blocking_task::<Length>();
    let scheduler = Scheduler::builder("api-blocking").node(Node::local("here", handlers));
    let scheduler = scheduler.start().await.unwrap();
    let text = "four".to_owned();
    assert_eq!(scheduler.run(&Length { text }).await.unwrap(), (4, true));
    finish(scheduler).await;
}

/// Cases 41 and 43, through the whole library.
#[actix::test]
async fn args_that_would_arrive_as_something_else_are_refused_or_fail() {
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Peer {
        ip: std::net::IpAddr,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Ping {
        n: u8,
        #[serde(flatten)]
        peer: Peer,
    }
    let handlers = Handlers::new()
        .on("ping", async |ping: Ping| Ok(ping))
        .on("double", async |n: u64| Ok(2 * n))
        .on("unit", async |_: ()| Ok(()))
        .on("lost", async |_: ()| Ok(Some(())));
    let scheduler = Scheduler::builder("api-args").node(Node::local("here", handlers));
    let scheduler = scheduler.start().await.unwrap();
    let ping = Ping {
        n: 1,
        peer: Peer {
            ip: [127, 0, 0, 1].into(),
        },
    };
    let status = scheduler.execute_and_wait(Execute::named("ping", &ping).unwrap());
    assert_eq!(status.await.unwrap().output(), Ok(ping));
    let words = Execute::named("unit", &Some(())).unwrap_err().to_string();
    assert!(words.contains("Some(())"), "{words}");
    for (task, expected) in [
        (Execute::raw("double", b"21"), "1 byte is left"),
        (Execute::raw("unit", b""), "there are no bytes"),
        (
            Execute::named("lost", &()).unwrap(),
            "would be read as `None`",
        ),
    ] {
        let status = scheduler.execute_and_wait(task).await.unwrap();
        let words = status.outcome.to_string();
        assert!(words.contains(expected), "{words}");
        assert_eq!(status.attempts, 1, "a retry would not help");
    }
    finish(scheduler).await;
}

#[actix::test]
async fn what_was_left_is_handed_in_again_by_a_process_that_reads_it() {
    let nowhere = Scheduler::builder("api-left").listen("127.0.0.1:0");
    let scheduler = nowhere.start().await.unwrap();
    let client = Listener::<TaskStatus>::start();
    let execute = echo(7).key("k").exclusive();
    let mine = execute.clone().key("mine").client(client.recipient());
    for execute in [execute.clone(), mine] {
        scheduler.execute(execute).await.unwrap();
    }
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    let text = serde_json::to_string(&left).unwrap();
    let read: Leftovers = serde_json::from_str(&text).unwrap();
    assert_eq!(read.unfinished, left.unfinished);
    let again = read.into_executes();
    assert_eq!(format!("{:?}", again[0]), format!("{execute:?}"));
    assert_eq!(again.len(), 2);
}

#[actix::test]
async fn g7_the_place_of_a_panic_is_told_and_logged() {
    let log = Log::of_this_process();
    let handlers = Handlers::new()
        .on("async", async |(): ()| -> Result<(), TaskError> {
            place_of_a_panic()
        })
        .on("later", async |(): ()| -> Result<(), TaskError> {
            tokio::task::yield_now().await;
            place_of_a_panic()
        })
        .on_blocking("blocking", |(): ()| -> Result<(), TaskError> {
            place_of_a_panic()
        });
    let node = Node::local("here", handlers).max_workers(1);
    let scheduler = Scheduler::builder("api-place").node(node).start();
    let scheduler = scheduler.await.unwrap();
    for kind in ["async", "later", "blocking"] {
        let once = callboard::RetryPolicy::none();
        let call = Execute::named(kind, &()).unwrap().retry(once);
        let status = scheduler.execute_and_wait(call).await.unwrap();
        let Outcome::Failed(failure) = &status.outcome else {
            panic!("{status:?}");
        };
        assert_eq!(failure.message, "as it was told to");
        let place = failure.place.as_deref().unwrap();
        assert_eq!(place, format!("{}:{PLACE}", file!()));
        let lines = log.lines("api-place");
        let line = lines.last().unwrap();
        assert!(line.contains(place) && line.contains(kind), "{line}");
    }
    finish(scheduler).await;
}

/// The line in which the panic below is raised.
const PLACE: u32 = line!() + 3;

fn place_of_a_panic() -> ! {
    panic!("as it was told to")
}
