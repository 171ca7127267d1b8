//! The tasks, the handlers that run them, and the ledger in which each run writes what it does.
//!
//! Owns: what task number n is, and the lines of ledgers and of effects. A line is one write to a
//! file opened for append, so that SIGKILL loses nothing that was written and lines of several
//! processes do not mix. Does not know: nodes beyond their name, or what a scheduler makes of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use bytes::Bytes;
use callboard::{Dispatch, Execute, Handlers, RetryPolicy, TaskContext, TaskError, TaskId};
use serde::{Deserialize, Serialize};

/// The directory of a scenario, for its nodes.
pub const DIRECTORY: &str = "CALLBOARD_FAULTS_DIRECTORY";
/// The name of a process's ledger.
pub const LEDGER: &str = "CALLBOARD_FAULTS_LEDGER";

/// How the tasks of the scenarios are retried.
pub const RETRY: RetryPolicy = RetryPolicy::fixed(Duration::from_millis(50)).max_attempts(3);

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// How long it takes.
    pub millis: u64,
    /// How many attempts fail, and how.
    pub fails: u32,
    pub how: Fails,
    /// Whether it leaves effects that must not mix with those of another run.
    pub exclusive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fails {
    Error,
    Permanent,
    Panic,
}

/// How a task must end, unless it is cancelled or left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Completed,
    Failed(callboard::Cause),
}

/// One task of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub kind: &'static str,
    pub work: Work,
}

impl Planned {
    /// Plans task number `n`; a run of it takes `mean` milliseconds, half as much or half as much
    /// again.
    pub fn new(n: u64, mean: u64) -> Self {
        let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut millis = mean / 2 + spread % (mean + 1);
        let (kind, fails, how, exclusive) = match n % 20 {
            0..=6 => ("async", 0, Fails::Error, false),
            7..=10 => ("blocking", 0, Fails::Error, false),
            11 | 12 => ("async", 2, Fails::Error, false),
            13 => ("blocking", 3, Fails::Error, false),
            14 => ("async", 1, Fails::Permanent, false),
            15 => ("async", 1, Fails::Panic, false),
            16 => ("blocking", 3, Fails::Panic, false),
            17 | 18 => ("async", 0, Fails::Error, true),
            _ => ("blocking", 0, Fails::Error, true),
        };
        // Some that run when the fault begins outlast a lease: only they show whether a rerun waits
        // for them.
        let long = exclusive && (60..260).contains(&n) && n % 40 < 20;
        let kind = if long && n % 20 == 18 {
            "blocking"
        } else {
            kind
        };
        if long {
            millis = mean * 30;
        }
        let work = Work {
            millis,
            fails,
            how,
            exclusive,
        };
        Self { kind, work }
    }

    pub fn execute(&self) -> Execute {
        let execute = Execute::named(self.kind, &self.work).unwrap().retry(RETRY);
        // A scenario may cost a task more nodes than an application would let it; G7 is judged
        // elsewhere.
        let execute = execute.max_reroutes(1_000);
        if self.work.exclusive {
            execute.exclusive()
        } else {
            execute
        }
    }

    pub fn expected(&self) -> Expected {
        use callboard::Cause;
        let attempts = RETRY.limit().unwrap();
        match self.work.how {
            Fails::Permanent => Expected::Failed(Cause::Permanent),
            Fails::Error if self.work.fails >= attempts => Expected::Failed(Cause::Error),
            Fails::Panic if self.work.fails >= attempts => Expected::Failed(Cause::Panic),
            _ => Expected::Completed,
        }
    }
}

/// Nanoseconds of the clock that all processes of a machine share.
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Where the runs of one process write.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    effects: PathBuf,
}

impl Ledger {
    pub fn open(directory: &Path, name: &str) -> Self {
        let path = directory.join("ledgers").join(name);
        Self {
            file: OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap(),
            effects: directory.join("effects"),
        }
    }

    /// Makes the directories of a scenario.
    pub fn prepare(directory: &Path) {
        fs::create_dir(directory.join("ledgers")).unwrap();
        fs::create_dir(directory.join("effects")).unwrap();
    }

    fn write(&self, line: &str) {
        (&self.file).write_all(line.as_bytes()).unwrap();
    }
}

/// A run that goes on. Dropped, it has ended, however.
pub struct Going {
    ledger: Arc<Ledger>,
    effects: Option<File>,
    task: TaskId,
    dispatch: Dispatch,
    how: &'static str,
}

impl Going {
    pub fn begin(
        ledger: Arc<Ledger>,
        task: TaskId,
        dispatch: Dispatch,
        attempt: u32,
        exclusive: bool,
    ) -> Self {
        let effects = exclusive.then(|| {
            let path = ledger.effects.join(task.get().to_string());
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
        });
        ledger.write(&format!(
            "start {} {} {} {attempt}\n",
            now(),
            task.get(),
            dispatch.get()
        ));
        let going = Self {
            ledger,
            effects,
            task,
            dispatch,
            how: "dropped",
        };
        going.affect("start");
        going
    }

    /// Writes an effect in the order of all effects of the task.
    fn affect(&self, what: &str) {
        if let Some(mut file) = self.effects.as_ref() {
            let line = format!("{what} {} {}\n", now(), self.dispatch.get());
            file.write_all(line.as_bytes()).unwrap();
        }
    }

    pub fn ends(&mut self, how: &'static str) {
        self.how = how;
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.affect("end");
        self.ledger.write(&format!(
            "end {} {} {} {}\n",
            now(),
            self.task.get(),
            self.dispatch.get(),
            self.how
        ));
    }
}

/// How long a step of a run takes at most: an exclusive one has an effect after each.
const STEP_MILLIS: u64 = 50;

/// What a run returns: the number of the run and where it was.
pub type Output = (u64, String);

pub fn handlers() -> Handlers {
    let directory = PathBuf::from(env::var(DIRECTORY).unwrap());
    let ledger = Arc::new(Ledger::open(&directory, &env::var(LEDGER).unwrap()));
    let (first, second) = (Arc::clone(&ledger), Arc::clone(&ledger));
    // Many tasks panic as they should.
    std::panic::set_hook(Box::new(|panic| {
        let told = panic.payload().downcast_ref::<String>().map(String::as_str);
        let told = told.or_else(|| panic.payload().downcast_ref::<&str>().copied());
        if told != Some(PANIC) {
            eprintln!("{panic}");
        }
    }));
    Handlers::new()
        .on("async", move |work: Work, cx: TaskContext| {
            work_async(Arc::clone(&ledger), work, cx)
        })
        .on("large", move |(work, _): (Work, Bytes), cx: TaskContext| {
            work_async(Arc::clone(&first), work, cx)
        })
        .on_blocking("blocking", move |work: Work, cx: TaskContext| {
            let mut going = begin(&second, &work, &cx);
            for _ in 0..steps(&work) {
                // The length of a step is the work: faults come in the middle of it.
                thread::sleep(step(&work));
                going.affect("step");
            }
            finish(&mut going, &work, &cx)
        })
}

async fn work_async(ledger: Arc<Ledger>, work: Work, cx: TaskContext) -> Result<Output, TaskError> {
    let mut going = begin(&ledger, &work, &cx);
    for _ in 0..steps(&work) {
        // As for the blocking ones.
        tokio::time::sleep(step(&work)).await;
        going.affect("step");
    }
    finish(&mut going, &work, &cx)
}

fn steps(work: &Work) -> u64 {
    work.millis.div_ceil(STEP_MILLIS).max(1)
}

fn step(work: &Work) -> Duration {
    Duration::from_micros(work.millis * 1000 / steps(work))
}

fn begin(ledger: &Arc<Ledger>, work: &Work, cx: &TaskContext) -> Going {
    Going::begin(
        Arc::clone(ledger),
        cx.id(),
        cx.dispatch(),
        cx.attempt(),
        work.exclusive,
    )
}

const PANIC: &str = "as it was told to";

fn finish(going: &mut Going, work: &Work, cx: &TaskContext) -> Result<Output, TaskError> {
    if cx.attempt() > work.fails {
        going.ends("completed");
        return Ok((cx.dispatch().get(), cx.node().to_owned()));
    }
    going.ends("failed");
    match work.how {
        Fails::Error => Err(TaskError::retry(PANIC)),
        Fails::Permanent => Err(TaskError::permanent(PANIC)),
        Fails::Panic => panic!("{PANIC}"),
    }
}
