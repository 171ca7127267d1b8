//! A store: what outlasts a scheduler, and what is said of one that cannot be used.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use callboard::error::{AttachError, StartError, StoreError};
use callboard::execute::ExecuteAgainError;
use callboard::stats::{NodeState, Stats, StoreState};
use callboard::{
    Execute, ForgetError, Keep, Node, Outcome, Scheduler, SchedulerBuilder, SettledFilter,
    Shutdown, Store, TaskId, TaskStatus,
};
use tempfile::TempDir;

use crate::cluster::{Listener, brisk, calls, endings, execute, finish, here, until, until_node};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;
use crate::processes::{NodeProcess, PATIENCE, Role};

const HOUR: Duration = Duration::from_secs(3600);

/// A place for a store that nobody else has.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tasks.redb")
    }

    fn store(&self) -> Store {
        Store::file(self.path())
    }
}

fn stored(name: &str, place: &Place) -> SchedulerBuilder {
    Scheduler::builder(name)
        .store(place.store())
        .configure(brisk)
}

/// Starts it, which must fail for its store.
async fn refused(builder: SchedulerBuilder) -> StoreError {
    match builder.node(here(handlers())).no_client().start().await {
        Err(StartError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn a_store_that_cannot_be_used_is_refused_in_words() {
    let place = Place::new();
    let first = stored("durable-first", &place)
        .node(here(handlers()))
        .no_client();
    let first = first.start().await.unwrap();
    assert_eq!(
        refused(stored("durable-second", &place)).await,
        StoreError::Locked
    );
    finish(first).await;
    let foreign = refused(stored("durable-second", &place)).await;
    let scheduler = "durable-first".to_owned();
    assert_eq!(foreign, StoreError::Foreign { scheduler });

    let missing = Store::file(place.path().join("nowhere"));
    let missing = refused(Scheduler::builder("durable-missing").store(missing)).await;
    assert!(
        matches!(missing, StoreError::Io(_) | StoreError::Missing(_)),
        "{missing:?}"
    );
    let missing = Store::file(place.0.path().join("nowhere").join("tasks"));
    let missing = refused(Scheduler::builder("durable-missing").store(missing)).await;
    assert!(
        matches!(&missing, StoreError::Missing(what) if what.contains("nowhere")),
        "{missing:?}"
    );

    let other = place.0.path().join("text");
    std::fs::write(&other, "a text, and no store").unwrap();
    let other = refused(Scheduler::builder("durable-text").store(Store::file(other))).await;
    assert!(matches!(other, StoreError::NotAStore(_)), "{other:?}");
}

#[actix::test]
async fn a_start_waits_for_the_end_of_whoever_has_the_store_open() {
    let place = Place::new();
    let first = stored("durable-waits", &place)
        .node(here(handlers()))
        .no_client();
    let first = first.start().await.unwrap();
    let waiting = Scheduler::builder("durable-waits-too").store(place.store().wait(Duration::MAX));
    // It is another scheduler's, which is known when it can be opened.
    let (foreign, ()) = tokio::join!(refused(waiting), finish(first));
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign:?}");
}

/// Waits for the statuses of a client that must have been told of so many.
async fn told(client: &mut Listener<TaskStatus>, count: usize) -> Vec<TaskStatus> {
    endings(client, count).await.into_values().collect()
}

#[actix::test]
async fn what_was_left_goes_on_when_the_scheduler_is_started_again() {
    let place = Place::new();
    let scheduler = stored("durable-goes-on", &place)
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
    let keyed = Execute::named("echo", &7u64).unwrap();
    let keyed = keyed.key("seven").delay(HOUR);
    let later = scheduler.execute(keyed.clone()).await.unwrap();
    let visits = gate.take(2).await;
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert_eq!(
        (left.stored_tasks, left.stored_statuses),
        (5, 3),
        "{left:?}"
    );
    assert!(
        left.unfinished.is_empty() && left.statuses.is_empty(),
        "{left:?}"
    );
    drop(visits);

    let mut client = Listener::start();
    let scheduler = stored("durable-goes-on", &place)
        .node(here(handlers()))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let statuses = told(&mut client, 3).await;
    assert!(statuses.iter().all(TaskStatus::is_given_again));
    let ids: Vec<_> = statuses.iter().map(|status| status.id).collect();
    assert_eq!(ids, done);
    assert_eq!(
        scheduler.execute(keyed).await.unwrap(),
        later,
        "its key is known"
    );
    for _ in 0..4 {
        gate.next().await.release().await;
    }
    let statuses = told(&mut client, 4).await;
    let ids: Vec<_> = statuses.iter().map(|status| status.id).collect();
    assert_eq!(ids, stuck);
    assert!(statuses.iter().all(|status| status.outcome.is_completed()));
    let left = scheduler.shutdown(Shutdown::Discard).await.unwrap();
    assert_eq!(left.unfinished.len(), 1, "{left:?}");

    let scheduler = stored("durable-goes-on", &place)
        .node(here(handlers()))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    assert_eq!(
        scheduler.unfinished().await.unwrap(),
        [],
        "all was given up"
    );
    finish(scheduler).await;
    assert_eq!(client.left(), 0);
}

#[actix::test]
async fn a_file_does_not_grow_with_what_has_settled_while_a_task_waits() {
    let place = Place::new();
    let size = || std::fs::metadata(place.path()).unwrap().len();
    let mut client = Listener::start();
    let scheduler = stored("durable-cleaned", &place)
        .node(here(
            handlers().on("size", async |text: String| Ok(text.len())),
        ))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let waits = Execute::named("echo", &0u64).unwrap();
    let waits = scheduler.execute(waits.delay(HOUR)).await.unwrap();
    let args = "x".repeat(64 << 10);
    let (waves, each) = (40, 40);
    for _ in 0..waves {
        execute(&scheduler, calls(each, "size", &args)).await;
        told(&mut client, each).await;
        assert!(size() < 64 << 20, "{} bytes while it runs", size());
    }
    let one_lives = |stats: &Stats| {
        let store = stats.store.as_ref().unwrap();
        stats.unconfirmed_statuses == 0 && store.living_bytes < 1 << 20
    };
    let store = until(&scheduler, "one task lives", one_lives).await.store;
    let store = store.unwrap();
    let written = store.batch_bytes;
    assert!(written > 96 << 20, "{written} bytes in all");
    assert!(store.living_bytes > 0, "{store:?}");
    assert!(
        store
            .file_bytes
            .is_some_and(|bytes| bytes >= store.log_bytes)
    );
    assert!(store.living_share() < 0.5, "{store:?}");
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert!(size() < 2 << 20, "{} bytes while one task waits", size());

    let scheduler = stored("durable-cleaned", &place)
        .node(here(handlers()))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    scheduler.cancel(waits).await.unwrap();
    assert_eq!(told(&mut client, 1).await[0].id, waits, "it was kept");
    finish(scheduler).await;
    assert!(size() < 2 << 20, "{} bytes after the end", size());
}

#[actix::test]
async fn g9_what_a_node_runs_goes_on_over_a_restart_of_the_scheduler() {
    let place = Place::new();
    let node = NodeProcess::spawn(&Role::new("outlives", 2)).await;
    let mut client = Listener::start();
    let gate = Gate::open().await;
    let start = async |client: &Listener<TaskStatus>| {
        let builder = stored("durable-nodes", &place).node(node.node());
        builder.client(client.recipient()).start().await.unwrap()
    };
    let scheduler = start(&client).await;
    let tasks = calls(2, "gate", &gate.args());
    let exclusive = Execute::named("gate", &gate.args()).unwrap().exclusive();
    let ids = execute(&scheduler, tasks.into_iter().take(1).chain([exclusive])).await;
    let visits = gate.take(2).await;
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    let scheduler = start(&client).await;
    for visit in visits {
        visit.release().await;
    }
    let statuses = endings(&mut client, 2).await;
    assert!(statuses.keys().eq(&ids));
    for status in statuses.values() {
        assert!(
            matches!(status.outcome, Outcome::Completed(_)),
            "{status:?}"
        );
        assert_eq!((status.attempts, status.reroutes), (1, 0), "{status:?}");
    }
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(stats.store.unwrap().state, StoreState::Healthy);
    finish(scheduler).await;
}

#[actix::test]
async fn a_node_that_the_store_knows_may_be_named_when_it_is_up_already() {
    let place = Place::new();
    let node = NodeProcess::spawn(&Role::new("known", 1)).await;
    let scheduler = stored("durable-known", &place).node(node.node());
    let scheduler = scheduler.no_client().start().await.unwrap();
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    let scheduler = stored("durable-known", &place).listen("127.0.0.1:0");
    let scheduler = scheduler.no_client().start().await.unwrap();
    until_node(&scheduler, "known", NodeState::Up).await;
    let adding = tokio::time::timeout(PATIENCE, scheduler.add_node(node.node()));
    adding.await.expect("it is up").unwrap();
    finish(scheduler).await;
}

#[test]
fn a_scheduler_on_one_thread_stores_on_that_thread() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let place = Place::new();
    actix::System::with_tokio_rt(runtime).block_on(async {
        for hour in 0..2u64 {
            let mut client = Listener::start();
            let scheduler = stored("durable-current", &place)
                .on_current_arbiter()
                .node(Node::local("here", handlers()).max_workers(1))
                .client(client.recipient())
                .start()
                .await
                .unwrap();
            let later = Execute::named("echo", &hour).unwrap();
            let later = later.delay(Duration::from_secs(10 * (hour + 1)));
            scheduler.execute(later).await.unwrap();
            if hour == 1 {
                let outputs = [client.next().await, client.next().await];
                assert_eq!(
                    outputs.map(|status| status.output::<u64>().unwrap()),
                    [0, 1]
                );
            }
            scheduler.shutdown(Shutdown::Now).await.unwrap();
        }
    });
}

#[actix::test]
async fn whoever_attaches_is_told_the_ending_of_a_task_that_an_earlier_start_took_in() {
    let place = Place::new();
    let gate = Gate::open().await;
    let start = async || {
        let store = place.store().keep(Keep::all(HOUR));
        let builder = Scheduler::builder("durable-attach").store(store);
        let builder = builder.configure(brisk).node(here(handlers()));
        builder.no_client().start().await.unwrap()
    };
    let scheduler = start().await;
    let task = Execute::named("gate", &gate.args()).unwrap();
    let id = scheduler.execute(task).await.unwrap();
    gate.next().await;
    scheduler.shutdown(Shutdown::Now).await.unwrap();

    let scheduler = start().await;
    let visit = gate.next().await;
    {
        // One that does not wait for it leaves the other alone.
        let mut dropped = pin!(scheduler.attach(id));
        tokio::select! {
            biased;
            ended = &mut dropped => panic!("it has not ended: {ended:?}"),
            _ = scheduler.stats() => {}
        }
    }
    let mut attached = pin!(scheduler.attach(id));
    tokio::select! {
        biased;
        ended = &mut attached => panic!("it has not ended: {ended:?}"),
        _ = scheduler.stats() => {}
    }
    visit.release().await;
    let status = attached.await.unwrap();
    assert_eq!((status.id, status.outcome.is_completed()), (id, true));
    let kept = scheduler.attach(id).await.unwrap();
    assert_eq!((kept.id, &kept.outcome), (id, &status.outcome));
    let id = TaskId::new(1);
    let unknown = scheduler.attach(id).await.unwrap_err();
    assert_eq!(unknown, AttachError::Unknown { id });
    finish(scheduler.clone()).await;
    let stopped = scheduler.attach(id).await.unwrap_err();
    assert_eq!(stopped, AttachError::Stopped);
}

#[actix::test]
async fn whoever_is_attached_when_the_scheduler_stops_is_told_so() {
    let place = Place::new();
    let scheduler = stored("durable-attach-stops", &place)
        .node(here(handlers()))
        .no_client();
    let scheduler = scheduler.start().await.unwrap();
    let later = Execute::named("echo", &0u64).unwrap().delay(HOUR);
    let id = scheduler.execute(later).await.unwrap();
    let ended = async {
        scheduler.stats().await.unwrap();
        scheduler.shutdown(Shutdown::Now).await.unwrap();
    };
    let (attached, ()) = tokio::join!(scheduler.attach(id), ended);
    assert_eq!(attached.unwrap_err(), AttachError::Stopped);
}

#[actix::test]
async fn what_has_failed_is_handed_in_again_one_by_one_or_by_a_filter_and_says_whose_repeat_it_is()
{
    let place = Place::new();
    let mut client = Listener::start();
    let scheduler = stored("durable-again", &place)
        .node(here(handlers()))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let failing = || Execute::named("fail.permanently", &()).unwrap();
    let failed = execute(&scheduler, [failing(), failing().key("second")]).await;
    told(&mut client, 2).await;
    let again = scheduler.execute_again(failed[0]).await.unwrap();
    let statuses = told(&mut client, 1).await;
    assert_eq!(
        (statuses[0].id, statuses[0].again_of()),
        (again, Some(failed[0]))
    );
    let kept = scheduler.settled(again).await.unwrap().unwrap();
    assert_eq!(kept.again_of(), Some(failed[0]), "it is stored");

    let unknown = scheduler.execute_again(TaskId::new(1)).await;
    assert!(
        matches!(unknown, Err(ExecuteAgainError::NotKept { id }) if id.get() == 1),
        "{unknown:?}"
    );
    let all = scheduler.execute_again_all(SettledFilter::default()).await;
    assert!(matches!(all, Err(ExecuteAgainError::MeansAll)), "{all:?}");
    let none = SettledFilter::default().kind("another");
    assert_eq!(scheduler.execute_again_all(none).await.unwrap(), []);
    let filter = SettledFilter::default().kind("fail.permanently");
    let all = scheduler.execute_again_all(filter).await.unwrap();
    let of: Vec<_> = all.iter().map(|again| again.of).collect();
    assert_eq!(of, [failed[0], failed[1], again], "first come first");
    let statuses = endings(&mut client, 3).await;
    for again in all {
        let id = again.answer.unwrap();
        assert_eq!(statuses[&id].again_of(), Some(again.of));
    }

    scheduler.forget(failed[0]).await.unwrap();
    assert!(scheduler.settled(failed[0]).await.unwrap().is_none());
    let gone = scheduler.forget(failed[0]).await;
    assert_eq!(gone, Err(ForgetError::NotKept { id: failed[0] }));
    let all = scheduler.forget_all(SettledFilter::default()).await;
    assert_eq!(all, Err(ForgetError::MeansAll));
    let filter = SettledFilter::default().kind("fail.permanently");
    assert_eq!(scheduler.forget_all(filter).await, Ok(5));
    let left = scheduler.failed(None, 10).await.unwrap();
    assert!(left.statuses.is_empty(), "{left:?}");
    let by_key = scheduler.settled_by_key("second").await.unwrap();
    assert!(by_key.is_none(), "its key leads nowhere: {by_key:?}");
    finish(scheduler).await;
}

#[actix::test]
async fn g10_a_start_waits_for_the_exclusive_handler_that_the_last_one_has_left_in_this_process() {
    let place = Place::new();
    let mut client = Listener::start();
    let start = |store: Store| {
        Scheduler::builder("durable-left-running")
            .store(store)
            .configure(brisk)
            .node(here(handlers()))
            .client(client.recipient())
    };
    let scheduler = start(place.store()).start().await.unwrap();
    let gate = Gate::open().await;
    let blocks = || Execute::named("gate.blocking", &gate.args()).unwrap();
    scheduler.execute(blocks().exclusive()).await.unwrap();
    let visit = gate.next().await;
    scheduler.shutdown(Shutdown::Now).await.unwrap();

    let refused = refused(stored("durable-left-running", &place)).await;
    assert!(matches!(refused, StoreError::Locked), "{refused}");
    let waits = start(place.store().wait(PATIENCE));
    let waits = actix_rt::spawn(async move { waits.start().await });
    visit.release().await;
    let scheduler = waits.await.unwrap().unwrap();
    // It is run again, since nobody was there to hear of its end.
    gate.next().await.release().await;
    client.next().await;
    finish(scheduler).await;
}
