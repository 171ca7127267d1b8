//! **What it shows.** The dashboard, with something to look at: three nodes, tasks that come and
//! go, some of which fail, and a kind with a limit.
//!
//! **How to run it.** `cargo run --features dashboard --example dashboard`, then open
//! <http://127.0.0.1:8080/tasks>.
//!
//! **What you will see.** Worker cells that change as they work, plots that move, failures that can
//! be run again. Whoever asks from this machine may do all, and nobody else may do anything. Ctrl-C
//! ends it.

use std::error::Error;
use std::time::Duration;

use actix_web::{App, HttpServer};
use callboard::dashboard::{self, Access, Colour};
use callboard::{Execute, Handlers, Limit, Node, RetryPolicy, Scheduler, Shutdown, TaskError};
use tokio::signal::unix::{SignalKind, signal};

/// Takes a while, and fails now and then.
async fn resize(width: u64) -> Result<u64, TaskError> {
    tokio::time::sleep(Duration::from_millis(50 + width % 700)).await;
    match width % 40 {
        0 => Err(TaskError::permanent(format!(
            "no image has the number {width}"
        ))),
        1 => Err(TaskError::retry(format!(
            "the disk was busy for {width} ms"
        ))),
        _ => Ok(width),
    }
}

fn node(name: &str) -> Node {
    let handlers =
        Handlers::new()
            .on("image.resize", resize)
            .on("mail.send", async |to: String| {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Ok(to)
            });
    Node::local(name, handlers).max_workers(8)
}

/// Hands in tasks for as long as the scheduler runs.
async fn hand_in(scheduler: Scheduler) {
    for number in 0u64.. {
        let resize = Execute::named("image.resize", &number);
        let mail = Execute::named("mail.send", &format!("customer-{}", number % 7));
        let mail = mail.map(|mail| mail.group(format!("customer-{}", number % 7)));
        let tasks = resize
            .into_iter()
            .chain(mail.ok().filter(|_| number % 5 == 0));
        for answer in scheduler.execute_many(tasks.collect()).await {
            if answer.is_err_and(|error| !error.refusal.is_temporary()) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scheduler = Scheduler::builder("example")
        .retry(RetryPolicy::fixed(Duration::from_secs(2)).max_attempts(3))
        .limit(
            "mail.send",
            Limit::concurrency(4).each_group(Limit::concurrency(1)),
        )
        .node(node("one"))
        .node(node("two"))
        .node(node("three"))
        .no_client()
        .start()
        .await?;
    scheduler.mark("started");
    actix::spawn(hand_in(scheduler.clone()));

    let shown = scheduler.clone();
    let server = HttpServer::new(move || {
        App::new().service(
            dashboard::scope("/tasks")
                .scheduler(&shown)
                .title("example", Colour::Blue)
                .access(Access::loopback),
        )
    });
    println!("open http://127.0.0.1:8080/tasks");
    // Left to the server, a signal would stop the whole actix System, and the scheduler with it.
    let server = server
        .bind(("127.0.0.1", 8080))?
        .workers(1)
        .disable_signals();
    let server = server.shutdown_timeout(1).run();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let stop = server.handle();
    actix::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.stop(true).await;
    });
    server.await?;
    scheduler.shutdown(Shutdown::Now).await?;
    Ok(())
}
