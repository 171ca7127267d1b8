//! Paused kinds and closed intakes: nothing of them starts or comes in, and nothing else is held
//! up.

use std::time::Duration;

use super::common::done;
use super::{BLOCKS, Board, STOPS};
use crate::engine::message::{Assignment, End, HeldRun, HeldState};
use crate::engine::{LinkId, Submission};
use crate::error::{KindError, Refusal};
use crate::payload::Payload;
use crate::stats::Reason;
use crate::status::{Cause, Failure, Outcome};
use crate::task::{Options, Priority, TaskKind};

const SECOND: Duration = Duration::from_secs(1);

fn pause(board: &mut Board, kind: Option<&str>) {
    let kind = kind.map(TaskKind::from);
    board.machine.pause(board.now, kind.as_ref()).unwrap();
    board.settle_down();
}

fn resume(board: &mut Board, kind: Option<&str>) {
    let kind = kind.map(TaskKind::from);
    board.machine.resume(board.now, kind.as_ref());
    board.settle_down();
}

#[test]
fn what_is_due_of_a_paused_kind_stays_and_keeps_its_turns() {
    let mut board = Board::new();
    pause(&mut board, Some(STOPS));
    let second = board.submit(STOPS);
    let third = board.submit(STOPS);
    let first = board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            priority: Priority::HIGH,
            ..Options::default()
        }));
    });
    board.join("first", 1, Vec::new());
    board.wait(SECOND);
    assert_eq!(board.placed(), []);
    assert_eq!(board.why(first), Some(Reason::Paused));
    let stats = board.machine.stats(board.now);
    assert_eq!((stats.pending, stats.paused), (3, 3));
    assert_eq!(stats.pauses.kinds, [TaskKind::from(STOPS)]);
    resume(&mut board, Some(STOPS));
    board.end(first, done(), false);
    assert_eq!(board.placed(), [first, second, third]);
    assert_eq!(board.machine.stats(board.now).paused, 0);
}

#[test]
fn no_worker_idles_for_a_paused_kind_however_urgent_its_tasks_are() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    pause(&mut board, Some(STOPS));
    for rule in [false, true] {
        board.submit_with(STOPS, |it| {
            it.options = Some(Box::new(Options {
                priority: Priority::HIGH,
                exclusive: rule,
                ..Options::default()
            }));
        });
    }
    let other = board.submit(BLOCKS);
    assert_eq!(board.placed(), [other]);
}

#[test]
fn a_pause_of_all_and_one_of_a_kind_end_by_themselves() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    pause(&mut board, None);
    pause(&mut board, Some(STOPS));
    let (stops, blocks) = (board.submit(STOPS), board.submit(BLOCKS));
    resume(&mut board, Some(BLOCKS));
    assert_eq!(board.placed(), []);
    resume(&mut board, None);
    assert_eq!(board.placed(), [blocks]);
    pause(&mut board, None);
    resume(&mut board, Some(STOPS));
    assert_eq!(board.why(stops), Some(Reason::Paused));
    resume(&mut board, None);
    assert_eq!(board.placed(), [blocks, stops]);
}

#[test]
fn what_runs_goes_on_and_its_retry_waits() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let (one, other) = (board.submit(STOPS), board.submit(STOPS));
    pause(&mut board, Some(STOPS));
    board.end(one, done(), false);
    assert_eq!(board.told[0].outcome, Outcome::Completed(Payload::new()));
    let failure = Box::new(Failure::new(Cause::Error, "no"));
    let after = Duration::from_millis(10);
    board.end(other, End::Again { after, failure }, false);
    board.wait(SECOND);
    assert_eq!(board.assigned.len(), 2, "the retry is due and waits");
    assert_eq!(board.why(other), Some(Reason::Paused));
    resume(&mut board, Some(STOPS));
    assert_eq!(board.assigned.len(), 3);
}

#[test]
fn deadlines_and_cancels_end_what_is_paused() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    pause(&mut board, None);
    let cancelled = board.submit(STOPS);
    board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            deadline: Some(SECOND),
            ..Options::default()
        }));
    });
    board.cancel(cancelled);
    board.wait(SECOND * 2);
    let told: Vec<_> = board.told.iter().map(|it| it.outcome.clone()).collect();
    assert_eq!(told[0], Outcome::Cancelled);
    assert!(matches!(&told[1], Outcome::Failed(it) if it.cause == Cause::Deadline));
    assert_eq!(board.machine.stats(board.now).paused, 0);
}

/// Makes a node of two workers to which tasks were prefetched, some of each kind: two run.
fn busy() -> (Board, LinkId, Vec<Assignment>) {
    let (mut board, link) = Board::with_fast_node();
    let kinds = [STOPS, STOPS, STOPS, BLOCKS, STOPS];
    let tasks = kinds.map(|kind| board.submit(kind));
    let runs: Vec<_> = tasks.map(|task| board.assignment(task).1).into();
    assert!(runs[2..].iter().all(|run| run.prefetched));
    board.assigned.clear();
    board.retracted.clear();
    (board, link, runs)
}

#[test]
fn what_was_sent_ahead_of_a_paused_kind_and_no_more_is_asked_back_at_once() {
    let (mut board, link, runs) = busy();
    pause(&mut board, Some(STOPS));
    board.wait(Duration::from_millis(1));
    let paused = [&runs[2], &runs[4]];
    let asked: Vec<_> = paused.iter().map(|run| (link, run.dispatch)).collect();
    assert_eq!(board.retracted, asked);
    for run in paused {
        board.give_back(link, run.task, run.dispatch);
        assert_eq!(board.why(run.task), Some(Reason::Paused));
    }
    // It is sent ahead again when it may.
    resume(&mut board, Some(STOPS));
    assert_eq!(board.placed(), [runs[2].task, runs[4].task]);
    assert!(board.assigned.iter().all(|(_, run)| run.prefetched));
}

#[test]
fn what_waits_at_a_node_out_of_reach_is_asked_back_when_that_returns() {
    let (mut board, link, runs) = busy();
    board.cut(link);
    pause(&mut board, Some(STOPS));
    board.wait(SECOND);
    assert_eq!(board.retracted, []);
    let holds = |(index, run): (usize, &Assignment)| HeldRun {
        task: run.task,
        dispatch: run.dispatch,
        state: match index {
            0 | 1 => HeldState::Running,
            _ => HeldState::Prefetched,
        },
    };
    let held = runs.iter().enumerate().map(holds).collect();
    let link = board.join("first", 1, held);
    board.wait(SECOND);
    let asked: Vec<_> = [&runs[2], &runs[4]].map(|run| (link, run.dispatch)).into();
    assert_eq!(board.retracted, asked);
}

#[test]
fn a_shutdown_that_drains_leaves_over_what_is_paused() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let run = board.submit(STOPS);
    pause(&mut board, Some(STOPS));
    board.submit(STOPS);
    board.machine.drain(board.now);
    assert!(!board.machine.is_drained(board.now + SECOND));
    let failure = Box::new(Failure::new(Cause::Error, "no"));
    board.end(
        run,
        End::Again {
            after: SECOND / 2,
            failure,
        },
        false,
    );
    assert!(board.machine.is_drained(board.now + SECOND));
}

#[test]
fn a_paused_kind_is_remembered_by_its_name_until_it_is_resumed() {
    let mut board = Board::new();
    pause(&mut board, Some("rare"));
    assert_eq!(board.machine.remains().kinds, 1);
    resume(&mut board, Some("rare"));
    assert_eq!(board.machine.remains().kinds, 0);
}

#[test]
fn pauses_and_closed_intakes_outlast_a_kill() {
    let mut board = Board::stored(|_| {});
    pause(&mut board, Some(STOPS));
    pause(&mut board, Some(BLOCKS));
    pause(&mut board, None);
    resume(&mut board, Some(BLOCKS));
    resume(&mut board, None);
    board
        .machine
        .close_intake(board.now, &BLOCKS.into())
        .unwrap();
    board
        .machine
        .close_intake(board.now, &STOPS.into())
        .unwrap();
    board.machine.open_intake(board.now, &STOPS.into());
    let task = board.submit(STOPS);
    board.wait(SECOND);
    let before = board.machine.stats(board.now).pauses;
    for _ in 0..2 {
        board.restart();
        board.join("first", 1, Vec::new());
        board.wait(SECOND);
        assert_eq!(board.machine.stats(board.now).pauses, before);
        assert_eq!(board.placed(), []);
        assert_eq!(refusal(&mut board, BLOCKS), Some(closed(BLOCKS)));
    }
    resume(&mut board, Some(STOPS));
    assert_eq!(board.placed(), [task]);
}

fn closed(kind: &str) -> Refusal {
    Refusal::IntakeClosed { kind: kind.into() }
}

fn refusal(board: &mut Board, kind: &str) -> Option<Refusal> {
    let submission = Submission {
        kind: kind.into(),
        args: Payload::new(),
        options: Some(Box::new(Options {
            key: Some("k".into()),
            ..Options::default()
        })),
        audience: crate::engine::Audience::Current,
        watcher: None,
    };
    let refused = board.machine.submit(board.now, submission).err();
    board.settle_down();
    refused.map(|it| it.refusal)
}

#[test]
fn no_task_of_a_kind_whose_intake_is_closed_is_taken_in_and_what_was_goes_on() {
    let mut board = Board::new();
    let task = board.submit_keyed(STOPS, "k");
    board
        .machine
        .close_intake(board.now, &STOPS.into())
        .unwrap();
    assert_eq!(refusal(&mut board, STOPS), None, "it joins the task");
    board.join("first", 1, Vec::new());
    board.end(task, done(), false);
    let refused = refusal(&mut board, STOPS).unwrap();
    assert_eq!(refused, closed(STOPS));
    assert!(refused.is_temporary());
    assert_eq!(refusal(&mut board, BLOCKS), None);
    board.machine.open_intake(board.now, &STOPS.into());
    assert!(board.machine.stats(board.now).pauses.closed.is_empty());
}

#[test]
fn only_so_many_kinds_are_paused_and_none_without_a_name() {
    let mut board = Board::unchecked();
    let set = |board: &mut Board, kind: &str| board.machine.pause(board.now, Some(&kind.into()));
    let refused = set(&mut board, "");
    assert!(matches!(refused, Err(KindError::Invalid { .. })));
    for number in 0..1000 {
        assert_eq!(set(&mut board, &number.to_string()), Ok(()));
    }
    let refused = set(&mut board, "one more");
    assert_eq!(refused, Err(KindError::TooMany { limit: 1000 }));
    assert_eq!(set(&mut board, "7"), Ok(()), "it is paused already");
}
