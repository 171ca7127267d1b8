//! How unfinished tasks are looked for: by what is asked of them, and what is told of each.
//!
//! Owns: the filter, the line in which a person writes it, and what was found as values. Does not
//! know: where tasks are kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::payload::Payload;
use crate::task::{Priority, TaskGroup, TaskId, TaskKey, TaskKind};

/// How long a search line may be, in bytes.
const MAX_LINE: usize = 1024;

/// How many words a search line may have.
const MAX_WORDS: usize = 16;

/// Up to how many bytes args are decoded to be looked into.
const MAX_DECODED: usize = 64 * 1024;

/// Chooses among the tasks that have not settled: those of which all is true that is asked. The
/// default asks nothing.
///
/// ```
/// use std::time::Duration;
/// use callboard::TaskFilter;
/// use callboard::search::FoundState;
///
/// let filter = TaskFilter::default()
///     .kind("mail.send")
///     .key("invoice-7")
///     .group("customer-7")
///     .node("node-1")
///     .state(FoundState::Running)
///     .older_than(Duration::from_secs(600))
///     .attempts_over(1)
///     .arg("customer", "42");
/// let line = "kind:mail.send key:invoice-7 group:customer-7 node:node-1 state:running \
///             age>10m attempts>1 args.customer:42";
/// assert_eq!(line.parse(), Ok(filter));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TaskFilter {
    pub(crate) kind: Option<TaskKind>,
    pub(crate) key: Option<TaskKey>,
    pub(crate) group: Option<TaskGroup>,
    pub(crate) node: Option<String>,
    pub(crate) state: Option<FoundState>,
    pub(crate) older: Option<Duration>,
    pub(crate) attempts: Option<u32>,
    args: Vec<(String, String)>,
}

impl TaskFilter {
    /// Leaves out those of another kind.
    pub fn kind(mut self, kind: impl Into<TaskKind>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Leaves out those with another key, or none.
    pub fn key(mut self, key: impl Into<TaskKey>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Leaves out those of another group, or none.
    pub fn group(mut self, group: impl Into<TaskGroup>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Leaves out those that the node of this name does not have.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// Leaves out those in another state.
    pub fn state(mut self, state: FoundState) -> Self {
        self.state = Some(state);
        self
    }

    /// Leaves out those that were accepted less than this ago.
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older = Some(age);
        self
    }

    /// Leaves out those with no more attempts than this, the one that goes on among them.
    pub fn attempts_over(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Leaves out those whose args have another value there, or none: `order.customer` is the field
    /// `customer` within the field `order`. Numbers and truths are compared as text. Only maps in
    /// MessagePack of at most 64 KiB are looked into, and only their fields with texts as names.
    pub fn arg(mut self, path: impl Into<String>, value: impl Into<String>) -> Self {
        self.args.push((path.into(), value.into()));
        self
    }

    /// Returns whether all tasks pass.
    ///
    /// ```
    /// use callboard::TaskFilter;
    ///
    /// assert!(TaskFilter::default().means_all());
    /// ```
    pub fn means_all(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether it looks into args.
    pub(crate) fn looks_into_args(&self) -> bool {
        !self.args.is_empty()
    }

    /// Returns whether args have all the values that are asked for.
    pub(crate) fn lets_through(&self, args: &Payload) -> bool {
        if args.len() > MAX_DECODED {
            return self.args.is_empty();
        }
        let mut all = self.args.iter();
        all.all(|(path, value)| encoding::field(args, path).as_deref() == Some(value))
    }
}

/// Why a search line cannot be understood, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SearchError(String);

impl FromStr for TaskFilter {
    type Err = SearchError;

    /// Reads a search line: words with spaces between, each as in the example of the type. A value
    /// with spaces stands in quotes: `key:"two words"`.
    fn from_str(line: &str) -> Result<Self, SearchError> {
        if line.len() > MAX_LINE {
            let words = format!("a search line has at most {MAX_LINE} bytes");
            return Err(SearchError(words));
        }
        let words = words(line)?;
        if words.len() > MAX_WORDS {
            let words = format!("a search line has at most {MAX_WORDS} words");
            return Err(SearchError(words));
        }
        let mut filter = Self::default();
        for (name, sign, value) in words {
            filter = filter.with(&name, sign, value)?;
        }
        Ok(filter)
    }
}

impl TaskFilter {
    /// Adds a word of a search line.
    fn with(self, name: &str, sign: char, value: String) -> Result<Self, SearchError> {
        Ok(match (name, sign) {
            ("kind", ':') => self.kind(value),
            ("key", ':') => self.key(value),
            ("group", ':') => self.group(value),
            ("node", ':') => self.node(value),
            ("state", ':') => self.state(value.parse()?),
            ("age", '>') => self.older_than(span(&value)?),
            ("attempts", '>') => {
                let number = value.parse().map_err(|_| {
                    SearchError(format!("after `attempts>` stands a number, not {value:?}"))
                })?;
                self.attempts_over(number)
            }
            (name, ':') if name.starts_with("args.") && name.len() > 5 => {
                self.arg(&name[5..], value)
            }
            _ => {
                return Err(SearchError(format!(
                    "{:?} is none of kind: key: group: node: state: age> attempts> args.FIELD:",
                    format!("{name}{sign}")
                )));
            }
        })
    }
}

/// Splits a line into words: a name, `:` or `>`, and a value.
fn words(line: &str) -> Result<Vec<(String, char, String)>, SearchError> {
    let mut rest = line.trim();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let at = rest[..end].find([':', '>']).ok_or_else(|| {
            SearchError(format!(
                "{:?} says nothing: write for example kind:{}",
                &rest[..end],
                &rest[..end]
            ))
        })?;
        let (name, value) = rest.split_at(at);
        let (sign, value) = value.split_at(1);
        let sign = if sign == ">" { '>' } else { ':' };
        let quoted = value.strip_prefix('"');
        let (value, after) = match quoted {
            Some(quoted) => quoted.split_once('"').ok_or_else(|| {
                SearchError("a quote is not closed: write for example key:\"two words\"".into())
            })?,
            None => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
        };
        words.push((name.to_owned(), sign, value.to_owned()));
        rest = after.trim_start();
    }
    Ok(words)
}

/// Reads a span of time: a number and `s`, `m`, `h` or `d`.
fn span(text: &str) -> Result<Duration, SearchError> {
    let wrong = || {
        SearchError(format!(
            "after `age>` stands a span such as 90s, 10m, 2h or 3d, not {text:?}"
        ))
    };
    let last = text.chars().last().ok_or_else(wrong)?;
    let unit = match last {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

/// Where an unfinished task is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FoundState {
    /// The task is due and waits, for a worker, a limit or the end of a pause.
    Due,
    /// The task waits for the time it was given.
    Later,
    /// The task waits for its next attempt.
    Backoff,
    /// The task is exclusive, and an earlier run of it may go on.
    Held,
    /// The task was sent ahead to a busy node.
    Prefetched,
    /// The task runs.
    Running,
}

impl FoundState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Due,
        Self::Later,
        Self::Backoff,
        Self::Held,
        Self::Prefetched,
        Self::Running,
    ];

    /// Returns the word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Later => "later",
            Self::Backoff => "backoff",
            Self::Held => "held",
            Self::Prefetched => "prefetched",
            Self::Running => "running",
        }
    }
}

impl fmt::Display for FoundState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for FoundState {
    type Err = SearchError;

    fn from_str(word: &str) -> Result<Self, SearchError> {
        let mut all = Self::ALL.into_iter();
        let known = all.find(|state| state.word() == word);
        known.ok_or_else(|| {
            let all = Self::ALL.map(Self::word).join(", ");
            SearchError(format!("{word:?} is no state: it is one of {all}"))
        })
    }
}

/// An unfinished task, without its args.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundTask {
    /// The task.
    pub id: TaskId,
    /// The kind.
    pub kind: TaskKind,
    /// The caller's own name for it, if there is one.
    pub key: Option<TaskKey>,
    /// Its group, if it is in one.
    pub group: Option<TaskGroup>,
    /// How urgent it is.
    pub priority: Priority,
    /// Where it is.
    pub state: FoundState,
    /// The node that has it, if one does.
    pub node: Option<Arc<str>>,
    /// When it was accepted, by the wall clock as it is now.
    pub accepted_at: SystemTime,
    /// Attempts so far, the one that goes on among them.
    pub attempts: u32,
    /// Nodes that were lost under it while it ran.
    pub reroutes: u32,
    /// How many bytes its args have.
    pub args_bytes: u64,
    /// Whether it never runs twice at once.
    pub exclusive: bool,
}

/// Some of the chosen tasks, in order of id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundPage {
    /// The tasks.
    pub tasks: Vec<FoundTask>,
    /// How many were looked at for it.
    pub looked: u64,
    /// After which task the search goes on; `None` if it has come to the end.
    pub next: Option<TaskId>,
}

/// What one step of a search is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    pub filter: &'a TaskFilter,
    /// After which task it begins; `None` is before the first.
    pub after: Option<TaskId>,
    /// How many tasks are enough.
    pub limit: usize,
    /// Whether their args are wanted, too.
    pub with_args: bool,
}

/// What one step of a search has found. Who has asked looks into the args, on a thread of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    /// The tasks, with their args if the filter looks into these.
    pub tasks: Vec<(FoundTask, Option<Payload>)>,
    pub looked: u64,
    pub next: Option<TaskId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> String {
        line.parse::<TaskFilter>().unwrap_err().to_string()
    }

    #[test]
    fn a_line_is_read_word_by_word() {
        let read = |line: &str| line.parse::<TaskFilter>().unwrap();
        assert!(read("  ").means_all());
        let expected = TaskFilter::default().key("two words").kind("a:b>c");
        assert_eq!(read("key:\"two words\"  kind:a:b>c"), expected);
        let days = Duration::from_secs(3 * 86_400);
        assert_eq!(read("age>3d"), TaskFilter::default().older_than(days));
    }

    #[test]
    fn what_cannot_be_understood_is_told_in_a_sentence() {
        assert!(error("mail").contains("kind:mail"));
        assert!(error("kind>mail").contains("is none of kind:"));
        assert!(error("args.:1").contains("is none of kind:"));
        assert!(error("key:\"open").contains("not closed"));
        assert!(error("state:lost").contains("due, later"));
        for line in [
            "age>",
            "age>10",
            "age>xm",
            "age>99999999999d",
            "age>10\u{e9}",
        ] {
            assert!(error(line).contains("90s, 10m"), "{line}");
        }
        assert!(error(&"kind:a ".repeat(17)).contains("at most 16"));
        assert!(error(&"x".repeat(1025)).contains("at most 1024"));
    }

    #[test]
    fn args_are_looked_into_by_the_names_of_fields() {
        let args = serde_json::json!({ "customer": 42, "order": { "id": "a", "paid": true } });
        let args = encoding::encode(&args).unwrap();
        let lets = |path: &str, value: &str| {
            let filter = TaskFilter::default().arg(path, value);
            filter.lets_through(&args)
        };
        assert!(lets("customer", "42") && lets("order.id", "a") && lets("order.paid", "true"));
        assert!(!lets("customer", "4") && !lets("order", "a") && !lets("order.x", "a"));
        let raw = Payload::from(vec![0xc1, 2, 3]);
        assert!(!TaskFilter::default().arg("a", "b").lets_through(&raw));
    }
}
