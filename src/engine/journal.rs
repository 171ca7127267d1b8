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

mod failing;
mod gathered;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::cleaning::{Cleaning, Next};
use super::ids::NodeIndex;
use super::keep::Keep;
use super::record::{Claim, NodeFact, Record, Reserved, RetainedTask, Setting, Term};
use super::wall::WallClock;
use super::{Action, ClientId, SchedulerId, Timestamp};
use crate::task::{Dispatch, TaskId};

use gathered::RECORD_BYTES;
pub(crate) use gathered::{Gathered, OnceStored, UnderWay};
pub use state::{JournalState, StoreFailure};

/// How long facts that nobody waits for wait for company.
const LAZY_WAIT: Duration = Duration::from_millis(20);
/// How soon a batch that was not stored is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

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

/// How far the end of the term is.
#[derive(Debug, PartialEq, Eq)]
enum TermEnd {
    Open,
    /// The last batch that gathers says so; also of all tasks, if they and these go untold.
    Ending(Option<Vec<TaskId>>),
    /// The last batch is under way, or stored.
    Written,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    claim: Claim,
    /// What is written down once more when it settles.
    pub keep: Keep,
    /// By this clock the times of all records of the term are told, though the clock be set: then
    /// all spans between them hold.
    frame: WallClock,
    /// The head that is still to be written: how far the clock had been set back when the term
    /// began, unless the log says that already.
    pub head: Option<Duration>,
    /// What has been said of what may be given out.
    pub reserved: Reserved,
    /// What was said last of each node.
    pub nodes: BTreeMap<Arc<str>, NodeFact>,
    /// Nodes of which something else may be true by now.
    pub changed_nodes: BTreeSet<Arc<str>>,
    pub settings: Vec<Setting>,
    /// Runs that are placed and not sent.
    pub staged: BTreeSet<Dispatch>,
    /// The staged runs that the next flush sends.
    pub to_send: Vec<(TaskId, Dispatch)>,
    /// Tasks that have settled, and whose key is busy, as it was written down.
    pub busy: BTreeMap<TaskId, RetainedTask>,
    /// What the log has of all this, and what it need not have any more.
    pub cleaning: Cleaning,
    /// The number of the first batch that gathers.
    next: u64,
    /// The batches that gather. The last one takes what arises.
    gathered: VecDeque<Gathered>,
    /// The first dispatch that may not be written down with what was sealed so far.
    unrecorded: u64,
    under_way: Option<UnderWay>,
    stored: u64,
    /// The last batch with a firm fact.
    firm: u64,
    promises: VecDeque<(u64, Action)>,
    health: Health,
    end: TermEnd,
    unstored_tasks: usize,
    unstored_bytes: u64,
    batches: u64,
    bytes: u64,
}

impl Journal {
    /// Makes the journal of a term that begins now. `shows` is what the wall clock shows,
    /// `set_back` how far it has been set back since the term before, and `cleaning` tells of what
    /// the log has.
    pub fn new(
        claim: Claim,
        shows: Timestamp,
        now: Timestamp,
        set_back: Duration,
        cleaning: Cleaning,
    ) -> Self {
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
            staged: BTreeSet::new(),
            to_send: Vec::new(),
            busy: BTreeMap::new(),
            cleaning,
            next: claim.last + 1,
            gathered: VecDeque::from([first]),
            unrecorded: 0,
            under_way: None,
            stored: claim.last,
            firm: claim.last + 1,
            promises: VecDeque::new(),
            health: Health::Good,
            end: TermEnd::Open,
            unstored_tasks: 0,
            unstored_bytes: 0,
            batches: 0,
            bytes: 0,
            keep: Keep::nothing(),
            claim,
        }
    }

    pub fn term(&self) -> Term {
        self.claim.term
    }

    /// Returns whose state the log has, if it is a copy and this term has written nothing.
    pub fn copied_from(&self) -> Option<SchedulerId> {
        let is_first = self.stored == self.claim.last;
        self.claim.copied_from.filter(|_| is_first)
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

    /// Returns why nothing can be stored, if so.
    pub fn failure(&self) -> Option<&StoreFailure> {
        match &self.health {
            Health::Good => None,
            Health::Failing { failure, .. } => Some(failure),
        }
    }

    /// Returns whether one more task of so many bytes may wait to be stored. One alone may have any
    /// size.
    pub fn admits(&self, bytes: usize, limit: u64) -> bool {
        let bytes = (bytes + RECORD_BYTES) as u64;
        self.unstored_tasks == 0 || self.unstored_bytes + bytes <= limit
    }

    /// Returns the batch that takes a fact of so many bytes.
    fn last(&mut self, bytes: usize) -> &mut Gathered {
        let bytes = bytes + RECORD_BYTES;
        if self.gathered.back().is_none_or(|last| last.is_full(bytes)) {
            self.gathered.push_back(Gathered::default());
        }
        let last = self.gathered.len() - 1;
        let last = &mut self.gathered[last];
        last.count(bytes);
        last
    }

    /// Returns the batch that takes a fact for which somebody waits. It is due at this time at the
    /// latest.
    fn firm(&mut self, due: Timestamp, bytes: usize) -> &mut Gathered {
        let last = self.last(bytes);
        last.due = Some(last.due.map_or(due, |earlier| earlier.min(due)));
        self.firm = self.next + self.gathered.len() as u64 - 1;
        let last = self.gathered.len() - 1;
        &mut self.gathered[last]
    }

    /// Returns the batch that takes a fact for which nobody waits.
    fn lazy(&mut self, now: Timestamp, bytes: usize) -> &mut Gathered {
        let last = self.last(bytes);
        last.due.get_or_insert(now + LAZY_WAIT);
        last
    }

    /// Notes that a task was accepted, with args of so many bytes.
    pub fn accepted(&mut self, now: Timestamp, task: TaskId, bytes: usize) {
        self.firm(now, bytes).accepted.push(task);
        self.unstored_tasks += 1;
        self.unstored_bytes += (bytes + RECORD_BYTES) as u64;
    }

    /// Takes in that a task does not wait to be stored any more.
    pub fn no_longer_unstored(&mut self, bytes: usize) {
        self.unstored_tasks -= 1;
        self.unstored_bytes -= (bytes + RECORD_BYTES) as u64;
    }

    /// Notes that something else is true of a task that goes on, and that somebody waits for that
    /// to be stored.
    pub fn changed(&mut self, now: Timestamp, task: TaskId) {
        self.firm(now, 0).changed.push(task);
    }

    /// Notes that something else is true of a task that goes on, for which nobody waits.
    pub fn changed_lazily(&mut self, now: Timestamp, task: TaskId) {
        self.lazy(now, 0).changed.push(task);
    }

    /// Notes that a task was placed.
    pub fn placed(&mut self, now: Timestamp, task: TaskId) {
        self.lazy(now, 0).placed.push(task);
    }

    /// Notes that a task was placed, and is sent when that is stored.
    pub fn staged(&mut self, now: Timestamp, task: TaskId, dispatch: Dispatch) {
        let batch = self.firm(now, 0);
        batch.placed.push(task);
        batch.then.staged.push((task, dispatch));
        self.staged.insert(dispatch);
    }

    /// Adds a fact with bodies of so many bytes, for which somebody waits.
    pub fn record(&mut self, now: Timestamp, bytes: usize, record: Record) {
        self.firm(now, bytes).records.push(record);
    }

    /// Adds how a task has ended, which is told before it is stored: only the node waits for that,
    /// to forget what it has reported. So it waits for company, which spares the next `Execute` a
    /// commit that is under way (bench row `durable-at-once`).
    pub fn record_told(&mut self, now: Timestamp, bytes: usize, record: Record) {
        self.firm(now + LAZY_WAIT, bytes).records.push(record);
    }

    /// Adds a fact for which nobody waits.
    pub fn record_lazily(&mut self, now: Timestamp, record: Record) {
        self.lazy(now, 0).records.push(record);
    }

    /// Notes that whoever was to be told how a task ended has been.
    pub fn confirmed(&mut self, now: Timestamp, task: TaskId) {
        self.lazy(now, 0).confirmed.push(task);
    }

    /// Takes back that somebody has been told how a task ended.
    pub fn not_confirmed(&mut self, task: TaskId) {
        let mut last = self.gathered.iter_mut().rev();
        let told = last.find_map(|it| {
            let at = it.confirmed.iter().rposition(|&id| id == task)?;
            Some(it.confirmed.swap_remove(at))
        });
        debug_assert!(told.is_some(), "{task} is not taken back before the seal");
    }

    /// Notes that something else may be true of a node.
    pub fn node_changed(&mut self, now: Timestamp, name: &Arc<str>) {
        if self.changed_nodes.insert(name.clone()) {
            self.lazy(now, 0);
        }
    }

    /// Adds a setting that was set.
    pub fn set(&mut self, now: Timestamp, setting: Setting) {
        self.lazy(now, 0);
        self.settings.push(setting);
    }

    /// Notes that a node has reported something. Returns the batch that is stored before that may
    /// be acknowledged; `None` if it may be now.
    pub fn reported(&mut self, node: NodeIndex) -> Option<u64> {
        if self.firm <= self.stored {
            return None;
        }
        let then = match &mut self.under_way {
            Some(under_way) if under_way.batch == self.firm => &mut under_way.then,
            _ => &mut self.gathered[(self.firm - self.next) as usize].then,
        };
        if then.reported.last() != Some(&node) {
            then.reported.push(node);
        }
        Some(self.firm)
    }

    /// Keeps the promises among the actions that must wait, and appends those that may go now.
    pub fn gate(&mut self, now: Timestamp, actions: &mut Vec<Action>, tell_at_once: bool) {
        // What arises after the end of the term is never stored.
        let tell_at_once = tell_at_once && !self.is_closed();
        let waits = |action: &Action| match action {
            Action::Deliver { .. } | Action::Answer { .. } => !tell_at_once,
            Action::CancelAnswer { .. } => true,
            _ => false,
        };
        // In order: none may overtake one that has waited.
        if self.firm > self.stored || !self.promises.is_empty() {
            let firm = self.firm;
            let before = self.promises.len();
            let promises = actions.extract_if(.., |action| waits(action));
            self.promises.extend(promises.map(|action| (firm, action)));
            if self.promises.len() > before
                && let Some(at) = firm.checked_sub(self.next)
            {
                self.gathered[at as usize].due = Some(now);
            }
        }
        let kept = |it: &(u64, Action)| it.0 <= self.stored;
        while self.promises.front().is_some_and(kept) {
            actions.extend(self.promises.pop_front().map(|(_, action)| action));
        }
        for action in actions.iter() {
            // Unless it comes back, its caller has it.
            if let Action::Answer {
                status,
                alone: true,
            } = action
            {
                self.confirmed(now, status.id);
            }
        }
    }

    /// Ends the term, with a batch of its own after what gathers now: by then it is known what of
    /// the log is over. With `untold` all is given up, and these go untold.
    pub fn end(&mut self, now: Timestamp, untold: Option<Vec<TaskId>>) {
        if self.end == TermEnd::Open {
            self.end = TermEnd::Ending(untold);
            self.gathered.retain(|it| !it.is_empty());
            // What waits is written again before, if it is little and holds much up.
            if self.gathered.is_empty() && self.cleaning.is_too_much_to_leave() {
                self.gathered.push_back(Gathered::default());
            }
            self.gathered.iter_mut().for_each(|it| it.due = Some(now));
            self.gathered.push_back(Gathered::default());
            self.firm(now, 0);
        }
    }

    /// Returns what ends with the next batch, if that is the last one of the term.
    pub fn ends_with_next(&self) -> Option<Option<&[TaskId]>> {
        match &self.end {
            TermEnd::Ending(untold) if self.gathered.len() == 1 => Some(untold.as_deref()),
            _ => None,
        }
    }

    /// Returns whether it is written down that the term has ended: nothing that arises is, from
    /// then on.
    pub fn is_closed(&self) -> bool {
        self.end == TermEnd::Written
    }

    /// Returns when the next batch is to be sealed.
    pub fn due(&self) -> Option<Timestamp> {
        if self.under_way.is_some() || self.has_ended() {
            return None;
        }
        match &self.health {
            Health::Good => self.gathered.front()?.due,
            Health::Failing { again, .. } => Some(*again),
        }
    }

    /// Returns whether anything that was promised, or the end of the term, is still to be stored.
    pub fn is_storing(&self) -> bool {
        self.under_way.is_some() || (self.firm > self.stored && !self.has_ended())
    }

    /// Returns whether that the term has ended is stored: nothing may follow it.
    fn has_ended(&self) -> bool {
        let mut tried_again = self.gathered.iter().flat_map(|it| &it.records);
        self.end == TermEnd::Written && !tried_again.any(|it| matches!(it, Record::Closed))
    }

    /// Returns the number of the next batch.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Drops what was to be given to a client that is gone: another gets it, by another action.
    /// Returns the first delivery that was not given to it; those after that were not, either.
    pub fn client_gone(&mut self, gone: ClientId) -> Option<u64> {
        let to_it = |action: &Action| match action {
            Action::Deliver {
                client, delivery, ..
            } if *client == gone => Some(*delivery),
            _ => None,
        };
        let first = self.promises().find_map(to_it);
        self.promises.retain(|(_, action)| to_it(action).is_none());
        first
    }

    /// Returns the actions that wait.
    pub fn promises(&self) -> impl Iterator<Item = &Action> {
        self.promises.iter().map(|(_, action)| action)
    }

    /// Returns the batches that gather, in order.
    pub fn gathered(&self) -> impl Iterator<Item = &Gathered> {
        self.gathered.iter()
    }

    /// Takes in that the next batch is sealed, when `unrecorded` is the first dispatch that may
    /// have been given out without a record in what gathers. Returns the first without one up to
    /// this batch: what has gathered behind it may tell of any since the last one.
    pub fn unrecorded_with_next(&mut self, unrecorded: u64) -> u64 {
        if self.gathered.len() == 1 {
            self.unrecorded = unrecorded;
        }
        self.unrecorded
    }

    /// Begins a term, with the first dispatch of which there may be no record.
    pub fn unrecorded_from(&mut self, dispatch: u64) {
        self.unrecorded = dispatch;
    }

    /// Returns what the next batch is in any case.
    pub fn next_is(&self) -> Next {
        if self.is_closed() || self.ends_with_next().is_some() {
            Next::Last
        } else if self.head.is_some() {
            Next::Headed
        } else if self.end == TermEnd::Ending(None) && self.gathered.len() == 2 {
            Next::LastButOne
        } else {
            Next::Plain
        }
    }

    /// Takes the next batch, which is under way from now on. Its last records, so many, were
    /// written again.
    pub fn begin(&mut self, reserved: Reserved, again: usize) {
        if self.ends_with_next().is_some() {
            self.end = TermEnd::Written;
        }
        let first = self.gathered.pop_front().unwrap_or_default();
        if self.gathered.is_empty() {
            self.gathered.push_back(Gathered::default());
        }
        self.under_way = Some(UnderWay {
            batch: self.next,
            accepted: first.accepted,
            then: first.then,
            reserved,
            again,
        });
        self.next += 1;
        self.reserved = reserved;
    }

    /// Takes in that the batch under way is stored. Returns it, and the failure that is over.
    pub fn batch_stored(
        &mut self,
        batch: u64,
        bytes: u64,
    ) -> Option<(UnderWay, Option<StoreFailure>)> {
        let under_way = self.under_way.take_if(|it| it.batch <= batch)?;
        self.stored = under_way.batch;
        self.cleaning.stored(bytes);
        self.batches += 1;
        self.bytes += bytes;
        let failure = match std::mem::replace(&mut self.health, Health::Good) {
            Health::Good => None,
            Health::Failing { failure, .. } => Some(failure),
        };
        Some((under_way, failure))
    }
}
