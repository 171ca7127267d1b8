//! The scheduler's half of a node's lease.
//!
//! Owns: which answers to beats were given, what proves that the node hears them, and when the
//! lease ends. Does not know: what follows from its end.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Timestamp;

/// How many answers to beats are remembered. Only a node that beats faster than it was told to
/// would need more.
const MAX_ANSWERS: usize = 64;

/// When the lease ends, unless a proof comes.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    /// Then a last look is due.
    Runs(Timestamp),
    /// The lease has ended once: then it ends for good.
    LastLook(Timestamp),
    /// The end was put off, and comes for good then.
    Deferred(Timestamp),
}

/// What the end of a lease calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// A last look at what the node may have said.
    Look,
    /// The node is lost.
    Over,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lease {
    expiry: Expiry,
    /// When the node's own half of the lease ends at the latest.
    safe_at: Timestamp,
    answers: VecDeque<(u64, Timestamp)>,
    /// When the node named an answer last that was recent then.
    named_at: Timestamp,
}

impl Lease {
    /// Makes the lease of a process that has just said hello, and was not answered so far.
    pub fn new(now: Timestamp, term: Duration) -> Self {
        Self {
            expiry: Expiry::Runs(now + term),
            safe_at: now,
            answers: VecDeque::new(),
            named_at: now,
        }
    }

    /// Makes the lease of a process that an earlier term has answered last: its own half may go on
    /// for longer than what this term would give it.
    pub fn taken_over(now: Timestamp, term: Duration, safe_at: Timestamp) -> Self {
        Self {
            safe_at,
            ..Self::new(now, term)
        }
    }

    /// Returns when it ends, unless a proof comes.
    pub fn until(&self) -> Timestamp {
        let (Expiry::Runs(until) | Expiry::LastLook(until) | Expiry::Deferred(until)) = self.expiry;
        until
    }

    /// Returns when the node's own half ends at the latest.
    pub fn safe_at(&self) -> Timestamp {
        self.safe_at
    }

    /// Returns what its end calls for, if it has ended.
    pub fn expired(&self, now: Timestamp) -> Option<Expired> {
        match self.expiry {
            Expiry::Runs(until) => (until <= now).then_some(Expired::Look),
            Expiry::LastLook(until) | Expiry::Deferred(until) => {
                (until <= now).then_some(Expired::Over)
            }
        }
    }

    /// Lets it end for good then, unless a proof comes.
    pub fn look_until(&mut self, until: Timestamp) {
        self.expiry = Expiry::LastLook(until);
    }

    /// Lets it end no sooner, since what the node has said may not have been read. This is done
    /// once in a silence: even a driver that is always late has read all that there was by the next
    /// turn. Returns whether this changes when it ends.
    pub fn defer(&mut self, to: Timestamp) -> bool {
        let deferred = match self.expiry {
            Expiry::Runs(until) | Expiry::LastLook(until) => until < to,
            Expiry::Deferred(_) => false,
        };
        if deferred {
            self.expiry = Expiry::Deferred(to);
        }
        deferred
    }

    /// Takes in that a link is up: beats are numbered anew, and the hello counts as beat 0.
    pub fn link_up(&mut self, now: Timestamp, term: Duration) {
        self.named_at = now;
        self.extend(now + term);
        self.answers.clear();
        self.answered(now, 0, term);
    }

    /// Forgets all answers, since nothing that names one can come any more.
    pub fn forget_answers(&mut self) {
        self.answers = VecDeque::new();
    }

    /// Notes that an answer to beat `number` goes out now.
    pub fn answered(&mut self, now: Timestamp, number: u64, term: Duration) {
        if self.answers.len() == MAX_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back((number, now));
        self.safe_at = self.safe_at.max(now + term);
    }

    /// Notes a proof of life that names the answer to beat `answered`. Only one that proves that
    /// the node hears the scheduler, too, extends the lease.
    pub fn proved(&mut self, now: Timestamp, answered: u64, term: Duration) {
        while self
            .answers
            .front()
            .is_some_and(|&(number, _)| number < answered)
        {
            self.answers.pop_front();
        }
        if let Some(&(number, given)) = self.answers.front()
            && number == answered
            && now.since(given) <= term
        {
            self.named_at = now;
            self.extend(now + term);
        }
    }

    /// Notes a sign of life that names no answer.
    pub fn heard(&mut self, now: Timestamp, term: Duration) {
        if now.since(self.named_at) <= term {
            self.extend(now + term);
        }
    }

    /// Extends it by a proof of life, which holds until then.
    fn extend(&mut self, until: Timestamp) {
        self.expiry = Expiry::Runs(until.max(self.until()));
    }
}
