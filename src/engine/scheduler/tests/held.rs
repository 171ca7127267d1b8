//! What is held for clients, and what goes on though there is no room for more.

use std::time::Duration;

use super::common::done;
use super::{Board, STOPS};
use crate::engine::Attached;
use crate::engine::{Action, Audience, ClientId, Event, Submission};
use crate::error::Refusal;
use crate::payload::Payload;
use crate::stats::{ClientState, Reason, StatusRoom};
use crate::task::{Options, TaskId};
use crate::testing::Checks;

/// Makes a scheduler that may hold so many statuses, with a node of two workers.
fn board(max_statuses: usize) -> Board {
    let mut board = Board::configured(Checks::EachStep, |config| {
        config.max_statuses = max_statuses
    });
    board.machine.set_client(board.now, None);
    board.join("first", 1, Vec::new());
    board
}

/// Settles so many tasks for the next client.
fn settle(board: &mut Board, tasks: usize) {
    for _ in 0..tasks {
        let task = board.submit(STOPS);
        board.end(task, done(), false);
    }
}

fn call(board: &mut Board) -> TaskId {
    board.submit_with(STOPS, |call| call.audience = Audience::Caller)
}

fn refusal(board: &mut Board) -> Refusal {
    let submission = Submission {
        kind: STOPS.into(),
        args: Payload::new(),
        options: None,
        audience: Audience::Current,
        watcher: None,
    };
    let submitted = board.machine.submit(board.now, submission);
    submitted.unwrap_err().refusal
}

/// Takes and handles all that is held, as a client.
fn catch_up(board: &mut Board, client: ClientId) {
    board.machine.set_client(board.now, Some(client));
    for action in board.machine.effects(board.now) {
        if let Action::Deliver {
            client,
            delivery,
            statuses,
        } = action
        {
            board.machine.handle(
                board.now,
                Event::Confirmed {
                    client,
                    delivery,
                    handled: 0..statuses.len(),
                },
            );
        }
    }
    board.settle_down();
}

#[test]
fn a_scheduler_without_a_client_warns_at_a_tenth_and_at_the_bound_and_again_after_it_fell() {
    let mut board = board(20);
    settle(&mut board, 19);
    assert_eq!(board.warned, [(2, StatusRoom::Low)]);
    let stats = board.machine.stats(board.now);
    assert_eq!(
        (stats.client, stats.status_room),
        (ClientState::Awaited, StatusRoom::Low)
    );
    settle(&mut board, 1);
    assert_eq!(board.warned[1..], [(20, StatusRoom::None)]);
    assert_eq!(board.machine.stats(board.now).status_room, StatusRoom::None);
    catch_up(&mut board, ClientId(2));
    let stats = board.machine.stats(board.now);
    assert_eq!(
        (stats.client, stats.status_room),
        (ClientState::Set, StatusRoom::Ample)
    );
    board.machine.set_client(board.now, None);
    settle(&mut board, 20);
    let again = [(2, StatusRoom::Low), (20, StatusRoom::None)];
    assert_eq!(board.warned[2..], again);
}

#[test]
fn a_client_that_is_behind_is_warned_of_at_the_bound_alone() {
    let mut board = board(20);
    board.machine.set_client(board.now, Some(ClientId(2)));
    settle(&mut board, 20);
    assert_eq!(board.warned, [(20, StatusRoom::None)]);
}

#[test]
fn g1_callers_are_served_while_no_client_takes_what_is_held() {
    let mut board = board(20);
    settle(&mut board, 18);
    // These have workers; the next ones wait, and then there is no room.
    let [first, second, third] = [0; 3].map(|_| board.submit(STOPS));
    board.end(first, done(), false);
    let fourth = board.assigned.last().map(|(_, run)| run.task);
    assert_eq!(fourth, Some(third));
    let waiting = board.submit(STOPS);
    board.end(second, done(), false);
    board.end(third, done(), false);
    assert_eq!(refusal(&mut board), Refusal::ClientBehind { limit: 20 });
    let why = |board: &Board, task| board.machine.explain(board.now, task).map(|it| it.reason);
    assert_eq!(why(&board, waiting), Some(Reason::ClientBehind));
    // Behind it in the queue of its kind.
    for _ in 0..3 {
        let call = call(&mut board);
        board.end(call, done(), false);
        assert_eq!(
            board.answered.last().map(|(status, _)| status.id),
            Some(call)
        );
    }
    assert_eq!(why(&board, waiting), Some(Reason::ClientBehind));
    catch_up(&mut board, ClientId(2));
    board.end(waiting, done(), false);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g1_what_a_client_joins_while_there_is_no_room_for_its_status_waits_like_its_others() {
    let mut board = board(1);
    // Both workers are taken by what is waited for.
    let busy = [0; 2].map(|_| call(&mut board));
    let key = |submission: &mut Submission| {
        submission.options = Some(Box::new(Options {
            key: Some("shared".into()),
            ..Options::default()
        }));
    };
    let shared = board.submit_with(STOPS, |it| {
        key(it);
        it.audience = Audience::Caller;
    });
    let mut joining = Submission {
        kind: STOPS.into(),
        args: Payload::new(),
        options: None,
        audience: Audience::Current,
        watcher: None,
    };
    key(&mut joining);
    board.machine.submit(board.now, joining).unwrap();
    // The status of another takes the only place, and then a worker is free.
    let cancelled = board.submit(STOPS);
    board.cancel(cancelled);
    board.end(busy[0], done(), false);
    assert!(!board.assigned.iter().any(|(_, run)| run.task == shared));
    catch_up(&mut board, ClientId(2));
    board.end(shared, done(), false);
    assert!(
        board
            .answered
            .iter()
            .any(|(it, alone)| it.id == shared && !alone)
    );
}

#[test]
fn where_nobody_wants_to_be_told_nothing_is_held_and_endings_are_counted() {
    let mut board = board(20);
    settle(&mut board, 3);
    board.machine.tell_nobody(board.now);
    settle(&mut board, 40);
    let stats = board.machine.stats(board.now);
    assert_eq!((stats.unconfirmed_statuses, stats.totals.untold), (0, 43));
    assert_eq!(stats.client, ClientState::Unwanted);
    // A client of its own is told.
    let own = board.submit_with(STOPS, |it| it.audience = Audience::Client(ClientId(9)));
    board.end(own, done(), false);
    assert_eq!(board.told.last().map(|status| status.id), Some(own));
    board.machine.handle(
        board.now,
        Event::ClientGone {
            client: ClientId(9),
        },
    );
    board.settle_down();
    assert_eq!(board.machine.stats(board.now).totals.untold, 44);
    // Who comes later is told what ends from then on.
    board.machine.set_client(board.now, Some(ClientId(2)));
    settle(&mut board, 1);
    assert_eq!(board.told.len(), 2);
}

#[test]
fn what_callers_leave_behind_fills_no_more_than_may_be_held() {
    let mut board = board(20);
    board.machine.set_client(board.now, Some(ClientId(2)));
    for _ in 0..30 {
        let call = call(&mut board);
        board.end(call, done(), false);
        let (status, _) = board.answered.pop().unwrap();
        board.event(Event::Unclaimed(status));
    }
    let stats = board.machine.stats(board.now);
    assert_eq!(
        (stats.unconfirmed_statuses, stats.totals.unclaimed),
        (20, 10)
    );
}

#[test]
fn g1_a_caller_is_answered_though_nobody_else_is_to_be_told() {
    for nobody in [false, true] {
        let mut board = Board::stored(|_| {});
        board.join("first", 1, Vec::new());
        if nobody {
            board.machine.tell_nobody(board.now);
        }
        let task = board.submit(STOPS);
        board.wait(Duration::from_secs(1));
        let attached = board.machine.attach(board.now, task);
        assert!(matches!(attached, Attached::Waits), "{attached:?}");
        board.end(task, done(), false);
        board.wait(Duration::from_secs(2));
        let answered: Vec<_> = board.answered.iter().map(|(it, _)| it.id).collect();
        assert_eq!(answered, [task], "nobody: {nobody}");
    }
}
