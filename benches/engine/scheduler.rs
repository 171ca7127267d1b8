//! A scheduler's machine with nodes and a client that answer at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use callboard::__internals::engine::message::{
    Assignment, End, Holding, KindOffer, NodeHello, Report, ToNode, ToScheduler,
};
use callboard::__internals::engine::scheduler::SchedulerMachine;
use callboard::__internals::engine::{
    Action, Audience, ClientId, Event, Incarnation, LinkId, Origin, Reach, SchedulerId, Submission,
    Timestamp,
};
use callboard::__internals::testing::{Checks, DrivenScheduler};
use callboard::Payload;
use callboard::SchedulerConfig;
use callboard::task::{Options, TaskKind};

use super::OFFERED;

const CLIENT: ClientId = ClientId(1);

pub struct SchedulerBench {
    machine: DrivenScheduler,
    now: Timestamp,
    /// What is at the nodes, oldest first.
    sent: VecDeque<(LinkId, Assignment)>,
    /// The last number of a report of each node.
    seqs: Vec<u64>,
    /// Each task asks for one of so many labels in turn, all of which each node bears; for none if
    /// there are none.
    labels: u64,
    submitted: u64,
}

impl SchedulerBench {
    pub fn new(nodes: u32, workers: u32) -> Self {
        Self::labelled(nodes, workers, 0)
    }

    /// Makes nodes that all bear so many labels, one of which each task asks for in turn.
    pub fn labelled(nodes: u32, workers: u32, labels: u64) -> Self {
        let mut config = SchedulerConfig::default();
        config.max_tasks = 20_000_000;
        config.max_args_bytes = u64::MAX;
        let now = Timestamp(1 << 60);
        let machine = SchedulerMachine::new("bench".into(), SchedulerId(1), config, now);
        let mut machine = DrivenScheduler::new(machine, Checks::Never);
        machine.set_client(now, Some(CLIENT));
        let mut bench = Self {
            machine,
            now,
            sent: VecDeque::new(),
            seqs: vec![0; nodes as usize],
            labels,
            submitted: 0,
        };
        for node in 0..nodes {
            bench.join(node, workers);
        }
        bench.perform();
        bench
    }

    /// Makes one node of ten workers, and so many tasks of this kind.
    pub fn crowded(kind: &TaskKind, tasks: u64) -> Self {
        let mut bench = Self::new(1, 10);
        for _ in 0..tasks {
            bench.submit(kind);
        }
        bench.perform();
        bench
    }

    /// Makes nodes that have learnt how short the tasks are, each with as many as it takes ahead.
    pub fn loaded(nodes: u32) -> Self {
        const AHEAD: u64 = 512;
        let mut bench = Self::new(nodes, 10);
        let kind = TaskKind::from(OFFERED);
        for _ in 0..20 {
            bench.batch(&kind, 10 * u64::from(nodes));
        }
        for _ in 0..AHEAD * u64::from(nodes) {
            bench.submit(&kind);
        }
        bench.perform();
        bench
    }

    /// Lets nothing happen for as long as the machine waits before it looks again at what is ahead.
    pub fn idle_turn(&mut self) {
        self.now = self.now + Duration::from_micros(250);
        self.perform();
    }

    fn join(&mut self, index: u32, workers: u32) {
        let link = LinkId(u64::from(index));
        let name = format!("node{index}");
        let node = self
            .machine
            .add_node(self.now, name.as_str().into(), Reach::Local)
            .expect("the names differ");
        let origin = Origin::Dialled(node);
        self.machine.handle(
            self.now,
            Event::LinkOpened {
                link,
                origin,
                peer: String::new(),
            },
        );
        let hello = NodeHello {
            kinds: vec![KindOffer {
                kind: OFFERED.to_owned(),
                blocking: false,
            }],
            workers,
            labels: (0..self.labels).map(|number| number.to_string()).collect(),
            ..NodeHello::new(name, Incarnation(u64::from(index)))
        };
        let holding = Holding {
            last: true,
            ..Holding::default()
        };
        self.hear(link, ToScheduler::Hello(Box::new(hello)));
        self.hear(link, ToScheduler::Holding(holding));
    }

    fn hear(&mut self, link: LinkId, message: ToScheduler) {
        self.machine
            .handle(self.now, Event::Message { link, message });
    }

    pub fn submit(&mut self, kind: &TaskKind) {
        let options = (self.labels > 0).then(|| {
            let mut options = Options::default();
            options
                .labels
                .insert((self.submitted % self.labels).to_string());
            Box::new(options)
        });
        self.submitted += 1;
        let submission = Submission {
            kind: kind.clone(),
            args: Payload::from(b"123456789"),
            options,
            audience: Audience::Current,
            watcher: None,
        };
        let accepted = self.machine.submit(self.now, submission);
        assert!(accepted.is_ok(), "the bench has room for all its tasks");
    }

    /// Takes in so many tasks and ends as many, the oldest first, so that a crowd stays as large as
    /// it is. Returns how long the nodes took, to take what they are sent and to write what they
    /// report: that is not the machine's time.
    pub fn batch(&mut self, kind: &TaskKind, tasks: u64) -> Duration {
        let mut at_nodes = Duration::ZERO;
        for _ in 0..tasks {
            self.submit(kind);
        }
        let mut left = tasks as usize;
        while left > 0 {
            at_nodes += self.perform();
            // Fewer are sent until the machine has learnt how short the tasks are.
            let ended = left.min(self.sent.len());
            assert!(ended > 0, "what nodes are free for is sent");
            let began = Instant::now();
            let messages = self.reports_of(ended);
            at_nodes += began.elapsed();
            for (link, message) in messages {
                self.hear(link, message);
            }
            left -= ended;
        }
        at_nodes + self.perform()
    }

    /// Returns what the nodes report of the ends of so many tasks, those in a row at one node
    /// together.
    fn reports_of(&mut self, tasks: usize) -> Vec<(LinkId, ToScheduler)> {
        let ended: Vec<_> = self.sent.drain(..tasks).collect();
        let at_one_node = ended.chunk_by(|(link, _), (next, _)| link == next);
        let messages = at_one_node.map(|ended| {
            let link = ended[0].0;
            let seq = &mut self.seqs[link.0 as usize];
            let reports = ended.iter().map(|(_, assignment)| {
                *seq += 1;
                Report::Ended {
                    seq: *seq,
                    task: assignment.task,
                    dispatch: assignment.dispatch,
                    end: End::Completed(assignment.args.clone()),
                    ran: Duration::from_micros(5),
                    overrun: false,
                }
            });
            (link, ToScheduler::Reports(reports.collect()))
        });
        messages.collect()
    }

    /// Takes the effects of all that has happened; the client confirms what it is given at once.
    /// Returns how long the nodes took to take what they are sent.
    fn perform(&mut self) -> Duration {
        self.now = self.now + Duration::from_micros(10);
        self.machine.turn(self.now);
        let began = Instant::now();
        let mut deliveries = Vec::new();
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Send {
                    link,
                    message: ToNode::Assign(assignments),
                } => {
                    let sent = assignments.into_iter().map(|assignment| (link, assignment));
                    self.sent.extend(sent);
                }
                Action::Deliver {
                    client,
                    delivery,
                    statuses,
                } => deliveries.push((client, delivery, statuses)),
                _ => {}
            }
        }
        let at_nodes = began.elapsed();
        for (client, delivery, statuses) in deliveries {
            let handled = 0..statuses.len();
            let confirmed = Event::Confirmed {
                client,
                delivery,
                handled,
            };
            self.machine.handle(self.now, confirmed);
        }
        at_nodes
    }
}
