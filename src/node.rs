//! Nodes: what a scheduler is given, and what the process of a node runs.
//!
//! Owns: a node as a scheduler is given it, the handle of a node that runs, and what both ways to
//! set one up share: names, trust, listeners. Does not know: how the node of a process is started
//! ([`builder`]) and kept until nothing runs ([`keeper`]), or schedulers beyond their addresses.

mod builder;
mod keeper;
mod probe;
mod signals;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::actors::GetServed;
use crate::actors::node::{NodeActor, Welcomed};
use crate::config::NodeConfig;
use crate::engine::message::{MAX_LABELS, NAME_RULE, is_name};
use crate::engine::node::{self as engine, NodeEvent};
use crate::error::{ConfigError, ListenFault, NodeStartError, TlsError};
use crate::handlers::Handlers;
use crate::host::Host;
use crate::inbox::Inbox;
use crate::links::Incoming;
#[cfg(feature = "tls")]
use crate::net::Tls;
use crate::net::{LinkConfig, Listener, Role, Secret, Trust};
use crate::task::Labels;

pub use builder::NodeBuilder;

/// A node as a scheduler is given it.
///
/// ```
/// use callboard::{Handlers, Node};
///
/// let handlers = Handlers::new().on("hello.world", async |n: u64| Ok(n));
/// let here = Node::local("here", handlers)
///     .max_workers(10)
///     .threads(4)
///     .labels(["gpu"])
///     .configure(|config| config.max_kept_bytes = 16 << 20);
/// let there = Node::connect("node-1", "10.0.0.2:7000").max_workers(4).refusal_means_dead(true);
/// ```
#[derive(Debug)]
#[must_use = "a node does nothing before a scheduler is given it"]
pub struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) place: Place,
}

#[derive(Debug)]
pub(crate) enum Place {
    Local(Box<LocalNode>),
    Connect {
        address: String,
        workers: Option<u32>,
        refusal_means_dead: Option<bool>,
        /// A setting that was asked for and can only be set in the node's own process.
        misplaced: Option<&'static str>,
    },
}

/// A node in the scheduler's own process.
#[derive(Debug)]
pub(crate) struct LocalNode {
    pub(crate) handlers: Handlers,
    pub(crate) labels: Labels,
    pub(crate) config: NodeConfig,
    /// A setting that was asked for and can only be set for a node in another process.
    pub(crate) misplaced: Option<&'static str>,
}

impl Node {
    /// Describes a node in this process, with these handlers.
    pub fn local(name: impl AsRef<str>, handlers: Handlers) -> Self {
        Self {
            name: name.as_ref().into(),
            place: Place::Local(Box::new(LocalNode {
                handlers,
                labels: Labels::new(),
                config: NodeConfig::default(),
                misplaced: None,
            })),
        }
    }

    /// Describes a node in another process, which listens at `address` (`host:port`). Its handlers,
    /// labels, threads and settings are set there: to set them here is an error when it is added.
    pub fn connect(name: impl AsRef<str>, address: impl Into<String>) -> Self {
        Self {
            name: name.as_ref().into(),
            place: Place::Connect {
                address: address.into(),
                workers: None,
                refusal_means_dead: None,
                misplaced: None,
            },
        }
    }

    /// Sets how many tasks may run there at once, at most 1,000,000; for a node in another process,
    /// instead of its own setting. See [`NodeConfig::max_workers`].
    pub fn max_workers(mut self, max_workers: u32) -> Self {
        match &mut self.place {
            Place::Local(local) => local.config.max_workers = max_workers,
            Place::Connect { workers, .. } => *workers = Some(max_workers),
        }
        self
    }

    /// Sets how many threads run async handlers, for a local node; see [`NodeConfig::threads`].
    pub fn threads(self, threads: usize) -> Self {
        self.locally("threads", |local| local.config.threads = threads)
    }

    /// Adds labels that it bears; for a local node.
    pub fn labels(self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let labels = labels.into_iter().map(Into::into);
        self.locally("labels", |local| local.labels.extend(labels))
    }

    /// Says whether a refused dial means that the process is dead, for a node in another process:
    /// then what ran there is run again at once, exclusive tasks too. Without this, a refusal is
    /// believed if the node sees its own end of the link at the address that was dialled. Behind an
    /// address translation, a forwarder or a balancer it does not, and the lease decides. Set it to
    /// `true` where what is dialled refuses only when the process is dead; to `false` where the
    /// process may live on though nobody listens, behind something that keeps its address.
    pub fn refusal_means_dead(mut self, means: bool) -> Self {
        match &mut self.place {
            Place::Local(local) => local.misplaced = Some("refusal_means_dead"),
            Place::Connect {
                refusal_means_dead, ..
            } => *refusal_means_dead = Some(means),
        }
        self
    }

    fn locally(mut self, setting: &'static str, set: impl FnOnce(&mut LocalNode)) -> Self {
        match &mut self.place {
            Place::Local(local) => set(local),
            Place::Connect { misplaced, .. } => *misplaced = Some(setting),
        }
        self
    }

    /// Returns whether all that was set can be set here.
    pub(crate) fn check_settings(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        let (setting, reason) = match &self.place {
            Place::Connect { address, .. } if !is_address(address) => {
                return Err(no_address("connect", address));
            }
            Place::Connect {
                misplaced: Some(setting),
                ..
            } => (
                *setting,
                format!("the node {name:?} is in another process, where this is set"),
            ),
            Place::Local(local) => match local.misplaced {
                Some(setting) => (setting, format!("the node {name:?} is in this process")),
                None => return Ok(()),
            },
            Place::Connect { .. } => return Ok(()),
        };
        Err(ConfigError { setting, reason })
    }

    /// Returns whether a link to it can be trusted so: with certificates, one must be able to bear
    /// its name.
    pub(crate) fn check_trust(&self, trust: &Trust) -> Result<(), TlsError> {
        match (&self.place, trust) {
            #[cfg(feature = "tls")]
            (Place::Connect { .. }, Trust::Tls(_)) => crate::net::names::check_name(&self.name),
            _ => Ok(()),
        }
    }

    /// Changes its settings; for a local node.
    pub fn configure(self, set: impl FnOnce(&mut NodeConfig)) -> Self {
        self.locally("configure", |local| set(&mut local.config))
    }
}

/// Begins the node of this process, under the name by which schedulers know it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use callboard::{Handlers, error::NodeRunError};
/// # async fn example(handlers: Handlers) -> Result<(), NodeRunError> {
/// let exit = callboard::node("node-1")
///     .handlers(handlers)
///     .labels(["gpu", "zone=north"])
///     .max_workers(10) // for each scheduler
///     .max_workers_total(16) // for all of them
///     .threads(4)
///     .configure(|config| config.max_output = 1 << 20)
///     .configure_link(|link| link.handshake_timeout = Duration::from_secs(10))
///     .secret("a secret of at least 16 bytes") // or `.tls(..)`; see `Tls`
///     .schedulers(["orders", "mail"])
///     .listen("0.0.0.0:7000") // to be dialled, or
///     .join("10.0.0.1:7100") // to dial, or both
///     .join_within(Duration::from_secs(60))
///     .probe_at("10.0.0.2:7001") // or `.without_probe()`
///     .refusal_means_dead(true)
///     .stop_timeout(Duration::from_secs(5))
///     .end_with_scheduler()
///     .run() // or `.start()`, for a handle
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn node(name: impl AsRef<str>) -> NodeBuilder {
    NodeBuilder::new(name.as_ref())
}

/// A node that runs in this process. Dropping it stops the node, as [`NodeHandle::stop`] does, and
/// waits for nothing. It does not survive a fork: its threads are those of the process that started
/// it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let handlers = callboard::Handlers::new();
/// let node = callboard::node("node-1").handlers(handlers).join("127.0.0.1:7100").start().await?;
/// if node.joined().await.is_ok() {
///     println!("{} serves {:?}", node.name(), node.schedulers().await);
/// }
/// node.drain().await; // finishes what runs; `stop` does not
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the handle stops the node"]
pub struct NodeHandle {
    name: Arc<str>,
    listening: Option<SocketAddr>,
    addr: actix::Addr<NodeActor>,
    inbox: Inbox<Incoming<NodeEvent>>,
    over: watch::Receiver<Option<NodeExit>>,
    welcomed: watch::Receiver<Welcomed>,
}

/// How a node of this process has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeExit {
    /// The node was drained or stopped, by its own process.
    Drained,
    /// The scheduler told the node to drain or to leave.
    Dismissed,
    /// Another process has taken its name for good.
    Replaced,
    /// The node was told to stop, and had not ended within [`NodeBuilder::stop_timeout`]: a
    /// handler that blocks may still be running.
    Unfinished,
    /// The thread ended before the node: by a panic, or with the actix System that it was started
    /// in. A handler that blocks may still be running.
    Failed,
}

impl NodeExit {
    fn new(gone: engine::Gone) -> Self {
        match gone {
            engine::Gone::Drained => Self::Drained,
            engine::Gone::Dismissed => Self::Dismissed,
            engine::Gone::Replaced => Self::Replaced,
        }
    }
}

impl NodeHandle {
    /// Returns the node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the first address at which it listens; `None` if it only joins.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// Returns the address of the node's actor.
    pub fn addr(&self) -> &actix::Addr<NodeActor> {
        &self.addr
    }

    /// Returns the names of the schedulers that it serves now; none once it has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it may be called again.
    pub async fn schedulers(&self) -> Vec<String> {
        self.addr.send(GetServed).await.unwrap_or_default()
    }

    /// Waits until a scheduler has welcomed the node for the first time: one that it joins, or one
    /// that has dialled it. [`schedulers`](Self::schedulers) tells whom it serves now.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it may be called again.
    ///
    /// # Errors
    ///
    /// How the node has come to its end, if it did before.
    pub async fn joined(&self) -> Result<(), NodeExit> {
        let mut welcomed = self.welcomed.clone();
        let once = welcomed.wait_for(|welcomed| matches!(welcomed, Welcomed::Once));
        if once.await.is_ok() {
            return Ok(());
        }
        // The node's thread was to say it, and has ended with the node.
        Err(self.wait().await)
    }

    /// Returns why no scheduler has welcomed it so far: what was seen last. `None` if one has, or
    /// if nothing was seen.
    pub fn why_not_joined(&self) -> Option<String> {
        match &*self.welcomed.borrow() {
            Welcomed::NotYet(why) => why.clone(),
            Welcomed::Once => None,
        }
    }

    /// Finishes what runs, takes nothing new, and ends when all results have been taken.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node drains, whether or not this is awaited to its end.
    /// [`NodeHandle::wait`] waits too.
    pub async fn drain(&self) -> NodeExit {
        self.inbox.push(NodeEvent::Drain.into());
        self.wait().await
    }

    /// Stops what runs, and ends. A blocking handler cannot be stopped, so its end is waited for.
    /// Until then the node's ports stay open, and its scheduler does not run an exclusive task
    /// again that the handler may still be working on.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node stops, whether or not this is awaited to its end. [`NodeHandle::wait`]
    /// waits too.
    pub async fn stop(&self) -> NodeExit {
        self.inbox.push(NodeEvent::Stop.into());
        self.wait().await
    }

    /// Waits until it has nothing more to do and has told its scheduler so. Then its process may
    /// end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; it may be called again.
    pub async fn wait(&self) -> NodeExit {
        let mut over = self.over.clone();
        match over.wait_for(Option::is_some).await {
            Ok(gone) => gone.unwrap_or(NodeExit::Failed),
            // The node was to say it, and has ended with its thread.
            Err(_) => NodeExit::Failed,
        }
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle")
            .field("name", &self.name)
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        // What keeps the node lives on until nothing runs any more.
        self.inbox.push(NodeEvent::Stop.into());
    }
}

/// Returns a random number that tells one start from another.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without a source of randomness, the time and this thread still tell starts apart.
        fastrand::u64(..)
    })
}

/// Returns what a peer must prove: the one of both that was given. Certificates come with the name
/// that they are for.
pub(crate) fn trust(
    secret: Option<Result<Secret, ConfigError>>,
    #[cfg(feature = "tls")] tls: Option<(Tls, &str)>,
) -> Result<Trust, NodeStartError> {
    let secret = secret.transpose()?;
    #[cfg(feature = "tls")]
    if let Some((tls, name)) = tls {
        return match secret {
            Some(_) => Err(TlsError::AlsoSecret.into()),
            None => Ok(Trust::Tls(tls.load(name)?)),
        };
    }
    Ok(secret.map_or(Trust::Open, Trust::Secret))
}

/// Binds a listener on the network's thread.
pub(crate) async fn bind(
    host: &Host,
    address: String,
    trust: &Trust,
    role: Role,
    config: &LinkConfig,
) -> Result<Listener, NodeStartError> {
    let (trust, config) = (trust.clone(), config.clone());
    host.on_network(async move { Listener::bind(&address, trust, role, config).await })
        .await
        .map_err(NodeStartError::Thread)?
        .map_err(|error| NodeStartError::Listen(ListenFault(error.to_string())))
}

/// Returns whether this can be dialled: a host, and a port other than 0.
fn is_address(address: &str) -> bool {
    let parts = address.rsplit_once(':');
    parts.is_some_and(|(host, port)| {
        let port = port.parse::<u16>();
        !host.is_empty() && port.is_ok_and(|port| port > 0)
    })
}

fn no_address(setting: &'static str, address: &str) -> ConfigError {
    ConfigError {
        setting,
        reason: format!(
            "{address:?} is no address; it must be `host:port`, with a port from 1 to 65535"
        ),
    }
}

pub(crate) fn check_names(name: &str, labels: &Labels) -> Result<(), ConfigError> {
    let fault = |setting, reason| Err(ConfigError { setting, reason });
    if !is_name(name) {
        return fault("name", format!("must have {NAME_RULE}"));
    }
    if labels.len() > MAX_LABELS || !labels.iter().all(|label| is_name(label)) {
        let reason = format!("there may be at most {MAX_LABELS}, each of {NAME_RULE}");
        return fault("labels", reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_names_in_words_is_the_one_that_holds() {
        let rule = format!("1 to {} bytes", crate::engine::message::MAX_NAME_BYTES);
        assert!(NAME_RULE.starts_with(&rule));
    }

    #[test]
    fn names_and_labels_that_could_forge_a_line_of_a_log_are_refused() {
        let label = |label: &str| Labels::from([label.to_owned()]);
        assert!(check_names("nodes 1", &label("größe")).is_ok());
        for (name, labels) in [
            ("nodes\n1", Labels::new()),
            ("nodes\u{1b}[2J", Labels::new()),
            ("node-1", label("a\rb")),
            ("nodes\u{202e}1", Labels::new()),
            ("nodes\u{2028}1", Labels::new()),
            ("node-1", label("a\u{200b}b")),
            ("node-1\u{feff}", Labels::new()),
            ("\u{e0041}node-1", Labels::new()),
            ("", Labels::new()),
        ] {
            assert!(check_names(name, &labels).is_err(), "{name:?} {labels:?}");
        }
    }
}
