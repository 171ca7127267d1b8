//! The naive model: a list of tasks with where each one is.
//!
//! Owns: what must be true of them. Does not know: how a node works (see `nodes`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use callboard::__internals::engine::scheduler::SchedulerMachine;
use callboard::__internals::engine::{
    Accepted, Action, Audience, Event, Note, SchedulerId, Submission, Timestamp,
};
use callboard::__internals::testing::{Checks, DrivenScheduler};
use callboard::Payload;
use callboard::config::SchedulerConfig;
use callboard::retry::RetryPolicy;
use callboard::stats::{NodeState, Reason};
use callboard::status::{CancelAnswer, Outcome, TaskStatus};
use callboard::task::{Dispatch, Due, Options, Priority, TaskId};

use crate::nodes::Fake;
use crate::{CLIENT, NODES, Step};

/// What the naive model knows of a task.
pub struct Known {
    pub priority: i8,
    /// When it became due the last time it was not a reroute; the order among equals.
    pub due: Timestamp,
    pub exclusive: bool,
    pub key: Option<u8>,
    pub last: Option<Dispatch>,
    /// When it was prefetched last: it is asked back when it has waited for a while.
    pub ahead_at: Timestamp,
    /// Whether its node was ever lost: then it may have to wait for reasons of its own.
    pub troubled: bool,
    pub cancelled: bool,
    pub outcome: Option<Outcome>,
}

pub struct World {
    pub machine: DrivenScheduler,
    pub now: Timestamp,
    pub nodes: Vec<Fake>,
    pub links: u64,
    pub incarnations: u64,
    pub tasks: BTreeMap<TaskId, Known>,
    pub tickets: Vec<(TaskId, Option<CancelAnswer>)>,
    pub events: VecDeque<Event>,
    /// Tasks that started since the last command, and when.
    pub fresh: BTreeMap<TaskId, Timestamp>,
    pub strict: bool,
}

impl World {
    pub fn new(max_prefetch: u32) -> Self {
        let mut config = SchedulerConfig::default();
        config.accept_joins = true;
        config.max_prefetch = max_prefetch;
        config.max_reroutes = 1000;
        config.retry = RetryPolicy::fixed(Duration::from_millis(500)).max_attempts(3);
        let now = Timestamp(1_700_000_000_000_000_000);
        let machine = SchedulerMachine::new("model".into(), SchedulerId(7), config, now);
        let mut machine = DrivenScheduler::new(machine, Checks::EachStep);
        machine.set_client(now, Some(CLIENT));
        Self {
            machine,
            now,
            nodes: (0..NODES)
                .map(|index| Fake::new(index, index as u64 + 1))
                .collect(),
            links: 0,
            incarnations: 100,
            tasks: BTreeMap::new(),
            tickets: Vec::new(),
            events: VecDeque::new(),
            fresh: BTreeMap::new(),
            strict: max_prefetch == 0,
        }
    }

    pub fn step(&mut self, step: &Step) {
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
                self.incarnations += 1;
                self.nodes[node] = Fake::new(node, self.incarnations);
                // The scheduler cannot know which runs went with the old process until the new one
                // speaks.
                self.settle();
                self.connect(node);
            }
            Step::End { node, which, how } => self.end(node, which, how),
            Step::Advance(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                for node in 0..NODES {
                    self.expire(node);
                }
            }
            Step::Workers(node, workers) => {
                let name = self.nodes[node].name.clone();
                let _ = self.machine.set_workers(self.now, Some(&name), workers);
            }
            Step::Beat => self.beat(),
        }
    }

    /// Lets the machine do what is due within a moment, before it is judged.
    pub fn wake(&mut self) {
        let soon = self.now + Duration::from_millis(1);
        while let Some(at) = self.machine.next_wakeup().filter(|&at| at <= soon) {
            self.now = self.now.max(at);
            self.settle();
        }
    }

    pub fn submit(
        &mut self,
        priority: i8,
        delay_ms: Option<u64>,
        exclusive: bool,
        key: Option<u8>,
    ) {
        let mut options = Options::default();
        options.priority = Priority(priority);
        options.exclusive = exclusive;
        options.key = key.map(|key| format!("k{key}").into());
        if let Some(delay) = delay_ms {
            options.due = Due::After(Duration::from_millis(delay));
        }
        let submission = Submission {
            kind: "work".into(),
            args: Payload::from(b"args"),
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
                let counted = unrefused.refused.get_mut(refused.refusal.cause());
                *counted.unwrap() -= 1;
                unrefused.refused.retain(|_, count| *count > 0);
                assert_eq!(
                    before,
                    format!("{unrefused:?}"),
                    "g2: a refusal changed something"
                );
            }
        }
    }

    /// Carries everything until nothing more comes of it.
    pub fn settle(&mut self) {
        self.hear();
        while let Some(action) = self.machine.next_until_rest(self.now) {
            self.perform(action);
            self.hear();
        }
    }

    fn hear(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.machine.handle(self.now, event);
        }
    }

    pub fn perform(&mut self, action: Action) {
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
            Action::Deliver {
                client,
                delivery,
                statuses,
            } => {
                assert_eq!(client, CLIENT);
                let handled = 0..statuses.len();
                for status in statuses {
                    self.ended(&status);
                }
                self.events.push_back(Event::Confirmed {
                    client,
                    delivery,
                    handled,
                });
            }
            Action::CancelAnswer { ticket, answer } => {
                let it = &mut self.tickets[usize::try_from(ticket).unwrap()];
                assert_eq!(
                    it.1.replace(answer),
                    None,
                    "g12: a cancel is answered twice"
                );
            }
            Action::Note(note) if matches!(*note, Note::NodeLost { .. }) => {
                for known in self.tasks.values_mut().filter(|known| known.last.is_some()) {
                    known.troubled = true;
                }
            }
            _ => {}
        }
    }

    pub fn ended(&mut self, status: &TaskStatus) {
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

    /// Checks what holds when nothing is under way.
    pub fn judge(&mut self) {
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
                Some(Reason::Running { node, .. } | Reason::Prefetched { node })
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
            let worse = fresh.iter().find(|(other, started)| {
                let other = &self.tasks[other];
                // What came due after that start was not passed over.
                known.due <= **started
                    && !other.troubled
                    && (-i16::from(other.priority), other.due)
                        > (-i16::from(known.priority), known.due)
            });
            assert_eq!(worse, None, "g6: it started before {id}, which goes first");
        }
    }

    /// Brings every node up and lets everything end.
    pub fn finish(&mut self) {
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
