//! What has failed, grouped by kind and message.
//!
//! Owns: what stands there. Does not know: what counts as the same failure.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::{Body, Reader, ago, name, words};
use crate::dashboard::actions::{self, Action};
use crate::dashboard::asked::Asked;
use crate::dashboard::failures::{self, Group, IDS, groups};
use crate::dashboard::watch::Moment;
use crate::dashboard::wrong::Wrong;
use crate::error::StoreError;

/// How many failed tasks are looked at, the newest first.
pub const LOOKED: usize = 1000;

/// Makes the page.
///
/// # Errors
///
/// The store cannot be read.
pub async fn body(asked: &Asked<'_>, reader: &Reader, moment: &Moment) -> Result<Body, Wrong> {
    let turn = asked.watch.turn().await;
    let filter = failures::filter(&asked.query)?;
    let scheduler = asked.watch.scheduler();
    let page = match scheduler.settled_page(filter, None, LOOKED).await {
        Err(StoreError::NoStore) => {
            return Ok(Body {
                state: "no store".to_owned(),
                main: html! {
                    h1 { "Failures" }
                    p { "This scheduler has no store, so that nothing is kept of what has failed." }
                },
            });
        }
        page => page?,
    };
    drop(turn);
    let groups = groups(&page.statuses);
    let is_narrow = failures::narrow(&asked.query).is_ok();
    let main = html! {
        h1 { "Failures" }
        (search(asked, reader))
        @if groups.is_empty() && is_narrow {
            p { "The store keeps no failed task of which this is true." }
        } @else if groups.is_empty() {
            p.good { "The store keeps no task that has failed." }
        }
        @if page.next.is_some() {
            p { "Of more than " (LOOKED) " failed tasks the newest " (LOOKED) " are grouped." }
        }
        @if is_narrow && !groups.is_empty() { p { (all_that_match(asked, reader)) } }
        @if !groups.is_empty() { div.wide { (table(reader, moment, &groups)) } }
    };
    Ok(Body {
        state: format!("{} failed", page.statuses.len()),
        main,
    })
}

/// Returns the fields of the search.
fn search(asked: &Asked<'_>, reader: &Reader) -> Markup {
    let value = |name: &str| asked.query.text(name).map(str::to_owned);
    html! {
        form.search method="get" action=(reader.link("failures", &[])) role="search" {
            @if let Some(scheduler) = &reader.scheduler {
                input type="hidden" name="scheduler" value=(scheduler);
            }
            input type="search" name="kind" value=[value("kind")] placeholder="kind"
                aria-label="Kind" maxlength="512";
            input type="search" name="message" value=[value("message")]
                placeholder="a part of the message" aria-label="A part of the message"
                maxlength="512";
            label { "in the last " input type="number" name="hours" min="1" max="87600"
                value=[value("hours")] aria-label="In the last hours"; " hours" }
            button { "Search" }
        }
    }
}

/// Returns the links to what can be done with all that match, each of which counts first.
fn all_that_match(asked: &Asked<'_>, reader: &Reader) -> Markup {
    let all = [
        (Action::ExecuteAgainAll, "Run all that match again"),
        (Action::ForgetAll, "Forget all that match"),
    ];
    html! {
        @for (action, label) in all {
            @if reader.access >= action.least() {
                @let named = std::iter::once(("action", action.name()));
                @let fields: Vec<_> = named.chain(chosen(asked)).collect();
                a.button href=(reader.link("confirm", &fields)) data-action=(action.name()) {
                    (label)
                }
                " "
            }
        }
    }
}

/// Returns the fields of the search that say something.
fn chosen<'a>(asked: &'a Asked<'_>) -> impl Iterator<Item = (&'static str, &'a str)> {
    let fields = failures::FIELDS.into_iter();
    fields.filter_map(|name| Some((name, asked.query.text(name)?)))
}

/// Makes the page that says what would be forgotten or run again, before it is.
///
/// # Errors
///
/// The search means all failures or none is named, or the store cannot be read.
pub async fn confirm(asked: &Asked<'_>, reader: &Reader, action: Action) -> Result<Body, Wrong> {
    if asked.access < action.least() {
        return Err(Wrong::forbidden(
            "this needs more access than the application gives to this request",
        ));
    }
    let now = SystemTime::now();
    let (title, label) = match action {
        Action::ExecuteAgainAll => ("Run again what has failed", "Run them again"),
        _ => ("Forget what has failed", "Forget them"),
    };
    let says = match action {
        Action::ExecuteAgainAll => "Each is handed in as a new task, with the same args.",
        _ => {
            "What the store keeps of them is gone for good: their args, and why they failed. They \
              cannot be run again then."
        }
    };
    let (count, fields) = if action == Action::Forget {
        let ids = actions::ids(&asked.query)?;
        let count = html! { b { (ids.len()) } " failed tasks are named." };
        (count, vec![("id", asked.query.required("id")?.to_owned())])
    } else {
        // What fails while somebody reads this page is not meant.
        let until = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let until = until.as_secs() + 1;
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(until);
        let until = until.to_string();
        let filter = failures::narrow(&asked.query)?.until(end);
        let turn = asked.watch.turn().await;
        let survey = asked.watch.scheduler().survey_settled(filter).await?;
        drop(turn);
        let count = html! {
            b { (survey.tasks) } " failed tasks of " (survey.kinds.len()) " kinds match"
            @if let Some(oldest) = survey.oldest { ", the oldest failed " (ago(oldest, now)) }
            ". What fails from now on is not meant."
        };
        let named = chosen(asked).filter(|(name, _)| *name != "until");
        let mut fields: Vec<_> = named.map(|(name, text)| (name, text.to_owned())).collect();
        fields.push(("until", until));
        (count, fields)
    };
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let shown = fields
        .iter()
        .filter(|(name, _)| ["kind", "message", "hours"].contains(name));
    let main = html! {
        h1 { (title) }
        @for (name, text) in shown { p { (name) ": " code { bdi { (words(text, 600)) } } } }
        p #count { (count) }
        p { (says) }
        (reader.form(action, &fields, "failures", html! { button.sure { (label) } }))
        p { a href=(reader.link("failures", &[])) { "Leave them as they are" } }
    };
    Ok(Body {
        state: title.to_owned(),
        main,
    })
}

fn table(reader: &Reader, moment: &Moment, groups: &[Group]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "kind" } th { "what" } th.number { "count" } th { "first" } th { "last" }
                    th { "tasks" } th { "does" }
                }
            }
            tbody {
                @for group in groups {
                    tr data-failure=(group.message) {
                        th scope="row" { (name(group.kind.as_str())) }
                        td { span.bad { (group.cause) } ": " bdi { (words(&group.message, 300)) } }
                        td.number { (group.count) }
                        td { (ago(group.first, moment.at)) }
                        td { (ago(group.last, moment.at)) }
                        td {
                            @for id in group.ids.iter().take(5) {
                                @let id = id.get().to_string();
                                a href=(reader.link("task", &[("id", &id)])) { (id) } " "
                            }
                            @if group.ids.len() > 5 { "\u{2026}" }
                        }
                        td { (again(reader, group)) " " (forget(reader, group)) }
                    }
                }
            }
        }
    }
}

fn again(reader: &Reader, group: &Group) -> Markup {
    let ids: Vec<_> = group.ids.iter().map(|id| id.get().to_string()).collect();
    let label = match group.count {
        1 => "Run again".to_owned(),
        count if count > IDS => format!("Run the newest {IDS} again"),
        count => format!("Run all {count} again"),
    };
    let ids = ids.join(",");
    reader.button(Action::ExecuteAgain, &label, &[("id", &ids)], "failures")
}

fn forget(reader: &Reader, group: &Group) -> Markup {
    let ids: Vec<_> = group.ids.iter().map(|id| id.get().to_string()).collect();
    let label = match group.count {
        1 => "Forget".to_owned(),
        count if count > IDS => format!("Forget the newest {IDS}"),
        count => format!("Forget all {count}"),
    };
    reader.asks_twice(Action::Forget, &label, ("id", &ids.join(",")))
}
