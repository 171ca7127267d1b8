//! Links: how far each is, what comes on it, and how it ends.
//!
//! Owns: which of a node's links counts, and how long one may take to come up. Does not know:
//! whether a hello is right, what a run's end means, or when a node is lost.

use std::time::Duration;

use super::SchedulerMachine;
use super::losses::Loss;
use super::metering::LinkEnd;
use super::sessions::{Session, SessionStage, Speaker};
use crate::engine::message::{Beat, SchedulerHello, ToNode, ToScheduler, VERSION_MAX, VERSION_MIN};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Standing, State};
use crate::engine::timers::Timer;
use crate::engine::{Action, LinkId, Note, Origin, Timestamp};
use crate::error::LinkRefusal;

/// Connections that have not said hello; beyond it the oldest is closed.
const MAX_HANDSHAKES: usize = 4096;

impl SchedulerMachine {
    pub(super) fn link_opened(
        &mut self,
        now: Timestamp,
        link: LinkId,
        origin: Origin,
        peer: String,
    ) {
        if self.stopped {
            self.close_link(link, "the scheduler has stopped");
            return;
        }
        let (node, host) = match origin {
            Origin::Dialled(node) => (Some(node.0), None),
            Origin::Came(host) => (None, Some(host)),
        };
        if let Some(node) = node.filter(|&node| (node as usize) < self.roster.nodes.len()) {
            let entry = self.roster.get_mut(node);
            if entry.redial.stale_dial_answered() {
                self.close_link(link, "it was dialled for an earlier node of the name");
                self.timers.wake_at(node, now);
                return;
            }
            entry.redial.dial_reached();
            if !entry.is_dialled() {
                self.close_link(link, "the node was removed");
                return;
            }
            // Nothing more is read on the older link, so that what is said here is the latest. But
            // a process that joined is not the one that listens here, for all that is known.
            let joined = entry.latest_process().is_some_and(|process| process.joined);
            if !(joined && entry.is_up()) {
                self.forget_link(node, LinkEnd::Replaced, "a newer link was dialled");
            }
            self.roster.get_mut(node).handshake = Some(link);
        }
        self.make_room_for_a_handshake(now);
        let set_up_by = now + self.handshake_limit();
        self.timers.start(set_up_by, Timer::Handshake(link));
        self.sessions.open(now, link, set_up_by, node, host, peer);
        self.send(
            link,
            ToNode::Hello(Box::new(SchedulerHello {
                version_min: VERSION_MIN,
                version_max: VERSION_MAX,
                scheduler: self.name.to_string(),
                scheduler_id: self.id,
                term: self.term.0,
                max_frame: Some(self.config.max_frame as u64),
            })),
        );
    }

    fn make_room_for_a_handshake(&mut self, now: Timestamp) {
        if self.sessions.setting_up() >= MAX_HANDSHAKES
            && let Some(oldest) = self.sessions.first_to_set_up()
        {
            self.fail(now, oldest, "too many connections are being set up");
        }
    }

    /// Returns how long a side may be silent while a link is set up: short enough that a cut in the
    /// middle costs no lease.
    fn handshake_limit(&self) -> Duration {
        self.config
            .heartbeat
            .clamp(Duration::from_millis(500), Duration::from_secs(5))
    }

    pub(super) fn send(&mut self, link: LinkId, message: ToNode) {
        self.actions.push(Action::Send { link, message });
    }

    fn close_link(&mut self, link: LinkId, reason: &str) {
        self.actions.push(Action::Close {
            link,
            reason: reason.to_owned(),
        });
    }

    /// Closes a session and forgets it; what still comes on it is ignored.
    pub(super) fn fail(&mut self, now: Timestamp, link: LinkId, reason: &str) {
        self.close_link(link, reason);
        self.link_closed(now, link, reason);
    }

    /// Takes in that a proved node has sent what cannot be read, which is a violation.
    pub(super) fn malformed(&mut self, now: Timestamp, link: LinkId, what: &str) {
        if self.sessions.get(link).is_some() {
            self.violation(now, link, what);
        }
    }

    /// Counts a breach of the protocol and closes the link, in words.
    fn violation(&mut self, now: Timestamp, link: LinkId, what: &str) {
        self.totals.violations += 1;
        // Before its hello was taken, nobody knows that it is the node which was dialled.
        let session = self.sessions.get(link);
        let known = session.filter(|session| !matches!(session.stage, SessionStage::Greeted));
        if let Some(node) = known.and_then(|session| session.node) {
            self.roster.get_mut(node).violations += 1;
        }
        self.send(
            link,
            ToNode::Refuse(LinkRefusal::Violation(what.to_owned())),
        );
        self.fail(now, link, &format!("the node broke the protocol: {what}"));
    }

    pub(super) fn refuse(
        &mut self,
        now: Timestamp,
        link: LinkId,
        name: &str,
        refusal: LinkRefusal,
    ) {
        let reason = refusal.to_string();
        let node = self.sessions.get(link).and_then(|session| session.node);
        // Another process that uses its name tells nothing of a node that is up.
        let entry = node.map(|node| self.roster.get_mut(node));
        if let Some(entry) = entry.filter(|entry| !entry.is_up()) {
            entry.reason.clone_from(&reason);
        }
        self.actions.push(Action::Note(Box::new(Note::NodeRefused {
            node: node.map(Self::node_id),
            name: name.into(),
            reason: reason.clone(),
        })));
        self.send(link, ToNode::Refuse(refusal));
        self.fail(now, link, &reason);
    }

    pub(super) fn handshake_overdue(&mut self, now: Timestamp, link: LinkId) {
        let Some(session) = self.sessions.get(link).filter(|session| !session.is_up()) else {
            return;
        };
        let limit = match session.stage {
            // A process that was replaced beats as on a link that is up.
            SessionStage::Farewell(_) => self.config.heartbeat.saturating_mul(2),
            SessionStage::Greeted | SessionStage::Comparing(_) | SessionStage::Up => {
                self.handshake_limit()
            }
        };
        let until = session.heard_at + limit;
        if until > now {
            self.timers.start(until, Timer::Handshake(link));
            self.sessions.extend_setup(link, until);
        } else {
            self.fail(now, link, "the node was silent on a link that is not up");
        }
    }

    /// Forgets a session, and what its node has told that it holds.
    fn end_session(&mut self, link: LinkId) -> Option<Session> {
        self.stop_setup(link);
        self.sessions.end(link)
    }

    /// Stops the timer of a link that is up, or whose session ends: nobody waits any more to see
    /// whether it is silent.
    pub(super) fn stop_setup(&mut self, link: LinkId) {
        if let Some(at) = self.sessions.get(link).and_then(Session::set_up_by) {
            self.timers.stop(at, Timer::Handshake(link));
        }
    }

    /// Returns whether the scheduler dialled.
    pub(super) fn was_dialled(&self, link: LinkId) -> bool {
        let session = self.sessions.get(link);
        session.is_some_and(|session| session.host.is_none())
    }

    pub(super) fn link_closed(&mut self, now: Timestamp, link: LinkId, reason: &str) {
        let ended = self.end_session(link);
        let Some(node) = ended.as_ref().and_then(|session| session.node) else {
            return;
        };
        // This link may be the one that is being set up, the one that is up, or one that was
        // replaced and says nothing of its node any more.
        let entry = self.roster.get_mut(node);
        if entry.handshake == Some(link) {
            entry.handshake = None;
            entry.redial.setup_failed(now, entry.usual_interval());
            self.setup_failed(node, reason);
        }
        let entry = self.roster.get_mut(node);
        if entry.link() == Some(link) {
            self.forget_link(node, LinkEnd::Closed, reason);
            let entry = self.roster.get_mut(node);
            entry.redial.link_broke();
            if entry.is_local() {
                // A link within the process breaks with its end.
                self.lose(now, node, Loss::Dead, reason);
            } else if !self.stopped {
                // The process may go on: it keeps its tasks until its lease ends.
                let name = self.roster.get(node).name.clone();
                self.actions
                    .push(Action::Note(Box::new(Note::NodeUnreachable {
                        node: Self::node_id(node),
                        name,
                        reason: reason.to_owned(),
                    })));
            }
        }
        self.timers.wake_at(node, now);
    }

    /// Notes why a link was closed before it was up. Callers that wait for the node hear it, as
    /// after a dial that failed; a refusal in words has told them already.
    fn setup_failed(&mut self, node: NodeIndex, reason: &str) {
        let entry = self.roster.get_mut(node);
        if entry.is_up() || entry.reason == reason {
            return;
        }
        reason.clone_into(&mut entry.reason);
        if matches!(entry.state, State::Connecting) {
            self.note_refused(node, reason);
        }
    }

    /// Tells an operator why no link to a node has come about.
    pub(super) fn note_refused(&mut self, node: NodeIndex, reason: &str) {
        self.actions.push(Action::Note(Box::new(Note::NodeRefused {
            node: Some(Self::node_id(node)),
            name: self.roster.get(node).name.clone(),
            reason: reason.to_owned(),
        })));
    }

    /// Forgets the link that counts of a node, and that which is being set up. It keeps its tasks.
    pub(super) fn forget_link(&mut self, node: NodeIndex, end: LinkEnd, reason: &str) {
        self.unsend_all(node);
        let entry = self.roster.get_mut(node);
        let up = entry.link();
        // A link that is being set up would bring the node up again with what was said before.
        let links = [up, entry.handshake.take()];
        if up.is_some() {
            self.meter.link_ended(end);
            entry.process_mut().standing = Standing::Reconnecting;
            entry.reason = reason.to_owned();
        }
        for link in links.into_iter().flatten() {
            if self.end_session(link).is_some() {
                self.close_link(link, reason);
            }
        }
        self.set_present(node, false);
        self.enter_load(node);
        self.roster.touch(node);
    }

    /// Notes that something came on a link. Only one that is up speaks for its node.
    pub(super) fn heard(&mut self, now: Timestamp, link: LinkId) -> Option<&Session> {
        let session = self.sessions.heard(now, link)?;
        if let (Some(node), SessionStage::Up) = (session.node, &session.stage) {
            self.roster.get_mut(node).heard(now, self.config.lease);
        }
        Some(session)
    }

    pub(super) fn message(&mut self, now: Timestamp, link: LinkId, message: ToScheduler) {
        let Some(session) = self.heard(now, link) else {
            return;
        };
        // Each stage takes its own messages; anything else is a breach.
        let outcome = match (&session.stage, session.node, message) {
            (_, _, ToScheduler::Refuse(refusal)) => {
                self.was_refused(now, link, &refusal);
                Ok(())
            }
            (SessionStage::Greeted, _, ToScheduler::Hello(hello)) => {
                self.node_hello(now, link, *hello)
            }
            (SessionStage::Comparing(comparison), Some(node), ToScheduler::Holding(holding)) => {
                let process = (comparison.hello.incarnation, comparison.hello.memory);
                match comparison.speaker {
                    Speaker::Present => self.holding(now, link, node, holding),
                    Speaker::Replaced => self.holding_at_last(now, link, node, process, holding),
                }
            }
            (SessionStage::Farewell(hello), Some(node), message) => {
                let process = (hello.incarnation, hello.memory);
                self.last_words(now, link, node, process, message)
            }
            (SessionStage::Up, Some(node), ToScheduler::Beat(beat)) => {
                self.beat(now, link, node, beat)
            }
            (SessionStage::Up, Some(node), ToScheduler::Reports(reports)) => {
                self.reports(now, node, reports)
            }
            (SessionStage::Up, Some(node), ToScheduler::Goodbye) => {
                self.goodbye(now, link, node);
                Ok(())
            }
            (stage, _, message) => Err(format!(
                "it sent {} while the link was {}",
                name_of(&message),
                match stage {
                    SessionStage::Greeted => "waiting for its hello",
                    SessionStage::Comparing(_) => "being compared",
                    SessionStage::Up => "up",
                    SessionStage::Farewell(_) => "that of a process which another has replaced",
                }
            )),
        };
        if let Err(what) = outcome {
            self.violation(now, link, &what);
        }
    }

    fn was_refused(&mut self, now: Timestamp, link: LinkId, refusal: &LinkRefusal) {
        let reason = format!("the node refused the link: {refusal}");
        if let Some(node) = self.sessions.get(link).and_then(|session| session.node) {
            // If this is the link of a node that is up, its end is noted below.
            let entry = self.roster.get_mut(node);
            if !entry.is_up() {
                entry.reason.clone_from(&reason);
            }
            self.note_refused(node, &reason);
        }
        self.fail(now, link, &reason);
    }

    fn beat(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        beat: Beat,
    ) -> Result<(), String> {
        if beat.answered >= beat.number || !self.sessions.take_beat(link, beat.number) {
            return Err("its beats are out of order".to_owned());
        }
        let lease = self.config.lease;
        let entry = self.roster.get_mut(node);
        // What the beat names is an answer to an earlier one, so that is looked at first.
        let process = entry.process_mut();
        process.lease.proved(now, beat.answered, lease);
        process.lease.answered(now, beat.number, lease);
        if let Some(round_trip) = beat.round_trip {
            self.meter.round_trip.add(round_trip);
        }
        if let Some(round_trip) = beat.round_trip
            && process.paced(round_trip, lease)
        {
            let name = entry.name.clone();
            self.actions.push(Action::Note(Box::new(Note::SlowLink {
                node: Self::node_id(node),
                name,
                round_trip,
                lease,
            })));
        }
        let entry = self.roster.get_mut(node);
        let acknowledge = entry.acknowledge(true);
        self.send(link, ToNode::Answer(beat.number));
        if let Some(acknowledge) = acknowledge {
            self.send(link, acknowledge);
        }
        Ok(())
    }

    /// Lets a node leave: nothing runs there any more, by its own word.
    fn goodbye(&mut self, now: Timestamp, link: LinkId, node: NodeIndex) {
        self.end_session(link);
        self.unsend_all(node);
        let entry = self.roster.get_mut(node);
        let name = entry.name.clone();
        entry.process_mut().standing = Standing::Reconnecting;
        self.close_link(link, "the node has said goodbye");
        // Nothing can be left with it: what is believed to be was on its way, or was stopped
        // because it leaves.
        for slot in self.runs_of(node) {
            self.left_undone(now, slot);
        }
        self.lose(now, node, Loss::Left, "it has left");
        let entry = self.roster.get_mut(node);
        entry.redial.left(now, entry.usual_interval());
        self.actions.push(Action::Note(Box::new(Note::NodeLeft {
            node: Self::node_id(node),
            name,
        })));
    }
}

fn name_of(message: &ToScheduler) -> &'static str {
    match message {
        ToScheduler::Hello(_) => "a hello",
        ToScheduler::Refuse(_) => "a refusal",
        ToScheduler::Holding(_) => "what it holds",
        ToScheduler::Beat(_) => "a beat",
        ToScheduler::Reports(_) => "reports",
        ToScheduler::Goodbye => "a goodbye",
    }
}
