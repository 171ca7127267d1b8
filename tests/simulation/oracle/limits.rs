//! No more of a kind go on, or start, than its limit allows.
//!
//! Owns: what was limited in this term and what was sent since, and the judgement of what is sent
//! meanwhile. Does not know: when a limit is set.

use std::collections::BTreeMap;
use std::time::Duration;

use callboard::__internals::engine::message::Assignment;
use callboard::Limit;
use callboard::stats::NodeState;
use callboard::task::TaskKind;

use super::Facts;
use crate::cluster::Cluster;
use crate::network::Whose;
use crate::plan::{Fault, KINDS, Time, nanos};
use crate::scheduler::clock;
use crate::workers::Run;

/// By kind, what limits it, and when tasks of it were sent since.
#[derive(Default)]
pub struct Limits(BTreeMap<usize, Limited>);

impl Limits {
    /// Returns whether the groups of a kind are limited.
    pub fn limits_groups(&self, kind: usize) -> bool {
        let limited = self.0.get(&kind);
        limited.is_some_and(|it| it.each.is_some() || it.each_rate.is_some())
    }
}

struct Limited {
    since: Time,
    concurrency: Option<u32>,
    each: Option<u32>,
    rate: Option<Rate>,
    each_rate: Option<Rate>,
    sent: Vec<Time>,
    sent_of: BTreeMap<u8, Vec<Time>>,
}

/// How often tasks may start.
#[derive(Clone, Copy)]
struct Rate {
    interval: Time,
    burst: u32,
}

impl Rate {
    fn limit(self, limit: Limit) -> Limit {
        let interval = Duration::from_nanos(self.interval);
        limit.rate(1, interval).burst(self.burst)
    }

    /// Returns whether the last of these came sooner than it may.
    fn is_broken(self, sent: &[Time]) -> bool {
        let before = sent.iter().rev().nth(self.burst as usize);
        let last = sent.last().zip(before);
        last.is_some_and(|(last, before)| last - before < self.interval)
    }
}

/// A run that goes on in truth: its group, and which it is, in words.
type Going = (Option<u8>, String);

impl Cluster {
    pub fn limit(&mut self, kind: usize, fault: Option<usize>) {
        let (now, name) = (clock(self.now), TaskKind::from(KINDS[kind].0));
        let fault = fault.map(|index| self.plan.faults[index].1.clone());
        self.say(|| format!("# limit {name} {fault:?}"));
        self.oracle.turns.begin_anew();
        let Some(Fault::Limit {
            concurrency,
            each,
            interval,
            each_interval,
            burst,
            ..
        }) = fault
        else {
            let set = self.scheduler.machine.set_limit(now, &name, Limit::new());
            assert_eq!(set, Ok(()));
            self.oracle.pauses.limits.0.remove(&kind);
            return;
        };
        let rate = |interval| Rate { interval, burst };
        let (rate, each_rate) = (interval.map(rate), each_interval.map(rate));
        let mut limit = concurrency.map_or_else(Limit::new, Limit::concurrency);
        if let Some(rate) = rate {
            limit = rate.limit(limit);
        }
        if each.is_some() || each_rate.is_some() {
            let mut of_each = each.map_or_else(Limit::new, Limit::concurrency);
            if let Some(rate) = each_rate {
                of_each = rate.limit(of_each);
            }
            limit = limit.each_group(of_each);
        }
        let set = self.scheduler.machine.set_limit(now, &name, limit);
        assert_eq!(set, Ok(()));
        let limited = Limited {
            since: self.now,
            concurrency,
            each,
            rate,
            each_rate,
            sent: Vec::new(),
            sent_of: BTreeMap::new(),
        };
        self.oracle.pauses.limits.0.insert(kind, limited);
    }

    /// Judges that of a limited kind nothing is sent while as many go on in truth as may, or sooner
    /// than it may.
    pub fn judge_limits(&mut self, assignments: &[Assignment]) {
        for assignment in assignments {
            let task = assignment.task;
            let facts = self.oracle.tasks.last().and_then(|tasks| tasks.get(&task));
            let kind = facts.and_then(|facts| KINDS.iter().position(|it| facts.sent.kind == it.0));
            let Some(kind) = kind else {
                continue;
            };
            let group = facts.and_then(|facts| self.plan.tasks[facts.plan].group);
            if let Some(text) = self.too_many(kind, group, self.now) {
                self.fail("limit", task, format!("it is sent while {text}"));
                return;
            }
            let (now, stored) = (self.now, self.plan.store.is_some());
            let Some(limited) = self.oracle.pauses.limits.0.get_mut(&kind) else {
                continue;
            };
            limited.sent.push(now);
            let grouped = group.map(|group| limited.sent_of.entry(group).or_default());
            let grouped = grouped.map_or(&[][..], |sent| {
                sent.push(now);
                sent
            });
            let too_soon = |rate: Option<Rate>, sent| rate.is_some_and(|it| it.is_broken(sent));
            let soon =
                too_soon(limited.rate, &limited.sent) || too_soon(limited.each_rate, grouped);
            // With a store what was placed evenly is sent when that is stored.
            if soon && !stored {
                self.fail(
                    "limit",
                    task,
                    "it is sent sooner than its rate allows".into(),
                );
            }
        }
    }

    /// Judges that nothing starts that was sent since the limit was set while as many go on as may.
    pub fn judge_limited_start(&mut self, run: &Run) {
        if run.whose() != Whose::Own || run.life != self.life {
            return;
        }
        let tasks = self.oracle.tasks.last();
        let Some(facts) = tasks.and_then(|tasks| tasks.get(&run.task)) else {
            return;
        };
        let (task, placed) = (&self.plan.tasks[facts.plan], facts.last_placed());
        let (kind, group) = (task.kind, task.group);
        if let Some(text) = self.too_many(kind, group, placed) {
            self.fail("limit", run.task, format!("it starts while {text}"));
        }
    }

    /// Says how many go on of a kind, or of a group, if these are as many as may and what was sent
    /// at this time was decided upon after the limit was set.
    fn too_many(&mut self, kind: usize, group: Option<u8>, sent: Time) -> Option<String> {
        let limited = self.oracle.pauses.limits.0.get(&kind)?;
        // With a store what was placed before is sent when that is stored.
        let wait = self.plan.store.map(|_| self.log_takes() + self.plan.late);
        if sent <= limited.since + wait.unwrap_or(0) || self.log_failed_since(limited.since) {
            return None;
        }
        let (most, each) = (
            limited.concurrency,
            limited.each.filter(|_| group.is_some()),
        );
        let since = limited.since;
        let many = |going: usize, most: Option<u32>| most.is_some_and(|it| going >= it as usize);
        let of_group = |all: &[Going]| all.iter().filter(|(it, _)| *it == group).count();
        let going = self.going(kind, 0);
        if !many(going.len(), most) && !many(of_group(&going), each) {
            return None;
        }
        let going = self.going(kind, since);
        if many(going.len(), most) {
            return Some(format!("as many of its kind go on as may: {going:?}"));
        }
        many(of_group(&going), each)
            .then(|| format!("as many of its group {group:?} go on as may, of {going:?}"))
    }

    /// Returns the runs of a kind that go on in truth, but for those of processes that sleep past
    /// their lease, which stop when they wake, and those that were sent before this time to
    /// processes that are lost or replaced, or were before it: these may have been given up while
    /// nothing was limited, and are not followed then.
    fn going(&mut self, kind: usize, since: Time) -> Vec<Going> {
        let (now, lease, life) = (self.now, nanos(self.plan.config.lease), self.life);
        let nodes = if since > 0 {
            self.stats().nodes
        } else {
            Vec::new()
        };
        let nodes = nodes.iter().filter(|node| node.state != NodeState::Lost);
        let followed: Vec<_> = nodes.filter_map(|node| node.incarnation).collect();
        let tasks = self.oracle.tasks.last();
        let mut going = Vec::new();
        for proc in &mut self.procs {
            if !proc.alive || proc.frozen || proc.passes_for_dead(now, lease) {
                continue;
            }
            let incarnation = proc.incarnation.0;
            let lost_at = self.oracle.given_up.get(&proc.incarnation).copied();
            for run in proc.runs.values() {
                let facts = tasks.and_then(|tasks| tasks.get(&run.task));
                let facts = facts.filter(|facts| facts.sent.kind == *KINDS[kind].0);
                let own = run.whose() == Whose::Own && run.life == life;
                let given_up = |facts: &Facts| {
                    let placed = facts.placed_at(run.dispatch);
                    let lost = lost_at.is_some_and(|lost| (placed..=since).contains(&lost));
                    placed < since && (lost || !followed.contains(&incarnation))
                };
                let counts = own && !run.vouched && !run.last_step;
                if let Some(facts) = facts.filter(|facts| counts && !given_up(facts)) {
                    let node = &self.plan.nodes[proc.node].name;
                    let run = format!("{}{} at {node}", run.task, run.dispatch);
                    going.push((self.plan.tasks[facts.plan].group, run));
                }
            }
        }
        going
    }
}
