//! Several starts of one scheduler with a store: one id, and terms that rise. What a node was given
//! outlasts them, and for how long it goes on without any.

use super::machines::Fleet;
use super::*;

/// Says hello as the scheduler "a" with id 1, in this term, on a fresh link.
fn greet(bench: &mut Bench, term: u64) -> (LinkId, Vec<NodeAction>) {
    let link = bench.open(None);
    let actions = bench.say(link, hello_in("a", 1, term));
    (link, actions)
}

/// Makes a node with a link to that scheduler, which is up.
fn up_in(spec: NodeSpec, term: u64, welcome: Welcome) -> (Bench, LinkId) {
    let mut bench = Bench::new(spec);
    let (link, _) = greet(&mut bench, term);
    let actions = bench.say(link, ToNode::Welcome(Box::new(welcome)));
    assert!(closed(&actions).is_empty(), "{actions:?}");
    (bench, link)
}

fn outlives(leases: u32) -> Welcome {
    Welcome {
        outlive: LEASE * leases,
        ..welcome()
    }
}

#[test]
fn g9_a_later_term_takes_a_node_over_at_once_with_its_runs_and_results() {
    let (mut bench, older) = up_in(spec(2), 1, welcome());
    bench.assign(older, vec![at_once(1), at_once(2), prefetched(3)]);
    bench.ended(0, 1, done());
    // The older link is up, and was heard in this moment.
    let (newer, actions) = greet(&mut bench, 2);
    assert!(refusals(&actions).is_empty() && stopped(&actions).is_empty());
    assert_eq!(closed(&actions), [older]);
    let held: Vec<_> = holdings(&actions)[0]
        .runs
        .iter()
        .map(|run| run.dispatch)
        .collect();
    assert_eq!(held, [d(3), d(2)]);
    let kept: Vec<_> = holdings(&actions)[0].reports.iter().map(in_short).collect();
    assert_eq!(kept, ["completed #1"]);
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&bench.ended(1, 2, done())), ["completed #2"]);
}

#[test]
fn g10_nothing_of_an_earlier_term_is_read_once_a_later_one_has_come() {
    let (mut bench, older) = up_in(spec(2), 1, welcome());
    bench.assign(older, vec![at_once(1)]);
    let (newer, _) = greet(&mut bench, 2);
    assert!(bench.assign(older, vec![at_once(2)]).is_empty());
    assert!(bench.say(older, ToNode::Cancel(vec![d(1)])).is_empty());
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(bench.node.running(), 1);
}

#[test]
fn g10_an_earlier_term_is_refused_in_words_and_disturbs_nothing() {
    let (mut bench, link) = up_in(spec(2), 5, welcome());
    bench.assign(link, vec![at_once(1)]);
    let (stale, actions) = greet(&mut bench, 4);
    assert_eq!(refusals(&actions), [&LinkRefusal::Superseded { term: 5 }]);
    assert_eq!(closed(&actions), [stale]);
    assert!(hellos(&actions).is_empty());
    let words = LinkRefusal::Superseded { term: 5 }.to_string();
    assert!(
        words.contains("term 5") && words.contains("store relive"),
        "{words}"
    );
    assert_eq!(told(&bench.ended(0, 1, done())), ["completed #1"]);
    // So too when no link of the later term is there any more.
    bench.cut(link);
    bench.after(LEASE);
    assert_eq!(refusals(&greet(&mut bench, 4).1).len(), 1);
    assert!(
        refusals(&greet(&mut bench, 5).1).is_empty(),
        "its own term returns"
    );
}

#[test]
fn g10_a_store_that_was_copied_and_founded_anew_waits_as_any_other_scheduler() {
    let (mut bench, link) = up_in(spec(2), 5, welcome());
    bench.assign(link, vec![at_once(1)]);
    let other = bench.open(None);
    let actions = bench.say(other, hello_in("a", 2, 9));
    assert!(matches!(refusals(&actions)[..], [LinkRefusal::Busy { .. }]));
    bench.cut(link);
    let other = bench.open(None);
    let actions = bench.say(other, hello_in("a", 2, 1));
    assert_eq!(
        stopped(&actions),
        [(0, 1)],
        "its id is another, whatever its term"
    );
    assert!(holdings(&actions)[0].runs.is_empty());
}

#[test]
fn g3_a_hello_names_the_highest_dispatch_that_was_ever_sent() {
    let seen = |actions: &[NodeAction]| hellos(actions)[0].seen;
    let (mut bench, link) = up_in(spec(2), 1, welcome());
    bench.assign(link, vec![at_once(7), at_once(9), at_once(8)]);
    bench.ended(0, 7, done());
    let (newer, actions) = greet(&mut bench, 2);
    assert_eq!(seen(&actions), d(9));
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    // Also what it has refused.
    let refused = told(&bench.assign(newer, vec![task(12, 99, false, None)]));
    assert_eq!(refused[0], "refused #12 UnknownKind");
    assert_eq!(seen(&greet(&mut bench, 2).1), d(12));
    bench.after(LEASE);
    let other = bench.open(None);
    assert_eq!(
        seen(&bench.say(other, hello_in("a", 2, 1))),
        d(0),
        "nothing of another"
    );
}

#[test]
fn g9_what_is_not_exclusive_outlives_the_lease_as_long_as_the_welcome_says() {
    let (mut bench, link) = up_in(spec(3), 1, outlives(4));
    bench.assign(
        link,
        vec![at_once(1), exclusive(2, SOFT), at_once(3), prefetched(4)],
    );
    bench.cut(link);
    assert_eq!(stopped(&bench.after(LEASE / 5 * 4)), [(1, 2)]);
    bench.ended(1, 2, End::Stopped);
    assert!(stopped(&bench.after(LEASE / 5)).is_empty());
    // What waits is started too: its scheduler is away, and has nobody else for it.
    assert_eq!(bench.node.running(), 3);
    assert!(stopped(&bench.after(LEASE * 4 - Duration::from_nanos(1))).is_empty());
    let actions = bench.after(Duration::from_nanos(1));
    assert_eq!(stopped(&actions), [(0, 1), (1, 4), (2, 3)]);
}

#[test]
fn g10_nothing_exclusive_starts_between_four_fifths_of_the_lease_and_its_next_answer() {
    let (mut bench, link) = up_in(spec(2), 1, outlives(4));
    bench.after(LEASE * 2);
    assert_eq!(
        told(&bench.assign(link, vec![exclusive(1, SOFT), at_once(2)])),
        ["refused #1 NoWorker", "ready"]
    );
    bench.say(link, ToNode::Answer(1));
    assert_eq!(
        started(&bench.assign(link, vec![exclusive(3, SOFT)])),
        [(1, 3)]
    );
}

#[test]
fn g9_a_draining_node_keeps_its_results_for_as_long_as_runs_outlive_the_lease() {
    let (mut bench, link) = up_in(spec(2), 1, outlives(4));
    bench.assign(link, vec![at_once(1)]);
    bench.cut(link);
    bench.event(NodeEvent::Drain);
    bench.ended(0, 1, done());
    assert!(gone(&bench.after(LEASE)).is_none());
    let (newer, actions) = greet(&mut bench, 2);
    let kept: Vec<_> = holdings(&actions)[0].reports.iter().map(in_short).collect();
    assert_eq!(kept, ["completed #1"]);
    bench.cut(newer);
    assert_eq!(gone(&bench.after(LEASE * 4)), Some(&Gone::Drained));
    // With nothing to tell, a lease is all that it waits.
    let (mut bench, link) = up_in(spec(2), 1, outlives(4));
    bench.cut(link);
    bench.event(NodeEvent::Drain);
    assert_eq!(gone(&bench.after(LEASE)), Some(&Gone::Drained));
}

#[test]
fn a_later_term_is_served_by_a_node_that_an_earlier_one_had_dismissed() {
    let mut fleet = Fleet::new(joining(&["here", "there"]));
    fleet.after(Duration::ZERO);
    let a = fleet.serve_in("a", 1, 3);
    fleet.serve("b", 1, Some("there"));
    fleet.say(a, ToNode::Drain);
    let (_, actions) = fleet.greet_in("a", 1, 3);
    assert_eq!(refusals(&actions), [&LinkRefusal::Stopping]);
    let (_, actions) = fleet.greet_in("a", 1, 2);
    assert_eq!(
        refusals(&actions),
        [&LinkRefusal::Stopping],
        "it is no later one"
    );
    fleet.serve_in("a", 1, 4);
}

#[test]
fn g11_a_welcome_lets_no_run_outlive_its_lease_by_more_than_a_day() {
    let mut bench = Bench::new(spec(2));
    let (link, _) = greet(&mut bench, 1);
    let absurd = Welcome {
        outlive: Duration::MAX,
        ..welcome()
    };
    let actions = bench.say(link, ToNode::Welcome(Box::new(absurd)));
    assert!(matches!(
        refusals(&actions)[..],
        [LinkRefusal::Violation(_)]
    ));
}
