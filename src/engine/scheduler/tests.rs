//! The machine by hand: what its promises say of single steps.
//!
//! Owns: a machine with nodes that say what a test has them say. Does not know: actors, sockets,
//! histories at random (the model test and the simulation have those).

mod acknowledgements;
mod bounds;
mod cancels;
mod common;
mod cost;
mod dead;
mod farewell;
mod finish;
mod forgotten;
mod grouping;
mod held;
mod incarnations;
mod joins;
mod kept;
mod late;
mod left_over;
mod limiting;
mod memory;
mod metering;
mod pausing;
mod poison;
mod prefetched;
mod recovery;
mod redial;
mod removal;
mod reroutes;
mod roles;
mod runs;
mod slow;
mod stored;
mod tail;
mod taken_over;
mod terms;
mod traces;
mod trails;
mod wall;
mod wants;

use std::time::Duration;

use kept::Kept;

use super::SchedulerMachine;
use crate::config::SchedulerConfig;
use crate::engine::message::{
    Assignment, End, HeldRun, Holding, KindOffer, NodeHello, Report, ToNode, ToScheduler,
};
use crate::engine::{
    Accepted, Action, Audience, ClientId, Event, Incarnation, LinkId, NodeId, Note, Origin,
    Refused, SchedulerId, Submission, Timestamp,
};
use crate::payload::Payload;
use crate::stats::StatusRoom;
use crate::status::{CancelAnswer, TaskStatus};
use crate::task::{Dispatch, Options, TaskId};
use crate::testing::{Checks, DrivenScheduler};

/// The kind whose handler blocks.
const BLOCKS: &str = "blocks";
/// The kind whose handler can be stopped.
const STOPS: &str = "stops";

/// Returns what a node is told by an action, if it is of these kinds.
fn kind_of(action: &Action) -> Option<&'static str> {
    let Action::Send { message, .. } = action else {
        return None;
    };
    match message {
        ToNode::Assign(_) => Some("assign"),
        ToNode::Acknowledge(_) => Some("acknowledge"),
        ToNode::Answer(_) => Some("answer"),
        ToNode::Drain => Some("drain"),
        ToNode::Leave => Some("leave"),
        ToNode::End => Some("end"),
        _ => None,
    }
}

/// Reports that a run has ended, and that its worker is free.
fn ended(seq: u64, run: &Assignment, end: End, ran: Duration) -> Report {
    Report::Ended {
        seq,
        task: run.task,
        dispatch: run.dispatch,
        end,
        ran,
        overrun: false,
    }
}

/// Makes a task whose first run is superseded: its node, which is gone, was the first, and the
/// second has it now.
fn superseded() -> (Board, TaskId, Assignment) {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let (_, run) = board.assignment(task);
    board.cut(link);
    board.wait(Duration::from_secs(30));
    board.join("second", 2, Vec::new());
    (board, task, run)
}

/// A scheduler's machine and what it has decided.
struct Board {
    machine: DrivenScheduler,
    now: Timestamp,
    links: u64,
    hellos: u64,
    reports: u64,
    assigned: Vec<(LinkId, Assignment)>,
    /// What nodes were asked to give back.
    retracted: Vec<(LinkId, Dispatch)>,
    /// How many tasks nodes were told to wait for workers that others have.
    wants: Vec<(LinkId, u32)>,
    told: Vec<TaskStatus>,
    /// What callers were answered, and whether nobody else is told.
    answered: Vec<(TaskStatus, bool)>,
    /// What watchers were told, and how often.
    notified: usize,
    /// Links that the scheduler closed, and why.
    closed: Vec<(LinkId, String)>,
    answers: Vec<CancelAnswer>,
    /// Addresses that were dialled.
    dials: Vec<String>,
    /// Nodes of which it was said that they were lost, or could not be reached.
    missed: Vec<String>,
    /// Where each of these was to ask.
    found_at: Vec<Option<String>>,
    /// Probes that were asked for.
    probes: Vec<(NodeId, Incarnation)>,
    /// Nodes that were told to drain, by their link.
    drains: Vec<LinkId>,
    /// What nodes were told, in order, by its kind.
    said: Vec<&'static str>,
    /// How often time has called while a test waited.
    ticks: usize,
    /// The reroutes: the reason, the node and the count.
    reroutes: Vec<(&'static str, String, usize)>,
    /// What was warned of statuses that are held: how many, and the room that is left.
    warned: Vec<(usize, StatusRoom)>,
    /// Links that were told to be slow: of whom, and how long a round trip takes.
    slow: Vec<(String, Duration)>,
    /// What it writes down, if that is kept.
    store: Option<Kept>,
    /// Tasks that were accepted, and then were not.
    taken_back: Vec<(TaskId, Refused)>,
    /// What each welcome acknowledged.
    welcomes: Vec<u64>,
    /// Whether the store was said to fail (`false`) or to go on.
    store_goes_on: Vec<bool>,
}

impl Board {
    fn new() -> Self {
        Self::with(Checks::EachStep)
    }

    /// Makes a board for a flood, at each step of which a check of everything would take its time.
    fn unchecked() -> Self {
        Self::with(Checks::Never)
    }

    fn with(checks: Checks) -> Self {
        Self::configured(checks, |_| {})
    }

    fn configured(checks: Checks, set: impl FnOnce(&mut SchedulerConfig)) -> Self {
        let mut config = SchedulerConfig {
            accept_joins: true,
            max_prefetch: 0,
            ..SchedulerConfig::default()
        };
        set(&mut config);
        let now = Timestamp(1_700_000_000_000_000_000);
        let machine = SchedulerMachine::new("board".into(), SchedulerId(1), config, now);
        let mut machine = DrivenScheduler::new(machine, checks);
        machine.set_client(now, Some(ClientId(1)));
        Self {
            machine,
            now,
            links: 0,
            hellos: 0,
            reports: 0,
            assigned: Vec::new(),
            retracted: Vec::new(),
            wants: Vec::new(),
            told: Vec::new(),
            answered: Vec::new(),
            notified: 0,
            closed: Vec::new(),
            answers: Vec::new(),
            dials: Vec::new(),
            missed: Vec::new(),
            found_at: Vec::new(),
            probes: Vec::new(),
            drains: Vec::new(),
            said: Vec::new(),
            ticks: 0,
            reroutes: Vec::new(),
            warned: Vec::new(),
            slow: Vec::new(),
            store: None,
            taken_back: Vec::new(),
            welcomes: Vec::new(),
            store_goes_on: Vec::new(),
        }
    }

    fn event(&mut self, event: Event) {
        self.machine.handle(self.now, event);
        self.settle_down();
    }

    fn settle_down(&mut self) {
        self.act();
        while let Some(event) = self.kept() {
            self.machine.handle(self.now, event);
            self.act();
        }
    }

    /// Keeps what is due to be stored, and returns what the machine is told of that.
    fn kept(&mut self) -> Option<Event> {
        let store = self.store.as_mut()?;
        store.turn(self.now, &mut self.machine)
    }

    fn act(&mut self) {
        for action in self.machine.effects(self.now) {
            self.said.extend(kind_of(&action));
            if let Action::Send {
                message: ToNode::Welcome(welcome),
                ..
            } = &action
            {
                self.welcomes.push(welcome.acknowledged);
            }
            match action {
                Action::Send {
                    link,
                    message: ToNode::Assign(runs),
                } => self
                    .assigned
                    .extend(runs.into_iter().map(|run| (link, run))),
                Action::Send {
                    link,
                    message: ToNode::Retract(runs),
                } => self
                    .retracted
                    .extend(runs.into_iter().map(|dispatch| (link, dispatch))),
                Action::Send {
                    link,
                    message: ToNode::Wants(tasks),
                } => self.wants.push((link, tasks)),
                Action::Send {
                    link,
                    message: ToNode::Drain,
                } => self.drains.push(link),
                Action::Send {
                    link,
                    message: ToNode::Welcome(welcome),
                } if welcome.drain => self.drains.push(link),
                Action::Dial {
                    address, found_at, ..
                } => {
                    self.dials.push(address);
                    self.found_at.push(found_at);
                }
                Action::Probe {
                    node, incarnation, ..
                } => self.probes.push((node, incarnation)),
                Action::Deliver { statuses, .. } => self.told.extend(statuses),
                Action::Answer { status, alone } => self.answered.push((status, alone)),
                Action::Notify { .. } => self.notified += 1,
                Action::Close { link, reason } => self.closed.push((link, reason)),
                Action::CancelAnswer { answer, .. } => self.answers.push(answer),
                Action::TakenBack { refused } => self.taken_back.extend(refused),
                Action::Note(note) => self.noted(*note),
                _ => {}
            }
        }
    }

    fn noted(&mut self, note: Note) {
        match note {
            Note::StoreFailing { .. } => self.store_goes_on.push(false),
            Note::StoreBack { .. } => self.store_goes_on.push(true),
            Note::NodeUnreachable { name, .. } | Note::NodeLost { name, .. } => {
                self.missed.push(name.to_string());
            }
            Note::Rerouted {
                name,
                reason,
                count,
                ..
            } => self.reroutes.push((reason, name.to_string(), count)),
            Note::StatusesHeld { held, room, .. } => self.warned.push((held, room)),
            Note::SlowLink {
                name, round_trip, ..
            } => self.slow.push((name.to_string(), round_trip)),
            _ => {}
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.machine.next_wakeup().filter(|&at| at <= until) {
            self.now = at.max(self.now);
            self.ticks += 1;
            self.settle_down();
        }
        self.now = until;
        self.settle_down();
    }

    fn say(&mut self, link: LinkId, message: ToScheduler) {
        self.event(Event::Message { link, message });
    }

    /// Lets somebody dial in who has said nothing so far.
    fn open(&mut self) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        self.event(Event::LinkOpened {
            link,
            origin: Origin::Came("127.0.0.1".to_owned()),
            peer: String::new(),
        });
        link
    }

    fn hello(&mut self, name: &str, incarnation: u64) -> NodeHello {
        self.hellos += 1;
        let offer = |kind: &str, blocking| KindOffer {
            kind: kind.to_owned(),
            blocking,
        };
        NodeHello {
            number: self.hellos,
            kinds: vec![offer(BLOCKS, true), offer(STOPS, false)],
            workers: 2,
            ..NodeHello::new(name, Incarnation(incarnation))
        }
    }

    /// Lets a node dial in with what it holds.
    fn join(&mut self, name: &str, incarnation: u64, runs: Vec<HeldRun>) -> LinkId {
        let hello = self.hello(name, incarnation);
        self.join_by(hello, runs)
    }

    fn join_by(&mut self, hello: NodeHello, runs: Vec<HeldRun>) -> LinkId {
        self.join_with(
            hello,
            Holding {
                runs,
                ..Default::default()
            },
        )
    }

    /// Does the same with all that it holds, in one part.
    fn join_with(&mut self, hello: NodeHello, mut holding: Holding) -> LinkId {
        let link = self.open();
        self.say(link, ToScheduler::Hello(Box::new(hello)));
        holding.last = true;
        self.say(link, ToScheduler::Holding(holding));
        link
    }

    /// Lets a dial lead to a process that says this and holds nothing.
    fn dialled(&mut self, node: NodeId, link: LinkId, hello: NodeHello) {
        let origin = Origin::Dialled(node);
        self.event(Event::LinkOpened {
            link,
            origin,
            peer: String::new(),
        });
        self.say(link, ToScheduler::Hello(Box::new(hello)));
        let nothing = Holding {
            last: true,
            ..Holding::default()
        };
        self.say(link, ToScheduler::Holding(nothing));
    }

    /// Lets the node of a run return with this end of it alone.
    fn return_with(&mut self, run: &Assignment, end: End) -> LinkId {
        let hello = self.hello("first", 1);
        let reports = vec![ended(1, run, end, Duration::from_secs(1))];
        self.join_with(
            hello,
            Holding {
                reports,
                ..Default::default()
            },
        )
    }

    fn cut(&mut self, link: LinkId) {
        let reason = "it was cut".to_owned();
        self.event(Event::LinkClosed { link, reason });
    }

    fn submit(&mut self, kind: &str) -> TaskId {
        self.submit_with(kind, |_| {})
    }

    fn submit_with(&mut self, kind: &str, change: impl FnOnce(&mut Submission)) -> TaskId {
        let mut submission = Submission {
            kind: kind.into(),
            args: Payload::new(),
            options: None,
            audience: Audience::Current,
            watcher: None,
        };
        change(&mut submission);
        let accepted = self.machine.submit(self.now, submission);
        self.settle_down();
        match accepted {
            Ok(Accepted::New(id)) => id,
            other => panic!("it was not accepted: {other:?}"),
        }
    }

    fn submit_exclusive(&mut self, kind: &str) -> TaskId {
        self.submit_with(kind, |it| {
            let options = Options {
                exclusive: true,
                ..Options::default()
            };
            it.options = Some(Box::new(options));
        })
    }

    /// Returns the latest assignment of a task, and where it went.
    fn assignment(&self, task: TaskId) -> (LinkId, Assignment) {
        let mut latest = self.assigned.iter().rev();
        latest
            .find(|(_, run)| run.task == task)
            .expect("the task was assigned")
            .clone()
    }

    /// Ends the latest run of a task.
    fn end(&mut self, task: TaskId, end: End, overrun: bool) {
        let (link, run) = self.assignment(task);
        self.end_of(link, &run, end, overrun);
    }

    fn end_of(&mut self, link: LinkId, run: &Assignment, end: End, overrun: bool) {
        self.reports += 1;
        let report = Report::Ended {
            seq: self.reports,
            task: run.task,
            dispatch: run.dispatch,
            end,
            ran: Duration::from_millis(5),
            overrun,
        };
        self.say(link, ToScheduler::Reports(vec![report]));
    }

    /// Frees the worker of an overrun run.
    fn freed(&mut self, link: LinkId, run: &Assignment) {
        self.reports += 1;
        let report = Report::Freed {
            seq: self.reports,
            task: run.task,
            dispatch: run.dispatch,
        };
        self.say(link, ToScheduler::Reports(vec![report]));
    }

    fn cancel(&mut self, task: TaskId) {
        self.machine.cancel(self.now, task, 7);
        self.settle_down();
    }
}
