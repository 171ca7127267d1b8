//! G6: groups of one kind, priority and set of labels take turns.
//!
//! Owns: when each group's tasks were sent, and the judgement of what is sent.
//! Does not know: why a group may not start a task.

use std::collections::BTreeMap;

use callboard::__internals::engine::Audience;
use callboard::__internals::engine::message::Assignment;
use callboard::task::{Dispatch, TaskId};

use super::Facts;
use crate::cluster::Cluster;
use crate::plan::{MS, Plan, TaskPlan, Time, nanos};

/// So many more tasks of a group than of one that waits may be sent: each has had its turn, and one
/// may have had it just before the other came.
const AHEAD: usize = 2;

/// What takes turns: kind, priority, labels, for callers or not. Exclusive tasks do so among
/// themselves, and with what was asked back from a node.
type Way = (usize, i8, Vec<String>, bool);

/// What was sent: when, in which order, and whether for the first time.
#[derive(Clone, Copy)]
struct Sent {
    at: Time,
    is_first: bool,
    exclusive: bool,
}

/// What was sent of each group, and what of that is not judged yet: all that is placed at one
/// moment is judged in the order of its numbers, whichever node it was sent to.
#[derive(Default)]
pub struct Turns {
    sent: BTreeMap<(Way, Option<u8>), Vec<Sent>>,
    at: Time,
    unjudged: BTreeMap<Dispatch, TaskId>,
}

impl Turns {
    /// Limits of groups, or a start of the scheduler, begin all anew.
    pub fn begin_anew(&mut self) {
        *self = Self::default();
    }

    fn since(&self, way: &Way, group: Option<u8>, at: Time) -> &[Sent] {
        let sent = self.sent.get(&(way.clone(), group));
        let sent = sent.map_or(&[][..], |sent| sent);
        &sent[sent.partition_point(|it| it.at < at)..]
    }
}

fn way(facts: &Facts, task: &TaskPlan) -> Way {
    let callers = facts.audience == Audience::Caller;
    let labels = task.labels.clone();
    (task.kind, task.priority, labels, callers)
}

/// Returns since when a task had waited that was not sent before this dispatch, if it had.
fn waits_since(
    plan: &Plan,
    facts: &Facts,
    task: &TaskPlan,
    (at, before): (Time, Dispatch),
) -> Option<Time> {
    let due = facts.due(task) + 2 * plan.late + 50 * MS;
    // How it ended is not told while its client is away.
    let over = |deadline| facts.accepted_at + nanos(deadline) <= at;
    let waited = match facts.placings.first() {
        Some(first) => first.dispatch > before,
        None => facts.waits() && !task.deadline.is_some_and(over),
    };
    (waited && task.key.is_none() && due < at).then_some(due)
}

impl Cluster {
    /// Judges that of no group many more tasks are sent than of one that waits meanwhile.
    pub fn judge_turns(&mut self, assignments: &[Assignment]) {
        // With a store it is not known since when a task waits.
        if self.plan.store.is_some() || self.plan.tasks.iter().all(|task| task.group.is_none()) {
            return;
        }
        if self.oracle.turns.at != self.now {
            self.judge_turns_so_far();
        }
        let turns = &mut self.oracle.turns;
        turns.at = self.now;
        let sent = assignments.iter().map(|it| (it.dispatch, it.task));
        turns.unjudged.extend(sent);
    }

    fn judge_turns_so_far(&mut self) {
        let plan = self.plan.clone();
        let turns = &mut self.oracle.turns;
        let (at, sent) = (turns.at, std::mem::take(&mut turns.unjudged));
        for (dispatch, id) in sent {
            let tasks = self.oracle.tasks.last();
            let Some((tasks, facts)) = tasks.and_then(|it| Some((it, it.get(&id)?))) else {
                continue;
            };
            let task = &plan.tasks[facts.plan];
            let first = facts.placings.first();
            let is_first = first.is_some_and(|first| first.dispatch == dispatch);
            let way_of_it = way(facts, task);
            let turns = &mut self.oracle.turns;
            let sent = turns.sent.entry((way_of_it.clone(), task.group));
            sent.or_default().push(Sent {
                at,
                is_first,
                exclusive: task.exclusive,
            });
            // What was sent before may be placed in another way, and a group at its limit has no
            // turn.
            let limited = self.oracle.pauses.limits.limits_groups(task.kind);
            if !is_first || task.key.is_some() || limited {
                continue;
            }
            let turns = &self.oracle.turns;
            let passed = tasks.iter().find(|(_, other)| {
                let its = &plan.tasks[other.plan];
                let same = its.exclusive == task.exclusive && way(other, its) == way_of_it;
                if its.group == task.group || !same {
                    return false;
                }
                let Some(since) = waits_since(&plan, other, its, (at, dispatch)) else {
                    return false;
                };
                let sent = turns.since(&way_of_it, task.group, since).iter();
                let sent = sent.filter(|it| it.is_first && it.exclusive == task.exclusive);
                let sent = sent.count();
                sent > turns.since(&way_of_it, its.group, since).len() + AHEAD
            });
            if let Some((waits, other)) = passed {
                let text = format!(
                    "so many of its group were sent while {waits} waited, which is of another: \
                     {:?}, {:?}",
                    task.group, plan.tasks[other.plan]
                );
                self.fail("G6", id, text);
                return;
            }
        }
    }
}
