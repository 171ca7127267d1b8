//! Where peers come from, and how often it is told that one was refused.
//!
//! Owns: what counts as one source, and how many refusals of each were not told. Does not know: why a peer was
//! refused.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// One line for each source in this time: a stranger that connects without end must not fill a disk.
const QUIET: Duration = Duration::from_secs(1);

/// Sources that are told apart; beyond it they share one line, so that neither the lines nor the memory grow
/// with the addresses that somebody has.
const MAX_SOURCES: usize = 256;

/// The source that an address belongs to: an address of IPv4, or the 64 bits of one of IPv6 that a single machine
/// is given whole.
pub(super) fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Which refusals are told. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Sources>>);

#[derive(Debug, Default)]
struct Sources {
    /// `None` are all those for which there was no room.
    last: HashMap<Option<IpAddr>, Last>,
}

#[derive(Debug)]
struct Last {
    told: Instant,
    /// Refusals since that were not told.
    untold: u64,
}

impl Told {
    /// Whether to tell of a refusal now, and then how many before it were not told.
    pub(super) fn tell(&self, peer: IpAddr) -> Option<u64> {
        let mut sources = lock(&self.0);
        sources.tell(source(peer), Instant::now())
    }
}

impl Sources {
    fn tell(&mut self, source: IpAddr, now: Instant) -> Option<u64> {
        let key = Some(source).filter(|key| self.has_room(*key, now));
        let Some(last) = self.last.get_mut(&key) else {
            let told = Last {
                told: now,
                untold: 0,
            };
            self.last.insert(key, told);
            return Some(0);
        };
        if now.duration_since(last.told) < QUIET {
            last.untold += 1;
            return None;
        }
        last.told = now;
        Some(std::mem::take(&mut last.untold))
    }

    /// Whether this source is, or can be, told apart. If there are too many, those that were quiet make room.
    fn has_room(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.last.contains_key(&Some(source)) || self.last.len() < MAX_SOURCES {
            return true;
        }
        let mut untold = 0;
        self.last.retain(|key, last| {
            let keep = key.is_none() || now.duration_since(last.told) < QUIET;
            if !keep {
                untold += last.untold;
            }
            keep
        });
        if untold > 0 {
            let others = self.last.entry(None).or_insert(Last {
                told: now,
                untold: 0,
            });
            others.untold += untold;
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

    #[test]
    fn g11_refusals_of_one_source_are_told_once_a_second_and_counted() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        assert_eq!(sources.tell(ip(1), start), Some(0));
        for _ in 0..1000 {
            assert_eq!(sources.tell(ip(1), start + QUIET / 2), None);
        }
        assert_eq!(sources.tell(ip(2), start + QUIET / 2), Some(0));
        assert_eq!(sources.tell(ip(1), start + QUIET), Some(1000));
        assert_eq!(sources.tell(ip(1), start + QUIET * 2), Some(0));
    }

    #[test]
    fn g11_refusals_of_many_sources_make_neither_lines_nor_memory_without_end() {
        let (mut sources, start) = (Sources::default(), Instant::now());
        let mut told = 0;
        for number in 0..100_000 {
            told += usize::from(sources.tell(ip(number), start).is_some());
        }
        assert!(told <= MAX_SOURCES + 1, "{told} lines");
        assert!(sources.last.len() <= MAX_SOURCES + 1);
        // Those that had a line of their own have one again, and what was not told is not forgotten.
        let mut untold = 0;
        for number in (0..100_000).rev() {
            untold += sources.tell(ip(number), start + QUIET).unwrap_or(0);
        }
        assert_eq!(untold, 100_000 - told as u64);
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
