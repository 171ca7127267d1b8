//! callboard beside what actix and TCP can do at all, in one run.
//!
//! `cargo bench --bench throughput` measures everything, `-- local remote` only the rows whose
//! names begin with one of these words, and `--quick` a tenth of the tasks in one round. Each round
//! measures every row once, in turn; the table has the minimum, median and maximum of all rounds
//! and the ratio of the median to that of the row's floors, which are measured with it.
//!
//! The rows of callboard go through the public API as a user would: one `Execute` a task by
//! `do_send`, its args encoded from a Rust value, one `TaskStatus` a task in the client's handler,
//! its output decoded. Rows with `many` hand tasks in by `execute_many`, and `large` one by one by
//! the handle, which waits where there is no room.
//!
//! Links are plain TCP, but for the rows with `tls`.
//!
//! Not measured: real networks (all links are on loopback), more cores than the machine has,
//! handlers that do anything, options of tasks, failures and retries. Nodes that are not `local`
//! live in helper processes, those of a `nodes` row in one; what they cost is in the rates, since
//! they share the cores with the scheduler, but not in `idle`, which counts the scheduler's process
//! alone.

mod board;
#[cfg(feature = "tls")]
#[path = "../../tests/certificates/mod.rs"]
mod certificates;
#[cfg(feature = "store")]
mod durable;
mod floors;
mod helper;
mod idle;
mod latency;
mod peer;
mod rates;
mod table;
mod tcp;
#[cfg(feature = "dashboard")]
mod watched;

use table::{Row, Unit};

/// Tasks, messages or bytes a row handles in a full run; a tenth in a quick one.
#[derive(Debug)]
pub struct Scale {
    quick: bool,
}

impl Scale {
    /// Returns this many, or a tenth.
    pub fn of(&self, full: u64) -> u64 {
        if self.quick { (full / 10).max(1) } else { full }
    }
}

fn rows() -> Vec<Row> {
    vec![
        Row::rate("chain-1", floors::chain_one),
        Row::rate("chain-3", floors::chain_three),
        Row::latency("chain-3-latency", floors::ring),
        Row::rate("tcp-10", tcp::ten),
        Row::rate("tcp-pipelined", tcp::pipelined),
        Row::latency("tcp-latency", tcp::latency),
        Row::bytes("tcp-bytes", tcp::bytes),
        Row::rate("ractor", peer::factory),
        Row::rate("local", rates::local)
            .over("chain-1")
            .over("ractor"),
        // Each status confirmed by itself, which is the default.
        Row::rate("local-each", rates::local_each).over("local"),
        Row::rate("local-many", rates::local_many)
            .over("chain-1")
            .over("ractor"),
        Row::rate("remote-1", rates::remote_one)
            .over("tcp-10")
            .over("tcp-pipelined"),
        Row::rate("two-schedulers", rates::two_schedulers).over("remote-1"),
        Row::rate("remote-4", rates::remote_four)
            .over("remote-1")
            .over("tcp-10"),
        Row::latency("latency-local", latency::local).over("chain-3-latency"),
        Row::latency("latency-remote", latency::remote).over("tcp-latency"),
        Row::rate("pending-10k", rates::pending_few),
        Row::rate("pending-1M", rates::pending_many).over("pending-10k"),
        Row::rate("pending-10M", rates::pending_most).over("pending-10k"),
        Row::rate("nodes-1", rates::nodes_one),
        Row::rate("nodes-10", rates::nodes_ten).over("nodes-1"),
        Row::rate("nodes-100", rates::nodes_hundred).over("nodes-1"),
        Row::rate("nodes-1000", rates::nodes_thousand).over("nodes-1"),
        Row::bytes("large", rates::large).over("tcp-bytes"),
        #[cfg(feature = "tls")]
        Row::rate("tls-1", rates::tls_one).over("remote-1"),
        #[cfg(feature = "tls")]
        Row::latency("tls-latency", latency::tls).over("latency-remote"),
        #[cfg(feature = "tls")]
        Row::bytes("tls-large", rates::tls_large).over("large"),
        #[cfg(feature = "store")]
        Row::rate("durable-local", durable::local).over("local"),
        #[cfg(feature = "store")]
        Row::rate("durable-remote", durable::remote).over("remote-1"),
        #[cfg(feature = "store")]
        Row::latency("fdatasync", durable::sync),
        #[cfg(feature = "store")]
        Row::latency("durable-answered", durable::answered).over("fdatasync"),
        #[cfg(feature = "store")]
        Row::latency("durable-status", durable::status)
            .over("latency-local")
            .over("fdatasync"),
        #[cfg(feature = "store")]
        Row::latency("durable-at-once", durable::status_at_once)
            .over("latency-local")
            .over("fdatasync"),
        // A million unfinished; beside it, how large the file is.
        #[cfg(feature = "store")]
        Row::new("durable-start", Unit::Seconds, durable::recovery),
        // Beside it, how large the file is after the end.
        #[cfg(feature = "store")]
        Row::new("durable-file", Unit::MiB, durable::file),
        // A million tasks pend in each of these.
        #[cfg(feature = "dashboard")]
        Row::rate("watched-alone", watched::rate_alone).over("local"),
        #[cfg(feature = "dashboard")]
        Row::rate("watched-pages", watched::rate_beside_pages).over("watched-alone"),
        #[cfg(feature = "dashboard")]
        Row::latency("latency-alone", watched::latency_alone).over("latency-local"),
        #[cfg(feature = "dashboard")]
        Row::latency("latency-pages", watched::latency_beside_pages).over("latency-alone"),
        #[cfg(feature = "dashboard")]
        Row::latency("latency-search", watched::latency_beside_a_search).over("latency-alone"),
        // 4,000 workers, each free again after 20 ms.
        Row::rate("await-4000", rates::await_many).over_fixed(200_000.0),
        Row::rate("killed", rates::killed).over("remote-4"),
        // It fails where it takes too long.
        Row::new("halved", Unit::Seconds, rates::halved),
        Row::new("idle-100", Unit::PercentOfCore, idle::hundred_links),
    ]
}

/// Leaves the rows that were asked for by the beginnings of their names, and their floors.
fn pick(rows: &mut Vec<Row>, words: &[String]) {
    if words.is_empty() {
        return;
    }
    let picked = |row: &Row| words.iter().any(|word| row.name.starts_with(word.as_str()));
    let floors: Vec<_> = rows
        .iter()
        .filter(|row| picked(row))
        .flat_map(Row::floors)
        .collect();
    rows.retain(|row| picked(row) || floors.contains(&row.name));
}

fn main() {
    helper::act_if_told();
    let (options, words): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with("--"));
    // Cargo adds an option of its own.
    let quick = options.iter().any(|option| option == "--quick");
    let scale = Scale { quick };
    let mut rows = rows();
    pick(&mut rows, &words);
    for round in 1..=if quick { 1 } else { 5 } {
        for row in &mut rows {
            eprint!("round {round}: {:<16}", row.name);
            eprintln!("{}", row.measure(&scale));
        }
    }
    table::print(&rows);
}
