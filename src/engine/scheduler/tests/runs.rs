//! What is told and counted of runs: where the last one started, which were lost, and which may go
//! on.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS, superseded};
use crate::engine::message::{
    End, HeldRun, HeldState, Holding, NodeHello, RefusedBy, Report, ToScheduler,
};
use crate::engine::{ClientId, Event, LinkId, Submission};
use crate::payload::Payload;
use crate::status::{CancelAnswer, Cause, Failure, Outcome, TaskStatus};
use crate::task::{Dispatch, Options, TaskId};

fn report(board: &mut Board, link: LinkId, report: Report) {
    board.say(link, ToScheduler::Reports(vec![report]));
}

fn options(change: impl FnOnce(&mut Options)) -> impl FnOnce(&mut Submission) {
    let mut options = Options::default();
    change(&mut options);
    |submission| submission.options = Some(Box::new(options))
}

fn again(after: Duration) -> End {
    let failure = Failure::new(Cause::Error, "no");
    End::Again {
        after,
        failure: Box::new(failure),
    }
}

fn refuse(board: &mut Board, task: TaskId) {
    let (link, run) = board.assignment(task);
    board.refuse(link, &run);
}

fn never_ran(board: &Board, task: TaskId) {
    let status = told(board, task);
    let runs = (&status.node, status.started_at, status.attempts);
    assert_eq!(runs, (&None, None, 0), "{:?}", status.outcome);
}

fn told(board: &Board, task: TaskId) -> TaskStatus {
    let status = board.told.iter().find(|status| status.id == task);
    status.expect("it is told").clone()
}

fn settled(board: &Board) -> u64 {
    let nodes = board.machine.stats(board.now).nodes;
    nodes.iter().map(|node| node.settled).sum()
}

/// Makes a busy node, and a task with a deadline that was prefetched to it.
pub(super) fn prefetched() -> (Board, TaskId) {
    let (mut board, _) = Board::with_fast_node();
    board.told.clear();
    board.submit(STOPS);
    board.submit(STOPS);
    let deadline = Duration::from_secs(3);
    let task = board.submit_with(STOPS, options(|it| it.deadline = Some(deadline)));
    assert!(board.assignment(task).1.prefetched);
    (board, task)
}

#[test]
fn large_args_are_sent_ahead_as_long_as_those_at_the_node_are_within_a_bound_of_bytes() {
    let (mut board, _) = prefetched();
    let args = Payload::from(vec![0; 6 << 20]);
    let tasks: Vec<_> = (0..5)
        .map(|_| board.submit_with(STOPS, |it| it.args = args.clone()))
        .collect();
    let prefetched = |board: &Board, task| {
        let mut assigned = board.assigned.iter();
        assigned.any(|(_, run)| run.task == task && run.prefetched)
    };
    let sent = tasks
        .iter()
        .filter(|&&task| prefetched(&board, task))
        .count();
    assert_eq!(sent, 3, "16 MiB and what goes beyond by one");
    assert_eq!(board.machine.check(), Ok(()));
    board.cancel(tasks[0]);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g1_a_task_that_was_sent_ahead_and_did_not_start_has_not_run() {
    let (mut board, task) = prefetched();
    let before = settled(&board);
    board.wait(Duration::from_secs(4));
    never_ran(&board, task);

    let (mut other, task) = prefetched();
    let (link, run) = other.assignment(task);
    other.reports += 1;
    let returned = Report::Returned {
        seq: other.reports,
        task,
        dispatch: run.dispatch,
    };
    other.machine.config.max_prefetch = 0;
    report(&mut other, link, returned);
    other.cancel(task);
    never_ran(&other, task);
    assert_eq!([settled(&board), settled(&other)], [before; 2]);
}

#[test]
fn g1_a_task_that_was_refused_has_not_run() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    refuse(&mut board, task);
    board.cancel(task);
    never_ran(&board, task);
    assert_eq!(settled(&board), 0);
}

#[test]
fn g1_a_second_attempt_that_did_not_start_leaves_the_first_as_the_last_run() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let started = board.now;
    board.wait(Duration::from_secs(1));
    board.end(task, again(Duration::ZERO), false);
    assert_eq!(board.assignment(task).1.attempt, 2);
    refuse(&mut board, task);
    board.cancel(task);
    let status = told(&board, task);
    assert_eq!(status.node.as_deref(), Some("first"));
    assert_eq!(status.started_at, Some(started.to_system_time()));
    assert_eq!(status.attempts, 1);
}

#[test]
fn g1_a_node_has_settled_only_what_it_reported() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let deadline = Duration::from_secs(1);
    let late = board.submit_with(STOPS, options(|it| it.deadline = Some(deadline)));
    board.wait(Duration::from_secs(2));
    let status = told(&board, late);
    assert_eq!(
        (status.node.as_deref(), status.attempts),
        (Some("first"), 1)
    );
    assert_eq!(settled(&board), 0);
    let done = board.submit(STOPS);
    board.end(done, End::Completed(Payload::new()), false);
    assert_eq!(settled(&board), 1);
}

#[test]
fn g12_a_deadline_ends_a_task_that_is_to_be_cancelled_as_cancelled() {
    let deadline = |after| options(move |it| it.deadline = Some(Duration::from_secs(after)));
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let runs = board.submit_with(STOPS, deadline(2));
    board.wait(Duration::from_millis(1500));
    board.cancel(runs);
    board.wait(Duration::from_millis(600));
    assert_eq!(told(&board, runs).outcome, Outcome::Cancelled);
    assert_eq!(board.answers, [], "its node has a second to tell");
    board.wait(Duration::from_millis(400));
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
    assert_eq!(board.machine.check(), Ok(()));

    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let held = board.submit_with(
        BLOCKS,
        options(|it| {
            it.deadline = Some(Duration::from_secs(60));
            it.exclusive = true;
        }),
    );
    board.cut(link);
    board.wait(Duration::from_millis(59_500));
    board.cancel(held);
    assert!(board.told.is_empty(), "{:?}", board.told);
    board.wait(Duration::from_millis(600));
    assert_eq!(told(&board, held).outcome, Outcome::Cancelled);
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
    assert_eq!(board.machine.check(), Ok(()));
}

/// Makes a task that was assigned to a node which is taken for dead, and which denies the run when
/// it is back. It has had a run before at another node, or none.
fn denied(ran_before: bool) -> (Board, TaskId) {
    let mut board = Board::new();
    let task = board.submit(STOPS);
    if ran_before {
        let earlier = board.join("earlier", 1, Vec::new());
        board.end(task, again(Duration::from_secs(60)), false);
        board.cut(earlier);
        board.wait(Duration::from_secs(60));
    }
    let hello = NodeHello {
        probe: Some("9".to_owned()),
        ..board.hello("first", 2)
    };
    let link = board.join_by(hello, Vec::new());
    let (at, run) = board.assignment(task);
    assert_eq!(at, link);
    board.cut(link);
    let (node, incarnation) = *board.probes.last().expect("it is probed");
    board.event(Event::Probed {
        node,
        incarnation,
        refused: true,
    });
    board.join("second", 3, Vec::new());
    let refused = Report::Refused {
        seq: 1,
        task,
        dispatch: run.dispatch,
        reason: RefusedBy::NoWorker,
    };
    let hello = board.hello("first", 2);
    let reports = vec![refused];
    let holding = Holding {
        reports,
        ..Default::default()
    };
    board.join_with(hello, holding);
    board.cancel(task);
    refuse(&mut board, task);
    assert_eq!(board.machine.check(), Ok(()));
    (board, task)
}

#[test]
fn g1_a_status_does_not_name_a_node_that_denies_the_run_which_was_lost_with_it() {
    let (board, task) = denied(false);
    never_ran(&board, task);
    let (board, task) = denied(true);
    let status = told(&board, task);
    assert_eq!(
        (status.node.as_deref(), status.attempts),
        (Some("earlier"), 1)
    );
}

/// Loses a node with a watched task, and lets it return with the end of its run.
fn returns_with(end: End) -> (Board, TaskId) {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit_with(STOPS, |it| it.watcher = Some(ClientId(2)));
    let (_, run) = board.assignment(task);
    board.cut(link);
    board.wait(Duration::from_secs(30));
    assert_eq!(board.machine.stats(board.now).totals.rerouted, 1);
    board.return_with(&run, end);
    assert_eq!(board.machine.check(), Ok(()));
    (board, task)
}

#[test]
fn g8_a_run_that_its_lost_node_dropped_is_rerouted_once() {
    let (board, task) = returns_with(End::Dropped);
    assert_eq!(board.machine.stats(board.now).totals.rerouted, 1);
    assert_eq!(board.assignment(task).1.dispatch, Dispatch::new(2));
}

#[test]
fn g7_a_run_that_completed_at_a_node_that_returned_was_not_lost() {
    let (board, task) = returns_with(End::Completed(Payload::new()));
    assert_eq!(told(&board, task).reroutes, 0);
}

#[test]
fn g7_a_run_that_is_taken_back_counts_as_the_suspect_that_it_is() {
    let mut board = Board::new();
    let task = board.submit(STOPS);
    for name in ["first", "second", "third"] {
        let link = board.join(name, 1, Vec::new());
        assert_eq!(board.assignment(task).0, link);
        board.cut(link);
        board.wait(Duration::from_secs(30));
    }
    let held = HeldRun {
        task,
        dispatch: board.assignment(task).1.dispatch,
        state: HeldState::Running,
    };
    board.join("third", 1, vec![held]);
    assert_eq!(board.machine.check(), Ok(()));
    let slot = board.machine.tasks.find(task).expect("it runs");
    assert_eq!(board.machine.tasks.get(slot).losses(), 2);
    assert_eq!(board.machine.roster.get(2).load.tally().suspects, 1);
}

/// Makes a node that has dropped the run of an exclusive task, whose handler has ended since.
fn dropped_and_ended(
    end: impl FnOnce(&mut Board, LinkId, &crate::engine::message::Assignment),
) -> (Board, TaskId) {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit_exclusive(BLOCKS);
    let (link, run) = board.assignment(task);
    board.end(task, End::Dropped, true);
    assert_eq!(board.machine.stats(board.now).held, 1);
    end(&mut board, link, &run);
    assert_eq!(board.machine.check(), Ok(()));
    (board, task)
}

#[test]
fn g9_a_run_that_was_dropped_and_completes_all_the_same_is_not_repeated() {
    let (board, task) = dropped_and_ended(|board, link, run| {
        board.end_of(link, run, End::Completed(Payload::new()), false);
    });
    assert!(told(&board, task).outcome.is_completed());
    assert_eq!(board.assigned.len(), 1);
}

#[test]
fn g10_a_run_that_was_dropped_is_repeated_when_its_handler_has_given_up() {
    let (board, task) = dropped_and_ended(|board, link, run| board.freed(link, run));
    assert_eq!(board.assignment(task).1.dispatch, Dispatch::new(2));
}

#[test]
fn g11_a_node_does_not_touch_the_cancel_of_a_task_that_it_never_had() {
    let lies: [fn(TaskId, Dispatch) -> ToScheduler; 2] = [
        |task, dispatch| {
            ToScheduler::Reports(vec![Report::Ended {
                seq: 1,
                task,
                dispatch,
                end: End::Stopped,
                ran: Duration::from_millis(1),
                overrun: true,
            }])
        },
        |task, dispatch| {
            let state = HeldState::Running;
            ToScheduler::Holding(Holding {
                runs: vec![HeldRun {
                    task,
                    dispatch,
                    state,
                }],
                last: true,
                ..Default::default()
            })
        },
    ];
    for lie in lies {
        let mut board = Board::new();
        board.join("honest", 1, Vec::new());
        let task = board.submit(STOPS);
        let (_, first) = board.assignment(task);
        board.end(task, again(Duration::ZERO), false);
        let hello = board.hello("evil", 2);
        let message = lie(task, first.dispatch);
        let evil = if matches!(message, ToScheduler::Holding(_)) {
            let evil = board.open();
            board.say(evil, ToScheduler::Hello(Box::new(hello)));
            evil
        } else {
            board.join_by(hello, Vec::new())
        };
        board.say(evil, message);
        assert_eq!(board.machine.unknown_runs.count(), 1);
        assert_eq!(board.machine.check(), Ok(()));
        board.end(task, again(Duration::from_secs(60)), false);
        board.cancel(task);
        assert_eq!(board.answers, [CancelAnswer::Stopped]);
    }
}

#[test]
fn g12_a_superseded_run_that_a_returned_node_holds_is_told_of() {
    let (mut board, task, run) = superseded();
    board.end(task, again(Duration::from_secs(60)), false);
    let held = HeldRun {
        task,
        dispatch: run.dispatch,
        state: HeldState::Running,
    };
    board.join("first", 1, vec![held]);
    assert_eq!(board.machine.check(), Ok(()));
    board.cancel(task);
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
}

#[test]
fn a_run_whose_end_is_told_in_a_comparison_says_nothing_of_the_round_trip() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let (_, run) = board.assignment(task);
    board.cut(link);
    board.wait(Duration::from_secs(3));
    board.return_with(&run, End::Completed(Payload::new()));
    let load = &board.machine.roster.get(0).load;
    assert_eq!(settled(&board), 1);
    assert!(load.round_trip() < Duration::from_millis(1));
}
