//! What a scheduler's machine has yet to write down, and what waits until that is stored.
//!
//! Owns: in which batch each fact goes, when a batch is due, the promises that wait for one, and
//! whether the store takes any. Does not know: tasks, nodes, or how a fact becomes a record.
//!
//! At most one batch is under way. What arises meanwhile gathers for the next one, and goes to the
//! one after that when it is full: so a batch is named when a fact arises, and whoever waits for a
//! fact waits for that batch. One that was not stored is tried again under its number.
//!
//! A *firm* fact is one that somebody waits for: an acceptance, an ending, a failed attempt. All
//! others may be lost, and are stored in their company or after [`LAZY_WAIT`].

#![expect(dead_code, reason = "the machine does not write all of it down yet")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::ids::NodeIndex;
use super::record::{Claim, NodeFact, Record, Reserved, Setting, Term};
use super::wall::WallClock;
use super::{Action, SchedulerId, Timestamp};
use crate::task::{Dispatch, TaskId};

/// How long facts that nobody waits for wait for company.
const LAZY_WAIT: Duration = Duration::from_millis(20);
/// How soon a batch that was not stored is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How large a batch may become: a larger one would hold up whoever waits for its first fact.
const MAX_BYTES: usize = 8 << 20;
/// How many facts it may have.
const MAX_FACTS: usize = 65_536;
/// About what a record takes beside its bodies.
const RECORD_BYTES: usize = 64;

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreState {
    /// Since when nothing can be stored and why, if so.
    pub failure: Option<StoreFailure>,
    /// Tasks that wait to be stored.
    pub unstored_tasks: usize,
    /// About how many bytes these take.
    pub unstored_bytes: u64,
    /// Batches that were stored in this term.
    pub batches: u64,
    /// The bytes of these.
    pub bytes: u64,
}

/// Why nothing can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreFailure {
    /// Since when.
    pub since: Timestamp,
    /// In words for whoever can mend it.
    pub reason: String,
}

/// Whether the store takes what it is given.
#[derive(Debug)]
enum Health {
    Good,
    Failing {
        failure: StoreFailure,
        /// When the next batch is tried.
        again: Timestamp,
    },
}

/// Facts that go into one batch. Those of tasks that go on are named, and written as they are when
/// the batch is sealed.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Those of a batch that was not stored, then those that are said once, in order.
    pub records: Vec<Record>,
    pub accepted: Vec<TaskId>,
    pub changed: Vec<TaskId>,
    pub placed: Vec<TaskId>,
    pub confirmed: Vec<TaskId>,
    /// Assignments that are sent once this is stored.
    pub staged: Vec<(TaskId, Dispatch)>,
    /// Nodes whose reports may be acknowledged then.
    pub reported: Vec<NodeIndex>,
    facts: usize,
    bytes: usize,
    /// When it is to be sealed; `None` while there is nothing in it.
    due: Option<Timestamp>,
}

/// What is to be done when the batch that is under way is stored.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub batch: u64,
    pub accepted: Vec<TaskId>,
    pub staged: Vec<(TaskId, Dispatch)>,
    pub reported: Vec<NodeIndex>,
    /// What may be given out then.
    pub reserved: Reserved,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    claim: Claim,
    /// By this clock the times of all records of the term are told, though the clock be set: then
    /// all spans between them hold.
    frame: WallClock,
    /// How far the clock had been set back when the term began, until its head is written.
    head: Option<Duration>,
    /// What has been said of what may be given out.
    pub reserved: Reserved,
    /// What was said last of each node.
    pub nodes: BTreeMap<Arc<str>, NodeFact>,
    /// Nodes of which something else may be true by now.
    changed_nodes: BTreeSet<Arc<str>>,
    settings: Vec<Setting>,
    /// The number of the first batch that gathers.
    next: u64,
    /// The batches that gather. The last one takes what arises.
    gathered: VecDeque<Gathered>,
    under_way: Option<UnderWay>,
    stored: u64,
    /// The last batch with a firm fact.
    firm: u64,
    promises: VecDeque<(u64, Action)>,
    health: Health,
    unstored_tasks: usize,
    unstored_bytes: u64,
    batches: u64,
    bytes: u64,
}

impl Journal {
    /// The journal of a term that begins now. `shows` is what the wall clock shows, `set_back` how
    /// far it has been set back since the term before.
    pub fn new(claim: Claim, shows: Timestamp, now: Timestamp, set_back: Duration) -> Self {
        let first = Gathered {
            due: Some(now),
            ..Gathered::default()
        };
        Self {
            frame: WallClock::showing(shows, now),
            head: Some(set_back),
            reserved: Reserved::default(),
            nodes: BTreeMap::new(),
            changed_nodes: BTreeSet::new(),
            settings: Vec::new(),
            next: claim.last + 1,
            gathered: VecDeque::from([first]),
            under_way: None,
            stored: claim.last,
            firm: claim.last + 1,
            promises: VecDeque::new(),
            health: Health::Good,
            unstored_tasks: 0,
            unstored_bytes: 0,
            batches: 0,
            bytes: 0,
            claim,
        }
    }

    pub fn term(&self) -> Term {
        self.claim.term
    }

    pub fn copied_from(&self) -> Option<SchedulerId> {
        self.claim.copied_from
    }

    /// Returns a moment as records tell it.
    pub fn time(&self, moment: Timestamp) -> Timestamp {
        self.frame.at(moment)
    }

    /// Returns up to which batch all is durable.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Returns with which batch all firm facts so far are.
    pub fn promised_with(&self) -> u64 {
        self.firm
    }

    /// Returns when the next batch is to be sealed.
    pub fn due(&self) -> Option<Timestamp> {
        if self.under_way.is_some() {
            return None;
        }
        match &self.health {
            Health::Good => self.gathered.front()?.due,
            Health::Failing { again, .. } => Some(*again),
        }
    }

    pub fn state(&self) -> StoreState {
        StoreState {
            failure: match &self.health {
                Health::Good => None,
                Health::Failing { failure, .. } => Some(failure.clone()),
            },
            unstored_tasks: self.unstored_tasks,
            unstored_bytes: self.unstored_bytes,
            batches: self.batches,
            bytes: self.bytes,
        }
    }

    /// Begins to store the next batch. Returns its number and what goes into it.
    pub fn begin(&mut self) -> (u64, Gathered) {
        let gathered = self.gathered.pop_front().unwrap_or_default();
        if self.gathered.is_empty() {
            self.gathered.push_back(Gathered::default());
        }
        self.next += 1;
        (self.next - 1, gathered)
    }

    pub fn sent(&mut self, under_way: UnderWay) {
        self.under_way = Some(under_way);
    }

    /// The batch that is under way is stored.
    pub fn batch_stored(&mut self, batch: u64, bytes: u64) -> Option<UnderWay> {
        let under_way = self.under_way.take_if(|it| it.batch <= batch)?;
        self.stored = under_way.batch;
        self.batches += 1;
        self.bytes += bytes;
        Some(under_way)
    }

    /// Takes the delay of the head, if that was not written so far.
    pub fn take_head(&mut self) -> Option<Duration> {
        self.head.take()
    }
}
