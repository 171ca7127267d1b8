//! The handlers that every node of the tests offers.
//!
//! Owns: what a task does there. What a test asks of a run is in the args.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use callboard::{Handlers, TaskContext, TaskError};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

use super::gate;

/// What a run of `count` has seen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    pub node: String,
    /// How many ran in this process at the same moment, itself among them.
    pub at_once: u32,
}

/// The args of `log`: each run appends its task, its dispatch and its node to a file, and takes its
/// time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Log {
    pub file: PathBuf,
    pub millis: u64,
}

/// How many runs of `tally` have begun in this process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// For the scheduler whose run this is, itself among them.
    pub own: u64,
    pub others: u64,
}

static TALLIES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

static RUNNING: AtomicU32 = AtomicU32::new(0);

struct Counted;

impl Counted {
    fn enter() -> (Self, u32) {
        (Self, RUNNING.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn handlers() -> Handlers {
    Handlers::new()
        // Nothing but its end.
        .on("echo", async |n: u64| Ok(n))
        // The name of the node, after so many milliseconds.
        .on("sleep", async |millis: u64, cx: TaskContext| {
            sleep(millis).await;
            Ok(cx.node().to_owned())
        })
        // The name of the scheduler whose run it is.
        .on("whose", async |(): (), cx: TaskContext| {
            Ok(cx.scheduler().to_owned())
        })
        // An output of so many bytes.
        .on("bulk", async |bytes: usize| Ok(Bytes::from(vec![7; bytes])))
        .on("count", count)
        .on("log", log)
        .on("tally", tally)
        .on("gate", gate::wait)
        .on_blocking("gate.blocking", gate::block)
        .on("fail", async |(): (), cx: TaskContext| {
            Err::<(), _>(TaskError::retry(format!("attempt {} failed", cx.attempt())))
        })
        .on("fail.permanently", async |(): (), cx: TaskContext| {
            Err::<(), _>(TaskError::permanent(cx.node().to_owned()))
        })
        .on("panic", async |(): ()| -> Result<(), TaskError> {
            panic!("as it was told to")
        })
        // Fails until this attempt, and returns its number.
        .on("fail.until", async |until: u32, cx: TaskContext| {
            if cx.attempt() < until {
                return Err(TaskError::retry("not yet"));
            }
            Ok(cx.attempt())
        })
        .on("progress", async |steps: u32, cx: TaskContext| {
            for step in 1..=steps {
                cx.progress(&step)?;
            }
            Ok(())
        })
        // Blocks its thread, which it should not.
        .on("stall", async |millis: u64| {
            std::thread::sleep(Duration::from_millis(millis));
            Ok(())
        })
        .on("kill.once", kill_once)
        .on("kill", async |(): ()| -> Result<(), TaskError> { die() })
}

async fn count(millis: u64, cx: TaskContext) -> Result<Seen, TaskError> {
    let (_counted, at_once) = Counted::enter();
    sleep(millis).await;
    Ok(Seen {
        node: cx.node().to_owned(),
        at_once,
    })
}

async fn log(log: Log, cx: TaskContext) -> Result<(), TaskError> {
    let line = format!("{} {} {}\n", cx.id().get(), cx.dispatch().get(), cx.node());
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log.file)?;
    // One write, so that lines of other processes do not mix with it.
    file.write_all(line.as_bytes())?;
    sleep(log.millis).await;
    Ok(())
}

/// Logs as `log` does, and tells how many have begun for whom.
async fn tally(args: Log, cx: TaskContext) -> Result<Tally, TaskError> {
    let own = cx.scheduler().to_owned();
    let tally = {
        let mut tallies = TALLIES.lock().unwrap_or_else(PoisonError::into_inner);
        let own = tallies.entry(own).or_default();
        *own += 1;
        let own = *own;
        let all: u64 = tallies.values().sum();
        let others = all - own;
        Tally { own, others }
    };
    log(args, cx).await?;
    Ok(tally)
}

/// Kills its process the first time that it runs: the file says that it has.
async fn kill_once(mark: PathBuf, cx: TaskContext) -> Result<String, TaskError> {
    match File::create_new(&mark) {
        Ok(_) => die(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(cx.node().to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// Kills this process. Unlike an abort it leaves no core behind.
fn die() -> ! {
    kill_process(getpid(), Signal::KILL).expect("a process may signal itself");
    unreachable!("SIGKILL does not return");
}

async fn sleep(millis: u64) {
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
