//! How much of a file is needed.
//!
//! Owns: the bytes of each batch of a log. Does not know: the file.

use std::collections::VecDeque;

/// What the log has in the database, as far as it was read or written here.
#[derive(Debug, Default)]
pub struct Content {
    /// The bytes of each batch, in order.
    batches: VecDeque<(u64, u64)>,
    pub bytes: u64,
}

impl Content {
    pub fn add(&mut self, number: u64, bytes: usize) {
        self.bytes += bytes as u64;
        match self.batches.back_mut() {
            Some((last, all)) if *last == number => *all += bytes as u64,
            _ => self.batches.push_back((number, bytes as u64)),
        }
    }

    /// Drops the batches before this one. The last batch always stays.
    pub fn cut(&mut self, before: u64) {
        let last = self.batches.back().map_or(0, |(last, _)| *last);
        let before = before.min(last);
        while self
            .batches
            .front()
            .is_some_and(|(number, _)| *number < before)
        {
            let gone = self.batches.pop_front();
            self.bytes -= gone.map_or(0, |(_, bytes)| bytes);
        }
    }
}
