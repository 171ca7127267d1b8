//! What is used of a limit, and whether anything is left.
//!
//! Owns: the arithmetic. Does not know: whose limit it is, or what goes on.
//!
//! A rate is kept by the generic cell rate algorithm: one time is remembered, at which the next
//! start would be due if all came evenly. A start moves it on by an interval, and may come as much
//! before it as the burst allows.

use std::time::Duration;

use crate::engine::Timestamp;
use crate::limit::Bounds;

/// What a limit allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub at_once: Option<u32>,
    /// How long after a start the next one is due, and how much sooner it may come.
    pace: Option<(Duration, Duration)>,
}

/// What is used of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Tasks and orphaned runs that may be going on.
    pub going: u32,
    /// When the next start would be due if all came evenly.
    due: Timestamp,
    /// Whether another may start, as far as it was looked at.
    pub left: Left,
}

/// Whether another task may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Another task may start.
    Some,
    /// Not before one that goes on has ended.
    NoneAtOnce,
    /// Not before this time.
    NoneBefore(Timestamp),
}

impl Rule {
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            at_once: bounds.concurrency,
            pace: bounds.pace(),
        }
    }
}

impl Bucket {
    /// Makes a bucket of which nothing is used.
    pub fn new(now: Timestamp) -> Self {
        Self {
            going: 0,
            due: now,
            left: Left::Some,
        }
    }

    /// Looks whether another may start now, and returns what was seen before.
    pub fn look(&mut self, rule: &Rule, now: Timestamp) -> Left {
        let left = match rule.pace {
            _ if self.is_full(rule) => Left::NoneAtOnce,
            Some((_, ahead)) if self.due - ahead > now => Left::NoneBefore(self.due - ahead),
            _ => Left::Some,
        };
        std::mem::replace(&mut self.left, left)
    }

    /// Follows this rule from now on, with so many that go on. What was used of another rate
    /// counts, and is waited for no longer than what may be used of this one.
    pub fn follow(&mut self, rule: &Rule, now: Timestamp, going: u32) {
        let (interval, ahead) = rule.pace.unwrap_or_default();
        self.due = self.due.min(now + interval + ahead);
        self.going = going;
    }

    /// Forgets what was used, since nothing is limited any more.
    pub fn forget(&mut self, now: Timestamp) {
        (self.due, self.going) = (now, 0);
    }

    /// Uses up one start.
    pub fn start(&mut self, rule: &Rule, now: Timestamp) {
        if let Some((interval, _)) = rule.pace {
            self.due = self.due.max(now) + interval;
        }
    }

    /// Counts one more that goes on, or one less. Returns whether that has to be looked at: a run
    /// that was going on before may be counted without a start, after a restart, or when it is its
    /// task's again.
    #[must_use]
    pub fn count(&mut self, rule: &Rule, more: bool) -> bool {
        if more {
            self.going += 1;
        } else {
            self.going -= 1;
        }
        self.is_full(rule) != (self.left == Left::NoneAtOnce)
    }

    /// Returns when all that was used of the rate has come back.
    pub fn whole_at(&self) -> Timestamp {
        self.due
    }

    /// Returns whether as many go on at once as may.
    pub fn is_full(&self, rule: &Rule) -> bool {
        rule.at_once.is_some_and(|most| self.going >= most)
    }

    /// Returns whether more go on at once than may, since the limit was lowered.
    pub fn is_exceeded(&self, rule: &Rule) -> bool {
        rule.at_once.is_some_and(|most| self.going > most)
    }

    pub fn is_used_up(&self) -> bool {
        self.left != Left::Some
    }
}
