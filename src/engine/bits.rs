//! Sets of small numbers, a bit each.
//!
//! Owns: membership. Does not know: what is numbered.
//!
//! What two sets have in common is found 64 numbers at a time. So nothing has to be kept sorted for
//! each of many sets while its members change.

use std::iter::successors;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub fn insert(&mut self, number: u32) {
        let (word, bit) = place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
    }

    pub fn remove(&mut self, number: u32) {
        let (word, bit) = place(number);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns the members, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        members((0..).zip(self.words.iter().copied()))
    }

    /// Returns what both have, in order.
    pub fn common(&self, other: &Self) -> impl Iterator<Item = u32> {
        members((0..).zip(self.common_words(other)))
    }

    pub fn intersects(&self, other: &Self) -> bool {
        self.common_words(other).any(|word| word != 0)
    }

    /// Returns how many both have.
    pub fn count_common(&self, other: &Self) -> usize {
        let counts = self.common_words(other).map(|word| word.count_ones());
        counts.map(|count| count as usize).sum()
    }

    /// Visits what both have: what is not less than `from` in order, and then the rest, until
    /// `visit` says that it has seen enough.
    #[inline]
    pub fn visit_common(&self, other: &Self, from: u32, mut visit: impl FnMut(u32) -> bool) {
        let (start, bit) = place(from);
        let len = self.words.len().min(other.words.len());
        let mut visit_word = |at: usize, mask: u64| {
            let mut rest = self.words[at] & other.words[at] & mask;
            while rest != 0 {
                if !visit(number((at, rest))) {
                    return false;
                }
                rest &= rest - 1;
            }
            true
        };
        let earlier = bit - 1;
        let later = (start.min(len)..len)
            .all(|at| visit_word(at, if at == start { !earlier } else { u64::MAX }));
        if later {
            let end = len.min(start + 1);
            (0..end).all(|at| visit_word(at, if at == start { earlier } else { u64::MAX }));
        }
    }

    fn common_words(&self, other: &Self) -> impl Iterator<Item = u64> {
        self.words
            .iter()
            .zip(&other.words)
            .map(|(one, two)| one & two)
    }
}

/// Returns the word of a number, and its bit there.
fn place(number: u32) -> (usize, u64) {
    ((number / 64) as usize, 1 << (number % 64))
}

/// Returns the lowest number in a word that is not empty.
fn number((at, word): (usize, u64)) -> u32 {
    at as u32 * 64 + word.trailing_zeros()
}

/// Returns the members of words, each of which has its index.
fn members(words: impl Iterator<Item = (usize, u64)>) -> impl Iterator<Item = u32> {
    words.flat_map(|(at, word)| {
        let rest = successors(Some(word), |word| Some(word & word.wrapping_sub(1)));
        rest.take_while(|word| *word != 0)
            .map(move |word| number((at, word)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::Bits;

    fn bits(members: &BTreeSet<u32>) -> Bits {
        let mut bits = Bits::default();
        members.iter().for_each(|&member| bits.insert(member));
        bits
    }

    proptest! {
        #[test]
        fn sets_of_bits_are_sets(
            one in proptest::collection::btree_set(0..300u32, 0..20),
            two in proptest::collection::btree_set(0..300u32, 0..20),
            removed in proptest::collection::vec(0..400u32, 0..20),
            from in 0..400u32,
        ) {
            let (mut bits_one, bits_two) = (bits(&one), bits(&two));
            let mut one = one;
            for number in removed {
                prop_assert_eq!(bits_one.contains(number), one.remove(&number));
                bits_one.remove(number);
            }
            prop_assert!(bits_one.iter().eq(one.iter().copied()));
            prop_assert_eq!(bits_one.is_empty(), one.is_empty());
            let common: BTreeSet<_> = one.intersection(&two).copied().collect();
            prop_assert!(bits_one.common(&bits_two).eq(common.iter().copied()));
            prop_assert_eq!(bits_one.count_common(&bits_two), common.len());
            prop_assert_eq!(bits_one.intersects(&bits_two), !common.is_empty());
            let turned = common.range(from..).chain(common.range(..from)).copied();
            for most in [1, 3, usize::MAX] {
                let mut visited = Vec::new();
                bits_one.visit_common(&bits_two, from, |number| {
                    visited.push(number);
                    visited.len() < most
                });
                prop_assert!(turned.clone().take(most).eq(visited));
            }
        }
    }
}
