//! What the losses of nodes say of a task: whether it may be what ended them.
//!
//! Owns: which losses count, and how many suspects one node may have at once. Does not know: why a
//! node was lost, or which node takes a task.
//!
//! A task that ends its node is lost together with all that ran there, and nobody knows which of
//! them it was. A task under which two nodes were lost is a suspect. Suspects that are lost
//! together are halved: each goes on among half as many at one node, until one is alone with its
//! loss. What suspects share is not counted against them. Each such loss halves their number, so
//! their losses are bounded all the same.

use std::num::NonZeroU16;

use crate::engine::{Incarnation, NodeId};

/// A task under which so many nodes were lost is a suspect.
const SUSPECT_FROM: usize = 2;

/// How many suspects may be at one node, as far as one of them minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Company(NonZeroU16);

impl Company {
    /// Returns half of so many suspects, rounded up.
    fn half_of(suspects: u32) -> Self {
        let half = u16::try_from(suspects.div_ceil(2)).unwrap_or(u16::MAX);
        Self(NonZeroU16::new(half).unwrap_or(NonZeroU16::MIN))
    }

    pub fn get(self) -> u32 {
        u32::from(self.0.get())
    }
}

/// The suspects among the runs of a node that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspects {
    /// The tasks that were suspects before.
    pub before: u32,
    /// The tasks that are suspects by now.
    pub now: u32,
}

impl Suspects {
    /// Counts them by the losses that count of each run that had started.
    pub fn among(counted: impl Iterator<Item = usize> + Clone) -> Self {
        let count = |losses: usize| counted.clone().filter(|&it| it >= losses).count() as u32;
        Self {
            before: count(SUSPECT_FROM),
            now: count(SUSPECT_FROM - 1),
        }
    }
}

/// A process of a node that was lost under a started run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blame {
    lost: (NodeId, Incarnation),
    /// The suspects that were lost with it, this task among them; 0 if it was none.
    suspects: u32,
    /// Whether it counts against the task.
    counts: bool,
}

/// The losses of nodes under started runs of a task.
#[derive(Debug, Default)]
pub(crate) struct Losses(Vec<Blame>);

impl Losses {
    /// Adds one that was shared with these suspects.
    pub fn add(&mut self, lost: (NodeId, Incarnation), suspects: Suspects) {
        let counted = self.counted();
        let was_suspect = counted >= SUSPECT_FROM;
        self.0.push(Blame {
            lost,
            // Those that have just become suspects do not clear one that was.
            suspects: match counted + 1 {
                _ if was_suspect => suspects.before,
                SUSPECT_FROM => suspects.now,
                _ => 0,
            },
            counts: !was_suspect || suspects.before < 2,
        });
    }

    /// Takes one back.
    pub fn uncount_loss(&mut self, lost: (NodeId, Incarnation)) {
        if let Some(at) = self.0.iter().position(|blame| blame.lost == lost) {
            self.0.swap_remove(at);
        }
    }

    /// Returns all that were lost.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &(NodeId, Incarnation)> {
        self.0.iter().map(|blame| &blame.lost)
    }

    /// Returns how many count against the task.
    pub fn counted(&self) -> usize {
        self.0.iter().filter(|blame| blame.counts).count()
    }

    /// Returns among how many suspects it may be, if it is one.
    pub fn company(&self) -> Option<Company> {
        self.company_without(None)
    }

    /// Returns among how many suspects it would be without one loss, if it were a suspect.
    pub fn company_without(&self, lost: Option<(NodeId, Incarnation)>) -> Option<Company> {
        let blames = self.0.iter().filter(|blame| Some(blame.lost) != lost);
        if blames.clone().filter(|blame| blame.counts).count() < SUSPECT_FROM {
            return None;
        }
        let shared = blames
            .map(|blame| blame.suspects)
            .filter(|&suspects| suspects > 0);
        Some(Company::half_of(shared.min().unwrap_or(u32::MAX)))
    }
}
