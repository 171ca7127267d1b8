//! What hostile values lead to: no wrap, no wait without end, no memory without bound.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS, ended};
use crate::config::NodeConfig;
use crate::engine::catalogue::SPARE_CLASSES;
use crate::engine::message::{End, HeldRun, HeldState, Holding, KindOffer, Report, ToScheduler};
use crate::engine::scheduler::hello::MAX_NODES;
use crate::engine::{ClientId, LinkId};
use crate::payload::Payload;
use crate::stats::Reason;
use crate::status::{Cause, Failure, Outcome};
use crate::task::{Dispatch, Options, TaskId};

fn again(after: Duration) -> End {
    let failure = Failure::new(Cause::Error, "no");
    End::Again {
        after,
        failure: Box::new(failure),
    }
}

fn report(board: &mut Board, link: LinkId, report: Report) {
    board.say(link, ToScheduler::Reports(vec![report]));
}

#[test]
fn g11_a_retry_after_all_time_waits_and_can_be_cancelled() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    board.end(task, again(Duration::MAX), false);
    let why = board.machine.explain(board.now, task).map(|why| why.reason);
    assert!(matches!(why, Some(Reason::Backoff { .. })), "{why:?}");
    assert_eq!(board.machine.check(), Ok(()));
    board.cancel(task);
    assert_eq!(board.told.len(), 1);
}

#[test]
fn g11_a_run_longer_than_all_time_began_no_earlier_than_it_was_assigned() {
    for ran in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
        let mut board = Board::new();
        board.machine.config.max_prefetch = 16;
        let link = board.join("first", 1, Vec::new());
        // So that the next ones are prefetched.
        let end = |board: &mut Board, task, ran| {
            let run = board
                .assigned
                .iter()
                .rev()
                .find(|(_, run)| run.task == task);
            let Some((_, run)) = run.cloned() else {
                return false;
            };
            board.reports += 1;
            let end = End::Completed(Payload::new());
            report(board, link, ended(board.reports, &run, end, ran));
            run.prefetched
        };
        for _ in 0..20 {
            let task = board.submit(STOPS);
            end(&mut board, task, Duration::from_micros(1));
        }
        let tasks: Vec<_> = (0..4).map(|_| board.submit(STOPS)).collect();
        board.told.clear();
        let mut prefetched = 0;
        for task in tasks {
            prefetched += usize::from(end(&mut board, task, ran));
        }
        assert!(prefetched > 0, "none was prefetched");
        for status in &board.told {
            assert!(status.started_at >= Some(status.accepted_at), "{status:?}");
            assert_eq!(status.node.as_deref(), Some("first"));
        }
    }
}

#[test]
fn g11_more_workers_than_a_node_may_have_are_not_believed() {
    let mut board = Board::new();
    let mut hello = board.hello("first", 1);
    hello.workers = u32::MAX;
    board.join_by(hello, Vec::new());
    let stats = board.machine.stats(board.now);
    assert_eq!(stats.nodes[0].workers, NodeConfig::MAX_WORKERS);
}

#[test]
fn g11_a_report_of_the_highest_number_leaves_nothing_to_report() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    board.reports = u64::MAX - 1;
    board.end(task, End::Stopped, false);
    let (_, run) = board.assignment(task);
    let dispatch = run.dispatch;
    let seq = u64::MAX;
    let freed = Report::Freed {
        seq,
        task,
        dispatch,
    };
    report(&mut board, link, freed);
    assert_eq!(board.machine.stats(board.now).totals.stale_reports, 1);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g11_a_task_that_has_failed_more_often_than_can_be_counted_goes_on() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let slot = board.machine.tasks.find(task).expect("it is there");
    board.machine.tasks.get_mut(slot).failed_attempts = u32::MAX - 1;
    for _ in 0..3 {
        board.end(task, again(Duration::ZERO), false);
        assert_eq!(board.assignment(task).1.attempt, u32::MAX);
    }
    board.end(task, End::Completed(Payload::new()), false);
    assert_eq!(board.told[0].attempts, u32::MAX);
}

#[test]
fn g11_a_flood_of_progress_does_not_reach_the_watcher() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit_with(STOPS, |it| it.watcher = Some(ClientId(2)));
    let (_, run) = board.assignment(task);
    let flood = |board: &mut Board| {
        board.notified = 0;
        for _ in 0..10_000 {
            let progress = Report::Progress {
                task,
                dispatch: run.dispatch,
                value: Payload::new(),
            };
            report(board, link, progress);
        }
        board.notified
    };
    let at_once = flood(&mut board);
    assert!((500..1000).contains(&at_once), "{at_once} were told");
    // Then as many as a node lets through.
    board.wait(Duration::from_secs(1));
    let in_a_second = flood(&mut board);
    assert!((90..=110).contains(&in_a_second), "{in_a_second} were told");
}

#[test]
fn g11_ever_new_names_are_refused_at_a_bound_and_known_nodes_are_not() {
    let mut board = Board::unchecked();
    for number in 0..MAX_NODES {
        let link = board.join(&format!("node {number}"), number as u64, Vec::new());
        board.cut(link);
    }
    assert!(board.closed.is_empty());
    let one_more = board.join("one more", 1, Vec::new());
    let (link, reason) = &board.closed[0];
    assert_eq!(*link, one_more);
    assert!(reason.contains("remove nodes that are gone"), "{reason}");
    board.join("node 7", 7, Vec::new());
    assert_eq!(board.closed.len(), 1);
    // A removed node makes room.
    let removed = board.machine.remove_node(board.now, "node 8");
    assert_eq!(removed, Ok(()));
    board.join("one more", 1, Vec::new());
    assert_eq!(board.closed.len(), 1);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g11_kinds_that_nobody_offers_any_more_are_forgotten() {
    let mut board = Board::new();
    let task = board.submit("wanted");
    for round in 0..100 {
        let mut hello = board.hello("first", 1);
        let kind = |kind: String| KindOffer {
            kind,
            blocking: false,
        };
        hello.kinds = (0..100).map(|at| kind(format!("{round} {at}"))).collect();
        hello.kinds.push(kind("wanted".to_owned()));
        board.join_by(hello, Vec::new());
    }
    let (known, kinds, _) = board.machine.catalogue.size();
    assert!(kinds < 300, "{kinds}");
    assert_eq!(known, 102 - 1);
    // What a task needs is still known by its name.
    board.assignment(task);
    board.join("second", 2, Vec::new());
    let stops = board.submit(STOPS);
    board.end(stops, End::Completed(Payload::new()), false);
    assert_eq!(&*board.told[0].kind.to_string(), STOPS);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g11_names_beyond_their_bound_are_refused() {
    let mut board = Board::new();
    let mut refused = 0;
    for number in 0..400u64 {
        let mut hello = board.hello(&format!("node {number}"), number);
        let kind = |at| KindOffer {
            kind: format!("{number} {at:0>240}"),
            blocking: false,
        };
        hello.kinds = (0..4096).map(kind).collect();
        board.join_by(hello, Vec::new());
        refused = board.closed.len();
        if refused > 0 {
            break;
        }
    }
    assert_eq!(refused, 1, "half a gigabyte of names was taken");
}

#[test]
fn g11_runs_that_nobody_knows_of_take_workers_and_go_with_their_node() {
    let mut board = Board::new();
    board.machine.dispatches.skip_to(1000);
    let run = |number| HeldRun {
        task: TaskId::new(number),
        dispatch: Dispatch::new(number),
        state: HeldState::Overrun,
    };
    let link = board.join("first", 1, (1..100).map(run).collect());
    assert_eq!(board.machine.unknown_runs.count(), 99);
    for (seq, number) in (1..).zip(1..50) {
        let freed = Report::Freed {
            seq,
            task: TaskId::new(number),
            dispatch: Dispatch::new(number),
        };
        report(&mut board, link, freed);
    }
    assert_eq!(board.machine.unknown_runs.count(), 50);
    board.say(link, ToScheduler::Goodbye);
    assert_eq!(board.machine.unknown_runs.count(), 0);
}

#[test]
fn g11_runs_that_are_compared_are_counted_until_they_are_whole_or_their_link_is_gone() {
    let mut board = Board::new();
    board.machine.dispatches.skip_to(1000);
    let run = |number| HeldRun {
        task: TaskId::new(number),
        dispatch: Dispatch::new(number),
        state: HeldState::Running,
    };
    let part = |last| {
        ToScheduler::Holding(Holding {
            runs: (1..100).map(run).collect(),
            last,
            ..Default::default()
        })
    };
    for whole in [false, true] {
        let link = board.open();
        let hello = board.hello("first", 1);
        board.say(link, ToScheduler::Hello(Box::new(hello)));
        // What is told twice is kept once.
        board.say(link, part(false));
        board.say(link, part(false));
        assert_eq!(board.machine.sessions.compared(), 99);
        assert_eq!(board.machine.check(), Ok(()));
        if whole {
            board.say(link, part(true));
        } else {
            board.cut(link);
        }
        assert_eq!(board.machine.sessions.compared(), 0);
    }
}

/// Loses a node of this name with an exclusive task that blocks, and gives its name to another
/// process.
fn replaced() -> (Board, TaskId, Dispatch, LinkId) {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit_with(BLOCKS, |it| {
        let options = Options {
            exclusive: true,
            ..Options::default()
        };
        it.options = Some(Box::new(options));
    });
    let (link, run) = board.assignment(task);
    board.cut(link);
    board.wait(Duration::from_secs(60));
    let link = board.join("first", 2, Vec::new());
    (board, task, run.dispatch, link)
}

#[test]
fn g10_a_new_incarnation_of_a_node_does_not_speak_for_the_old_one() {
    let is_held = |board: &Board, task| {
        let why = board.machine.explain(board.now, task).map(|why| why.reason);
        matches!(why, Some(Reason::Exclusive { .. }))
    };
    let lies: [fn(TaskId, Dispatch) -> Report; 2] = [
        |task, dispatch| Report::Freed {
            seq: 1,
            task,
            dispatch,
        },
        |task, dispatch| Report::Ended {
            seq: 1,
            task,
            dispatch,
            end: End::Completed(Payload::from(b"lie")),
            ran: Duration::from_millis(1),
            overrun: false,
        },
    ];
    for lie in lies {
        let (mut board, task, dispatch, link) = replaced();
        assert!(is_held(&board, task));
        report(&mut board, link, lie(task, dispatch));
        assert!(is_held(&board, task), "the new process spoke for the old");
        assert!(board.told.is_empty());
        let (_, reason) = &board.closed[0];
        assert!(reason.contains("an earlier process"), "{reason}");
    }
    let (mut board, task, dispatch, _) = replaced();
    let runs = vec![HeldRun {
        task,
        dispatch,
        state: HeldState::Running,
    }];
    board.join("first", 2, runs);
    assert!(is_held(&board, task), "the new process took the run over");
    assert_eq!(board.closed.len(), 2, "{:?}", board.closed);
    // An operator who knows that the old one is dead removes it.
    assert_eq!(board.machine.remove_node(board.now, "first"), Ok(()));
    board.settle_down();
    board.join("second", 3, Vec::new());
    board.end(task, End::Completed(Payload::new()), false);
    assert!(matches!(board.told[0].outcome, Outcome::Completed(_)));
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g11_a_flood_of_connections_closes_none_that_is_up() {
    let mut board = Board::unchecked();
    let first = board.join("first", 1, Vec::new());
    for _ in 0..5000 {
        let link = board.open();
        board.cut(link);
    }
    assert!(board.closed.is_empty(), "{:?}", board.closed);
    let silent: Vec<_> = (0..5000).map(|_| board.open()).collect();
    let closed: Vec<_> = board.closed.iter().map(|(link, _)| *link).collect();
    assert_eq!(closed, silent[..5000 - 4096], "the oldest ones");
    let task = board.submit(STOPS);
    assert_eq!(board.assignment(task).0, first);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn kinds_that_an_application_makes_up_are_forgotten_when_their_tasks_have_ended() {
    let mut board = Board::unchecked();
    let link = board.join("node", 1, Vec::new());
    for number in 0..10_000 {
        let exclusive = number % 3 == 1;
        let labelled = number % 3 == 2;
        let made_up = board.submit_with(&format!("made up {number}"), |submission| {
            let mut options = Options {
                exclusive,
                ..Options::default()
            };
            options.labels.extend(labelled.then(|| "gpu".to_owned()));
            submission.options = Some(Box::new(options));
        });
        board.cancel(made_up);
    }
    let (_, kinds, classes) = board.machine.catalogue.size();
    assert!(
        kinds < SPARE_CLASSES + 10 && classes < SPARE_CLASSES + 10,
        "{kinds} kinds and {classes} classes are kept"
    );
    assert_eq!(board.machine.check(), Ok(()));

    // A kind that is offered is run still, in whatever class.
    let task = board.submit(STOPS);
    assert_eq!(board.assignment(task).0, link);
    board.end(task, End::Completed(Payload::new()), false);
    assert_eq!(board.machine.check(), Ok(()));
}
