//! **What it shows.** A scheduler whose nodes are other processes, on this machine or another;
//! typed tasks and tasks by name; what stats say of each node.
//!
//! **How to run it.** Start one or more nodes as `examples/node.rs` says, then, in another
//! terminal:
//!
//! ```text
//! CALLBOARD_SECRET="the curtain rises at eight" \
//!     cargo run --example scheduler -- node-1=127.0.0.1:7000
//! ```
//!
//! with one `NAME=ADDRESS` for each node. `CALLBOARD_CERTS` in place of the secret is a directory
//! with `scheduler.crt`, `scheduler.key` and `ca.crt`.
//!
//! **What you will see.** What is known of each node, then twenty scenes, as each is done and by
//! which node, and how many primes there are below a million. Kill a node in the middle (`kill
//! -9`): its scenes are done by another; kill the only one: they wait until it is started again.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use actix::prelude::*;
use callboard::{Call, Execute, Node, Scheduler, Shutdown, TaskStatus, Tls};
use serde::Serialize;

/// What a caller has to know of a task whose body is linked into the node alone.
#[derive(Serialize)]
struct Rehearse {
    scene: String,
    millis: u64,
}

impl Call for Rehearse {
    const KIND: &'static str = "scene.rehearse";
    type Output = String;
}

struct Client;

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        match status.output::<String>() {
            Ok(output) => println!("{} {output}", status.id),
            Err(error) => println!("{} {error}", status.id),
        }
    }
}

#[actix::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scheduler: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut builder = Scheduler::builder("scheduler").client(Client.start().recipient());
    builder = match std::env::var("CALLBOARD_CERTS") {
        Ok(certs) => {
            let file = |name| format!("{certs}/{name}");
            builder.tls(Tls::files(
                file("scheduler.crt"),
                file("scheduler.key"),
                file("ca.crt"),
            ))
        }
        Err(_) => {
            let secret = std::env::var("CALLBOARD_SECRET")
                .map_err(|_| "set CALLBOARD_SECRET, or CALLBOARD_CERTS")?;
            builder.secret(secret)
        }
    };
    for arg in std::env::args().skip(1) {
        let (name, address) = arg
            .split_once('=')
            .ok_or("usage: scheduler NAME=ADDRESS ...")?;
        builder = builder.node(Node::connect(name, address));
    }
    // It starts with the nodes that answer; the others are dialled on.
    let scheduler = builder.start().await?;
    for node in scheduler.stats().await?.nodes {
        println!(
            "{}: {:?}, {} workers {}",
            node.name, node.state, node.workers, node.reason
        );
    }

    let scenes = (1..=20).map(|number| Rehearse {
        scene: format!("scene {number}"),
        millis: 500,
    });
    for scene in scenes {
        scheduler.execute(Execute::new(&scene)?).await?;
    }
    let primes = Execute::named("prime.count", &1_000_000u32)?;
    let status = scheduler.execute_and_wait(primes).await?;
    println!("{} primes below a million", status.output::<usize>()?);

    scheduler
        .shutdown(Shutdown::Drain(Duration::from_secs(60)))
        .await?;
    Ok(())
}
