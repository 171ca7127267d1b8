//! The facts of one batch, and what follows when it is stored.
//!
//! Owns: how much a batch takes. Does not know: which batch is next, or when it is sealed.

use std::collections::BTreeSet;

use super::Journal;
use crate::engine::Timestamp;
use crate::engine::ids::NodeIndex;
use crate::engine::record::{Record, Reserved};
use crate::task::{Dispatch, TaskId};

/// How large a batch may become: a larger one would hold up whoever waits for its first fact.
const MAX_BYTES: usize = 8 << 20;
/// How many facts it may have.
const MAX_FACTS: usize = 65_536;
/// About what a record takes beside its bodies.
pub(super) const RECORD_BYTES: usize = 64;

/// Facts that go into one batch. Tasks that go on are named, and written as they are at the seal.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Records of a batch that was not stored, then those that are written once, in order.
    pub records: Vec<Record>,
    pub accepted: Vec<TaskId>,
    pub changed: Vec<TaskId>,
    pub placed: Vec<TaskId>,
    pub confirmed: Vec<TaskId>,
    /// What follows when it is stored.
    pub then: OnceStored,
    pub(super) facts: usize,
    pub(super) bytes: usize,
    /// When it is to be sealed; `None` while there is nothing in it.
    pub(super) due: Option<Timestamp>,
}

/// What follows when a batch is stored.
#[derive(Debug, Default)]
pub(crate) struct OnceStored {
    /// Assignments are sent.
    pub staged: Vec<(TaskId, Dispatch)>,
    /// Reports of these nodes may be acknowledged.
    pub reported: Vec<NodeIndex>,
}

/// The batch that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub batch: u64,
    pub accepted: Vec<TaskId>,
    pub then: OnceStored,
    /// What may be given out once it is stored.
    pub reserved: Reserved,
    /// How many of its records, the last ones, say anew what another batch has.
    pub again: usize,
}

impl Gathered {
    /// Returns the records of a batch that was not stored, to be tried again. Nothing is added.
    pub fn again(records: Vec<Record>, then: OnceStored) -> Self {
        Self {
            facts: records.len(),
            bytes: MAX_BYTES,
            records,
            then,
            due: Some(Timestamp(0)),
            ..Self::default()
        }
    }

    /// Returns whether nothing has gathered.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns whether a fact of so many bytes goes into the batch after it.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.facts >= MAX_FACTS || (self.facts > 0 && self.bytes + bytes > MAX_BYTES)
    }

    /// Takes room for a fact of so many bytes.
    pub fn count(&mut self, bytes: usize) {
        self.facts += 1;
        self.bytes += bytes;
    }
}

impl Journal {
    /// Moves into the next batch how tasks have ended that were to be written there as they go on:
    /// what was promised with it holds then, though they have settled meanwhile.
    pub fn settle_early(&mut self, is_over: impl Fn(TaskId) -> bool) {
        let gathered = self.gathered.make_contiguous();
        let Some((first, later)) = gathered.split_first_mut().filter(|it| !it.1.is_empty()) else {
            return;
        };
        let changed = first.changed.iter().copied();
        let over: BTreeSet<_> = changed.filter(|&id| is_over(id)).collect();
        let ends = |record: &mut Record| match record {
            Record::Settled(ending) => over.contains(&ending.id),
            _ => false,
        };
        for batch in later {
            first.records.extend(batch.records.extract_if(.., ends));
        }
    }

    /// Returns the number of the batch that takes a fact now for which somebody waits.
    pub fn firm_batch(&mut self, now: Timestamp) -> u64 {
        self.firm(now, 0);
        self.firm
    }
}
