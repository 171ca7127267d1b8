//! The edge to other machines: listen, dial, prove, and carry messages.
//!
//! Owns: bytes. Sockets, frames, the proof of trust, and every bound on what a peer can make this
//! process hold. Does not know: what the messages mean, leases, who should dial whom.
//!
//! - [`handshake`]: before anything else is interpreted, both sides prove that they know the
//!   secret, or, by `tls`, that they hold a certificate of a trusted authority;
//! - [`trust`] says which of the two it is; by `names` and `gate` a peer with TLS claims no other
//!   name than its certificate bears;
//! - [`codec`]: how messages become frames and frames messages, no sockets;
//! - [`link`]: one running connection;
//! - [`listen`] and [`mod@dial`]: how a connection comes about; [`log_limiter`]: how often a
//!   refusal is told.
//!
//! A connection that was proved by a secret is neither encrypted nor sealed: the secret keeps
//! strangers out, not those who can read or change what is on the network's wires. One by TLS is
//! both.

use std::time::Duration;

use crate::config::{DEFAULT_MAX_FRAME, MAX_FRAME};
use crate::error::ConfigError;

pub(crate) mod carrier;
pub mod codec;
mod crowd;
pub mod dial;
pub(crate) mod gate;
pub mod handshake;
pub mod link;
pub mod listen;
pub mod log_limiter;
pub(crate) mod names;
pub(crate) mod text;
#[cfg(feature = "tls")]
pub mod tls;
pub(crate) mod traffic;
pub mod trust;

pub use codec::message::Wire;
pub use dial::{DialError, dial, probe};
pub use handshake::{Authenticated, Role, Secret};
pub use link::{LinkCommand, LinkEvent, LinkWriter, run_link};
pub use listen::{ListenError, Listener};
#[cfg(feature = "tls")]
pub use tls::{Credentials, Tls};
pub use trust::Trust;

/// The settings of connections. Both ends may differ in all of them; of `max_frame` each tells the
/// other its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// The largest args or output, in bytes, that is put together from chunks. Default 16 MiB, 128
    /// KiB to 1 GiB. A scheduler refuses a node whose limit is smaller than its `max_task_args` and
    /// 64 KiB; for an output the scheduler's limit counts too. Too low: large tasks fail, or nodes
    /// are refused; too high: a peer may make this process hold that much.
    pub max_frame: usize,
    /// How long dialling, or accepting, and the proof may take together, the handshake of TLS
    /// included. Default 5 s, 10 ms to 60 s. Too low: distant nodes are not reached; too high:
    /// silent strangers stay longer.
    pub handshake_timeout: Duration,
    /// Args and outputs above this size travel in chunks of it. Default 64 KiB, 1 KiB to 64 KiB.
    /// Low values cost throughput; high ones let heartbeats wait longer on slow lines.
    pub chunk_bytes: usize,
    /// How much unsent data the kernel may hold before the link stops writing (TCP_NOTSENT_LOWAT,
    /// where the system has it). Default 64 KiB, 4 KiB to 16 MiB. With a chunk it is what a
    /// heartbeat waits behind: 128 KiB pass in a quarter of the default lease at 280 kbit/s. TLS
    /// holds a record or two of 16 KiB besides. Low values cost wake-ups.
    pub notsent_lowat: u32,
    /// How many connections of one listener may be unproved at once; for a new one the oldest of
    /// the source that has most is dropped. Default 64, 1 to 65,536. Each holds a socket and less
    /// than 4 KiB; with TLS less than 256 KiB, since the certificates of a peer may have 64 KiB.
    pub max_unproved: usize,
    /// How long a link that is to close may take to send what was given before. Default 3 s, up to
    /// 60 s.
    pub close_timeout: Duration,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            max_frame: DEFAULT_MAX_FRAME,
            handshake_timeout: Duration::from_secs(5),
            chunk_bytes: codec::framing::MAX_CHUNK,
            notsent_lowat: 64 << 10,
            max_unproved: 64,
            close_timeout: Duration::from_secs(3),
        }
    }
}

impl LinkConfig {
    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ms = Duration::from_millis;
        let checks = [
            (
                "max_frame",
                (128 << 10..=MAX_FRAME).contains(&self.max_frame),
                "must be from 128 KiB to 1 GiB",
            ),
            (
                "handshake_timeout",
                (ms(10)..=ms(60_000)).contains(&self.handshake_timeout),
                "must be from 10 ms to 60 s",
            ),
            (
                "chunk_bytes",
                (1 << 10..=codec::framing::MAX_CHUNK).contains(&self.chunk_bytes),
                "must be from 1 KiB to 64 KiB",
            ),
            (
                "notsent_lowat",
                (4 << 10..=16 << 20).contains(&self.notsent_lowat),
                "must be from 4 KiB to 16 MiB",
            ),
            (
                "max_unproved",
                (1..=65_536).contains(&self.max_unproved),
                "must be from 1 to 65,536",
            ),
            (
                "close_timeout",
                self.close_timeout <= ms(60_000),
                "must be at most 60 s",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((setting, _, reason)) => Err(ConfigError {
                setting,
                reason: reason.to_owned(),
            }),
        }
    }

    /// Returns how many bytes may wait to be sent before the link is closed: four times the largest
    /// body, and at least 16 MiB, which is 160,000 small assignments. A body that is sent by
    /// reference does not count: the sender holds it anyway, within a bound of its own.
    pub(crate) fn max_queued(&self) -> usize {
        self.max_frame.saturating_mul(4).max(16 << 20)
    }
}
