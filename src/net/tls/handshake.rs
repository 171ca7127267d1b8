//! TLS over a socket.
//!
//! Owns: the handshake as either side, and what peers are told that speak no TLS. Does not know:
//! how long it may take; put a time limit around it.
//!
//! Each side knows the other's first byte. A side that accepts looks at it before it takes it for
//! TLS, and answers a plain greeting by one that says what is asked for. A side that dials sends
//! its first message and looks at the first byte of the answer. What a peer can make rustls hold
//! before it has proved itself is a handshake message of 64 KiB and a record, each way.

use std::io;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Configs, Credentials, messages};
use crate::error::LinkError;
use crate::links::Ends;
use crate::net::handshake::{
    Asks, Authenticated, Role, Side, TLS_HANDSHAKE, WITHOUT, exchange, linger,
};
use crate::net::names::Names;

/// What rustls may hold that is encrypted and not with the kernel: a record, so that a heartbeat
/// waits behind little.
const MAX_UNSENT: usize = 16 << 10;

/// The first byte of a plain greeting.
const FIRST_OF_MAGIC: u8 = b'c';

/// Secures the connection, and exchanges greetings within.
pub(in crate::net) async fn prove(
    stream: TcpStream,
    side: Side,
    role: Role,
    credentials: &Credentials,
) -> Result<Authenticated, LinkError> {
    match side {
        Side::Dialler => {
            let configs = credentials.current().await;
            let stream = connect(stream, configs).await?;
            let certificate = first(stream.get_ref().1.peer_certificates())?;
            greet(stream, certificate, side, role, credentials).await
        }
        Side::Acceptor => {
            let stream = expect_tls(stream, role).await?;
            let configs = credentials.current().await;
            let stream = accept(stream, configs).await?;
            let certificate = first(stream.get_ref().1.peer_certificates())?;
            greet(stream, certificate, side, role, credentials).await
        }
    }
}

/// Returns the peer's own certificate; there is one, since both sides demand it.
fn first(
    certificates: Option<&[CertificateDer<'static>]>,
) -> Result<CertificateDer<'static>, LinkError> {
    certificates
        .and_then(<[_]>::first)
        .cloned()
        .ok_or_else(|| LinkError::Tls(messages::NO_CERTIFICATE.to_owned()))
}

/// Greets within TLS. A side that dialled learns here whether its certificate was taken.
async fn greet<S>(
    stream: S,
    certificate: CertificateDer<'static>,
    side: Side,
    role: Role,
    credentials: &Credentials,
) -> Result<Authenticated, LinkError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut read, mut write) = split(stream);
    exchange(&mut read, &mut write, side, role, Asks::Verified)
        .await
        .map_err(|error| match error {
            LinkError::Io(error) => messages::of_link(error),
            error => error,
        })?;
    Ok(Authenticated {
        direct: false,
        read: Box::new(read),
        write: Box::new(write),
        names: Names::Certified {
            certificate,
            peers: credentials.peers(),
        },
        ends: Ends::default(),
    })
}

/// Returns the stream if the peer begins to speak TLS; otherwise tells it what is asked for, if it
/// is one of ours.
async fn expect_tls(stream: TcpStream, role: Role) -> Result<TcpStream, LinkError> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(messages::closed().into()),
        _ if first[0] == TLS_HANDSHAKE => Ok(stream),
        _ => {
            let (mut read, mut write) = stream.into_split();
            let side = Side::Acceptor;
            let told = exchange(&mut read, &mut write, side, role, Asks::Certificate).await;
            // It was not TLS, whatever was said.
            Err(told
                .err()
                .unwrap_or_else(|| LinkError::Tls(WITHOUT.to_owned())))
        }
    }
}

async fn accept(
    stream: TcpStream,
    configs: Configs,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, LinkError> {
    let accepting = TlsAcceptor::from(configs.server).accept_with(stream, |connection| {
        connection.set_buffer_limit(Some(MAX_UNSENT));
    });
    match accepting.into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, mut stream)) => {
            // The reason is under way to the peer as an alert.
            linger(&mut stream).await;
            Err(messages::of_link(error))
        }
    }
}

async fn connect(
    stream: TcpStream,
    configs: Configs,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LinkError> {
    // Required, and neither sent nor verified: see `AnyName`.
    let nobody = ServerName::try_from("callboard").map_err(io::Error::other)?;
    let mut hello = Vec::new();
    let mut written = Ok(0);
    let mut connecting =
        TlsConnector::from(configs.client).connect_with(nobody, stream, |connection| {
            connection.set_buffer_limit(Some(MAX_UNSENT));
            written = connection.write_tls(&mut hello);
        });
    written?;
    // By hand, to see how the answer begins before TLS reads it.
    if let Some(stream) = connecting.get_mut().filter(|_| !hello.is_empty()) {
        stream.write_all(&hello).await?;
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] == FIRST_OF_MAGIC {
            // It reads the first message and says what it thinks of it.
            linger(stream).await;
            return Err(LinkError::Tls(WITHOUT.to_owned()));
        }
    }
    match connecting.into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, mut stream)) => {
            linger(&mut stream).await;
            Err(messages::of_link(error))
        }
    }
}
