//! What a scheduler may say is only what a node is to do for it, in order. Anything else closes its
//! link, and what runs goes on.

use super::*;
/// Makes a node that runs something, and tells it this on its link.
fn busy(message: ToNode) -> (Bench, LinkId, Vec<NodeAction>) {
    let (mut bench, link) = Bench::up(spec(2));
    assert_eq!(started(&bench.assign(link, vec![at_once(1)])).len(), 1);
    let actions = bench.say(link, message);
    (bench, link, actions)
}

fn is_a_breach(message: ToNode, words: &str) {
    let (mut bench, link, actions) = busy(message);
    let [LinkRefusal::Violation(what)] = refusals(&actions)[..] else {
        panic!("no breach: {actions:?}");
    };
    assert!(what.contains(words), "{what}");
    assert_eq!(closed(&actions), [link]);
    // What it runs is not stopped, and is held for the scheduler's next link.
    assert_eq!(bench.node.running(), 1);
    let link = bench.serve(1, welcome());
    let actions = bench.ended(0, 1, done());
    assert_eq!(reports(&actions).len(), 1, "{actions:?}");
    assert!(bench.cut(link).len() < 3);
}

#[test]
fn g11_what_comes_out_of_turn_closes_the_link_and_stops_nothing() {
    is_a_breach(hello("a", 1), "a second hello");
    is_a_breach(hello("b", 9), "a second hello");
    is_a_breach(ToNode::Welcome(Box::new(welcome())), "a second welcome");
    is_a_breach(ToNode::Acknowledge(1), "was acknowledged");
    is_a_breach(ToNode::Acknowledge(u64::MAX), "was acknowledged");
    is_a_breach(ToNode::Answer(1), "was answered");
    is_a_breach(ToNode::Answer(u64::MAX), "was answered");
}

#[test]
fn g11_nothing_starts_before_the_welcome_or_on_a_link_that_does_not_count() {
    let mut bench = Bench::new(spec(2));
    let early = bench.open(None);
    let actions = bench.assign(early, vec![at_once(1)]);
    assert!(started(&actions).is_empty());
    assert_eq!(closed(&actions), [early]);

    let greeted = bench.open(None);
    bench.say(greeted, hello("a", 1));
    let actions = bench.assign(greeted, vec![at_once(1)]);
    assert!(started(&actions).is_empty());
    assert_eq!(closed(&actions), [greeted]);

    let up = bench.serve(1, welcome());
    let stranger = bench.open(None);
    for message in [
        ToNode::Cancel(vec![d(1)]),
        ToNode::Leave,
        ToNode::Drain,
        ToNode::Workers(0),
    ] {
        let actions = bench.say(stranger, message);
        assert!(actions.len() < 4, "{actions:?}");
    }
    assert_eq!(started(&bench.assign(up, vec![at_once(1)])).len(), 1);
}

#[test]
fn g11_what_is_assigned_after_a_drain_or_a_leave_is_refused_and_never_runs() {
    for end in [ToNode::Drain, ToNode::Leave] {
        let (mut bench, link, _) = busy(end.clone());
        let actions = bench.assign(link, vec![at_once(2), prefetched(3)]);
        assert!(started(&actions).is_empty(), "{actions:?}");
        let refused = ["refused #2 Draining", "refused #3 Draining"];
        assert_eq!(told(&actions), refused, "after {end:?}");
        assert_eq!(bench.node.running(), 1);
    }
}

#[test]
fn g11_a_flood_of_links_closes_the_oldest_and_none_that_is_up() {
    let (mut bench, up) = Bench::up(spec(2));
    let mut closes = Vec::new();
    for number in 0..1000 {
        let link = LinkId(1000 + number);
        let dialled = None;
        let actions = bench.event(NodeEvent::LinkOpened {
            link,
            dialled,
            address: String::new(),
        });
        closes.extend(closed(&actions));
        bench.now = bench.now + Duration::from_nanos(1);
    }
    let oldest: Vec<_> = (0..1000 - 64).map(|number| LinkId(1000 + number)).collect();
    assert_eq!(closes, oldest);
    assert_eq!(started(&bench.assign(up, vec![at_once(1)])).len(), 1);
}

#[test]
fn g11_numbers_of_any_size_are_taken_as_they_are() {
    let longest = Terms {
        timeout: Some(Duration::MAX),
        deadline: Some(Duration::MAX),
        retry: Some(RetryPolicy::exponential(Duration::MAX, Duration::MAX).forever()),
        priority: i8::MIN,
        ..Terms::default()
    };
    let (mut bench, link) = Bench::up(spec(2));
    let odd = Assignment {
        task: TaskId::new(u64::MAX),
        dispatch: d(u64::MAX),
        attempt: u32::MAX,
        ..task(1, SOFT, false, Some(longest))
    };
    assert_eq!(started(&bench.assign(link, vec![odd.clone()])).len(), 1);
    // A number that is held starts nothing again, and a kind that is not offered is refused.
    assert!(started(&bench.assign(link, vec![odd])).is_empty());
    let unknown = bench.assign(link, vec![task(2, u16::MAX, false, None)]);
    assert!(started(&unknown).is_empty());
    assert!(
        told(&unknown).contains(&"refused #2 UnknownKind".to_owned()),
        "{unknown:?}"
    );
    bench.say(link, ToNode::Workers(u32::MAX));
    bench.say(link, ToNode::Cancel(vec![d(0), d(u64::MAX - 1)]));
    bench.after(Duration::from_secs(1));
    assert_eq!(bench.node.running(), 1);
}
