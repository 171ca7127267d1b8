//! callboard beside what actix and TCP can do at all, in one run.
//!
//! `cargo bench --bench throughput` measures everything, `-- local remote` only the rows whose names begin
//! with one of these words, and `--quick` a tenth of the tasks in one round. Each round measures every row
//! once, in turn; the table has the minimum, median and maximum of all rounds and the ratio of the median
//! to that of the row's floor.
//!
//! The rows of callboard go through the public API as a user would: one `Execute` a task by `do_send`, its
//! args encoded from a Rust value, one `TaskStatus` a task in the client's handler, its output decoded.
//! Rows with `many` hand tasks in by `execute_many`.
//!
//! Not measured: real networks (all links are on loopback), more cores than the machine has, handlers that
//! do anything, TLS. The nodes of `nodes` rows and of `idle` live in one helper process, so what they cost
//! there is in the figure too.

mod board;
mod floors;
mod helper;
mod peer;
mod table;

use table::{Row, Unit};

/// Tasks, messages or bytes a row handles in a full run; a tenth in a quick one.
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// This many, or a tenth.
    pub fn of(&self, full: u64) -> u64 {
        if self.quick { (full / 10).max(1) } else { full }
    }
}

fn rows() -> Vec<Row> {
    let rate = Unit::PerSecond;
    vec![
        Row::new("chain-1", rate, "", floors::chain_one),
        Row::new("chain-3", rate, "", floors::chain_three),
        Row::new(
            "chain-3-latency",
            Unit::Micros,
            "",
            floors::chain_three_latency,
        ),
        Row::new("tcp-10", rate, "", floors::tcp_ten),
        Row::new("tcp-pipelined", rate, "", floors::tcp_pipelined),
        Row::new("tcp-latency", Unit::Micros, "", floors::tcp_latency),
        Row::new("tcp-bytes", Unit::Bytes, "", floors::tcp_bytes),
        Row::new("ractor", rate, "", peer::factory),
        Row::new("local", rate, "chain-1", board::local),
        Row::new("local-many", rate, "chain-1", board::local_many),
        Row::new("remote-1", rate, "tcp-10", board::remote_one),
        Row::new("remote-4", rate, "remote-1", board::remote_four),
        Row::new(
            "latency-local",
            Unit::Micros,
            "chain-3-latency",
            board::latency_local,
        ),
        Row::new(
            "latency-remote",
            Unit::Micros,
            "tcp-latency",
            board::latency_remote,
        ),
        Row::new("pending-10k", rate, "", board::pending_few),
        Row::new("pending-1M", rate, "pending-10k", board::pending_many),
        Row::new("pending-10M", rate, "pending-10k", board::pending_most),
        Row::new("nodes-1", rate, "", board::nodes_one),
        Row::new("nodes-10", rate, "nodes-1", board::nodes_ten),
        Row::new("nodes-100", rate, "nodes-1", board::nodes_hundred),
        Row::new("nodes-1000", rate, "nodes-1", board::nodes_thousand),
        Row::new("large", Unit::Bytes, "tcp-bytes", board::large),
        Row::new("await-4000", rate, "", board::await_many),
        Row::new("killed", rate, "remote-4", board::killed),
        Row::new("idle-100", Unit::PercentOfCore, "", board::idle),
    ]
}

fn main() {
    if helper::act_if_told() {
        return;
    }
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let quick = words.iter().any(|word| word == "--quick");
    words.retain(|word| !word.starts_with("--"));
    let scale = Scale { quick };
    let mut rows = rows();
    if !words.is_empty() {
        let picked = |row: &Row| words.iter().any(|word| row.name.starts_with(word.as_str()));
        let floors: Vec<_> = rows
            .iter()
            .filter(|row| picked(row))
            .map(|row| row.floor)
            .collect();
        rows.retain(|row| picked(row) || floors.contains(&row.name));
    }
    let rounds = if quick { 1 } else { 5 };
    for round in 1..=rounds {
        for row in &mut rows {
            eprint!("round {round}: {:<16}", row.name);
            let figure = row.measure(&scale);
            eprintln!("{}", row.unit.show(figure));
        }
    }
    table::print(&rows);
}
