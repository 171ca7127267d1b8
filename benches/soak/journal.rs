//! What a node's process writes down of each run, in a file of its own that outlives it.
//!
//! Owns: the lines. Does not know: who reads them, or what they prove.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use callboard::TaskContext;
use rustix::time::{ClockId, clock_gettime};

/// See the module. One in each process.
pub struct Journal {
    file: File,
    running: AtomicU32,
    workers: u32,
}

/// The span of one run: written down where it begins, and where it is dropped, however that comes.
pub struct Span<'a> {
    journal: &'a Journal,
    dispatch: u64,
}

/// Reads the clock of the machine, the same for all its processes, in nanoseconds.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock starts with the machine.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Journal {
    pub fn create(path: &Path, workers: u32) -> io::Result<Self> {
        Ok(Self {
            file: File::create_new(path)?,
            running: AtomicU32::new(0),
            workers,
        })
    }

    pub fn begin(&self, cx: &TaskContext, exclusive: bool) -> Span<'_> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let (task, dispatch, attempt) = (cx.id().get(), cx.dispatch().get(), cx.attempt());
        let exclusive = u8::from(exclusive);
        self.write(&format!(
            "B {task} {dispatch} {attempt} {exclusive} {}\n",
            now()
        ));
        if running > self.workers {
            self.write(&format!("O {task} {dispatch} {running}\n"));
        }
        Span {
            journal: self,
            dispatch,
        }
    }

    /// Writes the line at once, so that those of other threads do not mix with it, and a kill does
    /// not lose it.
    fn write(&self, line: &str) {
        if let Err(error) = (&self.file).write_all(line.as_bytes()) {
            eprintln!("soak: a node cannot write down its runs: {error}");
            std::process::exit(2);
        }
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.journal
            .write(&format!("E {} {}\n", self.dispatch, now()));
        self.journal.running.fetch_sub(1, Ordering::SeqCst);
    }
}
