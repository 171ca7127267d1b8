//! Assignments, refusals, cancels, stalls and reports.

use super::*;
use crate::engine::message::MAX_BATCH;
use crate::engine::node::prefetch::MAX_PREFETCH;
use crate::status::{Cause, Failure};

fn ids(numbers: &[u32]) -> Vec<WorkerId> {
    numbers.iter().map(|&number| WorkerId(number)).collect()
}

fn urgent(number: u64, priority: i8) -> Assignment {
    let terms = Terms {
        priority,
        ..Terms::default()
    };
    task(number, SOFT, true, Some(terms))
}

#[test]
fn g4_never_more_run_than_there_are_workers() {
    let (mut bench, link) = Bench::up(spec(2));
    let actions = bench.assign(link, vec![at_once(1), at_once(2), at_once(3)]);
    assert_eq!(started(&actions), [(0, 1), (1, 2)]);
    assert_eq!(told(&actions), ["refused #3 NoWorker"]);
}

#[test]
fn g4_an_overrun_keeps_its_worker_until_it_really_ends() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), prefetched(2)]);
    let timeout = Failure::new(Cause::Timeout, "late");
    let actions = bench.overrun(0, 1, End::Failed(Box::new(timeout)));
    assert_eq!(told(&actions), ["failed #1 and goes on"]);
    assert_eq!((started(&actions).len(), bench.node.running()), (0, 1));
    let actions = bench.freed(0, 1);
    assert_eq!(told(&actions), ["freed #1", "started #2"]);
    assert_eq!(started(&actions), [(0, 2)]);
}

#[test]
fn g5_the_next_starts_when_a_worker_frees() {
    let (mut bench, link) = Bench::up(spec(1));
    let actions = bench.assign(link, vec![at_once(1), prefetched(2), prefetched(3)]);
    assert!(told(&actions).is_empty());
    let actions = bench.ended(0, 1, done());
    assert_eq!(started(&actions), [(0, 2)]);
    assert_eq!(told(&actions), ["completed #1", "started #2"]);
}

#[test]
fn one_sent_ahead_that_starts_at_once_is_told_started() {
    let (mut bench, link) = Bench::up(spec(1));
    assert_eq!(
        told(&bench.assign(link, vec![prefetched(1)])),
        ["started #1"]
    );
}

#[test]
fn a_start_is_not_told_of_what_has_ended_by_then() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), prefetched(2)]);
    let now = bench.now;
    for number in [1, 2] {
        let event = NodeEvent::Ended {
            worker: WorkerId(0),
            dispatch: d(number),
            end: done(),
            ran: Duration::ZERO,
            overrun: false,
        };
        bench.node.handle(now, event);
    }
    assert_eq!(told(&bench.effects()), ["completed #1", "completed #2"]);
}

#[test]
fn g6_the_waiting_start_by_priority_then_first_come() {
    let (mut bench, link) = Bench::up(spec(1));
    let waiting = vec![
        prefetched(2),
        urgent(3, -5),
        urgent(4, 7),
        prefetched(5),
        urgent(6, 7),
    ];
    bench.assign(link, vec![at_once(1)]);
    bench.assign(link, waiting);
    let mut order = Vec::new();
    let mut next = vec![(0, 1)];
    while let Some(&(worker, number)) = next.first() {
        order.push(number);
        next = started(&bench.ended(worker, number, done()));
    }
    assert_eq!(order, [1, 4, 6, 2, 5, 3]);
}

#[test]
fn a_dispatch_that_is_held_is_not_taken_twice() {
    let (mut bench, link) = Bench::up(spec(2));
    let actions = bench.assign(link, vec![at_once(1), at_once(1)]);
    assert_eq!(started(&actions), [(0, 1)]);
    assert!(told(&actions).is_empty());
    bench.assign(link, vec![at_once(2), prefetched(3)]);
    assert!(bench.assign(link, vec![prefetched(3)]).is_empty());
    assert_eq!(bench.node.holds().len(), 3);
}

#[test]
fn g11_an_unknown_kind_is_refused() {
    let (mut bench, link) = Bench::up(spec(2));
    let actions = bench.assign(
        link,
        vec![task(1, 2, true, None), task(2, u16::MAX, false, None)],
    );
    let expected = ["refused #1 UnknownKind", "refused #2 UnknownKind", "ready"];
    assert_eq!(told(&actions), expected);
}

#[test]
fn after_a_refusal_a_free_worker_is_told_once() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), at_once(2), at_once(3)]);
    assert_eq!(told(&bench.ended(0, 1, done())), ["completed #1", "ready"]);
    bench.assign(link, vec![at_once(4)]);
    assert_eq!(told(&bench.ended(0, 4, done())), ["completed #4"]);
}

#[test]
fn readiness_that_was_told_on_a_lost_link_is_told_again() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), at_once(2)]);
    bench.ended(0, 1, done());
    bench.cut(link);
    let newer = bench.open(None);
    bench.say(newer, hello("a", 1));
    assert_eq!(
        told(&bench.say(newer, ToNode::Welcome(Box::new(welcome())))),
        ["ready"]
    );
}

#[test]
fn g9_kept_results_fill_their_budget_and_then_nothing_starts() {
    let mut tight = spec(2);
    tight.config.max_kept_bytes = 1000;
    let (mut bench, link) = Bench::up(tight);
    bench.assign(link, vec![at_once(1), at_once(2), prefetched(3)]);
    let large = End::Completed(Payload::from(vec![0; 1000]));
    assert!(started(&bench.ended(0, 1, large)).is_empty());
    let actions = bench.assign(link, vec![at_once(4), prefetched(5)]);
    assert_eq!(told(&actions), ["refused #4 KeptResults"]);
    assert!(started(&bench.ended(1, 2, done())).is_empty());
    let actions = bench.say(link, ToNode::Acknowledge(1));
    assert_eq!(started(&actions), [(1, 3), (0, 5)]);
    assert_eq!(told(&actions), ["started #3", "started #5"]);
    assert_eq!(told(&bench.ended(0, 5, done())), ["completed #5", "ready"]);
}

#[test]
fn g11_what_waits_is_bounded() {
    let (mut bench, link) = Bench::up(spec(0));
    let mut number = 0;
    for _ in 0..MAX_PREFETCH / MAX_BATCH {
        let batch = (0..MAX_BATCH).map(|_| {
            number += 1;
            prefetched(number)
        });
        let batch = batch.collect();
        bench.node.handle(
            bench.now,
            NodeEvent::Message {
                link,
                message: ToNode::Assign(batch),
            },
        );
    }
    assert!(told(&bench.effects()).is_empty());
    assert_eq!(
        told(&bench.assign(link, vec![prefetched(1 << 40)])),
        [format!("refused {} NoWorker", d(1 << 40))]
    );
    let args = Payload::from(vec![0; 128 << 20]);
    let (mut bench, link) = Bench::up(spec(0));
    let large = (1..=3).map(|number| Assignment {
        args: args.clone(),
        ..prefetched(number)
    });
    let large = large.collect();
    assert_eq!(told(&bench.assign(link, large)), ["refused #3 NoWorker"]);
}

#[test]
fn g11_assigning_on_without_acknowledging_refusals_closes_the_link() {
    let (mut bench, link) = Bench::up(spec(0));
    for batch in 0..100u64 {
        let from = batch * MAX_BATCH as u64;
        let batch = (from..from + MAX_BATCH as u64).map(at_once).collect();
        let message = ToNode::Assign(batch);
        bench
            .node
            .handle(bench.now, NodeEvent::Message { link, message });
    }
    assert_eq!(closed(&bench.effects()), [link]);
}

#[test]
fn g12_a_cancel_of_what_waits_is_answered_at_once() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), prefetched(2)]);
    let actions = bench.say(link, ToNode::Cancel(vec![d(2), d(77)]));
    let Report::Ended {
        ran,
        ref end,
        overrun,
        ..
    } = reports(&actions)[0]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((ran, end, overrun), (Duration::ZERO, &End::Stopped, false));
    assert_eq!(bench.node.holds().len(), 1);
}

#[test]
fn g12_a_cancel_of_what_runs_is_answered_by_its_worker() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1), task(2, BLOCKING, false, None)]);
    let actions = bench.say(link, ToNode::Cancel(vec![d(1), d(2)]));
    assert_eq!(stopped(&actions), [(0, 1), (1, 2)]);
    assert!(told(&actions).is_empty(), "the truth is not known yet");
    assert!(bench.say(link, ToNode::Cancel(vec![d(1)])).is_empty());
    assert_eq!(told(&bench.ended(0, 1, done())), ["completed #1"]);
    assert_eq!(told(&bench.ended(1, 2, End::Stopped)), ["stopped #2"]);
}

#[test]
fn a_retraction_gives_back_what_has_not_started() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1), prefetched(2), prefetched(3)]);
    let actions = bench.say(link, ToNode::Retract(vec![d(1), d(3), d(9)]));
    assert_eq!(told(&actions), ["returned #3"]);
    assert_eq!(started(&bench.ended(0, 1, done())), [(0, 2)]);
}

#[test]
fn fewer_workers_let_what_runs_end_by_itself() {
    let (mut bench, link) = Bench::up(spec(3));
    bench.assign(
        link,
        vec![at_once(1), at_once(2), at_once(3), prefetched(4)],
    );
    assert!(bench.say(link, ToNode::Workers(1)).is_empty());
    assert!(started(&bench.ended(0, 1, done())).is_empty());
    assert!(started(&bench.ended(1, 2, done())).is_empty());
    assert_eq!(started(&bench.ended(2, 3, done())), [(0, 4)]);
    bench.assign(link, vec![prefetched(5), prefetched(6)]);
    let actions = bench.event(NodeEvent::Workers(3));
    assert_eq!(started(&actions), [(1, 5), (2, 6)]);
}

#[test]
fn the_policy_that_holds_at_the_start_goes_along() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.say(link, ToNode::Retry(RetryPolicy::none()));
    let own = RetryPolicy::fixed(Duration::from_secs(9));
    let terms = Terms {
        retry: Some(own),
        ..Terms::default()
    };
    let actions = bench.assign(link, vec![at_once(1), task(2, SOFT, false, Some(terms))]);
    let policies: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            NodeAction::Start { retry, .. } => Some(*retry),
            _ => None,
        })
        .collect();
    assert_eq!(policies, [RetryPolicy::none(), own]);
}

#[test]
fn g7_workers_of_a_blocked_thread_are_not_used() {
    let (mut bench, link) = Bench::up(spec(3));
    bench.assign(link, vec![at_once(1)]);
    let workers = ids(&[0, 2]);
    let actions = bench.event(NodeEvent::Stalled { workers });
    assert_eq!(told(&actions), ["stalled 1 Some(t1)"]);
    let actions = bench.assign(link, vec![at_once(2), at_once(3), prefetched(4)]);
    assert_eq!(started(&actions), [(1, 2)]);
    assert_eq!(told(&actions), ["refused #3 NoWorker"]);
    let workers = ids(&[0, 2]);
    let actions = bench.event(NodeEvent::Resumed { workers });
    assert_eq!(started(&actions), [(2, 4)]);
    assert_eq!(told(&actions), ["started #4", "stalled 0 None"]);
}

#[test]
fn g7_a_new_link_is_told_of_a_blocked_thread() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1)]);
    let workers = ids(&[0, 1]);
    bench.event(NodeEvent::Stalled { workers });
    bench.cut(link);
    let newer = bench.open(None);
    bench.say(newer, hello("a", 1));
    let actions = bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&actions), ["stalled 1 Some(t1)"]);
}

#[test]
fn g7_another_incarnation_is_told_of_a_blocked_thread_and_of_no_task_that_is_not_its_own() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1)]);
    let workers = ids(&[0, 1]);
    bench.event(NodeEvent::Stalled { workers });
    bench.cut(link);
    let newer = bench.open(None);
    let actions = bench.say(newer, hello("a", 2));
    assert_eq!(hellos(&actions)[0].out_of_reach, 2);
    let actions = bench.say(newer, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&actions), ["stalled 2 None"]);
}

#[test]
fn g7_what_a_blocked_thread_gives_back_is_first_elsewhere() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1), at_once(2), urgent(3, 100)]);
    let workers = ids(&[1]);
    bench.event(NodeEvent::Stalled { workers });
    let back = NodeEvent::Unstarted {
        worker: WorkerId(1),
        assignment: at_once(2),
    };
    let actions = bench.event(back);
    assert_eq!(
        told(&actions),
        ["stalled 1 None"],
        "the scheduler believes that it runs"
    );
    let actions = bench.ended(0, 1, done());
    assert_eq!(started(&actions), [(0, 2)]);
    assert_eq!(told(&actions), ["completed #1"]);
}

#[test]
fn g10_what_no_thread_could_be_started_for_goes_back_and_its_worker_pauses() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    let worker = WorkerId(0);
    let assignment = at_once(1);
    let actions = bench.event(NodeEvent::NoThread { worker, assignment });
    assert_eq!(told(&actions), ["returned #1", "stalled 1 None"]);
    assert!(bench.node.holds().is_empty());
    let actions = bench.assign(link, vec![at_once(2)]);
    assert_eq!(told(&actions), ["refused #2 NoWorker"]);
    let workers = vec![worker];
    let actions = bench.event(NodeEvent::Resumed { workers });
    assert_eq!(told(&actions), ["stalled 0 None", "ready"]);
}

#[test]
fn what_was_given_back_and_then_cancelled_never_started() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    bench.say(link, ToNode::Cancel(vec![d(1)]));
    let worker = WorkerId(0);
    let assignment = at_once(1);
    let actions = bench.event(NodeEvent::Unstarted { worker, assignment });
    assert_eq!(told(&actions), ["stopped #1"]);
    assert!(bench.node.holds().is_empty());
}

#[test]
fn progress_and_notes_are_told_of_the_run_that_a_worker_has() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1), at_once(2)]);
    for (worker, number, expected) in [(0, 1, 1), (1, 2, 1), (1, 1, 0)] {
        let (worker, dispatch) = (WorkerId(worker), d(number));
        let progress = NodeEvent::Progress {
            worker,
            dispatch,
            value: Payload::new(),
        };
        let note = NodeEvent::Note {
            worker,
            dispatch,
            text: "half".into(),
        };
        for event in [progress, note] {
            assert_eq!(told(&bench.event(event)).len(), expected);
        }
    }
    // Where nobody hears it, it is not kept.
    bench.event(NodeEvent::LinkClosed {
        link,
        reason: "cut".to_owned(),
    });
    let (worker, dispatch) = (WorkerId(0), d(1));
    let text = "lost".into();
    bench.event(NodeEvent::Note {
        worker,
        dispatch,
        text,
    });
    assert!(bench.node.holds().iter().all(|held| held.dispatch != d(3)));
}

#[test]
fn reports_are_sent_in_batches_and_in_order() {
    let count = MAX_BATCH as u64 + 10;
    let (mut bench, link) = Bench::up(spec(0));
    let all = (1..=count).map(at_once).collect();
    let actions = bench.assign(link, all);
    let lengths: Vec<_> = sent(&actions)
        .iter()
        .map(|message| match message {
            ToScheduler::Reports(reports) => reports.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(lengths, [MAX_BATCH, 10]);
    let seqs: Vec<_> = reports(&actions).iter().filter_map(Report::seq).collect();
    assert!(seqs.into_iter().eq(1..=count));
}

#[test]
fn stale_news_of_workers_change_nothing() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![at_once(1)]);
    assert!(bench.ended(0, 2, done()).is_empty());
    assert!(bench.ended(7, 1, done()).is_empty());
    assert!(bench.freed(0, 1).is_empty(), "it has not overrun");
    assert_eq!(bench.node.running(), 1);
}

#[test]
fn g5_a_node_that_is_full_asks_for_the_acknowledgement_that_it_waits_for() {
    let mut tight = spec(3);
    tight.config.max_kept_bytes = 100;
    let (mut bench, link) = Bench::up(tight);
    bench.assign(link, vec![at_once(1), at_once(2), at_once(3)]);
    let actions = bench.ended(1, 2, End::Completed(Payload::from(&[0; 50])));
    assert!(beats(&actions).is_empty(), "nothing waits for it");
    // 1 blocks the thread of the workers 0 and 2, on which 3 has not begun: its scheduler believes
    // that it runs.
    let workers = vec![WorkerId(0), WorkerId(2)];
    bench.event(NodeEvent::Stalled { workers });
    let (worker, assignment) = (WorkerId(2), at_once(3));
    let actions = bench.event(NodeEvent::Unstarted { worker, assignment });
    assert!(started(&actions).is_empty());
    assert_eq!(beats(&actions), [1]);
    let actions = bench.after(Duration::from_millis(100));
    assert!(beats(&actions).is_empty(), "it is not answered yet");
    bench.say(link, ToNode::Answer(1));
    let actions = bench.say(link, ToNode::Acknowledge(1));
    assert_eq!(started(&actions), [(1, 3)]);
}
