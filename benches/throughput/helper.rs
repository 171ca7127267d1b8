//! Helper processes: the bench runs itself again as nodes of its scheduler.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use callboard::{Handlers, NodeHandle};

/// The hidden argument; the addresses to join, with commas between them, the number of the first
/// node, of nodes and of workers follow, and a directory of certificates if there is one.
const AS_NODES: &str = "--as-nodes";

/// Returns what every node of the bench offers.
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
    pub fn spawn(
        join: &[SocketAddr],
        first: u32,
        nodes: u32,
        workers: u32,
        certificates: Option<&Path>,
    ) -> Self {
        let own = std::env::current_exe().expect("the bench has a path");
        let join: Vec<_> = join.iter().map(ToString::to_string).collect();
        let child = Command::new(own)
            .args([AS_NODES, &join.join(",")])
            .args([first, nodes, workers].map(|number| number.to_string()))
            .args(certificates)
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
        // It has ended already, or ends by this.
        let _ = self.0.kill();
        self.0.wait().expect("it is our child");
    }
}

/// Acts as a helper if this process was started as one; then it ends with its standard input.
pub fn act_if_told() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(AS_NODES) {
        return;
    }
    let mut word = || words.next().expect("a helper is told four words");
    let join = word();
    let mut number = || -> u32 { word().parse().expect("a helper is told numbers") };
    let (first, nodes, workers) = (number(), number(), number());
    #[cfg(feature = "tls")]
    let certificates = words.next().map(std::path::PathBuf::from);
    actix::System::new().block_on(async move {
        let mut running: Vec<NodeHandle> = Vec::new();
        for index in first..first + nodes {
            let mut node = callboard::node(format!("node{index}"))
                .handlers(handlers())
                .max_workers(workers)
                .threads(1);
            for address in join.split(',') {
                node = node.join(address);
            }
            #[cfg(feature = "tls")]
            if let Some(directory) = &certificates {
                let own = |kind: &str| directory.join(format!("node{index}.{kind}"));
                let roots = directory.join("ca.crt");
                node = node.tls(callboard::Tls::files(own("crt"), own("key"), roots));
            }
            if nodes > 1 {
                // Nobody kills one of many, and so many ports would not be had.
                node = node.without_probe();
            }
            running.push(node.start().await.expect("a node starts"));
        }
        tokio::task::spawn_blocking(|| {
            let mut nothing = Vec::new();
            // An error is an end of it too.
            let _ = std::io::stdin().read_to_end(&mut nothing);
        })
        .await
        .expect("it only reads");
        std::process::exit(0);
    });
}
