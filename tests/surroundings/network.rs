//! What stands between two processes: a forwarder, an address translation; and links that break
//! though both live.
//!
//! Owns: the means. Does not know: what is told of a node behind them.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::Socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::child;

/// Takes connections at one address of this machine and carries them to another. Dropped, it
/// refuses.
pub struct Forwarder {
    address: SocketAddr,
    running: JoinHandle<()>,
}

impl Forwarder {
    /// Listens at `at`, where port 0 lets the system choose.
    pub async fn start(at: &str, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                carried.spawn(async move {
                    let mut far = TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Self { address, running }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, with all that it carries.
    pub async fn end(self) {
        self.running.abort();
        assert!(self.running.await.is_err_and(|error| error.is_cancelled()));
    }
}

/// Breaks every connection of this process to this port, as a reset on the way does.
pub fn sever(port: u16) {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let mut severed = 0;
    for open in std::fs::read_dir("/proc/self/fd").unwrap() {
        let name = open.unwrap().file_name();
        let number = name.to_str().unwrap().parse().unwrap();
        // What has been closed meanwhile is no connection any more.
        let Ok(fd) = pidfd_getfd(&this, number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let socket = Socket::from(fd);
        let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
        if peer.is_some_and(|peer| peer.port() == port) {
            // The other end may have been first.
            severed += usize::from(socket.shutdown(Shutdown::Both).is_ok());
        }
    }
    assert!(severed > 0, "there is no connection to port {port}");
}

/// Runs a role in a network namespace of its own, which is set up by these commands of `ip`. `None`
/// if there can be none here, which is said, and is a failure with `CALLBOARD_FAULTS=required`.
pub fn play_apart(role: &str, set_up: &str) -> Option<ExitStatus> {
    let name = format!("cbsurroundings-{}-{role}", std::process::id());
    let can = run(&["nft", "--version"], "");
    if let Err(reason) = can.and_then(|()| run(&["ip", "netns", "add", &name], "")) {
        let required = std::env::var("CALLBOARD_FAULTS").is_ok_and(|wish| wish == "required");
        assert!(!required, "{role} is not tried: {reason}");
        eprintln!("{role} is not tried: {reason}");
        return None;
    }
    let played = run(&["ip", "-n", &name, "-batch", "-"], set_up)
        .map(|()| child::play_by(&["ip", "netns", "exec", &name], role));
    run(&["ip", "netns", "delete", &name], "").unwrap();
    Some(played.unwrap())
}

/// Gives `nft` these commands.
pub fn nft(rules: &str) {
    run(&["nft", "-f", "-"], rules).unwrap();
}

fn run(words: &[&str], input: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{words:?}: {error}");
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().unwrap();
    // One that ends before it has read says why by its status.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{words:?}: {}", said.trim()))
}
