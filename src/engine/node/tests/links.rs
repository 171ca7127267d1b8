//! Link set-up, taking over and silence.

use super::*;
use crate::config::{FRAME_OVERHEAD, SchedulerConfig};
use crate::engine::message::{HeldState, MAX_BATCH};
use crate::status::Cause;

fn is_violation(actions: &[NodeAction]) -> bool {
    matches!(refusals(actions)[..], [LinkRefusal::Violation(_)])
}

#[test]
fn the_scheduler_speaks_first() {
    let mut bench = Bench::new(spec(2));
    let link = LinkId(9);
    let dialled = None;
    assert!(
        bench
            .event(NodeEvent::LinkOpened {
                link,
                dialled,
                address: String::new()
            })
            .is_empty()
    );
    let actions = bench.say(link, hello("a", 1));
    let hello = hellos(&actions)[0];
    assert_eq!((hello.workers, hello.draining), (2, false));
    assert_eq!(hello.kinds.len(), 2);
    let parts = holdings(&actions);
    assert!(parts.len() == 1 && parts[0].last && parts[0].runs.is_empty());
}

#[test]
fn a_link_without_a_common_version_is_refused_in_words() {
    let mut bench = Bench::new(spec(2));
    let link = bench.open(None);
    let actions = bench.say(
        link,
        ToNode::Hello(Box::new(SchedulerHello {
            version_min: VERSION_MAX + 1,
            version_max: VERSION_MAX + 3,
            scheduler: "a".to_owned(),
            scheduler_id: SchedulerId(1),
            term: 0,
            max_frame: None,
        })),
    );
    assert!(matches!(
        refusals(&actions)[..],
        [LinkRefusal::Version { .. }]
    ));
    assert_eq!(closed(&actions), [link]);
    assert!(hellos(&actions).is_empty());
}

#[test]
fn another_scheduler_waits_until_this_one_is_silent() {
    let (mut bench, _) = Bench::up(spec(2));
    bench.after(Duration::from_millis(3999));
    let other = bench.open(None);
    let actions = bench.say(other, hello("b", 5));
    assert_eq!(
        refusals(&actions),
        [&LinkRefusal::Busy {
            name: "a".to_owned()
        }]
    );
    bench.after(Duration::from_millis(1));
    let other = bench.open(None);
    let actions = bench.say(other, hello("b", 5));
    assert_eq!(closed(&actions), [LinkId(1)]);
    assert_eq!(hellos(&actions).len(), 1);
}

#[test]
fn another_life_is_refused_while_the_old_ones_link_is_heard() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.after(Duration::from_secs(3));
    bench.event(NodeEvent::Heard { link });
    bench.after(Duration::from_secs(3));
    let newer = bench.open(None);
    assert!(matches!(
        refusals(&bench.say(newer, hello("a", 2)))[..],
        [LinkRefusal::Busy { .. }]
    ));
    // A scheduler that starts anew has closed its links.
    bench.cut(link);
    let newer = bench.open(None);
    assert_eq!(hellos(&bench.say(newer, hello("a", 2))).len(), 1);
}

#[test]
fn another_life_finds_the_old_ones_work_stopped_and_discarded() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1), at_once(2), prefetched(3)]);
    bench.ended(0, 1, done());
    bench.cut(link);
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 2));
    assert_eq!(stopped(&actions), [(0, 3), (1, 2)]);
    let stop = actions
        .iter()
        .rposition(|a| matches!(a, NodeAction::Stop { .. }));
    let greeting = actions
        .iter()
        .position(|a| matches!(a, NodeAction::Send { .. }));
    assert!(stop < greeting, "stopped before anything new");
    let parts = holdings(&actions);
    assert!(parts[0].runs.is_empty() && parts[0].reports.is_empty());
    // The old runs keep their workers, and are spoken of no more than that.
    assert_eq!(hellos(&actions)[0].out_of_reach, 2);
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(
        told(&bench.assign(newer, vec![at_once(1)])),
        ["refused #1 NoWorker"]
    );
    let actions = bench.ended(1, 2, End::Stopped);
    assert_eq!(told(&actions), ["stalled 1 None", "ready"]);
    assert_eq!(started(&bench.assign(newer, vec![at_once(1)])), [(1, 1)]);
    assert_eq!(bench.node.running(), 2);
    assert_eq!(told(&bench.ended(0, 3, done())), ["stalled 0 None"]);
}

#[test]
fn the_older_link_is_closed_before_the_hello_and_then_ignored() {
    let (mut bench, older) = Bench::up(spec(2));
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    let close = actions
        .iter()
        .position(|a| matches!(a, NodeAction::Close { .. }));
    let greeting = actions
        .iter()
        .position(|a| matches!(a, NodeAction::Send { .. }));
    assert!(close < greeting);
    assert_eq!(closed(&actions), [older]);
    assert!(bench.assign(older, vec![at_once(1)]).is_empty());
    assert!(bench.cut(older).is_empty());
    assert_eq!(bench.node.running(), 0);
}

#[test]
fn g9_the_same_life_finds_all_that_is_held() {
    let (mut bench, link) = Bench::up(spec(3));
    bench.assign(
        link,
        vec![
            at_once(1),
            at_once(2),
            at_once(3),
            prefetched(4),
            prefetched(5),
        ],
    );
    bench.overrun(1, 2, done());
    bench.cut(link);
    // What ends meanwhile is kept, and the next one starts.
    assert_eq!(started(&bench.ended(2, 3, done())), [(2, 4)]);
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    let parts = holdings(&actions);
    let runs: Vec<_> = parts[0]
        .runs
        .iter()
        .map(|run| (run.dispatch.get(), run.state))
        .collect();
    assert_eq!(
        runs,
        [
            (1, HeldState::Running),
            (2, HeldState::Overrun),
            (4, HeldState::Running),
            (5, HeldState::Prefetched)
        ]
    );
    let seqs: Vec<_> = parts[0].reports.iter().filter_map(Report::seq).collect();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(bench.node.holds().len(), 4);
}

#[test]
fn g9_what_happens_before_the_welcome_is_told_after_it() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1), at_once(2), prefetched(3)]);
    bench.cut(link);
    let newer = bench.open(None);
    bench.say(newer, hello("a", 1));
    let actions = bench.ended(0, 1, done());
    assert_eq!(started(&actions), [(0, 3)]);
    assert!(
        sent(&actions).is_empty(),
        "nothing between hello and welcome"
    );
    let actions = bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&actions), ["completed #1", "started #3"]);
}

#[test]
fn g9_what_the_holdings_tell_is_not_told_again() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), prefetched(2)]);
    bench.cut(link);
    assert_eq!(started(&bench.ended(0, 1, done())), [(0, 2)]);
    let newer = bench.open(None);
    bench.say(newer, hello("a", 1));
    let actions = bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert!(told(&actions).is_empty());
}

#[test]
fn g9_what_the_holdings_call_waiting_is_told_when_it_starts() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    let workers = vec![WorkerId(0)];
    bench.event(NodeEvent::Stalled {
        workers: workers.clone(),
    });
    bench.event(NodeEvent::Unstarted {
        worker: WorkerId(0),
        assignment: at_once(1),
    });
    bench.cut(link);
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    assert_eq!(holdings(&actions)[0].runs[0].state, HeldState::Prefetched);
    bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    let actions = bench.event(NodeEvent::Resumed { workers });
    assert_eq!(told(&actions)[0], "started #1");
}

#[test]
fn holdings_come_in_bounded_parts_with_an_end_mark() {
    let (mut bench, link) = Bench::up(spec(5000));
    let all: Vec<_> = (1..=5000).map(at_once).collect();
    bench.assign(link, all);
    bench.cut(link);
    for number in 1..=3u64 {
        let output = Payload::from(vec![0; 700 << 10]);
        let worker = u32::try_from(number - 1).unwrap();
        bench.ended(worker, number, End::Completed(output));
    }
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 1));
    let parts = holdings(&actions);
    assert!(
        parts
            .iter()
            .all(|part| part.runs.len() + part.reports.len() <= MAX_BATCH)
    );
    assert_eq!(
        parts.iter().map(|part| part.runs.len()).sum::<usize>(),
        4997
    );
    assert_eq!(
        parts.iter().map(|part| part.reports.len()).sum::<usize>(),
        3
    );
    assert!(
        parts.iter().all(|part| part.reports.len() <= 1),
        "1 MiB of bodies a part"
    );
    let lasts: Vec<_> = parts.iter().map(|part| part.last).collect();
    assert!(lasts.iter().rev().skip(1).all(|last| !last) && lasts[lasts.len() - 1]);
}

#[test]
fn g11_messages_out_of_turn_close_their_link() {
    let mut bench = Bench::new(spec(2));
    let link = bench.open(None);
    let actions = bench.assign(link, vec![at_once(1)]);
    assert!(is_violation(&actions) && closed(&actions) == [link]);

    let link = bench.open(None);
    bench.say(link, hello("a", 1));
    let actions = bench.assign(link, vec![at_once(1)]);
    assert!(is_violation(&actions) && closed(&actions) == [link]);

    let link = bench.serve(1, welcome());
    let actions = bench.say(link, ToNode::Welcome(Box::new(welcome())));
    assert!(is_violation(&actions));

    let link = bench.serve(1, welcome());
    let actions = bench.say(link, hello("a", 1));
    assert!(is_violation(&actions));
}

#[test]
fn g11_absurd_numbers_close_their_link() {
    let absurd = [
        Welcome {
            heartbeat: Duration::ZERO,
            ..welcome()
        },
        Welcome {
            lease: Duration::ZERO,
            ..welcome()
        },
        Welcome {
            lease: SchedulerConfig::MAX_LEASE + Duration::from_nanos(1),
            ..welcome()
        },
        Welcome {
            heartbeat: Duration::MAX,
            lease: Duration::MAX,
            ..welcome()
        },
        Welcome {
            version: VERSION_MAX + 1,
            ..welcome()
        },
        Welcome {
            acknowledged: 1,
            ..welcome()
        },
    ];
    for welcome in absurd {
        let mut bench = Bench::new(spec(2));
        let link = bench.open(None);
        bench.say(link, hello("a", 1));
        assert!(is_violation(
            &bench.say(link, ToNode::Welcome(Box::new(welcome)))
        ));
    }
    let (mut bench, link) = Bench::up(spec(2));
    assert!(is_violation(&bench.say(link, ToNode::Acknowledge(1))));
    let link = bench.serve(1, welcome());
    assert!(is_violation(&bench.say(link, ToNode::Answer(1))));
    let link = bench.open(None);
    assert!(is_violation(
        &bench.say(link, hello(&"x".repeat(10_000), 1))
    ));
    let huge = Welcome {
        heartbeat: SchedulerConfig::MAX_LEASE,
        lease: SchedulerConfig::MAX_LEASE,
        ..welcome()
    };
    let link = bench.serve(1, huge);
    bench.say(link, ToNode::Workers(u32::MAX));
    assert_eq!(started(&bench.assign(link, vec![at_once(1)])).len(), 1);
}

#[test]
fn the_welcome_sets_workers_and_forgets_and_stops() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1), at_once(2), prefetched(3)]);
    bench.ended(0, 1, done());
    bench.cut(link);
    let newer = bench.open(None);
    bench.say(newer, hello("a", 1));
    let actions = bench.say(
        newer,
        ToNode::Welcome(Box::new(Welcome {
            workers: Some(5),
            acknowledged: 1,
            stop: vec![d(2), d(99)],
            ..welcome()
        })),
    );
    assert_eq!(stopped(&actions), [(1, 2)]);
    assert_eq!(told(&bench.ended(1, 2, End::Stopped)), ["stopped #2"]);
    bench.cut(newer);
    let newest = bench.open(None);
    let actions = bench.say(newest, hello("a", 1));
    assert_eq!(hellos(&actions)[0].workers, 5);
    let seqs: Vec<_> = holdings(&actions)[0]
        .reports
        .iter()
        .filter_map(Report::seq)
        .collect();
    assert_eq!(seqs, [2], "1 was acknowledged");
}

#[test]
fn g11_links_without_a_hello_are_closed() {
    let mut bench = Bench::new(spec(2));
    let link = bench.open(None);
    let due = bench.node.next_wakeup().unwrap();
    assert_eq!(closed(&bench.after(due.since(bench.now))), [link]);
    assert_eq!(bench.node.next_wakeup(), None);
}

/// Says hello on a new link as a scheduler "a" that takes outputs of so many bytes.
fn hello_of_few(bench: &mut Bench, max_output: usize) -> (LinkId, Vec<NodeAction>) {
    let link = bench.open(None);
    let ToNode::Hello(mut hello) = hello("a", 1) else {
        unreachable!("it is one");
    };
    hello.max_frame = Some((FRAME_OVERHEAD + max_output) as u64);
    (link, bench.say(link, ToNode::Hello(hello)))
}

fn large(bytes: usize) -> End {
    End::Completed(Payload::from(vec![7; bytes]))
}

fn is_too_large(report: &Report) -> bool {
    matches!(report, Report::Ended { end: End::Failed(failure), .. }
        if failure.cause == Cause::OutputTooLarge && failure.message.contains("the output is 101 bytes"))
}

#[test]
fn g9_an_output_that_the_scheduler_does_not_take_is_a_failure_in_words_kept_or_new() {
    let (mut bench, link) = Bench::up(spec(3));
    bench.assign(link, vec![at_once(1), at_once(2), at_once(3)]);
    bench.cut(link);
    bench.ended(0, 1, large(100));
    bench.ended(1, 2, large(101));
    let (link, actions) = hello_of_few(&mut bench, 100);
    let parts = holdings(&actions);
    let [fits, not] = &parts[0].reports[..] else {
        panic!("two are kept: {parts:?}");
    };
    assert!(matches!(
        fits,
        Report::Ended {
            end: End::Completed(_),
            ..
        }
    ));
    assert!(is_too_large(not), "{not:?}");
    // One that ends now, before the welcome, is told after it.
    bench.ended(2, 3, large(101));
    let actions = bench.say(link, ToNode::Welcome(Box::new(welcome())));
    assert!(reports(&actions).iter().any(is_too_large), "{actions:?}");
}

#[test]
fn g11_a_scheduler_whose_name_could_forge_a_line_of_a_log_is_refused() {
    for name in ["", "a\nb", "a\u{7f}"] {
        let mut bench = Bench::new(spec(2));
        let link = bench.open(None);
        let actions = bench.say(link, hello(name, 1));
        assert!(is_violation(&actions), "{name:?}: {actions:?}");
        assert_eq!(closed(&actions), [link]);
    }
}
