//! How soon a scheduler finds out what a broken link means.

use std::time::Duration;

use callboard::config::SchedulerConfig;
use callboard::engine::message::{Holding, NodeHello, ToScheduler};
use callboard::engine::scheduler::SchedulerMachine;
use callboard::engine::{
    Action, Epoch, Event, Life, LinkId, NodeId, Note, Origin, Reach, Timestamp,
};

const START: Timestamp = Timestamp(1_000_000_000_000);
const LINK: LinkId = LinkId(1);

fn take(machine: &mut SchedulerMachine, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    machine.take_effects(now, &mut actions);
    actions
}

fn dials(actions: &[Action]) -> usize {
    let dial = |action: &&Action| matches!(action, Action::Dial { .. });
    actions.iter().filter(dial).count()
}

/// A scheduler with one listed node that is up.
fn with_node() -> (SchedulerMachine, NodeId) {
    let mut machine =
        SchedulerMachine::new("test".into(), Life(1), SchedulerConfig::default(), START);
    let node = machine
        .add_node(START, "slave1".into(), Reach::Dial("10.0.0.2:7000".into()))
        .expect("the name is free");
    assert_eq!(dials(&take(&mut machine, START)), 1);
    machine.handle(
        START,
        Event::LinkOpened {
            link: LINK,
            origin: Origin::Dialled(node),
        },
    );
    let hello = NodeHello::new("slave1", Epoch(1));
    let held = Holding {
        last: true,
        ..Holding::default()
    };
    for message in [ToScheduler::Hello(hello), ToScheduler::Holding(held)] {
        machine.handle(
            START,
            Event::Message {
                link: LINK,
                message,
            },
        );
    }
    let up = |action: &Action| matches!(action, Action::Note(Note::NodeUp { .. }));
    assert!(take(&mut machine, START).iter().any(up));
    (machine, node)
}

fn fail(machine: &mut SchedulerMachine, now: Timestamp, node: NodeId, refused: bool) {
    let reason = "as the test says".to_owned();
    machine.handle(
        now,
        Event::DialFailed {
            node,
            refused,
            reason,
        },
    );
}

#[test]
fn g8_a_process_that_closes_its_port_after_its_link_is_known_dead_within_fifty_milliseconds() {
    let (mut machine, node) = with_node();
    let mut now = START + Duration::from_secs(1);
    let reason = "the peer closed the connection".to_owned();
    machine.handle(now, Event::LinkClosed { link: LINK, reason });
    assert_eq!(dials(&take(&mut machine, now)), 1, "it dials at once");
    // The port was still there, but nobody was behind it.
    fail(&mut machine, now, node, false);
    while dials(&take(&mut machine, now)) == 0 {
        now = machine.next_wakeup().unwrap().max(now);
    }
    fail(&mut machine, now, node, true);
    let lost = |action: &Action| matches!(action, Action::Note(Note::NodeLost { .. }));
    assert!(take(&mut machine, now).iter().any(lost));
    let took = now.since(START + Duration::from_secs(1));
    assert!(took <= Duration::from_millis(50), "it took {took:?}");
}

#[test]
fn g8_a_node_that_stays_away_is_dialled_each_half_second() {
    let (mut machine, node) = with_node();
    let mut now = START + Duration::from_secs(1);
    let reason = "the connection failed".to_owned();
    machine.handle(now, Event::LinkClosed { link: LINK, reason });
    let mut dialled = Vec::new();
    while dialled.len() < 20 {
        if dials(&take(&mut machine, now)) == 1 {
            dialled.push(now);
            fail(&mut machine, now, node, false);
        } else {
            now = machine.next_wakeup().unwrap().max(now);
        }
    }
    for pair in dialled[10..].windows(2) {
        assert_eq!(pair[1].since(pair[0]), Duration::from_millis(500));
    }
}

#[test]
fn g8_a_dial_that_hangs_is_followed_by_another_at_once() {
    let (mut machine, node) = with_node();
    let mut now = START + Duration::from_secs(1);
    let reason = "the connection failed".to_owned();
    machine.handle(now, Event::LinkClosed { link: LINK, reason });
    for _ in 0..20 {
        assert_eq!(dials(&take(&mut machine, now)), 1, "it dials at once");
        now = now + Duration::from_secs(1);
        fail(&mut machine, now, node, false);
        let next = machine.next_wakeup().unwrap().max(now);
        assert!(next.since(now) <= Duration::from_millis(1));
        now = next;
    }
}
