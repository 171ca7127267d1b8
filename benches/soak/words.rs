//! What the scheduler's process says to the process that started it: a line a word.
//!
//! Owns: both ends of the lines. Does not know: what should be said, or what is made of it.

use std::io::{self, BufRead, BufReader, Read, Write};

use callboard::stats::Totals;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// It has started.
    Ready,
    /// Tasks of these numbers will be handed in, and not answered before `Answered`.
    HandingIn(Vec<u64>),
    /// All of them were answered.
    Answered {
        accepted: Vec<u64>,
        refused: u64,
    },
    Settled(Ending),
    State(State),
    /// Tasks that do not settle, in words.
    Unfinished(Vec<String>),
    /// All was well, and it has shut down.
    Ended,
}

/// How a task ended, as its client was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ending {
    pub id: u64,
    pub kind: String,
    pub number: Option<u64>,
    pub outcome: String,
    pub attempts: u32,
    pub reroutes: u32,
    pub given_again: bool,
    /// What is wrong with it.
    pub objection: Option<String>,
}

/// What the process takes and has counted since its start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Bytes that it has in memory.
    pub memory: u64,
    /// Bytes of the store's file.
    pub store: u64,
    pub totals: Totals,
}

/// Says it. One that cannot be heard any more says nothing: its parent has ended.
pub fn say(word: &Word) {
    let mut line = serde_json::to_string(word).expect("it is plain data");
    line.push('\n');
    let _ = io::stdout().write_all(line.as_bytes());
}

/// Hears all that is said until the process has ended. A kill may cut the last line short, which
/// then was not said.
///
/// # Errors
///
/// A line is none of these words.
pub fn hear(from: impl Read, mut each: impl FnMut(Word)) -> io::Result<()> {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        each(serde_json::from_slice(&line)?);
        line.clear();
    }
    Ok(())
}
