//! Plots as SVG: lines over time, with classes instead of colours, and marks.
//!
//! Owns: how numbers become lines. Does not know: what they mean.

use std::fmt::Write;

use maud::{Markup, html};

use super::text::words;

/// The size of a plot, and of the place where its lines are, in its own units.
const WIDTH: f32 = 600.0;
const HEIGHT: f32 = 150.0;
const LEFT: f32 = 48.0;
const TOP: f32 = 8.0;
const FLOOR: f32 = 132.0;

/// How many points a line has at most: of more, the highest of several counts.
const POINTS: usize = 300;

/// How many marks are drawn.
const MARKS: usize = 30;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    pub label: &'static str,
    /// How it looks: `one`, `two` and so on.
    pub class: &'static str,
    /// Its points, the last one now.
    pub points: Vec<f32>,
}

/// Something that happened so many seconds ago.
#[derive(Clone, Debug)]
pub struct Mark {
    pub seconds_ago: u64,
    pub text: String,
}

/// Draws lines over the time that the last so many points stand for.
pub fn plot(title: &str, lines: &[Line], room: usize, each: u64, marks: &[Mark]) -> Markup {
    let all = lines.iter().flat_map(|line| &line.points);
    let most = ceiling(all.fold(0.0, |most: f32, &number| most.max(number)));
    let span = room as u64 * each;
    let shown = marks.iter().filter(|mark| mark.seconds_ago < span);
    let now: Vec<_> = lines
        .iter()
        .map(|line| {
            let last = line.points.last().copied().unwrap_or(0.0);
            format!("{} {}", line.label, number(last))
        })
        .collect();
    let told = format!("{title}: now {}", now.join(", "));
    html! {
        figure {
            figcaption {
                b { (title) } " \u{2013} now "
                @for (line, now) in lines.iter().zip(&now) {
                    span class=(format!("key {}", line.class)) { (now) } " "
                }
            }
            svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(told) {
                @for (share, at) in [(1.0, TOP), (0.5, (TOP + FLOOR) / 2.0), (0.0, FLOOR)] {
                    line.axis x1=(LEFT) x2=(WIDTH) y1=(at) y2=(at) {}
                    text x=(LEFT - 4.0) y=(at + 4.0) text-anchor="end" { (number(most * share)) }
                }
                text x=(LEFT) y=(HEIGHT - 4.0) { (ago(span)) }
                text x=(WIDTH) y=(HEIGHT - 4.0) text-anchor="end" { "now" }
                @for mark in shown.take(MARKS) {
                    @let x = WIDTH - (WIDTH - LEFT) * mark.seconds_ago as f32 / span as f32;
                    line.mark x1=(x) x2=(x) y1=(TOP) y2=(FLOOR) { title { (words(&mark.text, 100)) } }
                }
                @for line in lines {
                    polyline class=(line.class) points=(polyline(&line.points, room, most)) {
                        title { (line.label) }
                    }
                }
            }
        }
    }
}

/// Returns a round number that is no less.
fn ceiling(most: f32) -> f32 {
    if most <= 1.0 {
        return 1.0;
    }
    let power = 10f32.powf(most.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= most).unwrap_or(most)
}

/// Writes a number in at most five letters or so.
fn number(number: f32) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n if n >= 10.0 || n.fract() == 0.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..=7200 => format!("{} min ago", seconds / 60),
        7201..=172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Returns the points of a line: those that are missing at its beginning leave room.
fn polyline(points: &[f32], room: usize, most: f32) -> String {
    let each = room.div_ceil(POINTS).max(1);
    // From now backwards, so that a group does not change its members but when one comes.
    let groups: Vec<f32> = points
        .rchunks(each)
        .map(|group| group.iter().copied().fold(0.0, f32::max))
        .collect();
    let columns = room.div_ceil(each).max(2) - 1;
    let mut written = String::new();
    for (at, &number) in groups.iter().enumerate().rev() {
        let x = WIDTH - (WIDTH - LEFT) * at as f32 / columns as f32;
        let y = FLOOR - (FLOOR - TOP) * (number / most).clamp(0.0, 1.0);
        let _ = write!(written, "{x:.1},{y:.1} ");
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_now_and_rises_to_the_round_number_above() {
        assert_eq!(
            [0.3, 3.0, 70.0, 100.0].map(ceiling),
            [1.0, 5.0, 100.0, 100.0]
        );
        let points = polyline(&[0.0, 50.0], 300, 100.0);
        assert_eq!(points, "598.2,132.0 600.0,70.0 ");
        let long = polyline(&vec![1.0; 900], 900, 1.0);
        assert_eq!(long.split_whitespace().count(), POINTS);
    }

    #[test]
    fn a_plot_is_text_without_colours_and_escapes_its_marks() {
        let lines = [Line {
            label: "settled",
            class: "one",
            points: vec![1.0, 2.0],
        }];
        let marks = [Mark {
            seconds_ago: 3,
            text: "<v1>".to_owned(),
        }];
        let svg = plot("Tasks a second", &lines, 900, 1, &marks).into_string();
        assert!(svg.contains("<title>&lt;v1&gt;</title>"), "{svg}");
        assert!(!svg.contains("style") && !svg.contains("stroke"), "{svg}");
    }
}
