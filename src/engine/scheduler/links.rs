//! Bringing a link up: hello, comparison, welcome; and the beats on it.
//!
//! Owns: the sessions and which of a node's links counts. Does not know: what a run's end means, or when
//! a node is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SchedulerMachine;
use crate::config::NodeConfig;
use crate::engine::message::{
    Beat, HeldRun, HeldState, Holding, MAX_KINDS, MAX_LABELS, MAX_NAME_BYTES, NodeHello,
    SchedulerHello, ToNode, ToScheduler, VERSION_MAX, VERSION_MIN, Welcome,
};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{FIRST_PAUSE, Node, State, names_bytes};
use crate::engine::tasks::{Phase, Slot};
use crate::engine::{Action, LinkId, NodeId, Note, Reach, Timestamp};
use crate::error::LinkRefusal;
use crate::task::{Dispatch, TaskKind};

/// Runs that a node may hold: all its workers and all that may wait there, with room to spare.
const MAX_HELD: usize = 1 << 21;
/// Runs that all nodes together may hold while they are being compared: twice what one may, since many may
/// return at once. A link beyond it is closed, and its node comes again.
const MAX_COMPARED: usize = 2 * MAX_HELD;
/// Nodes under as many names, those that joined among them; beyond it nobody joins whose name is not known. A
/// node is remembered until it is removed by hand.
pub(super) const MAX_NODES: usize = 10_000;
/// About how many bytes the kinds and labels of all nodes may take: each of ten thousand may bring hundreds of
/// its own.
const MAX_OFFERED_BYTES: usize = 256 << 20;
/// Connections that have not said hello; beyond it the oldest is closed.
const MAX_HANDSHAKES: usize = 4096;

/// How far a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The scheduler has said hello.
    Greeted,
    /// The node has, and tells what it holds.
    Comparing,
    /// Both agree.
    Up,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub stage: Stage,
    pub node: Option<NodeIndex>,
    /// Whether the scheduler dialled.
    dialled: bool,
    heard_at: Timestamp,
    last_beat: u64,
    hello: Option<Box<NodeHello>>,
    held: BTreeMap<Dispatch, HeldRun>,
}

impl SchedulerMachine {
    pub(super) fn link_opened(&mut self, now: Timestamp, link: LinkId, dialled: Option<NodeId>) {
        let node = dialled.map(|node| node.0);
        if let Some(node) = node.filter(|&node| (node as usize) < self.roster.nodes.len()) {
            let entry = self.roster.get_mut(node);
            entry.dialling = false;
            if entry.removed || self.stopped {
                self.close(link, "the node is not wanted any more");
                return;
            }
            // Nothing more is read on the older link, so that what is said here is the latest.
            self.forget_link(node, "a newer link was dialled");
            self.roster.get_mut(node).handshake = Some(link);
        }
        if self.stopped {
            self.close(link, "the scheduler has stopped");
            return;
        }
        self.make_room_for_a_handshake(now);
        self.handshakes.insert((now + self.handshake_limit(), link));
        self.sessions.insert(
            link,
            Session {
                stage: Stage::Greeted,
                node,
                dialled: dialled.is_some(),
                heard_at: now,
                last_beat: 0,
                hello: None,
                held: BTreeMap::new(),
            },
        );
        self.send(
            link,
            ToNode::Hello(SchedulerHello {
                version_min: VERSION_MIN,
                version_max: VERSION_MAX,
                scheduler: self.name.to_string(),
                life: self.life,
            }),
        );
    }

    fn make_room_for_a_handshake(&mut self, now: Timestamp) {
        if self.handshakes.len() < MAX_HANDSHAKES {
            return;
        }
        // Links that are up, or closed, are noted until their time would have come.
        let sessions = &self.sessions;
        self.handshakes.retain(|(_, link)| {
            let session = sessions.get(link);
            session.is_some_and(|session| session.stage != Stage::Up)
        });
        if self.handshakes.len() >= MAX_HANDSHAKES
            && let Some((_, oldest)) = self.handshakes.pop_first()
        {
            self.fail(now, oldest, "too many connections are being set up");
        }
    }

    /// How long a side may be silent while a link is set up: short enough that a cut in the middle costs
    /// no lease.
    fn handshake_limit(&self) -> Duration {
        self.config
            .heartbeat
            .clamp(Duration::from_millis(500), Duration::from_secs(5))
    }

    fn send(&mut self, link: LinkId, message: ToNode) {
        self.actions.push(Action::Send { link, message });
    }

    fn close(&mut self, link: LinkId, reason: &str) {
        self.actions.push(Action::Close {
            link,
            reason: reason.to_owned(),
        });
    }

    /// Closes a session and forgets it; what still comes on it is ignored.
    fn fail(&mut self, now: Timestamp, link: LinkId, reason: &str) {
        self.close(link, reason);
        self.link_closed(now, link, reason);
    }

    /// A proved node has sent what cannot be read.
    pub(super) fn malformed(&mut self, now: Timestamp, link: LinkId, what: &str) {
        if self.sessions.contains_key(&link) {
            self.violation(now, link, what);
        }
    }

    /// Counts a breach of the protocol and closes the link, in words.
    fn violation(&mut self, now: Timestamp, link: LinkId, what: &str) {
        self.totals.violations += 1;
        if let Some(node) = self.sessions.get(&link).and_then(|session| session.node) {
            self.roster.get_mut(node).violations += 1;
        }
        self.send(
            link,
            ToNode::Refuse(LinkRefusal::Violation(what.to_owned())),
        );
        self.fail(now, link, &format!("the node broke the protocol: {what}"));
    }

    fn refuse(&mut self, now: Timestamp, link: LinkId, name: &str, refusal: LinkRefusal) {
        let reason = refusal.to_string();
        let node = self.sessions.get(&link).and_then(|session| session.node);
        if let Some(node) = node {
            self.roster.get_mut(node).reason.clone_from(&reason);
        }
        self.actions.push(Action::Note(Note::NodeRefused {
            node: node.map(Self::node_id),
            name: name.into(),
            reason: reason.clone(),
        }));
        self.send(link, ToNode::Refuse(refusal));
        self.fail(now, link, &reason);
    }

    pub(super) fn handshake_overdue(&mut self, now: Timestamp, link: LinkId) {
        let limit = self.handshake_limit();
        let Some(session) = self.sessions.get(&link) else {
            return;
        };
        if session.stage == Stage::Up {
            return;
        }
        let until = session.heard_at + limit;
        if until > now {
            self.handshakes.insert((until, link));
        } else {
            self.fail(
                now,
                link,
                "the node was silent while the link was being set up",
            );
        }
    }

    pub(super) fn link_closed(&mut self, now: Timestamp, link: LinkId, reason: &str) {
        let Some(session) = self.sessions.remove(&link) else {
            return;
        };
        let Some(node) = session.node else {
            return;
        };
        let entry = self.roster.get_mut(node);
        if entry.handshake == Some(link) {
            entry.handshake = None;
            entry.dial_at = Some(now + entry.take_pause());
            self.setup_failed(node, reason);
        }
        let entry = self.roster.get_mut(node);
        if entry.link == Some(link) {
            self.forget_link(node, reason);
            let entry = self.roster.get_mut(node);
            entry.dial_at = None;
            entry.probe_at = None;
            entry.pause = FIRST_PAUSE;
            if entry.is_local() {
                // A link within the process breaks with its end.
                self.lose(now, node, true, reason);
            } else {
                let name = self.roster.get(node).name.clone();
                self.actions.push(Action::Note(Note::NodeUnreachable {
                    node: Self::node_id(node),
                    name,
                    reason: reason.to_owned(),
                }));
            }
        }
        self.roster.attend(node, now);
    }

    /// A link was closed before it was up. Whoever waits for the node hears why, as of a dial that failed; a
    /// refusal in words has said it already.
    fn setup_failed(&mut self, node: NodeIndex, reason: &str) {
        let entry = self.roster.get_mut(node);
        if entry.state == State::Up || entry.reason == reason {
            return;
        }
        reason.clone_into(&mut entry.reason);
        if entry.state == State::Connecting {
            let name = entry.name.clone();
            self.actions.push(Action::Note(Note::NodeRefused {
                node: Some(Self::node_id(node)),
                name,
                reason: reason.to_owned(),
            }));
        }
    }

    /// The node has no link that counts any more. It keeps its tasks.
    pub(super) fn forget_link(&mut self, node: NodeIndex, reason: &str) {
        let entry = self.roster.get_mut(node);
        let links = [entry.link.take(), entry.handshake.take()];
        if entry.state == State::Up {
            entry.state = State::Unreachable;
            entry.reason = reason.to_owned();
            entry.assign.clear();
        }
        for link in links.into_iter().flatten() {
            if self.sessions.remove(&link).is_some() {
                self.close(link, reason);
            }
        }
        self.set_present(node, false);
        self.enter_load(node);
        self.roster.touch(node);
    }

    pub(super) fn heard(
        &mut self,
        now: Timestamp,
        link: LinkId,
    ) -> Option<(Stage, Option<NodeIndex>)> {
        let session = self.sessions.get_mut(&link)?;
        session.heard_at = now;
        let (stage, node) = (session.stage, session.node);
        if let (Some(node), Stage::Up) = (node, stage) {
            self.roster.get_mut(node).heard(now, self.config.lease);
        }
        Some((stage, node))
    }

    pub(super) fn message(&mut self, now: Timestamp, link: LinkId, message: ToScheduler) {
        let Some((stage, node)) = self.heard(now, link) else {
            return;
        };
        let outcome = match (stage, node, message) {
            (_, _, ToScheduler::Refuse(refusal)) => {
                self.was_refused(now, link, &refusal);
                Ok(())
            }
            (Stage::Greeted, _, ToScheduler::Hello(hello)) => self.node_hello(now, link, hello),
            (Stage::Comparing, Some(node), ToScheduler::Holding(holding)) => {
                self.holding(now, link, node, holding)
            }
            (Stage::Up, Some(node), ToScheduler::Beat(beat)) => self.beat(now, link, node, beat),
            (Stage::Up, Some(node), ToScheduler::Reports(reports)) => {
                self.reports(now, node, reports)
            }
            (Stage::Up, Some(node), ToScheduler::Goodbye) => {
                self.goodbye(now, link, node);
                Ok(())
            }
            (_, _, message) => Err(format!(
                "it sent {} while the link was {}",
                name_of(&message),
                match stage {
                    Stage::Greeted => "waiting for its hello",
                    Stage::Comparing => "being compared",
                    Stage::Up => "up",
                }
            )),
        };
        if let Err(what) = outcome {
            self.violation(now, link, &what);
        }
    }

    fn was_refused(&mut self, now: Timestamp, link: LinkId, refusal: &LinkRefusal) {
        let reason = format!("the node refused the link: {refusal}");
        if let Some(node) = self.sessions.get(&link).and_then(|session| session.node) {
            let entry = self.roster.get_mut(node);
            entry.reason.clone_from(&reason);
            let name = entry.name.clone();
            self.actions.push(Action::Note(Note::NodeRefused {
                node: Some(Self::node_id(node)),
                name,
                reason: reason.clone(),
            }));
        }
        self.fail(now, link, &reason);
    }

    fn node_hello(&mut self, now: Timestamp, link: LinkId, hello: NodeHello) -> Result<(), String> {
        check_hello(&hello)?;
        let name = hello.node.clone();
        if hello.version_min > VERSION_MAX || hello.version_max < VERSION_MIN {
            let refusal = LinkRefusal::Version {
                ours_min: VERSION_MIN,
                ours_max: VERSION_MAX,
                theirs_min: hello.version_min,
                theirs_max: hello.version_max,
            };
            self.refuse(now, link, &name, refusal);
            return Ok(());
        }
        match self.identify(link, &hello) {
            Err(refusal) => self.refuse(now, link, &name, refusal),
            Ok(node) => match self.admit_life(now, link, node, &hello) {
                Err(refusal) => self.refuse(now, link, &name, refusal),
                Ok(()) if self.offers_too_much(node, &hello) => {
                    self.refuse(now, link, &name, LinkRefusal::TooMany);
                }
                Ok(()) if self.is_outdated(node, &hello) => {
                    self.fail(now, link, "the node has said a later hello on another link");
                }
                Ok(()) => self.compare_begins(now, link, node, hello),
            },
        }
        Ok(())
    }

    /// Which node this is.
    fn identify(&mut self, link: LinkId, hello: &NodeHello) -> Result<NodeIndex, LinkRefusal> {
        let name = hello.node.as_str();
        let session = self.sessions.get(&link).and_then(|session| session.node);
        if let Some(node) = session {
            let expected = &self.roster.get(node).name;
            if **expected == *name {
                return Ok(node);
            }
            return Err(LinkRefusal::WrongName {
                expected: expected.to_string(),
                found: name.to_owned(),
            });
        }
        if let Some(leaving) = self.leaving(name)
            && self.roster.get(leaving).epoch == Some(hello.epoch)
        {
            return Ok(leaving);
        }
        let name_in_words = name.to_owned();
        match self.roster.names.get(name) {
            Some(&node) if self.roster.get(node).is_local() => Err(LinkRefusal::NameInUse {
                name: name_in_words,
            }),
            Some(&node) => Ok(node),
            None if self.config.accept_joins && self.roster.names.len() >= MAX_NODES => {
                Err(LinkRefusal::TooMany)
            }
            None if self.config.accept_joins => Ok(self.enter_node(name.into(), Reach::Joins)),
            None => Err(LinkRefusal::NotExpected {
                name: name_in_words,
            }),
        }
    }

    /// Whether this life of the node may be the one that counts.
    fn admit_life(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        hello: &NodeHello,
    ) -> Result<(), LinkRefusal> {
        let silence = self.config.heartbeat.saturating_mul(2);
        let dialled = self
            .sessions
            .get(&link)
            .is_some_and(|session| session.dialled);
        let entry = self.roster.get(node);
        if entry.retired.iter().any(|life| life.epoch == hello.epoch) {
            return Err(LinkRefusal::Replaced {
                name: hello.node.clone(),
            });
        }
        match entry.epoch {
            Some(epoch) if epoch == hello.epoch => {}
            // Nobody else can listen at the address at which the old life was dialled.
            Some(_) if dialled && !entry.joined => {
                self.lose(now, node, true, "a new process answers at its address")
            }
            // Nor can two listen at one port. While the old life's link is up, the new one's word is doubted.
            Some(_)
                if entry.state != State::Up
                    && entry.probe.is_some()
                    && entry.probe == hello.probe =>
            {
                self.lose(
                    now,
                    node,
                    true,
                    "a new process has the port that it had named",
                )
            }
            Some(_) if entry.state == State::Lost || entry.last_heard + silence <= now => {
                self.retire(now, node)
            }
            Some(_) => {
                self.roster.attend(node, now);
                return Err(LinkRefusal::NameInUse {
                    name: hello.node.clone(),
                });
            }
            None => {}
        }
        self.end_retired(now, node, |life| {
            (dialled && !life.joined) || (life.probe.is_some() && life.probe == hello.probe)
        });
        Ok(())
    }

    /// Whether what all nodes offer would become too much to remember.
    fn offers_too_much(&self, node: NodeIndex, hello: &NodeHello) -> bool {
        let kinds = hello.kinds.iter().map(|offer| &offer.kind);
        let own = names_bytes(kinds.chain(&hello.labels));
        self.roster.offered_bytes(node).saturating_add(own) > MAX_OFFERED_BYTES
    }

    /// Whether a later hello of this life was heard already: two links may bring them in either order, and
    /// the node has left the link of the earlier one.
    fn is_outdated(&self, node: NodeIndex, hello: &NodeHello) -> bool {
        let entry = self.roster.get(node);
        entry.epoch == Some(hello.epoch) && hello.number <= entry.hello
    }

    fn compare_begins(&mut self, now: Timestamp, link: LinkId, node: NodeIndex, hello: NodeHello) {
        if let Some(session) = self.sessions.remove(&link) {
            // Apart from the others, so that forgetting them spares it.
            if self.roster.get(node).handshake == Some(link) {
                self.roster.get_mut(node).handshake = None;
            }
            self.forget_link(node, "the node has a newer link");
            self.sessions.insert(
                link,
                Session {
                    stage: Stage::Comparing,
                    node: Some(node),
                    hello: Some(Box::new(hello.clone())),
                    heard_at: now,
                    ..session
                },
            );
        }
        let dialled = self
            .sessions
            .get(&link)
            .is_some_and(|session| session.dialled);
        let lease = self.config.lease;
        let entry = self.roster.get_mut(node);
        entry.handshake = Some(link);
        if entry.epoch != Some(hello.epoch) {
            entry.epoch = Some(hello.epoch);
            entry.acknowledged = 0;
            entry.joined = !dialled;
            entry.safe_at = now;
            entry.lease_until = now + lease;
            entry.expiring = false;
            entry.state = State::Unreachable;
            entry.draining = false;
            entry.leaving = false;
        }
        // Whoever was ever reached at its address listens there.
        entry.joined &= !dialled;
        entry.hello = hello.number;
        entry.probe = hello.probe.clone();
        entry.last_heard = now;
        self.set_offer(node, &hello.kinds, hello.labels);
    }

    fn holding(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        holding: Holding,
    ) -> Result<(), String> {
        if holding.reports.iter().any(|report| report.seq().is_none()) {
            return Err("it told what it holds with a report that has no number".to_owned());
        }
        self.reports(now, node, holding.reports)?;
        for run in &holding.runs {
            self.check_holder(node, run.task, run.dispatch)?;
        }
        let held: usize = self.sessions.values().map(|it| it.held.len()).sum();
        if held + holding.runs.len() > MAX_COMPARED {
            self.fail(now, link, "too many runs are being compared at once");
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&link) else {
            return Ok(());
        };
        let runs = holding.runs.into_iter();
        session.held.extend(runs.map(|run| (run.dispatch, run)));
        if session.held.len() > MAX_HELD {
            return Err("it holds more runs than a node may".to_owned());
        }
        if holding.last {
            let held = std::mem::take(&mut session.held);
            session.stage = Stage::Up;
            let hello = session.hello.take();
            self.welcome(now, link, node, held, hello.as_deref());
        }
        Ok(())
    }

    /// Compares what both sides hold and tells the node that the link is up.
    fn welcome(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        held: BTreeMap<Dispatch, HeldRun>,
        hello: Option<&NodeHello>,
    ) {
        let entry = self.roster.get_mut(node);
        if entry.state == State::Lost
            && let Some(epoch) = entry.epoch
        {
            self.life_returned(node, epoch);
        }
        let stop = self.compare(now, node, &held);
        let (heartbeat, lease, retry) =
            (self.config.heartbeat, self.config.lease, self.config.retry);
        let entry = self.roster.get_mut(node);
        entry.state = State::Up;
        entry.reason.clear();
        entry.link = Some(link);
        entry.up_at = now;
        entry.handshake = None;
        entry.dial_at = None;
        entry.probe_at = None;
        entry.pause = entry.usual_pause();
        entry.last_heard = now;
        entry.named_at = now;
        entry.extend_lease(now + lease);
        entry.answers.clear();
        entry.answered(now, 0, lease);
        entry.acknowledge = false;
        entry.cancel.clear();
        entry.recall.clear();
        let offered = hello.map_or(0, |hello| hello.workers);
        entry.workers = entry
            .workers_set
            .unwrap_or(offered)
            .min(NodeConfig::MAX_WORKERS);
        // The node tells it again on each link; what it told last on the older may be lost.
        entry.stalled = 0;
        entry.leaving = hello.is_some_and(|hello| hello.draining);
        entry.refusing = entry.leaving;
        let welcome = Welcome {
            version: hello.map_or(VERSION_MAX, |hello| hello.version_max.min(VERSION_MAX)),
            heartbeat,
            lease,
            workers: entry.workers_set,
            retry,
            acknowledged: entry.acknowledged,
            stop,
            drain: entry.draining,
        };
        let note = Note::NodeUp {
            node: Self::node_id(node),
            name: entry.name.clone(),
            epoch: entry.epoch.unwrap_or(crate::engine::Epoch(0)),
            joined: entry.joined,
        };
        let (removed, runs) = (entry.removed, entry.runs);
        let present = entry.takes_tasks();
        self.send(link, ToNode::Welcome(welcome));
        if removed {
            self.send(link, ToNode::Leave);
        }
        self.actions.push(Action::Note(note));
        let cancels: Vec<_> = self
            .tasks
            .walk(&runs)
            .map(|slot| self.tasks.get(slot))
            .filter(|task| task.is_cancelling())
            .map(|task| task.dispatch)
            .collect();
        self.roster.get_mut(node).cancel = cancels;
        self.set_present(node, present);
        self.roster.touch(node);
        self.roster.attend(node, now);
    }

    /// Brings what is believed of a node's runs in line with what it holds; returns what it is to stop.
    fn compare(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        held: &BTreeMap<Dispatch, HeldRun>,
    ) -> Vec<Dispatch> {
        let runs = self.roster.get(node).runs;
        let believed: Vec<Slot> = self.tasks.walk(&runs).collect();
        for slot in believed {
            let task = self.tasks.get(slot);
            match held.get(&task.dispatch).filter(|run| run.task == task.id) {
                Some(run) if run.state == HeldState::Running => self.started(now, slot),
                // What was asked back on the older link may never have been read there.
                Some(_) => self.forget_recall(slot),
                // It was lost on the way.
                None => self.never_started(now, slot, false),
            }
        }
        let ghosts: Vec<_> = self.roster.get(node).ghosts.keys().copied().collect();
        for dispatch in ghosts {
            if !held.contains_key(&dispatch) {
                self.ghost_ended(now, node, dispatch);
            }
        }
        let mut stop = Vec::new();
        for run in held.values() {
            if !self.holds_rightly(node, run) {
                stop.push(run.dispatch);
                if !self.roster.get(node).ghosts.contains_key(&run.dispatch) {
                    self.add_stranger(node, run.task, run.dispatch);
                }
            }
        }
        stop
    }

    /// Whether a held run is its task's; a run that was given up for lost becomes it again if no later
    /// one was begun.
    fn holds_rightly(&mut self, node: NodeIndex, run: &HeldRun) -> bool {
        let Some(slot) = self.tasks.find(run.task) else {
            return false;
        };
        let task = self.tasks.get(slot);
        if task.dispatch != run.dispatch || task.node != node {
            return false;
        }
        match task.phase {
            Phase::Ahead | Phase::Running => true,
            Phase::Queued | Phase::Held if run.state == HeldState::Running => {
                self.take_back(slot);
                true
            }
            _ => false,
        }
    }

    fn beat(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        beat: Beat,
    ) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&link) else {
            return Ok(());
        };
        if beat.number <= session.last_beat || beat.answered >= beat.number {
            return Err("its beats are out of order".to_owned());
        }
        session.last_beat = beat.number;
        let lease = self.config.lease;
        let entry = self.roster.get_mut(node);
        entry.proved(now, beat.answered, lease);
        entry.answered(now, beat.number, lease);
        self.send(link, ToNode::Answer(beat.number));
        Ok(())
    }

    /// Nothing runs there any more, by the node's own word.
    fn goodbye(&mut self, now: Timestamp, link: LinkId, node: NodeIndex) {
        let entry = self.roster.get_mut(node);
        let name = entry.name.clone();
        self.sessions.remove(&link);
        entry.link = None;
        entry.state = State::Unreachable;
        self.close(link, "the node has said goodbye");
        // Nothing can be left with it: what is believed to be was on its way, or was stopped because it leaves.
        let runs = self.roster.get(node).runs;
        let left: Vec<_> = self.tasks.walk(&runs).collect();
        for slot in left {
            let task = self.tasks.get_mut(slot);
            task.has_run |= task.phase == Phase::Running;
            self.never_started(now, slot, false);
        }
        self.lose(now, node, true, "it has left");
        let entry = self.roster.get_mut(node);
        entry.pause = entry.usual_pause();
        entry.dial_at = Some(now + entry.pause);
        self.actions.push(Action::Note(Note::NodeLeft {
            node: Self::node_id(node),
            name,
        }));
    }

    /// A record for a node that was not known so far.
    pub(super) fn enter_node(&mut self, name: std::sync::Arc<str>, reach: Reach) -> NodeIndex {
        let node = self.roster.nodes.len() as NodeIndex;
        let mut entry = Node::new(name.clone(), reach);
        entry.workers_set = self.workers_for_all;
        self.roster.nodes.push(entry);
        self.roster.names.insert(name, node);
        node
    }
}

/// What a hello may contain.
fn check_hello(hello: &NodeHello) -> Result<(), String> {
    let named = |name: &str| (1..=MAX_NAME_BYTES).contains(&name.len());
    if !named(&hello.node) {
        return Err("its name is empty or too long".to_owned());
    }
    if hello.kinds.len() > MAX_KINDS
        || !hello
            .kinds
            .iter()
            .all(|offer| TaskKind::from(offer.kind.as_str()).is_usable())
    {
        return Err("it offers too many kinds, or one without a usable name".to_owned());
    }
    let distinct: std::collections::BTreeSet<_> =
        hello.kinds.iter().map(|offer| &offer.kind).collect();
    if distinct.len() != hello.kinds.len() {
        return Err("it offers a kind twice".to_owned());
    }
    if hello.labels.len() > MAX_LABELS || !hello.labels.iter().all(|label| named(label)) {
        return Err("it bears too many labels, or one that is empty or too long".to_owned());
    }
    if hello.probe.as_ref().is_some_and(|probe| !named(probe)) {
        return Err("the port to probe is not an address".to_owned());
    }
    Ok(())
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
