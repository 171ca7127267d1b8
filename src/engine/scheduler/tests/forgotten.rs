//! Names that come and go: how many that are gone are remembered, and which never are forgotten.

use std::collections::BTreeSet;
use std::time::Duration;

use super::common::done;
use super::{Board, STOPS};
use crate::engine::message::ToScheduler;
use crate::engine::scheduler::forgetting::MAX_GONE;
use crate::engine::scheduler::hello::MAX_NODES;
use crate::engine::work::steps_of;
use crate::engine::{Audience, Event, LinkId, NodeId, Reach};
use crate::task::Options;

/// Names as an orchestrator gives them, each for one process alone.
const PODS: usize = 100_000;

fn pod(number: usize) -> String {
    format!("pod-{number:08x}")
}

/// Checks that what is remembered is bounded, wherever it is.
fn remembers_few(board: &Board, present: usize) {
    let most = MAX_GONE + present;
    let roster = &board.machine.roster;
    let names = roster.names.len() + roster.vacant.len() + roster.leaving.len();
    assert!(names <= most, "{names} names are remembered");
    let records = roster.nodes.len();
    assert!(records <= most, "there are {records} records");
    assert!(board.machine.stats(board.now).nodes.len() <= most);
    assert_eq!(board.machine.check(), Ok(()));
}

/// Joins as a node of this name.
fn join(board: &mut Board, number: usize) -> LinkId {
    board.join(&pod(number), number as u64 + 1, Vec::new())
}

#[test]
fn nodes_that_join_and_say_goodbye_for_years_leave_what_a_thousand_leave() {
    let mut board = Board::unchecked();
    for number in 0..PODS {
        let link = join(&mut board, number);
        let task = board.submit_with(STOPS, |it| it.audience = Audience::Caller);
        board.end(task, done(), false);
        let (status, _) = board.answered.pop().unwrap();
        assert_eq!(status.node.as_deref(), Some(&*pod(number)));
        board.say(link, ToScheduler::Goodbye);
        board.now = board.now + Duration::from_secs(1);
    }
    remembers_few(&board, 1);
    // The last ones are remembered.
    let stats = board.machine.stats(board.now);
    let names: BTreeSet<_> = stats
        .nodes
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    assert!((PODS - 500..PODS).all(|number| names.contains(&pod(number))));
}

#[test]
fn nodes_that_fall_silent_for_years_leave_what_a_thousand_leave() {
    let mut board = Board::unchecked();
    for number in 0..PODS {
        let link = join(&mut board, number);
        board.cut(link);
        if number % 16 == 0 {
            board.wait(Duration::from_secs(5));
        }
    }
    board.wait(Duration::from_secs(60));
    // A lease after each other, so many were there at once.
    remembers_few(&board, 100);
}

#[test]
fn nodes_that_are_added_and_removed_for_years_leave_what_a_thousand_leave() {
    let mut board = Board::unchecked();
    for number in 0..PODS {
        let reach = Reach::Dial("127.0.0.1:1".to_owned());
        let added = board
            .machine
            .add_node(board.now, pod(number).as_str().into(), reach);
        board.settle_down();
        let failed = Event::DialFailed {
            node: added.unwrap(),
            refused: true,
            reason: "refused".to_owned(),
        };
        // Before it is removed, or after.
        let (before, after) = if number % 2 == 0 {
            (Some(failed), None)
        } else {
            (None, Some(failed))
        };
        before.into_iter().for_each(|event| board.event(event));
        assert_eq!(board.machine.remove_node(board.now, &pod(number)), Ok(()));
        after.into_iter().for_each(|event| board.event(event));
        board.dials.clear();
    }
    remembers_few(&board, 0);
}

#[test]
fn a_name_that_is_added_again_while_its_dial_hangs_has_one_record_and_one_dial() {
    let mut board = Board::new();
    for _ in 0..1000 {
        let reach = Reach::Dial("127.0.0.1:1".to_owned());
        let added = board.machine.add_node(board.now, "first".into(), reach);
        assert_eq!(added, Ok(NodeId(0)));
        board.settle_down();
        assert_eq!(board.machine.remove_node(board.now, "first"), Ok(()));
        board.settle_down();
    }
    let roster = &board.machine.roster;
    assert_eq!((roster.nodes.len(), roster.vacant.len()), (1, 1));
    assert_eq!(board.dials.len(), 1);
}

#[test]
fn nodes_that_are_gone_take_no_place_of_those_that_come() {
    let mut board = Board::unchecked();
    let links: Vec<_> = (0..MAX_NODES)
        .map(|number| join(&mut board, number))
        .collect();
    board.closed.clear();
    let refused = join(&mut board, MAX_NODES);
    assert_eq!(board.closed.pop().unwrap().0, refused);
    for &link in &links[..100] {
        board.say(link, ToScheduler::Goodbye);
    }
    board.closed.clear();
    for number in 0..100 {
        join(&mut board, MAX_NODES + 1 + number);
    }
    assert_eq!(board.closed, [], "each has a place");
    let refused = join(&mut board, 2 * MAX_NODES);
    assert_eq!(board.closed.pop().unwrap().0, refused);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn a_node_that_a_task_or_a_run_may_be_asked_about_is_never_forgotten() {
    let mut board = Board::unchecked();
    let exclusive = Options {
        exclusive: true,
        ..Options::default()
    };
    // A run that blocks, of which nobody knows whether it has ended.
    let first = board.join("orphan", 1, Vec::new());
    let held = board.submit_with(super::BLOCKS, |it| it.options = Some(Box::new(exclusive)));
    board.cut(first);
    board.wait(Duration::from_secs(40));
    // One that was lost under a task, which waits for another node since.
    let second = board.join("lost", 2, Vec::new());
    let waiting = board.submit(STOPS);
    board.cut(second);
    board.wait(Duration::from_secs(40));
    let mut hello = board.hello("other", 3);
    hello.kinds.clear();
    let third = board.join_by(hello, Vec::new());
    for number in 0..4 * MAX_GONE {
        let mut hello = board.hello(&pod(number), 10 + number as u64);
        hello.kinds.clear();
        let link = board.join_by(hello, Vec::new());
        board.say(link, ToScheduler::Goodbye);
    }
    let has = |board: &Board, name: &str| {
        let stats = board.machine.stats(board.now);
        stats.nodes.iter().any(|node| &*node.name == name)
    };
    assert!(has(&board, "orphan") && has(&board, "lost") && has(&board, "other"));
    remembers_few(&board, 3);
    board.cancel(waiting);
    assert_eq!(board.told.pop().unwrap().node.as_deref(), Some("lost"));
    assert_eq!(board.machine.declare_dead(board.now, "orphan"), Ok(()));
    board.cancel(held);
    assert_eq!(board.told.pop().unwrap().node.as_deref(), Some("orphan"));
    board.say(third, ToScheduler::Goodbye);
    for number in 0..2 * MAX_GONE {
        let link = join(&mut board, number);
        board.say(link, ToScheduler::Goodbye);
    }
    assert!(!has(&board, "orphan") && !has(&board, "lost") && !has(&board, "other"));
}

#[test]
fn nodes_that_are_lost_at_once_are_forgotten_within_a_lease_after_theirs_has_ended() {
    let mut board = Board::unchecked();
    let links: Vec<_> = (0..3 * MAX_GONE)
        .map(|number| join(&mut board, number))
        .collect();
    links.into_iter().for_each(|link| board.cut(link));
    board.wait(Duration::from_secs(16));
    assert_eq!(board.machine.remains().nodes, 3 * MAX_GONE);
    let look = board.machine.next_wakeup();
    assert!(look.is_some_and(|at| at <= board.now + Duration::from_secs(15)));
    board.wait(Duration::from_secs(20));
    assert!(board.machine.remains().nodes <= MAX_GONE);
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn no_more_are_remembered_for_a_lease_that_ran_at_the_last_look() {
    let mut board = Board::new();
    board.machine.max_gone = 8;
    let mut number = 0;
    let mut comes = |board: &mut Board| {
        number += 1;
        join(board, number)
    };
    for round in 0..20 {
        for _ in 0..9 {
            let link = comes(&mut board);
            board.say(link, ToScheduler::Goodbye);
        }
        let silent = comes(&mut board);
        board.cut(silent);
        board.wait(Duration::from_secs(15));
        for _ in 0..=round {
            let link = comes(&mut board);
            board.say(link, ToScheduler::Goodbye);
        }
        board.wait(Duration::from_secs(60));
        let link = comes(&mut board);
        board.say(link, ToScheduler::Goodbye);
        board.settle_down();
        let nodes = board.machine.remains().nodes;
        assert!(nodes <= 8, "{nodes} in round {round}");
        assert_eq!(board.machine.check(), Ok(()));
    }
}

#[test]
fn a_node_is_forgotten_whose_port_for_probes_never_answers() {
    let mut board = Board::new();
    board.machine.max_gone = 0;
    let mut hello = board.hello(&pod(0), 1);
    hello.probe = Some("9".to_owned());
    let link = board.join_by(hello, Vec::new());
    board.cut(link);
    // Each probe hangs until the next is due.
    board.wait(Duration::from_secs(60));
    assert_eq!(board.probes.len(), 1);
    assert_eq!(board.machine.remains().nodes, 0);
    // The answer comes when the record is another's.
    let (first, probed) = board.probes[0];
    let mut hello = board.hello(&pod(1), 2);
    hello.probe = Some("9".to_owned());
    board.join_by(hello, Vec::new());
    board.event(Event::Probed {
        node: first,
        incarnation: probed,
        refused: true,
    });
    let nodes = board.machine.stats(board.now).nodes;
    assert_eq!(nodes[0].incarnation, Some(2));
    assert_eq!(board.machine.check(), Ok(()));
}

#[test]
fn a_node_keeps_its_name_when_a_removed_one_of_that_name_is_forgotten() {
    let mut board = Board::new();
    board.machine.max_gone = 0;
    let removed = join(&mut board, 0);
    assert_eq!(board.machine.remove_node(board.now, &pod(0)), Ok(()));
    let second = board.join(&pod(0), 2, Vec::new());
    board.say(removed, ToScheduler::Goodbye);
    board.settle_down();
    assert_eq!(
        board.machine.remains().nodes,
        1,
        "the removed one is forgotten"
    );
    let up = |board: &Board| {
        let nodes = board.machine.stats(board.now).nodes;
        let up = nodes.iter().find(|node| *node.name == *pod(0));
        up.map(|node| node.incarnation)
    };
    assert_eq!(up(&board), Some(Some(2)));
    board.say(second, ToScheduler::Goodbye);
    board.settle_down();
    assert_eq!((up(&board), board.machine.remains().nodes), (None, 0));
}

#[test]
fn who_comes_and_goes_costs_no_look_at_all_others_each_time() {
    let mut board = Board::unchecked();
    for number in 0..2 * MAX_GONE {
        let link = join(&mut board, number);
        board.say(link, ToScheduler::Goodbye);
    }
    for _ in 0..10_000 {
        board.submit("unknown");
    }
    let steps = steps_of(|| {
        for number in 2 * MAX_GONE..3 * MAX_GONE {
            let link = join(&mut board, number);
            board.say(link, ToScheduler::Goodbye);
        }
    });
    let each = steps / MAX_GONE as u64;
    assert!(each < 300, "{each} steps for each that comes and goes");
}
