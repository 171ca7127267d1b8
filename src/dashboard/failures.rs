//! The failed tasks that a store keeps, grouped by what went wrong.
//!
//! Owns: which are meant, and what counts as the same failure. Does not know: how groups are shown.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::asked::Fields;
use super::wrong::Wrong;
use crate::status::{Cause, Outcome, TaskStatus};
use crate::store::retained::SettledFilter;
use crate::task::{TaskId, TaskKind};

/// How many ids of a group are told.
pub const IDS: usize = 200;

/// Failures of one kind that say the same, but for numbers and ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub kind: TaskKind,
    pub cause: Cause,
    /// What they say, with `#` for each number and id.
    pub message: String,
    pub count: usize,
    pub first: SystemTime,
    pub last: SystemTime,
    /// The newest of them.
    pub ids: Vec<TaskId>,
}

/// The fields by which failures are chosen.
pub const FIELDS: [&str; 4] = ["kind", "message", "hours", "until"];

/// Reads which failures are meant: those of a `kind`, with this in their `message`, of the last so
/// many `hours`, and from before `until`, in seconds since 1970.
///
/// # Errors
///
/// A field cannot be read.
pub fn filter(fields: &Fields) -> Result<SettledFilter, Wrong> {
    let mut filter = SettledFilter::default();
    if let Some(kind) = fields.text("kind") {
        filter = filter.kind(kind);
    }
    if let Some(message) = fields.text("message") {
        filter = filter.message(message);
    }
    if let Some(hours) = fields.number::<u32>("hours")? {
        let span = Duration::from_secs(u64::from(hours) * 3600);
        let since = SystemTime::now().checked_sub(span);
        filter = filter.since(since.unwrap_or(SystemTime::UNIX_EPOCH));
    }
    if let Some(until) = fields.number::<u32>("until")? {
        filter = filter.until(SystemTime::UNIX_EPOCH + Duration::from_secs(until.into()));
    }
    Ok(filter)
}

/// Reads which failures are meant, which may not be all of them.
///
/// # Errors
///
/// As for [`filter`], or they are.
pub fn narrow(fields: &Fields) -> Result<SettledFilter, Wrong> {
    let named = ["kind", "message", "hours"];
    if named.iter().all(|name| fields.text(name).is_none()) {
        return Err(Wrong::request(
            "every failure is meant: name a `kind`, a part of the `message`, or the last `hours`",
        ));
    }
    filter(fields)
}

/// Groups failures that come newest first; the largest group comes first.
pub fn groups(statuses: &[TaskStatus]) -> Vec<Group> {
    let mut groups = BTreeMap::<_, Group>::new();
    for status in statuses {
        let Outcome::Failed(failure) = &status.outcome else {
            continue;
        };
        let message = folded(&failure.message);
        let group = groups
            .entry((status.kind.clone(), failure.cause, message.clone()))
            .or_insert_with(|| Group {
                kind: status.kind.clone(),
                cause: failure.cause,
                message,
                count: 0,
                first: status.settled_at,
                last: status.settled_at,
                ids: Vec::new(),
            });
        group.count += 1;
        group.first = group.first.min(status.settled_at);
        group.last = group.last.max(status.settled_at);
        if group.ids.len() < IDS {
            group.ids.push(status.id);
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

/// Returns a message with `#` for what differs from task to task: words of hexadecimal digits, such
/// as ids, and numbers.
fn folded(message: &str) -> String {
    let mut folded = String::new();
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric());
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if word.is_empty() {
            folded.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let is_hex = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits > 0 && is_hex {
            folded.push('#');
        } else {
            let mut in_number = false;
            for letter in word.chars() {
                let is_digit = letter.is_ascii_digit();
                if !is_digit {
                    folded.push(letter);
                } else if !in_number {
                    folded.push('#');
                }
                in_number = is_digit;
            }
        }
        rest = after;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Ending, Failure};

    #[test]
    fn numbers_and_ids_are_folded() {
        for (message, expected) in [
            (
                "timeout after 30 s on node-12",
                "timeout after # s on node-#",
            ),
            ("no image 3f2a9c01be", "no image #"),
            ("id 550e8400-e29b-41d4", "id #-e#b-#d#"),
            ("deadbeef is a word", "deadbeef is a word"),
            ("\u{e9}t\u{e9} 42", "\u{e9}t\u{e9} #"),
            ("", ""),
        ] {
            assert_eq!(folded(message), expected);
        }
    }

    #[test]
    fn the_same_failures_are_one_group() {
        let status = |kind: &str, message: &str| {
            let failure = Failure::new(Cause::Error, message);
            TaskStatus::new(Ending::for_test(kind, Outcome::Failed(failure)))
        };
        let all = [
            status("a", "no file 1"),
            status("b", "no file 1"),
            status("b", "no file 23"),
        ];
        let groups = groups(&all);
        let told: Vec<_> = groups
            .iter()
            .map(|it| (it.kind.as_str(), it.count))
            .collect();
        assert_eq!(told, [("b", 2), ("a", 1)]);
        assert_eq!(groups[0].message, "no file #");
    }
}
