//! How this crate writes its log: through tracing, whose subscriber is code of others.
//!
//! Owns: that a subscriber which panics costs its line alone, on whatever thread the line is
//! written, and the span of an attempt. Does not know: what is said.
//!
//! A subscriber panics sooner than one thinks: one that writes to a pipe whose reader has gone
//! does.

use tracing::Span;

use crate::contain::{contained, shielded};
use crate::engine::message::End;
use crate::otel::attempt_ended;
use crate::panics::{Panic, contained_with_place};

/// Writes a line: `say!(warn: node, "node lost")` is `tracing::warn!(node, "node lost")`.
macro_rules! say {
    ($level:ident: $($line:tt)*) => {
        $crate::say::line(|| ::tracing::$level!($($line)*))
    };
}
pub(crate) use say;

/// Writes a line, which is lost if the subscriber panics. For [`say!`].
pub(crate) fn line(write: impl FnOnce()) {
    shielded(write);
}

/// The span of an attempt. If the subscriber panics, the attempt runs outside of it.
pub(crate) struct AttemptSpan(Span);

impl AttemptSpan {
    #[inline]
    pub(crate) fn new(make: impl FnOnce() -> Span) -> Self {
        Self(contained(make).unwrap_or_else(|_| Span::none()))
    }

    /// Runs what belongs to a user within the span: a panic of it costs nothing but its message.
    #[inline]
    pub(crate) fn contained<R>(&self, user: impl FnOnce() -> R) -> Result<R, Panic> {
        let entered = (!self.0.is_none()).then(|| contained(|| self.0.enter()));
        // The span is left after the user's panic was caught: a second one on its way out would
        // abort.
        let result = contained_with_place(user);
        if entered.is_some() {
            shielded(|| drop(entered));
        }
        result
    }
}

impl AttemptSpan {
    /// Notes how the attempt has ended.
    #[inline]
    pub(crate) fn end(&self, end: &End) {
        if !self.0.is_none() {
            shielded(|| attempt_ended(&self.0, end));
        }
    }
}

impl Clone for AttemptSpan {
    fn clone(&self) -> Self {
        Self::new(|| self.0.clone())
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        if !self.0.is_none() {
            let span = std::mem::replace(&mut self.0, Span::none());
            shielded(|| drop(span));
        }
    }
}
