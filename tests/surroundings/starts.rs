//! Starts that fail, or that nobody waits for any more: they say why, and leave nothing.

use std::fs;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, Handler};
use callboard::error::{NodeError, StartError};
use callboard::{ClientGone, Node, Scheduler, SchedulerBuilder, Shutdown, TaskStatus};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::board::{PATIENCE, assert_works, handlers, within};
use crate::child;
use crate::threads::{allow_threads, become_limited};

fn builder(name: &str) -> SchedulerBuilder {
    let node = Node::local("here", handlers()).max_workers(2).threads(1);
    Scheduler::builder(name).node(node)
}

/// Begins one that has a thread for its links too.
fn listening(name: &str) -> SchedulerBuilder {
    builder(name).listen("127.0.0.1:0")
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

/// Counts the threads and descriptors of this process.
fn held() -> (usize, usize) {
    // One descriptor is that of the look itself.
    (entries("/proc/self/task"), entries("/proc/self/fd") - 1)
}

/// Waits until this process holds no more than before.
async fn until_held(before: (usize, usize), after: &str) {
    let begun = Instant::now();
    loop {
        let now = held();
        if now.0 <= before.0 && now.1 <= before.1 {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{now:?} threads and descriptors after {after}, {before:?} before"
        );
        tokio::task::yield_now().await;
    }
}

/// Starts once all that is started once and stays. Returns what this process holds then.
async fn warm_up() -> (usize, usize) {
    let (threads, _) = held();
    assert_works(listening("warm").start().await.unwrap()).await;
    until_held((threads, usize::MAX), "the first scheduler").await;
    held()
}

#[test]
fn a_start_without_descriptors_or_threads_is_an_error_in_words_and_leaves_nothing() {
    assert!(child::play("few-descriptors").success());
    assert!(child::play("start-no-threads").success());
}

/// Starts schedulers with ever more descriptors to spare, until one starts.
pub fn with_few_descriptors() {
    actix_rt::System::new().block_on(async {
        let before = warm_up().await;
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let limit = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
        let mut refused = 0;
        for spare in 0.. {
            limit(Some((before.1 + spare) as u64));
            // On a task of its own, whose panic would not end this.
            let started = actix_rt::spawn(listening("few").start()).await;
            limit(maximum);
            match started.expect("a start does not panic") {
                Ok(scheduler) => {
                    assert_works(scheduler).await;
                    break;
                }
                Err(StartError::Thread(_) | StartError::Listen(_)) => refused += 1,
                Err(error) => panic!("with {spare} to spare: {error}"),
            }
            until_held(before, "a start that failed").await;
        }
        assert!(refused > 3, "it has started with {refused} descriptors");
    });
}

/// Starts a scheduler where no thread can be started.
pub fn without_threads() {
    become_limited();
    actix_rt::System::new().block_on(async {
        let before = warm_up().await;
        allow_threads(false);
        let started = actix_rt::spawn(listening("no-threads").start()).await;
        let error = started.expect("a start does not panic").unwrap_err();
        assert!(matches!(error, StartError::Thread(_)), "{error}");
        allow_threads(true);
        until_held(before, "a start that failed").await;
        assert_works(listening("no-threads").start().await.unwrap()).await;
    });
}

#[test]
fn a_start_that_is_dropped_at_any_place_leaves_nothing() {
    assert!(child::play("dropped-starts").success());
}

/// Polls what is to be dropped so often; whether it had come to its end before.
async fn dropped_after<T>(polls: usize, act: impl Future<Output = T>) -> bool {
    let mut act = pin!(act);
    for _ in 0..polls {
        let ended = poll_fn(|cx| Poll::Ready(act.as_mut().poll(cx).is_ready())).await;
        if ended {
            return true;
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    false
}

/// Drops starts after ever more polls, within a System and without.
pub fn dropped() {
    actix_rt::System::new().block_on(async {
        let before = warm_up().await;
        drop_starts(before).await;
    });
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    // On a thread without a System.
    std::thread::spawn(move || {
        runtime.block_on(async {
            let before = warm_up().await;
            drop_starts(before).await;
        });
    })
    .join()
    .unwrap();
}

async fn drop_starts(before: (usize, usize)) {
    for polls in 1..400 {
        let started = dropped_after(polls, listening("dropped").start()).await;
        if started {
            let scheduler = Scheduler::find("dropped").unwrap();
            scheduler.shutdown(Shutdown::Now).await.unwrap();
        }
        until_held(before, "a start that was dropped").await;
        if started {
            break;
        }
    }
    // Its name is free.
    assert_works(listening("dropped").start().await.unwrap()).await;
}

#[test]
fn local_nodes_that_come_and_go_leave_nothing() {
    assert!(child::play("local-nodes").success());
}

/// Adds local nodes and removes them, or adds them and waits no longer.
pub fn local_nodes() {
    actix_rt::System::new().block_on(async {
        warm_up().await;
        let scheduler = builder("local-nodes").start().await.unwrap();
        let before = held();
        let node = |name: &str| Node::local(name, handlers()).max_workers(2).threads(2);
        let remove = async |name: &str| {
            while scheduler.remove_node(name).await != Err(NodeError::NotFound(name.to_owned())) {}
        };
        for _ in 0..20 {
            let added = scheduler.add_node(node("more"));
            within("add_node", added).await.unwrap();
            let again = scheduler.add_node(node("more")).await;
            assert_eq!(again, Err(NodeError::NameTaken("more".to_owned())));
            remove("more").await;
            until_held(before, "a node that was removed").await;
        }
        for polls in 1..200 {
            // Its name is taken: nobody else would end it.
            let added = dropped_after(polls, scheduler.add_node(node("here"))).await;
            until_held(before, "a node that was not added").await;
            if added {
                break;
            }
        }
        for polls in 1..200 {
            let added = dropped_after(polls, scheduler.add_node(node("more"))).await;
            // It may have been added.
            scheduler.stats().await.unwrap();
            remove("more").await;
            until_held(before, "a node that nobody waited for").await;
            if added {
                break;
            }
        }
        assert_works(scheduler).await;
    });
}

#[test]
fn a_start_outside_of_a_runtime_is_an_error_in_words_and_leaves_its_name_free() {
    let mut start = pin!(builder("no-runtime").start());
    let polled = start.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Err(StartError::Thread(error))) = polled else {
        panic!("{polled:?}");
    };
    assert!(error.to_string().contains("runtime"), "{error}");
    actix_rt::System::new().block_on(async {
        let scheduler = within("the start", builder("no-runtime").start()).await;
        assert_works(scheduler.unwrap()).await;
    });
}

#[test]
fn a_runtime_without_timers_is_enough() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(async {
        let scheduler = builder("no-timers").start().await.unwrap();
        scheduler.stats().await.unwrap();
        scheduler.shutdown(Shutdown::Now).await.unwrap();
    });
}

#[actix::test]
async fn a_start_may_wait_for_ever() {
    let starting = builder("for-ever").start_timeout(Duration::MAX).start();
    assert_works(within("the start", starting).await.unwrap()).await;
}

/// A client that stops at once.
struct Brief;

impl Actor for Brief {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<TaskStatus> for Brief {
    type Result = ();

    fn handle(&mut self, _: TaskStatus, _: &mut Self::Context) {}
}

#[actix::test]
async fn a_client_that_has_stopped_before_the_start_leaves_the_name_free() {
    let client = Brief.start();
    while client.connected() {
        tokio::task::yield_now().await;
    }
    let client = || client.clone().recipient();
    let stopping = builder("brief-client")
        .client(client())
        .on_client_gone(ClientGone::Stop);
    let error = within("the start", stopping.start()).await.unwrap_err();
    assert!(matches!(error, StartError::ClientGone), "{error}");
    assert!(Scheduler::find("brief-client").is_none());
    // Where the next client is waited for, it starts.
    let holding = builder("brief-client").client(client()).start();
    assert_works(within("the start", holding).await.unwrap()).await;
    assert!(Scheduler::find("brief-client").is_none());
}

#[actix::test]
async fn a_client_that_stops_during_the_start_leaves_the_name_free() {
    for _ in 0..20 {
        let stopping = builder("briefer-client")
            .client(Brief.start().recipient())
            .on_client_gone(ClientGone::Stop);
        let started = within("the start", stopping.start()).await;
        if let Ok(scheduler) = started {
            // It ends by itself; what it left is kept.
            let _ = within("the end", scheduler.shutdown(Shutdown::Now)).await;
        }
        assert!(Scheduler::find("briefer-client").is_none());
    }
    assert_works(builder("briefer-client").start().await.unwrap()).await;
}
