//! What has failed, grouped by kind and message.
//!
//! Owns: what stands there. Does not know: what counts as the same failure.

use maud::{Markup, html};

use super::{Body, Reader, ago, name, words};
use crate::dashboard::actions::Action;
use crate::dashboard::asked::Asked;
use crate::dashboard::failures::{Group, IDS, groups};
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
    let page = match asked.watch.scheduler().failed(None, LOOKED).await {
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
    let main = html! {
        h1 { "Failures" }
        @if groups.is_empty() { p.good { "The store keeps no task that has failed." } }
        @if page.next.is_some() {
            p { "Of more than " (LOOKED) " failed tasks the newest " (LOOKED) " are grouped." }
        }
        @if !groups.is_empty() { div.wide { (table(reader, moment, &groups)) } }
    };
    Ok(Body {
        state: format!("{} failed", page.statuses.len()),
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
                        td { (again(reader, group)) }
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
