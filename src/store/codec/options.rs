//! How the options of a task and a failure are written.
//!
//! Owns: their form. Does not know: records.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Encoder, Flaw, Name, NameTable, newer};
use crate::retry::{Backoff, RetryPolicy};
use crate::status::{Cause, Failure};
use crate::task::{Due, Options, Priority, TaskKey};

#[derive(Serialize, Deserialize)]
pub(super) struct OptionsFields<'a> {
    priority: i8,
    /// From when on: after so long, or so long after the Unix epoch.
    due: Option<(u8, Duration)>,
    timeout: Option<Duration>,
    deadline: Option<Duration>,
    retry: Option<RetryFields>,
    #[serde(borrow)]
    labels: Vec<Name<'a>>,
    exclusive: bool,
    max_reroutes: Option<u32>,
    key: Option<&'a str>,
}

const AFTER: u8 = 0;
const AT: u8 = 1;

impl<'a> OptionsFields<'a> {
    pub fn of(options: &'a Options, encoder: &mut Encoder) -> Self {
        let labels = options.labels.iter().map(|label| encoder.name(label));
        Self {
            priority: options.priority.0,
            due: match options.due {
                Due::Now => None,
                Due::After(span) => Some((AFTER, span)),
                // What is before the epoch is due at once, as the epoch is.
                Due::At(time) => {
                    let since = time.duration_since(SystemTime::UNIX_EPOCH);
                    Some((AT, since.unwrap_or_default()))
                }
            },
            timeout: options.timeout,
            deadline: options.deadline,
            retry: options.retry.as_ref().map(RetryFields::of),
            labels: labels.collect(),
            exclusive: options.exclusive,
            max_reroutes: options.max_reroutes,
            key: options.key.as_ref().map(TaskKey::as_str),
        }
    }

    pub fn read(self, names: &mut NameTable<'a>) -> Result<Options, Flaw> {
        let label = |name| names.text(name).map(str::to_owned);
        Ok(Options {
            labels: self
                .labels
                .into_iter()
                .map(label)
                .collect::<Result<_, _>>()?,
            priority: Priority(self.priority),
            due: match self.due {
                None => Due::Now,
                Some((AFTER, span)) => Due::After(span),
                Some((AT, since)) => {
                    let time = SystemTime::UNIX_EPOCH.checked_add(since);
                    let strange = || Flaw::Malformed("a time that no clock shows".to_owned());
                    Due::At(time.ok_or_else(strange)?)
                }
                Some((unknown, _)) => return Err(newer("the kind of due time", unknown)),
            },
            timeout: self.timeout,
            deadline: self.deadline,
            retry: self.retry.map(RetryFields::read).transpose()?,
            exclusive: self.exclusive,
            max_reroutes: self.max_reroutes,
            key: self.key.map(TaskKey::new),
            // These stand beside the options.
            again_of: None,
            group: None,
            trace: None,
            trace_mode: None,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct RetryFields {
    backoff: u8,
    base: Duration,
    cap: Duration,
    limit: Option<u32>,
}

const FIXED: u8 = 0;
const EXPONENTIAL: u8 = 1;

impl RetryFields {
    pub fn of(retry: &RetryPolicy) -> Self {
        let (backoff, base, cap) = match retry.backoff() {
            Backoff::Fixed(delay) => (FIXED, delay, delay),
            Backoff::Exponential { base, cap } => (EXPONENTIAL, base, cap),
        };
        Self {
            backoff,
            base,
            cap,
            limit: retry.limit(),
        }
    }

    pub fn read(self) -> Result<RetryPolicy, Flaw> {
        let retry = match self.backoff {
            FIXED => RetryPolicy::fixed(self.base),
            EXPONENTIAL => RetryPolicy::exponential(self.base, self.cap),
            unknown => return Err(newer("the backoff", unknown)),
        };
        Ok(match self.limit {
            Some(limit) => retry.max_attempts(limit),
            None => retry.forever(),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct FailureFields<'a> {
    cause: u8,
    message: &'a str,
    place: Option<&'a str>,
}

impl<'a> FailureFields<'a> {
    pub fn of(failure: &'a Failure) -> Self {
        Self {
            cause: failure.cause.number(),
            message: &failure.message,
            place: failure.place.as_deref(),
        }
    }

    pub fn read(self) -> Result<Failure, Flaw> {
        let cause = Cause::numbered(self.cause);
        let cause = cause.ok_or_else(|| newer("the cause of a failure", self.cause))?;
        Ok(Failure::new(cause, self.message).raised_at(self.place.map(Into::into)))
    }
}
