//! Dialling: when, whom, and after what.

use super::*;

#[test]
fn a_joining_node_dials_at_once_then_each_half_second_in_turn() {
    let mut bench = Bench::new(joining(&["one", "two", "one"]));
    assert_eq!(dialled(&bench.effects()), ["one"]);
    assert!(dialled(&bench.after(Duration::from_millis(499))).is_empty());
    assert_eq!(
        bench.node.next_wakeup(),
        Some(bench.now + Duration::from_millis(1))
    );
    assert_eq!(dialled(&bench.after(Duration::from_millis(1))), ["two"]);
    // Both are under way.
    assert!(dialled(&bench.after(Duration::from_secs(60))).is_empty());
    assert_eq!(bench.node.next_wakeup(), None);
    let (address, reason) = ("one".to_owned(), "no".to_owned());
    let actions = bench.event(NodeEvent::DialFailed { address, reason });
    assert_eq!(dialled(&actions), ["one"]);
    let (address, reason) = ("two".to_owned(), "no".to_owned());
    let actions = bench.event(NodeEvent::DialFailed { address, reason });
    assert!(dialled(&actions).is_empty());
    assert_eq!(dialled(&bench.after(Duration::from_millis(500))), ["two"]);
}

/// Makes a joining node whose dialled link is up.
fn joined() -> (Bench, LinkId) {
    let mut bench = Bench::new(joining(&["one"]));
    assert_eq!(dialled(&bench.effects()), ["one"]);
    let link = bench.open(Some("one"));
    bench.say(link, hello("a", 1));
    bench.say(link, ToNode::Welcome(Box::new(welcome())));
    (bench, link)
}

#[test]
fn g8_a_joined_node_dials_again_at_once_when_its_link_closes() {
    let (mut bench, link) = joined();
    assert!(dialled(&bench.after(Duration::from_secs(1))).is_empty());
    assert_eq!(dialled(&bench.cut(link)), ["one"]);
}

#[test]
fn g9_a_dial_that_hangs_takes_no_more_than_a_heartbeat_of_the_lease() {
    let within = |actions: &[NodeAction]| {
        let dials = actions.iter().filter_map(|action| match action {
            NodeAction::Dial { within, .. } => Some(*within),
            _ => None,
        });
        dials.last().expect("it dials")
    };
    let mut bench = Bench::new(joining(&["one"]));
    assert_eq!(within(&bench.effects()), None, "no lease is known");
    for (heartbeat, limit) in [(HEARTBEAT, HEARTBEAT), (HEARTBEAT / 20, HEARTBEAT / 2)] {
        let link = bench.open(Some("one"));
        bench.say(link, hello("a", 1));
        let welcome = Welcome {
            heartbeat,
            ..welcome()
        };
        bench.say(link, ToNode::Welcome(Box::new(welcome)));
        // By then the first one may be cut off, or silent.
        let mut actions = bench.after(Duration::from_secs(1));
        actions.extend(bench.cut(link));
        assert_eq!(within(&actions), Some(limit));
    }
}

#[test]
fn g8_a_joined_node_dials_a_fresh_link_after_two_silent_heartbeats() {
    let (mut bench, link) = joined();
    bench.after(Duration::from_secs(1));
    bench.event(NodeEvent::Heard { link });
    assert!(dialled(&bench.after(Duration::from_millis(3999))).is_empty());
    assert_eq!(dialled(&bench.after(Duration::from_millis(1))), ["one"]);
    let fresh = bench.open(Some("one"));
    let actions = bench.say(fresh, hello("a", 1));
    assert_eq!(closed(&actions), [link]);
    bench.say(fresh, ToNode::Welcome(Box::new(welcome())));
    assert!(dialled(&bench.after(Duration::from_secs(3))).is_empty());
}

#[test]
fn a_link_that_is_being_set_up_is_given_two_heartbeats() {
    let mut bench = Bench::new(joining(&["one"]));
    bench.effects();
    bench.open(Some("one"));
    assert!(dialled(&bench.after(Duration::from_millis(3999))).is_empty());
    assert_eq!(dialled(&bench.after(Duration::from_millis(1))), ["one"]);
}

#[test]
fn a_refused_node_tries_again_unless_it_was_replaced() {
    let (mut bench, link) = joined();
    bench.assign(link, vec![at_once(1)]);
    let name = "north".to_owned();
    let refusal = LinkRefusal::NameInUse { name: name.clone() };
    let actions = bench.say(link, ToNode::Refuse(refusal));
    assert_eq!(closed(&actions), [link]);
    assert_eq!(bench.node.running(), 1, "what runs goes on");
    let again = dialled(&actions).len() + dialled(&bench.after(Duration::from_millis(500))).len();
    assert_eq!(again, 1);

    let link = bench.open(Some("one"));
    bench.say(link, hello("a", 1));
    let actions = bench.say(link, ToNode::Refuse(LinkRefusal::Replaced { name }));
    assert_eq!(stopped(&actions), [(0, 1)]);
    assert_eq!(gone(&actions), None, "not before nothing runs");
    assert!(dialled(&bench.after(Duration::from_secs(60))).is_empty());
    assert_eq!(
        gone(&bench.ended(0, 1, End::Stopped)),
        Some(&Gone::Replaced)
    );
    assert!(bench.node.is_gone());
}
