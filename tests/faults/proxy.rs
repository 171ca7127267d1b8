//! A proxy between the scheduler and the nodes: it delays what passes, and can hold each connection
//! back after so many pieces.
//!
//! Owns: a thread that lives in the proxy's namespace. Does not know: what passes.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Pieces of one direction that may wait in the proxy.
const WAITING: usize = 256;

/// What the proxy does to connections.
#[derive(Clone)]
pub struct Control(Arc<State>);

struct State {
    /// In milliseconds.
    delay: AtomicU64,
    /// How many pieces of a connection pass, in both directions together, before it is held back.
    allowed: AtomicU64,
    /// How often a connection was held back.
    holds: AtomicU64,
    /// How often what was held back was let go.
    releases: watch::Sender<u64>,
}

impl Control {
    /// Holds a new connection back after so many pieces, from now on.
    pub fn hold_after(&self, pieces: u64) {
        self.0.allowed.store(pieces, Ordering::SeqCst);
    }

    /// Delays what comes from now on by so much, each way.
    pub fn delay(&self, delay: Duration) {
        self.0
            .delay
            .store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Returns how often a connection was held back so far.
    pub fn holds(&self) -> u64 {
        self.0.holds.load(Ordering::SeqCst)
    }

    /// Lets everything on, and holds nothing back.
    pub fn release(&self) {
        self.0.allowed.store(u64::MAX, Ordering::SeqCst);
        self.0.releases.send_modify(|releases| *releases += 1);
    }
}

/// A running proxy. Dropped, it is gone.
pub struct Proxy {
    control: Control,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it in this namespace: who connects to one of these ports is led on to the address
    /// beside it.
    pub fn start(namespace: &str, delay: Duration, routes: Vec<(u16, SocketAddr)>) -> Self {
        let control = Control(Arc::new(State {
            delay: AtomicU64::new(delay.as_millis() as u64),
            allowed: AtomicU64::new(u64::MAX),
            holds: AtomicU64::new(0),
            releases: watch::Sender::new(0),
        }));
        let (stop, stopped) = oneshot::channel();
        let inside = inside(namespace, {
            let control = control.clone();
            async move {
                for (port, to) in routes {
                    let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
                    tokio::spawn(accept(listener, to, control.clone()));
                }
                // Its end is an end too.
                let _ = stopped.await;
            }
        });
        Self {
            control,
            stop: Some(stop),
            thread: Some(inside),
        }
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs this on a thread that lives in a namespace.
pub fn inside(
    namespace: &str,
    future: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future);
    })
}

async fn accept(listener: TcpListener, to: SocketAddr, control: Control) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            continue;
        };
        let control = control.clone();
        tokio::spawn(async move {
            // Who cannot be reached is told by the end of the connection.
            let Ok(far) = TcpStream::connect(to).await else {
                return;
            };
            // Before what is allowed is read: a release in between is seen then.
            let releases = control.0.releases.subscribe();
            let allowed = control.0.allowed.load(Ordering::SeqCst);
            let passed = Arc::new(AtomicU64::new(0));
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            let pass = |read, write| {
                let gate = Gate {
                    allowed,
                    passed: Arc::clone(&passed),
                    state: Arc::clone(&control.0),
                    releases: releases.clone(),
                };
                carry(read, write, &control, gate)
            };
            // The end of one direction is the end of both.
            tokio::select! {
                () = pass(near_read, far_write) => {}
                () = pass(far_read, near_write) => {}
            }
        });
    }
}

/// What a connection may let by.
struct Gate {
    allowed: u64,
    passed: Arc<AtomicU64>,
    state: Arc<State>,
    releases: watch::Receiver<u64>,
}

impl Gate {
    async fn pass(&mut self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) >= self.allowed {
            self.state.holds.fetch_add(1, Ordering::SeqCst);
            let _ = self.releases.changed().await;
            self.allowed = u64::MAX;
        }
    }
}

async fn carry(
    mut read: tokio::net::tcp::OwnedReadHalf,
    mut write: tokio::net::tcp::OwnedWriteHalf,
    control: &Control,
    mut gate: Gate,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(WAITING);
    let reading = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            let delay = Duration::from_millis(control.0.delay.load(Ordering::SeqCst));
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let writing = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            gate.pass().await;
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(reading, writing);
}
