//! Pages that move: the content of a page anew, once a second, made once for all who see the same.
//!
//! Owns: what is sent. Does not know: what stands on a page.

use std::fmt::Debug;
use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::HttpResponse;
use bytes::Bytes;
use serde_json::json;

use super::api::{event, streamed};
use super::asked::Asked;
use super::pages::{self, Body, Reader, Tab};
use super::rings::Reach;
use super::text::words;
use super::watch::Moment;
use super::wrong::Wrong;

/// How often the plots over more than 15 minutes are sent anew: they hardly change, and are most of
/// the overview.
const LONG_PLOTS: u64 = 10;

/// Makes the content of a page from a moment; that of the overview if a page needs more.
fn body(reader: &Reader, tab: Tab, moment: &Moment, reaches: &[Reach]) -> Body {
    match tab {
        Tab::Kinds => pages::kinds::body(reader, moment),
        Tab::Nodes => pages::nodes::body(reader, moment),
        Tab::Overview | Tab::Tasks | Tab::Failures => {
            pages::overview::body(reader, moment, reaches)
        }
    }
}

/// Makes the content of a page for a request.
///
/// # Errors
///
/// The request cannot be understood, or the scheduler has stopped or does not answer.
pub async fn page(asked: &Asked<'_>, reader: &Reader, tab: Tab) -> Result<Body, Wrong> {
    let moment = asked.watch.moment().await?;
    match tab {
        Tab::Tasks => pages::tasks::body(asked, reader, &moment).await,
        Tab::Failures => pages::failures::body(asked, reader, &moment).await,
        _ => Ok(body(reader, tab, &moment, &Reach::ALL)),
    }
}

/// Streams a page.
///
/// # Errors
///
/// There is no such page, or the scheduler has stopped or does not answer.
pub async fn stream(asked: &Asked<'_>) -> Result<HttpResponse, Wrong> {
    let none = || Wrong::not_found("there is no such page");
    let mut reader = Reader::of(asked);
    reader.token = None;
    reader.base = base(asked).ok_or_else(none)?;
    let page = asked.query.text("page").unwrap_or_default();
    if page == "task" {
        return task(asked, reader).await;
    }
    let tab = Tab::at(page).filter(|tab| tab.is_live()).ok_or_else(none)?;
    let environment = asked.board.title.as_ref().map(|(title, _)| title.clone());
    let mut moments = asked.watch.view()?;
    let first = asked.watch.moment().await?;
    moments.mark_unchanged();
    let key = key((tab, &environment), &reader);
    let shared = Rc::new((key, reader, environment));
    let write = move |moment: Arc<Moment>| {
        let shared = Rc::clone(&shared);
        async move {
            let (key, reader, environment) = &*shared;
            let make = || {
                // What a page is not sent of itself stays as it was.
                let reaches = match moment.number % LONG_PLOTS {
                    0 => &Reach::ALL[..],
                    _ => &Reach::ALL[..1],
                };
                let body = body(reader, tab, &moment, reaches);
                ready(fragment(&moment, &body, environment.as_deref()))
            };
            moment.fragment(key, make).await
        }
    };
    Ok(streamed(first, moments, asked.still_may(), write))
}

/// Streams the page of a task, of which the scheduler is asked anew each second, once for all who
/// see the same.
async fn task(asked: &Asked<'_>, reader: Reader) -> Result<HttpResponse, Wrong> {
    let id = asked.query.id("id")?;
    // Another board may take something else out of what handlers have told.
    let key = key((id, asked.board.number), &reader);
    let mut moments = asked.watch.view()?;
    let first = asked.watch.moment().await?;
    moments.mark_unchanged();
    let (board, req, access) = (Rc::clone(asked.board), asked.req.clone(), asked.access);
    let shared = Rc::new((key, reader, board, req));
    let write = move |moment: Arc<Moment>| {
        let shared = Rc::clone(&shared);
        async move {
            let (key, reader, board, req) = &*shared;
            let make = async || {
                let body = match Asked::read(board, req, access) {
                    Ok(asked) => pages::task::body(&asked, reader, id).await,
                    Err(wrong) => Err(wrong),
                };
                let body = body.unwrap_or_else(|wrong| pages::task::gone(id, &wrong));
                let environment = board.title.as_ref().map(|(title, _)| title.as_str());
                fragment(&moment, &body, environment)
            };
            moment.fragment(key, make).await
        }
    };
    Ok(streamed(first, moments, asked.still_may(), write))
}

/// Names what is the same for all who are sent it.
fn key(what: impl Debug, reader: &Reader) -> String {
    format!(
        "{what:?} {:?} {} {:?}",
        reader.access, reader.base, reader.scheduler
    )
}

/// Returns what leads from the page to the scope, as the page says: one of the three ways there
/// are, and nothing else that somebody might put there.
fn base(asked: &Asked<'_>) -> Option<String> {
    let said = asked.query.text("base").unwrap_or_default();
    let mut parts = asked.req.uri().path().trim_end_matches('/').rsplit('/');
    let scope = parts.nth(1).unwrap_or_default();
    let known = said.is_empty() || said == "../" || said == format!("./{scope}/");
    known.then(|| said.to_owned())
}

fn fragment(moment: &Moment, body: &Body, environment: Option<&str>) -> Bytes {
    let name = words(&moment.snapshot.stats.scheduler, 120);
    let mut title = format!("{} \u{2013} {name}", body.state);
    if let Some(environment) = environment {
        title = format!("{title} \u{2013} {environment}");
    }
    let told = json!({ "title": title, "html": body.main.0 });
    event(told.to_string().as_bytes())
}
