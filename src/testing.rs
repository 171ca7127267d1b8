//! The drivers of the engine's machines, for tests and benches.
//!
//! Owns: how a machine is driven by hand: what it is told, its turns, its actions in their order,
//! and the check of its invariants. Does not know: clocks, links and workers. Moments are
//! arguments, and the owner of a driver performs the actions.
//!
//! ```
//! use callboard::SchedulerConfig;
//! use callboard::__internals::engine::scheduler::SchedulerMachine;
//! use callboard::__internals::engine::{Action, SchedulerId, Reach, Timestamp};
//! use callboard::__internals::testing::{Checks, DrivenScheduler};
//!
//! let now = Timestamp(1);
//! let config = SchedulerConfig::default();
//! let machine = SchedulerMachine::new("test".into(), SchedulerId(1), config, now);
//! let mut scheduler = DrivenScheduler::new(machine, Checks::EachStep);
//! let reach = Reach::Dial("10.0.0.2:7000".to_owned());
//! scheduler.add_node(now, "north".into(), reach).expect("the name is free");
//! let mut dials = 0;
//! while let Some(action) = scheduler.next_until_rest(now) {
//!     dials += usize::from(matches!(action, Action::Dial { .. }));
//! }
//! assert_eq!(dials, 1);
//! ```

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use crate::engine::node::{Machines, NodeAction, NodeEvent, NodeMachine};
use crate::engine::scheduler::SchedulerMachine;
use crate::engine::{Action, Event, Timestamp};

/// The driver of a node's machine.
pub type DrivenNode = Driven<NodeMachine>;
/// The driver of a scheduler's machine.
pub type DrivenScheduler = Driven<SchedulerMachine>;

/// More turns than anything needs to come to rest at one moment.
const MAX_TURNS: u32 = 1000;

/// What a driver wants of a machine; see the contract of the engine.
pub trait Machine {
    /// A fact.
    type Event;
    /// What is to be done.
    type Action;

    /// Takes note of a fact.
    fn handle(&mut self, now: Timestamp, event: Self::Event);

    /// Decides, and appends the actions to perform.
    fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<Self::Action>);

    /// Returns when it wants to decide again at the latest.
    fn next_wakeup(&self) -> Option<Timestamp>;

    /// Returns when it wants to decide again, if whoever drives it does what else is due.
    fn next_turn(&self) -> Option<Timestamp> {
        self.next_wakeup()
    }

    /// Checks its invariants.
    ///
    /// # Errors
    ///
    /// The first that does not hold, as text.
    fn check(&self) -> Result<(), String>;
}

/// When a driver checks what must hold of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// After each event and each turn; it panics with what does not hold.
    EachStep,
    /// Never: for a bench, and for a test that checks at moments of its own.
    Never,
}

/// A machine that is driven by hand.
///
/// It can be used as the machine itself, for its commands and questions. A command is checked with
/// the turn that follows it.
#[derive(Debug)]
pub struct Driven<M: Machine> {
    machine: M,
    checks: Checks,
    /// What is not performed yet.
    actions: VecDeque<M::Action>,
    /// How many turns in a row brought actions at one moment.
    turns: u32,
}

impl<M: Machine> Driven<M> {
    /// Returns a driver of this machine.
    pub fn new(machine: M, checks: Checks) -> Self {
        Self {
            machine,
            checks,
            actions: VecDeque::new(),
            turns: 0,
        }
    }

    /// Tells the machine of a fact.
    ///
    /// # Panics
    ///
    /// An invariant does not hold, if they are checked.
    pub fn handle(&mut self, now: Timestamp, event: M::Event) {
        self.machine.handle(now, event);
        self.check();
    }

    /// Lets the machine decide on all that it was told. Its actions wait to be performed.
    ///
    /// # Panics
    ///
    /// An invariant does not hold, or the machine is due already, if that is checked.
    pub fn turn(&mut self, now: Timestamp) {
        // Neither way allocates or copies when nothing waits.
        let mut actions = Vec::from(std::mem::take(&mut self.actions));
        self.machine.take_effects(now, &mut actions);
        self.actions = actions.into();
        self.check();
        if self.checks == Checks::EachStep {
            let due = self.machine.next_turn();
            assert!(
                due.is_none_or(|due| due > now),
                "a turn at {now:?} leaves it due at {due:?}: it would spin"
            );
        }
    }

    /// Returns the next of the actions that wait to be performed.
    pub fn next_action(&mut self) -> Option<M::Action> {
        self.actions.pop_front()
    }

    /// Returns the next action to perform, and takes another turn when none waits. Returns `None`
    /// once a turn brings none: then the machine is at rest, unless it is told something.
    ///
    /// # Panics
    ///
    /// As [`turn`](Self::turn), and if the machine does not come to rest.
    pub fn next_until_rest(&mut self, now: Timestamp) -> Option<M::Action> {
        if self.actions.is_empty() {
            self.turn(now);
            self.turns = if self.actions.is_empty() {
                0
            } else {
                self.turns + 1
            };
            assert!(self.turns < MAX_TURNS, "the machine never comes to rest");
        }
        self.next_action()
    }

    /// Takes a [`turn`](Self::turn), and returns all the actions that wait then.
    pub fn effects(&mut self, now: Timestamp) -> Vec<M::Action> {
        self.turn(now);
        std::mem::take(&mut self.actions).into()
    }

    fn check(&self) {
        if self.checks == Checks::EachStep
            && let Err(broken) = self.machine.check()
        {
            panic!("{broken}");
        }
    }
}

impl<M: Machine> Deref for Driven<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M: Machine> DerefMut for Driven<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.machine
    }
}

/// Lets a machine be driven: its own methods are those of the trait.
macro_rules! driven {
    ($machine:ty, $event:ty, $action:ty $(, $turn:ident)?) => {
        impl Machine for $machine {
            type Event = $event;
            type Action = $action;

            fn handle(&mut self, now: Timestamp, event: $event) {
                self.handle(now, event);
            }

            fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<$action>) {
                self.take_effects(now, actions);
            }

            fn next_wakeup(&self) -> Option<Timestamp> {
                self.next_wakeup()
            }

            $(
                fn $turn(&self) -> Option<Timestamp> {
                    self.$turn()
                }
            )?

            fn check(&self) -> Result<(), String> {
                self.check()
            }
        }
    };
}

driven!(NodeMachine, NodeEvent, NodeAction);
driven!(Machines, NodeEvent, NodeAction);
driven!(SchedulerMachine, Event, Action, next_turn);

mod log;
#[cfg(test)]
mod tests;

pub use log::{NARROW, RecordLog};
