//! The writer of a log, and the thread that it has.
//!
//! Owns: how a batch is written and what is told of it, that a commit whose outcome is not known is
//! asked for until it is, and that a file which was removed is noticed. Does not know: what records
//! say, or what follows if they are not stored.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::row::BatchWriter;
use super::{Batch, Keeping, LogError, Snapshot, TaskLog, retained};
use crate::contain::contained;
use crate::engine::keep::Keep;
use crate::engine::ledger::Sealed;
use crate::engine::record::Record;
use crate::sync::lock;
use crate::task::TaskId;

/// How often the writer looks whether the store is still there.
pub const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How long nothing was appended before the log may take a moment to become smaller.
pub const IDLE: Duration = Duration::from_secs(1);

/// How often what is kept too long goes, if nothing new is kept.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How soon it asks again for an outcome that it could not learn.
pub const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What became of a batch, or of the store.
#[derive(Debug, PartialEq)]
pub enum Written {
    /// The batch is durable.
    Stored {
        /// The number of the batch.
        batch: u64,
        /// The bytes of its rows.
        bytes: usize,
    },
    /// The batch is not there. The next one has its number.
    NotStored {
        /// The number of the batch.
        batch: u64,
        /// The records of the batch.
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

/// What is known of a batch of which it is not known whether it is there.
struct Unknown {
    reason: LogError,
    /// The bytes of its rows.
    bytes: usize,
}

/// Writes to a log, on the thread of its caller.
pub struct LogWriter {
    log: Box<dyn TaskLog>,
    checked: Instant,
    check_every: Duration,
    /// What was wrong when it was last looked at.
    wrong: Option<LogError>,
    /// A batch of which it is not known whether it is there.
    unknown: Option<Unknown>,
    /// What is kept of tasks that have settled; `None` if that is to stay as it is.
    keep: Option<Keep>,
    swept: Option<Instant>,
}

impl LogWriter {
    /// Makes a writer to a log that was claimed.
    pub fn new(log: Box<dyn TaskLog>, check_every: Duration) -> Self {
        Self {
            log,
            checked: Instant::now(),
            check_every,
            wrong: None,
            unknown: None,
            keep: None,
            swept: None,
        }
    }

    /// Sets what is kept of tasks that have settled; what is not goes with the next batch. If it is
    /// not set, what is kept already stays, and nothing comes to it.
    pub fn keeping(mut self, keep: Keep) -> Self {
        self.keep = Some(keep);
        self
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

    /// Stores a batch. After [`Written::Failing`], [`resolve`](Self::resolve) says whether it is
    /// there.
    pub fn append(&mut self, sealed: Sealed) -> (Written, Option<Sealed>) {
        let batch = sealed.stamp.batch;
        if let Some(Written::Failing { reason }) = self.check() {
            return (not_stored(sealed, reason), None);
        }
        let mut writer = BatchWriter::new(sealed.stamp);
        let mut endings = Vec::new();
        for record in &sealed.records {
            match record {
                Record::Retained(task) => endings.push(retained::kept(task)),
                other => writer.record(other),
            }
        }
        let keep = self.keep.as_ref();
        endings.retain(|ending| keep.is_some_and(|keep| keep.keeps(ending.ended)));
        let rows = writer.into_rows(self.log.max_row());
        let bytes = rows.iter().map(|row| row.len()).sum();
        let sweeps = self.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        let keeping = keep.filter(|_| sweeps || !endings.is_empty());
        let appended = self.log.append(&Batch {
            number: batch,
            rows: &rows,
            truncate: sealed.truncate,
            keeping: keeping.map(|keep| Keeping {
                endings: &endings,
                keep,
                now: sealed.stamp.at,
            }),
        });
        match appended {
            Ok(()) => {
                if sweeps {
                    self.swept = Some(Instant::now());
                }
                (Written::Stored { batch, bytes }, None)
            }
            Err(reason @ LogError::Unknown(_)) => {
                self.unknown = Some(Unknown { reason, bytes });
                match self.resolve(sealed) {
                    Ok(written) => (written, None),
                    Err((reason, sealed)) => (Written::Failing { reason }, Some(sealed)),
                }
            }
            Err(reason) => (not_stored(sealed, reason), None),
        }
    }

    /// Learns whether the batch is there that [`append`](Self::append) has handed back. If it is
    /// not, the reason is the error of its commit, however long the answer took.
    ///
    /// # Errors
    ///
    /// The log cannot tell now. The batch is handed back.
    pub fn resolve(&mut self, sealed: Sealed) -> Result<Written, (LogError, Sealed)> {
        let batch = sealed.stamp.batch;
        match self.log.reread() {
            Ok(last) => {
                let unknown = self.unknown.take();
                if last >= batch {
                    let bytes = unknown.map_or(0, |unknown| unknown.bytes);
                    return Ok(Written::Stored { batch, bytes });
                }
                let commit_failed = || LogError::Unknown("its commit has failed".to_owned());
                let reason = unknown.map_or_else(commit_failed, |unknown| unknown.reason);
                Ok(not_stored(sealed, reason))
            }
            Err(reason) => Err((reason, sealed)),
        }
    }
}

impl LogWriter {
    /// Returns what is stored.
    ///
    /// # Errors
    ///
    /// See [`TaskLog::snapshot`].
    pub fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, LogError> {
        self.log.snapshot()
    }

    /// Forgets what is kept of these tasks. Returns how many of them had been kept.
    ///
    /// # Errors
    ///
    /// See [`TaskLog::forget`].
    pub fn forget(&mut self, ids: &[TaskId]) -> Result<usize, LogError> {
        self.log.forget(ids)
    }

    /// Lets the log give room back; if that fails, it goes on as it is.
    pub fn tidy(&mut self) {
        let _ = self.log.tidy();
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
    Snapshot(Sender<Result<Box<dyn Snapshot>, LogError>>),
    Forget(Vec<TaskId>, Sender<Result<usize, LogError>>),
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
                // The receiver may be gone.
                let _ = reply.send(writer.close());
            }
        })?;
        Ok(Self { orders, thread })
    }

    /// Returns what asks it for what is stored.
    pub fn reader(&self) -> Reader {
        Reader::OnThread(ReaderOfThread(self.orders.clone()))
    }

    /// Orders a batch to be stored.
    pub fn append(&self, sealed: Sealed) {
        self.order(Order::Append(sealed));
    }

    /// Asks for what is stored; the answer comes when no batch is under way.
    pub fn snapshot(&self) -> Receiver<Result<Box<dyn Snapshot>, LogError>> {
        let (reply, answer) = channel();
        self.order(Order::Snapshot(reply));
        answer
    }

    /// Orders the thread to forget what is kept of these tasks. The answer is how many had been
    /// kept.
    pub fn forget(&self, ids: Vec<TaskId>) -> Receiver<Result<usize, LogError>> {
        let (reply, answer) = channel();
        self.order(Order::Forget(ids, reply));
        answer
    }

    /// Closes the log in order, and waits for that at most for so long. A log that takes longer is
    /// closed when its disk answers, or by the end of the process.
    ///
    /// # Errors
    ///
    /// The last error of the log. All that was reported as stored is stored all the same.
    pub fn close(self, limit: Duration) -> Result<(), LogError> {
        let (reply, answer) = channel();
        self.order(Order::Close(reply));
        match answer.recv_timeout(limit) {
            Ok(closed) => {
                // It has caught what panicked there.
                let _ = self.thread.join();
                closed
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(LogError::Unavailable("its writer has ended".to_owned()))
            }
            Err(RecvTimeoutError::Timeout) => Err(LogError::Unavailable(format!(
                "its disk has not answered for {limit:?}"
            ))),
        }
    }

    fn order(&self, order: Order) {
        // A thread that has ended drops its order, and with it the way to an answer.
        let _ = self.orders.send(order);
    }
}

/// Asks a writer for what is stored, from any thread, which it blocks. Clones ask the same one.
#[derive(Clone, Debug)]
pub enum Reader {
    /// A reader that has a thread of its own.
    OnThread(ReaderOfThread),
    /// A reader that works on the thread of its scheduler; `None` when it is closed.
    Inline(Arc<Mutex<Option<LogWriter>>>),
}

/// The way to a writer's thread.
#[derive(Clone, Debug)]
pub struct ReaderOfThread(Sender<Order>);

impl Reader {
    /// Returns what is stored when no batch is under way; `None` when the writer has ended.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn snapshot(&self) -> Result<Option<Box<dyn Snapshot>>, LogError> {
        match self {
            Self::OnThread(ReaderOfThread(orders)) => {
                let (reply, answer) = channel();
                // If it has ended, nobody answers.
                let _ = orders.send(Order::Snapshot(reply));
                answer.recv().ok().transpose()
            }
            Self::Inline(writer) => {
                let mut writer = lock(writer);
                writer.as_mut().map(LogWriter::snapshot).transpose()
            }
        }
    }
}

impl Reader {
    /// Forgets what is kept of these tasks when no batch is under way. Returns how many of them had
    /// been kept; `None` when the writer has ended.
    ///
    /// # Errors
    ///
    /// See [`TaskLog::forget`].
    pub fn forget(&self, ids: Vec<TaskId>) -> Result<Option<usize>, LogError> {
        match self {
            Self::OnThread(ReaderOfThread(orders)) => {
                let (reply, answer) = channel();
                // If it has ended, nobody answers.
                let _ = orders.send(Order::Forget(ids, reply));
                answer.recv().ok().transpose()
            }
            Self::Inline(writer) => {
                let mut writer = lock(writer);
                writer.as_mut().map(|it| it.forget(&ids)).transpose()
            }
        }
    }
}

/// Works until it is told to close. Returns the sender to whoever waits for that, if anybody does.
fn run(
    writer: &mut LogWriter,
    orders: &Receiver<Order>,
    tell: &impl Fn(Written),
) -> Option<Sender<Result<(), LogError>>> {
    let mut unknown: Option<Sealed> = None;
    let mut is_tidy = true;
    loop {
        let failing = unknown.is_some() || writer.wrong.is_some();
        let patience = match (failing, is_tidy) {
            (true, _) => ASK_AGAIN,
            (false, false) => IDLE.min(writer.check_every),
            (false, true) => writer.check_every,
        };
        let order = orders.recv_timeout(patience);
        if let Some(sealed) = unknown.take() {
            match writer.resolve(sealed) {
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
                is_tidy = false;
                tell(written);
            }
            Ok(Order::Snapshot(reply)) => _ = reply.send(writer.snapshot()),
            Ok(Order::Forget(ids, reply)) => _ = reply.send(writer.forget(&ids)),
            Ok(Order::Close(reply)) => return Some(reply),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(failing) = writer.check() {
                    tell(failing);
                } else if !is_tidy && unknown.is_none() {
                    is_tidy = true;
                    writer.tidy();
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
