//! How a command ends.
//!
//! Owns: the exit statuses, which docs/operations.md lists. Does not know: why a command ends so.

use std::fmt::Display;
use std::io;

/// What `--help` says of the exit status.
pub const HELP: &str = "\
Exit status: 0 if it was done; 1 if it could not be, or a store is damaged; 2 if the command line is wrong;
3 if nothing answers, or not in time; 4 if the application does not let this request do it;
5 if it needs --yes, since the application calls itself production; 6 if what answers is no dashboard of
callboard, or not one that can be trusted; 7 if there is no such scheduler, node or task.";

/// How a command ends, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was done.
    Done,
    /// It could not be done, or a store is damaged.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Nothing answers, or not in time.
    NoAnswer,
    /// The application does not let this request do it.
    Forbidden,
    /// It does harm, and the application calls itself production.
    NotMeant,
    /// What answers is no dashboard of callboard, or none that can be trusted.
    Strange,
    /// There is no such scheduler, node or task.
    NotFound,
}

impl Ending {
    /// Returns the exit status.
    pub const fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoAnswer => 3,
            Self::Forbidden => 4,
            Self::NotMeant => 5,
            Self::Strange => 6,
            Self::NotFound => 7,
        }
    }
}

/// Why a command has not been done.
#[derive(Debug)]
pub enum Failed {
    /// Its lines cannot be printed.
    Print(io::Error),
    /// For another reason, in a sentence without its full stop or a whole text.
    Said { ending: Ending, words: String },
}

impl Failed {
    /// Makes one of a reason.
    pub fn said(ending: Ending, words: impl Display) -> Self {
        Self::Said {
            ending,
            words: words.to_string(),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Print(error)
    }
}

/// Returns whether whoever read the lines has gone, as `head` does when it has enough, or a
/// terminal that was closed.
pub fn nobody_reads(error: &io::Error) -> bool {
    let is_closed = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    is_closed || error.kind() == io::ErrorKind::BrokenPipe
}
