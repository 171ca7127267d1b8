//! What is written again, so that the log may lose the batch that it was written in first.
//!
//! Owns: which records say anew all that is known of a task now. Does not know: which tasks these
//! are (see the cleaning), or how a fact becomes a record (see `recording`).

use std::collections::BTreeSet;

use super::SchedulerMachine;
use crate::engine::Action;
use crate::engine::journal::Journal;
use crate::engine::record::{AcceptedTask, Changed, Record, RetainedTask, SettledTask};
use crate::engine::tasks::{Past, Task};
use crate::status::TaskStatus;
use crate::task::TaskId;

impl SchedulerMachine {
    /// Appends what says anew all of these tasks to the records of the next batch, as their last
    /// ones. A task whose ending is to be written later is left out, and so is one that is over by
    /// then. Returns how many records these are.
    pub(super) fn write_again(
        &self,
        journal: &Journal,
        ids: &[TaskId],
        records: &mut Vec<Record>,
    ) -> usize {
        let before = records.len();
        for task in self.going_on(ids) {
            records.push(Record::Accepted(Box::new(self.accepted(journal, task))));
            let changed = self.changed(journal, task);
            if has_past(task, &changed) {
                records.push(Record::Changed(Box::new(changed)));
            }
        }
        self.compose_placed(ids, records);
        let settled = ids.iter().copied();
        let settled: BTreeSet<_> = settled
            .filter(|&id| self.tasks.find(id).is_none())
            .collect();
        if !settled.is_empty() {
            self.write_settled_again(journal, settled, records);
        }
        records.len() - before
    }

    fn write_settled_again(
        &self,
        journal: &Journal,
        mut ids: BTreeSet<TaskId>,
        records: &mut Vec<Record>,
    ) {
        let later = journal.gathered().skip(1).flat_map(|it| &it.records);
        for record in later {
            if let Record::Settled(ending) = record {
                ids.remove(&ending.id);
            }
        }
        for status in self.untold(journal) {
            if ids.remove(&status.id) {
                let busy = journal.busy.get(&status.id);
                let busy = busy.map(|task| task.ending.busy.clone());
                let ending = SettledTask::of_ending(status, busy.unwrap_or_default());
                let accepted = AcceptedTask::of_ending(status);
                let task = ending.map(|ending| RetainedTask { accepted, ending });
                records.extend(task.into_iter().flat_map(said_of));
            }
        }
        for id in ids {
            if let Some(task) = journal.busy.get(&id) {
                records.extend(said_of(task.clone()));
                records.push(Record::Confirmed(vec![id]));
            }
        }
    }

    /// Returns the endings of which somebody is still to be told.
    pub(super) fn untold<'a>(
        &'a self,
        journal: &'a Journal,
    ) -> impl Iterator<Item = &'a TaskStatus> {
        let promised = journal.promises().filter_map(|action| match action {
            Action::Answer {
                status,
                alone: true,
            } => Some(status),
            _ => None,
        });
        self.outbox.to_be_told().chain(promised)
    }
}

fn said_of(task: RetainedTask) -> [Record; 2] {
    let RetainedTask { accepted, ending } = task;
    [
        Record::Accepted(Box::new(accepted)),
        Record::Settled(Box::new(ending)),
    ]
}

/// Returns whether more is known of a task than how it was handed in, and where it is.
fn has_past(task: &Task, changed: &Changed) -> bool {
    let nothing = Changed {
        over: changed.over,
        ..Changed::nothing(task.id)
    };
    task.past >= Past::MayHaveRun || *changed != nothing
}
