//! What must hold: the promises, judged from outside by what truly happened.
//!
//! Owns: what is known of every accepted task and what was promised about it. Does not know: how the
//! machines keep their promises; it asks them only for what a user can ask.

use std::collections::{BTreeMap, BTreeSet};

use callboard::engine::scheduler::Leftovers;
use callboard::engine::worker::Tried;
use callboard::engine::{Accepted, Audience, ClientId, Epoch, Event, Note, Refused, Submission};
use callboard::error::Refusal;
use callboard::stats::{NodeState, NodeStats, Reason, Stats, TaskState};
use callboard::status::{CancelAnswer, Cause, Outcome, TaskStatus};
use callboard::task::{Dispatch, TaskId, TaskKey};

use crate::cluster::{Cluster, Death, Ev, Proc, clock};
use crate::faults::span_of;
use crate::plan::{Family, Fault, KINDS, MS, Mode, SECOND, TaskPlan, Time, nanos};
use crate::workers::{Run, output, serial_of};

pub struct Broken {
    pub promise: &'static str,
    pub task: Option<String>,
    pub text: String,
}

/// Where the one ending of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Nowhere,
    With(u64),
    Confirmed,
    Answered,
    Unclaimed,
}

struct Facts {
    plan: usize,
    sent: Submission,
    accepted_at: Time,
    last_start: Option<Dispatch>,
    /// Attempt and process of every start.
    starts: Vec<(u32, usize)>,
    failed_by: BTreeSet<Cause>,
    completed: BTreeSet<Dispatch>,
    cancel_asked: bool,
    must_be_cancelled: bool,
    outcome: Option<Outcome>,
    given: Given,
}

impl Facts {
    fn key(&self) -> Option<&TaskKey> {
        self.sent
            .options
            .as_ref()
            .and_then(|options| options.key.as_ref())
    }
}

struct Ticket {
    life: usize,
    task: TaskId,
    settled_before: bool,
    answered: bool,
}

/// Something that must be so by a certain time.
pub enum Expectation {
    Ended,
    Cancelled {
        ticket: u64,
        asked: Time,
    },
    Deadline {
        life: usize,
        task: TaskId,
        since: Time,
    },
    Lost {
        life: usize,
        name: String,
        epoch: Epoch,
        since: Time,
    },
}

pub struct Oracle {
    pub step: u64,
    pub broken: Option<Broken>,
    pub most_workers_set: u32,
    tasks: Vec<BTreeMap<TaskId, Facts>>,
    serials: u64,
    tickets: Vec<Ticket>,
    /// Spans of faults, and of what they brought about.
    disturbances: Vec<(Time, Time)>,
    /// The scheduler could not act in time until then.
    scheduler_late_until: Time,
    up: BTreeMap<String, Epoch>,
    superseded: BTreeSet<Epoch>,
    removed: BTreeSet<usize>,
    current: Option<u64>,
    gone: BTreeSet<u64>,
}

impl Oracle {
    pub fn new(_seed: u64) -> Self {
        Self {
            step: 0,
            broken: None,
            most_workers_set: 0,
            tasks: vec![BTreeMap::new()],
            serials: 0,
            tickets: Vec::new(),
            disturbances: Vec::new(),
            scheduler_late_until: 0,
            up: BTreeMap::new(),
            superseded: BTreeSet::new(),
            removed: BTreeSet::new(),
            current: None,
            gone: BTreeSet::new(),
        }
    }

    /// Notes the first broken promise.
    pub fn fail(&mut self, promise: &'static str, task: Option<TaskId>, text: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken {
                promise,
                task: task.map(|task| task.to_string()),
                text,
            });
        }
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    /// All that was promised by an earlier life is void.
    pub fn new_life(&mut self) {
        self.tasks.push(BTreeMap::new());
        self.up.clear();
        self.superseded.clear();
        self.removed.clear();
        self.current = None;
    }

    fn now_tasks(&mut self) -> &mut BTreeMap<TaskId, Facts> {
        self.tasks.last_mut().unwrap()
    }

    pub fn disturbed(&mut self, until: Time) {
        self.scheduler_late_until = self.scheduler_late_until.max(until);
    }

    pub fn on_fault(&mut self, now: Time, fault: &Fault) {
        self.disturbances
            .push((now, now.saturating_add(span_of(fault))));
    }

    /// Whether a fault but the one that began at `since` was at work since shortly before.
    fn is_disturbed(&self, since: Time, until: Time) -> bool {
        self.disturbances
            .iter()
            .any(|&(from, to)| from != since && from <= until && to + 3 * SECOND >= since)
            || self
                .disturbances
                .iter()
                .filter(|(from, _)| *from == since)
                .count()
                > 1
    }

    pub fn is_removed(&self, node: usize) -> bool {
        self.removed.contains(&node)
    }

    pub fn on_set_client(&mut self, client: Option<ClientId>) {
        self.current = client.map(|client| client.0);
    }

    pub fn on_scheduler_event(&mut self, event: &Event) {
        if let Event::ClientGone { client } = event {
            self.gone.insert(client.0);
            if self.current == Some(client.0) {
                self.current = None;
            }
        }
    }

    pub fn on_run_over(&mut self, _run: &Run) {}

    pub fn on_unstarted(&mut self, run: &Run) {
        if let Some(facts) = self.tasks[run.life].get_mut(&run.task) {
            facts.starts.pop();
        }
    }

    pub fn on_tried(&mut self, run: &Run, tried: &Tried) {
        let Some(facts) = self.tasks[run.life].get_mut(&run.task) else {
            return;
        };
        let cause = match tried {
            Tried::Output(_) => {
                facts.completed.insert(run.dispatch);
                return;
            }
            Tried::Error { .. } => Cause::Error,
            Tried::Permanent { .. } => Cause::Permanent,
            Tried::Panicked { .. } => Cause::Panic,
            Tried::TimedOut { .. } => Cause::Timeout,
            Tried::Codec { .. } => Cause::Codec,
        };
        facts.failed_by.insert(cause);
    }

    pub fn on_confirmed(&mut self, life: usize, task: TaskId) {
        if let Some(facts) = self.tasks[life].get_mut(&task) {
            facts.given = Given::Confirmed;
        }
    }

    pub fn on_unclaimed(&mut self, life: usize, task: TaskId) {
        if let Some(facts) = self.tasks[life].get_mut(&task) {
            facts.given = Given::Unclaimed;
        }
    }

    /// A new status, or one given again.
    fn judge_status(
        &mut self,
        to: Option<u64>,
        status: &TaskStatus,
        family: Family,
        plan: &TaskPlan,
        now: Time,
    ) -> Result<(), (&'static str, String)> {
        let (current, gone) = (self.current, self.gone.clone());
        let facts = self
            .now_tasks()
            .get_mut(&status.id)
            .expect("looked up before");
        let same = status.args == facts.sent.args
            && status.kind == facts.sent.kind
            && status.key.as_ref() == facts.key()
            && &*status.scheduler == "sim";
        if !same {
            return Err(("G1", "its status does not say what was handed in".into()));
        }
        match (&facts.outcome, facts.given) {
            (Some(before), _) if *before != status.outcome => {
                return Err((
                    "G1",
                    format!("it ends twice: {before}, then {}", status.outcome),
                ));
            }
            (_, Given::Confirmed | Given::Answered) => {
                return Err(("G1", "its status was confirmed and is given again".into()));
            }
            (_, Given::Nowhere) if status.is_given_again() => {
                return Err(("G1", "its first status says that it is given again".into()));
            }
            (_, Given::With(client)) if !gone.contains(&client) || !status.is_given_again() => {
                return Err((
                    "G1",
                    format!(
                        "its status is given to {to:?} while client {client} has it, or is not marked"
                    ),
                ));
            }
            _ => {}
        }
        let wanted = match (facts.sent.audience, facts.given) {
            (Audience::Caller, Given::Nowhere) => None,
            (Audience::Client(client), _) if !gone.contains(&client.0) => Some(client.0),
            _ => current,
        };
        if wanted != to {
            return Err((
                "G1",
                format!("its status goes to {to:?}, not to {wanted:?}"),
            ));
        }
        facts.given = to.map_or(Given::Answered, Given::With);
        if facts.outcome.is_none() {
            facts.outcome = Some(status.outcome.clone());
            facts.judge_outcome(status, family, plan, now)?;
        }
        Ok(())
    }
}

impl Facts {
    /// Whether an ending is true.
    fn judge_outcome(
        &self,
        status: &TaskStatus,
        family: Family,
        plan: &TaskPlan,
        now: Time,
    ) -> Result<(), (&'static str, String)> {
        let quiet = matches!(family, Family::Calm | Family::Order | Family::Cuts);
        if self.must_be_cancelled && status.outcome != Outcome::Cancelled {
            return Err((
                "G12",
                format!(
                    "a cancel was said to have succeeded, and yet it {}",
                    status.outcome
                ),
            ));
        }
        match &status.outcome {
            Outcome::Completed(bytes) => {
                if !self
                    .completed
                    .iter()
                    .any(|dispatch| output(*dispatch) == *bytes)
                {
                    return Err((
                        "G1",
                        "it is said to have completed with what no run of it returned".into(),
                    ));
                }
                if quiet && status.attempts as usize != self.starts.len() {
                    return Err((
                        "G1",
                        format!(
                            "{} attempts are told, {} were made",
                            status.attempts,
                            self.starts.len()
                        ),
                    ));
                }
            }
            Outcome::Cancelled if self.cancel_asked => {}
            Outcome::Cancelled => {
                return Err(("G12", "it is cancelled, though nobody asked".into()));
            }
            Outcome::Failed(failure) => match failure.cause {
                Cause::Deadline => {
                    let due = plan
                        .deadline
                        .map(|deadline| self.accepted_at + nanos(deadline));
                    if due.is_none_or(|due| now < due) {
                        return Err(("G12", "its deadline has not passed".into()));
                    }
                }
                Cause::NodeLost if !quiet => {
                    if self.starts.is_empty() {
                        return Err(("G7", "it failed for lost nodes and never started".into()));
                    }
                }
                Cause::Permanent if plan.mode == Mode::Permanent => {}
                cause if self.failed_by.contains(&cause) => {}
                cause => {
                    return Err((
                        "G7",
                        format!("it is said to have failed by {cause}, which did not happen"),
                    ));
                }
            },
            other => return Err(("G1", format!("it was accepted, and yet: {other}"))),
        }
        Ok(())
    }
}

impl Cluster {
    fn fail(&mut self, promise: &'static str, task: TaskId, text: String) {
        self.oracle.fail(promise, Some(task), text);
    }

    fn is_settled(&self, task: TaskId) -> bool {
        self.scheduler
            .machine
            .explain(clock(self.now), task)
            .is_none()
    }

    // G1, G2: what is taken in and what is told.

    pub fn serial(&mut self, task: &TaskPlan) -> u64 {
        let low = match task.key {
            // Tasks with one key are to have the same args.
            Some(key) => 1 << 31 | u64::from(key),
            None => self.oracle.next_serial(),
        };
        (self.lives as u64) << 32 | low
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
            }
            Accepted::New(id) => {
                if let Some(key) = &key {
                    self.judge_new_key(id, key);
                }
                let last = self.oracle.now_tasks().keys().next_back().copied();
                if last.is_some_and(|last| last >= id) {
                    self.fail("G1", id, format!("its id does not follow {last:?}"));
                }
                let facts = Facts {
                    plan: index,
                    sent,
                    accepted_at: now,
                    last_start: None,
                    starts: Vec::new(),
                    failed_by: BTreeSet::new(),
                    completed: BTreeSet::new(),
                    cancel_asked: false,
                    must_be_cancelled: false,
                    outcome: None,
                    given: Given::Nowhere,
                };
                self.oracle.now_tasks().insert(id, facts);
                if let Some(deadline) = plan.tasks[index].deadline {
                    let expectation = Expectation::Deadline {
                        life: self.lives,
                        task: id,
                        since: now,
                    };
                    self.after(
                        nanos(deadline) + self.plan.late + 10 * MS,
                        Ev::Expect(Box::new(expectation)),
                    );
                }
            }
        }
    }

    /// A key is free only when no run of its last task can still be going.
    fn judge_new_key(&mut self, id: TaskId, key: &TaskKey) {
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
            let life = self.lives;
            let going = self.procs.iter().any(|proc| {
                proc.runs
                    .values()
                    .any(|run| run.life == life && run.task == task && !run.vouched)
            });
            if going {
                self.fail(
                    "key",
                    id,
                    format!("it takes the key {key} while a run of {task} goes on"),
                );
            }
        }
    }

    pub fn refused(&mut self, refused: &Refused, sent: &Submission, before: &Stats, after: &Stats) {
        let mut after = after.clone();
        after.totals.refused = before.totals.refused;
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
            Refusal::QueueFull { .. } => unsettled >= config.max_tasks,
            Refusal::ClientBehind { .. } => before.unconfirmed_statuses >= config.max_statuses,
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

    // G3, G4, G6, G9, G10: a run starts.

    pub fn judge_start(&mut self, proc: usize, worker: u32, kind: Option<usize>, run: &Run) {
        let it = &self.procs[proc];
        if it.runs.contains_key(&worker) {
            self.fail(
                "G4",
                run.task,
                format!("worker {worker} of {} has a run already", it.name),
            );
            return;
        }
        let most = it.most_workers as usize;
        if it.runs.len() + 1 > most {
            self.fail(
                "G4",
                run.task,
                format!("{} runs more than {most} tasks", it.name),
            );
            return;
        }
        if it.stalled.contains(&worker) {
            self.fail(
                "G7",
                run.task,
                format!("it is started on a blocked thread of {}", it.name),
            );
            return;
        }
        if let Err((promise, text)) = self.judge_run(proc, kind, run) {
            self.fail(promise, run.task, text);
        }
        if self.plan.family == Family::Order {
            self.judge_order(run.task);
        }
        self.judge_overlap(proc, run);
        if let Some(facts) = self.oracle.tasks[run.life].get_mut(&run.task) {
            facts.last_start = facts.last_start.max(Some(run.dispatch));
            facts.starts.push((run.attempt(), proc));
        }
    }

    fn judge_run(
        &self,
        proc: usize,
        kind: Option<usize>,
        run: &Run,
    ) -> Result<(), (&'static str, String)> {
        let it = &self.procs[proc];
        let Some(facts) = self.oracle.tasks[run.life].get(&run.task) else {
            return Err(("G1", "it is started, but was never accepted".into()));
        };
        if serial_of(&facts.sent.args) != run.serial() {
            return Err(("G1", "it is started with the args of another".into()));
        }
        let labels = facts.sent.options.as_ref().map(|options| &options.labels);
        let fits = kind.is_some_and(|kind| facts.sent.kind.as_str() == KINDS[kind].0)
            && labels.is_none_or(|labels| {
                labels
                    .iter()
                    .all(|label| it.labels.contains(&label.as_str()))
            });
        if !fits {
            return Err(("G13", format!("{} has not its kind or labels", it.name)));
        }
        let earlier_here = facts.starts.iter().any(|(_, at)| *at == proc);
        if facts.last_start.is_some_and(|last| {
            run.dispatch == last
                || (run.dispatch < last
                    && (earlier_here || !self.oracle.superseded.contains(&it.epoch)))
        }) {
            return Err((
                "G3",
                format!("{} starts after {:?}", run.dispatch, facts.last_start),
            ));
        }
        let again = facts
            .starts
            .iter()
            .any(|(attempt, _)| *attempt == run.attempt());
        if again
            && matches!(
                self.plan.family,
                Family::Calm | Family::Order | Family::Cuts
            )
        {
            return Err((
                "G9",
                format!("attempt {} is started again at {}", run.attempt(), it.name),
            ));
        }
        Ok(())
    }

    /// With one worker, nothing better may have waited for longer than news travels.
    fn judge_order(&mut self, started: TaskId) {
        let plan = self.plan.clone();
        let slack = 4 * plan.net.max + plan.late + 20 * MS;
        let now = self.now;
        let rank = |facts: &Facts| {
            let task = &plan.tasks[facts.plan];
            (-i16::from(task.priority), facts.due(task))
        };
        let tasks = self.oracle.now_tasks();
        let Some(mine) = tasks.get(&started).map(rank) else {
            return;
        };
        let better = tasks.iter().find(|(id, facts)| {
            let (priority, due) = rank(facts);
            // A retry counts from when it is due again, which is judged no closer than that.
            facts.starts.is_empty()
                && facts.outcome.is_none()
                && !facts.cancel_asked
                && **id != started
                && due + slack < now
                && (priority, due + slack) < (mine.0, mine.1)
        });
        if let Some((id, _)) = better {
            let text =
                format!("it starts before {id}, which goes first and has waited long enough");
            self.fail("G6", started, text);
        }
    }

    /// Two runs of an exclusive task never make progress at once; nor do two tasks with one key.
    fn judge_overlap(&mut self, proc: usize, run: &Run) {
        let key = self.oracle.tasks[run.life]
            .get(&run.task)
            .and_then(|facts| facts.key().cloned());
        let mut broken = None;
        for (other, it) in self.procs.iter_mut().enumerate() {
            let (frozen, name) = (it.frozen, it.name.clone());
            for (worker, rival) in &mut it.runs {
                if rival.life != run.life || rival.vouched {
                    continue;
                }
                if rival.task != run.task {
                    let same = key.is_some()
                        && self.oracle.tasks[rival.life]
                            .get(&rival.task)
                            .and_then(Facts::key)
                            == key.as_ref();
                    if same {
                        broken = Some((
                            "key",
                            format!(
                                "{}{} has the same key and runs on {name}",
                                rival.task, rival.dispatch
                            ),
                        ));
                    }
                    continue;
                }
                if !run.exclusive {
                    continue;
                }
                let still = frozen || it.stalled.contains(worker);
                if still && !rival.blocking {
                    // It must not get further when its process wakes.
                    rival.must_stop = true;
                } else {
                    broken = Some((
                        "G10",
                        format!(
                            "it starts on process {proc} while {} runs on {name} (process {other})",
                            rival.dispatch
                        ),
                    ));
                }
            }
        }
        if let Some((promise, text)) = broken {
            self.fail(promise, run.task, text);
        }
    }

    /// A process has woken and handled what was waiting for it.
    pub fn woke(&mut self, proc: usize) {
        let late = self.procs[proc]
            .runs
            .values()
            .find(|run| run.must_stop && !run.stop_asked && !run.vouched)
            .map(|run| (run.task, run.dispatch));
        if let Some((task, dispatch)) = late {
            self.fail(
                "G10",
                task,
                format!("{dispatch} goes on after its process woke, though another run has begun"),
            );
        }
    }

    pub fn vouch(&mut self, node: usize) {
        for proc in self.procs.iter_mut().filter(|proc| proc.node == node) {
            for run in proc.runs.values_mut() {
                run.vouched = true;
            }
        }
    }

    // G12: cancel.

    pub fn cancel(&mut self, task: TaskId) {
        let ticket = self.oracle.tickets.len() as u64;
        let settled_before = self.is_settled(task);
        self.say(|| format!("# cancel {task}, ticket {ticket}"));
        self.oracle.tickets.push(Ticket {
            life: self.lives,
            task,
            settled_before,
            answered: false,
        });
        if let Some(facts) = self.oracle.now_tasks().get_mut(&task) {
            facts.cancel_asked = true;
        }
        self.scheduler.machine.cancel(clock(self.now), task, ticket);
        let asked = self.now;
        self.after(
            SECOND + self.plan.late + 100 * MS,
            Ev::Expect(Box::new(Expectation::Cancelled { ticket, asked })),
        );
    }

    pub fn cancel_answer(&mut self, ticket: u64, answer: CancelAnswer) {
        self.say(|| format!("cancel {ticket} is answered: {answer:?}"));
        let Some(it) = self
            .oracle
            .tickets
            .get_mut(usize::try_from(ticket).unwrap())
        else {
            self.oracle
                .fail("G12", None, format!("there is no cancel {ticket}"));
            return;
        };
        let (task, life) = (it.task, it.life);
        if std::mem::replace(&mut it.answered, true) || life != self.lives {
            self.fail("G12", task, "its cancel is answered twice".into());
            return;
        }
        let settled_before = it.settled_before;
        let settled = self.is_settled(task);
        let going = self.procs.iter().find(|proc| {
            !self.oracle.superseded.contains(&proc.epoch)
                && proc.runs.values().any(|run| {
                    run.life == life && run.task == task && !run.reported && !run.vouched
                })
        });
        let true_answer = match answer {
            CancelAnswer::NotFound => settled_before,
            CancelAnswer::TooLate => settled && !settled_before,
            CancelAnswer::Stopped | CancelAnswer::NeverStarted => settled && going.is_none(),
            CancelAnswer::StillRunning => !settled_before,
            _ => false,
        };
        if !true_answer {
            let text = format!(
                "its cancel is answered {answer:?}, but it was settled before: {settled_before}, is settled: {settled}, runs on: {:?}",
                going.map(|proc| proc.name.clone()),
            );
            self.fail("G12", task, text);
        }
        let Some(facts) = self.oracle.now_tasks().get_mut(&task) else {
            return;
        };
        let cancelled = matches!(answer, CancelAnswer::Stopped | CancelAnswer::NeverStarted);
        let told = facts.outcome.clone();
        facts.must_be_cancelled |= cancelled;
        let contradiction = match told {
            Some(Outcome::Cancelled) => answer == CancelAnswer::TooLate,
            Some(_) => cancelled,
            None => false,
        };
        if contradiction {
            self.fail(
                "G12",
                task,
                format!("its cancel is answered {answer:?}, but it was told: {told:?}"),
            );
        }
    }

    // G8, G9: what is believed of nodes.

    pub fn note(&mut self, note: Note) {
        self.say(|| format!("S notes {note:?}"));
        match note {
            Note::NodeUp { name, epoch, .. } => {
                self.oracle.superseded.remove(&epoch);
                if let Some(before) = self.oracle.up.insert(name.to_string(), epoch)
                    && before != epoch
                {
                    self.oracle.superseded.insert(before);
                }
            }
            Note::NodeLost { name, reason, .. } => {
                if let Some(epoch) = self.oracle.up.get(&*name) {
                    self.oracle.superseded.insert(*epoch);
                }
                if matches!(
                    self.plan.family,
                    Family::Calm | Family::Order | Family::Cuts
                ) {
                    self.oracle.fail(
                        "G9",
                        None,
                        format!("{name} is lost, though it lives and no cut was long: {reason}"),
                    );
                }
            }
            Note::NodeLeft { name, .. } => {
                if let Some(epoch) = self.oracle.up.get(&*name) {
                    self.oracle.superseded.insert(*epoch);
                }
            }
            _ => {}
        }
    }

    pub fn removed(&mut self, node: usize) {
        let name = self.nodes[node].name.clone();
        self.oracle.removed.insert(node);
        if let Some(epoch) = self.oracle.up.remove(&name) {
            self.oracle.superseded.insert(epoch);
        }
        // Whoever removes what cannot be reached vouches that it is dead.
        let cut = self
            .live_proc(node)
            .is_none_or(|proc| self.procs[proc].frozen || self.newest_link(proc).is_none());
        if cut || !self.is_network_whole() {
            self.vouch(node);
        }
    }

    fn stats(&self) -> Stats {
        self.scheduler.machine.stats(clock(self.now))
    }

    /// When a process that dies now must be known to be lost.
    pub fn loss_expected(&self, proc: usize, death: Death) -> Option<(Expectation, Time)> {
        let it = &self.procs[proc];
        let config = &self.plan.config;
        if !self.scheduler.alive {
            return None;
        }
        let up = self.stats().nodes.iter().any(|node| {
            *node.name == *it.name && node.state == NodeState::Up && node.epoch == Some(it.epoch.0)
        });
        if !up {
            return None;
        }
        let plan = &self.nodes[it.node];
        let told = death == Death::Process && (plan.listens || (plan.joins && plan.probe));
        let span = if told {
            1500 * MS
        } else {
            nanos(config.lease) + 1500 * MS
        };
        let expectation = Expectation::Lost {
            life: self.lives,
            name: it.name.to_string(),
            epoch: it.epoch,
            since: self.now,
        };
        Some((expectation, span))
    }

    pub fn expect(&mut self, expectation: Expectation) {
        match expectation {
            Expectation::Ended => self.ended_in_time(),
            Expectation::Cancelled { ticket, asked } => {
                let it = &self.oracle.tickets[usize::try_from(ticket).unwrap()];
                let excused = it.life != self.lives
                    || self.oracle.scheduler_late_until >= asked
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
            Expectation::Deadline { life, task, since } => {
                let excused = life != self.lives
                    || self.oracle.scheduler_late_until >= since
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
                life,
                name,
                epoch,
                since,
            } => {
                let excused = life != self.lives
                    || !self.scheduler.alive
                    || self.oracle.is_disturbed(since, self.now);
                if excused {
                    return;
                }
                let believed = self.stats().nodes.into_iter().find(|node| {
                    *node.name == *name
                        && node.epoch == Some(epoch.0)
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

    // The end, and the quiet moments before it.

    fn ended_in_time(&mut self) {
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

    /// Tasks of this life whose one status nobody has handled yet.
    fn unconfirmed(&mut self) -> Vec<TaskId> {
        self.oracle
            .now_tasks()
            .iter()
            .filter(|(_, facts)| !matches!(facts.given, Given::Confirmed | Given::Answered))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Looks at the cluster now and then.
    pub fn look(&mut self) {
        let pause = 400 * MS + self.rng.u64(..100 * MS);
        self.after(pause, Ev::Look);
        if !self.scheduler.alive || self.scheduler.frozen || self.scheduler.dirty {
            return;
        }
        if self.in_flight == 0 && self.is_at_rest() {
            self.judge_idle_workers();
        }
        if self.quiet
            && self.scheduler.machine.is_idle()
            && self.unconfirmed().is_empty()
            && self.no_run()
        {
            self.judge_end();
            self.finished = true;
        }
    }

    fn no_run(&self) -> bool {
        self.procs.iter().all(|proc| proc.runs.is_empty())
    }

    /// Whether nothing is under way that could excuse an idle worker.
    fn is_at_rest(&self) -> bool {
        let now = clock(self.now);
        self.is_network_whole()
            && self
                .scheduler
                .machine
                .next_wakeup()
                .is_none_or(|at| at > now)
            && self
                .procs
                .iter()
                .all(|proc| !proc.alive || (!proc.frozen && !proc.dirty && proc.stalled.is_empty()))
    }

    /// G5: no idle worker while a task that may run there is due.
    fn judge_idle_workers(&mut self) {
        if self.nodes.iter().any(|node| node.kept < 1 << 20) {
            return;
        }
        let stats = self.stats();
        let free: Vec<&Proc> = self
            .procs
            .iter()
            .filter(|proc| proc.alive && has_room(proc, &stats.nodes))
            .collect();
        if free.is_empty() {
            return;
        }
        let mut broken = None;
        for task in self.scheduler.machine.unfinished() {
            if task.state != TaskState::Pending {
                continue;
            }
            let Some(why) = self.scheduler.machine.explain(clock(self.now), task.id) else {
                continue;
            };
            let excused = match why.reason {
                Reason::NotDue { .. }
                | Reason::Backoff { .. }
                | Reason::Suspect
                | Reason::Exclusive { .. } => true,
                Reason::ClientBehind => stats.unconfirmed_statuses >= self.plan.config.max_statuses,
                _ => false,
            };
            let Some(facts) = self
                .oracle
                .tasks
                .last()
                .and_then(|tasks| tasks.get(&task.id))
            else {
                continue;
            };
            let plan = &self.plan.tasks[facts.plan];
            let fits = free.iter().find(|proc| {
                proc.kinds.contains(&plan.kind)
                    && plan.labels.iter().all(|label| proc.labels.contains(label))
            });
            if let (false, Some(proc)) = (excused, fits) {
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
        if let Some((task, text)) = broken {
            self.fail("G5", task, text);
        }
    }

    fn judge_end(&mut self) {
        let stats = self.stats();
        let counted =
            stats.pending + stats.due_later + stats.waiting_retries + stats.held + stats.running;
        let accepted = self.oracle.now_tasks().len() as u64;
        if counted != 0 || stats.unconfirmed_statuses != 0 || stats.args_bytes != 0 {
            self.oracle.fail(
                "G1",
                None,
                format!("all has ended, and yet the stats count something: {stats:?}"),
            );
        }
        if stats.totals.executed != accepted || stats.totals.settled() != accepted {
            self.oracle.fail(
                "G1",
                None,
                format!(
                    "{accepted} tasks were accepted and have ended, but the totals are {:?}",
                    stats.totals
                ),
            );
        }
        if matches!(
            self.plan.family,
            Family::Calm | Family::Order | Family::Cuts
        ) && stats.totals.violations != 0
        {
            self.oracle.fail(
                "G11",
                None,
                "an honest node is said to have broken the protocol".into(),
            );
        }
        self.finish_check();
    }

    fn finish_check(&mut self) {
        if let Err(broken) = self.scheduler.machine.check() {
            self.oracle
                .fail("check", None, format!("the scheduler's machine: {broken}"));
        }
    }

    /// G1: what no client took is handed back.
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
        let left: Leftovers = self.scheduler.machine.shut_down(clock(self.now));
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

    /// An answer that nobody claimed and of which the scheduler may not know yet.
    fn is_answer_under_way(&self, task: TaskId) -> bool {
        self.oracle
            .tasks
            .last()
            .and_then(|tasks| tasks.get(&task))
            .is_some_and(|facts| facts.given == Given::Unclaimed)
    }
}

impl Facts {
    fn due(&self, task: &TaskPlan) -> Time {
        self.accepted_at + task.delay.map_or(0, nanos)
    }
}

/// Whether a node that is up, and free to take work, has a free worker in truth.
fn has_room(proc: &Proc, nodes: &[NodeStats]) -> bool {
    nodes.iter().any(|node| {
        *node.name == *proc.name
            && node.state == NodeState::Up
            && node.epoch == Some(proc.epoch.0)
            && (proc.runs.len() as u32) < node.workers
    })
}
