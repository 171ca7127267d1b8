//! How the node of a process is set up and started.
//!
//! Owns: the settings, the order of a start (listen, open a port to be probed at, start the actor),
//! and the signals that end a process. Does not know: what the handle does afterwards.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::{NodeHandle, bind, check_names, ended, random, trust};
use crate::actors::WorkerThreads;
use crate::actors::node::NodeParts;
use crate::clock::Clock;
use crate::config::{FRAME_OVERHEAD, NodeConfig};
use crate::engine::Epoch;
use crate::engine::node::{Gone, NodeEvent, NodeSpec};
use crate::error::{ConfigError, ListenFault, NodeStartError};
use crate::handlers::Handlers;
use crate::host::Host;
use crate::inbox::Inbox;
#[cfg(feature = "tls")]
use crate::net::Tls;
use crate::net::carrier::Carrier;
use crate::net::told::Told;
use crate::net::{LinkConfig, Listener, Role, Secret, Trust};
use crate::say::say;
use crate::task::Labels;

/// See [`node`](super::node()).
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
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
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

    /// Lets schedulers dial it at this address (`host:port`; port 0 lets the system choose), beside those that
    /// were given before.
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
    /// # Cancel safety
    ///
    /// Dropping the future ends what was started.
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
        host.limit_last_words(self.link.close_timeout);
        let carrier = Arc::new(Carrier {
            network: host.network().await.map_err(NodeStartError::Thread)?,
            trust,
            config: self.link,
            inbox: Inbox::new(),
            told: Told::default(),
        });
        let mut listeners = Vec::new();
        for address in self.listen {
            listeners
                .push(bind(&host, address, &carrier.trust, Role::Node, &carrier.config).await?);
        }
        let listening = listeners.first().map(Listener::local_addr);
        let wants_probe = self.probe && !self.joins.is_empty();
        // A port that listens on every address serves as well.
        let open = listening.filter(|address| address.ip().is_unspecified());
        let (probe, probers) = match open {
            _ if !wants_probe => (None, Vec::new()),
            Some(address) => (Some(address.port()), Vec::new()),
            None => {
                let (port, probers) = open_probe(&host, &carrier.trust).await?;
                (Some(port), probers)
            }
        };
        let config = NodeConfig {
            max_output: self
                .config
                .max_output
                .min(carrier.config.max_frame.saturating_sub(FRAME_OVERHEAD)),
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
                max_frame: Some(carrier.config.max_frame as u64),
                local: false,
            },
            handlers: self.handlers,
            clock: Clock::Process,
            inbox: carrier.inbox.clone(),
            connector: Some(Box::new(Arc::clone(&carrier))),
        };
        let running = parts
            .start(host.control())
            .await
            .map_err(NodeStartError::Thread)?;
        let gone = || {
            let mut gone = running.gone.clone();
            async move {
                ended(&mut gone).await;
            }
        };
        for listener in listeners {
            carrier.listen(listener, gone());
        }
        for prober in probers {
            carrier.be_probed(prober, gone());
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
    /// # Cancel safety
    ///
    /// Dropping the future stops the node at once, and its tasks go elsewhere.
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
                    say!(info: node = %handle.name, again = drained, "a signal asks the node to end");
                    handle.running.inbox.push(event.into());
                    drained = true;
                }
            }
        }
    }
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
}
