//! The link of a node that is up, and what gathers to go out on it.
//!
//! Owns: assignments, cancels, retractions and wants until the next flush, and the acknowledgement
//! that is owed. Does not know: which reports were taken, or how a batch is cut to fit a frame. It
//! ends with its link: the next comparison tells anew what must be said.

use crate::engine::message::{Assignment, MAX_BATCH, ToNode};
use crate::engine::pending_acks::PendingAcks;
use crate::engine::{LinkId, Timestamp};
use crate::task::Dispatch;

/// What goes out with the next flush.
#[derive(Debug, Default)]
struct Outgoing {
    assign: Vec<Assignment>,
    cancel: Vec<Dispatch>,
    retract: Vec<Dispatch>,
    wants: Option<u32>,
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

    /// Sends what has gathered, in batches.
    #[inline]
    pub fn flush(&mut self, mut send: impl FnMut(ToNode)) {
        let outgoing = &mut self.outgoing;
        in_batches(&mut outgoing.cancel, |batch| send(ToNode::Cancel(batch)));
        in_batches(&mut outgoing.assign, |batch| send(ToNode::Assign(batch)));
        // Behind the assignments, since one of them may be asked back at once.
        in_batches(&mut outgoing.retract, |batch| send(ToNode::Retract(batch)));
        // Behind the assignments, which wait here no longer.
        if let Some(tasks) = outgoing.wants.take() {
            send(ToNode::Wants(tasks));
        }
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

#[inline]
fn in_batches<T>(all: &mut Vec<T>, mut send: impl FnMut(Vec<T>)) {
    while all.len() > MAX_BATCH {
        let rest = all.split_off(MAX_BATCH);
        send(std::mem::replace(all, rest));
    }
    if !all.is_empty() {
        send(std::mem::take(all));
    }
}
