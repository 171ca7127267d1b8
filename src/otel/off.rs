//! What stands for `otel` where that feature is off: the span of an attempt, without OpenTelemetry.
//!
//! Owns: the fields of that span. Does not know: traces, of which only the caller can tell here.

use tracing::Span;

use crate::engine::message::{Assignment, End};
use crate::task::{Options, TaskKind};

/// Returns none: nothing is captured.
#[inline]
pub(crate) fn options_here(_: &TaskKind) -> Option<Box<Options>> {
    None
}

/// Makes the span of an attempt.
#[inline]
pub(crate) fn attempt_span(assignment: &Assignment, kind: &TaskKind, _node: &str) -> Span {
    tracing::info_span!(
        "attempt",
        task = %assignment.task,
        kind = %kind,
        attempt = assignment.attempt,
        dispatch = %assignment.dispatch,
    )
}

/// Notes nothing.
#[inline]
pub(crate) fn attempt_ended(_: &Span, _: &End) {}
