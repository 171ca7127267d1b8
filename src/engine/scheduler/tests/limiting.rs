//! Limits of kinds: no more go on or start than may, and nothing else waits for it.

use std::time::Duration;

use super::common::done;
use super::recovery::holds;
use super::{BLOCKS, Board, STOPS};
use crate::engine::LinkId;
use crate::engine::message::End;
use crate::error::KindError;
use crate::limit::Limit;
use crate::stats::{LimitStats, Reason};
use crate::status::{Cause, Failure};
use crate::task::{Options, Priority};

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

fn limit(board: &mut Board, kind: &str, limit: Limit) {
    let set = board.machine.set_limit(board.now, &kind.into(), limit);
    set.unwrap();
    board.settle_down();
}

fn told(board: &Board) -> LimitStats {
    board.machine.stats(board.now).limits[0].clone()
}

#[test]
fn no_more_of_a_kind_go_on_at_once_than_may_over_all_nodes() {
    let mut board = Board::new();
    limit(&mut board, STOPS, Limit::concurrency(3));
    board.join("first", 1, Vec::new());
    board.join("second", 2, Vec::new());
    let tasks: Vec<_> = (0..5).map(|_| board.submit(STOPS)).collect();
    assert_eq!(board.placed(), tasks[..3]);
    assert_eq!(board.why(tasks[3]), Some(Reason::AtLimit { limit: 3 }));
    let it = told(&board);
    assert_eq!((it.going, it.waiting), (3, 2));
    board.end(tasks[1], done(), false);
    assert_eq!(board.placed(), tasks[..4], "one has ended");
}

#[test]
fn what_waits_for_its_limit_holds_no_other_kind_up() {
    let mut board = Board::new();
    limit(&mut board, STOPS, Limit::concurrency(1));
    board.join("first", 1, Vec::new());
    let first = board.submit(STOPS);
    for exclusive in [false, true] {
        board.submit_with(STOPS, |it| {
            it.options = Some(Box::new(Options {
                priority: Priority::HIGH,
                exclusive,
                ..Options::default()
            }));
        });
    }
    let other = board.submit(BLOCKS);
    assert_eq!(board.placed(), [first, other]);
}

/// Makes a node of two workers to which tasks are sent ahead.
fn fast() -> Board {
    let (mut board, _) = Board::with_fast_node();
    board.assigned.clear();
    board
}

#[test]
fn what_is_sent_ahead_counts() {
    let mut board = fast();
    limit(&mut board, STOPS, Limit::concurrency(4));
    for _ in 0..9 {
        board.submit(STOPS);
    }
    let ahead = board.assigned.iter().filter(|(_, run)| run.prefetched);
    assert_eq!((board.assigned.len(), ahead.count()), (4, 2));
}

#[test]
fn what_was_sent_ahead_is_asked_back_when_more_go_on_than_may() {
    let mut board = fast();
    let tasks: Vec<_> = (0..6).map(|_| board.submit(STOPS)).collect();
    let other = board.submit(BLOCKS);
    let runs: Vec<_> = tasks.iter().map(|&it| board.assignment(it)).collect();
    assert!(board.assignment(other).1.prefetched);
    limit(&mut board, STOPS, Limit::concurrency(6));
    board.wait(Duration::from_millis(1));
    assert_eq!(board.retracted, [], "no more than may");
    limit(&mut board, STOPS, Limit::concurrency(3));
    board.wait(Duration::from_millis(1));
    let ahead = runs.iter().filter(|(_, run)| run.prefetched);
    let ahead: Vec<_> = ahead.map(|(link, run)| (*link, run.dispatch)).collect();
    assert_eq!((ahead.len(), &board.retracted), (4, &ahead));
    board.assigned.clear();
    for (link, run) in &runs[2..] {
        board.give_back(*link, run.task, run.dispatch);
    }
    assert_eq!(board.placed(), tasks[2..3], "as many as may");
}

#[test]
fn a_run_that_was_given_up_counts_until_it_can_no_longer_go_on() {
    let mut board = Board::new();
    limit(&mut board, STOPS, Limit::concurrency(1));
    limit(&mut board, BLOCKS, Limit::concurrency(1));
    let link = board.join("first", 1, Vec::new());
    let (stops, blocks) = (board.submit(STOPS), board.submit(BLOCKS));
    board.cut(link);
    board.wait(SECOND * 16);
    // Its lease is over: what can be stopped was, a heartbeat later.
    board.join("second", 2, Vec::new());
    assert_eq!(board.placed(), [stops, blocks]);
    board.wait(SECOND * 4);
    assert_eq!(board.placed(), [stops, blocks, stops]);
    let reason = Reason::AtLimit { limit: 1 };
    assert_eq!(board.why(blocks), Some(reason), "nobody knows of its end");
    board.machine.declare_dead(board.now, "first").unwrap();
    board.settle_down();
    assert_eq!(board.placed(), [stops, blocks, stops, blocks]);
}

#[test]
fn a_run_that_overran_its_attempt_counts_until_its_worker_is_free() {
    let mut board = Board::new();
    limit(&mut board, BLOCKS, Limit::concurrency(1));
    board.join("first", 1, Vec::new());
    let (first, second) = (board.submit(BLOCKS), board.submit(BLOCKS));
    let (link, run) = board.assignment(first);
    let timeout = Box::new(Failure::new(Cause::Timeout, ""));
    board.end_of(link, &run, End::Failed(timeout), true);
    assert_eq!((board.placed(), told(&board).going), (vec![first], 1));
    board.freed(link, &run);
    assert_eq!(board.placed(), [first, second]);
}

#[test]
fn starts_come_evenly_and_so_many_at_once_after_a_pause() {
    let mut board = Board::new();
    limit(&mut board, STOPS, Limit::new().rate(10, SECOND).burst(3));
    board.join_large("first", 1);
    let tasks: Vec<_> = (0..8).map(|_| board.submit(STOPS)).collect();
    assert_eq!(board.placed().len(), 3);
    let remaining = TENTH;
    assert_eq!(board.why(tasks[7]), Some(Reason::RateUsedUp { remaining }));
    board.wait(TENTH - Duration::from_nanos(1));
    assert_eq!(board.placed().len(), 3);
    board.wait(Duration::from_nanos(1));
    assert_eq!(board.placed().len(), 4);
    board.wait(TENTH * 2);
    assert_eq!(board.placed().len(), 6);
    board.wait(SECOND);
    assert_eq!(board.placed(), tasks);
    board.wait(SECOND);
    for _ in 0..8 {
        board.submit(STOPS);
    }
    assert_eq!(board.placed().len(), 8 + 3);
}

#[test]
fn a_limit_is_changed_while_tasks_run_and_taken_away() {
    let mut board = Board::new();
    board.join_large("first", 1);
    let tasks: Vec<_> = (0..4).map(|_| board.submit(STOPS)).collect();
    limit(&mut board, STOPS, Limit::concurrency(2));
    let waits: Vec<_> = (0..4).map(|_| board.submit(STOPS)).collect();
    let it = told(&board);
    assert_eq!((it.going, it.waiting), (4, 4), "what runs is not stopped");
    for task in &tasks[..2] {
        board.end(*task, done(), false);
        assert_eq!(board.placed().len(), 4);
    }
    board.end(tasks[2], done(), false);
    assert_eq!(board.placed().len(), 5);
    limit(&mut board, STOPS, Limit::concurrency(4));
    assert_eq!(board.placed().len(), 7);
    limit(&mut board, STOPS, Limit::new().rate(1, SECOND * 60));
    assert_eq!(board.placed().len(), 8);
    let last = board.submit(STOPS);
    assert!(matches!(board.why(last), Some(Reason::RateUsedUp { .. })));
    limit(&mut board, STOPS, Limit::new());
    assert_eq!(board.placed()[4..8], waits);
    assert_eq!(board.placed().last(), Some(&last));
    assert!(board.machine.stats(board.now).limits.is_empty());
}

#[test]
fn a_paused_kind_that_is_limited_goes_on_within_its_limit() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    limit(&mut board, STOPS, Limit::concurrency(1));
    let first = board.submit(STOPS);
    board.machine.pause(board.now, Some(&STOPS.into())).unwrap();
    let second = board.submit(STOPS);
    assert_eq!(board.why(second), Some(Reason::Paused));
    board.machine.resume(board.now, Some(&STOPS.into()));
    board.settle_down();
    assert_eq!(board.placed(), [first]);
    board.end(first, done(), false);
    assert_eq!(board.placed(), [first, second]);
}

#[test]
fn limits_and_what_counts_against_them_outlast_a_kill() {
    let mut board = Board::stored(|config| {
        let limits = [STOPS, BLOCKS].map(|kind| (kind.into(), Limit::concurrency(1)));
        config.limits = limits.into();
    });
    limit(&mut board, BLOCKS, Limit::new());
    limit(&mut board, STOPS, Limit::concurrency(2));
    limit(&mut board, STOPS, Limit::concurrency(1));
    board.join("first", 1, Vec::new());
    let (first, second) = (board.submit(STOPS), board.submit(STOPS));
    board.wait(SECOND);
    let (_, run) = board.assignment(first);
    for _ in 0..2 {
        board.restart();
        board.assigned.clear();
        let limits = board.machine.stats(board.now).limits;
        assert_eq!((limits.len(), limits[0].going), (1, 1));
        board.join("second", 2, Vec::new());
        board.join("first", 1, holds(&run));
        board.wait(SECOND);
        assert_eq!(board.assigned, []);
        assert_eq!(board.why(second), Some(Reason::AtLimit { limit: 1 }));
    }
    board.end_of(LinkId(board.links), &run, done(), false);
    assert_eq!(board.placed(), [second]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let mut board = Board::new();
    let now = board.now;
    let mut set = |limit| board.machine.set_limit(now, &STOPS.into(), limit);
    for wrong in [
        Limit::concurrency(0),
        Limit::new().rate(0, SECOND),
        Limit::new().rate(1, Duration::ZERO),
        Limit::new().rate(1, SECOND).burst(0),
        Limit::concurrency(1).burst(2),
    ] {
        assert!(matches!(set(wrong), Err(KindError::Limit(_))), "{wrong:?}");
    }
    assert_eq!(
        set(Limit::new().rate(u32::MAX, Duration::MAX).burst(u32::MAX)),
        Ok(())
    );
}
