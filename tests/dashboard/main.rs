//! The dashboard over HTTP: what each level of access may do, what a page shows, what acts.
//!
//! Owns: a scheduler that is shown, and how it is asked. Does not know: how pages are made.

#![allow(clippy::unwrap_used, reason = "a test")]

mod access;
mod api;
mod audit;
mod failures;
mod forms;
mod life;
mod overview;
mod pages;
mod report;
mod tasks;

use actix_web::HttpRequest;
use actix_web::body::{MessageBody, to_bytes};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, LOCATION};
use actix_web::test::TestRequest;
use bytes::Bytes;
use callboard::dashboard::{self, Access, Dashboard};
use callboard::{Handlers, Node, Scheduler, Shutdown, TaskError};
use serde_json::Value;

/// The levels, lowest first, by the names by which a test asks.
const LEVELS: [(&str, Access); 4] = [
    ("none", Access::None),
    ("read", Access::Read),
    ("operate", Access::Operate),
    ("full", Access::Full),
];

/// What a browser says of the host that it asks.
const HOST: &str = "board.example";
const ORIGIN: &str = "http://board.example";

/// A kind whose name does all that a name can do.
const HOSTILE: &str = "<script>alert('x')</script>\"&amp;";

async fn scheduler(name: &str) -> Scheduler {
    let handlers = Handlers::new()
        .on("double", async |n: u64| Ok(2 * n))
        .on("wait", async |(): ()| {
            std::future::pending::<()>().await;
            Ok(())
        })
        .on("fail", async |message: String| {
            Err::<(), _>(TaskError::permanent(message))
        })
        .on(HOSTILE, async |(): ()| Ok(()));
    let node = Node::local("here", handlers).max_workers(2);
    let scheduler = Scheduler::builder(name).node(node).no_client();
    scheduler.start().await.unwrap()
}

/// A dashboard that gives the access that a request names.
fn board(scheduler: &Scheduler) -> Dashboard {
    dashboard::scope("/tasks")
        .scheduler(scheduler)
        .access(level)
        .user(|req| header(req, "user").unwrap_or("nobody").to_owned())
}

fn header<'a>(req: &'a HttpRequest, name: &str) -> Option<&'a str> {
    req.headers().get(name).map(|value| value.to_str().unwrap())
}

fn level(req: &HttpRequest) -> Access {
    let named = header(req, "level").unwrap_or("none");
    let known = LEVELS.iter().find(|(name, _)| *name == named);
    known.unwrap().1
}

fn get(path: &str, level: &str) -> TestRequest {
    TestRequest::get()
        .uri(path)
        .insert_header(("host", HOST))
        .insert_header(("level", level))
}

/// A program that acts.
fn post_json(path: &str, level: &str, body: &str) -> TestRequest {
    TestRequest::post()
        .uri(path)
        .insert_header(("host", HOST))
        .insert_header(("level", level))
        .insert_header(("authorization", "Bearer of a program"))
        .insert_header((CONTENT_TYPE, "application/json"))
        .set_payload(body.to_owned())
}

/// A form of a page.
fn post_form(path: &str, level: &str, body: &str) -> TestRequest {
    TestRequest::post()
        .uri(path)
        .insert_header(("host", HOST))
        .insert_header(("level", level))
        .insert_header(("origin", ORIGIN))
        .insert_header((CONTENT_TYPE, "application/x-www-form-urlencoded"))
        .set_payload(body.to_owned())
}

/// Serves a dashboard, and gives a function that asks it.
macro_rules! serve {
    ($board:expr) => {
        &actix_web::test::init_service(actix_web::App::new().service($board)).await
    };
}
use serve;

/// Asks a dashboard.
macro_rules! ask {
    ($app:expr, $request:expr) => {
        actix_web::test::call_service($app, $request.to_request()).await
    };
}
use ask;

async fn text(answer: ServiceResponse) -> String {
    let bytes = to_bytes(answer.into_body()).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json(answer: ServiceResponse) -> Value {
    assert_eq!(answer.status(), StatusCode::OK);
    serde_json::from_str(&text(answer).await).unwrap()
}

fn location(answer: &ServiceResponse) -> &str {
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    answer.headers().get(LOCATION).unwrap().to_str().unwrap()
}

/// Returns the token of a page.
fn token(page: &str) -> &str {
    let (_, after) = page
        .split_once(r#"name="callboard-token" content=""#)
        .unwrap();
    after.split_once('"').unwrap().0
}

/// Returns the next event of a stream.
async fn next_event<B: MessageBody>(stream: &mut std::pin::Pin<&mut B>) -> Value {
    let next = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await;
    let bytes: Bytes = next.unwrap().map_err(|_| "the stream broke").unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let data = text.strip_prefix("data: ").unwrap();
    serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap()
}

async fn finish(scheduler: Scheduler) {
    scheduler.shutdown(Shutdown::Now).await.unwrap();
}
