//! What a scheduler may count on where another has the same nodes: its share of their workers.
//!
//! Owns: the judgement of a worker that is lent away too early, of a share that does not come back,
//! and of workers that neither uses while a task waits. Does not know: anything else that must
//! hold, which is what must hold without the other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Oracle;
use super::load::may_run;
use crate::cluster::Cluster;
use crate::network::Whose;
use crate::plan::{MS, SECOND, Time, nanos};
use crate::workers::Run;

/// For how long a worker may be kept for the other: once since it has used it, and once since it
/// wants it. Its round trip may have been measured while it slept.
const KEPT: Time = 250 * MS + SECOND;

/// By process.
#[derive(Default)]
pub struct Shares {
    /// When runs have ended whose workers were not used again, oldest first.
    given_up: BTreeMap<usize, VecDeque<Time>>,
    /// Since when each has lacked workers.
    lacks_since: BTreeMap<usize, Time>,
    /// When the other scheduler ended last.
    changed_at: Time,
    /// Since when each has had a free worker, for all that was seen.
    free_since: BTreeMap<usize, Time>,
}

impl Oracle {
    pub fn neighbour_changed(&mut self, now: Time) {
        self.shares.changed_at = now;
    }
}

impl Cluster {
    /// Returns the most workers of each scheduler in a process, and those of both together.
    fn bounds_of(&self, proc: usize) -> Option<(usize, usize)> {
        let fleet = self.plan.fleet.as_ref()?;
        let each = self.procs[proc].most_workers as usize;
        let all = fleet.max_workers_total.map_or(2 * each, |all| all as usize);
        Some((each, all))
    }

    fn running(&self, proc: usize, whose: Whose) -> usize {
        let runs = self.procs[proc].runs.values();
        runs.filter(|run| run.whose() == whose).count()
    }

    /// Returns how many tasks wait for a worker of this process, as far as the scheduler is known
    /// to know.
    fn waiting_for(&self, proc: usize) -> usize {
        let name = &self.procs[proc].name;
        let tasks = self.oracle.tasks.last();
        let waits = tasks.into_iter().flat_map(|tasks| tasks.values());
        let waits = waits.filter(|facts| {
            let here = facts.last_node().is_none_or(|node| node == name);
            facts.waits() && (here || !facts.is_sent())
        });
        waits.count()
    }

    pub fn note_run_over(&mut self, proc: usize, run: &Run) {
        if self.plan.fleet.is_some() && run.whose() == Whose::Own {
            let ended = self.oracle.shares.given_up.entry(proc).or_default();
            ended.push_back(self.now);
        }
    }

    /// Judges G4: both together have no more than all workers of the process. And a worker that was
    /// in use by its share is not lent in the round trip in which its next task comes.
    pub fn judge_share_of_start(&mut self, proc: usize, run: &Run) {
        let Some((each, all)) = self.bounds_of(proc) else {
            return;
        };
        let name = self.procs[proc].name.clone();
        if self.procs[proc].runs.len() >= all {
            let text = format!("{name} runs more than {all} tasks for both schedulers");
            self.fail("G4", run.task, text);
            return;
        }
        self.oracle.shares.free_since.remove(&proc);
        // The way there and back.
        let round_trip = 2 * self.plan.net.max;
        let now = self.now;
        let given_up = self.oracle.shares.given_up.entry(proc).or_default();
        given_up.retain(|at| at + round_trip > now);
        if run.whose() == Whose::Own {
            given_up.pop_front();
            return;
        }
        let given_up = given_up.len();
        let share = (all / 2).min(each);
        let (mine, theirs) = (
            self.running(proc, Whose::Own),
            self.running(proc, Whose::Neighbours),
        );
        // It waits where it came from: what is on its way here is known to be wanted.
        let claimed = given_up.min(self.waiting_for(proc));
        let mine = (mine + claimed).min(share);
        if claimed > 0 && mine + theirs + 1 > all {
            let text = format!(
                "{name} lends a worker that its scheduler has had a moment ago: of {all}, {mine} \
                 are its share, and the other begins on one more than {theirs}"
            );
            self.oracle.fail("share", None, text);
        }
    }

    /// Returns for how long the other may have a worker beyond its share: nothing is preempted, and
    /// what it can no longer want is dropped within a sixth of a lease.
    fn longest_beyond_share(&self) -> Time {
        let Some(fleet) = &self.plan.fleet else {
            return 0;
        };
        let drops = match self.plan.faults.is_empty() {
            true => 0,
            false => nanos(self.plan.config.lease) / 6,
        };
        fleet.longest_run() + drops
    }

    /// Judges G5: while tasks wait for workers of a process, its scheduler has its share there, and
    /// all of them if there is no other, as soon as runs of the other have ended.
    pub fn judge_shares(&mut self) {
        let plan = self.plan.clone();
        if plan.fleet.is_none() {
            return;
        }
        let now = self.now;
        let patience =
            self.longest_beyond_share() + 10 * plan.net.max + 6 * plan.late + KEPT + 50 * MS;
        let settled = self.oracle.shares.changed_at + nanos(plan.config.lease);
        let alone = !self.neighbour.is_alive() && now > settled;
        for proc in 0..self.procs.len() {
            let Some((each, all)) = self.bounds_of(proc) else {
                return;
            };
            let it = &self.procs[proc];
            let is_up = self.oracle.up.get(&*it.name) == Some(&it.incarnation);
            let share = if alone { all } else { all / 2 }.min(each);
            // Between two runs a worker is free for a round trip: it lacks what the other has, and
            // what its scheduler sends nothing to.
            let mine = match self.running(proc, Whose::Neighbours) + share > all {
                true => self.running(proc, Whose::Own),
                false => self.oracle.sent.tasks(&it.name),
            };
            let lacks = is_up && mine < share && self.waiting_for(proc) > 0;
            let shares = &mut self.oracle.shares;
            if !lacks {
                shares.lacks_since.remove(&proc);
                continue;
            }
            let since = *shares.lacks_since.entry(proc).or_insert(now);
            if now > since + patience {
                let name = self.procs[proc].name.clone();
                let text = format!(
                    "{name} has had {mine} tasks or so since {since}, while more waited and \
                     {share} workers are the share (alone: {alone})"
                );
                self.oracle.fail("share", None, text);
                return;
            }
        }
    }

    /// Judges G5: no worker is free for long while a task waits that it may run, here or at another
    /// node. It may be kept for the other scheduler for a while, which has just used it or wants
    /// it.
    pub fn judge_idle_shared(&mut self) {
        let plan = self.plan.clone();
        let now = self.now;
        for proc in 0..self.procs.len() {
            let Some((each, all)) = self.bounds_of(proc) else {
                return;
            };
            let it = &self.procs[proc];
            let is_up = self.oracle.up.get(&*it.name) == Some(&it.incarnation);
            let busy = it.runs.len();
            let is_free = is_up && busy < all && self.running(proc, Whose::Own) < each;
            let free_since = &mut self.oracle.shares.free_since;
            match is_free {
                true => drop(free_since.entry(proc).or_insert(now)),
                false => drop(free_since.remove(&proc)),
            }
        }
        // Asked for when it has waited for two round trips; then it comes, and goes.
        let patience = 5 * self.longest_round_trip() + 6 * plan.late + KEPT + 60 * MS;
        let Some(tasks) = self.oracle.tasks.last() else {
            return;
        };
        let changed_at = self.oracle.changed_at.max(self.oracle.shares.changed_at);
        let free_since = &self.oracle.shares.free_since;
        let idle = tasks.iter().filter(|(_, facts)| facts.waits());
        let idle = idle.filter_map(|(id, facts)| {
            let task = &plan.tasks[facts.plan];
            let since = facts.due(task).max(facts.last_placed()).max(changed_at);
            let is_idle = |&(&proc, &free): &(&usize, &Time)| {
                may_run(&self.procs[proc], task) && since.max(free) + patience < now
            };
            let (&proc, &free) = free_since.iter().find(is_idle)?;
            Some((*id, self.procs[proc].name.clone(), free))
        });
        if let Some((task, name, free)) = idle.into_iter().next() {
            let free = Duration::from_nanos(free);
            let text = format!("{name} has had a free worker since {free:?}, and yet it waits");
            self.fail("G5", task, text);
        }
    }
}
