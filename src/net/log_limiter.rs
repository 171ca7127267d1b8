//! Where peers come from, and how often it is told that one was refused.
//!
//! Owns: what counts as one source, and how many refusals of each were not told. Does not know: why
//! a peer was refused.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::engine::Timestamp;
use crate::repeats::Series;
use crate::sync::lock;

/// Sources that are told apart; beyond it they share one line, so that neither the lines nor the
/// memory grow with the addresses that somebody has.
const MAX_SOURCES: usize = 256;

/// Returns the source that an address belongs to: an address of IPv4, or the 64 bits of one of IPv6
/// that a single machine is given whole.
pub(super) fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Which refusals are told. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct LogLimiter(Arc<Mutex<Sources>>);

#[derive(Debug, Default)]
struct Sources {
    /// `None` are all those for which there was no room.
    last: HashMap<Option<IpAddr>, Series>,
}

impl LogLimiter {
    /// Returns whether to tell of a refusal now, and then how many before it were not told.
    pub(super) fn tell(&self, peer: IpAddr) -> Option<u64> {
        let mut sources = lock(&self.0);
        sources.tell(source(peer), Clock::Process.now())
    }

    /// Takes in that a peer was not refused. Returns how often its source had been before, if that
    /// was more than once.
    pub(super) fn over(&self, peer: IpAddr) -> Option<u64> {
        let series = lock(&self.0).last.remove(&Some(source(peer)))?;
        Some(series.times()).filter(|times| *times > 1)
    }
}

impl Sources {
    fn tell(&mut self, source: IpAddr, now: Timestamp) -> Option<u64> {
        let key = Some(source).filter(|key| self.has_room(*key, now));
        if let Some(series) = self.last.get_mut(&key) {
            return series.tell(now);
        }
        self.last.insert(key, Series::new(now));
        Some(0)
    }

    /// Returns whether this source is, or can be, told apart. If there are too many, those that
    /// were quiet make room.
    fn has_room(&mut self, source: IpAddr, now: Timestamp) -> bool {
        if self.last.contains_key(&Some(source)) || self.last.len() < MAX_SOURCES {
            return true;
        }
        let mut untold = 0;
        self.last.retain(|key, series| {
            let keep = key.is_none() || !series.is_old(now);
            if !keep {
                untold += series.untold();
            }
            keep
        });
        if untold > 0 {
            let others = self.last.entry(None).or_insert(Series::new(now));
            others.add_untold(untold);
        }
        self.last.len() < MAX_SOURCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + std::time::Duration::from_secs(seconds)
    }

    #[test]
    fn g11_refusals_of_one_source_are_told_ever_more_rarely_and_counted() {
        let mut sources = Sources::default();
        assert_eq!(sources.tell(ip(1), at(0)), Some(0));
        for _ in 0..1000 {
            assert_eq!(sources.tell(ip(1), at(5)), None);
        }
        assert_eq!(sources.tell(ip(2), at(5)), Some(0));
        assert_eq!(sources.tell(ip(1), at(10)), Some(1000));
        assert_eq!(sources.tell(ip(1), at(20)), None);
        assert_eq!(sources.tell(ip(1), at(30)), Some(1));
    }

    #[test]
    fn g11_refusals_of_many_sources_make_neither_lines_nor_memory_without_end() {
        let mut sources = Sources::default();
        let mut told = 0;
        for number in 0..100_000 {
            told += usize::from(sources.tell(ip(number), at(0)).is_some());
        }
        assert!(told <= MAX_SOURCES + 1, "{told} lines");
        assert!(sources.last.len() <= MAX_SOURCES + 1);
        // Those that had a line of their own have one again, and what was not told is not
        // forgotten.
        let mut untold = 0;
        for number in (0..100_000).rev() {
            untold += sources.tell(ip(number), at(600)).unwrap_or(0);
        }
        assert_eq!(untold, 100_000 - told as u64);
    }

    #[test]
    fn the_end_of_refusals_is_told_once_with_their_number() {
        let told = LogLimiter::default();
        for _ in 0..3 {
            told.tell(ip(1));
        }
        assert_eq!(told.over(ip(1)), Some(3));
        assert_eq!(told.over(ip(1)), None);
        told.tell(ip(1));
        assert_eq!(told.over(ip(1)), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let source = |ip: &str| source(ip.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
    }
}
