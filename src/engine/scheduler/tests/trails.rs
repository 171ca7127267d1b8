//! The trails of tasks.

use std::time::Duration;

use super::{Board, STOPS};
use crate::engine::message::{End, HeldRun, HeldState, Report, ToScheduler};
use crate::payload::Payload;
use crate::status::{Cause, Failure};
use crate::task::TaskId;
use crate::trail::TaskTrail;

const SECOND: Duration = Duration::from_secs(1);
const BEYOND_THE_LEASE: Duration = Duration::from_secs(20);

fn fail(board: &mut Board, task: TaskId, message: &str) {
    let failure = Box::new(Failure::new(Cause::Error, message));
    let after = SECOND;
    board.end(task, End::Again { after, failure }, false);
}

fn trail(board: &Board, task: TaskId) -> TaskTrail {
    board.machine.trail(task)
}

#[test]
fn attempts_are_told_with_their_node_and_why_each_came_to_nothing() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    assert_eq!(trail(&board, task), TaskTrail::default());
    let first = board.assignment(task).1;
    fail(&mut board, task, "no such image");
    let told = trail(&board, task).attempts;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&*told[0].node, told[0].dispatch),
        ("first", first.dispatch)
    );
    assert_eq!(
        (told[0].cause, &*told[0].message),
        (Cause::Error, "no such image")
    );
    assert_eq!(told[0].ran, Duration::from_millis(5));
    for number in 1..=20 {
        board.wait(SECOND);
        fail(&mut board, task, &number.to_string());
    }
    let told = trail(&board, task).attempts;
    let messages: Vec<_> = told.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(messages, ["13", "14", "15", "16", "17", "18", "19", "20"]);
    assert!(told.is_sorted_by_key(|it| it.started_at));
    // Who asks why it has failed for good asks when it has.
    board.wait(SECOND);
    board.end(task, End::Completed(Payload::new()), false);
    assert_eq!(trail(&board, task).attempts, told);
}

#[test]
fn a_lost_attempt_is_told_unless_its_run_is_the_tasks_again() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let run = board.assignment(task).1;
    board.cut(link);
    assert_eq!(trail(&board, task).attempts, [], "it may come back");
    board.wait(BEYOND_THE_LEASE);
    let told = trail(&board, task).attempts;
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].node, told[0].cause), ("first", Cause::NodeLost));
    let held = HeldRun {
        task,
        dispatch: run.dispatch,
        state: HeldState::Running,
    };
    board.join("first", 1, vec![held]);
    assert_eq!(trail(&board, task).attempts, [], "nothing was lost");
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn what_a_run_tells_on_its_way_is_remembered_until_it_is_not_its_tasks() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let run = board.assignment(task).1;
    let dispatch = run.dispatch;
    let say = |board: &mut Board, text: &str, step: u8| {
        let note = Report::Note {
            task,
            dispatch,
            text: text.into(),
        };
        let progress = Report::Progress {
            task,
            dispatch,
            value: vec![step].into(),
        };
        board.say(link, ToScheduler::Reports(vec![note, progress]));
    };
    say(&mut board, "header read", 1);
    board.wait(SECOND);
    say(&mut board, "half of it", 2);
    let told = trail(&board, task);
    let notes: Vec<_> = told.notes.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(notes, ["header read", "half of it"]);
    assert_eq!(told.notes[0].at + SECOND, told.notes[1].at);
    assert_eq!(told.progress.as_ref().unwrap().decode::<u8>().unwrap(), 2);
    fail(&mut board, task, "no");
    say(&mut board, "too late", 3);
    let after = trail(&board, task);
    assert_eq!((after.notes, after.progress), (told.notes, told.progress));
    assert_eq!(board.machine.check(), Ok(()));
}
