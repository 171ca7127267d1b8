//! How much is held for clients, and how much may be.
//!
//! Owns: the count and the bytes of what is held, their bounds, and when an operator is warned.
//! Does not know: who is told what.

use crate::config::SchedulerConfig;
use crate::engine::Note;
use crate::error::Refusal;
use crate::stats::{ClientState, StatusRoom};
use crate::status::{Outcome, TaskStatus};

/// One eighth of what may be held may be refusals, so that a flood of them does not stop the
/// endings.
const REFUSALS_SHARE: usize = 8;

/// One tenth of what may be held is much for a scheduler that has no client to take it.
const MUCH_SHARE: usize = 10;

/// See the module.
#[derive(Debug)]
pub(super) struct HeldStatuses {
    statuses: usize,
    /// The bytes of args, outputs and messages of failures in them.
    bytes: u64,
    refusals: usize,
    /// The part of `bytes` in refusals.
    refusal_bytes: u64,
    limit: usize,
    bytes_limit: u64,
    /// What was warned of, until it has fallen well below.
    warned: StatusRoom,
}

impl HeldStatuses {
    pub fn new(config: &SchedulerConfig) -> Self {
        Self {
            statuses: 0,
            bytes: 0,
            refusals: 0,
            refusal_bytes: 0,
            limit: config.max_statuses,
            bytes_limit: config.max_status_bytes,
            warned: StatusRoom::Ample,
        }
    }

    pub fn statuses(&self) -> usize {
        self.statuses
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    #[inline]
    pub fn count(&mut self, status: &TaskStatus) {
        let bytes = weight(status);
        self.statuses += 1;
        self.bytes += bytes;
        if is_refusal(status) {
            self.refusals += 1;
            self.refusal_bytes += bytes;
        }
    }

    #[inline]
    pub fn uncount(&mut self, status: &TaskStatus) {
        let bytes = weight(status);
        self.statuses -= 1;
        self.bytes -= bytes;
        if is_refusal(status) {
            self.refusals -= 1;
            self.refusal_bytes -= bytes;
        }
    }

    /// Takes in that nothing is held any more.
    pub fn clear(&mut self) {
        (self.statuses, self.bytes) = (0, 0);
        (self.refusals, self.refusal_bytes) = (0, 0);
    }

    pub fn is_full(&self) -> bool {
        self.fills(1)
    }

    /// Returns whether one of so many parts of what may be held is full.
    fn fills(&self, parts: usize) -> bool {
        self.statuses >= self.limit.div_ceil(parts)
            || self.bytes >= self.bytes_limit.div_ceil(parts as u64)
    }

    /// Returns why nothing new may come in, if so.
    #[inline]
    pub fn fullness(&self) -> Option<Refusal> {
        if self.statuses >= self.limit {
            return Some(Refusal::ClientBehind { limit: self.limit });
        }
        // Made only here: one that is thrown away has to be dropped.
        if self.bytes >= self.bytes_limit {
            return Some(Refusal::StatusBytesFull {
                limit: self.bytes_limit,
            });
        }
        None
    }

    /// Returns whether there is room to tell of a refusal.
    pub fn admits_refusal(&self) -> bool {
        !self.is_full()
            && self.refusals < self.limit.div_ceil(REFUSALS_SHARE)
            && self.refusal_bytes < self.bytes_limit.div_ceil(REFUSALS_SHARE as u64)
    }

    /// Returns how much room there is for more. A client that is there takes what it was told
    /// sooner or later, so it is only without one that much matters.
    pub fn room(&self, client: ClientState) -> StatusRoom {
        if self.is_full() {
            StatusRoom::None
        } else if client == ClientState::Awaited && self.fills(MUCH_SHARE) {
            StatusRoom::Low
        } else {
            StatusRoom::Ample
        }
    }

    /// Returns what an operator is to be warned of. Each is said once, and again only when it has
    /// fallen to half of that meanwhile: at a bound it rises and falls with every status.
    pub fn warning(&mut self, client: ClientState) -> Option<Note> {
        let room = self.room(client);
        let fallen = match self.warned {
            StatusRoom::Ample => false,
            StatusRoom::Low => client != ClientState::Awaited || !self.fills(2 * MUCH_SHARE),
            StatusRoom::None => !self.fills(2),
        };
        if !fallen && room <= self.warned {
            return None;
        }
        let before = std::mem::replace(&mut self.warned, room);
        (room > before).then_some(Note::StatusesHeld {
            held: self.statuses,
            limit: self.limit,
            bytes: self.bytes,
            bytes_limit: self.bytes_limit,
            room,
            client,
        })
    }

    /// Checks the counts against what is held.
    pub fn check<'a>(&self, all: impl Iterator<Item = &'a TaskStatus>) -> Result<(), String> {
        let (mut statuses, mut bytes) = (0, 0);
        for status in all {
            statuses += 1;
            bytes += weight(status);
        }
        if (statuses, bytes) != (self.statuses, self.bytes) {
            return Err(format!(
                "G1: {statuses} statuses of {bytes} bytes are held, {} of {} are counted",
                self.statuses, self.bytes
            ));
        }
        Ok(())
    }
}

/// Counts the bytes of the bodies in a status, which may be large. The rest of it is bounded by the
/// count.
fn weight(status: &TaskStatus) -> u64 {
    let body = match &status.outcome {
        Outcome::Completed(output) => output.len(),
        Outcome::Failed(failure) => {
            failure.message.len() + failure.place.as_ref().map_or(0, |place| place.len())
        }
        Outcome::Cancelled | Outcome::Refused(_) => 0,
    };
    (status.args.len() + body) as u64
}

fn is_refusal(status: &TaskStatus) -> bool {
    matches!(status.outcome, Outcome::Refused(_))
}
