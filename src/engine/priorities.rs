//! How many of some tasks there are of each priority.
//!
//! Owns: the counts. Does not know: which tasks are counted.

/// See the module. A priority is told by its lateness, as in a turn: less is sooner.
#[derive(Debug)]
pub(crate) struct Priorities {
    counts: Box<[u32; 256]>,
    /// One bit for each priority of which there is any.
    present: [u64; 4],
}

impl Default for Priorities {
    fn default() -> Self {
        Self {
            counts: Box::new([0; 256]),
            present: [0; 4],
        }
    }
}

impl Priorities {
    #[inline]
    pub fn add(&mut self, lateness: u8) {
        self.add_many(lateness, 1);
    }

    #[inline]
    pub fn remove(&mut self, lateness: u8) {
        self.remove_many(lateness, 1);
    }

    /// Adds so many.
    #[inline]
    pub fn add_many(&mut self, lateness: u8, many: u32) {
        self.counts[usize::from(lateness)] += many;
        self.present[usize::from(lateness / 64)] |= u64::from(many > 0) << (lateness % 64);
    }

    /// Takes so many out that were added.
    #[inline]
    pub fn remove_many(&mut self, lateness: u8, many: u32) {
        let count = &mut self.counts[usize::from(lateness)];
        *count -= many;
        if *count == 0 {
            self.present[usize::from(lateness / 64)] &= !(1 << (lateness % 64));
        }
    }

    /// Returns the soonest of which there is any.
    pub fn first(&self) -> Option<u8> {
        let word = self.present.iter().position(|&word| word != 0)?;
        Some((word * 64) as u8 + self.present[word].trailing_zeros() as u8)
    }

    /// Returns the latest of which there is any.
    pub fn last(&self) -> Option<u8> {
        let word = self.present.iter().rposition(|&word| word != 0)?;
        Some((word * 64) as u8 + 63 - self.present[word].leading_zeros() as u8)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_and_the_last_are_those_of_what_was_added_and_not_removed(
            steps in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..200)
        ) {
            let mut priorities = Priorities::default();
            let mut model: Vec<u8> = Vec::new();
            for (lateness, add) in steps {
                if add {
                    priorities.add(lateness);
                    model.push(lateness);
                } else if let Some(removed) = model.pop() {
                    priorities.remove(removed);
                }
                prop_assert_eq!(priorities.first(), model.iter().copied().min());
                prop_assert_eq!(priorities.last(), model.iter().copied().max());
            }
        }
    }
}
