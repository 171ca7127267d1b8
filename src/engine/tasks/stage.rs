//! Where an unsettled task is, and what is true of it there.
//!
//! Owns: the stages, each with its data, and what of a task's past decides how it is placed. Does
//! not know: when a task moves from one stage to another.

use super::Company;
use crate::engine::ids::NodeIndex;
use crate::engine::{Audience, ClientId, Timestamp};
use crate::task::Dispatch;

/// One placing of a task on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub node: NodeIndex,
    pub dispatch: Dispatch,
    /// When it was assigned; when it started, if it had been prefetched and has.
    pub since: Timestamp,
    /// Whether it has started, as far as is known: what was sent to a free worker has until its
    /// node says otherwise.
    pub started: bool,
}

impl Run {
    /// Returns where and when it started, if it has.
    pub fn start(&self) -> Option<Start> {
        self.started.then_some(Start {
            node: self.node,
            dispatch: self.dispatch,
            at: self.since,
        })
    }
}

/// Where and when a run started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub node: NodeIndex,
    pub dispatch: Dispatch,
    pub at: Timestamp,
}

/// Where an unsettled task is, with what is true of it only there.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Accepted, and in no place yet. Within one step of the machine only.
    New,
    /// Accepted, and not stored: it is in no other place before it is.
    Unstored { due: FirstDue },
    /// Not due yet, by its caller's wish.
    Later { due: Timestamp },
    /// Not due yet, by its caller's wish, before this time of the wall clock.
    Planned { at: Timestamp },
    /// Not due yet, between two attempts.
    Backoff { due: Timestamp },
    /// Due, in its lane.
    Queued {
        place: Place,
        /// The run that was lost with its node: the task's again if the node tells of it.
        given_up: Option<Box<Run>>,
    },
    /// Exclusive, until an earlier run can no longer be going on.
    Held(Box<Held>),
    /// Prefetched to a node, not started.
    Prefetched {
        node: NodeIndex,
        dispatch: Dispatch,
        since: Timestamp,
        /// Why it was asked back, if it was.
        retracting: Option<Retract>,
        /// Among how many suspects it was placed, if it is one.
        suspect: Option<Company>,
    },
    /// On a worker of a node.
    Running {
        node: NodeIndex,
        dispatch: Dispatch,
        since: Timestamp,
        /// Among how many suspects it was placed, if it is one.
        suspect: Option<Company>,
    },
    /// Taken off its node, and in no other place yet. Within one step of the machine only.
    Left {
        node: NodeIndex,
        dispatch: Dispatch,
        since: Timestamp,
        started: bool,
    },
}

/// When a task is due for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstDue {
    /// The task is due at once.
    Now,
    /// Then.
    Later(Timestamp),
    /// The task is due when the wall clock shows this.
    Planned(Timestamp),
}

/// What an exclusive task waits for, and what it does then.
#[derive(Debug)]
pub(crate) struct Held {
    /// The orphaned run that may be going on.
    pub run: Run,
    pub then: Then,
}

/// What a held task does once its orphaned run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Waits for its turn, unless the run's node tells of it before: then the run is the task's
    /// again.
    QueueUnlessItReturns,
    /// Waits for its turn. Nobody may speak for the run any more.
    Queue,
    /// Waits for the time of its next attempt. The end of the last one was reported.
    BackOff(Timestamp),
}

/// Why a prefetched task is asked back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retract {
    /// Something more urgent waits for its node.
    Overtaken,
    /// Another node has a free worker for it.
    FreeElsewhere,
    /// The task has waited for so long that its node is held up.
    HeldUp,
    /// The scheduler ends when what runs has ended.
    Ending,
    /// The kind of the task is paused, or all are.
    Paused,
    /// More of the task's kind go on than its limit allows, which was lowered.
    OverLimit,
}

/// Where in its lane a due task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The task is in the list, which is in order of rank.
    Listed,
    /// The task is among those that came back with an old rank.
    Returned,
}

/// The stages in which tasks are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Later,
    Backoff,
    Queued,
    Held,
    Prefetched,
    Running,
    Unstored,
}

impl Stage {
    /// Returns the stage of a run that a node has. A `suspect` is placed among so many.
    #[inline]
    pub fn of(run: Run, suspect: Option<Company>) -> Self {
        let Run {
            node,
            dispatch,
            since,
            started,
        } = run;
        if started {
            Self::Running {
                node,
                dispatch,
                since,
                suspect,
            }
        } else {
            Self::Prefetched {
                node,
                dispatch,
                since,
                retracting: None,
                suspect,
            }
        }
    }

    /// Returns the stage of a task that was just taken off the node of this run.
    #[inline]
    pub fn left(run: Run) -> Self {
        Self::Left {
            node: run.node,
            dispatch: run.dispatch,
            since: run.since,
            started: run.started,
        }
    }

    /// Returns as what it is counted; nothing within a step.
    #[inline]
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::New | Self::Left { .. } => None,
            Self::Unstored { .. } => Some(Phase::Unstored),
            Self::Later { .. } | Self::Planned { .. } => Some(Phase::Later),
            Self::Backoff { .. } => Some(Phase::Backoff),
            Self::Queued { .. } => Some(Phase::Queued),
            Self::Held(_) => Some(Phase::Held),
            Self::Prefetched { .. } => Some(Phase::Prefetched),
            Self::Running { .. } => Some(Phase::Running),
        }
    }

    /// Returns the run that a node has.
    #[inline]
    pub fn placed(&self) -> Option<Run> {
        let (node, dispatch, since, started) = match *self {
            Self::Prefetched {
                node,
                dispatch,
                since,
                ..
            } => (node, dispatch, since, false),
            Self::Running {
                node,
                dispatch,
                since,
                ..
            } => (node, dispatch, since, true),
            _ => return None,
        };
        Some(Run {
            node,
            dispatch,
            since,
            started,
        })
    }

    /// Returns the run that was given up and may be the task's again.
    #[inline]
    pub fn given_up(&self) -> Option<Run> {
        match self {
            Self::Queued { given_up, .. } => given_up.as_deref().copied(),
            Self::Held(held) if held.then == Then::QueueUnlessItReturns => Some(held.run),
            _ => None,
        }
    }

    /// Returns the start of the run that it has, has just left, or may have again.
    #[inline]
    pub(super) fn start(&self) -> Option<Start> {
        match self {
            Self::Running {
                node,
                dispatch,
                since,
                ..
            }
            | Self::Left {
                node,
                dispatch,
                since,
                started: true,
            } => Some(Start {
                node: *node,
                dispatch: *dispatch,
                at: *since,
            }),
            Self::Queued {
                given_up: Some(run),
                ..
            } => run.start(),
            Self::Held(held) if held.then == Then::QueueUnlessItReturns => held.run.start(),
            _ => None,
        }
    }

    /// Returns among how many suspects it was placed, if it is one.
    #[inline]
    pub fn suspect(&self) -> Option<Company> {
        match *self {
            Self::Prefetched { suspect, .. } | Self::Running { suspect, .. } => suspect,
            _ => None,
        }
    }

    /// Returns why it was asked back from its node, if it was.
    #[inline]
    pub fn retracting(&self) -> Option<Retract> {
        match *self {
            Self::Prefetched { retracting, .. } => retracting,
            _ => None,
        }
    }
}

/// What may have happened to a task before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Past {
    /// No run of it has started.
    Fresh,
    /// It was sent to a free worker which gave it back. For how long it had waited was measured by
    /// that.
    Sent,
    /// A run of it has started, or may have on a node that was lost.
    MayHaveRun,
    /// A run of it may have started, and a node was lost to which it had been prefetched: it may
    /// have started there unheard, and have been what ended the node. It is never prefetched again,
    /// so that the next loss counts.
    LostPrefetched,
}

/// Whether a task may be prefetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefetch {
    Allowed,
    /// The task was asked back from where it did not start in time. It is sent to free workers only
    /// from then on, so it waits at no second node (G6).
    Spent,
}

/// In which term of the scheduler a task was accepted. Without a store there is one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    Present,
    /// The task was accepted in an earlier term, and this one has not placed it: a run of it may be
    /// going on of which nothing was stored.
    Past,
    /// The task was accepted in an earlier term, and this one has placed it.
    PastAndPlaced,
}

/// Who is told how a task ends, in four bytes: an [`Audience`](super::Audience) takes sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addressee(u32);

impl Addressee {
    const CURRENT: Self = Self(0);
    const CALLER: Self = Self(u32::MAX);

    /// Packs an audience. A driver numbers its clients from 1; one whose number does not fit is
    /// told as the current one.
    pub fn of(audience: Audience) -> Self {
        match audience {
            Audience::Current => Self::CURRENT,
            Audience::Caller => Self::CALLER,
            Audience::Client(client) => match u32::try_from(client.0) {
                Ok(number) if number < Self::CALLER.0 => Self(number),
                _ => Self::CURRENT,
            },
        }
    }

    pub fn audience(self) -> Audience {
        match self {
            Self::CURRENT => Audience::Current,
            Self::CALLER => Audience::Caller,
            Self(client) => Audience::Client(ClientId(u64::from(client))),
        }
    }
}
