//! The actor of one scheduler: drives a [`SchedulerMachine`].
//!
//! Owns: the machine, its inbox, its timer, the way out of each link, and whoever waits for an answer. Does
//! not know: the rules; what the machine says is done.
//!
//! Work is paid per batch. A message or an event is only noted; a *turn* then takes all effects at
//! once. A turn comes when the mailbox has been drained, or after `EVENTS_PER_TURN` messages, since a
//! flood of `do_send` keeps a mailbox from being drained. What nodes report does not pass through the
//! mailbox but through an [`Inbox`], which every turn reads first: so no flood delays a proof of life.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::dev::OneshotSender;
use actix::{Actor, Addr, ArbiterHandle, Context};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Shutdown;
use crate::clock::Clock;
use crate::config::SchedulerConfig;
use crate::engine::message::{ToNode, ToScheduler};
use crate::engine::scheduler::SchedulerMachine;
use crate::engine::{
    Accepted, Action, Audience, ClientId, Epoch, Event, Life, LinkId, NodeId, Refused, Submission,
    Timestamp,
};
use crate::error::{ExecuteError, Stopped};
use crate::execute::{Execute, Parts};
use crate::inbox::Inbox;
use crate::status::TaskStatus;
use crate::task::TaskId;

mod callers;
mod clients;
mod ending;
mod log;
mod messages;
mod nodes;

use callers::Callers;
use clients::Clients;
use ending::Ending;
use nodes::Nodes;

pub use clients::ClientGone;

/// Messages that are noted before a turn is taken though the mailbox is not drained. Low values pay the
/// costs of a turn, and of a write to each node, more often; high ones delay heartbeats and deadlines in a flood: by
/// these about a millisecond.
const EVENTS_PER_TURN: usize = 1024;

/// How much may be heard in a turn that sends what it has to say at once, in place of the network's thread. Waking
/// that thread costs one task at a time a good part of its way; with more to do, in this turn or already for the next,
/// it had better write while this one works on.
const SMALL_TURN: usize = 4;

/// Statuses that gather for a client while more is to be heard. A client on another thread handles a
/// status faster than the next one is sent, and so goes to sleep and is woken for nearly each of a small
/// group; a wake-up costs as much as ten statuses.
const MAX_DELIVERY: usize = 1024;

/// How often it is looked whether the clients are still there: an actor's end is not announced.
const CLIENT_ROUND: Duration = Duration::from_millis(500);

/// The way out of one link, on the scheduler's side. Must not block.
pub trait NodeOutlet: Send {
    /// Sends a message, at the latest by [`NodeOutlet::flush`]. If the link is closed, it is dropped.
    fn send(&self, message: ToNode);
    /// The turn is over in which messages were sent. `at_once` says that it was a small one and that there is nothing
    /// else to do: they may go out before this returns, if that spares another thread's wake-up.
    fn flush(&self, at_once: bool) {
        let _ = at_once;
    }
    /// Closes the link after what was sent before.
    fn close(&self, reason: String);
}

/// What dials and probes nodes. Must not block. Everything is answered through the actor's inbox.
pub trait Roads: Send {
    /// Dials a node; answered once, by [`Incoming::Attach`] or [`Event::DialFailed`].
    fn dial(&self, node: NodeId, address: String);
    /// Looks whether anybody listens; answered once, by [`Event::Probed`].
    fn probe(&self, node: NodeId, epoch: Epoch, address: String);
}

/// What comes to the actor beside its mailbox, in order.
pub enum Incoming {
    /// A fact for the machine.
    Event(Event),
    /// A proved connection is open.
    Attach {
        /// The connection.
        link: LinkId,
        /// Who was dialled.
        dialled: Option<NodeId>,
        /// The way out.
        outlet: Box<dyn NodeOutlet>,
    },
}

impl Incoming {
    /// A message that has arrived.
    pub fn message(link: LinkId, message: ToScheduler) -> Self {
        Self::Event(Event::Message { link, message })
    }
}

/// What a scheduler is made of.
pub struct SchedulerParts {
    /// Its name.
    pub name: Arc<str>,
    /// This start of it.
    pub life: Life,
    /// Its settings, which must have been validated.
    pub config: SchedulerConfig,
    /// Its clock.
    pub clock: Clock,
    /// What it does when its client is gone.
    pub on_client_gone: ClientGone,
    /// Where it hears of what happens.
    pub inbox: Inbox<Incoming>,
    /// What dials and probes its nodes.
    pub roads: Box<dyn Roads>,
    /// Dropped when the actor has ended.
    pub guard: Box<dyn Send>,
}

impl SchedulerParts {
    /// Starts the actor on the arbiter `control`, where no user code may run; on the calling thread
    /// without one.
    pub fn start(self, control: Option<&ArbiterHandle>) -> Addr<SchedulerActor> {
        match control {
            Some(control) => {
                SchedulerActor::start_in_arbiter(control, |_| SchedulerActor::new(self))
            }
            None => SchedulerActor::new(self).start(),
        }
    }
}

/// The actor of a scheduler. Messages to it and methods of its handle do the same.
pub struct SchedulerActor {
    parts: Option<SchedulerParts>,
    core: Option<Rc<RefCell<Core>>>,
    guard: Option<Box<dyn Send>>,
}

impl SchedulerActor {
    fn new(parts: SchedulerParts) -> Self {
        Self {
            parts: Some(parts),
            core: None,
            guard: None,
        }
    }

    /// Does something with the core, if it has not ended, and sees to it that a turn follows.
    fn with<R>(&self, act: impl FnOnce(&mut Core, Timestamp) -> R) -> Result<R, Stopped> {
        let core = self.core.as_ref().ok_or(Stopped)?;
        let mut core = core.borrow_mut();
        if core.ended {
            return Err(Stopped);
        }
        if core.noted == 0 {
            core.moment = core.clock.now();
        }
        // What comes in one batch comes at one moment.
        let now = core.moment;
        let result = act(&mut core, now);
        core.noted();
        Ok(result)
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        self.guard = Some(parts.guard);
        let machine =
            SchedulerMachine::new(parts.name, parts.life, parts.config, parts.clock.now());
        let clients = Clients::new(parts.on_client_gone, parts.inbox.clone());
        let core = Core {
            machine,
            clock: parts.clock,
            inbox: parts.inbox,
            roads: parts.roads,
            outlets: Default::default(),
            clients,
            callers: Callers::default(),
            nodes: Nodes::default(),
            ending: None,
            replies: Vec::new(),
            deliveries: Vec::new(),
            dirty: Rc::new(Notify::new()),
            busy: false,
            noted: 0,
            moment: Timestamp::default(),
            client_round: Instant::now(),
            ended: false,
            incoming: Vec::new(),
            actions: Vec::new(),
            sent: Vec::new(),
        };
        let core = Rc::new(RefCell::new(core));
        self.core = Some(Rc::clone(&core));
        let own = actix::AsyncContext::address(ctx).downgrade();
        // On a task of its own, so that a full mailbox delays no deadline.
        actix_rt::spawn(async move {
            pump(core).await;
            if let Some(own) = own.upgrade() {
                own.do_send(super::Halt);
            }
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(core) = self.core.take() {
            core.borrow_mut().end();
        }
        self.guard = None;
    }
}

/// What the actor and its pump share.
pub(super) struct Core {
    machine: SchedulerMachine,
    clock: Clock,
    inbox: Inbox<Incoming>,
    roads: Box<dyn Roads>,
    outlets: std::collections::HashMap<LinkId, Box<dyn NodeOutlet>>,
    clients: Clients,
    callers: Callers,
    nodes: Nodes,
    ending: Option<Ending>,
    /// Answers to `Execute`, to be given when the effects of this turn have been taken.
    replies: Vec<Reply>,
    /// Statuses for clients, to be sent when there is nothing more to hear.
    deliveries: Vec<(ClientId, Vec<TaskStatus>)>,
    dirty: Rc<Notify>,
    /// Whether there was more to hear already when the last turn had ended.
    busy: bool,
    /// Messages since the last turn, and when the first of them came.
    noted: usize,
    moment: Timestamp,
    client_round: Instant,
    ended: bool,
    incoming: Vec<Incoming>,
    actions: Vec<Action>,
    /// Links on which this turn has sent something.
    sent: Vec<LinkId>,
}

enum Reply {
    One(OneshotSender<Answer>, Answer),
    Many(OneshotSender<Vec<Answer>>, Vec<Answer>),
}

type Answer = Result<TaskId, ExecuteError>;

impl Core {
    /// Something has happened that the next turn is to take the effects of.
    fn noted(&mut self) {
        self.noted += 1;
        if self.noted == 1 {
            self.dirty.notify_one();
        } else if self.noted >= EVENTS_PER_TURN {
            self.turn();
        }
    }

    /// Hears all that has happened, does all that follows, and says when it is due again.
    fn turn(&mut self) -> Option<Instant> {
        let noted = std::mem::take(&mut self.noted);
        self.inbox.take(&mut self.incoming);
        let small = !self.busy && noted + self.incoming.len() <= SMALL_TURN;
        let now = self.clock.now();
        let mut incoming = std::mem::take(&mut self.incoming);
        for incoming in incoming.drain(..) {
            match incoming {
                Incoming::Event(event) => self.hear(now, event),
                Incoming::Attach {
                    link,
                    dialled,
                    outlet,
                } => {
                    self.outlets.insert(link, outlet);
                    self.machine
                        .handle(now, Event::LinkOpened { link, dialled });
                }
            }
        }
        self.incoming = incoming;
        self.look_after_clients(now);
        // What is done may lead to more to be heard at once, such as a caller that is gone.
        let mut actions = std::mem::take(&mut self.actions);
        self.machine.take_effects(now, &mut actions);
        for action in actions.drain(..) {
            self.perform(now, action);
        }
        self.actions = actions;
        self.flush(small && self.inbox.is_empty());
        self.deliver(now);
        for reply in self.replies.drain(..) {
            // Whoever has dropped the request does not want to know.
            match reply {
                Reply::One(tx, answer) => drop(tx.send(answer)),
                Reply::Many(tx, answers) => drop(tx.send(answers)),
            }
        }
        self.go_on_ending(now);
        self.next_turn(now)
    }

    fn next_turn(&self, now: Timestamp) -> Option<Instant> {
        let due = self.machine.next_wakeup();
        let due = due.map(|due| super::sleep_until(due, now));
        let clients = (!self.clients.is_empty()).then_some(self.client_round);
        let ending = self
            .ending
            .as_ref()
            .and_then(Ending::until)
            .map(|until| Instant::now() + until.since(now));
        [due, clients, ending].into_iter().flatten().min()
    }

    fn hear(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::ClientGone { client } => self.client_gone(now, client),
            Event::LinkClosed { link, reason } => {
                self.outlets.remove(&link);
                self.machine.handle(now, Event::LinkClosed { link, reason });
            }
            event => self.machine.handle(now, event),
        }
    }

    fn look_after_clients(&mut self, now: Timestamp) {
        for event in self.clients.answers() {
            self.hear(now, event);
        }
        let moment = Instant::now();
        if self.clients.is_empty() || moment < self.client_round {
            return;
        }
        self.client_round = moment + CLIENT_ROUND;
        for client in self.clients.gone() {
            self.client_gone(now, client);
        }
    }

    fn client_gone(&mut self, now: Timestamp, client: ClientId) {
        let current = self.machine.client() == Some(client);
        self.clients.forget(client);
        self.machine.handle(now, Event::ClientGone { client });
        if current {
            let stats = self.machine.stats(now);
            tracing::warn!(
                scheduler = %stats.scheduler,
                pending = stats.pending,
                running = stats.running,
                waiting_retries = stats.waiting_retries,
                unconfirmed = stats.unconfirmed_statuses,
                "the client is gone"
            );
            if self.clients.on_gone() == ClientGone::Stop && self.ending.is_none() {
                self.begin_ending(now, Shutdown::Now, None);
            }
        }
    }

    fn perform(&mut self, now: Timestamp, action: Action) {
        match action {
            Action::Send { link, message } => {
                if let Some(outlet) = self.outlets.get(&link) {
                    outlet.send(message);
                    if self.sent.last() != Some(&link) {
                        self.sent.push(link);
                    }
                }
            }
            Action::Close { link, reason } => {
                if let Some(outlet) = self.outlets.remove(&link) {
                    outlet.close(reason);
                }
            }
            Action::Dial { node, address } => self.roads.dial(node, address),
            Action::Probe {
                node,
                epoch,
                address,
            } => self.roads.probe(node, epoch, address),
            Action::Deliver { client, statuses } => {
                match self
                    .deliveries
                    .iter_mut()
                    .find(|(other, _)| *other == client)
                {
                    Some((_, gathered)) => gathered.extend(statuses),
                    None => self.deliveries.push((client, statuses)),
                }
            }
            Action::Answer { status, alone } => {
                if !self.callers.answer(&status) && alone {
                    self.machine.handle(now, Event::Unclaimed(status));
                    self.dirty.notify_one();
                }
            }
            Action::CancelAnswer { ticket, answer } => self.callers.cancelled(ticket, answer),
            Action::Notify { watcher, event } => self.clients.notify(watcher, event),
            Action::Note(note) => {
                log::note(self.machine.name(), &note);
                self.nodes.note(&note);
            }
        }
    }

    /// Sends what this turn had to say to nodes.
    fn flush(&mut self, at_once: bool) {
        let at_once = at_once && self.sent.len() <= 1;
        for link in self.sent.drain(..) {
            if let Some(outlet) = self.outlets.get(&link) {
                outlet.flush(at_once);
            }
        }
    }

    /// Sends what has gathered for clients, if there is nothing more to hear or it is much.
    fn deliver(&mut self, now: Timestamp) {
        let gathered: usize = self
            .deliveries
            .iter()
            .map(|(_, statuses)| statuses.len())
            .sum();
        if gathered == 0 || (gathered < MAX_DELIVERY && !self.inbox.is_empty()) {
            return;
        }
        for (client, statuses) in std::mem::take(&mut self.deliveries) {
            if !self.clients.deliver(client, statuses) {
                self.client_gone(now, client);
                self.dirty.notify_one();
            }
        }
        // An answer is waited for from its first look on.
        for event in self.clients.answers() {
            self.inbox.push(Incoming::Event(event));
        }
    }

    /// Takes a task in; `caller` waits for its status alone.
    fn submit(
        &mut self,
        now: Timestamp,
        execute: Execute,
        caller: Option<oneshot::Sender<TaskStatus>>,
    ) -> Result<TaskId, Refused> {
        let parts = execute.into_parts();
        let audience = match (&caller, parts.client) {
            (Some(_), _) => Audience::Caller,
            (None, Some(client)) => Audience::Client(self.clients.enter(client)),
            (None, None) => Audience::Current,
        };
        let submission = Submission {
            kind: parts.kind,
            args: parts.args,
            options: parts.options,
            audience,
            watcher: parts
                .watcher
                .map(|watcher| self.clients.enter_watcher(watcher)),
        };
        let accepted = self.machine.submit(now, submission)?;
        if let Some(caller) = caller {
            self.callers.wait(accepted.id(), caller);
        }
        Ok(match accepted {
            Accepted::New(id) | Accepted::Joined(id) => id,
        })
    }

    /// The refused task as the caller had it.
    fn hand_back(&self, refused: Refused) -> ExecuteError {
        let submission = *refused.submission;
        let parts = Parts {
            kind: submission.kind,
            args: submission.args,
            options: submission.options,
            client: match submission.audience {
                Audience::Client(client) => self.clients.client(client),
                Audience::Current | Audience::Caller => None,
            },
            watcher: submission
                .watcher
                .and_then(|watcher| self.clients.watcher(watcher)),
        };
        ExecuteError {
            refusal: refused.refusal,
            execute: Box::new(parts.into()),
        }
    }

    /// Ends it. Doing so again changes nothing.
    fn end(&mut self) {
        self.ended = true;
        self.inbox.close();
        for (_, outlet) in self.outlets.drain() {
            outlet.close("the scheduler has ended".to_owned());
        }
        self.replies.clear();
        self.callers = Callers::default();
        self.nodes = Nodes::default();
        self.dirty.notify_one();
    }
}

/// Gives the machine its turns, until it has ended.
async fn pump(core: Rc<RefCell<Core>>) {
    let (inbox, dirty) = {
        let core = core.borrow();
        (core.inbox.clone(), Rc::clone(&core.dirty))
    };
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    loop {
        let due = core.borrow_mut().turn();
        if core.borrow().ended {
            return;
        }
        // Others on this thread have their turn, whatever is in the inbox; meanwhile more comes in.
        super::yield_once().await;
        {
            let mut core = core.borrow_mut();
            core.busy = core.noted > 0 || !inbox.is_empty();
        }
        if let Some(due) = due {
            sleep.as_mut().reset(due);
        }
        tokio::select! {
            biased;
            () = inbox.ready() => {}
            () = dirty.notified() => {}
            () = &mut sleep, if due.is_some() => {}
        }
    }
}

impl fmt::Debug for SchedulerActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerActor").finish_non_exhaustive()
    }
}

impl fmt::Debug for SchedulerParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerParts")
            .field("name", &self.name)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
