//! Pipelined starts: who gets them, in which order they run, and how they come back.

use super::*;
use crate::engine::message::HeldState;

const SHORT: Duration = Duration::from_micros(30);

impl Bench {
    /// Ends a run that took so long.
    fn took(&mut self, worker: u32, number: u64, ran: Duration) -> Vec<NodeAction> {
        self.event(NodeEvent::Ended {
            worker: WorkerId(worker),
            dispatch: d(number),
            end: done(),
            ran,
            overrun: false,
        })
    }

    /// Makes a bench that knows its runs to be short, where each worker has a run, numbered from 1.
    fn quick(spec: NodeSpec) -> (Self, LinkId) {
        let workers = u64::from(spec.config.max_workers);
        let (mut bench, link) = Self::up(spec);
        bench.assign(link, vec![prefetched(1000)]);
        bench.took(0, 1000, SHORT);
        bench.assign(link, (1..=workers).map(prefetched).collect());
        (bench, link)
    }

    fn given_back(&mut self, worker: u32, assignment: Assignment) -> Vec<NodeAction> {
        self.event(NodeEvent::Unstarted {
            worker: WorkerId(worker),
            assignment,
        })
    }
}

fn prior(number: u64, priority: i8) -> Assignment {
    let terms = Terms {
        priority,
        ..Terms::default()
    };
    task(number, SOFT, true, Some(terms))
}

fn pass() -> Duration {
    Duration::from_millis(1)
}

#[test]
fn short_runs_are_pipelined_evenly_and_no_deeper_than_they_last() {
    let (mut bench, link) = Bench::quick(spec(2));
    let actions = bench.assign(link, (3..=30).map(prefetched).collect());
    let mut given = started(&actions);
    assert_eq!(given[..4], [(0, 3), (1, 4), (0, 5), (1, 6)]);
    // Ten runs of 30 us are 300 us.
    assert_eq!(given.len(), 20);
    // However short they are, no more than 64.
    for number in [1, 3, 5, 7, 9, 11] {
        given.extend(started(&bench.took(0, number, Duration::ZERO)));
    }
    for _ in 0..30 {
        bench.node.pipelines.learn(Duration::ZERO);
    }
    let actions = bench.assign(link, (31..=400).map(prefetched).collect());
    assert!(!started(&actions).is_empty());
    let pipelined = bench.node.pipelines.iter().count();
    assert_eq!(pipelined, 128);
}

#[test]
fn long_runs_exclusive_and_blocking_tasks_are_not_pipelined() {
    let (mut bench, link) = Bench::up(spec(1));
    bench.assign(link, vec![prefetched(1), prefetched(2)]);
    let actions = bench.took(0, 1, Duration::from_micros(51));
    assert_eq!(started(&actions), [(0, 2)]);
    assert_eq!(started(&bench.assign(link, vec![prefetched(3)])), []);

    let (mut bench, link) = Bench::quick(spec(1));
    let exclusive = Assignment {
        prefetched: true,
        ..exclusive(2, SOFT)
    };
    assert_eq!(
        started(&bench.assign(link, vec![exclusive, prefetched(3)])),
        []
    );

    let (mut bench, link) = Bench::quick(spec(1));
    let blocking = task(2, BLOCKING, true, None);
    assert_eq!(started(&bench.assign(link, vec![blocking])), []);
    // Nor is anything pipelined behind one.
    assert_eq!(started(&bench.took(0, 1, SHORT)), [(0, 2)]);
    assert_eq!(started(&bench.assign(link, vec![prefetched(3)])), []);
}

#[test]
fn g4_the_next_of_a_pipeline_runs_when_the_one_before_has_ended() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    assert_eq!(bench.node.running(), 1);
    let states: Vec<HeldState> = bench.node.holds().iter().map(|run| run.state).collect();
    assert_eq!(
        states,
        [
            HeldState::Running,
            HeldState::Prefetched,
            HeldState::Prefetched
        ]
    );
    let actions = bench.took(0, 1, SHORT);
    assert_eq!(told(&actions), ["started #2", "completed #1"]);
    assert_eq!(started(&actions), []);
    assert_eq!(bench.node.running(), 1);
    bench.took(0, 2, SHORT);
    bench.took(0, 3, SHORT);
    assert_eq!(bench.node.running(), 0);
}

#[test]
fn a_pipelined_run_that_ended_before_the_news_left_is_not_told_as_started() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2)]);
    for number in [1, 2] {
        let ended = NodeEvent::Ended {
            worker: WorkerId(0),
            dispatch: d(number),
            end: done(),
            ran: SHORT,
            overrun: false,
        };
        bench.node.handle(bench.now, ended);
    }
    assert_eq!(told(&bench.effects()), ["completed #1", "completed #2"]);
}

#[test]
fn a_retraction_takes_back_what_has_not_begun_and_leaves_what_has() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    let actions = bench.say(link, ToNode::Retract(vec![d(2), d(3)]));
    assert_eq!(taken_back(&actions), [(0, 2), (0, 3)]);
    assert_eq!(told(&actions), [""; 0]);
    assert_eq!(told(&bench.given_back(0, prefetched(3))), ["returned #3"]);
    // The other has begun before it was asked back.
    let actions = bench.took(0, 1, SHORT);
    assert_eq!(told(&actions), ["started #2", "completed #1"]);
    assert_eq!(stopped(&actions), []);
    assert_eq!(told(&bench.took(0, 2, SHORT)), ["completed #2"]);
}

#[test]
fn a_retracted_one_is_returned_though_it_was_thought_to_have_begun() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2)]);
    bench.say(link, ToNode::Retract(vec![d(2)]));
    bench.took(0, 1, SHORT);
    assert_eq!(told(&bench.given_back(0, prefetched(2))), ["returned #2"]);
    assert_eq!(bench.node.running(), 0);
}

#[test]
fn g12_a_pipelined_task_that_is_cancelled_never_starts_or_is_stopped() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    let actions = bench.say(link, ToNode::Cancel(vec![d(2), d(3)]));
    assert_eq!(taken_back(&actions), [(0, 2), (0, 3)]);
    let actions = bench.given_back(0, prefetched(3));
    assert_eq!(told(&actions), ["stopped #3"]);
    assert_eq!(stopped(&bench.took(0, 1, SHORT)), [(0, 2)]);
    assert_eq!(told(&bench.ended(0, 2, End::Stopped)), ["stopped #2"]);
}

#[test]
fn a_drain_returns_what_is_pipelined() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    let actions = bench.say(link, ToNode::Drain);
    assert_eq!(taken_back(&actions), [(0, 2), (0, 3)]);
    assert_eq!(told(&bench.given_back(0, prefetched(2))), ["returned #2"]);
    assert_eq!(told(&bench.given_back(0, prefetched(3))), ["returned #3"]);
    bench.took(0, 1, SHORT);
    assert_eq!(bench.node.running(), 0);
}

#[test]
fn a_stop_drops_a_pipelined_run_that_had_begun() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    let actions = bench.event(NodeEvent::Stop);
    assert_eq!(stopped(&actions), [(0, 1)]);
    assert_eq!(taken_back(&actions), [(0, 2), (0, 3)]);
    assert_eq!(told(&bench.given_back(0, prefetched(3))), ["returned #3"]);
    assert_eq!(stopped(&bench.took(0, 1, SHORT)), [(0, 2)]);
    assert_eq!(told(&bench.ended(0, 2, End::Stopped)), ["dropped #2"]);
}

#[test]
fn g10_the_end_of_the_lease_takes_pipelines_back_and_drops_what_had_begun() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    // The process was frozen.
    let actions = bench.after(LEASE);
    assert_eq!(stopped(&actions), [(0, 1)]);
    assert_eq!(taken_back(&actions), [(0, 2), (0, 3)]);
    assert_eq!(told(&bench.given_back(0, prefetched(3))), ["returned #3"]);
    let actions = bench.ended(0, 1, End::Stopped);
    assert_eq!(stopped(&actions), [(0, 2)]);
    assert_eq!(told(&bench.ended(0, 2, End::Stopped)), ["dropped #2"]);
}

#[test]
fn nothing_is_pipelined_when_the_lease_is_about_to_end() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.after(LEASE / 5 * 4);
    assert_eq!(started(&bench.took(0, 1, SHORT)), []);
    assert_eq!(started(&bench.assign(link, vec![prefetched(2)])), [(0, 2)]);
    assert_eq!(started(&bench.assign(link, vec![prefetched(3)])), []);
}

#[test]
fn leaving_discards_a_pipeline_and_waits_for_what_had_begun() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    let actions = bench.say(link, ToNode::Leave);
    assert_eq!(taken_back(&actions), [(0, 2), (0, 3)]);
    assert_eq!(told(&bench.given_back(0, prefetched(3))), [""; 0]);
    let actions = bench.ended(0, 1, End::Stopped);
    assert_eq!(stopped(&actions), [(0, 2)]);
    assert!(!says_goodbye(&actions));
    assert!(says_goodbye(&bench.ended(0, 2, End::Stopped)));
}

#[test]
fn pipelines_beyond_a_lowered_limit_wait_again_in_their_order() {
    let (mut bench, link) = Bench::quick(spec(2));
    let all: Vec<Assignment> = (3..=24).map(prefetched).collect();
    bench.assign(link, all);
    let actions = bench.say(link, ToNode::Workers(1));
    let back = taken_back(&actions);
    assert_eq!(back.len(), 10);
    assert!(back.iter().all(|(worker, _)| *worker == 1));
    for (_, number) in back.iter().rev() {
        assert_eq!(told(&bench.given_back(1, prefetched(*number))), [""; 0]);
    }
    let waiting: Vec<u64> = bench
        .node
        .prefetched
        .iter()
        .map(|(_, waiting)| waiting.assignment.dispatch.get())
        .collect();
    let expected: Vec<u64> = (4..=22).step_by(2).chain([23, 24]).collect();
    assert_eq!(waiting, expected);
}

#[test]
fn g7_a_pipeline_on_a_stalled_thread_goes_elsewhere() {
    let (mut bench, link) = Bench::quick(spec(2));
    bench.assign(link, vec![prefetched(3), prefetched(4)]);
    let workers = vec![WorkerId(0)];
    let actions = bench.event(NodeEvent::Stalled { workers });
    assert_eq!(taken_back(&actions), [(0, 3)]);
    let actions = bench.given_back(0, prefetched(3));
    assert_eq!(started(&actions), [(1, 3)], "behind the run of the other");
    bench.took(1, 2, SHORT);
    assert_eq!(started(&bench.assign(link, vec![prefetched(5)])), [(1, 5)]);
}

#[test]
fn g6_what_a_stalled_thread_gives_back_keeps_its_place() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, (2..=5).map(prefetched).collect());
    // The thread gives back what it has, one by one, and learns of the last only then.
    let actions = bench.given_back(0, prefetched(2));
    assert_eq!(taken_back(&actions), [(0, 3), (0, 4), (0, 5)]);
    assert_eq!(
        started(&actions),
        [],
        "none goes behind what comes after it"
    );
    for number in 3..=4 {
        assert_eq!(started(&bench.given_back(0, prefetched(number))), []);
    }
    let actions = bench.given_back(0, prefetched(5));
    assert_eq!(started(&actions), [(0, 2), (0, 3), (0, 4), (0, 5)]);
}

#[test]
fn g9_nothing_is_pipelined_when_too_much_is_kept() {
    let mut spec = spec(1);
    spec.config.max_kept_bytes = 500;
    let (mut bench, link) = Bench::quick(spec);
    bench.assign(link, vec![prefetched(2), prefetched(3)]);
    let end = End::Completed(Payload::from(&[0; 600]));
    let actions = bench.event(NodeEvent::Ended {
        worker: WorkerId(0),
        dispatch: d(1),
        end,
        ran: SHORT,
        overrun: false,
    });
    assert_eq!(taken_back(&actions), [(0, 3)]);
    bench.given_back(0, prefetched(3));
    let actions = bench.took(0, 2, SHORT);
    assert_eq!(started(&actions), []);
    assert_eq!(started(&bench.assign(link, vec![prefetched(4)])), []);
    assert_eq!(
        started(&bench.say(link, ToNode::Acknowledge(3))),
        [(0, 3), (0, 4)]
    );
}

#[test]
fn g5_a_short_task_is_not_stuck_behind_a_long_one() {
    let (mut bench, link) = Bench::quick(spec(2));
    bench.assign(link, vec![prefetched(3), prefetched(4)]);
    assert_eq!(bench.node.next_wakeup(), Some(bench.now + pass()));
    bench.took(1, 2, SHORT);
    bench.took(1, 4, SHORT);
    // The other worker is free, and nothing waits but in the pipeline.
    let actions = bench.after(pass());
    assert_eq!(taken_back(&actions), [(0, 3)]);
    assert!(bench.node.next_wakeup() > Some(bench.now + pass()));
    assert_eq!(started(&bench.given_back(0, prefetched(3))), [(1, 3)]);
}

#[test]
fn g5_a_pipeline_behind_a_long_run_waits_for_whoever_is_free_first() {
    let (mut bench, link) = Bench::quick(spec(2));
    bench.assign(link, vec![prefetched(3), prefetched(4)]);
    let actions = bench.after(pass());
    assert_eq!(taken_back(&actions), [(0, 3), (1, 4)]);
    assert_eq!(started(&bench.given_back(1, prefetched(4))), []);
    assert_eq!(started(&bench.given_back(0, prefetched(3))), []);
    assert_eq!(started(&bench.took(1, 2, SHORT)), [(1, 3), (1, 4)]);
}

#[test]
fn g6_a_pipeline_is_filled_by_priority_and_goes_back_behind_what_is_higher() {
    let (mut bench, link) = Bench::quick(spec(1));
    let actions = bench.assign(link, vec![prior(2, -1), prior(3, 1)]);
    assert_eq!(started(&actions), [(0, 3), (0, 2)]);
    bench.after(pass());
    bench.given_back(0, prior(3, 1));
    bench.given_back(0, prior(2, -1));
    bench.assign(link, vec![prior(4, 0)]);
    assert_eq!(started(&bench.took(0, 1, SHORT)), [(0, 3), (0, 4), (0, 2)]);
}

#[test]
fn g9_a_pipeline_survives_a_broken_link() {
    let (mut bench, link) = Bench::quick(spec(1));
    bench.assign(link, vec![prefetched(2)]);
    bench.cut(link);
    bench.took(0, 1, SHORT);
    let back = bench.open(None);
    let actions = bench.say(back, hello("a", 1));
    let held = holdings(&actions);
    assert_eq!(held[0].runs[0].dispatch, d(2));
    assert_eq!(held[0].runs[0].state, HeldState::Running);
    let actions = bench.say(back, ToNode::Welcome(Box::new(welcome())));
    assert_eq!(told(&actions), [""; 0]);
    assert_eq!(told(&bench.took(0, 2, SHORT)), ["completed #2"]);
}
