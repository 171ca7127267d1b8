//! G1, G2 and keys: what is taken in, and what is told of it.
//!
//! Owns: the judgement of acceptance, refusal and statuses. Does not know: runs.
use std::collections::BTreeSet;

use callboard::__internals::engine::message::ToNode;
use callboard::__internals::engine::{Accepted, Action, Audience, Refused, Submission};
use callboard::SchedulerConfig;
use callboard::error::Refusal;
use callboard::stats::Stats;
use callboard::status::TaskStatus;
use callboard::task::{TaskId, TaskKey};

use super::{Expectation, Facts, Given};
use crate::cluster::{Cluster, Ev};
use crate::plan::{MS, TaskPlan, nanos};
use crate::scheduler::clock;

impl Cluster {
    pub fn serial(&mut self, task: &TaskPlan) -> u64 {
        let low = match task.key {
            // Tasks with one key are to have the same args.
            Some(key) => 1 << 31 | u64::from(key),
            None => self.oracle.next_serial(),
        };
        (self.life as u64) << 32 | low
    }

    pub fn accepted(&mut self, accepted: Accepted, index: usize, sent: Submission) {
        let plan = self.plan.clone();
        let key = sent
            .options
            .as_ref()
            .and_then(|options| options.key.clone());
        if self.scheduler.draining {
            self.fail(
                "G2",
                accepted.id(),
                "it is accepted by a scheduler that drains".into(),
            );
        }
        let now = self.now;
        match accepted {
            Accepted::Joined(id) => {
                let settled = self.is_settled(id);
                let facts = self.oracle.now_tasks().get(&id);
                let joins = facts.is_some_and(|facts| {
                    facts.key() == key.as_ref()
                        && key.is_some()
                        && facts.sent.args == sent.args
                        && facts.sent.kind == sent.kind
                });
                if !joins || settled {
                    self.fail(
                        "key",
                        id,
                        format!("a task joins it wrongly (settled: {settled})"),
                    );
                }
                self.oracle.joined(id, sent.audience);
            }
            Accepted::New(id) => {
                if self.oracle.pauses.is_closed(&sent.kind) {
                    self.fail(
                        "G2",
                        id,
                        "it is accepted, though its intake is closed".into(),
                    );
                }
                if let Some(key) = &key {
                    self.judge_new_key(id, key);
                }
                let last = self.oracle.now_tasks().keys().next_back().copied();
                let last = last.max(self.oracle.terms.last_task);
                if last.is_some_and(|last| last >= id) {
                    self.fail("G1", id, format!("its id does not follow {last:?}"));
                }
                if sent.audience == Audience::Caller {
                    self.oracle.waiting.insert(id);
                }
                let facts = Facts {
                    plan: index,
                    batch: self.scheduler.machine.promised_with(),
                    restarts: 0,
                    settled_before: false,
                    cancel_promised: false,
                    audience: sent.audience,
                    sent,
                    accepted_at: now,
                    starts: Vec::new(),
                    unstarted: BTreeSet::new(),
                    placings: Vec::new(),
                    rerouted: false,
                    failed_by: BTreeSet::new(),
                    completed: BTreeSet::new(),
                    cancel_asked: false,
                    to_be_cancelled: false,
                    must_be_cancelled: false,
                    told: None,
                    given: Given::Nowhere,
                    holder: None,
                };
                self.oracle.now_tasks().insert(id, facts);
                if let Some(deadline) = plan.tasks[index].deadline {
                    let expectation = Expectation::Deadline {
                        term: self.term,
                        task: id,
                        since: now,
                    };
                    self.after(
                        nanos(deadline) + self.plan.late + 10 * MS + self.log_takes(),
                        Ev::Expect(Box::new(expectation)),
                    );
                }
            }
        }
    }

    /// Judges that a key is free only when no run of its last task can still be going.
    pub fn judge_new_key(&mut self, id: TaskId, key: &TaskKey) {
        let earlier: Vec<TaskId> = self
            .oracle
            .now_tasks()
            .iter()
            .filter(|(_, facts)| facts.key() == Some(key))
            .map(|(task, _)| *task)
            .collect();
        for task in earlier {
            if !self.is_settled(task) {
                self.fail(
                    "key",
                    id,
                    format!("{task} has the key {key} and is not settled"),
                );
            }
            let life = self.life;
            let mut going = false;
            let (now, lease) = (self.now, nanos(self.plan.config.lease));
            for proc in &mut self.procs {
                if proc.passes_for_dead(now, lease) {
                    continue;
                }
                for run in proc.runs.values_mut() {
                    let other = run.life != life || run.task != task;
                    let may_go_on = run.vouched || self.oracle.is_forgotten(run.dispatch);
                    if other || may_go_on || run.last_step {
                        continue;
                    }
                    if proc.frozen && !run.blocking {
                        // It must not get further when its process wakes.
                        run.must_stop = true;
                    } else {
                        going = true;
                    }
                }
            }
            if going {
                self.fail(
                    "key",
                    id,
                    format!("it takes the key {key} while a run of {task} goes on"),
                );
            }
        }
    }

    /// Returns whether as much waits for clients as may.
    pub fn client_is_behind(&self) -> bool {
        let (config, default) = (&self.plan.config, SchedulerConfig::default());
        if (config.max_statuses, config.max_status_bytes)
            == (default.max_statuses, default.max_status_bytes)
        {
            // More than any history has.
            return false;
        }
        let stats = self.scheduler.machine.stats(clock(self.now));
        stats.unconfirmed_statuses >= config.max_statuses
            || stats.unconfirmed_bytes >= config.max_status_bytes
    }

    /// Notes at the beginning of a turn since when a client is behind, if one is.
    pub fn note_whether_behind(&mut self, behind: bool) {
        let since = self.oracle.behind_since.filter(|_| behind);
        self.oracle.behind_since = since.or_else(|| behind.then_some(self.now));
    }

    /// Judges that nothing is placed for clients while one is behind. With a store, what was placed
    /// before is sent when that is stored.
    pub fn placed_nothing(&mut self, action: &Action) {
        let Some(since) = self.oracle.behind_since else {
            return;
        };
        let store = self.plan.store.is_some();
        let placed_by = since + self.log_takes() + self.plan.late;
        if store && (self.now <= placed_by || self.log_failed_since(since)) {
            return;
        }
        if let Action::Send {
            message: ToNode::Assign(assignments),
            ..
        } = action
        {
            let tasks = self.oracle.now_tasks();
            let held = |task: &TaskId| {
                let facts = tasks.get(task);
                facts.is_none_or(|facts| facts.audience != Audience::Caller)
            };
            let task = assignments.iter().map(|it| it.task).find(held);
            if task.is_some() {
                let words = "it was placed though too much waits for a client";
                self.oracle.fail("G1", task, words.to_owned());
            }
        }
    }

    pub fn refused(&mut self, refused: &Refused, sent: &Submission, before: &Stats, after: &Stats) {
        let mut after = after.clone();
        let counted = after.totals.refused.entry(refused.refusal.cause());
        *counted.or_default() -= 1;
        after.totals.refused.retain(|_, count| *count > 0);
        let (before_text, after_text) = (format!("{before:?}"), format!("{after:?}"));
        if before_text != after_text {
            self.oracle.fail(
                "G2",
                None,
                format!("a refusal changed something:\n{before_text}\n{after_text}"),
            );
        }
        let back = &refused.submission;
        if back.args != sent.args
            || back.kind != sent.kind
            || back.options != sent.options
            || back.audience != sent.audience
        {
            self.oracle.fail(
                "G2",
                None,
                "what was refused did not come back unchanged".into(),
            );
        }
        let unsettled = self.scheduler.machine.unfinished().len();
        let key = sent
            .options
            .as_ref()
            .and_then(|options| options.key.clone());
        let config = &self.plan.config;
        let just = match &refused.refusal {
            Refusal::Draining => self.scheduler.draining,
            Refusal::IntakeClosed { kind } => before.pauses.closed.contains(kind),
            Refusal::StoreFailed { .. } => self.log_fails(),
            Refusal::QueueFull { .. } => unsettled >= config.max_tasks,
            Refusal::ClientBehind { .. } => {
                sent.audience != Audience::Caller
                    && before.unconfirmed_statuses >= config.max_statuses
            }
            Refusal::StatusBytesFull { .. } => {
                sent.audience != Audience::Caller
                    && before.unconfirmed_bytes >= config.max_status_bytes
            }
            Refusal::KeyConflict { id, .. } | Refusal::KeyBusy { id, .. } => self
                .oracle
                .now_tasks()
                .get(id)
                .is_some_and(|facts| facts.key() == key.as_ref()),
            _ => false,
        };
        if !just {
            self.oracle.fail(
                "G2",
                None,
                format!("there is no ground for this refusal: {}", refused.refusal),
            );
        }
    }

    /// Callers are answered, beside the task's audience unless they are `alone`.
    pub fn answered(&mut self, status: &TaskStatus, alone: bool) {
        let waited = self.oracle.waiting.remove(&status.id);
        let facts = self.oracle.now_tasks().get(&status.id);
        let wrong = facts.and_then(|facts| {
            if !waited {
                Some("callers are answered where none waits (any more)")
            } else if alone != (facts.audience == Audience::Caller) {
                Some("it is not said rightly whether others are told besides its callers")
            } else {
                facts.differs_from(status)
            }
        });
        if let Some(text) = wrong {
            self.fail("G1", status.id, text.to_owned());
        }
    }

    /// Takes back tasks that were accepted and are refused: nothing may have come of them.
    pub fn taken_back(&mut self, refused: Vec<(TaskId, Refused)>) {
        for (id, refused) in refused {
            self.say(|| format!("{id} is taken back: {}", refused.refusal));
            self.oracle.waiting.remove(&id);
            let Some(facts) = self.oracle.now_tasks().remove(&id) else {
                self.fail("G2", id, "it is taken back, and was not accepted".into());
                continue;
            };
            let back = &refused.submission;
            let began = !(facts.starts.is_empty() && facts.placings.is_empty());
            let same = back.args == facts.sent.args
                && back.kind == facts.sent.kind
                && back.options == facts.sent.options;
            if began || facts.given != Given::Nowhere || !same {
                let text = "it is taken back, and was placed or told of, or is another";
                self.fail("G2", id, text.into());
            }
        }
    }

    /// Judges that whoever waits is answered when the ending is decided, whatever clients do; and
    /// when it is stored.
    pub fn judge_waiting(&mut self) {
        let machine = &self.scheduler.machine;
        if machine.promised_with() > machine.stored() {
            return;
        }
        let waiting = self.oracle.waiting.iter();
        if let Some(id) = waiting.copied().find(|&id| self.is_settled(id)) {
            self.fail("G1", id, "it has ended, and a caller still waits".into());
        }
    }

    pub fn told(&mut self, to: Option<u64>, status: &TaskStatus) {
        let plan = self.plan.clone();
        let Some(facts) = self.oracle.now_tasks().get(&status.id) else {
            self.fail(
                "G1",
                status.id,
                "a status tells of it, but it was never accepted".into(),
            );
            return;
        };
        let task = &plan.tasks[facts.plan];
        let judged = self
            .oracle
            .judge_status(to, status, plan.family, task, self.now);
        if let Err((promise, text)) = judged {
            self.fail(promise, status.id, text);
        }
        if !self.is_settled(status.id) {
            self.fail(
                "G1",
                status.id,
                "its status is told, and yet it is unfinished".into(),
            );
        }
    }
}
