//! Which of many equal warnings are written.
//!
//! Owns: how often a warning is repeated, and how many were left out. Does not know: what it says,
//! how it is written, or the clock, which is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::Timestamp;

/// How long the first repetition is away; each further one is twice as far.
pub(crate) const FIRST_INTERVAL: Duration = Duration::from_secs(10);
/// How far repetitions are apart at most. What has not happened for so long is new again.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_secs(600);

/// Warnings that are told apart; those beyond share one, so that neither lines nor memory grow with
/// what peers say.
const MAX_SERIES: usize = 256;

/// Something that is warned of again and again: told at once, then ever more rarely, with a count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    told: Timestamp,
    seen: Timestamp,
    interval: Duration,
    untold: u64,
    times: u64,
}

impl Series {
    /// Begins with one that is told.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            told: now,
            seen: now,
            interval: FIRST_INTERVAL,
            untold: 0,
            times: 1,
        }
    }

    /// Returns whether to tell of another one now, and then how many before it were not told.
    pub(crate) fn tell(&mut self, now: Timestamp) -> Option<u64> {
        if now.since(self.seen) >= LONGEST_INTERVAL {
            let untold = self.untold;
            *self = Self::new(now);
            return Some(untold);
        }
        self.seen = now;
        self.times += 1;
        if now.since(self.told) < self.interval {
            self.untold += 1;
            return None;
        }
        self.told = now;
        self.interval = (self.interval * 2).min(LONGEST_INTERVAL);
        Some(std::mem::take(&mut self.untold))
    }

    /// Returns how often it has happened.
    pub(crate) fn times(&self) -> u64 {
        self.times
    }

    /// Returns how many were not told since the last that was.
    pub(crate) fn untold(&self) -> u64 {
        self.untold
    }

    /// Counts others that were not told.
    pub(crate) fn add_untold(&mut self, untold: u64) {
        self.untold += untold;
    }

    /// Returns whether it may be forgotten: nothing of it has happened for so long.
    pub(crate) fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.seen) >= LONGEST_INTERVAL
    }
}

/// The warnings of one log, by what they are about and what they say.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<(String, String), Series>);

impl Repeats {
    /// Returns whether to tell this now, and then how many equal ones before it were not told.
    pub(crate) fn tell(&mut self, about: &str, words: &str, now: Timestamp) -> Option<u64> {
        let mut key = (about.to_owned(), words.to_owned());
        if self.0.len() >= MAX_SERIES && !self.0.contains_key(&key) {
            self.0.retain(|_, series| !series.is_old(now));
            if self.0.len() >= MAX_SERIES {
                key = Default::default();
            }
        }
        if let Some(series) = self.0.get_mut(&key) {
            return series.tell(now);
        }
        self.0.insert(key, Series::new(now));
        Some(0)
    }

    /// Takes in that what this was about is over: returns how often it had been warned of, if it
    /// was more than once.
    pub(crate) fn over(&mut self, about: &str) -> Option<u64> {
        let mut times = 0;
        self.0.retain(|(other, _), series| {
            let keep = other != about;
            if !keep {
                times += series.times;
            }
            keep
        });
        (times > 1).then_some(times)
    }
}

/// How many lines one kind of task may have at once.
const BURST: u32 = 10;
/// How long it takes until it may have one more.
const REFILL: Duration = Duration::from_secs(6);

/// Lines that are each worth reading, up to a bound for each kind of task.
#[derive(Debug, Default)]
pub(crate) struct Bounded(BTreeMap<String, Bucket>);

#[derive(Debug)]
struct Bucket {
    left: u32,
    filled: Timestamp,
    untold: u64,
}

impl Bounded {
    /// Returns whether to write a line of this kind now, and then how many before it were not
    /// written.
    pub(crate) fn tell(&mut self, kind: &str, now: Timestamp) -> Option<u64> {
        let key = match self.0.len() < MAX_SERIES || self.0.contains_key(kind) {
            true => kind,
            false => "",
        };
        if !self.0.contains_key(key) {
            let bucket = Bucket {
                left: BURST,
                filled: now,
                untold: 0,
            };
            self.0.insert(key.to_owned(), bucket);
        }
        let bucket = self.0.get_mut(key)?;
        let more = now.since(bucket.filled).as_nanos() / REFILL.as_nanos();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            bucket.left = bucket.left.saturating_add(more).min(BURST);
            bucket.filled = now;
        }
        if bucket.left == 0 {
            bucket.untold += 1;
            return None;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_warning_that_comes_twice_a_second_for_a_day_is_told_ever_more_rarely_and_counted() {
        let mut repeats = Repeats::default();
        let mut told = Vec::new();
        let mut counted = 0;
        for half in 0..2 * 86_400 {
            let now = Timestamp::default() + Duration::from_millis(500 * half);
            if let Some(untold) = repeats.tell("node-1", "connection refused", now) {
                told.push(half / 2);
                counted += untold + 1;
            }
        }
        assert_eq!(told[..5], [0, 10, 30, 70, 150]);
        let intervals = told.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(intervals.max(), Some(600));
        assert!(told.len() < 160, "{} lines a day", told.len());
        let times = repeats.over("node-1").unwrap();
        assert!(counted <= times && times == 2 * 86_400);
        assert_eq!(repeats.over("node-1"), None);
        assert_eq!(
            repeats.tell("node-1", "connection refused", at(90_000)),
            Some(0)
        );
    }

    #[test]
    fn what_says_something_else_or_is_about_another_is_told_at_once() {
        let mut repeats = Repeats::default();
        for (about, words) in [("a", "x"), ("a", "y"), ("b", "x")] {
            assert_eq!(repeats.tell(about, words, at(0)), Some(0));
            assert_eq!(repeats.tell(about, words, at(1)), None);
        }
        // What happens once in a long while is new each time.
        assert_eq!(repeats.tell("a", "x", at(2000)), Some(1));
        assert_eq!(repeats.tell("a", "x", at(4000)), Some(0));
    }

    #[test]
    fn words_without_end_make_neither_lines_nor_memory_without_end() {
        let mut repeats = Repeats::default();
        let told = (0..10_000).filter(|n| repeats.tell("a", &n.to_string(), at(0)).is_some());
        assert!(told.count() <= MAX_SERIES + 1);
        assert!(repeats.0.len() <= MAX_SERIES + 1);
    }

    #[test]
    fn a_kind_has_its_lines_up_to_a_bound_and_another_has_its_own() {
        let mut bounded = Bounded::default();
        let mut tell = |kind, seconds| bounded.tell(kind, at(seconds));
        let told = (0..1000).filter(|_| tell("a", 0).is_some()).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(tell("b", 0), Some(0));
        assert_eq!(tell("a", 6), Some(990));
        assert_eq!(tell("a", 7), None);
    }
}
