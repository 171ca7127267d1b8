//! The connections of a scheduler, each from its opening to its end.
//!
//! Owns: how far each connection is, and how many runs nodes have told of in comparisons that are
//! not whole. Does not know: nodes' records, what is said on a connection, or when it has been
//! silent for too long.

use std::collections::BTreeMap;

use crate::engine::message::{HeldRun, NodeHello};
use crate::engine::numbered::Numbered;
use crate::engine::placement::NodeIndex;
use crate::engine::{LinkId, Timestamp};
use crate::task::Dispatch;

/// Runs that a node may hold: all its workers and all that may wait there, with room to spare.
const MAX_HELD: usize = 1 << 21;
/// Runs that all nodes together may hold while they are being compared: twice what one may, since
/// many may return at once. A link beyond it is closed, and its node comes again.
const MAX_COMPARED: usize = 2 * MAX_HELD;

/// Which process of a node tells what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The one that counts.
    Present,
    /// A process that another has replaced.
    Replaced,
}

/// What a node has told of itself and of the runs that it holds.
#[derive(Debug)]
pub(super) struct Comparison {
    pub speaker: Speaker,
    pub hello: NodeHello,
    pub held: BTreeMap<Dispatch, HeldRun>,
}

/// How far a link is.
#[derive(Debug)]
pub(super) enum SessionStage {
    /// The scheduler has said hello.
    Greeted,
    /// The node has said hello, and tells what it holds.
    Comparing(Box<Comparison>),
    /// Both sides agree.
    Up,
    /// A replaced process has told what it holds. It is heard until nothing waits for it.
    Farewell(Box<NodeHello>),
}

/// One connection. It is changed by [`Sessions`] alone, which hands it out to be read.
#[derive(Debug)]
pub(super) struct Session {
    pub stage: SessionStage,
    /// The node that was dialled, or that has said hello.
    pub node: Option<NodeIndex>,
    /// The host from which the node dialled; `None` if the scheduler dialled.
    pub host: Option<String>,
    /// The address of the other end, as this side sees it.
    pub peer: String,
    pub heard_at: Timestamp,
    /// When a session that is not up is looked at, to see whether it was silent.
    set_up_by: Timestamp,
    last_beat: u64,
}

impl Session {
    /// Returns when the scheduler looks whether the link was silent, unless it is up.
    pub(super) fn set_up_by(&self) -> Option<Timestamp> {
        (!self.is_up()).then_some(self.set_up_by)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, SessionStage::Up)
    }

    /// Returns whether it is that of a process which another has replaced.
    fn hears_out(&self) -> bool {
        match &self.stage {
            SessionStage::Comparing(comparison) => comparison.speaker == Speaker::Replaced,
            SessionStage::Farewell(_) => true,
            SessionStage::Greeted | SessionStage::Up => false,
        }
    }

    fn held(&self) -> usize {
        match &self.stage {
            SessionStage::Comparing(comparison) => comparison.held.len(),
            SessionStage::Greeted | SessionStage::Up | SessionStage::Farewell(_) => 0,
        }
    }
}

/// Why a part of what a node holds was not taken, or was one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    /// The node holds more than one node may.
    Held,
    /// All nodes together hold more than they may while they are being compared.
    Compared,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_link: Numbered<LinkId, Session>,
    /// How many are not up.
    setting_up: usize,
    compared: usize,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.by_link.len()
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&Session> {
        self.by_link.get(&link)
    }

    /// Returns how many links are being set up.
    pub(super) fn setting_up(&self) -> usize {
        self.setting_up
    }

    /// Returns the link among those being set up whose time comes first.
    pub(super) fn first_to_set_up(&self) -> Option<LinkId> {
        let all = self.by_link.iter();
        let setting_up = all.filter_map(|(&link, session)| Some((session.set_up_by()?, link)));
        setting_up.min().map(|(_, link)| link)
    }

    /// Returns whether a process of this node that was replaced is heard on one of them. It looks
    /// at all.
    pub(super) fn hear_out(&self, node: NodeIndex) -> bool {
        let mut all = self.by_link.values();
        all.any(|session| session.node == Some(node) && session.hears_out())
    }

    /// Begins a session with the node that was dialled, or with a peer that dialled from `host`.
    pub(super) fn open(
        &mut self,
        now: Timestamp,
        link: LinkId,
        set_up_by: Timestamp,
        node: Option<NodeIndex>,
        host: Option<String>,
        peer: String,
    ) {
        let session = Session {
            stage: SessionStage::Greeted,
            node,
            host,
            peer,
            heard_at: now,
            set_up_by,
            last_beat: 0,
        };
        self.by_link.insert(link, session);
        self.setting_up += 1;
    }

    /// Forgets a session, and what its node has told that it holds.
    pub(super) fn end(&mut self, link: LinkId) -> Option<Session> {
        let session = self.by_link.remove(&link)?;
        self.setting_up -= usize::from(!session.is_up());
        self.compared -= session.held();
        Some(session)
    }

    /// Notes that something came on a link.
    pub(super) fn heard(&mut self, now: Timestamp, link: LinkId) -> Option<&Session> {
        let session = self.by_link.get_mut(&link)?;
        session.heard_at = now;
        Some(session)
    }

    /// Gives a link that was not silent more time.
    pub(super) fn extend_setup(&mut self, link: LinkId, set_up_by: Timestamp) {
        if let Some(session) = self.by_link.get_mut(&link) {
            session.set_up_by = set_up_by;
        }
    }

    /// Takes the number of a node's beat. Returns whether it is later than all before it on this
    /// link.
    pub(super) fn take_beat(&mut self, link: LinkId, number: u64) -> bool {
        let session = self.by_link.get_mut(&link);
        session.is_some_and(|session| {
            let later = number > session.last_beat;
            session.last_beat = session.last_beat.max(number);
            later
        })
    }

    /// Takes in that the peer has said hello as this node: from now on it tells what it holds.
    pub(super) fn begin_comparison(
        &mut self,
        link: LinkId,
        node: NodeIndex,
        hello: NodeHello,
        speaker: Speaker,
    ) {
        if let Some(session) = self.by_link.get_mut(&link) {
            session.node = Some(node);
            session.stage = SessionStage::Comparing(Box::new(Comparison {
                speaker,
                hello,
                held: BTreeMap::new(),
            }));
        }
    }

    /// Adds a part of what a node holds. What it tells twice is kept once.
    pub(super) fn gather(&mut self, link: LinkId, runs: Vec<HeldRun>) -> Result<(), TooMany> {
        // Before anything of it is kept: what one sends must not make this process hold more.
        if self.compared + runs.len() > MAX_COMPARED {
            return Err(TooMany::Compared);
        }
        let session = self.by_link.get_mut(&link);
        let Some(SessionStage::Comparing(comparison)) = session.map(|session| &mut session.stage)
        else {
            return Ok(());
        };
        // What is told twice counts once, so the growth is counted and not what has come.
        let before = comparison.held.len();
        let runs = runs.into_iter().map(|run| (run.dispatch, run));
        comparison.held.extend(runs);
        let held = comparison.held.len();
        self.compared += held - before;
        if held > MAX_HELD {
            return Err(TooMany::Held);
        }
        Ok(())
    }

    /// Ends the comparison of a node that has told all that it holds: the link is up, unless it is
    /// that of a replaced process. Returns what it has told.
    pub(super) fn finish_comparison(&mut self, link: LinkId) -> Option<Box<Comparison>> {
        let session = self.by_link.get_mut(&link)?;
        let SessionStage::Comparing(comparison) = &session.stage else {
            return None;
        };
        self.compared -= comparison.held.len();
        let next = match comparison.speaker {
            Speaker::Present => SessionStage::Up,
            Speaker::Replaced => SessionStage::Farewell(Box::new(comparison.hello.clone())),
        };
        let before = std::mem::replace(&mut session.stage, next);
        self.setting_up -= usize::from(session.is_up());
        match before {
            SessionStage::Comparing(comparison) => Some(comparison),
            SessionStage::Greeted | SessionStage::Up | SessionStage::Farewell(_) => None,
        }
    }

    /// Returns how many runs are being compared.
    #[cfg(test)]
    pub(super) fn compared(&self) -> usize {
        self.compared
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let setting_up = self.by_link.values().filter(|it| !it.is_up()).count();
        if setting_up != self.setting_up {
            return Err(format!(
                "G11: {setting_up} links are being set up, {} are counted",
                self.setting_up
            ));
        }
        let held: usize = self.by_link.values().map(Session::held).sum();
        if held != self.compared {
            return Err(format!(
                "G11: {held} runs are being compared, {} are counted",
                self.compared
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_COMPARED, MAX_HELD, Sessions, Speaker, TooMany};
    use crate::engine::message::{HeldRun, HeldState, NodeHello};
    use crate::engine::{Incarnation, LinkId, Timestamp};
    use crate::task::{Dispatch, TaskId};

    const NOW: Timestamp = Timestamp(1);
    const LATER: Timestamp = Timestamp(2);

    fn comparing(sessions: &mut Sessions, link: LinkId) {
        sessions.open(
            NOW,
            link,
            LATER,
            None,
            Some("there".to_owned()),
            String::new(),
        );
        let hello = NodeHello::new("node", Incarnation(1));
        sessions.begin_comparison(link, 0, hello, Speaker::Present);
    }

    fn runs(numbers: std::ops::Range<usize>) -> Vec<HeldRun> {
        let run = |number| HeldRun {
            task: TaskId::new(number),
            dispatch: Dispatch::new(number),
            state: HeldState::Running,
        };
        numbers.map(|number| run(number as u64)).collect()
    }

    #[test]
    fn g11_no_node_holds_more_than_one_may_nor_all_together_more_than_all_may() {
        let mut sessions = Sessions::default();
        for link in [LinkId(1), LinkId(2)] {
            comparing(&mut sessions, link);
            assert_eq!(sessions.gather(link, runs(0..MAX_HELD)), Ok(()));
        }
        assert_eq!(sessions.compared(), MAX_COMPARED);
        assert_eq!(
            sessions.gather(LinkId(2), runs(0..1)),
            Err(TooMany::Compared)
        );
        assert!(sessions.end(LinkId(1)).is_some());
        let one_more = runs(MAX_HELD..MAX_HELD + 1);
        assert_eq!(sessions.gather(LinkId(2), one_more), Err(TooMany::Held));
        assert_eq!(sessions.check(), Ok(()));
    }

    #[test]
    fn a_comparison_is_finished_once_and_its_link_is_up_from_then_on() {
        let mut sessions = Sessions::default();
        let link = LinkId(7);
        comparing(&mut sessions, link);
        assert_eq!(sessions.gather(link, runs(0..3)), Ok(()));
        assert_eq!(sessions.gather(link, runs(2..5)), Ok(()));
        let comparison = sessions.finish_comparison(link);
        assert_eq!(comparison.map(|comparison| comparison.held.len()), Some(5));
        assert!(sessions.get(link).is_some_and(|session| session.is_up()));
        assert!(sessions.finish_comparison(link).is_none());
        assert_eq!((sessions.compared(), sessions.check()), (0, Ok(())));
    }

    #[test]
    fn the_first_to_be_set_up_is_the_one_that_is_looked_at_first() {
        let mut sessions = Sessions::default();
        for (number, by) in [(1, 5), (2, 3), (3, 3), (4, 2)] {
            sessions.open(
                NOW,
                LinkId(number),
                Timestamp(by),
                None,
                None,
                String::new(),
            );
        }
        sessions.extend_setup(LinkId(4), Timestamp(9));
        assert_eq!(sessions.first_to_set_up(), Some(LinkId(2)));
        let hello = NodeHello::new("node", Incarnation(1));
        sessions.begin_comparison(LinkId(2), 0, hello, Speaker::Present);
        assert_eq!(sessions.first_to_set_up(), Some(LinkId(2)));
        sessions.finish_comparison(LinkId(2));
        assert_eq!(sessions.first_to_set_up(), Some(LinkId(3)));
        sessions.end(LinkId(3));
        assert_eq!((sessions.setting_up(), sessions.check()), (2, Ok(())));
    }

    #[test]
    fn a_beat_must_be_later_than_all_before_it_on_its_link() {
        let mut sessions = Sessions::default();
        let link = LinkId(7);
        sessions.open(NOW, link, LATER, None, None, String::new());
        let taken = [1, 3, 2, 3, 4].map(|number| sessions.take_beat(link, number));
        assert_eq!(taken, [true, true, false, false, true]);
        assert!(!sessions.take_beat(LinkId(8), 1));
    }
}
