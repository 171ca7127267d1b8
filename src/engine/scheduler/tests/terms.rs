//! What counts of the runs of the term before that ended, or were sent, while little was stored.

use std::time::Duration;

use super::recovery::{LEASE, RESYNC, holds, stored};
use super::{BLOCKS, Board, STOPS, ended};
use crate::engine::message::{Assignment, End, HeldRun, HeldState, Holding, ToScheduler};
use crate::engine::{Event, Incarnation, Reach};
use crate::limit::Limit;
use crate::retry::RetryPolicy;
use crate::status::{CancelAnswer, Cause, Failure};
use crate::task::{Due, Options};

const SECOND: Duration = Duration::from_secs(1);

fn again() -> End {
    End::Again {
        after: Duration::ZERO,
        failure: Box::new(Failure::new(Cause::Error, "no")),
    }
}

#[test]
fn g9_a_run_counts_that_was_placed_behind_a_batch_which_is_tried_again() {
    let (mut board, _) = stored();
    let task = board.submit_with(STOPS, |it| {
        it.options = Some(Box::new(Options {
            due: Due::After(SECOND),
            ..Options::default()
        }));
    });
    board.wait(SECOND / 2);
    board.by_hand();
    board.machine.set_retry(board.now, RetryPolicy::default());
    board.wait(SECOND / 4);
    assert!(board.under_way() && board.assigned.is_empty());
    board.wait(SECOND);
    let (_, run) = board.assignment(task);
    board.batch_not_stored();
    board.wait(SECOND);
    board.batch_stored();
    board.restart();
    board.settle_down();
    assert_eq!(
        board.machine.stats(board.now).running,
        0,
        "it is in no record"
    );
    board.join("first", 1, holds(&run));
    board.wait(RESYNC);
    assert!(board.assigned.is_empty(), "nothing runs again");
}

/// Makes a task of which the first attempt failed on "first", and the second was sent to "second",
/// and neither is stored; its scheduler was started again.
fn failed_and_sent(recorded: bool) -> (Board, [Assignment; 2]) {
    let (mut board, first) = stored();
    board.join("second", 2, Vec::new());
    board.wait(SECOND);
    if !recorded {
        board.by_hand();
    }
    let task = board.submit(STOPS);
    if !recorded {
        board.batch_stored();
    }
    let (link, run) = board.assignment(task);
    assert_eq!(link, first);
    if recorded {
        board.wait(SECOND);
    }
    board.by_hand();
    board.end_of(link, &run, again(), false);
    board.cut(first);
    board.wait(SECOND);
    let (link, second) = board.assignment(task);
    assert!(link != first && second.attempt == 2);
    board.restart();
    board.settle_down();
    (board, [run, second])
}

#[test]
fn an_attempt_that_has_failed_counts_though_a_later_one_is_told_of_before_it() {
    for (recorded, has_ended) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut board, [first, second]) = failed_and_sent(recorded);
        let hello = board.hello("second", 2);
        let mut holding = Holding::default();
        match has_ended {
            true => holding.reports.push(ended(1, &second, again(), SECOND)),
            false => holding.runs = holds(&second),
        }
        let link = board.join_with(hello, holding);
        board.return_with(&first, again());
        if !has_ended {
            board.end_of(link, &second, again(), false);
        }
        board.wait(2 * RESYNC);
        let (_, third) = board.assignment(first.task);
        assert_eq!(third.attempt, 3, "recorded: {recorded}, ended: {has_ended}");
    }
}

#[test]
fn what_did_not_start_in_the_tail_is_written_off_with_its_node() {
    let (mut board, _) = stored();
    let task = board.submit(STOPS);
    let (_, run) = board.assignment(task);
    board.restart();
    board.settle_down();
    let mut hello = board.hello("first", 1);
    hello.draining = true;
    let waits = HeldRun {
        task,
        dispatch: run.dispatch,
        state: HeldState::Prefetched,
    };
    let link = board.join_by(hello, vec![waits]);
    board.wait(RESYNC);
    board.say(link, ToScheduler::Goodbye);
    // What is written down is compared with what is believed in each step.
    board.wait(SECOND);
    board.restart();
    board.join("second", 2, Vec::new());
    board.wait(RESYNC);
    board.assignment(task);
}

#[test]
fn what_ran_in_the_own_process_is_over_while_other_nodes_are_waited_for() {
    let mut board = Board::stored(|_| {});
    board.add_own(0);
    let task = board.submit(STOPS);
    board.wait(SECOND);
    board.assignment(task);
    board.join("first", 1, Vec::new());
    board.wait(SECOND);
    board.restart();
    // What is written down is compared with what is believed in each step.
    board.wait(SECOND);
    assert!(board.assigned.is_empty(), "the first is waited for");
    board.join("first", 1, Vec::new());
    board.wait(SECOND);
    board.assignment(task);
}

/// Makes a task of which the attempt on "first" has timed out; its run goes on. The scheduler was
/// started again.
fn timed_out_and_goes_on(board: &mut Board) -> Assignment {
    let task = board.submit(BLOCKS);
    let (link, run) = board.assignment(task);
    let end = End::Again {
        after: 60 * SECOND,
        failure: Box::new(Failure::new(Cause::Timeout, "it took too long")),
    };
    board.end_of(link, &run, end, true);
    board.wait(SECOND);
    board.restart();
    run
}

#[test]
fn g12_a_cancel_after_a_restart_says_that_a_run_which_timed_out_goes_on() {
    let after_cancel = |freed: Option<bool>| {
        let (mut board, _) = stored();
        let run = timed_out_and_goes_on(&mut board);
        if let Some(freed) = freed {
            let held = HeldRun {
                state: HeldState::Overrun,
                ..holds(&run)[0]
            };
            let link = board.join("first", 1, vec![held]);
            if freed {
                board.freed(link, &run);
            }
        }
        board.cancel(run.task);
        board.wait(SECOND);
        board.answers.clone()
    };
    assert_eq!(after_cancel(None), [CancelAnswer::StillRunning]);
    assert_eq!(after_cancel(Some(false)), [CancelAnswer::StillRunning]);
    assert_eq!(after_cancel(Some(true)), [CancelAnswer::Stopped]);
}

#[test]
fn a_run_that_timed_out_counts_against_its_limit_after_a_restart() {
    let (mut board, _) = stored();
    let limited = board
        .machine
        .set_limit(board.now, &BLOCKS.into(), Limit::concurrency(1));
    assert!(limited.is_ok());
    timed_out_and_goes_on(&mut board);
    board.join("second", 1, Vec::new());
    let waits = board.submit(BLOCKS);
    board.wait(2 * RESYNC);
    assert!(board.assigned.is_empty(), "the run may be going on");
    board.join("first", 1, Vec::new());
    board.wait(SECOND);
    board.assignment(waits);
}

#[test]
fn g10_a_process_that_was_replaced_is_still_asked_for_after_a_restart() {
    let mut board = Board::stored(|_| {});
    let joins = |board: &mut Board, incarnation: u64| {
        let mut hello = board.hello("first", incarnation);
        hello.probe = Some(incarnation.to_string());
        board.join_by(hello, Vec::new())
    };
    joins(&mut board, 1);
    board.wait(SECOND);
    let task = board.submit_exclusive(BLOCKS);
    board.wait(SECOND);
    board.assignment(task);
    board.wait(SECOND * 10);
    joins(&mut board, 2);
    board.wait(SECOND);
    board.restart();
    joins(&mut board, 2);
    board.wait(RESYNC);
    assert!(board.assigned.is_empty(), "the first run may be going on");
    for _ in 0..10 {
        for (node, incarnation) in std::mem::take(&mut board.probes) {
            board.event(Event::Probed {
                node,
                incarnation,
                refused: incarnation == Incarnation(1),
            });
        }
        board.wait(SECOND);
    }
    board.assignment(task);
}

#[test]
fn a_cluster_that_does_nothing_stores_nothing() {
    let (mut board, link) = stored();
    let batches = |board: &Board| {
        let journal = board.machine.journal.as_ref();
        journal.expect("it has a store").state().batches
    };
    let before = batches(&board);
    board.beats(link, 60);
    assert_eq!(batches(&board), before);
}

#[test]
fn a_term_that_ends_in_order_misses_no_node_and_asks_for_none() {
    let (mut board, link) = stored();
    let own = board.add_own(0);
    let there =
        board
            .machine
            .add_node(board.now, "there".into(), Reach::Dial("there:1".to_owned()));
    assert!(there.is_ok());
    board.wait(SECOND);
    board.machine.close(board.now);
    board.wait(SECOND / 10);
    let closed = board.closed.iter().map(|(link, _)| *link);
    assert!(closed.eq([link, own]));
    board.dials.clear();
    board.wait(4 * LEASE);
    assert_eq!(board.missed, [""; 0]);
    assert_eq!(board.dials, [""; 0]);
}

#[test]
fn g1_what_arises_after_the_end_of_a_term_is_told_to_nobody() {
    for tell_at_once in [false, true] {
        let mut board = Board::stored(|config| config.tell_at_once = tell_at_once);
        let task = board.submit(STOPS);
        board.wait(SECOND);
        board.machine.close(board.now);
        board.wait(SECOND);
        board.cancel(task);
        board.wait(2 * SECOND);
        assert!(board.told.is_empty() && board.answers.is_empty());
        assert!(!board.machine.is_storing(), "nothing is waited for");
        board.restart();
        board.join("first", 1, Vec::new());
        board.wait(2 * RESYNC);
        board.assignment(task);
    }
}

#[test]
fn g1_what_was_not_sent_to_the_own_process_when_a_term_ends_is_not_said_to_have_run_there() {
    let mut board = Board::stored(|_| {});
    board.add_own(0);
    board.wait(SECOND);
    board.by_hand();
    let task = board.submit_exclusive(STOPS);
    board.batch_stored();
    assert!(
        board.assigned.is_empty() && board.under_way(),
        "it is placed"
    );
    board.machine.close(board.now);
    board.cancel(task);
    while board.machine.is_storing() {
        board.batch_stored();
    }
    board.restart();
    board.wait(2 * RESYNC);
    let told: Vec<_> = board
        .told
        .iter()
        .map(|it| (it.id, it.node.clone()))
        .collect();
    assert_eq!(told, [(task, None)]);
}

#[test]
fn g12_that_a_task_is_to_be_cancelled_outlasts_a_crash_before_the_end_of_its_term() {
    let mut board = Board::stored(|_| {});
    board.by_hand();
    board.machine.set_retry(board.now, RetryPolicy::default());
    board.wait(SECOND / 10);
    assert!(board.under_way());
    let task = board.submit(STOPS);
    board.batch_stored();
    assert!(board.under_way(), "the task is being stored");
    board.cancel(task);
    board.wait(2 * SECOND);
    board.machine.close(board.now);
    board.batch_stored();
    // It is settled with what is stored last.
    board.batch_stored();
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
    board.restart();
    board.join("first", 1, Vec::new());
    board.wait(2 * RESYNC);
    assert!(board.assigned.is_empty(), "it was to be cancelled");
}

#[test]
fn g12_a_cancel_during_a_resync_waits_for_the_node_that_may_have_a_later_run() {
    let (mut board, [first, second]) = failed_and_sent(false);
    board.cancel(first.task);
    board.return_with(&first, again());
    board.wait(SECOND / 10);
    assert!(board.told.is_empty() && board.answers.is_empty());
    let link = board.join("second", 2, holds(&second));
    board.wait(SECOND / 10);
    assert!(board.told.is_empty(), "its last run goes on");
    board.end_of(link, &second, End::Stopped, false);
    board.wait(SECOND);
    assert_eq!(board.answers, [CancelAnswer::Stopped]);
}
