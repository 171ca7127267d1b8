//! G1, G5: what must hold at rest and at the end.
//!
//! Owns: the judgement of idle workers, of the end, and of what a shutdown hands back. Does not
//! know: faults.
use std::collections::BTreeMap;

use callboard::__internals::engine::Audience;
use callboard::__internals::engine::scheduler::Rest;
use callboard::stats::{NodeState, NodeStats, Reason, TaskState};
use callboard::task::TaskId;

use crate::cluster::{Cluster, Ev};
use crate::network::{DOWN, End, Link, UP, Whose};
use crate::nodes::Proc;
use crate::plan::{BLOCK, Family, KINDS, MS, SECOND, nanos};
use crate::scheduler::SchedulerIn;
use crate::scheduler::clock;

/// Returns whether a node that is up, and free to take work, has a free worker in truth.
pub fn has_room(proc: &Proc, nodes: &[NodeStats]) -> bool {
    nodes.iter().any(|node| {
        *node.name == *proc.name
            && node.state == NodeState::Up
            && node.incarnation == Some(proc.incarnation.0)
            && ((proc.runs.len() + proc.resting.len()) as u32) < node.workers
    })
}

impl Cluster {
    pub fn ended_in_time(&mut self) {
        if self.finished {
            return;
        }
        let now = clock(self.now);
        let waiting: Vec<_> = self
            .scheduler
            .machine
            .unfinished()
            .iter()
            .map(|task| self.scheduler.machine.explain(now, task.id))
            .take(5)
            .collect();
        let unconfirmed: Vec<_> = self.unconfirmed();
        let task = waiting
            .iter()
            .flatten()
            .map(|it| it.id)
            .chain(unconfirmed.iter().copied())
            .next();
        let text = format!(
            "not all has ended by now; waiting: {waiting:?}; not confirmed: {unconfirmed:?}"
        );
        self.oracle.fail("G1", task, text);
    }

    /// Returns the tasks of this term whose one status is to be told, and nobody has handled yet.
    pub fn unconfirmed(&mut self) -> Vec<TaskId> {
        self.note_dropped();
        self.oracle
            .now_tasks()
            .iter()
            .filter(|(_, facts)| !facts.is_over())
            .map(|(id, _)| *id)
            .collect()
    }

    /// Looks at the cluster now and then.
    pub fn look(&mut self) {
        let pause = match self.plan.family {
            Family::Load | Family::Fleet => 40 * MS,
            _ => 400 * MS,
        };
        let pause = pause + self.rng.u64(..pause / 4);
        self.after(pause, Ev::Look);
        if !self.scheduler.alive || self.scheduler.frozen || self.scheduler.dirty {
            return;
        }
        if self.plan.family.has_no_faults() {
            self.judge_idle_under_load();
        }
        self.judge_dropped();
        self.judge_shares();
        match &self.plan.fleet {
            // The other one is hardly ever at rest.
            Some(_) => self.judge_idle_shared(),
            // Nothing is placed any more.
            None if self.scheduler.finishing => {}
            None if self.in_flight == 0 && self.is_at_rest() => self.judge_idle_workers(),
            None => {}
        }
        let deadly = matches!(
            self.plan.family,
            Family::Kills | Family::Everything | Family::Durable | Family::Restarts
        );
        if self.quiet && deadly && self.now > self.operator_looks_at {
            self.operator_looks_at = self.now + 5 * SECOND + 2 * self.plan.late;
            self.judge_held();
        }
        if self.quiet
            && self.scheduler.machine.is_idle()
            && self.unconfirmed().is_empty()
            // A caller is answered when the ending is stored, of which nobody else may be told.
            && (self.oracle.waiting.is_empty() || !self.scheduler.machine.is_storing())
            && self.no_run()
            && self.in_flight == 0
            && self.have_nodes_told()
            && self.has_the_neighbour_ended()
            && self.have_the_drained_left()
            && self.are_idle_orphans_forgotten()
            && self.are_the_gone_forgotten()
        {
            self.judge_end();
            self.finished = true;
        }
    }

    /// Judges that no exclusive task whose run has ended waits for ever. What can be dropped is
    /// free when the lease is over, and what blocks when its process is known to have ended; where
    /// nothing can tell of that end, an operator declares it dead.
    pub fn judge_held(&mut self) {
        let life = self.life;
        let waiting = self.scheduler.machine.unfinished().into_iter();
        let held =
            waiting.filter_map(|task| self.scheduler.machine.explain(clock(self.now), task.id));
        let held: Vec<(TaskId, usize)> = held
            .filter_map(|why| match why.reason {
                Reason::Exclusive { node } => Some((why.id, node)),
                _ => None,
            })
            .filter(|(task, _)| {
                let mut runs = self.procs.iter().flat_map(|proc| proc.runs.values());
                !runs.any(|run| run.life == life && run.task == *task)
            })
            .filter_map(|(task, name)| {
                let node = self.nodes.iter().position(|node| node.name == *name);
                Some((task, node?))
            })
            .collect();
        // The news that a run has ended may be under way; by the next look it has come.
        let before = std::mem::replace(&mut self.oracle.held, held.clone());
        for (task, node) in held {
            let mut procs = self.procs.iter().filter(|proc| proc.node == node);
            // A node that leaves tells of nothing before its last run has ended.
            if procs
                .clone()
                .any(|proc| proc.removed && !proc.runs.is_empty())
            {
                continue;
            }
            if self.blocks(task) && procs.any(|proc| self.ended_unseen(proc)) {
                self.command(SchedulerIn::DeclareDead(node));
            } else if before.contains(&(task, node)) {
                let name = self.nodes[node].name.clone();
                let text = format!("it is held for ever, though no run of it is left on {name}");
                self.fail("G10", task, text);
            }
        }
    }

    fn blocks(&self, task: TaskId) -> bool {
        let tasks = self.oracle.tasks.last();
        let facts = tasks.and_then(|tasks| tasks.get(&task));
        facts.is_some_and(|facts| KINDS[self.plan.tasks[facts.plan].kind].1)
    }

    /// Returns whether nobody can see that the runs of a process have ended: it had joined and
    /// named no port to probe when it died, or another process has that port and is dialled, in
    /// which case it names none, so that nobody knows the two to be the same; or something answered
    /// for it where it listened; or it had joined, lives on for another, and its goodbye was lost.
    fn ended_unseen(&self, proc: &Proc) -> bool {
        let node = &self.nodes[proc.node];
        let joined = proc.double || node.joins;
        let taken = node.listens && self.listeners.contains_key(&proc.probe_address());
        match proc.alive {
            true => joined && proc.has_left,
            false => proc.dies_unseen || joined && taken || node.forwarded,
        }
    }

    /// Returns whether no process that was told to take nothing new, and no node of the scheduler's
    /// own process that has lost its link, is still there; it may take its time.
    fn have_the_drained_left(&mut self) -> bool {
        let linked = |proc: usize| {
            let mut links = self.links.iter();
            links.any(|link| link.proc == proc && link.ends[UP] != End::Closed)
        };
        let mut procs = self.procs.iter().enumerate();
        let Some((_, it)) = procs
            .find(|&(index, proc)| proc.alive && (proc.ending || (proc.local && !linked(index))))
        else {
            return true;
        };
        let name = it.name.clone();
        let now = self.now;
        // A node without a link gives up after two leases.
        let patience = 3 * nanos(self.plan.config.lease) + 5 * SECOND;
        let since = *self.idle_since.get_or_insert(now);
        if now > since + patience {
            self.oracle.fail(
                "drain",
                None,
                format!(
                    "{name} takes nothing new and has nothing to do, and yet it does not leave"
                ),
            );
        }
        false
    }

    /// Returns whether each orphaned run of a replaced process is forgotten for the end of which
    /// nothing waits, or it has had the time for it: that takes a lease.
    fn are_idle_orphans_forgotten(&mut self) -> bool {
        if self.scheduler.machine.remains().idle_orphans == 0 {
            return true;
        }
        let since = *self.orphans_since.get_or_insert(self.now);
        self.now > since + 2 * nanos(self.plan.config.lease) + 2 * self.plan.late
    }

    fn is_alive(&self, incarnation: Option<u64>) -> bool {
        let mut procs = self.procs.iter();
        procs.any(|proc| proc.alive && Some(proc.incarnation.0) == incarnation)
    }

    pub fn no_run(&self) -> bool {
        self.procs.iter().all(|proc| proc.runs.is_empty())
    }

    /// Returns whether no node has yet to say what has happened there: its turn may follow later.
    fn have_nodes_told(&self) -> bool {
        let mut alive = self.procs.iter().filter(|proc| proc.alive);
        alive.all(|proc| proc.unheard == 0 && !proc.dirty)
    }

    /// Returns whether nothing is under way that could excuse an idle worker.
    pub fn is_at_rest(&self) -> bool {
        let now = clock(self.now);
        self.is_network_whole()
            && !self.is_log_behind()
            && self.have_nodes_told()
            && self
                .scheduler
                .machine
                .next_wakeup()
                .is_none_or(|at| at > now)
            && self.procs.iter().all(|proc| {
                let mut wakeup = proc.machine.next_wakeup().into_iter();
                // A turn of the node that is late may be what makes a worker take its next.
                let waits = wakeup.all(|at| at > proc.clock(self.now));
                !proc.alive || (!proc.frozen && waits && proc.stalled.is_empty())
            })
    }

    /// Judges G5: no idle worker while a task that may run there is due.
    pub fn judge_idle_workers(&mut self) {
        let stats = self.stats();
        let free: Vec<&Proc> = self
            .procs
            .iter()
            .filter(|proc| {
                proc.alive
                    && !proc.draining
                    && !proc.workers_changed
                    // What it keeps may be too much for it to start anything.
                    && self.nodes[proc.node].kept >= 1 << 20
                    && has_room(proc, &stats.nodes)
            })
            .collect();
        if free.is_empty() {
            self.oracle.prefetched.clear();
            return;
        }
        // What was prefetched is asked back when it has waited for two round trips.
        let patience = if self.plan.family.has_no_faults() {
            4 * self.plan.net.max + 200 * MS
        } else {
            1500 * MS
        };
        let mut broken = None;
        let mut prefetched = BTreeMap::new();
        for task in self.scheduler.machine.unfinished() {
            if task.state != TaskState::Pending {
                continue;
            }
            let Some(why) = self.scheduler.machine.explain(clock(self.now), task.id) else {
                continue;
            };
            let Some(facts) = self
                .oracle
                .tasks
                .last()
                .and_then(|tasks| tasks.get(&task.id))
            else {
                continue;
            };
            let excused = match &why.reason {
                Reason::NotDue { .. }
                | Reason::Backoff { .. }
                | Reason::Suspect
                // It waits for the store.
                | Reason::NotStored
                | Reason::Exclusive { .. } => true,
                // Nodes of the term before are waited for.
                _ if self.may_resync() => true,
                Reason::AtLimit { .. }
                | Reason::RateUsedUp { .. }
                | Reason::GroupAtLimit { .. }
                | Reason::GroupRateUsedUp { .. } => {
                    stats.limits.iter().any(|it| it.kind == task.kind)
                }
                Reason::Paused => stats.pauses.all || stats.pauses.kinds.contains(&task.kind),
                // What is placed and not sent has its worker until that is stored.
                _ if self.log_failed_since(self.now.saturating_sub(3 * SECOND)) => true,
                // What an unreachable node holds has to wait for its lease.
                Reason::Prefetched { node } => !stats.nodes.iter().any(|it| {
                    it.name == *node && it.state == NodeState::Up && self.is_alive(it.incarnation)
                }),
                Reason::ClientBehind => {
                    facts.audience != Audience::Caller
                        && (stats.unconfirmed_statuses >= self.plan.config.max_statuses
                            || stats.unconfirmed_bytes >= self.plan.config.max_status_bytes)
                }
                _ => false,
            };
            let plan = &self.plan.tasks[facts.plan];
            let fits = free.iter().find(|proc| {
                // Nothing that blocks begins where no thread can be started.
                (plan.kind != BLOCK || proc.no_thread_until + SECOND < self.now)
                    && proc.kinds.contains(&plan.kind)
                    && plan.labels.iter().all(|label| proc.labels.contains(label))
            });
            let (false, Some(proc)) = (excused, fits) else {
                continue;
            };
            let now = self.now;
            let since = match why.reason {
                Reason::Prefetched { .. } => {
                    let since = self.oracle.prefetched.get(&task.id).copied().unwrap_or(now);
                    prefetched.insert(task.id, since);
                    since
                }
                _ => 0,
            };
            if since + patience <= now {
                broken = Some((
                    task.id,
                    format!(
                        "{} has a free worker, and yet it waits: {:?} {:?}",
                        proc.name, why.reason, why.nodes
                    ),
                ));
                break;
            }
        }
        self.oracle.prefetched = prefetched;
        if let Some((task, text)) = broken {
            self.fail("G5", task, text);
        }
    }

    pub fn judge_end(&mut self) {
        let stats = self.stats();
        let counted =
            stats.pending + stats.due_later + stats.waiting_retries + stats.held + stats.running;
        let tasks = self.oracle.now_tasks().values();
        let accepted = tasks.clone().filter(|it| it.restarts == 0).count() as u64;
        let settled = tasks.filter(|it| !it.settled_before).count() as u64;
        if counted != 0 || stats.unconfirmed_statuses != 0 || stats.args_bytes != 0 {
            self.oracle.fail(
                "G1",
                None,
                format!("all has ended, and yet the stats count something: {stats:?}"),
            );
        }
        if stats.totals.executed != accepted || stats.totals.settled() != settled {
            self.oracle.fail(
                "G1",
                None,
                format!(
                    "{accepted} tasks were accepted and {settled} have ended, but the totals are {:?}",
                    stats.totals
                ),
            );
        }
        if self.plan.family.loses_no_node() && stats.totals.violations != 0 {
            self.oracle.fail(
                "G11",
                None,
                "an honest node is said to have broken the protocol".into(),
            );
        }
        self.judge_settled();
        self.judge_dropped();
        self.judge_remains();
        self.judge_cost();
        self.judge_given_again();
        self.judge_trails();
        if stats.totals.rerouted != self.oracle.rerouted {
            let (noted, counted) = (self.oracle.rerouted, stats.totals.rerouted);
            let text = format!("{noted} reroutes were noted and {counted} counted");
            self.oracle.fail("tracing", None, text);
        }
        if let Some(&id) = self.oracle.waiting.first() {
            self.fail("G1", id, "it has ended, and a caller still waits".into());
        }
        self.finish_check();
    }

    /// Judges that what has ended is forgotten. A run that nobody saw end may be on record for
    /// ever, and so may its key; and what can be dropped is until the lease of its node is over.
    fn judge_remains(&mut self) {
        let it = self.scheduler.machine.remains();
        let leased = self.plan.quiet_from + 2 * nanos(self.plan.config.lease) + 2 * self.plan.late;
        let mut procs = self.procs.iter();
        let loses = !self.plan.family.loses_no_node();
        let unseen = loses && self.now < leased || procs.any(|proc| self.ended_unseen(proc));
        let orphans = it.orphaned_runs + it.keys;
        let open = |link: &&Link| {
            link.whose == Whose::Own && link.term == self.term && link.ends[DOWN] == End::Open
        };
        let open = self.links.iter().filter(open).count();
        let left = it.classes + it.timers + it.claims;
        // A name has a record for each of its nodes that were there at once, and none more: what
        // is left of one is used again.
        let names = self.nodes.len();
        let nodes = (2 * names).max(names + self.oracle.most_leaving);
        let too_many = it.kinds > KINDS.len()
            || it.nodes > nodes
            || it.links > open
            || (orphans > 0 && !unseen);
        if left + it.idle_orphans > 0 || too_many {
            let text = format!("all has ended on {open} links, and yet it remembers {it:?}");
            self.oracle.fail("memory", None, text);
        }
    }

    /// Judges that there is no storm of refusals, and nothing is sent round the cluster: what a
    /// history costs is less than twice its tasks, whatever goes wrong in it, and what the lack of
    /// threads sends back.
    fn judge_cost(&mut self) {
        let most = 2 * self.plan.tasks.len() as u64 + 20 + self.oracle.threadless;
        let cost = (self.oracle.refusals, self.oracle.reroutes);
        if cost.0.max(cost.1) > most {
            let text = format!("(refusals, reroutes) are {cost:?}, more than {most}");
            self.oracle.fail("cost", None, text);
        }
    }

    pub fn finish_check(&mut self) {
        if let Err(broken) = self.scheduler.machine.check() {
            self.oracle
                .fail("check", None, format!("the scheduler's machine: {broken}"));
        }
    }

    /// Shuts the scheduler down, and judges G1: what no client took is handed back.
    pub fn shut_down(&mut self) {
        self.thaw_scheduler();
        self.finished = true;
        if !self.scheduler.alive {
            return;
        }
        self.flush_scheduler();
        let unfinished: Vec<TaskId> = self
            .scheduler
            .machine
            .unfinished()
            .iter()
            .map(|task| task.id)
            .collect();
        let left: Rest = self.scheduler.machine.shut_down(clock(self.now));
        let mut told: Vec<TaskId> = left.statuses.iter().map(|status| status.id).collect();
        told.sort();
        let expected: Vec<TaskId> = self
            .unconfirmed()
            .into_iter()
            .filter(|id| unfinished.binary_search(id).is_err() && !self.is_answer_under_way(*id))
            .collect();
        told.retain(|id| !self.is_answer_under_way(*id));
        if told != expected {
            self.oracle.fail(
                "G1",
                None,
                format!("shut_down hands back the statuses {told:?}, not {expected:?}"),
            );
        }
        let given: Vec<TaskId> = left.unfinished.iter().map(|task| task.id).collect();
        if given != unfinished {
            self.oracle.fail(
                "G1",
                None,
                format!("shut_down hands back the tasks {given:?}, not {unfinished:?}"),
            );
        }
    }
}
