//! A scheduler with one node in this process, and what it is asked to do.

use std::time::Duration;

use callboard::error::Refusal;
use callboard::{Execute, Handlers, Node, Outcome, Scheduler, Shutdown, TaskError, TaskStatus};
use tokio::time::timeout;

/// How long anything may take that is to happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Handlers of every sort: one that completes at once, one that takes a while, one that fails, one
/// that panics, and blocking ones that do the same.
pub fn handlers() -> Handlers {
    Handlers::new()
        .on("echo", async |n: u64| Ok(n))
        .on("yields", async |n: u64| {
            tokio::task::yield_now().await;
            Ok(n)
        })
        .on("pends", async |(): ()| -> Result<(), TaskError> {
            std::future::pending().await
        })
        .on("fails", async |_: u64| -> Result<(), TaskError> {
            Err(TaskError::permanent("no"))
        })
        .on("panics", async |_: u64| -> Result<(), TaskError> {
            std::panic::resume_unwind(Box::new("an attempt"))
        })
        .on_blocking("echo-blocking", |n: u64| Ok(n))
        .on_blocking("panics-blocking", |_: u64| -> Result<(), TaskError> {
            std::panic::resume_unwind(Box::new("an attempt"))
        })
}

/// Starts a scheduler with a node of two workers on one thread.
pub async fn start(name: &str, handlers: Handlers) -> Scheduler {
    let node = Node::local("here", handlers).max_workers(2).threads(1);
    let starting = Scheduler::builder(name).node(node).start();
    within("the start", starting).await.unwrap()
}

pub async fn within<T>(what: &str, act: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, act).await {
        Ok(done) => done,
        Err(_) => panic!("{what} is not answered"),
    }
}

pub async fn settle(scheduler: &Scheduler, execute: Execute) -> TaskStatus {
    let kind = execute.kind().clone();
    within(kind.as_str(), scheduler.execute_and_wait(execute))
        .await
        .unwrap()
}

pub async fn settle_call(scheduler: &Scheduler, kind: &str) -> TaskStatus {
    let policy = callboard::RetryPolicy::default().max_attempts(1);
    let execute = Execute::named(kind, &1u64).unwrap().retry(policy);
    settle(scheduler, execute).await
}

/// Asserts that a scheduler does all that it should, whatever surrounds it, and ends it.
pub async fn assert_works(scheduler: Scheduler) {
    for kind in ["echo", "yields", "echo-blocking"] {
        let status = settle_call(&scheduler, kind).await;
        assert_eq!(status.output::<u64>().unwrap(), 1, "{kind}");
    }
    for kind in ["fails", "panics", "panics-blocking"] {
        let status = settle_call(&scheduler, kind).await;
        assert!(matches!(status.outcome, Outcome::Failed(_)), "{status:?}");
    }
    let pends = Execute::named("pends", &()).unwrap();
    let timed_out = pends.clone().timeout(Duration::from_millis(1));
    let policy = callboard::RetryPolicy::default().max_attempts(1);
    let status = settle(&scheduler, timed_out.retry(policy)).await;
    assert!(matches!(status.outcome, Outcome::Failed(_)), "{status:?}");
    let id = within("execute", scheduler.execute(pends)).await.unwrap();
    within("stats", scheduler.stats()).await.unwrap();
    within("cancel", scheduler.cancel(id)).await.unwrap();
    let left = within("shutdown", scheduler.shutdown(Shutdown::Now)).await;
    assert!(left.unwrap().unfinished.is_empty());
    let after = scheduler.execute(Execute::named("echo", &1u64).unwrap());
    let refused = within("execute", after).await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::Stopped);
}
