//! Mutual TLS: who is trusted is who holds the key of a certificate that a trusted authority has
//! signed.
//!
//! Owns: the certificates, their renewal, the handshake and what it says when it fails. Does not
//! know: messages, and what the peer will call itself; `names` has the rules.
//!
//! TLS 1.3 only, by rustls with ring. Both sides present a certificate, whichever dials. No session
//! is resumed: each connection proves anew, so that authorities which were removed no longer
//! count.
//!
//! - `files`: what is on disk, and whether it has changed;
//! - `configs`: what rustls is given, and what is checked of the own certificate at the start;
//! - `handshake`: over a socket, and peers that speak something else;
//! - `messages`: what rustls says, as sentences that say what to do.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::timeout;

use self::configs::Configs;
use self::files::Stamps;
use super::names::check_name;
use crate::error::TlsError;
use crate::say::say;
use crate::sync::lock;

mod configs;
mod files;
mod handshake;
mod messages;

pub(super) use handshake::prove;

/// The files by which a scheduler or a node proves who it is by TLS, and knows whom to trust. All
/// are PEM.
///
/// They are read when it starts, and again by the first new connection after one of them has
/// changed, so that certificates are renewed without a restart. If new ones cannot be used, the log
/// says so once, and all the old ones stay in use until every file is right, authorities that were
/// removed included. Replace each file as a whole, by a rename. Connections that are up stay up.
///
/// ```no_run
/// # use callboard::{Handlers, error::NodeRunError};
/// # async fn example(handlers: Handlers) -> Result<(), NodeRunError> {
/// use callboard::Tls;
///
/// callboard::node("node-1")
///     .handlers(handlers)
///     .tls(Tls::files("node-1.crt", "node-1.key", "ca.crt").peers(["scheduler"]))
///     .listen("0.0.0.0:7000")
///     .run()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    certificates: PathBuf,
    key: PathBuf,
    roots: PathBuf,
    peers: Option<Arc<[String]>>,
}

impl Tls {
    /// Names the files. `certificates` holds the own certificate first, which bears the own name as
    /// a DNS name and may be used by servers and clients, then those that lead from it to an
    /// authority; `key` its private key (PKCS#8, PKCS#1 or SEC1, not encrypted; ECDSA P-256 or
    /// P-384, Ed25519, or RSA); `roots` the authorities that vouch for peers. None may be larger
    /// than 1 MiB.
    pub fn files(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        Self {
            certificates: certificates.into(),
            key: key.into(),
            roots: roots.into(),
            peers: None,
        }
    }

    /// Takes only peers of these names, each a DNS name in lower case. Without it every peer is
    /// taken for whom the authorities vouch. Then anyone who has the key of one node can be a
    /// scheduler to the other nodes that listen. So give it to nodes, with the names of their
    /// schedulers.
    pub fn peers(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.peers = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Reads and checks the files, for a scheduler or a node of this name. The files are read on
    /// this thread.
    ///
    /// # Errors
    ///
    /// [`TlsError`]: which file, or that the name, or one of the peers', cannot stand in a
    /// certificate.
    #[doc(hidden)]
    pub fn load(self, name: &str) -> Result<Credentials, TlsError> {
        check_name(name)?;
        for peer in self.peers.iter().flat_map(|peers| peers.iter()) {
            check_name(peer)?;
        }
        let stamps = Stamps::of(&self);
        let configs = Configs::load(&self, name)?;
        Ok(Credentials(Arc::new(Inner {
            tls: self,
            name: name.to_owned(),
            state: Mutex::new(State { stamps, configs }),
            checking: AtomicBool::new(false),
        })))
    }
}

/// Certificates and key in use. Clones are the same. The key is neither shown nor sent.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    tls: Tls,
    name: String,
    state: Mutex<State>,
    /// Whether a thread looks at the files now: one that hangs must not make others hang.
    checking: AtomicBool,
}

struct State {
    /// The stamps of the files that were last read, whether or not these could be used.
    stamps: Stamps,
    /// What was made of the last files that could be used.
    configs: Configs,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.0.tls).finish()
    }
}

impl Credentials {
    /// Returns what a connection that begins now is to use. Looks at the files first, on a thread
    /// on which that may take its time; while one connection's look takes long, others do with what
    /// is known.
    async fn current(&self) -> Configs {
        if !self.0.checking.swap(true, Ordering::AcqRel) {
            let check = Check(Arc::clone(&self.0));
            let look = tokio::task::spawn_blocking(move || check.0.renew());
            // If it could not be done, because the runtime ends say, the old ones are as good as
            // before.
            let _ = timeout(LOOK, look).await;
        }
        self.0.state().configs.clone()
    }

    fn peers(&self) -> Option<Arc<[String]>> {
        self.0.tls.peers.clone()
    }
}

/// How long a connection waits for a look at the files. A disk that hangs, or handlers that block
/// on every thread of the pool, must not keep nodes out.
const LOOK: Duration = Duration::from_millis(200);

/// Ends with the look at the files, however it ends.
struct Check(Arc<Inner>);

impl Drop for Check {
    fn drop(&mut self) {
        self.0.checking.store(false, Ordering::Release);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Reads the files if they have changed.
    fn renew(&self) {
        // Before they are read: a change in between is seen by the next look.
        let stamps = Stamps::of(&self.tls);
        if self.state().stamps == stamps {
            return;
        }
        let loaded = Configs::load(&self.tls, &self.name);
        let mut state = self.state();
        state.stamps = stamps;
        match loaded {
            Ok(configs) => {
                state.configs = configs;
                say!(info: name = %self.name, "new connections use the renewed TLS files");
            }
            Err(error) => say!(warn: name = %self.name,
                %error,
                "the TLS files have changed and cannot be used; the old ones stay in use"
            ),
        }
    }
}
