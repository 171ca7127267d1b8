//! The format itself: families, samples, labels and histograms.
//!
//! Owns: how each is written, and what is escaped. Does not know: which metrics there are.

use std::fmt::Write;

use super::outlet::{Outlet, Type, Value};
use crate::engine::meter::Histogram;

/// A text that is being written.
pub(super) struct Text {
    text: String,
    /// The label that all samples bear.
    scheduler: String,
    family: &'static str,
}

impl Text {
    pub fn new(scheduler: &str) -> Self {
        Self {
            text: String::new(),
            scheduler: escaped(scheduler),
            family: "",
        }
    }

    pub fn into_string(self) -> String {
        self.text
    }

    fn bucket(&mut self, labels: &[(&str, &str)], bound: &str, count: u64) {
        let labels = [labels, &[("le", bound)]].concat();
        self.line("_bucket", &labels, Value::Count(count));
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: Value) {
        let (family, scheduler) = (self.family, &self.scheduler);
        let text = &mut self.text;
        let _ = write!(text, "{family}{suffix}{{scheduler=\"{scheduler}\"");
        for (name, value) in labels {
            let _ = write!(text, ",{name}=\"{}\"", escaped(value));
        }
        let _ = match value {
            Value::Count(count) => writeln!(text, "}} {count}"),
            Value::Nanos(nanos) => writeln!(text, "}} {}", seconds(nanos)),
            Value::Ratio(ratio) => writeln!(text, "}} {ratio}"),
        };
    }
}

impl Outlet for Text {
    fn family(&mut self, name: &'static str, of_type: Type, help: &'static str) {
        let of_type = match of_type {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        self.family = name;
        // Nothing that is written to a string fails.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {of_type}\n");
    }

    fn number(&mut self, labels: &[(&'static str, &str)], value: Value) {
        self.line("", labels, value);
    }

    fn histogram(&mut self, labels: &[(&'static str, &str)], times: &Histogram) {
        for (bound, count) in times.cumulative() {
            let bound = seconds(u128::from(bound));
            self.bucket(labels, &bound, count);
        }
        self.bucket(labels, "+Inf", times.count());
        self.line("_sum", labels, Value::Nanos(times.sum_nanos()));
        self.line("_count", labels, Value::Count(times.count()));
    }
}

/// Returns the value of a label as it is written between quotes.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

/// Returns so many nanoseconds in seconds, exactly.
fn seconds(nanos: u128) -> String {
    let (whole, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{part:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_told_exactly() {
        let told = [0, 1, 100_000, 2_500_000_000, 3_600_000_000_000].map(seconds);
        assert_eq!(told, ["0", "0.000000001", "0.0001", "2.5", "3600"]);
        assert!(seconds(u128::MAX).ends_with(".768211455"));
    }

    #[test]
    fn what_would_end_a_label_is_escaped() {
        let mut text = Text::new("a\"b");
        text.family("x", Type::Gauge, "Help.");
        text.number(&[("kind", "\\\n} 1\r")], Value::Count(7));
        assert_eq!(
            text.into_string(),
            "# HELP x Help.\n# TYPE x gauge\nx{scheduler=\"a\\\"b\",kind=\"\\\\\\n} 1\r\"} 7\n"
        );
    }
}
