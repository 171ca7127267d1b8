//! What a scheduler sends to a node of which runs for an earlier start of the scheduler keep
//! workers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{BLOCKS, SchedulerMachine};
use crate::config::{NodeConfig, SchedulerConfig};
use crate::engine::message::{Assignment, End, KindOffer, Report, ToScheduler};
use crate::engine::node::{NodeAction, NodeEvent, NodeMachine, NodeSpec};
use crate::engine::{
    Action, Audience, ClientId, Event, Incarnation, LinkId, Memory, Origin, SchedulerId,
    Submission, Timestamp, WorkerId,
};
use crate::payload::Payload;

/// A node of 16 workers whose handlers block, and the schedulers that it serves one after the
/// other.
struct Pair {
    now: Timestamp,
    node: NodeMachine,
    scheduler: SchedulerMachine,
    link: LinkId,
    /// What runs, oldest first.
    runs: VecDeque<(WorkerId, Assignment)>,
    refused: usize,
    told: usize,
}

fn scheduler(id: u64, now: Timestamp) -> SchedulerMachine {
    let config = SchedulerConfig {
        accept_joins: true,
        ..SchedulerConfig::default()
    };
    let mut machine = SchedulerMachine::new("board".into(), SchedulerId(id), config, now);
    machine.set_client(now, Some(ClientId(1)));
    machine
}

impl Pair {
    fn new() -> Self {
        let spec = NodeSpec {
            name: Arc::from("node"),
            incarnation: Incarnation(1),
            memory: Memory(1),
            kinds: vec![KindOffer {
                kind: BLOCKS.to_owned(),
                blocking: true,
            }],
            labels: Default::default(),
            config: NodeConfig {
                max_workers: 16,
                ..NodeConfig::default()
            },
            probes: Vec::new(),
            refusal_means_dead: None,
            joins: Vec::new(),
            end_with_scheduler: false,
            local: false,
            max_frame: None,
        };
        let now = Timestamp(1_700_000_000_000_000_000);
        let mut pair = Self {
            now,
            node: NodeMachine::new(spec),
            scheduler: scheduler(1, now),
            link: LinkId(0),
            runs: VecDeque::new(),
            refused: 0,
            told: 0,
        };
        pair.connect();
        pair
    }

    /// Opens a fresh link, on which both sides come to terms.
    fn connect(&mut self) {
        let reason = "it was cut".to_owned();
        let closed = Event::LinkClosed {
            link: self.link,
            reason: reason.clone(),
        };
        self.scheduler.handle(self.now, closed);
        let closed = NodeEvent::LinkClosed {
            link: self.link,
            reason,
        };
        self.node.handle(self.now, closed);
        self.link = LinkId(self.link.0 + 1);
        let link = self.link;
        let origin = Origin::Came("127.0.0.1".to_owned());
        self.scheduler.handle(
            self.now,
            Event::LinkOpened {
                link,
                origin,
                peer: String::new(),
            },
        );
        let opened = NodeEvent::LinkOpened {
            link,
            dialled: None,
            address: String::new(),
        };
        self.node.handle(self.now, opened);
        self.exchange();
    }

    /// Starts the scheduler anew in place of the first.
    fn restart(&mut self) {
        self.scheduler = scheduler(2, self.now);
        self.connect();
    }

    /// Carries messages until nobody has more to say.
    fn exchange(&mut self) {
        loop {
            self.now = self.now + Duration::from_millis(1);
            let (mut to_node, mut to_scheduler) = (Vec::new(), Vec::new());
            self.scheduler.take_effects(self.now, &mut to_node);
            self.node.take_effects(self.now, &mut to_scheduler);
            if to_node.is_empty() && to_scheduler.is_empty() {
                return;
            }
            for action in to_node {
                match action {
                    Action::Send { link, message } if link == self.link => {
                        let event = NodeEvent::Message { link, message };
                        self.node.handle(self.now, event);
                    }
                    Action::Deliver {
                        client,
                        delivery,
                        statuses,
                    } => {
                        let handled = 0..statuses.len();
                        self.told += statuses.len();
                        let confirmed = Event::Confirmed {
                            client,
                            delivery,
                            handled,
                        };
                        self.scheduler.handle(self.now, confirmed);
                    }
                    _ => {}
                }
            }
            for action in to_scheduler {
                match action {
                    NodeAction::Send { link, message } if link == self.link => {
                        if let ToScheduler::Reports(reports) = &message {
                            let refused = |it: &&Report| matches!(it, Report::Refused { .. });
                            self.refused += reports.iter().filter(refused).count();
                        }
                        let event = Event::Message { link, message };
                        self.scheduler.handle(self.now, event);
                    }
                    NodeAction::Start {
                        worker, assignment, ..
                    } => self.runs.push_back((worker, assignment)),
                    _ => {}
                }
            }
            assert_eq!(self.node.check(), Ok(()));
            assert_eq!(self.scheduler.check(), Ok(()));
        }
    }

    fn submit(&mut self, tasks: usize) {
        for _ in 0..tasks {
            let submission = Submission {
                kind: BLOCKS.into(),
                args: Payload::new(),
                options: None,
                audience: Audience::Current,
                watcher: None,
            };
            let accepted = self.scheduler.submit(self.now, submission);
            assert!(accepted.is_ok(), "{accepted:?}");
        }
        self.exchange();
    }

    /// Ends the newest run.
    fn end(&mut self, run: Option<(WorkerId, Assignment)>) {
        let (worker, assignment) = run.expect("something runs");
        let ended = NodeEvent::Ended {
            worker,
            dispatch: assignment.dispatch,
            end: End::Completed(Payload::new()),
            ran: Duration::from_millis(100),
            overrun: false,
        };
        self.node.handle(self.now, ended);
        self.exchange();
    }
}

#[test]
fn g5_workers_that_another_incarnation_has_left_taken_cost_at_most_a_refusal_each() {
    for cuts in [0, 3] {
        let mut pair = Pair::new();
        pair.submit(15);
        assert_eq!(pair.runs.len(), 15);
        pair.restart();
        pair.submit(1000);
        for _ in 0..cuts {
            pair.connect();
        }
        while pair.told < 1000 {
            let newest = pair.runs.pop_back();
            pair.end(newest);
        }
        assert!(pair.refused <= 15, "{} refusals", pair.refused);
    }
}

#[test]
fn g5_workers_that_another_incarnation_has_left_taken_are_used_as_they_are_freed() {
    let mut pair = Pair::new();
    pair.submit(15);
    pair.restart();
    pair.submit(100);
    for freed in 1..=15 {
        let oldest = pair.runs.pop_front();
        pair.end(oldest);
        let running = pair.scheduler.stats(pair.now).running;
        assert_eq!((running, pair.runs.len()), (1 + freed, 16));
    }
    assert!(pair.refused <= 15, "{} refusals", pair.refused);
}
