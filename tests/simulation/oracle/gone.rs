//! Which nodes that are gone are remembered: few, and whoever may be asked about.
//!
//! Owns: the judgement of what is forgotten of nodes, and when. Does not know: how the scheduler
//! decides it.

use std::collections::BTreeSet;

use callboard::stats::{Reason, TaskState};
use callboard::task::{Dispatch, TaskId};

use super::Facts;
use crate::cluster::Cluster;
use crate::plan::{MS, SECOND, Time, nanos};
use crate::scheduler::clock;

/// How often it is looked at.
const PAUSE: Time = 300 * MS;

/// What was seen of it in this term.
#[derive(Default)]
pub struct Gone {
    next_look: Time,
    /// Since when more are remembered than may be.
    too_many_since: Option<Time>,
}

impl Cluster {
    /// Judges after a turn, now and then, which nodes are remembered.
    pub fn judge_gone(&mut self) {
        let Some(most) = self.plan.max_gone else {
            return;
        };
        if !self.scheduler.alive || self.now < self.oracle.gone_nodes.next_look {
            return;
        }
        self.oracle.gone_nodes.next_look = self.now + PAUSE;
        self.judge_who_is_forgotten();
        self.judge_names_of_tasks();
        self.judge_how_many_are_remembered(most);
    }

    /// Judges that no node is forgotten whose lease runs.
    fn judge_who_is_forgotten(&mut self) {
        let lease = nanos(self.plan.config.lease);
        let up = &self.oracle.up;
        let mut leased = self.procs.iter().filter(|proc| {
            let is_member = up.get(&*proc.name) == Some(&proc.incarnation);
            let answered = proc.answered_at + lease > self.now;
            proc.alive && is_member && answered && !proc.removed && !proc.has_left
        });
        let nodes = self.stats().nodes;
        let known: BTreeSet<_> = nodes.iter().map(|node| &node.name).collect();
        if let Some(proc) = leased.find(|proc| !known.contains(&proc.name)) {
            let text = format!("{} is forgotten, and its lease goes on", proc.name);
            self.oracle.fail("gone", None, text);
        }
    }

    /// Judges that each node that is told of an unsettled task is one where it was.
    fn judge_names_of_tasks(&mut self) {
        let mut wrong = None;
        for task in self.scheduler.machine.unfinished() {
            let Some(facts) = self.oracle.tasks[self.life].get(&task.id) else {
                continue;
            };
            let named = match task.state {
                TaskState::Running { node, dispatch } => (node, Some(dispatch)),
                _ => {
                    let why = self.scheduler.machine.explain(clock(self.now), task.id);
                    match why.map(|it| it.reason) {
                        Some(Reason::Exclusive { node } | Reason::Prefetched { node }) => {
                            (node, None)
                        }
                        _ => continue,
                    }
                }
            };
            // What is placed is sent when that is stored, maybe by no term.
            let may_be_unsent = self.plan.store.is_some();
            if !facts.was_sent_to(&named.0, named.1, may_be_unsent) {
                wrong = Some((task.id, format!("it is said to be at {named:?}")));
                break;
            }
        }
        if let Some((task, text)) = wrong {
            self.fail("gone", task, text);
        }
    }

    /// Judges that no more nodes that are gone are remembered than may be, but for those that
    /// something names. It takes a lease until the scheduler looks again.
    fn judge_how_many_are_remembered(&mut self, most: usize) {
        let remains = self.scheduler.machine.remains();
        let there = self.nodes_there().len();
        let named = self.nodes_of_tasks().len();
        let may_be = most + there + named + remains.leaving + remains.orphaned_runs;
        if remains.nodes <= may_be {
            self.oracle.gone_nodes.too_many_since = None;
            return;
        }
        let now = self.now;
        let since = *self.oracle.gone_nodes.too_many_since.get_or_insert(now);
        let patience = nanos(self.plan.config.lease) + 2 * self.plan.late + SECOND;
        if now > since + patience {
            let text = format!(
                "{} nodes are remembered: {most} that are gone may be, {there} may be there, \
                 {named} have had unsettled tasks, and of others it remembers {remains:?}",
                remains.nodes
            );
            self.oracle.fail("gone", None, text);
        }
    }

    /// Returns whether no more nodes that are gone are remembered than may be.
    pub fn are_the_gone_forgotten(&self) -> bool {
        self.oracle.gone_nodes.too_many_since.is_none()
    }

    /// Returns the nodes that may be there, as far as the scheduler can know: those that it dials,
    /// and those with a process whose lease may go on. A start waits for all that are stored.
    fn nodes_there(&self) -> BTreeSet<usize> {
        let config = &self.plan.config;
        let outlive = config.outlive.map_or(0, nanos);
        // What is lost in the last look is asked for once more.
        let moment = 2 * nanos(config.heartbeat) + self.plan.net.dial_timeout + self.plan.late;
        let leased = nanos(config.lease) + outlive + moment + SECOND;
        let nodes = self.nodes.iter().enumerate();
        let dialled = nodes.filter(|(_, node)| node.listens || node.local);
        let began = self.oracle.terms.began.unwrap_or(0);
        let is_leased = |ended: Time| ended.max(began) + leased > self.now;
        let procs = self.procs.iter();
        let procs = procs.filter(|proc| proc.ended_at.is_none_or(is_leased));
        let procs = procs.map(|proc| proc.node);
        dialled.map(|(node, _)| node).chain(procs).collect()
    }

    /// Returns the names of nodes to which unsettled tasks were sent.
    fn nodes_of_tasks(&self) -> BTreeSet<&str> {
        let open = self.scheduler.machine.unfinished();
        let facts = |id: TaskId| self.oracle.tasks[self.life].get(&id);
        let open = open.iter().filter_map(|task| facts(task.id));
        open.flat_map(Facts::nodes).map(|name| &**name).collect()
    }
}

impl Facts {
    /// Returns whether it was sent to this node, by this number if that is given.
    fn was_sent_to(&self, node: &str, dispatch: Option<Dispatch>, may_be_unsent: bool) -> bool {
        match dispatch.and_then(|it| self.node_of(it)) {
            Some(sent) => **sent == *node,
            None if may_be_unsent => !node.is_empty(),
            None => self.nodes().any(|sent| **sent == *node),
        }
    }
}
