//! What a process that another one has replaced may still say.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS, ended};
use crate::engine::message::{Assignment, End, Holding, Report};
use crate::engine::message::{RefusedBy, ToScheduler};
use crate::engine::{LinkId, Memory};
use crate::payload::Payload;
use crate::status::CancelAnswer;
use crate::task::TaskId;

const LEASE: Duration = Duration::from_secs(15);

/// Makes a board where an exclusive task that blocks runs in a process of the node "first" that
/// another one has replaced, after so long without a link.
fn replaced(after: Duration) -> (Board, TaskId, Assignment) {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit_exclusive(BLOCKS);
    let (_, run) = board.assignment(task);
    board.cut(link);
    board.wait(after);
    board.join("first", 2, Vec::new());
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    (board, task, run)
}

fn held(board: &Board) -> usize {
    board.machine.stats(board.now).held
}

/// Returns what the process says that it holds: this run.
fn holds(run: &Assignment) -> Holding {
    Holding {
        runs: super::recovery::holds(run),
        ..Holding::default()
    }
}

/// Returns as the replaced process: says hello and tells all that it holds.
fn returns(board: &mut Board, holding: Holding) -> LinkId {
    let hello = board.hello("first", 1);
    board.join_with(hello, holding)
}

fn is_closed(board: &Board, link: LinkId) -> bool {
    board.closed.iter().any(|(it, _)| *it == link)
}

#[test]
fn g10_what_a_replaced_process_has_told_of_an_end_is_read_before_it_is_refused() {
    for after in [Duration::from_secs(5), 4 * LEASE] {
        let ways: [fn(&Assignment) -> Report; 4] = [
            |run| {
                let done = End::Completed(Payload::from(b"done"));
                ended(1, run, done, Duration::from_secs(1))
            },
            |run| Report::Freed {
                seq: 1,
                task: run.task,
                dispatch: run.dispatch,
            },
            |run| Report::Refused {
                seq: 1,
                task: run.task,
                dispatch: run.dispatch,
                reason: RefusedBy::NoWorker,
            },
            |run| Report::Returned {
                seq: 1,
                task: run.task,
                dispatch: run.dispatch,
            },
        ];
        for way in ways {
            let (mut board, task, run) = replaced(after);
            let reports = vec![way(&run)];
            let link = returns(
                &mut board,
                Holding {
                    reports,
                    ..Holding::default()
                },
            );
            assert_eq!(held(&board), 0);
            let (_, again) = board.assignment(task);
            assert_ne!(again.dispatch, run.dispatch, "it is held for ever");
            assert!(is_closed(&board, link));
            // Nothing comes of what it says but that.
            assert!(board.told.is_empty());
            assert_eq!(board.machine.stats(board.now).running, 1);
        }
    }
}

#[test]
fn g10_what_a_replaced_process_does_not_hold_and_would_remember_has_ended() {
    let (mut board, task, run) = replaced(4 * LEASE);
    let link = returns(&mut board, Holding::default());
    assert_ne!(board.assignment(task).1.dispatch, run.dispatch);
    assert!(is_closed(&board, link));

    // One that has forgotten this scheduler says it of nothing, until it has no worker in use.
    let (mut board, task, run) = replaced(4 * LEASE);
    let mut hello = board.hello("first", 1);
    (hello.memory, hello.out_of_reach) = (Memory(7), 1);
    let link = board.join_by(hello, Vec::new());
    assert_eq!(held(&board), 1);
    assert!(!is_closed(&board, link));
    let report = Report::Stalled {
        workers: 0,
        task: None,
    };
    board.say(link, ToScheduler::Reports(vec![report]));
    assert_ne!(board.assignment(task).1.dispatch, run.dispatch);
    assert!(is_closed(&board, link));
}

#[test]
fn g10_a_replaced_process_is_heard_until_its_last_run_has_ended() {
    let (mut board, task, run) = replaced(4 * LEASE);
    let link = returns(&mut board, holds(&run));
    board.beats(link, 60);
    assert!(!is_closed(&board, link));
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    assert_eq!(board.said.iter().filter(|it| **it == "answer").count(), 60);
    let end = ended(1, &run, End::Stopped, Duration::from_secs(60));
    board.say(link, ToScheduler::Reports(vec![end]));
    assert_eq!(held(&board), 0);
    assert!(is_closed(&board, link));
    board.join("second", 3, Vec::new());
    assert_ne!(board.assignment(task).1.dispatch, run.dispatch);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g10_whoever_removes_a_node_waits_for_a_replaced_process_that_is_heard() {
    let (mut board, task, run) = replaced(4 * LEASE);
    let link = returns(&mut board, holds(&run));
    assert_eq!(board.machine.remove_node(board.now, "first"), Ok(()));
    board.settle_down();
    board.beats(link, 40);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    // Nothing more is heard of it.
    board.cut(link);
    board.wait(2 * LEASE);
    assert_eq!(held(&board), 0);
    board.join("second", 3, Vec::new());
    assert_ne!(board.assignment(task).1.dispatch, run.dispatch);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g8_a_replaced_process_of_which_nothing_is_awaited_is_refused_at_once() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let (_, run) = board.assignment(task);
    board.cut(link);
    board.wait(4 * LEASE);
    let second = board.join("first", 2, Vec::new());
    let link = board.open();
    let hello = board.hello("first", 1);
    board.say(link, ToScheduler::Hello(Box::new(hello)));
    assert!(is_closed(&board, link));
    assert!(!is_closed(&board, second));
    assert_ne!(board.assignment(task).1.dispatch, run.dispatch);
}

#[test]
fn g10_a_replaced_process_that_falls_silent_or_speaks_out_of_turn_loses_its_link() {
    let (mut board, _, run) = replaced(4 * LEASE);
    let link = returns(&mut board, holds(&run));
    board.wait(Duration::from_secs(5));
    assert!(is_closed(&board, link));
    let link = returns(&mut board, holds(&run));
    board.say(link, ToScheduler::Holding(Holding::default()));
    assert!(is_closed(&board, link));
    // An older hello comes late.
    let mut old = board.hello("first", 1);
    old.number = 1;
    let link = board.join_by(old, Vec::new());
    assert!(is_closed(&board, link));
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g12_a_cancel_hears_from_a_replaced_process_that_a_run_has_stopped() {
    let (mut board, task, run) = replaced(4 * LEASE);
    board.cancel(task);
    let link = returns(&mut board, holds(&run));
    assert!(board.answers.is_empty());
    let end = ended(1, &run, End::Stopped, Duration::from_secs(60));
    board.say(link, ToScheduler::Reports(vec![end]));
    assert_eq!(board.answers, [CancelAnswer::Stopped]);
}

#[test]
fn g12_a_run_of_a_replaced_process_is_forgotten_when_its_task_has_settled_elsewhere() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(BLOCKS);
    // It goes on though its attempt is over.
    board.end(task, End::Stopped, true);
    board.cut(link);
    board.wait(4 * LEASE);
    let link = board.join("first", 2, Vec::new());
    // Nothing of the node has a lease that ends, or is heard.
    board.say(link, ToScheduler::Goodbye);
    let other = board.join("other", 3, Vec::new());
    assert_eq!(board.assignment(task).0, other);
    board.wait(Duration::from_secs(5));
    let orphans = |board: &Board| board.machine.roster.nodes[0].past[0].orphans.len();
    assert_eq!(orphans(&board), 1);
    board.end(task, End::Completed(Payload::new()), false);
    board.wait(4 * LEASE);
    assert_eq!(orphans(&board), 0);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g1_what_a_replaced_process_had_refused_is_not_said_to_have_run_there() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let blocking = board.submit_exclusive(BLOCKS);
    let task = board.submit_exclusive(STOPS);
    let ((_, goes_on), (_, run)) = (board.assignment(blocking), board.assignment(task));
    board.cut(link);
    // Its lease ends: what can be dropped is awaited no longer.
    board.wait(4 * LEASE);
    let mut hello = board.hello("first", 2);
    hello.kinds.clear();
    board.join_by(hello, Vec::new());
    let refused = Report::Refused {
        seq: 1,
        task,
        dispatch: run.dispatch,
        reason: RefusedBy::NoWorker,
    };
    let holding = Holding {
        reports: vec![refused],
        ..holds(&goes_on)
    };
    returns(&mut board, holding);
    board.cancel(task);
    let status = board.told.last().expect("it has settled");
    assert_eq!(
        (status.id, &status.node, status.started_at),
        (task, &None, None)
    );
}
