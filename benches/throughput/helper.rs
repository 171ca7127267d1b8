//! Helper processes: the bench runs itself again as nodes of a scheduler.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use callboard::{Handlers, NodeHandle};

const JOIN: &str = "CALLBOARD_BENCH_JOIN";
const NODES: &str = "CALLBOARD_BENCH_NODES";
const WORKERS: &str = "CALLBOARD_BENCH_WORKERS";
const FIRST: &str = "CALLBOARD_BENCH_FIRST";

/// What every node of the bench offers.
pub fn handlers() -> Handlers {
    Handlers::new()
        .on("next", async |n: u64| Ok(n + 1))
        .on("echo", async |body: Bytes| Ok(body))
        .on("wait", async |millis: u64| {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(millis)
        })
}

/// Nodes in a process of their own, which ends with this.
pub struct Helper(Child);

impl Helper {
    pub fn spawn(join: SocketAddr, first: u32, nodes: u32, workers: u32) -> Self {
        let own = std::env::current_exe().expect("the bench has a path");
        let child = Command::new(own)
            .env(JOIN, join.to_string())
            .env(FIRST, first.to_string())
            .env(NODES, nodes.to_string())
            .env(WORKERS, workers.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the bench can be run again");
        Self(child)
    }

    pub fn kill(&mut self) {
        self.0.kill().expect("it is our child");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Acts as a helper if this process was started as one.
pub fn act_if_told() -> bool {
    let Ok(join) = std::env::var(JOIN) else {
        return false;
    };
    let number = |name: &str| -> u32 {
        let text = std::env::var(name).expect("a helper is told its numbers");
        text.parse().expect("a helper is told numbers")
    };
    let (first, nodes, workers) = (number(FIRST), number(NODES), number(WORKERS));
    actix::System::new().block_on(async move {
        let mut running: Vec<NodeHandle> = Vec::new();
        for index in first..first + nodes {
            let mut node = callboard::node(format!("node{index}"))
                .handlers(handlers())
                .max_workers(workers)
                .threads(1)
                .join(join.as_str());
            if nodes > 1 {
                // Nobody kills one of many, and so many ports would not be had.
                node = node.without_probe();
            }
            running.push(node.start().await.expect("a node starts"));
        }
        tokio::task::spawn_blocking(|| {
            let mut nothing = Vec::new();
            // The end of its parent is the end of its input.
            let _ = std::io::stdin().read_to_end(&mut nothing);
        })
        .await
        .expect("it only reads");
        std::process::exit(0);
    });
    true
}
