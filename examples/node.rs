//! **What it shows.** A node in a process of its own, reached over the network and trusted by a
//! shared secret, or by certificates.
//!
//! **How to run it.** In one terminal, or on one machine:
//!
//! ```text
//! CALLBOARD_SECRET="the curtain rises at eight" \
//!     cargo run --example node -- node-1 0.0.0.0:7000
//! ```
//!
//! and then `examples/scheduler.rs` in another. Any number of nodes may run, each with a name and
//! an address of its own. The secret must be the same everywhere: 16 bytes at least. With
//! `CALLBOARD_CERTS` in its place, a directory that has `node-1.crt`, `node-1.key` and `ca.crt`,
//! the link is encrypted; docs/operations.md says how to make them.
//!
//! **What you will see.** Its name and address, then a line for each task that it runs. Stop it
//! with SIGTERM (`kill`) or Ctrl-C, and it finishes what it runs first, gives the rest back, and
//! says why it has ended.

use std::error::Error;
use std::process::ExitCode;

use callboard::{Handlers, NodeExit, Task, TaskContext, TaskError, Tls};
use serde::{Deserialize, Serialize};

/// The args, which are the task. The other side, in `scheduler.rs`, knows its kind and its output
/// only.
#[derive(Serialize, Deserialize)]
struct Rehearse {
    scene: String,
    millis: u64,
}

impl Task for Rehearse {
    const KIND: &'static str = "scene.rehearse";
    type Output = String;

    async fn run(self, cx: TaskContext) -> Result<String, TaskError> {
        println!("{} {}: attempt {}", cx.id(), self.scene, cx.attempt());
        tokio::time::sleep(std::time::Duration::from_millis(self.millis)).await;
        Ok(format!("{} rehearsed on {}", self.scene, cx.node()))
    }
}

/// Takes long and never yields: off the async threads.
fn count_primes(below: u32) -> Result<usize, TaskError> {
    let is_prime = |n: &u32| {
        (2..*n)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    Ok((2..below).filter(is_prime).count())
}

#[actix::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(gone) => {
            println!("the node has ended: {gone:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("node: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<NodeExit, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(address)) = (args.next(), args.next()) else {
        return Err("usage: node NAME ADDRESS, such as: node node-1 0.0.0.0:7000".into());
    };
    let handlers = Handlers::new()
        .task::<Rehearse>()
        .on_blocking("prime.count", count_primes);
    println!("starting {name} on {address}");
    let node = callboard::node(name.as_str())
        .handlers(handlers)
        .max_workers(4)
        .listen(address);
    let node = match std::env::var("CALLBOARD_CERTS") {
        Ok(certs) => {
            let own = |kind| format!("{certs}/{name}.{kind}");
            let tls = Tls::files(own("crt"), own("key"), format!("{certs}/ca.crt"));
            // Other nodes have certificates too; none of them is a scheduler to this one.
            node.tls(tls.peers(["scheduler"]))
        }
        Err(_) => {
            let secret = std::env::var("CALLBOARD_SECRET")
                .map_err(|_| "set CALLBOARD_SECRET, or CALLBOARD_CERTS")?;
            node.secret(secret)
        }
    };
    Ok(node.run().await?)
}
