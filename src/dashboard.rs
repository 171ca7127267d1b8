//! Pages and a JSON API about schedulers, in an application's own actix-web server.
//!
//! Owns: what an application sets, and how it is mounted. Does not know: what a page shows, or
//! what an action does.
//!
//! ```no_run
//! use actix_web::{App, HttpServer};
//! use callboard::dashboard::{self, Access, Colour};
//!
//! # async fn example(scheduler: callboard::Scheduler) -> std::io::Result<()> {
//! let server = HttpServer::new(move || {
//!     App::new().service(
//!         dashboard::scope("/tasks")
//!             .scheduler(&scheduler)
//!             .title("staging", Colour::Blue)
//!             // Who asks from this machine may do all; everybody else sees nothing.
//!             .access(Access::loopback),
//!     )
//! });
//! server.bind(("127.0.0.1", 8080))?.run().await
//! # }
//! ```
//!
//! [`crate::guide::dashboard`] says what the pages show, what each level of access may do, and how
//! programs ask.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::dev::{AppService, HttpServiceFactory};
use actix_web::{HttpRequest, web};
use serde_json::Value;

use crate::scheduler::Scheduler;
use crate::task::TaskKind;
use crate::text;

mod access;
mod actions;
mod api;
mod asked;
mod assets;
mod failures;
mod guard;
mod health;
mod lately;
mod live;
mod looking;
mod pages;
mod plots;
mod problems;
mod report;
mod rings;
mod routes;
mod shown;
mod sweeps;
mod watch;
mod wrong;

pub use access::Access;

/// Begins a dashboard that is served under this path, such as `/tasks`. With or without a final
/// slash it is the same.
///
/// ```no_run
/// # fn example(scheduler: callboard::Scheduler) {
/// use actix_web::App;
/// use callboard::dashboard::{self, Access};
///
/// let app = App::new().service(
///     dashboard::scope("/tasks")
///         .scheduler(&scheduler)
///         .access(|req| match req.headers().get("authorization") {
///             // Compare a real one in constant time, or let your own middleware judge.
///             Some(sent) if sent == "Bearer of the operators" => Access::Operate,
///             _ => Access::None,
///         }),
/// );
/// # }
/// ```
pub fn scope(path: &str) -> Dashboard {
    Dashboard {
        path: path.trim_end_matches('/').to_owned(),
        board: Board {
            number: BOARDS.fetch_add(1, Ordering::Relaxed),
            watches: Vec::new(),
            access: Box::new(|_| Access::None),
            user: Box::new(|_| "unknown".to_owned()),
            redact: Box::new(|_, _| {}),
            title: None,
        },
    }
}

/// A dashboard that is being built: a service of an actix-web `App`.
///
/// Every worker of a server makes one; those of a process share what they see of a scheduler.
#[must_use = "it is given to `App::service`"]
pub struct Dashboard {
    path: String,
    board: Board,
}

/// The colour of a dashboard's header, by which people tell production from the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Colour {
    /// Grey.
    #[default]
    Grey,
    /// Red.
    Red,
    /// Orange.
    Orange,
    /// Green.
    Green,
    /// Blue.
    Blue,
    /// Purple.
    Purple,
}

type Judge = Box<dyn Fn(&HttpRequest) -> Access>;
type NameUser = Box<dyn Fn(&HttpRequest) -> String>;
type Redact = Box<dyn Fn(&TaskKind, &mut Value)>;

impl Colour {
    /// Returns the class of the style.
    const fn class(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Purple => "purple",
        }
    }
}

/// How many boards were made by this process.
static BOARDS: AtomicU64 = AtomicU64::new(0);

/// What all requests share.
struct Board {
    /// No other in this process has it.
    number: u64,
    watches: Vec<Arc<watch::Watch>>,
    access: Judge,
    user: NameUser,
    redact: Redact,
    title: Option<(String, Colour)>,
}

impl Dashboard {
    /// Adds a scheduler. The first is shown where a request names none.
    ///
    /// From now on it is asked for a handful of numbers once a second, for the plots, and for its
    /// snapshot once a second while somebody looks.
    pub fn scheduler(mut self, scheduler: &Scheduler) -> Self {
        let watch = watch::Watch::of(scheduler);
        if !self.board.watches.iter().any(|it| Arc::ptr_eq(it, &watch)) {
            self.board.watches.push(watch);
        }
        self
    }

    /// Says what each request may do; nothing if this is not called. It is asked for every request
    /// anew, that of an action too, and again each second while a page or a listener is sent what
    /// is new: when it gives less than before, that ends.
    ///
    /// A cookie alone is never enough for a change: that also needs the token of a page and the
    /// same origin, unless the request has an `Authorization` of its own.
    pub fn access(mut self, judge: impl Fn(&HttpRequest) -> Access + 'static) -> Self {
        self.board.access = Box::new(judge);
        self
    }

    /// Says who asks, for the log of what was done; `unknown` if this is not called.
    pub fn user(mut self, name: impl Fn(&HttpRequest) -> String + 'static) -> Self {
        self.board.user = Box::new(name);
        self
    }

    /// Sets what stands in the header of every page, and in which colour: which environment it is.
    pub fn title(mut self, title: impl Into<String>, colour: Colour) -> Self {
        self.board.title = Some((title.into(), colour));
        self
    }

    /// Changes decoded args, outputs and progress before anybody sees them, by the kind of their
    /// task: to take out what nobody should read. Args and outputs are for [`Access::Full`],
    /// progress is for [`Access::Read`]. What is not MessagePack comes as an object with the fields
    /// `bytes` and `base64`.
    ///
    /// ```no_run
    /// let dashboard = callboard::dashboard::scope("/tasks").redact(|_, value| {
    ///     if let Some(password) = value.get_mut("password") {
    ///         *password = "(hidden)".into();
    ///     }
    /// });
    /// ```
    pub fn redact(mut self, redact: impl Fn(&TaskKind, &mut Value) + 'static) -> Self {
        self.board.redact = Box::new(redact);
        self
    }
}

impl HttpServiceFactory for Dashboard {
    fn register(self, config: &mut AppService) {
        let board = Rc::new(self.board);
        let answer = move |req: HttpRequest, body: web::Payload| {
            let board = Rc::clone(&board);
            async move { routes::answer(&board, &req, body).await }
        };
        let scope = web::scope(&self.path).default_service(web::to(answer));
        HttpServiceFactory::register(scope, config);
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("path", &self.path)
            .field("title", &self.board.title)
            .finish_non_exhaustive()
    }
}
