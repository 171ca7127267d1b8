//! Answers to questions: the snapshot, the unfinished tasks, and why one waits.
//!
//! Owns: nothing; reads only.

use super::SchedulerMachine;
use crate::engine::Timestamp;
use crate::engine::queue::{ClassId, Manner};
use crate::engine::roster::{Node, State};
use crate::engine::tasks::{Phase, Slot, Task};
use crate::stats::{Explanation, NodeState, NodeStats, Reason, Stats, TaskState, Unfinished};
use crate::task::{TaskId, TaskKind};

impl SchedulerMachine {
    /// The snapshot.
    pub fn stats(&self, now: Timestamp) -> Stats {
        let mut totals = self.totals.clone();
        totals.unclaimed = self.outbox.unclaimed;
        totals.refusals_not_told = self.outbox.refusals_not_told;
        Stats {
            scheduler: self.name.clone(),
            pending: self.count_of(Phase::Queued) + self.count_of(Phase::Ahead),
            due_later: self.count_of(Phase::Later),
            waiting_retries: self.count_of(Phase::Backoff),
            held: self.count_of(Phase::Held),
            running: self.count_of(Phase::Running),
            args_bytes: self.tasks.args_bytes(),
            unconfirmed_statuses: self.outbox.held(),
            unconfirmed_bytes: self.outbox.bytes(),
            nodes: self
                .roster
                .names
                .values()
                .map(|&node| self.node_stats(now, self.roster.get(node)))
                .collect(),
            totals,
            flushes: self.flushes,
        }
    }

    fn node_stats(&self, now: Timestamp, node: &Node) -> NodeStats {
        let offer = node
            .offer
            .and_then(|offer| self.roster.offers[offer as usize].as_ref());
        let state = match node.state {
            State::Connecting => NodeState::Connecting,
            State::Up if node.draining || node.leaving => NodeState::Draining,
            State::Up => NodeState::Up,
            State::Unreachable => NodeState::Unreachable,
            State::Lost | State::Dead => NodeState::Lost,
        };
        let heard = if node.is_local() {
            now
        } else {
            node.last_heard
        };
        NodeStats {
            name: node.name.clone(),
            state,
            reason: node.reason.clone(),
            workers: node.workers,
            running: node.running,
            ahead: node.ahead,
            taken: node.taken() - node.running,
            epoch: node.epoch.map(|epoch| epoch.0),
            last_heard: (heard != Timestamp(0)).then(|| heard.to_system_time()),
            settled: node.settled,
            violations: node.violations,
            labels: node.labels.clone(),
            kinds: offer.map_or_else(Vec::new, |offer| {
                offer
                    .kinds
                    .iter()
                    .map(|kind| TaskKind::from(kind.kind.as_str()))
                    .collect()
            }),
        }
    }

    /// Every unsettled task, in order of id.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let mut all: Vec<_> = self
            .tasks
            .iter()
            .map(|(_, task)| self.unfinished_task(task))
            .collect();
        all.sort_unstable_by_key(|task| task.id);
        all
    }

    fn unfinished_task(&self, task: &Task) -> Unfinished {
        let class = &self.classes[task.class as usize];
        Unfinished {
            id: task.id,
            key: task.key().cloned(),
            kind: self.kinds[class.kind as usize].name.clone(),
            args: task.args.clone(),
            state: if task.phase == Phase::Running {
                TaskState::Running {
                    node: self.roster.get(task.node).name.clone(),
                    dispatch: task.dispatch,
                }
            } else {
                TaskState::Pending
            },
        }
    }

    /// What an unsettled task waits for; `None` if no unsettled task has this id.
    pub fn explain(&self, now: Timestamp, task: TaskId) -> Option<Explanation> {
        let slot = self.tasks.find(task)?;
        let task = self.tasks.get(slot);
        let name_of = |node: u32| self.roster.get(node).name.clone();
        let remaining = Timestamp(task.rank).since(now);
        let reason = match task.phase {
            Phase::Later => Reason::NotDue { remaining },
            Phase::Backoff => Reason::Backoff { remaining },
            Phase::Held => Reason::Exclusive {
                node: name_of(task.node),
            },
            Phase::Ahead => Reason::SentAhead {
                node: name_of(task.node),
            },
            Phase::Running => Reason::Running {
                node: name_of(task.node),
                dispatch: task.dispatch,
            },
            Phase::Queued => self.why_queued(task.class),
        };
        let last_failure = task
            .rare
            .as_ref()
            .and_then(|rare| rare.last_failure.as_ref());
        Some(Explanation {
            id: task.id,
            reason,
            attempts: task
                .failed_attempts
                .saturating_add(u32::from(task.phase == Phase::Running)),
            last_failure: last_failure.map(ToString::to_string),
            nodes: if task.phase == Phase::Queued {
                self.objections(slot)
            } else {
                Vec::new()
            },
        })
    }

    fn why_queued(&self, class: ClassId) -> Reason {
        let class = &self.classes[class as usize];
        let pool = &self.pools.list[class.pool as usize];
        if self.outbox.is_full() {
            Reason::ClientBehind
        } else if pool.present == 0 {
            Reason::NoSuchNode
        } else if class.manner == Manner::Suspect && pool.free().is_some() {
            Reason::Suspect
        } else {
            Reason::NoFreeWorker
        }
    }

    /// What speaks against each node.
    fn objections(&self, slot: Slot) -> Vec<(std::sync::Arc<str>, String)> {
        let class = &self.classes[self.tasks.get(slot).class as usize];
        let object = |node: &Node| {
            let offer = node
                .offer
                .and_then(|offer| self.roster.offers[offer as usize].as_ref());
            let missing: Vec<_> = class
                .labels
                .difference(&node.labels)
                .map(String::as_str)
                .collect();
            match node.state {
                State::Up if node.draining || node.leaving => "it is draining".to_owned(),
                State::Up if !offer.is_some_and(|offer| offer.index.contains_key(&class.kind)) => {
                    "it has no handler for the kind".to_owned()
                }
                State::Up if !missing.is_empty() => {
                    format!("it lacks the labels {}", missing.join(", "))
                }
                State::Up if node.refusing => "it refuses new work for now".to_owned(),
                State::Up if node.taken() >= node.workers => "all its workers are taken".to_owned(),
                State::Up if class.manner == Manner::Suspect && node.suspects > 0 => {
                    "it runs another task that has lost two nodes".to_owned()
                }
                State::Up => "it has a free worker".to_owned(),
                _ => node.reason.clone(),
            }
        };
        self.roster
            .names
            .values()
            .map(|&node| self.roster.get(node))
            .take(Explanation::MAX_NODES)
            .map(|node| (node.name.clone(), object(node)))
            .collect()
    }
}
