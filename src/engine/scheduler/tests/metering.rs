//! What is measured: which waits count, once, and under which kind.

use std::time::Duration;

use super::common::done;
use super::{Board, STOPS, ended};
use crate::engine::message::{End, ToScheduler};
use crate::engine::meter::{KindMetrics, NAMED};
use crate::status::{Cause, Failure};
use crate::task::{Due, Options, TaskKind};

const SECOND: Duration = Duration::from_secs(1);

impl Board {
    /// Returns what is measured of a kind; of all that are not named without one.
    fn measured(&self, kind: Option<&str>) -> KindMetrics {
        let kinds = self.machine.metrics(self.now).kinds;
        let mut kinds = kinds.into_iter();
        let found = kinds.find(|it| it.counts.kind.as_ref().map(TaskKind::as_str) == kind);
        found.expect("it is counted")
    }

    /// Returns how many waits were measured of a kind, and their sum.
    fn waits(&self, kind: &str) -> (u64, Duration) {
        let wait = self.measured(Some(kind)).counts.wait;
        (wait.count(), Duration::from_nanos(wait.sum_nanos() as u64))
    }

    fn oldest_due(&self) -> Duration {
        self.measured(Some(STOPS)).oldest_due
    }
}

/// Returns this time, but for the nanoseconds by which turns of one moment differ.
fn about(time: Duration) -> Duration {
    Duration::from_micros((time.as_nanos() as u64).div_ceil(1000))
}

#[test]
fn only_what_waits_for_a_worker_alone_is_old() {
    let mut board = Board::new();
    assert_eq!(board.machine.metrics(board.now).kinds.len(), 1);
    let delayed = board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            due: Due::After(10 * SECOND),
            ..Options::default()
        }));
    });
    board.wait(4 * SECOND);
    assert_eq!(board.oldest_due(), Duration::ZERO, "it is delayed");
    board.wait(9 * SECOND);
    assert_eq!(board.oldest_due(), 3 * SECOND, "since it is due");
    board.submit(STOPS);
    board.wait(SECOND);
    assert_eq!(board.oldest_due(), 4 * SECOND, "the oldest counts");
    board.machine.pause(board.now, None).unwrap();
    board.settle_down();
    assert_eq!(board.oldest_due(), Duration::ZERO, "it is paused");
    let states = board.machine.metrics(board.now).states;
    assert_eq!((states.paused, states.due), (2, 0));
    board.machine.resume(board.now, None);
    board.join("first", 1, Vec::new());
    board.settle_down();
    let (_, run) = board.assignment(delayed);
    assert_eq!(run.attempt, 1);
    let failure = Box::new(Failure::new(Cause::Error, "not yet"));
    let after = 5 * SECOND;
    board.end(delayed, End::Again { after, failure }, false);
    board.wait(4 * SECOND);
    assert_eq!(
        board.oldest_due(),
        Duration::ZERO,
        "the one runs, the other backs off"
    );
    assert_eq!(board.machine.metrics(board.now).states.backoff, 1);
}

#[test]
fn a_wait_is_counted_once_and_stays_counted_whatever_becomes_of_the_run() {
    let mut board = Board::new();
    let task = board.submit(STOPS);
    board.wait(2 * SECOND);
    assert_eq!(board.waits(STOPS).0, 0, "it waits");
    let link = board.join("first", 1, Vec::new());
    let (count, sum) = board.waits(STOPS);
    assert_eq!(
        (count, about(sum)),
        (1, 2 * SECOND),
        "it runs, as far as is known"
    );
    let (_, run) = board.assignment(task);
    board.wait(SECOND);
    board.refuse(link, &run);
    assert_eq!(board.waits(STOPS), (count, sum), "it was given back");
    board.wait(SECOND);
    let second = board.join("second", 2, Vec::new());
    let (at, run) = board.assignment(task);
    assert_eq!((at, run.attempt), (second, 1));
    board.end(task, done(), false);
    assert_eq!(board.waits(STOPS), (count, sum), "and done by another node");

    // One that is stopped before it has begun.
    let task = board.submit(STOPS);
    let before = board.waits(STOPS);
    assert_eq!(before.0, 2);
    let (link, run) = board.assignment(task);
    board.cancel(task);
    board.reports += 1;
    let stopped = ended(board.reports, &run, End::Stopped, Duration::ZERO);
    board.say(link, ToScheduler::Reports(vec![stopped]));
    assert_eq!(board.waits(STOPS), before);
    assert_eq!(board.machine.stats(board.now).totals.cancelled, 1);

    // One that is lost with its node.
    let task = board.submit(STOPS);
    let before = board.waits(STOPS);
    let (link, _) = board.assignment(task);
    board.cut(link);
    board.wait(30 * SECOND);
    assert_eq!(board.waits(STOPS), before);
}

#[test]
fn a_kind_with_more_tasks_of_late_is_named_instead_of_one_with_fewer() {
    let mut board = Board::new();
    for number in 0..NAMED {
        board.submit(&format!("kind {number}"));
        board.submit(&format!("kind {number}"));
    }
    for _ in 0..3 {
        board.submit("late");
    }
    let named = |board: &Board, kind: &str| {
        let kinds = board.machine.metrics(board.now).kinds;
        let mut names = kinds.iter().filter_map(|it| it.counts.kind.as_ref());
        names.any(|name| name.as_str() == kind)
    };
    assert!(!named(&board, "late"));
    assert_eq!(board.measured(None).counts.accepted, 3);
    assert_eq!(board.measured(None).pending, 3);
    let later = |board: &mut Board, minutes: u32| {
        board.now = board.now + minutes * 60 * SECOND;
        board.settle_down();
    };
    later(&mut board, 1);
    later(&mut board, 1);
    assert!(named(&board, "late") && !named(&board, "kind 0"));
    let late = board.measured(Some("late"));
    assert_eq!(
        (late.counts.accepted, late.pending),
        (0, 3),
        "it begins at zero"
    );
    let other = board.measured(None);
    assert_eq!(
        (other.counts.accepted, other.pending),
        (3, 2),
        "and none falls"
    );
    board.submit("late");
    assert_eq!(board.measured(Some("late")).counts.accepted, 1);
    assert_eq!(board.machine.check(), Ok(()), "nothing is lost");
}
