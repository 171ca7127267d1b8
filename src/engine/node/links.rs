//! The links of a node: who speaks on them, which one counts, and what opens and closes it.
//!
//! Owns: the order of messages on a link, taking over from another start of the scheduler, silence
//! and dialling. Does not know: what becomes of the assignments that arrive.

use std::time::Duration;

use super::lease::MIN_HEARTBEAT;
use super::state::{Bond, Course, Current, Link, Session, Stage};
use super::workers::{Known, Owner, State};
use super::{Gone, NodeAction, NodeMachine, NodeNote};
use crate::config::{FRAME_OVERHEAD, SchedulerConfig};
use crate::engine::message::{
    HeldRun, HeldState, NAME_RULE, NodeHello, Report, SchedulerHello, ToNode, ToScheduler,
    VERSION_MAX, VERSION_MIN, Welcome, is_name,
};
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
            ToNode::Hello(hello) => self.hello(now, link, hello),
            _ if !self.is_current(link) => Err("a message before the hello".to_owned()),
            ToNode::Welcome(welcome) => self.welcome(now, welcome),
            _ if !self.is_up() => Err("a message before the welcome".to_owned()),
            message => self.command(now, message),
        };
        if let Err(violation) = heard {
            self.refuse(now, link, LinkRefusal::Violation(violation));
        }
    }

    /// A message on the link that is up.
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
            ToNode::Retry(retry) => self.retry = retry,
            ToNode::Drain => self.drain(Gone::Dismissed),
            ToNode::Leave => self.leave(),
            ToNode::End => self.scheduler_ends(),
            // `message` has taken these out.
            ToNode::Hello(_) | ToNode::Welcome(_) | ToNode::Refuse(_) => {}
        }
        Ok(())
    }

    fn hello(&mut self, now: Timestamp, link: LinkId, hello: SchedulerHello) -> Result<(), String> {
        if !is_name(&hello.scheduler) {
            return Err(format!("a scheduler's name must have {NAME_RULE}"));
        }
        if let Err(refusal) = self.may_serve(now, &hello) {
            self.refuse(now, link, refusal);
            return Ok(());
        }
        // The older link is done with before the hello is written, so that the scheduler may take
        // what the hello is followed by for the whole truth.
        if let Some(older) = self.current {
            let reason = "a newer link has replaced this one".to_owned();
            self.close(now, older.link, reason);
        }
        let same = self
            .session
            .as_ref()
            .is_some_and(|session| session.serves(&hello));
        let max_output = self.max_output_for(&hello);
        // Another start of the scheduler remembers nothing of what this node was given, and would
        // not know the reports.
        if !same {
            self.discard(Owner::Nobody);
            self.forget_session();
            self.session = Some(Session {
                scheduler: hello.scheduler,
                scheduler_id: hello.scheduler_id,
                bond: Bond::Greeted,
                refused: false,
                max_output,
                heard: now,
                down_since: now,
            });
        }
        if let Some(session) = &mut self.session {
            session.max_output = max_output;
        }
        self.kept.bound_outputs(max_output);
        self.greet(now, link);
        Ok(())
    }

    /// The largest output that this scheduler takes. A larger one would close the link, be kept,
    /// and close each later one.
    fn max_output_for(&self, hello: &SchedulerHello) -> usize {
        match hello.max_frame {
            Some(max_frame) if !self.spec.local => usize::try_from(max_frame)
                .unwrap_or(usize::MAX)
                .saturating_sub(FRAME_OVERHEAD),
            _ => usize::MAX,
        }
    }

    fn may_serve(&self, now: Timestamp, hello: &SchedulerHello) -> Result<(), LinkRefusal> {
        if hello.version_min.max(VERSION_MIN) > hello.version_max.min(VERSION_MAX) {
            return Err(LinkRefusal::Version {
                ours_min: VERSION_MIN,
                ours_max: VERSION_MAX,
                theirs_min: hello.version_min,
                theirs_max: hello.version_max,
            });
        }
        if let Some(session) = &self.session {
            if session.serves(hello) {
                return Ok(());
            }
            // A scheduler of this name that starts anew has closed its links by that; another one
            // must wait until this one has been silent for a while.
            let counts = session.scheduler != hello.scheduler || self.current.is_some();
            if counts && now.since(session.heard) < self.lease.silence() {
                return Err(LinkRefusal::Busy {
                    name: session.scheduler.clone(),
                });
            }
        }
        match self.course {
            Course::Serving => Ok(()),
            Course::Ending(_) | Course::Gone => Err(LinkRefusal::Stopping),
        }
    }

    /// Writes the hello and what is held, and makes this link the one that counts.
    fn greet(&mut self, now: Timestamp, link: LinkId) {
        let address = self.links.get_mut(&link).map_or_else(String::new, |entry| {
            entry.since = now;
            entry.address.clone()
        });
        if let Some(session) = &mut self.session {
            session.heard = now;
        }
        self.current = Some(Current {
            link,
            stage: Stage::Greeted {
                sent_through: self.kept.last(),
            },
        });
        self.hellos += 1;
        // The scheduler counts on the rest at once. Once the link is up it is told who is to blame.
        let out_of_reach = self.workers.out_of_reach();
        self.told_stalled = (out_of_reach == 0).then_some(0);
        self.told_lent = 0;
        let hello = NodeHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: self.spec.name.to_string(),
            incarnation: self.spec.incarnation,
            memory: self.memory,
            number: self.hellos,
            kinds: self.spec.kinds.clone(),
            labels: self.spec.labels.clone(),
            workers: self.workers.limit(),
            out_of_reach,
            probe: self.spec.probe_beside(&address),
            refusal_means_dead: self.spec.refusal_means_dead == Some(true),
            address,
            draining: self.takes_nothing(),
            max_frame: self.spec.max_frame,
        };
        self.send(link, ToScheduler::Hello(hello));
        for part in self.kept.holdings(self.holds()) {
            self.send(link, ToScheduler::Holding(part));
        }
        // The holdings tell who runs and who waits, so that no start before them is to be
        // announced. The outbox is empty: nothing is put there without a link that is up.
        for (_, run) in self.workers.iter_mut() {
            run.known = Known::Yes;
        }
        self.prefetched.untell();
        self.lease.greeted(now);
    }

    /// What the node holds for the scheduler that it serves.
    pub(super) fn held_runs(&self) -> Vec<HeldRun> {
        let running = self.workers.iter().filter_map(|(_, run)| {
            let state = match (run.owner, run.state) {
                // The scheduler that is served has never heard of it.
                (Owner::Nobody, _) => return None,
                // Neither has an end to report any more, and both still take a worker.
                (Owner::Left, _) | (Owner::Session, State::Overrun) => HeldState::Overrun,
                (Owner::Session, _) => HeldState::Running,
            };
            Some(HeldRun {
                task: run.task,
                dispatch: run.dispatch,
                state,
            })
        });
        let waiting = self.prefetched.iter().map(|(_, waiting)| HeldRun {
            task: waiting.assignment.task,
            dispatch: waiting.assignment.dispatch,
            state: HeldState::Prefetched,
        });
        let pipelined = self.pipelines.iter();
        let pipelined = pipelined.filter(|(_, pipelined)| pipelined.run.owner == Owner::Session);
        let pipelined = pipelined.map(|(_, pipelined)| HeldRun {
            task: pipelined.run.task,
            dispatch: pipelined.run.dispatch,
            state: HeldState::Prefetched,
        });
        running.chain(pipelined).chain(waiting).collect()
    }

    fn welcome(&mut self, now: Timestamp, welcome: Welcome) -> Result<(), String> {
        let Some(Current {
            link,
            stage: Stage::Greeted { sent_through },
        }) = self.current
        else {
            return Err("a second welcome on one link".to_owned());
        };
        // Nothing is changed by a welcome that breaks the protocol.
        self.check_welcome(&welcome)?;
        self.kept.acknowledge(welcome.acknowledged)?;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session.bond = session.bond.max(Bond::Served);
        // A scheduler that was refused may wait for word, and the word may have been lost with the
        // link.
        self.ready_acks |= session.refused;
        let scheduler = session.scheduler.clone();
        let stage = Stage::Up;
        self.current = Some(Current { link, stage });
        self.actions
            .push(NodeAction::Note(NodeNote::Serving { scheduler }));
        if !self.spec.local {
            self.lease.welcomed(&welcome);
        }
        self.retry = welcome.retry;
        if let Some(workers) = welcome.workers {
            self.workers.set_limit(workers);
        }
        self.catch_up(sent_through);
        // The lease that it renews may have come too late, or be shorter than the one before: what
        // it does not cover is given up before anything else is done.
        self.expire(now);
        self.cancel(&welcome.stop);
        if welcome.drain {
            self.drain(Gone::Dismissed);
        }
        Ok(())
    }

    fn check_welcome(&self, welcome: &Welcome) -> Result<(), String> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&welcome.version) {
            return Err(format!(
                "the welcome names the unknown version {}",
                welcome.version
            ));
        }
        let lease = welcome.heartbeat..=SchedulerConfig::MAX_LEASE;
        if !self.spec.local
            && (welcome.heartbeat < MIN_HEARTBEAT || !lease.contains(&welcome.lease))
        {
            return Err(format!(
                "the welcome names a heartbeat of {:?} and a lease of {:?}; the first must be at least {MIN_HEARTBEAT:?}, the second no shorter than it, and at most a day",
                welcome.heartbeat, welcome.lease
            ));
        }
        Ok(())
    }

    /// Sends what has happened since the holdings were written.
    fn catch_up(&mut self, sent_through: u64) {
        debug_assert!(self.outbox.is_empty());
        // It may have begun to drain after the hello.
        if self.course == Course::Ending(Gone::Drained) {
            self.outbox.push(Report::Draining);
        }
        for report in self.kept.after(sent_through) {
            self.outbox.push(report.clone());
        }
        // Nobody acknowledges what a local link has carried.
        if self.spec.local {
            self.kept.clear();
        }
        for (_, run) in self.workers.iter_mut() {
            let unknown = run.owner == Owner::Session && run.known == Known::No;
            if unknown && run.state != State::Overrun {
                let (task, dispatch) = (run.task, run.dispatch);
                let position = self.outbox.push(Report::Started { task, dispatch });
                run.known = Known::Announced(position);
            }
        }
    }

    /// The scheduler does not want this link.
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
        self.lease.link_down();
        let unsent = self.outbox.drain();
        if self.spec.local {
            // In a local node nothing else has kept them.
            for report in unsent.filter(|report| report.seq().is_some()) {
                self.kept.push(report);
            }
        } else {
            drop(unsent);
        }
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

    /// Links without a hello, and when they are to be closed.
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
            self.actions.push(NodeAction::Dial { address });
        }
    }

    /// When to dial next, if nothing is heard until then.
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
