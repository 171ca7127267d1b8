//! What proves that a process is dead: a refusal of its own machine, and not of what stands before
//! it.

use std::time::Duration;

use super::{BLOCKS, Board};
use crate::engine::message::{Holding, NodeHello, ToScheduler};
use crate::engine::{Event, LinkId, NodeId, Origin, Reach};
use crate::stats::NodeState;

const FIRST: NodeId = NodeId(0);
const LISTED: &str = "10.0.0.1:7000";

/// A scheduler that dials the node "first", and believes this of refusals there.
fn dialling(refusal_means_dead: Option<bool>) -> Board {
    let mut board = Board::new();
    let reach = Reach::Dial(LISTED.to_owned());
    let added = board.machine.add_node(board.now, "first".into(), reach);
    assert_eq!(added, Ok(FIRST));
    board.machine.believe_refusals(FIRST, refusal_means_dead);
    board.settle_down();
    board
}

/// A link whose other end is at `peer`, and at `address` as the node sees it.
fn opens(board: &mut Board, link: u64, origin: Origin, peer: &str, hello: NodeHello) -> LinkId {
    let link = LinkId(link);
    board.event(Event::LinkOpened {
        link,
        origin,
        peer: peer.to_owned(),
    });
    board.say(link, ToScheduler::Hello(hello));
    let nothing = Holding {
        last: true,
        ..Holding::default()
    };
    board.say(link, ToScheduler::Holding(nothing));
    link
}

fn at(board: &mut Board, incarnation: u64, address: &str) -> NodeHello {
    NodeHello {
        address: address.to_owned(),
        ..board.hello("first", incarnation)
    }
}

fn refused(board: &mut Board) {
    board.event(Event::DialFailed {
        node: FIRST,
        refused: true,
        reason: "nobody listens there".to_owned(),
    });
}

/// Whether the node is believed dead when its link breaks and a dial is refused.
fn is_dead_when_refused(refusal_means_dead: Option<bool>, peer: &str, address: &str) -> bool {
    let mut board = dialling(refusal_means_dead);
    let hello = at(&mut board, 1, address);
    let link = opens(&mut board, 101, Origin::Dialled(FIRST), peer, hello);
    board.submit_exclusive(BLOCKS);
    board.cut(link);
    refused(&mut board);
    let held = board.machine.stats(board.now).held;
    let dead = board.machine.stats(board.now).nodes[0].state == NodeState::Lost;
    // Otherwise its lease decides, and its task is not run beside it.
    assert_eq!(held, 0);
    board.wait(Duration::from_secs(20));
    assert_eq!(board.machine.stats(board.now).held, usize::from(!dead));
    dead
}

#[test]
fn g8_a_refused_dial_proves_a_death_only_at_the_address_where_the_node_listens_itself() {
    assert!(is_dead_when_refused(None, LISTED, LISTED));
    for address in ["127.0.0.1:7000", "10.0.0.1:7001", "[fd00::1]:7000", ""] {
        assert!(!is_dead_when_refused(None, LISTED, address), "{address}");
    }
}

#[test]
fn g8_an_operator_decides_whether_a_refused_dial_proves_a_death() {
    assert!(is_dead_when_refused(Some(true), LISTED, "127.0.0.1:1"));
    assert!(!is_dead_when_refused(Some(false), LISTED, LISTED));
}

#[test]
fn g8_a_dial_asks_the_address_at_which_the_node_was_found() {
    // What is listed is a name, which stands for several addresses.
    let mut board = dialling(None);
    let hello = at(&mut board, 1, "10.0.0.2:7000");
    let dialled = Origin::Dialled(FIRST);
    let link = opens(&mut board, 101, dialled, "10.0.0.2:7000", hello);
    assert_eq!(board.found_at, [None]);
    board.cut(link);
    let found_at = Some("10.0.0.2:7000".to_owned());
    assert_eq!(board.found_at, [None, found_at]);
}

#[test]
fn g8_another_process_behind_a_forwarder_does_not_prove_the_first_one_dead() {
    for (address, dead) in [(LISTED, true), ("127.0.0.1:9", false)] {
        let mut board = dialling(None);
        let hello = at(&mut board, 1, address);
        let link = opens(&mut board, 101, Origin::Dialled(FIRST), LISTED, hello);
        let task = board.submit_exclusive(BLOCKS);
        board.cut(link);
        board.wait(Duration::from_secs(5));
        let hello = at(&mut board, 2, address);
        let link = opens(&mut board, 102, Origin::Dialled(FIRST), LISTED, hello);
        let again = board.assignment(task).0 == link;
        assert_eq!(again, dead, "{address}");
    }
}

/// Where a node is probed that has dialled in from `peer`.
fn probed(peer: &str, hello: impl FnOnce(&mut NodeHello)) -> Option<String> {
    let mut board = Board::new();
    let mut said = at(&mut board, 1, peer);
    said.probe = Some("9".to_owned());
    hello(&mut said);
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    let came = Origin::Came(host.to_owned());
    opens(&mut board, 101, came, peer, said);
    let process = board.machine.roster.nodes[0].latest_process();
    process.and_then(|process| process.probe.clone())
}

#[test]
fn g8_a_node_that_joined_through_a_translation_of_addresses_is_not_probed() {
    let peer = "10.0.0.9:40000";
    assert_eq!(probed(peer, |_| {}), Some("10.0.0.9:9".to_owned()));
    for address in ["192.168.0.2:40000", "10.0.0.9:40001", ""] {
        assert_eq!(probed(peer, |it| it.address = address.into()), None);
        let anyway = |it: &mut NodeHello| {
            it.address = address.into();
            it.refusal_means_dead = true;
        };
        assert_eq!(probed(peer, anyway), Some("10.0.0.9:9".to_owned()));
    }
}
