//! What the term before had sent and not stored: the tail of its dispatches.

use std::time::Duration;

use super::common::done;
use super::recovery::{LEASE, RESYNC, holds, stored};
use super::{Board, STOPS, ended};
use crate::engine::message::{Assignment, End, HeldRun, HeldState, Holding, NodeHello};
use crate::engine::{Action, Note};
use crate::error::Refusal;
use crate::status::{CancelAnswer, Cause, Failure, Outcome};
use crate::task::{Dispatch, Options};

const SECOND: Duration = Duration::from_secs(1);

/// Makes a task that was sent to "first", of which no record tells; its scheduler was started
/// again.
fn unrecorded(options: Options) -> (Board, Assignment) {
    let (mut board, _) = stored();
    let task = board.submit_with(STOPS, |it| it.options = Some(Box::new(options)));
    let (_, run) = board.assignment(task);
    board.restart();
    board.settle_down();
    assert_eq!(
        board.machine.stats(board.now).running,
        0,
        "nothing tells of it"
    );
    (board, run)
}

#[test]
fn g9_what_a_node_has_of_the_tail_is_its_task_s_run() {
    let (mut board, run) = unrecorded(Options::default());
    board.join("second", 2, Vec::new());
    board.wait(RESYNC - SECOND);
    assert!(
        board.assigned.is_empty(),
        "nothing is placed before its node could speak"
    );
    let link = board.join("first", 1, holds(&run));
    board.wait(SECOND);
    assert!(board.assigned.is_empty());
    board.end_of(link, &run, done(), false);
    assert_eq!(board.told.len(), 1);
    assert_eq!(board.told[0].node.as_deref(), Some("first"));
}

#[test]
fn g9_what_a_node_has_of_the_tail_counts_however_many_terms_end_before_it_speaks() {
    let (mut board, run) = unrecorded(Options::default());
    for _ in 0..3 {
        board.wait(SECOND);
        board.restart();
        board.settle_down();
    }
    let link = board.join("first", 1, holds(&run));
    board.wait(RESYNC);
    assert!(board.assigned.is_empty(), "nothing runs again");
    board.end_of(link, &run, done(), false);
    assert_eq!(board.told.len(), 1);
}

#[test]
fn a_failed_attempt_of_the_tail_counts_once_however_many_terms_end_before_all_have_spoken() {
    let (mut board, first) = stored();
    board.join("second", 2, Vec::new());
    board.wait(SECOND);
    board.by_hand();
    let task = board.submit(STOPS);
    board.batch_stored();
    let (link, run) = board.assignment(task);
    assert_eq!(link, first, "the one that returns");
    let again = || End::Again {
        after: 3 * SECOND,
        failure: Box::new(Failure::new(Cause::Error, "no")),
    };
    for _ in 0..3 {
        board.restart();
        board.settle_down();
        board.return_with(&run, again());
        assert_eq!(board.machine.stats(board.now).waiting_retries, 1);
        board.wait(SECOND / 2);
    }
    board.join("second", 2, Vec::new());
    board.wait(4 * SECOND);
    assert_eq!(board.assignment(task).1.attempt, 2);
}

#[test]
fn g9_nothing_is_sent_to_a_process_before_it_is_stored_that_its_node_has_it() {
    let mut board = Board::stored(|_| {});
    let task = board.submit(STOPS);
    board.wait(SECOND);
    board.by_hand();
    board.join("first", 1, Vec::new());
    assert!(board.assigned.is_empty());
    board.batch_stored();
    while board.assigned.is_empty() {
        board.batch_stored();
    }
    let (_, run) = board.assignment(task);
    board.restart();
    board.join("second", 2, Vec::new());
    board.wait(RESYNC - SECOND);
    assert!(board.assigned.is_empty(), "the first is waited for");
    board.join("first", 1, holds(&run));
    board.wait(RESYNC);
    assert!(board.assigned.is_empty(), "nothing runs again");
}

#[test]
fn g9_a_result_of_the_tail_counts() {
    let (mut board, run) = unrecorded(Options::default());
    board.return_with(&run, done());
    assert_eq!(board.told.len(), 1);
    assert!(matches!(board.told[0].outcome, Outcome::Completed(_)));
}

/// Makes a task that is recorded as placed on "first", and was sent to "second" after that, of
/// which no record tells; its scheduler was started again.
fn moved(options: Options) -> (Board, Assignment) {
    let (mut board, _) = stored();
    board.join("second", 2, Vec::new());
    let task = board.submit_with(STOPS, |it| it.options = Some(Box::new(options)));
    let (link, run) = board.assignment(task);
    board.wait(SECOND);
    board.by_hand();
    board.refuse(link, &run);
    let (elsewhere, second) = board.assignment(task);
    assert!(elsewhere != link && second.dispatch > run.dispatch);
    board.restart();
    board.settle_down();
    assert_eq!(board.machine.stats(board.now).running, 1, "on the first");
    (board, second)
}

#[test]
fn g9_a_run_of_the_tail_counts_whichever_of_two_nodes_speaks_first() {
    for first_speaks_first in [true, false] {
        let (mut board, run) = moved(Options::default());
        if first_speaks_first {
            board.join("first", 1, Vec::new());
        }
        let link = board.join("second", 2, holds(&run));
        if !first_speaks_first {
            board.join("first", 1, Vec::new());
        }
        board.wait(SECOND);
        assert!(board.assigned.is_empty(), "nothing runs again");
        board.end_of(link, &run, done(), false);
        assert_eq!(board.told.len(), 1);
        assert_eq!(board.told[0].node.as_deref(), Some("second"));
        assert_eq!(board.told[0].reroutes, 0);
    }
}

#[test]
fn g9_a_result_of_the_tail_counts_before_the_node_of_an_earlier_run_has_spoken() {
    let (mut board, run) = moved(Options::default());
    let hello = board.hello("second", 2);
    let reports = vec![ended(1, &run, done(), SECOND)];
    board.join_with(
        hello,
        Holding {
            reports,
            ..Default::default()
        },
    );
    assert_eq!(board.told.len(), 1);
    board.join("first", 1, Vec::new());
    board.wait(SECOND);
    assert!(board.assigned.is_empty() && board.told.len() == 1);
}

#[test]
fn g9_what_waits_at_a_node_stays_there_since_it_may_start_before_a_stop_arrives() {
    let (mut board, run) = unrecorded(Options::default());
    let runs = vec![HeldRun {
        task: run.task,
        dispatch: run.dispatch,
        state: HeldState::Prefetched,
    }];
    let link = board.join("first", 1, runs);
    board.wait(SECOND);
    assert!(board.assigned.is_empty());
    board.end_of(link, &run, done(), false);
    assert_eq!(board.told.len(), 1);
}

#[test]
fn the_resync_is_over_when_every_node_that_was_up_has_spoken() {
    let (mut board, run) = unrecorded(Options::default());
    board.join("second", 2, Vec::new());
    assert!(board.assigned.is_empty());
    board.join("first", 1, Vec::new());
    board.assignment(run.task);
}

#[test]
fn a_node_that_is_silent_for_longer_than_the_resync_costs_a_rerun_and_no_second_ending() {
    let (mut board, run) = unrecorded(Options::default());
    board.join("second", 2, Vec::new());
    board.wait(RESYNC);
    let (_, second) = board.assignment(run.task);
    assert!(second.dispatch > run.dispatch, "G3");
    board.return_with(&run, done());
    assert!(board.told.is_empty(), "the later run counts");
    board.end(run.task, done(), false);
    assert_eq!(board.told.len(), 1);
}

#[test]
fn g11_two_nodes_that_tell_of_one_number_break_the_protocol() {
    let (mut board, run) = unrecorded(Options::default());
    board.join("first", 1, holds(&run));
    board.join("second", 2, holds(&run));
    assert_eq!(board.machine.stats(board.now).totals.violations, 1);
}

#[test]
fn g11_beyond_the_tail_nothing_is_taken_on_a_node_s_word() {
    let (mut board, _) = stored();
    let earlier = board.submit(STOPS);
    let (_, stale) = board.assignment(earlier);
    board.end(earlier, done(), false);
    let task = board.submit(STOPS);
    board.restart();
    let lie = Assignment { task, ..stale };
    board.return_with(&lie, done());
    board.told.retain(|status| status.id == task);
    assert!(board.told.is_empty());
    assert_eq!(board.machine.stats(board.now).totals.stale_reports, 1);
}

#[test]
fn g10_an_exclusive_task_is_never_in_the_tail() {
    let (mut board, _) = stored();
    let task = board.submit_exclusive(STOPS);
    let (_, run) = board.assignment(task);
    board.restart();
    board.settle_down();
    assert_eq!(
        board.machine.stats(board.now).running,
        1,
        "it was stored before it was sent"
    );
    board.join("first", 1, holds(&run));
    assert!(board.assigned.is_empty());
}

#[test]
fn no_deadline_settles_a_task_before_its_node_could_speak() {
    let (mut board, run) = unrecorded(Options {
        deadline: Some(2 * SECOND),
        ..Options::default()
    });
    board.wait(4 * SECOND);
    assert!(board.told.is_empty());
    board.return_with(&run, done());
    assert!(matches!(board.told[0].outcome, Outcome::Completed(_)));
    let (mut board, _) = unrecorded(Options {
        deadline: Some(2 * SECOND),
        ..Options::default()
    });
    board.wait(RESYNC);
    assert!(matches!(&board.told[0].outcome, Outcome::Failed(it) if it.cause == Cause::Deadline));
}

#[test]
fn g12_a_cancel_waits_for_the_word_of_a_node_that_may_have_the_task() {
    let (mut board, run) = unrecorded(Options::default());
    board.cancel(run.task);
    assert!(board.told.is_empty());
    let link = board.join("first", 1, holds(&run));
    board.end_of(link, &run, End::Stopped, false);
    assert_eq!(board.told[0].outcome, Outcome::Cancelled);
    assert_eq!(board.answers, [CancelAnswer::Stopped]);
    let (mut board, run) = unrecorded(Options::default());
    board.cancel(run.task);
    board.wait(RESYNC);
    assert_eq!(board.told[0].outcome, Outcome::Cancelled);
}

/// Makes a keyed task of the tail of a silent node, that was run elsewhere and has settled.
fn settled_elsewhere() -> (Board, Assignment) {
    let (mut board, run) = unrecorded(Options {
        key: Some("k".into()),
        ..Options::default()
    });
    board.join("second", 2, Vec::new());
    board.wait(RESYNC);
    board.end(run.task, done(), false);
    assert_eq!(board.told.len(), 1);
    (board, run)
}

fn is_busy(board: &mut Board) -> bool {
    matches!(board.refused_key("k"), Some(Refusal::KeyBusy { .. }))
}

#[test]
fn a_key_waits_for_the_silent_node_that_may_have_a_run_of_its_task() {
    let (mut board, _) = settled_elsewhere();
    assert!(is_busy(&mut board));
    let outlive = Duration::from_secs(60);
    board.wait(LEASE - RESYNC + outlive);
    assert!(is_busy(&mut board));
    board.wait(3 * SECOND);
    assert!(!is_busy(&mut board));
}

#[test]
fn a_key_is_free_once_that_node_does_not_name_the_task() {
    let (mut board, _) = settled_elsewhere();
    board.join("first", 1, Vec::new());
    assert!(!is_busy(&mut board));
}

#[test]
fn a_key_is_busy_until_the_run_that_the_node_names_has_ended() {
    let (mut board, run) = settled_elsewhere();
    let link = board.join("first", 1, holds(&run));
    assert!(is_busy(&mut board));
    board.end_of(link, &run, End::Stopped, false);
    assert!(!is_busy(&mut board));
}

#[test]
fn a_key_waits_over_the_next_kill_too() {
    let (mut board, _) = settled_elsewhere();
    board.wait(SECOND);
    board.restart();
    assert!(is_busy(&mut board));
    board.join("first", 1, Vec::new());
    assert!(!is_busy(&mut board));
}

#[test]
fn a_store_that_was_put_back_is_found_out_by_what_a_node_has_seen() {
    let notes = |board: &mut Board, seen: u64| {
        let hello = NodeHello {
            seen: Dispatch::new(seen),
            ..board.hello("first", 1)
        };
        let link = board.open();
        board.machine.handle(
            board.now,
            crate::engine::Event::Message {
                link,
                message: crate::engine::message::ToScheduler::Hello(Box::new(hello)),
            },
        );
        let actions = board.machine.effects(board.now);
        let rolled_back = |it: &&Action| matches!(it, Action::Note(note) if matches!(**note, Note::RolledBack { .. }));
        actions.iter().filter(rolled_back).count()
    };
    let (mut board, run) = unrecorded(Options::default());
    assert_eq!(notes(&mut board, run.dispatch.get()), 0, "it was reserved");
    let reserved = board.store().log.ledger().reserved().dispatches;
    let (mut board, _) = unrecorded(Options::default());
    assert_eq!(notes(&mut board, reserved + (1 << 40)), 1);
    assert_eq!(notes(&mut board, reserved + (1 << 40)), 0, "once");
}

#[test]
fn g10_an_attempt_whose_end_a_store_that_was_put_back_has_forgotten_is_over() {
    for exclusive in [true, false] {
        let (mut board, _) = stored();
        let task = board.submit_with(STOPS, |it| {
            it.options = Some(Box::new(Options {
                exclusive,
                ..Options::default()
            }));
        });
        let (_, run) = board.assignment(task);
        board.wait(SECOND);
        board.restart();
        let overrun = HeldRun {
            state: HeldState::Overrun,
            ..holds(&run)[0]
        };
        let link = board.join("first", 1, vec![overrun]);
        board.wait(RESYNC);
        assert_eq!(board.assigned.is_empty(), exclusive);
        let held = board.machine.stats(board.now).held;
        assert_eq!(held, usize::from(exclusive));
        board.freed(link, &run);
        board.wait(SECOND);
        let (_, again) = board.assignment(task);
        assert!(again.dispatch > run.dispatch);
        board.end(task, done(), false);
        assert_eq!(board.told.len(), 1);
    }
}
