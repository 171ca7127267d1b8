//! Who watches unsettled tasks.
//!
//! Owns: how many tasks each watches, and letting go of one that watches none. Does not know: what
//! a watcher is or what it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, ClientId};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// Unsettled tasks, by watcher.
    tasks: BTreeMap<ClientId, usize>,
    /// The watchers that may watch nothing any more.
    idle: BTreeSet<ClientId>,
}

impl Watchers {
    /// Hears that somebody named a watcher. It is let go at the next flush unless it watches a task
    /// by then.
    pub fn name(&mut self, watcher: ClientId) {
        self.idle.insert(watcher);
    }

    /// Notes that it watches one more task.
    pub fn engage(&mut self, watcher: ClientId) {
        *self.tasks.entry(watcher).or_default() += 1;
    }

    /// Notes that a task has settled that it watched.
    pub fn release(&mut self, watcher: ClientId) {
        if let Some(tasks) = self.tasks.get_mut(&watcher) {
            *tasks -= 1;
            if *tasks == 0 {
                self.tasks.remove(&watcher);
                self.idle.insert(watcher);
            }
        }
    }

    /// Appends who is let go.
    pub fn flush(&mut self, actions: &mut Vec<Action>) {
        let tasks = &self.tasks;
        let idle = std::mem::take(&mut self.idle).into_iter();
        let over = idle.filter(|watcher| !tasks.contains_key(watcher));
        actions.extend(over.map(|client| Action::LetGo { client }));
    }

    /// Counts the watches, to be compared with the tasks.
    pub fn engaged(&self) -> usize {
        self.tasks.values().sum()
    }
}
