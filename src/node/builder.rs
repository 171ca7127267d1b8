//! How the node of a process is set up and started.
//!
//! Owns: the settings, the order of a start (listen, open a port to be probed at, start the actor),
//! and what signals ask of a node. Does not know: how these are heard, or what the handle does
//! afterwards.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::keeper::{Keeper, Ports};
use super::probe::{ProbeAt, Probers, open_probe};
use super::signals::Signals;
use super::{NodeExit, NodeHandle, bind, check_names, is_address, no_address, random, trust};
use crate::actors::WorkerThreads;
use crate::actors::node::NodeParts;
use crate::clock::Clock;
use crate::config::{FRAME_OVERHEAD, NodeConfig};
use crate::engine::message::{NAME_RULE, is_name};
use crate::engine::node::{MAX_SCHEDULERS, NodeEvent, NodeSpec, Serves};
use crate::engine::{Incarnation, Memory};
use crate::error::{ConfigError, NodeRunError, NodeStartError};
use crate::handlers::Handlers;
use crate::host::Host;
use crate::inbox::Inbox;
#[cfg(feature = "tls")]
use crate::net::Tls;
use crate::net::carrier::Carrier;
use crate::net::log_limiter::LogLimiter;
use crate::net::traffic::LinkTraffic;
use crate::net::{LinkConfig, Role, Secret};
use crate::say::say;
use crate::task::Labels;

/// The longest [`NodeBuilder::stop_timeout`].
const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How a node is set up. [`node`](super::node()) begins one, and has an example of it all.
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
    probe: ProbeAt,
    refusal_means_dead: Option<bool>,
    stop_timeout: Duration,
    join_within: Option<Duration>,
    schedulers: Vec<String>,
    max_workers_total: Option<u32>,
    end_with_scheduler: bool,
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
            probe: ProbeAt::AnyPort,
            refusal_means_dead: None,
            stop_timeout: Duration::from_secs(2),
            join_within: None,
            schedulers: Vec::new(),
            max_workers_total: None,
            end_with_scheduler: false,
        }
    }

    /// Sets the handlers that it runs.
    pub fn handlers(mut self, handlers: Handlers) -> Self {
        self.handlers = handlers;
        self
    }

    /// Adds labels that it bears.
    pub fn labels(mut self, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.labels.extend(labels.into_iter().map(Into::into));
        self
    }

    /// Sets how many tasks may run at once for a scheduler; see [`NodeConfig::max_workers`].
    pub fn max_workers(self, workers: u32) -> Self {
        self.configure(|config| config.max_workers = workers)
    }

    /// Limits how many tasks may run at once for all schedulers together, from 1 to 1,000,000.
    /// Without this each may use all its workers. Each scheduler has an equal share, and what it
    /// does not use is lent to the others. Nothing is stopped for it: a share comes back as tasks
    /// end.
    pub fn max_workers_total(mut self, workers: u32) -> Self {
        self.max_workers_total = Some(workers);
        self
    }

    /// Sets how many threads run async handlers; see [`NodeConfig::threads`].
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

    /// Sets the secret that it shares with its schedulers, at least 16 bytes. A secret or
    /// certificates are required on any address but loopback.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = Some(Secret::new(secret));
        self
    }

    /// Sets the certificates by which it and its schedulers trust each other, instead of a secret;
    /// see [`Tls`]. Its name must be a DNS name in lower case, which its certificate bears.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets schedulers dial it at this address (`host:port`; port 0 lets the system choose), beside
    /// those that were given before.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Dials the scheduler that listens at this address, for ever, beside those that were given
    /// before. Two addresses may be of one scheduler: then it is served by one link at a time.
    pub fn join(mut self, address: impl Into<String>) -> Self {
        self.joins.push(address.into());
        self
    }

    /// Serves only the schedulers of these names, at most 64, beside those that were given before.
    /// Without this it serves any that comes. Anyone who has the shared secret can claim any
    /// scheduler's name; a certificate bears the one name that it is for.
    pub fn schedulers(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.schedulers.extend(names.into_iter().map(Into::into));
        self
    }

    /// Ends the node, if it joined, when its scheduler is shut down; without this it stops what it
    /// runs for that scheduler and waits for its next start.
    pub fn end_with_scheduler(mut self) -> Self {
        self.end_with_scheduler = true;
        self
    }

    /// Opens the port by which a scheduler that it joined can see at once that its process has died
    /// at this address (`host:port`; port 0 lets the system choose). Without it that is the port
    /// where it listens, if it does on every address, or one that the system chooses: on every
    /// address, or on loopback alone if there is neither a secret nor a certificate. The log says
    /// at the start which it is. A connection there is closed at once.
    pub fn probe_at(mut self, address: impl Into<String>) -> Self {
        self.probe = ProbeAt::Address(address.into());
        self
    }

    /// Says whether a refusal at that port means that the process is dead: then what ran there is
    /// run again at once, exclusive tasks too. Without this, a refusal is believed if the scheduler
    /// and the node see the same address at the node's end of the link. Behind an address
    /// translation they do not, and the lease decides. Set it to `true` where a translation leads
    /// to this port alone; with `false` no port is named.
    pub fn refusal_means_dead(mut self, means: bool) -> Self {
        self.refusal_means_dead = Some(means);
        self
    }

    /// Opens no port by which a scheduler that it joined can see at once that its process has died.
    /// Then its tasks wait for the end of its lease.
    pub fn without_probe(mut self) -> Self {
        self.probe = ProbeAt::Nowhere;
        self
    }

    /// Limits how long [`run`](Self::run) goes on after a second signal has asked the node to stop.
    /// Default 2 s, up to a day. Too low: handlers that block have no time to notice that
    /// they are to end, and the scheduler hears less of what was stopped; too high: a handler that
    /// does not return holds the process up.
    pub fn stop_timeout(mut self, limit: Duration) -> Self {
        self.stop_timeout = limit;
        self
    }

    /// Limits how long [`run`](Self::run) waits for the first scheduler that welcomes the node, so
    /// that a wrong setup ends with an error. Without this it tries for ever. A scheduler that goes
    /// away later is waited for in any case.
    pub fn join_within(mut self, limit: Duration) -> Self {
        self.join_within = Some(limit);
        self
    }

    /// Starts it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what was started, as dropping a [`NodeHandle`] does.
    ///
    /// # Errors
    ///
    /// See [`NodeStartError`]; nothing is left running.
    pub async fn start(self) -> Result<NodeHandle, NodeStartError> {
        self.config.validate()?;
        self.link.validate()?;
        check_stop_timeout(self.stop_timeout)?;
        check_total(self.max_workers_total)?;
        check_schedulers(&self.schedulers, &self.joins)?;
        check_names(&self.name, &self.labels)?;
        if let Some(address) = self.joins.iter().find(|address| !is_address(address)) {
            return Err(no_address("join", address).into());
        }
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
            refusals: LogLimiter::default(),
            traffic: LinkTraffic::default(),
        });
        let mut listeners = Vec::new();
        for address in self.listen {
            listeners
                .push(bind(&host, address, &carrier.trust, Role::Node, &carrier.config).await?);
        }
        let wants_probe = !self.joins.is_empty() && self.refusal_means_dead != Some(false);
        let probers = if wants_probe {
            open_probe(&host, &carrier.trust, self.probe, &listeners).await?
        } else {
            Probers::default()
        };
        let Probers {
            sockets: probers,
            addresses: probes,
        } = probers;
        let listen: Vec<_> = listeners
            .iter()
            .map(|it| it.local_addr().to_string())
            .collect();
        say!(info: node = %self.name, ?listen, ?probes, "the node starts: where it listens, and can be probed");
        let config = NodeConfig {
            max_output: self
                .config
                .max_output
                .min(carrier.config.max_frame.saturating_sub(FRAME_OVERHEAD)),
            ..self.config
        };
        let (ports, closed) = Ports::hold(&listeners, &probers).map_err(NodeStartError::Thread)?;
        let parts = NodeParts {
            place: WorkerThreads::Own(config.threads),
            spec: NodeSpec {
                name: Arc::clone(&self.name),
                incarnation: Incarnation(random()),
                memory: Memory(random()),
                kinds: Vec::new(),
                labels: self.labels,
                config,
                probes,
                refusal_means_dead: self.refusal_means_dead,
                joins: self.joins,
                end_with_scheduler: self.end_with_scheduler,
                max_frame: Some(carrier.config.max_frame as u64),
                local: false,
            },
            handlers: self.handlers,
            clock: Clock::Process,
            inbox: carrier.inbox.clone(),
            connector: Some(Box::new(Arc::clone(&carrier))),
            serves: Serves {
                only: self.schedulers,
                max_workers: self.max_workers_total,
            },
            sign: ports,
            hold: None,
        };
        let keeper = Keeper {
            parts,
            carrier,
            listeners,
            probers,
            closed,
            host,
        };
        keeper.start().await.map_err(NodeStartError::Thread)
    }

    /// Starts the node and waits until it has come to its end: its scheduler dismissed it, another
    /// process took its name, or a signal came. By then nothing runs, and its scheduler was told
    /// so. SIGTERM and Ctrl-C drain it. A second signal stops it, and ends this within
    /// [`stop_timeout`](Self::stop_timeout), whatever still runs. What comes within a second after
    /// a signal that counted is the same signal.
    ///
    /// From the first poll of this until it has returned these signals do nothing else. Afterwards
    /// they do what they did before, if that was their default, to end the process. A process that
    /// handles them itself should begin to do so before this is polled: only then does the library
    /// know of it, and leave them alone afterwards.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the node, as dropping a [`NodeHandle`] does.
    ///
    /// # Errors
    ///
    /// See [`NodeRunError`].
    pub async fn run(self) -> Result<NodeExit, NodeRunError> {
        let mut signals = Signals::new().map_err(NodeStartError::Thread)?;
        let stop_timeout = self.stop_timeout;
        let join_within = self.join_within;
        let name = Arc::clone(&self.name);
        let mut asked = Asked::default();
        let handle = {
            let starting = self.start();
            tokio::pin!(starting);
            loop {
                tokio::select! {
                    handle = &mut starting => break handle?,
                    () = signals.next() => {
                        asked.again(&name, stop_timeout);
                        if let Asked::ToStop { .. } = asked {
                            // Dropped, it ends what it has started.
                            return Ok(NodeExit::Unfinished);
                        }
                    }
                }
            }
        };
        let overdue = async {
            match join_within {
                Some(limit) if timeout(limit, handle.joined()).await.is_err() => limit,
                // One that has come to its end says so below.
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::pin!(overdue);
        loop {
            if let Some(event) = asked.event() {
                handle.inbox.push(event.into());
            }
            tokio::select! {
                gone = handle.wait() => return match gone {
                    NodeExit::Failed => Err(NodeRunError::Failed),
                    gone => Ok(gone),
                },
                limit = &mut overdue => {
                    let reason = handle.why_not_joined();
                    return Err(NodeRunError::NotJoined {
                        limit,
                        reason: reason.unwrap_or_else(|| "none was heard of".to_owned()),
                    });
                }
                () = signals.next() => asked.again(&name, stop_timeout),
                () = asked.over() => {
                    say!(warn: node = %name, "the node was stopped and has not come to its end in time");
                    return Ok(NodeExit::Unfinished);
                }
            }
        }
    }
}

fn check_schedulers(names: &[String], joins: &[String]) -> Result<(), ConfigError> {
    let fault = |setting, reason| Err(ConfigError { setting, reason });
    if names.len() > MAX_SCHEDULERS || !names.iter().all(|name| is_name(name)) {
        let reason = format!("there may be at most {MAX_SCHEDULERS}, each of {NAME_RULE}");
        return fault("schedulers", reason);
    }
    if joins.len() > MAX_SCHEDULERS {
        return fault("join", format!("there may be at most {MAX_SCHEDULERS}"));
    }
    Ok(())
}

fn check_total(workers: Option<u32>) -> Result<(), ConfigError> {
    if workers.is_none_or(|workers| (1..=NodeConfig::MAX_WORKERS).contains(&workers)) {
        return Ok(());
    }
    Err(ConfigError {
        setting: "max_workers_total",
        reason: "must be from 1 to 1,000,000".to_owned(),
    })
}

fn check_stop_timeout(limit: Duration) -> Result<(), ConfigError> {
    if limit <= MAX_STOP_TIMEOUT {
        return Ok(());
    }
    Err(ConfigError {
        setting: "stop_timeout",
        reason: "must be at most a day".to_owned(),
    })
}

/// What signals have asked of a node that runs.
#[derive(Default)]
enum Asked {
    #[default]
    Nothing,
    ToDrain,
    ToStop {
        /// The time by which it must have come to its end.
        until: Instant,
    },
}

impl Asked {
    fn again(&mut self, node: &str, stop_timeout: Duration) {
        let next = match self {
            Self::Nothing => {
                say!(info: node, "a signal asks the node to drain");
                Self::ToDrain
            }
            Self::ToDrain => {
                say!(info: node, "a second signal asks the node to stop");
                Self::ToStop {
                    until: Instant::now() + stop_timeout,
                }
            }
            Self::ToStop { .. } => return,
        };
        *self = next;
    }

    fn event(&self) -> Option<NodeEvent> {
        match self {
            Self::Nothing => None,
            Self::ToDrain => Some(NodeEvent::Drain),
            Self::ToStop { .. } => Some(NodeEvent::Stop),
        }
    }

    /// Waits until the node must have come to its end.
    async fn over(&self) {
        match self {
            Self::ToStop { until } => sleep_until(*until).await,
            Self::Nothing | Self::ToDrain => std::future::pending().await,
        }
    }
}
