//! Which part of a log is not needed any more, and what is written again so that more of it can go.
//!
//! Owns: what each batch that is kept has of living tasks, and when a log is too large. Does not
//! know: what a task is, how records are encoded, or how a log drops its beginning.
//!
//! A log loses its beginning alone, up to any batch that has no living task: one that was accepted
//! there, is not over, and was not written again since. A task is over when its ending was
//! confirmed and its key is free, as the [`ledger`](super::ledger) says. So one task that waits for
//! a month would keep a month of batches. When the log has grown beyond twice what lives, or is cut
//! into too many small batches, the living tasks of the oldest batches are written again with the
//! next ones, and the old ones go. That costs a bit a task, and for tasks that were written again
//! about 30 bytes.
//!
//! What is dropped must have a [`Head`](Record::Head) after it, that says anew what is not said
//! task by task. That may be in the batch that drops it: both happen at once.

use std::collections::{BTreeMap, VecDeque};

use super::record::{FinalOutcome, Record};
use crate::task::{Options, TaskId};

mod bounds;
mod living;
#[cfg(test)]
mod tests;

pub use bounds::Bounds;
use living::Living;

/// The bookkeeping of one log, and what is to be done with it.
///
/// Whoever seals a batch asks [`plan`](Self::plan) first: it puts a head first into the batch if
/// that is wanted, appends what says anew all of each task to be written again, as it is then, and
/// drops the log before the batch that is named. A task that cannot be written again now is left
/// out. It then tells the records with [`sealed`](Self::sealed), and what became of them with
/// [`stored`](Self::stored) or [`not_stored`](Self::not_stored).
///
/// A scheduler that starts tells each batch that is there with [`found`](Self::found).
#[derive(Clone, Debug, Default)]
pub struct Cleaning {
    bounds: Bounds,
    /// The batches that are kept, oldest first, without gaps in their numbers.
    batches: VecDeque<Kept>,
    /// The bytes of all batches.
    bytes: u64,
    /// The bytes that living tasks take, by estimate.
    living: u64,
    /// For each living task that was written again, the batch where that was.
    moved: BTreeMap<TaskId, u64>,
    /// Tasks that have settled, and whose key is busy; and whether their ending is confirmed.
    busy: BTreeMap<TaskId, bool>,
    /// Ids from here on are in no batch that is stored.
    next: u64,
    /// The last batch that has a head.
    last_head: u64,
    under_way: Option<UnstoredBatch>,
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
struct UnstoredBatch {
    told: BatchFacts,
    truncate: Option<u64>,
}

/// What the records of a batch say.
#[derive(Clone, Debug)]
struct BatchFacts {
    number: u64,
    head: Option<ToldHead>,
    accepted: Vec<TaskId>,
    again: Vec<TaskId>,
    each: u64,
    ends: Vec<TaskEnd>,
}

/// What a head says of what was written before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldHead {
    /// All that was written before still holds.
    GoesOn,
    /// The log is a copy of another scheduler's, whose runs are not followed.
    Copied,
}

/// A step of a task towards being over.
#[derive(Clone, Copy, Debug)]
enum TaskEnd {
    /// The task has settled, and its key is busy.
    Busy(TaskId),
    /// The ending of the task is confirmed.
    Confirmed(TaskId),
    /// The key of the task is free.
    Freed(TaskId),
}

impl TaskEnd {
    fn task(self) -> TaskId {
        let (Self::Busy(id) | Self::Confirmed(id) | Self::Freed(id)) = self;
        id
    }
}

/// What the next batch is in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A batch like any other.
    Plain,
    /// A batch that begins with a head.
    Headed,
    /// The last but one of its term.
    LastButOne,
    /// The last of its term.
    Last,
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
    /// Returns the bookkeeping of an empty log that is to stay within these bounds.
    pub fn within(bounds: Bounds) -> Self {
        Self {
            bounds,
            ..Self::default()
        }
    }

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
    pub fn plan(&self, next: Next) -> Plan {
        let (mut count, mut bytes, mut held) = (0, 0, 0);
        for batch in self.batches.iter().take_while(|batch| batch.is_dead()) {
            count += 1;
            bytes += batch.bytes;
            held += batch.bytes * u64::from(batch.number >= self.last_head);
        }
        let first = self.batches.front().map_or(0, |batch| batch.number);
        let dead = first + count;
        let left = (self.bytes - bytes, self.batches.len() - count as usize);
        let again = match next {
            Next::Last => false,
            Next::LastButOne => self.is_too_much(left, self.bounds.last_room),
            Next::Plain | Next::Headed => self.is_too_much(left, self.bounds.room),
        };
        let again = match again {
            true => self.oldest(count as usize),
            false => Vec::new(),
        };
        let held_batches = dead.saturating_sub(self.last_head.max(first));
        let head = match next {
            Next::Headed => false,
            Next::Last => held >= self.bounds.worth_a_last_head,
            Next::Plain | Next::LastButOne => {
                // What is written again leaves the first batch of all that is not dead.
                let frees = !again.is_empty() && dead >= self.last_head;
                let many = held_batches >= self.bounds.max_small as u64 / 2;
                // If the log is too large, even a few bytes justify a head.
                let needed = held > 0 && self.is_large(self.bytes, self.bounds.room);
                frees || many || needed || held >= self.bounds.worth_a_head
            }
        };
        let before = match head || next == Next::Headed {
            true => dead,
            false => dead.min(self.last_head),
        };
        let before = match next {
            Next::Last => before,
            Next::Plain | Next::Headed | Next::LastButOne => self.dropped_at_once(before),
        };
        Plan {
            truncate: Some(before).filter(|&before| before > first),
            head,
            again,
        }
    }

    /// Takes the records of the next batch, which is under way from now on, and before which batch
    /// the log loses its beginning with it.
    pub fn sealed(&mut self, number: u64, records: &[Record], truncate: Option<u64>) {
        self.under_way = Some(UnstoredBatch {
            told: BatchFacts::of(number, records, self.next),
            truncate,
        });
    }

    /// Takes in that the batch under way is stored, with so many bytes.
    pub fn stored(&mut self, bytes: u64) {
        let Some(batch) = self.under_way.take() else {
            return;
        };
        self.add(batch.told, bytes);
        let before = batch.truncate.unwrap_or(0);
        while self.batches.front().is_some_and(|it| it.number < before) {
            let dropped = self.batches.pop_front();
            self.bytes -= dropped.map_or(0, |dropped| dropped.bytes);
        }
    }

    /// Takes in that the batch under way is not there, and that nothing was dropped with it.
    pub fn not_stored(&mut self) {
        self.under_way = None;
    }

    /// Takes a batch that a scheduler found when it started.
    pub fn found(&mut self, number: u64, records: &[Record], bytes: u64) {
        let told = BatchFacts::of(number, records, self.next);
        self.add(told, bytes);
    }

    fn add(&mut self, told: BatchFacts, bytes: u64) {
        for &id in &told.again {
            self.over(id);
            self.moved.insert(id, told.number);
        }
        if let Some(head) = told.head {
            self.last_head = told.number;
            if head == ToldHead::Copied {
                self.forget_runs();
            }
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
        for end in told.ends {
            self.end(end);
        }
    }

    fn end(&mut self, end: TaskEnd) {
        match end {
            TaskEnd::Busy(id) => _ = self.busy.entry(id).or_insert(false),
            TaskEnd::Confirmed(id) => match self.busy.get_mut(&id) {
                Some(confirmed) => *confirmed = true,
                None => self.over(id),
            },
            TaskEnd::Freed(id) => {
                if self.busy.remove(&id) == Some(true) {
                    self.over(id);
                }
            }
        }
    }

    /// Forgets what runs keep busy: the log goes on as another scheduler's, which follows none of
    /// them.
    fn forget_runs(&mut self) {
        for (id, confirmed) in std::mem::take(&mut self.busy) {
            if confirmed {
                self.over(id);
            }
        }
    }

    /// Notes that a task is over: nothing that was written of it is needed any more.
    fn over(&mut self, id: TaskId) {
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

    /// Returns whether anything is to be written again before a term ends.
    pub fn is_too_much_to_leave(&self) -> bool {
        let all = (self.bytes, self.batches.len());
        self.living > 0 && self.is_too_much(all, self.bounds.last_room)
    }

    fn is_too_much(&self, (bytes, batches): (u64, usize), room: u64) -> bool {
        let bounds = &self.bounds;
        self.is_large(bytes, room)
            || (batches > bounds.max_small && bytes / (batches as u64) < bounds.small)
    }

    fn is_large(&self, bytes: u64, room: u64) -> bool {
        bytes > (2 * self.living).saturating_add(room)
    }

    /// Returns before which batch the log is dropped with one batch, of what could be.
    fn dropped_at_once(&self, before: u64) -> u64 {
        let (mut count, mut bytes) = (0, 0);
        for batch in self.batches.iter().take_while(|it| it.number < before) {
            count += 1;
            bytes += batch.bytes;
            let fits = count <= self.bounds.dropped && bytes <= self.bounds.dropped_bytes;
            if count > 1 && !fits {
                return batch.number;
            }
        }
        before
    }

    /// Returns the living tasks of the oldest batches but for the first dead ones.
    fn oldest(&self, dead: usize) -> Vec<TaskId> {
        let (mut again, mut bytes) = (Vec::new(), 0);
        for batch in self.batches.iter().skip(dead) {
            let here = |id: &&TaskId| self.moved.get(*id) == Some(&batch.number);
            let moved = batch.again.iter().filter(here).copied();
            for id in batch.accepted.iter().chain(moved) {
                bytes += batch.each;
                if bytes > self.bounds.again && !again.is_empty() {
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

impl BatchFacts {
    /// Counts what the records of a batch say. Tasks from `next` on are new.
    fn of(number: u64, records: &[Record], next: u64) -> Self {
        let (mut accepted, mut again) = (Vec::new(), Vec::new());
        let (mut bytes, mut told_head, mut ends) = (0, None, Vec::new());
        let mut last = None;
        // What was said of a task before it is written again counts no more: whoever begins to
        // read here knows nothing of that.
        let mut anew = BTreeMap::new();
        for record in records {
            match record {
                Record::Head(head) => {
                    told_head = Some(match head.copied_from {
                        None => ToldHead::GoesOn,
                        Some(_) => ToldHead::Copied,
                    });
                }
                Record::Accepted(task) => {
                    last = Some(task.id);
                    if !ends.is_empty() {
                        anew.insert(task.id, ends.len());
                    }
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
                Record::Settled(ending) => {
                    if last == Some(ending.id) {
                        bytes += 128 + size_of_outcome(&ending.outcome);
                    }
                    if !ending.busy.is_empty() {
                        ends.push(TaskEnd::Busy(ending.id));
                    }
                }
                Record::Confirmed(ids) => ends.extend(ids.iter().copied().map(TaskEnd::Confirmed)),
                Record::Freed(id) => ends.push(TaskEnd::Freed(*id)),
                _ => {}
            }
        }
        let ends = ends.into_iter().enumerate();
        let ends = ends.filter(|(at, end)| anew.get(&end.task()).is_none_or(|first| at >= first));
        let ends = ends.map(|(_, end)| end).collect();
        for ids in [&mut accepted, &mut again] {
            ids.sort_unstable();
            ids.dedup();
        }
        let tasks = accepted.len() + again.len();
        Self {
            number,
            head: told_head,
            accepted,
            again,
            each: bytes.div_ceil(tasks.max(1)) as u64,
            ends,
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

/// Returns at least what the options of a task take.
fn size_of_options(options: &Options) -> usize {
    let labels: usize = options.labels.iter().map(|label| label.len() + 5).sum();
    let key = options.key.as_ref().map_or(0, |key| key.as_str().len());
    128 + labels + key
}
