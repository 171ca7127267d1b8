//! The machine of one worker's try at a task: the verdict after each attempt.
//!
//! Owns: the rule from how a handler ended to what is reported. Does not know: handlers, clocks,
//! chance.

use std::time::Duration;

use super::message::End;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::status::{Cause, Failure};

/// How a handler ended, as its worker saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The handler returned this encoded output.
    Output(Payload),
    /// The handler returned an error; `after` is the wait it asked for.
    Error {
        /// What it said.
        message: String,
        /// The wait it asked for, if it did.
        after: Option<Duration>,
    },
    /// The handler returned an error and asked for no retry.
    Permanent {
        /// What it said.
        message: String,
    },
    /// The handler panicked.
    Panicked {
        /// What it said.
        message: String,
        /// Where in the code, as file and line, if that is known.
        place: Option<Box<str>>,
    },
    /// The handler did not end in time.
    TimedOut {
        /// The time it had.
        timeout: Duration,
    },
    /// The args could not be decoded or the output not encoded: no other attempt will do better.
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
    /// Makes attempt number `attempt` (from 1) under `policy`, with outputs of at most `max_output`
    /// bytes.
    pub fn new(policy: RetryPolicy, attempt: u32, max_output: usize) -> Self {
        Self {
            policy,
            attempt,
            max_output,
        }
    }

    /// Returns what to report. `jitter` is asked for an even draw from all of `u64` where it
    /// matters.
    #[inline]
    pub fn verdict(self, tried: Tried, jitter: impl FnOnce() -> u64) -> End {
        match tried {
            Tried::Output(output) if output.len() <= self.max_output => End::Completed(output),
            tried => self.failed(tried, jitter()),
        }
    }

    fn failed(self, tried: Tried, jitter: u64) -> End {
        match tried {
            Tried::Output(output) => self.retry(
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
            Tried::Error { message, after } => self.retry(Failure::new(Cause::Error, message), after, jitter),
            Tried::Permanent { message } => End::Failed(Box::new(Failure::new(Cause::Permanent, message))),
            Tried::Panicked { message, place } => {
                let failure = Failure::new(Cause::Panic, message).raised_at(place);
                self.retry(failure, None, jitter)
            }
            Tried::TimedOut { timeout } => self.retry(
                Failure::new(Cause::Timeout, format!("the attempt took longer than {timeout:?}")),
                None,
                jitter,
            ),
            Tried::Codec { message } => End::Failed(Box::new(Failure::new(Cause::Codec, message))),
        }
    }

    fn retry(self, failure: Failure, asked: Option<Duration>, jitter: u64) -> End {
        match self.policy.next_delay(self.attempt, jitter) {
            Some(delay) => End::Again {
                after: asked.unwrap_or(delay),
                failure: Box::new(failure),
            },
            None => End::Failed(Box::new(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: u64 = 1 << 63;

    fn attempts(policy: RetryPolicy, attempt: u32) -> Attempts {
        Attempts::new(policy, attempt, 10)
    }

    fn error(after: Option<Duration>) -> Tried {
        let message = "no".to_owned();
        Tried::Error { message, after }
    }

    fn cause(end: &End) -> Option<Cause> {
        match end {
            End::Failed(failure) | End::Again { failure, .. } => Some(failure.cause),
            _ => None,
        }
    }

    #[test]
    fn an_output_within_the_limit_completes() {
        let output = Payload::from(&[0; 10]);
        let end =
            attempts(RetryPolicy::default(), 1).verdict(Tried::Output(output.clone()), || EVEN);
        assert_eq!(end, End::Completed(output));
    }

    #[test]
    fn g7_failures_are_told_apart_and_tried_again() {
        let message = || "no".to_owned();
        let timeout = Duration::from_secs(1);
        let all = [
            (error(None), Cause::Error),
            (
                Tried::Panicked {
                    message: message(),
                    place: None,
                },
                Cause::Panic,
            ),
            (Tried::TimedOut { timeout }, Cause::Timeout),
            (
                Tried::Output(Payload::from(&[0; 11])),
                Cause::OutputTooLarge,
            ),
        ];
        for (tried, expected) in all {
            let policy = RetryPolicy::default();
            let end = attempts(policy, 1).verdict(tried.clone(), || EVEN);
            assert_eq!(cause(&end), Some(expected));
            assert!(matches!(end, End::Again { after, .. } if after == RetryPolicy::DEFAULT_DELAY));
            let end = attempts(policy, 10).verdict(tried, || EVEN);
            assert_eq!(cause(&end), Some(expected));
            assert!(matches!(end, End::Failed(_)), "the tenth try is the last");
        }
    }

    #[test]
    fn what_no_other_attempt_can_mend_fails_at_once() {
        let message = || "no".to_owned();
        let all = [
            (Tried::Permanent { message: message() }, Cause::Permanent),
            (Tried::Codec { message: message() }, Cause::Codec),
        ];
        for (tried, expected) in all {
            let end = attempts(RetryPolicy::default().forever(), 1).verdict(tried, || EVEN);
            assert!(matches!(&end, End::Failed(failure) if failure.cause == expected));
        }
    }

    #[test]
    fn the_wait_that_a_handler_asks_for_stands_and_its_attempt_counts() {
        let asked = Some(Duration::from_secs(77));
        let policy = RetryPolicy::default().max_attempts(2);
        let end = attempts(policy, 1).verdict(error(asked), || EVEN);
        assert!(matches!(end, End::Again { after, .. } if Some(after) == asked));
        let end = attempts(policy, 2).verdict(error(asked), || EVEN);
        assert!(matches!(end, End::Failed(_)));
    }

    #[test]
    fn g11_a_long_message_is_cut() {
        let message = "ä".repeat(Failure::MAX_MESSAGE);
        let end = attempts(RetryPolicy::none(), 1).verdict(
            Tried::Panicked {
                message,
                place: None,
            },
            || EVEN,
        );
        let End::Failed(failure) = end else {
            panic!("{end:?}")
        };
        assert!(failure.message.len() <= Failure::MAX_MESSAGE);
    }
}
