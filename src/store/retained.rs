//! What is kept of tasks that have settled, as bytes, and how it is found again.
//!
//! Owns: the form, and what a filter lets through. Does not know: where it is kept.
//!
//! One task is, with big-endian numbers:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | CRC-32 of all that follows |
//! | 4 | how it ended: 0 completed, 1 failed, 2 cancelled |
//! | 5..13 | when, in nanoseconds since the Unix epoch |
//! | 13..15 | the length of its key, 65,535 if it has none; then the key |
//! | rest | a batch of one record, as [`codec`](super::codec) writes it |

use std::sync::Arc;
use std::time::SystemTime;

use super::codec::{self, Encoder, Flaw};
use super::{KeptEnding, LogError, Snapshot};
use crate::engine::Timestamp;
use crate::engine::keep::Ended;
use crate::engine::record::{FinalOutcome, Record, RetainedTask};
use crate::status::TaskStatus;
use crate::task::{TaskId, TaskKey, TaskKind};

const HEAD: usize = 15;
const NO_KEY: u16 = u16::MAX;

/// Returns a task as it is kept.
pub fn kept(task: &RetainedTask) -> KeptEnding {
    let options = task.accepted.options.as_deref();
    let key = options.and_then(|options| options.key.clone());
    let ended = Ended::of(&task.ending.outcome);
    let text = key.as_ref().map_or("", |key| key.as_str());
    // An accepted key is much shorter.
    let length = u16::try_from(text.len()).unwrap_or(NO_KEY);
    let mut bytes = vec![0; 4];
    bytes.push(ended.number());
    bytes.extend(task.ending.at.0.to_be_bytes());
    bytes.extend(key.as_ref().map_or(NO_KEY, |_| length).to_be_bytes());
    if length < NO_KEY {
        bytes.extend(text.as_bytes());
    }
    let mut encoder = Encoder::after(bytes);
    encoder.record(&Record::Retained(Box::new(task.clone())));
    let mut bytes = encoder.into_bytes();
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_be_bytes());
    KeptEnding {
        id: task.accepted.id,
        ended,
        at: task.ending.at,
        key,
        bytes: bytes.into(),
    }
}

/// What the beginning of one says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label<'a> {
    /// See [`Ended::number`].
    pub ended: u8,
    pub at: u64,
    pub key: Option<&'a str>,
    record: &'a [u8],
}

/// Reads the beginning; `None` if it cannot be read. The checksum is not looked at.
pub(super) fn label(bytes: &[u8]) -> Option<Label<'_>> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let number = |from: usize, to: usize| {
        let of = &head[from..to];
        of.iter()
            .fold(0, |all: u64, &byte| all << 8 | u64::from(byte))
    };
    let length = number(13, 15);
    let (key, record) = if length == u64::from(NO_KEY) {
        (None, rest)
    } else {
        let (key, record) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        (Some(std::str::from_utf8(key).ok()?), record)
    };
    Some(Label {
        ended: head[4],
        at: number(5, 13),
        key,
        record,
    })
}

/// Reads one.
///
/// # Errors
///
/// It is damaged, or a later version has written it.
pub fn read(bytes: &[u8]) -> Result<RetainedTask, LogError> {
    let damaged = |what: &str| LogError::Damaged {
        batch: 0,
        what: format!("what is kept of a task that has settled {what}"),
    };
    let sum = bytes.first_chunk().map(|sum| u32::from_be_bytes(*sum));
    let Some((sum, label)) = sum.zip(label(bytes)) else {
        return Err(damaged("is cut short"));
    };
    if sum != crc32fast::hash(&bytes[4..]) {
        return Err(damaged("has a wrong checksum"));
    }
    let records = codec::decode(label.record).map_err(|flaw| match flaw {
        Flaw::Newer(what) => LogError::Newer(what),
        Flaw::Malformed(what) => damaged(&format!("cannot be read: {what}")),
    })?;
    match <[Record; 1]>::try_from(records) {
        Ok([Record::Retained(task)]) => Ok(*task),
        _ => Err(damaged("is another record")),
    }
}

/// Returns what is kept of a task.
///
/// # Errors
///
/// It cannot be read.
pub fn find(from: &dyn Snapshot, id: TaskId) -> Result<Option<RetainedTask>, LogError> {
    from.kept(id)?.map(|bytes| read(&bytes)).transpose()
}

/// Returns what is kept of the last task with this key that has settled.
///
/// # Errors
///
/// It cannot be read.
pub fn find_by_key(from: &dyn Snapshot, key: &TaskKey) -> Result<Option<RetainedTask>, LogError> {
    from.kept_by_key(key)?.map(|bytes| read(&bytes)).transpose()
}

/// Chooses among the tasks that a store keeps: those that have failed, unless another outcome is
/// named.
///
/// ```
/// use callboard::SettledFilter;
/// use std::time::{Duration, SystemTime};
///
/// let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
/// let filter = SettledFilter::default().kind("mail").message("refused").since(yesterday);
/// assert!(!filter.means_all());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct SettledFilter {
    ended: Ended,
    kind: Option<TaskKind>,
    message: Option<String>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
}

impl Default for SettledFilter {
    fn default() -> Self {
        Self {
            ended: Ended::Failed,
            kind: None,
            message: None,
            since: None,
            until: None,
        }
    }
}

impl SettledFilter {
    /// Chooses those with this outcome, instead of those that have failed.
    ///
    /// ```
    /// use callboard::{Ended, SettledFilter};
    ///
    /// let cancelled = SettledFilter::default().ended(Ended::Cancelled).kind("mail");
    /// # assert!(!cancelled.means_all());
    /// ```
    pub fn ended(mut self, ended: Ended) -> Self {
        self.ended = ended;
        self
    }

    /// Leaves out those of another kind.
    pub fn kind(mut self, kind: impl Into<TaskKind>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Leaves out those whose failure does not have this in its message.
    pub fn message(mut self, part: impl Into<String>) -> Self {
        self.message = Some(part.into());
        self
    }

    /// Leaves out those that settled before this time.
    pub fn since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// Leaves out those that settled at this time or later.
    ///
    /// ```
    /// use callboard::SettledFilter;
    /// use std::time::{Duration, SystemTime};
    ///
    /// // Of an outage that began three hours ago and lasted two.
    /// let hour = Duration::from_secs(3600);
    /// let began = SystemTime::now() - 3 * hour;
    /// let failed = SettledFilter::default().since(began).until(began + 2 * hour);
    /// # assert!(!failed.means_all());
    /// ```
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }

    /// Returns whether all with this outcome pass.
    pub fn means_all(&self) -> bool {
        *self == Self::default().ended(self.ended)
    }

    fn lets_through(&self, task: &RetainedTask) -> bool {
        let settled = task.ending.at.to_system_time();
        let has_kind = self
            .kind
            .as_ref()
            .is_none_or(|kind| *kind == task.accepted.kind);
        let says = |part: &String| match &task.ending.outcome {
            FinalOutcome::Failed(failure) => failure.message.contains(part.as_str()),
            _ => false,
        };
        has_kind
            && self.message.as_ref().is_none_or(says)
            && self.until.is_none_or(|until| settled < until)
    }
}

/// Where a page ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    at: Timestamp,
    id: TaskId,
}

/// Some of the chosen tasks, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<RetainedTask>,
    /// Where the next page begins; `None` if there is none.
    pub next: Option<Cursor>,
}

/// Returns at most so many tasks, newest first: the first of all, or those after a cursor.
///
/// # Errors
///
/// One cannot be read.
pub fn page(
    from: &dyn Snapshot,
    filter: &SettledFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, LogError> {
    let mut page = Page {
        tasks: Vec::new(),
        next: None,
    };
    let mut last = None;
    let before = after.map(|cursor| (cursor.at, cursor.id));
    from.each_kept(filter.ended, before, &mut |bytes| {
        if page.tasks.len() >= limit {
            page.next = last;
            return Ok(false);
        }
        let task = read(bytes)?;
        let (at, id) = (task.ending.at, task.accepted.id);
        if filter
            .since
            .is_some_and(|since| at.to_system_time() < since)
        {
            return Ok(false);
        }
        last = Some(Cursor { at, id });
        if filter.lets_through(&task) {
            page.tasks.push(task);
        }
        Ok(true)
    })?;
    Ok(page)
}

/// Gives every task that a filter means, newest first.
fn each(
    from: &dyn Snapshot,
    filter: &SettledFilter,
    each: &mut dyn FnMut(RetainedTask),
) -> Result<(), LogError> {
    from.each_kept(filter.ended, None, &mut |bytes| {
        let task = read(bytes)?;
        let at = task.ending.at.to_system_time();
        if filter.since.is_some_and(|since| at < since) {
            return Ok(false);
        }
        if filter.lets_through(&task) {
            each(task);
        }
        Ok(true)
    })
}

/// Returns the ids of all tasks that a filter means.
///
/// # Errors
///
/// One cannot be read.
pub fn ids(from: &dyn Snapshot, filter: &SettledFilter) -> Result<Vec<TaskId>, LogError> {
    let mut ids = Vec::new();
    each(from, filter, &mut |task| ids.push(task.accepted.id))?;
    Ok(ids)
}

/// How much a filter means.
#[cfg(feature = "dashboard")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// How many tasks.
    pub tasks: usize,
    /// Of which kinds.
    pub kinds: std::collections::BTreeSet<TaskKind>,
    /// When the oldest of them has settled.
    pub oldest: Option<SystemTime>,
}

/// Counts what a filter means.
///
/// # Errors
///
/// One cannot be read.
#[cfg(feature = "dashboard")]
pub fn survey(from: &dyn Snapshot, filter: &SettledFilter) -> Result<Survey, LogError> {
    let mut survey = Survey::default();
    each(from, filter, &mut |task| {
        survey.tasks += 1;
        survey.oldest = Some(task.ending.at.to_system_time());
        survey.kinds.insert(task.accepted.kind);
    })?;
    Ok(survey)
}

/// Returns the status that was told of a task.
pub fn status(task: RetainedTask, scheduler: Arc<str>) -> TaskStatus {
    TaskStatus::new(task.into_ending(scheduler))
}
