//! The statuses that clients have not confirmed.
//!
//! Owns: who is to be told what, in which order, how much is with each client, and what is given
//! again when one dies. Does not know: what a client is or how it is reached.
//!
//! The room of an ending that was confirmed is used again. This serves the bench row `local` (1.06
//! times as many tasks a second as without), measured with and without in one run, 2026-11-28.
//! `MAX_SPARES = 0` turns it off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::sequence::Sequence;
use super::{Action, ClientId};
use crate::config::SchedulerConfig;
use crate::error::Refusal;
use crate::status::{Ending, Outcome, TaskStatus};

mod queue;

use queue::Queue;

/// One eighth of what may be held may be refusals, so that a flood of them does not stop the endings.
const REFUSALS_SHARE: usize = 8;

/// The most endings whose room is kept to be used again, 256 KiB: about as many as are confirmed at once, which is
/// more than an allocator keeps ready.
const MAX_SPARES: usize = 1024;

/// A client that somebody named.
#[derive(Debug)]
struct Known {
    /// Unsettled tasks whose ending it is to be told.
    tasks: usize,
    /// What it has not confirmed; `None` if it is gone.
    queue: Option<Queue>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            tasks: 0,
            queue: Some(Queue::default()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    clients: BTreeMap<ClientId, Known>,
    current: Option<ClientId>,
    /// Clients that may have nothing to wait for any more.
    idle: BTreeSet<ClientId>,
    deliveries: Sequence,
    /// Statuses for the next client.
    homeless: VecDeque<TaskStatus>,
    /// Clients with something to deliver.
    ready: BTreeSet<ClientId>,
    /// For callers, and whether nobody else is told.
    answers: Vec<(TaskStatus, bool)>,
    held: usize,
    /// Of args, outputs and messages of failures in what is held.
    bytes: u64,
    refusals: usize,
    /// The part of `bytes` in refusals.
    refusal_bytes: u64,
    /// Room of endings that were confirmed, to be used again.
    spares: Vec<Arc<Ending>>,
    window: usize,
    limit: usize,
    bytes_limit: u64,
    pub unclaimed: u64,
    pub refusals_not_told: u64,
}

impl Outbox {
    pub fn new(config: &SchedulerConfig) -> Self {
        Self {
            clients: BTreeMap::new(),
            current: None,
            idle: BTreeSet::new(),
            deliveries: Sequence::from(1),
            homeless: VecDeque::new(),
            ready: BTreeSet::new(),
            answers: Vec::new(),
            held: 0,
            bytes: 0,
            refusals: 0,
            refusal_bytes: 0,
            spares: Vec::new(),
            window: config.status_window,
            limit: config.max_statuses,
            bytes_limit: config.max_status_bytes,
            unclaimed: 0,
            refusals_not_told: 0,
        }
    }

    /// Statuses that are not confirmed.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Bytes of args, outputs and messages of failures in them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_full(&self) -> bool {
        self.held >= self.limit || self.bytes >= self.bytes_limit
    }

    /// Why nothing new may come in, if so.
    pub fn fullness(&self) -> Option<Refusal> {
        if self.held >= self.limit {
            return Some(Refusal::ClientBehind { limit: self.limit });
        }
        (self.bytes >= self.bytes_limit).then_some(Refusal::StatusBytesFull {
            limit: self.bytes_limit,
        })
    }

    /// Hears that somebody named a client. It is let go at the next flush unless it is to be told
    /// something by then.
    pub fn name(&mut self, client: ClientId) {
        self.clients.entry(client).or_default();
        self.idle.insert(client);
    }

    /// Notes that a client is to be told how one more task ends.
    pub fn engage(&mut self, client: ClientId) {
        self.clients.entry(client).or_default().tasks += 1;
    }

    /// Tells a client, or the current one if it is gone, how a task ended for which it was engaged.
    pub fn settle(&mut self, client: ClientId, status: TaskStatus) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.tasks = entry.tasks.saturating_sub(1);
            self.idle.insert(client);
        }
        self.push_client(client, status);
    }

    /// For the current client, or the next one.
    pub fn push_current(&mut self, status: TaskStatus) {
        match self.current {
            Some(client) => self.push_to(client, status),
            None => {
                self.count(&status);
                self.homeless.push_back(status);
            }
        }
    }

    /// For this client, or the current one if it is gone.
    pub fn push_client(&mut self, client: ClientId, status: TaskStatus) {
        if self.queue(client).is_some() {
            self.push_to(client, status);
        } else {
            self.push_current(status);
        }
    }

    /// For the callers that wait for its task; `alone` if nobody else is told.
    pub fn push_caller(&mut self, status: TaskStatus, alone: bool) {
        self.answers.push((status, alone));
    }

    /// A status whose callers are gone: for the current client, if there is one.
    pub fn unclaimed(&mut self, status: TaskStatus) {
        if self.current.is_some() {
            self.push_current(status);
        } else {
            self.unclaimed += 1;
        }
    }

    /// Returns whether there is room to tell of a refusal.
    pub fn admits_refusal(&self) -> bool {
        !self.is_full()
            && self.refusals < self.limit.div_ceil(REFUSALS_SHARE)
            && self.refusal_bytes < self.bytes_limit.div_ceil(REFUSALS_SHARE as u64)
    }

    fn count(&mut self, status: &TaskStatus) {
        let bytes = weight(status);
        self.held += 1;
        self.bytes += bytes;
        if is_refusal(status) {
            self.refusals += 1;
            self.refusal_bytes += bytes;
        }
    }

    /// The queue of a client that is there.
    fn queue(&mut self, client: ClientId) -> Option<&mut Queue> {
        self.clients.get_mut(&client)?.queue.as_mut()
    }

    fn push_to(&mut self, client: ClientId, status: TaskStatus) {
        self.count(&status);
        let entry = self.clients.entry(client).or_default();
        let queue = entry.queue.get_or_insert_default();
        queue.push(status);
        if queue.is_ready(self.window) {
            self.ready.insert(client);
        }
    }

    /// A status with this ending.
    pub fn status(&mut self, ending: Ending) -> TaskStatus {
        match self.spares.pop() {
            Some(spare) => TaskStatus::within(spare, ending),
            None => TaskStatus::new(ending),
        }
    }

    /// A client has handled these of the statuses of a delivery.
    pub fn confirmed(&mut self, client: ClientId, delivery: u64, handled: Range<usize>) {
        let entry = self.clients.get_mut(&client);
        let Some(queue) = entry.and_then(|entry| entry.queue.as_mut()) else {
            return;
        };
        queue.confirm(delivery, handled, |status| {
            let bytes = weight(&status);
            self.held -= 1;
            self.bytes -= bytes;
            if is_refusal(&status) {
                self.refusals -= 1;
                self.refusal_bytes -= bytes;
            }
            if self.spares.len() < MAX_SPARES {
                self.spares.extend(status.into_spare());
            }
        });
        if queue.is_ready(self.window) {
            self.ready.insert(client);
        } else if queue.is_empty() && self.current != Some(client) {
            self.idle.insert(client);
        }
    }

    /// What was with it is given again to the current client, or the next one.
    pub fn gone(&mut self, client: ClientId) {
        self.ready.remove(&client);
        if self.current == Some(client) {
            self.current = None;
        }
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        self.idle.insert(client);
        if let Some(queue) = entry.queue.take() {
            self.homeless.extend(queue.into_statuses());
            self.rehome();
        }
    }

    pub fn set_current(&mut self, client: Option<ClientId>) {
        self.idle
            .extend(std::mem::replace(&mut self.current, client));
        self.rehome();
    }

    pub fn current(&self) -> Option<ClientId> {
        self.current
    }

    fn rehome(&mut self) {
        let Some(client) = self.current else {
            return;
        };
        let entry = self.clients.entry(client).or_default();
        let queue = entry.queue.get_or_insert_default();
        queue.append(&mut self.homeless);
        if queue.is_ready(self.window) {
            self.ready.insert(client);
        }
    }

    /// Appends what may go out now.
    pub fn flush(&mut self, actions: &mut Vec<Action>) {
        let answers = self.answers.drain(..);
        actions.extend(answers.map(|(status, alone)| Action::Answer { status, alone }));
        while let Some(client) = self.ready.pop_first() {
            let entry = self.clients.get_mut(&client);
            let Some(queue) = entry.and_then(|entry| entry.queue.as_mut()) else {
                continue;
            };
            if !queue.is_ready(self.window) {
                continue;
            }
            let delivery = self.deliveries.take();
            let statuses = queue.deliver(delivery, self.window);
            actions.push(Action::Deliver {
                client,
                delivery,
                statuses,
            });
        }
        while let Some(client) = self.idle.pop_first() {
            let over = |entry: &Known| {
                entry.tasks == 0 && entry.queue.as_ref().is_none_or(Queue::is_empty)
            };
            if self.current != Some(client) && self.clients.get(&client).is_some_and(over) {
                self.clients.remove(&client);
                actions.push(Action::LetGo { client });
            }
        }
    }

    /// Everything that was not confirmed, oldest first within each client.
    pub fn take_all(&mut self) -> Vec<TaskStatus> {
        let mut all: Vec<_> = self.homeless.drain(..).collect();
        for entry in self.clients.values_mut() {
            let queue = entry.queue.as_mut().map(std::mem::take);
            all.extend(queue.into_iter().flat_map(Queue::into_statuses));
        }
        // What a client is told besides is among the others already; its callers still hear it.
        let alone = self.answers.extract_if(.., |(_, alone)| *alone);
        all.extend(alone.map(|(status, _)| status));
        self.held = 0;
        self.bytes = 0;
        self.refusals = 0;
        self.refusal_bytes = 0;
        all
    }

    pub fn check(&self) -> Result<(), String> {
        let queues = || {
            let entries = self.clients.iter();
            entries.filter_map(|(client, entry)| Some((client, entry.queue.as_ref()?)))
        };
        let statuses = || {
            let queued = queues().flat_map(|(_, queue)| queue.statuses());
            self.homeless.iter().chain(queued)
        };
        let held = statuses().count();
        if held != self.held {
            return Err(format!(
                "G1: {held} statuses are held, {} are counted",
                self.held
            ));
        }
        let bytes: u64 = statuses().map(weight).sum();
        if bytes != self.bytes {
            return Err(format!(
                "G1: {bytes} bytes of statuses are held, {} are counted",
                self.bytes
            ));
        }
        for (client, queue) in queues() {
            let checked = queue.check(self.window);
            checked.map_err(|wrong| format!("G1: {client}: {wrong}"))?;
        }
        Ok(())
    }

    /// Counts the clients for which unsettled tasks are engaged, to be compared with the tasks.
    pub fn engaged(&self) -> usize {
        self.clients.values().map(|entry| entry.tasks).sum()
    }
}

/// The bodies in a status, which may be large. The rest of it is bounded by the count.
fn weight(status: &TaskStatus) -> u64 {
    let body = match &status.outcome {
        Outcome::Completed(output) => output.len(),
        Outcome::Failed(failure) => failure.message.len(),
        Outcome::Cancelled | Outcome::Refused(_) => 0,
    };
    (status.args.len() + body) as u64
}

fn is_refusal(status: &TaskStatus) -> bool {
    matches!(status.outcome, Outcome::Refused(_))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::payload::Payload;
    use crate::task::{TaskId, TaskKey};

    const CLIENT: ClientId = ClientId(1);

    fn ending(id: u64, output: Payload, key: Option<TaskKey>) -> Ending {
        Ending {
            scheduler: "board".into(),
            id: TaskId::new(id),
            key,
            kind: "kind".into(),
            args: Payload::new(),
            options: None,
            outcome: Outcome::Completed(output),
            node: None,
            attempts: 1,
            reroutes: 0,
            accepted_at: UNIX_EPOCH,
            started_at: None,
            settled_at: UNIX_EPOCH,
        }
    }

    /// Has the client told of an ending and confirm it, with a clone of its status or without.
    fn tell(
        outbox: &mut Outbox,
        ending: Ending,
        kept: bool,
    ) -> (*const Ending, Option<TaskStatus>) {
        let status = outbox.status(ending);
        let room: *const Ending = &*status;
        outbox.push_client(CLIENT, status);
        let mut actions = Vec::new();
        outbox.flush(&mut actions);
        let [
            Action::Deliver {
                statuses, delivery, ..
            },
        ] = &actions[..]
        else {
            panic!("one delivery, not {actions:?}");
        };
        let (clone, delivery) = (kept.then(|| statuses[0].clone()), *delivery);
        drop(actions);
        outbox.confirmed(CLIENT, delivery, 0..1);
        (room, clone)
    }

    #[test]
    fn the_room_of_a_confirmed_ending_is_used_again_unless_somebody_has_it_or_it_holds_memory() {
        let mut outbox = Outbox::new(&SchedulerConfig::default());
        outbox.set_current(Some(CLIENT));
        let (first, _) = tell(&mut outbox, ending(1, Payload::new(), None), false);
        let (second, kept) = tell(&mut outbox, ending(2, Payload::new(), None), true);
        assert_eq!(first, second);
        let (third, _) = tell(&mut outbox, ending(3, Payload::new(), None), false);
        assert_ne!(third, second);
        assert_eq!(kept.map(|status| status.id), Some(TaskId::new(2)));
        tell(&mut outbox, ending(4, vec![0; 100].into(), None), false);
        assert_eq!(outbox.spares.len(), 0);
        tell(
            &mut outbox,
            ending(5, Payload::new(), Some("key".into())),
            false,
        );
        assert_eq!(outbox.spares.len(), 0);
        assert_eq!(outbox.check(), Ok(()));
    }
}
