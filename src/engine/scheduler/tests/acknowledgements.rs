//! When a node is told that its reports were taken.

use std::time::Duration;

use super::runs::prefetched;
use super::{Board, STOPS};
use crate::engine::message::{Beat, End, Report, ToScheduler};
use crate::payload::Payload;

fn completed(bytes: usize) -> End {
    End::Completed(Payload::from(vec![0; bytes]))
}

/// Makes a node, and forgets what it was told of by then.
fn board() -> Board {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    board.said.clear();
    board
}

#[test]
fn g9_an_acknowledgement_waits_for_company_and_goes_before_it() {
    let mut board = board();
    let tasks = [board.submit(STOPS), board.submit(STOPS)];
    for task in tasks {
        board.end(task, completed(8), false);
    }
    assert_eq!(board.said, ["assign", "assign"]);
    // Before the assignment, for which a node whose budget is full has no room otherwise.
    board.submit(STOPS);
    assert_eq!(board.said[2..], ["acknowledge", "assign"]);
    board.submit(STOPS);
    assert_eq!(board.said[4..], ["assign"], "nothing is owed any more");
}

#[test]
fn g9_an_acknowledgement_waits_no_longer_than_for_a_beat() {
    let mut board = board();
    let task = board.submit(STOPS);
    let link = board.assignment(task).0;
    board.end(task, completed(8), false);
    board.wait(Duration::from_secs(1));
    let beat = |number| Beat {
        number,
        answered: 0,
        round_trip: None,
    };
    board.say(link, ToScheduler::Beat(beat(1)));
    assert_eq!(board.said, ["assign", "answer", "acknowledge"]);
    board.say(link, ToScheduler::Beat(beat(2)));
    assert_eq!(board.said[3..], ["answer"], "nothing is owed any more");
}

#[test]
fn g9_little_waits_to_be_acknowledged() {
    let mut board = board();
    let task = board.submit(STOPS);
    board.end(task, completed(64 << 10), false);
    assert_eq!(board.said, ["assign", "acknowledge"], "it is large");

    let task = board.submit(STOPS);
    let (link, run) = board.assignment(task);
    board.said.clear();
    // One that is told again is owed an acknowledgement, too.
    for _ in 0..64 {
        assert_eq!(board.said, [""; 0]);
        board.reports = 1;
        board.end_of(link, &run, completed(0), false);
    }
    assert_eq!(board.said, ["acknowledge"], "they are many");
}

#[test]
fn g5_a_node_that_could_start_what_was_sent_ahead_is_acknowledged_at_once() {
    let (mut board, prefetched) = prefetched();
    let task = board.assigned[board.assigned.len() - 3].1.task;
    assert!(task < prefetched);
    board.said.clear();
    board.end(task, completed(8), false);
    assert_eq!(board.said, ["acknowledge"]);
}

#[test]
fn g9_a_node_that_drains_is_acknowledged_at_once() {
    for by_itself in [true, false] {
        let mut board = board();
        let tasks = [board.submit(STOPS), board.submit(STOPS)];
        let link = board.assignment(tasks[0]).0;
        board.end(tasks[0], completed(8), false);
        board.said.clear();
        if by_itself {
            board.say(link, ToScheduler::Reports(vec![Report::Draining]));
            assert_eq!(board.said, ["acknowledge"]);
        } else {
            board.machine.drain_node(board.now, "first").unwrap();
            board.settle_down();
            assert_eq!(board.said, ["drain", "acknowledge"]);
        }
        board.said.clear();
        board.end(tasks[1], completed(8), false);
        assert_eq!(board.said, ["acknowledge"]);
    }
}

#[test]
fn g9_what_was_taken_and_is_told_again_after_a_cut_is_neither_counted_nor_done_again() {
    let mut board = board();
    let task = board.submit(STOPS);
    let (link, run) = board.assignment(task);
    board.end(task, completed(8), false);
    assert_eq!(board.said, ["assign"], "it was not acknowledged");
    board.cut(link);
    board.return_with(&run, completed(8));
    assert_eq!(board.told.len(), 1);
    let totals = board.machine.stats(board.now).totals;
    assert_eq!((totals.completed, totals.stale_reports), (1, 0));
    assert_eq!(board.machine.check(), Ok(()));
}
