//! **What it shows.** The smallest whole: a scheduler, a node in the same process, and a client.
//!
//! **How to run it.** `cargo run --example hello`
//!
//! **What you will see.** Three greetings in any order, each with its task's id and `Ok`.

use actix::prelude::*;
use callboard::{Execute, Handlers, Node, Scheduler, Shutdown, TaskStatus};
use std::{error::Error, time::Duration};

struct Client;

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        println!("{}: {:?}", status.id, status.output::<String>());
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let handlers = Handlers::new().on("hello", async |name: String| Ok(format!("hello, {name}")));
    let scheduler = Scheduler::builder("hello")
        .node(Node::local("here", handlers).max_workers(2))
        .client(Client.start().recipient())
        .start()
        .await?;
    for name in ["stage", "pit", "gallery"] {
        scheduler.execute(Execute::named("hello", &name)?).await?;
    }
    // Waits until all is done and told, ten seconds at most.
    let limit = Duration::from_secs(10);
    scheduler.shutdown(Shutdown::Drain(limit)).await?;
    Ok(())
}
