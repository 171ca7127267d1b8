//! **What it shows.** Progress that a watcher hears, and a cancel that tells what it achieved.
//!
//! **How to run it.** `cargo run --example cancel`
//!
//! **What you will see.** How far the task is, until it is cancelled at 30 percent; then what the
//! cancel achieved, and how the task ended.

use std::error::Error;
use std::time::Duration;

use actix::prelude::*;
use callboard::status::TaskEventKind;
use callboard::{
    Execute, Handlers, Node, Scheduler, Shutdown, TaskContext, TaskError, TaskEvent, TaskStatus,
};

/// Paints until it is to end: nothing can stop a blocking handler from outside, so it asks.
fn paint(_: (), cx: TaskContext) -> Result<(), TaskError> {
    for percent in 0..=100u8 {
        if cx.is_cancelled() {
            return Err(TaskError::permanent("left unfinished"));
        }
        std::thread::sleep(Duration::from_millis(20));
        cx.progress(&percent)?;
    }
    Ok(())
}

/// Hears what happens to the task, and has it cancelled at 30 percent.
struct Watcher(Scheduler);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<TaskEvent> for Watcher {
    type Result = ();

    fn handle(&mut self, told: TaskEvent, ctx: &mut Self::Context) {
        let percent = match &told.event {
            TaskEventKind::Progress(_) => told.event.progress::<u8>().unwrap_or(0),
            other => return println!("{other:?}"),
        };
        println!("{percent} %");
        if percent == 30 {
            let scheduler = self.0.clone();
            let cancel = async move { println!("cancel: {:?}", scheduler.cancel(told.id).await) };
            ctx.spawn(cancel.into_actor(self));
        }
    }
}

struct Client;

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        println!("{} {}", status.id, status.outcome);
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let handlers = Handlers::new().on_blocking("paint", paint);
    let scheduler = Scheduler::builder("cancel")
        .node(Node::local("here", handlers).max_workers(1))
        .client(Client.start().recipient())
        .start()
        .await?;
    let watcher = Watcher(scheduler.clone()).start();
    let execute = Execute::named("paint", &())?.watch(watcher.recipient());
    scheduler.execute(execute).await?;
    let limit = Duration::from_secs(10);
    scheduler.shutdown(Shutdown::Drain(limit)).await?;
    Ok(())
}
