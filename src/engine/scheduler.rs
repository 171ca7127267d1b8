//! The machine of a scheduler.

use std::sync::Arc;

use super::{
    Accepted, Action, ClientId, Event, Life, NodeId, Reach, Refused, Submission, Timestamp,
};
use crate::config::SchedulerConfig;
use crate::error::NodeError;
use crate::retry::RetryPolicy;
use crate::stats::{Explanation, Stats, Unfinished};
use crate::task::TaskId;

/// See the module.
#[derive(Debug)]
pub struct SchedulerMachine {}

impl SchedulerMachine {
    /// A scheduler without nodes, clients and tasks. `config` must have been validated.
    pub fn new(name: Arc<str>, life: Life, config: SchedulerConfig, now: Timestamp) -> Self {
        let _ = (name, life, config, now);
        Self {}
    }

    /// Takes a task in, or says why not.
    pub fn submit(&mut self, now: Timestamp, submission: Submission) -> Result<Accepted, Refused> {
        let _ = (now, submission);
        unimplemented!()
    }

    /// Asks for the end of a task. Answered once by [`Action::CancelAnswer`] with this `ticket`, within a
    /// second.
    pub fn cancel(&mut self, now: Timestamp, task: TaskId, ticket: u64) {
        let _ = (now, task, ticket);
    }

    /// Adds a node. A dialled one is dialled at the next effects.
    pub fn add_node(
        &mut self,
        now: Timestamp,
        name: Arc<str>,
        reach: Reach,
    ) -> Result<NodeId, NodeError> {
        let _ = (now, name, reach);
        unimplemented!()
    }

    /// Takes a node out: it is told to leave and its tasks go elsewhere; its exclusive tasks do so when it
    /// has said goodbye, or at once if it cannot be reached (the caller vouches that it is dead).
    pub fn remove_node(&mut self, now: Timestamp, name: &str) -> Result<(), NodeError> {
        let _ = (now, name);
        unimplemented!()
    }

    /// Lets a node finish what runs and gives it nothing new. [`super::Note::NodeLeft`] tells when it is done.
    pub fn drain_node(&mut self, now: Timestamp, name: &str) -> Result<(), NodeError> {
        let _ = (now, name);
        unimplemented!()
    }

    /// Sets the workers of one node, or of all present and future ones.
    pub fn set_workers(
        &mut self,
        now: Timestamp,
        node: Option<&str>,
        workers: u32,
    ) -> Result<(), NodeError> {
        let _ = (now, node, workers);
        unimplemented!()
    }

    /// Sets the policy of tasks that bring none, for attempts that start from now on.
    pub fn set_retry(&mut self, now: Timestamp, retry: RetryPolicy) {
        let _ = (now, retry);
    }

    /// Sets the current client. Statuses that wait for one go to it.
    pub fn set_client(&mut self, now: Timestamp, client: Option<ClientId>) {
        let _ = (now, client);
    }

    /// Refuses every further submission, for good.
    pub fn drain(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Ends this life: every node is told to leave, and what is left is handed over.
    pub fn shut_down(&mut self, now: Timestamp) -> Leftovers {
        let _ = now;
        unimplemented!()
    }

    /// Takes note of a fact.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        let _ = (now, event);
    }

    /// Places all that can be placed and appends the actions to perform, in order.
    pub fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let _ = (now, actions);
    }

    /// When an [`Event::Tick`] is due at the latest.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        None
    }

    /// Whether no task is unsettled.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// The snapshot.
    pub fn stats(&self, now: Timestamp) -> Stats {
        let _ = now;
        unimplemented!()
    }

    /// Every unsettled task, in order of id.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        Vec::new()
    }

    /// What an unsettled task waits for; `None` if no unsettled task has this id.
    pub fn explain(&self, now: Timestamp, task: TaskId) -> Option<Explanation> {
        let _ = (now, task);
        None
    }

    /// Checks every invariant of the state; the simulation calls it after each step.
    ///
    /// # Errors
    ///
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a scheduler had not finished when it was shut down.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Tasks that were not settled, in order of id.
    pub unfinished: Vec<Unfinished>,
    /// Statuses that no client had confirmed, oldest first.
    pub statuses: Vec<crate::status::TaskStatus>,
}
