//! The trace of a task: what nodes are told of it, attempt by attempt, and over a restart.

use std::time::Duration;

use super::common::done;
use super::{Board, STOPS};
use crate::engine::message::End;
use crate::status::{Cause, Failure};
use crate::task::TaskId;
use crate::trace::{TraceContext, TraceMode, TraceParent};

fn context() -> TraceContext {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    TraceContext::new(parent, "a=1").unwrap()
}

fn submit(board: &mut Board, mode: Option<TraceMode>) -> TaskId {
    board.submit_with(STOPS, |it| {
        let options = crate::task::Options {
            trace: Some(context()),
            trace_mode: mode,
            ..Default::default()
        };
        it.options = Some(Box::new(options));
    })
}

fn told(board: &Board, task: TaskId) -> Option<TraceParent> {
    let (_, run) = board.assignment(task);
    run.terms.and_then(|terms| terms.trace)
}

fn child() -> Option<TraceParent> {
    Some(TraceParent::Child(context()))
}

fn link() -> Option<TraceParent> {
    Some(TraceParent::Link(context()))
}

#[test]
fn only_the_first_attempt_soon_after_acceptance_is_a_part_of_the_callers_trace() {
    let mut board = Board::new();
    let late = submit(&mut board, None);
    board.wait(TraceMode::SOON + Duration::from_nanos(1));
    board.join("first", 1, Vec::new());
    assert_eq!(told(&board, late), link());
    board.end(late, done(), false);
    let soon = submit(&mut board, None);
    assert_eq!(told(&board, soon), child());
    let failure = Failure::new(Cause::Error, "it failed");
    let after = Duration::from_millis(5);
    let failure = Box::new(failure);
    board.end(soon, End::Again { after, failure }, false);
    board.wait(after);
    assert_eq!(board.assignment(soon).1.attempt, 2);
    assert_eq!(told(&board, soon), link());
}

#[test]
fn a_task_may_say_how_it_relates_to_its_trace_and_its_scheduler_says_so_for_all_others() {
    let mut board = Board::new();
    board.machine.config.trace_mode = TraceMode::Link;
    board.join_large("first", 1);
    let by_config = submit(&mut board, None);
    assert_eq!(told(&board, by_config), link());
    for (mode, expected) in [
        (TraceMode::Auto, child()),
        (TraceMode::Child, child()),
        (TraceMode::Link, link()),
        (TraceMode::Off, None),
    ] {
        let task = submit(&mut board, Some(mode));
        assert_eq!(told(&board, task), expected, "{mode:?}");
    }
}

#[test]
fn a_trace_outlasts_a_kill() {
    let mut board = Board::stored(|_| {});
    let task = submit(&mut board, Some(TraceMode::Child));
    board.wait(Duration::from_secs(1));
    board.restart();
    board.join("first", 1, Vec::new());
    board.wait(Duration::from_secs(1));
    assert_eq!(told(&board, task), child());
    let left = board.machine.unfinished();
    assert_eq!(left[0].options.trace, Some(context()));
}
