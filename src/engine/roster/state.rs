//! How a node stands with this scheduler, and whether it is to drain.
//!
//! Owns: which process of it, if any, counts. Does not know: what is known of that process.

use super::{Channel, Incarnation, Standing};
use crate::engine::Epoch;

/// What is believed of a node. Whatever holds for one process of it, its link among that, is in its
/// [`Incarnation`], and so ends with it.
#[derive(Debug)]
pub(crate) enum State {
    /// Never reached so far.
    Connecting,
    /// A process of it may be alive.
    Member(Incarnation),
    /// Taken out by hand. Its record is kept until every process of it has said goodbye, is dead, or
    /// has outlived its lease. Without a process, those that it has replaced are waited for.
    Leaving(Option<Incarnation>),
    /// No process of it is known to be alive.
    Dead,
    /// Taken out by hand, and its processes have ended: only its name is left.
    Vacant,
    /// Forgotten. The record is that of the next node.
    Free,
}

impl State {
    /// Returns the process that may be alive.
    pub fn incarnation(&self) -> Option<&Incarnation> {
        match self {
            Self::Member(life) | Self::Leaving(Some(life)) => Some(life),
            Self::Connecting | Self::Leaving(None) | Self::Dead | Self::Vacant | Self::Free => None,
        }
    }

    pub fn incarnation_mut(&mut self) -> Option<&mut Incarnation> {
        match self {
            Self::Member(life) | Self::Leaving(Some(life)) => Some(life),
            Self::Connecting | Self::Leaving(None) | Self::Dead | Self::Vacant | Self::Free => None,
        }
    }

    pub fn channel_mut(&mut self) -> Option<&mut Channel> {
        match &mut self.incarnation_mut()?.standing {
            Standing::Up(channel) => Some(channel),
            Standing::Reconnecting | Standing::Lost => None,
        }
    }

    /// Takes the process out, since it has ended or another stands in its place. A node that was not
    /// taken out by hand is dead then, until a hello begins the next incarnation.
    pub fn take_incarnation(&mut self) -> Option<Incarnation> {
        if let Self::Leaving(life) = self {
            return life.take();
        }
        match std::mem::replace(self, Self::Dead) {
            Self::Member(life) => Some(life),
            Self::Connecting | Self::Leaving(_) | Self::Dead | Self::Vacant | Self::Free => None,
        }
    }
}

/// An operator's wish that a node drains. It holds for one incarnation: the one after that takes
/// tasks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// None was known: the next one to come is meant.
    Next,
    Of(Epoch),
}

impl Drain {
    /// Returns what is left of the wish when another incarnation comes.
    pub fn follows(self, epoch: Epoch) -> Option<Self> {
        match self {
            Self::Next => Some(Self::Of(epoch)),
            Self::Of(asked) => (asked == epoch).then_some(self),
        }
    }
}
