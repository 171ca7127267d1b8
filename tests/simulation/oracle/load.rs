//! G5, G6: what must hold while there is more to do than workers.
//!
//! Owns: the judgement of starts out of turn over several nodes, and of workers that are idle while
//! work is coming. Does not know: rest, faults. It asks the machine for nothing: what a node has is
//! what was sent to it, less what it has said to be over.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callboard::task::TaskId;

use super::{Facts, Oracle};
use crate::cluster::Cluster;
use crate::nodes::Proc;
use crate::plan::{Family, MS, TaskPlan, Time};

/// How long a task may have waited at a node, whatever else starts meanwhile, and the intervals
/// between looks at it: the figures of G6 in docs/guarantees.md.
const HELD_UP: Time = 250 * MS;
const INTERVALS: Time = MS;

/// What the scheduler has sent to each node and has not heard to be over.
#[derive(Default)]
pub struct Sent {
    nodes: BTreeMap<Arc<str>, Room>,
}

struct Room {
    workers: usize,
    tasks: usize,
    free_since: Option<Time>,
}

impl Sent {
    fn change(&mut self, now: Time, node: &Arc<str>, change: impl FnOnce(usize) -> usize) {
        if let Some(room) = self.nodes.get_mut(node) {
            room.tasks = change(room.tasks);
            let free = room.tasks < room.workers;
            room.free_since = free.then(|| room.free_since.unwrap_or(now));
        }
    }

    pub fn placed(&mut self, now: Time, node: &Arc<str>) {
        self.change(now, node, |tasks| tasks + 1);
    }

    pub fn over(&mut self, now: Time, node: &Arc<str>) {
        self.change(now, node, |tasks| tasks.saturating_sub(1));
    }

    /// Returns how many tasks a node has, as far as is known.
    pub fn tasks(&self, node: &str) -> usize {
        self.nodes.get(node).map_or(0, |room| room.tasks)
    }

    pub fn node_up(&mut self, now: Time, node: Arc<str>, workers: u32) {
        let room = Room {
            workers: workers as usize,
            tasks: 0,
            free_since: Some(now),
        };
        self.nodes.insert(node, room);
    }
}

pub fn may_run(proc: &Proc, task: &TaskPlan) -> bool {
    proc.kinds.contains(&task.kind) && task.labels.iter().all(|label| proc.labels.contains(label))
}

impl Oracle {
    pub fn node_up(&mut self, now: Time, node: Arc<str>, workers: u32) {
        self.changed_at = now;
        self.sent.node_up(now, node, workers);
    }
}

impl Facts {
    /// Returns whether it waits for a worker, as far as is known here: it has not started.
    pub fn waits(&self) -> bool {
        self.starts.is_empty() && self.told.is_none() && !self.cancel_asked
    }
}

impl Cluster {
    /// Returns the longest round trip that a scheduler may have learned.
    pub fn longest_round_trip(&self) -> Time {
        // Either side may be some milliseconds late to send, and a worker to tell.
        2 * self.plan.net.max + 6 * MS
    }

    /// Returns for how long less urgent tasks may start before one (G6). Of a run at most four
    /// round trips count.
    fn order_bound(&self) -> Time {
        let longest = self.longest_round_trip();
        let late = 6 * self.plan.late + 20 * MS;
        HELD_UP.max(4 * (longest + 4 * longest)) + 4 * longest + INTERVALS + late
    }

    /// Judges that nothing that goes first, and that this node may run, has waited for longer than
    /// may be since it was sent to a node last: it may have had to go back for what goes before it.
    /// Of equals only what was sent to a node after that is judged: it may wait there for long.
    pub fn judge_priority(&mut self, proc: usize, started: TaskId) {
        let plan = self.plan.clone();
        let (bound, now) = (self.order_bound(), self.now);
        let changed_at = self.oracle.changed_at;
        let it = &self.procs[proc];
        let Some(tasks) = self.oracle.tasks.last() else {
            return;
        };
        let Some(mine) = tasks.get(&started) else {
            return;
        };
        let my_plan = &plan.tasks[mine.plan];
        let grouped = plan.tasks.iter().any(|task| task.group.is_some());
        let first = tasks.iter().find(|(id, facts)| {
            let task = &plan.tasks[facts.plan];
            let due = facts.due(task);
            let slack = match task.priority.cmp(&my_plan.priority) {
                Ordering::Less => return false,
                // Groups take turns among equals: see `turns`.
                Ordering::Equal if grouped => return false,
                Ordering::Equal if due + bound > mine.due(my_plan) => return false,
                Ordering::Equal => now - mine.last_placed() + bound,
                Ordering::Greater => bound,
            };
            // A retry counts from when it is due again, which is not known here.
            facts.waits()
                && **id != started
                && may_run(it, task)
                && due.max(facts.last_placed()).max(changed_at) + slack < now
        });
        if let Some((id, facts)) = first {
            let [bound, last] = [bound, facts.last_placed()].map(Duration::from_nanos);
            let text = format!(
                "it starts on {} before {id}, which goes first and has waited for longer than \
                 {bound:?}, sent last at {last:?}: {:?}",
                it.name, plan.tasks[facts.plan]
            );
            self.fail("G6", started, text);
        }
    }

    /// Judges G5: no worker is idle for longer than it takes to ask a task back and send it on,
    /// while one that may run there is due.
    pub fn judge_idle_under_load(&mut self) {
        if self.plan.family != Family::Load {
            return;
        }
        let changed_at = self.oracle.changed_at;
        let free: Vec<(&Proc, Time)> = self
            .procs
            .iter()
            .filter_map(|proc| {
                let room = self.oracle.sent.nodes.get(&proc.name)?;
                Some((proc, room.free_since?.max(changed_at)))
            })
            .collect();
        let Some(tasks) = self.oracle.tasks.last().filter(|_| !free.is_empty()) else {
            return;
        };
        let late = 2 * self.plan.late + 5 * MS;
        // Asked for when it has waited for two round trips; then it comes, and goes.
        let patience = 5 * self.longest_round_trip() + 6 * self.plan.late + 20 * MS;
        let idle = tasks.iter().find_map(|(id, facts)| {
            let task = &self.plan.tasks[facts.plan];
            let (since, patience) = match facts.is_sent() {
                true => (facts.last_placed(), patience),
                // What waits here is placed at once.
                false => (facts.due(task), late),
            };
            let waits = |free: Time| since.max(free) + patience < self.now;
            let mut free = free.iter().filter(|_| facts.waits());
            let (proc, free) = free.find(|(proc, free)| may_run(proc, task) && waits(*free))?;
            Some((*id, proc.name.clone(), *free, facts.is_sent()))
        });
        if let Some((task, name, free, sent)) = idle {
            let free = Duration::from_nanos(free);
            let where_ = if sent { "at another node" } else { "here" };
            let text =
                format!("{name} has had a free worker since {free:?}, and yet it waits {where_}");
            self.fail("G5", task, text);
        }
    }
}
