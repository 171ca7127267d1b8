//! Several schedulers that share the workers of one process.

use super::machines::{Fleet, told_on};
use super::*;

/// Two schedulers over a process of four workers, which send as many tasks as they have workers and
/// four more.
struct Shared {
    fleet: Fleet,
    links: [LinkId; 2],
    /// What runs, by worker, in order of its start.
    running: Vec<(WorkerId, u64)>,
    next: u64,
    ended: [u32; 2],
    /// What each scheduler was told last of the workers that others have.
    lent: [String; 2],
}

impl Shared {
    fn new() -> Self {
        let mut fleet = Fleet::with(spec(4), &[], Some(4));
        let links = [fleet.serve("a", 1, None), fleet.serve("b", 1, None)];
        Self {
            fleet,
            links,
            running: Vec::new(),
            next: 1,
            ended: [0; 2],
            lent: Default::default(),
        }
    }

    fn heard(&mut self, actions: &[NodeAction]) {
        for action in actions {
            match action {
                NodeAction::Start {
                    worker, assignment, ..
                } => self.running.push((*worker, assignment.dispatch.get())),
                NodeAction::Stop { .. } => panic!("a run is stopped"),
                _ => {}
            }
        }
        for (link, told) in told_on(actions) {
            if told.starts_with("lent") {
                let who = self.links.iter().position(|own| *own == link);
                self.lent[who.unwrap()] = told;
            }
        }
        assert!(self.fleet.node.running() <= 4, "more run than may");
    }

    fn send(&mut self, who: usize, count: usize) {
        self.send_all(who, count, prefetched);
    }

    fn send_at_once(&mut self, who: usize, count: usize) {
        self.send_all(who, count, at_once);
    }

    fn send_all(&mut self, who: usize, count: usize, task: fn(u64) -> Assignment) {
        for _ in 0..count {
            let task = task(self.next);
            self.next += 1;
            let message = ToNode::Assign(vec![task]);
            let actions = self.fleet.say(self.links[who], message);
            self.heard(&actions);
        }
    }

    fn has(&self, who: usize) -> usize {
        let running = self.running.iter();
        running.filter(|(worker, _)| worker.seat() == who).count()
    }

    /// Ends the run that began first; its scheduler sends another task if it has any.
    fn end_one(&mut self, busy: [bool; 2]) {
        let (worker, number) = self.running.remove(0);
        let who = worker.seat();
        self.ended[who] += 1;
        let actions = self.fleet.ended(worker, number);
        self.heard(&actions);
        if busy[who] {
            self.send(who, 1);
        }
    }
}

#[test]
fn of_the_workers_of_a_process_two_schedulers_with_the_same_load_have_half_each() {
    let mut shared = Shared::new();
    shared.send(0, 8);
    assert_eq!(shared.has(0), 4, "what the other does not use is lent");
    // It comes into its share as runs of the other end, and no later.
    shared.send(1, 8);
    assert_eq!((shared.has(0), shared.has(1)), (4, 0));
    shared.end_one([true; 2]);
    shared.end_one([true; 2]);
    assert_eq!((shared.has(0), shared.has(1)), (2, 2));
    shared.ended = [0, 0];
    for _ in 0..1000 {
        shared.end_one([true; 2]);
        assert_eq!(shared.has(0) + shared.has(1), 4, "a worker is idle");
    }
    let [a, b] = shared.ended;
    assert!(a.abs_diff(b) <= (a + b) / 20, "{a} and {b}");
    // One that has nothing more gives its share back.
    while shared.has(1) > 0 {
        shared.end_one([true, false]);
    }
    let actions = shared.fleet.after(Duration::from_secs(1));
    shared.heard(&actions);
    assert_eq!(shared.has(0), 4);
}

#[test]
fn a_scheduler_is_told_of_what_others_have_and_its_share_comes_back_for_what_it_wants() {
    let mut shared = Shared::new();
    shared.send(0, 8);
    assert_eq!(
        shared.lent[1], "lent 4",
        "nothing that it sends could start"
    );
    let actions = shared.fleet.say(shared.links[1], ToNode::Wants(3));
    shared.heard(&actions);
    // What comes back is kept for it, up to its share, and it hears of each.
    for (ended, lent) in [(1, "lent 3"), (2, "lent 2"), (3, "lent 2")] {
        shared.end_one([true; 2]);
        assert_eq!(shared.lent[1], lent, "after {ended} runs");
    }
    assert_eq!((shared.has(0), shared.has(1)), (2, 0));
    shared.send_at_once(1, 2);
    assert_eq!((shared.has(0), shared.has(1)), (2, 2));
    assert_eq!(shared.lent, ["lent 2", "lent 2"]);
}

#[test]
fn g5_what_is_sent_for_a_worker_that_another_scheduler_has_does_not_wait_there() {
    let mut fleet = Fleet::with(spec(1), &[], Some(1));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    let [of_a] = fleet.start(a, 1)[..] else {
        panic!("it starts")
    };
    // The news of the other has not come to its scheduler, for which this would be running.
    let actions = fleet.say(b, ToNode::Assign(vec![at_once(1)]));
    assert_eq!(told(&actions), ["refused #1 Lent"]);
    fleet.say(b, ToNode::Wants(1));
    let actions = fleet.say(a, ToNode::Assign(vec![prefetched(2)]));
    assert_eq!(starts(&actions), 0);
    let actions = fleet.ended(of_a, 1);
    assert_eq!(starts(&actions), 0, "it is kept for what the other wants");
    assert!(told_on(&actions).contains(&(b, "ready".to_owned())));
    assert_eq!(fleet.start(b, 2).len(), 1);
}

#[test]
fn g5_a_worker_that_is_wanted_and_not_used_is_lent_again() {
    let mut fleet = Fleet::with(spec(1), &[], Some(1));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    let [of_a] = fleet.start(a, 1)[..] else {
        panic!("it starts")
    };
    fleet.say(b, ToNode::Wants(1));
    fleet.say(a, ToNode::Assign(vec![prefetched(2)]));
    assert_eq!(starts(&fleet.ended(of_a, 1)), 0);
    let due = fleet.node.next_wakeup().expect("it is not kept for ever");
    assert_eq!(starts(&fleet.at(due)), 1);
}

#[test]
fn a_scheduler_that_is_cut_off_wants_nothing() {
    let mut fleet = Fleet::with(spec(1), &[], Some(1));
    let a = fleet.serve("a", 1, None);
    let b = fleet.serve("b", 1, None);
    let [of_a] = fleet.start(a, 1)[..] else {
        panic!("it starts")
    };
    fleet.say(b, ToNode::Wants(1));
    fleet.cut(b);
    fleet.say(a, ToNode::Assign(vec![prefetched(2)]));
    assert_eq!(starts(&fleet.ended(of_a, 1)), 1);
}

/// Makes two schedulers over a process of two workers: the first has more than enough to do, the
/// second sends one task at a time, to a free worker only.
fn one_task_at_a_time() -> (Fleet, [LinkId; 2], WorkerId) {
    let mut fleet = Fleet::with(spec(2), &[], Some(2));
    let links = [fleet.serve("a", 1, None), fleet.serve("b", 1, None)];
    let [of_b] = fleet.start(links[1], 1)[..] else {
        panic!("it starts")
    };
    let prefetched = (11..=14).map(prefetched).collect();
    let actions = fleet.say(links[0], ToNode::Assign(prefetched));
    assert_eq!(starts(&actions), 1, "{actions:?}");
    (fleet, links, of_b)
}

fn starts(actions: &[NodeAction]) -> usize {
    let is_start = |action: &&NodeAction| matches!(action, NodeAction::Start { .. });
    actions.iter().filter(is_start).count()
}

#[test]
fn a_worker_whose_next_task_is_on_its_way_is_lent_to_nobody() {
    let (mut fleet, [_, b], mut of_b) = one_task_at_a_time();
    for number in 2..10 {
        let actions = fleet.ended(of_b, number - 1);
        assert_eq!(starts(&actions), 0, "{actions:?}");
        let actions = fleet.after(Duration::from_millis(20));
        assert_eq!(starts(&actions), 0, "{actions:?}");
        let [worker] = fleet.start(b, number)[..] else {
            panic!("it has its share")
        };
        of_b = worker;
    }
}

#[test]
fn a_worker_for_which_nothing_comes_is_lent_when_the_claim_ends() {
    let (mut fleet, _, of_b) = one_task_at_a_time();
    fleet.ended(of_b, 1);
    let due = fleet.node.next_wakeup().expect("the claim ends");
    let actions = fleet.at(due);
    assert_eq!(starts(&actions), 1, "{actions:?}");
}

#[test]
fn a_scheduler_whose_link_is_down_claims_nothing() {
    let (mut fleet, [_, b], of_b) = one_task_at_a_time();
    fleet.cut(b);
    let actions = fleet.ended(of_b, 1);
    assert_eq!(starts(&actions), 1, "{actions:?}");
}
