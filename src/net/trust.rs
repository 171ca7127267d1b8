//! What makes a peer trusted, and the handshake that goes with it.
//!
//! Owns: the choice between the handshakes. Does not know: how either goes
//! ([`handshake`](super::handshake) and `tls`), or what comes after.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::handshake::{Asks, Authenticated, Role, Secret, Side, exchange};
use super::names::Names;
use super::text::spelled;
#[cfg(feature = "tls")]
use super::tls::Credentials;
use crate::error::LinkError;
use crate::links::Ends;

/// What makes a peer trusted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// The peer is on this machine. Only for loopback addresses.
    Open,
    /// The peer knows the secret.
    Secret(Secret),
    /// The peer holds the key of a certificate which a trusted authority has signed.
    #[cfg(feature = "tls")]
    Tls(Credentials),
}

impl Trust {
    /// Returns what is asked for on streams that are not within TLS.
    fn asks(&self) -> Asks<'_> {
        match self {
            Self::Open => Asks::Nothing,
            Self::Secret(secret) => Asks::Secret(secret),
            #[cfg(feature = "tls")]
            Self::Tls(_) => Asks::Certificate,
        }
    }
}

/// Proves over a socket, by TLS if that is what is trusted. Put a time limit around it; safe to
/// drop.
pub(super) async fn prove_socket(
    stream: TcpStream,
    side: Side,
    role: Role,
    trust: &Trust,
) -> Result<Authenticated, LinkError> {
    let ends = Ends {
        ours: spelled(stream.local_addr()?),
        theirs: spelled(stream.peer_addr()?),
    };
    #[cfg(feature = "tls")]
    if let Trust::Tls(credentials) = trust {
        let proved = super::tls::prove(stream, side, role, credentials).await?;
        return Ok(Authenticated { ends, ..proved });
    }
    let (read, write) = stream.into_split();
    let proved = prove(read, write, side, role, trust).await?;
    Ok(Authenticated {
        direct: true,
        ends,
        ..proved
    })
}

/// Exchanges greetings and proofs. Put a time limit around it; safe to drop.
///
/// # Errors
///
/// If the peer speaks another protocol, or either side does not trust the other. With certificates
/// this always fails, since nothing here secures the streams: it tells a peer that speaks no TLS
/// so.
pub async fn prove<R, W>(
    mut read: R,
    mut write: W,
    side: Side,
    role: Role,
    trust: &Trust,
) -> Result<Authenticated, LinkError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    exchange(&mut read, &mut write, side, role, trust.asks()).await?;
    Ok(Authenticated {
        read: Box::new(read),
        write: Box::new(write),
        direct: false,
        names: Names::Any,
        ends: Ends::default(),
    })
}
