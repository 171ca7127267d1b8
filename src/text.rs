//! How names, endings, spans, times and reasons read, in a terminal as on a page.
//!
//! Owns: that no name can hide or turn around what stands beside it. Does not know: where a text
//! stands.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::stats::Reason;
use crate::status::Outcome;
use crate::task::is_hidden;

/// Returns a text, cut to so many letters, with what cannot be seen made visible.
pub fn words(text: &str, most: usize) -> String {
    let mut shown = String::new();
    let mut letters = text.chars();
    for letter in letters.by_ref().take(most) {
        if is_hidden(letter) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
        } else {
            shown.push(letter);
        }
    }
    if letters.next().is_some() {
        shown.push('\u{2026}');
    }
    shown
}

/// Returns JSON with what cannot be seen written out. Such letters stand in its texts alone, where
/// an escape means the same.
pub fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_hidden(letter) {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Returns why a task is where it is, in a sentence, in which nodes are written so.
pub fn why(reason: &Reason, name: impl Fn(&str) -> String) -> String {
    match reason {
        Reason::NotStored => "It is not stored yet.".to_owned(),
        Reason::NotDue { remaining } => format!(
            "It waits for the time it was given: {} are left.",
            span(*remaining)
        ),
        Reason::Backoff { remaining } => format!(
            "It waits for its next attempt: {} are left.",
            span(*remaining)
        ),
        Reason::NoFreeWorker => "Every worker that may run it is taken.".to_owned(),
        Reason::NoWorkers => {
            "Nodes that may run it are up, but have no workers: set the workers of one.".to_owned()
        }
        Reason::NoSuchNode => "No node that is up may run it: start one that offers its kind and \
                               bears its labels."
            .to_owned(),
        Reason::Suspect => {
            "Two nodes were lost under it: it waits for a node with few such tasks.".to_owned()
        }
        Reason::Exclusive { node } => format!(
            "It is exclusive, and an earlier run may still go on, on {}. If that machine is gone, \
             declare the node dead.",
            name(node)
        ),
        Reason::ClientBehind => "Too many statuses wait for a client: nothing is placed before \
                                 some are handled."
            .to_owned(),
        Reason::Ending => "The scheduler ends when what runs has ended.".to_owned(),
        Reason::Paused => "Its kind is paused, or all are.".to_owned(),
        Reason::AtLimit { limit } => format!("As many of its kind go on as may: {limit}."),
        Reason::GroupAtLimit { limit } => format!("As many of its group go on as may: {limit}."),
        Reason::RateUsedUp { remaining } => format!(
            "As many of its kind have started as the rate allows: the next may in {}.",
            span(*remaining)
        ),
        Reason::GroupRateUsedUp { remaining } => format!(
            "As many of its group have started as the rate allows: the next may in {}.",
            span(*remaining)
        ),
        Reason::Prefetched { node } => format!(
            "It was sent ahead to {}, where all workers are busy.",
            name(node)
        ),
        Reason::Running { node, dispatch } => {
            format!("It runs on {}, as run {dispatch}.", name(node))
        }
    }
}

/// Returns the word for how a task ended.
pub fn ending(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed(_) => "completed",
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::Refused(_) => "refused",
    }
}

/// Returns a span of time, in the unit that suits it.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span < Duration::from_millis(1) => format!("{} us", span.as_micros()),
        0 => format!("{} ms", span.as_millis()),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns a number with the words that it takes: of one, or of any other.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns how long ago something was.
pub fn ago(time: SystemTime, now: SystemTime) -> String {
    let passed = now.duration_since(time).unwrap_or_default();
    format!("{} ago", span(passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(words("a\u{202e}b\n", 9), "a\\u{202e}b\\u{a}");
        assert_eq!(words("abcdef", 3), "abc\u{2026}");
    }

    #[test]
    fn json_stays_what_it_was_and_shows_all_its_letters() {
        let json = "{\"a\":\"\u{9b}2J\u{7f}\u{e0041}\u{e9}\"}";
        let expected = "{\"a\":\"\\u009b2J\\u007f\\udb40\\udc41\u{e9}\"}";
        assert_eq!(escaped(json), expected);
    }

    #[test]
    fn a_reason_hides_nothing_of_a_name() {
        let node = "a\u{1b}b".into();
        let told = why(&Reason::Exclusive { node }, |node| words(node, 100));
        assert!(told.contains("on a\\u{1b}b."), "{told}");
    }

    #[test]
    fn a_span_is_told_in_the_unit_that_suits_it() {
        let all = [0, 7, 500, 119, 7199, 7200, 200_000];
        let told = all.map(|seconds| span(Duration::from_secs(seconds)));
        let expected = [
            "0 us",
            "7 s",
            "8 min",
            "119 s",
            "119 min",
            "2 h 0 min",
            "2 days",
        ];
        assert_eq!(told, expected);
        assert_eq!(span(Duration::from_millis(12)), "12 ms");
    }
}
