//! Beats, and what the end of the lease does.

use super::*;
use crate::status::{Cause, Failure};

#[test]
fn a_beat_is_sent_every_heartbeat_and_names_the_last_answer() {
    let (mut bench, link) = Bench::up(spec(2));
    assert_eq!(bench.node.next_wakeup(), Some(bench.now + HEARTBEAT));
    assert!(beats(&bench.after(HEARTBEAT - Duration::from_millis(1))).is_empty());
    assert_eq!(beats(&bench.after(Duration::from_millis(1))), [1]);
    assert_eq!(beats(&bench.after(HEARTBEAT)), [2]);
    bench.say(link, ToNode::Answer(1));
    let actions = bench.after(HEARTBEAT * 3);
    assert_eq!(beats(&actions), [3], "a late one is not made up for");
    let ToScheduler::Beat(beat) = sent(&actions)[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(beat.answered, 1);
    bench.cut(link);
    assert!(beats(&bench.after(HEARTBEAT)).is_empty());
    bench.serve(1, welcome());
    assert_eq!(beats(&bench.after(HEARTBEAT)), [1], "numbers begin anew");
}

#[test]
fn g8_a_beat_names_how_long_the_last_answer_took() {
    let (mut bench, link) = Bench::up(spec(2));
    let round_trip = |actions: &[NodeAction]| match sent(actions)[0] {
        ToScheduler::Beat(beat) => beat.round_trip,
        other => panic!("{other:?}"),
    };
    assert_eq!(round_trip(&bench.after(HEARTBEAT)), None);
    let took = HEARTBEAT / 4;
    bench.after(took);
    bench.say(link, ToNode::Answer(1));
    assert_eq!(round_trip(&bench.after(HEARTBEAT - took)), Some(took));
    // It stays the last one until another is answered.
    assert_eq!(round_trip(&bench.after(HEARTBEAT)), Some(took));
    bench.say(link, ToNode::Answer(3));
    assert_eq!(round_trip(&bench.after(HEARTBEAT)), Some(Duration::ZERO));
    bench.cut(link);
    bench.serve(1, welcome());
    assert_eq!(round_trip(&bench.after(HEARTBEAT)), None);
}

#[test]
fn g10_exclusive_runs_are_dropped_at_four_fifths_of_the_lease() {
    let (mut bench, link) = Bench::up(spec(3));
    bench.assign(
        link,
        vec![exclusive(1, SOFT), at_once(2), exclusive(3, BLOCKING)],
    );
    bench.cut(link);
    let expiring = LEASE / 5 * 4;
    assert!(stopped(&bench.after(expiring - Duration::from_nanos(1))).is_empty());
    let due = bench.node.next_wakeup();
    assert_eq!(due, Some(bench.now + Duration::from_nanos(1)));
    let actions = bench.after(Duration::from_nanos(1));
    assert_eq!(stopped(&actions), [(0, 1), (2, 3)]);
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, NodeAction::Note(NodeNote::Dropped { runs: 2, .. })))
    );
    bench.ended(0, 1, End::Stopped);
    // The blocking one is over for the scheduler and goes on all the same.
    assert_eq!(bench.node.running(), 2);
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    let kept: Vec<_> = holdings(&actions)[0].reports.iter().map(in_short).collect();
    assert_eq!(kept, ["dropped #3 and goes on", "dropped #1"]);
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&bench.ended(2, 3, End::Stopped)), ["freed #3"]);
}

#[test]
fn g9_a_run_that_was_dropped_and_ends_by_itself_tells_its_result() {
    let ends = [
        (done(), "completed #1"),
        (End::Stopped, "freed #1"),
        (
            End::Failed(Box::new(Failure::new(Cause::Error, "no"))),
            "failed #1",
        ),
    ];
    for (end, expected) in ends {
        let (mut bench, link) = Bench::up(spec(1));
        bench.assign(link, vec![exclusive(1, BLOCKING)]);
        let actions = bench.after(LEASE / 5 * 4);
        assert_eq!(told(&actions), ["dropped #1 and goes on"]);
        assert_eq!(told(&bench.ended(0, 1, end)), [expected]);
        assert_eq!(bench.node.running(), 0);
        assert!(bench.node.holds().is_empty());
    }
}

#[test]
fn g8_every_run_is_dropped_at_the_end_of_the_lease() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(
        link,
        vec![at_once(1), task(2, BLOCKING, false, None), prefetched(3)],
    );
    bench.cut(link);
    assert!(stopped(&bench.after(LEASE - Duration::from_nanos(1))).is_empty());
    let actions = bench.after(Duration::from_nanos(1));
    assert_eq!(stopped(&actions), [(0, 1), (1, 2)]);
    // A verdict that was under way stands.
    assert!(started(&bench.ended(0, 1, done())).is_empty());
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    let kept: Vec<_> = holdings(&actions)[0].reports.iter().map(in_short).collect();
    assert_eq!(
        kept,
        ["returned #3", "dropped #2 and goes on", "completed #1"]
    );
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(started(&bench.assign(newer, vec![at_once(4)])), [(0, 4)]);
    assert_eq!(told(&bench.ended(1, 2, End::Stopped)), ["freed #2"]);
}

#[test]
fn g10_exclusive_assignments_that_wait_are_given_back_at_four_fifths() {
    let (mut bench, link) = Bench::up(spec(1));
    let mut waiting = exclusive(2, SOFT);
    waiting.prefetched = true;
    bench.assign(link, vec![at_once(1), waiting, prefetched(3)]);
    assert_eq!(told(&bench.after(LEASE / 5 * 4)), ["returned #2"]);
    // Nor are new ones taken until a beat is answered.
    assert_eq!(
        told(&bench.assign(link, vec![exclusive(4, SOFT)])),
        ["refused #4 NoWorker"]
    );
    assert_eq!(
        started(&bench.ended(0, 1, done())),
        [(0, 3)],
        "others go on"
    );
}

#[test]
fn the_lease_counts_from_the_sending_of_the_answered_beat() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.after(HEARTBEAT);
    bench.after(Duration::from_secs(9));
    // 11 s after the hello the beat of second 2 is answered: until second 17.
    bench.say(link, ToNode::Answer(1));
    assert!(stopped(&bench.after(Duration::from_secs(5))).is_empty());
    assert_eq!(stopped(&bench.after(Duration::from_secs(1))), [(0, 1)]);
}

#[test]
fn a_late_answer_to_an_old_beat_shortens_nothing() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.after(HEARTBEAT);
    bench.after(HEARTBEAT);
    bench.say(link, ToNode::Answer(2));
    bench.say(link, ToNode::Answer(1));
    bench.say(link, ToNode::Answer(0));
    assert!(stopped(&bench.after(LEASE - Duration::from_nanos(1))).is_empty());
    assert_eq!(stopped(&bench.after(Duration::from_nanos(1))).len(), 1);
}

#[test]
fn a_link_whose_lease_has_ended_starts_again_once_a_beat_is_answered() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.after(LEASE);
    assert_eq!(
        told(&bench.assign(link, vec![prefetched(1)])),
        ["refused #1 NoWorker"]
    );
    let actions = bench.say(link, ToNode::Answer(1));
    assert_eq!(told(&actions), ["ready"]);
    assert_eq!(started(&bench.assign(link, vec![at_once(2)])), [(0, 2)]);
}

#[test]
fn g10_a_frozen_process_drops_before_it_does_anything_else() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![exclusive(1, SOFT)]);
    bench.after(HEARTBEAT);
    bench.now = bench.now + LEASE;
    let actions = bench.say(link, ToNode::Answer(1));
    assert_eq!(stopped(&actions), [(0, 1)]);
}

#[test]
fn a_local_node_has_neither_beats_nor_lease_and_keeps_nothing() {
    let local = NodeSpec {
        local: true,
        ..spec(1)
    };
    let (mut bench, link) = Bench::up(local);
    bench.assign(link, vec![exclusive(1, SOFT)]);
    let actions = bench.after(Duration::from_secs(3600));
    assert!(actions.is_empty(), "{actions:?}");
    assert_eq!(bench.node.next_wakeup(), None);
    assert_eq!(told(&bench.ended(0, 1, done())), ["completed #1"]);
    assert!(bench.node.kept.is_empty());
    let actions = bench.event(NodeEvent::Drain);
    assert!(says_goodbye(&actions));
    assert_eq!(gone(&actions), Some(&Gone::Drained));
}
