//! The actor of one node: drives its [`Machines`], one for each scheduler.
//!
//! Owns: the machines, its inbox, its timer, its links and the threads of its workers. Does not
//! know: the rules; what a machine says is done.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, ArbiterHandle, Context, Handler};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::blocking::LifeSign;
use super::thread_queue::Start;
use super::threads::{Threads, WorkerThreads};
use super::{GetServed, Halt, Running, sleep_until, yield_once};
use crate::clock::Clock;
use crate::contain::{contained, shielded};
use crate::engine::Timestamp;
use crate::engine::node::{Gone, Machines, NodeAction, NodeEvent, NodeNote, NodeSpec, Serves};
use crate::handlers::{Handlers, Hold, NodeEnv};
use crate::inbox::Inbox;
use crate::links::{Connector, Incoming, Links};
use crate::repeats::Repeats;
use crate::say::say;

/// What a node is made of.
pub struct NodeParts {
    /// What it is; its `kinds` are set from `handlers`.
    pub spec: NodeSpec,
    /// Whom it serves.
    pub serves: Serves,
    /// What it runs. They must have been validated.
    pub handlers: Handlers,
    /// Where it runs them.
    pub place: WorkerThreads,
    /// The clock.
    pub clock: Clock,
    /// Where it hears of what happens.
    pub inbox: Inbox<Incoming<NodeEvent>>,
    /// What dials schedulers; `None` if it joins none.
    pub connector: Option<Box<dyn Connector<NodeEvent>>>,
    /// What shows that the process lives.
    pub sign: LifeSign,
    /// What is to stay while a handler of an exclusive task may be running, if anything.
    pub hold: Option<Hold>,
}

impl NodeParts {
    /// Starts the node on the arbiter `control`, where no user code may run; with
    /// [`WorkerThreads::Current`], on the calling thread instead.
    ///
    /// # Errors
    ///
    /// A thread could not be started, or there is no actix System.
    pub async fn start(self, control: Option<&ArbiterHandle>) -> io::Result<RunningNode> {
        let inbox = self.inbox.clone();
        let (gone, watch) = watch::channel(None);
        let (welcome, welcomed) = watch::channel(Welcomed::NotYet(None));
        let (ready, started) = oneshot::channel();
        let current = self.place == WorkerThreads::Current;
        let birth = Startup {
            parts: self,
            gone,
            welcome,
            ready,
        };
        let addr = match control {
            Some(control) if !current => {
                NodeActor::start_in_arbiter(control, |_| NodeActor::new(birth))
            }
            _ => NodeActor::new(birth).start(),
        };
        started.await.unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread of the node ended as it was started; the actix System is stopping",
            ))
        })?;
        Ok(RunningNode {
            addr,
            inbox,
            gone: watch,
            welcomed,
        })
    }
}

/// A node that runs. It ends when all addresses are dropped, or by [`Halt`].
#[derive(Clone, Debug)]
pub struct RunningNode {
    /// The actor.
    pub addr: Addr<NodeActor>,
    /// Where it hears of what happens.
    pub inbox: Inbox<Incoming<NodeEvent>>,
    /// What the machine last said of its end. It closes when the actor ends.
    pub gone: watch::Receiver<Option<Gone>>,
    /// Whether a scheduler has ever welcomed it.
    pub(crate) welcomed: watch::Receiver<Welcomed>,
}

/// Whether any scheduler has ever welcomed a node.
#[derive(Clone, Debug)]
pub(crate) enum Welcomed {
    /// No scheduler has welcomed the node; and what was seen last of one, as text.
    NotYet(Option<String>),
    Once,
}

impl Welcomed {
    /// Takes note of what an operator reads. Returns whether that changes it.
    fn learn(&mut self, note: &NodeNote) -> bool {
        if matches!(self, Self::Once) {
            return false;
        }
        *self = match note {
            NodeNote::Serving { .. } => Self::Once,
            NodeNote::Refused { reason } => Self::NotYet(Some(reason.to_string())),
            NodeNote::DialFailed { address, reason } => {
                Self::NotYet(Some(format!("{address}: {reason}")))
            }
            _ => return false,
        };
        true
    }
}

/// The actor of a node. It lives on a thread where no user code runs, and has one
/// [`WorkerActor`](super::worker::WorkerActor) for each worker that needs one, on other threads.
pub struct NodeActor {
    /// What it is made from, until it has started.
    birth: Option<Startup>,
    core: Option<Rc<RefCell<Core>>>,
}

struct Startup {
    parts: NodeParts,
    gone: watch::Sender<Option<Gone>>,
    welcome: watch::Sender<Welcomed>,
    ready: oneshot::Sender<io::Result<()>>,
}

impl NodeActor {
    fn new(birth: Startup) -> Self {
        Self {
            birth: Some(birth),
            core: None,
        }
    }
}

impl Actor for NodeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(birth) = self.birth.take() else {
            return;
        };
        let ready = birth.ready;
        match Core::new(birth.parts, birth.gone, birth.welcome) {
            Ok(core) => {
                let inbox = core.inbox.clone();
                let core = Rc::new(RefCell::new(core));
                self.core = Some(Rc::clone(&core));
                // On a task of its own, so that a full mailbox delays no deadline.
                actix_rt::spawn(pump(EndGuard(core), inbox));
                // If nobody waits any more, the address is dropped too and the node ends by that.
                let _ = ready.send(Ok(()));
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                ctx.stop();
            }
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(core) = self.core.take() {
            core.borrow_mut().end();
        }
    }
}

impl Handler<Running> for NodeActor {
    type Result = usize;

    fn handle(&mut self, _: Running, _: &mut Self::Context) -> usize {
        self.core
            .as_ref()
            .map_or(0, |core| core.borrow().machine.running())
    }
}

impl Handler<GetServed> for NodeActor {
    type Result = Vec<String>;

    fn handle(&mut self, _: GetServed, _: &mut Self::Context) -> Vec<String> {
        let core = self.core.as_ref().map(|core| core.borrow());
        core.map_or_else(Vec::new, |core| {
            core.machine.served().map(str::to_owned).collect()
        })
    }
}

impl Handler<Halt> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// What the actor and its pump share.
struct Core {
    machine: Machines,
    env: Arc<NodeEnv>,
    /// The changes of who is served that `env` knows of.
    changes: u64,
    clock: Clock,
    inbox: Inbox<Incoming<NodeEvent>>,
    links: Links<NodeEvent>,
    threads: Option<Threads>,
    connector: Option<Box<dyn Connector<NodeEvent>>>,
    gone: Option<watch::Sender<Option<Gone>>>,
    welcome: Option<watch::Sender<Welcomed>>,
    incoming: Vec<Incoming<NodeEvent>>,
    actions: Vec<NodeAction>,
    repeats: Repeats,
}

impl Core {
    fn new(
        parts: NodeParts,
        gone: watch::Sender<Option<Gone>>,
        welcome: watch::Sender<Welcomed>,
    ) -> io::Result<Self> {
        let mut spec = parts.spec;
        spec.kinds = parts.handlers.offers();
        let env = Arc::new(NodeEnv {
            node: Arc::clone(&spec.name),
            handlers: parts.handlers,
            inbox: parts.inbox.clone(),
            schedulers: Default::default(),
            hold: parts.hold,
        });
        let threads = Threads::start(parts.place, &env, &spec.config, &parts.sign)?;
        Ok(Self {
            machine: Machines::new(spec, parts.serves),
            env,
            changes: 0,
            clock: parts.clock,
            inbox: parts.inbox,
            links: Links::new(),
            threads: Some(threads),
            connector: parts.connector,
            gone: Some(gone),
            welcome: Some(welcome),
            incoming: Vec::new(),
            actions: Vec::new(),
            repeats: Repeats::default(),
        })
    }

    /// Hears all that has happened, does all that follows, and says when it is due again.
    fn turn(&mut self) -> Option<Instant> {
        let threads = self.threads.as_mut()?;
        // The clock is not read while nothing runs.
        let round = threads.next_round().map(|due| (due, Instant::now()));
        let told = match round {
            Some((due, now)) if due <= now => threads.round(now, self.machine.occupied()),
            _ => Vec::new(),
        };
        self.inbox.take(&mut self.incoming);
        let now = self.clock.now();
        for incoming in self.incoming.drain(..) {
            let event = self.links.hear(incoming);
            self.machine.handle(now, event);
        }
        for event in told {
            self.machine.handle(now, event);
        }
        self.machine.take_effects(now, &mut self.actions);
        // Before anything starts for somebody new.
        if self.machine.changes() != self.changes {
            self.changes = self.machine.changes();
            self.env.name_schedulers(self.machine.names());
        }
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
        self.actions = actions;
        self.links.flush(false);
        let threads = self.threads.as_mut()?;
        let unstarted = threads.flush();
        let round = threads.next_round();
        if !unstarted.is_empty() {
            for event in unstarted {
                self.machine.handle(now, event);
            }
            // What follows is for the next turn, which is due at once.
            return Some(Instant::now());
        }
        let wakeup = self.machine.next_wakeup().map(|due| sleep_until(due, now));
        wakeup.into_iter().chain(round).min()
    }

    fn perform(&mut self, action: NodeAction) {
        let Some(threads) = &mut self.threads else {
            return;
        };
        match action {
            NodeAction::Send { link, message } => self.links.send(link, message),
            NodeAction::Close { link, reason } => self.links.close(link, reason),
            NodeAction::Dial { address, within } => {
                if let Some(connector) = &self.connector {
                    connector.dial(address.clone(), address, None, within);
                }
            }
            NodeAction::Start {
                worker,
                assignment,
                retry,
            } => threads.order_start(Start {
                worker,
                assignment,
                retry,
            }),
            NodeAction::TakeBack { worker, dispatch } => threads.order_back(worker, dispatch),
            NodeAction::Stop { worker, dispatch } => threads.order_stop(worker, dispatch),
            NodeAction::Gone(reason) => {
                if let Some(gone) = &self.gone {
                    shielded(|| {
                        gone.send_replace(Some(reason));
                    });
                }
                // Nothing can come that would matter: the actor ends with this turn.
                self.inbox.close();
            }
            NodeAction::Note(note) => {
                if let Some(welcome) = &self.welcome {
                    shielded(|| {
                        welcome.send_if_modified(|welcomed| welcomed.learn(&note));
                    });
                }
                log(&mut self.repeats, self.clock.now(), &note);
            }
        }
    }

    /// Ends the threads and closes the links. Doing so again changes nothing.
    fn end(&mut self) {
        self.threads = None;
        self.connector = None;
        self.gone = None;
        self.welcome = None;
        self.links.end(&self.inbox, "the node has ended");
    }
}

/// Ends the node with its pump, even if that ends by a panic: then its scheduler must see the links
/// close.
struct EndGuard(Rc<RefCell<Core>>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Ok(mut core) = self.0.try_borrow_mut() {
            core.end();
        }
    }
}

/// Takes one turn of the machine after another, until the inbox is closed.
async fn pump(core: EndGuard, inbox: Inbox<Incoming<NodeEvent>>) {
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    while !inbox.is_closed() {
        let turned = contained(|| core.0.borrow_mut().turn());
        let due = match turned {
            Ok(due) => due,
            Err(message) => {
                say!(error: reason = message, "the node ends by a panic on its thread");
                return;
            }
        };
        // Others on this thread have their turn, whatever is in the inbox; meanwhile more comes in.
        yield_once().await;
        if let Some(due) = due {
            sleep.as_mut().reset(due);
        }
        tokio::select! {
            biased;
            () = inbox.ready() => {}
            () = &mut sleep, if due.is_some() => {}
        }
    }
}

/// Tells an operator; what happens again and again, ever more rarely.
fn log(repeats: &mut Repeats, now: Timestamp, note: &NodeNote) {
    match note {
        NodeNote::Serving { scheduler } => {
            if let Some(times) = repeats.over(LINK) {
                say!(info: scheduler, times, "warnings about links to schedulers are over");
            }
            say!(info: scheduler, "serving");
        }
        NodeNote::LinkLost { scheduler, reason } => {
            say!(warn: scheduler, reason, "the link to the scheduler is lost");
        }
        NodeNote::SchedulerEnded { scheduler, waits } => match waits {
            true => {
                say!(info: scheduler, "the scheduler was shut down; what ran for it is stopped, and the node waits for its next start");
            }
            false => {
                say!(info: scheduler, "the scheduler was shut down, and the node ends with it");
            }
        },
        NodeNote::LetGo { scheduler } => {
            say!(info: scheduler, "the scheduler has let the node go; what ran for it is stopped");
        }
        NodeNote::Dropped { scheduler, runs } => {
            say!(warn: scheduler, runs, "runs were dropped at the end of the lease");
        }
        NodeNote::Refused { reason } => {
            if let Some(untold) = repeats.tell(LINK, &reason.to_string(), now) {
                say!(warn: %reason, repeated = untold, "a link was refused");
            }
        }
        NodeNote::DialFailed { address, reason } => {
            let words = format!("{address}: {reason}");
            if let Some(untold) = repeats.tell(LINK, &words, now) {
                say!(warn: address, reason, repeated = untold, "no link to a scheduler has come about");
            }
        }
        NodeNote::Stalled { task } => match task {
            Some((task, kind)) => {
                say!(warn: %task, kind, "a handler blocks its thread; use on_blocking");
            }
            None => say!(warn: "something blocks a thread of workers"),
        },
    }
}

/// What the warnings of links are about.
const LINK: &str = "link";

impl fmt::Debug for NodeActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeActor").finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeParts")
            .field("spec", &self.spec)
            .field("handlers", &self.handlers)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
