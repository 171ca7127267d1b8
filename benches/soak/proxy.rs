//! A network that fails on demand: a proxy through which one TCP address is reached.
//!
//! Owns: the bytes on their way, and when they stop. Does not know: what they mean.
//!
//! What stops is kept and goes on later, as it would in a network that sends again; only a cut
//! loses it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is on its way at once, each way.
const PIECE: usize = 16 << 10;

/// What gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Whether there are connections at all.
    pub connected: bool,
    /// Whether anything goes from whoever dials to the target.
    pub there: bool,
    /// Whether anything comes back.
    pub back: bool,
    /// Bytes a second, each way of each connection; `None` is as many as come.
    pub rate: Option<u64>,
}

impl Traffic {
    /// Everything, at once.
    pub const FREE: Self = Self {
        connected: true,
        there: true,
        back: true,
        rate: None,
    };

    /// Every connection is broken, and none can be made.
    pub const CUT: Self = Self {
        connected: false,
        ..Self::FREE
    };
}

/// See the module. Dropped, it closes everything.
pub struct Proxy {
    address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    running: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback. Needs tokio's runtime; there it runs.
    ///
    /// # Errors
    ///
    /// No port can be had.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (traffic, seen) = watch::channel(Traffic::FREE);
        let running = tokio::spawn(accept(listener, target, seen));
        Ok(Self {
            address,
            traffic,
            running,
        })
    }

    /// Returns where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Decides what gets through from now on.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
        self.set(Traffic::CUT);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, traffic: watch::Receiver<Traffic>) {
    loop {
        let Ok((dialler, _)) = listener.accept().await else {
            // Too many open files, for a moment.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if traffic.borrow().connected {
            tokio::spawn(carry(dialler, target, traffic.clone()));
        }
    }
}

/// Carries one connection, until either side or a cut ends it.
async fn carry(dialler: TcpStream, target: SocketAddr, mut traffic: watch::Receiver<Traffic>) {
    let (there, back) = (traffic.clone(), traffic.clone());
    let carrying = async {
        let target = TcpStream::connect(target).await?;
        dialler.set_nodelay(true)?;
        target.set_nodelay(true)?;
        let (from_dialler, to_dialler) = dialler.into_split();
        let (from_target, to_target) = target.into_split();
        tokio::try_join!(
            pass(from_dialler, to_target, there, |traffic| traffic.there),
            pass(from_target, to_dialler, back, |traffic| traffic.back),
        )?;
        io::Result::Ok(())
    };
    tokio::select! {
        // An error is an end like another.
        _ = carrying => {}
        _ = traffic.wait_for(|traffic| !traffic.connected) => {}
    }
}

/// Passes on one way of a connection.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
    open: fn(&Traffic) -> bool,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        let rate = match traffic.wait_for(open).await {
            Ok(now) => now.rate,
            Err(_) => return Ok(()),
        };
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
        }
    }
}
