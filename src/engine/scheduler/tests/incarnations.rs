//! What is left of a process of a node that has ended, and for how long.

use std::time::Duration;

use super::{BLOCKS, Board, STOPS};
use crate::engine::message::{End, HeldRun, HeldState, Holding, NodeHello, ToScheduler};
use crate::engine::scheduler::orphans::MAX_REPLACED;
use crate::engine::{Event, Incarnation, LinkId, NodeId, Origin, Reach};
use crate::payload::Payload;
use crate::stats::NodeState;
use crate::task::{Dispatch, Options, TaskId};

const FIRST: NodeId = NodeId(0);

/// Makes a node that names a port to probe.
fn probed(board: &mut Board, incarnation: u64) -> NodeHello {
    let mut hello = board.hello("first", incarnation);
    hello.probe = Some(incarnation.to_string());
    hello
}

fn join_probed(board: &mut Board, incarnation: u64) -> LinkId {
    let hello = probed(board, incarnation);
    board.join_by(hello, Vec::new())
}

#[test]
fn g8_a_port_to_probe_is_that_of_the_host_which_dialled_and_of_no_other() {
    let address = |origin: Origin, port: &str| {
        let mut board = Board::new();
        add_first(&mut board);
        let link = LinkId(101);
        board.event(Event::LinkOpened {
            link,
            origin,
            peer: String::new(),
        });
        let mut hello = board.hello("first", 1);
        hello.probe = Some(port.to_owned());
        board.say(link, ToScheduler::Hello(Box::new(hello)));
        assert!(board.closed.is_empty(), "{:?}", board.closed);
        let process = board.machine.roster.nodes[0].latest_process();
        process.and_then(|process| process.probe.clone())
    };
    let came = |host: &str| Origin::Came(host.to_owned());
    assert_eq!(
        address(came("10.0.0.2"), "7"),
        Some("10.0.0.2:7".to_owned())
    );
    assert_eq!(
        address(came("[::1]"), "65535"),
        Some("[::1]:65535".to_owned())
    );
    for port in ["0", "65536", "-1", "10.0.0.3:7", "p", ""] {
        assert_eq!(address(came("10.0.0.2"), port), None, "{port}");
    }
    assert_eq!(address(Origin::Dialled(FIRST), "7"), None);
}

fn somebody_listens(board: &mut Board, incarnation: u64) {
    let (node, incarnation, refused) = (FIRST, Incarnation(incarnation), false);
    board.event(Event::Probed {
        node,
        incarnation,
        refused,
    });
}

fn nobody_listens(board: &mut Board, incarnation: u64) {
    let (node, incarnation, refused) = (FIRST, Incarnation(incarnation), true);
    board.event(Event::Probed {
        node,
        incarnation,
        refused,
    });
}

/// Lets time pass as asleep: a scheduler of one node wakes for a beat, a lease or a probe now and
/// then.
fn sleeps(board: &mut Board, time: Duration) {
    board.ticks = 0;
    board.wait(time);
    assert!(board.ticks < 10, "{} ticks in {time:?}", board.ticks);
    assert_eq!(board.machine.check(), Ok(()));
}

fn submit_keyed(board: &mut Board, kind: &str, exclusive: bool) -> TaskId {
    board.submit_with(kind, |it| {
        let options = Options {
            key: Some("key".into()),
            exclusive,
            ..Options::default()
        };
        it.options = Some(Box::new(options));
    })
}

#[test]
fn g8_a_probe_that_is_answered_when_its_node_is_back_wakes_nobody() {
    let mut board = Board::new();
    join_probed(&mut board, 1);
    board.wait(Duration::from_secs(60));
    assert_eq!(board.probes, [(FIRST, Incarnation(1))]);
    join_probed(&mut board, 1);
    somebody_listens(&mut board, 1);
    sleeps(&mut board, Duration::from_secs(4));
}

#[test]
fn g8_a_probe_that_is_answered_after_a_goodbye_wakes_nobody() {
    let mut board = Board::new();
    let link = join_probed(&mut board, 1);
    board.cut(link);
    assert_eq!(board.probes.len(), 1);
    let link = join_probed(&mut board, 1);
    board.say(link, ToScheduler::Goodbye);
    somebody_listens(&mut board, 1);
    sleeps(&mut board, Duration::from_secs(4));
    assert_eq!(board.probes.len(), 1);
}

#[test]
fn g8_a_replaced_incarnation_is_probed_until_its_last_run_has_ended() {
    let mut board = Board::new();
    join_probed(&mut board, 1);
    submit_keyed(&mut board, STOPS, false);
    board.wait(Duration::from_secs(10));
    let link = join_probed(&mut board, 2);
    assert_eq!(board.closed.pop().map(|it| it.0), Some(LinkId(1)));
    let mut answered = 0;
    for number in 1..60 {
        if let Some(&(_, Incarnation(incarnation))) = board.probes.get(answered) {
            answered += 1;
            somebody_listens(&mut board, incarnation);
        }
        let beat = crate::engine::message::Beat {
            number: number as u64,
            answered: number as u64 - 1,
            round_trip: None,
        };
        board.say(link, ToScheduler::Beat(beat));
        sleeps(&mut board, Duration::from_secs(1));
    }
    let probes = board
        .probes
        .iter()
        .filter(|probe| probe.1 == Incarnation(1));
    assert!((3..40).contains(&probes.count()), "{:?}", board.probes);
}

#[test]
fn g8_a_run_without_a_task_that_waits_for_it_wakes_nobody_before_it_has_ended() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = submit_keyed(&mut board, STOPS, false);
    board.cut(link);
    let lost = |board: &Board| board.machine.stats(board.now).running == 0;
    while !lost(&board) {
        board.wait(Duration::from_millis(100));
    }
    sleeps(&mut board, Duration::from_secs(20));
    board.join("second", 2, Vec::new());
    board.end(task, End::Completed(Payload::new()), false);
    // Nothing of its first run is left, and so its key is free.
    submit_keyed(&mut board, STOPS, false);
}

/// Makes a board where a node was lost with a task, and was found dead before another process of
/// its name came.
fn died_after_it_was_lost(exclusive: bool) -> (Board, TaskId, HeldRun) {
    let mut board = Board::new();
    let link = join_probed(&mut board, 1);
    let task = submit_keyed(&mut board, BLOCKS, exclusive);
    let (_, run) = board.assignment(task);
    board.cut(link);
    board.wait(Duration::from_secs(60));
    nobody_listens(&mut board, 1);
    let run = HeldRun {
        task,
        dispatch: run.dispatch,
        state: HeldState::Running,
    };
    (board, task, run)
}

#[test]
fn g3_a_new_process_does_not_take_over_a_run_of_a_dead_one() {
    for exclusive in [false, true] {
        let (mut board, task, run) = died_after_it_was_lost(exclusive);
        let hello = probed(&mut board, 2);
        let link = board.join_by(hello, vec![run]);
        let (to, again) = board.assignment(task);
        assert_eq!(to, link);
        assert!(again.dispatch > run.dispatch, "it was taken over");
        board.end(task, End::Completed(Payload::new()), false);
        assert_eq!(board.told.len(), 1);
    }
}

/// Joins as another process of the name when nothing was heard of the last one for long enough.
fn replace(board: &mut Board, link: LinkId, incarnation: u64, runs: Vec<HeldRun>) -> LinkId {
    board.cut(link);
    board.wait(Duration::from_secs(60));
    let hello = probed(board, incarnation);
    board.join_by(hello, runs)
}

#[test]
fn g8_runs_that_nobody_waits_for_end_with_the_incarnation_that_is_replaced() {
    let mut board = Board::new();
    board.machine.dispatches.skip_to(1000);
    let stranger = |number| HeldRun {
        task: TaskId::new(500 + number),
        dispatch: Dispatch::new(number),
        state: HeldState::Overrun,
    };
    let hello = probed(&mut board, 1);
    let link = board.join_by(hello, vec![stranger(1)]);
    let task = board.submit(BLOCKS);
    board.end(task, End::Completed(Payload::new()), true);
    replace(&mut board, link, 2, Vec::new());
    let process = &board.machine.roster.nodes[0].past[0];
    assert!(process.orphans.is_empty(), "{:?}", process.orphans);
    assert_eq!(
        (board.machine.unknown_runs.count(), process.probe.as_ref()),
        (0, None)
    );
}

#[test]
fn g12_a_run_of_a_replaced_incarnation_is_forgotten_when_its_task_has_settled() {
    let mut board = Board::new();
    let link = join_probed(&mut board, 1);
    let task = board.submit(BLOCKS);
    // It goes on though its attempt is over.
    board.end(task, End::Stopped, true);
    let (_, second) = board.assignment(task);
    let link_2 = replace(&mut board, link, 2, Vec::new());
    let orphans = |board: &Board| board.machine.roster.nodes[0].past[0].orphans.len();
    assert_eq!(orphans(&board), 1);
    let (to, third) = board.assignment(task);
    assert!(to == link_2 && third.dispatch > second.dispatch);
    board.end(task, End::Completed(Payload::new()), false);
    board.wait(Duration::from_secs(60));
    assert_eq!(orphans(&board), 0);
}

#[test]
fn g10_of_replaced_incarnations_those_are_remembered_whose_runs_are_waited_for() {
    let mut board = Board::new();
    let mut link = join_probed(&mut board, 1);
    let mut tasks = Vec::new();
    for incarnation in 2..102 {
        if incarnation < 22 {
            tasks.push(board.submit_with(BLOCKS, |it| {
                let options = Options {
                    exclusive: true,
                    ..Options::default()
                };
                it.options = Some(Box::new(options));
            }));
        }
        link = replace(&mut board, link, incarnation, Vec::new());
    }
    assert_eq!(board.machine.stats(board.now).held, tasks.len());
    let replaced = &board.machine.roster.nodes[0].past;
    assert_eq!(replaced.len(), tasks.len() + MAX_REPLACED);
    // The last of those that nobody waits for.
    assert!(
        replaced
            .iter()
            .any(|process| process.incarnation == Incarnation(100))
    );
    assert_eq!(board.machine.check(), Ok(()));
}

fn drain(board: &mut Board) {
    assert_eq!(board.machine.drain_node(board.now, "first"), Ok(()));
    board.settle_down();
}

/// Returns whether the node that has just come was told to drain, and is given nothing.
fn drains(board: &mut Board, link: LinkId) -> bool {
    let task = board.submit(STOPS);
    let given = board.assigned.iter().any(|(_, run)| run.task == task);
    let told = board.drains.contains(&link);
    assert_ne!(given, told);
    board.cancel(task);
    if given {
        board.end(task, End::Stopped, false);
    }
    told
}

fn add_first(board: &mut Board) {
    let reach = Reach::Dial("127.0.0.1:1".to_owned());
    let added = board.machine.add_node(board.now, "first".into(), reach);
    assert_eq!(added, Ok(FIRST));
    board.settle_down();
}

#[test]
fn a_node_that_is_drained_before_it_comes_drains_when_it_does() {
    let mut board = Board::new();
    add_first(&mut board);
    drain(&mut board);
    let link = board.join("first", 1, Vec::new());
    assert!(drains(&mut board, link));
    // So it does on another link.
    let link = board.join("first", 1, Vec::new());
    assert!(drains(&mut board, link));
    board.say(link, ToScheduler::Goodbye);
    let link = board.join("first", 2, Vec::new());
    assert!(!drains(&mut board, link), "a new process takes tasks again");
}

#[test]
fn a_node_that_is_drained_while_its_process_is_gone_drains_when_it_is_back() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    drain(&mut board);
    assert!(drains(&mut board, link));
    board.say(link, ToScheduler::Goodbye);
    drain(&mut board);
    let link = board.join("first", 2, Vec::new());
    assert!(drains(&mut board, link));
    board.say(link, ToScheduler::Goodbye);
    let link = board.join("first", 3, Vec::new());
    assert!(!drains(&mut board, link));
}

#[test]
fn a_lost_node_that_is_drained_drains_if_it_returns_and_its_successor_does_not() {
    for incarnation in [1, 2] {
        let mut board = Board::new();
        let link = board.join("first", 1, Vec::new());
        board.cut(link);
        board.wait(Duration::from_secs(60));
        drain(&mut board);
        let link = board.join("first", incarnation, Vec::new());
        assert_eq!(drains(&mut board, link), incarnation == 1);
    }
}

fn remove(board: &mut Board, name: &str) {
    assert_eq!(board.machine.remove_node(board.now, name), Ok(()));
    board.settle_down();
    assert_eq!(board.machine.check(), Ok(()));
}

fn dial_fails(board: &mut Board, node: NodeId) {
    board.event(Event::DialFailed {
        node,
        refused: false,
        reason: "no route to host".to_owned(),
    });
}

#[test]
fn a_node_that_is_added_and_removed_again_and_again_leaves_one_record() {
    let mut board = Board::new();
    for _ in 0..1000 {
        add_first(&mut board);
        dial_fails(&mut board, FIRST);
        remove(&mut board, "first");
    }
    let roster = &board.machine.roster;
    assert_eq!((roster.nodes.len(), roster.vacant.len()), (1, 1));
    assert!(roster.nodes[0].reason.is_empty());
    board.wait(Duration::from_secs(60));
    assert!(board.machine.timers.next().is_none());
}

#[test]
fn the_answer_to_a_dial_is_not_taken_for_that_of_a_later_node_of_the_name() {
    let mut board = Board::new();
    add_first(&mut board);
    remove(&mut board, "first");
    let reach = Reach::Dial("127.0.0.1:2".to_owned());
    let later = board.machine.add_node(board.now, "first".into(), reach);
    assert_eq!(later, Ok(FIRST));
    board.settle_down();
    assert_eq!(board.dials, ["127.0.0.1:1"], "one is under way");
    dial_fails(&mut board, FIRST);
    let stats = board.machine.stats(board.now);
    assert_eq!(stats.nodes[0].reason, "it was not reached so far");
    assert_eq!(board.dials[1..], ["127.0.0.1:2"]);
    // Nor is the link to which it leads.
    remove(&mut board, "first");
    add_first(&mut board);
    board.settle_down();
    let link = LinkId(7);
    let origin = Origin::Dialled(FIRST);
    board.event(Event::LinkOpened {
        link,
        origin,
        peer: String::new(),
    });
    assert_eq!(board.closed.last().map(|(link, _)| *link), Some(link));
    assert_eq!(board.dials[2..], ["127.0.0.1:1"]);
}

#[test]
fn g11_a_removed_node_leaves_its_name_alone() {
    let mut board = Board::new();
    board.join("first", 1, Vec::new());
    let before = board.machine.catalogue.offered_bytes();
    let mut hello = board.hello("second", 2);
    hello.kinds.truncate(1);
    hello.kinds[0].kind = "rare".to_owned();
    hello.labels = ["gpu".to_owned()].into();
    hello.workers = 4;
    let link = board.join_by(hello, Vec::new());
    let task = board.submit("rare");
    board.end(task, End::Stopped, true);
    let exclusive = board.submit_with("rare", |it| {
        let options = Options {
            exclusive: true,
            ..Options::default()
        };
        it.options = Some(Box::new(options));
    });
    assert!(board.machine.catalogue.offered_bytes() > before);
    remove(&mut board, "second");
    // Until its goodbye it speaks for its runs.
    let held = board.machine.stats(board.now).held;
    assert_eq!((held, board.machine.roster.leaving.len()), (1, 1));
    board.say(link, ToScheduler::Goodbye);
    assert_eq!(board.machine.check(), Ok(()));
    assert_eq!(board.machine.stats(board.now).held, 0);
    let roster = &board.machine.roster;
    let catalogue = &board.machine.catalogue;
    assert_eq!(catalogue.offered_bytes(), before);
    assert!(catalogue.labels_at(1).is_empty() && roster.leaving.is_empty());
    // Its tasks still know where they have run.
    for task in [task, exclusive] {
        board.cancel(task);
        let status = board.told.last().expect("it was cancelled");
        assert_eq!((status.id, status.node.as_deref()), (task, Some("second")));
    }
}

#[test]
fn g3_a_node_that_is_added_again_does_not_take_over_a_run_of_the_removed_one() {
    let mut board = Board::new();
    let link = board.join("first", 1, Vec::new());
    let task = board.submit(STOPS);
    let (_, run) = board.assignment(task);
    remove(&mut board, "first");
    board.say(link, ToScheduler::Goodbye);
    let run = HeldRun {
        task,
        dispatch: run.dispatch,
        state: HeldState::Running,
    };
    board.join("first", 2, vec![run]);
    assert_eq!(board.machine.roster.nodes.len(), 1);
    let (_, again) = board.assignment(task);
    assert!(again.dispatch > run.dispatch, "it was taken over");
}

/// Tells that the scheduler's dial of the first node has led to a process of this incarnation.
fn dials_first(board: &mut Board, link: LinkId, incarnation: u64) {
    let origin = Origin::Dialled(FIRST);
    board.event(Event::LinkOpened {
        link,
        origin,
        peer: String::new(),
    });
    let hello = board.hello("first", incarnation);
    board.say(link, ToScheduler::Hello(Box::new(hello)));
    let nothing = Holding {
        last: true,
        ..Holding::default()
    };
    board.say(link, ToScheduler::Holding(nothing));
}

#[test]
fn g8_a_new_process_at_the_address_of_a_dead_one_is_up_by_the_dial_that_found_it() {
    let mut board = Board::new();
    add_first(&mut board);
    let (old, new) = (LinkId(101), LinkId(102));
    dials_first(&mut board, old, 1);
    board.cut(old);
    dials_first(&mut board, new, 2);
    assert!(board.closed.is_empty(), "{:?}", board.closed);
    let stats = board.machine.stats(board.now);
    let node = &stats.nodes[0];
    assert_eq!((node.state, node.incarnation), (NodeState::Up, Some(2)));
}
