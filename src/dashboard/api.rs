//! The JSON API.
//!
//! Owns: what each address answers, as JSON and as events. Does not know: who may ask.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Access;
use super::asked::Asked;
use super::failures::{self, groups};
use super::looking::{Known, find, known};
use super::pages::kinds::rows;
use super::shown::redacted;
use super::text::ending;
use super::watch::Moment;
use super::wrong::Wrong;
use crate::prometheus;
use crate::stats::MetricsDetail;
use crate::status::{Outcome, TaskStatus};
use crate::task::{TaskId, TaskKind};

/// How many failures and tasks a page has at most, and if nothing is said.
const MAX_FAILURES: usize = 1000;
const MAX_TASKS: usize = 1000;

/// Answers with JSON.
pub fn answer(value: &Value) -> HttpResponse {
    json_of(value.to_string().into())
}

fn json_of(body: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(body)
}

/// Answers what was not served.
pub fn wrong(wrong: &Wrong) -> HttpResponse {
    HttpResponse::build(wrong.status).json(json!({ "error": wrong.words }))
}

/// Answers with what the dashboard shows, and what the asker may do there.
pub fn board(asked: &Asked<'_>) -> HttpResponse {
    let watches = asked.board.watches.iter();
    let schedulers: Vec<_> = watches
        .map(|watch| watch.scheduler().name().to_owned())
        .collect();
    let title = asked.board.title.as_ref().map(|(title, _)| title);
    answer(&json!({
        "callboard": env!("CARGO_PKG_VERSION"),
        "title": title,
        "schedulers": schedulers,
        "access": asked.access.name(),
    }))
}

/// Answers with the snapshot: what `Scheduler::stats` gives, what is wrong, what operators did.
///
/// # Errors
///
/// The scheduler has stopped or does not answer.
pub async fn stats(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    Ok(json_of(asked.watch.moment().await?.json()))
}

/// Answers with the nodes.
///
/// # Errors
///
/// As for [`stats`].
pub async fn nodes(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let moment = asked.watch.moment().await?;
    Ok(answer(&json!({ "nodes": moment.snapshot.stats.nodes })))
}

/// Answers with all that is measured, as Prometheus reads it.
///
/// # Errors
///
/// As for [`stats`].
pub async fn metrics(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let moment = asked.watch.moment().await?;
    let text = prometheus::write(&moment.snapshot, MetricsDetail::Totals);
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text))
}

/// Answers with what is known of one task: why it is where it is, or how it ended.
///
/// # Errors
///
/// There is none, or the scheduler has stopped.
pub async fn task(asked: &Asked<'_>, id: TaskId) -> Result<HttpResponse, Wrong> {
    let told = match known(asked, id).await? {
        Known::Unfinished {
            task,
            args,
            explanation,
        } => {
            let mut told = json!({ "task": task, "explanation": explanation });
            told["trail"] = trail(asked, id, &task.kind).await?;
            if asked.access >= Access::Full {
                told["args"] = redacted(asked.board, &task.kind, &args);
            }
            told
        }
        Known::Settled(status) => {
            let mut told = settled(&status);
            told["trail"] = trail(asked, id, &status.kind).await?;
            if asked.access >= Access::Full {
                told["args"] = redacted(asked.board, &status.kind, &status.args);
                if let Outcome::Completed(output) = &status.outcome {
                    told["output"] = redacted(asked.board, &status.kind, output);
                }
            }
            told
        }
    };
    Ok(answer(&told))
}

/// Returns the trail of a task, without what the application wants nobody to read.
async fn trail(asked: &Asked<'_>, id: TaskId, kind: &TaskKind) -> Result<Value, Wrong> {
    let trail = asked.watch.scheduler().trail(id).await?;
    let progress = trail.progress.map(|progress| {
        json!({
            "dispatch": progress.dispatch,
            "at": progress.at,
            "value": redacted(asked.board, kind, &progress.value),
        })
    });
    Ok(json!({ "attempts": trail.attempts, "notes": trail.notes, "progress": progress }))
}

/// Returns how a task ended, without its args and output.
fn settled(status: &TaskStatus) -> Value {
    let failure = match &status.outcome {
        Outcome::Failed(failure) => Some(failure),
        _ => None,
    };
    json!({
        "id": status.id,
        "kind": status.kind,
        "key": status.key,
        "outcome": ending(&status.outcome),
        "failure": failure,
        "node": status.node,
        "attempts": status.attempts,
        "reroutes": status.reroutes,
        "again_of": status.again_of(),
        "accepted_at": status.accepted_at,
        "started_at": status.started_at,
        "settled_at": status.settled_at,
    })
}

/// Answers with the failed tasks that the store keeps, newest first, and in groups.
///
/// # Errors
///
/// The scheduler has no store, it cannot be read, or the request cannot be understood.
pub async fn failures(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let limit = asked.query.number("limit")?.unwrap_or(MAX_FAILURES);
    let _turn = asked.watch.turn().await;
    let limit = limit.clamp(1, MAX_FAILURES);
    let filter = failures::filter(&asked.query)?;
    let scheduler = asked.watch.scheduler();
    let page = scheduler.settled_page(filter, None, limit).await?;
    let all: Vec<_> = page.statuses.iter().map(settled).collect();
    let groups = groups(&page.statuses);
    Ok(answer(&json!({ "failures": all, "groups": groups })))
}

/// Answers with a page of unfinished tasks.
///
/// # Errors
///
/// The search cannot be understood, or the scheduler has stopped.
pub async fn tasks(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let limit = asked.query.number("limit")?.unwrap_or(MAX_TASKS);
    let page = find(asked, limit.clamp(1, MAX_TASKS)).await?;
    Ok(answer(&json!(page)))
}

/// Answers with how far each cancel of all that match is.
pub fn sweeps(asked: &Asked<'_>) -> HttpResponse {
    answer(&json!({ "sweeps": asked.watch.sweeps.progress() }))
}

/// Answers with the kinds.
///
/// # Errors
///
/// As for [`stats`].
pub async fn kinds(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let moment = asked.watch.moment().await?;
    let rows = rows(&moment.snapshot);
    let all: Vec<_> = rows
        .iter()
        .map(|(kind, row)| {
            json!({
                "kind": kind,
                "nodes": row.offered,
                "paused": row.paused,
                "closed": row.closed,
                "limit": row.limit,
                "due": row.metrics.map(|it| it.pending),
                "oldest_due_seconds": row.metrics.map(|it| it.oldest_due.as_secs_f64()),
                "running": row.metrics.map(|it| it.running),
                "due_by_priority": row.metrics.map(|it| &it.by_priority),
                "failed": row.metrics.map(|it| it.counts.failed()),
                "failed_lately": row.metrics.map(|it| {
                    moment.before.since(kind, it.counts.failed())
                }),
            })
        })
        .collect();
    Ok(answer(&json!({
        "kinds": all,
        "failed_lately_seconds": moment.before.seconds,
    })))
}

/// Answers with a snapshot now, and then one a second, for as long as the asker listens.
///
/// # Errors
///
/// As for [`stats`], or as many listen as may.
pub async fn events(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let mut moments = asked.watch.view()?;
    let first = asked.watch.moment().await?;
    moments.mark_unchanged();
    let write = |moment: Arc<Moment>| ready(event(&moment.json()));
    Ok(streamed(first, moments, asked.still_may(), write))
}

/// Returns the bytes of one event. JSON has no line breaks.
pub fn event(data: &[u8]) -> Bytes {
    [b"data: ", data, b"\n\n"].concat().into()
}

type Moments = watch::Receiver<Option<Arc<Moment>>>;

/// Streams moments, as long as that is allowed: of those that come while a slow reader reads, the
/// last.
pub fn streamed<W: Future<Output = Bytes> + 'static>(
    first: Arc<Moment>,
    moments: Moments,
    may: impl Fn() -> bool + 'static,
    write: impl Fn(Arc<Moment>) -> W + 'static,
) -> HttpResponse {
    let all = stream::unfold((Some(first), moments, may, write), |state| async {
        let (first, mut moments, may, write) = state;
        let moment = match first {
            Some(first) => first,
            None => next(&mut moments).await?,
        };
        if !may() {
            return None;
        }
        let bytes = write(moment).await;
        Some((Ok::<_, Infallible>(bytes), (None, moments, may, write)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // So that a proxy passes each on at once.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(all)
}

async fn next(moments: &mut Moments) -> Option<Arc<Moment>> {
    loop {
        moments.changed().await.ok()?;
        let seen = moments.borrow_and_update();
        if let Some(moment) = &*seen {
            return Some(Arc::clone(moment));
        }
    }
}
