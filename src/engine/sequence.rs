//! Numbers that are given out one after the other.
//!
//! Owns: which number is next. Does not know: what is numbered.

/// Numbers from its first one on, each given out once.
#[derive(Debug)]
pub(crate) struct Sequence {
    first: u64,
    next: u64,
    /// Numbers from this one on must not be told yet.
    end: u64,
}

impl Sequence {
    pub fn from(first: u64) -> Self {
        Self {
            first,
            next: first,
            end: u64::MAX,
        }
    }

    /// Gives out the next number.
    pub fn take(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Numbers below this one may be told, and no others.
    pub fn end_at(&mut self, end: u64) {
        self.end = end;
    }

    /// Returns whether the next number must not be told yet.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.next >= self.end
    }

    /// Returns whether this number was given out.
    pub fn has_given(&self, number: u64) -> bool {
        (self.first..self.next).contains(&number)
    }

    /// Returns the number that is given out next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Goes on from a later number, as if all before it had been given out.
    pub fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }
}

#[cfg(test)]
mod tests {
    use super::Sequence;

    #[test]
    fn each_number_is_given_out_once_and_known_from_then_on() {
        let mut numbers = Sequence::from(1);
        assert!(!numbers.has_given(0) && !numbers.has_given(1));
        assert_eq!((numbers.take(), numbers.take()), (1, 2));
        assert!(!numbers.has_given(0) && numbers.has_given(1));
        assert!(numbers.has_given(2) && !numbers.has_given(3));
    }
}
