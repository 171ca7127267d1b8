//! What is told of tasks: those that match a search, one, and those that have failed.
//!
//! Owns: how each is told. Does not know: what can be done to them.

use std::time::SystemTime;

use callboard::__internals::text::{ago, span, why, words};
use callboard::TaskId;
use callboard::search::{FoundPage, FoundTask};
use callboard::stats::Explanation;
use callboard::trail::{PastAttempt, TaskNote};
use serde::Deserialize;
use serde_json::Value;

use super::ending::Failed;
use super::run::Run;
use super::table::{self, Table, facts};

/// How many tasks a request is asked for.
const PAGE: usize = 1000;

/// The trail of a task, as the dashboard tells it.
#[derive(Deserialize)]
struct Trail {
    attempts: Vec<PastAttempt>,
    notes: Vec<TaskNote>,
    progress: Option<Progress>,
}

#[derive(Deserialize)]
struct Progress {
    at: SystemTime,
    value: Value,
}

impl Trail {
    fn facts(&self) -> Vec<(&'static str, String)> {
        let now = SystemTime::now();
        let attempts = self.attempts.iter().map(|it| {
            let (began, ran) = (ago(it.started_at, now), span(it.ran));
            let what = format!(
                "{} on {}, {began}, for {ran}: {}",
                it.dispatch, it.node, it.cause
            );
            let said = if it.message.is_empty() { "" } else { ": " };
            ("attempt", format!("{what}{said}{}", it.message))
        });
        let notes = self.notes.iter();
        let notes = notes.map(|it| ("note", format!("{}: {}", ago(it.at, now), it.text)));
        let progress = self.progress.iter();
        let progress =
            progress.map(|it| ("progress", format!("{}: {}", ago(it.at, now), it.value)));
        attempts.chain(notes).chain(progress).collect()
    }
}

impl Run<'_> {
    /// Lists the tasks that match, page by page.
    ///
    /// # Errors
    ///
    /// They cannot be told.
    pub fn tasks(&mut self) -> Result<(), Failed> {
        let query = self.args.get_many::<String>("query").into_iter().flatten();
        let query: Vec<_> = query.map(String::as_str).collect();
        let query = query.join(" ");
        let wanted = self.args.get_one::<u32>("limit").copied().unwrap_or(100);
        let mut wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut after = None;
        let mut table = Table::new([
            "ID", "KIND", "STATE", "NODE", "AGE", "ATTEMPTS", "GROUP", "KEY",
        ]);
        loop {
            let limit = wanted.min(PAGE).to_string();
            let from = after.map(|id: TaskId| id.get().to_string());
            let mut asked = vec![("q", query.as_str()), ("limit", limit.as_str())];
            asked.extend(from.as_deref().map(|from| ("after", from)));
            let answer = self.client.get("api/tasks", &asked)?;
            if self.is_json() {
                table::json(self.out, &answer)?;
            }
            let page: FoundPage = self.client.read(answer)?;
            let now = SystemTime::now();
            for task in &page.tasks {
                table.row([
                    &task.id,
                    &task.kind,
                    &task.state,
                    &task.node.as_deref().unwrap_or_default(),
                    &span(now.duration_since(task.accepted_at).unwrap_or_default()),
                    &task.attempts,
                    &task.group.as_ref().map_or("", |group| group.as_str()),
                    &task.key.as_ref().map_or("", |key| key.as_str()),
                ]);
            }
            wanted = wanted.saturating_sub(page.tasks.len());
            // Where it makes no way, it would go on for ever.
            let goes_on = page.next > after;
            after = page.next;
            if wanted == 0 || !goes_on {
                break;
            }
        }
        if !self.is_json() {
            table.print(self.out)?;
            if after.is_some() {
                writeln!(self.out, "There may be more: see --limit.")?;
            }
        }
        Ok(())
    }

    /// Tells what is known of a task.
    ///
    /// # Errors
    ///
    /// Nothing is.
    pub fn explain(&mut self) -> Result<(), Failed> {
        let id = self.ids().first().copied().unwrap_or(TaskId::new(0)).get();
        let answer = self.client.get(&format!("api/tasks/{id}"), &[])?;
        if self.is_json() {
            return Ok(table::json(self.out, &answer)?);
        }
        #[derive(Deserialize)]
        struct Waits {
            task: FoundTask,
            explanation: Explanation,
            trail: Trail,
        }
        let mut all = Vec::new();
        if answer.get("task").is_some() {
            let given = ["args"].map(|name| (name, answer.get(name).map(Value::to_string)));
            let Waits {
                task,
                explanation,
                trail,
            } = self.client.read(answer)?;
            let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
            all.extend([
                ("id", task.id.to_string()),
                ("kind", task.kind.to_string()),
                ("key", text(task.key.as_ref().map(|key| key.as_str()))),
                (
                    "group",
                    text(task.group.as_ref().map(|group| group.as_str())),
                ),
                ("priority", task.priority.0.to_string()),
                ("accepted", ago(task.accepted_at, SystemTime::now())),
                ("attempts", task.attempts.to_string()),
                ("reroutes", task.reroutes.to_string()),
                ("state", task.state.to_string()),
                ("node", text(task.node.as_deref())),
                ("why", why(&explanation.reason, |node| words(node, 100))),
            ]);
            all.extend(
                explanation
                    .last_failure
                    .map(|words| ("last failure", words)),
            );
            let objections = explanation.nodes.iter();
            all.extend(objections.map(|(node, words)| ("objection", format!("{node}: {words}"))));
            all.extend(trail.facts());
            all.extend(
                given
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
            return Ok(facts(self.out, &all)?);
        }
        let fields = answer.as_object().into_iter().flatten();
        for (name, value) in fields.filter(|(name, _)| *name != "trail") {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            all.push((name.as_str(), value));
        }
        let trail = answer.get("trail").cloned().unwrap_or_default();
        let trail: Trail = self.client.read(trail)?;
        all.extend(trail.facts());
        Ok(facts(self.out, &all)?)
    }

    /// Lists what has failed.
    ///
    /// # Errors
    ///
    /// It cannot be told.
    pub fn failures(&mut self) -> Result<(), Failed> {
        let answer = self.chosen_failures()?;
        if self.is_json() {
            return Ok(table::json(self.out, &answer)?);
        }
        if self.args.get_flag("groups") {
            return self.groups(answer);
        }
        #[derive(Deserialize)]
        struct Said {
            cause: String,
            message: String,
        }
        #[derive(Deserialize)]
        struct Failure {
            id: TaskId,
            kind: String,
            node: Option<String>,
            attempts: u32,
            settled_at: SystemTime,
            failure: Option<Said>,
        }
        #[derive(Deserialize)]
        struct Failures {
            failures: Vec<Failure>,
        }
        let Failures { failures } = self.client.read(answer)?;
        let mut table = Table::new(["ID", "KIND", "CAUSE", "WHEN", "ATTEMPTS", "NODE", "MESSAGE"]);
        let now = SystemTime::now();
        for task in &failures {
            let said = task.failure.as_ref();
            table.row([
                &task.id,
                &task.kind,
                &said.map_or("", |said| &said.cause),
                &ago(task.settled_at, now),
                &task.attempts,
                &task.node.as_deref().unwrap_or_default(),
                &said.map_or("", |said| &said.message),
            ]);
        }
        Ok(table.print(self.out)?)
    }

    fn groups(&mut self, answer: Value) -> Result<(), Failed> {
        #[derive(Deserialize)]
        struct Group {
            kind: String,
            cause: String,
            message: String,
            count: u64,
            first: SystemTime,
            last: SystemTime,
        }
        #[derive(Deserialize)]
        struct Groups {
            groups: Vec<Group>,
        }
        let Groups { groups } = self.client.read(answer)?;
        let mut table = Table::new(["COUNT", "KIND", "CAUSE", "FIRST", "LAST", "MESSAGE"]);
        let now = SystemTime::now();
        for group in &groups {
            table.row([
                &group.count,
                &group.kind,
                &group.cause,
                &ago(group.first, now),
                &ago(group.last, now),
                &group.message,
            ]);
        }
        Ok(table.print(self.out)?)
    }
}
