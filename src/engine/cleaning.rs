//! Which part of a log is not needed any more, and what is written again so that more of it is not.
//!
//! Owns: what each batch that is kept has of living tasks, and the bounds on a log. Does not know:
//! what a task is, how records are encoded, or how a log drops its beginning.
//!
//! A log loses its beginning alone, up to any batch that has no living task: one that was accepted
//! there, is not over, and was not written again since. So one task that waits for a month would
//! keep a month of batches. When the log has grown beyond twice what lives, or is cut into too many
//! small batches, the living tasks of the oldest batches are written again with the next ones, and
//! the old ones go. That costs a bit a task, and for tasks that were written again about 30 bytes.
//!
//! What is dropped must have a [`Head`](Record::Head) after it, that says anew what is not said
//! task by task.

use std::collections::{BTreeMap, VecDeque};

use super::record::{FinalOutcome, Record};
use crate::task::{Options, TaskId};

mod living;
#[cfg(test)]
mod tests;

use living::Living;

/// How large a log may be beyond twice what lives in it.
pub const ROOM: u64 = 16 << 20;

/// How much is written again with one batch at most, but for a task that is larger.
pub const AGAIN: u64 = 1 << 20;

/// How many batches may be small.
pub const MAX_SMALL: usize = 4096;

/// Below how many bytes on average batches are small.
pub const SMALL: u64 = 16 << 10;

/// How much must be held by a head alone before another is asked for.
pub const WORTH_A_HEAD: u64 = 1 << 20;

/// The bookkeeping of one log, and what is to be done with it.
///
/// Whoever seals a batch asks [`plan`](Self::plan) first: it puts a head first into the batch if
/// that is wanted, appends what [`TaskFacts::rewritten`](super::ledger::TaskFacts::rewritten) gives
/// for each task to be written again, and drops the log before the batch that is named. It then
/// tells the records with [`sealed`](Self::sealed), and what became of them with
/// [`stored`](Self::stored) or [`not_stored`](Self::not_stored). [`over`](Self::over) is told of
/// each task whose ending was confirmed and whose key is free, once, or again, at any time from
/// when its last record was made.
///
/// A scheduler that starts tells each batch that is there with [`found`](Self::found), and then
/// which tasks live with [`keep`](Self::keep).
#[derive(Clone, Debug, Default)]
pub struct Cleaning {
    /// Those that are kept, oldest first, without gaps in their numbers.
    batches: VecDeque<Kept>,
    /// The bytes of all.
    bytes: u64,
    /// Of those the ones that living tasks take, by estimate.
    living: u64,
    /// The batch that has a task which was written again, and lives.
    moved: BTreeMap<TaskId, u64>,
    /// Ids from here on are in no batch that is stored.
    next: u64,
    /// The last batch that has a head.
    last_head: u64,
    under_way: Option<UnderWay>,
}

/// A batch that is kept.
#[derive(Clone, Debug)]
struct Kept {
    number: u64,
    bytes: u64,
    accepted: Living,
    /// Tasks that were written again here. Those that live are in `Cleaning::moved`, with this
    /// batch.
    again: Vec<TaskId>,
    again_living: usize,
    /// What one of its tasks takes, on average.
    each: u64,
}

/// A batch of which it is not known whether it is stored.
#[derive(Clone, Debug)]
struct UnderWay {
    told: Told,
    truncate: Option<u64>,
    /// Tasks that were over meanwhile.
    over: Vec<TaskId>,
}

/// What the records of a batch say.
#[derive(Clone, Debug)]
struct Told {
    number: u64,
    has_head: bool,
    accepted: Vec<TaskId>,
    again: Vec<TaskId>,
    each: u64,
}

/// What to do with the next batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Batches before this one are not needed any more, once the next one is stored.
    pub truncate: Option<u64>,
    /// Whether the next one is to begin with a head, so that more can be dropped.
    pub head: bool,
    /// Tasks that are to be written again in it.
    pub again: Vec<TaskId>,
}

impl Cleaning {
    /// Returns how many bytes the log has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many of them living tasks take, by estimate.
    pub fn living_bytes(&self) -> u64 {
        self.living.min(self.bytes)
    }

    /// Returns how many batches the log has.
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Returns what to do with the next batch. Nothing may be under way.
    pub fn plan(&self) -> Plan {
        let last_head = self.last_head;
        // The last batch stays in any case: the next one follows from it.
        let dead = self.batches.iter().take(self.batches.len().max(1) - 1);
        let (mut count, mut bytes, mut held) = (0, 0, 0);
        for batch in dead.take_while(|batch| batch.is_dead()) {
            count += 1;
            bytes += batch.bytes;
            held += batch.bytes * u64::from(batch.number >= last_head);
        }
        let first = self.batches.front().map_or(0, |batch| batch.number);
        let before = (first + count).min(last_head);
        let left = (self.bytes - bytes, self.batches.len() - count as usize);
        let again = if self.is_too_much(left) {
            self.oldest(count as usize)
        } else {
            Vec::new()
        };
        let held_batches = (first + count).saturating_sub(last_head.max(first));
        Plan {
            truncate: Some(before).filter(|&before| before > first),
            head: !again.is_empty() || held >= WORTH_A_HEAD || held_batches >= MAX_SMALL as u64 / 2,
            again,
        }
    }

    /// Takes the records of the next batch, which is under way from now on, and before which batch
    /// the log loses its beginning with it.
    pub fn sealed(&mut self, number: u64, records: &[Record], truncate: Option<u64>) {
        self.under_way = Some(UnderWay {
            told: Told::of(number, records, self.next),
            truncate,
            over: Vec::new(),
        });
    }

    /// The batch under way is stored, with so many bytes.
    pub fn stored(&mut self, bytes: u64) {
        let Some(batch) = self.under_way.take() else {
            return;
        };
        self.add(batch.told, bytes);
        for id in batch.over {
            self.over(id);
        }
        let before = batch.truncate.unwrap_or(0);
        while self.batches.front().is_some_and(|it| it.number < before) {
            let dropped = self.batches.pop_front();
            self.bytes -= dropped.map_or(0, |dropped| dropped.bytes);
        }
    }

    /// The batch under way is not there, and nothing was dropped with it.
    pub fn not_stored(&mut self) {
        self.under_way = None;
    }

    /// Nothing of a task is needed any more.
    pub fn over(&mut self, id: TaskId) {
        if let Some(batch) = &mut self.under_way {
            batch.over.push(id);
        }
        let number = self.moved.remove(&id);
        let Some(batch) = self.batch_of(id, number) else {
            return;
        };
        let lived = match number {
            Some(_) => {
                batch.again_living -= 1;
                true
            }
            None => batch.accepted.clear(id),
        };
        let each = batch.each;
        self.living -= each * u64::from(lived);
    }

    /// Takes a batch that a scheduler found when it started.
    pub fn found(&mut self, number: u64, records: &[Record], bytes: u64) {
        let told = Told::of(number, records, self.next);
        self.add(told, bytes);
    }

    /// Tells which of the tasks that were found live.
    pub fn keep(&mut self, lives: impl Fn(TaskId) -> bool) {
        let accepted = self.batches.iter().flat_map(|batch| batch.accepted.iter());
        let all = accepted.chain(self.moved.keys().copied());
        let gone: Vec<_> = all.filter(|&id| !lives(id)).collect();
        for id in gone {
            self.over(id);
        }
    }

    fn add(&mut self, told: Told, bytes: u64) {
        for &id in &told.again {
            self.over(id);
            self.moved.insert(id, told.number);
        }
        if told.has_head {
            self.last_head = told.number;
        }
        let batch = Kept {
            number: told.number,
            bytes,
            accepted: Living::new(&told.accepted, self.next),
            again_living: told.again.len(),
            again: told.again,
            each: told.each,
        };
        self.next = batch.accepted.end();
        self.living += batch.each * batch.living();
        self.bytes += bytes;
        self.batches.push_back(batch);
    }

    /// Returns the batch of this number, or else the one that a task was accepted in.
    fn batch_of(&mut self, id: TaskId, number: Option<u64>) -> Option<&mut Kept> {
        let at = match number {
            Some(number) => {
                let first = self.batches.front()?.number;
                usize::try_from(number.checked_sub(first)?).ok()?
            }
            None => self
                .batches
                .partition_point(|it| it.accepted.end() <= id.get()),
        };
        self.batches.get_mut(at)
    }

    fn is_too_much(&self, (bytes, batches): (u64, usize)) -> bool {
        let is_large = bytes > (2 * self.living).saturating_add(ROOM);
        is_large || (batches > MAX_SMALL && bytes / (batches as u64) < SMALL)
    }

    /// Returns the living tasks of the oldest batches but for the first dead ones.
    fn oldest(&self, dead: usize) -> Vec<TaskId> {
        let (mut again, mut bytes) = (Vec::new(), 0);
        for batch in self.batches.iter().skip(dead) {
            let here = |id: &&TaskId| self.moved.get(*id) == Some(&batch.number);
            let moved = batch.again.iter().filter(here).copied();
            for id in batch.accepted.iter().chain(moved) {
                bytes += batch.each;
                if bytes > AGAIN && !again.is_empty() {
                    again.sort_unstable();
                    return again;
                }
                again.push(id);
            }
        }
        again.sort_unstable();
        again
    }
}

impl Kept {
    fn living(&self) -> u64 {
        (self.accepted.count() + self.again_living) as u64
    }

    fn is_dead(&self) -> bool {
        self.living() == 0
    }
}

impl Told {
    /// Tasks from `next` on are new.
    fn of(number: u64, records: &[Record], next: u64) -> Self {
        let (mut accepted, mut again) = (Vec::new(), Vec::new());
        let (mut bytes, mut has_head) = (0, false);
        let mut last = None;
        for record in records {
            match record {
                Record::Head(_) => has_head = true,
                Record::Accepted(task) => {
                    last = Some(task.id);
                    let is_new = task.id.get() >= next;
                    if is_new { &mut accepted } else { &mut again }.push(task.id);
                    let options = task.options.as_deref().map_or(0, size_of_options);
                    bytes += 48 + task.kind.as_str().len() + task.args.len() + options;
                }
                // What follows of the same task was written again with it.
                Record::Changed(changed) if last == Some(changed.id) => {
                    let failure = changed.last_failure.as_ref();
                    bytes += 128 + failure.map_or(0, |failure| failure.message.len());
                }
                Record::Settled(ending) if last == Some(ending.id) => {
                    bytes += 128 + size_of_outcome(&ending.outcome);
                }
                _ => {}
            }
        }
        for ids in [&mut accepted, &mut again] {
            ids.sort_unstable();
            ids.dedup();
        }
        let tasks = accepted.len() + again.len();
        Self {
            number,
            has_head,
            accepted,
            again,
            each: bytes.div_ceil(tasks.max(1)) as u64,
        }
    }
}

fn size_of_outcome(outcome: &FinalOutcome) -> usize {
    match outcome {
        FinalOutcome::Completed(output) => output.len(),
        FinalOutcome::Failed(failure) => failure.message.len(),
        FinalOutcome::Cancelled => 0,
    }
}

/// At least what the options of a task take.
fn size_of_options(options: &Options) -> usize {
    let labels: usize = options.labels.iter().map(|label| label.len() + 5).sum();
    let key = options.key.as_ref().map_or(0, |key| key.as_str().len());
    128 + labels + key
}
