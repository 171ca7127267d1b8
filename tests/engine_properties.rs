//! Random histories of one scheduler's machine beside a naive model.
//!
//! Owns: a scripted node side that answers at once, and the model: a list of tasks with where each one is.
//! Does not know: delays, cuts and doubles, which are the simulation's.

#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use callboard::config::SchedulerConfig;
use callboard::engine::message::{
    Assignment, Beat, End, HeldRun, HeldState, Holding, KindOffer, NodeHello, RefusedBy, Report,
    ToNode, ToScheduler, VERSION_MAX, VERSION_MIN,
};
use callboard::engine::scheduler::SchedulerMachine;
use callboard::engine::{
    Accepted, Action, Audience, ClientId, Epoch, Event, Life, LinkId, Note, Submission, Timestamp,
};
use callboard::retry::RetryPolicy;
use callboard::stats::{NodeState, Reason};
use callboard::status::{CancelAnswer, Cause, Failure, Outcome, TaskStatus};
use callboard::task::{Dispatch, Due, Labels, Options, Priority, TaskId};
use proptest::prelude::*;

const NODES: usize = 3;
const CLIENT: ClientId = ClientId(1);

#[derive(Clone, Debug)]
enum Step {
    Submit {
        priority: i8,
        delay_ms: Option<u64>,
        exclusive: bool,
        key: Option<u8>,
    },
    Cancel(usize),
    Connect(usize),
    Disconnect(usize),
    /// The process dies and another comes in its place.
    Restart(usize),
    End {
        node: usize,
        which: usize,
        how: u8,
    },
    Advance(u64),
    Workers(usize, u32),
    Beat,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (
            -2i8..3,
            prop::option::weighted(0.2, 1u64..5000),
            prop::bool::weighted(0.2),
            prop::option::weighted(0.15, 0u8..3),
        )
            .prop_map(|(priority, delay_ms, exclusive, key)| Step::Submit {
                priority,
                delay_ms,
                exclusive,
                key,
            }),
        1 => (0usize..40).prop_map(Step::Cancel),
        2 => (0..NODES).prop_map(Step::Connect),
        1 => (0..NODES).prop_map(Step::Disconnect),
        1 => (0..NODES).prop_map(Step::Restart),
        8 => (0..NODES, 0usize..8, 0u8..6).prop_map(|(node, which, how)| Step::End { node, which, how }),
        3 => (1u64..4000).prop_map(Step::Advance),
        1 => (0..NODES, 0u32..4).prop_map(|(node, workers)| Step::Workers(node, workers)),
        2 => Just(Step::Beat),
    ]
}

/// A node that does at once what it is told.
struct Fake {
    name: String,
    epoch: Epoch,
    link: Option<LinkId>,
    up: bool,
    workers: u32,
    running: BTreeMap<Dispatch, (TaskId, u32)>,
    ahead: VecDeque<Assignment>,
    kept: Vec<Report>,
    seq: u64,
    hellos: u64,
    beat: u64,
    answered: u64,
    /// When its lease began.
    lease_from: Timestamp,
}

impl Fake {
    fn new(index: usize, epoch: u64) -> Self {
        Self {
            name: format!("node{index}"),
            epoch: Epoch(epoch),
            link: None,
            up: false,
            workers: 2,
            running: BTreeMap::new(),
            ahead: VecDeque::new(),
            kept: Vec::new(),
            seq: 0,
            hellos: 0,
            beat: 0,
            answered: 0,
            lease_from: Timestamp(0),
        }
    }

    fn number(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }
}

/// What the naive model knows of a task.
struct Known {
    priority: i8,
    /// When it became due the last time it was not a reroute; the order among equals.
    due: Timestamp,
    exclusive: bool,
    key: Option<u8>,
    last: Option<Dispatch>,
    /// When it was sent ahead last: it is asked back when it has waited for a while.
    ahead_at: Timestamp,
    /// Whether its node was ever lost: then it may have to wait for reasons of its own.
    troubled: bool,
    cancelled: bool,
    outcome: Option<Outcome>,
}

struct World {
    machine: SchedulerMachine,
    now: Timestamp,
    nodes: Vec<Fake>,
    links: u64,
    epochs: u64,
    tasks: BTreeMap<TaskId, Known>,
    tickets: Vec<(TaskId, Option<CancelAnswer>)>,
    events: VecDeque<Event>,
    /// Tasks that started since the last command.
    fresh: BTreeSet<TaskId>,
    strict: bool,
}

impl World {
    fn new(max_ahead: u32) -> Self {
        let mut config = SchedulerConfig::default();
        config.accept_joins = true;
        config.max_ahead = max_ahead;
        config.max_reroutes = 1000;
        config.retry = RetryPolicy::fixed(Duration::from_millis(500)).max_attempts(3);
        let now = Timestamp(1_700_000_000_000_000_000);
        let mut machine = SchedulerMachine::new("model".into(), Life(7), config, now);
        machine.set_client(now, Some(CLIENT));
        Self {
            machine,
            now,
            nodes: (0..NODES)
                .map(|index| Fake::new(index, index as u64 + 1))
                .collect(),
            links: 0,
            epochs: 100,
            tasks: BTreeMap::new(),
            tickets: Vec::new(),
            events: VecDeque::new(),
            fresh: BTreeSet::new(),
            strict: max_ahead == 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Submit {
                priority,
                delay_ms,
                exclusive,
                key,
            } => {
                self.submit(priority, delay_ms, exclusive, key);
            }
            Step::Cancel(index) => {
                let Some(&task) = self.tasks.keys().nth(index) else {
                    return;
                };
                let ticket = self.tickets.len() as u64;
                self.tickets.push((task, None));
                let known = self.tasks.get_mut(&task).unwrap();
                known.cancelled |= known.outcome.is_none();
                self.machine.cancel(self.now, task, ticket);
            }
            Step::Connect(node) => self.connect(node),
            Step::Disconnect(node) => self.disconnect(node),
            Step::Restart(node) => {
                self.disconnect(node);
                self.epochs += 1;
                self.nodes[node] = Fake::new(node, self.epochs);
                // The scheduler cannot know which runs went with the old process until the new one speaks.
                self.settle();
                self.connect(node);
            }
            Step::End { node, which, how } => self.end(node, which, how),
            Step::Advance(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                for node in 0..NODES {
                    self.expire(node);
                }
                self.machine.handle(self.now, Event::Tick);
            }
            Step::Workers(node, workers) => {
                let name = self.nodes[node].name.clone();
                let _ = self.machine.set_workers(self.now, Some(&name), workers);
            }
            Step::Beat => self.beat(),
        }
    }

    fn submit(&mut self, priority: i8, delay_ms: Option<u64>, exclusive: bool, key: Option<u8>) {
        let mut options = Options::default();
        options.priority = Priority(priority);
        options.exclusive = exclusive;
        options.key = key.map(|key| format!("k{key}").into());
        if let Some(delay) = delay_ms {
            options.due = Due::After(Duration::from_millis(delay));
        }
        let submission = Submission {
            kind: "work".into(),
            args: Bytes::from_static(b"args"),
            options: Some(Box::new(options)),
            audience: Audience::Current,
            watcher: None,
        };
        let owner = self
            .tasks
            .iter()
            .find(|(_, known)| key.is_some() && known.key == key && known.outcome.is_none())
            .map(|(id, _)| *id);
        let before = format!("{:?}", self.machine.stats(self.now).totals);
        match self.machine.submit(self.now, submission) {
            Ok(Accepted::Joined(id)) => {
                assert_eq!(Some(id), owner, "a task joined another than its key's")
            }
            Ok(Accepted::New(id)) => {
                assert_eq!(owner, None, "{id} was accepted though its key is taken");
                let due = self.now + Duration::from_millis(delay_ms.unwrap_or(0));
                let known = Known {
                    priority,
                    due,
                    exclusive,
                    key,
                    last: None,
                    ahead_at: Timestamp(0),
                    troubled: false,
                    cancelled: false,
                    outcome: None,
                };
                assert!(
                    self.tasks.insert(id, known).is_none(),
                    "{id} was given out twice"
                );
            }
            Err(refused) => {
                assert!(
                    key.is_some(),
                    "refused without a ground: {}",
                    refused.refusal
                );
                let after = self.machine.stats(self.now).totals;
                let mut unrefused = after.clone();
                unrefused.refused -= 1;
                assert_eq!(
                    before,
                    format!("{unrefused:?}"),
                    "g2: a refusal changed something"
                );
            }
        }
    }

    fn connect(&mut self, node: usize) {
        if self.nodes[node].link.is_some() {
            return;
        }
        self.links += 1;
        let link = LinkId(self.links);
        self.nodes[node].link = Some(link);
        self.machine.handle(
            self.now,
            Event::LinkOpened {
                link,
                dialled: None,
            },
        );
    }

    fn disconnect(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.up = false;
        if let Some(link) = it.link.take() {
            let reason = "cut".to_owned();
            self.machine
                .handle(self.now, Event::LinkClosed { link, reason });
        }
    }

    fn beat(&mut self) {
        for it in &mut self.nodes {
            if let (Some(link), true) = (it.link, it.up) {
                it.beat += 1;
                let beat = Beat {
                    number: it.beat,
                    answered: it.answered,
                };
                let message = ToScheduler::Beat(beat);
                self.events.push_back(Event::Message { link, message });
            }
        }
    }

    fn end(&mut self, node: usize, which: usize, how: u8) {
        let it = &mut self.nodes[node];
        let Some((&dispatch, &(task, attempt))) = it.running.iter().nth(which) else {
            return;
        };
        it.running.remove(&dispatch);
        let failure = Failure::new(Cause::Error, "no");
        let end = match how {
            0 if attempt < 3 => End::Again {
                after: Duration::from_millis(500),
                failure,
            },
            1 => End::Failed(failure),
            _ => End::Completed(Bytes::copy_from_slice(&dispatch.get().to_le_bytes())),
        };
        let again = matches!(end, End::Again { .. });
        let seq = it.number();
        let report = Report::Ended {
            seq,
            task,
            dispatch,
            end,
            ran: Duration::from_millis(5),
            overrun: false,
        };
        self.report(node, report);
        self.pump(node);
        if again && self.nodes[node].up {
            let now = self.now;
            self.tasks.get_mut(&task).unwrap().due = now + Duration::from_millis(500);
        } else if again {
            self.tasks.get_mut(&task).unwrap().troubled = true;
        }
    }

    fn report(&mut self, node: usize, report: Report) {
        let it = &mut self.nodes[node];
        if report.seq().is_some() {
            it.kept.push(report.clone());
        }
        if let (Some(link), true) = (it.link, it.up) {
            let message = ToScheduler::Reports(vec![report]);
            self.events.push_back(Event::Message { link, message });
        }
    }

    fn start(&mut self, node: usize, assignment: &Assignment) {
        let (task, dispatch) = (assignment.task, assignment.dispatch);
        let exclusive_elsewhere = self
            .nodes
            .iter()
            .any(|it| it.running.values().any(|(other, _)| *other == task));
        let known = self
            .tasks
            .get_mut(&task)
            .expect("g1: only accepted tasks start");
        assert!(
            known.last < Some(dispatch),
            "g3: {task}{dispatch} starts after {:?}",
            known.last
        );
        assert!(
            !(known.exclusive && exclusive_elsewhere),
            "g10: {task} runs twice"
        );
        known.last = Some(dispatch);
        let it = &mut self.nodes[node];
        it.running.insert(dispatch, (task, assignment.attempt));
        self.fresh.insert(task);
    }

    /// What waits at a node starts while workers are free: by priority, then in order of arrival.
    fn pump(&mut self, node: usize) {
        loop {
            let it = &mut self.nodes[node];
            if it.running.len() >= it.workers as usize || it.ahead.is_empty() {
                return;
            }
            let priority = |it: &Assignment| it.terms.as_ref().map_or(0, |terms| terms.priority);
            let best = it.ahead.iter().map(priority).max().unwrap();
            let index = it.ahead.iter().position(|it| priority(it) == best).unwrap();
            let assignment = it.ahead.remove(index).unwrap();
            self.start(node, &assignment);
            let (task, dispatch) = (assignment.task, assignment.dispatch);
            self.report(node, Report::Started { task, dispatch });
        }
    }

    /// Carries everything until nothing more comes of it.
    fn settle(&mut self) {
        let mut actions = Vec::new();
        for round in 0.. {
            assert!(round < 10_000, "the machines never come to rest");
            while let Some(event) = self.events.pop_front() {
                self.machine.handle(self.now, event);
            }
            self.machine.take_effects(self.now, &mut actions);
            if actions.is_empty() && self.events.is_empty() {
                break;
            }
            for action in std::mem::take(&mut actions) {
                self.perform(action);
            }
        }
        if let Err(broken) = self.machine.check() {
            panic!("check: {broken}");
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { link, message } => {
                if let Some(node) = self.nodes.iter().position(|it| it.link == Some(link)) {
                    self.told(node, link, message);
                }
            }
            Action::Close { link, reason } => {
                for it in &mut self.nodes {
                    if it.link == Some(link) {
                        it.link = None;
                        it.up = false;
                    }
                }
                self.events.push_back(Event::LinkClosed { link, reason });
            }
            Action::Deliver { client, statuses } => {
                assert_eq!(client, CLIENT);
                let count = statuses.len();
                for status in statuses {
                    self.ended(&status);
                }
                self.events.push_back(Event::Confirmed { client, count });
            }
            Action::CancelAnswer { ticket, answer } => {
                let it = &mut self.tickets[usize::try_from(ticket).unwrap()];
                assert_eq!(
                    it.1.replace(answer),
                    None,
                    "g12: a cancel is answered twice"
                );
            }
            Action::Note(Note::NodeLost { .. }) => {
                for known in self.tasks.values_mut().filter(|known| known.last.is_some()) {
                    known.troubled = true;
                }
            }
            _ => {}
        }
    }

    fn told(&mut self, node: usize, link: LinkId, message: ToNode) {
        match message {
            ToNode::Hello(_) => self.greet(node, link),
            ToNode::Welcome(welcome) => {
                let it = &mut self.nodes[node];
                it.up = true;
                it.lease_from = self.now;
                it.beat = 0;
                it.answered = 0;
                it.kept
                    .retain(|report| report.seq() > Some(welcome.acknowledged));
                if let Some(workers) = welcome.workers {
                    it.workers = workers;
                }
                self.stop(node, &welcome.stop);
                self.pump(node);
            }
            ToNode::Refuse(_) => {}
            ToNode::Assign(assignments) => {
                for assignment in assignments {
                    self.assigned(node, assignment);
                }
            }
            ToNode::Recall(dispatches) => {
                for dispatch in dispatches {
                    let it = &mut self.nodes[node];
                    if let Some(index) = it.ahead.iter().position(|it| it.dispatch == dispatch) {
                        let task = it.ahead.remove(index).unwrap().task;
                        let seq = it.number();
                        self.report(
                            node,
                            Report::Returned {
                                seq,
                                task,
                                dispatch,
                            },
                        );
                    }
                }
            }
            ToNode::Cancel(dispatches) => self.stop(node, &dispatches),
            ToNode::Acknowledge(through) => {
                self.nodes[node]
                    .kept
                    .retain(|report| report.seq() > Some(through));
            }
            ToNode::Answer(number) => {
                let it = &mut self.nodes[node];
                it.answered = it.answered.max(number);
                it.lease_from = self.now;
            }
            ToNode::Workers(workers) => {
                self.nodes[node].workers = workers;
                self.pump(node);
                let it = &self.nodes[node];
                if it.running.len() < it.workers as usize {
                    self.report(node, Report::Ready);
                }
            }
            ToNode::Retry(_) | ToNode::Drain | ToNode::Leave => {}
        }
    }

    fn greet(&mut self, node: usize, link: LinkId) {
        let it = &mut self.nodes[node];
        it.hellos += 1;
        let hello = NodeHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: it.name.clone(),
            epoch: it.epoch,
            number: it.hellos,
            kinds: vec![KindOffer {
                kind: "work".to_owned(),
                blocking: false,
            }],
            labels: Labels::new(),
            workers: it.workers,
            probe: None,
            draining: false,
        };
        let held = |task, dispatch, state| HeldRun {
            task,
            dispatch,
            state,
        };
        let runs = it
            .running
            .iter()
            .map(|(dispatch, (task, _))| held(*task, *dispatch, HeldState::Running))
            .chain(
                it.ahead
                    .iter()
                    .map(|it| held(it.task, it.dispatch, HeldState::Ahead)),
            )
            .collect();
        let holding = Holding {
            runs,
            reports: it.kept.clone(),
            last: true,
        };
        for message in [ToScheduler::Hello(hello), ToScheduler::Holding(holding)] {
            self.events.push_back(Event::Message { link, message });
        }
    }

    fn assigned(&mut self, node: usize, assignment: Assignment) {
        let it = &mut self.nodes[node];
        if it.running.len() < it.workers as usize {
            self.start(node, &assignment);
            if assignment.ahead {
                let (task, dispatch) = (assignment.task, assignment.dispatch);
                self.report(node, Report::Started { task, dispatch });
            }
        } else if assignment.ahead {
            let task = self.tasks.get_mut(&assignment.task).unwrap();
            task.ahead_at = self.now;
            it.ahead.push_back(assignment);
        } else {
            let seq = it.number();
            let report = Report::Refused {
                seq,
                task: assignment.task,
                dispatch: assignment.dispatch,
                reason: RefusedBy::NoWorker,
            };
            self.report(node, report);
        }
    }

    /// At four fifths of its lease a node drops what is exclusive, at its end everything.
    fn expire(&mut self, node: usize) {
        let lease = SchedulerConfig::default().lease;
        let it = &mut self.nodes[node];
        let passed = self.now.since(it.lease_from);
        if passed < lease / 5 * 4 {
            return;
        }
        let all = passed >= lease;
        let tasks = &self.tasks;
        let dropped: Vec<_> = it
            .running
            .iter()
            .filter(|(_, (task, _))| all || tasks[task].exclusive)
            .map(|(dispatch, (task, _))| (*task, *dispatch))
            .collect();
        let returned = if all {
            std::mem::take(&mut it.ahead)
        } else {
            VecDeque::new()
        };
        for (task, dispatch) in dropped {
            let it = &mut self.nodes[node];
            it.running.remove(&dispatch);
            let seq = it.number();
            let report = Report::Ended {
                seq,
                task,
                dispatch,
                end: End::Dropped,
                ran: Duration::from_millis(1),
                overrun: false,
            };
            self.report(node, report);
        }
        for assignment in returned {
            let (task, dispatch) = (assignment.task, assignment.dispatch);
            let seq = self.nodes[node].number();
            self.report(
                node,
                Report::Returned {
                    seq,
                    task,
                    dispatch,
                },
            );
        }
        if !all {
            self.pump(node);
        }
    }

    fn stop(&mut self, node: usize, dispatches: &[Dispatch]) {
        for &dispatch in dispatches {
            let it = &mut self.nodes[node];
            let ahead = it.ahead.iter().position(|it| it.dispatch == dispatch);
            let task = it
                .running
                .remove(&dispatch)
                .map(|(task, _)| task)
                .or_else(|| {
                    ahead
                        .and_then(|index| it.ahead.remove(index))
                        .map(|it| it.task)
                });
            if let Some(task) = task {
                let seq = it.number();
                let report = Report::Ended {
                    seq,
                    task,
                    dispatch,
                    end: End::Stopped,
                    ran: Duration::from_millis(1),
                    overrun: false,
                };
                self.report(node, report);
            }
        }
        self.pump(node);
    }

    fn ended(&mut self, status: &TaskStatus) {
        let known = self
            .tasks
            .get_mut(&status.id)
            .expect("g1: only accepted tasks end");
        assert!(known.outcome.is_none(), "g1: {} ends twice", status.id);
        assert!(!status.is_given_again(), "g1: {} is given again", status.id);
        if status.outcome == Outcome::Cancelled {
            assert!(known.cancelled, "g12: nobody cancelled {}", status.id);
        }
        known.outcome = Some(status.outcome.clone());
    }

    /// What holds when nothing is under way.
    fn judge(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        let stats = self.machine.stats(self.now);
        let unsettled = self
            .tasks
            .values()
            .filter(|known| known.outcome.is_none())
            .count();
        let counted =
            stats.pending + stats.due_later + stats.waiting_retries + stats.held + stats.running;
        assert_eq!(
            counted, unsettled,
            "the stats count other tasks than were accepted"
        );
        let free = self
            .nodes
            .iter()
            .find(|it| it.up && it.running.len() < it.workers as usize);
        let running: BTreeSet<TaskId> = self
            .nodes
            .iter()
            .flat_map(|it| it.running.values().map(|(task, _)| *task))
            .collect();
        // What a node that is not up has is its own until it is lost.
        let unreachable: BTreeSet<Arc<str>> = stats
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Unreachable)
            .map(|node| node.name.clone())
            .collect();
        let out_of_reach = |id: TaskId| {
            let why = self.machine.explain(self.now, id).map(|why| why.reason);
            matches!(
                why,
                Some(Reason::Running { node, .. } | Reason::SentAhead { node })
                    if unreachable.contains(&node)
            )
        };
        for (id, known) in &self.tasks {
            let waits = known.outcome.is_none()
                && known.due <= self.now
                && !known.troubled
                && !running.contains(id)
                && self.now.since(known.ahead_at) > Duration::from_secs(1)
                && !out_of_reach(*id);
            if !waits {
                continue;
            }
            if let Some(node) = free {
                panic!(
                    "g5: {id} waits beside a free worker of {}: {:?}",
                    node.name,
                    self.machine.explain(self.now, *id)
                );
            }
            if !self.strict {
                continue;
            }
            let worse = fresh.iter().find(|other| {
                let other = &self.tasks[other];
                !other.troubled
                    && (-i16::from(other.priority), other.due)
                        > (-i16::from(known.priority), known.due)
            });
            assert_eq!(worse, None, "g6: it started before {id}, which goes first");
        }
    }

    /// Brings every node up and lets everything end.
    fn finish(&mut self) {
        for node in 0..NODES {
            let name = self.nodes[node].name.clone();
            let _ = self.machine.set_workers(self.now, Some(&name), 2);
            self.nodes[node].workers = 2;
        }
        for _ in 0..400 {
            for node in 0..NODES {
                self.connect(node);
            }
            self.beat();
            self.settle();
            for node in 0..NODES {
                for _ in 0..8 {
                    self.end(node, 0, 5);
                    self.settle();
                }
            }
            if self.machine.is_idle() && self.tasks.values().all(|known| known.outcome.is_some()) {
                break;
            }
            self.now = self.now + Duration::from_millis(500);
            self.machine.handle(self.now, Event::Tick);
        }
        for (id, known) in &self.tasks {
            assert!(
                known.outcome.is_some(),
                "g1: {id} has not ended: {:?}",
                self.machine.explain(self.now, *id)
            );
        }
        for (task, answer) in &self.tickets {
            assert!(
                answer.is_some(),
                "g12: the cancel of {task} was never answered"
            );
        }
        assert_eq!(self.machine.stats(self.now).totals.violations, 0);
    }
}

fn history(max_ahead: u32, steps: &[Step]) {
    let mut world = World::new(max_ahead);
    for step in steps {
        world.step(step);
        world.settle();
        world.judge();
    }
    world.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scheduler_that_sends_nothing_ahead_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        history(0, &steps);
    }

    #[test]
    fn a_scheduler_that_sends_ahead_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        history(16, &steps);
    }
}

/// The same names in one place, so that a change of the contract shows here first.
#[test]
fn a_new_scheduler_is_idle_and_holds_its_invariants() {
    let name: Arc<str> = "empty".into();
    let machine = SchedulerMachine::new(name, Life(1), SchedulerConfig::default(), Timestamp(1));
    assert!(machine.is_idle());
    assert_eq!(machine.check(), Ok(()));
    assert!(machine.unfinished().is_empty());
}
