//! What becomes of batches that were not stored.
//!
//! Owns: what of them is tried again, and when. Does not know: why the store takes nothing.

use std::collections::BTreeSet;

use super::gathered::Gathered;
use super::{Health, Journal, StoreFailure, TRY_AGAIN};
use crate::engine::Timestamp;
use crate::engine::record::Record;
use crate::task::TaskId;

impl Journal {
    /// Takes back the batch under way, which has these records and was not stored: what is left of
    /// it is tried again. Returns the tasks that were to be accepted with it.
    pub fn batch_not_stored(&mut self, batch: u64, mut records: Vec<Record>) -> Vec<TaskId> {
        let Some(under_way) = self.under_way.take_if(|it| it.batch == batch) else {
            return Vec::new();
        };
        // Where that is still stands what it says anew.
        records.truncate(records.len().saturating_sub(under_way.again));
        // Nothing else is said of what was to be accepted, but that it was to be cancelled.
        let refused: BTreeSet<_> = under_way.accepted.iter().copied().collect();
        records.retain(|record| match record {
            Record::Head(head) => {
                // The next one says what is true by then.
                self.head = Some(head.set_back);
                false
            }
            Record::Accepted(task) => !refused.contains(&task.id),
            Record::Changed(changed) => !refused.contains(&changed.id),
            _ => true,
        });
        self.cleaning.not_stored();
        self.next = batch;
        let again = Gathered::again(records, under_way.then);
        self.gathered.push_front(again);
        under_way.accepted
    }

    /// Returns the tasks that were to be accepted with the batches that gather.
    pub fn take_accepted(&mut self) -> Vec<TaskId> {
        let batches = self.gathered.iter_mut();
        batches
            .flat_map(|it| std::mem::take(&mut it.accepted))
            .collect()
    }

    /// Notes that nothing can be stored. Returns whether that is new.
    pub fn fails(&mut self, now: Timestamp, reason: String) -> bool {
        let since = self.failure().map_or(now, |failure| failure.since);
        let new = matches!(self.health, Health::Good);
        self.health = Health::Failing {
            failure: StoreFailure { since, reason },
            again: now + TRY_AGAIN,
        };
        new
    }
}
