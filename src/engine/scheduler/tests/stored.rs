//! What waits until it is stored, and what becomes of it when it cannot be.

use std::time::Duration;

use super::kept::claim;
use super::{Board, STOPS, ended};
use crate::engine::found::Found;
use crate::engine::message::{Beat, End, Holding, Report, ToScheduler};
use crate::engine::record::Record;
use crate::engine::scheduler::SchedulerMachine;
use crate::engine::{Audience, ClientId, Event, LinkId};
use crate::error::Refusal;
use crate::payload::Payload;
use crate::status::{CancelAnswer, Outcome};
use crate::task::{Options, TaskId};
use crate::testing::{Checks, DrivenScheduler};

const SECOND: Duration = Duration::from_secs(1);

/// Makes a scheduler with a store and a node, on which a task runs.
fn running() -> (Board, LinkId, TaskId) {
    let mut board = Board::stored(|_| {});
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    board.by_hand();
    (board, link, task)
}

fn keyed(key: &str) -> Option<Box<Options>> {
    Some(Box::new(Options {
        key: Some(key.into()),
        ..Options::default()
    }))
}

#[test]
fn without_a_store_nothing_waits_and_nothing_is_written_down() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    board.end(task, End::Completed(Payload::new()), false);
    assert_eq!(board.told.len(), 1);
    let machine = &mut board.machine;
    assert_eq!((machine.promised_with(), machine.stored()), (0, u64::MAX));
    assert!(machine.seal(board.now).is_none() && machine.store_state().is_none());
}

#[test]
fn g1_a_task_is_placed_once_it_is_stored() {
    let mut board = Board::stored(|_| {});
    board.join("first", 1, Vec::new());
    board.by_hand();
    let task = board.submit(STOPS);
    let promised = board.machine.promised_with();
    assert!(board.machine.stored() < promised);
    assert!(board.assigned.is_empty(), "nothing of it is stored");
    board.batch_stored();
    assert_eq!(board.machine.stored(), promised);
    board.assignment(task);
}

#[test]
fn g1_an_ending_is_told_and_acknowledged_once_it_is_stored() {
    let (mut board, link, task) = running();
    board.end(task, End::Completed(Payload::new()), false);
    board.wait(SECOND);
    let beat = |number| Beat {
        number,
        answered: 0,
        round_trip: None,
    };
    board.say(link, ToScheduler::Beat(beat(1)));
    assert!(board.told.is_empty() && !board.said.contains(&"acknowledge"));
    board.batch_stored();
    assert_eq!(board.told.len(), 1);
    board.say(link, ToScheduler::Beat(beat(2)));
    assert!(board.said.contains(&"acknowledge"));
}

#[test]
fn g1_told_at_once_an_ending_waits_for_nothing() {
    let mut board = Board::stored(|config| config.tell_at_once = true);
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    board.by_hand();
    board.end(task, End::Completed(Payload::new()), false);
    assert_eq!(board.told.len(), 1);
    board.confirm_all();
    board.wait(SECOND);
    board.batch_stored();
}

#[test]
fn told_at_once_an_ending_is_stored_and_acknowledged_in_company() {
    let mut board = Board::stored(|config| config.tell_at_once = true);
    let link = board.join("first", 1, Vec::new());
    let tasks = [board.submit(STOPS), board.submit(STOPS)];
    board.wait(SECOND);
    board.by_hand();
    board.end(tasks[0], End::Completed(Payload::new()), false);
    assert!(board.told.len() == 1 && !board.under_way());
    let acknowledges = |board: &mut Board, number| {
        let (answered, round_trip) = (0, None);
        let beat = Beat {
            number,
            answered,
            round_trip,
        };
        board.say(link, ToScheduler::Beat(beat));
        board.said.contains(&"acknowledge")
    };
    assert!(!acknowledges(&mut board, 1), "it is not stored");
    board.submit(STOPS);
    assert!(board.under_way(), "with the ending");
    board.batch_stored();
    assert!(acknowledges(&mut board, 2));
    // Without company it is stored all the same.
    board.wait(SECOND);
    while board.under_way() {
        board.batch_stored();
    }
    board.end(tasks[1], End::Completed(Payload::new()), false);
    assert!(board.told.len() == 2 && !board.under_way());
    board.wait(SECOND / 50);
    assert!(board.under_way());
}

#[test]
fn g1_an_answer_that_nobody_takes_is_not_written_down_as_told() {
    let (mut board, _, _) = running();
    board.store().by_hand = false;
    let task = board.submit_with(STOPS, |it| it.audience = Audience::Caller);
    board.by_hand();
    board.end(task, End::Completed(Payload::new()), false);
    let event = board.store().stored().expect("a batch is under way");
    board.machine.handle(board.now, event);
    board.act();
    let (status, alone) = board.answered.pop().expect("it is stored");
    assert!(alone);
    board.event(Event::Unclaimed(status));
    assert_eq!(board.told.len(), 1, "the client hears it instead");
}

#[test]
fn g12_a_cancel_is_answered_once_what_it_says_is_stored() {
    let (mut board, _, task) = running();
    board.cancel(task);
    assert!(board.under_way(), "the intent is to be stored");
    board.wait(2 * SECOND);
    assert!(board.answers.is_empty());
    board.batch_stored();
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
}

#[test]
fn g12_a_task_that_is_cancelled_before_it_is_stored_never_starts() {
    let mut board = Board::stored(|_| {});
    board.join("first", 1, Vec::new());
    board.by_hand();
    let task = board.submit(STOPS);
    board.cancel(task);
    assert!(board.answers.is_empty());
    board.batch_stored();
    assert!(board.answers.is_empty(), "its ending is not stored");
    board.batch_stored();
    assert_eq!(board.answers, [CancelAnswer::NeverStarted]);
    assert!(board.assigned.is_empty());
    assert_eq!(board.told[0].outcome, Outcome::Cancelled);
}

#[test]
fn g2_what_cannot_be_stored_is_refused_and_leaves_nothing() {
    let mut board = Board::stored(|_| {});
    board.join("first", 1, Vec::new());
    board.by_hand();
    let deadline = Some(SECOND);
    let task = board.submit_with(STOPS, |it| {
        it.options = keyed("a");
        if let Some(options) = &mut it.options {
            options.deadline = deadline;
        }
    });
    let before = board.machine.remains();
    assert_eq!(before.keys, 1);
    board.batch_not_stored();
    let (id, refused) = board.taken_back.pop().expect("it is taken back");
    assert_eq!(id, task);
    assert!(matches!(refused.refusal, Refusal::StoreFailed { .. }));
    let options = refused.submission.options.expect("it had some");
    assert_eq!(options.deadline, deadline);
    let remains = board.machine.remains();
    assert_eq!((remains.keys, remains.classes, remains.timers), (0, 0, 0));
    assert_eq!(board.machine.stats(board.now).totals.executed, 0);
    assert_eq!(board.store_goes_on, [false]);
    assert!(matches!(board.refusal(), Some(Refusal::StoreFailed { .. })));
    // It is tried again by itself, and goes on.
    board.wait(SECOND);
    board.batch_stored();
    assert_eq!(board.store_goes_on, [false, true]);
    assert!(board.refusal().is_none() && board.assigned.is_empty());
    board.batch_stored();
    assert_eq!(board.assigned.len(), 1);
}

#[test]
fn g1_an_ending_that_cannot_be_stored_waits_and_running_work_goes_on() {
    let (mut board, link, task) = running();
    let waits = {
        board.store().by_hand = false;
        let ids: Vec<_> = (0..3).map(|_| board.submit(STOPS)).collect();
        board.by_hand();
        ids
    };
    board.end(task, End::Completed(Payload::new()), false);
    board.batch_not_stored();
    assert_eq!(board.assigned.len(), 3, "its worker is free for the next");
    board.end(waits[0], End::Completed(Payload::new()), false);
    board.wait(SECOND);
    board.batch_not_stored();
    board.wait(SECOND);
    assert!(board.told.is_empty() && !board.said.contains(&"acknowledge"));
    board.batch_stored();
    assert_eq!(board.told.len(), 1);
    board.batch_stored();
    assert_eq!(board.told.len(), 2);
    board.cut(link);
    assert!(board.taken_back.is_empty());
}

#[test]
fn g2_while_it_is_not_known_whether_a_batch_is_stored_its_tasks_wait() {
    let mut board = Board::stored(|_| {});
    board.by_hand();
    board.submit(STOPS);
    let later = board.submit(STOPS);
    let reason = "it cannot be read".to_owned();
    board.event(Event::StoreFailing { reason });
    assert_eq!(board.taken_back.len(), 1);
    assert_eq!(board.taken_back[0].0, later);
    assert!(board.refusal().is_some());
    board.wait(3 * SECOND);
    board.batch_stored();
    assert_eq!(board.machine.unfinished().len(), 1);
    assert!(board.refusal().is_none());
}

#[test]
fn g2_no_more_bytes_wait_to_be_stored_than_may() {
    let mut board = Board::stored(|config| config.max_unstored_bytes = 1);
    board.by_hand();
    // One may always.
    assert!(board.refusal().is_none());
    assert_eq!(board.refusal(), Some(Refusal::StoreBehind { limit: 1 }));
    board.batch_stored();
    assert!(board.refusal().is_none());
}

#[test]
fn g10_an_exclusive_task_is_sent_once_its_placing_is_stored() {
    let (mut board, _, _) = running();
    let task = board.submit_exclusive(STOPS);
    board.batch_stored();
    assert_eq!(board.assigned.len(), 1, "that it is placed is not stored");
    board.wait(SECOND);
    board.batch_stored();
    let (_, run) = board.assignment(task);
    let placed = board.store().records.iter().any(|record| {
        matches!(record, Record::Placed { runs, .. } if runs.iter().any(|it| it.dispatch == run.dispatch))
    });
    assert!(placed);
}

#[test]
fn g12_an_exclusive_task_that_was_not_sent_has_never_started() {
    let (mut board, _, _) = running();
    let task = board.submit_exclusive(STOPS);
    board.batch_stored();
    board.cancel(task);
    board.batch_stored();
    board.batch_stored();
    assert_eq!(board.answers, [CancelAnswer::NeverStarted]);
    assert_eq!(board.assigned.len(), 1);
    assert_eq!(board.machine.remains().orphaned_runs, 0);
}

#[test]
fn g10_a_cut_takes_back_what_was_not_sent() {
    let (mut board, link, _) = running();
    board.join("second", 2, Vec::new());
    let task = board.submit_exclusive(STOPS);
    board.batch_stored();
    assert_eq!(board.assigned.len(), 1);
    board.cut(link);
    board.store().by_hand = false;
    let event = board.store().stored().expect("a batch is under way");
    board.event(event);
    // It waits for nobody: whatever it was placed on first, it is sent to the node that is there.
    let (_, run) = board.assignment(task);
    board.end(run.task, End::Completed(Payload::new()), false);
    assert_eq!(board.told.len(), 1);
}

#[test]
fn g11_a_node_that_tells_of_a_run_which_was_not_sent_breaks_the_protocol() {
    let (mut board, link, _) = running();
    let task = board.submit_exclusive(STOPS);
    board.batch_stored();
    let placed = board.machine.tasks.find(task).expect("it goes on");
    let run = board.machine.tasks.get(placed).stage.placed();
    let dispatch = run.expect("it is placed").dispatch;
    board.say(
        link,
        ToScheduler::Reports(vec![Report::Started { task, dispatch }]),
    );
    assert_eq!(board.closed.len(), 1);
}

#[test]
fn what_nobody_waits_for_waits_for_company() {
    let (mut board, _, task) = running();
    assert!(!board.under_way(), "that it was placed can wait");
    let due = board.now + Duration::from_millis(20);
    assert!(board.machine.next_wakeup() <= Some(due));
    board.wait(Duration::from_millis(20));
    assert!(board.under_way());
    board.batch_stored();
    let placed =
        |record: &Record| matches!(record, Record::Placed { runs, .. } if runs[0].task == task);
    assert!(board.store().records.iter().any(placed));
}

#[test]
fn a_short_task_costs_no_record_of_its_placing() {
    let mut board = Board::stored(|_| {});
    board.join("first", 1, Vec::new());
    let before = board.store().records.len();
    let task = board.submit(STOPS);
    board.end(task, End::Completed(Payload::new()), false);
    board.confirm_all();
    board.wait(SECOND);
    let of_the_task = |record: &&Record| {
        matches!(
            record,
            Record::Accepted(_) | Record::Settled(_) | Record::Confirmed(_)
        )
    };
    let records = &board.store().records[before..];
    let written: Vec<_> = records
        .iter()
        .filter(|it| !matches!(it, Record::Node(_)))
        .collect();
    assert_eq!(written.len(), 3, "{written:?}");
    assert!(written.iter().all(of_the_task));
}

#[test]
fn g3_no_dispatch_is_given_out_before_it_is_reserved() {
    let mut board = Board::stored(|_| {});
    board.join("first", 1, Vec::new());
    let last = board.store().log.ledger().reserved().dispatches - 1;
    board.machine.dispatches.skip_to(last);
    board.by_hand();
    board.submit(STOPS);
    board.submit(STOPS);
    board.batch_stored();
    board.batch_stored();
    let sent: Vec<_> = board
        .assigned
        .iter()
        .map(|(_, run)| run.dispatch.get())
        .collect();
    assert_eq!(sent, [last, last + 1]);
    let reserved = |record: &Record| matches!(record, Record::Reserved(_));
    assert!(board.store().records.iter().any(reserved));
}

#[test]
fn g1_a_promise_waits_for_a_batch_that_has_what_it_says_however_much_gathers() {
    let mut board = Board::stored(|config| config.max_unstored_bytes = u64::MAX);
    board.machine = {
        let (now, config) = (board.now, crate::config::SchedulerConfig::default());
        let begun =
            SchedulerMachine::recover("board".into(), config, Found::default(), claim(), now, now);
        DrivenScheduler::new(begun.expect("an empty log"), Checks::Never)
    };
    board.store = None;
    let first = board.machine.promised_with();
    for _ in 0..65_536 {
        board.refusal();
    }
    assert_eq!(board.machine.promised_with(), first);
    assert!(board.refusal().is_none());
    assert_eq!(board.machine.promised_with(), first + 1);
    let sealed = board.machine.seal(board.now).expect("it is due");
    assert_eq!(sealed.records.len(), 65_536 + 1, "and its head");
}

#[test]
fn g1_a_report_told_again_is_acknowledged_with_what_it_brought_first() {
    let (mut board, link, task) = running();
    let (_, run) = board.assignment(task);
    board.end(task, End::Completed(Payload::new()), false);
    board.cut(link);
    let hello = board.hello("first", 1);
    let reports = vec![ended(1, &run, End::Completed(Payload::new()), SECOND)];
    board.join_with(
        hello,
        Holding {
            reports,
            ..Default::default()
        },
    );
    assert_eq!(board.welcomes, [0, 0], "nothing of it is stored");
    board.batch_stored();
    assert_eq!(board.told.len(), 1);
}

#[test]
fn a_term_that_ends_in_order_says_so_last_and_leaves_its_nodes_at_work() {
    let (mut board, link, _) = running();
    board.machine.close(board.now);
    board.settle_down();
    assert_eq!(board.closed[0].0, link);
    let told = |what: &&str| ["leave", "end"].contains(what);
    assert!(!board.said.iter().any(told));
    // First what had gathered, then the end.
    for _ in 0..2 {
        board.batch_not_stored();
        board.wait(SECOND);
        board.batch_stored();
    }
    assert_eq!(board.store().records.last(), Some(&Record::Closed));
    board.wait(Duration::from_secs(60));
    let due = board.machine.next_wakeup();
    assert!(!board.under_way() && due.is_none_or(|due| due > board.now));
}

#[test]
fn g1_what_waits_to_be_told_to_a_client_that_is_gone_is_told_to_the_next_alone() {
    let (mut board, _, task) = running();
    board.end(task, End::Completed(Payload::new()), false);
    let client = ClientId(1);
    board.event(Event::ClientGone { client });
    board.machine.set_client(board.now, Some(ClientId(2)));
    board.settle_down();
    board.batch_stored();
    assert_eq!(board.told.len(), 1);
    // The first one was given nothing.
    assert!(!board.told[0].is_given_again());
    let outbox = &board.machine.outbox;
    assert_eq!((outbox.delivered, outbox.redelivered), (1, 0));
}

#[test]
fn what_a_node_that_returned_did_not_take_back_is_written_off_with_it() {
    let (mut board, link, task) = running();
    board.store().by_hand = false;
    board.settle_down();
    board.cut(link);
    board.wait(60 * SECOND);
    // It has nothing of the task, and takes nothing new.
    let mut hello = board.hello("first", 1);
    hello.draining = true;
    let link = board.join_by(hello, Vec::new());
    assert!(board.machine.remove_node(board.now, "first").is_ok());
    board.settle_down();
    board.say(link, ToScheduler::Goodbye);
    // What is written down is compared with what is believed in each step.
    board.wait(SECOND);
    board.restart();
    board.join("second", 2, Vec::new());
    board.assignment(task);
}
