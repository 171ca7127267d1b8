//! What a scheduler writes down so that it outlasts its process: one record a fact.
//!
//! Owns: the facts as values. Does not know: when one is written ([`ledger`](super::ledger) says
//! which may follow which), how it is encoded, or where it is kept.
//!
//! All times are of the wall clock. What a record leaves out begins anew with the next term:
//! clients, watchers, leases, sessions, totals, and what nodes tell by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Incarnation, Memory, Reach, SchedulerId, Timestamp};
use crate::limit::Limit;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::status::{Ending, Failure, Outcome};
use crate::task::{Dispatch, Options, TaskId, TaskKind};

/// A start on a store, counted from 1: of two schedulers with one id, the one with the higher term
/// goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {}", self.0)
    }
}

/// A start on a store: whose state it has, and what it may write as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The scheduler whose state the log has.
    pub scheduler_id: SchedulerId,
    /// The term of this start, greater than all before.
    pub term: Term,
    /// The scheduler whose state the log had before, if it was a copy.
    pub copied_from: Option<SchedulerId>,
    /// The last batch that is there; 0 if none is.
    pub last: u64,
}

/// A durable fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Begins a log, a term, or a checkpoint. It says anew all that is not said task by task.
    Head(Box<Head>),
    /// Ids and dispatches below these may be given out.
    Reserved(Reserved),
    /// The term has ended, and no run of its own process goes on.
    Closed,
    /// A task was accepted. A task that goes on is written again when the batch that has it is to
    /// be dropped; what has happened to it since is then written again too.
    Accepted(Box<AcceptedTask>),
    /// All that may change of a task before it settles. The last one counts.
    Changed(Box<Changed>),
    /// Tasks were placed on a process.
    Placed {
        /// Where.
        at: ProcessRef,
        /// The runs.
        runs: Vec<PlacedRun>,
    },
    /// A task has its one ending.
    Settled(Box<SettledTask>),
    /// The audiences of these have been told of the endings.
    Confirmed(Vec<TaskId>),
    /// No run of this settled task can be going on any more: its key is free.
    Freed(TaskId),
    /// What is believed of a node.
    Node(Box<NodeFact>),
    /// An operator's setting that holds for the scheduler.
    Setting(Setting),
    /// A task has settled and is kept to be looked at. It is stored with the batch, beside the log,
    /// and nothing follows from it.
    Retained(Box<RetainedTask>),
}

/// What holds for the whole scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The name.
    pub scheduler: Arc<str>,
    /// The scheduler whose state this is. It stays the same over all terms.
    pub scheduler_id: SchedulerId,
    /// The scheduler whose state it was before, if this is the first of the first term on a copy:
    /// what nodes have of all that was written before is not followed.
    pub copied_from: Option<SchedulerId>,
    /// The term that writes this.
    pub term: Term,
    /// When it was written.
    pub at: Timestamp,
    /// How far the clock has been set back since the term before: so much was added to all times
    /// that a task waits for, and to those it was accepted at.
    pub set_back: Duration,
    /// The timing in force.
    pub timing: Timing,
    /// What may be given out.
    pub reserved: Reserved,
    /// All nodes.
    pub nodes: Vec<NodeFact>,
    /// All settings that were set.
    pub settings: Vec<Setting>,
}

/// What nodes were told of how long they may go on unheard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often they prove that they live.
    pub heartbeat: Duration,
    /// How long a proof of life holds.
    pub lease: Duration,
    /// How long they go on after it with what is not exclusive.
    pub outlive: Duration,
}

/// The first id and the first dispatch that must not be given out yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Reserved {
    /// The first such id.
    pub tasks: u64,
    /// The first such dispatch.
    pub dispatches: u64,
}

/// A task as it was handed in.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedTask {
    /// The id.
    pub id: TaskId,
    /// When it was accepted.
    pub at: Timestamp,
    /// The kind.
    pub kind: TaskKind,
    /// The args.
    pub args: Payload,
    /// The options; `None` if there are none.
    pub options: Option<Box<Options>>,
}

/// See [`Record::Changed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The task.
    pub id: TaskId,
    /// Attempts that have failed.
    pub failed_attempts: u32,
    /// When its next attempt is due, if it waits for that.
    pub due: Option<Timestamp>,
    /// The highest dispatch whose end is known; 0 before there is one.
    pub over: Dispatch,
    /// Processes that were lost under a started run of it.
    pub lost: Vec<ProcessRef>,
    /// The process that was lost when the task had been prefetched to it.
    pub lost_prefetched: Option<ProcessRef>,
    /// Why its last attempt failed.
    pub last_failure: Option<Failure>,
    /// Whether a cancel was asked for.
    pub cancelling: bool,
    /// Runs of it that were given up, or whose attempt is over, and that may be going on.
    pub orphans: Vec<RunRef>,
    /// The one of these runs that an exclusive task waits for.
    pub held: Option<Dispatch>,
}

impl Changed {
    /// Returns the orphaned run that an exclusive task waits for.
    pub fn held_by(&self) -> Option<&RunRef> {
        let held = self.held?;
        self.orphans.iter().find(|run| run.dispatch == held)
    }
}

/// How a task ended. Its kind, args and options are those that were accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct SettledTask {
    /// The task.
    pub id: TaskId,
    /// How it ended.
    pub outcome: FinalOutcome,
    /// The node of its last run that started.
    pub node: Option<Arc<str>>,
    /// Attempts that were made.
    pub attempts: u32,
    /// Nodes that were lost under it.
    pub reroutes: u32,
    /// When its last run that started was started.
    pub started_at: Option<Timestamp>,
    /// When this was decided.
    pub at: Timestamp,
    /// Runs of it that may be going on, if it has a key: that is busy until they have ended.
    pub busy: Vec<RunRef>,
}

/// A task that has settled.
#[derive(Clone, Debug, PartialEq)]
pub struct RetainedTask {
    /// As it was accepted.
    pub accepted: AcceptedTask,
    /// How it ended.
    pub ending: SettledTask,
}

impl Changed {
    /// Returns what is true of a task of which nothing has changed.
    pub fn nothing(id: TaskId) -> Self {
        Self {
            id,
            failed_attempts: 0,
            due: None,
            over: Dispatch::new(0),
            lost: Vec::new(),
            lost_prefetched: None,
            last_failure: None,
            cancelling: false,
            orphans: Vec::new(),
            held: None,
        }
    }
}

impl AcceptedTask {
    /// Returns a task as it was handed in, from its ending.
    pub fn of_ending(ending: &Ending) -> Self {
        Self {
            id: ending.id,
            at: Timestamp::of_system_time(ending.accepted_at),
            kind: ending.kind.clone(),
            args: ending.args.clone(),
            options: ending.options.clone(),
        }
    }
}

impl SettledTask {
    /// Returns how a task has ended, and the runs for which its key is busy; `None` if it was
    /// refused: then it was never a task.
    pub fn of_ending(ending: &Ending, busy: Vec<RunRef>) -> Option<Self> {
        Some(Self {
            id: ending.id,
            outcome: match &ending.outcome {
                Outcome::Completed(output) => FinalOutcome::Completed(output.clone()),
                Outcome::Failed(failure) => FinalOutcome::Failed(failure.clone()),
                Outcome::Cancelled => FinalOutcome::Cancelled,
                Outcome::Refused(_) => return None,
            },
            node: ending.node.clone(),
            attempts: ending.attempts,
            reroutes: ending.reroutes,
            started_at: ending.started_at.map(Timestamp::of_system_time),
            at: Timestamp::of_system_time(ending.settled_at),
            busy,
        })
    }
}

impl RetainedTask {
    /// Returns the ending as the status has it that is told of the task.
    pub fn into_ending(self, scheduler: Arc<str>) -> Ending {
        let Self { accepted, ending } = self;
        let options = accepted.options;
        Ending {
            scheduler,
            id: accepted.id,
            key: options.as_ref().and_then(|options| options.key.clone()),
            kind: accepted.kind,
            args: accepted.args,
            options,
            outcome: match ending.outcome {
                FinalOutcome::Completed(output) => Outcome::Completed(output),
                FinalOutcome::Failed(failure) => Outcome::Failed(failure),
                FinalOutcome::Cancelled => Outcome::Cancelled,
            },
            node: ending.node,
            attempts: ending.attempts,
            reroutes: ending.reroutes,
            accepted_at: accepted.at.to_system_time(),
            started_at: ending.started_at.map(Timestamp::to_system_time),
            settled_at: ending.at.to_system_time(),
        }
    }
}

/// How a task that was accepted can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalOutcome {
    /// The handler succeeded, with this output.
    Completed(Payload),
    /// The task was given up.
    Failed(Failure),
    /// The task was cancelled before it could complete.
    Cancelled,
}

/// A node's process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessRef {
    /// The node's name.
    pub node: Arc<str>,
    /// The incarnation of the process.
    pub incarnation: Incarnation,
}

/// One placing of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedRun {
    /// The task.
    pub task: TaskId,
    /// The dispatch.
    pub dispatch: Dispatch,
    /// Whether it was sent beyond the free workers.
    pub prefetched: bool,
    /// Whether its handler can only end by itself.
    pub blocking: bool,
}

/// A run that is no longer followed and may be going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// Where.
    pub at: ProcessRef,
    /// The dispatch.
    pub dispatch: Dispatch,
    /// Whether it can only end by itself.
    pub blocking: bool,
    /// When it has ended at the latest, if it can be stopped.
    pub not_before: Timestamp,
}

/// What is believed of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFact {
    /// The name.
    pub name: Arc<str>,
    /// How it is reached.
    pub reach: Reach,
    /// The latest process.
    pub process: ProcessFact,
    /// Processes of its name that others have replaced, oldest first: they are refused if they
    /// return, and runs of theirs may be going on.
    pub replaced: Vec<KnownProcess>,
}

/// What is believed of the latest process of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessFact {
    /// None was ever reached, or the last one is known to be dead.
    None,
    /// The process may be alive.
    Known(KnownProcess),
    /// The node was taken out by hand. The process may be alive until its lease has ended.
    Removed(Option<KnownProcess>),
}

/// A process that may be alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownProcess {
    /// The incarnation of the process.
    pub incarnation: Incarnation,
    /// The memory that the process has of this scheduler: with another it has forgotten what it
    /// had.
    pub memory: Memory,
    /// Where a refusal proves that it is dead: the port at which it would answer a probe, if it had
    /// dialled in, and else the address at which it was found.
    pub probe: Option<String>,
    /// Whether it had dialled in, and was never dialled.
    pub joined: bool,
    /// Whether its lease has ended, or its end is known.
    pub lost: bool,
}

/// An operator's setting. The last one of its kind counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// Workers of all nodes.
    MaxWorkers(u32),
    /// How failed attempts are retried, unless a task says otherwise.
    Retry(RetryPolicy),
    /// Whether no task of a kind is started, or of any kind.
    Paused(Option<TaskKind>, bool),
    /// Whether tasks of a kind are taken in.
    Intake(TaskKind, bool),
    /// What may go on of a kind.
    Limit(TaskKind, Limit),
}

/// The settings that were set.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Settings {
    /// Workers of all nodes.
    pub max_workers: Option<u32>,
    /// How failed attempts are retried.
    pub retry: Option<RetryPolicy>,
    /// Whether no task is started.
    pub all_paused: bool,
    /// Kinds of which no task is started.
    pub paused: BTreeSet<TaskKind>,
    /// Kinds of which no task is taken in.
    pub closed: BTreeSet<TaskKind>,
    /// What may go on of kinds: of those without a limit, too, since the settings at the start may
    /// have one for them.
    pub limits: BTreeMap<TaskKind, Limit>,
}

impl Settings {
    /// Takes a setting over.
    pub fn set(&mut self, setting: Setting) {
        match setting {
            Setting::MaxWorkers(workers) => self.max_workers = Some(workers),
            Setting::Retry(retry) => self.retry = Some(retry),
            Setting::Paused(None, paused) => self.all_paused = paused,
            Setting::Paused(Some(kind), paused) => put(&mut self.paused, kind, paused),
            Setting::Intake(kind, open) => put(&mut self.closed, kind, !open),
            Setting::Limit(kind, limit) => {
                self.limits.insert(kind, limit);
            }
        }
    }

    /// Returns whether a kind was paused by its name, or all were by none.
    pub fn is_paused(&self, kind: Option<&TaskKind>) -> bool {
        kind.map_or(self.all_paused, |kind| self.paused.contains(kind))
    }

    /// Returns them one by one, in a fixed order.
    pub fn list(&self) -> Vec<Setting> {
        let workers = self.max_workers.map(Setting::MaxWorkers);
        let retry = self.retry.map(Setting::Retry);
        let all = self.all_paused.then_some(Setting::Paused(None, true));
        let paused = self.paused.iter().cloned();
        let paused = paused.map(|kind| Setting::Paused(Some(kind), true));
        let closed = self.closed.iter().cloned();
        let closed = closed.map(|kind| Setting::Intake(kind, false));
        let limits = self.limits.iter();
        let limits = limits.map(|(kind, limit)| Setting::Limit(kind.clone(), *limit));
        let one = workers.into_iter().chain(retry).chain(all);
        one.chain(paused).chain(closed).chain(limits).collect()
    }
}

fn put(kinds: &mut BTreeSet<TaskKind>, kind: TaskKind, there: bool) {
    if there {
        kinds.insert(kind);
    } else {
        kinds.remove(&kind);
    }
}

impl NodeFact {
    /// Returns whether nothing of the node is left but its name.
    pub fn is_vacant(&self) -> bool {
        matches!(self.process, ProcessFact::Removed(None)) && self.replaced.is_empty()
    }
}

/// Nodes by name.
pub type NodeFacts = BTreeMap<Arc<str>, NodeFact>;
