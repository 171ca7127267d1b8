//! The fold of all records: what a scheduler that is started again knows.
//!
//! Owns: which record may follow which, and what they come to. Does not know: how records are
//! encoded or kept, or what a scheduler makes of them.
//!
//! A record that cannot follow from those before it is refused: it was written by a mistake or has
//! been damaged, and going on from a guess would break promises. The beginning of a log may have
//! been dropped, up to any batch. Then what is said of tasks that were accepted in the dropped part
//! is passed over, unless they were written again; and some later batch has a [`Head`], which says
//! the rest anew.

use std::time::Duration;

use super::Timestamp;
use super::record::{
    AcceptedTask, Changed, Head, NodeFact, NodeFacts, PlacedRun, ProcessRef, Record, Reserved,
    Settings, SettledTask, Term,
};
use crate::task::{Dispatch, TaskId};

mod illegal;
mod table;

pub use illegal::Illegal;
pub use table::TaskTable;

/// What is said with each batch of records, as of when it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The term that wrote it.
    pub term: Term,
    /// The number of the batch, one more than that of the batch before, whichever term wrote that.
    pub batch: u64,
    /// The next id to be given out.
    pub next_task: u64,
    /// The next dispatch to be given out, or the first of an earlier term of which not all nodes
    /// have spoken. Those from here to what is reserved may have been given out without a record.
    pub next_dispatch: u64,
    /// When the batch was sealed.
    pub at: Timestamp,
}

/// A batch that is to be stored.
#[derive(Debug)]
pub struct Sealed {
    /// The stamp of the batch.
    pub stamp: Stamp,
    /// The records of the batch.
    pub records: Vec<Record>,
    /// Batches before this one are not needed any more, once this one is stored.
    pub truncate: Option<u64>,
}

/// What is known of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFacts {
    /// As it was accepted.
    pub accepted: Box<AcceptedTask>,
    /// What has become of it.
    pub state: LedgerState,
}

/// What has become of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum LedgerState {
    /// The task has not settled.
    Open {
        /// What has changed since it was accepted.
        changed: Option<Box<Changed>>,
        /// The last placing, unless that is over.
        placed: Option<Box<Placing>>,
    },
    /// The task has settled, and its ending is not confirmed, or its key is busy.
    Settled {
        /// The ending.
        ending: Box<SettledTask>,
        /// Whether its audience has been told.
        confirmed: bool,
    },
}

/// Where a task was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placing {
    /// On which process.
    pub at: ProcessRef,
    /// The run as which it was placed.
    pub run: PlacedRun,
}

/// The parts of [`LedgerState::Open`].
struct Open<'a> {
    changed: &'a mut Option<Box<Changed>>,
    placed: &'a mut Option<Box<Placing>>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    head: Option<Head>,
    closed: bool,
    reserved: Reserved,
    nodes: NodeFacts,
    settings: Settings,
    tasks: TaskTable,
    first: Option<Stamp>,
    last: Option<Stamp>,
}

impl Ledger {
    /// Begins a batch. Its records follow.
    ///
    /// # Errors
    ///
    /// It does not follow the one before.
    pub fn begin(&mut self, stamp: Stamp) -> Result<(), Illegal> {
        if let Some(last) = self.last {
            if last.batch.checked_add(1) != Some(stamp.batch) {
                return Err(Illegal::Gap {
                    last: last.batch,
                    found: stamp.batch,
                });
            }
            if stamp.term < last.term {
                return Err(Illegal::Term {
                    last: last.term,
                    found: stamp.term,
                });
            }
        }
        self.first.get_or_insert(stamp);
        self.last = Some(stamp);
        Ok(())
    }

    /// Takes a record of the batch that was begun last.
    ///
    /// # Errors
    ///
    /// It cannot follow from those before it. The ledger is of no use then.
    pub fn apply(&mut self, record: Record) -> Result<(), Illegal> {
        self.check_term(&record)?;
        match record {
            Record::Head(head) => self.head(*head)?,
            Record::Reserved(reserved) => self.reserve(reserved)?,
            Record::Closed => self.closed = true,
            Record::Accepted(task) => self.accepted(task)?,
            Record::Changed(changed) => {
                if let Some(Open {
                    changed: old,
                    placed,
                }) = self.open(changed.id)?
                {
                    // The end of that run is known by what is said now.
                    if placed
                        .as_ref()
                        .is_some_and(|it| it.run.dispatch <= changed.over)
                    {
                        *placed = None;
                    }
                    *old = Some(changed);
                }
            }
            Record::Placed { at, runs } => {
                for run in runs {
                    self.placed(&at, run)?;
                }
            }
            Record::Settled(ending) => match self.find(ending.id)? {
                None => {}
                Some(state @ LedgerState::Open { .. }) => {
                    *state = LedgerState::Settled {
                        ending,
                        confirmed: false,
                    };
                }
                Some(LedgerState::Settled { .. }) => {
                    return Err(Illegal::SettledBefore(ending.id));
                }
            },
            Record::Confirmed(ids) => {
                for id in ids {
                    if let Some((_, confirmed)) = self.settled(id)? {
                        *confirmed = true;
                        self.forget(id);
                    }
                }
            }
            Record::Freed(id) => {
                if let Some((ending, _)) = self.settled(id)? {
                    ending.busy.clear();
                    self.forget(id);
                }
            }
            Record::Node(node) => self.node(*node),
            Record::Setting(setting) => self.settings.set(setting),
            // Only to be looked at: no state follows from it.
            Record::Retained(_) => {}
        }
        Ok(())
    }

    /// Returns the head in force, when all records were taken.
    ///
    /// # Errors
    ///
    /// None was among them.
    pub fn finish(&self) -> Result<&Head, Illegal> {
        self.head.as_ref().ok_or(Illegal::NoHead)
    }

    /// Returns what the last batch said of itself; `None` if there was none.
    pub fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// Returns whether the last term has ended in order, and no run of its own process goes on.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns what may be given out.
    pub fn reserved(&self) -> Reserved {
        self.reserved
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> &NodeFacts {
        &self.nodes
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the tasks that are not over.
    pub fn tasks(&self) -> &TaskTable {
        &self.tasks
    }

    /// Takes the tasks out.
    pub fn into_tasks(self) -> TaskTable {
        self.tasks
    }

    /// Checks that a term begins with a head, and that nothing follows its end.
    fn check_term(&self, record: &Record) -> Result<(), Illegal> {
        let (Some(head), Some(stamp)) = (&self.head, self.last) else {
            return Ok(());
        };
        if matches!(record, Record::Head(_)) {
            return Ok(());
        }
        if head.term != stamp.term {
            return Err(Illegal::Term {
                last: head.term,
                found: stamp.term,
            });
        }
        if self.closed {
            return Err(Illegal::AfterEnd);
        }
        Ok(())
    }

    fn head(&mut self, head: Head) -> Result<(), Illegal> {
        let term = self.last.map_or(head.term, |stamp| stamp.term);
        let last = self.head.as_ref().map_or(Term::default(), |last| last.term);
        let again = term == last && !self.closed;
        if head.term != term || (term <= last && !again) {
            return Err(Illegal::Term {
                last,
                found: head.term,
            });
        }
        if let Some(last) = &self.head {
            let same_id = head.scheduler_id == last.scheduler_id;
            let copied = head.copied_from == Some(last.scheduler_id);
            if head.scheduler != last.scheduler || !(same_id || copied) {
                return Err(Illegal::OtherScheduler);
            }
        }
        // The head before it may have been dropped.
        if head.copied_from.is_some() {
            self.forget_runs();
        }
        self.reserve(head.reserved)?;
        self.set_back(head.set_back);
        self.nodes.clear();
        for node in &head.nodes {
            self.node(node.clone());
        }
        self.settings = Settings::default();
        for setting in &head.settings {
            self.settings.set(setting.clone());
        }
        self.closed = false;
        self.head = Some(head);
        Ok(())
    }

    /// Takes in what was given out, of which nothing may be taken back.
    fn reserve(&mut self, reserved: Reserved) -> Result<(), Illegal> {
        let before = self.reserved;
        if reserved.tasks < before.tasks {
            return Err(Illegal::NotReserved(before.tasks));
        }
        if reserved.dispatches < before.dispatches {
            return Err(Illegal::NotReserved(before.dispatches));
        }
        self.reserved = reserved;
        Ok(())
    }

    /// Turns back all times by as much as the wall clock shows less than at the end of the last
    /// term, so that what waits for a time waits no longer for that.
    fn set_back(&mut self, span: Duration) {
        if span.is_zero() {
            return;
        }
        for task in self.tasks.values_mut() {
            task.accepted.at = task.accepted.at - span;
            if let LedgerState::Open {
                changed: Some(changed),
                ..
            } = &mut task.state
            {
                changed.due = changed.due.map(|due| due - span);
                for run in &mut changed.orphans {
                    run.not_before = run.not_before - span;
                }
            }
        }
    }

    /// Forgets all runs: nodes discard those of another scheduler id before they take any of this
    /// one.
    fn forget_runs(&mut self) {
        self.tasks.retain(|task| match &mut task.state {
            LedgerState::Open { changed, placed } => {
                *placed = None;
                if let Some(changed) = changed {
                    changed.orphans.clear();
                    changed.held = None;
                }
                true
            }
            LedgerState::Settled { ending, confirmed } => {
                ending.busy.clear();
                !*confirmed
            }
        });
    }

    fn accepted(&mut self, task: Box<AcceptedTask>) -> Result<(), Illegal> {
        let given_out = self.last.map_or(u64::MAX, |stamp| stamp.next_task);
        let reserved = self.head.as_ref().map_or(u64::MAX, |_| self.reserved.tasks);
        if task.id.get() >= given_out.min(reserved) {
            return Err(Illegal::NotReserved(task.id.get()));
        }
        if let Some(before) = self.tasks.get(&task.id)
            && (before.accepted.kind != task.kind || before.accepted.args != task.args)
        {
            return Err(Illegal::AcceptedTwice(task.id));
        }
        // What has happened to it since is written again with it, so the dropped beginning of a log
        // makes no difference.
        self.tasks.insert(
            task.id,
            TaskFacts {
                accepted: task,
                state: LedgerState::Open {
                    changed: None,
                    placed: None,
                },
            },
        );
        Ok(())
    }

    fn placed(&mut self, at: &ProcessRef, run: PlacedRun) -> Result<(), Illegal> {
        let reserved = self.head.as_ref().map(|_| self.reserved.dispatches);
        if reserved.is_some_and(|reserved| run.dispatch.get() >= reserved) {
            return Err(Illegal::NotReserved(run.dispatch.get()));
        }
        if let Some(Open { changed, placed }) = self.open(run.task)? {
            let over = changed.as_ref().map_or(Dispatch::new(0), |it| it.over);
            let before = placed.as_ref().map_or(over, |it| it.run.dispatch);
            if run.dispatch > over && run.dispatch >= before {
                *placed = Some(Box::new(Placing {
                    at: at.clone(),
                    run,
                }));
            }
        }
        Ok(())
    }

    fn node(&mut self, node: NodeFact) {
        if node.is_vacant() {
            self.nodes.remove(&node.name);
        } else {
            self.nodes.insert(node.name.clone(), node);
        }
    }

    /// Returns the state of a task; `None` if it belongs to the dropped beginning of the log.
    fn find(&mut self, id: TaskId) -> Result<Option<&mut LedgerState>, Illegal> {
        let dropped = self.first.is_some_and(|first| id.get() < first.next_task);
        match self.tasks.get_mut(&id) {
            Some(task) => Ok(Some(&mut task.state)),
            None if dropped => Ok(None),
            None => Err(Illegal::Unknown(id)),
        }
    }

    fn open(&mut self, id: TaskId) -> Result<Option<Open<'_>>, Illegal> {
        match self.find(id)? {
            None => Ok(None),
            Some(LedgerState::Open { changed, placed }) => Ok(Some(Open { changed, placed })),
            Some(LedgerState::Settled { .. }) => Err(Illegal::SettledBefore(id)),
        }
    }

    fn settled(&mut self, id: TaskId) -> Result<Option<(&mut SettledTask, &mut bool)>, Illegal> {
        match self.find(id)? {
            None => Ok(None),
            Some(LedgerState::Settled { ending, confirmed }) => Ok(Some((ending, confirmed))),
            Some(LedgerState::Open { .. }) => Err(Illegal::NotSettled(id)),
        }
    }

    /// Forgets a task that is over.
    fn forget(&mut self, id: TaskId) {
        let over = |task: &TaskFacts| matches!(&task.state, LedgerState::Settled { ending, confirmed: true } if ending.busy.is_empty());
        if self.tasks.get(&id).is_some_and(over) {
            self.tasks.remove(&id);
        }
    }
}

/// Equal if a scheduler would go on from both alike, however much of either log was dropped.
impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        self.head == other.head
            && self.closed == other.closed
            && self.reserved == other.reserved
            && self.nodes == other.nodes
            && self.settings == other.settings
            && self.last == other.last
            && self.tasks == other.tasks
    }
}

impl TaskFacts {
    /// Returns the records that say all of this anew, at the end of a log.
    pub fn rewritten(&self) -> Vec<Record> {
        let mut records = vec![Record::Accepted(self.accepted.clone())];
        match &self.state {
            LedgerState::Open { changed, placed } => {
                records.extend(changed.clone().map(Record::Changed));
                records.extend(placed.as_deref().map(|placing| Record::Placed {
                    at: placing.at.clone(),
                    runs: vec![placing.run],
                }));
            }
            LedgerState::Settled { ending, confirmed } => {
                records.push(Record::Settled(ending.clone()));
                if *confirmed {
                    records.push(Record::Confirmed(vec![ending.id]));
                }
            }
        }
        records
    }
}

#[cfg(test)]
pub(crate) mod tests;
