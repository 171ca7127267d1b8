//! How a scheduler is set up and started.
//!
//! Owns: the settings, the claim of a name, and the order of a start: listen, start the actor,
//! reach the nodes. Does not know: what the handle does afterwards.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Guard, Inner, NAMES, NameOwner, PERMITS, Scheduler, Threads, UNNAMED, lock};
use crate::actors::Shutdown;
use crate::actors::scheduler::{ClientGone, Handover, SchedulerParts};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::{FRAME_OVERHEAD, MIN_HANDSHAKE, SchedulerConfig};
use crate::engine::SchedulerId;
use crate::error::{ConfigError, NodeError, NodeStartError, StartError};
use crate::host::Host;
use crate::inbox::Inbox;
use crate::limit::Limit;
#[cfg(feature = "tls")]
use crate::net::Tls;
use crate::net::carrier::{Carrier, parting};
use crate::net::log_limiter::LogLimiter;
use crate::net::traffic::LinkTraffic;
use crate::net::{LinkConfig, Role, Secret, Trust};
use crate::node::{Node, bind, check_names, random, trust};
use crate::retry::RetryPolicy;
#[cfg(feature = "store")]
use crate::store::Store;
use crate::task::TaskKind;
use crate::trace::TraceMode;

mod begin;
#[cfg(feature = "store")]
mod stored;

/// How a scheduler is set up. [`Scheduler::builder`] begins one, and has an example of it all.
#[derive(Debug)]
#[must_use = "a scheduler does nothing before it is started"]
pub struct SchedulerBuilder {
    name: Arc<str>,
    pub(super) unnamed: bool,
    nodes: Vec<Node>,
    listen: Vec<String>,
    secret: Option<Result<Secret, ConfigError>>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    client: ClientChoice,
    on_client_gone: ClientGone,
    config: SchedulerConfig,
    link: LinkConfig,
    require_all: bool,
    start_timeout: Duration,
    current: bool,
    #[cfg(feature = "store")]
    store: Option<Store>,
}

/// Who is told how tasks ended that have no client of their own.
#[derive(Debug)]
enum ClientChoice {
    /// The next client that is set.
    Next,
    Nobody,
    Is(Client),
}

impl SchedulerBuilder {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            unnamed: false,
            nodes: Vec::new(),
            listen: Vec::new(),
            secret: None,
            #[cfg(feature = "tls")]
            tls: None,
            client: ClientChoice::Next,
            on_client_gone: ClientGone::default(),
            config: SchedulerConfig::default(),
            link: LinkConfig::default(),
            require_all: false,
            start_timeout: Duration::from_secs(5),
            current: false,
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// Adds a node.
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Lets nodes join by themselves at this address (`host:port`; port 0 lets the system choose),
    /// beside those that were given before.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Sets the secret that it shares with its nodes, at least 16 bytes. A secret or certificates
    /// are required on any address but loopback.
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.secret = Some(Secret::new(secret));
        self
    }

    /// Sets the certificates by which it and its nodes trust each other, instead of a secret; see
    /// [`Tls`]. Its name must be a DNS name in lower case, which its certificate bears.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets how failed attempts are retried; see [`SchedulerConfig::retry`].
    pub fn retry(self, retry: RetryPolicy) -> Self {
        self.configure(|config| config.retry = retry)
    }

    /// Limits how many tasks of a kind may go on at once, and how often one may start; see
    /// [`SchedulerConfig::limits`].
    pub fn limit(self, kind: impl Into<TaskKind>, limit: Limit) -> Self {
        let kind = kind.into();
        self.configure(|config| {
            config.limits.insert(kind, limit);
        })
    }

    /// Sets who is told how tasks ended, unless a task has a client of its own.
    ///
    /// Without a client, statuses are held for the one that
    /// [`set_client`](crate::Scheduler::set_client) brings, up to
    /// [`max_statuses`](SchedulerConfig::max_statuses); a WARN tells when a tenth of that is held.
    pub fn client(mut self, client: impl Into<Client>) -> Self {
        self.client = ClientChoice::Is(client.into());
        self
    }

    /// Tells nobody how tasks ended that have no client of their own. For those who hand tasks
    /// in by [`run`](crate::Scheduler::run) and
    /// [`execute_and_wait`](crate::Scheduler::execute_and_wait), or do not ask how they end: stats
    /// count it, and the log tells of failures.
    ///
    /// ```
    /// use callboard::{Execute, Handlers, Node, Scheduler, Shutdown};
    ///
    /// # actix::System::new().block_on(async {
    /// let handlers = Handlers::new().on("greet", async |name: String| Ok(name));
    /// let node = Node::local("here", handlers);
    /// let scheduler = Scheduler::builder("no-client").node(node).no_client().start().await?;
    /// scheduler.execute(Execute::named("greet", &"you")?).await?;
    /// # scheduler.shutdown(Shutdown::Now).await?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn no_client(mut self) -> Self {
        self.client = ClientChoice::Nobody;
        self
    }

    /// Sets what it does when its client is gone.
    pub fn on_client_gone(mut self, choice: ClientGone) -> Self {
        self.on_client_gone = choice;
        self
    }

    /// Keeps its tasks in a store, from which the scheduler of this name goes on when it is started
    /// again: after a shutdown, or when its process has died. Then an `Execute` is answered when
    /// the task is stored, and a status is told when the ending is;
    /// [the guarantees](crate::guide::guarantees) have what holds across a restart.
    ///
    /// The start reads what is there, and tells in the log each second how far it is. What had not
    /// been handled by a client is given to the first one, marked as
    /// [given again](crate::TaskStatus::is_given_again).
    ///
    /// ```no_run
    /// use callboard::{Client, Node, Scheduler, Store};
    ///
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let scheduler = Scheduler::builder("orders")
    ///     .store(Store::file("/var/lib/shop/orders.redb"))
    ///     .node(Node::connect("node-1", "10.0.0.2:7000"))
    ///     .secret("at least sixteen bytes")
    ///     .client(client)
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "store")]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Tells a status before its ending is stored, which spares it a commit; see
    /// [`SchedulerConfig::tell_at_once`] for what that costs.
    #[cfg(feature = "store")]
    pub fn tell_at_once(self) -> Self {
        self.configure(|config| config.tell_at_once = true)
    }

    /// Refuses a task whose kind no node has offered so far, so that a mistyped one is heard of at
    /// once. Without it such a task waits for a node that offers it; see
    /// [`SchedulerConfig::refuse_unknown_kinds`].
    pub fn refuse_unknown_kinds(self) -> Self {
        self.configure(|config| config.refuse_unknown_kinds = true)
    }

    /// Sets how attempts relate to the trace context of their task; see
    /// [`SchedulerConfig::trace_mode`].
    pub fn trace_mode(self, mode: TraceMode) -> Self {
        self.configure(|config| config.trace_mode = mode)
    }

    /// Replaces all settings, those of [`SchedulerBuilder::retry`] and
    /// [`SchedulerBuilder::refuse_unknown_kinds`] too.
    pub fn config(mut self, config: SchedulerConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes settings.
    pub fn configure(mut self, set: impl FnOnce(&mut SchedulerConfig)) -> Self {
        set(&mut self.config);
        self
    }

    /// Changes the settings of its links. `max_frame` is not among them: it is
    /// [`SchedulerConfig::max_frame`], and to set another here is an error.
    pub fn configure_link(mut self, set: impl FnOnce(&mut LinkConfig)) -> Self {
        set(&mut self.link);
        self
    }

    /// Makes it an error if any of the nodes cannot be reached at the start. Without it, the
    /// scheduler starts with those that answer, and tries the others for ever.
    pub fn require_all_nodes(mut self) -> Self {
        self.require_all = true;
        self
    }

    /// Sets how long the start waits for its nodes. Default 5 s; `Duration::MAX` is for ever.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Keeps everything on the calling thread, the handlers of local nodes too: for tests, under
    /// tokio's paused clock as well. A handler that blocks then blocks the scheduler.
    pub fn on_current_arbiter(mut self) -> Self {
        self.current = true;
        self
    }

    /// Starts it, with the nodes that answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what was started, in its own time; until then the name is taken.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; nothing is left running.
    pub async fn start(mut self) -> Result<Scheduler, StartError> {
        self.check_settings()?;
        self.config.accept_joins = !self.listen.is_empty();
        self.link.max_frame = self.config.max_frame;
        // A dial that hangs must not take the time of the next one.
        self.link.handshake_timeout = self
            .link
            .handshake_timeout
            .min(self.config.heartbeat.max(MIN_HANDSHAKE));
        // The default shrinks with the frame. What was set to more than fits is an error below.
        let default = SchedulerConfig::default().max_task_args;
        if self.config.max_task_args == default {
            let fits = self.config.max_frame.saturating_sub(FRAME_OVERHEAD);
            self.config.max_task_args = default.min(fits);
        }
        self.config.validate()?;
        self.link.validate()?;
        check_names(&self.name, &Default::default())?;
        if self.nodes.is_empty() && self.listen.is_empty() {
            return Err(StartError::NoNodes);
        }
        self.check_client()?;
        let name = self.claim_name()?;
        let mut guard = Guard {
            name: Arc::clone(&name),
            left: Handover::default(),
            threads: None,
        };
        let trust = trust(
            self.secret.take(),
            #[cfg(feature = "tls")]
            self.tls.take().map(|tls| (tls, &*name)),
        )
        .map_err(start_error)?;
        for node in &self.nodes {
            node.check_trust(&trust)?;
        }
        let host = if self.current {
            Host::current()
        } else {
            Host::start().await.map_err(StartError::Thread)?
        };
        host.limit_last_words(self.link.close_timeout);
        let threads = Arc::new(Threads {
            host,
            current: self.current,
            clock: if self.current {
                Clock::Tokio
            } else {
                Clock::Process
            },
            #[cfg(feature = "store")]
            hold: self.store.as_ref().map(stored::hold),
            #[cfg(not(feature = "store"))]
            hold: None,
            nodes: Mutex::default(),
        });
        guard.threads = Some(Arc::clone(&threads));
        self.start_with(name, guard, threads, trust).await
    }

    /// Refuses what would be overwritten: what was set in a place where it does not belong.
    fn check_settings(&self) -> Result<(), ConfigError> {
        let misplaced = |setting, reason: &str| {
            Err(ConfigError {
                setting,
                reason: reason.to_owned(),
            })
        };
        if self.config.accept_joins && self.listen.is_empty() {
            return misplaced(
                "accept_joins",
                "it is set by `listen`, which was not called",
            );
        }
        let frame = self.link.max_frame;
        if frame != self.config.max_frame && frame != LinkConfig::default().max_frame {
            return misplaced(
                "max_frame",
                "for a scheduler it is set by `configure`, not by `configure_link`",
            );
        }
        self.nodes.iter().try_for_each(Node::check_settings)
    }

    /// Checks that the client has not ended: a scheduler that ends with its client would end at
    /// once.
    fn check_client(&self) -> Result<(), StartError> {
        match &self.client {
            ClientChoice::Is(client)
                if self.on_client_gone == ClientGone::Stop && !client.recipient().connected() =>
            {
                Err(StartError::ClientGone)
            }
            _ => Ok(()),
        }
    }

    fn claim_name(&self) -> Result<Arc<str>, StartError> {
        let mut names = lock(&NAMES);
        let mut name = Arc::clone(&self.name);
        let mut number = 1;
        while names.contains_key(&name) {
            if !self.unnamed {
                return Err(StartError::NameTaken(name.to_string()));
            }
            number += 1;
            name = format!("{UNNAMED}-{number}").into();
        }
        names.insert(Arc::clone(&name), NameOwner::Starts(Arc::clone(&name)));
        Ok(name)
    }

    async fn start_with(
        self,
        name: Arc<str>,
        guard: Guard,
        threads: Arc<Threads>,
        trust: Trust,
    ) -> Result<Scheduler, StartError> {
        let inbox = Inbox::new();
        let left = guard.left.clone();
        let carrier = Arc::new(Carrier {
            network: threads.host.network().await.map_err(StartError::Thread)?,
            trust: trust.clone(),
            config: self.link.clone(),
            inbox: inbox.clone(),
            refusals: LogLimiter::default(),
            traffic: LinkTraffic::default(),
        });
        let mut listeners = Vec::new();
        for address in self.listen {
            let bound = bind(&threads.host, address, &trust, Role::Scheduler, &self.link).await;
            listeners.push(bound.map_err(start_error)?);
        }
        let scheduler_id = SchedulerId(random());
        #[cfg(feature = "store")]
        let (kept, reader) = match self.store {
            Some(store) => {
                let opening = stored::Opening {
                    store,
                    name: Arc::clone(&name),
                    scheduler_id,
                    config: self.config.clone(),
                    clock: threads.clock,
                };
                let inbox = (!self.current).then(|| inbox.clone());
                let (kept, reader) = opening.open(inbox).await?;
                (Some(kept), Some(reader))
            }
            None => (None, None),
        };
        #[cfg(not(feature = "store"))]
        let kept = None;
        let listening = listeners.first().map(crate::net::Listener::local_addr);
        let parts = SchedulerParts {
            name: Arc::clone(&name),
            scheduler_id,
            config: self.config,
            clock: threads.clock,
            on_client_gone: self.on_client_gone,
            left: left.clone(),
            inbox: inbox.clone(),
            connector: Box::new(Arc::clone(&carrier)),
            kept,
            guard: Box::new(guard),
        };
        let addr = parts.start(threads.host.control());
        let scheduler = Scheduler {
            inner: Arc::new(Inner {
                name: Arc::clone(&name),
                addr,
                listening,
                permits: Arc::new(Semaphore::new(PERMITS)),
                inbox,
                trust,
                traffic: carrier.traffic.clone(),
                threads,
                left,
                #[cfg(feature = "metrics")]
                publisher: std::sync::Mutex::default(),
                #[cfg(feature = "dashboard")]
                marks: Default::default(),
                #[cfg(feature = "store")]
                store: reader,
            }),
        };
        scheduler.begin(self.client).await;
        for listener in listeners {
            carrier.listen(listener, parting());
        }
        let reached = scheduler
            .reach(
                self.nodes,
                self.start_timeout,
                self.require_all,
                listening.is_some(),
            )
            .await;
        if let Err(error) = reached {
            // Nothing was executed, so all that there is to be done is in the store, if anywhere.
            let _ = scheduler.shutdown(Shutdown::Now).await;
            return Err(error);
        }
        // If it has ended meanwhile its name is free, and may be another's.
        match lock(&NAMES).get_mut(&name) {
            Some(claim) if claim.is_of(&name) => {
                *claim = NameOwner::Runs(Arc::clone(&scheduler.inner));
                Ok(scheduler)
            }
            _ => Err(NodeError::Stopped.into()),
        }
    }
}

fn start_error(error: NodeStartError) -> StartError {
    match error {
        NodeStartError::Listen(fault) => StartError::Listen(fault),
        NodeStartError::Thread(error) => StartError::Thread(error),
        NodeStartError::Config(error) => StartError::Config(error),
        NodeStartError::Tls(error) => StartError::Tls(error),
        other => StartError::Node(NodeError::Invalid(other.to_string())),
    }
}
