//! The first page: what is wrong, then how much there is of everything.
//!
//! Owns: what stands there. Does not know: what counts as wrong.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{Body, Reader, live, name, nodes, state, words};
use crate::dashboard::actions::Action;
use crate::dashboard::plots::{Line, Mark, Plot, Scale};
use crate::dashboard::problems::{Problem, Severity};
use crate::dashboard::rings::{Reach, Series};
use crate::dashboard::watch::Moment;
use crate::stats::Stats;

/// How many nodes are shown here; the page of nodes has the rest.
const NODES: usize = 50;

/// How many kinds and priorities are told apart of what is due.
const KINDS: usize = 20;
const PRIORITIES: usize = 8;

/// The lines of one plot: what is drawn, how its title begins, and each series with its look.
type Lines = (Scale, &'static str, &'static [(Series, &'static str)]);

const PLOTS: [Lines; 4] = [
    (
        Scale::Counts,
        "Tasks a second",
        &[
            (Series::Accepted, "one"),
            (Series::Started, "four"),
            (Series::Settled, "two"),
            (Series::Failed, "three"),
        ],
    ),
    (
        Scale::Counts,
        "Tasks",
        &[(Series::Due, "one"), (Series::Running, "four")],
    ),
    (
        Scale::Times,
        "Wait for a worker",
        &[(Series::WaitHalf, "one"), (Series::WaitMost, "three")],
    ),
    (
        Scale::Times,
        "Run time",
        &[(Series::RunHalf, "one"), (Series::RunMost, "three")],
    ),
];

/// Makes the page, with the plots over these reaches.
pub fn body(reader: &Reader, moment: &Moment, reaches: &[Reach]) -> Body {
    let stats = &moment.snapshot.stats;
    let main = html! {
        h1 { "What is wrong now" }
        div #problems data-part="whole" { (problems(Some(reader), &moment.problems)) }
        h2 { "Tasks" }
        div #numbers data-part="values" { (numbers(stats)) }
        @for &reach in reaches {
            @let (_, _, title) = reach.measures();
            // What is of now is open.
            details open[reach == Reach::Minutes] {
                summary { "Over " (title) }
                div id=(format!("plots-{reach:?}")) data-part="whole" {
                    div.plots { (plots(moment, reach)) }
                }
            }
        }
        div.side {
            section {
                h2 { "Nodes" }
                div.wide #nodes data-part="values" {
                    (nodes::cells_table(reader, stats, NODES))
                }
            }
            section {
                h2 { "Due, by kind and priority" }
                div.wide #due data-part="whole" { (due(moment)) }
                div #pauses data-part="whole" {
                    @if stats.pauses.all {
                        (reader.button(Action::ResumeAll, "Resume all kinds", &[], ""))
                    } @else {
                        (reader.button(Action::PauseAll, "Pause all kinds", &[], ""))
                    }
                }
            }
        }
        @if let Some(store) = store(stats) {
            h2 { "Store" }
            div #store data-part="values" { (store) }
        }
        p { a href=(reader.link("report", &[])) download { "Save this moment as one file" } }
    };
    Body {
        state: state(moment),
        main,
    }
}

/// Lists what is wrong, with links for somebody who can follow them.
pub fn problems(reader: Option<&Reader>, problems: &[Problem]) -> Markup {
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
                    @if let Some(reader) = reader && !problem.page.is_empty() {
                        " " a href=(reader.link(problem.page, &[])) { "See " (problem.page) }
                    }
                }
            }
        }
    }
}

/// Returns the plots over a reach.
pub fn plots(moment: &Moment, reach: Reach) -> Markup {
    let marks: Vec<_> = moment
        .marks
        .iter()
        .map(|(at, text)| Mark {
            seconds_ago: moment.at.duration_since(*at).unwrap_or_default().as_secs(),
            text: text.clone(),
        })
        .collect();
    let (_, each, span) = reach.measures();
    let rooms = reach.rooms();
    let points = &moment.plots[reach as usize];
    let line = |&(series, class): &(Series, _)| Line {
        label: series.label(),
        class,
        points: points.iter().map(|point| point[series as usize]).collect(),
    };
    html! {
        @for (scale, title, lines) in PLOTS {
            @let title = format!("{title}, {span}");
            @let plot = Plot { title: &title, scale, rooms, each, marks: &marks };
            (plot.draw(&lines.iter().map(line).collect::<Vec<_>>()))
        }
    }
}

/// Returns how many tasks are due, by kind and priority.
pub fn due(moment: &Moment) -> Markup {
    let kinds = moment.snapshot.machine.kinds.iter();
    let mut kinds: Vec<_> = kinds.filter(|kind| kind.pending > 0).collect();
    if kinds.is_empty() {
        return html! { p.soft { "No task is due." } };
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.pending));
    let all: BTreeSet<_> = kinds
        .iter()
        .flat_map(|kind| kind.by_priority.keys())
        .collect();
    let shown: Vec<_> = all.iter().rev().take(PRIORITIES).copied().collect();
    html! {
        table {
            thead {
                tr {
                    th { "kind" } th.number { "due" }
                    @for priority in &shown { th.number { "priority " (priority) } }
                    @if all.len() > shown.len() { th.number { "lower" } }
                }
            }
            tbody {
                @for kind in kinds.iter().take(KINDS) {
                    @let count = |priority| kind.by_priority.get(priority).copied().unwrap_or(0);
                    @let counts: Vec<_> = shown.iter().map(|priority| count(priority)).collect();
                    tr {
                        th scope="row" {
                            @match &kind.counts.kind {
                                Some(kind) => (name(kind.as_str())),
                                None => "all other kinds",
                            }
                        }
                        td.number { (kind.pending) }
                        @for count in &counts { td.number { (count) } }
                        @if all.len() > shown.len() {
                            td.number { (kind.pending - counts.iter().sum::<usize>()) }
                        }
                    }
                }
            }
        }
        @if kinds.len() > KINDS {
            p { (kinds.len() - KINDS) " kinds more have due tasks." }
        }
    }
}

/// Returns the numbers of the store, if there is one.
pub fn store(stats: &Stats) -> Option<Markup> {
    let store = stats.store.as_ref()?;
    Some(html! {
        ul.numbers {
            (number("store-unstored", "tasks to be stored", store.unstored))
            (number("store-file", "KiB of file", store.file_bytes.unwrap_or(0) / 1024))
            (number("store-living", "% of records needed", (store.living_share() * 100.0).round()))
            (number("store-batches", "commits", store.batches))
        }
    })
}

fn number(id: &str, label: &str, value: impl std::fmt::Display) -> Markup {
    html! { li { b { (live(id, value)) } (label) } }
}

/// Returns how many tasks there are of everything.
pub fn numbers(stats: &Stats) -> Markup {
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
