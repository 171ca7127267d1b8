//! What a handler returns when it fails.
//!
//! Owns: the error and the advice that it carries. Does not know: retry policies.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::engine::worker::Tried;

/// Why a handler failed, and whether another attempt may do better.
///
/// `?` turns every [`std::error::Error`] into one that is retried as the task's policy says. That
/// is why this type is not an `Error` itself. The messages of the sources are joined: `a: b: c`.
///
/// ```
/// use callboard::handlers::TaskError;
///
/// async fn parse(text: String) -> Result<u64, TaskError> {
///     if text.is_empty() {
///         return Err(TaskError::permanent("there is nothing to parse"));
///     }
///     Ok(text.parse()?)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskError {
    message: String,
    advice: Advice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    Retry,
    RetryAfter(Duration),
    Permanent,
}

impl TaskError {
    /// Asks for another attempt; the task's policy says when and whether.
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(&*error.into(), Advice::Retry)
    }

    /// Asks for another attempt after this wait; the task's policy says only whether.
    pub fn retry_after(wait: Duration, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(&*error.into(), Advice::RetryAfter(wait))
    }

    /// Gives the task up: no other attempt would do better.
    pub fn permanent(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(&*error.into(), Advice::Permanent)
    }

    /// Returns the message, with those of the sources.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether it asks for no other attempt.
    pub fn is_permanent(&self) -> bool {
        self.advice == Advice::Permanent
    }

    /// Returns the wait that it asks for.
    pub fn wait(&self) -> Option<Duration> {
        match self.advice {
            Advice::RetryAfter(wait) => Some(wait),
            Advice::Retry | Advice::Permanent => None,
        }
    }

    pub(super) fn into_tried(self) -> Tried {
        match self.advice {
            Advice::Permanent => Tried::Permanent {
                message: self.message,
            },
            Advice::Retry | Advice::RetryAfter(_) => Tried::Error {
                after: self.wait(),
                message: self.message,
            },
        }
    }

    fn new(error: &dyn Error, advice: Advice) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors already end with the message of their source.
            if !message.ends_with(&text) {
                // Writing to a string cannot fail.
                let _ = write!(message, ": {text}");
            }
            source = error.source();
        }
        Self { message, advice }
    }
}

impl<E: Error + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::new(&error, Advice::Retry)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
