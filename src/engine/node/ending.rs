//! How a node comes to an end, or to the end of serving one scheduler.
//!
//! Owns: drain, stop, leave, the goodbye, and when nothing is left to wait for. Does not know: how
//! runs are stopped or reports kept.
//!
//! What each verb does with what there is:
//!
//! | verb    | asked for by       | new ones | what waits | what runs             | kept      |
//! |---------|--------------------|----------|------------|-----------------------|-----------|
//! | drain   | process, scheduler | refused  | given back | goes on               | stays     |
//! | stop    | process            | refused  | given back | stopped, reported     | stays     |
//! | leave   | scheduler          | refused  | forgotten  | stopped, not reported | forgotten |
//! | end     | scheduler          | refused  | forgotten  | stopped, not reported | forgotten |
//! | discard | leave, part, links | -        | forgotten  | stopped, not reported | forgotten |
//! | part    | finish             | -        | forgotten  | has ended             | forgotten |
//! | finish  | every turn         | -        | -          | is waited for         | -         |
//!
//! What `finish` does once no worker is occupied, and the node is ending or was told to leave:
//!
//! | the scheduler               | drained or stopped            | told to leave           |
//! |-----------------------------|-------------------------------|-------------------------|
//! | none                        | is gone                       | -                       |
//! | has not welcomed the node   | refuses the link, is gone     | -                       |
//! | is up, has acknowledged all | parts with a goodbye, is gone | parts with a goodbye    |
//! | is up, has not              | waits for it, see below       | parts with a goodbye    |
//! | is not reached              | waits for it, see below       | waits for it, see below |
//!
//! It waits for a scheduler that is not reached as long as a lease, with results that are kept for
//! as much longer as runs outlive the lease, and for one that is up until two leases and that after
//! the last beat that was answered; then it parts without a goodbye. A node that
//! has parted because it was told to leave is gone too, unless another scheduler may dial it; one
//! whose scheduler ends waits for the next.

use std::time::Duration;

use super::lease::OwnLease;
use super::state::{Bond, Course, LinkStage};
use super::workers::{Owner, RunState};
use super::{Gone, NodeAction, NodeMachine, NodeNote};
use crate::engine::message::{Report, ToScheduler};
use crate::engine::{LinkId, Timestamp};
use crate::error::LinkRefusal;

impl NodeMachine {
    /// Takes nothing new from now on, and gives back what has not started.
    pub(super) fn drain(&mut self, why: Gone) {
        // That it was replaced stays the reason, whatever is asked for later; otherwise the node's
        // own process has the last word.
        if matches!(
            self.course,
            Course::Serving | Course::Ending(Gone::Dismissed)
        ) {
            self.course = Course::Ending(why);
        }
        // A scheduler that asked for it knows. It is told before it hears of what is given back,
        // or it would send the same again.
        if self.course == Course::Ending(Gone::Drained) && self.is_up() {
            self.outbox.push(Report::Draining);
        }
        self.return_waiting(true);
    }

    /// Drains, and stops what can be stopped.
    pub(super) fn stop(&mut self, now: Timestamp) {
        self.drain(Gone::Drained);
        self.drop_runs(now, true);
    }

    /// Stops and discards all work of the scheduler; the goodbye follows when nothing runs any
    /// more.
    pub(super) fn leave(&mut self) {
        self.note_of_scheduler(|scheduler| NodeNote::LetGo { scheduler });
        self.take_leave(Bond::Leaving);
    }

    /// Leaves a scheduler that ends: the node may serve its next start.
    pub(super) fn scheduler_ends(&mut self) {
        let stays = !self.spec.end_with_scheduler || self.may_be_dialled();
        let waits = stays && self.course == Course::Serving;
        self.note_of_scheduler(|scheduler| NodeNote::SchedulerEnded { scheduler, waits });
        self.take_leave(match self.spec.end_with_scheduler {
            true => Bond::Leaving,
            false => Bond::Ending,
        });
    }

    /// Notes what its scheduler asks of it. A local node ends with its scheduler, which says so.
    fn note_of_scheduler(&mut self, note: impl FnOnce(String) -> NodeNote) {
        if let Some(session) = &self.session
            && !self.spec.local
        {
            let note = note(session.scheduler.clone());
            self.actions.push(NodeAction::Note(note));
        }
    }

    fn take_leave(&mut self, bond: Bond) {
        self.discard(Owner::Left);
        if let Some(session) = &mut self.session {
            session.bond = session.bond.max(bond);
        }
    }

    /// Stops every run, of which nothing more is reported, and forgets what waits and what is kept.
    pub(super) fn discard(&mut self, owner: Owner) {
        for (worker, run) in self.workers.iter_mut() {
            // Others were told to stop before.
            if run.owner == Owner::Session && run.state.goes_on() {
                run.state = RunState::Cancelled;
                let dispatch = run.dispatch;
                self.actions.push(NodeAction::Stop { worker, dispatch });
            }
        }
        self.workers.give_to(owner);
        self.discard_pipelines(owner);
        self.held.clear();
        self.prefetched.clear();
        self.kept.clear();
        drop(self.outbox.drain());
        self.ready_acks = false;
        // The next scheduler would take it for a task of its own.
        self.blamed = None;
    }

    /// Returns whether another scheduler may come after one that has let it go.
    fn may_be_dialled(&self) -> bool {
        !self.dialler.has_addresses() && !self.spec.local
    }

    fn is_told_to_leave(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.bond == Bond::Leaving)
    }

    /// Says goodbye, and that the node is gone, as soon as nothing is left to wait for.
    pub(super) fn finish(&mut self, now: Timestamp) {
        // A run for a scheduler that is forgotten counts as well: "gone" and the goodbye both
        // promise that nothing runs here (G8).
        if self.is_gone() || self.workers.busy() > 0 {
            return;
        }
        let dismissed = self.is_told_to_leave() && !self.may_be_dialled();
        if self.is_leaving() && self.part(now) && dismissed && self.course == Course::Serving {
            self.course = Course::Ending(Gone::Dismissed);
        }
        let Course::Ending(why) = self.course.clone() else {
            return;
        };
        let parted = match &self.session {
            None => true,
            // It has given nothing, so there is nothing that it would have to know.
            Some(session) if session.bond == Bond::Greeted => {
                if let Some(current) = self.current {
                    self.refuse(now, current.link, LinkRefusal::Stopping);
                }
                true
            }
            Some(_) => self.part(now),
        };
        if parted {
            self.course = Course::Gone;
            self.actions.push(NodeAction::Gone(why));
        }
    }

    /// Takes leave of the scheduler, if it knows all there is to know or cannot be reached. Whether
    /// it did.
    fn part(&mut self, now: Timestamp) -> bool {
        let up = self
            .current
            .filter(|current| current.stage == LinkStage::Up);
        // Who told the node to leave wants no more reports.
        let knows_all = self.is_leaving() || self.kept.is_empty();
        match up {
            Some(current) if knows_all => self.say_goodbye(now, current.link),
            _ if self.hopeless().is_some_and(|due| due <= now) => {
                // Taken first: the node gives the link up, and notes no loss of it.
                if let Some(current) = self.current.take() {
                    let reason = "the scheduler has been silent for a lease".to_owned();
                    self.close(now, current.link, reason);
                }
            }
            _ => return false,
        }
        self.discard(Owner::Nobody);
        self.forget_session();
        true
    }

    fn say_goodbye(&mut self, now: Timestamp, link: LinkId) {
        self.send(link, ToScheduler::Goodbye);
        // It is left on purpose, not lost.
        self.current = None;
        self.close(now, link, "nothing runs here any more".to_owned());
    }

    /// Returns since when the scheduler has been away, if it has for a lease and nothing of it is
    /// left running.
    pub(super) fn away_since(&self, now: Timestamp) -> Option<Timestamp> {
        let away = self.workers.busy() == 0
            && self.links.is_empty()
            && self.current.is_none()
            && !self.dialler.has_addresses();
        let Some(session) = &self.session else {
            return away.then(Timestamp::default);
        };
        let over = session.down_since + self.lease.outlived();
        (away && over <= now).then_some(session.down_since)
    }

    /// Forgets the scheduler and what it had set.
    pub(super) fn forget_session(&mut self) {
        let forgotten = self.session.take();
        // One that never welcomed the node has given it nothing to forget, whatever it had sent.
        if forgotten.is_some_and(|session| session.bond > Bond::Greeted) {
            self.memory = self.memory.next();
        }
        self.lease = OwnLease::default();
        self.retry = Default::default();
        self.workers.set_limit(self.own_workers);
    }

    /// Returns for how long a scheduler that is not reached is waited for: with nothing kept for it
    /// nothing is lost after its lease.
    fn patience(&self) -> Duration {
        match self.kept.is_empty() {
            true => self.lease.term().unwrap_or_default(),
            false => self.lease.outlived(),
        }
    }

    /// Returns when waiting for the scheduler alone becomes useless.
    pub(super) fn hopeless(&self) -> Option<Timestamp> {
        let session = self.session.as_ref()?;
        if !self.takes_nothing() || self.workers.busy() > 0 {
            None
        } else if self.is_up() {
            // Its beats are not answered, and its link is not closed.
            self.lease.hopeless()
        } else {
            Some(session.down_since + self.patience())
        }
    }
}
