//! What a comparison says of the runs of a node that has forgotten its scheduler, and of one that
//! has not.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS};
use crate::engine::message::{Beat, End, NodeHello, Report, ToScheduler};
use crate::engine::{Event, LinkId, Memory, NodeId, Reach};
use crate::error::NodeError;
use crate::status::CancelAnswer;
use crate::task::TaskId;

const FIRST: NodeId = NodeId(0);

/// Returns the hello of the node's only process, which has this memory.
fn remembers(board: &mut Board, memory: u64, out_of_reach: u32) -> NodeHello {
    NodeHello {
        memory: Memory(memory),
        out_of_reach,
        ..board.hello("first", 1)
    }
}

fn returns(board: &mut Board, memory: u64, out_of_reach: u32) -> LinkId {
    let hello = remembers(board, memory, out_of_reach);
    let link = board.join_by(hello, Vec::new());
    assert_eq!(board.machine.check(), Ok(()));
    link
}

/// Makes a board whose node's link has broken under an exclusive task, and which has forgotten it
/// when it returns. A handler keeps a worker there.
fn forgot(kind: &str) -> (Board, TaskId, LinkId) {
    let mut board = Board::new();
    let link = returns(&mut board, 1, 0);
    let task = board.submit_exclusive(kind);
    assert_eq!(board.assigned.len(), 1);
    board.cut(link);
    let link = returns(&mut board, 2, 1);
    assert_eq!(board.assigned.len(), 1, "{kind} runs twice at once");
    (board, task, link)
}

/// Lets time go by while the node beats.
fn beats(board: &mut Board, link: LinkId, seconds: std::ops::RangeInclusive<u64>) {
    for number in seconds {
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
    assert_eq!(board.machine.check(), Ok(()));
}

fn out_of_reach(board: &mut Board, link: LinkId, workers: u32) {
    let task = None;
    let report = Report::Stalled { workers, task };
    board.say(link, ToScheduler::Reports(vec![report]));
    assert_eq!(board.machine.check(), Ok(()));
}

fn held(board: &Board) -> usize {
    board.machine.stats(board.now).held
}

#[test]
fn g9_what_a_node_does_not_name_that_has_forgotten_nothing_was_never_started() {
    for kind in [STOPS, BLOCKS] {
        let mut board = Board::new();
        let link = returns(&mut board, 1, 0);
        let task = board.submit_exclusive(kind);
        board.cut(link);
        let link = returns(&mut board, 1, 1);
        assert_eq!((board.assigned.len(), board.assignment(task).0), (2, link));
    }
}

#[test]
fn g10_what_a_node_has_forgotten_may_go_on_until_its_lease_ends_or_for_as_long_as_it_blocks() {
    let (mut board, task, link) = forgot(STOPS);
    beats(&mut board, link, 1..=13);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    beats(&mut board, link, 14..=17);
    assert_eq!((held(&board), board.assignment(task).0), (0, link));

    let (mut board, _, link) = forgot(BLOCKS);
    beats(&mut board, link, 1..=600);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
}

#[test]
fn g10_a_node_frees_what_it_has_forgotten_when_it_has_no_worker_out_of_reach() {
    let (mut board, task, link) = forgot(BLOCKS);
    out_of_reach(&mut board, link, 2);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    out_of_reach(&mut board, link, 0);
    assert_eq!((held(&board), board.assignment(task).0), (0, link));

    // So does its next hello.
    let (mut board, task, link) = forgot(BLOCKS);
    board.cut(link);
    let link = returns(&mut board, 2, 0);
    assert_eq!((held(&board), board.assignment(task).0), (0, link));
}

#[test]
fn g10_a_goodbye_frees_what_a_node_has_forgotten() {
    let (mut board, task, link) = forgot(BLOCKS);
    let second = board.join("second", 2, Vec::new());
    assert_eq!(board.assigned.len(), 1);
    board.say(link, ToScheduler::Goodbye);
    assert_eq!((held(&board), board.assignment(task).0), (0, second));
    assert!(board.machine.roster.nodes[0].past.is_empty());
}

#[test]
fn g10_whoever_removes_a_node_that_has_forgotten_waits_for_its_goodbye() {
    let (mut board, task, link) = forgot(BLOCKS);
    let second = board.join("second", 2, Vec::new());
    assert_eq!(board.machine.remove_node(board.now, "first"), Ok(()));
    board.settle_down();
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    // It has parted, its goodbye was lost, and so it has forgotten that it was told to leave.
    board.cut(link);
    let link = returns(&mut board, 3, 1);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    assert_eq!(board.said.last(), Some(&"leave"));
    board.say(link, ToScheduler::Goodbye);
    assert_eq!((held(&board), board.assignment(task).0), (0, second));
    assert!(board.machine.roster.leaving.is_empty());
}

#[test]
fn g10_no_operator_declares_dead_what_a_node_that_is_heard_has_forgotten() {
    let (mut board, task, link) = forgot(BLOCKS);
    let declared = board.machine.declare_dead(board.now, "first");
    assert_eq!(declared, Err(NodeError::Alive("first".to_owned())));
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    let second = board.join("second", 2, Vec::new());
    board.cut(link);
    assert_eq!(board.machine.declare_dead(board.now, "first"), Ok(()));
    board.settle_down();
    assert_eq!((held(&board), board.assignment(task).0), (0, second));
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn g10_what_a_dialled_node_has_forgotten_ends_with_its_process_and_no_sooner() {
    let mut board = Board::new();
    let reach = Reach::Dial("127.0.0.1:1".to_owned());
    let added = board.machine.add_node(board.now, "first".into(), reach);
    assert_eq!(added, Ok(FIRST));
    board.settle_down();
    let dialled = |board: &mut Board, link: u64, memory: u64| {
        let hello = remembers(board, memory, 1);
        board.dialled(FIRST, LinkId(link), hello);
    };
    dialled(&mut board, 101, 1);
    let task = board.submit_exclusive(BLOCKS);
    board.cut(LinkId(101));
    // That somebody answers at its address is no news: it is the same process.
    dialled(&mut board, 102, 2);
    assert_eq!((held(&board), board.assigned.len()), (1, 1));
    board.join("second", 2, Vec::new());
    board.cut(LinkId(102));
    let refused = Event::DialFailed {
        node: FIRST,
        refused: true,
        reason: "nobody listens".to_owned(),
    };
    board.event(refused);
    assert_eq!(held(&board), 0);
    assert_eq!(board.assignment(task).1.attempt, 1);
    assert_eq!(board.assigned.len(), 2);
}

#[test]
fn g12_a_task_that_a_node_has_forgotten_may_have_run() {
    let mut board = Board::new();
    let link = returns(&mut board, 1, 0);
    let task = board.submit(STOPS);
    board.cut(link);
    // Any other task is run again at once, and counts the loss.
    let link = returns(&mut board, 2, 0);
    assert_eq!(board.assignment(task).0, link);
    board.end(task, End::Completed(Default::default()), false);
    assert_eq!((board.told.len(), board.told[0].reroutes), (1, 1));

    let task = board.submit(STOPS);
    board.cut(link);
    board.cancel(task);
    returns(&mut board, 3, 1);
    assert_eq!(board.answers, [CancelAnswer::StillRunning]);
}

#[test]
fn g8_a_late_hello_of_a_memory_that_is_over_counts_for_nothing() {
    let mut board = Board::new();
    let early = remembers(&mut board, 1, 0);
    let link = returns(&mut board, 2, 0);
    let late = board.open();
    board.say(late, ToScheduler::Hello(Box::new(early)));
    assert_eq!(board.closed.len(), 1);
    assert_eq!(board.closed[0].0, late);
    let task = board.submit(STOPS);
    assert_eq!(board.assignment(task).0, link);
}

#[test]
fn a_node_that_has_forgotten_drains_on_if_it_was_told_to() {
    let mut board = Board::new();
    let link = returns(&mut board, 1, 0);
    assert_eq!(board.machine.drain_node(board.now, "first"), Ok(()));
    board.settle_down();
    board.cut(link);
    let link = returns(&mut board, 2, 0);
    assert!(board.drains.contains(&link));
}
