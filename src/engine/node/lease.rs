//! The node's half of the lease, and the beats that renew it.
//!
//! Owns: which beats were sent and answered, and at which stage the lease is. Does not know: links,
//! runs.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::MIN_HANDSHAKE;
use crate::engine::Timestamp;
use crate::engine::message::{Beat, Welcome};

/// The heartbeat until a welcome names one.
pub(super) const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(2);
/// The shortest heartbeat that a welcome may name; a shorter one would keep the node busy with
/// beats alone.
pub(super) const MIN_HEARTBEAT: Duration = Duration::from_millis(1);
/// The most unanswered beats that are remembered. A lease is over long before that, save for absurd
/// settings; then the answers to the oldest renew nothing.
const MAX_UNANSWERED: usize = 1024;

/// How far the lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum LeaseStage {
    /// The lease runs, or none was given yet.
    #[default]
    Whole,
    /// Four fifths are over: exclusive runs must go.
    Expiring,
    /// The lease is over, and so is the time for which the rest outlives it: every run must go.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub(super) struct OwnLease {
    heartbeat: Duration,
    /// `None` until the first welcome, and in a local node.
    term: Option<Duration>,
    /// How long after its end what is not exclusive goes on.
    outlive: Duration,
    /// When the last answered beat was sent.
    from: Timestamp,
    stage: LeaseStage,
    /// When the next stage begins: asked for at every event, so it is worked out beforehand.
    due: Option<Timestamp>,
    /// Beats of this link that were not answered, with the time of their sending; rising.
    unanswered: VecDeque<(u64, Timestamp)>,
    last: u64,
    answered: u64,
    /// How long the last answer took.
    round_trip: Option<Duration>,
    next_beat: Option<Timestamp>,
}

impl Default for OwnLease {
    fn default() -> Self {
        Self {
            heartbeat: DEFAULT_HEARTBEAT,
            term: None,
            outlive: Duration::ZERO,
            from: Timestamp::default(),
            stage: LeaseStage::Whole,
            due: None,
            unanswered: VecDeque::new(),
            last: 0,
            answered: 0,
            round_trip: None,
            next_beat: None,
        }
    }
}

impl OwnLease {
    /// Returns after how long without a sign of life a link is thought broken.
    pub(super) fn silence(&self) -> Duration {
        self.heartbeat.saturating_mul(2)
    }

    /// Returns how long a dial may take before the next one has a better chance; `None` before a
    /// welcome.
    pub(super) fn dial_limit(&self) -> Option<Duration> {
        self.term.map(|_| self.heartbeat.max(MIN_HANDSHAKE))
    }

    pub(super) fn term(&self) -> Option<Duration> {
        self.term
    }

    /// Returns for how long a scheduler that is away may come back for what is kept for it.
    pub(super) fn outlived(&self) -> Duration {
        self.term.unwrap_or_default() + self.outlive
    }

    pub(super) fn stage(&self) -> LeaseStage {
        self.stage
    }

    /// Takes in that a hello was written: beat 0 of a new link.
    pub(super) fn greeted(&mut self, now: Timestamp) {
        self.unanswered.clear();
        self.unanswered.push_back((0, now));
        self.last = 0;
        self.answered = 0;
        self.round_trip = None;
        self.next_beat = None;
    }

    /// Takes in that the hello was answered.
    pub(super) fn welcomed(&mut self, welcome: &Welcome) {
        self.heartbeat = welcome.heartbeat;
        self.term = Some(welcome.lease);
        self.outlive = welcome.outlive;
        let sent = self.unanswered.pop_front().map_or(self.from, |(_, at)| at);
        self.renew(sent);
        self.next_beat = Some(sent + self.heartbeat);
    }

    /// Takes in that a beat was answered. Fails if it was never sent.
    pub(super) fn answer(&mut self, now: Timestamp, number: u64) -> Result<(), String> {
        if number > self.last {
            return Err(format!(
                "beat {number} was answered, but the last one is {}",
                self.last
            ));
        }
        self.answered = self.answered.max(number);
        while let Some(&(sent, at)) = self.unanswered.front()
            && sent <= number
        {
            self.unanswered.pop_front();
            if sent == number {
                self.round_trip = Some(now.since(at));
                self.renew(at);
            }
        }
        Ok(())
    }

    fn renew(&mut self, from: Timestamp) {
        self.from = self.from.max(from);
        // The stage is found again from the times, by `expire`.
        self.enter(LeaseStage::Whole);
    }

    fn enter(&mut self, stage: LeaseStage) {
        self.stage = stage;
        self.due = self.term.and_then(|term| match stage {
            LeaseStage::Whole => Some(self.from + term / 5 * 4),
            LeaseStage::Expiring => Some(self.from + term + self.outlive),
            LeaseStage::Ended => None,
        });
    }

    /// Returns the beat to send now, if one is due.
    pub(super) fn beat(&mut self, now: Timestamp) -> Option<Beat> {
        if self.next_beat.is_none_or(|due| now < due) {
            return None;
        }
        self.last += 1;
        if self.unanswered.len() == MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((self.last, now));
        self.next_beat = Some(now + self.heartbeat);
        Some(Beat {
            number: self.last,
            answered: self.answered,
            round_trip: self.round_trip,
        })
    }

    /// Sends the next beat now, unless one is on its way: what it is answered with is waited for.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if self.next_beat.is_some() && self.unanswered.is_empty() {
            self.next_beat = Some(now);
        }
    }

    /// Returns how long the last answer took, on the link that there is.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(super) fn next_beat(&self) -> Option<Timestamp> {
        self.next_beat
    }

    /// Takes in that the link is down: no beats until the next welcome.
    pub(super) fn link_down(&mut self) {
        self.next_beat = None;
        self.unanswered.clear();
    }

    /// Returns when the next stage begins.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Enters the stage that begins now, if one does, and returns it.
    pub(super) fn expire(&mut self, now: Timestamp) -> Option<LeaseStage> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.enter(match self.stage {
            LeaseStage::Whole => LeaseStage::Expiring,
            LeaseStage::Expiring | LeaseStage::Ended => LeaseStage::Ended,
        });
        Some(self.stage)
    }

    /// Returns when a link that is up but never answers has been useless for a whole lease.
    pub(super) fn hopeless(&self) -> Option<Timestamp> {
        let term = self.term?;
        Some(self.from + term.saturating_mul(2) + self.outlive)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.unanswered.len() > MAX_UNANSWERED {
            return Err(format!(
                "{} unanswered beats are noted",
                self.unanswered.len()
            ));
        }
        Ok(())
    }
}
