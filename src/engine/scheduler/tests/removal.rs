//! What becomes of a node's runs when it is taken out by hand, or declared dead.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS};
use crate::engine::message::{Beat, End, HeldRun, HeldState, Holding, Report, ToScheduler};
use crate::engine::{Event, Incarnation, LinkId, NodeId, Reach};
use crate::error::NodeError;
use crate::payload::Payload;
use crate::stats::NodeState;
use crate::task::TaskId;

const LEASE: Duration = Duration::from_secs(15);

fn remove(board: &mut Board) {
    assert_eq!(board.machine.remove_node(board.now, "first"), Ok(()));
    board.settle_down();
    assert_eq!(board.machine.check(), Ok(()));
}

fn declare_dead(board: &mut Board) -> Result<(), NodeError> {
    let declared = board.machine.declare_dead(board.now, "first");
    board.settle_down();
    assert_eq!(board.machine.check(), Ok(()));
    declared
}

fn held(board: &Board) -> usize {
    board.machine.stats(board.now).held
}

fn add_first(board: &mut Board) -> Result<NodeId, NodeError> {
    let reach = Reach::Dial("127.0.0.1:1".to_owned());
    let added = board.machine.add_node(board.now, "first".into(), reach);
    board.settle_down();
    added
}

fn running(board: &Board, task: TaskId) -> HeldRun {
    HeldRun {
        task,
        dispatch: board.assignment(task).1.dispatch,
        state: HeldState::Running,
    }
}

/// Makes a node on a link that has just broken, with an exclusive task of this kind.
fn reconnecting(kind: &str) -> (Board, TaskId) {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit_exclusive(kind);
    board.cut(link);
    (board, task)
}

/// Waits for most of a lease, while another node with free workers is up.
fn wait_for_most_of_a_lease(board: &mut Board, link: LinkId) {
    let beats = LEASE.as_secs() - 2;
    for number in 1..=beats {
        board.wait(Duration::from_secs(1));
        let answered = number - 1;
        board.say(
            link,
            ToScheduler::Beat(Beat {
                number,
                answered,
                round_trip: None,
            }),
        );
    }
}

#[test]
fn g10_a_node_that_is_removed_while_it_reconnects_frees_no_exclusive_task_before_its_lease_ends() {
    for kind in [STOPS, BLOCKS] {
        let (mut board, task) = reconnecting(kind);
        let second = board.join("second", 2, Vec::new());
        remove(&mut board);
        wait_for_most_of_a_lease(&mut board, second);
        assert_eq!((held(&board), board.assigned.len()), (1, 1), "{kind}");
        board.wait(Duration::from_secs(4));
        assert_eq!(board.assignment(task).0, second, "{kind}");
        assert_eq!(board.machine.check(), Ok(()));
        assert!(board.machine.roster.leaving.is_empty());
    }
}

#[test]
fn g10_a_node_that_is_removed_while_its_hello_is_compared_is_told_to_leave() {
    let (mut board, task) = reconnecting(BLOCKS);
    let second = board.join("second", 2, Vec::new());
    let link = board.open();
    let hello = board.hello("first", 1);
    board.say(link, ToScheduler::Hello(Box::new(hello)));
    remove(&mut board);
    let runs = vec![running(&board, task)];
    let last = true;
    let reports = Vec::new();
    board.said.clear();
    board.say(
        link,
        ToScheduler::Holding(Holding {
            runs,
            reports,
            last,
        }),
    );
    assert_eq!(board.said, ["leave"]);
    wait_for_most_of_a_lease(&mut board, second);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    board.say(link, ToScheduler::Goodbye);
    assert_eq!(board.assignment(task).0, second);
}

#[test]
fn g10_an_end_that_a_removed_node_brings_with_its_next_hello_settles_its_task() {
    let (mut board, task) = reconnecting(STOPS);
    remove(&mut board);
    let (_, run) = board.assignment(task);
    board.return_with(&run, End::Completed(Payload::new()));
    assert_eq!(board.told.len(), 1);
    assert!(board.said.contains(&"leave"));
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g10_a_removed_node_that_is_dialled_is_found_to_leave_or_to_be_dead() {
    let dialled = |incarnation: u64| {
        let mut board = Board::new();
        assert_eq!(add_first(&mut board), Ok(NodeId(0)));
        let hello = board.hello("first", 1);
        let link = LinkId(101);
        board.dialled(NodeId(0), link, hello);
        let task = board.submit_exclusive(BLOCKS);
        board.join("second", 2, Vec::new());
        board.cut(link);
        remove(&mut board);
        assert_eq!(held(&board), 1);
        if incarnation == 0 {
            board.event(Event::DialFailed {
                node: NodeId(0),
                refused: true,
                reason: "nobody listens there".to_owned(),
            });
        } else {
            let hello = board.hello("first", incarnation);
            board.said.clear();
            board.dialled(NodeId(0), LinkId(102), hello);
        }
        assert_eq!(board.machine.check(), Ok(()));
        (board, task)
    };
    // The process is still there, and holds nothing: what it was given has never started.
    let (board, _) = dialled(1);
    assert!(board.said.contains(&"leave"));
    assert_eq!(held(&board), 0);
    // A refusal, and another process at its address, prove that it is dead.
    for incarnation in [0, 2] {
        let (mut board, task) = dialled(incarnation);
        assert_eq!(
            (held(&board), board.assigned.len()),
            (0, 2),
            "{incarnation}"
        );
        assert_eq!(board.assignment(task).1.dispatch.get(), 2);
        assert!(add_first(&mut board).is_ok());
    }
}

#[test]
fn a_name_is_taken_until_the_removed_node_has_gone() {
    let (mut board, _) = reconnecting(STOPS);
    remove(&mut board);
    let taken = Err(NodeError::NameTaken("first".to_owned()));
    assert_eq!(add_first(&mut board), taken);
    board.wait(LEASE + Duration::from_secs(5));
    assert!(add_first(&mut board).is_ok());
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g10_a_node_whose_lease_is_over_is_removed_at_once() {
    let (mut board, task) = reconnecting(BLOCKS);
    board.wait(Duration::from_secs(60));
    assert_eq!(held(&board), 1);
    remove(&mut board);
    assert_eq!(held(&board), 0);
    board.join("second", 2, Vec::new());
    assert_eq!(board.assignment(task).1.dispatch.get(), 2);
}

#[test]
fn g10_a_replaced_process_outlives_the_removal_of_its_name_until_its_lease_ends() {
    let (mut board, _) = reconnecting(BLOCKS);
    // After two heartbeats another process may have the name.
    board.wait(Duration::from_secs(5));
    let link = board.join("first", 2, Vec::new());
    remove(&mut board);
    board.say(link, ToScheduler::Goodbye);
    assert_eq!(held(&board), 1);
    assert_eq!(board.machine.check(), Ok(()));
    board.wait(LEASE + Duration::from_secs(5));
    assert_eq!(held(&board), 0);
    assert_eq!(board.machine.check(), Ok(()));
    assert!(board.machine.roster.leaving.is_empty());
}

#[test]
fn g10_a_node_that_is_declared_dead_frees_its_exclusive_tasks_at_once() {
    // Reconnecting, lost, removed, and replaced.
    for stage in 0..4 {
        let (mut board, task) = reconnecting(BLOCKS);
        board.join("second", 3, Vec::new());
        match stage {
            0 => board.wait(Duration::from_secs(5)),
            1 => board.wait(Duration::from_secs(60)),
            2 => {
                board.wait(Duration::from_secs(5));
                remove(&mut board);
            }
            _ => {
                board.wait(Duration::from_secs(60));
                board.join("first", 2, Vec::new());
            }
        }
        assert_eq!(
            (held(&board), board.assigned.len()),
            (usize::from(stage > 0), 1)
        );
        assert_eq!(declare_dead(&mut board), Ok(()), "{stage}");
        assert_eq!(held(&board), 0, "{stage}");
        board.join("third", 4, Vec::new());
        assert_eq!(board.assignment(task).1.dispatch.get(), 2, "{stage}");
        let first = board.machine.stats(board.now).nodes;
        let first = first.iter().find(|node| &*node.name == "first");
        let state = first.map(|node| node.state);
        let expected = [
            Some(NodeState::Lost),
            Some(NodeState::Lost),
            None,
            Some(NodeState::Up),
        ];
        assert_eq!(state, expected[stage], "{stage}");
    }
}

#[test]
fn a_node_that_was_heard_just_now_is_not_declared_dead() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let alive = Err(NodeError::Alive("first".to_owned()));
    assert_eq!(declare_dead(&mut board), alive);
    assert_eq!(board.machine.stats(board.now).running, 1);
    board.wait(Duration::from_secs(5));
    assert_eq!(declare_dead(&mut board), Ok(()));
    assert_eq!(board.machine.stats(board.now).running, 0);
    // It was alive: what it still has is stopped, and its task was run again.
    let held = running(&board, task);
    board.join("first", 1, vec![held]);
    assert!(board.assignment(task).1.dispatch > held.dispatch);
    let unknown = board.machine.declare_dead(board.now, "none");
    assert_eq!(unknown, Err(NodeError::NotFound("none".to_owned())));
}

#[test]
fn g5_what_a_removed_node_had_said_before_takes_no_task_back_to_it() {
    for said in 0..3 {
        let mut board = Board::new();
        let link = board.join("first", 1, Vec::new());
        let task = board.submit(STOPS);
        let dispatch = board.assignment(task).1.dispatch;
        remove(&mut board);
        let report = match said {
            0 => Report::Started { task, dispatch },
            1 => Report::Progress {
                task,
                dispatch,
                value: Payload::new(),
            },
            _ => Report::Note {
                task,
                dispatch,
                text: "here".into(),
            },
        };
        board.say(link, ToScheduler::Reports(vec![report]));
        assert_eq!(board.machine.stats(board.now).running, 0);
        // Nothing more comes from there.
        let second = board.join("second", 2, Vec::new());
        assert_eq!(board.assignment(task).0, second);
        assert_eq!(board.machine.check(), Ok(()));
    }
}

/// Lets time pass where each turn comes three heartbeats after the time for which the machine had
/// asked.
fn drive_late(board: &mut Board, time: Duration) {
    let late = Duration::from_secs(6);
    let until = board.now + time;
    while let Some(asked) = board.machine.next_wakeup()
        && asked + late <= until
    {
        board.now = board.now.max(asked) + late;
        board.settle_down();
    }
}

#[test]
fn g8_a_silent_node_is_lost_within_two_leases_though_every_turn_is_late() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let beat = |number| {
        let answered = number - 1;
        ToScheduler::Beat(Beat {
            number,
            answered,
            round_trip: None,
        })
    };
    board.say(link, beat(1));
    drive_late(&mut board, 2 * LEASE);
    let state = board.machine.stats(board.now).nodes[0].state;
    assert_eq!(state, NodeState::Lost);
}

#[test]
fn g10_a_listed_process_that_a_joined_one_has_replaced_is_probed_where_it_was_dialled() {
    let mut board = Board::new();
    let reach = Reach::Dial("127.0.0.1:1".to_owned());
    let node = board.machine.add_node(board.now, "first".into(), reach);
    let node = node.expect("the name is free");
    board.settle_down();
    let (listed, hello) = (LinkId(100), board.hello("first", 1));
    board.dialled(node, listed, hello);
    let task = board.submit_exclusive(BLOCKS);
    board.cut(listed);
    board.wait(Duration::from_secs(60));
    board.join("first", 2, Vec::new());
    // Its handler blocks, so that no lease ends it; and it is not dialled any more.
    let incarnation = Incarnation(1);
    assert_eq!(board.assignment(task).0, listed);
    assert_eq!(board.probes, [(node, incarnation)]);
    let refused = true;
    board.event(Event::Probed {
        node,
        incarnation,
        refused,
    });
    assert_ne!(board.assignment(task).0, listed, "it is held for ever");
    board.wait(Duration::from_secs(60));
    assert_eq!(board.probes.len(), 1, "nothing is left to be asked");
}

#[test]
fn g10_a_replaced_process_of_a_removed_node_is_no_new_node() {
    let (mut board, task) = reconnecting(BLOCKS);
    let run = running(&board, task);
    board.wait(Duration::from_secs(5));
    let link = board.join("first", 2, Vec::new());
    remove(&mut board);
    board.say(link, ToScheduler::Goodbye);
    let link = board.join("first", 1, vec![run]);
    let stats = board.machine.stats(board.now);
    assert!(stats.nodes.is_empty(), "{:?}", stats.nodes);
    assert_eq!(held(&board), 1);
    board.say(link, ToScheduler::Goodbye);
    let (_, reason) = board.closed.last().expect("it is refused");
    assert!(reason.contains("taken its place"), "{reason}");
    assert_eq!(held(&board), 0);
    assert!(board.machine.roster.leaving.is_empty());
    assert_eq!(board.machine.check(), Ok(()));
}
