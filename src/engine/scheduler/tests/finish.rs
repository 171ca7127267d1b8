//! The end of a scheduler that finishes what runs: what has not started is asked back, and stays.

use std::time::Duration;

use super::{Board, STOPS};
use crate::engine::LinkId;
use crate::engine::message::{End, Report, ToScheduler};
use crate::payload::Payload;
use crate::stats::Reason;
use crate::status::{Cause, Failure};
use crate::task::{Dispatch, TaskId};

/// Makes a node of two workers that is sent tasks prefetched, and what it was sent: two run and the
/// rest waits there.
fn busy() -> (Board, Vec<TaskId>) {
    let (mut board, _) = Board::with_fast_node();
    let tasks: Vec<_> = (0..5).map(|_| board.submit(STOPS)).collect();
    assert!(
        tasks
            .iter()
            .all(|&task| board.assigned.iter().any(|(_, run)| run.task == task))
    );
    assert!(
        board.assignment(tasks[4]).1.prefetched,
        "it waits at its node"
    );
    board.assigned.clear();
    board.retracted.clear();
    (board, tasks)
}

#[test]
fn what_was_sent_ahead_is_asked_back_and_nothing_is_placed_while_what_runs_is_finished() {
    let (mut board, tasks) = busy();
    let later = board.submit("unknown");
    board.machine.finish_running(board.now);
    board.wait(Duration::from_millis(10));
    assert_eq!(board.retracted.len(), 3, "all that has not started");
    assert!(!board.machine.is_drained(board.now));
    let mut asked: Vec<_> = board.retracted.clone();
    asked.sort_by_key(|(_, dispatch)| *dispatch);
    // One has started meanwhile, and is finished too.
    let (link, started) = asked[0];
    let task = tasks[2];
    board.say(
        link,
        ToScheduler::Reports(vec![Report::Started {
            task,
            dispatch: started,
        }]),
    );
    for ((link, dispatch), &task) in asked[1..].iter().zip(&tasks[3..]) {
        board.give_back(*link, task, *dispatch);
    }
    let why = |board: &Board, task| board.machine.explain(board.now, task).map(|why| why.reason);
    assert_eq!(why(&board, tasks[3]), Some(Reason::Ending));
    assert_eq!(why(&board, later), Some(Reason::Ending));
    // A retry is not waited for.
    let failure = Failure::new(Cause::Error, "no");
    let after = Duration::from_millis(1);
    let end = |board: &mut Board, task: TaskId, dispatch: Dispatch, end: End| {
        board.reports += 1;
        let report = Report::Ended {
            seq: board.reports,
            task,
            dispatch,
            end,
            ran: Duration::from_millis(5),
            overrun: false,
        };
        board.say(link, ToScheduler::Reports(vec![report]));
    };
    let first = started.get() - 2;
    end(
        &mut board,
        tasks[0],
        Dispatch::new(first),
        End::Again {
            after,
            failure: Box::new(failure),
        },
    );
    end(
        &mut board,
        tasks[1],
        Dispatch::new(first + 1),
        End::Completed(Payload::new()),
    );
    assert!(
        !board.machine.is_drained(board.now),
        "what has started runs"
    );
    end(&mut board, task, started, End::Completed(Payload::new()));
    board.wait(Duration::from_secs(1));
    assert!(board.machine.is_drained(board.now));
    assert!(board.assigned.is_empty(), "nothing is placed");
    let left: Vec<_> = board
        .machine
        .unfinished()
        .iter()
        .map(|task| task.id)
        .collect();
    assert_eq!(left, [tasks[0], tasks[3], tasks[4], later]);
}

#[test]
fn what_was_sent_ahead_over_a_link_that_breaks_is_asked_back_when_it_returns_or_lost_with_its_node()
{
    let (mut board, _) = busy();
    board.machine.finish_running(board.now);
    board.cut(LinkId(1));
    board.wait(Duration::from_secs(5));
    assert!(!board.machine.is_drained(board.now));
    board.wait(Duration::from_secs(40));
    assert!(board.machine.is_drained(board.now), "its lease is over");
    assert!(board.assigned.is_empty());
}
