//! Code of others that panics: what it costs, and what it does not (G7).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, Arbiter, Context, Handler};
use bytes::Bytes;
use callboard::{
    Cause, Execute, Handlers, Outcome, Scheduler, Shutdown, TaskError, TaskEvent, TaskStatus,
};
use tokio::sync::Semaphore;

use crate::board::{assert_works, handlers, settle, settle_call, start, within};
use crate::child;
use crate::subscriber::{Call, Panicking};

#[test]
fn g7_a_subscriber_that_panics_costs_its_lines_alone() {
    assert!(child::play("subscriber").success());
}

/// Runs everything under a subscriber that panics, at each of its calls in turn.
pub fn under_a_subscriber_that_panics() {
    tracing::subscriber::set_global_default(Panicking).unwrap();
    actix_rt::System::new().block_on(async {
        for call in Call::ALL {
            Panicking::at(call);
            eprintln!("at {call:?}");
            // The name is free each time.
            let scheduler = start("under-a-subscriber", handlers()).await;
            assert_works(scheduler).await;
            assert!(call == Call::Nothing || Panicking::panics() > 0, "{call:?}");
        }
    });
}

#[test]
fn g7_a_log_that_nobody_reads_costs_nothing() {
    assert!(child::play_unread("closed-pipe").success());
}

/// Runs everything with the usual subscriber, whose lines can be written nowhere.
pub fn with_a_log_that_nobody_reads() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .init();
    // So that there is nothing that the test reads before its end.
    while std::panic::catch_unwind(|| println!("a line")).is_ok() {
        std::thread::yield_now();
    }
    actix_rt::System::new().block_on(async {
        let scheduler = start("with-a-closed-pipe", handlers()).await;
        assert_works(scheduler).await;
    });
}

#[test]
fn the_panic_hook_of_an_application_is_called_and_stays_its_own() {
    assert!(child::play("panic-hooks").success());
}

/// Sets hooks before the first scheduler and after it, and has a handler panic under each.
pub fn under_hooks_of_its_own() {
    let calls = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let count = |calls: &Arc<AtomicUsize>| {
        let calls = Arc::clone(calls);
        std::panic::set_hook(Box::new(move |_| {
            calls.fetch_add(1, Ordering::Relaxed);
        }));
    };
    let told = || calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
    count(&calls[0]);
    actix_rt::System::new().block_on(async {
        let handlers = Handlers::new().on("raises", async |_: u64| -> Result<(), TaskError> {
            panic!("as it was told to")
        });
        let scheduler = start("under-hooks", handlers).await;
        for after in [[1, 0], [1, 1]] {
            let status = settle_call(&scheduler, "raises").await;
            let Outcome::Failed(failure) = &status.outcome else {
                panic!("{status:?}");
            };
            assert_eq!(failure.cause, Cause::Panic);
            assert_eq!(told(), after);
            count(&calls[1]);
        }
        scheduler.shutdown(Shutdown::Now).await.unwrap();
    });
}

/// Panics when it is dropped.
#[derive(Clone)]
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        // Once for all clones: a second one on its way out would abort.
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            std::panic::resume_unwind(Box::new("a drop"));
        }
    }
}

fn bomb() -> (Bomb, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    (Bomb(Arc::clone(&dropped)), dropped)
}

struct Owner {
    _bomb: Bomb,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[actix::test]
async fn g7_args_that_panic_when_they_are_dropped_cost_nothing() {
    let handlers = handlers().on("length", async |bytes: Bytes| Ok(bytes.len()));
    let scheduler = start("args-that-panic", handlers).await;
    for kind in ["length", "nobody-has-it"] {
        let (bomb, dropped) = bomb();
        let args = Bytes::from_owner(Owner {
            _bomb: bomb,
            bytes: vec![7; 100],
        });
        let execute = Execute::raw(kind, args).deadline(std::time::Duration::from_millis(100));
        settle(&scheduler, execute).await;
        within("stats", scheduler.stats()).await.unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "{kind}");
    }
    assert_works(scheduler).await;
}

#[actix::test]
async fn g7_handlers_and_data_that_panic_when_they_are_dropped_cost_nothing() {
    let (first, dropped) = bomb();
    let (second, also_dropped) = bomb();
    let ended = Arc::new(Semaphore::new(0));
    let data = (second, Arc::clone(&ended));
    let with_bombs = handlers()
        .on("bomb", async move |n: u64| {
            let _first = &first;
            Ok(n)
        })
        .data(data);
    let scheduler = start("handlers-that-panic", with_bombs).await;
    settle_call(&scheduler, "bomb").await;
    assert_works(scheduler).await;
    // The node's threads, with all that it had, end after its scheduler.
    while Arc::strong_count(&ended) > 1 {
        tokio::task::yield_now().await;
    }
    let dropped = [dropped, also_dropped].map(|dropped| dropped.load(Ordering::SeqCst));
    assert_eq!(dropped, [1, 1]);
    assert_works(start("handlers-that-panic", handlers()).await).await;
}

/// A client, and a watcher, that panics at all that it is told.
struct Faint(Arc<Semaphore>);

impl Actor for Faint {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Faint {
    type Result = ();

    fn handle(&mut self, _: TaskStatus, _: &mut Context<Self>) {
        self.0.add_permits(1);
        std::panic::resume_unwind(Box::new("a client"));
    }
}

impl Handler<TaskEvent> for Faint {
    type Result = ();

    fn handle(&mut self, _: TaskEvent, _: &mut Context<Self>) {
        self.0.add_permits(1);
        std::panic::resume_unwind(Box::new("a watcher"));
    }
}

#[actix::test]
async fn g7_clients_and_watchers_that_panic_cost_nothing_but_themselves() {
    let scheduler = start("clients-that-panic", handlers()).await;
    let told = Arc::new(Semaphore::new(0));
    let faint = || Faint(Arc::clone(&told)).start();
    let task = || Execute::named("echo", &1u64).unwrap();
    let watched = task().watch(faint().recipient());
    let with_client = task().client(faint().recipient());
    for execute in [watched, with_client] {
        within("execute", scheduler.execute(execute)).await.unwrap();
        let told = within("what was told", told.acquire()).await.unwrap();
        told.forget();
    }
    assert_works_with_statuses(scheduler, 2).await;
}

/// Checks as [`assert_works`] does, where so many statuses are held for a client that does not
/// come.
async fn assert_works_with_statuses(scheduler: Scheduler, held: usize) {
    settle_call(&scheduler, "echo").await;
    let left = within("shutdown", scheduler.shutdown(Shutdown::Now)).await;
    assert_eq!(left.unwrap().statuses.len(), held);
}

#[actix::test]
async fn g7_a_handler_that_stops_its_arbiter_costs_nothing() {
    let handlers: Handlers = handlers().on("stops", async |n: u64| {
        Arbiter::current().stop();
        tokio::task::yield_now().await;
        Ok(n)
    });
    let scheduler = start("a-stopped-arbiter", handlers).await;
    for _ in 0..2 {
        let status = settle_call(&scheduler, "stops").await;
        assert_eq!(status.output::<u64>().unwrap(), 1);
    }
    assert_works(scheduler).await;
}
