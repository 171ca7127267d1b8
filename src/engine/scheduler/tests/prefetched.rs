//! G5, G6: what was prefetched starts in time, here or elsewhere, whatever holds up its node.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{BLOCKS, Board, STOPS, ended};
use crate::engine::message::{Assignment, End, HeldRun, HeldState, KindOffer, Report, ToScheduler};
use crate::engine::scheduler::order_bound;
use crate::engine::{LinkId, Timestamp};
use crate::payload::Payload;
use crate::task::{Dispatch, Options, Priority, TaskId};

/// From one side of a link to the other.
const WAY: Duration = Duration::from_millis(15);
const ROUND_TRIP: Duration = Duration::from_millis(30);
const HOUR: Duration = Duration::from_secs(3600);
/// What nodes take on average for a run, at most.
const SHORT: Duration = Duration::from_millis(20);

/// What is on its way over a link.
enum Wire {
    Assign(Assignment),
    Retract(Dispatch),
    Report(Report),
}

/// An honest node: it starts what waits by priority, then first come.
struct Node {
    link: LinkId,
    workers: usize,
    line: Vec<Assignment>,
    running: Vec<(Timestamp, Assignment)>,
    reports: u64,
}

/// Nodes behind links that take their time.
struct World {
    board: Board,
    nodes: Vec<Node>,
    wire: BTreeMap<(Timestamp, u64), (usize, Wire)>,
    sent: u64,
    /// How long each task runs.
    spans: BTreeMap<TaskId, Duration>,
    /// What has started, when and where.
    starts: Vec<(TaskId, Timestamp, usize)>,
}

impl World {
    fn new(max_prefetch: u32) -> Self {
        let mut board = Board::new();
        board.machine.config.max_prefetch = max_prefetch;
        Self {
            board,
            nodes: Vec::new(),
            wire: BTreeMap::new(),
            sent: 0,
            spans: BTreeMap::new(),
            starts: Vec::new(),
        }
    }

    /// Joins as a node that offers some of the two kinds.
    fn join(&mut self, workers: usize, kinds: &[&str]) -> usize {
        let number = self.nodes.len();
        let mut hello = self
            .board
            .hello(&format!("node{number}"), number as u64 + 1);
        hello.workers = workers as u32;
        hello.kinds = kinds
            .iter()
            .map(|&kind| KindOffer {
                kind: kind.to_owned(),
                blocking: kind == BLOCKS,
            })
            .collect();
        let link = self.board.join_by(hello, Vec::new());
        self.nodes.push(Node {
            link,
            workers,
            line: Vec::new(),
            running: Vec::new(),
            reports: 0,
        });
        self.collect();
        number
    }

    fn submit(&mut self, kind: &str, priority: i8, span: Duration) -> TaskId {
        let options = Options {
            priority: Priority(priority),
            ..Options::default()
        };
        let task = self
            .board
            .submit_with(kind, |it| it.options = Some(Box::new(options)));
        self.spans.insert(task, span);
        self.collect();
        task
    }

    fn send(&mut self, node: usize, what: Wire) {
        self.sent += 1;
        let at = self.board.now + WAY;
        self.wire.insert((at, self.sent), (node, what));
    }

    /// Puts what the machine has sent on its way.
    fn collect(&mut self) {
        for (link, run) in std::mem::take(&mut self.board.assigned) {
            if let Some(node) = self.nodes.iter().position(|node| node.link == link) {
                self.send(node, Wire::Assign(run));
            }
        }
        for (link, dispatch) in std::mem::take(&mut self.board.retracted) {
            if let Some(node) = self.nodes.iter().position(|node| node.link == link) {
                self.send(node, Wire::Retract(dispatch));
            }
        }
    }

    fn pump(&mut self, number: usize) {
        let now = self.board.now;
        loop {
            let node = &mut self.nodes[number];
            if node.running.len() >= node.workers || node.line.is_empty() {
                return;
            }
            let priority = |run: &Assignment| run.terms.as_ref().map_or(0, |it| it.priority);
            let best = node.line.iter().map(priority).max();
            let first = node.line.iter().position(|run| Some(priority(run)) == best);
            let run = node.line.remove(first.expect("something waits"));
            let (task, dispatch) = (run.task, run.dispatch);
            node.running.push((now + self.spans[&task], run));
            self.starts.push((task, now, number));
            self.send(number, Wire::Report(Report::Started { task, dispatch }));
        }
    }

    /// Lets time pass up to the next thing that happens, or to `until`.
    fn step(&mut self, until: Timestamp) -> bool {
        let wire = self.wire.keys().next().map(|&(at, _)| at);
        let ends = self.nodes.iter().flat_map(|node| &node.running);
        let end = ends.map(|&(at, _)| at).min();
        let tick = self.board.machine.next_wakeup();
        let next = [wire, end, tick].into_iter().flatten().min();
        let Some(at) = next.filter(|&at| at <= until) else {
            self.board.now = until;
            return false;
        };
        self.board.now = at.max(self.board.now);
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            let over = |(end, _): &mut (Timestamp, Assignment)| *end <= at;
            let done: Vec<_> = node.running.extract_if(.., over).collect();
            for (_, run) in done {
                self.nodes[number].reports += 1;
                let (seq, span) = (self.nodes[number].reports, self.spans[&run.task]);
                let end = End::Completed(Payload::new());
                self.send(number, Wire::Report(ended(seq, &run, end, span)));
                self.pump(number);
            }
        }
        let mut said = false;
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= at) {
            let (number, what) = entry.remove();
            match what {
                Wire::Assign(run) => {
                    self.nodes[number].line.push(run);
                    self.pump(number);
                }
                Wire::Retract(dispatch) => {
                    let node = &mut self.nodes[number];
                    let place = node.line.iter().position(|run| run.dispatch == dispatch);
                    if let Some(place) = place {
                        let task = node.line.remove(place).task;
                        node.reports += 1;
                        let seq = node.reports;
                        let report = Report::Returned {
                            seq,
                            task,
                            dispatch,
                        };
                        self.send(number, Wire::Report(report));
                    }
                }
                Wire::Report(report) => {
                    said = true;
                    let link = self.nodes[number].link;
                    self.board.say(link, ToScheduler::Reports(vec![report]));
                }
            }
        }
        if !said {
            self.board.settle_down();
        }
        self.collect();
        true
    }

    fn pass(&mut self, time: Duration) {
        let until = self.board.now + time;
        while self.step(until) {}
        assert_eq!(self.board.machine.check(), Ok(()));
    }

    /// Runs short tasks, so that every node is known for them.
    fn learn(&mut self, kind: &str) {
        for _ in 0..20 {
            for _ in 0..self.nodes.iter().map(|node| node.workers).sum() {
                self.submit(kind, 0, SHORT);
            }
            self.pass(ROUND_TRIP * 4);
        }
        self.starts.clear();
    }

    fn start_of(&self, task: TaskId) -> Option<Timestamp> {
        let start = self.starts.iter().find(|(started, ..)| *started == task);
        start.map(|&(_, at, _)| at)
    }

    fn prefetched(&self, node: usize) -> usize {
        self.nodes[node].line.len()
    }
}

/// Makes two nodes of one worker, the first of which has just begun a run of an hour, with two of
/// `tasks` behind it.
fn behind_a_long_run(priority: i8) -> (World, Vec<TaskId>) {
    let mut world = World::new(4096);
    let (first, second) = (world.join(1, &[STOPS]), world.join(1, &[STOPS]));
    world.learn(STOPS);
    world.submit(STOPS, -128, HOUR);
    world.submit(STOPS, -128, Duration::from_millis(100));
    world.pass(ROUND_TRIP);
    let tasks: Vec<_> = (0..6)
        .map(|_| world.submit(STOPS, priority, Duration::from_millis(100)))
        .collect();
    world.pass(WAY);
    assert!(world.prefetched(first).min(world.prefetched(second)) >= 2);
    (world, tasks)
}

#[test]
fn g6_what_waits_behind_a_long_run_goes_elsewhere_before_what_is_less_urgent() {
    let (mut world, urgent) = behind_a_long_run(127);
    let since = world.board.now;
    let until = since + Duration::from_secs(20);
    while world.board.now < until {
        world.submit(STOPS, -128, Duration::from_millis(100));
        world.pass(Duration::from_millis(90));
    }
    let bound = since + order_bound(ROUND_TRIP, SHORT * 5);
    let mut last = since;
    for task in &urgent {
        let start = world.start_of(*task).expect("it has started");
        last = last.max(start);
    }
    let others = world
        .starts
        .iter()
        .filter(|(task, at, _)| !urgent.contains(task) && *at > bound && *at < last);
    assert_eq!(others.count(), 0, "less urgent starts before {last:?}");
    assert!(last < bound + Duration::from_millis(100) * 8);
}

#[test]
fn g6_what_waits_behind_a_long_run_does_not_wait_for_its_end_while_its_like_starts_elsewhere() {
    let (mut world, tasks) = behind_a_long_run(0);
    let since = world.board.now;
    while world.board.now < since + Duration::from_secs(20) {
        world.submit(STOPS, 0, Duration::from_millis(100));
        world.pass(Duration::from_millis(90));
    }
    let bound = since + order_bound(ROUND_TRIP, SHORT * 5);
    for task in tasks {
        let start = world.start_of(task);
        let latest = bound + Duration::from_secs(2);
        assert!(start.is_some_and(|at| at < latest), "{task}: {start:?}");
    }
}

#[test]
fn g6_nothing_more_is_sent_behind_a_run_that_has_held_tasks_up() {
    let (mut world, _) = behind_a_long_run(0);
    world.pass(Duration::from_secs(5));
    let stuck = if world.nodes[0].running.is_empty() {
        1
    } else {
        0
    };
    assert_eq!(world.prefetched(stuck), 0);
    for _ in 0..50 {
        world.submit(STOPS, 0, SHORT);
        world.submit(STOPS, 0, SHORT);
        world.pass(Duration::from_millis(15));
        assert_eq!(world.prefetched(stuck), 0);
    }
}

#[test]
fn g5_what_is_ahead_of_a_hundred_long_runs_is_asked_back_for_workers_that_come() {
    let mut world = World::new(100);
    let busy = world.join(100, &[STOPS]);
    world.learn(STOPS);
    for _ in 0..100 {
        world.submit(STOPS, 0, HOUR);
    }
    for _ in 0..100 {
        world.submit(STOPS, 0, HOUR);
    }
    world.pass(ROUND_TRIP * 3);
    assert_eq!(world.prefetched(busy), 100);
    let fresh = world.join(10, &[STOPS]);
    world.pass(ROUND_TRIP * 2 + Duration::from_millis(5));
    assert_eq!(world.nodes[fresh].running.len(), 10);
    assert_eq!(world.prefetched(busy), 90, "no more than there are workers");
}

#[test]
fn g5_what_was_asked_back_on_a_link_that_broke_is_asked_back_again() {
    let (mut world, _) = behind_a_long_run(0);
    let until = world.board.now + Duration::from_secs(5);
    let asked = |world: &World| {
        let mut sent = world.wire.values();
        let retract = sent.find(|(_, what)| matches!(what, Wire::Retract(_)));
        retract.map(|&(number, _)| number)
    };
    while asked(&world).is_none() && world.step(until) {}
    let stuck = asked(&world).expect("something is asked back");
    assert!(world.prefetched(stuck) > 0);
    // Nothing that is on its way arrives; the node is looked at while all that waits is asked back.
    world.wire.retain(|_, (number, _)| *number != stuck);
    world.pass(ROUND_TRIP);
    world.wire.retain(|_, (number, _)| *number != stuck);
    let (old, node) = (world.nodes[stuck].link, &world.nodes[stuck]);
    let held = |run: &Assignment, state| HeldRun {
        task: run.task,
        dispatch: run.dispatch,
        state,
    };
    let running = node.running.iter();
    let running = running.map(|(_, run)| held(run, HeldState::Running));
    let waiting = node.line.iter().map(|run| held(run, HeldState::Prefetched));
    let runs = running.chain(waiting).collect();
    world.board.cut(old);
    let mut hello = world.board.hello(&format!("node{stuck}"), stuck as u64 + 1);
    hello.workers = 1;
    world.nodes[stuck].link = world.board.join_by(hello, runs);
    world.collect();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.prefetched(stuck), 0);
}

#[test]
fn g5_what_no_other_node_may_run_hides_nothing_that_one_may() {
    let mut world = World::new(4096);
    let busy = world.join(1, &[STOPS, BLOCKS]);
    world.learn(STOPS);
    world.submit(STOPS, 0, HOUR);
    world.pass(ROUND_TRIP);
    world.board.machine.config.max_prefetch = 200;
    let entry = world.board.machine.roster.get_mut(busy as u32);
    // As of shorter runs: room for many.
    (0..50).for_each(|_| entry.load.learn(Duration::from_micros(50), ROUND_TRIP));
    world.board.machine.roster.touch(busy as u32);
    let wanted = world.submit(BLOCKS, 0, SHORT);
    for _ in 0..100 {
        world.submit(STOPS, 0, SHORT);
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.prefetched(busy), 101);
    world.join(1, &[BLOCKS]);
    world.pass(Duration::from_secs(1));
    assert!(world.start_of(wanted).is_some());
}

#[test]
fn g6_what_waited_for_a_task_that_goes_to_free_workers_alone_is_prefetched_in_its_turn() {
    let mut world = World::new(4096);
    let first = world.join(1, &[BLOCKS, STOPS]);
    world.join(1, &[STOPS]);
    world.learn(STOPS);
    world.submit(BLOCKS, 0, HOUR);
    world.submit(STOPS, 0, Duration::from_millis(500));
    world.pass(ROUND_TRIP);
    let exclusive = world.board.submit_with(STOPS, |it| {
        let options = Options {
            exclusive: true,
            ..Options::default()
        };
        it.options = Some(Box::new(options));
    });
    world.spans.insert(exclusive, HOUR);
    // So much waits that a round looks only at what may be placeable.
    for number in 0..12 {
        world.board.submit(&format!("nobody has it {number}"));
    }
    let next = world.submit(BLOCKS, -1, SHORT);
    let last = world.submit(STOPS, -2, SHORT);
    let until = world.board.now + Duration::from_secs(1);
    while world.start_of(exclusive).is_none() && world.step(until) {}
    world.pass(Duration::from_millis(1));
    let line = world.nodes[first].line.iter();
    let line: Vec<_> = line.map(|run| run.task).collect();
    assert_eq!(
        line.first(),
        Some(&next),
        "{last} is no more urgent: {line:?}"
    );
}

#[test]
fn g6_what_goes_back_for_something_more_urgent_takes_its_equals_with_it() {
    let mut world = World::new(3);
    let node = world.join(1, &[BLOCKS, STOPS]);
    world.learn(STOPS);
    world.submit(STOPS, 0, Duration::from_secs(2));
    world.pass(ROUND_TRIP);
    let old = world.submit(BLOCKS, 1, SHORT);
    world.pass(ROUND_TRIP * 4);
    // It has not waited for so long, and is in another lane that comes first.
    let new = world.submit(STOPS, 1, SHORT);
    world.submit(STOPS, 0, SHORT);
    world.pass(WAY);
    assert_eq!(world.prefetched(node), 3);
    let urgent = world.submit(STOPS, 2, SHORT);
    world.pass(Duration::from_secs(3));
    let order: Vec<_> = world.starts.iter().map(|&(task, ..)| task).collect();
    assert_eq!(order[1..4], [urgent, old, new]);
}

#[test]
fn g5_what_waits_beside_a_hundred_runs_that_had_waited_too_is_asked_back_for_workers_that_come() {
    let mut world = World::new(200);
    let busy = world.join(100, &[STOPS]);
    world.learn(STOPS);
    for _ in 0..100 {
        world.submit(STOPS, 0, SHORT);
    }
    // Half of them start at the node when those have ended.
    for _ in 0..200 {
        world.submit(STOPS, 0, HOUR);
    }
    world.pass(ROUND_TRIP * 3);
    let running = world.nodes[busy].running.len();
    assert_eq!((running, world.prefetched(busy)), (100, 100));
    let fresh = world.join(10, &[STOPS]);
    world.pass(ROUND_TRIP * 2 + Duration::from_millis(5));
    assert_eq!(world.nodes[fresh].running.len(), 10);
    assert_eq!(world.prefetched(busy), 90, "no more than there are workers");
}

#[test]
fn g5_the_free_workers_of_many_nodes_are_all_used_at_once() {
    for priorities in [1, 20] {
        let mut world = World::new(4096);
        let busy = world.join(100, &[STOPS]);
        world.learn(STOPS);
        for _ in 0..100 {
            world.submit(STOPS, 0, HOUR);
        }
        for number in 0..200_u8 {
            world.submit(STOPS, (number % priorities) as i8, HOUR);
        }
        world.pass(ROUND_TRIP * 3);
        assert_eq!(world.prefetched(busy), 200);
        let fresh: Vec<_> = (0..100).map(|_| world.join(1, &[STOPS])).collect();
        world.pass(ROUND_TRIP * 2 + Duration::from_millis(5));
        let running = fresh.iter().map(|&node| world.nodes[node].running.len());
        assert_eq!(running.sum::<usize>(), 100, "{priorities} priorities");
        assert_eq!(world.prefetched(busy), 100, "one for each worker");
    }
}
