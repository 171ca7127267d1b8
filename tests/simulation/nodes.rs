//! The nodes' processes: their machines, clocks, births, sleeps and deaths.
//!
//! Owns: how a node's machine is driven. Does not know: the order of events, or what runs do (see
//! `workers`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use callboard::__internals::engine::message::{Assignment, KindOffer, ToNode, ToScheduler};
use callboard::__internals::engine::node::{Machines, NodeAction, NodeEvent, NodeSpec, Serves};
use callboard::__internals::engine::{Incarnation, Memory, Timestamp};
use callboard::__internals::testing::{Checks, Driven};
use callboard::config::NodeConfig;
use callboard::retry::RetryPolicy;
use callboard::task::Dispatch;

use crate::brief;
use crate::cluster::{Cluster, Ev, SCHEDULER};
use crate::neighbour::ADDRESS;
use crate::network::{Dial, Dialler, Item, UP, Whose};
use crate::plan::{KINDS, MS, Time};
use crate::visitors::is_visitors;
use crate::workers::{How, Run};

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
    /// What a worker said a while ago.
    Told(NodeEvent),
    Run {
        worker: u32,
        dispatch: Dispatch,
        how: How,
    },
}

/// The port that every process has for probes, if it has one.
const PROBE_PORT: u16 = 9;

pub struct Proc {
    pub node: usize,
    pub host: usize,
    pub name: Arc<str>,
    /// The host from which it dials.
    pub came_from: String,
    pub incarnation: Incarnation,
    pub machine: Driven<Machines>,
    pub alive: bool,
    pub frozen: bool,
    pub local: bool,
    pub kinds: Vec<usize>,
    pub labels: Vec<String>,
    pub runs: BTreeMap<u32, Run>,
    /// What each worker begins next, in order.
    pub pipelines: BTreeMap<u32, VecDeque<(Assignment, RetryPolicy)>>,
    /// What workers have said that is not yet under way to the machine.
    pub told: VecDeque<NodeEvent>,
    /// How much of what workers have said the machine has not heard.
    pub unheard: usize,
    /// The largest number of workers that it was ever allowed.
    pub most_workers: u32,
    /// Whether its own process ever changed its number of workers, of which the scheduler is not
    /// told.
    pub workers_changed: bool,
    pub stalled: Vec<u32>,
    /// Until when no thread can be started there, and the workers that rest since one could not.
    pub no_thread_until: Time,
    pub resting: BTreeSet<u32>,
    /// It was told to take nothing new.
    pub draining: bool,
    /// Its own process wants to end.
    pub ending: bool,
    /// Nothing tells of its death: it dials, and names no port to be probed at.
    pub dies_unseen: bool,
    pub ended_at: Option<Time>,
    /// It has taken its leave of the scheduler: it dials it no more, though it may live on for
    /// another.
    pub has_left: bool,
    /// When the scheduler has answered it last.
    pub answered_at: Time,
    /// Its node was taken out by hand since, and was not added again.
    pub removed: bool,
    /// It was started beside another of its name.
    pub double: bool,
    pub inbox: Vec<NodeIn>,
    pub dirty: bool,
    pub tick_at: Option<Timestamp>,
    pub generation: u64,
    offset: Time,
    drift_ppm: i64,
}

impl Proc {
    pub fn clock(&self, now: Time) -> Timestamp {
        node_clock(now, self.offset, self.drift_ppm)
    }

    /// Returns where it would answer a probe, if it names a port.
    pub fn probe_address(&self) -> String {
        format!("{}:{PROBE_PORT}", self.came_from)
    }

    /// Returns whether whoever removed its node by hand vouches that it is dead: not before it was
    /// answered for the last time a lease ago.
    pub fn passes_for_dead(&self, now: Time, lease: Time) -> bool {
        self.removed && self.answered_at + lease <= now
    }

    /// Takes in that the scheduler answers it. What has passed for dead before is not taken back by
    /// that.
    pub fn answered(&mut self, now: Time, lease: Time) {
        if self.passes_for_dead(now, lease) {
            self.runs.values_mut().for_each(|run| run.vouched = true);
        }
        self.answered_at = now;
    }

    /// Returns the first moment at which its clock says `at` or later.
    pub fn true_time(&self, at: Timestamp) -> Time {
        let prefetched = i128::from(at.0) - i128::from(self.offset);
        let guess = prefetched * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)) - 2;
        let mut time = u64::try_from(guess.max(0)).unwrap_or(u64::MAX);
        while time < u64::MAX - 10 && self.clock(time) < at {
            time += 1;
        }
        time
    }
}

pub fn node_clock(now: Time, offset: Time, drift_ppm: i64) -> Timestamp {
    let drift = i128::from(now) * i128::from(drift_ppm) / 1_000_000;
    Timestamp(u64::try_from(i128::from(offset) + i128::from(now) + drift).unwrap())
}

impl Cluster {
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

    pub fn node_handles(&mut self, proc: usize, event: NodeIn) {
        match event {
            NodeIn::Event(event) => self.handle_node_event(proc, event),
            NodeIn::Told(event) => {
                self.procs[proc].unheard -= 1;
                self.handle_node_event(proc, event);
            }
            NodeIn::Run {
                worker,
                dispatch,
                how,
            } => self.run_ends(proc, worker, dispatch, how),
        }
    }

    pub fn handle_node_event(&mut self, proc: usize, event: NodeEvent) {
        let now = self.now;
        let whose = match &event {
            NodeEvent::Message { link, .. } if !is_visitors(*link) => {
                self.links[self.link_index(*link)].whose
            }
            _ => Whose::Own,
        };
        let it = &mut self.procs[proc];
        self.trace.line(now, || match &event {
            NodeEvent::Message { link, message } => {
                format!(
                    "{} <- {whose:?} {link} {}",
                    it.name,
                    brief::to_node(message)
                )
            }
            other => format!("{} ! {other:?}", it.name),
        });
        if let NodeEvent::Message { message, .. } = &event
            && let Some(workers) = brief::workers_said(message)
        {
            it.most_workers = it.most_workers.max(workers);
        }
        it.ending |= matches!(event, NodeEvent::Drain | NodeEvent::Stop);
        if let NodeEvent::Message {
            message: ToNode::Welcome(welcome),
            ..
        } = &event
            && whose == Whose::Own
        {
            it.draining = it.ending || welcome.drain;
        }
        it.draining |= matches!(event, NodeEvent::Drain | NodeEvent::Stop);
        it.draining |= whose == Whose::Own
            && matches!(
                event,
                NodeEvent::Message {
                    message: ToNode::Drain | ToNode::Leave | ToNode::End,
                    ..
                }
            );
        it.dirty = true;
        let at = it.clock(now);
        it.machine.handle(at, event);
    }

    pub fn tick_node(&mut self, proc: usize) {
        self.flush_node(proc);
        let it = &self.procs[proc];
        let at = it.clock(self.now);
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
        let it = &mut self.procs[proc];
        it.dirty = false;
        let at = it.clock(self.now);
        it.machine.turn(at);
        let mut gone = None;
        while let Some(action) = self.procs[proc].machine.next_action() {
            self.trace.mix(std::mem::discriminant(&action));
            if let NodeAction::Gone(why) = action {
                gone = Some(why);
            } else {
                self.perform_at_node(proc, action);
            }
        }
        let it = &self.procs[proc];
        let (counted, true_count) = (it.machine.running(), it.runs.len());
        if counted != true_count && it.unheard == 0 {
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

    pub fn perform_at_node(&mut self, proc: usize, action: NodeAction) {
        let name = self.procs[proc].name.clone();
        match action {
            NodeAction::Send { link, message } if is_visitors(link) => {
                self.visitor_hears(link, &message);
            }
            NodeAction::Close { link, .. } if is_visitors(link) => {}
            NodeAction::Send { link, message } => {
                let index = self.link_index(link);
                let whose = self.links[index].whose;
                let it = &mut self.procs[proc];
                it.has_left |= whose == Whose::Own && message == ToScheduler::Goodbye;
                self.say(|| {
                    format!(
                        "{name} -> {whose:?} {link} {}",
                        brief::to_scheduler(&message)
                    )
                });
                self.send(index, UP, Item::ToScheduler(message));
            }
            NodeAction::Close { link, reason } => {
                self.say(|| format!("{name} closes {link}: {reason}"));
                self.close(self.link_index(link), UP, reason);
            }
            NodeAction::Dial { address, .. } => {
                self.say(|| format!("{name} dials {address}"));
                let dialler = Dialler::Node(address.clone());
                let dial = Dial {
                    term: self.term_of(dialler.whose()),
                    dialler,
                    proc,
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
                self.give_worker(proc, worker, assignment, retry);
            }
            NodeAction::TakeBack { worker, dispatch } => self.take_back(proc, worker, dispatch),
            NodeAction::Stop { worker, dispatch } => self.stop_run(proc, worker, dispatch),
            NodeAction::Gone(_) => {}
            NodeAction::Note(note) => self.say(|| format!("{name} notes {note:?}")),
        }
    }

    pub fn arm_node(&mut self, proc: usize) {
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

    /// Starts the process of a node, unless one is there, or its name never comes again.
    pub fn boot(&mut self, node: usize) {
        if self.nodes[node].once && self.procs.iter().any(|proc| proc.node == node) {
            return;
        }
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
        let came_from = if double {
            format!("{}-double{proc}", plan.name)
        } else {
            plan.name.clone()
        };
        let probe = (joins && plan.probe).then_some(PROBE_PORT);
        let mut config = NodeConfig::default();
        config.max_workers = plan.workers;
        config.max_kept_bytes = plan.kept;
        let name: Arc<str> = plan.name.as_str().into();
        let incarnation = Incarnation(1000 + proc as u64);
        let spec = NodeSpec {
            name: name.clone(),
            incarnation,
            memory: Memory(2000 + 100 * proc as u64),
            kinds: plan
                .kinds
                .iter()
                .map(|&kind| KindOffer {
                    kind: KINDS[kind].0.to_owned(),
                    blocking: KINDS[kind].1,
                })
                .collect(),
            labels: plan.labels.iter().cloned().collect(),
            config,
            probes: probe
                .map(|port| format!("{came_from}:{port}"))
                .into_iter()
                .collect(),
            refusal_means_dead: None,
            joins: match (joins, &self.plan.fleet) {
                (false, _) => Vec::new(),
                (true, None) => vec![SCHEDULER.to_owned()],
                (true, Some(_)) => vec![SCHEDULER.to_owned(), ADDRESS.to_owned()],
            },
            local,
            end_with_scheduler: false,
            max_frame: None,
        };
        let max_workers = self.plan.fleet.as_ref().and_then(|it| it.max_workers_total);
        let serves = Serves {
            only: Vec::new(),
            max_workers,
        };
        if plan.listens && !double {
            self.listeners.insert(plan.name.clone(), proc);
        }
        if let Some(port) = probe {
            let probe = format!("{came_from}:{port}");
            self.addresses.insert(probe.clone(), host);
            self.listeners.insert(probe, proc);
        }
        let it = Proc {
            node,
            host,
            name,
            incarnation,
            came_from,
            kinds: plan.kinds.clone(),
            labels: plan.labels.clone(),
            machine: Driven::new(Machines::new(spec, serves), Checks::Never),
            alive: true,
            frozen: false,
            local,
            runs: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            told: VecDeque::new(),
            unheard: 0,
            most_workers: plan.workers,
            workers_changed: false,
            stalled: Vec::new(),
            no_thread_until: 0,
            resting: BTreeSet::new(),
            draining: false,
            ending: false,
            dies_unseen: joins && probe.is_none(),
            ended_at: None,
            has_left: false,
            answered_at: 0,
            removed: false,
            double,
            inbox: Vec::new(),
            dirty: false,
            tick_at: None,
            generation: 0,
            offset: plan.offset,
            drift_ppm: plan.drift_ppm,
        };
        self.procs.push(it);
        self.say(|| format!("# process {proc} starts: {:?}", incarnation));
        self.flush_node(proc);
        proc
    }

    /// Finds the process that a fault to this node hits: the newest that lives.
    pub fn live_proc(&self, node: usize) -> Option<usize> {
        (0..self.procs.len())
            .rev()
            .find(|&proc| self.procs[proc].node == node && self.procs[proc].alive)
    }

    /// Finds the machine at an address, whether somebody listens there or not.
    pub fn host_of(&self, address: &str) -> usize {
        let known = self.addresses.get(address).copied();
        known
            .or_else(|| self.nodes.iter().position(|node| node.name == *address))
            .unwrap()
    }
}
