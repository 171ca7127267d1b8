//! The whole library, with real processes as nodes.
//!
//! Each module takes one side of the promises; `cluster` holds what they share, and
//! `tests/processes` the processes.

#![allow(clippy::unwrap_used, reason = "tests")]

#[cfg(feature = "tls")]
#[path = "../certificates/mod.rs"]
mod certificates;
#[path = "../processes/mod.rs"]
mod processes;

mod api;
mod callers;
mod clients;
mod cluster;
#[cfg(feature = "store")]
mod durable;
mod ends;
mod fleet;
mod frames;
mod handles;
mod load;
mod log;
mod losses;
mod membership;
mod metrics;
mod options;
mod overload;
mod placing;
mod poison;
mod roles;
mod seed;
mod shutdown;
#[cfg(feature = "tls")]
mod tls;

/// Runs in the spawned processes; not a test.
#[test]
fn node_process() {
    processes::act_if_told();
}
