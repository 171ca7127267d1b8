//! Why a request was not served.
//!
//! Owns: the status and the words. Does not know: whether a person or a program reads them.

use std::fmt::Display;

use actix_web::http::StatusCode;

use crate::error::{KindError, NodeError, Stopped, StoreError};
use crate::execute::ExecuteAgainError;
use crate::scheduler::ForgetError;

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub status: StatusCode,
    pub words: String,
}

impl Wrong {
    fn new(status: StatusCode, words: impl Display) -> Self {
        Self {
            status,
            words: words.to_string(),
        }
    }

    /// Returns that the asker made a mistake.
    pub fn request(words: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, words)
    }

    /// Returns that the asker may not.
    pub fn forbidden(words: impl Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, words)
    }

    /// Returns that there is no such thing.
    pub fn not_found(words: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, words)
    }

    /// Returns that a thing is not as it must be for this.
    pub fn conflict(words: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, words)
    }

    /// Returns that it cannot be done now.
    pub fn unavailable(words: impl Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, words)
    }

    /// Returns that the request has another form than it must.
    pub fn form(status: StatusCode, words: impl Display) -> Self {
        Self::new(status, words)
    }
}

impl From<Stopped> for Wrong {
    fn from(stopped: Stopped) -> Self {
        Self::unavailable(stopped)
    }
}

impl From<NodeError> for Wrong {
    fn from(error: NodeError) -> Self {
        match &error {
            NodeError::NotFound(_) => Self::not_found(error),
            NodeError::Invalid(_) => Self::request(error),
            NodeError::Stopped => Self::unavailable(error),
            _ => Self::conflict(error),
        }
    }
}

impl From<KindError> for Wrong {
    fn from(error: KindError) -> Self {
        match &error {
            KindError::Stopped => Self::unavailable(error),
            KindError::TooMany { .. } => Self::conflict(error),
            _ => Self::request(error),
        }
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NoStore => Self::not_found(error),
            _ => Self::unavailable(error),
        }
    }
}

impl From<ForgetError> for Wrong {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::NotKept { .. } => Self::not_found(error),
            ForgetError::MeansAll => Self::request(error),
            ForgetError::Store(error) => error.into(),
        }
    }
}

impl From<ExecuteAgainError> for Wrong {
    fn from(error: ExecuteAgainError) -> Self {
        match error {
            ExecuteAgainError::NotKept { .. } => Self::not_found(error),
            ExecuteAgainError::MeansAll => Self::request(error),
            ExecuteAgainError::Store(error) => error.into(),
            ExecuteAgainError::Refused(error) if error.refusal.is_temporary() => {
                Self::unavailable(error)
            }
            ExecuteAgainError::Refused(error) => Self::conflict(error),
        }
    }
}
