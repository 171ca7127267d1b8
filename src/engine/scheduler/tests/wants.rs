//! What nodes are told of the tasks that wait for workers which other schedulers have.

use super::{Board, STOPS};
use crate::engine::LinkId;
use crate::engine::message::{Report, ToScheduler};

/// Makes a node whose two workers other schedulers have.
fn lent() -> (Board, LinkId) {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let lent = Report::Lent { workers: 2 };
    board.say(link, ToScheduler::Reports(vec![lent]));
    (board, link)
}

#[test]
fn g5_a_task_does_not_wait_at_a_node_whose_workers_others_have() {
    let (mut board, link) = lent();
    let task = board.submit(STOPS);
    assert!(board.assigned.is_empty(), "{:?}", board.assigned);
    assert_eq!(board.wants, [(link, 1)]);

    let free = board.join("second", 2, Vec::new());
    assert_eq!(board.assignment(task).0, free);
    assert_eq!(board.wants, [(link, 1), (link, 0)]);
}

#[test]
fn g5_a_node_hears_of_other_tasks_that_wait_though_they_are_as_many() {
    let (mut board, link) = lent();
    let task = board.submit("offered by no node");
    assert!(board.wants.is_empty());

    // Both in one turn.
    board.machine.cancel(board.now, task, 1);
    board.submit(STOPS);
    assert_eq!(board.wants, [(link, 1)]);
}

#[test]
fn g5_a_node_is_told_again_what_waits_when_it_tells_again_what_others_have() {
    let (mut board, link) = lent();
    board.submit(STOPS);
    board.submit(STOPS);
    // The worker that it kept was not used in time, so others have it again.
    let lent = Report::Lent { workers: 2 };
    board.say(link, ToScheduler::Reports(vec![lent]));
    assert_eq!(board.wants, [(link, 1), (link, 2), (link, 2)]);
}
