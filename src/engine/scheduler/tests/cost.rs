//! What a turn goes through: what has changed, and not all that there is.

use std::time::Duration;

use super::{Board, STOPS};
use crate::engine::message::{End, KindOffer};
use crate::engine::work;
use crate::payload::Payload;
use crate::task::{Options, Priority, TaskId};

/// Adds nodes of two workers that bear so many labels each, and offer a kind for each.
fn nodes(board: &mut Board, nodes: u64, labels: u64) {
    for number in 0..nodes {
        let mut hello = board.hello(&format!("node {number}"), number);
        hello.labels = (0..labels).map(|label| label.to_string()).collect();
        hello.kinds.extend((0..labels).map(|kind| KindOffer {
            kind: kind.to_string(),
            blocking: false,
        }));
        board.join_by(hello, Vec::new());
    }
}

fn labelled(board: &mut Board, label: u64, exclusive: bool) -> TaskId {
    board.submit_with(STOPS, |submission| {
        let mut options = Options {
            exclusive,
            ..Options::default()
        };
        options.labels.insert(label.to_string());
        submission.options = Some(Box::new(options));
    })
}

/// Counts what 256 tasks go through that come and end one by one, each of the next of these
/// `sorts`, on `nodes` nodes with so many of each sort waiting.
fn steps(number: u64, sorts: u64, crowd: u64, task: fn(&mut Board, u64) -> TaskId) -> u64 {
    let mut board = Board::new();
    nodes(&mut board, number, sorts);
    let mut waiting = std::collections::VecDeque::new();
    // As many run as there are workers, and the rest waits.
    let full = if crowd > 0 { 2 * number } else { 0 };
    for at in 0..full + crowd * sorts {
        waiting.push_back(task(&mut board, at % sorts));
    }
    let steps = work::steps_of(|| {
        for at in 0..256 {
            waiting.push_back(task(&mut board, at % sorts));
            let first = waiting.pop_front().expect("one was added");
            board.end(first, End::Completed(Payload::new()), false);
        }
    });
    assert_eq!(board.machine.check(), Ok(()));
    steps
}

#[test]
fn g6_a_task_costs_the_same_however_many_sorts_of_tasks_are_in_use() {
    let sorts: [fn(&mut Board, u64) -> TaskId; 3] = [
        |board, sort| labelled(board, sort, false),
        |board, sort| labelled(board, sort, true),
        |board, sort| board.submit(&sort.to_string()),
    ];
    for (at, sort) in sorts.into_iter().enumerate() {
        for (number, crowd) in [(1, 0), (1, 2), (20, 0), (20, 2)] {
            let one = steps(number, 1, crowd * 256, sort);
            let many = steps(number, 256, crowd, sort);
            assert!(
                many <= 2 * one,
                "sort {at}: {many} steps with 256 in use, {one} with one, on {number} nodes with {crowd} of each waiting"
            );
        }
    }
}

#[test]
fn g6_a_task_for_one_node_costs_the_same_beside_many_that_wait_for_others() {
    let steps = |others: u64| {
        let mut board = Board::new();
        for number in 0..=others {
            let mut hello = board.hello(&format!("node {number}"), number);
            hello.labels = [number.to_string()].into();
            board.join_by(hello, Vec::new());
        }
        // All but the first are busy, and more waits for each.
        for number in (1..=others).cycle().take(4 * others as usize) {
            labelled(&mut board, number, false);
        }
        work::steps_of(|| {
            for _ in 0..256 {
                let task = labelled(&mut board, 0, false);
                board.end(task, End::Completed(Payload::new()), false);
            }
        })
    };
    let (few, many) = (steps(1), steps(200));
    assert!(many <= 2 * few, "{many} steps beside 200, {few} beside one");
}

/// Returns the most that one of 100 turns in which nothing happens goes through, with so many nodes
/// that all have tasks prefetched: the first of this priority and the others of none.
fn idle_steps(number: u64, first: i8) -> u64 {
    let mut board = Board::unchecked();
    board.machine.config.max_prefetch = 4096;
    nodes(&mut board, number, 0);
    let submit = |board: &mut Board, priority| {
        board.submit_with(STOPS, |submission| {
            submission.options = Some(Box::new(Options {
                priority: Priority(priority),
                ..Options::default()
            }));
        })
    };
    // Each node is known for runs that take no longer than a round trip, so it is sent tasks
    // prefetched.
    let tasks: Vec<_> = (0..2 * number).map(|_| submit(&mut board, 0)).collect();
    board.now = board.now + Duration::from_millis(10);
    for task in tasks {
        board.end(task, End::Completed(Payload::new()), false);
    }
    board.assigned.clear();
    for at in 0..4 * number {
        submit(&mut board, if at == 2 * number { first } else { 0 });
    }
    let prefetched = board
        .assigned
        .iter()
        .filter(|(_, run)| run.prefetched)
        .count();
    assert_eq!(
        prefetched as u64,
        2 * number,
        "all nodes have tasks prefetched"
    );
    assert_eq!(board.machine.check(), Ok(()));
    let turns = (0..100).map(|_| {
        board.now = board.now + Duration::from_micros(250);
        work::steps_of(|| board.settle_down())
    });
    turns.max().unwrap_or(0)
}

#[test]
fn g5_an_idle_turn_costs_the_same_however_many_nodes_are_loaded() {
    let (few, many) = (idle_steps(10, 0), idle_steps(1_000, 0));
    assert!(many <= few, "{many} steps with 1,000 nodes, {few} with ten");
    // While something may be better placed, nodes are looked at in rounds, some in each turn.
    let (few, many) = (idle_steps(100, 1), idle_steps(1_000, 1));
    assert!(few > 0, "nodes are looked at");
    assert!(many <= few, "{many} steps with 1,000 nodes, {few} with 100");
}
