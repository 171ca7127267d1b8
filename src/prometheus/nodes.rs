//! What is told of nodes and of their workers.
//!
//! Owns: how workers are counted, and which nodes are told by name. Does not know: when it is told
//! by node at all.

use std::collections::BTreeMap;
use std::time::Duration;

use super::each;
use super::outlet::{Outlet, Type, Value};
use crate::engine::meter::OTHER_NAME;
use crate::snapshot::Snapshot;
use crate::stats::{NodeState, NodeStats, Stats};

/// So many nodes are told by name.
const NODES: usize = 100;

/// The states of nodes, by name.
const NODE_STATES: [(&str, NodeState); 5] = [
    ("connecting", NodeState::Connecting),
    ("up", NodeState::Up),
    ("draining", NodeState::Draining),
    ("unreachable", NodeState::Unreachable),
    ("lost", NodeState::Lost),
];

/// How the workers of nodes are used.
#[derive(Clone, Copy, Default)]
struct WorkerCounts {
    busy: u64,
    idle: u64,
    taken: u64,
}

impl WorkerCounts {
    fn of(node: &NodeStats) -> Self {
        let (busy, taken) = (node.running, node.taken);
        let idle = match node.state {
            NodeState::Up => node.workers.saturating_sub(busy.saturating_add(taken)),
            _ => 0,
        };
        Self {
            busy: u64::from(busy),
            idle: u64::from(idle),
            taken: u64::from(taken),
        }
    }

    fn add(&mut self, other: Self) {
        self.busy += other.busy;
        self.idle += other.idle;
        self.taken += other.taken;
    }

    fn all(self) -> [(&'static str, u64); 3] {
        [
            ("busy", self.busy),
            ("idle", self.idle),
            ("taken", self.taken),
        ]
    }
}

pub(super) fn workers(text: &mut dyn Outlet, snapshot: &Snapshot) {
    let nodes = &snapshot.stats.nodes;
    let mut workers = WorkerCounts::default();
    nodes
        .iter()
        .for_each(|node| workers.add(WorkerCounts::of(node)));
    text.family(
        "callboard_workers",
        Type::Gauge,
        "Workers by what they do; taken are those of runs that were given up.",
    );
    each(text, "state", workers.all());
    text.family(
        "callboard_wanted_workers",
        Type::Gauge,
        "Workers that are taken, and those that what is due could use.",
    );
    text.sample(&[], snapshot.machine.wanted_workers as u64);
    text.family("callboard_nodes", Type::Gauge, "Nodes by state.");
    let counts = NODE_STATES.map(|(name, state)| {
        let nodes = nodes.iter().filter(|node| node.state == state);
        (name, nodes.count() as u64)
    });
    each(text, "state", counts);
}

/// What is told of one node, or of all that are not told by name.
#[derive(Default)]
struct NodeFigures {
    workers: WorkerCounts,
    prefetched: u64,
    settled: u64,
    /// The longest of them.
    round_trip: Duration,
}

pub(super) fn nodes(text: &mut dyn Outlet, stats: &Stats) {
    let mut nodes: BTreeMap<&str, NodeFigures> = BTreeMap::new();
    for (at, node) in stats.nodes.iter().enumerate() {
        let name = if at < NODES { &*node.name } else { OTHER_NAME };
        let of = nodes.entry(name).or_default();
        of.workers.add(WorkerCounts::of(node));
        of.prefetched += u64::from(node.prefetched);
        of.settled += node.settled;
        of.round_trip = of.round_trip.max(node.round_trip.unwrap_or_default());
    }
    text.family(
        "callboard_node_workers",
        Type::Gauge,
        "Workers of a node by what they do.",
    );
    for (name, node) in &nodes {
        for (state, workers) in node.workers.all() {
            text.sample(&[("node", name), ("state", state)], workers);
        }
    }
    let mut family = |name, of_type, help, value: &dyn Fn(&NodeFigures) -> Value| {
        text.family(name, of_type, help);
        for (node, figures) in &nodes {
            text.sample(&[("node", node)], value(figures));
        }
    };
    family(
        "callboard_node_prefetched",
        Type::Gauge,
        "Tasks that wait at a node.",
        &|node| node.prefetched.into(),
    );
    family(
        "callboard_node_tasks_settled_total",
        Type::Counter,
        "Tasks whose ending a node has reported.",
        &|node| node.settled.into(),
    );
    family(
        "callboard_node_round_trip_seconds",
        Type::Gauge,
        "How long the last heartbeat of a node took to be answered.",
        &|node| node.round_trip.into(),
    );
}
