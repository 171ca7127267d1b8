//! Random histories of one scheduler's machine beside a naive model.
//!
//! Owns: the steps of a history. Does not know: delays, cuts and doubles, which are the
//! simulation's.

#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

mod nodes;
mod world;

use std::sync::Arc;

use callboard::__internals::engine::scheduler::SchedulerMachine;
use callboard::__internals::engine::{ClientId, SchedulerId, Timestamp};
use callboard::config::SchedulerConfig;
use proptest::prelude::*;

use world::World;

const NODES: usize = 3;
const CLIENT: ClientId = ClientId(1);

#[derive(Clone, Debug)]
enum Step {
    Submit {
        priority: i8,
        delay_ms: Option<u64>,
        exclusive: bool,
        key: Option<u8>,
    },
    Cancel(usize),
    Connect(usize),
    Disconnect(usize),
    /// The process dies and another comes in its place.
    Restart(usize),
    End {
        node: usize,
        which: usize,
        how: u8,
    },
    Advance(u64),
    Workers(usize, u32),
    Beat,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (
            -2i8..3,
            prop::option::weighted(0.2, 1u64..5000),
            prop::bool::weighted(0.2),
            prop::option::weighted(0.15, 0u8..3),
        )
            .prop_map(|(priority, delay_ms, exclusive, key)| Step::Submit {
                priority,
                delay_ms,
                exclusive,
                key,
            }),
        1 => (0usize..40).prop_map(Step::Cancel),
        2 => (0..NODES).prop_map(Step::Connect),
        1 => (0..NODES).prop_map(Step::Disconnect),
        1 => (0..NODES).prop_map(Step::Restart),
        8 => (0..NODES, 0usize..8, 0u8..6).prop_map(|(node, which, how)| Step::End { node, which, how }),
        3 => (1u64..4000).prop_map(Step::Advance),
        1 => (0..NODES, 0u32..4).prop_map(|(node, workers)| Step::Workers(node, workers)),
        2 => Just(Step::Beat),
    ]
}

fn history(max_prefetch: u32, steps: &[Step]) {
    let mut world = World::new(max_prefetch);
    for step in steps {
        world.step(step);
        world.settle();
        world.wake();
        world.judge();
    }
    world.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scheduler_that_sends_nothing_ahead_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        history(0, &steps);
    }

    #[test]
    fn a_scheduler_that_sends_ahead_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        history(16, &steps);
    }
}

/// Uses the same names in one place, so that a change of the contract shows here first.
#[test]
fn a_new_scheduler_is_idle_and_holds_its_invariants() {
    let name: Arc<str> = "empty".into();
    let machine = SchedulerMachine::new(
        name,
        SchedulerId(1),
        SchedulerConfig::default(),
        Timestamp(1),
    );
    assert!(machine.is_idle());
    assert_eq!(machine.check(), Ok(()));
    assert!(machine.unfinished().is_empty());
}

/// Ends the lease of a node, so that what it had starts again, a moment before something more
/// urgent is due.
#[test]
fn what_starts_before_something_more_urgent_is_due_passes_nothing_over() {
    let task = |priority, delay_ms| Step::Submit {
        priority,
        delay_ms,
        exclusive: false,
        key: None,
    };
    history(
        0,
        &[
            Step::Connect(1),
            task(0, None),
            task(0, None),
            Step::Advance(11_942),
            task(1, Some(3059)),
            Step::Advance(2226),
            Step::Advance(832),
        ],
    );
}
