//! Spans for OpenTelemetry: one where a task is handed in, one for each attempt.
//!
//! Owns: what is captured and attached, and the names of attributes. Does not know: who collects
//! spans, or when an attempt is a part of its caller's trace (see [`trace`](crate::trace)). No
//! type of OpenTelemetry leaves it.

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::contain::contained;
use crate::engine::message::{Assignment, End};
use crate::task::{Options, TaskKind};
use crate::trace::{TraceContext, TraceParent};

/// Returns the options of a task of this kind that is handed in here: the context of a span made
/// for that, if the current span records.
#[inline]
pub(crate) fn options_here(kind: &TaskKind) -> Option<Box<Options>> {
    // What it asks is code of others.
    let captured = contained(|| {
        let current = Span::current();
        (!current.is_none()).then(|| capture_under(&current, kind))
    });
    let trace = captured.ok()???;
    let mut options = Box::<Options>::default();
    options.trace = Some(trace);
    Some(options)
}

#[cold]
fn capture_under(current: &Span, kind: &TaskKind) -> Option<TraceContext> {
    if !current.context().span().is_recording() {
        return None;
    }
    let span = tracing::info_span!(
        parent: current,
        "execute",
        "otel.name" = %format_args!("execute {kind}"),
        "otel.kind" = "producer",
        "messaging.system" = "callboard",
        "messaging.destination.name" = %kind,
        "messaging.operation.type" = "create",
    );
    // A filter may leave it out.
    let span = if span.is_disabled() { current } else { &span };
    text_of(span.context().span().span_context())
}

/// Makes the span of an attempt.
pub(crate) fn attempt_span(assignment: &Assignment, kind: &TaskKind, node: &str) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "attempt",
        task = %assignment.task,
        kind = %kind,
        attempt = assignment.attempt,
        dispatch = %assignment.dispatch,
        "otel.name" = %format_args!("process {kind}"),
        "otel.kind" = "consumer",
    );
    // Not fields, since each line that the handler logs would bear them. The layer takes the name
    // and the kind of a span from fields alone.
    span.set_attribute("messaging.system", "callboard");
    span.set_attribute("messaging.destination.name", kind.to_string());
    span.set_attribute("messaging.operation.type", "process");
    span.set_attribute("messaging.message.id", assignment.task.to_string());
    span.set_attribute("callboard.attempt", i64::from(assignment.attempt));
    span.set_attribute("callboard.dispatch", assignment.dispatch.to_string());
    span.set_attribute("callboard.node", node.to_owned());
    let trace = assignment.terms.as_ref();
    match trace.and_then(|terms| terms.trace.as_ref()) {
        Some(TraceParent::Child(context)) => {
            if let Some(context) = span_context(context) {
                // It fails where no layer of OpenTelemetry listens.
                _ = span.set_parent(Context::new().with_remote_span_context(context));
            }
        }
        Some(TraceParent::Link(context)) => {
            if let Some(context) = span_context(context) {
                span.add_link(context);
            }
        }
        None => {}
    }
    span
}

/// Notes in the span of an attempt why it failed, if it did.
pub(crate) fn attempt_ended(span: &Span, end: &End) {
    if let End::Failed(failure) | End::Again { failure, .. } = end {
        span.set_status(Status::error(""));
        span.set_attribute("error.type", failure.cause.to_string());
    }
}

fn text_of(context: &SpanContext) -> Option<TraceContext> {
    let (trace, span) = (context.trace_id(), context.span_id());
    let parent = format!("00-{trace:032x}-{span:016x}-{:02x}", context.trace_flags());
    TraceContext::new(&parent, &context.trace_state().header()).ok()
}

fn span_context(context: &TraceContext) -> Option<SpanContext> {
    // Checked when it was made: each part has its length.
    let mut parts = context.traceparent().split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let state: TraceState = context.tracestate().parse().unwrap_or_default();
    Some(SpanContext::new(
        trace,
        span,
        TraceFlags::new(flags),
        true,
        state,
    ))
}
