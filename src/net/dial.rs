//! How a connection is opened.
//!
//! Owns: names to addresses, connecting, and what a refusal to connect says. Does not know: whom to
//! dial and how often.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::handshake::Side;
use super::text::spelled;
use super::trust::prove_socket;
use super::{Authenticated, LinkConfig, Role, Trust};
use crate::error::LinkError;

/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an attempt to connect is alone before a fresh one joins it.
const FRESH: Duration = Duration::from_millis(500);
/// The most attempts at once, which is what the default time limit has room for; the oldest go on
/// alone after that, as the system repeats them.
const MAX_ATTEMPTS: usize = 10;
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Why a dial did not lead to a connection.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct DialError {
    /// Whether there was the answer, at every address, that nothing listens there.
    pub refused: bool,
    /// The addresses at which there was.
    pub refused_at: Vec<String>,
    /// What was seen, last.
    #[source]
    pub error: LinkError,
}

impl From<LinkError> for DialError {
    fn from(error: LinkError) -> Self {
        Self {
            refused: false,
            refused_at: Vec::new(),
            error,
        }
    }
}

/// Dials `host:port` and proves. All of it takes at most `config.handshake_timeout`.
///
/// # Errors
///
/// If nothing answers there, or either side does not trust the other. Without a secret or
/// certificates only loopback addresses are dialled.
pub async fn dial(
    address: &str,
    trust: &Trust,
    role: Role,
    config: &LinkConfig,
) -> Result<Authenticated, DialError> {
    let attempt = async {
        let stream = connect(address, Some(trust), config.handshake_timeout).await?;
        prepare(&stream, config).map_err(LinkError::from)?;
        Ok(prove_socket(stream, Side::Dialler, role, trust).await?)
    };
    match timeout(config.handshake_timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(LinkError::HandshakeTimeout.into()),
    }
}

/// Returns whether the machine at `host:port` answers that nothing listens there. Silence is no
/// such answer.
pub async fn probe(address: &str) -> bool {
    match timeout(PROBE_TIMEOUT, connect(address, None, PROBE_TIMEOUT)).await {
        Ok(Err(error)) => error.refused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

/// Connects to the first address that answers; each gets its share of the time, so that one which
/// is silent does not keep the others from being tried.
async fn connect(
    address: &str,
    trust: Option<&Trust>,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = lookup_host(address)
        .await
        .map_err(LinkError::from)?
        .take(MAX_ADDRESSES)
        .collect();
    if matches!(trust, Some(Trust::Open))
        && let Some(far) = addresses.iter().find(|address| !is_loopback(address))
    {
        return Err(LinkError::Proof(format!(
            "{far} is not a loopback address, so a shared secret or certificates are needed; give both \
             sides the same secret, or certificates of the same authority"
        ))
        .into());
    }
    // At most MAX_ADDRESSES.
    let share = limit / (addresses.len().max(1) as u32);
    let mut failure = DialError::from(LinkError::from(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{address} has no address"),
    )));
    let mut refused_at = Vec::new();
    for &candidate in &addresses {
        failure = match timeout(share, first_of(|| TcpStream::connect(candidate))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                if error.kind() == io::ErrorKind::ConnectionRefused {
                    refused_at.push(spelled(candidate));
                }
                LinkError::from(error).into()
            }
            Err(_) => LinkError::from(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{candidate} did not answer"),
            ))
            .into(),
        };
    }
    failure.refused = !addresses.is_empty() && refused_at.len() == addresses.len();
    failure.refused_at = refused_at;
    Err(failure)
}

/// Returns the first answer to attempts that begin [`FRESH`] after each other.
///
/// An attempt whose packets were lost is repeated by the system a second later, then two, then
/// four: after a cut its next try may be far away, and a fresh one is not.
async fn first_of<F: Future>(mut attempt: impl FnMut() -> F) -> F::Output {
    let mut attempts = FuturesUnordered::new();
    loop {
        if attempts.len() < MAX_ATTEMPTS {
            attempts.push(attempt());
        }
        // There is at least one, so it is not the end that is seen.
        if let Ok(Some(answer)) = timeout(FRESH, attempts.next()).await {
            return answer;
        }
    }
}

pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Sets up a connection so that small frames go at once, and little waits unsent in the kernel,
/// where nothing can overtake it.
pub(super) fn prepare(stream: &TcpStream, config: &LinkConfig) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(config.notsent_lowat)?;
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = config;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn g8_an_attempt_to_connect_that_hangs_is_joined_by_a_fresh_one_each_half_second() {
        use std::future::{Pending, pending, ready};

        use futures_util::future::Either;

        let start = tokio::time::Instant::now();
        let mut number = 0;
        let answer = first_of(|| {
            number += 1;
            let hangs: Either<Pending<u32>, _> = Either::Left(pending());
            if number < 4 {
                hangs
            } else {
                Either::Right(ready(number))
            }
        });
        assert_eq!(answer.await, 4);
        assert_eq!(start.elapsed(), 3 * FRESH);

        // No more than `MAX_ATTEMPTS` are under way at once.
        let mut begun = 0;
        let silent = first_of(|| {
            begun += 1;
            pending::<()>()
        });
        assert!(timeout(Duration::from_secs(60), silent).await.is_err());
        assert_eq!(begun, MAX_ATTEMPTS);
    }

    #[cfg(any(target_os = "android", target_os = "linux"))]
    #[tokio::test]
    async fn g8_little_waits_unsent_in_the_socket() {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let config = LinkConfig::default();
        prepare(&stream, &config).unwrap();
        assert!(stream.nodelay().unwrap());
        let lowat = socket2::SockRef::from(&stream).tcp_notsent_lowat().unwrap();
        assert_eq!(lowat, config.notsent_lowat);
    }
}
