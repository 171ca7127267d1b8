//! The whole cluster in one thread: the virtual clock, the heap of what is to come, and the processes.
//!
//! Owns: the order of events and which process handles them when. Does not know: what must hold (see
//! `oracle`) or what goes wrong when (see `plan` and `faults`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use callboard::config::NodeConfig;
use callboard::engine::message::KindOffer;
use callboard::engine::node::{NodeAction, NodeEvent, NodeMachine, NodeSpec};
use callboard::engine::scheduler::SchedulerMachine;
use callboard::engine::{
    Action, Audience, ClientId, Epoch, Event, Life, NodeId, Reach, Submission, Timestamp,
};
use callboard::retry::RetryPolicy;
use callboard::task::{Dispatch, TaskId};

use crate::brief;
use crate::clients::Client;
use crate::network::{DOWN, Dial, Dialler, Host, Item, Link, UP};
use crate::oracle::{Expectation, Oracle};
use crate::plan::{
    AudiencePlan, Family, Fault, KINDS, MS, NodePlan, Plan, SECOND, TaskPlan, Time, nanos,
};
use crate::trace::Trace;
use crate::workers::{How, Run};

/// Where nodes that join dial to.
pub const SCHEDULER: &str = "scheduler";

/// What happens at a moment.
pub enum Ev {
    TickScheduler {
        generation: u64,
    },
    TickNode {
        proc: usize,
        generation: u64,
    },
    FlushScheduler {
        life: usize,
    },
    FlushNode {
        proc: usize,
    },
    Deliver {
        link: usize,
        direction: usize,
    },
    Closed {
        link: usize,
        end: usize,
        reason: &'static str,
    },
    Opens {
        link: usize,
        end: usize,
    },
    Dialling(Box<Dial>),
    DialEnds {
        dial: Box<Dial>,
        refused: bool,
    },
    Heal {
        hosts: bool,
    },
    RunEnds {
        proc: usize,
        worker: u32,
        dispatch: Dispatch,
        how: How,
    },
    ClientHandles {
        client: u64,
    },
    Submit(usize),
    Cancel {
        life: usize,
        task: TaskId,
    },
    Fault(usize),
    Boot {
        node: usize,
    },
    AddNode {
        node: usize,
    },
    RemoveNode {
        node: usize,
    },
    RestartScheduler,
    ThawScheduler,
    ThawNode {
        proc: usize,
    },
    NewClient {
        life: usize,
    },
    ToScheduler {
        life: usize,
        event: Box<Event>,
    },
    Resumed {
        proc: usize,
        workers: Vec<u32>,
    },
    Look,
    Expect(Box<Expectation>),
    Quiet,
}

/// An event and its moment; of two at one moment the first scheduled comes first.
struct Coming {
    at: Time,
    number: u64,
    event: Ev,
}

impl Ord for Coming {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Coming {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Coming {}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By its own will; what it wrote is sent.
    Exit,
    /// Killed; its machine closes its connections.
    Process,
    /// With its machine; nobody is told.
    Machine,
}

/// What a process of a node handles.
pub enum NodeIn {
    Event(NodeEvent),
    Run {
        worker: u32,
        dispatch: Dispatch,
        how: How,
    },
}

/// What the scheduler's process handles.
pub enum SchedulerIn {
    Event(Event),
    Submit(usize),
    Cancel(TaskId),
    AddNode(usize),
    RemoveNode(usize),
    DrainNode(usize),
    SetWorkers(Option<usize>, u32),
    SetRetry(RetryPolicy),
    SetClient(Option<ClientId>),
    Drain,
}

pub struct Proc {
    pub node: usize,
    pub host: usize,
    pub name: Arc<str>,
    pub epoch: Epoch,
    pub machine: NodeMachine,
    pub alive: bool,
    pub frozen: bool,
    pub local: bool,
    pub kinds: Vec<usize>,
    pub labels: Vec<&'static str>,
    pub runs: BTreeMap<u32, Run>,
    /// The largest number of workers that it was ever allowed.
    pub most_workers: u32,
    /// Whether anything was ever said of its number of workers after its start.
    pub workers_changed: bool,
    pub stalled: Vec<u32>,
    pub inbox: Vec<NodeIn>,
    pub dirty: bool,
    tick_at: Option<Timestamp>,
    generation: u64,
    offset: Time,
    drift_ppm: i64,
}

impl Proc {
    pub fn clock(&self, now: Time) -> Timestamp {
        node_clock(now, self.offset, self.drift_ppm)
    }

    /// The first moment at which its clock says `at` or later.
    fn true_time(&self, at: Timestamp) -> Time {
        let ahead = i128::from(at.0) - i128::from(self.offset);
        let guess = ahead * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)) - 2;
        let mut time = u64::try_from(guess.max(0)).unwrap_or(u64::MAX);
        while time < u64::MAX - 10 && self.clock(time) < at {
            time += 1;
        }
        time
    }
}

pub struct Scheduler {
    pub machine: SchedulerMachine,
    pub alive: bool,
    pub frozen: bool,
    pub inbox: Vec<SchedulerIn>,
    pub dirty: bool,
    pub draining: bool,
    tick_at: Option<Timestamp>,
    generation: u64,
    /// The names of its nodes by number.
    pub names: BTreeMap<NodeId, Arc<str>>,
}

pub struct Cluster {
    pub plan: Arc<Plan>,
    pub rng: fastrand::Rng,
    pub now: Time,
    pub quiet: bool,
    heap: BinaryHeap<Coming>,
    next_event: u64,
    pub steps: u64,
    pub lives: usize,
    pub scheduler: Scheduler,
    pub nodes: Vec<NodePlan>,
    pub procs: Vec<Proc>,
    pub hosts: Vec<Host>,
    pub links: Vec<Link>,
    pub in_flight: usize,
    pub listeners: BTreeMap<String, usize>,
    pub clients: BTreeMap<u64, Client>,
    pub current_client: Option<u64>,
    pub oracle: Oracle,
    pub trace: Trace,
    check_every: u64,
    actions: Vec<Action>,
    node_actions: Vec<NodeAction>,
    pub finished: bool,
}

/// The scheduler's clock.
pub fn clock(now: Time) -> Timestamp {
    Timestamp(1_700_000_000 * SECOND + now)
}

fn node_clock(now: Time, offset: Time, drift_ppm: i64) -> Timestamp {
    let drift = i128::from(now) * i128::from(drift_ppm) / 1_000_000;
    Timestamp(u64::try_from(i128::from(offset) + i128::from(now) + drift).unwrap())
}

impl Cluster {
    pub fn new(seed: u64, plan: Arc<Plan>, keep_lines: bool) -> Self {
        let mut nodes = plan.nodes.clone();
        nodes.push(rescue());
        let mut cluster = Self {
            rng: fastrand::Rng::with_seed(seed),
            now: 0,
            quiet: false,
            heap: BinaryHeap::new(),
            next_event: 0,
            steps: 0,
            lives: 0,
            scheduler: Scheduler::start(0, &plan, 0),
            hosts: vec![Host::default(); nodes.len()],
            nodes,
            procs: Vec::new(),
            links: Vec::new(),
            in_flight: 0,
            listeners: BTreeMap::new(),
            clients: BTreeMap::new(),
            current_client: None,
            oracle: Oracle::new(seed),
            trace: Trace::new(keep_lines),
            check_every: if seed.is_multiple_of(16) { 1 } else { 64 },
            actions: Vec::new(),
            node_actions: Vec::new(),
            finished: false,
            plan,
        };
        cluster.begin();
        cluster
    }

    fn begin(&mut self) {
        let plan = self.plan.clone();
        self.new_client();
        for node in 0..plan.nodes.len() {
            let from = plan.nodes[node].from;
            self.at(from, Ev::Boot { node });
            let lead = self.rng.u64(..SECOND);
            self.at(from.saturating_sub(lead) + 1, Ev::AddNode { node });
        }
        for (index, task) in plan.tasks.iter().enumerate() {
            self.at(task.at, Ev::Submit(index));
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            self.at(*at, Ev::Fault(index));
        }
        self.at(plan.quiet_from, Ev::Quiet);
        self.at(SECOND, Ev::Look);
    }

    pub fn at(&mut self, at: Time, event: Ev) {
        self.next_event += 1;
        let number = self.next_event;
        self.heap.push(Coming { at, number, event });
    }

    pub fn after(&mut self, span: Time, event: Ev) {
        self.at(self.now + span, event);
    }

    pub fn life(&self) -> usize {
        self.lives
    }

    pub fn is_scheduler_alive(&self) -> bool {
        self.scheduler.alive
    }

    pub fn is_scheduler_frozen(&self) -> bool {
        self.scheduler.frozen
    }

    pub fn is_frozen(&self, proc: usize) -> bool {
        self.procs[proc].frozen
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(&mut self) {
        while let Some(Coming { at, number, event }) = self.heap.pop() {
            self.now = at;
            self.steps += 1;
            self.oracle.step = self.steps;
            self.trace.mix((at, number));
            self.happen(event);
            if self.oracle.broken.is_some() || self.finished {
                return;
            }
            if self.steps.is_multiple_of(self.check_every) {
                self.check_machines();
            }
            if self.steps > 400_000 {
                self.oracle.fail(
                    "contract",
                    None,
                    "the history does not end: 400,000 events".into(),
                );
                return;
            }
        }
        self.oracle.fail(
            "contract",
            None,
            "nothing is left to happen, and yet it has not ended".into(),
        );
    }

    fn check_machines(&mut self) {
        let it = &self.scheduler;
        if it.alive
            && !it.frozen
            && !it.dirty
            && let Err(broken) = it.machine.check()
        {
            self.oracle
                .fail("check", None, format!("the scheduler's machine: {broken}"));
        }
        for it in &self.procs {
            if it.alive
                && !it.frozen
                && !it.dirty
                && let Err(broken) = it.machine.check()
            {
                self.oracle.fail(
                    "check",
                    None,
                    format!("the machine of {}: {broken}", it.name),
                );
            }
        }
    }

    fn happen(&mut self, event: Ev) {
        match event {
            Ev::TickScheduler { generation } => {
                if generation == self.scheduler.generation && !self.scheduler.frozen {
                    self.scheduler.tick_at = None;
                    self.tick_scheduler();
                }
            }
            Ev::TickNode { proc, generation } => {
                let it = &mut self.procs[proc];
                if it.alive && generation == it.generation && !it.frozen {
                    it.tick_at = None;
                    self.tick_node(proc);
                }
            }
            Ev::FlushScheduler { life } => {
                if life == self.lives && !self.scheduler.frozen && self.scheduler.dirty {
                    self.flush_scheduler();
                }
            }
            Ev::FlushNode { proc } => {
                if self.procs[proc].alive && !self.procs[proc].frozen && self.procs[proc].dirty {
                    self.flush_node(proc);
                }
            }
            Ev::Deliver { link, direction } => self.deliver(link, direction),
            Ev::Closed { link, end, reason } => self.closed(link, end, reason),
            Ev::Opens { link, end } => self.opens(link, end),
            Ev::Dialling(dial) => self.dialling(*dial),
            Ev::DialEnds { dial, refused } => self.dial_ends(*dial, refused),
            Ev::Heal { hosts } => self.heal(hosts),
            Ev::RunEnds {
                proc,
                worker,
                dispatch,
                how,
            } => {
                self.tell_node(
                    proc,
                    NodeIn::Run {
                        worker,
                        dispatch,
                        how,
                    },
                );
            }
            Ev::ClientHandles { client } => self.client_handles(client),
            Ev::Submit(index) => {
                if !self.quiet {
                    self.command(SchedulerIn::Submit(index));
                }
            }
            Ev::Cancel { life, task } => {
                if life == self.lives {
                    self.command(SchedulerIn::Cancel(task));
                }
            }
            Ev::Fault(index) => self.fault(index),
            Ev::Boot { node } => self.boot(node),
            Ev::AddNode { node } => self.command(SchedulerIn::AddNode(node)),
            Ev::RemoveNode { node } => self.command(SchedulerIn::RemoveNode(node)),
            Ev::RestartScheduler => self.restart_scheduler(),
            Ev::ThawScheduler => self.thaw_scheduler(),
            Ev::ThawNode { proc } => self.thaw_node(proc),
            Ev::NewClient { life } => {
                if life == self.lives && self.current_client.is_none() {
                    self.new_client();
                }
            }
            Ev::ToScheduler { life, event } => {
                if life == self.lives {
                    self.tell_scheduler(*event);
                }
            }
            Ev::Resumed { proc, workers } => self.resumed(proc, workers),
            Ev::Look => self.look(),
            Ev::Expect(expectation) => self.expect(*expectation),
            Ev::Quiet => self.begin_quiet(),
        }
    }

    // The scheduler's process.

    pub fn tell_scheduler(&mut self, event: Event) {
        self.command(SchedulerIn::Event(event));
    }

    /// Hands something to the scheduler's process, which handles it at once unless it is frozen.
    pub fn command(&mut self, command: SchedulerIn) {
        if !self.scheduler.alive {
            return;
        }
        if self.scheduler.frozen {
            self.scheduler.inbox.push(command);
            return;
        }
        self.scheduler_handles(command);
        if self.rng.u32(..8) == 0 {
            let pause = self.rng.u64(..2 * MS);
            let life = self.lives;
            self.after(pause, Ev::FlushScheduler { life });
        } else {
            self.flush_scheduler();
        }
    }

    fn scheduler_handles(&mut self, command: SchedulerIn) {
        let now = clock(self.now);
        self.scheduler.dirty = true;
        match command {
            SchedulerIn::Event(event) => {
                self.say_event(&event);
                self.oracle.on_scheduler_event(&event);
                self.scheduler.machine.handle(now, event);
            }
            SchedulerIn::Submit(index) => self.submit(index),
            SchedulerIn::Cancel(task) => self.cancel(task),
            SchedulerIn::AddNode(node) => self.add_node(node),
            SchedulerIn::RemoveNode(node) => self.remove_node(node),
            SchedulerIn::DrainNode(node) => {
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
                for proc in &mut self.procs {
                    if node.is_none_or(|node| proc.node == node) {
                        proc.workers_changed = true;
                    }
                }
                self.oracle.most_workers_set = self.oracle.most_workers_set.max(workers);
            }
            SchedulerIn::SetRetry(retry) => self.scheduler.machine.set_retry(now, retry),
            SchedulerIn::SetClient(client) => {
                self.oracle.on_set_client(client);
                self.scheduler.machine.set_client(now, client);
            }
            SchedulerIn::Drain => {
                self.scheduler.draining = true;
                self.scheduler.machine.drain(now);
            }
        }
    }

    fn say_event(&mut self, event: &Event) {
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

    fn tick_scheduler(&mut self) {
        self.scheduler.machine.handle(clock(self.now), Event::Tick);
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
    }

    pub fn flush_scheduler(&mut self) {
        self.scheduler.dirty = false;
        let mut actions = std::mem::take(&mut self.actions);
        self.scheduler
            .machine
            .take_effects(clock(self.now), &mut actions);
        for action in actions.drain(..) {
            self.trace.mix(std::mem::discriminant(&action));
            self.perform(action);
        }
        self.actions = actions;
        self.arm_scheduler();
    }

    fn arm_scheduler(&mut self) {
        let wakeup = self.scheduler.machine.next_wakeup();
        if wakeup == self.scheduler.tick_at {
            return;
        }
        self.scheduler.tick_at = wakeup;
        self.scheduler.generation += 1;
        if let Some(at) = wakeup {
            let at = at.0.saturating_sub(clock(0).0).max(self.now) + self.lateness();
            let generation = self.scheduler.generation;
            self.at(at, Ev::TickScheduler { generation });
        }
    }

    fn lateness(&mut self) -> Time {
        match self.rng.u32(..16) {
            0 => self.rng.u64(..self.plan.late),
            1..4 => self.rng.u64(..MS),
            _ => 0,
        }
    }

    fn perform(&mut self, action: Action) {
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
                self.send(link, DOWN, Item::ToNode(message));
            }
            Action::Close { link, reason } => {
                self.say(|| format!("S closes {link}: {reason}"));
                self.close(self.link_index(link), DOWN, reason);
            }
            Action::Dial { node, address } => {
                self.say(|| format!("S dials {node} at {address}"));
                self.start_dial(Dialler::Scheduler(node), address, None);
            }
            Action::Probe {
                node,
                epoch,
                address,
            } => {
                self.say(|| format!("S probes {node} {epoch} at {address}"));
                self.start_dial(Dialler::Scheduler(node), address, Some(epoch));
            }
            Action::Deliver { client, statuses } => self.deliver_statuses(client, statuses),
            Action::Answer(status) => self.answer(status),
            Action::CancelAnswer { ticket, answer } => self.cancel_answer(ticket, answer),
            Action::Notify { event, .. } => {
                self.say(|| format!("watcher: {event:?}"));
            }
            Action::Note(note) => self.note(note),
        }
    }

    fn start_dial(&mut self, dialler: Dialler, address: String, probe: Option<Epoch>) {
        let dial = Dial {
            dialler,
            proc: 0,
            life: self.lives,
            address,
            until: self.now + self.plan.net.dial_timeout,
            probe,
        };
        self.dial(dial);
    }

    fn submit(&mut self, index: usize) {
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
                    let life = self.lives;
                    self.after(
                        after,
                        Ev::Cancel {
                            life,
                            task: accepted.id(),
                        },
                    );
                }
            }
            Err(refused) => {
                self.say(|| format!("# submit {index} refused: {}", refused.refusal));
                let after = self.scheduler.machine.stats(clock(self.now));
                self.refused(&refused, &sent, &before, &after);
            }
        }
    }

    fn add_node(&mut self, node: usize) {
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
        let Ok(id) = added else { return };
        self.scheduler.names.insert(id, name);
        if local {
            let proc = self.spawn(node, node, true, false);
            self.connect_local(proc, id);
        }
    }

    fn remove_node(&mut self, node: usize) {
        let name = self.nodes[node].name.clone();
        let removed = self.scheduler.machine.remove_node(clock(self.now), &name);
        self.say(|| format!("# remove_node {name} -> {removed:?}"));
        if removed.is_ok() {
            self.removed(node);
        }
    }

    // The nodes' processes.

    pub fn tell_node(&mut self, proc: usize, event: NodeIn) {
        if !self.procs[proc].alive {
            return;
        }
        if self.procs[proc].frozen {
            self.procs[proc].inbox.push(event);
            return;
        }
        self.node_handles(proc, event);
        if !self.procs[proc].alive {
            return;
        }
        if self.rng.u32(..8) == 0 {
            let pause = self.rng.u64(..2 * MS);
            self.after(pause, Ev::FlushNode { proc });
        } else {
            self.flush_node(proc);
        }
    }

    fn node_handles(&mut self, proc: usize, event: NodeIn) {
        match event {
            NodeIn::Event(event) => self.handle_node_event(proc, event),
            NodeIn::Run {
                worker,
                dispatch,
                how,
            } => self.run_ends(proc, worker, dispatch, how),
        }
    }

    pub fn handle_node_event(&mut self, proc: usize, event: NodeEvent) {
        let now = self.now;
        let it = &mut self.procs[proc];
        self.trace.line(now, || match &event {
            NodeEvent::Message { link, message } => {
                format!("{} <- S {link} {}", it.name, brief::to_node(message))
            }
            other => format!("{} ! {other:?}", it.name),
        });
        if let NodeEvent::Message { message, .. } = &event
            && let Some(workers) = brief::workers_said(message)
        {
            it.most_workers = it.most_workers.max(workers);
        }
        it.dirty = true;
        let at = it.clock(now);
        it.machine.handle(at, event);
    }

    fn tick_node(&mut self, proc: usize) {
        let it = &mut self.procs[proc];
        let at = it.clock(self.now);
        it.machine.handle(at, NodeEvent::Tick);
        self.flush_node(proc);
        let it = &self.procs[proc];
        let wakeup = it.machine.next_wakeup();
        if it.alive && wakeup.is_some_and(|wakeup| wakeup <= at) {
            let name = it.name.clone();
            self.oracle.fail(
                "contract",
                None,
                format!(
                    "a tick leaves the wakeup of {name} at {wakeup:?}, which is past: a busy loop"
                ),
            );
        }
    }

    pub fn flush_node(&mut self, proc: usize) {
        let mut actions = std::mem::take(&mut self.node_actions);
        let it = &mut self.procs[proc];
        it.dirty = false;
        let at = it.clock(self.now);
        it.machine.take_effects(at, &mut actions);
        let mut gone = None;
        for action in actions.drain(..) {
            self.trace.mix(std::mem::discriminant(&action));
            if let NodeAction::Gone(why) = action {
                gone = Some(why);
            } else {
                self.perform_at_node(proc, action);
            }
        }
        self.node_actions = actions;
        let it = &self.procs[proc];
        let (counted, true_count) = (it.machine.running(), it.runs.len());
        if counted != true_count {
            let name = it.name.clone();
            self.oracle.fail(
                "G4",
                None,
                format!("{name} counts {counted} running tasks, but {true_count} run there"),
            );
        }
        self.arm_node(proc);
        if let Some(why) = gone {
            self.gone(proc, &why);
        }
    }

    fn perform_at_node(&mut self, proc: usize, action: NodeAction) {
        let name = self.procs[proc].name.clone();
        match action {
            NodeAction::Send { link, message } => {
                self.say(|| format!("{name} -> S {link} {}", brief::to_scheduler(&message)));
                self.send(self.link_index(link), UP, Item::ToScheduler(message));
            }
            NodeAction::Close { link, reason } => {
                self.say(|| format!("{name} closes {link}: {reason}"));
                self.close(self.link_index(link), UP, reason);
            }
            NodeAction::Dial { address } => {
                self.say(|| format!("{name} dials {address}"));
                let dial = Dial {
                    dialler: Dialler::Node(address.clone()),
                    proc,
                    life: self.lives,
                    address,
                    until: self.now + self.plan.net.dial_timeout,
                    probe: None,
                };
                self.dial(dial);
            }
            NodeAction::Start {
                worker,
                assignment,
                retry,
            } => {
                self.start_run(proc, worker, assignment, retry);
            }
            NodeAction::Stop { worker, dispatch } => self.stop_run(proc, worker, dispatch),
            NodeAction::Gone(_) => {}
            NodeAction::Note(note) => self.say(|| format!("{name} notes {note:?}")),
        }
    }

    fn arm_node(&mut self, proc: usize) {
        let lateness = self.lateness();
        let it = &mut self.procs[proc];
        let wakeup = it.machine.next_wakeup();
        if wakeup == it.tick_at {
            return;
        }
        it.tick_at = wakeup;
        it.generation += 1;
        if let Some(at) = wakeup {
            let at = it.true_time(at).max(self.now) + lateness;
            let generation = it.generation;
            self.at(at, Ev::TickNode { proc, generation });
        }
    }

    // Births, deaths and sleeps.

    /// Starts the process of a node, unless one is there.
    pub fn boot(&mut self, node: usize) {
        if self.nodes[node].local || self.live_proc(node).is_some() {
            return;
        }
        self.spawn(node, node, false, false);
    }

    /// Starts a process; `double` is one more of the same name, on another machine.
    pub fn spawn(&mut self, node: usize, host: usize, local: bool, double: bool) -> usize {
        let proc = self.procs.len();
        let plan = &self.nodes[node];
        let joins = plan.joins || double;
        let probe = (joins && plan.probe).then(|| {
            if double {
                format!("{}-double-probe", plan.name)
            } else {
                format!("{}-probe", plan.name)
            }
        });
        let mut config = NodeConfig::default();
        config.max_workers = plan.workers;
        config.max_kept_bytes = plan.kept;
        let name: Arc<str> = plan.name.as_str().into();
        let epoch = Epoch(1000 + proc as u64);
        let spec = NodeSpec {
            name: name.clone(),
            epoch,
            kinds: plan
                .kinds
                .iter()
                .map(|&kind| KindOffer {
                    kind: KINDS[kind].0.to_owned(),
                    blocking: KINDS[kind].1,
                })
                .collect(),
            labels: plan.labels.iter().map(|&label| label.to_owned()).collect(),
            config,
            probe: probe.clone(),
            joins: if joins {
                vec![SCHEDULER.to_owned()]
            } else {
                Vec::new()
            },
            local,
        };
        if plan.listens && !double {
            self.listeners.insert(plan.name.clone(), proc);
        }
        if let Some(probe) = probe {
            self.listeners.insert(probe, proc);
        }
        let it = Proc {
            node,
            host,
            name,
            epoch,
            kinds: plan.kinds.clone(),
            labels: plan.labels.clone(),
            machine: NodeMachine::new(spec, node_clock(self.now, plan.offset, plan.drift_ppm)),
            alive: true,
            frozen: false,
            local,
            runs: BTreeMap::new(),
            most_workers: plan.workers,
            workers_changed: false,
            stalled: Vec::new(),
            inbox: Vec::new(),
            dirty: false,
            tick_at: None,
            generation: 0,
            offset: plan.offset,
            drift_ppm: plan.drift_ppm,
        };
        self.procs.push(it);
        self.say(|| format!("# process {proc} starts: {:?}", epoch));
        self.flush_node(proc);
        proc
    }

    /// The process that a fault to this node hits: the newest that lives.
    pub fn live_proc(&self, node: usize) -> Option<usize> {
        (0..self.procs.len())
            .rev()
            .find(|&proc| self.procs[proc].node == node && self.procs[proc].alive)
    }

    pub fn host_of(&self, address: &str) -> usize {
        let name = address.trim_end_matches("-probe");
        let name = name.trim_end_matches("-double");
        self.nodes
            .iter()
            .position(|node| node.name == name)
            .unwrap()
    }

    /// A process ends.
    pub fn kill(&mut self, proc: usize, death: Death) {
        self.say(|| format!("# process {proc} ends: {death:?}"));
        let it = &mut self.procs[proc];
        it.alive = false;
        it.inbox.clear();
        let runs = std::mem::take(&mut it.runs);
        for run in runs.values() {
            self.oracle.on_run_over(run);
        }
        self.listeners.retain(|_, listener| *listener != proc);
        for link in 0..self.links.len() {
            if self.links[link].proc == proc {
                self.abandon(link, UP, death);
            }
        }
    }

    pub fn freeze_scheduler(&mut self, span: Time) {
        if !self.scheduler.alive || self.scheduler.frozen {
            return;
        }
        self.say(|| {
            format!(
                "# the scheduler freezes for {:?}",
                Duration::from_nanos(span)
            )
        });
        self.scheduler.frozen = true;
        self.oracle.disturbed(self.now + span);
        self.after(span, Ev::ThawScheduler);
        for proc in 0..self.procs.len() {
            if self.procs[proc].local && self.procs[proc].alive {
                self.freeze_node(proc, span + 1);
            }
        }
    }

    pub fn thaw_scheduler(&mut self) {
        if !self.scheduler.alive || !self.scheduler.frozen {
            return;
        }
        self.say(|| "# the scheduler wakes".to_owned());
        self.scheduler.frozen = false;
        // Its driver reads the sockets before the tick.
        for command in std::mem::take(&mut self.scheduler.inbox) {
            self.scheduler_handles(command);
            if self.rng.u32(..4) == 0 {
                self.flush_scheduler();
            }
        }
        self.scheduler.tick_at = None;
        self.tick_scheduler();
    }

    pub fn freeze_node(&mut self, proc: usize, span: Time) {
        if !self.procs[proc].alive || self.procs[proc].frozen {
            return;
        }
        self.say(|| {
            format!(
                "# process {proc} freezes for {:?}",
                Duration::from_nanos(span)
            )
        });
        self.procs[proc].frozen = true;
        self.oracle.disturbed(self.now + span);
        self.after(span, Ev::ThawNode { proc });
    }

    pub fn thaw_node(&mut self, proc: usize) {
        if !self.procs[proc].alive || !self.procs[proc].frozen {
            return;
        }
        self.say(|| format!("# process {proc} wakes"));
        self.procs[proc].frozen = false;
        let inbox = std::mem::take(&mut self.procs[proc].inbox);
        let tick_at = self.rng.usize(..=inbox.len());
        for (index, event) in inbox.into_iter().enumerate() {
            if index == tick_at {
                self.tick_node(proc);
            }
            if !self.procs[proc].alive {
                return;
            }
            self.node_handles(proc, event);
            if self.rng.u32(..4) == 0 {
                self.flush_node(proc);
            }
            if !self.procs[proc].alive {
                return;
            }
        }
        self.procs[proc].tick_at = None;
        self.tick_node(proc);
        self.woke(proc);
    }

    fn restart_scheduler(&mut self) {
        if self.scheduler.alive {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        self.say(|| format!("# the scheduler starts, life {life}"));
        self.scheduler = Scheduler::start(life, &self.plan, self.now);
        self.oracle.new_life();
        self.current_client = None;
        self.new_client();
        for node in 0..self.nodes.len() {
            let known = if self.quiet {
                true
            } else {
                node + 1 < self.nodes.len()
            };
            if known && self.nodes[node].from <= self.now {
                self.command(SchedulerIn::AddNode(node));
            }
        }
    }

    pub fn kill_scheduler(&mut self) {
        if !self.scheduler.alive {
            return;
        }
        self.say(|| "# the scheduler dies".to_owned());
        self.scheduler.alive = false;
        self.scheduler.frozen = false;
        self.scheduler.inbox.clear();
        self.scheduler.generation += 1;
        self.oracle.disturbed(self.now);
        for proc in 0..self.procs.len() {
            if self.procs[proc].local && self.procs[proc].alive {
                self.kill(proc, Death::Machine);
            }
        }
        for link in 0..self.links.len() {
            self.abandon(link, DOWN, Death::Process);
        }
    }

    /// Every fault heals; what is pending gets its time.
    fn begin_quiet(&mut self) {
        if self.plan.shut_down {
            self.shut_down();
            return;
        }
        self.say(|| "# quiet from here on".to_owned());
        self.quiet = true;
        for host in &mut self.hosts {
            *host = Host::default();
        }
        for link in &mut self.links {
            for pipe in &mut link.pipes {
                pipe.cut_until = 0;
            }
        }
        self.heal(true);
        self.thaw_scheduler();
        self.restart_scheduler();
        for proc in 0..self.procs.len() {
            self.thaw_node(proc);
        }
        if self.current_client.is_none() {
            self.new_client();
        }
        for node in 0..self.nodes.len() {
            if self
                .plan
                .nodes
                .get(node)
                .is_none_or(|plan| plan.from <= self.now)
            {
                self.boot(node);
            }
        }
        if self.plan.family != Family::Order {
            let rescue = self.nodes.len() - 1;
            self.command(SchedulerIn::AddNode(rescue));
        }
        self.heal_workers();
        self.after(
            nanos(self.plan.config.lease) * 40 + 600 * SECOND,
            Ev::Expect(Box::new(Expectation::Ended)),
        );
    }

    /// No change of the number of workers outlasts the faults.
    fn heal_workers(&mut self) {
        let changed = self.plan.faults.iter().any(|(_, fault)| {
            matches!(fault, Fault::SetWorkers { .. } | Fault::NodeWorkers { .. })
        });
        if changed {
            self.command(SchedulerIn::SetWorkers(None, 3));
        }
    }
}

impl Scheduler {
    fn start(life: usize, plan: &Plan, now: Time) -> Self {
        let name: Arc<str> = "sim".into();
        Self {
            machine: SchedulerMachine::new(
                name,
                Life(500 + life as u64),
                plan.config.clone(),
                clock(now),
            ),
            alive: true,
            frozen: false,
            inbox: Vec::new(),
            dirty: false,
            draining: false,
            tick_at: None,
            generation: 0,
            names: BTreeMap::new(),
        }
    }
}

/// A node that can run anything, for the quiet end.
fn rescue() -> NodePlan {
    NodePlan {
        name: "rescue".to_owned(),
        listens: true,
        joins: false,
        probe: false,
        local: false,
        workers: 4,
        kinds: (0..KINDS.len()).collect(),
        labels: vec!["gpu", "north"],
        kept: 64 << 20,
        from: 0,
        drift_ppm: 0,
        offset: SECOND,
    }
}

fn submission(task: &TaskPlan, serial: u64, audience: Audience) -> Submission {
    let mut options = callboard::task::Options::default();
    options.priority = callboard::task::Priority(task.priority);
    if let Some(delay) = task.delay {
        options.due = callboard::task::Due::After(delay);
    }
    options.timeout = task.timeout;
    options.deadline = task.deadline;
    options.retry = task.retry;
    options.labels = task.labels.iter().map(|&label| label.to_owned()).collect();
    options.exclusive = task.exclusive;
    options.max_reroutes = task.max_reroutes;
    options.key = task.key.map(|key| format!("key{key}").into());
    let plain = options == callboard::task::Options::default();
    Submission {
        kind: KINDS[task.kind].0.into(),
        args: crate::workers::encode(task, serial),
        options: (!plain).then(|| Box::new(options)),
        audience,
        watcher: task.watched.then_some(ClientId(0)),
    }
}
