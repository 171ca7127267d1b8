//! What must hold: the promises, judged from outside by what truly happened.
//!
//! Owns: what is known of every accepted task and what was promised about it. Does not know: how
//! the machines keep their promises; it asks them only for what a user can ask.

mod attaching;
mod belief;
mod cancels;
mod copies;
mod dials;
mod fleet;
mod gone;
mod holders;
mod intake;
mod limits;
mod load;
mod pauses;
mod rest;
mod runs;
mod starts;
mod statuses;
mod terms;
mod trails;
mod turns;
mod wakeups;

use std::collections::{BTreeMap, BTreeSet};

use callboard::__internals::engine::worker::Tried;
use callboard::__internals::engine::{Audience, Event, Incarnation, LinkId, NodeId, Submission};
use callboard::status::{Cause, Outcome, TaskStatus};
use callboard::task::{Dispatch, TaskId, TaskKey};

use crate::cluster::Cluster;
use crate::faults::span_of;
use crate::plan::{Fault, SECOND, TaskPlan, Time, nanos};
use crate::scheduler::clock;
use crate::workers::Run;

pub use copies::ToldSoFar;
pub use holders::Holder;

pub struct Broken {
    pub promise: &'static str,
    pub task: Option<String>,
    pub text: String,
}

/// Where the one ending of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Nowhere,
    With(u64),
    Confirmed,
    Answered,
    Unclaimed,
    /// Nobody was to be told.
    Dropped,
    /// In the store: the term before had decided it, and nobody is known to have handled it.
    Stored,
}

pub struct Facts {
    plan: usize,
    /// With which batch it is durable that it was accepted.
    batch: u64,
    /// Terms that have begun since it was accepted, and whether an earlier one has settled it.
    restarts: usize,
    settled_before: bool,
    /// Whether it was said that it is still running, though it is to be cancelled.
    cancel_promised: bool,
    sent: Submission,
    /// Who is told, beside callers that have joined.
    audience: Audience,
    accepted_at: Time,
    starts: Vec<Start>,
    /// Runs whose start was taken back, since their thread had stalled. They may have noted
    /// something: when their thread stalls is drawn later.
    unstarted: BTreeSet<Dispatch>,
    placings: Vec<runs::Placing>,
    /// Whether a watcher was told that it is rerouted, and it was not placed since.
    rerouted: bool,
    failed_by: BTreeSet<Cause>,
    completed: BTreeSet<Dispatch>,
    cancel_asked: bool,
    /// A cancel was asked before it was settled.
    to_be_cancelled: bool,
    must_be_cancelled: bool,
    /// How it ended, as was told first in this term or a later one, and when.
    told: Option<(Time, Outcome)>,
    given: Given,
    /// Who has its status; `None` if it was not noted that it has ended, or its callers alone are
    /// told.
    holder: Option<Holder>,
}

impl Facts {
    pub fn due(&self, task: &TaskPlan) -> Time {
        self.accepted_at + task.delay.map_or(0, nanos)
    }

    pub fn key(&self) -> Option<&TaskKey> {
        self.sent
            .options
            .as_ref()
            .and_then(|options| options.key.as_ref())
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.told.as_ref().map(|(_, outcome)| outcome)
    }

    /// Returns what a status says otherwise than the task was handed in or has ended before.
    pub fn differs_from(&self, status: &TaskStatus) -> Option<&'static str> {
        let same = status.args == self.sent.args
            && status.kind == self.sent.kind
            && status.key.as_ref() == self.key()
            && &*status.scheduler == "sim";
        let before = self.outcome();
        if !same {
            Some("its status does not say what was handed in")
        } else if before.is_some_and(|before| *before != status.outcome) {
            Some("it ends twice, and not alike")
        } else {
            None
        }
    }
}

/// One start of a run.
pub struct Start {
    dispatch: Dispatch,
    attempt: u32,
    proc: usize,
    at: Time,
}

pub struct Ticket {
    term: usize,
    task: TaskId,
    asked: Time,
    settled_before: bool,
    answered: bool,
}

/// Something that must be so by a certain time.
pub enum Expectation {
    Ended,
    Cancelled {
        ticket: u64,
        asked: Time,
    },
    Deadline {
        term: usize,
        task: TaskId,
        since: Time,
    },
    Lost {
        term: usize,
        name: String,
        incarnation: Incarnation,
        since: Time,
    },
}

pub struct Oracle {
    pub step: u64,
    pub broken: Option<Broken>,
    tasks: Vec<BTreeMap<TaskId, Facts>>,
    /// Tasks for which somebody waits who is to be answered.
    waiting: BTreeSet<TaskId>,
    /// Reroutes that were noted in this term.
    rerouted: u64,
    /// The most nodes that were taken out and waited for at once in this term.
    pub most_leaving: usize,
    /// Whether a start has seen a wall clock that was set back: by which clock a status tells its
    /// times is not known then.
    pub clock_was_set: bool,
    /// How often nodes have refused something, and what was rerouted, in all terms.
    pub refusals: u64,
    pub reroutes: u64,
    /// How often no thread could be started for a task. It goes back then, and its worker rests.
    pub threadless: u64,
    serials: u64,
    tickets: Vec<Ticket>,
    /// Spans of faults, and of what they brought about.
    disturbances: Vec<(Time, Time)>,
    /// Tasks that were held by runs that had ended, with their nodes, when that was looked at last.
    held: Vec<(TaskId, usize)>,
    /// When the scheduler woke from a sleep that had followed another too soon.
    pub slept_twice_until: Option<Time>,
    /// The scheduler could not act in time until then.
    scheduler_late_until: Time,
    up: BTreeMap<String, Incarnation>,
    superseded: BTreeSet<Incarnation>,
    /// When the scheduler last gave up what a process had, also of those that came back since.
    given_up: BTreeMap<Incarnation, Time>,
    /// Since when tasks have waited at a busy node beside a free worker, as far as it was looked
    /// at.
    prefetched: BTreeMap<TaskId, Time>,
    /// How many statuses of this term a client had been given before.
    pub given_again: u64,
    /// When a node came up last: what it may run is better placed from then on.
    changed_at: Time,
    /// Since when a client is behind, by all turns since then.
    behind_since: Option<Time>,
    /// What each node has been sent.
    sent: load::Sent,
    shares: fleet::Shares,
    /// Who is told of what has no client of its own.
    current: Holder,
    gone: BTreeSet<u64>,
    gone_nodes: gone::Gone,
    /// Endings of this term that were to be told to nobody.
    dropped: u64,
    /// Whether it was ever said that nobody is to be told.
    says_nobody: bool,
    dials: dials::Dials,
    /// Links that the scheduler has closed.
    pub closed: BTreeSet<LinkId>,
    pub wakeups: wakeups::Wakeups,
    /// Whether a node was told to drain in this term.
    has_drained: bool,
    terms: terms::Terms,
    pauses: pauses::Pauses,
    turns: turns::Turns,
}

impl Oracle {
    pub fn new(_seed: u64) -> Self {
        Self {
            step: 0,
            broken: None,
            tasks: vec![BTreeMap::new()],
            waiting: BTreeSet::new(),
            rerouted: 0,
            most_leaving: 0,
            clock_was_set: false,
            refusals: 0,
            reroutes: 0,
            threadless: 0,
            serials: 0,
            tickets: Vec::new(),
            disturbances: Vec::new(),
            held: Vec::new(),
            slept_twice_until: None,
            scheduler_late_until: 0,
            up: BTreeMap::new(),
            superseded: BTreeSet::new(),
            given_up: BTreeMap::new(),
            prefetched: BTreeMap::new(),
            given_again: 0,
            changed_at: 0,
            behind_since: None,
            sent: load::Sent::default(),
            shares: fleet::Shares::default(),
            current: Holder::Next,
            gone: BTreeSet::new(),
            gone_nodes: gone::Gone::default(),
            dropped: 0,
            says_nobody: false,
            dials: dials::Dials::default(),
            closed: BTreeSet::new(),
            wakeups: wakeups::Wakeups::default(),
            has_drained: false,
            terms: terms::Terms::default(),
            pauses: pauses::Pauses::default(),
            turns: turns::Turns::default(),
        }
    }

    /// Notes the first broken promise.
    pub fn fail(&mut self, promise: &'static str, task: Option<TaskId>, text: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken {
                promise,
                task: task.map(|task| task.to_string()),
                text,
            });
        }
    }

    /// Takes in that the scheduler gives up what a process has.
    fn supersede(&mut self, now: Time, incarnation: Incarnation) {
        self.superseded.insert(incarnation);
        self.given_up.insert(incarnation, now);
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    /// Begins a life: all that was promised in an earlier one is void.
    pub fn new_life(&mut self) {
        self.tasks.push(BTreeMap::new());
        self.superseded.clear();
        self.given_up.clear();
        self.terms = terms::Terms::default();
    }

    /// Begins a term: what concerned only the process of the scheduler is void.
    pub fn new_term(&mut self, now: Time) {
        self.terms.begin(now);
        self.waiting.clear();
        self.rerouted = 0;
        self.most_leaving = 0;
        self.up.clear();
        self.given_again = 0;
        self.behind_since = None;
        self.current = Holder::Next;
        self.dropped = 0;
        self.gone_nodes = gone::Gone::default();
        self.dials = dials::Dials::default();
        self.wakeups.effect();
        self.has_drained = false;
        self.pauses = pauses::Pauses::default();
        self.turns.begin_anew();
    }

    pub fn now_tasks(&mut self) -> &mut BTreeMap<TaskId, Facts> {
        self.tasks.last_mut().unwrap()
    }

    /// Takes in that a submission has joined a task: a caller is answered too, and another audience
    /// is told where only callers were to be.
    pub fn joined(&mut self, id: TaskId, audience: Audience) {
        let Some(facts) = self.tasks.last_mut().and_then(|tasks| tasks.get_mut(&id)) else {
            return;
        };
        if audience == Audience::Caller {
            self.waiting.insert(id);
        } else if facts.audience == Audience::Caller {
            facts.audience = audience;
        }
    }

    pub fn disturbed(&mut self, until: Time) {
        self.scheduler_late_until = self.scheduler_late_until.max(until);
    }

    pub fn on_fault(&mut self, now: Time, fault: &Fault) {
        self.disturbances
            .push((now, now.saturating_add(span_of(fault))));
    }

    /// Returns whether a fault but the one that began at `since` was at work since shortly before.
    pub fn is_disturbed(&self, since: Time, until: Time) -> bool {
        self.disturbances
            .iter()
            .any(|&(from, to)| from != since && from <= until && to + 3 * SECOND >= since)
            || self
                .disturbances
                .iter()
                .filter(|(from, _)| *from == since)
                .count()
                > 1
    }

    pub fn added(&mut self, node: NodeId) {
        self.dials.added(node);
    }

    pub fn drained(&mut self) {
        self.has_drained = true;
    }

    /// Takes in an event of the scheduler; `behind` says that as much waits for clients as may.
    pub fn on_scheduler_event(&mut self, now: Time, event: &Event, behind: bool) {
        self.dials.heard(now, event);
        self.hear_of_runs(now, event);
        match event {
            Event::ClientGone { client } => self.on_client_gone(*client),
            Event::Unclaimed(status) => self.on_hears_unclaimed(status.id, behind),
            _ => {}
        }
    }

    pub fn on_unstarted(&mut self, run: &Run) {
        let tasks = self.tasks.get_mut(run.life);
        if let Some(facts) = tasks.and_then(|tasks| tasks.get_mut(&run.task)) {
            facts.starts.retain(|start| start.dispatch != run.dispatch);
            facts.unstarted.insert(run.dispatch);
        }
    }

    pub fn on_tried(&mut self, run: &Run, tried: &Tried) {
        let tasks = self.tasks.get_mut(run.life);
        let Some(facts) = tasks.and_then(|tasks| tasks.get_mut(&run.task)) else {
            return;
        };
        let cause = match tried {
            Tried::Output(_) => {
                facts.completed.insert(run.dispatch);
                return;
            }
            Tried::Error { .. } => Cause::Error,
            Tried::Permanent { .. } => Cause::Permanent,
            Tried::Panicked { .. } => Cause::Panic,
            Tried::TimedOut { .. } => Cause::Timeout,
            Tried::Codec { .. } => Cause::Codec,
        };
        facts.failed_by.insert(cause);
    }

    pub fn on_confirmed(&mut self, task: TaskId) {
        if let Some(facts) = self.now_tasks().get_mut(&task) {
            facts.given = Given::Confirmed;
        }
    }

    pub fn on_unclaimed(&mut self, task: TaskId) {
        if let Some(facts) = self.now_tasks().get_mut(&task) {
            facts.given = Given::Unclaimed;
        }
    }
}

impl Cluster {
    pub fn fail(&mut self, promise: &'static str, task: TaskId, text: String) {
        self.oracle.fail(promise, Some(task), text);
    }

    pub fn is_accepted(&mut self, task: TaskId) -> bool {
        self.oracle.now_tasks().contains_key(&task)
    }

    pub fn is_settled(&self, task: TaskId) -> bool {
        self.scheduler
            .machine
            .explain(clock(self.now), task)
            .is_none()
    }
}
