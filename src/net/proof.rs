//! The first bytes of a connection: who is there, and does it know the secret.
//!
//! Owns: the exchange, its words, the secret. Does not know: sockets (any pair of byte streams will do),
//! frames, messages.
//!
//! Both sides send a greeting of [`GREETING`] bytes: a magic word, the generation of this exchange, which
//! side they are (the one that dialled or the one that accepted), what they are (scheduler or node),
//! whether they have a secret, and a nonce. With a secret, the side that dialled then sends
//! HMAC-SHA-256(secret, label, its side, its greeting, the other's greeting), and only when that has been
//! found right the side that accepted does the same. The side within the code, as well as in the greetings,
//! makes a proof useless when it is sent back to its maker. Instead of a proof, a side may send a refusal in
//! words.
//!
//! Nothing is read beyond these bytes and all of it is less than 4 KiB, so a stranger costs no more. The
//! secret is never sent, but whoever listens to a proof may guess at the secret as fast as he can compute,
//! hence its minimum length.

use std::fmt;
use std::io;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{ConfigError, LinkError};

const MAGIC: &[u8; 9] = b"callboard";
const GENERATION: u8 = 1;
const NONCE: usize = 32;
/// How long a greeting is: magic, generation, side, role, secret or none, nonce.
pub const GREETING: usize = MAGIC.len() + 4 + NONCE;
const PROOF: u8 = 1;
const REFUSAL: u8 = 2;
const MAC: usize = 32;
/// The longest refusal that is read or sent.
const MAX_WORDS: usize = 1024;
/// Separates these codes from any other use of the same secret.
const LABEL: &[u8] = b"callboard link proof 1";

/// A shared secret. It is neither shown nor sent.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The least length, in bytes, since a proof can be guessed at offline.
    pub const MIN_BYTES: usize = 16;

    /// A secret of these bytes, the same for all of a cluster; `openssl rand -hex 32` makes a good one.
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

/// What makes a peer trusted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Trust {
    /// That it is on this machine. Only for loopback addresses.
    Open,
    /// That it knows the secret.
    Secret(Secret),
}

/// What this side of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A scheduler.
    Scheduler,
    /// A node.
    Node,
}

impl Role {
    fn byte(self) -> u8 {
        match self {
            Self::Scheduler => b'S',
            Self::Node => b'N',
        }
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
pub enum Side {
    /// The one that dialled.
    Dialler,
    /// The one that accepted.
    Acceptor,
}

impl Side {
    fn byte(self) -> u8 {
        match self {
            Self::Dialler => b'D',
            Self::Acceptor => b'A',
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Acceptor,
            Self::Acceptor => Self::Dialler,
        }
    }
}

/// A connection whose other side is trusted. What carries it does not matter any more.
pub struct Proved {
    pub(crate) read: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) write: Box<dyn AsyncWrite + Send + Unpin>,
}

impl fmt::Debug for Proved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proved(..)")
    }
}

/// Exchanges greetings and proofs. Put a time limit around it; safe to drop.
///
/// # Errors
///
/// If the peer is none of ours, or either side does not trust the other.
pub async fn prove<R, W>(
    mut read: R,
    mut write: W,
    side: Side,
    role: Role,
    trust: &Trust,
) -> Result<Proved, LinkError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    match exchange(&mut read, &mut write, side, role, trust).await {
        Ok(()) => Ok(Proved {
            read: Box::new(read),
            write: Box::new(write),
        }),
        Err(Failed::Link(error)) => Err(error),
        Err(Failed::Refuse { error, words }) => {
            // The peer may be gone already; our own error counts.
            let _ = refuse(&mut write, words).await;
            Err(error)
        }
    }
}

enum Failed {
    Link(LinkError),
    /// To be told to the peer.
    Refuse {
        error: LinkError,
        words: &'static str,
    },
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let error = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed it during the handshake",
            );
            return Self::Link(error.into());
        }
        Self::Link(error.into())
    }
}

async fn exchange(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    side: Side,
    role: Role,
    trust: &Trust,
) -> Result<(), Failed> {
    let secret = match trust {
        Trust::Open => None,
        Trust::Secret(secret) => Some(secret),
    };
    let ours = greeting(side, role, secret.is_some())?;
    write.write_all(&ours).await?;
    write.flush().await?;
    let theirs = read_greeting(read).await?;
    check_greeting(&theirs, side, role, secret.is_some())?;
    let Some(secret) = secret else {
        return Ok(());
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
            words: "this side has another secret",
        });
    }
    if side == Side::Acceptor {
        send_proof(write, &proof).await?;
    }
    Ok(())
}

fn greeting(side: Side, role: Role, secret: bool) -> Result<[u8; GREETING], Failed> {
    let mut greeting = [0; GREETING];
    let (fixed, nonce) = greeting.split_at_mut(GREETING - NONCE);
    let (magic, rest) = fixed.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    rest.copy_from_slice(&[GENERATION, side.byte(), role.byte(), u8::from(secret)]);
    getrandom::fill(nonce).map_err(|error| Failed::Link(io::Error::other(error).into()))?;
    Ok(greeting)
}

/// Reads a greeting and gives up at the first byte that cannot belong to one, so that a peer which says
/// something else, and less, is not waited for.
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
        if greeting[..seen] != MAGIC[..seen] {
            return Err(Failed::Refuse {
                error: LinkError::Malformed(format!(
                    "it does not speak callboard's protocol; it began with {:?}",
                    printable(&greeting[..length])
                )),
                words: "this is a callboard port and the peer does not speak its protocol",
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
                words: "this side speaks another generation of the handshake; update the older side",
            });
        }
    }
    Ok(greeting)
}

fn check_greeting(
    theirs: &[u8; GREETING],
    side: Side,
    role: Role,
    secret: bool,
) -> Result<(), Failed> {
    let proof = |words: &str| Err(Failed::Link(LinkError::Proof(words.to_owned())));
    let [their_side, their_role, their_secret] = {
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
    match (secret, their_secret) {
        (true, 1) | (false, 0) => Ok(()),
        (true, 0) => proof("this side has a secret and the peer has none"),
        (false, 1) => proof("the peer has a secret and this side has none"),
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
            let length = usize::from(read.read_u16().await?).min(MAX_WORDS);
            let mut words = Vec::new();
            read.take(length as u64).read_to_end(&mut words).await?;
            Err(Failed::Link(LinkError::Proof(format!(
                "the peer refused: {}",
                printable(&words)
            ))))
        }
        other => Err(Failed::Link(LinkError::Malformed(format!(
            "{other} stands where a proof was expected"
        )))),
    }
}

async fn refuse(write: &mut (impl AsyncWrite + Unpin), words: &str) -> io::Result<()> {
    let words = &words.as_bytes()[..words.len().min(MAX_WORDS)];
    let mut bytes = vec![REFUSAL];
    // At most MAX_WORDS.
    bytes.extend_from_slice(&(words.len() as u16).to_be_bytes());
    bytes.extend_from_slice(words);
    write.write_all(&bytes).await?;
    write.shutdown().await
}

/// What an untrusted peer said, fit for a log: without control characters, and not long.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_WORDS)];
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '.' } else { c })
        .collect()
}
