//! The spans that an application collects of its tasks, with the feature `otel`.
//!
//! One test, since a process has one subscriber that all of its threads see.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use callboard::trace::{TraceContext, TraceMode};
use callboard::{
    Execute, Handlers, Node, RetryPolicy, Scheduler, Shutdown, TaskContext, TaskError,
};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

/// Hands each span on when it ends.
#[derive(Debug)]
struct Ended(UnboundedSender<SpanData>);

impl SpanExporter for Ended {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        for span in spans {
            _ = self.0.send(span);
        }
        Ok(())
    }
}

/// Returns the spans of these names, as they end.
async fn next<const N: usize>(
    spans: &mut UnboundedReceiver<SpanData>,
    names: [&str; N],
) -> [SpanData; N] {
    let mut all = Vec::new();
    for name in names {
        let span = spans.recv().await.expect("spans are collected");
        assert_eq!(span.name, name);
        all.push(span);
    }
    all.try_into().unwrap()
}

fn is_root(span: &SpanData) -> bool {
    span.parent_span_id == SpanId::INVALID
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|it| it.key.as_str() == key)?;
    Some(found.value.to_string())
}

fn ids(context: &SpanContext) -> (String, String) {
    (
        context.trace_id().to_string(),
        context.span_id().to_string(),
    )
}

async fn plain(n: u32) -> Result<u32, TaskError> {
    Ok(n)
}

async fn flaky(n: u32, cx: TaskContext) -> Result<u32, TaskError> {
    match cx.attempt() {
        1 => Err(TaskError::retry("not yet")),
        _ => Ok(n),
    }
}

#[test]
fn an_attempt_is_a_part_of_its_callers_trace_or_links_to_it() {
    let (ended, mut spans) = unbounded_channel();
    let provider = SdkTracerProvider::builder();
    let provider = provider.with_simple_exporter(Ended(ended)).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::set_global_default(Registry::default().with(layer)).unwrap();
    actix_rt::System::new().block_on(async {
        let handlers = Handlers::new().on("plain", plain).on("flaky", flaky);
        let started = Scheduler::unnamed()
            .node(Node::local("here", handlers))
            .no_client()
            .retry(RetryPolicy::fixed(Duration::from_millis(1)))
            .start();
        let scheduler = started.await.unwrap();
        let run = async |execute| scheduler.execute_and_wait(execute).await.unwrap();

        let request = tracing::info_span!("request");
        let execute = request.in_scope(|| Execute::named("flaky", &1u32).unwrap());
        let status = run(execute).await;
        let names = ["execute flaky", "process flaky", "process flaky"];
        let [handed_in, first, second] = next(&mut spans, names).await;
        drop(request);
        let [request] = next(&mut spans, ["request"]).await;
        assert_eq!(handed_in.parent_span_id, request.span_context.span_id());
        assert_eq!(handed_in.span_kind, SpanKind::Producer);
        assert_eq!(first.span_kind, SpanKind::Consumer);
        let (trace, span) = ids(&handed_in.span_context);
        assert_eq!(first.span_context.trace_id().to_string(), trace);
        assert_eq!(first.parent_span_id.to_string(), span);
        assert!(first.links.is_empty() && first.parent_span_is_remote);
        assert_eq!(first.status, Status::error(""));
        assert_eq!(attribute(&first, "error.type").as_deref(), Some("error"));
        for (key, value) in [
            ("messaging.system", "callboard"),
            ("messaging.destination.name", "flaky"),
            ("messaging.operation.type", "process"),
            ("messaging.message.id", &status.id.to_string()),
            ("callboard.node", "here"),
            ("callboard.attempt", "1"),
        ] {
            assert_eq!(attribute(&first, key).as_deref(), Some(value), "{key}");
        }
        // The retry begins a trace of its own.
        assert!(is_root(&second) && second.span_context.trace_id().to_string() != trace);
        let links: Vec<_> = second
            .links
            .iter()
            .map(|it| ids(&it.span_context))
            .collect();
        assert_eq!(links, [(trace, span)]);
        assert_eq!(
            (&second.status, attribute(&second, "error.type")),
            (&Status::Unset, None)
        );

        // Nobody has a span here.
        run(Execute::named("plain", &1u32).unwrap()).await;
        let [alone] = next(&mut spans, ["process plain"]).await;
        assert!(is_root(&alone) && alone.links.is_empty());

        let request = tracing::info_span!("request");
        let execute = request.in_scope(|| Execute::named("plain", &1u32).unwrap());
        run(execute.trace_mode(TraceMode::Off)).await;
        let [_, hidden] = next(&mut spans, ["execute plain", "process plain"]).await;
        assert!(is_root(&hidden) && hidden.links.is_empty());
        drop(request);
        next(&mut spans, ["request"]).await;

        // The caller traces by other means.
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::new(parent, "vendor=value").unwrap();
        run(Execute::named("plain", &1u32).unwrap().trace(context)).await;
        let [child] = next(&mut spans, ["process plain"]).await;
        assert_eq!(child.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert_eq!(child.span_context.trace_state().header(), "vendor=value");

        scheduler.shutdown(Shutdown::Now).await.unwrap();
    });
}
