//! The actor of one scheduler: drives a [`SchedulerMachine`].
//!
//! Owns: the machine, its inbox, its timer, its links, and whoever waits for an answer. Does
//! not know: the rules; what the machine says is done.
//!
//! Work is paid per batch. A message or an event is only noted; a *turn* then takes all effects at
//! once. A turn comes when the mailbox has been drained, or after `EVENTS_PER_TURN` messages, since
//! a flood of `do_send` keeps a mailbox from being drained. What nodes report does not pass through
//! the mailbox but through an [`Inbox`], which every turn reads first: so no flood delays a proof
//! of life.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Addr, ArbiterHandle, Context};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::SchedulerConfig;
use crate::contain::contained;
use crate::engine::scheduler::SchedulerMachine;
use crate::engine::{
    Accepted, Action, Audience, ClientId, Event, Refused, SchedulerId, Submission, Timestamp,
    first_number,
};
use crate::error::Stopped;
use crate::execute::{Execute, ExecuteError, Parts};
use crate::inbox::Inbox;
use crate::links::{Connector, Incoming, Links};
use crate::recorder::Recorder;
use crate::status::TaskStatus;
use crate::task::TaskId;

mod callers;
mod clients;
mod deliveries;
mod ending;
mod finding;
mod log;
mod messages;
mod metering;
mod nodes;
mod operating;
mod replies;
mod storing;
mod turn;

use callers::Callers;
use clients::Clients;
use deliveries::Gathered;
use ending::ShutdownStep;
use log::Log;
use metering::TurnMeter;
use nodes::Nodes;
use replies::Replies;
use turn::{Bell, pump};

pub use clients::ClientGone;
pub use ending::Handover;

/// Messages that are noted before a turn is taken though the mailbox is not drained. Low values pay
/// the costs of a turn, and of a write to each node, more often; high ones delay heartbeats and
/// deadlines in a flood: by these about a millisecond.
const EVENTS_PER_TURN: usize = 1024;

/// What a scheduler is made of.
pub struct SchedulerParts {
    /// The name.
    pub name: Arc<str>,
    /// The id of this start of the scheduler.
    pub scheduler_id: SchedulerId,
    /// The settings, which must have been validated.
    pub config: SchedulerConfig,
    /// The clock.
    pub clock: Clock,
    /// What the scheduler does when its client is gone.
    pub on_client_gone: ClientGone,
    /// Where it hears of what happens.
    pub inbox: Inbox<Incoming<Event>>,
    /// Where what was left at its end is to be found.
    pub left: Handover,
    /// What dials and probes its nodes.
    pub connector: Box<dyn Connector<Event>>,
    /// What goes on from a store, if there is one.
    pub kept: Option<Kept>,
    /// Dropped when the actor has ended.
    pub guard: Box<dyn Send>,
}

/// A scheduler that goes on from a store.
#[derive(Debug)]
pub struct Kept {
    /// What it goes on with.
    pub machine: SchedulerMachine,
    /// Where its batches go.
    pub recorder: Box<dyn Recorder>,
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
        core.enter()?;
        // What comes in one batch comes at one moment.
        let now = core.moment;
        let acted = contained(|| {
            let result = act(&mut core, now);
            core.noted();
            result
        });
        acted.map_err(|message| core.broken(&message))
    }
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        self.guard = Some(parts.guard);
        let (machine, recorder) = match parts.kept {
            Some(Kept { machine, recorder }) => (machine, Some(recorder)),
            None => {
                let now = parts.clock.now();
                let machine =
                    SchedulerMachine::new(parts.name, parts.scheduler_id, parts.config, now);
                (
                    machine.numbered_from(first_number(parts.clock.wall())),
                    None,
                )
            }
        };
        let bell = Arc::new(Bell::default());
        let clients = Clients::new(parts.on_client_gone, Arc::clone(&bell).into());
        let core = Core {
            machine,
            recorder,
            clock: parts.clock,
            inbox: parts.inbox,
            connector: parts.connector,
            links: Links::new(),
            clients,
            callers: Callers::default(),
            nodes: Nodes::default(),
            log: Log::default(),
            ending: None,
            left: parts.left,
            replies: Replies::default(),
            deliveries: Vec::new(),
            bell,
            noted: 0,
            moment: Timestamp::default(),
            client_round: Instant::now(),
            turns: TurnMeter::default(),
            ended: false,
            incoming: Vec::new(),
            actions: Vec::new(),
            unclaimed: Vec::new(),
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
            let mut core = core.borrow_mut();
            // An actor is told of its end on its way out of a panic too.
            if std::thread::panicking() {
                core.break_down("a message to its actor led to a panic");
            }
            core.end();
        }
        self.guard = None;
    }
}

/// What the actor and its pump share.
pub(super) struct Core {
    machine: SchedulerMachine,
    /// Where its batches go, if it has a store.
    recorder: Option<Box<dyn Recorder>>,
    clock: Clock,
    inbox: Inbox<Incoming<Event>>,
    connector: Box<dyn Connector<Event>>,
    links: Links<Event>,
    clients: Clients,
    callers: Callers,
    nodes: Nodes,
    log: Log,
    ending: Option<ShutdownStep>,
    left: Handover,
    replies: Replies,
    /// Statuses for clients, to be sent when there is nothing more to hear.
    deliveries: Vec<(ClientId, Gathered)>,
    /// Rung when a turn is due.
    bell: Arc<Bell>,
    /// Messages since the last turn, and when the first of them came.
    noted: usize,
    moment: Timestamp,
    client_round: Instant,
    /// What its work has taken.
    turns: TurnMeter,
    ended: bool,
    incoming: Vec<Incoming<Event>>,
    actions: Vec<Action>,
    /// Statuses for callers that were gone.
    unclaimed: Vec<TaskStatus>,
}

/// An `Execute` that was accepted.
#[derive(Debug)]
struct Taken {
    id: TaskId,
    /// The `Execute`, if it has joined a task that may not be stored.
    joined: Option<Box<Execute>>,
}

type Answer = Result<TaskId, ExecuteError>;

impl Core {
    /// Begins to handle what has come, at the moment of its batch, unless the scheduler has ended.
    fn enter(&mut self) -> Result<(), Stopped> {
        if self.ended {
            return Err(Stopped);
        }
        if self.noted == 0 {
            self.moment = self.look_at_clocks();
        }
        Ok(())
    }

    /// Returns this moment, after the machine was told what the wall clock shows.
    fn look_at_clocks(&mut self) -> Timestamp {
        let now = self.clock.now();
        let shows = self.clock.wall();
        self.machine.handle(now, Event::WallClock { shows });
        now
    }

    /// Counts something that has happened, of which the next turn is to take the effects.
    fn noted(&mut self) {
        self.noted += 1;
        if self.noted == 1 {
            self.bell.ring();
        } else if self.noted >= EVENTS_PER_TURN {
            self.turn(false);
        }
    }

    /// Takes a task in; `caller` waits for its status alone.
    #[inline(always)]
    fn submit(
        &mut self,
        now: Timestamp,
        execute: Execute,
        caller: Option<oneshot::Sender<TaskStatus>>,
    ) -> Result<Taken, Refused> {
        // What joins an earlier task is handed back if that cannot be stored.
        let may_join = self.recorder.is_some() && execute.has_key();
        let own = may_join.then(|| Box::new(execute.clone()));
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
            Accepted::New(id) => Taken { id, joined: None },
            Accepted::Joined(id) => Taken { id, joined: own },
        })
    }

    /// Returns the refused task as the caller had it.
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
        self.links.end(&self.inbox, "the scheduler has ended");
        self.close_store();
        // What was taken in is among the leftovers, or stored.
        self.reply();
        self.replies = Replies::default();
        self.callers = Callers::default();
        self.nodes = Nodes::default();
        self.bell.ring();
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

#[cfg(test)]
mod tests;
