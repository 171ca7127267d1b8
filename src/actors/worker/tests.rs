//! What an attempt may do, and what it costs: never more than itself.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::actors::WorkerThreads;
use crate::actors::tests::{
    lone_node::{LoneNode, parts},
    paused_runtime,
};
use crate::clock::Clock;
use crate::engine::message::{End, Report, Terms, ToNode};
use crate::handlers::{Handlers, TaskContext, TaskError};
use crate::status::Cause;

fn again(end: End) -> (Cause, String, Duration) {
    match end {
        End::Again { after, failure } => (failure.cause, failure.message, after),
        other => panic!("not a retry: {other:?}"),
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

fn failing() -> Handlers {
    Handlers::new()
        .on("ok", async |(): ()| Ok(()))
        .on("retry", async |(): ()| -> Result<(), _> {
            Err(TaskError::retry("try again"))
        })
        .on("retry after", async |(): ()| -> Result<(), _> {
            Err(TaskError::retry_after(Duration::from_secs(77), "busy"))
        })
        .on("permanent", async |(): ()| -> Result<(), _> {
            Err(TaskError::permanent("never"))
        })
        .on("panic", async |n: u64| -> Result<(), _> {
            panic!("at {n}")
        })
        .on("panic later", async |n: u64| -> Result<(), _> {
            tokio::task::yield_now().await;
            panic!("at {n}")
        })
        .on("panic before the future", |n: u64| {
            if n > 0 {
                panic!("at {n}");
            }
            async { Ok(()) }
        })
        .on("panic with a bomb", async |_: u64| -> Result<(), _> {
            std::panic::panic_any(Bomb)
        })
        .on_blocking("blocking panic", |n: u64| -> Result<(), _> {
            panic!("at {n}")
        })
        .on("large", async |n: usize| Ok("x".repeat(n)))
        .on("stuck", async |(): ()| -> Result<(), _> {
            let _bomb = Bomb;
            std::future::pending().await
        })
}

#[actix::test]
async fn g7_errors_cost_one_attempt_and_say_when_to_try_again() {
    let mut node = LoneNode::start(failing(), 1, 1).await;
    let end = node.end_of("retry", ()).await;
    let policy = Duration::from_secs(3);
    assert_eq!(again(end), (Cause::Error, "try again".into(), policy));
    let end = node.end_of("retry after", ()).await;
    let asked = Duration::from_secs(77);
    assert_eq!(again(end), (Cause::Error, "busy".into(), asked));
    let End::Failed(failure) = node.end_of("permanent", ()).await else {
        panic!("a permanent error is not retried");
    };
    assert_eq!(failure.cause, Cause::Permanent);
    let mut last = node.assignment("retry", ());
    last.attempt = 10;
    let dispatch = node.assign(last);
    let End::Failed(failure) = node.end(dispatch).await.0 else {
        panic!("the tenth of ten attempts is the last");
    };
    assert_eq!(failure.cause, Cause::Error);
    let (cause, message, _) = again(node.end_of("large", 2000usize).await);
    assert_eq!(cause, Cause::OutputTooLarge, "{message}");
    node.stop().await;
}

#[actix::test]
async fn g7_a_panic_costs_that_attempt_alone() {
    let mut node = LoneNode::start(failing(), 1, 1).await;
    for kind in [
        "panic",
        "panic later",
        "panic before the future",
        "blocking panic",
    ] {
        let (cause, message, _) = again(node.end_of(kind, 4u64).await);
        assert_eq!((cause, message.as_str()), (Cause::Panic, "at 4"), "{kind}");
        assert!(matches!(node.end_of("ok", ()).await, End::Completed(_)));
    }
    let (cause, _, _) = again(node.end_of("panic with a bomb", 4u64).await);
    assert_eq!(cause, Cause::Panic);
    assert!(matches!(node.end_of("ok", ()).await, End::Completed(_)));
    node.stop().await;
}

#[actix::test]
async fn g7_a_panic_while_a_stopped_handler_is_dropped_is_contained() {
    let mut node = LoneNode::start(failing(), 1, 1).await;
    let stuck = node.call("stuck", ());
    node.tell(ToNode::Cancel(vec![stuck]));
    assert_eq!(node.end(stuck).await, (End::Stopped, false));
    let limit = Duration::from_millis(1);
    let terms = Terms {
        timeout: Some(limit),
        ..Terms::default()
    };
    let stuck = node.call_with("stuck", (), terms);
    let (end, overrun) = node.end(stuck).await;
    assert_eq!((again(end).0, overrun), (Cause::Timeout, false));
    assert!(matches!(node.end_of("ok", ()).await, End::Completed(_)));
    node.stop().await;
}

#[actix::test]
async fn g12_an_async_handler_is_dropped_and_what_it_started_is_told() {
    let told = Arc::new(Semaphore::new(0));
    let started = Arc::new(Semaphore::new(0));
    let handlers = Handlers::new()
        .on("wait", async |(): (), cx: TaskContext| -> Result<(), _> {
            let [started, told] =
                [0, 1].map(|n| Arc::clone(&cx.data::<[Arc<Semaphore>; 2]>().unwrap()[n]));
            let aside = cx.clone();
            actix_rt::spawn(async move {
                aside.cancelled().await;
                told.add_permits(1);
            });
            started.add_permits(1);
            std::future::pending().await
        })
        .data([Arc::clone(&started), Arc::clone(&told)]);
    let mut node = LoneNode::start(handlers, 1, 1).await;
    let run = node.call("wait", ());
    started.acquire().await.unwrap().forget();
    node.tell(ToNode::Cancel(vec![run]));
    assert_eq!(node.end(run).await, (End::Stopped, false));
    told.acquire().await.unwrap().forget();
    node.stop().await;
}

/// Makes a blocking handler that goes on until it is let go, and then says whether it was
/// cancelled.
fn held() -> (Handlers, mpsc::Sender<()>, Arc<AtomicBool>) {
    let (let_go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let seen = Arc::new(AtomicBool::new(false));
    let handlers = Handlers::new()
        .on_blocking("held", {
            let seen = Arc::clone(&seen);
            move |ok: bool, cx: TaskContext| {
                gate.lock().unwrap().recv()?;
                seen.store(cx.is_cancelled(), Ordering::SeqCst);
                if ok {
                    Ok(())
                } else {
                    Err(TaskError::retry("gave up"))
                }
            }
        })
        .on("ok", async |(): ()| Ok(()));
    (handlers, let_go, seen)
}

#[actix::test]
async fn g4_a_timed_out_blocking_handler_keeps_its_worker_until_it_ends() {
    let (handlers, let_go, seen) = held();
    let mut node = LoneNode::start(handlers, 1, 1).await;
    let terms = Terms {
        timeout: Some(Duration::from_millis(1)),
        ..Terms::default()
    };
    let run = node.call_with("held", true, terms);
    let (end, overrun) = node.end(run).await;
    assert_eq!((again(end).0, overrun), (Cause::Timeout, true));
    let next = node.call("ok", ());
    assert_eq!(node.node.addr.send(crate::actors::Running).await, Ok(1));
    let_go.send(()).unwrap();
    match node.report().await {
        Report::Freed { dispatch, .. } => assert_eq!(dispatch, run),
        other => panic!("{other:?}"),
    }
    assert!(seen.load(Ordering::SeqCst), "it was told");
    assert!(matches!(node.end(next).await, (End::Completed(_), false)));
    node.stop().await;
}

#[actix::test]
async fn g12_a_cancelled_blocking_handler_is_told_and_reports_what_it_does() {
    let handlers = Handlers::new().on_blocking("until told", |ok: bool, cx: TaskContext| {
        tokio::runtime::Handle::current().block_on(cx.cancelled());
        if ok {
            Ok(())
        } else {
            Err(TaskError::retry("gave up"))
        }
    });
    let mut node = LoneNode::start(handlers, 1, 1).await;
    for ok in [true, false] {
        let run = node.call("until told", ok);
        node.tell(ToNode::Cancel(vec![run]));
        let (end, overrun) = node.end(run).await;
        assert!(!overrun);
        match ok {
            true => assert!(matches!(end, End::Completed(_)), "{end:?}"),
            false => assert_eq!(end, End::Stopped),
        }
    }
    node.stop().await;
}

#[actix::test]
async fn g7_a_handler_that_blocks_its_thread_is_named_and_its_neighbours_go_elsewhere() {
    let (let_go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let handlers =
        Handlers::new()
            .on("ok", async |(): ()| Ok(()))
            .on("blocks", async move |(): ()| {
                // What no async handler should do.
                gate.lock().unwrap().recv()?;
                Ok(())
            });
    let mut node = LoneNode::start(handlers, 8, 2).await;
    // Worker 2, on the first thread, where one has ended whose report has not left, and others come
    // after.
    let mut batch: Vec<_> = (0..8).map(|_| node.assignment("ok", ())).collect();
    batch[2].kind = node.assignment("blocks", ()).kind;
    let culprit = batch[2].task;
    node.tell(ToNode::Assign(batch));
    let mut ended = 0;
    let mut named = false;
    while !named || ended < 7 {
        match node.any_report().await {
            Report::Ended { end, task, .. } => {
                assert_ne!(task, culprit);
                assert!(matches!(end, End::Completed(_)));
                ended += 1;
            }
            Report::Stalled { workers, task } => {
                if let Some(task) = task {
                    assert_eq!(task, culprit);
                    named = true;
                    assert!(workers <= 3, "one of four is occupied");
                }
            }
            Report::Started { .. } | Report::Ready => {}
            other => panic!("{other:?}"),
        }
    }
    let_go.send(()).unwrap();
    let mut done = false;
    let mut back = false;
    while !done || !back {
        match node.any_report().await {
            Report::Ended { task, .. } => {
                assert_eq!(task, culprit);
                done = true;
            }
            Report::Stalled { workers: 0, .. } => back = true,
            Report::Stalled { .. } | Report::Started { .. } | Report::Ready => {}
            other => panic!("{other:?}"),
        }
    }
    node.stop().await;
}

#[actix::test]
async fn g4_a_thousand_workers_run_a_thousand_tasks_at_once() {
    const WORKERS: usize = 1000;
    let meeting = Arc::new(tokio::sync::Barrier::new(WORKERS));
    let most = Arc::new(AtomicUsize::new(0));
    let handlers = Handlers::new().on("meet", {
        let (meeting, most, now) = (Arc::clone(&meeting), Arc::clone(&most), AtomicUsize::new(0));
        async move |(): ()| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            meeting.wait().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let mut node = LoneNode::start(handlers, 1000, 2).await;
    let batch = (0..3 * WORKERS).map(|_| node.assignment("meet", ()));
    node.tell(ToNode::Assign(batch.collect()));
    for _ in 0..3 * WORKERS {
        match node.report().await {
            Report::Ended { end, .. } => assert!(matches!(end, End::Completed(_)), "{end:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(most.load(Ordering::SeqCst), WORKERS);
    node.stop().await;
}

#[actix::test]
async fn a_node_that_is_ended_drops_what_runs_and_waits_for_nothing() {
    let (handlers, let_go, _) = held();
    let dropped = Arc::new(Semaphore::new(0));
    struct Tell(Arc<Semaphore>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    let started = Arc::new(Semaphore::new(0));
    let handlers = handlers.on("pends", {
        let (dropped, started) = (Arc::clone(&dropped), Arc::clone(&started));
        async move |(): ()| -> Result<(), _> {
            let _tell = Tell(Arc::clone(&dropped));
            started.add_permits(1);
            std::future::pending().await
        }
    });
    let node = LoneNode::start(handlers, 2, 1).await;
    node.call("held", true);
    node.call("pends", ());
    started.acquire().await.unwrap().forget();
    node.kill().await;
    dropped.acquire().await.unwrap().forget();
    let_go.send(()).unwrap();
}

#[test]
fn on_the_current_thread_a_node_lives_under_a_paused_clock() {
    let handlers = Handlers::new().on("sleep", async |hours: u64| {
        tokio::time::sleep(Duration::from_secs(3600 * hours)).await;
        Ok(())
    });
    actix::System::with_tokio_rt(paused_runtime).block_on(async move {
        let began = tokio::time::Instant::now();
        let mut node = LoneNode::start_here(handlers, 2).await;
        for hours in [2u64, 1, 3, 1] {
            node.call("sleep", hours);
        }
        let mut hours = Vec::new();
        for _ in 0..4 {
            match node.report().await {
                Report::Ended { ran, end, .. } => {
                    assert!(matches!(end, End::Completed(_)));
                    hours.push(ran.as_secs() / 3600);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(hours, [1, 2, 1, 3]);
        assert_eq!(began.elapsed().as_secs() / 3600, 4);
        node.stop().await;
    });
}

#[tokio::test]
async fn without_an_actix_system_a_start_says_what_to_do() {
    let parts = parts(failing(), 1, WorkerThreads::Own(1), Clock::Process);
    let local = tokio::task::LocalSet::new();
    let error = local.run_until(parts.start(None)).await.unwrap_err();
    assert!(error.to_string().contains("#[actix::main]"), "{error}");
}

/// Notes the attempts whose spans are opened.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

impl std::io::Write for Spans {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push(String::from_utf8_lossy(text).into_owned());
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_handler_logs_names_its_attempt() {
    let spans = Spans::default();
    let writer = spans.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let handlers = Handlers::new().on("logs", async |(): ()| {
        tracing::info!("first");
        tokio::task::yield_now().await;
        tracing::info!("second");
        Ok(())
    });
    // On this thread alone, and so only what runs on it is seen.
    let _guard = tracing::subscriber::set_default(subscriber);
    actix::System::new().block_on(async move {
        let mut node = LoneNode::start_here(handlers, 1).await;
        node.end_of("logs", ()).await;
        node.stop().await;
    });
    let lines = spans.0.lock().unwrap();
    for word in ["first", "second"] {
        let line = lines.iter().find(|line| line.contains(word)).unwrap();
        let collected = if cfg!(feature = "otel") {
            r#" otel.name=process logs otel.kind="consumer""#
        } else {
            ""
        };
        let span = format!("attempt{{task=t1 kind=logs attempt=1 dispatch=#1{collected}}}");
        assert!(line.contains(&span), "{line}");
    }
}
