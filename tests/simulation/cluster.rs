//! The whole cluster in one thread: the virtual clock, the heap of what is to come, and the
//! processes.
//!
//! Owns: the order of events and which process handles them when. Does not know: what must hold
//! (see `oracle`) or what goes wrong when (see `plan` and `faults`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use callboard::__internals::engine::Event;
use callboard::task::{Dispatch, TaskId};

use crate::clients::{Client, Told};
use crate::log::SimLog;
use crate::neighbour::{Neighbour, NeighbourEv};
use crate::network::{Dial, Host, Link};
use crate::nodes::{NodeIn, Proc};
use crate::oracle::{Expectation, Oracle};
use crate::plan::{MS, NodePlan, Plan, SECOND, Time, rescue};
use crate::scheduler::{Scheduler, SchedulerIn, clock};
use crate::trace::Trace;
use crate::visitors::Visit;
use crate::workers::{How, Pipelined};

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
        term: usize,
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
    ClientAnswers {
        client: u64,
        status: Told,
    },
    ClientHandles {
        client: u64,
    },
    Submit(usize),
    Cancel {
        life: usize,
        task: TaskId,
    },
    Attach {
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
    Unpause(usize),
    RestartScheduler,
    /// The scheduler has ended its term, and dies when all is stored, or at this time.
    Closing {
        term: usize,
        until: Time,
        down: Time,
    },
    /// The scheduler dies with the batch that is under way, and is away for so long.
    DieWithBatch {
        term: usize,
        down: Time,
    },
    ThawScheduler,
    ThawNode {
        proc: usize,
    },
    NewClient {
        term: usize,
    },
    ToScheduler {
        term: usize,
        event: Box<Event>,
    },
    Resumed {
        proc: usize,
        workers: Vec<u32>,
    },
    /// A worker for which no thread could be started is used again.
    Rested {
        proc: usize,
        worker: u32,
    },
    /// What workers have said arrives.
    Hear {
        proc: usize,
    },
    Appended {
        term: usize,
    },
    VisitorWelcomes(Visit),
    VisitorGoes(Visit),
    Neighbour(NeighbourEv),
    Look,
    Expect(Box<Expectation>),
    Quiet,
}

/// An event and its moment; of two at one moment the first scheduled comes first.
pub struct Coming {
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

pub struct Cluster {
    pub plan: Arc<Plan>,
    pub rng: fastrand::Rng,
    /// Draws what becomes of the store, so that all else is the same without one.
    pub log_rng: fastrand::Rng,
    pub now: Time,
    pub quiet: bool,
    heap: BinaryHeap<Coming>,
    next_event: u64,
    pub steps: u64,
    pub pipelined: Pipelined,
    /// Starts of the scheduler's process before this one.
    pub term: usize,
    /// The same of its state: each start begins a life, unless a store has that of the start
    /// before.
    pub life: usize,
    /// How far the wall clock was set back. Starts read it, and go by a clock of their own then.
    pub set_back: Time,
    pub scheduler: Scheduler,
    pub neighbour: Neighbour,
    pub nodes: Vec<NodePlan>,
    pub procs: Vec<Proc>,
    pub hosts: Vec<Host>,
    pub links: Vec<Link>,
    pub visits: Vec<Visit>,
    pub in_flight: usize,
    pub listeners: BTreeMap<String, usize>,
    /// The machine of every port that was ever named for probes.
    pub addresses: BTreeMap<String, usize>,
    pub clients: BTreeMap<u64, Client>,
    pub current_client: Option<u64>,
    /// Until when nobody is to be told, as each start says.
    pub nobody_until: Time,
    pub oracle: Oracle,
    pub trace: Trace,
    check_every: u64,
    pub finished: bool,
    /// Since when all has ended, if somebody has still to leave.
    pub idle_since: Option<Time>,
    /// The same, if runs are on record for the end of which nothing waits.
    pub orphans_since: Option<Time>,
    /// When an operator looks at the cluster again, in the quiet at the end.
    pub operator_looks_at: Time,
}

impl Cluster {
    pub fn new(seed: u64, plan: Arc<Plan>, keep_lines: bool) -> Self {
        let mut nodes = plan.nodes.clone();
        nodes.push(rescue());
        let mut cluster = Self {
            rng: fastrand::Rng::with_seed(seed),
            log_rng: fastrand::Rng::with_seed(seed ^ 0x0BAD_CAFE),
            now: 0,
            quiet: false,
            heap: BinaryHeap::new(),
            next_event: 0,
            steps: 0,
            pipelined: Pipelined::default(),
            term: 0,
            life: 0,
            set_back: 0,
            scheduler: Scheduler::start((0, 0), plan.store.map(SimLog::new), &plan, 0, clock(0)),
            neighbour: Neighbour::default(),
            hosts: vec![Host::default(); nodes.len()],
            nodes,
            procs: Vec::new(),
            links: Vec::new(),
            visits: Vec::new(),
            in_flight: 0,
            listeners: BTreeMap::new(),
            addresses: BTreeMap::new(),
            clients: BTreeMap::new(),
            current_client: None,
            nobody_until: 0,
            oracle: Oracle::new(seed),
            trace: Trace::new(keep_lines),
            check_every: if seed.is_multiple_of(16) { 1 } else { 64 },
            finished: false,
            idle_since: None,
            orphans_since: None,
            operator_looks_at: 0,
            plan,
        };
        cluster.begin();
        cluster
    }

    pub fn begin(&mut self) {
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
        self.neighbour_begins();
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

    pub fn term(&self) -> usize {
        self.term
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

    pub fn check_machines(&mut self) {
        let it = &self.scheduler;
        if it.alive
            && !it.frozen
            && !it.dirty
            && let Err(broken) = it.machine.check()
        {
            self.oracle
                .fail("check", None, format!("the scheduler's machine: {broken}"));
        }
        if it.alive && !it.frozen && !it.dirty {
            self.check_log();
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

    pub fn happen(&mut self, event: Ev) {
        match event {
            Ev::TickScheduler { generation } => {
                let it = &self.scheduler;
                if it.alive && generation == it.generation && !it.frozen {
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
            Ev::FlushScheduler { term } => {
                if term == self.term && !self.scheduler.frozen && self.scheduler.dirty {
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
            Ev::ClientAnswers { client, status } => self.client_answers(client, status),
            Ev::ClientHandles { client } => self.client_handles(client),
            Ev::Submit(index) => {
                if !self.quiet {
                    self.command(SchedulerIn::Submit(index));
                }
            }
            Ev::Cancel { life, task } => {
                if life == self.life {
                    self.command(SchedulerIn::Cancel(task));
                }
            }
            Ev::Attach { life, task } => {
                if life == self.life {
                    self.command(SchedulerIn::Attach(task));
                }
            }
            Ev::Fault(index) => self.fault(index),
            Ev::Unpause(index) => self.unpause(index),
            Ev::Boot { node } => self.boot(node),
            Ev::AddNode { node } => self.command(SchedulerIn::AddNode(node)),
            Ev::RemoveNode { node } => self.command(SchedulerIn::RemoveNode(node)),
            Ev::RestartScheduler => self.restart_scheduler(),
            Ev::Closing { term, until, down } => {
                if term == self.term {
                    self.go_on_closing(until, down);
                }
            }
            Ev::DieWithBatch { term, down } => {
                if term == self.term {
                    self.kill_scheduler_for(down);
                }
            }
            Ev::ThawScheduler => self.thaw_scheduler(),
            Ev::ThawNode { proc } => self.thaw_node(proc),
            Ev::NewClient { term } => {
                if term == self.term && self.current_client.is_none() {
                    self.new_client();
                }
            }
            Ev::ToScheduler { term, event } => {
                if term == self.term {
                    self.tell_scheduler(*event);
                }
            }
            Ev::Resumed { proc, workers } => self.resumed(proc, workers),
            Ev::Rested { proc, worker } => self.rested(proc, worker),
            Ev::Hear { proc } => self.hear(proc),
            Ev::Appended { term } => {
                if term == self.term && self.scheduler.alive {
                    self.appended();
                }
            }
            Ev::VisitorWelcomes(visit) => self.visitor_welcomes(visit),
            Ev::VisitorGoes(visit) => self.visitor_goes(visit),
            Ev::Neighbour(event) => self.neighbour_happens(event),
            Ev::Look => self.look(),
            Ev::Expect(expectation) => self.expect(*expectation),
            Ev::Quiet => self.begin_quiet(),
        }
    }

    pub fn lateness(&mut self) -> Time {
        match self.rng.u32(..16) {
            0 => self.rng.u64(..self.plan.late.min(300 * MS)),
            1..4 => self.rng.u64(..MS),
            _ => 0,
        }
    }
}
