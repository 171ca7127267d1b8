//! The table at the end of the run.
//!
//! Owns: its columns and their words. Does not know: how figures come about.

use std::fmt::Write;
use std::time::Duration;

use crate::judge::{BUSY_WITHIN, Course, Figures};

/// A scenario that was run.
pub struct Row {
    name: String,
    ending: bool,
    took: Duration,
    course: Course,
    figures: Figures,
    /// Why it failed, if it did.
    pub failed: Option<String>,
    /// Whether it failed by nothing but times, which may be the machine's.
    pub only_late: bool,
}

impl Row {
    pub fn new(
        name: &str,
        ending: bool,
        took: Duration,
        result: Result<(Course, Figures), String>,
    ) -> Self {
        let mut only_late = false;
        let (course, figures, failed) = match result {
            Ok((course, figures)) => {
                only_late = figures.broken.is_empty() && !figures.missed.is_empty();
                let broken = [&figures.broken[..], &figures.missed].concat();
                let shown = broken
                    .iter()
                    .take(5)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; ");
                let failed =
                    (!broken.is_empty()).then(|| format!("{} broken: {shown}", broken.len()));
                (course, figures, failed)
            }
            Err(error) => (Course::default(), Figures::default(), Some(error)),
        };
        Self {
            name: name.to_owned(),
            ending,
            took,
            course,
            figures,
            failed,
            only_late,
        }
    }

    /// Returns a line for those who watch.
    pub fn progress(&self) -> String {
        match &self.failed {
            None => format!(
                "{}: well, after {:.1} s",
                self.name,
                self.took.as_secs_f64()
            ),
            Some(error) => format!(
                "{}: FAILED after {:.1} s: {error}",
                self.name,
                self.took.as_secs_f64()
            ),
        }
    }

    fn line(&self) -> String {
        let figures = &self.figures;
        let within = self.course.reroute_within;
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            time(figures.reroute(50), within),
            time(figures.reroute(99), within),
            time(figures.busy_after, Some(BUSY_WITHIN)),
            figures.second_runs,
            figures.overlaps,
            figures.exclusive_overlaps,
            figures.settled,
            figures.lost,
            figures.double,
        )
    }
}

/// Returns a time, marked if it is beyond what is promised.
fn time(time: Option<Duration>, within: Option<Duration>) -> String {
    let Some(time) = time else {
        return "-".to_owned();
    };
    let mark = if within.is_some_and(|within| time > within) {
        " (!)"
    } else {
        ""
    };
    match time {
        time if time < Duration::from_secs(1) => format!("{} ms{mark}", time.as_millis()),
        time => format!("{:.2} s{mark}", time.as_secs_f64()),
    }
}

const HEAD: &str = "
| fault | reroute p50 | p99 | all busy after | second runs | overlaps | of exclusive | settled | lost | two endings |
|---|---|---|---|---|---|---|---|---|---|
";

/// Returns the table of all rows, and one for those with drain and shutdown in the middle.
pub fn print(rows: &[Row], took: Duration) -> String {
    let mut text = HEAD.to_owned();
    for row in rows.iter().filter(|row| !row.ending) {
        let _ = writeln!(text, "{}", row.line());
    }
    let ending: Vec<_> = rows.iter().filter(|row| row.ending).collect();
    if !ending.is_empty() {
        let sum =
            |of: fn(&Figures) -> usize| ending.iter().map(|row| of(&row.figures)).sum::<usize>();
        let _ = writeln!(
            text,
            "| each of these with drain and shutdown in the middle, together | - | - | - | {} | {} | {} | {} of {}, {} handed back | {} | {} |",
            sum(|figures| figures.second_runs),
            sum(|figures| figures.overlaps),
            sum(|figures| figures.exclusive_overlaps),
            sum(|figures| figures.settled),
            sum(|figures| figures.accepted),
            sum(|figures| figures.left),
            sum(|figures| figures.lost),
            sum(|figures| figures.double),
        );
    }
    let late: usize = rows.iter().map(|row| row.figures.late_steps).sum();
    let _ = writeln!(
        text,
        "\n{} scenarios in {:.0} s; {late} late steps of frozen processes were refused by their fencing numbers; (!) marks what is beyond the promise.",
        rows.len(),
        took.as_secs_f64()
    );
    for row in rows.iter().filter(|row| row.failed.is_some()) {
        let _ = writeln!(text, "{}", row.progress());
    }
    text
}
