//! A node's process: its handlers, each of which writes down its runs.
//!
//! Owns: what a task does. Does not know: how many there are, or what becomes of this process.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use callboard::{Handlers, TaskContext, TaskError};

use crate::journal::{Journal, Span};
use crate::{AnyError, credentials, processes};

/// The args of all tasks. The output of those that complete is `number`.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub number: u64,
    /// How long it takes; for [`STUMBLE`], the attempt that succeeds.
    pub amount: u32,
}

impl Work {
    pub fn to_args(self) -> Bytes {
        let mut args = self.number.to_le_bytes().to_vec();
        args.extend(self.amount.to_le_bytes());
        args.into()
    }

    /// Reads the work from args. Returns `None` if these are no such args.
    pub fn from_args(args: &[u8]) -> Option<Self> {
        let (number, amount) = args.split_first_chunk()?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            amount: u32::from_le_bytes(amount.try_into().ok()?),
        })
    }
}

/// Ends at once.
pub const QUICK: &str = "quick";
/// Awaits for `amount` milliseconds.
pub const SLEEP: &str = "sleep";
/// Blocks for so long.
pub const BLOCK: &str = "block";
/// Fails until the attempt `amount`.
pub const STUMBLE: &str = "stumble";
/// Fails for good.
pub const FAIL: &str = "fail";
pub const PANIC: &str = "panic";
/// As [`SLEEP`] and [`BLOCK`], for tasks that are exclusive.
pub const LOCK: &str = "lock";
pub const LOCK_BLOCK: &str = "lock.block";
/// As [`SLEEP`], for tasks that may be cut short.
pub const LINGER: &str = "linger";

/// Begins a run: what it is to do, and the span that is written down.
fn begin<'a>(
    args: &Bytes,
    cx: &TaskContext,
    journal: &'a Journal,
) -> Result<(Work, Span<'a>), TaskError> {
    let exclusive = matches!(cx.kind().as_str(), LOCK | LOCK_BLOCK);
    let span = journal.begin(cx, exclusive);
    let work = Work::from_args(args).ok_or_else(|| TaskError::permanent("these are no args"))?;
    Ok((work, span))
}

async fn quick(args: Bytes, cx: TaskContext) -> Result<u64, TaskError> {
    let journal = cx.data::<Journal>()?;
    let (work, _span) = begin(&args, &cx, &journal)?;
    Ok(work.number)
}

async fn sleep(args: Bytes, cx: TaskContext) -> Result<u64, TaskError> {
    let journal = cx.data::<Journal>()?;
    let (work, _span) = begin(&args, &cx, &journal)?;
    tokio::time::sleep(Duration::from_millis(work.amount.into())).await;
    Ok(work.number)
}

fn block(args: Bytes, cx: TaskContext) -> Result<u64, TaskError> {
    let journal = cx.data::<Journal>()?;
    let (work, _span) = begin(&args, &cx, &journal)?;
    std::thread::sleep(Duration::from_millis(work.amount.into()));
    Ok(work.number)
}

async fn stumble(args: Bytes, cx: TaskContext) -> Result<u64, TaskError> {
    let journal = cx.data::<Journal>()?;
    let (work, _span) = begin(&args, &cx, &journal)?;
    if cx.attempt() < work.amount {
        return Err(TaskError::retry("not yet"));
    }
    Ok(work.number)
}

async fn fail(args: Bytes, cx: TaskContext) -> Result<u64, TaskError> {
    let journal = cx.data::<Journal>()?;
    let _begun = begin(&args, &cx, &journal)?;
    Err(TaskError::permanent("as it was told to"))
}

async fn panic(args: Bytes, cx: TaskContext) -> Result<u64, TaskError> {
    let journal = cx.data::<Journal>()?;
    let _begun = begin(&args, &cx, &journal)?;
    panic!("as it was told to");
}

fn handlers(journal: Journal) -> Handlers {
    Handlers::new()
        .data(journal)
        .on(QUICK, quick)
        .on(SLEEP, sleep)
        .on(LOCK, sleep)
        .on(LINGER, sleep)
        .on_blocking(BLOCK, block)
        .on_blocking(LOCK_BLOCK, block)
        .on(STUMBLE, stumble)
        .on(FAIL, fail)
        .on(PANIC, panic)
}

/// Runs a node's process to its end. Takes NAME ADDRESS WORKERS JOURNAL, and the directory of its
/// certificate if it has one.
pub async fn serve(args: &[OsString]) -> Result<(), AnyError> {
    let (name, address, workers, journal, certificates) = match args {
        [name, address, workers, journal] => (name, address, workers, journal, None),
        [name, address, workers, journal, directory] => {
            (name, address, workers, journal, Some(Path::new(directory)))
        }
        _ => return Err("this is for this program's own use".into()),
    };
    let text = |text: &OsString| text.to_str().map(str::to_owned).ok_or("it is not UTF-8");
    let workers: u32 = text(workers)?.parse()?;
    let secret = processes::read_secret()?;
    // They are part of the plan, and there are thousands.
    std::panic::set_hook(Box::new(|_| {}));
    let name = text(name)?;
    let node = credentials::of_node(callboard::node(&*name), &name, &secret, certificates)
        .handlers(handlers(Journal::create(Path::new(journal), workers)?))
        .max_workers(workers)
        .threads(1)
        .join(text(address)?)
        // Its links lead through a proxy, which shows the scheduler another address. Its port to
        // probe is reached without one, and says of a killed process that it is dead.
        .refusal_means_dead(true)
        .start()
        .await?;
    node.wait().await;
    Ok(())
}
