//! What a dashboard asks each second, for its plots.
//!
//! Owns: plain numbers. Does not know: how they are gathered, or how they are drawn.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Histogram;
use crate::task::TaskKind;

/// See the module. All but what is due, running and up are counts since the start.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// Tasks accepted.
    pub accepted: u64,
    /// Attempts that have begun: those that have ended and those that go on. It may fall by some
    /// whose nodes say that they never began.
    pub started: u64,
    /// Tasks that have settled in any way.
    pub settled: u64,
    /// Tasks that have failed.
    pub failed: u64,
    /// Tasks that wait for a worker.
    pub due: u64,
    /// Tasks that run.
    pub running: u64,
    /// How long tasks had waited whose first attempt has ended.
    pub wait: Histogram,
    /// How long attempts took that have ended.
    pub runs: Histogram,
    /// Tasks that have failed, of each kind that is counted by name.
    pub failed_of: Vec<(TaskKind, u64)>,
    /// The names of the nodes that are up.
    pub up: BTreeSet<Arc<str>>,
}
