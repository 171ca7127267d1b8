//! Answers to questions: the snapshot, the unfinished tasks, and why one waits.
//!
//! Owns: nothing; reads only.

use super::{Intake, SchedulerMachine};
use crate::engine::Timestamp;
use crate::engine::placement::NodeIndex;
use crate::engine::queue::{ClassId, Hearer, PlacementRule};
use crate::engine::roster::{Pace, Readiness, Standing, State};
use crate::engine::tasks::{FirstDue, Phase, Slot, Stage, Task};
use crate::stats::{Explanation, NodeState, NodeStats, Reason, Stats, TaskState, Unfinished};
use crate::task::{Due, Options, Priority, TaskId, TaskKind};
use crate::trail::TaskTrail;

impl SchedulerMachine {
    /// Takes the snapshot.
    pub fn stats(&self, now: Timestamp) -> Stats {
        let mut totals = self.totals.clone();
        totals.unclaimed = self.outbox.unclaimed;
        totals.refusals_not_told = self.outbox.refusals_not_told;
        totals.untold = self.outbox.untold;
        Stats {
            scheduler: self.name.clone(),
            pending: self.count_of(Phase::Unstored)
                + self.count_of(Phase::Queued)
                + self.count_of(Phase::Prefetched),
            due_later: self.count_of(Phase::Later),
            waiting_retries: self.count_of(Phase::Backoff),
            held: self.count_of(Phase::Held),
            paused: self.catalogue.resting(),
            pauses: self.pauses(),
            limits: self.limit_stats(),
            running: self.count_of(Phase::Running),
            args_bytes: self.tasks.args_bytes(),
            unconfirmed_statuses: self.outbox.held(),
            unconfirmed_bytes: self.outbox.bytes(),
            status_room: self.outbox.room(),
            client: self.outbox.client_state(),
            nodes: self
                .roster
                .names
                .values()
                .map(|&node| self.node_stats(now, node))
                .collect(),
            totals,
            flushes: self.flushes,
            // The machine's driver fills this in.
            store: None,
        }
    }

    fn node_stats(&self, now: Timestamp, index: NodeIndex) -> NodeStats {
        let node = self.roster.get(index);
        let state = match &node.state {
            State::Connecting => NodeState::Connecting,
            State::Member(process) | State::Leaving(Some(process)) => match process.standing {
                Standing::Up(_) if node.drains() => NodeState::Draining,
                Standing::Up(_) => NodeState::Up,
                Standing::Reconnecting => NodeState::Unreachable,
                Standing::Lost => NodeState::Lost,
            },
            State::Leaving(None) | State::Dead | State::Vacant | State::Free => NodeState::Lost,
        };
        let heard = if node.is_local() {
            now
        } else {
            node.last_heard
        };
        let tally = node.load.tally();
        let pace = node
            .latest_process()
            .map_or(Pace::Unknown, |process| process.pace);
        NodeStats {
            name: node.name.clone(),
            state,
            reason: node.reason.clone(),
            workers: node.load.workers(),
            running: tally.running,
            prefetched: tally.prefetched,
            taken: node.taken() - tally.running,
            incarnation: node.incarnation().map(|incarnation| incarnation.0),
            round_trip: pace.round_trip(),
            slow_link: pace.is_slow(),
            last_heard: (heard != Timestamp(0)).then(|| self.wall_time(heard)),
            settled: node.settled,
            violations: node.violations,
            labels: self.catalogue.labels_at(index).clone(),
            kinds: self
                .catalogue
                .kinds_at(index)
                .iter()
                .map(|kind| TaskKind::from(kind.kind.as_str()))
                .collect(),
        }
    }

    /// Returns every unsettled task, in order of id.
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
        Unfinished {
            id: task.id,
            key: task.key().cloned(),
            kind: self.catalogue.kind(task.class).clone(),
            args: task.args.clone(),
            options: self.options(task).map_or_else(Options::default, |it| *it),
            state: match task.stage {
                Stage::Running { node, dispatch, .. } => TaskState::Running {
                    node: self.roster.get(node).name.clone(),
                    dispatch,
                },
                _ => TaskState::Pending,
            },
        }
    }

    /// Returns the options of a task as it was handed in, if it had any. A delay is what is left of
    /// it.
    #[inline(always)]
    pub(super) fn options(&self, task: &Task) -> Option<Box<Options>> {
        let due = match task.stage {
            Stage::Later { due }
            | Stage::Unstored {
                due: FirstDue::Later(due),
            } => Due::After(due.since(self.now)),
            Stage::Planned { at }
            | Stage::Unstored {
                due: FirstDue::Planned(at),
            } => Due::At(at.to_system_time()),
            _ => Due::Now,
        };
        self.options_with(task, due)
    }

    /// Returns the options of a task with this due time, if any is not the default.
    #[inline(always)]
    pub(super) fn options_with(&self, task: &Task, due: Due) -> Option<Box<Options>> {
        let labels = self.catalogue.labels(task.class);
        if task.rare.is_none() && task.priority == 0 && labels.is_empty() && due == Due::Now {
            return None;
        }
        let mut options = Box::<Options>::default();
        options.priority = Priority(task.priority);
        options.due = due;
        options.labels = labels.clone();
        if let Some(rare) = &task.rare {
            options.timeout = rare.timeout;
            options.deadline = rare.deadline.map(|at| at.since(task.accepted_at));
            options.retry = rare.retry;
            options.exclusive = rare.exclusive;
            options.max_reroutes = rare.max_reroutes;
            options.key = rare.key.clone();
            options.group = task.group_name().cloned();
            options.again_of = rare.again_of;
            options.trace = rare.trace.clone();
            options.trace_mode = rare.trace_mode;
        }
        Some(options)
    }

    /// Returns what an unsettled task waits for; `None` if no unsettled task has this id.
    pub fn explain(&self, now: Timestamp, task: TaskId) -> Option<Explanation> {
        let slot = self.tasks.find(task)?;
        let task = self.tasks.get(slot);
        let name_of = |node: u32| self.roster.get(node).name.clone();
        let mut nodes = Vec::new();
        let reason = match &task.stage {
            Stage::Unstored { .. } => Reason::NotStored,
            Stage::Later { due } => Reason::NotDue {
                remaining: due.since(now),
            },
            Stage::Planned { at } => Reason::NotDue {
                remaining: self.timers.wall().moment(*at).since(now),
            },
            Stage::Backoff { due } => Reason::Backoff {
                remaining: due.since(now),
            },
            Stage::Held(held) => Reason::Exclusive {
                node: name_of(held.run.node),
            },
            Stage::Prefetched { node, .. } => Reason::Prefetched {
                node: name_of(*node),
            },
            Stage::Running { node, dispatch, .. } => Reason::Running {
                node: name_of(*node),
                dispatch: *dispatch,
            },
            Stage::New | Stage::Left { .. } | Stage::Queued { .. } => {
                nodes = self.objections(slot);
                self.why_queued(now, task)
            }
        };
        let running = matches!(task.stage, Stage::Running { .. });
        Some(Explanation {
            id: task.id,
            reason,
            attempts: task.failed_attempts.saturating_add(u32::from(running)),
            last_failure: task.last_failure().map(ToString::to_string),
            nodes,
        })
    }

    /// Returns the trail of a task, as far as that is remembered.
    pub fn trail(&self, task: TaskId) -> TaskTrail {
        self.trails.of(task).cloned().unwrap_or_default()
    }

    fn why_queued(&self, now: Timestamp, task: &Task) -> Reason {
        let class = task.class;
        let suspect = self.catalogue.rule(class) == PlacementRule::Isolated;
        if self.intake == Intake::Finishing {
            Reason::Ending
        } else if self.catalogue.is_paused(class) {
            Reason::Paused
        } else if let Some(reason) = self.why_limited(now, task) {
            reason
        } else if self.outbox.is_full() && self.catalogue.hearer(class) == Hearer::Client {
            Reason::ClientBehind
        } else if self.catalogue.is_unschedulable(class) {
            Reason::NoSuchNode
        } else if suspect && self.catalogue.free_node(class).is_some() {
            Reason::Suspect
        } else if !self.has_workers(class) {
            Reason::NoWorkers
        } else {
            Reason::NoFreeWorker
        }
    }

    /// Returns whether a node that may run a class, and is up, has any workers at all.
    fn has_workers(&self, class: ClassId) -> bool {
        let labels = self.catalogue.labels(class);
        self.roster.names.values().any(|&index| {
            let node = self.roster.get(index);
            node.is_up()
                && node.load.workers() > 0
                && self.catalogue.kind_at(index, class).is_some()
                && labels.is_subset(self.catalogue.labels_at(index))
        })
    }

    /// Returns what speaks against each node.
    fn objections(&self, slot: Slot) -> Vec<(std::sync::Arc<str>, String)> {
        let task = self.tasks.get(slot);
        let (class, company) = (task.class, task.company());
        let object = |index: NodeIndex| {
            let node = self.roster.get(index);
            let missing: Vec<_> = self
                .catalogue
                .labels(class)
                .difference(self.catalogue.labels_at(index))
                .map(String::as_str)
                .collect();
            let objection = if !node.is_up() {
                &*node.reason
            } else if node.drains() {
                "it is draining"
            } else if self.catalogue.kind_at(index, class).is_none() {
                "it has no handler for the kind"
            } else if !missing.is_empty() {
                return format!("it lacks the labels {}", missing.join(", "));
            } else if node.readiness() == Readiness::Refusing {
                "it refuses new work for now"
            } else if node.load.workers() == 0 {
                "it has no workers: its `max_workers` is 0"
            } else if node.taken() >= node.load.workers() {
                "all its workers are taken"
            } else if company.is_some_and(|company| !node.load.takes_suspect(company)) {
                "it runs as many tasks that have lost two nodes as it may"
            } else {
                "it has a free worker"
            };
            objection.to_owned()
        };
        self.roster
            .names
            .values()
            .take(Explanation::MAX_NODES)
            .map(|&node| (self.roster.get(node).name.clone(), object(node)))
            .collect()
    }
}
