//! What the binary `callboard` does with a store that no scheduler has open.
//!
//! Owns: each command, and what it tells. Does not know: how a command line is read, or where the
//! lines go.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::export::{ExportError, State, TaskView, each_task, export};
use super::file::FileOpener;
use super::recovery::recover;
use super::retained::find;
use super::table::TableLog;
use super::writer::{CHECK_EVERY, LogWriter, Written};
use super::{Claimant, LogError, Snapshot, TaskLog};
use crate::engine::ledger::{Ledger, LedgerState, Sealed, Stamp};
use crate::engine::record::{AcceptedTask, Head, Record, Reserved};
use crate::engine::{SchedulerId, Timestamp, first_number};
use crate::task::{Due, TaskId, TaskKey};

mod check;
mod salvage;
#[cfg(test)]
mod tests;

pub use check::Checked;
pub use salvage::Salvaged;

/// Why a command could not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// There is no file.
    #[error("there is no store at {}; name the file that the scheduler was given", .0.display())]
    NotThere(PathBuf),
    /// A file is there that would have to be replaced.
    #[error("{} is there already and is left as it is; name a new file", .0.display())]
    Exists(PathBuf),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] LogError),
    /// The lines that it prints cannot be written.
    #[error("what was found cannot be printed: {0}")]
    Print(std::io::Error),
    /// No scheduler was started on it so far.
    #[error("no scheduler has used the store so far, so there is nothing in it")]
    Unused,
    /// No such task is there.
    #[error(
        "{0} is not in the store: it was never accepted here, or it has settled and is not kept; `list` names all that are there"
    )]
    NoTask(TaskId),
    /// A task goes on by itself.
    #[error(
        "{0} has not settled and goes on when the scheduler starts, so it was not handed in again"
    )]
    Unsettled(TaskId),
    /// Another task has the key.
    #[error(
        "{id} was not handed in again: its key {key:?} is that of {other}, which is not over; wait for its end"
    )]
    KeyTaken {
        /// The task.
        id: TaskId,
        /// The key of the task.
        key: String,
        /// The task that has the key.
        other: TaskId,
    },
}

impl From<ExportError> for ToolError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => Self::Store(error),
            ExportError::Write(error) => Self::Print(error),
        }
    }
}

/// A store that is open for the commands. As long as it is, no scheduler starts on it.
#[derive(Debug)]
pub struct Tool {
    log: TableLog<FileOpener>,
}

/// Which tasks are listed.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The kind whose tasks alone are listed.
    pub kind: Option<String>,
    /// The states whose tasks alone are listed, if there is any.
    pub states: Vec<State>,
}

impl Tool {
    /// Opens the store at a path.
    ///
    /// # Errors
    ///
    /// There is none, or it is in use or cannot be read.
    pub fn open(path: &Path) -> Result<Self, ToolError> {
        if !path.exists() {
            return Err(ToolError::NotThere(path.to_owned()));
        }
        let mut tool = Self {
            log: TableLog::new(FileOpener::existing(path.to_owned())),
        };
        tool.log.about()?;
        Ok(tool)
    }

    fn now(&mut self) -> Result<Box<dyn Snapshot>, ToolError> {
        Ok(self.log.snapshot()?)
    }

    /// Writes a line a task: the id, kind, priority, state, due time, attempts and key, with tabs
    /// between, and `-` where there is none.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or `to` not be written to.
    pub fn list(&mut self, listed: &Listed, to: &mut dyn Write) -> Result<(), ToolError> {
        let from = self.now()?;
        each_task(&*from, &mut |task| {
            let kind = listed.kind.as_deref();
            let has_kind = kind.is_none_or(|kind| kind == task.accepted().kind.as_str());
            let has_state = listed.states.is_empty() || listed.states.contains(&task.state());
            if has_kind && has_state {
                writeln!(to, "{}", task.columns().join("\t"))?;
            }
            Ok(true)
        })?;
        to.flush().map_err(ToolError::Print)
    }

    /// Writes all that is known of a task, a line for each: a name, and a value as in JSON.
    ///
    /// # Errors
    ///
    /// There is no such task, the store cannot be read, or `to` not be written to.
    pub fn show(&mut self, id: TaskId, to: &mut dyn Write) -> Result<(), ToolError> {
        let from = self.now()?;
        let mut found = false;
        let mut show = |task: &TaskView<'_>| {
            found = true;
            for (name, value) in task.fields() {
                writeln!(to, "{name}: {value}")?;
            }
            Ok::<(), ExportError>(to.flush()?)
        };
        if let Some(task) = find(&*from, id)? {
            show(&TaskView::retained(&task))?;
        } else {
            each_task(&*from, &mut |task| {
                let is_it = task.id() == id;
                if is_it {
                    show(task)?;
                }
                Ok(!is_it)
            })?;
        }
        if found {
            Ok(())
        } else {
            Err(ToolError::NoTask(id))
        }
    }

    /// Writes every task as a line of JSON.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or `to` not be written to.
    pub fn export(&mut self, to: &mut dyn Write) -> Result<(), ToolError> {
        Ok(export(&*self.now()?, to)?)
    }

    /// Reads all there is, and tells what is wrong.
    ///
    /// # Errors
    ///
    /// The store cannot be opened.
    pub fn check(&mut self) -> Result<Checked, ToolError> {
        Ok(check::check(&*self.now()?))
    }

    /// Copies the store to a new file, which is marked as a copy: a scheduler that starts on it
    /// takes another id.
    ///
    /// # Errors
    ///
    /// There is such a file, or one of the two cannot be read or written.
    pub fn backup(&mut self, to: &Path) -> Result<(), ToolError> {
        is_free(to)?;
        Ok(self.now()?.copy(to)?)
    }

    /// Copies what is whole to a new file, which is marked as a copy.
    ///
    /// # Errors
    ///
    /// There is such a file, nothing is whole, or one of the two cannot be read or written.
    pub fn salvage(&mut self, to: &Path) -> Result<Salvaged, ToolError> {
        is_free(to)?;
        let about = self.log.about()?;
        salvage::salvage(&*self.now()?, &about, to)
    }

    /// Lets the next start take another scheduler id, so that nodes which have seen a later state
    /// of this store follow it: they discard what they have of that.
    ///
    /// # Errors
    ///
    /// No scheduler has used it, or it cannot be written.
    pub fn relive(&mut self) -> Result<(), ToolError> {
        self.log.about()?.scheduler.ok_or(ToolError::Unused)?;
        Ok(self.log.mark_copy()?)
    }

    /// Hands a task that has settled in again, as a new one that is due at once, and returns its
    /// id. `new_id` is taken if the store is a copy.
    ///
    /// # Errors
    ///
    /// There is no such task, it has not settled, its key is taken, or the store cannot be read or
    /// written. Nothing was handed in.
    pub fn execute_again(
        mut self,
        id: TaskId,
        now: Timestamp,
        new_id: SchedulerId,
    ) -> Result<TaskId, ToolError> {
        let about = self.log.about()?;
        let scheduler = about.scheduler.ok_or(ToolError::Unused)?;
        let from = self.now()?;
        let ledger = super::recovery::read(&*from)?;
        let task = match ledger.tasks().get(&id) {
            Some(task) if matches!(task.state, LedgerState::Open { .. }) => {
                return Err(ToolError::Unsettled(id));
            }
            Some(task) => (*task.accepted).clone(),
            None => find(&*from, id)?.ok_or(ToolError::NoTask(id))?.accepted,
        };
        if let Some(key) = key_of(&task)
            && let Some(other) = owner(&ledger, key)
        {
            let key = key.as_str().to_owned();
            return Err(ToolError::KeyTaken { id, key, other });
        }
        drop((from, ledger));
        let claimant = Claimant {
            scheduler: &scheduler,
            new_id,
        };
        let (claim, found) = recover(&mut self.log, &claimant, &mut drop)?;
        let ledger = found.ledger;
        let head = ledger.finish().map_err(|_| ToolError::Unused)?;
        let reserved = ledger.reserved();
        let last = ledger.last().ok_or(ToolError::Unused)?;
        let number = first_number(now).max(reserved.tasks).max(last.next_task);
        let at = now.max(last.at);
        let next_task = number.saturating_add(1);
        let head = Head {
            scheduler_id: claim.scheduler_id,
            copied_from: claim.copied_from,
            term: claim.term,
            at,
            set_back: std::time::Duration::ZERO,
            reserved: Reserved {
                tasks: next_task,
                ..reserved
            },
            nodes: ledger.nodes().values().cloned().collect(),
            settings: ledger.settings().list(),
            ..head.clone()
        };
        let mut options = task.options;
        let asked = options.get_or_insert_default();
        asked.due = Due::Now;
        asked.again_of = Some(id);
        let again = AcceptedTask {
            id: TaskId::new(number),
            at,
            options,
            ..task
        };
        let mut records = vec![
            Record::Head(Box::new(head)),
            Record::Accepted(Box::new(again)),
        ];
        // The next start goes on from what the scheduler left, which this is no part of.
        if ledger.is_closed() {
            records.push(Record::Closed);
        }
        let stamp = Stamp {
            term: claim.term,
            batch: claim.last + 1,
            next_task,
            at,
            ..last
        };
        let mut writer = LogWriter::new(Box::new(self.log), CHECK_EVERY);
        store(&mut writer, stamp, records)?;
        writer.close()?;
        Ok(TaskId::new(number))
    }
}

fn key_of(task: &AcceptedTask) -> Option<&TaskKey> {
    task.options
        .as_ref()
        .and_then(|options| options.key.as_ref())
}

/// Returns the task that has a key: one that has not settled, or of which a run may be going on.
fn owner(ledger: &Ledger, key: &TaskKey) -> Option<TaskId> {
    let mut tasks = ledger.tasks().values();
    let owner = tasks.find(|task| {
        let is_taken = match &task.state {
            LedgerState::Open { .. } => true,
            LedgerState::Settled { ending, .. } => !ending.busy.is_empty(),
        };
        is_taken && key_of(&task.accepted) == Some(key)
    });
    owner.map(|task| task.accepted.id)
}

fn is_free(path: &Path) -> Result<(), ToolError> {
    if path.exists() {
        Err(ToolError::Exists(path.to_owned()))
    } else {
        Ok(())
    }
}

fn store(writer: &mut LogWriter, stamp: Stamp, records: Vec<Record>) -> Result<(), LogError> {
    let sealed = Sealed {
        stamp,
        records,
        truncate: None,
    };
    match writer.append(sealed).0 {
        Written::Stored { .. } => Ok(()),
        Written::NotStored { reason, .. } | Written::Failing { reason } => Err(reason),
    }
}
