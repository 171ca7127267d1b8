//! The writer of a log as the actor of a scheduler drives it: on a thread of its own, or on the
//! actor's.
//!
//! Owns: what the actor is told of each batch. Does not know: what follows from it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::writer::{ASK_AGAIN, CHECK_EVERY, IDLE, LogWriter, Reader, WriterThread, Written};
use super::{TaskLog, refused};
use crate::engine::Event;
use crate::engine::keep::Keep;
use crate::engine::ledger::Sealed;
use crate::engine::meter::Histogram;
use crate::error::StoreError;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::recorder::{Recorder, StoreReport};
use crate::sync::lock;

/// Returns what drives a log that was claimed, which lies at `path` and keeps so much beside it.
/// With `inbox` it has a thread of its own; without one it works on the caller's.
///
/// # Errors
///
/// No thread can be started.
pub(crate) fn recorder(
    log: Box<dyn TaskLog>,
    keep: Keep,
    path: PathBuf,
    inbox: Option<Inbox<Incoming<Event>>>,
) -> std::io::Result<(Box<dyn Recorder>, Reader)> {
    let writer = LogWriter::new(log, CHECK_EVERY).keeping(keep);
    Ok(match inbox {
        Some(inbox) => {
            let recorder = OnThread::start(writer, path, inbox)?;
            let reader = recorder.thread.reader();
            (Box::new(recorder), reader)
        }
        None => {
            let writer = Arc::new(Mutex::new(Some(writer)));
            let reader = Reader::Inline(Arc::clone(&writer));
            let recorder = Inline {
                writer,
                path,
                unknown: None,
                tidy_at: None,
                timing: Timing::default(),
            };
            (Box::new(recorder), reader)
        }
    })
}

/// A writer with a thread of its own.
struct OnThread {
    thread: WriterThread,
    path: PathBuf,
    timing: Arc<Mutex<Timing>>,
}

#[derive(Default)]
struct Timing {
    begun: Option<std::time::Instant>,
    /// When a batch was stored last, and how long that took.
    last: Option<(SystemTime, Duration)>,
    commits: Histogram,
}

impl Timing {
    fn begin(&mut self) {
        self.begun = Some(std::time::Instant::now());
    }

    /// Takes in that what has begun is stored.
    fn stored(&mut self) {
        if let Some(begun) = self.begun.take() {
            let took = begun.elapsed();
            self.last = Some((SystemTime::now(), took));
            self.commits.add(took);
        }
    }

    fn report(&self, path: &Path) -> StoreReport {
        StoreReport {
            bytes: path.metadata().ok().map(|file| file.len()),
            last: self.last,
            commits: self.commits.clone(),
        }
    }
}

impl OnThread {
    fn start(
        writer: LogWriter,
        path: PathBuf,
        inbox: Inbox<Incoming<Event>>,
    ) -> std::io::Result<Self> {
        let timing = Arc::new(Mutex::new(Timing::default()));
        let shared = Arc::clone(&timing);
        let tell = move |written| {
            if matches!(written, Written::Stored { .. }) {
                lock(&shared).stored();
            }
            inbox.push(Incoming::Event(event(written)));
        };
        Ok(Self {
            thread: WriterThread::start(writer, tell)?,
            path,
            timing,
        })
    }
}

impl Recorder for OnThread {
    fn append(&mut self, sealed: Sealed) -> Option<Event> {
        lock(&self.timing).begin();
        self.thread.append(sealed);
        None
    }

    fn report(&self) -> StoreReport {
        lock(&self.timing).report(&self.path)
    }

    fn close(self: Box<Self>, limit: Duration) -> Result<(), StoreError> {
        self.thread.close(limit).map_err(refused)
    }
}

/// A writer on the thread of the actor.
struct Inline {
    /// `None` once the log is closed.
    writer: Arc<Mutex<Option<LogWriter>>>,
    path: PathBuf,
    /// A batch that may or may not be stored, and when the log is asked again.
    unknown: Option<(Sealed, Instant)>,
    /// When it has been idle for long enough to give room back.
    tidy_at: Option<Instant>,
    timing: Timing,
}

impl Recorder for Inline {
    fn append(&mut self, sealed: Sealed) -> Option<Event> {
        self.timing.begin();
        let (written, left) = lock(&self.writer).as_mut()?.append(sealed);
        self.unknown = left.map(|sealed| (sealed, Instant::now() + ASK_AGAIN));
        self.tidy_at = Some(Instant::now() + IDLE);
        if matches!(written, Written::Stored { .. }) {
            self.timing.stored();
        }
        Some(event(written))
    }

    fn look(&mut self) -> Option<Event> {
        let idle = |at: &mut Instant| *at <= Instant::now();
        if self.unknown.is_none() && self.tidy_at.take_if(idle).is_some() {
            lock(&self.writer).as_mut()?.tidy();
        }
        let (sealed, _) = self.unknown.take_if(|(_, at)| *at <= Instant::now())?;
        Some(event(match lock(&self.writer).as_mut()?.resolve(sealed) {
            Ok(written) => written,
            Err((reason, sealed)) => {
                self.unknown = Some((sealed, Instant::now() + ASK_AGAIN));
                Written::Failing { reason }
            }
        }))
    }

    fn due(&self) -> Option<Instant> {
        let unknown = self.unknown.as_ref().map(|(_, at)| *at);
        unknown.or(self.tidy_at)
    }

    fn report(&self) -> StoreReport {
        self.timing.report(&self.path)
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), StoreError> {
        match lock(&self.writer).take() {
            Some(writer) => writer.close().map_err(refused),
            None => Ok(()),
        }
    }
}

fn event(written: Written) -> Event {
    match written {
        Written::Stored { batch, bytes } => Event::Stored {
            batch,
            bytes: bytes as u64,
        },
        Written::NotStored {
            batch,
            records,
            reason,
        } => Event::NotStored {
            batch,
            records,
            reason: reason.to_string(),
        },
        Written::Failing { reason } => Event::StoreFailing {
            reason: reason.to_string(),
        },
    }
}
