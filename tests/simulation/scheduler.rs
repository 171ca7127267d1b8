//! The scheduler's process: its machine, its clock, its sleeps and its deaths.
//!
//! Owns: how its machine is driven. Does not know: the order of events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use callboard::__internals::engine::message::ToNode;
use callboard::__internals::engine::scheduler::SchedulerMachine;
use callboard::__internals::engine::{
    Action, Audience, ClientId, Event, Incarnation, NodeId, Reach, SchedulerId, Submission,
    Timestamp,
};
use callboard::__internals::testing::{Checks, DrivenScheduler};
use callboard::retry::RetryPolicy;
use callboard::stats::NodeState;
use callboard::task::TaskId;

use crate::brief;
use crate::cluster::{Cluster, Ev};
use crate::log::SimLog;
use crate::network::{DOWN, Dial, Dialler, Item};
use crate::oracle::Holder;
use crate::plan::{AudiencePlan, KINDS, MS, Plan, SECOND, TaskPlan, Time, nanos};

/// What the scheduler's process handles.
pub enum SchedulerIn {
    Event(Event),
    Submit(usize),
    Cancel(TaskId),
    Attach(TaskId),
    AddNode(usize),
    RemoveNode(usize),
    DeclareDead(usize),
    DrainNode(usize),
    SetWorkers(Option<usize>, u32),
    SetRetry(RetryPolicy),
    Pause(Option<usize>, bool),
    Intake(usize, bool),
    /// The limit of a kind by the fault of this index, or none.
    Limit(usize, Option<usize>),
    /// Who is told of what has no client of its own.
    SetCurrent(Holder),
    Drain,
    FinishRunning,
}

pub struct Scheduler {
    pub machine: DrivenScheduler,
    /// Where it writes to, if it has a store.
    pub log: Option<SimLog>,
    pub alive: bool,
    pub frozen: bool,
    pub frozen_at: Time,
    /// When it woke last.
    pub woke_at: Option<Time>,
    /// What has arrived and was not read.
    pub inbox: VecDeque<SchedulerIn>,
    pub dirty: bool,
    pub draining: bool,
    /// Whether it finishes what runs, and starts nothing more.
    pub finishing: bool,
    pub tick_at: Option<Timestamp>,
    pub generation: u64,
    /// The names of its nodes by number.
    pub names: BTreeMap<NodeId, Arc<str>>,
}

impl Scheduler {
    /// Starts a term of a life; with a store on what is found there.
    pub fn start(
        (term, life): (usize, usize),
        mut log: Option<SimLog>,
        plan: &Plan,
        now: Time,
        wall: Timestamp,
    ) -> Self {
        let id = SchedulerId(500 + if log.is_some() { term } else { life } as u64);
        let config = plan.config.clone();
        let (at, name) = (clock(now), "sim".into());
        let machine = match &mut log {
            None => SchedulerMachine::new(name, id, config, at),
            Some(log) => {
                let found = log.found().expect("what is stored can be read");
                SchedulerMachine::recover(name, config, found, log.claim(id), wall, at)
                    .expect("what was stored fits the same settings")
            }
        };
        let machine = match plan.max_gone {
            Some(most) => machine.remembering_gone(most),
            None => machine,
        };
        Self {
            machine: DrivenScheduler::new(machine, Checks::Never),
            log,
            alive: true,
            frozen: false,
            frozen_at: 0,
            woke_at: None,
            inbox: VecDeque::new(),
            dirty: false,
            draining: false,
            finishing: false,
            tick_at: None,
            generation: 0,
            names: BTreeMap::new(),
        }
    }
}

/// What it shows when a history begins: later than the day from which numbers are counted, so that
/// those of each start follow it.
const START: Time = 1_800_000_000 * SECOND;

/// Returns the scheduler's clock.
pub fn clock(now: Time) -> Timestamp {
    Timestamp(START + now)
}

pub fn submission(task: &TaskPlan, serial: u64, audience: Audience) -> Submission {
    let mut options = callboard::task::Options::default();
    options.priority = callboard::task::Priority(task.priority);
    if let Some(delay) = task.delay {
        options.due = callboard::task::Due::After(delay);
    }
    options.timeout = task.timeout;
    options.deadline = task.deadline;
    options.retry = task.retry;
    options.labels = task.labels.iter().cloned().collect();
    options.exclusive = task.exclusive;
    options.max_reroutes = task.max_reroutes;
    options.key = task.key.map(|key| format!("key{key}").into());
    options.group = task.group.map(|group| format!("group{group}").into());
    options.trace = task.trace();
    let plain = options == callboard::task::Options::default();
    Submission {
        kind: KINDS[task.kind].0.into(),
        args: crate::args::encode(task, serial),
        options: (!plain).then(|| Box::new(options)),
        audience,
        watcher: task.watched.then_some(ClientId(0)),
    }
}

impl Cluster {
    pub fn tell_scheduler(&mut self, event: Event) {
        self.command(SchedulerIn::Event(event));
    }

    /// Hands something to the scheduler's process, which handles it at once unless it is frozen.
    pub fn command(&mut self, command: SchedulerIn) {
        if !self.scheduler.alive {
            return;
        }
        if self.scheduler.frozen {
            self.scheduler.inbox.push_back(command);
            return;
        }
        self.scheduler_handles(command);
        if self.rng.u32(..8) == 0 {
            let pause = self.rng.u64(..2 * MS);
            let term = self.term;
            self.after(pause, Ev::FlushScheduler { term });
        } else {
            self.flush_scheduler();
        }
    }

    pub fn scheduler_handles(&mut self, command: SchedulerIn) {
        let now = clock(self.now);
        self.scheduler.dirty = true;
        self.oracle.wakeups.effect();
        match command {
            SchedulerIn::Event(event) => {
                self.say_event(&event);
                if let Event::ClientGone { .. } = &event {
                    self.note_holders();
                }
                self.hears_of_log(&event);
                let behind = self.client_is_behind();
                self.oracle.on_scheduler_event(self.now, &event, behind);
                if let Event::Message { link, .. } = &event {
                    self.hear_of_node(*link);
                }
                self.judge_refusals(&event);
                self.scheduler.machine.handle(now, event);
            }
            SchedulerIn::Submit(index) => self.submit(index),
            SchedulerIn::Cancel(task) => self.cancel(task),
            SchedulerIn::Attach(task) => self.attach(task),
            SchedulerIn::AddNode(node) => self.add_node(node),
            SchedulerIn::RemoveNode(node) => self.remove_node(node),
            SchedulerIn::DeclareDead(node) => self.declare_dead(node),
            SchedulerIn::DrainNode(node) => {
                self.oracle.drained();
                let name = self.nodes[node].name.clone();
                self.say(|| format!("# drain_node {name}"));
                let _ = self.scheduler.machine.drain_node(now, &name);
            }
            SchedulerIn::SetWorkers(node, workers) => {
                let name = node.map(|node| self.nodes[node].name.clone());
                self.say(|| format!("# set_workers {name:?} {workers}"));
                let _ = self
                    .scheduler
                    .machine
                    .set_workers(now, name.as_deref(), workers);
            }
            SchedulerIn::Pause(kind, paused) => self.pause(kind, paused),
            SchedulerIn::Limit(kind, fault) => self.limit(kind, fault),
            SchedulerIn::Intake(kind, open) => self.set_intake(kind, open),
            SchedulerIn::SetRetry(retry) => self.scheduler.machine.set_retry(now, retry),
            SchedulerIn::SetCurrent(current) => self.set_current(current),
            SchedulerIn::Drain => {
                self.scheduler.draining = true;
                self.scheduler.machine.drain(now);
            }
            SchedulerIn::FinishRunning => {
                self.say(|| "# finish_running".to_owned());
                self.scheduler.draining = true;
                self.scheduler.finishing = true;
                self.scheduler.machine.finish_running(now);
            }
        }
    }

    pub fn say_event(&mut self, event: &Event) {
        let links = &self.links;
        let procs = &self.procs;
        self.trace.line(self.now, || match event {
            Event::Message { link, message } => {
                let proc = links[usize::try_from(link.0).unwrap() - 1].proc;
                format!(
                    "S <- {} {link} {}",
                    procs[proc].name,
                    brief::to_scheduler(message)
                )
            }
            other => format!("S ! {other:?}"),
        });
    }

    pub fn tick_scheduler(&mut self) {
        let before = self.counts();
        self.flush_scheduler();
        let wakeup = self.scheduler.machine.next_wakeup();
        if self.scheduler.alive && wakeup.is_some_and(|at| at <= clock(self.now)) {
            self.oracle.fail(
                "contract",
                None,
                format!(
                    "a tick leaves the scheduler's wakeup at {wakeup:?}, which is past: a busy loop"
                ),
            );
        }
        if self.scheduler.alive {
            self.judge_tick(before);
        }
    }

    pub fn flush_scheduler(&mut self) {
        self.turn_scheduler();
        // What is stored at once, and what comes of that, belongs to the same moment.
        while self.keep() || self.scheduler.dirty {
            self.turn_scheduler();
        }
        self.judge_waiting();
        self.judge_gone();
        self.arm_scheduler();
    }

    fn turn_scheduler(&mut self) {
        self.scheduler.dirty = false;
        let behind = self.client_is_behind();
        self.note_whether_behind(behind);
        self.scheduler.machine.turn(clock(self.now));
        while let Some(action) = self.scheduler.machine.next_action() {
            self.oracle.wakeups.effect();
            self.placed_nothing(&action);
            self.trace.mix(std::mem::discriminant(&action));
            self.perform(action);
        }
    }

    pub fn arm_scheduler(&mut self) {
        let wakeup = self.scheduler.machine.next_wakeup();
        if wakeup == self.scheduler.tick_at {
            return;
        }
        self.scheduler.tick_at = wakeup;
        self.scheduler.generation += 1;
        if let Some(at) = wakeup {
            let late = match self.plan.is_always_late() {
                true => self.plan.late,
                false => self.lateness(),
            };
            let at = at.0.saturating_sub(clock(0).0).max(self.now) + late;
            let generation = self.scheduler.generation;
            self.at(at, Ev::TickScheduler { generation });
        }
    }

    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Send { link, message } => {
                let link = self.link_index(link);
                if self.trace.keeps_lines() {
                    let (id, name) = (
                        self.links[link].id,
                        self.procs[self.links[link].proc].name.clone(),
                    );
                    self.say(|| format!("S -> {name} {id} {}", brief::to_node(&message)));
                }
                if matches!(message, ToNode::Welcome(_) | ToNode::Answer(_)) {
                    let proc = self.links[link].proc;
                    let (now, lease) = (self.now, nanos(self.plan.config.lease));
                    self.procs[proc].answered(now, lease);
                }
                if let ToNode::Assign(assignments) = &message {
                    // With a store, what was placed before is sent when that is stored.
                    if self.scheduler.finishing && self.plan.store.is_none() {
                        let text = "it starts something, though it only finishes what runs";
                        self.fail("finish", assignments[0].task, text.to_owned());
                    }
                    self.judge_paused(assignments);
                    self.judge_limits(assignments);
                    self.judge_traces(assignments);
                    self.judge_turns(assignments);
                    let name = &self.procs[self.links[link].proc].name;
                    self.oracle.placed(self.now, name, assignments);
                }
                self.send(link, DOWN, Item::ToNode(message));
            }
            Action::Close { link, reason } => {
                self.say(|| format!("S closes {link}: {reason}"));
                self.oracle.closed.insert(link);
                self.close(self.link_index(link), DOWN, reason);
            }
            Action::Dial { node, address, .. } => {
                self.say(|| format!("S dials {node} at {address}"));
                self.judge_dial(node, &address);
                self.start_dial(Dialler::Scheduler(node), address, None);
            }
            Action::Probe {
                node,
                incarnation,
                address,
            } => {
                self.say(|| format!("S probes {node} {incarnation} at {address}"));
                self.start_dial(Dialler::Scheduler(node), address, Some(incarnation));
            }
            Action::Deliver {
                client,
                delivery,
                statuses,
            } => self.deliver_statuses(client, delivery, statuses),
            Action::LetGo { client } => self.let_go(client),
            Action::Answer { status, alone } => self.answer(status, alone),
            Action::CancelAnswer { ticket, answer } => self.cancel_answer(ticket, answer),
            Action::Notify { event, .. } => {
                self.say(|| format!("watcher: {event:?}"));
                self.judge_event(&event);
            }
            Action::TakenBack { refused } => self.taken_back(refused),
            Action::Note(note) => self.note(*note),
        }
    }

    pub fn start_dial(&mut self, dialler: Dialler, address: String, probe: Option<Incarnation>) {
        let dial = Dial {
            dialler,
            proc: 0,
            term: self.term,
            address,
            until: self.now + self.plan.net.dial_timeout,
            probe,
        };
        self.dial(dial);
    }

    pub fn submit(&mut self, index: usize) {
        let plan = self.plan.clone();
        let task = &plan.tasks[index];
        let audience = match task.audience {
            AudiencePlan::Current => Audience::Current,
            AudiencePlan::Own => Audience::Client(ClientId(self.add_client())),
            AudiencePlan::Caller => Audience::Caller,
        };
        let serial = self.serial(task);
        let submission = submission(task, serial, audience);
        let before = self.scheduler.machine.stats(clock(self.now));
        let sent = submission.clone();
        match self.scheduler.machine.submit(clock(self.now), submission) {
            Ok(accepted) => {
                self.say(|| format!("# submit {index} -> {accepted:?} {task:?}"));
                self.accepted(accepted, index, sent);
                if let Some(after) = task.cancel_after {
                    let (life, task) = (self.life, accepted.id());
                    self.after(after, Ev::Cancel { life, task });
                }
                if let Some(after) = task.attach_after {
                    let (life, task) = (self.life, accepted.id());
                    self.after(after, Ev::Attach { life, task });
                }
            }
            Err(refused) => {
                self.say(|| format!("# submit {index} refused: {}", refused.refusal));
                let after = self.scheduler.machine.stats(clock(self.now));
                self.refused(&refused, &sent, &before, &after);
            }
        }
    }

    pub fn add_node(&mut self, node: usize) {
        let plan = &self.nodes[node];
        if !plan.listens && !plan.local {
            return;
        }
        let name: Arc<str> = plan.name.as_str().into();
        let reach = if plan.local {
            Reach::Local
        } else {
            Reach::Dial(plan.name.clone())
        };
        let local = plan.local;
        let added = self
            .scheduler
            .machine
            .add_node(clock(self.now), name.clone(), reach);
        self.say(|| format!("# add_node {name} -> {added:?}"));
        let Ok(id) = added else {
            self.add_again_later(node);
            return;
        };
        self.oracle.added(id);
        self.added_again(node);
        self.scheduler.names.insert(id, name);
        if local {
            let proc = self.spawn(node, node, true, false);
            self.connect_local(proc, id);
        }
    }

    /// Lets the operator try again to add a node: the name of one that was removed is taken until
    /// its process has ended.
    fn add_again_later(&mut self, node: usize) {
        let name = &self.nodes[node].name;
        let there = self.stats().nodes.iter().any(|it| *it.name == **name);
        if !there && !self.quiet {
            self.after(SECOND, Ev::AddNode { node });
        }
    }

    pub fn declare_dead(&mut self, node: usize) {
        let name = self.nodes[node].name.clone();
        let stats = self.stats();
        let up = stats.nodes.iter().find(|it| *it.name == *name);
        let up = up.filter(|it| it.state == NodeState::Up);
        let up = up.and_then(|it| it.incarnation);
        for proc in self.procs.iter_mut().filter(|proc| proc.node == node) {
            if Some(proc.incarnation.0) != up {
                proc.runs.values_mut().for_each(|run| run.vouched = true);
            }
        }
        let declared = self.scheduler.machine.declare_dead(clock(self.now), &name);
        self.say(|| format!("# declare_dead {name} -> {declared:?}"));
    }

    pub fn remove_node(&mut self, node: usize) {
        let name = self.nodes[node].name.clone();
        let removed = self.scheduler.machine.remove_node(clock(self.now), &name);
        let leaving = self.scheduler.machine.remains().leaving;
        self.oracle.most_leaving = self.oracle.most_leaving.max(leaving);
        self.say(|| format!("# remove_node {name} -> {removed:?}"));
        if removed.is_ok() {
            self.removed(node);
        }
    }
}
