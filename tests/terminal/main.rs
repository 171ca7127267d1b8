//! The binary `callboard` in a terminal, against the dashboard of an application that runs.
//!
//! Owns: a dashboard that is served, and how the command is run. Does not know: how it asks.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../certificates/mod.rs"]
mod certificates;
mod commands;
mod hostile;
mod strange;
#[cfg(feature = "tls")]
mod tls;
mod top;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use actix_web::dev::ServerHandle;
use actix_web::rt::task::spawn_blocking;
use actix_web::{App, HttpRequest, HttpServer};
use callboard::dashboard::{self, Access, Colour};
use callboard::{Handlers, Node, Scheduler, Shutdown, Store, TaskError};

/// The tokens that the application takes.
const TOKENS: [(&str, Access); 3] = [
    ("reads", Access::Read),
    ("operates", Access::Operate),
    ("sees-all", Access::Full),
];

/// A dashboard that is served on a port of its own.
struct Served {
    at: SocketAddr,
    url: String,
    handle: ServerHandle,
}

fn judge(req: &HttpRequest) -> Access {
    let sent = req.headers().get("authorization");
    let sent = sent.map(|it| it.to_str().unwrap());
    let token = sent.and_then(|it| it.strip_prefix("Bearer "));
    let known = TOKENS.iter().find(|(known, _)| token == Some(*known));
    known.map_or(Access::None, |(_, access)| *access)
}

/// Serves the dashboard of these schedulers under a title.
fn serve(
    schedulers: &[&Scheduler],
    title: &'static str,
    judge: fn(&HttpRequest) -> Access,
) -> Served {
    let all: Vec<Scheduler> = schedulers.iter().map(|&it| it.clone()).collect();
    let server = HttpServer::new(move || {
        let board = dashboard::scope("/tasks").title(title, Colour::Red);
        let board = all.iter().fold(board, |board, it| board.scheduler(it));
        App::new().service(board.access(judge))
    });
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let at = server.addrs()[0];
    let server = server.workers(1).disable_signals().run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Served {
        at,
        url: format!("http://{at}/tasks/"),
        handle,
    }
}

/// Starts a scheduler with a store, and a node with one worker.
async fn scheduler(name: &str, folder: &Path) -> Scheduler {
    let handlers = Handlers::new()
        .on("double", async |n: u64| Ok(2 * n))
        .on("wait", async |(): ()| {
            std::future::pending::<()>().await;
            Ok(())
        })
        .on("fail", async |message: String| {
            Err::<(), _>(TaskError::permanent(message))
        });
    let node = Node::local("here", handlers).max_workers(1);
    let store = Store::file(folder.join(name));
    let scheduler = Scheduler::builder(name).node(node).store(store).no_client();
    scheduler.start().await.unwrap()
}

async fn finish(scheduler: Scheduler, served: Served) {
    served.handle.stop(false).await;
    scheduler.shutdown(Shutdown::Now).await.unwrap();
}

fn callboard(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callboard"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env_remove("CALLBOARD_URL")
        .env_remove("CALLBOARD_TOKEN");
    command
}

/// Runs a command at an address, with a token.
async fn run(url: &str, token: &str, args: &[&str]) -> Output {
    let mut command = callboard(args);
    command
        .env("CALLBOARD_URL", url)
        .env("CALLBOARD_TOKEN", token);
    spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Returns what it printed; it must have ended well, and said nothing else.
async fn printed(url: &str, args: &[&str]) -> String {
    let output = run(url, "sees-all", args).await;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), &*err),
        (Some(0), ""),
        "{args:?}: {out}"
    );
    out
}

/// Returns what it said on stderr; it must have ended with this status, and printed nothing.
async fn refused(url: &str, token: &str, args: &[&str], status: i32) -> String {
    let output = run(url, token, args).await;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), &*out),
        (Some(status), ""),
        "{args:?}: {err}"
    );
    assert!(
        err.starts_with("callboard: ") && err.ends_with('\n'),
        "{err}"
    );
    err
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
