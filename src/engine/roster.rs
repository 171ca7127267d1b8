//! What is believed of each node: its life, its link, its load, when it was last heard, and which runs
//! may still be going on there.
//!
//! Owns: the node records, the offers they make, and the arithmetic of load, lease and sending ahead.
//! Does not know: the tasks' states or what follows from a loss.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::message::{Assignment, KindOffer};
use super::placement::{NodeIndex, OfferId, Places, PlacesOf, Room};
use super::queue::{KindId, Turn};
use super::tasks::List;
use super::{Epoch, LinkId, Reach, Timestamp};
use crate::task::{Dispatch, Labels, TaskId, TaskKey};

/// How soon a dial or a probe is tried again.
pub(crate) const DIAL_PAUSE: Duration = Duration::from_millis(500);
/// The same after a link has just broken, from which it doubles: the system of a process that was killed
/// closes its sockets one by one, and may close the link before the port, which then still answers.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// A node that was drained is dialled so many times less often, to see whether a new process stands there.
const DRAINED_PAUSE: u32 = 10;
/// The args of tasks that wait at a node: nothing more is sent ahead beyond it. It is what a line of a gigabit a
/// second carries in an eighth of a second. Large tasks that take less long than their way would pile up at the
/// node without it, in memory that is touched for the first time, which costs more than a copy.
const MAX_AHEAD_BYTES: usize = 16 << 20;
/// The longest round trip that is believed, in nanoseconds: what took longer was held up by a cut or a
/// stall, and whoever sent ahead by it would pile tasks up where they wait.
const MAX_ROUND_TRIP: u64 = 500_000_000;
/// Answers to beats that are remembered: more than fit a lease at the shortest heartbeat would be
/// needed only by a node that beats faster than it was told.
const MAX_ANSWERS: usize = 64;

/// A run that the scheduler no longer follows and that may still be going on.
#[derive(Clone, Debug)]
pub(crate) struct Ghost {
    pub task: TaskId,
    /// Whether it can only end by itself.
    pub blocking: bool,
    /// The key that lives until it has ended.
    pub key: Option<TaskKey>,
    /// Whether its (exclusive) task is held until it has ended.
    pub holds_task: bool,
    /// Whether only its node has told of it.
    pub stranger: bool,
    /// Whether its task counts it. The word of a node is not enough for that.
    pub counted: bool,
}

impl Ghost {
    /// A run that was followed so far.
    pub fn of_run(task: TaskId, blocking: bool, key: Option<TaskKey>) -> Self {
        Self {
            task,
            blocking,
            key,
            holds_task: false,
            stranger: false,
            counted: true,
        }
    }

    /// When it has ended at the latest, if it can be stopped, in a life whose own half of the lease ended at
    /// `safe_at`: an exclusive run stops at four fifths of it, any other at its end, and gets `margin` more.
    pub fn safe_at(&self, safe_at: Timestamp, margin: Duration) -> Option<Timestamp> {
        let margin = if self.holds_task {
            Duration::ZERO
        } else {
            margin
        };
        (!self.blocking).then(|| safe_at + margin)
    }
}

/// A life of a node's process that another has replaced, for as long as runs of it may be going on.
#[derive(Debug)]
pub(crate) struct Retired {
    pub epoch: Epoch,
    /// When every run of it that could be stopped has been.
    pub safe_at: Timestamp,
    pub probe: Option<String>,
    /// Whether it had dialled in: then a refused dial of the listed address says nothing of it.
    pub joined: bool,
    pub ghosts: BTreeMap<Dispatch, Ghost>,
}

/// What is believed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never reached so far.
    Connecting,
    /// Its link is up.
    Up,
    /// Its link is broken, its lease runs.
    Unreachable,
    /// Its lease has ended; the life may return.
    Lost,
    /// Its process is known to be dead, or has left.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub name: Arc<str>,
    pub reach: Reach,
    pub state: State,
    pub reason: String,
    /// Taken out by hand; its record is kept while runs of it may be going on, and is vacant then.
    pub removed: bool,
    /// Drains by an operator's wish: the life of which that was asked, or the next one if none was known.
    pub draining: bool,
    pub draining_life: Option<Epoch>,
    /// Drains by the wish of its own process.
    pub leaving: bool,
    /// It has refused an assignment and not yet said that it would start something again.
    pub refusing: bool,

    /// The life of its process; `None` while none is known to be alive.
    pub epoch: Option<Epoch>,
    /// The number of this life's latest hello.
    pub hello: u64,
    /// When its link came up last.
    pub up_at: Timestamp,
    /// The link that counts: up, or being compared.
    pub link: Option<LinkId>,
    /// The link on which it is being set up.
    pub handshake: Option<LinkId>,
    pub offer: Option<OfferId>,
    pub labels: Labels,
    pub label_bytes: usize,
    pub probe: Option<String>,
    /// Whether this life dialled in.
    pub joined: bool,
    /// Whether its pools count it as present.
    pub present: bool,

    /// Workers by the node's word, or by `workers_set`.
    pub workers: u32,
    pub workers_set: Option<u32>,
    pub stalled: u32,
    pub running: u32,
    pub ahead: u32,
    /// The args of those that wait at it.
    pub ahead_bytes: usize,
    pub suspects: u32,
    /// Tasks that were asked back and have neither come back nor started, and the best turn among them:
    /// nothing after it is sent ahead, since it would start before what comes back.
    pub recalls: u32,
    pub recalled: Option<Turn>,
    /// Its runs, in order of their assignment.
    pub runs: List,
    pub ghosts: BTreeMap<Dispatch, Ghost>,
    pub retired: Vec<Retired>,
    /// Tasks that count this life as lost; taken back if it returns.
    pub lost_tasks: Vec<TaskId>,
    pub places: Places,
    pub settled: u64,
    /// Links of it that were closed because it broke the protocol.
    pub violations: u64,

    pub last_heard: Timestamp,
    /// When the lease ends, unless a proof comes.
    pub lease_until: Timestamp,
    /// Whether it has ended once, and only a last look is due.
    pub expiring: bool,
    /// When the node's own half of the lease ends at the latest.
    pub safe_at: Timestamp,
    pub answers: VecDeque<(u64, Timestamp)>,
    /// When it named an answer last that was recent then.
    pub named_at: Timestamp,

    /// The last report of this life that was taken.
    pub acknowledged: u64,
    pub acknowledge: bool,
    pub assign: Vec<Assignment>,
    pub cancel: Vec<Dispatch>,
    pub recall: Vec<Dispatch>,
    /// Whether it is among those with something to send or a load to be entered.
    pub touched: bool,

    pub dialling: bool,
    /// The life that was known when the dial went out: a refusal speaks of no later one.
    pub dialled_epoch: Option<Epoch>,
    /// When the last dial went out, and when the next one may. What hangs is followed by another at once.
    pub dialled_at: Timestamp,
    pub dial_at: Option<Timestamp>,
    pub probing: bool,
    /// The same of probes.
    pub probed_at: Timestamp,
    pub probe_at: Option<Timestamp>,
    /// How long to wait after the next dial or probe that tells nothing.
    pub pause: Duration,
    pub attention_at: Option<Timestamp>,

    /// Moving averages, in nanoseconds: a run; and what a task costs beside its run.
    pub run_time: u64,
    pub round_trip: u64,
}

impl Node {
    pub fn new(name: Arc<str>, reach: Reach) -> Self {
        Self {
            name,
            reach,
            state: State::Connecting,
            reason: "it was not reached so far".to_owned(),
            removed: false,
            draining: false,
            draining_life: None,
            leaving: false,
            refusing: false,
            epoch: None,
            hello: 0,
            up_at: Timestamp(0),
            link: None,
            handshake: None,
            offer: None,
            labels: Labels::new(),
            label_bytes: 0,
            probe: None,
            joined: false,
            present: false,
            workers: 0,
            workers_set: None,
            stalled: 0,
            running: 0,
            ahead: 0,
            ahead_bytes: 0,
            suspects: 0,
            recalls: 0,
            recalled: None,
            runs: List::default(),
            ghosts: BTreeMap::new(),
            retired: Vec::new(),
            lost_tasks: Vec::new(),
            places: Places::new(),
            settled: 0,
            violations: 0,
            last_heard: Timestamp(0),
            lease_until: Timestamp(0),
            expiring: false,
            safe_at: Timestamp(0),
            answers: VecDeque::new(),
            named_at: Timestamp(0),
            acknowledged: 0,
            acknowledge: false,
            assign: Vec::new(),
            cancel: Vec::new(),
            recall: Vec::new(),
            touched: false,
            dialling: false,
            dialled_epoch: None,
            dialled_at: Timestamp(0),
            dial_at: None,
            probing: false,
            probed_at: Timestamp(0),
            probe_at: None,
            pause: DIAL_PAUSE,
            attention_at: None,
            run_time: 0,
            round_trip: 0,
        }
    }

    /// How long to wait before the next dial or probe.
    pub fn take_pause(&mut self) -> Duration {
        let pause = self.pause.min(self.usual_pause());
        self.pause = pause * 2;
        pause
    }

    pub fn usual_pause(&self) -> Duration {
        if self.draining {
            DIAL_PAUSE * DRAINED_PAUSE
        } else {
            DIAL_PAUSE
        }
    }

    /// Whether nothing is heard of it: it has no link, or its link has been silent for so long.
    pub fn is_silent(&self, now: Timestamp, silence: Duration) -> bool {
        self.state != State::Up || self.last_heard + silence <= now
    }

    pub fn is_local(&self) -> bool {
        self.reach == Reach::Local
    }

    /// Whether only its name is left.
    pub fn is_vacant(&self) -> bool {
        self.removed && self.state == State::Dead
    }

    /// The life of which a probe would tell something now, and the port that it had named.
    pub fn to_probe(&self) -> Option<(Epoch, &str)> {
        if self.probing {
            return None;
        }
        let current = (self.state != State::Up && self.joined)
            .then_some((self.epoch, self.probe.as_deref()))
            .and_then(|(epoch, probe)| Some((epoch?, probe?)));
        let mut retired = self.retired.iter();
        current.or_else(|| retired.find_map(|life| Some((life.epoch, life.probe.as_deref()?))))
    }

    /// The runs that may be going on in lives that were lost, and when each life's own half of the lease ended.
    pub fn lost_lives(&self) -> impl Iterator<Item = (Timestamp, &BTreeMap<Dispatch, Ghost>)> {
        let current = (self.state == State::Lost).then_some((self.safe_at, &self.ghosts));
        let retired = self.retired.iter();
        current
            .into_iter()
            .chain(retired.map(|life| (life.safe_at, &life.ghosts)))
    }

    /// A task that was asked back has come back, or will not.
    pub fn recall_over(&mut self) {
        self.recalls -= 1;
        if self.recalls == 0 {
            self.recalled = None;
        }
    }

    /// Workers that are taken, or out of reach.
    pub fn taken(&self) -> u32 {
        // Ghosts of a life occupy its workers; a node without an epoch has none.
        self.running
            .saturating_add(self.ghosts.len() as u32)
            .saturating_add(self.stalled)
    }

    /// Whether it counts among the nodes that could run something.
    pub fn takes_tasks(&self) -> bool {
        self.state == State::Up && !self.draining && !self.leaving && !self.removed
    }

    /// How much may be placed on it.
    pub fn room(&self, max_ahead: u32) -> Room {
        if !self.takes_tasks() || self.refusing {
            return Room::None;
        }
        let taken = self.taken().saturating_add(self.ahead);
        if taken < self.workers {
            return Room::Free {
                taken,
                of: self.workers,
            };
        }
        let places = self.places_ahead(max_ahead);
        if self.ahead < places && self.ahead_bytes < MAX_AHEAD_BYTES {
            Room::Ahead {
                taken: self.ahead,
                of: places,
            }
        } else {
            Room::None
        }
    }

    /// How many tasks may wait at the node, so that its workers do not wait for a round trip: what
    /// they do in two of them. None when a run takes more than four: then the wait is small beside it,
    /// and a task that waits at a node cannot run at another.
    fn places_ahead(&self, max_ahead: u32) -> u32 {
        if self.run_time == 0
            || self.round_trip == 0
            || self.run_time > self.round_trip.saturating_mul(4)
        {
            return 0;
        }
        let per_worker = (self.round_trip.saturating_mul(2)).div_ceil(self.run_time.max(1));
        let usable = self.workers.saturating_sub(self.stalled);
        let places = per_worker.saturating_mul(u64::from(usable));
        u32::try_from(places).unwrap_or(u32::MAX).min(max_ahead)
    }

    /// Learns from a run that was placed on a free worker.
    pub fn learn(&mut self, ran: Duration, whole: Duration) {
        let average = |old: u64, new: Duration, least: u64, most: u64| {
            let new = u64::try_from(new.as_nanos())
                .unwrap_or(most)
                .clamp(least, most);
            if old == 0 {
                new
            } else {
                old - old / 8 + new / 8
            }
        };
        self.run_time = average(self.run_time, ran, 1_000, u64::MAX / 16);
        // The shortest round trip is that of a wake-up between threads.
        self.round_trip = average(
            self.round_trip,
            whole.saturating_sub(ran),
            20_000,
            MAX_ROUND_TRIP,
        );
    }

    /// Learns from a run alone, since its wait says nothing of the round trip.
    pub fn learn_run(&mut self, ran: Duration) {
        let round_trip = Duration::from_nanos(self.round_trip);
        self.learn(ran, ran.saturating_add(round_trip));
    }

    /// Notes that an answer to beat `number` goes out now.
    pub fn answered(&mut self, now: Timestamp, number: u64, lease: Duration) {
        if self.answers.len() == MAX_ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back((number, now));
        self.safe_at = self.safe_at.max(now + lease);
    }

    /// A proof of life holds until then.
    pub fn extend_lease(&mut self, until: Timestamp) {
        self.lease_until = self.lease_until.max(until);
        self.expiring = false;
    }

    /// Notes a proof of life that names the answer to beat `answered`. Only one that proves that the
    /// node hears the scheduler, too, extends the lease.
    pub fn proved(&mut self, now: Timestamp, answered: u64, lease: Duration) {
        while self
            .answers
            .front()
            .is_some_and(|&(number, _)| number < answered)
        {
            self.answers.pop_front();
        }
        if let Some(&(number, given)) = self.answers.front()
            && number == answered
            && now.since(given) <= lease
        {
            self.named_at = now;
            self.extend_lease(now + lease);
        }
    }

    /// Notes a sign of life that names no answer.
    pub fn heard(&mut self, now: Timestamp, lease: Duration) {
        self.last_heard = now;
        if now.since(self.named_at) <= lease {
            self.extend_lease(now + lease);
        }
    }
}

/// What some nodes offer: their kinds, in their order.
#[derive(Debug)]
pub(crate) struct Offer {
    pub kinds: Vec<KindOffer>,
    /// The index of each kind, and whether it blocks.
    pub index: BTreeMap<KindId, (u16, bool)>,
    pub bytes: usize,
    pub nodes: usize,
}

/// About what it takes to remember these names.
pub(crate) fn names_bytes<'a>(names: impl IntoIterator<Item = &'a String>) -> usize {
    const EACH: usize = 64;
    names.into_iter().map(|name| name.len() + EACH).sum()
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub nodes: Vec<Node>,
    pub names: BTreeMap<Arc<str>, NodeIndex>,
    pub offers: Vec<Option<Offer>>,
    /// Nodes that were told to leave and have not ended.
    pub leaving: BTreeSet<NodeIndex>,
    /// Vacant records by the name that they keep: tasks may still say that they have run there.
    pub vacant: BTreeMap<Arc<str>, NodeIndex>,
    /// About what it takes to remember the kinds and labels of all nodes.
    pub offered_bytes: usize,
    /// When each node needs attention at the latest.
    pub attention: BTreeSet<(Timestamp, NodeIndex)>,
    /// Nodes with something to send or a load to be entered.
    pub touched: Vec<NodeIndex>,
}

impl Roster {
    pub fn get(&self, node: NodeIndex) -> &Node {
        &self.nodes[node as usize]
    }

    pub fn get_mut(&mut self, node: NodeIndex) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    pub fn touch(&mut self, node: NodeIndex) {
        let entry = &mut self.nodes[node as usize];
        if !entry.touched {
            entry.touched = true;
            self.touched.push(node);
        }
    }

    /// Asks for a look at a node no later than `at`.
    pub fn attend(&mut self, node: NodeIndex, at: Timestamp) {
        let entry = &mut self.nodes[node as usize];
        match entry.attention_at {
            Some(earlier) if earlier <= at => {}
            old => {
                if let Some(old) = old {
                    self.attention.remove(&(old, node));
                }
                entry.attention_at = Some(at);
                self.attention.insert((at, node));
            }
        }
    }

    /// The next node whose time has come.
    pub fn pop_attention(&mut self, now: Timestamp) -> Option<NodeIndex> {
        let &(at, node) = self.attention.first()?;
        if at > now {
            return None;
        }
        self.attention.pop_first();
        self.nodes[node as usize].attention_at = None;
        Some(node)
    }

    /// About what it takes to remember the kinds and labels of all nodes but one.
    pub fn offered_bytes_but(&self, but: NodeIndex) -> usize {
        let but = self.get(but);
        let offer = but
            .offer
            .and_then(|offer| self.offers[offer as usize].as_ref());
        let alone = offer.filter(|offer| offer.nodes == 1);
        self.offered_bytes - but.label_bytes - alone.map_or(0, |offer| offer.bytes)
    }

    /// A record for a node of this name: the vacant one of that name, unless a dial or a probe that went out
    /// before may still be answered.
    pub fn enter(&mut self, mut entry: Node) -> NodeIndex {
        let name = Arc::clone(&entry.name);
        let vacant = self.vacant.get(&name).copied().filter(|&node| {
            let old = self.get(node);
            !old.dialling && !old.probing
        });
        let node = match vacant {
            Some(node) => {
                self.vacant.remove(&name);
                let old = self.get_mut(node);
                entry.touched = old.touched;
                entry.attention_at = old.attention_at;
                *old = entry;
                node
            }
            None => {
                self.nodes.push(entry);
                (self.nodes.len() - 1) as NodeIndex
            }
        };
        self.names.insert(name, node);
        node
    }

    /// A removed node without an offer has ended: nothing of its record stays but the name.
    pub fn vacate(&mut self, node: NodeIndex) {
        self.leaving.remove(&node);
        let old = self.get_mut(node);
        let vacant = Node {
            state: State::Dead,
            reason: String::new(),
            removed: true,
            touched: old.touched,
            attention_at: old.attention_at,
            dialling: old.dialling,
            probing: old.probing,
            ..Node::new(Arc::clone(&old.name), Reach::Joins)
        };
        let name = Arc::clone(&vacant.name);
        *old = vacant;
        self.vacant.insert(name, node);
    }

    /// The index of a kind at a node, and whether it blocks there.
    pub fn kind_at(&self, node: NodeIndex, kind: KindId) -> Option<(u16, bool)> {
        let offer = self.nodes[node as usize].offer?;
        self.offers[offer as usize]
            .as_ref()?
            .index
            .get(&kind)
            .copied()
    }
}

impl PlacesOf for Roster {
    fn places(&self, node: NodeIndex) -> &Places {
        &self.nodes[node as usize].places
    }

    fn places_mut(&mut self, node: NodeIndex) -> &mut Places {
        &mut self.nodes[node as usize].places
    }
}
