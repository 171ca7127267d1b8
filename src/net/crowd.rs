//! Who waits at a listener, by where they come from.
//!
//! Owns: which one goes when there are too many. Does not know: connections.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// A member's source, and its number: older members have lower ones.
pub(super) type Ticket = (IpAddr, u64);

/// Members of many sources. Whatever is done takes time by the logarithm of their number: a flood
/// of connections is when it matters.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    next: u64,
    len: usize,
    sources: HashMap<IpAddr, BTreeMap<u64, T>>,
    /// Each source by how many it has; of those with as many, the one with the oldest member comes
    /// last.
    sizes: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
}

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self {
            next: 0,
            len: 0,
            sources: HashMap::new(),
            sizes: BTreeSet::new(),
        }
    }
}

impl<T> Crowd<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn next_ticket(&mut self, source: IpAddr) -> Ticket {
        self.next += 1;
        (source, self.next)
    }

    pub fn add(&mut self, (source, number): Ticket, member: T) {
        self.change(source, |members| members.insert(number, member));
    }

    pub fn remove(&mut self, (source, number): Ticket) -> Option<T> {
        self.change(source, |members| members.remove(&number))
    }

    /// Takes out the oldest of the source that has most, with one more from `comes`. So a source
    /// that comes without end drives out its own.
    pub fn remove_of_most(&mut self, comes: IpAddr) -> Option<T> {
        let own = self.sources.get(&comes).and_then(|own| size(comes, own));
        let own = own.map(|(count, oldest, source)| (count + 1, oldest, source));
        let (_, Reverse(oldest), source) = own.max(self.sizes.last().copied())?;
        self.remove((source, oldest))
    }

    fn change<R>(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeMap<u64, T>) -> R) -> R {
        let members = self.sources.entry(source).or_default();
        if let Some(old) = size(source, members) {
            self.sizes.remove(&old);
            self.len -= members.len();
        }
        let changed = change(members);
        match size(source, members) {
            Some(new) => {
                self.len += members.len();
                self.sizes.insert(new);
            }
            None => {
                self.sources.remove(&source);
            }
        }
        changed
    }
}

fn size<T>(source: IpAddr, members: &BTreeMap<u64, T>) -> Option<(usize, Reverse<u64>, IpAddr)> {
    let (&oldest, _) = members.first_key_value()?;
    Some((members.len(), Reverse(oldest), source))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what the crowd would drop, found by looking at every member.
    fn of_most(members: &[Ticket], comes: IpAddr) -> Option<Ticket> {
        let count = |source| {
            let own = members.iter().filter(|(other, _)| *other == source);
            own.count() + usize::from(source == comes)
        };
        let most = members.iter().map(|(source, _)| count(*source)).max()?;
        members
            .iter()
            .copied()
            .find(|(source, _)| count(*source) == most)
    }

    proptest! {
        #[test]
        fn the_oldest_of_the_source_that_has_most_goes(
            steps in proptest::collection::vec((0..4u8, 0..5u8), 0..200)
        ) {
            let mut crowd = Crowd::default();
            let mut model: Vec<Ticket> = Vec::new();
            for (step, which) in steps {
                let source = IpAddr::from([10, 0, 0, which]);
                match step {
                    0..2 => {
                        let ticket = crowd.next_ticket(source);
                        crowd.add(ticket, ticket);
                        model.push(ticket);
                    }
                    2 if !model.is_empty() => {
                        let ended = model.remove(usize::from(which) % model.len());
                        prop_assert_eq!(crowd.remove(ended), Some(ended));
                        prop_assert_eq!(crowd.remove(ended), None);
                    }
                    _ => {
                        let goes = of_most(&model, source);
                        model.retain(|member| Some(*member) != goes);
                        prop_assert_eq!(crowd.remove_of_most(source), goes);
                    }
                }
                prop_assert_eq!(crowd.len(), model.len());
            }
        }
    }

    #[test]
    fn g11_a_flood_costs_as_much_for_each_whoever_else_waits() {
        // A walk over the others would take minutes.
        let mut crowd = Crowd::default();
        let source = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..200_000 {
            let ticket = crowd.next_ticket(source(n));
            crowd.add(ticket, n);
        }
        for n in 0..200_000 {
            assert_eq!(crowd.remove_of_most(source(7_000_000 + n)), Some(n));
            let ticket = crowd.next_ticket(source(7_000_000 + n));
            crowd.add(ticket, n);
        }
        assert_eq!(crowd.len(), 200_000);
    }
}
