//! What follows the wall clock, also when that is set.

use std::time::{Duration, SystemTime};

use super::*;
use crate::engine::message::End;
use crate::task::{Due, Options};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Returns a time that the wall clock is to show.
fn at(board: &Board, prefetched: Duration) -> SystemTime {
    (board.now + prefetched).to_system_time()
}

fn plan(board: &mut Board, at: SystemTime) -> TaskId {
    board.submit_with(STOPS, |submission| {
        let due = Due::At(at);
        let options = Options {
            due,
            ..Options::default()
        };
        submission.options = Some(Box::new(options));
    })
}

/// Sets the wall clock to what the machine's will show so much later, or did so much earlier.
fn set(board: &mut Board, shows: Timestamp) {
    board.event(Event::WallClock { shows });
}

fn waiting(board: &Board) -> (usize, usize) {
    let stats = board.machine.stats(board.now);
    (stats.due_later, stats.pending)
}

#[test]
fn g13_a_planned_task_becomes_due_when_the_wall_clock_is_set_past_its_time() {
    let mut board = Board::new();
    let at = at(&board, HOUR);
    let task = plan(&mut board, at);
    assert_eq!(waiting(&board), (1, 0));
    // Nobody announces a step, so the machine asks for a look within a second.
    let look = board.machine.next_wakeup().expect("it waits");
    assert!(look.since(board.now) < Duration::from_secs(1));
    board.wait(MINUTE);
    let now = board.now;
    set(&mut board, now + (HOUR - MINUTE - Duration::from_millis(1)));
    assert_eq!(waiting(&board), (1, 0));
    let remaining = board.machine.explain(board.now, task).unwrap().reason;
    assert_eq!(
        remaining,
        crate::stats::Reason::NotDue {
            remaining: Duration::from_millis(1)
        }
    );
    board.wait(Duration::from_millis(1));
    assert_eq!(waiting(&board), (0, 1));
}

#[test]
fn g13_a_planned_task_waits_longer_when_the_wall_clock_is_set_back() {
    let mut board = Board::new();
    let at = at(&board, MINUTE);
    plan(&mut board, at);
    let now = board.now;
    set(&mut board, now - HOUR);
    board.wait(MINUTE);
    assert_eq!(waiting(&board), (1, 0));
    board.wait(HOUR - Duration::from_millis(1));
    assert_eq!(waiting(&board), (1, 0));
    board.wait(Duration::from_millis(1));
    assert_eq!(waiting(&board), (0, 1));
}

#[test]
fn what_was_set_before_counts_for_what_is_planned_after() {
    let mut board = Board::new();
    let (early, late) = (at(&board, MINUTE), at(&board, 2 * HOUR));
    let now = board.now;
    set(&mut board, now + HOUR);
    plan(&mut board, early);
    assert_eq!(waiting(&board), (0, 1));
    let task = plan(&mut board, late);
    assert_eq!(waiting(&board), (1, 1));
    board.cancel(task);
    assert_eq!(waiting(&board), (0, 1));
    // With nothing planned there is nothing to look for.
    assert_eq!(board.machine.next_wakeup(), None);
}

#[test]
fn delays_and_deadlines_do_not_follow_the_wall_clock() {
    let mut board = Board::new();
    board.submit_with(STOPS, |submission| {
        let options = Options {
            due: Due::After(MINUTE),
            ..Options::default()
        };
        submission.options = Some(Box::new(options));
    });
    let now = board.now;
    set(&mut board, now + HOUR);
    board.wait(MINUTE - Duration::from_millis(1));
    assert_eq!(waiting(&board), (1, 0));
    board.wait(Duration::from_millis(1));
    assert_eq!(waiting(&board), (0, 1));
}

#[test]
fn a_status_tells_the_time_that_the_wall_clock_shows() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let started = board.now;
    board.wait(Duration::from_secs(1));
    let now = board.now;
    set(&mut board, now + HOUR);
    board.end(task, End::Completed(Payload::new()), false);
    let status = board.told.last().expect("it is told");
    assert_eq!(status.settled_at, (now + HOUR).to_system_time());
    assert_eq!(status.accepted_at, (started + HOUR).to_system_time());
    assert_eq!(status.started_at, Some((started + HOUR).to_system_time()));
}
