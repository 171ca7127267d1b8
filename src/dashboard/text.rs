//! How names, endings, spans and times read.
//!
//! Owns: that no name can hide or turn around what stands beside it. Does not know: where a text
//! stands.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

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
