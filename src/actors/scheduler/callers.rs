//! Whoever waits for one answer: the status of one task, or what a cancel achieved.
//!
//! Owns: the senders of these answers. Does not know: what the answers mean.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio::sync::oneshot;

use crate::contain::{contained, shielded};
use crate::status::{CancelAnswer, TaskStatus};
use crate::task::TaskId;

/// See the module.
#[derive(Default)]
pub(super) struct Callers {
    statuses: HashMap<TaskId, Vec<oneshot::Sender<TaskStatus>>>,
    cancels: HashMap<u64, oneshot::Sender<CancelAnswer>>,
    next_ticket: u64,
}

impl Callers {
    pub fn wait(&mut self, id: TaskId, caller: oneshot::Sender<TaskStatus>) {
        self.statuses.entry(id).or_default().push(caller);
    }

    /// Gives a status to those that wait for its task; `false` if nobody does any more.
    pub fn answer(&mut self, status: &TaskStatus) -> bool {
        if self.statuses.is_empty() {
            return false;
        }
        let callers = self.statuses.remove(&status.id).unwrap_or_default();
        let mut answered = false;
        for caller in callers {
            // The waker of who waits is code of others.
            answered |= contained(|| caller.send(status.clone()).is_ok()).unwrap_or(true);
        }
        answered
    }

    /// Forgets who does not wait for a task any more.
    pub fn let_go(&mut self, id: TaskId) {
        if let Entry::Occupied(mut callers) = self.statuses.entry(id) {
            callers.get_mut().retain(|caller| !caller.is_closed());
            if callers.get().is_empty() {
                callers.remove();
            }
        }
    }

    /// Forgets who waits for a task, which was not accepted after all.
    pub fn forget(&mut self, id: TaskId) {
        self.statuses.remove(&id);
    }

    pub fn ticket(&mut self) -> (u64, oneshot::Receiver<CancelAnswer>) {
        let (tx, rx) = oneshot::channel();
        self.next_ticket += 1;
        self.cancels.insert(self.next_ticket, tx);
        (self.next_ticket, rx)
    }

    pub fn cancelled(&mut self, ticket: u64, answer: CancelAnswer) {
        if let Some(caller) = self.cancels.remove(&ticket) {
            // Whoever has dropped the request does not want to know.
            shielded(|| {
                let _ = caller.send(answer);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_that_are_gone_leave_nothing_behind() {
        let mut callers = Callers::default();
        let task = TaskId::new(1);
        let (first, gone) = oneshot::channel();
        let (second, stays) = oneshot::channel();
        callers.wait(task, first);
        callers.wait(task, second);
        drop(gone);
        callers.let_go(task);
        assert_eq!(callers.statuses[&task].len(), 1);
        drop(stays);
        callers.let_go(task);
        assert!(callers.statuses.is_empty());
    }
}
