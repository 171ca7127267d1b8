//! What the library says by `tracing`, for tests that wait for it.
//!
//! All tests of this binary share one log, since some lines come from threads of a pool; each test
//! looks for words that only its own lines have, such as an address or a path.

use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing_subscriber::filter::LevelFilter;

static LOG: LazyLock<watch::Sender<String>> = LazyLock::new(|| {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(|| Line)
        .init();
    watch::Sender::new(String::new())
});

struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.send_modify(|log| log.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to listen; what was said before is lost.
pub fn begin() {
    LazyLock::force(&LOG);
}

/// Waits for a line that has all these words, and returns it.
pub async fn line(words: &[&str]) -> String {
    let find = |log: &String| {
        let mut lines = log.lines();
        lines
            .find(|line| words.iter().all(|word| line.contains(word)))
            .map(str::to_owned)
    };
    let mut log = LOG.subscribe();
    let found = timeout(
        Duration::from_secs(40),
        log.wait_for(|log| find(log).is_some()),
    )
    .await;
    let found =
        found.unwrap_or_else(|_| panic!("nobody said {words:?}; {}", lines(words[0]).join("\n")));
    find(&found.unwrap()).unwrap()
}

/// Returns all lines so far that have this.
pub fn lines(word: &str) -> Vec<String> {
    let log = LOG.borrow();
    let lines = log.lines().filter(|line| line.contains(word));
    lines.map(str::to_owned).collect()
}
