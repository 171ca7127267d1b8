//! Keys: who is told how a task ended that others have joined.

use super::{Board, STOPS};
use crate::engine::message::End;
use crate::engine::{Accepted, Attached, Audience, ClientId, Submission};
use crate::payload::Payload;
use crate::task::{Options, TaskId};

fn keyed(audience: Audience) -> Submission {
    let options = Options {
        key: Some("k".into()),
        ..Options::default()
    };
    Submission {
        kind: STOPS.into(),
        args: Payload::new(),
        options: Some(options.into()),
        audience,
        watcher: None,
    }
}

/// Settles a task of the `first` audience that `second` joins, and that completes.
fn settled_with(board: &mut Board, first: Audience, second: Audience) -> TaskId {
    let task = board.submit_with(STOPS, |submission| *submission = keyed(first));
    let joined = board.machine.submit(board.now, keyed(second));
    assert_eq!(joined.unwrap(), Accepted::Joined(task));
    board.join("node", 1, Vec::new());
    board.end(task, End::Completed(Payload::new()), false);
    task
}

#[test]
fn g1_a_caller_that_joins_is_answered_though_no_client_is_there_to_be_told() {
    let mut board = Board::new();
    board.machine.set_client(board.now, None);
    let task = settled_with(&mut board, Audience::Current, Audience::Caller);
    let answered: Vec<_> = board.answered.iter().map(|(it, _)| it.id).collect();
    assert_eq!(answered, [task], "the caller would wait for ever");
    assert!(!board.answered[0].1, "the next client is told too");

    board.machine.set_client(board.now, Some(ClientId(2)));
    board.settle_down();
    let told: Vec<_> = board.told.iter().map(|status| status.id).collect();
    assert_eq!(told, [task]);
    assert_eq!(board.answered.len(), 1);
}

#[test]
fn g1_whoever_joins_a_task_for_which_only_callers_wait_is_told_too() {
    for second in [Audience::Current, Audience::Client(ClientId(2))] {
        let mut board = Board::new();
        let task = settled_with(&mut board, Audience::Caller, second);
        let told: Vec<_> = board.told.iter().map(|status| status.id).collect();
        assert_eq!(told, [task], "{second:?} has an id and no status");
        let answered: Vec<_> = board.answered.iter().map(|(it, _)| it.id).collect();
        assert_eq!(answered, [task], "the first caller is answered still");
    }
}

#[test]
fn g1_whoever_attaches_to_a_task_is_answered_beside_its_client() {
    let mut board = Board::new();
    let task = board.submit(STOPS);
    let attached = board.machine.attach(board.now, task);
    assert!(matches!(attached, Attached::Waits), "{attached:?}");
    board.join("node", 1, Vec::new());
    board.end(task, End::Completed(Payload::new()), false);
    let told: Vec<_> = board.told.iter().map(|status| status.id).collect();
    let answered = board.answered.iter();
    let answered: Vec<_> = answered.map(|(it, alone)| (it.id, *alone)).collect();
    assert_eq!((told, answered), (vec![task], vec![(task, false)]));
}

#[test]
fn whoever_attaches_to_a_task_that_is_over_hears_how_it_ended_while_that_is_to_be_told() {
    let mut board = Board::new();
    board.machine.set_client(board.now, None);
    let task = board.submit(STOPS);
    board.join("node", 1, Vec::new());
    board.end(task, End::Completed(Payload::new()), false);
    match board.machine.attach(board.now, task) {
        Attached::Over(Some(status)) => assert_eq!(status.id, task),
        other => panic!("{other:?}"),
    }
    board.machine.tell_nobody(board.now);
    let unknown = board.machine.attach(board.now, task);
    assert!(matches!(unknown, Attached::Over(None)), "{unknown:?}");
}
