//! The turns of tasks, each of which tells when its task became due.
//!
//! Owns: which turn is next. Does not know: what waits.
//!
//! A turn is the moment at which its task became due, in nanoseconds, or just after the turn before
//! if that is later. So it needs no number beside that moment, and a task no room for it.

use super::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    next: u64,
}

impl Ranks {
    /// Gives out the turn of a task that became due at this moment: after all that were given out.
    #[inline]
    pub fn take(&mut self, due: Timestamp) -> u64 {
        let rank = self.next.max(due.0);
        self.next = rank + 1;
        rank
    }
}

/// Returns the moment at which a task of this turn became due.
#[inline]
pub(crate) fn due_at(rank: u64) -> Timestamp {
    Timestamp(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_and_tell_the_time() {
        let mut ranks = Ranks::default();
        let given: Vec<_> = [5, 5, 5, 9, 8, 20]
            .map(|at| ranks.take(Timestamp(at)))
            .into();
        assert_eq!(given, [5, 6, 7, 9, 10, 20]);
        assert_eq!(due_at(given[5]), Timestamp(20));
    }
}
