//! How a connection is accepted.
//!
//! Owns: the listening socket and the connections that have not proved themselves, which are
//! bounded. Does not know: what becomes of those that have.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::crowd::{Crowd, Ticket};
use super::dial::{is_loopback, prepare};
use super::handshake::Side;
use super::log_limiter::{LogLimiter, source};
use super::trust::prove_socket;
use super::{Authenticated, LinkConfig, Role, Trust};
use crate::error::LinkError;
use crate::say::say;

/// The first wait after an error that is the system's, such as too many open files. It doubles.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Why listening did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The caller's fault: strangers could connect. Set a secret, give certificates, or listen on
    /// loopback.
    #[error(
        "{address} can be reached from other machines, so a shared secret or certificates are needed to \
         listen there; set a secret, give certificates, or listen on 127.0.0.1"
    )]
    NeedsTrust {
        /// The address.
        address: SocketAddr,
    },
    /// The caller's fault: it is no address.
    #[error(
        "{0:?} is no address to listen at; it must be `host:port`, where port 0 lets the system choose"
    )]
    NoAddress(String),
    /// The address is taken, or does not belong to this machine.
    #[error("cannot listen on {address}: {error}")]
    Io {
        /// The address as given.
        address: String,
        /// What the system said.
        error: io::Error,
    },
}

/// Returns whether this is a host and a port.
fn has_port(address: &str) -> bool {
    let parts = address.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    trust: Trust,
    role: Role,
    config: LinkConfig,
    refusals: LogLimiter,
}

impl Listener {
    /// Listens on `host:port`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// If the address cannot be had, or others than this machine could connect and there is neither
    /// a secret nor a certificate.
    pub async fn bind(
        address: &str,
        trust: Trust,
        role: Role,
        config: LinkConfig,
    ) -> Result<Self, ListenError> {
        let io = |error| ListenError::Io {
            address: address.to_owned(),
            error,
        };
        if !has_port(address) {
            return Err(ListenError::NoAddress(address.to_owned()));
        }
        let addresses: Vec<SocketAddr> = lookup_host(address).await.map_err(io)?.collect();
        if matches!(trust, Trust::Open)
            && let Some(&address) = addresses.iter().find(|address| !is_loopback(address))
        {
            return Err(ListenError::NeedsTrust { address });
        }
        let socket = TcpListener::bind(&addresses[..]).await.map_err(io)?;
        let address = socket.local_addr().map_err(io)?;
        Ok(Self {
            socket,
            address,
            trust,
            role,
            config,
            refusals: LogLimiter::default(),
        })
    }

    /// Returns where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns its socket once more: while either is there, nobody is refused.
    pub(crate) fn held(&self) -> io::Result<Socket> {
        SockRef::from(&self.socket).try_clone()
    }

    /// Accepts for ever and hands over every connection that has proved itself, with the peer's
    /// address. Dropping the future stops listening and drops those that have not.
    pub async fn run(self, mut on_proved: impl FnMut(Authenticated, SocketAddr)) {
        let mut unproved = Unproved::default();
        let mut wait = Duration::ZERO;
        let mut resume = None;
        loop {
            tokio::select! {
                accepted = accept(&self.socket, resume) => match accepted {
                    Ok((stream, peer)) => {
                        (wait, resume) = (Duration::ZERO, None);
                        self.receive(&mut unproved, stream, peer);
                    }
                    Err(error) => {
                        wait = self.next_wait(&error, wait);
                        resume = Some(Instant::now() + wait);
                    }
                },
                Some(ended) = unproved.next() => match ended {
                    (peer, Ok(proved)) => {
                        if let Some(times) = self.refusals.over(peer.ip()) {
                            say!(info: address = %self.address, %peer, times, "a peer that was refused before is accepted now");
                        }
                        on_proved(proved, peer);
                    }
                    (peer, Err(error)) => self.report(peer, &error),
                },
            }
        }
    }

    fn receive(&self, unproved: &mut Unproved, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = prepare(&stream, &self.config) {
            // The peer has gone already.
            say!(debug: %peer, %error, "an accepted connection was closed at once");
            return;
        }
        if let Some(dropped) = unproved.make_room(self.config.max_unproved, peer.ip()) {
            say!(debug: peer = %dropped, "dropped an unproved connection to make room for another");
        }
        let (trust, role) = (self.trust.clone(), self.role);
        let limit = self.config.handshake_timeout;
        unproved.add(peer, async move {
            timeout(limit, prove_socket(stream, Side::Acceptor, role, &trust))
                .await
                .unwrap_or(Err(LinkError::HandshakeTimeout))
        });
    }

    fn report(&self, peer: SocketAddr, error: &LinkError) {
        let address = self.address;
        // Probes connect and say nothing.
        if let LinkError::Io(error) = error {
            say!(debug: %address, %peer, %error, "a connection ended before its proof");
            return;
        }
        let Some(untold) = self.refusals.tell(peer.ip()) else {
            return;
        };
        match error {
            LinkError::HandshakeTimeout => {
                say!(info: %address, %peer, repeated = untold, %error, "refused a connection");
            }
            error => say!(warn: %address, %peer, repeated = untold, %error, "refused a connection"),
        }
    }

    fn next_wait(&self, error: &io::Error, wait: Duration) -> Duration {
        let next = wait_after(error, wait);
        if wait.is_zero() && !next.is_zero() {
            say!(warn: address = %self.address, %error, "cannot accept connections now; trying again");
        }
        next
    }
}

async fn accept(
    socket: &TcpListener,
    resume: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(resume) = resume {
        sleep_until(resume).await;
    }
    socket.accept().await
}

/// Returns how long to wait before the next accept. What went wrong with the one connection that
/// was accepted passes at once; anything else lasts, and would come again at once.
fn wait_after(error: &io::Error, wait: Duration) -> Duration {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::Interrupted => Duration::ZERO,
        _ => (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT),
    }
}

type Attempt = (SocketAddr, Result<Authenticated, LinkError>);

/// Connections that have not proved themselves.
#[derive(Default)]
struct Unproved {
    tasks: JoinSet<(Ticket, Attempt)>,
    crowd: Crowd<(SocketAddr, AbortHandle)>,
}

impl Unproved {
    /// Drops one if there are `limit` or more; see [`Crowd::remove_of_most`].
    fn make_room(&mut self, limit: usize, comes: IpAddr) -> Option<SocketAddr> {
        while self.crowd.len() >= limit {
            let (peer, task) = self.crowd.remove_of_most(source(comes))?;
            // One that has ended makes room by itself: it only waits to be asked for its result.
            if !task.is_finished() {
                task.abort();
                return Some(peer);
            }
        }
        None
    }

    fn add(
        &mut self,
        peer: SocketAddr,
        attempt: impl Future<Output = Result<Authenticated, LinkError>> + Send + 'static,
    ) {
        let ticket = self.crowd.next_ticket(source(peer.ip()));
        let task = self
            .tasks
            .spawn(async move { (ticket, (peer, attempt.await)) });
        self.crowd.add(ticket, (peer, task));
    }

    /// Returns the next that ended by itself; `None` if there is none. Safe to drop and call again.
    async fn next(&mut self) -> Option<Attempt> {
        loop {
            // An error is a connection that was dropped to make room.
            if let Ok((ticket, attempt)) = self.tasks.join_next().await? {
                self.crowd.remove(ticket);
                return Some(attempt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_waited_out_and_those_of_a_connection_are_not() {
        // EMFILE.
        let lasting = io::Error::from_raw_os_error(24);
        let mut wait = wait_after(&lasting, Duration::ZERO);
        assert_eq!(wait, FIRST_WAIT);
        for _ in 0..20 {
            wait = wait_after(&lasting, wait);
        }
        assert_eq!(wait, LONGEST_WAIT);
        let passing = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(wait_after(&passing, wait), Duration::ZERO);
    }
}
