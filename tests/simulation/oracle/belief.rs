//! G8, G9: what is believed of nodes, and by when.
//!
//! Owns: the judgement of notes and of what had to be by now. Does not know: how nodes die.
use callboard::__internals::engine::{Event, Note};
use callboard::stats::{NodeState, Stats};

use super::Expectation;
use crate::cluster::Cluster;
use crate::nodes::Death;
use crate::plan::{MS, Time, nanos};
use crate::scheduler::{SchedulerIn, clock};

impl Cluster {
    pub fn note(&mut self, note: Note) {
        self.say(|| format!("S notes {note:?}"));
        match note {
            Note::NodeUp {
                name, incarnation, ..
            } => {
                self.may_be_rerouted_again();
                self.oracle.superseded.remove(&incarnation);
                let mut procs = self.procs.iter();
                let workers = procs.find(|proc| proc.incarnation == incarnation);
                let workers = workers.map_or(0, |proc| self.nodes[proc.node].workers);
                self.oracle.node_up(self.now, name.clone(), workers);
                if let Some(before) = self.oracle.up.insert(name.to_string(), incarnation)
                    && before != incarnation
                {
                    self.oracle.supersede(self.now, before);
                }
            }
            Note::NodeLost { name, reason, .. } => {
                match self.oracle.up.get(&*name) {
                    Some(&incarnation) => self.oracle.supersede(self.now, incarnation),
                    // It was not heard in this term, and an earlier one may have sent it something.
                    None => {
                        for proc in self.procs.iter().filter(|proc| *proc.name == *name) {
                            self.oracle.supersede(self.now, proc.incarnation);
                        }
                    }
                }
                // A sleep that is shorter than this cannot be told from a busy machine.
                let noticed = 3 * nanos(self.plan.config.heartbeat);
                if reason.contains("lease")
                    && self.oracle.slept_twice_until != Some(self.now)
                    && self.now > self.scheduler.frozen_at + noticed
                    && self.has_unread(&name)
                {
                    self.oracle.fail(
                        "G8",
                        None,
                        format!("{name} is lost while what it said is not read: {reason}"),
                    );
                }
                if self.plan.family.loses_no_node() {
                    self.oracle.fail(
                        "G9",
                        None,
                        format!("{name} is lost, though it lives and no cut was long: {reason}"),
                    );
                }
            }
            Note::Rerouted { count, .. } => {
                self.oracle.rerouted += count as u64;
                self.oracle.reroutes += count as u64;
            }
            Note::NodeLeft { name, .. } => {
                if let Some(&incarnation) = self.oracle.up.get(&*name) {
                    self.oracle.supersede(self.now, incarnation);
                }
            }
            Note::RolledBack { seen } if self.oracle.terms.forgotten.is_empty() => {
                let text = format!("{seen} is said to be later than a copy, and there was none");
                self.oracle.fail("G3", None, text);
            }
            _ => {}
        }
    }

    /// Returns whether messages of a node of this name wait in the sockets of a scheduler that was
    /// frozen.
    fn has_unread(&self, name: &str) -> bool {
        self.scheduler.inbox.iter().any(|command| match command {
            SchedulerIn::Event(Event::Message { link, .. }) => {
                *self.procs[self.links[self.link_index(*link)].proc].name == *name
            }
            _ => false,
        })
    }

    /// Returns whether the scheduler had slept shortly before it fell asleep, so that no node can
    /// have proved between the two that it hears it. A lease is put off for a sleep once in a
    /// silence.
    pub fn slept_twice(&self) -> bool {
        let round = 2 * nanos(self.plan.config.heartbeat) + 4 * self.plan.net.max;
        let woke = self.scheduler.woke_at;
        woke.is_some_and(|woke| self.scheduler.frozen_at < woke + round)
    }

    pub fn removed(&mut self, node: usize) {
        let up = self.oracle.up.remove(&self.nodes[node].name);
        // Of one that was not heard in this term, an earlier one may have sent it something.
        let unheard = up.is_none();
        for proc in self.procs.iter_mut().filter(|proc| proc.node == node) {
            proc.removed = true;
            if unheard {
                self.oracle.supersede(self.now, proc.incarnation);
            }
        }
        if let Some(incarnation) = up {
            self.oracle.supersede(self.now, incarnation);
        }
    }

    /// Takes in that a node is there again under a name that was removed: what its old processes
    /// still run passed for dead before.
    pub fn added_again(&mut self, node: usize) {
        for proc in self.procs.iter_mut().filter(|proc| proc.node == node) {
            if std::mem::take(&mut proc.removed) {
                proc.runs.values_mut().for_each(|run| run.vouched = true);
            }
        }
    }

    pub fn stats(&self) -> Stats {
        self.scheduler.machine.stats(clock(self.now))
    }

    /// Returns when a process that dies now must be known to be lost.
    pub fn loss_expected(&self, proc: usize, death: Death) -> Option<(Expectation, Time)> {
        let it = &self.procs[proc];
        let config = &self.plan.config;
        if !self.scheduler.alive {
            return None;
        }
        let up = self.stats().nodes.iter().any(|node| {
            *node.name == *it.name
                && node.state == NodeState::Up
                && node.incarnation == Some(it.incarnation.0)
        });
        if !up {
            return None;
        }
        let plan = &self.nodes[it.node];
        // What stands in front of it answers for it.
        let told = death == Death::Process
            && !plan.forwarded
            && if plan.joins { plan.probe } else { plan.listens };
        let late = match self.plan.is_always_late() {
            true => self.plan.late,
            false => 0,
        };
        let span = if told {
            1500 * MS + 3 * late
        } else if late > 0 {
            // A lease is put off for lateness once in a silence.
            2 * nanos(config.lease) + late
        } else {
            nanos(config.lease) + 1500 * MS
        };
        let expectation = Expectation::Lost {
            term: self.term,
            name: it.name.to_string(),
            incarnation: it.incarnation,
            since: self.now,
        };
        Some((expectation, span))
    }

    pub fn expect(&mut self, expectation: Expectation) {
        match expectation {
            Expectation::Ended => self.ended_in_time(),
            Expectation::Cancelled { ticket, asked } => {
                let it = &self.oracle.tickets[usize::try_from(ticket).unwrap()];
                let excused = it.term != self.term
                    || self.oracle.scheduler_late_until >= asked
                    || self.log_failed_since(asked)
                    || !self.scheduler.alive;
                if !it.answered && !excused {
                    let task = it.task;
                    self.fail(
                        "G12",
                        task,
                        "its cancel is not answered after a second".into(),
                    );
                }
            }
            Expectation::Deadline { term, task, since } => {
                let excused = term != self.term
                    || self.oracle.scheduler_late_until >= since
                    || self.log_failed_since(since)
                    || !self.scheduler.alive;
                if !excused && !self.is_settled(task) {
                    self.fail(
                        "G12",
                        task,
                        "its deadline has passed and it is not settled".into(),
                    );
                }
            }
            Expectation::Lost {
                term,
                name,
                incarnation,
                since,
            } => {
                let excused = term != self.term
                    || !self.scheduler.alive
                    || self.oracle.is_disturbed(since, self.now);
                if excused {
                    return;
                }
                let believed = self.stats().nodes.into_iter().find(|node| {
                    *node.name == *name
                        && node.incarnation == Some(incarnation.0)
                        && node.state != NodeState::Lost
                });
                if let Some(node) = believed {
                    self.oracle.fail(
                        "G8",
                        None,
                        format!(
                            "{name} died at {since} and is still believed {:?}: {}",
                            node.state, node.reason
                        ),
                    );
                }
            }
        }
    }
}
