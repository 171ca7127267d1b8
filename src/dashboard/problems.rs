//! What is wrong with a scheduler now, in words, with what to do about it.
//!
//! Owns: what counts as wrong, and the words. Does not know: how they are shown.

use std::time::Duration;

use serde::Serialize;

use super::text::{counted, span};
use crate::engine::meter::KindMetrics;
use crate::stats::{ClientState, NodeState, NodeStats, Stats, StatusRoom, StoreState};

/// For how long a due task may wait for a worker.
const LATE: Duration = Duration::from_secs(60);

/// How many nodes are named one by one.
const NAMED: usize = 20;

/// How bad something is. The worst come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Work is refused, lost or stands still.
    Bad,
    /// Work is slower than it need be, or soon will be.
    Warning,
    /// Somebody wanted it so, and may have forgotten it.
    Held,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// What it is, in a sentence.
    pub what: String,
    /// What to do, in a sentence.
    pub remedy: &'static str,
    /// The page where that is done.
    pub page: &'static str,
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, severity: Severity, what: String, remedy: &'static str, page: &'static str) {
        self.0.push(Problem {
            severity,
            what,
            remedy,
            page,
        });
    }
}

/// Returns what is wrong, the worst first.
pub fn of(stats: &Stats, kinds: &[KindMetrics]) -> Vec<Problem> {
    let mut found = Found::default();
    of_store(stats, &mut found);
    of_client(stats, &mut found);
    of_nodes(stats, &mut found);
    of_kinds(stats, kinds, &mut found);
    of_holds(stats, &mut found);
    found.0.sort_by_key(|problem| problem.severity);
    found.0
}

fn of_store(stats: &Stats, found: &mut Found) {
    let Some(store) = &stats.store else { return };
    if let StoreState::Failing { reason, .. } = &store.state {
        found.add(
            Severity::Bad,
            format!("The store takes nothing: {reason}."),
            "Tasks are refused until it does. Mend the disk or free some space; it is tried again \
             each second.",
            "",
        );
    }
}

fn of_client(stats: &Stats, found: &mut Found) {
    let waiting = stats.unconfirmed_statuses;
    match stats.status_room {
        StatusRoom::None => found.add(
            Severity::Bad,
            format!("{waiting} statuses wait for a client, which is as many as may."),
            "Nothing is placed or accepted until a client handles some: set one, or look at what \
             holds it up.",
            "",
        ),
        StatusRoom::Low => found.add(
            Severity::Warning,
            format!("{waiting} statuses wait, and no client is set."),
            "Set a client, or say that there is none by `no_client`.",
            "",
        ),
        StatusRoom::Ample if stats.client == ClientState::Awaited && waiting > 0 => found.add(
            Severity::Warning,
            format!("{waiting} statuses wait for the next client."),
            "Set a client, or say that there is none by `no_client`.",
            "",
        ),
        StatusRoom::Ample => {}
    }
}

fn of_nodes(stats: &Stats, found: &mut Found) {
    let waits = stats.pending > 0;
    let up = stats.nodes.iter().filter(|it| it.state == NodeState::Up);
    let (nodes_up, workers) = up.fold((0, 0), |(nodes, workers), node| {
        (nodes + 1, workers + node.workers)
    });
    if nodes_up == 0 {
        let severity = if waits {
            Severity::Bad
        } else {
            Severity::Warning
        };
        found.add(
            severity,
            format!(
                "No node is up, and {} due.",
                counted(stats.pending as u64, "task is", "tasks are")
            ),
            "Start a node's process, or see below why those that are named are not up.",
            "nodes",
        );
    } else if workers == 0 {
        found.add(
            Severity::Bad,
            "No node that is up has a worker.".to_owned(),
            "Set the workers of a node.",
            "nodes",
        );
    }
    let odd = stats.nodes.iter().filter_map(problem_of_node);
    let mut more = 0;
    for (at, (severity, what, remedy)) in odd.enumerate() {
        if at < NAMED {
            found.add(severity, what, remedy, "nodes");
        } else {
            more += 1;
        }
    }
    if more > 0 {
        found.add(
            Severity::Warning,
            format!("{more} nodes more have something wrong."),
            "See the page of nodes.",
            "nodes",
        );
    }
}

/// Returns what is wrong with a node first of all.
fn problem_of_node(node: &NodeStats) -> Option<(Severity, String, &'static str)> {
    let (name, reason) = (&node.name, &node.reason);
    let told = match node.state {
        NodeState::Lost => (
            Severity::Bad,
            format!("The node {name} is lost: {reason}."),
            "Its tasks went elsewhere. Start its process again; declare it dead if its machine is \
             gone; remove it if it will not return.",
        ),
        NodeState::Unreachable => (
            Severity::Warning,
            format!("The node {name} cannot be reached: {reason}."),
            "It keeps its tasks until its lease ends. See whether its machine and the network are \
             up.",
        ),
        NodeState::Connecting => (
            Severity::Warning,
            format!("The node {name} was never reached: {reason}."),
            "Start its process, or mend its address; it is tried for ever.",
        ),
        _ if node.violations > 0 => (
            Severity::Bad,
            format!(
                "The node {name} has broken the protocol {} times.",
                node.violations
            ),
            "An honest node never does: see which process bears its name.",
        ),
        _ if node.taken > 0 => (
            Severity::Warning,
            format!(
                "{} workers of the node {name} are taken by runs that were given up, or by a \
                 handler that blocks its thread.",
                node.taken
            ),
            "They are free when those handlers return. The log of the node names one that blocks.",
        ),
        _ if node.slow_link => (
            Severity::Warning,
            format!("The link to the node {name} is slow."),
            "A short silence may lose the node: take a longer `lease`.",
        ),
        _ => return None,
    };
    Some(told)
}

fn of_kinds(stats: &Stats, kinds: &[KindMetrics], found: &mut Found) {
    for metrics in kinds {
        let Some(kind) = &metrics.counts.kind else {
            continue;
        };
        let mut up = stats.nodes.iter().filter(|it| it.state == NodeState::Up);
        if metrics.pending > 0 && !up.any(|node| node.kinds.contains(kind)) {
            found.add(
                Severity::Bad,
                format!(
                    "Of the kind {kind} {} due, and no node that is up offers it.",
                    counted(metrics.pending as u64, "task is", "tasks are")
                ),
                "Start a node with a handler for it.",
                "kinds",
            );
        } else if metrics.oldest_due > LATE {
            found.add(
                Severity::Warning,
                format!(
                    "The oldest due task of the kind {kind} has waited {} for a worker.",
                    span(metrics.oldest_due)
                ),
                "Add workers or nodes, or look at what holds up those that are there.",
                "kinds",
            );
        }
    }
}

fn waiting(tasks: u64) -> String {
    counted(tasks, "task waits", "tasks wait")
}

fn of_holds(stats: &Stats, found: &mut Found) {
    let pauses = &stats.pauses;
    if pauses.all {
        found.add(
            Severity::Held,
            format!("All kinds are paused; {}.", waiting(stats.paused as u64)),
            "Resume all, when the reason for it is over.",
            "kinds",
        );
    } else if !pauses.kinds.is_empty() {
        let paused = counted(pauses.kinds.len() as u64, "kind is", "kinds are");
        found.add(
            Severity::Held,
            format!("{paused} paused; {}.", waiting(stats.paused as u64)),
            "Resume them, when the reason for it is over.",
            "kinds",
        );
    }
    if !pauses.closed.is_empty() {
        found.add(
            Severity::Held,
            format!(
                "{} taken in no more: each such `Execute` is refused.",
                counted(pauses.closed.len() as u64, "kind is", "kinds are")
            ),
            "Open their intake, when the reason for it is over.",
            "kinds",
        );
    }
    for limit in stats.limits.iter().filter(|limit| limit.waiting > 0) {
        found.add(
            Severity::Held,
            format!(
                "Of the kind {} {} for its limit.",
                limit.kind,
                waiting(limit.waiting as u64)
            ),
            "Raise the limit, if what it protects can bear more.",
            "kinds",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_without_nodes_says_so_and_one_that_is_well_says_nothing() {
        let mut stats = Stats {
            client: ClientState::Unwanted,
            ..Stats::default()
        };
        assert_eq!(of(&stats, &[])[0].severity, Severity::Warning);
        stats.pending = 3;
        stats.pauses.all = true;
        let found = of(&stats, &[]);
        let severities: Vec<_> = found.iter().map(|it| it.severity).collect();
        assert_eq!(severities, [Severity::Bad, Severity::Held]);
        assert!(found[0].what.contains("3 tasks are due"), "{found:?}");
    }
}
