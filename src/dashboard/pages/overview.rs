//! The first page: what is wrong, then how much there is of everything.
//!
//! Owns: what stands there. Does not know: what counts as wrong.

use maud::{Markup, html};

use super::{Body, Reader, live, nodes, state, words};
use crate::dashboard::actions::Action;
use crate::dashboard::plots::{Line, Mark, plot};
use crate::dashboard::problems::{Problem, Severity};
use crate::dashboard::rings::{Point, Reach, SERIES};
use crate::dashboard::watch::Moment;
use crate::stats::Stats;

/// How many nodes are shown here; the page of nodes has the rest.
const NODES: usize = 50;

/// Makes the page.
pub fn body(reader: &Reader, moment: &Moment) -> Body {
    let stats = &moment.snapshot.stats;
    let main = html! {
        h1 { "What is wrong now" }
        div #problems data-part="whole" { (problems(reader, &moment.problems)) }
        h2 { "Tasks" }
        div #numbers data-part="values" { (numbers(stats)) }
        div.plots #plots data-part="whole" { (plots(moment)) }
        div #pauses data-part="whole" {
            @if stats.pauses.all {
                (reader.button(Action::ResumeAll, "Resume all kinds", &[], ""))
            } @else {
                (reader.button(Action::PauseAll, "Pause all kinds", &[], ""))
            }
        }
        h2 { "Nodes" }
        div.wide #nodes data-part="values" {
            (nodes::cells_table(reader, stats, NODES))
        }
        @if let Some(store) = &stats.store {
            h2 { "Store" }
            div #store data-part="values" {
                ul.numbers {
                    (number("store-unstored", "tasks to be stored", store.unstored))
                    (number("store-file", "KiB of file", store.file_bytes.unwrap_or(0) / 1024))
                    (number("store-living", "% of records needed",
                        (store.living_share() * 100.0).round()))
                    (number("store-batches", "commits", store.batches))
                }
            }
        }
    };
    Body {
        state: state(moment),
        main,
    }
}

fn problems(reader: &Reader, problems: &[Problem]) -> Markup {
    if problems.is_empty() {
        return html! { p.good { "Nothing: every node that is named is up, and nothing is held back." } };
    }
    html! {
        ul.problems {
            @for problem in problems {
                @let (class, word) = match problem.severity {
                    Severity::Bad => ("bad", "Bad"),
                    Severity::Warning => ("warning", "Warning"),
                    Severity::Held => ("held", "Held back"),
                };
                li class=(class) {
                    strong class=(class) { (word) ": " }
                    bdi { (words(&problem.what, 500)) } " " (problem.remedy)
                    @if !problem.page.is_empty() {
                        " " a href=(reader.link(problem.page, &[])) { "See " (problem.page) }
                    }
                }
            }
        }
    }
}

/// Returns the plots over each reach.
fn plots(moment: &Moment) -> Markup {
    let marks: Vec<_> = moment
        .marks
        .iter()
        .map(|(at, text)| Mark {
            seconds_ago: moment.at.duration_since(*at).unwrap_or_default().as_secs(),
            text: text.clone(),
        })
        .collect();
    let line = |points: &[Point], series: usize, class| Line {
        label: SERIES[series],
        class,
        points: points.iter().map(|point| point[series]).collect(),
    };
    html! {
        @for (reach, points) in Reach::ALL.iter().zip(&moment.plots) {
            @let (room, each, title) = reach.measures();
            @let rates = [
                line(points, 0, "one"), line(points, 1, "two"), line(points, 2, "three"),
            ];
            (plot(&format!("Tasks a second, {title}"), &rates, room, each, &marks))
            @let waiting = [line(points, 3, "one"), line(points, 4, "four")];
            (plot(&format!("Tasks, {title}"), &waiting, room, each, &marks))
        }
    }
}

fn number(id: &str, label: &str, value: impl std::fmt::Display) -> Markup {
    html! { li { b { (live(id, value)) } (label) } }
}

fn numbers(stats: &Stats) -> Markup {
    let totals = &stats.totals;
    html! {
        ul.numbers {
            (number("pending", "due", stats.pending))
            (number("running", "running", stats.running))
            (number("later", "due later", stats.due_later))
            (number("retries", "wait for a retry", stats.waiting_retries))
            (number("held", "held for an earlier run", stats.held))
            (number("paused", "paused", stats.paused))
            (number("executed", "accepted in all", totals.executed))
            (number("completed", "completed in all", totals.completed))
            (number("failed", "failed in all", totals.failed.values().sum::<u64>()))
            (number("cancelled", "cancelled in all", totals.cancelled))
            (number("refused", "refused in all", totals.refusals()))
            (number("rerouted", "rerouted in all", totals.rerouted))
            (number("unconfirmed", "statuses not handled", stats.unconfirmed_statuses))
        }
    }
}
