//! What the schedulers of this process write to the log, for tests to read.

use std::io;
use std::sync::{Mutex, Once};

/// What all schedulers of this process warn of, from the first call of [`Log::of_this_process`] on.
/// A subscriber is for the whole process.
pub struct Log;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Log {
    pub fn of_this_process() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .with_ansi(false)
                .with_writer(|| Self)
                .init();
        });
        Self
    }

    /// Returns the lines of this scheduler.
    pub fn lines(&self, scheduler: &str) -> Vec<String> {
        let name = format!("scheduler=\"{scheduler}\"");
        let lines = LINES.lock().unwrap();
        let of_it = lines.iter().filter(|line| line.contains(&name));
        of_it.cloned().collect()
    }
}

impl io::Write for Log {
    /// Takes a line, which comes in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        LINES.lock().unwrap().push(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
