//! The writer of a log, and the thread that it has.
//!
//! Owns: how a batch is written and what is told of it, that a commit whose outcome is not known is
//! asked for until it is, and that a file which was removed is noticed. Does not know: what records
//! say, or what follows if they are not stored.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::row::BatchWriter;
use super::{Batch, LogError, Snapshot, TaskLog};
use crate::contain::contained;
use crate::engine::ledger::Sealed;
use crate::engine::record::Record;

/// How often the writer looks whether the store is still there.
pub const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How soon it asks again for an outcome that it could not learn.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What became of a batch, or of the store.
#[derive(Debug, PartialEq)]
pub enum Written {
    /// It is durable.
    Stored {
        /// Its number.
        batch: u64,
        /// The bytes of its rows.
        bytes: usize,
    },
    /// It is not there. The next batch has its number.
    NotStored {
        /// Its number.
        batch: u64,
        /// What was in it.
        records: Vec<Record>,
        /// Why.
        reason: LogError,
    },
    /// Nothing can be stored now, or what is stored cannot be found again; of a batch that was
    /// under way it is not known yet whether it is there.
    Failing {
        /// Why.
        reason: LogError,
    },
}

/// Writes to a log, on the thread of its caller.
pub struct LogWriter {
    log: Box<dyn TaskLog>,
    checked: Instant,
    check_every: Duration,
    /// What was wrong when it was last looked at.
    wrong: Option<LogError>,
}

impl LogWriter {
    /// A writer to a log that was claimed.
    pub fn new(log: Box<dyn TaskLog>, check_every: Duration) -> Self {
        Self {
            log,
            checked: Instant::now(),
            check_every,
            wrong: None,
        }
    }

    /// Looks whether the store is still there, if it is time to.
    pub fn check(&mut self) -> Option<Written> {
        if self.wrong.is_none() && self.checked.elapsed() < self.check_every {
            return None;
        }
        self.checked = Instant::now();
        self.wrong = self.log.check().err();
        self.wrong.clone().map(|reason| Written::Failing { reason })
    }

    /// Stores a batch. After [`Written::Failing`] [`settle`](Self::settle) tells what became of it.
    pub fn append(&mut self, sealed: Sealed) -> (Written, Option<Sealed>) {
        let batch = sealed.stamp.batch;
        if let Some(Written::Failing { reason }) = self.check() {
            return (not_stored(sealed, reason), None);
        }
        let mut writer = BatchWriter::new(sealed.stamp);
        for record in &sealed.records {
            writer.record(record);
        }
        let rows = writer.into_rows(self.log.max_row());
        let bytes = rows.iter().map(|row| row.len()).sum();
        let appended = self.log.append(&Batch {
            number: batch,
            rows: &rows,
            truncate: sealed.truncate,
        });
        match appended {
            Ok(()) => (Written::Stored { batch, bytes }, None),
            Err(LogError::Unknown(why)) => {
                let reason = LogError::Unknown(why);
                match self.settle(sealed, &reason) {
                    Ok(written) => (written, None),
                    Err((reason, sealed)) => (Written::Failing { reason }, Some(sealed)),
                }
            }
            Err(reason) => (not_stored(sealed, reason), None),
        }
    }

    /// Learns whether a batch is there of which that was not known, for this reason.
    ///
    /// # Errors
    ///
    /// It cannot be learnt now. The batch is handed back.
    pub fn settle(
        &mut self,
        sealed: Sealed,
        unknown: &LogError,
    ) -> Result<Written, (LogError, Sealed)> {
        let batch = sealed.stamp.batch;
        match self.log.reread() {
            Ok(last) if last >= batch => Ok(Written::Stored { batch, bytes: 0 }),
            Ok(_) => Ok(not_stored(sealed, unknown.clone())),
            Err(reason) => Err((reason, sealed)),
        }
    }
}

impl LogWriter {
    /// Prepares a copy of what is stored.
    ///
    /// # Errors
    ///
    /// See [`TaskLog::snapshot`].
    pub fn snapshot(&mut self) -> Result<Snapshot, LogError> {
        self.log.snapshot()
    }

    /// Closes the log in order.
    ///
    /// # Errors
    ///
    /// See [`TaskLog::close`].
    pub fn close(self) -> Result<(), LogError> {
        let closed = contained(|| self.log.close());
        closed.unwrap_or_else(|panic| Err(LogError::Unavailable(panic)))
    }
}

fn not_stored(sealed: Sealed, reason: LogError) -> Written {
    Written::NotStored {
        batch: sealed.stamp.batch,
        records: sealed.records,
        reason,
    }
}

enum Order {
    Append(Sealed),
    Snapshot(Sender<Result<Snapshot, LogError>>),
    Close(Sender<Result<(), LogError>>),
}

/// A writer on a thread of its own. At most one batch is under way.
#[derive(Debug)]
pub struct WriterThread {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl WriterThread {
    /// Starts it; `tell` hears what became of each batch, and of the store.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn start(
        mut writer: LogWriter,
        tell: impl Fn(Written) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (orders, taken) = channel();
        let named = thread::Builder::new().name("callboard-store".to_owned());
        let thread = named.spawn(move || {
            if let Some(reply) = run(&mut writer, &taken, &tell) {
                // Whoever asked may have gone.
                let _ = reply.send(writer.close());
            }
        })?;
        Ok(Self { orders, thread })
    }

    /// Has a batch stored.
    pub fn append(&self, sealed: Sealed) {
        self.order(Order::Append(sealed));
    }

    /// Has a copy prepared; the answer comes when no batch is under way.
    pub fn snapshot(&self) -> Receiver<Result<Snapshot, LogError>> {
        let (reply, answer) = channel();
        self.order(Order::Snapshot(reply));
        answer
    }

    /// Closes the log in order, and waits for that.
    ///
    /// # Errors
    ///
    /// What was wrong. What was told to be stored is so all the same.
    pub fn close(self) -> Result<(), LogError> {
        let (reply, answer) = channel();
        self.order(Order::Close(reply));
        let ended = |_| Err(LogError::Unavailable("its writer has ended".to_owned()));
        let closed = answer.recv().unwrap_or_else(ended);
        // It has caught what panicked there.
        let _ = self.thread.join();
        closed
    }

    fn order(&self, order: Order) {
        // A thread that has ended drops its order, and with it the way to an answer.
        let _ = self.orders.send(order);
    }
}

/// Works until it is told to close; returns who waits for that, if anybody does.
fn run(
    writer: &mut LogWriter,
    orders: &Receiver<Order>,
    tell: &impl Fn(Written),
) -> Option<Sender<Result<(), LogError>>> {
    let mut unknown: Option<Sealed> = None;
    loop {
        let failing = unknown.is_some() || writer.wrong.is_some();
        let patience = if failing {
            ASK_AGAIN
        } else {
            writer.check_every
        };
        let order = orders.recv_timeout(patience);
        if let Some(sealed) = unknown.take() {
            let cause = LogError::Unknown("it could not be read for a while".to_owned());
            match writer.settle(sealed, &cause) {
                Ok(written) => tell(written),
                Err((reason, sealed)) => {
                    unknown = Some(sealed);
                    tell(Written::Failing { reason });
                }
            }
        }
        match order {
            Ok(Order::Append(sealed)) => {
                let (written, left) = writer.append(sealed);
                unknown = left;
                tell(written);
            }
            Ok(Order::Snapshot(reply)) => _ = reply.send(writer.snapshot()),
            Ok(Order::Close(reply)) => return Some(reply),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(failing) = writer.check() {
                    tell(failing);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("wrong", &self.wrong)
            .finish_non_exhaustive()
    }
}
