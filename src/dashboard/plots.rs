//! Plots as SVG: lines over time, with classes instead of colours, and marks.
//!
//! Owns: how numbers become lines. Does not know: what they mean.

use std::fmt::Write;
use std::time::Duration;

use maud::{Markup, html};

use super::rings::BEYOND;
use super::text::{span, words};

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

/// The shortest time that is told apart, in seconds.
const SHORTEST: f32 = 1e-4;

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

/// What the numbers of a plot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Counts, from zero to a round number.
    Counts,
    /// Seconds, from 0.1 ms on, each power of ten as high as any other. Where one is zero there is
    /// none, and the line has a gap.
    Times,
}

/// A plot without its lines.
#[derive(Clone, Debug)]
pub struct Plot<'a> {
    pub title: &'a str,
    pub scale: Scale,
    /// For how many points there is room, the least first: the least room that holds them all is
    /// drawn, so that what has just begun is seen.
    pub rooms: &'a [usize],
    /// How many seconds each point stands for.
    pub each: u64,
    pub marks: &'a [Mark],
}

impl Plot<'_> {
    /// Draws it.
    pub fn draw(&self, lines: &[Line]) -> Markup {
        let all = lines.iter().flat_map(|line| &line.points);
        let most = all.fold(0.0, |most: f32, &number| most.max(number));
        let top = self.scale.top(most);
        let room = self.room(lines);
        let span = room as u64 * self.each;
        let shown = self.marks.iter().filter(|mark| mark.seconds_ago < span);
        let now: Vec<_> = lines
            .iter()
            .map(|line| {
                let last = line.points.last().copied().unwrap_or(0.0);
                format!("{} {}", line.label, self.scale.number(last))
            })
            .collect();
        let told = format!("{}: now {}", self.title, now.join(", "));
        html! {
            figure {
                figcaption {
                    b { (self.title) } " \u{2013} now "
                    @for (line, now) in lines.iter().zip(&now) {
                        span class=(format!("key {}", line.class)) { (now) } " "
                    }
                }
                svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(told) {
                    @for (share, at) in [(1.0, TOP), (0.5, (TOP + FLOOR) / 2.0), (0.0, FLOOR)] {
                        line.axis x1=(LEFT) x2=(WIDTH) y1=(at) y2=(at) {}
                        text x=(LEFT - 4.0) y=(at + 4.0) text-anchor="end" {
                            (self.scale.number(self.scale.at(share, top)))
                        }
                    }
                    text x=(LEFT) y=(HEIGHT - 4.0) { (ago(span)) }
                    text x=(WIDTH) y=(HEIGHT - 4.0) text-anchor="end" { "now" }
                    @for mark in shown.take(MARKS) {
                        @let x = WIDTH - (WIDTH - LEFT) * mark.seconds_ago as f32 / span as f32;
                        line.mark x1=(x) x2=(x) y1=(TOP) y2=(FLOOR) {
                            title { (words(&mark.text, 200)) }
                        }
                    }
                    @for line in lines {
                        @for points in self.polylines(&line.points, room, top) {
                            polyline class=(line.class) points=(points) { title { (line.label) } }
                        }
                    }
                }
            }
        }
    }

    /// Returns the least room that holds all points.
    fn room(&self, lines: &[Line]) -> usize {
        let longest = lines.iter().map(|line| line.points.len()).max();
        let longest = longest.unwrap_or(0);
        let holds = self.rooms.iter().find(|&&room| longest <= room);
        holds.or(self.rooms.last()).copied().unwrap_or(1)
    }

    /// Returns the parts of a line between its gaps: points that are missing at its beginning leave
    /// room.
    fn polylines(&self, points: &[f32], room: usize, top: f32) -> Vec<String> {
        let each = room.div_ceil(POINTS).max(1);
        // From now backwards, so that a group does not change its members but when one comes.
        let groups: Vec<f32> = points
            .rchunks(each)
            .map(|group| group.iter().copied().fold(0.0, f32::max))
            .collect();
        let columns = room.div_ceil(each).max(2) - 1;
        let mut parts = Vec::new();
        let mut written = String::new();
        for (at, &number) in groups.iter().enumerate().rev() {
            if self.scale == Scale::Times && number <= 0.0 {
                parts.push(std::mem::take(&mut written));
                continue;
            }
            let x = WIDTH - (WIDTH - LEFT) * at as f32 / columns as f32;
            let y = FLOOR - (FLOOR - TOP) * self.scale.share(number, top);
            let _ = write!(written, "{x:.1},{y:.1} ");
        }
        parts.push(written);
        parts.retain(|part| !part.is_empty());
        for part in &mut parts {
            // A line of one point would not be seen.
            if part.matches(' ').count() == 1 {
                *part = part.repeat(2);
            }
        }
        parts
    }
}

impl Scale {
    /// Returns the number at the top, of which none is higher.
    fn top(self, most: f32) -> f32 {
        match self {
            Self::Counts => ceiling(most),
            Self::Times => 10f32.powi((most.max(SHORTEST * 10.0)).log10().ceil() as i32),
        }
    }

    /// Returns the number that stands so far up.
    fn at(self, share: f32, top: f32) -> f32 {
        match self {
            Self::Counts => top * share,
            Self::Times => SHORTEST * (top / SHORTEST).powf(share),
        }
    }

    /// Returns how far up a number stands.
    fn share(self, number: f32, top: f32) -> f32 {
        let share = match self {
            Self::Counts => number / top,
            Self::Times => (number / SHORTEST).ln() / (top / SHORTEST).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Writes a number in a few letters.
    fn number(self, number: f32) -> String {
        match self {
            Self::Counts => count(number),
            Self::Times if number <= 0.0 => "none".to_owned(),
            Self::Times if number == BEYOND => "over 1 h".to_owned(),
            Self::Times if (1.0..10.0).contains(&number) => format!("{number:.1} s"),
            // As the bound is written everywhere, and not as the next number of this type.
            Self::Times => span(Duration::from_micros((number * 1e6).round() as u64)),
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
fn count(number: f32) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_now_and_rises_to_the_round_number_above() {
        assert_eq!(
            [0.3, 3.0, 70.0, 100.0].map(ceiling),
            [1.0, 5.0, 100.0, 100.0]
        );
        let plot = Plot {
            title: "Tasks a second",
            scale: Scale::Counts,
            rooms: &[300, 900],
            each: 1,
            marks: &[],
        };
        assert_eq!(
            plot.polylines(&[0.0, 50.0], 300, 100.0),
            ["598.2,132.0 600.0,70.0 "]
        );
        let long = plot.polylines(&[1.0; 900], 900, 1.0);
        assert_eq!(long[0].split_whitespace().count(), POINTS);
    }

    #[test]
    fn a_plot_reaches_as_far_back_as_there_is_something_to_see() {
        let plot = Plot {
            title: "Tasks",
            scale: Scale::Counts,
            rooms: &[60, 300, 900],
            each: 1,
            marks: &[],
        };
        for (points, reach) in [
            (0, "1 min ago"),
            (60, "1 min ago"),
            (61, "5 min ago"),
            (900, "15 min ago"),
            (1000, "15 min ago"),
        ] {
            let points = vec![1.0; points];
            let line = Line {
                label: "due",
                class: "one",
                points,
            };
            let svg = plot.draw(&[line]).into_string();
            assert!(svg.contains(reach), "{reach}: {svg}");
        }
    }

    #[test]
    fn times_are_as_far_apart_as_their_powers_and_none_is_a_gap() {
        let plot = Plot {
            title: "Wait",
            scale: Scale::Times,
            rooms: &[300],
            each: 1,
            marks: &[],
        };
        let top = Scale::Times.top(0.25);
        assert_eq!(top, 1.0);
        let parts = plot.polylines(&[1e-4, 0.0, 1e-2, 1.0], 300, top);
        assert_eq!(parts, ["594.5,132.0 594.5,132.0 ", "598.2,70.0 600.0,8.0 "]);
        let told = [0.0, 1e-4, 0.0025, 2.5, 300.0, BEYOND].map(|time| Scale::Times.number(time));
        assert_eq!(
            told,
            ["none", "100 us", "2 ms", "2.5 s", "5 min", "over 1 h"]
        );
    }

    #[test]
    fn a_plot_is_text_without_colours_and_escapes_its_marks() {
        let lines = [Line {
            label: "settled",
            class: "one",
            points: vec![1.0, 2.0],
        }];
        let plot = Plot {
            title: "Tasks a second",
            scale: Scale::Counts,
            rooms: &[900],
            each: 1,
            marks: &[Mark {
                seconds_ago: 3,
                text: "<v1>".to_owned(),
            }],
        };
        let svg = plot.draw(&lines).into_string();
        assert!(svg.contains("<title>&lt;v1&gt;</title>"), "{svg}");
        assert!(!svg.contains("style") && !svg.contains("stroke"), "{svg}");
    }
}
