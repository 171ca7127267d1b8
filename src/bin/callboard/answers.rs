//! What a dashboard answers, as values and as tables.
//!
//! Owns: the shapes that are understood, and the columns. Does not know: who asked.

use std::time::Duration;

use callboard::__internals::text::{span, words};
use callboard::stats::{NodeStats, Stats};
use serde::Deserialize;

use super::table::Table;

/// What is wrong with a scheduler.
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    pub severity: String,
    pub what: String,
    pub remedy: String,
}

/// The answer about numbers.
#[derive(Clone, Debug, Deserialize)]
pub struct Moment {
    /// Seconds since 1970.
    pub at: f64,
    pub stats: Stats,
    pub problems: Vec<Problem>,
}

/// What is known of a kind.
#[derive(Clone, Debug, Deserialize)]
pub struct Kind {
    pub kind: String,
    pub nodes: u64,
    pub paused: bool,
    pub closed: bool,
    pub due: Option<u64>,
    pub oldest_due_seconds: Option<f64>,
    pub running: Option<u64>,
    pub failed: Option<u64>,
}

/// The answer about kinds.
#[derive(Clone, Debug, Deserialize)]
pub struct Kinds {
    pub kinds: Vec<Kind>,
}

/// Returns a line for each thing that is wrong.
pub fn problems(problems: &[Problem]) -> Vec<String> {
    let line = |it: &Problem| words(&format!("{}: {} {}", it.severity, it.what, it.remedy), 600);
    problems.iter().map(line).collect()
}

/// Returns the nodes as a table.
pub fn nodes_table(nodes: &[NodeStats]) -> Table<8> {
    let mut table = Table::new([
        "NODE", "STATE", "WORKERS", "RUNNING", "AHEAD", "TAKEN", "TRIP", "WHY",
    ]);
    for node in nodes {
        table.row([
            &node.name,
            &format!("{:?}", node.state).to_lowercase(),
            &node.workers,
            &node.running,
            &node.prefetched,
            &node.taken,
            &node.round_trip.map(span).unwrap_or_default(),
            &node.reason,
        ]);
    }
    table
}

/// Returns kinds as a table.
pub fn kinds_table(kinds: &[Kind]) -> Table<7> {
    let mut table = Table::new([
        "KIND", "NODES", "DUE", "OLDEST", "RUNNING", "FAILED", "STARTS",
    ]);
    let some = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    for kind in kinds {
        let oldest = kind.oldest_due_seconds.unwrap_or(0.0);
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        let starts = match (kind.paused, kind.closed) {
            (true, true) => "paused, intake closed",
            (true, false) => "paused",
            (false, true) => "yes, intake closed",
            (false, false) => "yes",
        };
        let oldest = if oldest.is_zero() {
            String::new()
        } else {
            span(oldest)
        };
        table.row([
            &kind.kind,
            &kind.nodes,
            &some(kind.due),
            &oldest,
            &some(kind.running),
            &some(kind.failed),
            &starts,
        ]);
    }
    table
}
