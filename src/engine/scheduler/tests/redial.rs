//! How soon a scheduler finds out what a broken link means.

use super::*;
use crate::engine::Reach;

const START: Timestamp = Timestamp(1_000_000_000_000);
const LINK: LinkId = LinkId(1);

fn dials(actions: &[Action]) -> usize {
    let dial = |action: &&Action| matches!(action, Action::Dial { .. });
    actions.iter().filter(dial).count()
}

/// Makes a scheduler with one listed node that is up.
fn with_node() -> (DrivenScheduler, NodeId) {
    let config = SchedulerConfig::default();
    let machine = SchedulerMachine::new("test".into(), SchedulerId(1), config, START);
    let mut machine = DrivenScheduler::new(machine, Checks::EachStep);
    let node = machine
        .add_node(START, "node-1".into(), Reach::Dial("10.0.0.2:7000".into()))
        .expect("the name is free");
    assert_eq!(dials(&machine.effects(START)), 1);
    let (link, origin) = (LINK, Origin::Dialled(node));
    machine.handle(
        START,
        Event::LinkOpened {
            link,
            origin,
            peer: String::new(),
        },
    );
    let hello = NodeHello::new("node-1", Incarnation(1));
    let held = Holding {
        last: true,
        ..Holding::default()
    };
    for message in [
        ToScheduler::Hello(Box::new(hello)),
        ToScheduler::Holding(held),
    ] {
        machine.handle(START, Event::Message { link, message });
    }
    let up = |action: &Action| matches!(action, Action::Note(note) if matches!(**note, Note::NodeUp { .. }));
    assert!(machine.effects(START).iter().any(up));
    (machine, node)
}

/// Makes the same with its link broken, a second later.
fn cut() -> (DrivenScheduler, NodeId, Timestamp) {
    let (mut machine, node) = with_node();
    let now = START + Duration::from_secs(1);
    let reason = "the connection failed".to_owned();
    machine.handle(now, Event::LinkClosed { link: LINK, reason });
    (machine, node, now)
}

fn fail(machine: &mut DrivenScheduler, now: Timestamp, node: NodeId, refused: bool) {
    let failed = Event::DialFailed {
        node,
        refused,
        reason: "as the test says".to_owned(),
    };
    machine.handle(now, failed);
}

#[test]
fn g8_a_process_that_closes_its_port_after_its_link_is_known_dead_within_fifty_milliseconds() {
    let (mut machine, node, cut) = cut();
    let mut now = cut;
    assert_eq!(dials(&machine.effects(now)), 1, "it dials at once");
    // The port was still there, but nobody was behind it.
    fail(&mut machine, now, node, false);
    while dials(&machine.effects(now)) == 0 {
        now = machine.next_wakeup().unwrap();
    }
    fail(&mut machine, now, node, true);
    let lost = |action: &Action| matches!(action, Action::Note(note) if matches!(**note, Note::NodeLost { .. }));
    assert!(machine.effects(now).iter().any(lost));
    let took = now.since(cut);
    assert!(took <= Duration::from_millis(50), "it took {took:?}");
}

#[test]
fn g8_a_node_that_stays_away_is_dialled_each_half_second() {
    let (mut machine, node, mut now) = cut();
    let mut dialled = Vec::new();
    while dialled.len() < 20 {
        if dials(&machine.effects(now)) == 1 {
            dialled.push(now);
            fail(&mut machine, now, node, false);
        } else {
            now = machine.next_wakeup().unwrap();
        }
    }
    for pair in dialled[10..].windows(2) {
        assert_eq!(pair[1].since(pair[0]), Duration::from_millis(500));
    }
}

#[test]
fn g8_a_dial_that_hangs_is_followed_by_another_at_once() {
    let (mut machine, node, mut now) = cut();
    for _ in 0..20 {
        assert_eq!(dials(&machine.effects(now)), 1, "it dials at once");
        now = now + Duration::from_secs(1);
        fail(&mut machine, now, node, false);
        let next = machine.next_wakeup().unwrap().max(now);
        assert!(next.since(now) <= Duration::from_millis(1));
        now = next;
    }
}
