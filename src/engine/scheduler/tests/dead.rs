//! What proves that a process is dead: a refusal of its own machine, and not of what stands before
//! it.

use std::time::Duration;

use super::{BLOCKS, Board};
use crate::engine::message::{HeldRun, HeldState, Holding, NodeHello, Report, ToScheduler};
use crate::engine::{Event, LinkId, NodeId, Origin, Reach};
use crate::stats::NodeState;

const FIRST: NodeId = NodeId(0);
const LISTED: &str = "10.0.0.1:7000";

/// Makes a scheduler that dials the node "first", and believes this of refusals there.
fn dialling(refusal_means_dead: Option<bool>) -> Board {
    let mut board = Board::new();
    let reach = Reach::Dial(LISTED.to_owned());
    let added = board.machine.add_node(board.now, "first".into(), reach);
    assert_eq!(added, Ok(FIRST));
    board.machine.believe_refusals(FIRST, refusal_means_dead);
    board.settle_down();
    board
}

/// Opens a link whose other end is at `peer`, and at `address` as the node sees it.
fn opens(board: &mut Board, link: u64, origin: Origin, peer: &str, hello: NodeHello) -> LinkId {
    let link = LinkId(link);
    board.event(Event::LinkOpened {
        link,
        origin,
        peer: peer.to_owned(),
    });
    board.say(link, ToScheduler::Hello(Box::new(hello)));
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

/// Returns whether the node is believed dead when its link breaks and a dial is refused.
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

/// Returns where a node is probed that has dialled in from `peer`.
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

/// Makes a board where the node "first" was dialled, runs an exclusive task that blocks, and has
/// been silent; another process has joined under its name. Returns the link of that one.
fn replaced_by_one_that_joined(address: &str, refusal_means_dead: Option<bool>) -> (Board, LinkId) {
    let mut board = dialling(refusal_means_dead);
    let hello = at(&mut board, 1, address);
    let link = opens(&mut board, 101, Origin::Dialled(FIRST), LISTED, hello);
    board.submit_exclusive(BLOCKS);
    board.cut(link);
    board.wait(Duration::from_secs(5));
    let joined = board.join("first", 2, Vec::new());
    assert_eq!(board.machine.stats(board.now).held, 1);
    let dials = board.dials.len();
    board.event(Event::DialFailed {
        node: FIRST,
        refused: false,
        reason: "no answer".to_owned(),
    });
    board.wait(Duration::from_millis(500));
    assert_eq!(board.dials[dials..], [LISTED], "nobody asks for it");
    (board, joined)
}

/// Checks that the node is up by its link, whoever else was asked, and counts the tasks that are
/// held.
fn held_while_up(board: &Board, joined: LinkId) -> usize {
    let stats = board.machine.stats(board.now);
    let node = &stats.nodes[0];
    assert_eq!((node.state, &*node.reason), (NodeState::Up, ""));
    assert!(board.closed.iter().all(|(link, _)| *link != joined));
    stats.held
}

#[test]
fn g10_a_process_that_was_dialled_is_asked_for_when_another_has_joined_in_its_place() {
    let (mut board, joined) = replaced_by_one_that_joined(LISTED, None);
    refused(&mut board);
    assert_eq!(held_while_up(&board, joined), 0);

    // It lives, and runs nothing any more.
    let (mut board, joined) = replaced_by_one_that_joined(LISTED, None);
    let hello = at(&mut board, 1, LISTED);
    opens(&mut board, 102, Origin::Dialled(FIRST), LISTED, hello);
    assert_eq!(held_while_up(&board, joined), 0);

    // It goes on, and is asked no more while it is heard.
    let (mut board, joined) = replaced_by_one_that_joined(LISTED, None);
    let (_, run) = board.assigned[0].clone();
    let hello = at(&mut board, 1, LISTED);
    let link = LinkId(102);
    board.event(Event::LinkOpened {
        link,
        origin: Origin::Dialled(FIRST),
        peer: LISTED.to_owned(),
    });
    board.say(link, ToScheduler::Hello(Box::new(hello)));
    let holding = Holding {
        runs: vec![HeldRun {
            task: run.task,
            dispatch: run.dispatch,
            state: HeldState::Running,
        }],
        last: true,
        ..Holding::default()
    };
    board.say(link, ToScheduler::Holding(holding));
    let dials = board.dials.len();
    board.wait(Duration::from_secs(2));
    assert_eq!(
        (held_while_up(&board, joined), board.dials.len()),
        (1, dials)
    );
    let ended = Report::Freed {
        seq: 1,
        task: run.task,
        dispatch: run.dispatch,
    };
    board.say(link, ToScheduler::Reports(vec![ended]));
    assert_eq!(held_while_up(&board, joined), 0);
    board.wait(Duration::from_secs(1));
    assert_eq!(board.dials.len(), dials, "nobody waits for it any more");
}

#[test]
fn g10_an_operator_decides_whether_a_refused_dial_proves_a_replaced_process_dead() {
    // It listens behind a forwarder, so the address at which it was found says nothing.
    for (refusal_means_dead, held) in [(Some(true), 0), (None, 1), (Some(false), 1)] {
        let (mut board, joined) = replaced_by_one_that_joined("127.0.0.1:9", refusal_means_dead);
        refused(&mut board);
        assert_eq!(
            held_while_up(&board, joined),
            held,
            "{refusal_means_dead:?}"
        );
    }
}

#[test]
fn g10_a_third_process_proves_dead_the_one_in_whose_place_it_listens() {
    const FORWARDED: &str = "127.0.0.1:9";
    // Behind a forwarder it says nothing of the first one, unless an operator decides that it does.
    for (address, refusal_means_dead, held) in [
        (LISTED, None, 0),
        (FORWARDED, None, 1),
        (FORWARDED, Some(true), 0),
        (LISTED, Some(false), 1),
    ] {
        let (mut board, joined) = replaced_by_one_that_joined(address, refusal_means_dead);
        let hello = at(&mut board, 3, address);
        opens(&mut board, 102, Origin::Dialled(FIRST), LISTED, hello);
        assert_eq!(held_while_up(&board, joined), held, "{address}");
        let dials = board.dials.len();
        board.wait(Duration::from_secs(1));
        assert_eq!(board.dials.len(), dials + held, "{address}");
    }
}

#[test]
fn g8_each_replaced_process_is_probed_in_turn() {
    let mut board = Board::new();
    // Each at a host of its own, and nobody hears of its end.
    for incarnation in 1..=3 {
        let host = format!("10.0.0.{incarnation}");
        let address = format!("{host}:40000");
        let hello = NodeHello {
            probe: Some("7001".to_owned()),
            ..at(&mut board, incarnation, &address)
        };
        let link = 100 + incarnation;
        let link = opens(&mut board, link, Origin::Came(host), &address, hello);
        board.submit_exclusive(BLOCKS);
        board.cut(link);
        board.wait(Duration::from_secs(60));
    }
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let (node, incarnation) = *board.probes.last().unwrap();
        asked.insert(incarnation);
        let refused = false;
        board.event(Event::Probed {
            node,
            incarnation,
            refused,
        });
        board.wait(Duration::from_secs(1));
    }
    assert_eq!(asked.len(), 3, "{asked:?}");
}
