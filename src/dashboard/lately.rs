//! How many tasks of each kind have failed of late.
//!
//! Owns: what had failed at the beginning of the last 15 minutes. Does not know: a clock, or what
//! counts as failed.

use std::collections::{BTreeMap, VecDeque};

use crate::task::TaskKind;

/// How many seconds lie between two samples, and how many spans of these are looked back at.
const EACH: u64 = 15;
const SPANS: usize = 60;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Lately {
    /// Counts since the start of the scheduler, oldest first.
    samples: VecDeque<BTreeMap<TaskKind, u64>>,
    /// The seconds since the last.
    gathered: u64,
}

/// What had failed at the beginning of a span.
#[derive(Clone, Debug, Default)]
pub struct Before {
    counts: BTreeMap<TaskKind, u64>,
    /// How long ago that was.
    pub seconds: u64,
}

impl Lately {
    /// Takes in how many tasks of each kind have failed so far, so many seconds after the last
    /// time.
    pub fn add(&mut self, failed: &[(TaskKind, u64)], seconds: u64) {
        if self.samples.is_empty() {
            self.samples.push_back(failed.iter().cloned().collect());
            return;
        }
        self.gathered += seconds;
        for _ in 0..(self.gathered / EACH).min(SPANS as u64 + 1) {
            self.samples.push_back(failed.iter().cloned().collect());
            if self.samples.len() > SPANS + 1 {
                self.samples.pop_front();
            }
        }
        self.gathered %= EACH;
    }

    /// Returns what had failed 15 minutes ago, to within 15 s, or when this began.
    pub fn before(&self) -> Before {
        let spans = self.samples.len().saturating_sub(1) as u64;
        Before {
            counts: self.samples.front().cloned().unwrap_or_default(),
            seconds: spans * EACH + self.gathered,
        }
    }
}

impl Before {
    /// Returns how many have failed since, of so many by now.
    pub fn since(&self, kind: &TaskKind, failed: u64) -> u64 {
        let before = self.counts.get(kind).copied().unwrap_or(0);
        // A kind that has lost its counters meanwhile began anew.
        failed.checked_sub(before).unwrap_or(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_within_the_span_counts() {
        let kind = TaskKind::from("a");
        let mut lately = Lately::default();
        // One fails each second, from the tenth on.
        for second in 0..=2000u64 {
            lately.add(&[(kind.clone(), second.saturating_sub(10))], 1);
            if second == 300 {
                let before = lately.before();
                assert_eq!((before.since(&kind, 290), before.seconds), (290, 300));
                assert_eq!(before.since(&TaskKind::from("b"), 3), 3);
            }
        }
        let before = lately.before();
        assert_eq!(before.since(&kind, 1990), before.seconds);
        assert!((900..915).contains(&before.seconds), "{}", before.seconds);
        assert_eq!(before.since(&kind, 2), 2, "it was counted anew");
        lately.add(&[], u64::from(u32::MAX));
        assert_eq!(lately.samples.len(), SPANS + 1);
    }
}
