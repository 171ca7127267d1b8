//! The moment as one file, to be kept or attached to an issue.
//!
//! Owns: what stands in it. Does not know: who may have it.
//!
//! It has its style inside, and no script, link or form. The file says itself that a browser is to
//! load nothing for it, since no server does when it is opened.

use std::time::SystemTime;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_DISPOSITION;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Access;
use super::asked::Asked;
use super::assets;
use super::failures::{Group, groups};
use super::pages::failures::LOOKED;
use super::pages::{Reader, kinds, name, nodes, overview};
use super::rings::Reach;
use super::text::{ago, words};
use super::watch::Moment;
use super::wrong::Wrong;
use crate::error::StoreError;
use crate::store::retained::SettledFilter;

/// Nothing is loaded, and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// How many groups of failures are listed.
const GROUPS: usize = 100;

/// Answers with the file.
///
/// # Errors
///
/// The scheduler has stopped or does not answer, or its store cannot be read.
pub async fn answer(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let moment = asked.watch.moment().await?;
    let turn = asked.watch.turn().await;
    let scheduler = asked.watch.scheduler();
    let filter = SettledFilter::default();
    let failed = match scheduler.settled_page(filter, None, LOOKED).await {
        Err(StoreError::NoStore) => None,
        page => Some(groups(&page?.statuses)),
    };
    drop(turn);
    let at = moment.at.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = at.unwrap_or_default().as_secs();
    let file = format!("{}-{seconds}.html", file_name(asked.watch.name()));
    let page = page(asked, &moment, seconds, failed.as_deref());
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{file}\""),
        ))
        .body(page.into_string()))
}

/// Returns a name without what may not stand in that of a file.
fn file_name(name: &str) -> String {
    let plain = name.chars().take(60).map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => letter,
        _ => '-',
    });
    plain.collect()
}

fn page(asked: &Asked<'_>, moment: &Moment, seconds: u64, failed: Option<&[Group]>) -> Markup {
    let scheduler = asked.watch.name();
    let title = asked.board.title.as_ref();
    // For somebody who may do nothing, there is no button.
    let reader = Reader {
        access: Access::Read,
        base: String::new(),
        scheduler: None,
        token: None,
    };
    let stats = &moment.snapshot.stats;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (words(scheduler, 120)) " at " (utc(seconds)) }
                style { (PreEscaped(assets::STYLE.text())) ".does { display: none; }" }
            }
            body {
                header class=(title.map_or("grey", |(_, colour)| colour.class())) {
                    @if let Some((title, _)) = title { strong.environment { (words(title, 120)) } }
                    span.scheduler { (name(scheduler)) }
                    span { (utc(seconds)) }
                }
                main {
                    h1 { "What was wrong" }
                    (overview::problems(None, &moment.problems))
                    h2 { "Tasks" }
                    (overview::numbers(stats))
                    @for reach in Reach::ALL {
                        @let (_, _, span) = reach.measures();
                        h3 { "Over " (span) }
                        div.plots { (overview::plots(moment, reach)) }
                    }
                    h2 { "Due, by kind and priority" }
                    div.wide { (overview::due(moment)) }
                    h2 { "Kinds and limits" }
                    div.wide { (kinds::all(&reader, moment)) }
                    h2 { "Nodes" }
                    div.wide { (nodes::table(&reader, moment)) }
                    @if let Some(store) = overview::store(stats) { h2 { "Store" } (store) }
                    h2 { "Failures" }
                    (failures(moment, failed))
                    (marks(moment))
                    p.soft { "Made by callboard " (env!("CARGO_PKG_VERSION")) "." }
                }
            }
        }
    }
}

fn failures(moment: &Moment, groups: Option<&[Group]>) -> Markup {
    let Some(groups) = groups else {
        return html! { p { "There is no store, so that nothing is kept of what has failed." } };
    };
    html! {
        @if groups.is_empty() { p.good { "The store keeps no task that has failed." } } @else {
            p.soft { "Of the newest " (LOOKED) " failed tasks that the store keeps." }
            div.wide {
                table {
                    thead {
                        tr {
                            th { "kind" } th { "what" } th.number { "count" } th { "first" }
                            th { "last" }
                        }
                    }
                    tbody {
                        @for group in groups.iter().take(GROUPS) {
                            tr {
                                th scope="row" { (name(group.kind.as_str())) }
                                td { span.bad { (group.cause) } ": "
                                    bdi { (words(&group.message, 300)) } }
                                td.number { (group.count) }
                                td { (ago(group.first, moment.at)) }
                                td { (ago(group.last, moment.at)) }
                            }
                        }
                    }
                }
            }
        }
        @if groups.len() > GROUPS { p { (groups.len() - GROUPS) " groups more." } }
    }
}

/// Lists the marks: a file has no cursor that could rest on a line.
fn marks(moment: &Moment) -> Markup {
    html! {
        @if !moment.marks.is_empty() {
            h2 { "Marks" }
            ul {
                @for (at, text) in &moment.marks {
                    li { (ago(*at, moment.at)) ": " bdi { (words(text, 200)) } }
                }
            }
        }
    }
}

/// Returns a moment, in seconds since 1970, as it is written everywhere: `2026-11-29 21:58:38 UTC`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Years that begin in March end with the leap day; there are 146,097 days in 400 of them.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_by_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
        assert_eq!(file_name("a/b \"c\u{e9}"), "a-b--c-");
    }
}
