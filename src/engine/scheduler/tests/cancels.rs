//! G12: a cancel is answered with what happened.

use std::time::Duration;

use super::runs::prefetched;
use super::{BLOCKS, Board, STOPS};
use crate::engine::message::{Assignment, End, NodeHello, RefusedBy, Report, ToScheduler};
use crate::engine::work::steps_of;
use crate::engine::{Memory, Submission};
use crate::status::{CancelAnswer, Cause, Failure, Outcome};
use crate::task::{Options, TaskId};
use crate::testing::Checks;

fn again(cause: Cause) -> End {
    End::Again {
        after: Duration::from_secs(60),
        failure: Box::new(Failure::new(cause, "no")),
    }
}

/// Cancels a task that no node has, and sees that it is settled by that.
fn cancelled(board: &mut Board, task: TaskId) -> CancelAnswer {
    board.cancel(task);
    let [answer] = board.answers[..] else {
        panic!("it is answered once: {:?}", board.answers);
    };
    let [status] = &board.told[..] else {
        panic!("it is told once: {:?}", board.told);
    };
    assert_eq!((status.id, &status.outcome), (task, &Outcome::Cancelled));
    answer
}

#[test]
fn g12_a_cancel_between_attempts_says_that_a_run_which_timed_out_goes_on() {
    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let task = board.submit(BLOCKS);
    board.end(task, again(Cause::Timeout), true);
    assert_eq!(cancelled(&mut board, task), CancelAnswer::StillRunning);
}

#[test]
fn g12_a_cancel_between_attempts_says_stopped_once_that_run_has_ended() {
    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let task = board.submit(BLOCKS);
    let (link, run) = board.assignment(task);
    board.end(task, again(Cause::Timeout), true);
    board.freed(link, &run);
    assert_eq!(cancelled(&mut board, task), CancelAnswer::Stopped);
}

#[test]
fn g12_a_cancel_says_never_started_only_of_what_never_ran() {
    let mut board = Board::new();
    let waits = board.submit(STOPS);
    assert_eq!(cancelled(&mut board, waits), CancelAnswer::NeverStarted);

    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let failed = board.submit(STOPS);
    board.end(failed, again(Cause::Error), false);
    assert_eq!(cancelled(&mut board, failed), CancelAnswer::Stopped);
}

#[test]
fn g12_a_cancel_says_that_a_run_on_a_lost_node_may_go_on_until_its_node_has_dropped_it() {
    for (kind, later) in [
        (STOPS, CancelAnswer::Stopped),
        (BLOCKS, CancelAnswer::StillRunning),
    ] {
        for (wait, expected) in [
            (Duration::ZERO, CancelAnswer::StillRunning),
            (Duration::from_secs(30), later),
        ] {
            let mut board = Board::new();
            let link = board.join("node", 1, Vec::new());
            let task = board.submit(kind);
            board.assignment(task);
            // A new process under its name, while nobody knows whether the old one lives.
            board.wait(Duration::from_secs(5));
            board.cut(link);
            board.join("node", 2, Vec::new());
            let (_, second) = board.assignment(task);
            let failure = Failure::new(Cause::Error, "no");
            let end = End::Again {
                after: Duration::from_secs(60),
                failure: Box::new(failure),
            };
            board.end(task, end, false);
            board.wait(wait);
            assert_eq!(
                cancelled(&mut board, task),
                expected,
                "{kind} after {wait:?}, run {}",
                second.dispatch
            );
        }
    }
}

fn due_in_two_seconds(submission: &mut Submission) {
    let options = Options {
        deadline: Some(Duration::from_secs(2)),
        ..Options::default()
    };
    submission.options = Some(Box::new(options));
}

/// Makes a task that was sent to a free worker, and one that was prefetched. Each has a deadline.
fn placed() -> [(Board, TaskId, Duration); 2] {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit_with(STOPS, due_in_two_seconds);
    let (other, prefetched) = prefetched();
    [
        (board, task, Duration::from_secs(2)),
        (other, prefetched, Duration::from_secs(3)),
    ]
}

/// Says this of the latest run of a task, as its node.
fn report_of(board: &mut Board, task: TaskId, report: impl FnOnce(u64, &Assignment) -> Report) {
    let (link, run) = board.assignment(task);
    board.reports += 1;
    let report = report(board.reports, &run);
    board.say(link, ToScheduler::Reports(vec![report]));
}

/// Stops the latest run of a task, as its node, after so long.
fn stopped(board: &mut Board, task: TaskId, ran: Duration) {
    report_of(board, task, |seq, run| {
        super::ended(seq, run, End::Stopped, ran)
    });
}

/// Cancels a task shortly before its deadline, and lets that pass.
fn cancel_and_pass_the_deadline(board: &mut Board, task: TaskId, deadline: Duration) {
    board.wait(deadline - Duration::from_millis(1));
    board.cancel(task);
    board.wait(Duration::from_millis(1));
    let status = board.told.iter().find(|status| status.id == task);
    let outcome = status.map(|status| &status.outcome);
    assert_eq!(
        outcome,
        Some(&Outcome::Cancelled),
        "a deadline settles at once"
    );
    assert_eq!(board.answers, [], "nobody knows so far what became of it");
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g12_a_cancel_that_a_deadline_overtakes_is_answered_with_what_its_node_says_of_the_run() {
    for index in 0..2 {
        for (ran, answer) in [
            (Duration::ZERO, CancelAnswer::NeverStarted),
            (Duration::from_millis(5), CancelAnswer::Stopped),
        ] {
            let (mut board, task, deadline) = placed().into_iter().nth(index).expect("two");
            cancel_and_pass_the_deadline(&mut board, task, deadline);
            stopped(&mut board, task, ran);
            assert_eq!(board.answers, [answer]);
            board.wait(Duration::from_secs(2));
            assert_eq!(board.answers.len(), 1, "it is answered once");
            assert_eq!(board.machine.check(), Ok(()));
        }
    }
}

#[test]
fn g12_a_cancel_that_a_deadline_overtakes_is_answered_within_a_second() {
    for (mut board, task, deadline) in placed() {
        cancel_and_pass_the_deadline(&mut board, task, deadline);
        board.wait(Duration::from_millis(999));
        assert_eq!(board.answers, [CancelAnswer::StillRunning]);
        stopped(&mut board, task, Duration::ZERO);
        assert_eq!(board.answers.len(), 1, "it is answered once");
        assert_eq!(board.machine.check(), Ok(()));
    }
}

#[test]
fn g12_a_cancel_that_a_deadline_overtakes_is_told_of_an_assignment_that_was_refused_or_got_lost() {
    let [(mut board, task, deadline), (mut cut, lost, later)] = placed();
    cancel_and_pass_the_deadline(&mut board, task, deadline);
    report_of(&mut board, task, |seq, run| Report::Refused {
        seq,
        task,
        dispatch: run.dispatch,
        reason: RefusedBy::NoWorker,
    });
    assert_eq!(board.answers, [CancelAnswer::NeverStarted]);

    let (link, _) = cut.assignment(lost);
    cancel_and_pass_the_deadline(&mut cut, lost, later);
    cut.cut(link);
    cut.join("first", 1, Vec::new());
    assert_eq!(cut.answers, [CancelAnswer::NeverStarted]);
    assert_eq!(cut.machine.check(), Ok(()));
}

#[test]
fn g12_a_cancel_that_waits_when_its_node_is_removed_is_answered_with_what_that_says() {
    for (mut board, task, _) in placed() {
        board.cancel(task);
        let removed = board.machine.remove_node(board.now, "first");
        assert_eq!(removed, Ok(()));
        board.settle_down();
        assert_eq!(board.answers, []);
        stopped(&mut board, task, Duration::ZERO);
        assert_eq!(board.answers, [CancelAnswer::NeverStarted]);
        assert_eq!(board.machine.check(), Ok(()));
    }
}

/// Makes a board with a short heartbeat, so that a node is silent for too long within a second.
fn silent_soon() -> Board {
    Board::configured(Checks::EachStep, |config| {
        config.heartbeat = Duration::from_millis(100);
        config.lease = Duration::from_secs(20);
    })
}

#[test]
fn g12_a_cancel_that_waits_hears_of_no_stop_because_its_process_was_replaced_or_has_forgotten() {
    let ways: [fn(&mut Board) -> NodeHello; 2] = [
        |board| board.hello("first", 2),
        |board| NodeHello {
            memory: Memory(9),
            out_of_reach: 1,
            ..board.hello("first", 1)
        },
    ];
    for way in ways {
        let mut board = silent_soon();
        let link = board.join("first", 1, Vec::new());
        let task = board.submit_with(BLOCKS, due_in_two_seconds);
        cancel_and_pass_the_deadline(&mut board, task, Duration::from_secs(2));
        board.cut(link);
        board.wait(Duration::from_millis(500));
        let hello = way(&mut board);
        board.join_by(hello, Vec::new());
        assert_eq!(board.machine.roster.nodes[0].past.len(), 1, "it came back");
        assert_eq!(board.answers, [], "the run may go on");
        board.wait(Duration::from_secs(1));
        assert_eq!(board.answers, [CancelAnswer::StillRunning]);
        board.wait(Duration::from_secs(60));
        let past = &board.machine.roster.nodes[0].past;
        let orphans = past.iter().map(|process| process.orphans.len());
        assert_eq!(
            orphans.sum::<usize>(),
            0,
            "nobody waits for its end any more"
        );
    }
}

#[test]
fn g12_a_cancel_that_waits_for_an_orphaned_run_is_answered_when_the_scheduler_shuts_down() {
    let [(mut board, task, deadline), _] = placed();
    cancel_and_pass_the_deadline(&mut board, task, deadline);
    board.machine.shut_down(board.now);
    board.settle_down();
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
}

#[test]
fn g12_forty_thousand_cancels_of_one_task_are_gone_through_once_when_their_patience_ends() {
    const CANCELS: usize = 40_000;
    let mut board = Board::new();
    board.join("node", 1, Vec::new());
    let task = board.submit(STOPS);
    for ticket in 0..CANCELS as u64 {
        board.machine.cancel(board.now, task, ticket);
    }
    board.settle_down();
    let steps = steps_of(|| board.wait(Duration::from_secs(1)));
    assert_eq!(board.answers, vec![CancelAnswer::StillRunning; CANCELS]);
    let most = 2 * CANCELS as u64;
    assert!(
        (CANCELS as u64..most).contains(&steps),
        "it took {steps} steps"
    );
    assert_eq!(board.machine.check(), Ok(()));
}
