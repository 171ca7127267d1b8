//! How large a log may become.
//!
//! Owns: the bounds. Does not know: what a log holds.

/// The bounds on a log, and on what one batch does to keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many bytes it may have beyond twice what lives in it.
    pub room: u64,
    /// The same when a term ends: nothing more may come for long.
    pub last_room: u64,
    /// How much is written again with one batch at most, but for a task that is larger.
    pub again: u64,
    /// How many batches may be small.
    pub max_small: usize,
    /// Below how many bytes on average batches are small.
    pub small: u64,
    /// How many bytes must be held by a head alone before another is asked for.
    pub worth_a_head: u64,
    /// The same when a term ends: nothing more may come for long.
    pub worth_a_last_head: u64,
    /// How many batches are dropped at most when one is stored. The last batch of a term drops all.
    pub dropped: u64,
    /// How many bytes are dropped at most when one is stored, but for a batch that has more.
    pub dropped_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            room: 16 << 20,
            last_room: 256 << 10,
            again: 1 << 20,
            max_small: 4096,
            small: 16 << 10,
            worth_a_head: 1 << 20,
            worth_a_last_head: 64 << 10,
            dropped: 1024,
            dropped_bytes: 64 << 20,
        }
    }
}
