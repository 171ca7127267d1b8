//! Groups of tasks: they take turns, and no more of each go on or start than may.

use std::time::Duration;

use super::common::done;
use super::recovery::holds;
use super::{BLOCKS, Board, STOPS};
use crate::engine::{Audience, LinkId, Submission, work};
use crate::error::Refusal;
use crate::limit::Limit;
use crate::payload::Payload;
use crate::stats::Reason;
use crate::task::{Options, Priority, TaskGroup, TaskId};

const SECOND: Duration = Duration::from_secs(1);

fn limit(board: &mut Board, kind: &str, limit: Limit) {
    let set = board.machine.set_limit(board.now, &kind.into(), limit);
    set.unwrap();
    board.settle_down();
}

fn one_each() -> Limit {
    Limit::new().each_group(Limit::concurrency(1))
}

fn submit_with(
    board: &mut Board,
    kind: &str,
    group: &str,
    set: impl FnOnce(&mut Options),
) -> TaskId {
    board.submit_with(kind, |it| {
        let mut options = Options {
            group: Some(group.into()),
            ..Options::default()
        };
        set(&mut options);
        it.options = Some(Box::new(options));
    })
}

fn submit(board: &mut Board, group: &str) -> TaskId {
    submit_with(board, STOPS, group, |_| {})
}

fn many(board: &mut Board, group: &str, count: usize) -> Vec<TaskId> {
    (0..count).map(|_| submit(board, group)).collect()
}

#[test]
fn g6_groups_of_one_kind_and_priority_take_turns() {
    let mut board = Board::new();
    let a = many(&mut board, "a", 5);
    let b = many(&mut board, "b", 2);
    let plain = [board.submit(STOPS), board.submit(STOPS)];
    let urgent = submit_with(&mut board, STOPS, "a", |it| it.priority = Priority::HIGH);
    let late = many(&mut board, "c", 1);
    board.join_large("large", 1);
    let turns = [
        urgent, a[0], b[0], plain[0], late[0], a[1], b[1], plain[1], a[2], a[3], a[4],
    ];
    assert_eq!(board.placed(), turns);
}

#[test]
fn g6_a_group_of_one_kind_does_not_pass_older_tasks_of_another() {
    let mut board = Board::new();
    let first = submit(&mut board, "a");
    let other = board.submit(BLOCKS);
    let second = submit(&mut board, "b");
    board.join_large("large", 1);
    assert_eq!(board.placed(), [first, other, second]);
}

#[test]
fn g6_a_group_that_has_started_one_goes_behind_all_others() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let a = many(&mut board, "a", 6);
    assert_eq!(board.placed(), a[..2]);
    let b = many(&mut board, "b", 2);
    let c = many(&mut board, "c", 1);
    let mut running: Vec<_> = a[..2].to_vec();
    for next in [a[2], b[0], c[0], a[3], b[1], a[4]] {
        board.end(running.remove(0), done(), false);
        assert_eq!(board.placed().last(), Some(&next));
        running.push(next);
    }
}

#[test]
fn no_more_of_a_group_go_on_at_once_than_may_and_no_worker_idles_for_it() {
    let mut board = Board::new();
    limit(&mut board, STOPS, one_each());
    board.join_large("large", 1);
    let a = many(&mut board, "a", 3);
    let b = many(&mut board, "b", 2);
    let plain = [board.submit(STOPS), board.submit(STOPS)];
    let same_name = submit_with(&mut board, BLOCKS, "a", |_| {});
    assert_eq!(board.placed(), [a[0], b[0], plain[0], plain[1], same_name]);
    assert_eq!(board.why(a[1]), Some(Reason::GroupAtLimit { limit: 1 }));
    let told = &board.machine.stats(board.now).limits[0];
    assert_eq!((told.going, told.waiting), (4, 3));
    board.end(a[0], done(), false);
    assert_eq!(board.placed().last(), Some(&a[1]));
    board.cancel(a[2]);
    board.end(a[1], done(), false);
    board.end(b[0], done(), false);
    assert_eq!(board.placed().last(), Some(&b[1]));
    assert_eq!(board.placed().len(), 7);
}

#[test]
fn a_kind_and_its_groups_are_limited_together() {
    let mut board = Board::new();
    limit(
        &mut board,
        STOPS,
        Limit::concurrency(3).each_group(Limit::concurrency(2)),
    );
    board.join_large("large", 1);
    let a = many(&mut board, "a", 3);
    let b = many(&mut board, "b", 3);
    assert_eq!(board.placed(), [a[0], a[1], b[0]]);
    assert_eq!(board.why(a[2]), Some(Reason::AtLimit { limit: 3 }));
    board.end(b[0], done(), false);
    assert_eq!(board.placed().last(), Some(&b[1]));
    board.end(a[0], done(), false);
    assert_eq!(board.placed().len(), 5);
}

#[test]
fn a_kind_that_has_something_left_waits_for_its_groups() {
    let mut board = Board::new();
    let each = Limit::concurrency(1);
    limit(&mut board, STOPS, each.each_group(each));
    board.join_large("large", 1);
    let a = many(&mut board, "a", 2);
    assert_eq!(board.why(a[1]), Some(Reason::AtLimit { limit: 1 }));
    limit(&mut board, STOPS, Limit::concurrency(2).each_group(each));
    assert_eq!(board.why(a[1]), Some(Reason::GroupAtLimit { limit: 1 }));
    let b = many(&mut board, "b", 1);
    assert_eq!(board.placed(), [a[0], b[0]]);
}

#[test]
fn starts_of_each_group_come_evenly_and_it_is_forgotten_when_all_is_over() {
    let mut board = Board::new();
    let each = Limit::new().rate(1, SECOND).burst(2);
    limit(&mut board, STOPS, Limit::new().each_group(each));
    board.join_large("large", 1);
    let a = many(&mut board, "a", 4);
    let b = many(&mut board, "b", 1);
    assert_eq!(board.placed(), [a[0], a[1], b[0]]);
    let remaining = SECOND;
    assert_eq!(board.why(a[2]), Some(Reason::GroupRateUsedUp { remaining }));
    board.wait(SECOND);
    assert_eq!(board.placed().last(), Some(&a[2]));
    board.wait(SECOND);
    assert_eq!(board.placed().last(), Some(&a[3]));
    for task in a.into_iter().chain(b) {
        board.end(task, done(), false);
    }
    assert_eq!(
        board.machine.catalogue.known_groups(),
        1,
        "what was used of its rate counts"
    );
    board.wait(SECOND * 2);
    assert_eq!(board.machine.catalogue.known_groups(), 0);
}

#[test]
fn names_of_groups_come_and_go() {
    let mut board = Board::new();
    board.join_large("large", 1);
    for limited in [false, true] {
        if limited {
            limit(&mut board, STOPS, one_each());
        }
        for number in 0..100 {
            let task = submit(&mut board, &number.to_string());
            board.end(task, done(), false);
            assert!(board.machine.catalogue.known_groups() <= 1);
        }
        board.settle_down();
        assert_eq!(board.machine.catalogue.known_groups(), 0);
    }
}

#[test]
fn a_limit_of_groups_is_changed_while_tasks_run_and_taken_away() {
    let mut board = Board::new();
    board.join_large("large", 1);
    let first = many(&mut board, "a", 2);
    limit(&mut board, STOPS, one_each());
    let waits = many(&mut board, "a", 3);
    assert_eq!(board.placed(), first);
    board.end(first[0], done(), false);
    assert_eq!(board.placed(), first, "one still goes on");
    limit(
        &mut board,
        STOPS,
        Limit::new().each_group(Limit::concurrency(2)),
    );
    assert_eq!(board.placed().last(), Some(&waits[0]));
    limit(&mut board, STOPS, Limit::concurrency(3));
    assert_eq!(board.placed().last(), Some(&waits[1]));
    limit(&mut board, STOPS, Limit::new());
    assert_eq!(board.placed().last(), Some(&waits[2]));
}

#[test]
fn what_was_sent_ahead_of_a_group_is_asked_back_when_more_of_it_go_on_than_may() {
    let (mut board, _) = Board::with_fast_node();
    board.assigned.clear();
    let groups = ["a", "b", "a", "b", "a", "a"];
    let tasks = groups.map(|group| submit(&mut board, group));
    let alone = board.submit(STOPS);
    let runs = tasks.map(|task| board.assignment(task));
    assert!(runs[2..].iter().all(|(_, run)| run.prefetched));
    let each = |most| Limit::new().each_group(Limit::concurrency(most));
    limit(&mut board, STOPS, each(4));
    board.wait(Duration::from_millis(1));
    assert_eq!(board.retracted, [], "no more than may");
    limit(&mut board, STOPS, each(2));
    board.wait(Duration::from_millis(1));
    let ahead = [2, 4, 5].map(|index: usize| (runs[index].0, runs[index].1.dispatch));
    assert_eq!(board.retracted, ahead, "of group b no more than may");
    board.assigned.clear();
    for (link, run) in [2, 4, 5].map(|index: usize| &runs[index]) {
        board.give_back(*link, run.task, run.dispatch);
    }
    assert_eq!(board.placed(), tasks[2..3], "as many as may");
    assert_eq!(board.why(tasks[4]), Some(Reason::GroupAtLimit { limit: 2 }));
    let node = "first".into();
    assert_eq!(
        board.why(alone),
        Some(Reason::Prefetched { node }),
        "it stays"
    );
}

#[test]
fn a_run_that_was_given_up_counts_against_its_group() {
    let mut board = Board::new();
    limit(&mut board, BLOCKS, one_each());
    let link = board.join("first", 1, Vec::new());
    let one = submit_with(&mut board, BLOCKS, "a", |_| {});
    board.cut(link);
    board.wait(SECOND * 16);
    board.join("second", 2, Vec::new());
    let other = submit_with(&mut board, BLOCKS, "b", |_| {});
    assert_eq!(board.placed(), [one, other]);
    board.cancel(one);
    let next = submit_with(&mut board, BLOCKS, "a", |_| {});
    board.wait(SECOND * 4);
    assert_eq!(board.why(next), Some(Reason::GroupAtLimit { limit: 1 }));
    board.machine.declare_dead(board.now, "first").unwrap();
    board.settle_down();
    assert_eq!(board.placed(), [one, other, next]);
}

#[test]
fn groups_and_what_goes_on_of_each_outlast_a_kill() {
    let mut board = Board::stored(|_| {});
    limit(&mut board, STOPS, one_each());
    board.join("first", 1, Vec::new());
    let a = many(&mut board, "a", 2);
    board.wait(SECOND);
    let (_, run) = board.assignment(a[0]);
    board.restart();
    board.assigned.clear();
    board.join("second", 2, Vec::new());
    board.join("first", 1, holds(&run));
    let b = many(&mut board, "b", 1);
    board.wait(SECOND);
    assert_eq!(board.placed(), b);
    assert_eq!(board.why(a[1]), Some(Reason::GroupAtLimit { limit: 1 }));
    let left = board.machine.unfinished();
    let group = |task: TaskId| {
        let task = left.iter().find(|it| it.id == task)?;
        task.options.group.clone()
    };
    assert_eq!(group(a[1]), Some(TaskGroup::from("a")));
    board.end_of(LinkId(board.links), &run, done(), false);
    assert_eq!(board.placed(), [b[0], a[1]]);
}

#[test]
fn a_name_that_is_empty_or_too_long_is_refused() {
    let mut board = Board::new();
    let now = board.now;
    for (length, fits) in [(0, false), (1, true), (256, true), (257, false)] {
        let options = Options {
            group: Some("g".repeat(length).into()),
            ..Options::default()
        };
        let submission = Submission {
            kind: STOPS.into(),
            args: Payload::new(),
            options: Some(Box::new(options)),
            audience: Audience::Current,
            watcher: None,
        };
        let answer = board.machine.submit(now, submission);
        let option = answer.err().map(|refused| match refused.refusal {
            Refusal::InvalidOption { option, .. } => option.to_string(),
            other => other.to_string(),
        });
        assert_eq!(option.as_deref(), (!fits).then_some("group"), "{length}");
    }
}

/// Counts what 64 tasks of one group go through beside so many others at their limits, of which so
/// many tasks wait each.
fn steps_beside(groups: usize, crowd: usize) -> u64 {
    let mut board = Board::unchecked();
    limit(&mut board, STOPS, one_each());
    let mut hello = board.hello("large", 1);
    hello.workers = groups as u32 + 1;
    board.join_by(hello, Vec::new());
    for group in 0..groups {
        many(&mut board, &group.to_string(), crowd);
    }
    let mut waiting = many(&mut board, "mine", 1);
    let steps = work::steps_of(|| {
        for _ in 0..64 {
            waiting.push(submit(&mut board, "mine"));
            board.end(waiting.remove(0), done(), false);
        }
    });
    assert_eq!(board.machine.check(), Ok(()));
    steps
}

#[test]
fn g6_a_task_costs_the_same_however_many_groups_are_at_their_limits() {
    let few = steps_beside(2, 2);
    for (groups, crowd) in [(200, 2), (2, 200)] {
        assert_eq!(
            steps_beside(groups, crowd),
            few,
            "{groups} groups of {crowd}"
        );
    }
}
