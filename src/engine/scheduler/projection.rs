//! Whether what was written down says what the machine believes: for tests.
//!
//! Owns: nothing; reads only, at a cost that grows with the state.

use std::collections::BTreeSet;

use super::SchedulerMachine;
use crate::engine::Timestamp;
use crate::engine::journal::Journal;
use crate::engine::ledger::{Ledger, LedgerState, Placing, Stamp, TaskFacts};
use crate::engine::record::{AcceptedTask, Changed, Settings};
use crate::engine::tasks::{Past, Slot, Stage};
use crate::task::{Dispatch, Due, TaskId};

impl SchedulerMachine {
    /// Checks that a log whose fold is `stored`, the batch that is under way included, says what is
    /// believed now, once all that has gathered is stored, too. Nothing is said of a machine
    /// without a store, or of a term that has ended.
    ///
    /// # Errors
    ///
    /// The first difference, in words.
    pub fn check_log(&self, stored: &Ledger) -> Result<(), String> {
        let Some(journal) = self.journal.as_ref().filter(|it| !it.is_closed()) else {
            return Ok(());
        };
        let at = journal.time(self.now);
        let mut ledger = stored.clone();
        for (number, gathered) in (journal.next()..).zip(journal.gathered()) {
            let stamp = Stamp {
                term: journal.term(),
                batch: number,
                next_task: self.task_ids.next(),
                next_dispatch: self.unrecorded_from(),
                at,
            };
            let illegal = |illegal| format!("batch {number} would be illegal: {illegal}");
            ledger.begin(stamp).map_err(illegal)?;
            for record in self.compose(journal, gathered, number == journal.next(), at) {
                ledger.apply(record).map_err(illegal)?;
            }
        }
        if ledger.reserved() != self.reservation(journal) {
            return Err("what may be given out is not what is written down".to_owned());
        }
        let mut settings = Settings::default();
        for setting in self.settings.list() {
            settings.set(setting);
        }
        if *ledger.settings() != settings {
            return Err(format!(
                "the settings {settings:?} are written down as {:?}",
                ledger.settings()
            ));
        }
        let nodes: Vec<_> = ledger.nodes().values().cloned().collect();
        let believed = self.node_facts();
        if nodes != believed {
            return Err(format!(
                "of nodes {nodes:?} is written down, and {believed:?} believed"
            ));
        }
        self.check_tasks_of(journal, &ledger, at)
    }

    fn check_tasks_of(
        &self,
        journal: &Journal,
        ledger: &Ledger,
        at: Timestamp,
    ) -> Result<(), String> {
        let untold = self.untold(journal).map(|status| status.id);
        let mut untold: BTreeSet<TaskId> = untold.collect();
        let mut open = 0;
        for (id, facts) in ledger.tasks().iter() {
            match &facts.state {
                LedgerState::Open { .. } => {
                    let slot = self.tasks.find(*id);
                    let slot = slot.ok_or_else(|| format!("{id} goes on in the log alone"))?;
                    open += 1;
                    self.check_task(journal, slot, facts, at)?;
                }
                LedgerState::Settled { ending, confirmed } => {
                    if self.tasks.find(*id).is_some() {
                        return Err(format!("{id} has settled in the log alone"));
                    }
                    // Either somebody is still to be told, or the ending is confirmed.
                    if *confirmed == untold.remove(id) {
                        return Err(format!(
                            "that somebody was told of {id} is written down as {confirmed}"
                        ));
                    }
                    let key = facts
                        .accepted
                        .options
                        .as_ref()
                        .and_then(|it| it.key.as_ref());
                    let busy = key.is_some_and(|key| self.keys.find(key) == Some((*id, true)));
                    if busy == ending.busy.is_empty() {
                        return Err(format!(
                            "the key of {id} is busy by the runs {:?} in the log, and here: {busy}",
                            ending.busy
                        ));
                    }
                }
            }
        }
        if open != self.tasks.len() {
            return Err(format!(
                "{open} tasks go on in the log, {} here",
                self.tasks.len()
            ));
        }
        match untold.first() {
            None => Ok(()),
            Some(id) => Err(format!("{id} is to be told, and is over in the log")),
        }
    }

    fn check_task(
        &self,
        journal: &Journal,
        slot: Slot,
        facts: &TaskFacts,
        at: Timestamp,
    ) -> Result<(), String> {
        let task = self.tasks.get(slot);
        let accepted = in_force(self.accepted(journal, task), at);
        // What a node has told of a run outweighs that the task is not due yet, by a clock that was
        // set back since it was sent.
        let waits = matches!(
            task.stage,
            Stage::Later { .. } | Stage::Planned { .. } | Stage::Unstored { .. }
        );
        let told = task.stage.placed().is_some() || task.past != Past::Fresh;
        let by = match told && !waits {
            true => Timestamp(u64::MAX),
            false => at,
        };
        let written = in_force((*facts.accepted).clone(), by);
        if accepted != written {
            return Err(format!(
                "{written:?} is written down, and here is {accepted:?}"
            ));
        }
        let LedgerState::Open { changed, placed } = &facts.state else {
            return Ok(());
        };
        // While nothing more is stored of a task, nothing has changed since it was accepted.
        let nothing = Changed::nothing(task.id);
        let written = changed.as_deref().cloned().unwrap_or(nothing);
        let (written, believed) = (still(written, at), still(self.changed(journal, task), at));
        if written != believed {
            return Err(format!(
                "{written:?} is written down, and here is {believed:?}"
            ));
        }
        let believed = self.placing(task);
        let written = placed.as_deref();
        let same = match (written, &believed) {
            (Some(Placing { at, run }), Some((process, believed))) => {
                let same_run =
                    (run.dispatch, run.prefetched) == (believed.dispatch, believed.prefetched);
                at == process && same_run
            }
            (None, None) => true,
            _ => false,
        };
        if same {
            return Ok(());
        }
        Err(format!(
            "{} is placed as {written:?} in the log, and as {believed:?} here",
            task.id
        ))
    }
}

/// Returns a task that waits for its time no more, if that has come.
fn in_force(mut task: AcceptedTask, at: Timestamp) -> AcceptedTask {
    let accepted = task.at;
    if let Some(mut options) = task.options.take() {
        let over = match options.due {
            Due::Now => true,
            Due::After(delay) => accepted + delay <= at,
            Due::At(time) => time <= at.to_system_time(),
        };
        if over {
            options.due = Due::Now;
        }
        task.options = (*options != crate::task::Options::default()).then_some(options);
    }
    task
}

/// Returns what of a change still makes a difference, and can be told again.
fn still(mut changed: Changed, at: Timestamp) -> Changed {
    changed.due = changed.due.filter(|&due| due > at);
    // All that the task does not have is over; which that is, its placing says.
    changed.over = Dispatch::new(0);
    for run in &mut changed.orphans {
        // This time moves on while the process is heard.
        run.not_before = Timestamp(0);
    }
    changed.orphans.sort_by_key(|run| run.dispatch);
    changed.lost.sort();
    changed
}
