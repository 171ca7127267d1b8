//! Tests of the node's machine against a stepped clock.
//!
//! Owns: the bench on which one machine is driven by hand. Every step checks the invariants.

mod dial;
mod ending;
mod lease;
mod links;
mod machines;
mod memory;
mod pipelines;
mod probes;
mod random;
mod roles;
mod shares;
mod tasks;
mod terms;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::NodeConfig;
use crate::engine::message::{
    Assignment, End, Holding, KindOffer, NodeHello, Report, SchedulerHello, Terms, ToNode,
    VERSION_MAX, VERSION_MIN, Welcome,
};
use crate::engine::{Incarnation, Memory, SchedulerId};
use crate::error::LinkRefusal;
use crate::payload::Payload;
use crate::task::{Dispatch, Labels};
use crate::testing::{Checks, DrivenNode};

const HEARTBEAT: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_secs(15);
/// A kind that can be stopped.
const SOFT: u16 = 0;
/// A kind that cannot.
const BLOCKING: u16 = 1;

struct Bench {
    node: DrivenNode,
    now: Timestamp,
    links: u64,
}

fn spec(workers: u32) -> NodeSpec {
    let offer = |kind: &str, blocking| KindOffer {
        kind: kind.to_owned(),
        blocking,
    };
    NodeSpec {
        name: Arc::from("north"),
        incarnation: Incarnation(7),
        memory: Memory(1),
        kinds: vec![offer("soft", false), offer("hard", true)],
        labels: Labels::new(),
        config: NodeConfig {
            max_workers: workers,
            ..NodeConfig::default()
        },
        probes: Vec::new(),
        refusal_means_dead: None,
        joins: Vec::new(),
        end_with_scheduler: false,
        local: false,
        max_frame: None,
    }
}

fn joining(addresses: &[&str]) -> NodeSpec {
    NodeSpec {
        joins: addresses
            .iter()
            .map(|&address| address.to_owned())
            .collect(),
        ..spec(2)
    }
}

fn hello(scheduler: &str, scheduler_id: u64) -> ToNode {
    hello_in(scheduler, scheduler_id, 0)
}

fn hello_in(scheduler: &str, scheduler_id: u64, term: u64) -> ToNode {
    ToNode::Hello(Box::new(SchedulerHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        scheduler: scheduler.to_owned(),
        scheduler_id: SchedulerId(scheduler_id),
        term,
        max_frame: None,
    }))
}

fn welcome() -> Welcome {
    Welcome {
        version: VERSION_MAX,
        heartbeat: HEARTBEAT,
        lease: LEASE,
        outlive: Duration::ZERO,
        workers: None,
        retry: RetryPolicy::default(),
        acknowledged: 0,
        stop: Vec::new(),
        drain: false,
    }
}

fn task(number: u64, kind: u16, prefetched: bool, terms: Option<Terms>) -> Assignment {
    Assignment {
        task: TaskId::new(number),
        dispatch: Dispatch::new(number),
        kind,
        attempt: 1,
        prefetched,
        args: Payload::new(),
        terms: terms.map(Box::new),
    }
}

/// Makes an assignment that starts now or is refused.
fn at_once(number: u64) -> Assignment {
    task(number, SOFT, false, None)
}

/// Makes an assignment that may wait.
fn prefetched(number: u64) -> Assignment {
    task(number, SOFT, true, None)
}

fn exclusive(number: u64, kind: u16) -> Assignment {
    let terms = Terms {
        exclusive: true,
        ..Terms::default()
    };
    task(number, kind, false, Some(terms))
}

/// Tells that a connection is open, whose end here is not known.
fn opened(link: LinkId, dialled: Option<String>) -> NodeEvent {
    NodeEvent::LinkOpened {
        link,
        dialled,
        address: String::new(),
    }
}

fn d(number: u64) -> Dispatch {
    Dispatch::new(number)
}

impl Bench {
    fn new(spec: NodeSpec) -> Self {
        let now = Timestamp(1_000_000_000_000);
        Self {
            node: DrivenNode::new(NodeMachine::new(spec), Checks::EachStep),
            now,
            links: 0,
        }
    }

    /// Makes a bench whose link is up.
    fn up(spec: NodeSpec) -> (Self, LinkId) {
        let mut bench = Self::new(spec);
        let link = bench.serve(1, welcome());
        (bench, link)
    }

    fn event(&mut self, event: NodeEvent) -> Vec<NodeAction> {
        self.node.handle(self.now, event);
        self.effects()
    }

    fn effects(&mut self) -> Vec<NodeAction> {
        self.node.effects(self.now)
    }

    fn after(&mut self, span: Duration) -> Vec<NodeAction> {
        self.now = self.now + span;
        self.effects()
    }

    fn open(&mut self, dialled: Option<&str>) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        let dialled = dialled.map(str::to_owned);
        self.event(opened(link, dialled));
        link
    }

    fn cut(&mut self, link: LinkId) -> Vec<NodeAction> {
        let reason = "cut".to_owned();
        self.event(NodeEvent::LinkClosed { link, reason })
    }

    fn say(&mut self, link: LinkId, message: ToNode) -> Vec<NodeAction> {
        self.event(NodeEvent::Message { link, message })
    }

    fn assign(&mut self, link: LinkId, assignments: Vec<Assignment>) -> Vec<NodeAction> {
        self.say(link, ToNode::Assign(assignments))
    }

    /// Opens a link of the scheduler "a" and brings it up.
    fn serve(&mut self, scheduler_id: u64, welcome: Welcome) -> LinkId {
        let link = self.open(None);
        self.say(link, hello("a", scheduler_id));
        let actions = self.say(link, ToNode::Welcome(Box::new(welcome)));
        assert!(closed(&actions).is_empty(), "{actions:?}");
        link
    }

    fn ended(&mut self, worker: u32, number: u64, end: End) -> Vec<NodeAction> {
        self.end(worker, number, end, false)
    }

    fn overrun(&mut self, worker: u32, number: u64, end: End) -> Vec<NodeAction> {
        self.end(worker, number, end, true)
    }

    fn end(&mut self, worker: u32, number: u64, end: End, overrun: bool) -> Vec<NodeAction> {
        self.event(NodeEvent::Ended {
            worker: WorkerId(worker),
            dispatch: d(number),
            end,
            ran: Duration::from_millis(3),
            overrun,
        })
    }

    fn freed(&mut self, worker: u32, number: u64) -> Vec<NodeAction> {
        self.event(NodeEvent::Freed {
            worker: WorkerId(worker),
            dispatch: d(number),
        })
    }
}

fn done() -> End {
    End::Completed(Payload::new())
}

fn sent(actions: &[NodeAction]) -> Vec<&ToScheduler> {
    actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect()
}

fn reports(actions: &[NodeAction]) -> Vec<Report> {
    sent(actions)
        .into_iter()
        .filter_map(|message| match message {
            ToScheduler::Reports(reports) => Some(reports.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// Returns the reports in short: `started 1`, `ended 2 Stopped`.
fn told(actions: &[NodeAction]) -> Vec<String> {
    reports(actions).iter().map(in_short).collect()
}

fn in_short(report: &Report) -> String {
    match report {
        Report::Started { dispatch, .. } => format!("started {dispatch}"),
        Report::Ended {
            dispatch,
            end,
            overrun,
            ..
        } => {
            let end = match end {
                End::Completed(_) => "completed",
                End::Failed(_) => "failed",
                End::Again { .. } => "again",
                End::Stopped => "stopped",
                End::Dropped => "dropped",
            };
            let overrun = if *overrun { " and goes on" } else { "" };
            format!("{end} {dispatch}{overrun}")
        }
        Report::Freed { dispatch, .. } => format!("freed {dispatch}"),
        Report::Refused {
            dispatch, reason, ..
        } => format!("refused {dispatch} {reason:?}"),
        Report::Returned { dispatch, .. } => format!("returned {dispatch}"),
        Report::Ready => "ready".to_owned(),
        Report::Draining => "draining".to_owned(),
        Report::Lent { workers } => format!("lent {workers}"),
        Report::Stalled { workers, task } => format!("stalled {workers} {task:?}"),
        Report::Progress { dispatch, .. } => format!("progress {dispatch}"),
        Report::Note { dispatch, .. } => format!("note {dispatch}"),
    }
}

fn hellos(actions: &[NodeAction]) -> Vec<&NodeHello> {
    sent(actions)
        .into_iter()
        .filter_map(|message| match message {
            ToScheduler::Hello(hello) => Some(&**hello),
            _ => None,
        })
        .collect()
}

fn holdings(actions: &[NodeAction]) -> Vec<&Holding> {
    sent(actions)
        .into_iter()
        .filter_map(|message| match message {
            ToScheduler::Holding(holding) => Some(holding),
            _ => None,
        })
        .collect()
}

fn started(actions: &[NodeAction]) -> Vec<(u32, u64)> {
    actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::Start {
                worker, assignment, ..
            } => Some((worker.0, assignment.dispatch.get())),
            _ => None,
        })
        .collect()
}

fn taken_back(actions: &[NodeAction]) -> Vec<(u32, u64)> {
    actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::TakeBack { worker, dispatch } => Some((worker.0, dispatch.get())),
            _ => None,
        })
        .collect()
}

fn stopped(actions: &[NodeAction]) -> Vec<(u32, u64)> {
    actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::Stop { worker, dispatch } => Some((worker.0, dispatch.get())),
            _ => None,
        })
        .collect()
}

fn closed(actions: &[NodeAction]) -> Vec<LinkId> {
    actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::Close { link, .. } => Some(*link),
            _ => None,
        })
        .collect()
}

fn dialled(actions: &[NodeAction]) -> Vec<&str> {
    actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::Dial { address, .. } => Some(address.as_str()),
            _ => None,
        })
        .collect()
}

fn gone(actions: &[NodeAction]) -> Option<&Gone> {
    actions.iter().find_map(|action| match action {
        NodeAction::Gone(why) => Some(why),
        _ => None,
    })
}

fn refusals(actions: &[NodeAction]) -> Vec<&LinkRefusal> {
    sent(actions)
        .into_iter()
        .filter_map(|message| match message {
            ToScheduler::Refuse(refusal) => Some(refusal),
            _ => None,
        })
        .collect()
}

fn beats(actions: &[NodeAction]) -> Vec<u64> {
    sent(actions)
        .into_iter()
        .filter_map(|message| match message {
            ToScheduler::Beat(beat) => Some(beat.number),
            _ => None,
        })
        .collect()
}

fn says_goodbye(actions: &[NodeAction]) -> bool {
    sent(actions).contains(&&ToScheduler::Goodbye)
}
