//! How a node stands with this scheduler, and whether it is to drain.
//!
//! Owns: which process of it, if any, counts. Does not know: what is known of that process.

use super::{Channel, NodeProcess, Standing};
use crate::engine::Incarnation;

/// What is believed of a node. Whatever holds for one process of it, its link among that, is in its
/// [`NodeProcess`], and so ends with it.
#[derive(Debug)]
pub(crate) enum State {
    /// Never reached so far.
    Connecting,
    /// A process of it may be alive.
    Member(NodeProcess),
    /// Taken out by hand. Its record is kept until every process of it has said goodbye, is dead,
    /// or has outlived its lease. Without a process, those that it has replaced are waited for.
    Leaving(Option<NodeProcess>),
    /// No process of it is known to be alive.
    Dead,
    /// Taken out by hand, and its processes have ended: only its name is left.
    Vacant,
    /// Forgotten. The record is that of the next node.
    Free,
}

impl State {
    /// Returns the process that may be alive.
    pub fn latest_process(&self) -> Option<&NodeProcess> {
        match self {
            Self::Member(process) | Self::Leaving(Some(process)) => Some(process),
            Self::Connecting | Self::Leaving(None) | Self::Dead | Self::Vacant | Self::Free => None,
        }
    }

    pub fn latest_process_mut(&mut self) -> Option<&mut NodeProcess> {
        match self {
            Self::Member(process) | Self::Leaving(Some(process)) => Some(process),
            Self::Connecting | Self::Leaving(None) | Self::Dead | Self::Vacant | Self::Free => None,
        }
    }

    pub fn channel_mut(&mut self) -> Option<&mut Channel> {
        match &mut self.latest_process_mut()?.standing {
            Standing::Up(channel) => Some(channel),
            Standing::Reconnecting | Standing::Lost => None,
        }
    }

    /// Takes the process out, since it has ended or another stands in its place. A node that was
    /// not taken out by hand is dead then, until a hello begins the next incarnation.
    pub fn take_latest_process(&mut self) -> Option<NodeProcess> {
        if let Self::Leaving(process) = self {
            return process.take();
        }
        match std::mem::replace(self, Self::Dead) {
            Self::Member(process) => Some(process),
            Self::Connecting | Self::Leaving(_) | Self::Dead | Self::Vacant | Self::Free => None,
        }
    }
}

/// An operator's wish that a node drains. It holds for one incarnation: the one after that takes
/// tasks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// No incarnation was known: the next one to come is meant.
    Next,
    Of(Incarnation),
}

impl Drain {
    /// Returns what is left of the wish when another incarnation comes.
    pub fn follows(self, incarnation: Incarnation) -> Option<Self> {
        match self {
            Self::Next => Some(Self::Of(incarnation)),
            Self::Of(asked) => (asked == incarnation).then_some(self),
        }
    }
}
