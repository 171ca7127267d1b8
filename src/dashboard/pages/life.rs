//! The trail of a task, in the order of time.
//!
//! Owns: what stands there of attempts, notes and progress. Does not know: how it began or ended.

use std::time::SystemTime;

use maud::{Markup, html};
use serde_json::Value;

use super::{ago, name, span, words};
use crate::trail::{PastAttempt, TaskNote, TaskTrail};

/// How many letters of a message, a note or a progress value are shown.
const LETTERS: usize = 300;

/// Returns the items of a list: attempts that failed or were lost and notes, by when they began or
/// came. So many runs have ended before what the task does now, or before that which settled it.
pub fn items(accepted: SystemTime, runs: u32, trail: &TaskTrail, now: SystemTime) -> Markup {
    let notes = trail.notes.iter().map(|it| (it.at, note(it, now)));
    let mut all: Vec<_> = notes.collect();
    // Without the first attempt, the wait before the oldest that is remembered is unknown.
    let first = (trail.attempts.len() as u64 >= u64::from(runs)).then_some(accepted);
    let ends = trail.attempts.iter().map(|it| Some(it.started_at + it.ran));
    for (it, before) in trail
        .attempts
        .iter()
        .zip(std::iter::once(first).chain(ends))
    {
        all.push((it.started_at, attempt(it, before, now)));
    }
    all.sort_by_key(|(at, _)| *at);
    html! { @for (_, item) in &all { (item) } }
}

/// Returns how far a handler was at last, if it has told it.
pub fn progress(trail: &TaskTrail, value: &Value, now: SystemTime) -> Markup {
    let Some(progress) = &trail.progress else {
        return html! {};
    };
    let value = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    html! {
        p #progress {
            "Progress, as run " (progress.dispatch) " told " (ago(progress.at, now)) ": "
            b { bdi { (words(&value, LETTERS)) } }
        }
    }
}

fn attempt(attempt: &PastAttempt, before: Option<SystemTime>, now: SystemTime) -> Markup {
    let waited = before.map(|before| attempt.started_at.duration_since(before));
    html! {
        li.attempt {
            "run " (attempt.dispatch) " on " (name(&attempt.node))
            " began " (ago(attempt.started_at, now))
            @if let Some(waited) = waited { ", after a wait of " (span(waited.unwrap_or_default())) }
            ", and ended after " (span(attempt.ran)) ": "
            span.bad {
                (attempt.cause)
                @if !attempt.message.is_empty() { ": " bdi { (words(&attempt.message, LETTERS)) } }
            }
        }
    }
}

fn note(note: &TaskNote, now: SystemTime) -> Markup {
    html! {
        li.noted {
            "run " (note.dispatch) " noted " (ago(note.at, now)) ": "
            bdi { (words(&note.text, LETTERS)) }
        }
    }
}
