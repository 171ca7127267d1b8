//! What a node says of its memory: whether it has forgotten what its scheduler had given it.

use super::*;

/// Returns the memory that the node tells a scheduler of, on a fresh link.
fn told_to(bench: &mut Bench, scheduler: &str, scheduler_id: u64) -> (LinkId, Memory) {
    let link = bench.open(None);
    let actions = bench.say(link, hello(scheduler, scheduler_id));
    let memory = sent(&actions)
        .into_iter()
        .find_map(|message| match message {
            ToScheduler::Hello(hello) => Some(hello.memory),
            _ => None,
        });
    (link, memory.expect("the node answers with its hello"))
}

fn welcomed(bench: &mut Bench, link: LinkId) {
    let actions = bench.say(link, ToNode::Welcome(Box::new(welcome())));
    assert!(closed(&actions).is_empty(), "{actions:?}");
}

#[test]
fn g9_a_memory_is_the_same_on_every_link_until_another_scheduler_is_served() {
    let mut bench = Bench::new(spec(2));
    let (link, first) = told_to(&mut bench, "a", 1);
    welcomed(&mut bench, link);
    bench.assign(link, vec![at_once(1)]);
    bench.cut(link);
    bench.after(LEASE);
    let (link, second) = told_to(&mut bench, "a", 1);
    assert_eq!(first, second);
    welcomed(&mut bench, link);
    bench.cut(link);
    bench.after(LEASE);

    let (link, others) = told_to(&mut bench, "b", 1);
    assert_ne!(others, first);
    // It never welcomes the node, and all that "a" had given is gone.
    bench.cut(link);
    let (_, third) = told_to(&mut bench, "a", 1);
    assert_ne!(third, first);
}

#[test]
fn g9_a_scheduler_that_never_welcomed_the_node_had_nothing_forgotten() {
    let mut bench = Bench::new(spec(2));
    let (link, first) = told_to(&mut bench, "a", 1);
    // Its welcome, and what it assigned after that, are lost with the link.
    bench.cut(link);
    let (_, second) = told_to(&mut bench, "a", 1);
    assert_eq!(first, second);
}

#[test]
fn g9_a_node_that_was_told_to_leave_has_forgotten_when_it_is_served_again() {
    let (mut bench, link) = Bench::up(spec(2));
    bench.assign(link, vec![at_once(1)]);
    bench.say(link, ToNode::Leave);
    let actions = bench.event(NodeEvent::Ended {
        worker: crate::engine::WorkerId(0),
        dispatch: d(1),
        end: End::Stopped,
        ran: Duration::from_millis(1),
        overrun: false,
    });
    assert!(says_goodbye(&actions), "{actions:?}");
    let (_, again) = told_to(&mut bench, "a", 1);
    assert_ne!(again, Memory(1));
}
