//! All that can go wrong in a history, and what operators do in it.
//!
//! Owns: the list. Does not know: when one comes, or how it is carried out.

use serde::{Deserialize, Serialize};

use super::{NeighbourFault, Time};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Fault {
    /// Nothing can be stored.
    StoreFull {
        span: Time,
    },
    /// It cannot be told whether something was stored.
    StoreUnknown {
        span: Time,
    },
    /// The network of a node's machine is cut, towards the scheduler, from it, or both.
    CutHost {
        node: usize,
        up: bool,
        down: bool,
        span: Time,
    },
    /// The newest connection of a node is stuck while fresh ones would work.
    CutLink {
        node: usize,
        up: bool,
        down: bool,
        span: Time,
    },
    /// A connection breaks while both processes live; what is in flight is lost.
    Reset {
        node: usize,
        tell_scheduler: bool,
        tell_node: bool,
    },
    /// A node's network is slow.
    Slow {
        node: usize,
        bytes_per_ms: u64,
        span: Time,
    },
    /// A process dies; its machine says so to whoever dials.
    KillProcess {
        node: usize,
        back: Option<Time>,
    },
    /// A whole machine dies, silently.
    KillHost {
        node: usize,
        back: Time,
    },
    FreezeNode {
        node: usize,
        span: Time,
    },
    FreezeScheduler {
        span: Time,
    },
    /// Another scheduler dials a node, and is served unless the node hears its own.
    Visit {
        node: usize,
        stays: Time,
    },
    /// As many schedulers of other names as a node serves dial it, one after the other.
    Crowd {
        node: usize,
    },
    RestartScheduler {
        down: Time,
    },
    /// The scheduler ends its term, as it does when it is shut down, and starts again.
    CloseScheduler {
        down: Time,
    },
    /// The scheduler dies while this batch is under way, which is stored or not.
    DieWithBatch {
        batch: u64,
        keeps: bool,
        down: Time,
    },
    /// The store is copied.
    CopyStore,
    /// The scheduler dies, and starts again on the last copy, which may be marked as one.
    PutBack {
        marked: bool,
        down: Time,
    },
    /// The wall clock is set back, which each later start of the scheduler goes by.
    SetClockBack {
        by: Time,
    },
    /// Another process of the same name dials in.
    Double {
        node: usize,
    },
    /// Of two processes of one name the older dies, and none comes in its place.
    KillOlder {
        node: usize,
    },
    ClientDies {
        gap: Time,
    },
    ClientSlow {
        span: Time,
    },
    OwnClientDies,
    /// No client is set for a while, though the one that was lives on: statuses wait for the next.
    ClearClient {
        gap: Time,
    },
    /// Nobody is to be told of what has no client of its own, until a client is set after so long,
    /// if ever: each start says so, too.
    TellNobody {
        span: Option<Time>,
    },
    RemoveNode {
        node: usize,
        back: Time,
    },
    DrainNode {
        node: usize,
        back: Time,
    },
    NodeDrains {
        node: usize,
        back: Time,
    },
    NodeStops {
        node: usize,
        back: Time,
    },
    SetWorkers {
        node: Option<usize>,
        workers: u32,
    },
    NodeWorkers {
        node: usize,
        workers: u32,
    },
    SetRetry {
        attempts: u32,
    },
    /// An operator says that no process of a node is alive, if that is true.
    DeclareDead {
        node: usize,
    },
    /// No thread can be started at the node, so nothing that blocks begins.
    NoThread {
        node: usize,
        span: Time,
    },
    /// A handler blocks a thread of the node.
    Stall {
        node: usize,
        span: Time,
    },
    /// An operator pauses a kind, or all, for a while.
    Pause {
        kind: Option<usize>,
        span: Time,
    },
    /// An operator limits a kind for a while: how many go on at once, and of each group, and how
    /// many nanoseconds are between two starts, and of each group, of which some may come at once.
    Limit {
        kind: usize,
        concurrency: Option<u32>,
        each: Option<u32>,
        interval: Option<Time>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        each_interval: Option<Time>,
        burst: u32,
        span: Time,
    },
    /// An operator closes the intake of a kind for a while.
    CloseIntake {
        kind: usize,
        span: Time,
    },
    Drain,
    /// The scheduler finishes what runs, and starts nothing more.
    FinishRunning,
    /// What happens to the other scheduler.
    Neighbour(NeighbourFault),
}

impl Fault {
    /// Returns whether it is nothing to the nodes: all that it changes is who is told.
    pub fn is_about_clients(&self) -> bool {
        matches!(
            self,
            Self::ClientDies { .. }
                | Self::ClientSlow { .. }
                | Self::OwnClientDies
                | Self::ClearClient { .. }
                | Self::TellNobody { .. }
        )
    }
}
