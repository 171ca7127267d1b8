//! Nodes that are dialled, over a start of the scheduler: by whose word, and where, one is dead.

use std::time::Duration;

use super::recovery::LEASE;
use super::{Board, STOPS};
use crate::engine::message::{Holding, NodeHello, ToScheduler};
use crate::engine::{Event, LinkId, NodeId, Origin, Reach};
use crate::task::TaskId;

const SECOND: Duration = Duration::from_secs(1);
const LISTED: &str = "10.0.0.1:7000";

/// Makes a node that is dialled and runs an exclusive task.
fn dialled() -> (Board, TaskId) {
    let mut board = Board::stored(|_| {});
    let added = add(&mut board, Reach::Dial(LISTED.to_owned()));
    let hello = NodeHello {
        address: LISTED.to_owned(),
        ..board.hello("first", 1)
    };
    reached(&mut board, added, 100, LISTED, hello);
    let task = board.submit_exclusive(STOPS);
    board.assignment(task);
    board.wait(SECOND);
    (board, task)
}

fn add(board: &mut Board, reach: Reach) -> NodeId {
    let added = board.machine.add_node(board.now, "first".into(), reach);
    board.settle_down();
    added.expect("nobody else has named it")
}

fn reached(board: &mut Board, node: NodeId, link: u64, peer: &str, hello: NodeHello) {
    let link = LinkId(link);
    board.event(Event::LinkOpened {
        link,
        origin: Origin::Dialled(node),
        peer: peer.to_owned(),
    });
    board.say(link, ToScheduler::Hello(Box::new(hello)));
    let nothing = Holding {
        last: true,
        ..Holding::default()
    };
    board.say(link, ToScheduler::Holding(nothing));
}

fn refused(board: &mut Board, node: NodeId) {
    board.event(Event::DialFailed {
        node,
        refused: true,
        reason: "nobody listens there".to_owned(),
    });
}

#[test]
fn g8_a_refusal_where_a_node_was_found_in_the_term_before_proves_its_death() {
    let (mut board, task) = dialled();
    board.restart();
    let node = add(&mut board, Reach::Dial(LISTED.to_owned()));
    assert_eq!(board.found_at.last(), Some(&Some(LISTED.to_owned())));
    refused(&mut board, node);
    board.join("second", 2, Vec::new());
    board.assignment(task);
}

#[test]
fn g10_what_happens_at_another_address_says_nothing_of_the_process_before() {
    for refusal_means_dead in [None, Some(true)] {
        let (mut board, task) = dialled();
        board.restart();
        let node = add(&mut board, Reach::Dial("10.0.0.2:7000".to_owned()));
        board.machine.believe_refusals(node, refusal_means_dead);
        refused(&mut board, node);
        board.wait(5 * SECOND);
        let hello = NodeHello {
            address: "10.0.0.2:7000".to_owned(),
            ..board.hello("first", 2)
        };
        reached(&mut board, node, 300, "10.0.0.2:7000", hello);
        board.wait(LEASE - 6 * SECOND);
        assert!(board.assigned.is_empty());
        board.wait(2 * SECOND);
        board.assignment(task);
    }
}

#[test]
fn g9_a_node_that_only_the_store_knows_is_dialled_until_its_lease_ends() {
    let (mut board, _) = dialled();
    board.dials.clear();
    board.restart();
    board.settle_down();
    assert_eq!(board.dials, [LISTED]);
    refused(&mut board, NodeId(0));
    assert!(board.machine.stats(board.now).nodes.is_empty());
    board.wait(LEASE);
    assert_eq!(board.dials, [LISTED]);
    // It is forgotten by now, and may be added as any other.
    let (mut board, task) = dialled();
    board.restart();
    let hello = board.hello("first", 1);
    reached(&mut board, NodeId(0), 200, LISTED, hello);
    board.wait(2 * LEASE);
    board.assignment(task);
    assert_eq!(board.machine.stats(board.now).nodes.len(), 1);
}

#[test]
fn g9_a_node_may_be_named_after_it_has_answered_or_was_lost() {
    let listed = Reach::Dial(LISTED.to_owned());
    for answers in [true, false] {
        let (mut board, _) = dialled();
        board.restart();
        // It is dialled as soon as its record is read, which is before anybody names it.
        if answers {
            let hello = NodeHello {
                address: LISTED.to_owned(),
                ..board.hello("first", 1)
            };
            reached(&mut board, NodeId(0), 200, LISTED, hello);
        } else {
            refused(&mut board, NodeId(0));
        }
        let node = add(&mut board, listed.clone());
        assert_eq!(node, NodeId(0));
        let again = board
            .machine
            .add_node(board.now, "first".into(), listed.clone());
        assert!(again.is_err(), "it was named before");
        board.machine.remove_node(board.now, "first").unwrap();
        let again = board
            .machine
            .add_node(board.now, "first".into(), listed.clone());
        assert_ne!(again.ok(), Some(NodeId(0)), "its removal is not taken back");
    }
}

#[test]
fn g10_a_node_of_the_scheduler_s_own_process_takes_the_name_of_one_that_is_cut_off() {
    let (mut board, task) = dialled();
    board.restart();
    let node = add(&mut board, Reach::Local);
    let hello = board.hello("first", 2);
    board.dialled(node, LinkId(300), hello);
    board.wait(LEASE - SECOND);
    assert!(board.assigned.is_empty());
    board.wait(3 * SECOND);
    board.assignment(task);
}

#[test]
fn a_longer_lease_of_an_earlier_term_holds_until_nobody_goes_by_it_and_no_longer() {
    let mut board = Board::stored(|config| config.lease = 4 * LEASE);
    board.join("first", 1, Vec::new());
    board.restart_with(Duration::ZERO, |config| config.lease = LEASE);
    board.wait(SECOND);
    assert_eq!(board.machine.timing().lease, 4 * LEASE);
    let outlive = board.machine.timing().outlive;
    board.wait(4 * LEASE + outlive + 5 * SECOND);
    board.submit(STOPS);
    board.settle_down();
    assert_eq!(board.machine.timing().lease, LEASE);
    board.restart();
    assert_eq!(board.machine.timing().lease, LEASE, "it is written down");
}
