//! Where a scheduler keeps its tasks, as an application says it, and how that is opened.
//!
//! Owns: the settings, the wait for whoever has the store open, what is told of a start that takes
//! long, and what an application is told of a store that cannot be used. Does not know: what a
//! scheduler makes of what was there.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::left_running;
use super::recovery::{Progress, recover};
use super::table::TableLog;
use super::{Claimant, LogError, TaskLog};
use crate::engine::found::Found;
use crate::engine::keep::Keep;
use crate::engine::record::Claim;
use crate::error::StoreError;
use crate::say::say;

/// How often a start looks whether the process that has the store open has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often a start that takes long tells of itself.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Where a scheduler keeps its tasks, so that they outlast its process; for
/// [`SchedulerBuilder::store`](crate::SchedulerBuilder::store).
///
/// One file, readable for its user alone, in which the args lie in clear. It belongs to one
/// scheduler, by name, and one process at a time has it open. A copy of it is made by
/// [`Scheduler::backup`](crate::Scheduler::backup); a file that is copied otherwise while the
/// scheduler runs is of no use.
///
/// ```
/// use callboard::{Keep, Store};
/// use std::time::Duration;
///
/// let store = Store::file("/var/lib/shop/orders.redb")
///     .wait(Duration::from_secs(30))
///     .keep(Keep::failures(Duration::from_secs(24 * 60 * 60)).at_most(10_000));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a store is given to a scheduler's builder"]
pub struct Store {
    path: PathBuf,
    wait: Duration,
    keep: Keep,
}

impl Store {
    /// Keeps tasks in the file at this path, and makes it if it is missing. Its directory must be
    /// there, on a disk of this machine: a network's file system may not lock the file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            wait: Duration::ZERO,
            keep: Keep::default(),
        }
    }

    /// Sets how long the start waits for another process that has the file open: for one that is
    /// about to end, as in a deploy. So it waits for the handlers of exclusive tasks, too, which
    /// block, and which the last start has left running in this process. By default it does not
    /// wait.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets what is kept of tasks that have settled; by default those that have failed, for a week.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for a scheduler, and reads all that is there. Blocks; ends early, with any error,
    /// if it is `given_up`.
    pub(crate) fn open(
        &self,
        who: &Claimant<'_>,
        given_up: impl Fn() -> bool,
    ) -> Result<Opened, StoreError> {
        let began = Instant::now();
        let mut told = began;
        let mut due = move || {
            let due = told.elapsed() >= TELL_EVERY;
            if due {
                told = Instant::now();
            }
            due
        };
        let path = self.path.display();
        let mut log = TableLog::at(&self.path);
        let (claim, found) = loop {
            let watch = &mut |progress: Progress| {
                if due() {
                    let Progress { batch, tasks } = progress;
                    say!(info: store = %path, batch, tasks, took = ?began.elapsed(), "the store is being read");
                }
            };
            let recovered = match left_running::any(&self.path) {
                true => Err(LogError::Locked),
                false => recover(&mut log, who, watch),
            };
            match recovered {
                Ok(recovered) => break recovered,
                Err(LogError::Locked) if began.elapsed() < self.wait && !given_up() => {
                    if due() {
                        say!(info: store = %path, waited = ?began.elapsed(), "the store is in use, by another process or by a handler that the last start has left here; its end is waited for");
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(refused(error)),
            }
        };
        say!(info: store = %path, term = claim.term.0, tasks = found.ledger.tasks().len(), took = ?began.elapsed(), "the store is open");
        Ok(Opened {
            log: Box::new(log),
            keep: self.keep.clone(),
            claim,
            found,
        })
    }
}

/// A store that this process may write to, and what was in it.
pub(crate) struct Opened {
    pub(crate) log: Box<dyn TaskLog>,
    pub(crate) keep: Keep,
    pub(crate) claim: Claim,
    pub(crate) found: Found,
}

/// Returns what an application is told of a log that cannot be used.
pub(crate) fn refused(error: LogError) -> StoreError {
    match error {
        LogError::Locked => StoreError::Locked,
        LogError::ReadOnly(why) => StoreError::ReadOnly(why),
        LogError::Full(why) => StoreError::Full(why),
        LogError::Damaged { batch, what } => StoreError::Damaged { batch, what },
        LogError::Newer(what) => StoreError::Newer(what),
        LogError::Foreign { scheduler } => StoreError::Foreign { scheduler },
        LogError::NotAStore(what) => StoreError::NotAStore(what),
        LogError::Missing(what) => StoreError::Missing(what),
        error @ LogError::NoDirectory(_) => StoreError::Missing(error.to_string()),
        LogError::Unavailable(why) => StoreError::Io(why),
        error @ (LogError::Fenced
        | LogError::RolledBack
        | LogError::Unknown(_)
        | LogError::TooLarge { .. }
        | LogError::Misplaced { .. }) => StoreError::Io(error.to_string()),
    }
}
