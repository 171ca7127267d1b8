//! Which kinds have counters of their own.
//!
//! Owns: the counters, at most [`NAMED`] of them by name and one for all other kinds, and when it
//! is time to look whether others are to be named. Does not know: classes, or how many tasks a kind
//! has.
//!
//! The first kinds have counters at once. Once there are more, it is looked each minute whether one
//! without counters of its own has had clearly more tasks of late than one with. A kind that comes
//! begins at zero, and one that goes takes its counts with it: so no counter ever falls while it is
//! there, and none jumps. What went is kept as a sum, to check that nothing was lost.

use std::time::Duration;

use super::KindMeter;
use crate::engine::Timestamp;
use crate::task::TaskKind;

/// So many kinds are counted by name.
pub(crate) const NAMED: usize = 25;

/// How often it is looked whether other kinds are to be counted by name.
const REVIEW: Duration = Duration::from_secs(60);

/// In each review one part in so many of what is remembered goes: after three quarters of an hour
/// half of it is left.
const FADES: u64 = 64;

/// Index of the counters of a kind.
pub(crate) type MeterId = u32;

/// The counters of all kinds without their own.
pub(crate) const OTHER: MeterId = 0;

/// The name by which these are told. A kind of this name is one of them.
pub(crate) const OTHER_NAME: &str = "other";

/// Whether all kinds are counted by name.
#[derive(Debug)]
enum Crowd {
    /// They are.
    Few,
    /// Some are not. When to look next, if that is known.
    Many(Option<Timestamp>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct KindMeters {
    /// The first one is that of all kinds without their own.
    meters: Vec<KindMeter>,
    /// What was counted of kinds that have no counters any more.
    gone: KindMeter,
    crowd: Crowd,
}

impl Default for KindMeters {
    fn default() -> Self {
        Self {
            meters: vec![KindMeter::default()],
            gone: KindMeter::default(),
            crowd: Crowd::Few,
        }
    }
}

impl KindMeters {
    #[inline(always)]
    pub fn get(&mut self, id: MeterId) -> &mut KindMeter {
        &mut self.meters[id as usize]
    }

    /// Returns the counters of all kinds without their own, and then those of each that has some.
    pub fn all(&self) -> &[KindMeter] {
        &self.meters
    }

    /// Returns whose counters each kind has that has its own.
    pub fn named(&self) -> impl Iterator<Item = (MeterId, &TaskKind)> {
        let meters = self.meters.iter().zip(OTHER..);
        meters.filter_map(|(meter, id)| Some((id, meter.kind.as_ref()?)))
    }

    /// Finds the counters of a kind, or gives it some if there is room.
    pub fn find(&mut self, kind: &TaskKind) -> MeterId {
        if kind.as_str() == OTHER_NAME {
            return OTHER;
        }
        let known = self.named().find(|(_, named)| *named == kind);
        if let Some((id, _)) = known {
            return id;
        }
        if self.meters.len() > NAMED {
            if let Crowd::Few = self.crowd {
                self.crowd = Crowd::Many(None);
            }
            return OTHER;
        }
        self.meters.push(KindMeter::of(kind.clone()));
        self.meters.len() as MeterId - 1
    }

    /// Returns whether it is to be looked now which kinds are counted by name.
    #[inline]
    pub fn is_review_due(&mut self, now: Timestamp) -> bool {
        let Crowd::Many(next) = &mut self.crowd else {
            return false;
        };
        let due = *next.get_or_insert(now + REVIEW) <= now;
        if due {
            *next = Some(now + REVIEW);
        }
        due
    }

    /// Returns whether a kind that had so many tasks of late is to take the place of one that had
    /// so many: by a quarter more, so that two of about the same size do not change places for
    /// ever.
    pub fn displaces(lately: u64, weakest: u64) -> bool {
        lately > weakest.saturating_add(weakest / 4)
    }

    /// Returns what is still remembered of so many tasks a review later.
    pub fn faded(lately: u64) -> u64 {
        lately - lately.div_ceil(FADES)
    }

    /// Gives the counters of one kind to another, for which they begin at zero. Returns which kind
    /// had them.
    pub fn replace(&mut self, id: MeterId, kind: TaskKind) -> Option<TaskKind> {
        let meter = &mut self.meters[id as usize];
        let counted = std::mem::replace(meter, KindMeter::of(kind));
        self.gone.absorb(&counted);
        counted.kind
    }

    /// Returns the sum of all that was counted.
    pub fn sum(&self) -> KindMeter {
        let mut sum = self.gone.clone();
        for meter in &self.meters {
            sum.absorb(meter);
        }
        sum
    }
}
