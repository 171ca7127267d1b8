//! Which address leads where, and who may go there.
//!
//! Owns: the one place where access is asked. Does not know: what is answered there.

use std::rc::Rc;

use actix_web::http::header::LOCATION;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::actions::{self, Action};
use super::asked::{Asked, Fields, id};
use super::guard::{self, Way};
use super::pages::{self, Place, Reader, Tab};
use super::wrong::Wrong;
use super::{Access, Board, api, assets, health, live, report};
use crate::task::TaskId;

/// Where a request leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Page(Tab),
    TaskPage,
    Confirm,
    Style,
    Script,
    Live,
    Report,
    Health,
    Board,
    Stats,
    Metrics,
    Nodes,
    Kinds,
    Tasks,
    Sweeps,
    Task(TaskId),
    Failures,
    Events,
    Act(Way, Action),
}

impl Route {
    /// Finds the route of a path below the scope.
    ///
    /// # Errors
    ///
    /// There is none.
    fn find(path: &str) -> Result<Self, Wrong> {
        let none = || Wrong::not_found("there is no such page");
        let path = path.trim_matches('/');
        if let Some(name) = path.strip_prefix("api/actions/") {
            let action = Action::named(name).ok_or_else(none)?;
            return Ok(Self::Act(Way::Json, action));
        }
        if let Some(name) = path.strip_prefix("act/") {
            let action = Action::named(name).ok_or_else(none)?;
            return Ok(Self::Act(Way::Form, action));
        }
        if let Some(text) = path.strip_prefix("api/tasks/") {
            return id(text).map(Self::Task);
        }
        if let Some(tab) = Tab::at(path) {
            return Ok(Self::Page(tab));
        }
        match path {
            "task" => Ok(Self::TaskPage),
            "confirm" => Ok(Self::Confirm),
            "live" => Ok(Self::Live),
            "report" => Ok(Self::Report),
            "style.css" => Ok(Self::Style),
            "live.js" => Ok(Self::Script),
            "health" => Ok(Self::Health),
            "metrics" => Ok(Self::Metrics),
            "api" => Ok(Self::Board),
            "api/stats" => Ok(Self::Stats),
            "api/kinds" => Ok(Self::Kinds),
            "api/tasks" => Ok(Self::Tasks),
            "api/sweeps" => Ok(Self::Sweeps),
            "api/nodes" => Ok(Self::Nodes),
            "api/failures" => Ok(Self::Failures),
            "api/events" => Ok(Self::Events),
            _ => Err(none()),
        }
    }

    /// Returns who may go there at least.
    const fn least(self) -> Access {
        match self {
            Self::Health => Access::None,
            Self::Act(_, action) => action.least(),
            Self::Confirm => Access::Operate,
            _ => Access::Read,
        }
    }

    const fn changes(self) -> bool {
        matches!(self, Self::Act(..))
    }

    /// Returns whether a person reads the answer, also if something is wrong.
    const fn is_page(self) -> bool {
        matches!(
            self,
            Self::Page(_) | Self::TaskPage | Self::Confirm | Self::Act(Way::Form, _)
        )
    }
}

/// Answers a request.
pub async fn answer(board: &Rc<Board>, req: &HttpRequest, body: Payload) -> HttpResponse {
    let answer = match served(board, req, body).await {
        Ok(answer) => answer,
        Err(wrong) => api::wrong(&wrong),
    };
    guard::dress(answer)
}

async fn served(
    board: &Rc<Board>,
    req: &HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Wrong> {
    let access = (board.access)(req);
    let route = Route::find(req.match_info().unprocessed());
    // Whoever may see nothing does not learn either which pages there are.
    let least = route.as_ref().map_or(Access::Read, |route| route.least());
    if access < least {
        return Err(Wrong::forbidden(
            "this needs more access than the application gives to this request",
        ));
    }
    let route = route?;
    let reads = matches!(*req.method(), Method::GET | Method::HEAD);
    let fits = if route.changes() {
        *req.method() == Method::POST
    } else {
        reads
    };
    if !fits {
        return Err(Wrong::form(
            StatusCode::METHOD_NOT_ALLOWED,
            "changes are made by POST, and all else is asked by GET",
        ));
    }
    match route {
        Route::Health => return Ok(health::answer(board, access).await),
        Route::Style => return Ok(assets::STYLE.answer()),
        Route::Script => return Ok(assets::SCRIPT.answer()),
        _ => {}
    }
    let asked = Asked::read(board, req, access)?;
    match about(&asked, route, body).await {
        Err(wrong) if route.is_page() => Ok(pages::wrong(&asked, &wrong)),
        answer => answer,
    }
}

/// Answers a request about a scheduler.
async fn about(asked: &Asked<'_>, route: Route, body: Payload) -> Result<HttpResponse, Wrong> {
    match route {
        Route::Page(tab) => {
            let reader = Reader::of(asked);
            let body = live::page(asked, &reader, tab).await?;
            Ok(pages::page(asked, &reader, Place::Tab(tab), &body))
        }
        Route::TaskPage => {
            let reader = Reader::of(asked);
            let id = asked.query.id("id")?;
            let body = pages::task::body(asked, &reader, id).await?;
            Ok(pages::page(asked, &reader, Place::Task(id), &body))
        }
        Route::Confirm => {
            let reader = Reader::of(asked);
            let moment = asked.watch.moment().await?;
            let body = match asked.query.text("action").and_then(Action::named) {
                Some(Action::CancelAll) => pages::tasks::confirm(asked, &reader, &moment).await?,
                Some(action @ (Action::Forget | Action::ForgetAll | Action::ExecuteAgainAll)) => {
                    pages::failures::confirm(asked, &reader, action).await?
                }
                _ => pages::confirm::body(asked, &reader, &moment)?,
            };
            Ok(pages::page(asked, &reader, Place::Apart, &body))
        }
        Route::Live => live::stream(asked).await,
        Route::Report => report::answer(asked).await,
        Route::Board => Ok(api::board(asked)),
        Route::Metrics => api::metrics(asked).await,
        Route::Stats => api::stats(asked).await,
        Route::Nodes => api::nodes(asked).await,
        Route::Kinds => api::kinds(asked).await,
        Route::Tasks => api::tasks(asked).await,
        Route::Sweeps => Ok(api::sweeps(asked)),
        Route::Task(id) => api::task(asked, id).await,
        Route::Failures => api::failures(asked).await,
        Route::Events => api::events(asked).await,
        Route::Act(way, action) => {
            let fields = asked.body(way, body).await?;
            guard::let_through(asked.req, way, fields.text("token"), &asked.user())?;
            let done = actions::perform(asked, action, &fields).await?;
            Ok(match way {
                Way::Json => api::answer(&json!({ "done": done })),
                Way::Form => back(asked, &fields, done),
            })
        }
        Route::Health | Route::Style | Route::Script => {
            Err(Wrong::not_found("this is about no scheduler"))
        }
    }
}

/// Leads back to the page from which a form came, which says what was done.
fn back(asked: &Asked<'_>, fields: &Fields, done: String) -> HttpResponse {
    let note = asked.watch.note(done).to_string();
    let page = fields.text("back").and_then(Tab::at);
    let page = page.unwrap_or(Tab::Overview).path();
    let address = Reader::of(asked).link(page, &[("note", &note)]);
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address))
        .finish()
}
