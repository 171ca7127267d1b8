//! All that is measured of a scheduler at one moment.
//!
//! Owns: the numbers of its machine beside those that only its actor, its store and its network
//! know. Does not know: how they are gathered or written.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::meter::{Histogram, MachineMetrics};
use crate::stats::Stats;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub stats: Stats,
    pub machine: MachineMetrics,
    /// How long turns took.
    pub turns: Histogram,
    /// For how long the control thread has worked: turns, and the messages before them.
    pub busy: Duration,
    /// What operators did, by what and whether it was done.
    pub actions: BTreeMap<(&'static str, Done), u64>,
    /// How long commits of the store took, if there is one.
    pub commits: Option<Histogram>,
    /// What bounds the scheduler, by the name of the setting.
    pub bounds: [(&'static str, u64); 4],
    /// What went over links of the network; its handle fills this in.
    pub bytes: LinkBytes,
}

/// Whether what an operator asked for was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Done {
    Yes,
    Refused,
}

/// How many bytes went over links, before any encryption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkBytes {
    pub received: u64,
    pub sent: u64,
}
