//! Drain, stop, leave and goodbye.

use super::*;

#[test]
fn a_drain_finishes_what_runs_and_then_says_goodbye() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), prefetched(2)]);
    assert_eq!(
        told(&bench.event(NodeEvent::Drain)),
        ["draining", "returned #2"]
    );
    assert_eq!(
        told(&bench.assign(link, vec![at_once(3)])),
        ["refused #3 Draining"]
    );
    let actions = bench.ended(0, 1, done());
    assert_eq!(told(&actions), ["completed #1"]);
    assert!(!says_goodbye(&actions), "the reports are not acknowledged");
    let actions = bench.say(link, ToNode::Acknowledge(3));
    assert!(says_goodbye(&actions));
    assert_eq!(closed(&actions), [link]);
    assert_eq!(gone(&actions), Some(&Gone::Drained));
    assert!(bench.node.is_gone());
    assert_eq!(bench.node.next_wakeup(), None);
    let link = bench.open(None);
    assert_eq!(
        refusals(&bench.say(link, hello("a", 1))),
        [&LinkRefusal::Stopping]
    );
}

#[test]
fn a_drain_waits_for_overruns_too() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.event(NodeEvent::Drain);
    bench.overrun(0, 1, End::Stopped);
    assert!(!says_goodbye(&bench.say(link, ToNode::Acknowledge(1))));
    bench.freed(0, 1);
    assert!(says_goodbye(&bench.say(link, ToNode::Acknowledge(2))));
}

#[test]
fn a_drain_by_the_scheduler_dismisses() {
    let (mut bench, link) = Bench::up(spec(1));
    let actions = bench.say(link, ToNode::Drain);
    assert!(says_goodbye(&actions));
    assert_eq!(gone(&actions), Some(&Gone::Dismissed));

    let mut bench = Bench::new(spec(1));
    let link = bench.open(None);
    bench.say(link, hello("a", 1));
    let drain = Welcome {
        drain: true,
        ..welcome()
    };
    let actions = bench.say(link, ToNode::Welcome(Box::new(drain)));
    assert_eq!(gone(&actions), Some(&Gone::Dismissed));
}

#[test]
fn a_drain_of_a_node_that_served_nobody_ends_at_once() {
    let mut bench = Bench::new(joining(&["one"]));
    assert_eq!(gone(&bench.event(NodeEvent::Drain)), Some(&Gone::Drained));
    let mut bench = Bench::new(spec(1));
    let link = bench.open(None);
    bench.say(link, hello("a", 1));
    let actions = bench.event(NodeEvent::Drain);
    assert_eq!(refusals(&actions), [&LinkRefusal::Stopping]);
    assert_eq!(gone(&actions), Some(&Gone::Drained));
}

#[test]
fn g9_a_drained_node_brings_its_results_over_a_new_link() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.event(NodeEvent::Drain);
    bench.cut(link);
    bench.ended(0, 1, done());
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    assert!(hellos(&actions)[0].draining);
    assert_eq!(holdings(&actions)[0].reports.len(), 1);
    let all = Welcome {
        acknowledged: 1,
        ..welcome()
    };
    assert!(says_goodbye(
        &bench.say(newer, ToNode::Welcome(Box::new(all)))
    ));
}

#[test]
fn a_drained_node_waits_a_lease_for_its_scheduler() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.event(NodeEvent::Drain);
    bench.ended(0, 1, done());
    bench.cut(link);
    let almost = LEASE - Duration::from_nanos(1);
    assert_eq!(gone(&bench.after(almost)), None);
    assert_eq!(
        bench.node.next_wakeup(),
        Some(bench.now + Duration::from_nanos(1))
    );
    assert_eq!(
        gone(&bench.after(Duration::from_nanos(1))),
        Some(&Gone::Drained)
    );
}

#[test]
fn a_stop_drops_what_runs() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(
        link,
        vec![at_once(1), task(2, BLOCKING, false, None), prefetched(3)],
    );
    let actions = bench.event(NodeEvent::Stop);
    assert_eq!(stopped(&actions), [(0, 1), (1, 2)]);
    assert_eq!(
        told(&actions),
        ["draining", "returned #3", "dropped #2 and goes on"]
    );
    assert_eq!(told(&bench.ended(0, 1, End::Stopped)), ["dropped #1"]);
    assert_eq!(told(&bench.ended(1, 2, End::Stopped)), ["freed #2"]);
    let actions = bench.say(link, ToNode::Acknowledge(4));
    assert_eq!(gone(&actions), Some(&Gone::Drained));
}

#[test]
fn a_leave_discards_all_work_and_says_goodbye_when_nothing_runs() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(
        link,
        vec![at_once(1), task(2, BLOCKING, false, None), prefetched(3)],
    );
    bench.say(link, ToNode::Workers(1));
    let actions = bench.say(link, ToNode::Leave);
    assert_eq!(stopped(&actions), [(0, 1), (1, 2)]);
    assert!(sent(&actions).is_empty());
    assert!(sent(&bench.ended(0, 1, End::Stopped)).is_empty());
    let actions = bench.ended(1, 2, done());
    assert!(says_goodbye(&actions) && told(&actions).is_empty());
    assert_eq!(closed(&actions), [link]);
    assert_eq!(
        gone(&actions),
        None,
        "a node that listens is free for another"
    );
    let other = bench.open(None);
    let actions = bench.say(other, hello("b", 4));
    assert_eq!(
        hellos(&actions)[0].workers,
        2,
        "the scheduler's settings went with it"
    );
    bench.say(other, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(started(&bench.assign(other, vec![at_once(1)])).len(), 1);
}

#[test]
fn a_leave_dismisses_a_node_that_joined() {
    let mut bench = Bench::new(joining(&["one"]));
    bench.effects();
    let link = bench.open(Some("one"));
    bench.say(link, hello("a", 1));
    bench.say(link, ToNode::Welcome(Box::new(welcome())));
    let actions = bench.say(link, ToNode::Leave);
    assert!(says_goodbye(&actions));
    assert_eq!(gone(&actions), Some(&Gone::Dismissed));
}

#[test]
fn g10_a_leaving_node_still_tells_a_new_link_what_runs() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![exclusive(1, BLOCKING)]);
    bench.say(link, ToNode::Leave);
    bench.cut(link);
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    assert!(hellos(&actions)[0].draining);
    assert_eq!(holdings(&actions)[0].runs.len(), 1);
    let actions = bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert!(!says_goodbye(&actions));
    assert!(says_goodbye(&bench.ended(0, 1, End::Stopped)));
}

#[test]
fn a_leaving_node_whose_link_is_lost_is_free_after_a_lease() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.say(link, ToNode::Leave);
    bench.cut(link);
    bench.ended(0, 1, End::Stopped);
    bench.after(LEASE);
    let other = bench.open(None);
    assert_eq!(hellos(&bench.say(other, hello("b", 4))).len(), 1);
    assert_eq!(bench.node.next_wakeup(), None);
}

#[test]
fn a_node_that_drains_between_its_hello_and_the_welcome_says_so() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1)]);
    bench.cut(link);
    let link = bench.open(None);
    bench.say(link, hello("a", 1));
    bench.event(NodeEvent::Drain);
    let actions = bench.say(link, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&actions), ["draining"]);
    bench.ended(0, 1, done());
    assert!(says_goodbye(&bench.say(link, ToNode::Acknowledge(1))));
}
