//! A node whose scheduler is hostile: it says anything at any time, within what the wire can carry.
//!
//! Owns: what must hold of a node's machine whatever it is told. Does not know: what an honest
//! scheduler would have said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use callboard::__internals::engine::message::{
    Assignment, End, KindOffer, Report, SchedulerHello, Terms, ToNode, ToScheduler, Welcome,
};
use callboard::__internals::engine::node::{NodeAction, NodeEvent, NodeMachine, NodeSpec};
use callboard::__internals::engine::{
    Incarnation, LinkId, Memory, SchedulerId, Timestamp, WorkerId,
};
use callboard::__internals::testing::{Checks, DrivenNode};
use callboard::Payload;
use callboard::config::NodeConfig;
use callboard::error::LinkRefusal;
use callboard::retry::RetryPolicy;
use callboard::task::{Dispatch, Labels, TaskId};

use super::carried;
use super::input::Input;
use super::steps;
use super::workers::Workers;

/// The incarnation of a node: drawn at random in earnest, and known to nobody but its scheduler.
pub const EPOCH: Incarnation = Incarnation(0x5eed);

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stage = Stage::new(&mut input);
    steps(&mut input, |input| {
        stage.step(input);
        stage.settle();
    });
    stage.finish();
}

pub fn spec(name: &str, workers: u32) -> NodeSpec {
    let mut config = NodeConfig::default();
    config.max_workers = workers;
    let offer = |kind: &str, blocking| KindOffer {
        kind: kind.to_owned(),
        blocking,
    };
    NodeSpec {
        name: name.into(),
        incarnation: EPOCH,
        memory: Memory(1),
        kinds: vec![offer("soft", false), offer("hard", true)],
        labels: Labels::new(),
        config,
        probes: Vec::new(),
        refusal_means_dead: None,
        joins: Vec::new(),
        end_with_scheduler: false,
        local: false,
        max_frame: None,
    }
}

struct Stage {
    machine: DrivenNode,
    now: Timestamp,
    workers: Workers,
    links: u64,
    open: Vec<LinkId>,
    greeted: BTreeSet<LinkId>,
    welcomed: BTreeSet<LinkId>,
    last_seq: BTreeMap<LinkId, u64>,
    seq: u64,
    beat: u64,
    dials: Vec<String>,
    assigned: Vec<Dispatch>,
    gone: bool,
}

impl Stage {
    fn new(input: &mut Input) -> Self {
        let mut spec = spec("north", 3);
        spec.config.max_kept_bytes = 1000;
        if input.bool() {
            spec.joins = vec!["one".to_owned(), "two".to_owned()];
        }
        let now = Timestamp(1_700_000_000_000_000_000);
        Self {
            machine: DrivenNode::new(NodeMachine::new(spec), Checks::EachStep),
            now,
            workers: Workers::default(),
            links: 0,
            open: Vec::new(),
            greeted: BTreeSet::new(),
            welcomed: BTreeSet::new(),
            last_seq: BTreeMap::new(),
            seq: 0,
            beat: 0,
            dials: Vec::new(),
            assigned: Vec::new(),
            gone: false,
        }
    }

    fn step(&mut self, input: &mut Input) {
        match input.below(24) {
            0 => drop(self.open(input.bool())),
            1 | 2 => self.serve(input),
            3 => {
                if let Some(&link) = input.pick(&self.open) {
                    self.open.retain(|&open| open != link);
                    let reason = "cut".to_owned();
                    self.handle(NodeEvent::LinkClosed { link, reason });
                }
            }
            4 => {
                if let Some(&link) = input.pick(&self.open) {
                    self.handle(NodeEvent::Heard { link });
                }
            }
            5..=7 => {
                let millis = u64::from(input.byte()) << input.below(8);
                self.now = self.now + Duration::from_millis(millis);
            }
            8..=10 => self.end(input),
            11 => {
                if let Some(worker) = self.workers.nth(input.below(256)) {
                    self.workers.give_back(worker);
                }
            }
            12 => {
                let workers = vec![WorkerId(input.below(4) as u32)];
                self.handle(match input.bool() {
                    true => NodeEvent::Stalled { workers },
                    false => NodeEvent::Resumed { workers },
                });
            }
            13 => {
                if let Some(address) = self.dials.pop() {
                    let reason = "nobody".to_owned();
                    self.handle(NodeEvent::DialFailed { address, reason });
                }
            }
            14 => match input.byte() {
                0..20 => self.handle(NodeEvent::Drain),
                20..30 => self.handle(NodeEvent::Stop),
                workers => self.handle(NodeEvent::Workers(u32::from(workers % 5))),
            },
            _ => {
                let newest = self.open.last().copied();
                let link = match input.below(8) {
                    0 => input.pick(&self.open).copied(),
                    _ => newest,
                };
                if let Some(link) = link {
                    let message = self.word(input);
                    self.say(link, message);
                }
            }
        }
    }

    fn open(&mut self, dialled: bool) -> LinkId {
        let dialled = if dialled { self.dials.pop() } else { None };
        self.links += 1;
        let link = LinkId(self.links);
        self.open.push(link);
        self.handle(NodeEvent::LinkOpened {
            link,
            dialled,
            address: String::new(),
        });
        link
    }

    /// Opens a link as an honest scheduler sets it up, so that what follows is read.
    fn serve(&mut self, input: &mut Input) {
        let link = self.open(true);
        self.say(
            link,
            hello("one", u64::from(input.bool()), input.below(3) as u64),
        );
        self.settle();
        let welcome = self.welcome(input);
        self.say(link, welcome);
    }

    fn end(&mut self, input: &mut Input) {
        let Some(worker) = self.workers.nth(input.below(256)) else {
            return;
        };
        let end = match input.below(4) {
            0 => End::Completed(Payload::from(&[0; 300])),
            1 => End::Stopped,
            _ => End::Completed(Payload::new()),
        };
        let ran = Duration::from_micros(u64::from(input.byte()) * 10);
        let overrun = input.below(5) == 0;
        self.workers.end(worker, end, ran, overrun);
    }

    fn say(&mut self, link: LinkId, message: ToNode) {
        let Some(messages) = carried(&message) else {
            // The net has closed it.
            self.open.retain(|&open| open != link);
            let reason = "malformed".to_owned();
            return self.handle(NodeEvent::LinkClosed { link, reason });
        };
        for message in messages {
            match &message {
                ToNode::Welcome(_) if self.greeted.contains(&link) => {
                    self.welcomed.insert(link);
                }
                ToNode::Assign(assignments) => {
                    self.assigned
                        .extend(assignments.iter().map(|it| it.dispatch));
                }
                _ => {}
            }
            self.handle(NodeEvent::Message { link, message });
            self.settle();
        }
    }

    fn word(&mut self, input: &mut Input) -> ToNode {
        match input.below(24) {
            0 => ToNode::Hello(Box::new(SchedulerHello {
                version_min: input.number_32(),
                version_max: input.number_32(),
                scheduler: "s".repeat(input.below(256) * 2),
                scheduler_id: SchedulerId(input.number()),
                term: input.number(),
                max_frame: None,
            })),
            1 => hello("one", u64::from(input.bool()), input.below(3) as u64),
            2 => self.welcome(input),
            3 => ToNode::Refuse(match input.below(3) {
                0 => LinkRefusal::Stopping,
                1 => LinkRefusal::Replaced {
                    name: "north".to_owned(),
                },
                _ => LinkRefusal::Violation("no".to_owned()),
            }),
            4..=11 => {
                let count = input.below(6) + 1;
                ToNode::Assign((0..count).map(|_| self.assignment(input)).collect())
            }
            12 => ToNode::Retract(self.runs(input)),
            13 => ToNode::Cancel(self.runs(input)),
            14 => ToNode::Acknowledge(input.number()),
            15 | 16 => ToNode::Acknowledge(self.seq),
            17 => ToNode::Answer(input.number()),
            18 | 19 => ToNode::Answer(self.beat),
            20 if input.bool() => ToNode::Wants(input.number_32()),
            20 => ToNode::Workers(input.number_32()),
            21 => ToNode::Retry(policy(input)),
            22 => ToNode::Drain,
            _ => ToNode::Leave,
        }
    }

    fn runs(&mut self, input: &mut Input) -> Vec<Dispatch> {
        let count = input.below(4);
        let run = |_| match input.bool() {
            true => Dispatch::new(input.number()),
            false => input
                .pick(&self.assigned)
                .copied()
                .unwrap_or(Dispatch::new(0)),
        };
        (0..count).map(run).collect()
    }

    fn assignment(&mut self, input: &mut Input) -> Assignment {
        let dispatch = match input.below(4) {
            0 => Dispatch::new(input.number()),
            _ => Dispatch::new(self.assigned.len() as u64 + 1),
        };
        self.assigned.push(dispatch);
        let terms = (input.below(4) == 0).then(|| {
            Box::new(Terms {
                priority: input.byte() as i8,
                timeout: input.bool().then(|| input.duration()),
                deadline: input.bool().then(|| input.duration()),
                retry: input.bool().then(|| policy(input)),
                exclusive: input.bool(),
                watched: input.bool(),
                trace: None,
            })
        });
        Assignment {
            task: TaskId::new(input.number()),
            dispatch,
            kind: match input.below(16) {
                0 => u16::MAX,
                kind => kind as u16 % 3,
            },
            attempt: input.number_32(),
            prefetched: input.bool(),
            args: Payload::from(&[0; 10]),
            terms,
        }
    }

    fn welcome(&mut self, input: &mut Input) -> ToNode {
        let odd = input.below(4) == 0;
        ToNode::Welcome(Box::new(Welcome {
            version: if odd { input.number_32() } else { 1 },
            heartbeat: if odd {
                input.duration()
            } else {
                Duration::from_secs(1)
            },
            lease: if odd {
                input.duration()
            } else {
                Duration::from_secs(5)
            },
            outlive: match input.below(4) {
                0 => input.duration(),
                1 => Duration::from_secs(60),
                _ => Duration::ZERO,
            },
            workers: input.bool().then(|| input.number_32()),
            retry: policy(input),
            acknowledged: if odd { input.number() } else { self.seq },
            stop: self.runs(input),
            drain: input.below(16) == 1,
        }))
    }

    fn handle(&mut self, event: NodeEvent) {
        self.machine.handle(self.now, event);
    }

    /// Carries out all that follows.
    fn settle(&mut self) {
        self.hear_workers();
        while let Some(action) = self.machine.next_until_rest(self.now) {
            self.perform(action);
            self.hear_workers();
        }
        assert_eq!(self.machine.running(), self.workers.runs.len());
        let limit = NodeConfig::MAX_WORKERS as usize;
        assert!(self.workers.runs.len() <= limit);
        // A run for another start of the scheduler that cannot be stopped may bear the same number.
        let held: Vec<_> = self.machine.holds();
        let distinct: BTreeSet<_> = held.iter().map(|run| run.dispatch).collect();
        assert_eq!(held.len(), distinct.len(), "a run is held twice: {held:?}");
    }

    fn hear_workers(&mut self) {
        while let Some(event) = self.workers.said.pop_front() {
            self.handle(event);
        }
    }

    fn perform(&mut self, action: NodeAction) {
        match action {
            NodeAction::Send { link, message } => {
                assert!(self.open.contains(&link), "{message:?} on a closed link");
                self.sent(link, message);
            }
            NodeAction::Close { link, .. } => {
                let place = self.open.iter().position(|&open| open == link);
                self.open.remove(place.expect("a link is closed once"));
            }
            NodeAction::Dial { address, .. } => {
                assert!(!self.dials.contains(&address), "one dial for an address");
                self.dials.push(address);
            }
            NodeAction::Gone(_) => {
                assert!(!self.gone && self.workers.runs.is_empty());
                self.gone = true;
            }
            action => self.workers.perform(action),
        }
    }

    fn sent(&mut self, link: LinkId, message: ToScheduler) {
        let up = self.welcomed.contains(&link);
        match message {
            ToScheduler::Hello(_) => assert!(self.greeted.insert(link)),
            ToScheduler::Holding(holding) => {
                assert!(self.greeted.contains(&link) && !up);
                self.numbers(link, &holding.reports);
            }
            ToScheduler::Refuse(_) => {}
            ToScheduler::Beat(beat) => {
                assert!(up);
                self.beat = beat.number;
            }
            ToScheduler::Reports(reports) => {
                assert!(up);
                self.numbers(link, &reports);
            }
            ToScheduler::Goodbye => assert!(up && self.workers.runs.is_empty()),
        }
    }

    fn numbers(&mut self, link: LinkId, reports: &[Report]) {
        for seq in reports.iter().filter_map(Report::seq) {
            let before = self.last_seq.insert(link, seq);
            assert!(before.is_none_or(|before| before < seq));
            self.seq = self.seq.max(seq);
        }
    }

    /// Checks that the node ends when its own process wants it to, whatever was said.
    fn finish(&mut self) {
        for link in std::mem::take(&mut self.open) {
            let reason = "cut".to_owned();
            self.handle(NodeEvent::LinkClosed { link, reason });
        }
        self.handle(NodeEvent::Stop);
        self.settle();
        while let Some(worker) = self.workers.nth(0) {
            self.workers
                .end(worker, End::Stopped, Duration::ZERO, false);
            self.settle();
        }
        // A lease may be as long as it wants: what nobody acknowledges is given up with it.
        self.now = Timestamp(u64::MAX);
        for action in self.machine.effects(self.now) {
            self.perform(action);
        }
        assert!(self.gone && self.machine.is_gone(), "it never ends");
    }
}

fn hello(scheduler: &str, scheduler_id: u64, term: u64) -> ToNode {
    ToNode::Hello(Box::new(SchedulerHello {
        version_min: 1,
        version_max: 1,
        scheduler: scheduler.to_owned(),
        scheduler_id: SchedulerId(scheduler_id),
        term,
        max_frame: None,
    }))
}

pub fn policy(input: &mut Input) -> RetryPolicy {
    let policy = match input.bool() {
        true => RetryPolicy::fixed(input.duration()),
        false => RetryPolicy::exponential(input.duration(), input.duration()),
    };
    match input.number_32() {
        0 => policy.forever(),
        limit => policy.max_attempts(limit),
    }
}
