//! A node's machine with a scheduler and workers that answer at once.

use std::sync::Arc;
use std::time::Duration;

use callboard::__internals::engine::message::{
    Assignment, End, KindOffer, SchedulerHello, ToNode, ToScheduler, VERSION_MAX, VERSION_MIN,
    Welcome,
};
use callboard::__internals::engine::node::{NodeAction, NodeEvent, NodeMachine, NodeSpec};
use callboard::__internals::engine::{
    Incarnation, LinkId, Memory, SchedulerId, Timestamp, WorkerId,
};
use callboard::__internals::testing::{Checks, DrivenNode};
use callboard::Payload;
use callboard::{Dispatch, NodeConfig, RetryPolicy, TaskId};

use super::OFFERED;

const LINK: LinkId = LinkId(1);

pub struct NodeBench {
    machine: DrivenNode,
    now: Timestamp,
    workers: u64,
    /// The number of the last task, and of its run.
    last: u64,
    /// Kept for its capacity.
    begun: Vec<(WorkerId, Dispatch, Payload)>,
    ended: u64,
}

impl NodeBench {
    pub fn new(workers: u32) -> Self {
        let mut config = NodeConfig::default();
        config.max_workers = workers;
        let spec = NodeSpec {
            name: Arc::from("node"),
            incarnation: Incarnation(1),
            memory: Memory(1),
            kinds: vec![KindOffer {
                kind: OFFERED.to_owned(),
                blocking: false,
            }],
            labels: Default::default(),
            config,
            probes: Vec::new(),
            refusal_means_dead: None,
            joins: Vec::new(),
            end_with_scheduler: false,
            local: false,
            max_frame: None,
        };
        let now = Timestamp(1 << 60);
        let mut bench = Self {
            machine: DrivenNode::new(NodeMachine::new(spec), Checks::Never),
            now,
            workers: u64::from(workers),
            last: 0,
            begun: Vec::new(),
            ended: 0,
        };
        bench.serve();
        bench
    }

    fn serve(&mut self) {
        let opened = NodeEvent::LinkOpened {
            link: LINK,
            dialled: None,
            address: String::new(),
        };
        self.machine.handle(self.now, opened);
        self.hear(ToNode::Hello(Box::new(SchedulerHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            scheduler: "bench".to_owned(),
            scheduler_id: SchedulerId(1),
            term: 0,
            max_frame: None,
        })));
        self.perform();
        self.hear(ToNode::Welcome(Box::new(Welcome {
            version: VERSION_MAX,
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(15),
            outlive: Duration::ZERO,
            workers: None,
            retry: RetryPolicy::default(),
            acknowledged: 0,
            stop: Vec::new(),
            drain: false,
        })));
        self.perform();
    }

    fn hear(&mut self, message: ToNode) {
        let event = NodeEvent::Message {
            link: LINK,
            message,
        };
        self.machine.handle(self.now, event);
    }

    /// Assigns so many tasks, all but the first few ahead, and sees them end.
    pub fn batch(&mut self, tasks: u64) {
        let before = self.ended;
        let (first, workers) = (self.last + 1, self.workers);
        self.last += tasks;
        let assignments = (first..).take(tasks as usize).map(|number| Assignment {
            task: TaskId::new(number),
            dispatch: Dispatch::new(number),
            kind: 0,
            attempt: 1,
            prefetched: number - first >= workers,
            args: Payload::from(b"123456789"),
            terms: None,
        });
        let assignments = assignments.collect();
        self.hear(ToNode::Assign(assignments));
        while self.ended - before < tasks {
            self.perform();
            self.end_all();
        }
        self.perform();
    }

    /// Has the workers end all that they were given.
    fn end_all(&mut self) {
        assert!(!self.begun.is_empty(), "a node starts what it is assigned");
        for (worker, dispatch, args) in self.begun.drain(..) {
            self.ended += 1;
            let ended = NodeEvent::Ended {
                worker,
                dispatch,
                end: End::Completed(args),
                ran: Duration::from_micros(5),
                overrun: false,
            };
            self.machine.handle(self.now, ended);
        }
    }

    /// Takes the effects; the scheduler acknowledges reports and answers beats at once.
    fn perform(&mut self) {
        self.now = self.now + Duration::from_micros(10);
        self.machine.turn(self.now);
        while let Some(action) = self.machine.next_action() {
            match action {
                NodeAction::Start {
                    worker, assignment, ..
                } => self
                    .begun
                    .push((worker, assignment.dispatch, assignment.args)),
                NodeAction::Send { message, .. } => self.answer(&message),
                _ => {}
            }
        }
    }

    fn answer(&mut self, message: &ToScheduler) {
        match message {
            ToScheduler::Beat(beat) => self.hear(ToNode::Answer(beat.number)),
            ToScheduler::Reports(reports) => {
                if let Some(seq) = reports.iter().rev().find_map(|report| report.seq()) {
                    self.hear(ToNode::Acknowledge(seq));
                }
            }
            _ => {}
        }
    }
}
