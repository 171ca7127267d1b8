//! The unfinished tasks: a search line, and page by page what it finds.
//!
//! Owns: what stands there, and how much one page looks at. Does not know: what passes.

use maud::{Markup, html};

use super::{Body, Reader, ago, name, words};
use crate::dashboard::actions::Action;
use crate::dashboard::asked::Asked;
use crate::dashboard::looking::{self, find};
use crate::dashboard::sweeps::Progress;
use crate::dashboard::text::counted;
use crate::dashboard::watch::Moment;
use crate::dashboard::wrong::Wrong;
use crate::search::FoundTask;

/// How many tasks a page shows.
const TASKS: usize = 100;

/// How many tasks are found to be counted, before it is only said that there are more.
const COUNTED: usize = 10_000;

/// Makes the page.
///
/// # Errors
///
/// As for [`find`].
pub async fn body(asked: &Asked<'_>, reader: &Reader, moment: &Moment) -> Result<Body, Wrong> {
    let line = asked.query.text("q").unwrap_or_default();
    let page = find(asked, TASKS).await?;
    let main = html! {
        h1 { "Unfinished tasks" }
        form.search method="get" action=(reader.link("tasks", &[])) role="search" {
            @if let Some(scheduler) = &reader.scheduler {
                input type="hidden" name="scheduler" value=(scheduler);
            }
            input type="search" name="q" value=(line) maxlength="1024" aria-label="Search"
                placeholder="kind:mail.send state:due age>10m attempts>1";
            button { "Search" }
        }
        p.soft {
            "Words: " code { "kind: key: group: node: state: age>10m attempts>1 args.field:" }
            ". All must be true."
        }
        @if page.tasks.is_empty() {
            p { "None of the " (page.looked) " tasks that were looked at matches." }
        } @else {
            div.wide { (table(reader, moment, &page.tasks)) }
        }
        @if let Some(next) = page.next {
            @let next = next.get().to_string();
            p { a rel="next" href=(reader.link("tasks", &[("q", line), ("after", &next)])) {
                "Go on after the " (page.looked) " tasks that were looked at"
            } }
        }
        @if !line.is_empty() && reader.access >= Action::CancelAll.least() {
            p { a.button href=(reader.link("confirm", &[("action", "cancel_all"), ("q", line)])) {
                "Cancel all that match"
            } }
        }
        @let sweeps = asked.watch.sweeps.progress();
        @if !sweeps.is_empty() { (of_sweeps(reader, &sweeps)) }
    };
    Ok(Body {
        state: counted(moment.snapshot.stats.pending as u64, "task", "tasks") + " due",
        main,
    })
}

fn table(reader: &Reader, moment: &Moment, tasks: &[FoundTask]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "task" } th { "kind" } th { "state" } th { "node" } th { "accepted" }
                    th.number { "attempts" } th { "key, group" } th { "does" }
                }
            }
            tbody {
                @for task in tasks {
                    @let id = task.id.get().to_string();
                    tr data-task=(id) {
                        th scope="row" { a href=(reader.link("task", &[("id", &id)])) { (id) } }
                        td { (name(task.kind.as_str())) }
                        td { (task.state) @if task.exclusive { br; span.soft { "exclusive" } } }
                        td { @if let Some(node) = &task.node { (name(node)) } }
                        td { (ago(task.accepted_at, moment.at)) }
                        td.number { (task.attempts) }
                        td {
                            @if let Some(key) = &task.key { (name(key.as_str())) }
                            @if let Some(group) = &task.group {
                                br; span.soft { (name(group.as_str())) }
                            }
                        }
                        td { (reader.button(Action::Cancel, "Cancel", &[("id", &id)], "tasks")) }
                    }
                }
            }
        }
    }
}

fn of_sweeps(reader: &Reader, sweeps: &[Progress]) -> Markup {
    html! {
        h2 { "Cancels of all that match" }
        ul {
            @for sweep in sweeps {
                @let number = sweep.sweep.to_string();
                li data-sweep=(number) {
                    code { bdi { (words(&sweep.search, 300)) } } " by " (name(&sweep.user)) ": "
                    (sweep.state) ", " (sweep.cancelled) " cancelled, " (sweep.not_cancelled)
                    " not, " (sweep.looked) " looked at "
                    @if sweep.state == "running" {
                        (reader.button(Action::StopSweep, "Stop", &[("sweep", &number)], "tasks"))
                    }
                }
            }
        }
    }
}

/// Makes the page that counts what matches, before all of it is cancelled.
///
/// # Errors
///
/// As for [`find`], or the search means all tasks.
pub async fn confirm(asked: &Asked<'_>, reader: &Reader, moment: &Moment) -> Result<Body, Wrong> {
    let line = asked.query.required("q")?;
    let filter = looking::narrow(asked, line)?;
    let page = looking::page(asked, &filter, COUNTED).await?;
    let kinds: std::collections::BTreeSet<_> = page.tasks.iter().map(|task| &task.kind).collect();
    let oldest = page.tasks.iter().map(|task| task.accepted_at).min();
    let at_least = if page.next.is_some() { "At least " } else { "" };
    let main = html! {
        h1 { "Cancel all that match" }
        p { code { bdi { (words(line, 1000)) } } }
        p #count {
            (at_least) b { (page.tasks.len()) } " tasks of " (kinds.len()) " kinds"
            @if let Some(oldest) = oldest { ", the oldest accepted " (ago(oldest, moment.at)) }
            "."
        }
        p { "Those that are accepted from now on are not meant. It goes on in the background, and \
             can be stopped." }
        (reader.form(Action::CancelAll, &[("q", line)], "tasks", html! {
            button.sure { "Cancel them" }
        }))
        p { a href=(reader.link("tasks", &[("q", line)])) { "Leave them as they are" } }
    };
    Ok(Body {
        state: "Cancel all that match".to_owned(),
        main,
    })
}
