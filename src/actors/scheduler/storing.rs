//! What the actor does for the store: batches go there, and answers wait for them.
//!
//! Owns: when a batch is handed over, and which answers wait for one. Does not know: what is in it,
//! or when it is due.

use std::collections::HashMap;

use tokio::sync::OwnedSemaphorePermit;

use super::ending::STORE_PATIENCE;
use super::replies::{Joined, Reply};
use super::{Answer, Core, Taken};
use crate::contain::contained;
use crate::engine::{Event, Refused, Timestamp};
use crate::error::StoreError;
use crate::links::Incoming;
use crate::recorder::StoreReport;
use crate::say::say;
use crate::stats::{Stats, StoreState, StoreStats};
use crate::task::TaskId;

impl Core {
    /// Hands the next batch over, if one is due.
    pub(super) fn store(&mut self, now: Timestamp) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let mut event = recorder.look();
        if event.is_none()
            && let Some(sealed) = self.machine.seal(now)
        {
            event = recorder.append(sealed);
        }
        if let Some(event) = event {
            self.machine.handle(now, event);
            self.bell.ring();
        }
    }

    /// Returns the snapshot.
    pub(super) fn stats(&self, now: Timestamp) -> Stats {
        let mut stats = self.machine.stats(now);
        if let (Some(recorder), Some(store)) = (&self.recorder, self.machine.store_state()) {
            let StoreReport { bytes, last, .. } = recorder.report();
            let state = store.failure.map_or(StoreState::Healthy, |failure| {
                let ago = now.since(failure.since);
                StoreState::Failing {
                    since: (self.clock.wall() - ago).to_system_time(),
                    reason: failure.reason,
                }
            });
            stats.store = Some(StoreStats {
                state,
                unstored: store.unstored_tasks,
                unstored_bytes: store.unstored_bytes,
                batches: store.batches,
                batch_bytes: store.bytes,
                file_bytes: bytes,
                log_bytes: store.log_bytes,
                living_bytes: store.living_bytes,
                last_commit: last.map(|(at, _)| at),
                commit_time: last.map(|(_, took)| took),
            });
        }
        stats
    }

    /// Returns whether nothing can be stored.
    pub(super) fn store_fails(&self) -> bool {
        let state = self.machine.store_state();
        state.is_some_and(|state| state.failure.is_some())
    }

    /// Closes the store, and tells whoever waits for what it had been given. On a disk that hangs
    /// it is not waited for longer than a while.
    pub(super) fn close_store(&mut self) {
        let Some(recorder) = self.recorder.take() else {
            return;
        };
        if let Err(error) = contained(|| recorder.close(STORE_PATIENCE))
            .unwrap_or_else(|panic| Err(StoreError::Io(panic)))
        {
            say!(warn: scheduler = %self.machine.name(), reason = %error, "the store was not closed in order; the next start sees to it");
        }
        let mut heard = Vec::new();
        self.inbox.take(&mut heard);
        let stored = heard.iter().filter_map(|incoming| match incoming {
            Incoming::Event(Event::Stored { batch, .. }) => Some(*batch),
            _ => None,
        });
        if let Some(stored) = stored.max() {
            self.replies.give(stored);
        }
    }

    /// Returns whether what is decided now is not stored yet.
    fn is_unstored(&self) -> bool {
        self.machine.promised_with() > self.machine.stored()
    }

    /// Gives an answer when what it promises is stored.
    pub(super) fn answer(
        &mut self,
        reply: Reply,
        joined: Joined,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        if self.is_unstored() && reply.promises() {
            let batch = self.machine.promised_with();
            self.replies.hold(batch, reply, joined, permit);
        } else {
            self.replies.ready(reply);
        }
    }

    /// Returns the answer for one that was handed in and is waited for, and what it has joined.
    pub(super) fn answer_of(&self, result: Result<Taken, Refused>, joins: &mut Joined) -> Answer {
        match result {
            Ok(Taken { id, joined }) => {
                joins.extend(joined.map(|own| (id, own)));
                Ok(id)
            }
            Err(refused) => Err(self.hand_back(refused)),
        }
    }

    /// Refuses tasks that had been accepted and could not be stored.
    pub(super) fn refuse_after_all(&mut self, now: Timestamp, refused: Vec<(TaskId, Refused)>) {
        let awaited = self.replies.awaited();
        let mut answers = HashMap::new();
        for (id, refused) in refused {
            self.callers.forget(id);
            if awaited.contains(&id) {
                answers.insert(id, self.hand_back(refused));
            } else {
                self.machine.tell_refusal(now, refused);
                self.bell.ring();
            }
        }
        self.replies.refuse(&answers);
    }
}
