//! The engine alone: what one task costs from its submission to its ending, and what a pending one
//! weighs.
//!
//! `cargo bench --bench engine`. One iteration is submit, assign, report, settle and confirm of one task,
//! in batches of 64 as the actors drive it, beside a crowd of pending tasks that no free node can run.
//! Not measured: encoding, mailboxes, threads, links. The weight is counted by the allocator, args and
//! index included, and printed before the timings.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use callboard::SchedulerConfig;
use callboard::engine::message::{
    End, Holding, KindOffer, NodeHello, Report, ToNode, ToScheduler, VERSION_MAX, VERSION_MIN,
};
use callboard::engine::scheduler::SchedulerMachine;
use callboard::engine::{
    Action, Audience, ClientId, Epoch, Event, Life, LinkId, Reach, Submission, Timestamp,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const BATCH: usize = 64;
const CLIENT: ClientId = ClientId(1);

/// A scheduler with nodes that do at once what they are told.
struct Bench {
    machine: SchedulerMachine,
    now: Timestamp,
    actions: Vec<Action>,
    seqs: Vec<u64>,
}

impl Bench {
    fn new(nodes: u32, workers: u32) -> Self {
        let mut config = SchedulerConfig::default();
        config.max_tasks = 20_000_000;
        config.max_args_bytes = u64::MAX;
        let now = Timestamp(1 << 60);
        let mut machine = SchedulerMachine::new("bench".into(), Life(1), config, now);
        machine.set_client(now, Some(CLIENT));
        let mut bench = Self {
            machine,
            now,
            actions: Vec::new(),
            seqs: vec![0; nodes as usize],
        };
        for node in 0..nodes {
            bench.join(node, workers);
        }
        bench.flush();
        bench
    }

    fn join(&mut self, index: u32, workers: u32) {
        let link = LinkId(u64::from(index));
        let name = format!("node{index}");
        let node = self
            .machine
            .add_node(self.now, name.as_str().into(), Reach::Local)
            .expect("the names differ");
        self.machine.handle(
            self.now,
            Event::LinkOpened {
                link,
                dialled: Some(node),
            },
        );
        let hello = NodeHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: name,
            epoch: Epoch(u64::from(index)),
            number: 1,
            kinds: vec![KindOffer {
                kind: "run".to_owned(),
                blocking: false,
            }],
            labels: Default::default(),
            workers,
            probe: None,
            draining: false,
        };
        for message in [
            ToScheduler::Hello(hello),
            ToScheduler::Holding(Holding {
                last: true,
                ..Holding::default()
            }),
        ] {
            self.machine
                .handle(self.now, Event::Message { link, message });
        }
    }

    fn submit(&mut self, kind: &'static str) {
        let submission = Submission {
            kind: kind.into(),
            args: Bytes::from_static(b"123456789"),
            options: None,
            audience: Audience::Current,
            watcher: None,
        };
        let accepted = self.machine.submit(self.now, submission);
        black_box(accepted.expect("there is room"));
    }

    /// Takes the effects until there are none, playing nodes and client.
    fn flush(&mut self) {
        loop {
            self.now = self.now + Duration::from_micros(10);
            let mut actions = std::mem::take(&mut self.actions);
            self.machine.take_effects(self.now, &mut actions);
            let quiet = actions.is_empty();
            for action in actions.drain(..) {
                self.perform(action);
            }
            self.actions = actions;
            if quiet {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send {
                link,
                message: ToNode::Assign(assignments),
            } => {
                let seq = &mut self.seqs[link.0 as usize];
                let reports = assignments.into_iter().map(|assignment| {
                    *seq += 1;
                    Report::Ended {
                        seq: *seq,
                        task: assignment.task,
                        dispatch: assignment.dispatch,
                        end: End::Completed(assignment.args),
                        ran: Duration::from_micros(5),
                        overrun: false,
                    }
                });
                let message = ToScheduler::Reports(reports.collect());
                self.machine
                    .handle(self.now, Event::Message { link, message });
            }
            Action::Deliver { client, statuses } => {
                let count = black_box(statuses).len();
                self.machine
                    .handle(self.now, Event::Confirmed { client, count });
            }
            _ => {}
        }
    }

    fn batch(&mut self) {
        for _ in 0..BATCH {
            self.submit("run");
        }
        self.flush();
    }
}

fn weigh() {
    const TASKS: usize = 1_000_000;
    let mut bench = Bench::new(1, 0);
    let before = HEAP.current_usage();
    for id in 0..TASKS {
        let submission = Submission {
            kind: "run".into(),
            args: Bytes::from(vec![7_u8; 9].into_boxed_slice()),
            options: None,
            audience: Audience::Current,
            watcher: None,
        };
        let accepted = bench.machine.submit(bench.now, submission);
        assert!(accepted.is_ok(), "task {id} is refused");
    }
    let bytes = (HEAP.current_usage() - before) as f64 / TASKS as f64;
    println!("heap bytes per pending task, args of 9 bytes included: {bytes:.1}");
}

fn time(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("submit, assign, settle");
    group.throughput(Throughput::Elements(BATCH as u64));
    for pending in [1_000, 100_000, 10_000_000] {
        let mut bench = Bench::new(1, 10);
        for _ in 0..pending {
            bench.submit("nobody offers this");
        }
        bench.flush();
        group.bench_with_input(BenchmarkId::new("pending", pending), &(), |bencher, ()| {
            bencher.iter(|| bench.batch());
        });
    }
    for nodes in [1, 100, 1_000, 10_000] {
        let mut bench = Bench::new(nodes, 10);
        group.bench_with_input(BenchmarkId::new("nodes", nodes), &(), |bencher, ()| {
            bencher.iter(|| bench.batch());
        });
    }
    group.finish();
}

fn main() {
    weigh();
    let mut criterion = Criterion::default().configure_from_args();
    time(&mut criterion);
    criterion.final_summary();
}
