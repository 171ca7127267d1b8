//! The scheduler's machine, its honest node, and the links of the hostile ones.
//!
//! Owns: carrying messages, the clock, and the judgement. Does not know: what hostile nodes say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use callboard::__internals::engine::message::{End, Report, ToNode, ToScheduler};
use callboard::__internals::engine::node::{NodeAction, NodeEvent, NodeMachine};
use callboard::__internals::engine::scheduler::SchedulerMachine;
use callboard::__internals::engine::{
    Accepted, Action, Audience, ClientId, Event, Incarnation, LinkId, NodeId, Origin, Reach,
    SchedulerId, Submission, Timestamp,
};
use callboard::__internals::testing::{Checks, DrivenNode, DrivenScheduler};
use callboard::Payload;
use callboard::config::SchedulerConfig;
use callboard::error::LinkRefusal;
use callboard::status::Outcome;
use callboard::task::{Dispatch, Due, Options, Priority, TaskId};

use super::super::carried;
use super::super::input::Input;
use super::super::node::{policy, spec};
use super::super::workers::Workers;
use super::words::{Knows, NAMES, confirmed};

const CLIENT: ClientId = ClientId(1);
const HONEST: LinkId = LinkId(1);
const HEARTBEAT: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(5);
/// Links that hostile nodes have open at once.
const MAX_OPEN: usize = 4;

pub struct Stage {
    machine: DrivenScheduler,
    node: DrivenNode,
    workers: Workers,
    now: Timestamp,
    events: VecDeque<Event>,
    links: u64,
    open: Vec<LinkId>,
    /// Closed by the scheduler.
    closed: BTreeSet<LinkId>,
    knows: BTreeMap<LinkId, Knows>,
    all: Vec<(TaskId, Dispatch)>,
    hellos: u64,
    dials: Vec<NodeId>,
    probes: Vec<(NodeId, Incarnation)>,
    last: BTreeMap<TaskId, Dispatch>,
    tasks: BTreeMap<TaskId, Option<Outcome>>,
    tickets: Vec<bool>,
    unconfirmed: Vec<Event>,
    violations: u64,
}

impl Stage {
    pub fn new(input: &mut Input) -> Self {
        let mut config = SchedulerConfig::default();
        config.accept_joins = true;
        config.heartbeat = HEARTBEAT;
        config.lease = LEASE;
        config.max_prefetch = input.below(2) as u32 * 16;
        config.max_statuses = 1000;
        let now = Timestamp(1_700_000_000_000_000_000);
        let machine = SchedulerMachine::new("stage".into(), SchedulerId(7), config, now);
        let mut machine = DrivenScheduler::new(machine, Checks::EachStep);
        machine.set_client(now, Some(CLIENT));
        for name in ["honest", "dialled"] {
            machine
                .add_node(now, name.into(), Reach::Dial(name.to_owned()))
                .expect("the names are free");
        }
        let mut stage = Self {
            machine,
            node: DrivenNode::new(NodeMachine::new(spec("honest", 2)), Checks::EachStep),
            workers: Workers::default(),
            now,
            events: VecDeque::new(),
            links: 1,
            open: Vec::new(),
            closed: BTreeSet::new(),
            knows: BTreeMap::new(),
            all: Vec::new(),
            hellos: 0,
            dials: Vec::new(),
            probes: Vec::new(),
            last: BTreeMap::new(),
            tasks: BTreeMap::new(),
            tickets: Vec::new(),
            unconfirmed: Vec::new(),
            violations: 0,
        };
        stage.node.handle(
            now,
            NodeEvent::LinkOpened {
                link: HONEST,
                dialled: None,
                address: String::new(),
            },
        );
        stage.settle();
        stage
    }

    pub fn step(&mut self, input: &mut Input) {
        match input.below(32) {
            0..=3 => self.submit(input),
            4 => self.cancel(input),
            5..=6 => self.pass(Duration::from_millis(u64::from(input.byte()) * 25)),
            7..=9 => self.end(input),
            10 => drop(self.open(came())),
            11..=13 => self.serve(input),
            14 => {
                if let Some(node) = self.dials.pop() {
                    self.open(Origin::Dialled(node));
                }
            }
            15 => self.answer_a_dial(input),
            16 => {
                if let Some(&link) = input.pick(&self.open) {
                    self.cut(link);
                }
            }
            17 => {
                if let Some(&link) = input.pick(&self.open) {
                    self.events.push_back(Event::Heard { link });
                }
            }
            18 => self.operate(input),
            19 => {
                self.events.extend(self.unconfirmed.drain(..).rev());
            }
            _ => {
                // Mostly the newest, or little would be said to the point.
                let link = match input.below(4) {
                    0 => input.pick(&self.open).copied(),
                    _ => self.open.last().copied(),
                };
                if let Some(link) = link {
                    let word = self.with(link, |knows| knows.word(input));
                    self.say(link, &word);
                }
            }
        }
    }

    fn submit(&mut self, input: &mut Input) {
        let mut options = Options::default();
        let kind = if input.bool() { "soft" } else { "hard" };
        let odd = input.byte();
        if odd > 128 {
            options.priority = Priority(input.byte() as i8 % 2);
            options.exclusive = odd & 1 > 0;
            options.key = (odd & 2 > 0).then(|| format!("k{}", input.below(3)).into());
            if odd & 4 > 0 {
                options.deadline = Some(input.duration().max(Duration::from_nanos(1)));
            }
            if odd & 8 > 0 {
                options.due = Due::After(input.duration());
            }
            options.retry = (odd & 16 > 0).then(|| policy(input));
            options.max_reroutes = (odd & 32 > 0).then(|| input.number_32());
        }
        let submission = Submission {
            kind: kind.into(),
            args: Payload::from(b"args"),
            options: (odd > 128).then(|| Box::new(options)),
            audience: Audience::Current,
            watcher: (odd & 64 > 0).then_some(CLIENT),
        };
        if let Ok(Accepted::New(id)) = self.machine.submit(self.now, submission) {
            let known = self.tasks.insert(id, None);
            assert!(known.is_none(), "{id} was given out twice");
        }
    }

    fn cancel(&mut self, input: &mut Input) {
        let ids: Vec<_> = self.tasks.keys().copied().collect();
        let id = input.pick(&ids).copied().unwrap_or(TaskId::new(9));
        self.cancel_task(id);
    }

    fn cancel_task(&mut self, id: TaskId) {
        let ticket = self.tickets.len() as u64;
        self.tickets.push(false);
        self.machine.cancel(self.now, id, ticket);
    }

    /// Lets time pass while the honest node beats.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now = until.min(self.now + HEARTBEAT / 2);
            self.settle();
        }
    }

    /// Ends the honest node's run, and checks that what it says of it holds.
    fn end(&mut self, input: &mut Input) {
        let Some(worker) = self.workers.nth(input.below(256)) else {
            return;
        };
        let run = &self.workers.runs[&worker];
        let (task, overrun) = (run.assignment.task, run.overrun);
        let output = Payload::from(&run.assignment.dispatch.get().to_le_bytes());
        let how = input.below(8);
        let ran = Duration::from_micros(u64::from(input.byte()));
        match how {
            0 => self.workers.end(worker, End::Stopped, ran, true),
            1 => self.workers.end(worker, End::Dropped, ran, false),
            _ => {
                let open = self.tasks[&task].is_none() && !overrun;
                self.workers
                    .end(worker, End::Completed(output.clone()), ran, false);
                self.settle();
                if open {
                    let outcome = self.tasks[&task].clone();
                    assert_eq!(outcome, Some(Outcome::Completed(output)), "{task}");
                }
            }
        }
    }

    fn open(&mut self, origin: Origin) -> LinkId {
        if self.open.len() >= MAX_OPEN {
            self.cut(self.open[0]);
        }
        self.links += 1;
        let link = LinkId(self.links);
        self.open.push(link);
        self.knows.insert(link, Knows::default());
        self.events.push_back(Event::LinkOpened {
            link,
            origin,
            peer: String::new(),
        });
        self.settle();
        link
    }

    /// Opens a link as an honest node sets it up, so that what follows is heard.
    fn serve(&mut self, input: &mut Input) {
        let link = self.open(came());
        let hello = self.with(link, |knows| {
            ToScheduler::Hello(Box::new(knows.hello(input)))
        });
        self.say(link, &hello);
        let holding = self.with(link, |knows| knows.holding(input));
        self.say(link, &holding);
    }

    fn answer_a_dial(&mut self, input: &mut Input) {
        let (refused, reason) = (input.bool(), "nobody".to_owned());
        if let Some(node) = self.dials.pop() {
            self.events.push_back(Event::DialFailed {
                node,
                refused,
                reason,
            });
        } else if let Some((node, incarnation)) = self.probes.pop() {
            self.events.push_back(Event::Probed {
                node,
                incarnation,
                refused,
            });
        }
    }

    fn operate(&mut self, input: &mut Input) {
        let name = NAMES[input.below(3)];
        // Whether there is such a node does not matter.
        let _ = match input.below(3) {
            0 => self.machine.drain_node(self.now, name),
            1 => self.machine.remove_node(self.now, name),
            _ => self
                .machine
                .set_workers(self.now, Some(name), u32::from(input.byte())),
        };
    }

    fn cut(&mut self, link: LinkId) {
        self.open.retain(|&open| open != link);
        let reason = "cut".to_owned();
        self.events.push_back(Event::LinkClosed { link, reason });
    }

    /// Acts on what is known on this link, and to all.
    fn with<R>(&mut self, link: LinkId, act: impl FnOnce(&mut Knows) -> R) -> R {
        let mut knows = self.knows.remove(&link).unwrap_or_default();
        knows.all.clone_from(&self.all);
        knows.hellos = self.hellos;
        let result = act(&mut knows);
        self.hellos = knows.hellos;
        self.knows.insert(link, knows);
        result
    }

    fn say(&mut self, link: LinkId, word: &ToScheduler) {
        if !self.open.contains(&link) {
            return;
        }
        match carried(word) {
            Some(messages) => {
                let events = messages.into_iter();
                self.events
                    .extend(events.map(|message| Event::Message { link, message }));
            }
            None => self.cut(link),
        }
        self.settle();
    }

    /// Carries everything until nothing more comes of it.
    pub fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 1000, "the machines never come to rest");
            while let Some(event) = self.events.pop_front() {
                self.machine.handle(self.now, event);
            }
            let actions = self.machine.effects(self.now);
            let quiet = actions.is_empty();
            for action in actions {
                self.perform(action);
            }
            let spoke = self.turn_of_the_node();
            if quiet && !spoke {
                break;
            }
        }
    }

    /// Gives the honest node its turn. Returns whether it had something to say.
    fn turn_of_the_node(&mut self) -> bool {
        while let Some(event) = self.workers.said.pop_front() {
            self.node.handle(self.now, event);
        }
        let actions = self.node.effects(self.now);
        let spoke = !actions.is_empty();
        for action in actions {
            match action {
                NodeAction::Send { link, message } => {
                    if let ToScheduler::Reports(reports) = &message {
                        let refused = |report: &Report| matches!(report, Report::Refused { .. });
                        assert!(!reports.iter().any(refused), "g4: more than it has workers");
                    }
                    self.events.push_back(Event::Message { link, message });
                }
                NodeAction::Close { reason, .. } => panic!("the honest node left: {reason}"),
                NodeAction::Start { ref assignment, .. } => {
                    let dispatch = assignment.dispatch;
                    assert!(!self.workers.has(dispatch), "{dispatch} runs twice at once");
                    self.workers.perform(action);
                }
                action => self.workers.perform(action),
            }
        }
        assert!(
            self.workers.runs.len() <= 2,
            "g4: more than its workers run"
        );
        spoke
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { link, message } => {
                assert!(!self.closed.contains(&link), "{message:?} on a closed link");
                self.sent(link, message);
            }
            Action::Close { link, reason } => {
                assert_ne!(link, HONEST, "the honest node's link is closed: {reason}");
                assert!(self.closed.insert(link), "{link} is closed twice");
                if self.open.contains(&link) {
                    self.cut(link);
                }
            }
            Action::Dial { node, .. } if node == NodeId(0) => {
                self.events.push_back(Event::LinkOpened {
                    link: HONEST,
                    origin: Origin::Dialled(node),
                    peer: String::new(),
                });
            }
            Action::Dial { node, .. } => {
                assert!(!self.dials.contains(&node), "one dial for a node");
                self.dials.push(node);
            }
            Action::Probe {
                node, incarnation, ..
            } => self.probes.push((node, incarnation)),
            Action::Deliver {
                client,
                delivery,
                statuses,
            } => {
                assert_eq!(client, CLIENT);
                self.unconfirmed
                    .push(confirmed(client, delivery, statuses.len()));
                for status in statuses {
                    let known = self.tasks.get_mut(&status.id).expect("g1: it was accepted");
                    assert!(known.is_none(), "g1: {} ends twice", status.id);
                    *known = Some(status.outcome.clone());
                }
            }
            Action::CancelAnswer { ticket, .. } => {
                let answered = &mut self.tickets[ticket as usize];
                assert!(!std::mem::replace(answered, true), "g12: answered twice");
            }
            Action::Answer { status, .. } => panic!("nobody waits for {}", status.id),
            Action::LetGo { .. }
            | Action::Notify { .. }
            | Action::TakenBack { .. }
            | Action::Note(_) => {}
        }
    }

    fn sent(&mut self, link: LinkId, message: ToNode) {
        if let ToNode::Assign(assignments) = &message {
            for assignment in assignments {
                let (task, dispatch) = (assignment.task, assignment.dispatch);
                let before = self.last.insert(task, dispatch);
                assert!(before < Some(dispatch), "g3: {dispatch} after {before:?}");
                self.all.push((task, dispatch));
                if let Some(knows) = self.knows.get_mut(&link) {
                    knows.own.push((task, dispatch));
                }
            }
        }
        if link == HONEST {
            self.node
                .handle(self.now, NodeEvent::Message { link, message });
            return;
        }
        match message {
            ToNode::Answer(number) => {
                if let Some(knows) = self.knows.get_mut(&link) {
                    knows.answered = number;
                }
            }
            ToNode::Welcome(welcome) => {
                if let Some(knows) = self.knows.get_mut(&link) {
                    knows.seq = knows.seq.max(welcome.acknowledged);
                }
            }
            ToNode::Refuse(LinkRefusal::Violation(_)) => self.violations += 1,
            _ => {}
        }
    }

    /// Checks that every task ends and every cancel is answered when the hostile ones are gone.
    pub fn finish(&mut self) {
        for link in self.open.clone() {
            self.cut(link);
        }
        self.settle();
        let names: Vec<_> = self
            .machine
            .stats(self.now)
            .nodes
            .into_iter()
            .map(|node| node.name)
            .collect();
        for name in names.iter().filter(|name| &***name != NAMES[3]) {
            self.machine
                .remove_node(self.now, name)
                .expect("it is there");
        }
        self.settle();
        for id in self.tasks.keys().copied().collect::<Vec<_>>() {
            self.cancel_task(id);
        }
        self.settle();
        while let Some(worker) = self.workers.nth(0) {
            self.events.extend(self.unconfirmed.drain(..).rev());
            self.workers
                .end(worker, End::Stopped, Duration::ZERO, false);
            self.settle();
        }
        self.pass(LEASE * 2);
        for (id, outcome) in &self.tasks {
            let why = self.machine.explain(self.now, *id);
            assert!(outcome.is_some(), "{id} never ends: {why:?}");
        }
        assert!(
            self.tickets.iter().all(|answered| *answered),
            "g12: no answer"
        );
        let totals = self.machine.stats(self.now).totals;
        assert_eq!(totals.violations, self.violations);
        assert_eq!(totals.settled(), self.tasks.len() as u64);
    }
}

fn came() -> Origin {
    Origin::Came("1.2.3.4".to_owned())
}
