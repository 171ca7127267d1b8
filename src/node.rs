//! Nodes: what a scheduler is given, and what the process of a node runs.
//!
//! Owns: the two builders and the handle of a node that runs. Does not know: schedulers beyond their
//! addresses.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::actors::WorkerThreads;
use crate::actors::node::{NodeParts, RunningNode};
use crate::clock::Clock;
use crate::config::{FRAME_OVERHEAD, NodeConfig};
use crate::engine::Epoch;
use crate::engine::message::{MAX_LABELS, is_name};
use crate::engine::node::{Gone, NodeEvent, NodeSpec};
use crate::error::{ConfigError, ListenFault, NodeStartError, TlsError};
use crate::handlers::Handlers;
use crate::host::Host;
#[cfg(feature = "tls")]
use crate::net::Tls;
use crate::net::roads::NodeRoads;
use crate::net::told::Told;
use crate::net::{LinkConfig, Listener, Role, Secret, Trust};
use crate::task::Labels;

/// A node as a scheduler is given it.
///
/// ```
/// use callboard::{Handlers, Node};
///
/// let handlers = Handlers::new().on("hello.world", async |n: u64| Ok(n));
/// let here = Node::local("master", handlers).max_workers(10);
/// let there = Node::connect("slave1", "10.0.0.2:7000");
/// ```
#[derive(Debug)]
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
    },
}

/// A node in the scheduler's own process.
#[derive(Debug)]
pub(crate) struct LocalNode {
    pub(crate) handlers: Handlers,
    pub(crate) labels: Labels,
    pub(crate) config: NodeConfig,
}

impl Node {
    /// A node in this process, with these handlers.
    pub fn local(name: impl AsRef<str>, handlers: Handlers) -> Self {
        Self {
            name: name.as_ref().into(),
            place: Place::Local(Box::new(LocalNode {
                handlers,
                labels: Labels::new(),
                config: NodeConfig::default(),
            })),
        }
    }

    /// A node in another process, which listens at `address` (`host:port`). Its handlers, labels and threads
    /// are set there.
    pub fn connect(name: impl AsRef<str>, address: impl Into<String>) -> Self {
        Self {
            name: name.as_ref().into(),
            place: Place::Connect {
                address: address.into(),
                workers: None,
            },
        }
    }

    /// How many tasks may run there at once, at most 1,000,000; for a node in another process in place of
    /// its own setting. See [`NodeConfig::max_workers`].
    pub fn max_workers(mut self, max_workers: u32) -> Self {
        match &mut self.place {
            Place::Local(local) => local.config.max_workers = max_workers,
            Place::Connect { workers, .. } => *workers = Some(max_workers),
        }
        self
    }

    /// See [`NodeConfig::threads`]; for a local node.
    pub fn threads(self, threads: usize) -> Self {
        self.configure(|config| config.threads = threads)
    }

    /// Adds labels that it bears; for a local node.
    pub fn labels(mut self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        if let Place::Local(local) = &mut self.place {
            local.labels.extend(labels.into_iter().map(Into::into));
        }
        self
    }

    /// Whether a link to it can be trusted so: with certificates, one must be able to bear its name.
    pub(crate) fn check_trust(&self, trust: &Trust) -> Result<(), TlsError> {
        match (&self.place, trust) {
            #[cfg(feature = "tls")]
            (Place::Connect { .. }, Trust::Tls(_)) => crate::net::tls::check_name(&self.name),
            _ => Ok(()),
        }
    }

    /// Changes its settings; for a local node.
    pub fn configure(mut self, set: impl FnOnce(&mut NodeConfig)) -> Self {
        if let Place::Local(local) = &mut self.place {
            set(&mut local.config);
        }
        self
    }
}

/// Begins the node of this process, under the name by which schedulers know it.
///
/// ```no_run
/// # async fn example(handlers: callboard::Handlers) -> Result<(), callboard::error::NodeStartError> {
/// callboard::node("slave1")
///     .handlers(handlers)
///     .max_workers(10)
///     .secret("a secret of at least 16 bytes")
///     .listen("0.0.0.0:7000")
///     .run()
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn node(name: impl AsRef<str>) -> NodeBuilder {
    NodeBuilder {
        name: name.as_ref().into(),
        handlers: Handlers::new(),
        labels: Labels::new(),
        config: NodeConfig::default(),
        link: LinkConfig::default(),
        secret: None,
        #[cfg(feature = "tls")]
        tls: None,
        listen: Vec::new(),
        joins: Vec::new(),
        probe: true,
    }
}

/// See [`node`].
#[derive(Debug)]
#[must_use = "a node does nothing before it is started"]
pub struct NodeBuilder {
    name: Arc<str>,
    handlers: Handlers,
    labels: Labels,
    config: NodeConfig,
    link: LinkConfig,
    secret: Option<Result<Secret, ConfigError>>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    listen: Vec<String>,
    joins: Vec<String>,
    probe: bool,
}

impl NodeBuilder {
    /// What it runs.
    pub fn handlers(mut self, handlers: Handlers) -> Self {
        self.handlers = handlers;
        self
    }

    /// Adds labels that it bears.
    pub fn labels(mut self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.labels.extend(labels.into_iter().map(Into::into));
        self
    }

    /// See [`NodeConfig::max_workers`].
    pub fn max_workers(self, workers: u32) -> Self {
        self.configure(|config| config.max_workers = workers)
    }

    /// See [`NodeConfig::threads`].
    pub fn threads(self, threads: usize) -> Self {
        self.configure(|config| config.threads = threads)
    }

    /// Changes its settings.
    pub fn configure(mut self, set: impl FnOnce(&mut NodeConfig)) -> Self {
        set(&mut self.config);
        self
    }

    /// Changes the settings of its links.
    pub fn configure_link(mut self, set: impl FnOnce(&mut LinkConfig)) -> Self {
        set(&mut self.link);
        self
    }

    /// The secret that it shares with its schedulers, at least 16 bytes. This or certificates are required on
    /// any address but loopback.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = Some(Secret::new(secret));
        self
    }

    /// The certificates by which it and its schedulers trust each other, in place of a secret; see [`Tls`]. Its
    /// name must be a DNS name in lower case, which its certificate bears.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets schedulers dial it at this address (`host:port`; port 0 lets the system choose).
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Dials the scheduler that listens at this address, for ever.
    pub fn join(mut self, address: impl Into<String>) -> Self {
        self.joins.push(address.into());
        self
    }

    /// Opens no port by which a scheduler that it joined can see at once that its process has died. Then its
    /// tasks wait for the end of its lease. For a node behind an address translation, where another
    /// machine would be asked.
    pub fn without_probe(mut self) -> Self {
        self.probe = false;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// See [`NodeStartError`]; nothing is left running.
    pub async fn start(self) -> Result<NodeHandle, NodeStartError> {
        self.config.validate()?;
        self.link.validate()?;
        check_names(&self.name, &self.labels)?;
        self.handlers.validate()?;
        if self.listen.is_empty() && self.joins.is_empty() {
            return Err(NodeStartError::NoWay);
        }
        let trust = trust(
            self.secret,
            #[cfg(feature = "tls")]
            self.tls.map(|tls| (tls, &*self.name)),
        )?;
        let host = Host::start().await.map_err(NodeStartError::Thread)?;
        let host = host.with_one_thread();
        let roads = NodeRoads {
            network: host.network().await.map_err(NodeStartError::Thread)?,
            trust,
            config: self.link,
            told: Told::default(),
        };
        let mut listeners = Vec::new();
        for address in self.listen {
            listeners.push(bind(&host, address, &roads.trust, Role::Node, &roads.config).await?);
        }
        let listening = listeners.first().map(Listener::local_addr);
        let wants_probe = self.probe && !self.joins.is_empty();
        // A port that listens on every address serves as well.
        let open = listening.filter(|address| address.ip().is_unspecified());
        let (probe, probers) = match open {
            _ if !wants_probe => (None, Vec::new()),
            Some(address) => (Some(address.port()), Vec::new()),
            None => {
                let (port, probers) = open_probe(&host, &roads.trust).await?;
                (Some(port), probers)
            }
        };
        let config = NodeConfig {
            max_output: self
                .config
                .max_output
                .min(roads.config.max_frame.saturating_sub(FRAME_OVERHEAD)),
            ..self.config
        };
        let parts = NodeParts {
            place: WorkerThreads::Own(config.threads),
            spec: NodeSpec {
                name: Arc::clone(&self.name),
                epoch: Epoch(random()),
                kinds: Vec::new(),
                labels: self.labels,
                config,
                probe: probe.map(|port| port.to_string()),
                joins: self.joins,
                max_frame: Some(roads.config.max_frame as u64),
                local: false,
            },
            handlers: self.handlers,
            clock: Clock::Process,
            dialler: Some(Box::new(roads.clone())),
        };
        let running = parts
            .start(host.control())
            .await
            .map_err(NodeStartError::Thread)?;
        for listener in listeners {
            roads.listen(listener, running.ports.clone(), running.gone.clone());
        }
        for prober in probers {
            roads.be_probed(prober, running.gone.clone());
        }
        Ok(NodeHandle {
            name: self.name,
            listening,
            gone: running.gone.clone(),
            running,
            _host: host,
        })
    }

    /// Starts it and waits until it has nothing more to do: its scheduler or [`NodeHandle::drain`] dismissed
    /// it, another process took its name, or a signal came. SIGTERM and Ctrl-C drain it; a second one
    /// stops it at once.
    ///
    /// # Errors
    ///
    /// See [`NodeStartError`]; nothing is left running.
    pub async fn run(self) -> Result<Gone, NodeStartError> {
        let mut signals = Signals::new().map_err(NodeStartError::Thread)?;
        let handle = self.start().await?;
        let mut gone = handle.gone.clone();
        let mut drained = false;
        loop {
            tokio::select! {
                gone = ended(&mut gone) => return Ok(gone),
                () = signals.next() => {
                    let event = if drained { NodeEvent::Stop } else { NodeEvent::Drain };
                    tracing::info!(node = %handle.name, again = drained, "a signal asks the node to end");
                    handle.running.inbox.push(event);
                    drained = true;
                }
            }
        }
    }
}

/// A node that runs in this process. Dropping it stops it at once, and its tasks go elsewhere.
pub struct NodeHandle {
    name: Arc<str>,
    listening: Option<SocketAddr>,
    gone: watch::Receiver<Option<Gone>>,
    running: RunningNode,
    _host: Host,
}

impl NodeHandle {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens first; `None` if it only joins.
    pub fn listen_addr(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// Its actor.
    pub fn addr(&self) -> &actix::Addr<crate::actors::node::NodeActor> {
        &self.running.addr
    }

    /// Finishes what runs, takes nothing new, and ends when all results have been taken.
    pub async fn drain(&self) -> Gone {
        self.running.inbox.push(NodeEvent::Drain);
        self.gone().await
    }

    /// Stops what runs, and ends. What cannot be stopped, a blocking handler, is waited for.
    pub async fn stop(&self) -> Gone {
        self.running.inbox.push(NodeEvent::Stop);
        self.gone().await
    }

    /// Waits until it has nothing more to do.
    pub async fn gone(&self) -> Gone {
        ended(&mut self.gone.clone()).await
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
        self.running.addr.do_send(crate::actors::Halt);
    }
}

async fn ended(gone: &mut watch::Receiver<Option<Gone>>) -> Gone {
    match gone.wait_for(Option::is_some).await {
        Ok(gone) => gone.clone().unwrap_or(Gone::Drained),
        // The actor has ended, which is an end too.
        Err(_) => Gone::Drained,
    }
}

/// A random number that tells one start from another.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Without a source of randomness, the time and this thread still tell starts apart.
        fastrand::u64(..)
    })
}

/// What a peer must prove: the one of both that was given. Certificates come with the name that they are for.
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

/// A port by which it can be seen that this process lives. Where there is no proof of trust, only this machine can
/// be a scheduler, and none other reaches the port.
async fn open_probe(host: &Host, trust: &Trust) -> Result<(u16, Vec<TcpListener>), NodeStartError> {
    let open = matches!(trust, Trust::Open);
    let bound = host.on_network(async move {
        if !open {
            let any = [
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            ];
            let listener = TcpListener::bind(&any[..]).await?;
            return Ok((listener.local_addr()?.port(), vec![listener]));
        }
        let first = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        let first = TcpListener::bind(&first[..]).await?;
        let address = first.local_addr()?;
        let port = address.port();
        let mut listeners = vec![first];
        // By which of both it dials is not known yet. Where the other is not to be had, the lease decides for it.
        if address.is_ipv4()
            && let Ok(other) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await
        {
            listeners.push(other);
        }
        Ok((port, listeners))
    });
    bound.await.and_then(|bound| bound).map_err(no_probe)
}

fn no_probe(error: std::io::Error) -> NodeStartError {
    NodeStartError::Listen(ListenFault(format!(
        "no port to be probed at can be had: {error}"
    )))
}

pub(crate) fn check_names(name: &str, labels: &Labels) -> Result<(), ConfigError> {
    let fault = |setting, reason: &str| {
        Err(ConfigError {
            setting,
            reason: reason.to_owned(),
        })
    };
    if !is_name(name) {
        return fault(
            "name",
            "must have 1 to 256 bytes, none of them control characters",
        );
    }
    if labels.len() > MAX_LABELS || !labels.iter().all(|label| is_name(label)) {
        return fault(
            "labels",
            "there may be at most 256, of 1 to 256 bytes each, none of them control characters",
        );
    }
    Ok(())
}

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        {
            // Where Ctrl-C cannot be heard, the node ends by other means only.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn g11_without_a_proof_of_trust_no_other_machine_reaches_the_port_to_probe() {
        let host = Host::start().await.unwrap();
        let (port, listeners) = open_probe(&host, &Trust::Open).await.unwrap();
        assert!(!listeners.is_empty());
        for listener in &listeners {
            let address = listener.local_addr().unwrap();
            assert!(address.ip().is_loopback(), "{address}");
            assert_eq!(address.port(), port);
        }
        let secret = Trust::Secret(Secret::new("sixteen bytes or more").unwrap());
        let (port, listeners) = open_probe(&host, &secret).await.unwrap();
        let addresses: Vec<_> = listeners
            .iter()
            .map(|it| it.local_addr().unwrap())
            .collect();
        assert_eq!(addresses.len(), 1);
        assert!(addresses[0].ip().is_unspecified() && addresses[0].port() == port);
    }

    #[test]
    fn names_and_labels_that_could_forge_a_line_of_a_log_are_refused() {
        let label = |label: &str| Labels::from([label.to_owned()]);
        assert!(check_names("slave 1", &label("größe")).is_ok());
        for (name, labels) in [
            ("slave\n1", Labels::new()),
            ("slave\u{1b}[2J", Labels::new()),
            ("slave1", label("a\rb")),
            ("", Labels::new()),
        ] {
            assert!(check_names(name, &labels).is_err(), "{name:?} {labels:?}");
        }
    }
}
