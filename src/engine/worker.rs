//! The machine of one worker's try at a task: the verdict after each attempt.
//!
//! Owns: the rule from how a handler ended to what is reported. Does not know: handlers, clocks, chance.

use std::time::Duration;

use bytes::Bytes;

use super::message::End;
use crate::retry::RetryPolicy;
use crate::status::{Cause, Failure};

/// How a handler ended, as its worker saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It returned this encoded output.
    Output(Bytes),
    /// It returned an error; `after` is the wait it asked for.
    Error {
        /// What it said.
        message: String,
        /// The wait it asked for, if it did.
        after: Option<Duration>,
    },
    /// It returned an error and asked for no retry.
    Permanent {
        /// What it said.
        message: String,
    },
    /// It panicked.
    Panicked {
        /// What it said.
        message: String,
    },
    /// It did not end in time.
    TimedOut {
        /// The time it had.
        timeout: Duration,
    },
    /// Its args could not be decoded or its output not encoded: no other attempt will do better.
    Codec {
        /// What was wrong.
        message: String,
    },
}

/// One task's attempt under its policy.
#[derive(Clone, Copy, Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    attempt: u32,
    max_output: usize,
}

impl Attempts {
    /// Attempt number `attempt` (from 1) under `policy`, with outputs of at most `max_output` bytes.
    pub fn new(policy: RetryPolicy, attempt: u32, max_output: usize) -> Self {
        Self {
            policy,
            attempt,
            max_output,
        }
    }

    /// What to report. `jitter` is an even draw from all of `u64`.
    pub fn verdict(self, tried: Tried, jitter: u64) -> End {
        match tried {
            Tried::Output(output) if output.len() > self.max_output => self.retry(
                Failure::new(
                    Cause::OutputTooLarge,
                    format!(
                        "the output is {} bytes, more than the limit of {}; return a reference to it",
                        output.len(),
                        self.max_output
                    ),
                ),
                None,
                jitter,
            ),
            Tried::Output(output) => End::Completed(output),
            Tried::Error { message, after } => self.retry(Failure::new(Cause::Error, message), after, jitter),
            Tried::Permanent { message } => End::Failed(Failure::new(Cause::Permanent, message)),
            Tried::Panicked { message } => self.retry(Failure::new(Cause::Panic, message), None, jitter),
            Tried::TimedOut { timeout } => self.retry(
                Failure::new(Cause::Timeout, format!("the attempt took longer than {timeout:?}")),
                None,
                jitter,
            ),
            Tried::Codec { message } => End::Failed(Failure::new(Cause::Codec, message)),
        }
    }

    fn retry(self, failure: Failure, asked: Option<Duration>, jitter: u64) -> End {
        match self.policy.next_delay(self.attempt, jitter) {
            Some(delay) => End::Again {
                after: asked.unwrap_or(delay),
                failure,
            },
            None => End::Failed(failure),
        }
    }
}
