//! The links of a node: who speaks on them, which one counts, and what opens and closes it.
//!
//! Owns: the order of messages on a link, silence and dialling. Does not know: whose hello is taken
//! (see `greeting`), or what becomes of the assignments that arrive.

use std::time::Duration;

use super::state::{Bond, Course, Link};
use super::workers::Owner;
use super::{Gone, NodeAction, NodeMachine, NodeNote};
use crate::engine::message::{ToNode, ToScheduler};
use crate::engine::{LinkId, Timestamp};
use crate::error::LinkRefusal;

/// How long an open link may go without a hello, so that idle connections do not pile up.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// The most such links, for the same reason; beyond it the oldest is closed for a new one. An
/// honest scheduler says hello at once.
const MAX_IDLE_LINKS: usize = 64;

impl NodeMachine {
    pub(super) fn link_opened(
        &mut self,
        now: Timestamp,
        link: LinkId,
        dialled: Option<String>,
        address: String,
    ) {
        if let Some(dialled) = &dialled {
            self.dialler.answered(dialled);
        }
        // The new link is not counted yet, and is never the one that is closed.
        if self.idle_links().count() >= MAX_IDLE_LINKS
            && let Some((oldest, _)) = self.idle_links().min_by_key(|(_, due)| *due)
        {
            let reason = "too many links without a hello".to_owned();
            self.close(now, oldest, reason);
        }
        let entry = Link {
            dialled: dialled.is_some(),
            address,
            since: now,
            heard: now,
        };
        self.links.insert(link, entry);
    }

    pub(super) fn link_closed(&mut self, now: Timestamp, link: LinkId, reason: String) {
        if self.links.remove(&link).is_some() && self.is_current(link) {
            self.lose_current(now, reason);
        }
    }

    pub(super) fn heard(&mut self, now: Timestamp, link: LinkId) {
        if let Some(entry) = self.links.get_mut(&link) {
            entry.heard = now;
            if self.is_current(link)
                && let Some(session) = &mut self.session
            {
                session.heard = now;
            }
        }
    }

    pub(super) fn message(&mut self, now: Timestamp, link: LinkId, message: ToNode) {
        if !self.links.contains_key(&link) {
            // It was closed from this side; what was still under way there counts for nothing.
            return;
        }
        self.heard(now, link);
        // A refusal may come at any time; all else has its place: hello, welcome, commands.
        let heard = match message {
            ToNode::Refuse(refusal) => {
                self.refused(now, link, refusal);
                Ok(())
            }
            ToNode::Hello(_) if self.is_current(link) => {
                Err("a second hello on one link".to_owned())
            }
            ToNode::Hello(hello) => self.hello(now, link, *hello),
            _ if !self.is_current(link) => Err("a message before the hello".to_owned()),
            ToNode::Welcome(welcome) => self.welcome(now, *welcome),
            _ if !self.is_up() => Err("a message before the welcome".to_owned()),
            message => self.command(now, message),
        };
        if let Err(violation) = heard {
            self.refuse(now, link, LinkRefusal::Violation(violation));
        }
    }

    /// Handles a message on the link that is up.
    fn command(&mut self, now: Timestamp, message: ToNode) -> Result<(), String> {
        match message {
            ToNode::Assign(assignments) => return self.assign(now, assignments),
            ToNode::Retract(dispatches) => self.retract(&dispatches),
            ToNode::Cancel(dispatches) => self.cancel(&dispatches),
            ToNode::Acknowledge(through) => return self.kept.acknowledge(through),
            ToNode::Answer(number) => {
                self.lease.answer(now, number)?;
                self.expire(now);
            }
            ToNode::Workers(workers) => self.workers.set_limit(workers),
            ToNode::Wants(tasks) => self.wants = tasks,
            ToNode::Retry(retry) => self.retry = retry,
            ToNode::Drain => self.drain(Gone::Dismissed),
            ToNode::Leave => self.leave(),
            ToNode::End => self.scheduler_ends(),
            // `message` has taken these out.
            ToNode::Hello(_) | ToNode::Welcome(_) | ToNode::Refuse(_) => {}
        }
        Ok(())
    }

    /// Gives up a link that the scheduler has refused.
    fn refused(&mut self, now: Timestamp, link: LinkId, refusal: LinkRefusal) {
        // Only a scheduler that has read the hello knows whose name it was.
        let replaced = matches!(refusal, LinkRefusal::Replaced { .. }) && self.is_current(link);
        self.note_refused(refusal.clone());
        self.close(
            now,
            link,
            format!("the scheduler refused the link: {refusal}"),
        );
        // Another process has the name for good: nothing that this one says would be believed.
        if replaced {
            self.discard(Owner::Nobody);
            self.forget_session();
            self.course = Course::Ending(Gone::Replaced);
        }
    }

    fn note_refused(&mut self, reason: LinkRefusal) {
        let note = NodeNote::Refused { reason };
        self.actions.push(NodeAction::Note(note));
    }

    /// Refuses a link in words and closes it.
    pub(super) fn refuse(&mut self, now: Timestamp, link: LinkId, refusal: LinkRefusal) {
        self.note_refused(refusal.clone());
        let reason = refusal.to_string();
        self.send(link, ToScheduler::Refuse(refusal));
        self.close(now, link, reason);
    }

    /// Closes a link; nothing that still arrives there is read.
    pub(super) fn close(&mut self, now: Timestamp, link: LinkId, reason: String) {
        self.links.remove(&link);
        self.actions.push(NodeAction::Close {
            link,
            reason: reason.clone(),
        });
        if self.is_current(link) {
            self.lose_current(now, reason);
        }
    }

    fn lose_current(&mut self, now: Timestamp, reason: String) {
        // The runs go on, and what they report is kept: a short cut costs nothing (G9).
        let up = self.is_up();
        self.current = None;
        // Nothing can come for a worker that would be kept for it.
        self.wants = 0;
        self.lease.link_down();
        drop(self.outbox.drain());
        match &mut self.session {
            Some(session) if up => {
                session.down_since = now;
                let scheduler = session.scheduler.clone();
                self.actions
                    .push(NodeAction::Note(NodeNote::LinkLost { scheduler, reason }));
            }
            // One that never welcomed the node has given it nothing. It must not keep others away.
            Some(session) if session.bond == Bond::Greeted => self.forget_session(),
            _ => {}
        }
    }

    /// Closes links on which nobody has said hello.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        loop {
            let idle = self.idle_links().find(|(_, due)| *due <= now);
            let Some((link, _)) = idle else { return };
            self.close(now, link, "no hello has come".to_owned());
        }
    }

    /// Returns the links without a hello, and when they are to be closed.
    pub(super) fn idle_links(&self) -> impl Iterator<Item = (LinkId, Timestamp)> {
        self.links
            .iter()
            .filter(|(link, _)| !self.spec.local && !self.is_current(**link))
            .map(|(link, entry)| (*link, entry.since + HELLO_WAIT))
    }

    /// Dials if a link is missing or silent.
    pub(super) fn dial(&mut self, now: Timestamp) {
        if self.dial_due().is_some_and(|due| due <= now)
            && let Some(address) = self.dialler.dial(now)
        {
            let within = self.lease.dial_limit();
            self.actions.push(NodeAction::Dial { address, within });
        }
    }

    /// Returns when to dial next, if nothing is heard until then.
    pub(super) fn dial_due(&self) -> Option<Timestamp> {
        // A node that ends dials only to be rid of what it holds for the scheduler that it serves.
        let nothing_left = match self.course {
            Course::Serving => false,
            Course::Ending(Gone::Replaced) | Course::Gone => true,
            Course::Ending(_) => self.session.is_none(),
        };
        if nothing_left {
            return None;
        }
        // Each link that may yet do puts the dial off until it has been silent for too long. One
        // that is up and was dialled by the scheduler is the scheduler's to replace.
        let mut due = self.dialler.due()?;
        let silence = self.lease.silence();
        for (link, entry) in &self.links {
            let current = self.is_current(*link);
            if current && self.is_up() {
                if !entry.dialled {
                    return None;
                }
                due = due.max(entry.heard + silence);
            } else if current || entry.dialled {
                // It is being set up.
                due = due.max(entry.since + silence);
            }
        }
        Some(due)
    }
}
