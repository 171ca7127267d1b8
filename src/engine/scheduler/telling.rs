//! What runs tell on their way: how far they are, and notes.
//!
//! Owns: whose word counts, and how much of it reaches a watcher. Does not know: what is remembered
//! of it, and for how long (see [`trails`](crate::engine::trails)).

use std::time::Duration;

use super::SchedulerMachine;
use super::reports::Told;
use crate::engine::Timestamp;
use crate::engine::message::{MAX_NOTE_BYTES, MAX_PROGRESS_BYTES, PROGRESS_INTERVAL};
use crate::engine::placement::NodeIndex;
use crate::engine::tasks::Slot;
use crate::payload::Payload;
use crate::status::TaskEventKind;
use crate::task::{Dispatch, TaskId};
use crate::trail::{TaskNote, TaskProgress};

/// How far a task's progress may be ahead of one value each [`PROGRESS_INTERVAL`]; beyond it
/// nothing is told. Twenty times what an honest node lets through at once, since a slow link may
/// bring many together. So no node can fill a watcher's mailbox.
const PROGRESS_SLACK: Duration = Duration::from_secs(6);

impl SchedulerMachine {
    /// Takes in how far a run is. `Err` says how its node broke the protocol.
    pub(super) fn makes_progress(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
        value: Payload,
    ) -> Result<(), String> {
        if value.len() > MAX_PROGRESS_BYTES {
            return Err(format!(
                "it told a progress of {} bytes, more than {MAX_PROGRESS_BYTES}",
                value.len()
            ));
        }
        if let Some(slot) = self.goes_on(node, task, dispatch)? {
            self.progress(now, slot, dispatch, value);
        }
        Ok(())
    }

    /// Takes in what a run has noted. `Err` says how its node broke the protocol.
    pub(super) fn notes(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
        text: Box<str>,
    ) -> Result<(), String> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(format!(
                "it told a note of {} bytes, more than {MAX_NOTE_BYTES}",
                text.len()
            ));
        }
        if self.goes_on(node, task, dispatch)?.is_some() {
            let note = TaskNote {
                dispatch,
                at: self.wall_time(now),
                text: text.into(),
            };
            self.trails.note(task, note);
        }
        Ok(())
    }

    /// Returns the task of a run that tells something on its way, which shows that it goes on. What
    /// a run tells that is not its task's any more is told to nobody.
    fn goes_on(
        &mut self,
        node: NodeIndex,
        task: TaskId,
        dispatch: Dispatch,
    ) -> Result<Option<Slot>, String> {
        Ok(match self.find_run(node, task, dispatch)? {
            Told::Live(slot) => Some(slot),
            Told::GivenUp(slot) if self.keeps_runs(node) => {
                self.reclaim(slot);
                Some(slot)
            }
            Told::GivenUp(_) | Told::Orphan | Told::Stale => None,
        })
    }

    /// Remembers the progress of a task, and tells its watcher, unless its task has told far more
    /// than a node lets through.
    fn progress(&mut self, now: Timestamp, slot: Slot, dispatch: Dispatch, value: Payload) {
        let told = TaskProgress {
            dispatch,
            at: self.wall_time(now),
            value: value.clone(),
        };
        let task = self.tasks.get_mut(slot);
        self.trails.progress(task.id, told);
        if task.watcher().is_none() {
            return;
        }
        let until = &mut task.rare().progress_until;
        if now + PROGRESS_SLACK < *until {
            return;
        }
        *until = now.max(*until) + PROGRESS_INTERVAL;
        self.notify(slot, |_, _| TaskEventKind::Progress(value));
    }
}
