//! The callers' own names for tasks.
//!
//! Owns: which key belongs to which task, and until when. Does not know: tasks or runs.

use std::collections::HashMap;

use crate::task::{TaskId, TaskKey};

#[derive(Debug)]
struct Entry {
    task: TaskId,
    settled: bool,
    /// Runs of the task that the scheduler no longer follows and that may still be going on.
    orphans: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    entries: HashMap<TaskKey, Entry>,
}

impl Keys {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the task that has the key, and whether it has settled.
    pub fn find(&self, key: &TaskKey) -> Option<(TaskId, bool)> {
        self.entries
            .get(key)
            .map(|entry| (entry.task, entry.settled))
    }

    pub fn claim(&mut self, key: TaskKey, task: TaskId) {
        self.entries.insert(
            key,
            Entry {
                task,
                settled: false,
                orphans: 0,
            },
        );
    }

    pub fn settled(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.settled = true;
        }
        self.free(key);
    }

    pub fn orphan_began(&mut self, key: &TaskKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.orphans += 1;
        }
    }

    /// Returns the settled task that had the key up to now, if it is free.
    pub fn orphan_ended(&mut self, key: &TaskKey) -> Option<TaskId> {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.orphans = entry.orphans.saturating_sub(1);
        }
        self.free(key)
    }

    fn free(&mut self, key: &TaskKey) -> Option<TaskId> {
        let entry = self.entries.get(key)?;
        if !entry.settled || entry.orphans > 0 {
            return None;
        }
        Some(self.entries.remove(key)?.task)
    }
}
