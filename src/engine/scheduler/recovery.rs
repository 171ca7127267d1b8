//! Going on from what a store has.
//!
//! Owns: what a term begins with. Does not know: what is stored later, or how it is read.

use std::sync::Arc;
use std::time::Duration;

use super::SchedulerMachine;
use crate::config::SchedulerConfig;
use crate::engine::journal::Journal;
use crate::engine::ledger::Ledger;
use crate::engine::record::Claim;
use crate::engine::wall::WallClock;
use crate::engine::{Timestamp, first_number};
use crate::task::TaskId;

/// Why a scheduler cannot go on from what a store has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecoverable {
    /// A task has larger args than links may carry by these settings.
    #[error(
        "the args of {task} have {bytes} bytes, and `max_task_args` allows {limit}; raise it to what it was"
    )]
    TooLarge {
        /// The task.
        task: TaskId,
        /// Its args.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl SchedulerMachine {
    /// A scheduler that goes on from what a store has, as `claim` allows, when the wall clock shows
    /// `wall`. `config` must have been validated.
    ///
    /// # Errors
    ///
    /// What was stored does not fit the settings.
    pub fn recover(
        name: Arc<str>,
        config: SchedulerConfig,
        ledger: Ledger,
        claim: Claim,
        wall: Timestamp,
        now: Timestamp,
    ) -> Result<Self, Unrecoverable> {
        let set_back = ledger
            .last()
            .map_or(Duration::ZERO, |last| last.at.since(wall));
        let floor = first_number(wall);
        let reserved = ledger.reserved();
        let mut machine = Self::new(name, claim.scheduler_id, config, now);
        machine.timers.set_wall(WallClock::showing(wall, now));
        machine.task_ids.skip_to(floor.max(reserved.tasks));
        machine.dispatches.skip_to(floor.max(reserved.dispatches));
        // Nothing may be told before it is reserved.
        machine.task_ids.end_at(0);
        machine.dispatches.end_at(0);
        machine.outbox.over = Some(Vec::new());
        machine.journal = Some(Box::new(Journal::new(claim, wall, now, set_back)));
        Ok(machine)
    }
}
