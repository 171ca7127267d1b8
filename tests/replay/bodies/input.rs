//! Bytes of the fuzzer as numbers and choices. What is missing is zero, so that every input means
//! something.
//!
//! Owns: the way from bytes to values. Does not know: what they are for.

use std::time::Duration;

/// What is left of an input.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    /// Takes up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Less than `count`, which is from 1 to 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub fn pick<'b, T>(&mut self, of: &'b [T]) -> Option<&'b T> {
        let at = usize::from(self.byte());
        (!of.is_empty()).then(|| &of[at % of.len()])
    }

    /// Draws a number, most often small; else one of those at which something may wrap, or any.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => u64::from(small),
            200..210 => u64::MAX - u64::from(self.byte()),
            210..220 => u64::from(u32::MAX) + 128 - u64::from(self.byte()),
            220..230 => (1 << 21) + 128 - u64::from(self.byte()),
            230..240 => (1 << 63) + 128 - u64::from(self.byte()),
            _ => self
                .bytes(8)
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        }
    }

    pub fn number_32(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    /// Draws a span from nothing to the longest there is.
    pub fn duration(&mut self) -> Duration {
        match self.below(5) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(self.number()),
            2 => Duration::from_nanos(self.number()),
            3 => Duration::new(self.number(), 999_999_999),
            _ => Duration::MAX,
        }
    }
}
