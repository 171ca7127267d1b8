//! A machine that gives no more threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use callboard::stats::Stats;
use callboard::{Execute, Scheduler, Shutdown, TaskContext, TaskStatus};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{Uid, set_thread_res_uid};

use crate::board::{PATIENCE, handlers, start, within};
use crate::child;

#[test]
fn g10_what_no_thread_can_be_started_for_neither_runs_nor_is_told_as_running() {
    assert!(child::play("no-threads").success());
}

/// Becomes a user whose threads can be limited; those of the administrator cannot.
pub fn become_limited() {
    if rustix::process::geteuid().is_root() {
        let user = Uid::from_raw(60_000 + std::process::id() % 5_000);
        set_thread_res_uid(user, user, user).unwrap();
    }
}

/// Sets whether this process may start threads.
pub fn allow_threads(allowed: bool) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nproc);
    let current = if allowed { maximum } else { Some(0) };
    setrlimit(Resource::Nproc, Rlimit { current, maximum }).unwrap();
    if !allowed {
        assert!(
            thread::Builder::new().spawn(|| {}).is_err(),
            "a thread could be started"
        );
    }
}

async fn until(scheduler: &Scheduler, what: &str, holds: impl Fn(&Stats) -> bool) {
    let begun = Instant::now();
    loop {
        let stats = within("stats", scheduler.stats()).await.unwrap();
        if holds(&stats) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {stats:?}");
        tokio::task::yield_now().await;
    }
}

/// How often, and how often at once, a handler has run.
#[derive(Default)]
struct Runs {
    all: AtomicUsize,
    now: AtomicUsize,
}

/// Hands in blocking tasks where no thread can be started, and lets threads be started later.
pub fn where_no_thread_can_be_started() {
    become_limited();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let runs = Arc::new(Runs::default());
    let counted = Arc::clone(&runs);
    let handlers = handlers().on_blocking("gated", move |(): (), cx: TaskContext| {
        assert_eq!(
            counted.now.fetch_add(1, Ordering::SeqCst),
            0,
            "two runs at once"
        );
        counted.all.fetch_add(1, Ordering::SeqCst);
        gate.lock().unwrap().recv().unwrap();
        counted.now.fetch_sub(1, Ordering::SeqCst);
        Ok(cx.attempt())
    });
    actix_rt::System::new().block_on(async {
        let scheduler = start("no-threads", handlers).await;
        let settle = || {
            let scheduler = scheduler.clone();
            let task = Execute::named("gated", &()).unwrap().exclusive();
            actix_rt::spawn(async move { scheduler.execute_and_wait(task).await.unwrap() })
        };
        let attempt = |status: TaskStatus| status.output::<u32>().unwrap();

        // None at all.
        allow_threads(false);
        let first = settle();
        until(&scheduler, "it waits", |stats| {
            stats.totals.rerouted > 0 && stats.running == 0
        })
        .await;
        assert_eq!(runs.all.load(Ordering::SeqCst), 0);
        allow_threads(true);
        // What was sent to a free worker counts as running before it has begun.
        until(&scheduler, "it runs", |_| {
            runs.all.load(Ordering::SeqCst) == 1
        })
        .await;

        // None beside the one that it has.
        allow_threads(false);
        let second = settle();
        until(&scheduler, "the second waits", |stats| {
            stats.totals.rerouted > 1 && stats.running == 1 && stats.pending == 1
        })
        .await;
        go_on.send(()).unwrap();
        assert_eq!(attempt(within("the first", first).await.unwrap()), 1);
        // It runs on the thread that the first has left.
        go_on.send(()).unwrap();
        assert_eq!(attempt(within("the second", second).await.unwrap()), 1);
        assert_eq!(runs.all.load(Ordering::SeqCst), 2);
        allow_threads(true);
        let left = within("shutdown", scheduler.shutdown(Shutdown::Now)).await;
        assert!(left.unwrap().unfinished.is_empty());
    });
}
