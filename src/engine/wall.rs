//! The wall clock beside the machine's own.
//!
//! Owns: how far the two are apart. Does not know: who reads them.

use super::Timestamp;

/// How far the wall clock is ahead of the machine's, which nobody sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WallClock {
    nanos: i64,
}

impl WallClock {
    /// Makes the clock that shows `wall` at this moment of the machine's.
    pub fn showing(wall: Timestamp, now: Timestamp) -> Self {
        Self {
            nanos: wall.0.wrapping_sub(now.0).cast_signed(),
        }
    }

    /// Returns what it shows at a moment of the machine's.
    pub fn at(self, moment: Timestamp) -> Timestamp {
        Timestamp(moment.0.saturating_add_signed(self.nanos))
    }

    /// Returns the moment of the machine's at which it shows this.
    pub fn moment(self, shown: Timestamp) -> Timestamp {
        Timestamp(shown.0.saturating_add_signed(self.nanos.saturating_neg()))
    }
}
