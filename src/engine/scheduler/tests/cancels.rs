//! G12: a cancel is answered with what happened.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS};
use crate::engine::message::End;
use crate::status::{CancelAnswer, Cause, Failure, Outcome};
use crate::task::TaskId;

fn again(cause: Cause) -> End {
    End::Again {
        after: Duration::from_secs(60),
        failure: Failure::new(cause, "no"),
    }
}

/// Cancels a task that no node has, and sees that it is settled by that.
fn cancelled(board: &mut Board, task: TaskId) -> CancelAnswer {
    board.cancel(task);
    let [answer] = board.answers[..] else {
        panic!("it is answered once: {:?}", board.answers);
    };
    let [status] = &board.told[..] else {
        panic!("it is told once: {:?}", board.told);
    };
    assert_eq!((status.id, &status.outcome), (task, &Outcome::Cancelled));
    answer
}

#[test]
fn g12_a_cancel_between_attempts_says_that_a_run_which_timed_out_goes_on() {
    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let task = board.submit(BLOCKS);
    board.end(task, again(Cause::Timeout), true);
    assert_eq!(cancelled(&mut board, task), CancelAnswer::StillRunning);
}

#[test]
fn g12_a_cancel_between_attempts_says_stopped_once_that_run_has_ended() {
    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let task = board.submit(BLOCKS);
    let (link, run) = board.assignment(task);
    board.end(task, again(Cause::Timeout), true);
    board.freed(link, &run);
    assert_eq!(cancelled(&mut board, task), CancelAnswer::Stopped);
}

#[test]
fn g12_a_cancel_says_never_started_only_of_what_never_ran() {
    let mut board = Board::new();
    let waits = board.submit(STOPS);
    assert_eq!(cancelled(&mut board, waits), CancelAnswer::NeverStarted);

    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let failed = board.submit(STOPS);
    board.end(failed, again(Cause::Error), false);
    assert_eq!(cancelled(&mut board, failed), CancelAnswer::Stopped);
}

#[test]
fn g12_a_cancel_says_that_a_run_on_a_lost_node_may_go_on_until_its_node_has_dropped_it() {
    for (kind, later) in [
        (STOPS, CancelAnswer::Stopped),
        (BLOCKS, CancelAnswer::StillRunning),
    ] {
        for (wait, expected) in [
            (Duration::ZERO, CancelAnswer::StillRunning),
            (Duration::from_secs(30), later),
        ] {
            let mut board = Board::new();
            let link = board.join("node", 1, Vec::new());
            let task = board.submit(kind);
            board.assignment(task);
            // A new process under its name, while nobody knows whether the old one lives.
            board.wait(Duration::from_secs(5));
            board.cut(link);
            board.join("node", 2, Vec::new());
            let (_, second) = board.assignment(task);
            let failure = Failure::new(Cause::Error, "no");
            let end = End::Again {
                after: Duration::from_secs(60),
                failure,
            };
            board.end(task, end, false);
            board.wait(wait);
            assert_eq!(
                cancelled(&mut board, task),
                expected,
                "{kind} after {wait:?}, run {}",
                second.dispatch
            );
        }
    }
}
