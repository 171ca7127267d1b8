//! The kinds of tasks: what is held back of each, and by whom it is offered.
//!
//! Owns: what stands there. Does not know: what an action does.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};

use super::{Body, Reader, live, name, span, state, words};
use crate::dashboard::actions::Action;
use crate::dashboard::lately::Before;
use crate::dashboard::watch::Moment;
use crate::engine::meter::{Histogram, KindMetrics};
use crate::snapshot::Snapshot;
use crate::stats::{LimitStats, NodeState};
use crate::task::TaskKind;

/// How many kinds one page shows.
const KINDS: usize = 200;

/// What is known of a kind.
#[derive(Clone, Debug, Default)]
pub struct Row<'a> {
    /// How many nodes that are up offer it.
    pub offered: usize,
    pub paused: bool,
    pub closed: bool,
    pub limit: Option<&'a LimitStats>,
    /// What is counted of it; `None` if it has no counters of its own.
    pub metrics: Option<&'a KindMetrics>,
}

/// Makes the page.
pub fn body(reader: &Reader, moment: &Moment) -> Body {
    let rows = rows(&moment.snapshot);
    let main = html! {
        h1 { "Kinds" }
        @if moment.snapshot.stats.pauses.all {
            p.warning { "All kinds are paused." }
            (reader.button(Action::ResumeAll, "Resume all kinds", &[], "kinds"))
        }
        div.wide #kinds data-part="values" { (table(reader, &rows, &moment.before)) }
        p.soft #lately data-part="whole" {
            "Failed lately means in the last " (span(Duration::from_secs(moment.before.seconds)))
            ", up to 15 minutes, for as long as this dashboard looks. All other counts and times \
             are since the scheduler has started."
        }
        @if rows.len() > KINDS {
            p { "The first " (KINDS) " of " (rows.len()) " kinds are shown." }
        }
    };
    Body {
        state: state(moment),
        main,
    }
}

/// Returns what is known of each kind.
pub fn rows(snapshot: &Snapshot) -> BTreeMap<&TaskKind, Row<'_>> {
    let stats = &snapshot.stats;
    let mut rows = BTreeMap::<_, Row<'_>>::new();
    for node in &stats.nodes {
        for kind in &node.kinds {
            let up = node.state == NodeState::Up;
            rows.entry(kind).or_default().offered += usize::from(up);
        }
    }
    for kind in &stats.pauses.kinds {
        rows.entry(kind).or_default().paused = true;
    }
    for kind in &stats.pauses.closed {
        rows.entry(kind).or_default().closed = true;
    }
    for limit in &stats.limits {
        rows.entry(&limit.kind).or_default().limit = Some(limit);
    }
    for metrics in &snapshot.machine.kinds {
        if let Some(kind) = &metrics.counts.kind {
            rows.entry(kind).or_default().metrics = Some(metrics);
        }
    }
    rows
}

/// Returns the table of the first kinds.
pub fn all(reader: &Reader, moment: &Moment) -> Markup {
    table(reader, &rows(&moment.snapshot), &moment.before)
}

fn table(reader: &Reader, rows: &BTreeMap<&TaskKind, Row<'_>>, before: &Before) -> Markup {
    if rows.is_empty() {
        return html! { p { "No node offers any kind." } };
    }
    html! {
        table {
            thead {
                tr {
                    th { "kind" } th.number { "nodes" } th.number { "due" } th.number { "running" }
                    th.times { "wait" } th.times { "run time" } th.number { "failed lately" }
                    th { "starts" } th { "limit" } th.does { "does" }
                }
            }
            tbody {
                @for (at, (kind, row)) in rows.iter().take(KINDS).enumerate() {
                    tr data-kind=(kind) {
                        th scope="row" {
                            (name(kind.as_str()))
                            span hidden data-live=(format!("kind-{at}-{kind}-{}", row.id())) {}
                        }
                        td.number { span data-live=(format!("offered-{at}")) { (row.offered) } }
                        (numbers(at, kind, row.metrics, before))
                        td {
                            @if row.paused { b.warning { "paused" } } @else { "yes" }
                            @if row.closed { br; b.warning { "intake closed" } }
                        }
                        td { span data-live=(format!("limit-{at}")) { (limit(row.limit)) } }
                        td.does { (hands(reader, kind, row)) }
                    }
                }
            }
        }
    }
}

/// Returns what is counted of a kind, as cells. Only so many kinds have counters of their own.
fn numbers(at: usize, kind: &TaskKind, metrics: Option<&KindMetrics>, before: &Before) -> Markup {
    let Some(metrics) = metrics else {
        return html! { td colspan="5" { span.soft { "not counted by name" } } };
    };
    html! {
        td.number {
            (live(&format!("due-{at}"), metrics.pending))
            span data-live=(format!("oldest-{at}")) {
                @if !metrics.oldest_due.is_zero() {
                    br; span.soft { "oldest " (span(metrics.oldest_due)) }
                }
            }
        }
        td.number { (live(&format!("running-{at}"), metrics.running)) }
        td { (live(&format!("wait-{at}"), quantiles(&metrics.counts.wait))) }
        td { (live(&format!("run-{at}"), quantiles(&metrics.counts.runs()))) }
        @let failed = metrics.counts.failed();
        td.number {
            (live(&format!("failed-{at}"), before.since(kind, failed)))
            span data-live=(format!("failed-ever-{at}")) {
                @if failed > 0 { br; span.soft { (failed) " in all" } }
            }
        }
    }
}

/// Returns the median and the 99th percentile, as the bounds of the buckets in which they are.
fn quantiles(times: &Histogram) -> String {
    if times.count() == 0 {
        return "none yet".to_owned();
    }
    let bound = |percent| match times.percentile(percent) {
        None | Some(u64::MAX) => "over an hour".to_owned(),
        Some(bound) => span(Duration::from_nanos(bound)),
    };
    format!("p50 to {}, p99 to {}", bound(50), bound(99))
}

impl Row<'_> {
    /// Returns what changes the buttons of the row, so that the script makes them anew.
    fn id(&self) -> String {
        format!("{}{}", u8::from(self.paused), u8::from(self.closed))
    }
}

fn limit(limit: Option<&LimitStats>) -> Markup {
    let Some(stats) = limit else {
        return html! { "none" };
    };
    let bounds = stats.limit.of_kind();
    html! {
        @if let Some(most) = bounds.concurrency { (stats.going) " of " (most) " go on" }
        @if let Some(rate) = bounds.rate {
            @if bounds.concurrency.is_some() { br; }
            (rate.starts) " in " (span(rate.period))
            @if let Some(burst) = bounds.burst { ", " (burst) " at once" }
        }
        @if let Some(groups) = stats.limit.of_groups() {
            br;
            span.soft {
                "each group:"
                @if let Some(most) = groups.concurrency { " " (most) " at once" }
                @if let Some(rate) = groups.rate { " " (rate.starts) " in " (span(rate.period)) }
            }
        }
        @if stats.waiting > 0 { br; b.warning { (stats.waiting) " wait for it" } }
    }
}

fn hands(reader: &Reader, kind: &TaskKind, row: &Row<'_>) -> Markup {
    let named = [("kind", kind.as_str())];
    let (pause, pause_label) = if row.paused {
        (Action::Resume, "Resume")
    } else {
        (Action::Pause, "Pause")
    };
    let (intake, intake_label) = if row.closed {
        (Action::OpenIntake, "Open intake")
    } else {
        (Action::CloseIntake, "Close intake")
    };
    let bounds = row.limit.map(|it| it.limit.of_kind()).unwrap_or_default();
    let groups = row.limit.and_then(|it| it.limit.of_groups());
    let groups = groups.unwrap_or_default();
    let seconds = bounds.rate.map_or(1, |rate| rate.period.as_secs().max(1));
    let shown = words(kind.as_str(), 60);
    html! {
        (reader.button(pause, pause_label, &named, "kinds"))
        (reader.button(intake, intake_label, &named, "kinds"))
        @if reader.access >= Action::Limit.least() {
            details {
                summary { "Set limit" }
                (reader.form(Action::Limit, &named, "kinds", html! {
                    (bound("concurrency", "at once", bounds.concurrency, &shown))
                    (bound("rate", "starts", bounds.rate.map(|rate| rate.starts), &shown))
                    (bound("period_seconds", "in seconds", Some(seconds), &shown))
                    (bound("burst", "burst", bounds.burst, &shown))
                    (bound("group_concurrency", "of each group at once", groups.concurrency, &shown))
                    button { "Set limit" }
                    p.soft { "What is left empty is not limited." }
                }))
            }
        }
    }
}

fn bound(field: &str, label: &str, value: Option<impl std::fmt::Display>, kind: &str) -> Markup {
    let value = value.map(|value| value.to_string());
    html! {
        label {
            (label) " "
            input type="number" min="1" name=(field) value=[value]
                aria-label=(format!("{label}, for {kind}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_told_as_the_bounds_of_their_buckets() {
        let mut times = Histogram::default();
        assert_eq!(quantiles(&times), "none yet");
        (0..98).for_each(|_| times.add(Duration::from_millis(3)));
        (0..2).for_each(|_| times.add(Duration::from_secs(7)));
        assert_eq!(quantiles(&times), "p50 to 5 ms, p99 to 10 s");
        times = Histogram::default();
        times.add(Duration::from_secs(7200));
        assert_eq!(
            quantiles(&times),
            "p50 to over an hour, p99 to over an hour"
        );
    }
}
