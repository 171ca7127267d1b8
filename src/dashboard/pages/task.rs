//! One task: its life, why it is where it is, and what it was given.
//!
//! Owns: what stands there. Does not know: how it is found.

use std::time::SystemTime;

use maud::{Markup, html};

use super::{Body, NAME, Reader, ago, life, name, words};
use crate::dashboard::Access;
use crate::dashboard::actions::Action;
use crate::dashboard::asked::Asked;
use crate::dashboard::looking::{Known, known};
use crate::dashboard::shown::redacted;
use crate::dashboard::text::{counted, ending, why};
use crate::dashboard::wrong::Wrong;
use crate::payload::Payload;
use crate::search::{FoundState, FoundTask};
use crate::stats::Explanation;
use crate::status::{Outcome, TaskStatus};
use crate::task::{TaskId, TaskKind};
use crate::trail::TaskTrail;

/// How many letters of args and outputs are shown.
const LETTERS: usize = 4096;

/// Makes the page.
///
/// # Errors
///
/// Nothing is known of the task, or the scheduler has stopped.
pub async fn body(asked: &Asked<'_>, reader: &Reader, id: TaskId) -> Result<Body, Wrong> {
    let known = known(asked, id).await?;
    let trail = &asked.watch.scheduler().trail(id).await?;
    Ok(match known {
        Known::Unfinished {
            task,
            args,
            explanation,
        } => unfinished(asked, reader, &task, &args, &explanation, trail),
        Known::Settled(status) => settled(asked, reader, &status, trail),
    })
}

fn unfinished(
    asked: &Asked<'_>,
    reader: &Reader,
    task: &FoundTask,
    args: &Payload,
    explanation: &Explanation,
    trail: &TaskTrail,
) -> Body {
    let id = task.id.get().to_string();
    let now = SystemTime::now();
    let running = u32::from(task.state == FoundState::Running);
    let runs = task.attempts.saturating_sub(running) + task.reroutes;
    let main = html! {
        h1 { "Task " (id) ": " (name(task.kind.as_str())) }
        h2 { "Its life" }
        ol #life {
            li { "accepted " (ago(task.accepted_at, now)) ", with priority " (task.priority.0) }
            (life::items(task.accepted_at, runs, trail, now))
            @if let Some(failure) = &explanation.last_failure {
                li { (counted(explanation.attempts.into(), "attempt", "attempts")) "; the last failure: "
                    span.bad { bdi { (words(failure, LETTERS)) } } }
            }
            @if task.reroutes > 0 { li { (lost(task.reroutes)) } }
            li { "now " b { (task.state) }
                @if let Some(node) = &task.node { " on " (name(node)) } }
        }
        (progress(asked, &task.kind, trail, now))
        h2 { "Why it is there" }
        p #reason { (why(&explanation.reason, in_a_sentence)) }
        @if !explanation.nodes.is_empty() {
            ul {
                @for (node, objection) in &explanation.nodes {
                    li { (name(node)) ": " (words(objection, 300)) }
                }
            }
        }
        (names(task.key.as_ref().map(|it| it.as_str()), task.group.as_ref().map(|it| it.as_str())))
        (payload(asked, "Args", &task.kind, args))
    };
    let does = reader.button(Action::Cancel, "Cancel", &[("id", &id)], "tasks");
    Body {
        state: format!("task {id} {}", task.state),
        main: parts(&main, &does),
    }
}

fn settled(asked: &Asked<'_>, reader: &Reader, status: &TaskStatus, trail: &TaskTrail) -> Body {
    let id = status.id.get().to_string();
    let now = SystemTime::now();
    let word = ending(&status.outcome);
    let runs = status.attempts.saturating_sub(1) + status.reroutes;
    let options = status.options();
    let group = options.group.as_ref().map(|group| group.as_str());
    let main = html! {
        h1 { "Task " (id) ": " (name(status.kind.as_str())) }
        h2 { "Its life" }
        ol #life {
            li { "accepted " (ago(status.accepted_at, now)) }
            @if let Some(earlier) = status.again_of() {
                @let earlier = earlier.get().to_string();
                li { "it repeats " a href=(reader.link("task", &[("id", &earlier)])) {
                    "task " (earlier)
                } }
            }
            (life::items(status.accepted_at, runs, trail, now))
            @if let Some(started) = status.started_at {
                li {
                    @match status.attempts {
                        0 | 1 => "its one attempt",
                        many => { "the last of " (many) " attempts" }
                    }
                    " was started " (ago(started, now))
                    @if let Some(node) = &status.node { " on " (name(node)) }
                }
            }
            @if status.reroutes > 0 { li { (lost(status.reroutes)) } }
            li { b { (word) } " " (ago(status.settled_at, now)) }
        }
        (progress(asked, &status.kind, trail, now))
        @if let Outcome::Failed(failure) = &status.outcome {
            h2 { "Why it failed" }
            p.bad { (failure.cause) }
            pre #failure { bdi { (words(&failure.message, LETTERS)) } }
            @if let Some(place) = &failure.place { p.soft { "raised at " (words(place, 300)) } }
        }
        (names(status.key.as_ref().map(|key| key.as_str()), group))
        (payload(asked, "Args", &status.kind, &status.args))
        @if let Outcome::Completed(output) = &status.outcome {
            (payload(asked, "Output", &status.kind, output))
        }
    };
    let does = html! {
        (reader.button(Action::ExecuteAgain, "Run again", &[("id", &id)], "failures"))
        (reader.asks_twice(Action::Forget, "Forget", ("id", &id)))
    };
    Body {
        state: format!("task {id} {word}"),
        main: parts(&main, &does),
    }
}

/// Returns the page of a task that can no longer be shown.
pub fn gone(id: TaskId, wrong: &Wrong) -> Body {
    let main = html! {
        h1 { "Task " (id.get()) }
        p { "This task can no longer be shown: " (words(&wrong.words, LETTERS)) "." }
        p.soft { "After a task settles, only a store that keeps it can show how it ended." }
    };
    Body {
        state: format!("task {} is gone", id.get()),
        main: parts(&main, &html! {}),
    }
}

/// Returns what is known of a task and what can be done with it, of which either moves by itself.
fn parts(known: &Markup, does: &Markup) -> Markup {
    html! {
        div #task data-part="whole" { (known) }
        div #does data-part="whole" { (does) }
    }
}

/// Returns how far a handler was, without what the application wants nobody to read.
fn progress(asked: &Asked<'_>, kind: &TaskKind, trail: &TaskTrail, now: SystemTime) -> Markup {
    let value = trail
        .progress
        .as_ref()
        .map(|it| redacted(asked.board, kind, &it.value));
    life::progress(trail, &value.unwrap_or_default(), now)
}

fn lost(nodes: u32) -> String {
    counted(nodes.into(), "node was", "nodes were") + " lost under it"
}

fn names(key: Option<&str>, group: Option<&str>) -> Markup {
    html! {
        @if let Some(key) = key { p { "Key: " (name(key)) } }
        @if let Some(group) = group { p { "Group: " (name(group)) } }
    }
}

/// Returns args or an output, for those who may see them.
fn payload(asked: &Asked<'_>, title: &str, kind: &TaskKind, payload: &Payload) -> Markup {
    if asked.access < Access::Full {
        return html! { p.soft { (title) ": " (counted(payload.len() as u64, "byte", "bytes")) } };
    }
    let value = redacted(asked.board, kind, payload);
    let text = serde_json::to_string_pretty(&value).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(|line| words(line, LETTERS)).collect();
    let lines = lines.join("\n");
    let mut letters = lines.chars();
    let shown: String = letters.by_ref().take(LETTERS).collect();
    html! {
        h2 { (title) " " span.soft { (counted(payload.len() as u64, "byte", "bytes")) } }
        pre { bdi { (shown) @if letters.next().is_some() { "\u{2026}" } } }
    }
}

/// Writes a node within a sentence, in isolation, as `bdi` does it in a page.
fn in_a_sentence(node: &str) -> String {
    format!("\u{2068}{}\u{2069}", words(node, NAME))
}
