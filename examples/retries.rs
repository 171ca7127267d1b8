//! **What it shows.** How failed attempts are tried again: by a policy, after a wait that the
//! handler chooses, or not at all.
//!
//! **How to run it.** `cargo run --example retries`
//!
//! **What you will see.** Each attempt, and how the three tasks ended: completed at the third
//! attempt, completed at the second, failed at the first.

use std::error::Error;
use std::time::Duration;

use callboard::{
    Execute, Handlers, Node, RetryPolicy, Scheduler, Shutdown, TaskContext, TaskError,
};

/// Fails twice. `?` would make any error such a one.
async fn flaky(_: (), cx: TaskContext) -> Result<(), TaskError> {
    println!("flaky: attempt {}", cx.attempt());
    match cx.attempt() {
        1 | 2 => Err(TaskError::retry("the line was busy")),
        _ => Ok(()),
    }
}

/// Was told when to come back.
async fn limited(_: (), cx: TaskContext) -> Result<(), TaskError> {
    println!("limited: attempt {}", cx.attempt());
    match cx.attempt() {
        1 => Err(TaskError::retry_after(
            Duration::from_millis(300),
            "too many requests",
        )),
        _ => Ok(()),
    }
}

/// Fails for good: another attempt would do no better.
async fn wrong(_: (), cx: TaskContext) -> Result<(), TaskError> {
    println!("wrong: attempt {}", cx.attempt());
    Err(TaskError::permanent("there is no such account"))
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let handlers = Handlers::new()
        .on("flaky", flaky)
        .on("limited", limited)
        .on("wrong", wrong);
    // Of tasks that bring no policy of their own: waits that double, with jitter, up to 5 s.
    let policy = RetryPolicy::exponential(Duration::from_millis(50), Duration::from_secs(5));
    let scheduler = Scheduler::builder("retries")
        .node(Node::local("here", handlers))
        .retry(policy.max_attempts(4))
        .no_client()
        .start()
        .await?;
    for kind in ["flaky", "limited", "wrong"] {
        let status = scheduler
            .execute_and_wait(Execute::named(kind, &())?)
            .await?;
        println!(
            "{kind}: {} after {} attempts",
            status.outcome, status.attempts
        );
    }
    scheduler.shutdown(Shutdown::Now).await?;
    Ok(())
}
