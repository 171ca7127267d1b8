//! The tasks of a store, one after the other, for people and scripts.
//!
//! Owns: what is told of a task, and in which words. Does not know: who reads it, or how a store
//! is opened.

use std::io;
use std::time::{Duration, SystemTime};

use super::json::{Json, base64, of_message_pack};
use super::recovery::read;
use super::{LogError, Snapshot, retained};
use crate::engine::Timestamp;
use crate::engine::keep::Ended;
use crate::engine::ledger::{LedgerState, Placing, TaskFacts};
use crate::engine::record::{
    AcceptedTask, Changed, FinalOutcome, RetainedTask, RunRef, SettledTask,
};
use crate::payload::Payload;
use crate::status::Failure;
use crate::task::{Due, Options, TaskId};

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] LogError),
    /// The output cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Writes every task as a line of JSON: those that are unfinished or whose status was not handled
/// so far, then those that are kept, by outcome, newest first. See [`TaskView::fields`].
///
/// # Errors
///
/// The store cannot be read, or `to` not be written to.
pub fn export(from: &dyn Snapshot, to: &mut dyn io::Write) -> Result<(), ExportError> {
    each_task(from, &mut |task| {
        writeln!(to, "{}", Json::Object(task.fields()))?;
        Ok(true)
    })?;
    Ok(to.flush()?)
}

/// Hears of a task; `false` is enough.
pub type EachTask<'a> = &'a mut dyn FnMut(&TaskView<'_>) -> Result<bool, ExportError>;

/// Gives every task, as [`export`] orders them.
///
/// # Errors
///
/// The store cannot be read, or `each` has refused one.
pub fn each_task(from: &dyn Snapshot, each: EachTask<'_>) -> Result<(), ExportError> {
    let ledger = read(from)?;
    for facts in ledger.tasks().values() {
        if !each(&TaskView::of(facts))? {
            return Ok(());
        }
    }
    for ended in Ended::ALL {
        let mut stopped = None;
        from.each_kept(ended, None, &mut |bytes| {
            let task = retained::read(bytes)?;
            if ledger.tasks().contains_key(&task.accepted.id) {
                return Ok(true);
            }
            let goes_on = each(&TaskView::retained(&task));
            let is_enough = !matches!(goes_on, Ok(true));
            if is_enough {
                stopped = Some(goes_on);
            }
            Ok(!is_enough)
        })?;
        if let Some(goes_on) = stopped {
            return goes_on.map(drop);
        }
    }
    Ok(())
}

/// What is known of a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskView<'a> {
    accepted: &'a AcceptedTask,
    changed: Option<&'a Changed>,
    placed: Option<&'a Placing>,
    ending: Option<&'a SettledTask>,
    /// Whether its status was handled.
    told: bool,
}

/// Where a task is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The task waits, for a worker or for its time.
    Pending,
    /// A node has the task.
    Placed,
    /// The task is exclusive, and waits for the end of a run that is no longer followed.
    Held,
    /// The task has settled.
    Settled(Ended),
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Placed,
        Self::Held,
        Self::Settled(Ended::Completed),
        Self::Settled(Ended::Failed),
        Self::Settled(Ended::Cancelled),
    ];

    /// Returns the word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Placed => "placed",
            Self::Held => "held",
            Self::Settled(Ended::Completed) => "completed",
            Self::Settled(Ended::Failed) => "failed",
            Self::Settled(Ended::Cancelled) => "cancelled",
        }
    }
}

impl<'a> TaskView<'a> {
    /// Returns what a ledger has of a task.
    pub fn of(facts: &'a TaskFacts) -> Self {
        let (changed, placed, ending, told) = match &facts.state {
            LedgerState::Open { changed, placed } => {
                (changed.as_deref(), placed.as_deref(), None, false)
            }
            LedgerState::Settled { ending, confirmed } => (None, None, Some(&**ending), *confirmed),
        };
        Self {
            accepted: &facts.accepted,
            changed,
            placed,
            ending,
            told,
        }
    }

    /// Returns what is kept of a task.
    pub fn retained(task: &'a RetainedTask) -> Self {
        Self {
            accepted: &task.accepted,
            changed: None,
            placed: None,
            ending: Some(&task.ending),
            told: true,
        }
    }

    /// Returns the id.
    pub fn id(&self) -> TaskId {
        self.accepted.id
    }

    /// Returns the task as it was accepted.
    pub fn accepted(&self) -> &'a AcceptedTask {
        self.accepted
    }

    /// Returns where it is.
    pub fn state(&self) -> State {
        match (self.ending, self.changed, self.placed) {
            (Some(ending), ..) => State::Settled(Ended::of(&ending.outcome)),
            (None, Some(changed), None) if changed.held_by().is_some() => State::Held,
            (None, _, Some(_)) => State::Placed,
            (None, _, None) => State::Pending,
        }
    }

    /// Returns the kind, priority, state, due time, attempts and key, as `list` shows them.
    pub fn columns(&self) -> [String; 7] {
        let options = self.options();
        let attempts = match (self.ending, self.changed) {
            (Some(ending), _) => ending.attempts,
            (None, changed) => changed.map_or(0, |changed| changed.failed_attempts),
        };
        let none = || "-".to_owned();
        let key = options.and_then(|options| options.key.as_ref());
        [
            self.accepted.id.to_string(),
            plain(self.accepted.kind.as_str()),
            options.map_or(0, |options| options.priority.0).to_string(),
            self.state().word().to_owned(),
            self.due().map_or_else(none, time),
            attempts.to_string(),
            key.map_or_else(none, |key| plain(key.as_str())),
        ]
    }

    /// Returns all that is known, by name. What is not there is left out. Times are in UTC, spans
    /// in milliseconds, args and outputs in base64 and, if they are MessagePack, as a value too.
    pub fn fields(&self) -> Vec<(&'static str, Json)> {
        let text = |text: &str| Json::Text(text.to_owned());
        let number = |number: u32| Json::Number(u64::from(number));
        let mut fields = vec![
            ("id", Json::Number(self.accepted.id.get())),
            ("kind", text(self.accepted.kind.as_str())),
            ("state", text(self.state().word())),
            ("accepted_at", Json::Text(time(self.accepted.at))),
        ];
        if let Some(due) = self.due() {
            fields.push(("due", Json::Text(time(due))));
        }
        if let Some(options) = self.options() {
            options_fields(options, self.accepted.at, &mut fields);
        }
        body("args", "args_value", &self.accepted.args, &mut fields);
        if let Some(changed) = self.changed {
            fields.push(("failed_attempts", number(changed.failed_attempts)));
            let lost = changed.lost.iter().map(|process| text(&process.node));
            fields.push(("lost_nodes", Json::List(lost.collect())));
            if let Some(last) = &changed.last_failure {
                fields.push(("last_failure", failure(last)));
            }
            if changed.cancelling {
                fields.push(("cancel_asked", Json::Flag(true)));
            }
            if !changed.orphans.is_empty() {
                let orphans = changed.orphans.iter().map(run);
                fields.push(("may_still_run", Json::List(orphans.collect())));
            }
            if let Some(held) = changed.held_by() {
                fields.push(("held_by", run(held)));
            }
        }
        if let Some(Placing { at, run }) = self.placed {
            let place = vec![
                ("node", text(&at.node)),
                ("dispatch", Json::Number(run.dispatch.get())),
                ("prefetched", Json::Flag(run.prefetched)),
                ("blocking", Json::Flag(run.blocking)),
            ];
            fields.push(("placed", Json::Object(place)));
        }
        if let Some(ending) = self.ending {
            match &ending.outcome {
                FinalOutcome::Completed(output) => {
                    body("output", "output_value", output, &mut fields);
                }
                FinalOutcome::Failed(why) => fields.push(("failure", failure(why))),
                FinalOutcome::Cancelled => {}
            }
            if let Some(node) = &ending.node {
                fields.push(("node", text(node)));
            }
            fields.push(("attempts", number(ending.attempts)));
            fields.push(("reroutes", number(ending.reroutes)));
            if let Some(at) = ending.started_at {
                fields.push(("started_at", Json::Text(time(at))));
            }
            fields.push(("settled_at", Json::Text(time(ending.at))));
            fields.push(("told", Json::Flag(self.told)));
            if !ending.busy.is_empty() {
                let busy = ending.busy.iter().map(run);
                fields.push(("key_busy_by", Json::List(busy.collect())));
            }
        }
        fields
    }

    fn options(&self) -> Option<&'a Options> {
        self.accepted.options.as_deref()
    }

    fn due(&self) -> Option<Timestamp> {
        if self.ending.is_some() {
            return None;
        }
        let retry = self.changed.and_then(|changed| changed.due);
        let asked = self.options().and_then(|options| match options.due {
            Due::Now => None,
            Due::After(span) => Some(self.accepted.at + span),
            Due::At(at) => {
                let since = at.duration_since(SystemTime::UNIX_EPOCH);
                Some(Timestamp(0) + since.unwrap_or_default())
            }
        });
        retry.or(asked)
    }
}

fn options_fields(options: &Options, at: Timestamp, fields: &mut Vec<(&'static str, Json)>) {
    let span = |span: Duration| {
        let millis = u64::try_from(span.as_millis());
        Json::Number(millis.unwrap_or(u64::MAX))
    };
    if let Some(key) = &options.key {
        fields.push(("key", Json::Text(key.as_str().to_owned())));
    }
    if let Some(group) = &options.group {
        fields.push(("group", Json::Text(group.as_str().to_owned())));
    }
    if let Some(context) = &options.trace {
        let (parent, state) = (context.traceparent(), context.tracestate());
        fields.push(("traceparent", Json::Text(parent.to_owned())));
        if !state.is_empty() {
            fields.push(("tracestate", Json::Text(state.to_owned())));
        }
    }
    if let Some(task) = options.again_of {
        fields.push(("again_of", Json::Text(task.to_string())));
    }
    fields.push(("priority", Json::Raw(options.priority.0.to_string())));
    if let Some(timeout) = options.timeout {
        fields.push(("timeout_ms", span(timeout)));
    }
    if let Some(deadline) = options.deadline {
        fields.push(("deadline", Json::Text(time(at + deadline))));
    }
    if let Some(limit) = options.retry.as_ref().and_then(|retry| retry.limit()) {
        fields.push(("max_attempts", Json::Number(u64::from(limit))));
    }
    if !options.labels.is_empty() {
        let labels = options.labels.iter().cloned().map(Json::Text);
        fields.push(("labels", Json::List(labels.collect())));
    }
    if options.exclusive {
        fields.push(("exclusive", Json::Flag(true)));
    }
    if let Some(limit) = options.max_reroutes {
        fields.push(("max_reroutes", Json::Number(u64::from(limit))));
    }
}

fn body(
    name: &'static str,
    value: &'static str,
    payload: &Payload,
    fields: &mut Vec<(&'static str, Json)>,
) {
    fields.push((name, Json::Text(base64(payload))));
    fields.extend(of_message_pack(payload).map(|json| (value, json)));
}

fn failure(failure: &Failure) -> Json {
    let mut fields = vec![
        ("cause", Json::Text(failure.cause.to_string())),
        ("message", Json::Text(failure.message.clone())),
    ];
    if let Some(place) = &failure.place {
        fields.push(("place", Json::Text(place.to_string())));
    }
    Json::Object(fields)
}

fn run(run: &RunRef) -> Json {
    Json::Object(vec![
        ("node", Json::Text(run.at.node.to_string())),
        ("dispatch", Json::Number(run.dispatch.get())),
        ("blocking", Json::Flag(run.blocking)),
        ("ends_by", Json::Text(time(run.not_before))),
    ])
}

/// Returns a text as it is, if it is one word, and else as in JSON.
fn plain(text: &str) -> String {
    let is_word = |letter: char| !letter.is_whitespace() && letter != '"';
    let quoted = Json::Text(text.to_owned()).to_string();
    if quoted.len() == text.len() + 2 && !text.is_empty() && text.chars().all(is_word) {
        text.to_owned()
    } else {
        quoted
    }
}

/// Returns a moment as RFC 3339 has it, in UTC, with milliseconds.
pub fn time(at: Timestamp) -> String {
    let millis = at.0 / 1_000_000;
    let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
    // Years begin in March here, so that a leap day is the last of its year: 146,097 days are 400
    // years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    let year = era * 400 + year;
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let seconds = seconds % 60;
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_others_show_them() {
        for seconds in [
            0,
            951_782_399,
            951_868_800,
            1_735_689_600,
            4_107_542_399,
            18_000_000_000,
        ] {
            for millis in [0, 7] {
                let since = Duration::from_secs(seconds) + Duration::from_millis(millis);
                let theirs = chrono::DateTime::from_timestamp_millis(since.as_millis() as i64);
                let theirs = theirs.unwrap();
                let ours = time(Timestamp(0) + since);
                assert_eq!(ours.replace(".000Z", "Z"), format!("{theirs:?}"));
            }
        }
        for days in (0..80_000).step_by(13) {
            let theirs = chrono::DateTime::from_timestamp(days * 86_400, 0).unwrap();
            let ours = time(Timestamp(days as u64 * 86_400_000_000_000));
            assert_eq!(ours.replace(".000Z", "Z"), format!("{theirs:?}"));
        }
    }

    #[test]
    fn a_name_that_is_no_word_is_quoted() {
        for (text, shown) in [
            ("a.b", "a.b"),
            ("a b", r#""a b""#),
            ("", r#""""#),
            ("a\tb", r#""a\tb""#),
        ] {
            assert_eq!(plain(text), shown);
        }
    }
}
