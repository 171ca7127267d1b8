//! One request: who asks, about which scheduler, with which words.
//!
//! Owns: how a request is read, and within which bounds. Does not know: what is answered.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Payload, Query};
use actix_web::{HttpMessage, HttpRequest};
use serde_json::Value;

use super::guard::Way;
use super::watch::Watch;
use super::wrong::Wrong;
use super::{Access, Board};
use crate::status::beginning;
use crate::task::TaskId;

/// How long the body of a request may be, in bytes.
pub const MAX_BODY: usize = 16 * 1024;

/// How long the name of a person may be, in bytes; a longer one is cut.
const MAX_USER: usize = 256;

/// The fields of a query, a form or a flat JSON object.
#[derive(Clone, Debug, Default)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads what is written as a query or a form is.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn of_query(text: &str) -> Result<Self, Wrong> {
        let read = Query::from_query(text);
        let Query(fields) = read.map_err(|error| {
            Wrong::request(format_args!("the query or form cannot be read: {error}"))
        })?;
        Ok(Self(fields))
    }

    fn of_json(body: &[u8]) -> Result<Self, Wrong> {
        let read: Result<BTreeMap<String, Value>, _> = serde_json::from_slice(body);
        let fields = read.map_err(|error| {
            Wrong::request(format_args!("the body is not an object in JSON: {error}"))
        })?;
        let texts = fields.into_iter().filter_map(|(name, value)| match value {
            Value::Null => None,
            Value::String(text) => Some(Ok((name, text))),
            Value::Number(number) => Some(Ok((name, number.to_string()))),
            Value::Bool(flag) => Some(Ok((name, flag.to_string()))),
            _ => Some(Err(Wrong::request(format_args!(
                "the field `{name}` must be a text, a number or a truth"
            )))),
        });
        Ok(Self(texts.collect::<Result<_, _>>()?))
    }

    /// Returns a field; `None` if it is absent or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.0.get(name)?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// Returns a field that must be there.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn required(&self, name: &str) -> Result<&str, Wrong> {
        self.text(name)
            .ok_or_else(|| Wrong::request(format_args!("the field `{name}` is missing")))
    }

    /// Returns a field that is a whole number; `None` if it is absent or empty.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Wrong> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            Wrong::request(format_args!(
                "the field `{name}` must be a whole number in range"
            ))
        })
    }

    /// Returns the id of a task in a field that must be there.
    ///
    /// # Errors
    ///
    /// It is not, or is none.
    pub fn id(&self, name: &str) -> Result<TaskId, Wrong> {
        id(self.required(name)?)
    }
}

/// Reads the id of a task: `42`, or `t42` as it stands in the log.
///
/// # Errors
///
/// It is none.
pub fn id(text: &str) -> Result<TaskId, Wrong> {
    let digits = text.strip_prefix('t').unwrap_or(text);
    let number = digits.parse().map(TaskId::new);
    number.map_err(|_| Wrong::request("the id of a task is a whole number, such as 42"))
}

/// A request that is to be answered.
pub struct Asked<'a> {
    pub board: &'a Rc<Board>,
    pub req: &'a HttpRequest,
    /// What it may do.
    pub access: Access,
    /// What it says behind its path.
    pub query: Fields,
    /// The scheduler that it is about.
    pub watch: &'a Arc<Watch>,
}

impl<'a> Asked<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Its query cannot be read, or names a scheduler that is not here.
    pub fn read(board: &'a Rc<Board>, req: &'a HttpRequest, access: Access) -> Result<Self, Wrong> {
        let query = Fields::of_query(req.query_string())?;
        let watch = match query.text("scheduler") {
            None => board.watches.first(),
            Some(name) => {
                let mut all = board.watches.iter();
                all.find(|watch| watch.name() == name)
            }
        };
        let watch = watch.ok_or_else(|| Wrong::not_found("no such scheduler is shown here"))?;
        Ok(Self {
            board,
            req,
            access,
            query,
            watch,
        })
    }

    /// Returns what says, as long as a stream goes on, whether it may: whether the application
    /// would still give as much access.
    pub fn still_may(&self) -> impl Fn() -> bool + use<> {
        let (board, req, access) = (Rc::clone(self.board), self.req.clone(), self.access);
        move || (board.access)(&req) >= access
    }

    /// Returns who asks, in the application's words.
    pub fn user(&self) -> String {
        let mut user = (self.board.user)(self.req);
        user.truncate(beginning(&user, MAX_USER).len());
        user
    }

    /// Reads the body of a change.
    ///
    /// # Errors
    ///
    /// It is too long, of another type, or cannot be read.
    pub async fn body(&self, way: Way, body: Payload) -> Result<Fields, Wrong> {
        let (wanted, words) = match way {
            Way::Form => ("application/x-www-form-urlencoded", "a form"),
            Way::Json => ("application/json", "JSON"),
        };
        if !self.req.content_type().eq_ignore_ascii_case(wanted) {
            return Err(Wrong::form(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format_args!("the body must be {words}: send it with `{CONTENT_TYPE}: {wanted}`"),
            ));
        }
        let read = body.to_bytes_limited(MAX_BODY).await.map_err(|_| {
            Wrong::form(
                StatusCode::PAYLOAD_TOO_LARGE,
                format_args!("the body is longer than {MAX_BODY} bytes"),
            )
        })?;
        let bytes = read.map_err(|_| Wrong::request("the body ended early"))?;
        match way {
            Way::Form => {
                let text = std::str::from_utf8(&bytes);
                Fields::of_query(text.map_err(|_| Wrong::request("the form is not UTF-8"))?)
            }
            Way::Json => Fields::of_json(&bytes),
        }
    }
}
