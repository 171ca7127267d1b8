//! The link of a node that is up, and what gathers to go out on it.
//!
//! Owns: assignments, cancels, retractions and wants until the next flush, and the acknowledgement
//! that is owed. Does not know: which reports were taken, or how a batch is cut to fit. It ends
//! with its link: the next comparison tells anew what must be said.

use crate::engine::message::Assignment;
use crate::engine::pending_acks::PendingAcks;
use crate::engine::{LinkId, Timestamp};
use crate::task::Dispatch;

/// What goes out with the next flush.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub assign: Vec<Assignment>,
    pub cancel: Vec<Dispatch>,
    pub retract: Vec<Dispatch>,
    pub wants: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Channel {
    link: LinkId,
    since: Timestamp,
    pending_acks: PendingAcks,
    /// What it was told last of the tasks that wait for workers which others have, if it has told
    /// nothing of such workers since.
    wants: Option<u32>,
    outgoing: Outgoing,
}

impl Channel {
    /// Makes the channel of a link that has just come up. Runs that were to be cancelled and are
    /// still there are told so once more: the older link may have lost it.
    pub fn new(link: LinkId, since: Timestamp, cancel: Vec<Dispatch>) -> Self {
        Self {
            link,
            since,
            pending_acks: PendingAcks::default(),
            wants: Some(0),
            outgoing: Outgoing {
                cancel,
                ..Outgoing::default()
            },
        }
    }

    pub fn link(&self) -> LinkId {
        self.link
    }

    /// Returns when the link came up.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    pub fn assign(&mut self, assignment: Assignment) {
        self.outgoing.assign.push(assignment);
    }

    pub fn cancel(&mut self, dispatch: Dispatch) {
        self.outgoing.cancel.push(dispatch);
    }

    pub fn retract(&mut self, dispatch: Dispatch) {
        self.outgoing.retract.push(dispatch);
    }

    /// Notes that so many tasks wait for workers of the node that others have. Returns whether that
    /// is news to it.
    pub fn want(&mut self, tasks: u32) -> bool {
        let news = self.wants.replace(tasks) != Some(tasks);
        if news {
            self.outgoing.wants = Some(tasks);
        }
        news
    }

    /// Takes in that the node has told how many of its workers others have: it may have dropped
    /// what it knew of the tasks that wait for them.
    pub fn lent(&mut self) {
        self.wants = self.wants.filter(|&tasks| tasks == 0);
    }

    /// Drops all cancels, since the node was told to leave, which stops all that it has.
    pub fn told_to_leave(&mut self) {
        self.outgoing.cancel.clear();
    }

    /// Returns whether an acknowledgement would have company.
    pub fn has_outgoing(&self) -> bool {
        let Outgoing {
            assign,
            cancel,
            retract,
            wants,
        } = &self.outgoing;
        let runs = assign.is_empty() && cancel.is_empty() && retract.is_empty();
        !runs || wants.is_some()
    }

    /// Takes what has gathered.
    pub fn take_outgoing(&mut self) -> Outgoing {
        std::mem::take(&mut self.outgoing)
    }

    /// Reports with bodies of so many bytes were taken.
    pub fn owe(&mut self, reports: usize, bytes: usize) {
        self.pending_acks.add(reports, bytes);
    }

    /// Returns whether an acknowledgement is owed, and due or in company.
    pub fn owes(&self, company: bool) -> bool {
        self.pending_acks.is_due(company)
    }

    /// Takes in that the acknowledgement goes out.
    pub fn acknowledged(&mut self) {
        self.pending_acks = PendingAcks::default();
    }
}
