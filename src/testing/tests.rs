//! The driver, with a machine that can break each rule of the contract.

use super::*;

const NOW: Timestamp = Timestamp(1_000);

/// Hands out what it is told.
#[derive(Default)]
struct Echo {
    told: Vec<u32>,
    due: Option<Timestamp>,
    is_broken: bool,
}

impl Machine for Echo {
    type Event = u32;
    type Action = u32;

    fn handle(&mut self, _: Timestamp, event: u32) {
        self.told.push(event);
    }

    fn take_effects(&mut self, _: Timestamp, actions: &mut Vec<u32>) {
        actions.append(&mut self.told);
    }

    fn next_wakeup(&self) -> Option<Timestamp> {
        self.due
    }

    fn check(&self) -> Result<(), String> {
        match self.is_broken {
            true => Err("an invariant does not hold".to_owned()),
            false => Ok(()),
        }
    }
}

fn driven(machine: Echo) -> Driven<Echo> {
    Driven::new(machine, Checks::EachStep)
}

#[test]
fn actions_come_in_order_and_none_is_lost_to_a_later_turn() {
    let mut echo = driven(Echo::default());
    echo.handle(NOW, 1);
    echo.handle(NOW, 2);
    assert_eq!(echo.next_action(), None);
    echo.turn(NOW);
    assert_eq!(echo.next_action(), Some(1));
    echo.handle(NOW, 3);
    assert_eq!(echo.effects(NOW), [2, 3]);
    assert_eq!(echo.next_action(), None);
}

#[test]
fn a_machine_is_driven_until_nothing_more_comes_of_what_it_is_told() {
    let mut echo = driven(Echo::default());
    echo.handle(NOW, 3);
    let mut seen = Vec::new();
    while let Some(action) = echo.next_until_rest(NOW) {
        seen.push(action);
        if action > 0 {
            echo.handle(NOW, action - 1);
        }
    }
    assert_eq!(seen, [3, 2, 1, 0]);
}

#[test]
#[should_panic(expected = "never comes to rest")]
fn a_machine_that_never_rests_is_found() {
    let mut echo = driven(Echo::default());
    echo.handle(NOW, 0);
    while let Some(action) = echo.next_until_rest(NOW) {
        echo.handle(NOW, action);
    }
}

#[test]
#[should_panic(expected = "it would spin")]
fn a_wakeup_that_a_turn_leaves_in_the_past_is_found() {
    let due = Some(NOW);
    let mut echo = driven(Echo {
        due,
        ..Echo::default()
    });
    echo.turn(NOW);
}

#[test]
#[should_panic(expected = "an invariant does not hold")]
fn an_invariant_is_checked_after_each_event() {
    let is_broken = true;
    let mut echo = driven(Echo {
        is_broken,
        ..Echo::default()
    });
    echo.handle(NOW, 1);
}

#[test]
#[should_panic(expected = "an invariant does not hold")]
fn an_invariant_is_checked_after_each_turn() {
    let is_broken = true;
    let mut echo = driven(Echo {
        is_broken,
        ..Echo::default()
    });
    echo.turn(NOW);
}

#[test]
fn nothing_is_checked_where_that_was_chosen() {
    let machine = Echo {
        is_broken: true,
        due: Some(NOW),
        ..Echo::default()
    };
    let mut echo = Driven::new(machine, Checks::Never);
    echo.handle(NOW, 1);
    assert_eq!(echo.effects(NOW), [1]);
}
