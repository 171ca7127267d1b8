//! The first bytes of a connection: who is there, and is it trusted.
//!
//! Owns: the exchange, what each side says when it refuses, the secret. Does not know: frames,
//! messages, how TLS is spoken, or sockets (any pair of byte streams will do).
//!
//! Both sides send a greeting of [`GREETING`] bytes: a magic word, the generation of this exchange,
//! which side they are (the one that dialled or the one that accepted), what they are (scheduler or
//! node), what they ask for (nothing, a secret, TLS), and a nonce. With TLS all this is within it,
//! and nothing more has to be proved: the certificates were. With a secret, the side that dialled
//! then sends HMAC-SHA-256(secret, label, its side, its greeting, the other's greeting), and only
//! when that has been found right the side that accepted does the same. The side within the code,
//! as well as in the greetings, makes a proof useless when it is sent back to its maker. Instead of
//! a proof, a side may send a refusal with a reason.
//!
//! Nothing is read beyond these bytes and all of it is less than 4 KiB, so a stranger costs no
//! more. The secret is never sent, but anyone who overhears a proof can test guesses at it as fast
//! as they can compute, hence its minimum length.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
#[cfg(feature = "tls")]
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::names::Names;
use super::text::{MAX_MESSAGE, printable_bytes};
use crate::error::{ConfigError, LinkError};
use crate::links::Ends;

const MAGIC: &[u8; 9] = b"callboard";
const GENERATION: u8 = 1;
const NONCE: usize = 32;
/// How long a greeting is: magic, generation, side, role, what is asked for, nonce.
pub const GREETING: usize = MAGIC.len() + 4 + NONCE;
const PROOF: u8 = 1;
const REFUSAL: u8 = 2;
const MAC: usize = 32;
/// How long, and how much, is read from a peer that was refused, and thrown away. Closing a socket
/// that has something to read would take back the message that is still on its way.
const LINGER: Duration = Duration::from_millis(500);
const MAX_LINGER: u64 = 64 << 10;
/// Separates these codes from any other use of the same secret.
const LABEL: &[u8] = b"callboard link proof 1";
/// The first byte of a record of TLS that holds a part of a handshake, and so of every TLS
/// connection.
pub(super) const TLS_HANDSHAKE: u8 = 0x16;
/// The message to a side with certificates, of a peer without.
pub(super) const WITHOUT: &str = "this side speaks TLS only and the peer has no certificates; give both sides certificates, or neither";

/// A shared secret. It is neither shown nor sent.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The least length, in bytes, since a proof can be guessed at offline.
    pub const MIN_BYTES: usize = 16;

    /// Makes a secret of these bytes, the same for all of a cluster; `openssl rand -hex 32` makes a
    /// good one.
    ///
    /// # Errors
    ///
    /// If it is shorter than [`Secret::MIN_BYTES`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, ConfigError> {
        let bytes = bytes.as_ref();
        if bytes.len() < Self::MIN_BYTES {
            return Err(ConfigError {
                setting: "secret",
                reason: format!(
                    "must have at least {} bytes; `openssl rand -hex 32` makes a good one",
                    Self::MIN_BYTES
                ),
            });
        }
        Ok(Self(bytes.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a greeting asks for, as a byte.
const OPEN: u8 = 0;
const SECRET: u8 = 1;
const TLS: u8 = 2;

/// What a side asks its peer for.
#[derive(Clone, Copy)]
pub(super) enum Asks<'a> {
    /// No proof: the peer is on this machine.
    Nothing,
    /// The proof that the peer knows this secret.
    Secret(&'a Secret),
    /// A certificate. It has been verified: this exchange is within TLS.
    #[cfg(feature = "tls")]
    Verified,
    /// A certificate, outside of TLS, where none can be had: the exchange only tells the peer so.
    #[cfg(feature = "tls")]
    Certificate,
}

impl Asks<'_> {
    fn byte(self) -> u8 {
        match self {
            Self::Nothing => OPEN,
            Self::Secret(_) => SECRET,
            #[cfg(feature = "tls")]
            Self::Verified | Self::Certificate => TLS,
        }
    }
}

/// What this side of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A scheduler.
    Scheduler = b'S',
    /// A node.
    Node = b'N',
}

impl Role {
    fn byte(self) -> u8 {
        self as u8
    }

    fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Node => "node",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Scheduler => Self::Node,
            Self::Node => Self::Scheduler,
        }
    }
}

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The one that dialled.
    Dialler = b'D',
    /// The one that accepted.
    Acceptor = b'A',
}

impl Side {
    fn byte(self) -> u8 {
        self as u8
    }

    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// A connection whose other side is trusted. What carries it does not matter any more.
pub struct Authenticated {
    pub(crate) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) write: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether a write takes no longer than a system call, so that any thread may do it.
    pub(crate) direct: bool,
    /// The names that the peer may claim.
    pub(crate) names: Names,
    /// The addresses of the connection, if a socket carries it.
    pub(crate) ends: Ends,
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticated(..)")
    }
}

/// Exchanges greetings and proofs, and tells the peer why if it is refused.
pub(super) async fn exchange(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    side: Side,
    role: Role,
    asks: Asks<'_>,
) -> Result<(), LinkError> {
    match try_exchange(read, write, side, role, asks).await {
        Ok(()) => Ok(()),
        Err(Failed::Link(error)) => Err(error),
        Err(Failed::Refuse { error, message }) => {
            let refusing = async {
                refuse(write, message).await?;
                drain(read).await
            };
            // The peer may be gone already; our own error counts.
            let _ = timeout(LINGER, refusing).await;
            Err(error)
        }
    }
}

/// Ends a connection whose last message was written, and gives the peer a moment to read them.
#[cfg(feature = "tls")]
pub(super) async fn linger(stream: &mut TcpStream) {
    let ending = async {
        stream.shutdown().await?;
        drain(stream).await
    };
    // Whatever happens, the connection is over.
    let _ = timeout(LINGER, ending).await;
}

/// Reads what comes until the peer has seen the end.
async fn drain(read: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    tokio::io::copy(&mut read.take(MAX_LINGER), &mut tokio::io::sink()).await?;
    Ok(())
}

enum Failed {
    Link(LinkError),
    /// A reason that is to be told to the peer.
    Refuse {
        error: LinkError,
        message: &'static str,
    },
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let error = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection during the handshake; its log may say why",
            );
            return Self::Link(error.into());
        }
        Self::Link(error.into())
    }
}

async fn try_exchange(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    side: Side,
    role: Role,
    asks: Asks<'_>,
) -> Result<(), Failed> {
    let ours = greeting(side, role, asks.byte())?;
    write.write_all(&ours).await?;
    write.flush().await?;
    let theirs = read_greeting(read).await?;
    check_greeting(&theirs, side, role, asks.byte())?;
    let secret = match asks {
        Asks::Nothing => return Ok(()),
        Asks::Secret(secret) => secret,
        #[cfg(feature = "tls")]
        Asks::Verified => return Ok(()),
        // The peer asks for TLS outside of TLS, which none of ours does.
        #[cfg(feature = "tls")]
        Asks::Certificate => return Err(Failed::Link(LinkError::Tls(WITHOUT.to_owned()))),
    };
    let proof = code(secret, side, &ours, &theirs);
    let expected = code(secret, side.other(), &theirs, &ours);
    if side == Side::Dialler {
        send_proof(write, &proof).await?;
    }
    let given = read_proof(read).await?;
    if !bool::from(given.ct_eq(&expected)) {
        return Err(Failed::Refuse {
            error: LinkError::Proof("the peer does not know the secret".to_owned()),
            message: "the secret that it was given is not its own; give both sides the same",
        });
    }
    if side == Side::Acceptor {
        send_proof(write, &proof).await?;
    }
    Ok(())
}

fn greeting(side: Side, role: Role, asks: u8) -> Result<[u8; GREETING], Failed> {
    let mut greeting = [0; GREETING];
    let (fixed, nonce) = greeting.split_at_mut(GREETING - NONCE);
    let (magic, rest) = fixed.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    rest.copy_from_slice(&[GENERATION, side.byte(), role.byte(), asks]);
    getrandom::fill(nonce).map_err(|error| Failed::Link(io::Error::other(error).into()))?;
    Ok(greeting)
}

/// Reads a greeting and gives up at the first byte that cannot belong to one, so that a peer which
/// says something else, and less, is not waited for.
async fn read_greeting(read: &mut (impl AsyncRead + Unpin)) -> Result<[u8; GREETING], Failed> {
    let mut greeting = [0; GREETING];
    let mut length = 0;
    while length < GREETING {
        let count = read.read(&mut greeting[length..]).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        length += count;
        let seen = length.min(MAGIC.len());
        if greeting[0] == TLS_HANDSHAKE {
            return Err(Failed::Refuse {
                error: LinkError::Tls(
                    "the peer speaks TLS and this side has no certificates; give both sides certificates, or \
                     neither"
                        .to_owned(),
                ),
                message: "this side has no certificates and speaks no TLS; give both sides certificates, or neither",
            });
        }
        if greeting[..seen] != MAGIC[..seen] {
            return Err(Failed::Refuse {
                error: LinkError::Malformed(format!(
                    "it does not speak callboard's protocol; it began with {:?}",
                    printable_bytes(&greeting[..length])
                )),
                message: "this is a callboard port and the peer does not speak its protocol",
            });
        }
        if let Some(&generation) = greeting[..length].get(MAGIC.len())
            && generation != GENERATION
        {
            return Err(Failed::Refuse {
                error: LinkError::Malformed(format!(
                    "it speaks generation {generation} of callboard's handshake and this side \
                     generation {GENERATION}; update the older side"
                )),
                message: "this side speaks another generation of the handshake; update the older side",
            });
        }
    }
    Ok(greeting)
}

fn check_greeting(theirs: &[u8; GREETING], side: Side, role: Role, asks: u8) -> Result<(), Failed> {
    let proof = |message: &str| Err(Failed::Link(LinkError::Proof(message.to_owned())));
    let [their_side, their_role, they_ask] = {
        let at = MAGIC.len() + 1;
        [theirs[at], theirs[at + 1], theirs[at + 2]]
    };
    if their_side != side.other().byte() {
        return proof("the peer echoes this side, or this side dialled itself");
    }
    if their_role != role.other().byte() {
        return Err(Failed::Link(LinkError::Malformed(format!(
            "this side is a {} and the peer is none of the {}s it speaks with; check the address",
            role.name(),
            role.other().name()
        ))));
    }
    match (asks, they_ask) {
        (OPEN, OPEN) | (SECRET, SECRET) | (TLS, TLS) => Ok(()),
        (SECRET, OPEN) => {
            proof("this side has a secret and the peer has none; give both the same")
        }
        (OPEN, SECRET) => {
            proof("the peer has a secret and this side has none; give both the same")
        }
        (TLS, OPEN | SECRET) => Err(Failed::Link(LinkError::Tls(WITHOUT.to_owned()))),
        (OPEN | SECRET, TLS) => Err(Failed::Link(LinkError::Tls(
            "the peer speaks TLS only and this side has no certificates; give both sides certificates, or neither"
                .to_owned(),
        ))),
        _ => proof("the peer asks for a kind of proof that this version does not know"),
    }
}

fn code(secret: &Secret, side: Side, maker: &[u8; GREETING], other: &[u8; GREETING]) -> [u8; MAC] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes a key of any length");
    for part in [LABEL, &[side.byte()], maker, other] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

async fn send_proof(write: &mut (impl AsyncWrite + Unpin), proof: &[u8; MAC]) -> io::Result<()> {
    let mut bytes = [PROOF; 1 + MAC];
    bytes[1..].copy_from_slice(proof);
    write.write_all(&bytes).await?;
    write.flush().await
}

async fn read_proof(read: &mut (impl AsyncRead + Unpin)) -> Result<[u8; MAC], Failed> {
    match read.read_u8().await? {
        PROOF => {
            let mut proof = [0; MAC];
            read.read_exact(&mut proof).await?;
            Ok(proof)
        }
        REFUSAL => {
            let length = usize::from(read.read_u16().await?).min(MAX_MESSAGE);
            let mut message = Vec::new();
            read.take(length as u64).read_to_end(&mut message).await?;
            Err(Failed::Link(LinkError::Proof(format!(
                "the peer refused: {}",
                printable_bytes(&message)
            ))))
        }
        other => Err(Failed::Link(LinkError::Malformed(format!(
            "{other} stands where a proof was expected"
        )))),
    }
}

async fn refuse(write: &mut (impl AsyncWrite + Unpin), message: &str) -> io::Result<()> {
    let message = &message.as_bytes()[..message.len().min(MAX_MESSAGE)];
    let mut bytes = vec![REFUSAL];
    // At most MAX_MESSAGE.
    bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
    bytes.extend_from_slice(message);
    write.write_all(&bytes).await?;
    write.shutdown().await
}
