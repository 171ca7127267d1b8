//! What is believed of each node: its state, its process, its load, when it was last heard, and
//! which runs may still be going on there.
//!
//! Owns: the node records. Does not know: what nodes offer (see the catalogue), the tasks' states,
//! what follows from a loss, which process of a node counts ([`state`]), one process of that
//! ([`process`]), the runs that are no longer followed ([`orphans`]), how much a node takes
//! ([`load`]), in which order its tasks wait ([`line`]), what is to be sent to it ([`channel`]),
//! when its lease ends ([`lease`]), where it is asked for ([`asking`]), or when ([`redial`]).

mod asking;
mod channel;
mod lease;
mod line;
mod load;
mod orphans;
mod process;
mod redial;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::Candidate;
use super::message::ToNode;
use super::placement::{NodeIndex, Room};
use super::queue::Turn;
use super::tasks::{Company, List};
use super::{Incarnation, LinkId, Reach, Timestamp};
use crate::task::Dispatch;

pub(crate) use channel::Channel;
pub(crate) use lease::{Expired, Lease};
use line::Line;
pub(crate) use load::Load;
pub(crate) use orphans::{LimitsOf, Orphan, Waiter, WaitingCancels, Witness};
pub(crate) use process::{NodeProcess, Pace, Readiness, Standing};
pub(crate) use redial::Redial;
pub(crate) use state::{Drain, State};

#[derive(Debug)]
pub(crate) struct Node {
    pub name: Arc<str>,
    pub reach: Reach,
    pub state: State,
    pub reason: String,
    pub drain: Option<Drain>,
    /// An operator's word whether a refusal at its address means that its process is dead; without
    /// it the addresses decide that both sides see.
    pub refusal_means_dead: Option<bool>,

    /// Processes that others have replaced, and what the present one has forgotten. Each is kept
    /// for as long as runs of it may be going on, and some after that, so that they are refused if
    /// they return.
    pub past: Vec<NodeProcess>,
    /// The link on which it is being set up.
    pub handshake: Option<LinkId>,

    /// What runs there, in order of their starts.
    pub runs: List,
    /// What was prefetched to it and has not started.
    pub line: Line,
    pub load: Load,
    /// How many of its runs are not sent yet, since it is not stored that they are placed.
    pub staged: u32,
    pub settled: u64,
    /// Links of it that were closed because it broke the protocol.
    pub violations: u64,

    pub last_heard: Timestamp,
    /// Whether it is among those with something to send or a load to be entered.
    pub touched: bool,
    pub redial: Redial,
    /// The address that the dial which is out was to ask.
    pub asked_at: Option<String>,
}

impl Node {
    pub fn new(name: Arc<str>, reach: Reach) -> Self {
        Self {
            name,
            reach,
            state: State::Connecting,
            reason: "it was not reached so far".to_owned(),
            drain: None,
            refusal_means_dead: None,
            past: Vec::new(),
            handshake: None,
            runs: List::default(),
            line: Line::default(),
            load: Load::default(),
            staged: 0,
            settled: 0,
            violations: 0,
            last_heard: Timestamp(0),
            touched: false,
            redial: Redial::default(),
            asked_at: None,
        }
    }

    /// Returns whether nothing is heard of it: it has no link, or its link has been silent for so
    /// long.
    pub fn is_silent(&self, now: Timestamp, silence: Duration) -> bool {
        !self.is_up() || self.last_heard + silence <= now
    }

    pub fn is_local(&self) -> bool {
        self.reach == Reach::Local
    }

    /// Returns its link, if that is up.
    pub fn link(&self) -> Option<LinkId> {
        self.channel().map(Channel::link)
    }

    /// Returns what goes out on its link, if that is up.
    pub fn channel(&self) -> Option<&Channel> {
        match &self.latest_process()?.standing {
            Standing::Up(channel) => Some(channel),
            Standing::Reconnecting | Standing::Lost => None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.channel().is_some()
    }

    /// Returns the process that may be alive.
    pub fn latest_process(&self) -> Option<&NodeProcess> {
        self.state.latest_process()
    }

    pub fn latest_process_mut(&mut self) -> Option<&mut NodeProcess> {
        self.state.latest_process_mut()
    }

    /// Returns the process of a node that has said hello, or has had runs since: it is there until
    /// it has ended or was replaced, and its link and its runs go before it.
    pub fn process(&self) -> &NodeProcess {
        self.latest_process()
            .expect("a link and runs are a process's")
    }

    pub fn process_mut(&mut self) -> &mut NodeProcess {
        self.latest_process_mut()
            .expect("a link and runs are a process's")
    }

    /// Returns what goes out to a node that is up.
    pub fn channel_mut(&mut self) -> &mut Channel {
        self.state.channel_mut().expect("the node is up")
    }

    /// Returns the process whose lease runs: up, or reconnecting. Only such a one has tasks.
    pub fn leased(&self) -> Option<&NodeProcess> {
        self.latest_process().filter(|process| !process.is_lost())
    }

    /// Returns whether it was taken out by hand.
    pub fn is_removed(&self) -> bool {
        matches!(self.state, State::Leaving(_) | State::Vacant | State::Free)
    }

    /// Takes it out by hand.
    pub fn leave(&mut self) {
        self.state = State::Leaving(self.state.take_latest_process());
    }

    /// Returns whether it was taken out by hand, and processes of it are waited for.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving(_))
    }

    /// Tells it to stop a run, if it is up. What it still has when its link comes up is compared
    /// then.
    pub fn cancel(&mut self, dispatch: Dispatch) {
        if let Some(channel) = self.state.channel_mut() {
            channel.cancel(dispatch);
        }
    }

    /// Returns whether no process of the node is known to be alive, and the scheduler looks for
    /// none: the node was taken out by hand and has ended, or it had joined and was lost.
    pub fn is_away(&self) -> bool {
        match &self.state {
            State::Vacant => true,
            State::Connecting | State::Dead => self.reach == Reach::Joins,
            State::Member(process) => self.reach == Reach::Joins && process.is_lost(),
            State::Leaving(_) | State::Free => false,
        }
    }

    /// Returns whether a node is away and nothing of it is waited for: no end of a lease or of an
    /// orphaned run, and no link. A process that died with its machine is probed for ever, so a
    /// probe keeps no node.
    pub fn is_gone(&self, now: Timestamp, margin: Duration) -> bool {
        let over = |process: &NodeProcess| {
            process.orphans.is_empty() && process.lease.safe_at() + margin <= now
        };
        self.is_away() && !self.redial.is_dialling() && self.processes().all(over)
    }

    /// Returns whether only its name is left, if that.
    pub fn is_vacant(&self) -> bool {
        matches!(self.state, State::Vacant | State::Free)
    }

    /// Returns the incarnation of its process, if one may be alive.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.latest_process().map(|process| process.incarnation)
    }

    /// Returns its process and the replaced ones.
    pub fn processes(&self) -> impl Iterator<Item = &NodeProcess> {
        self.latest_process().into_iter().chain(&self.past)
    }

    /// Returns whether this is its process, or a replaced one that is on record.
    pub fn has_lived(&self, incarnation: Incarnation) -> bool {
        self.processes()
            .any(|process| process.incarnation == incarnation)
    }

    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut NodeProcess> {
        let current = self.state.latest_process_mut();
        current.into_iter().chain(&mut self.past)
    }

    /// Returns the incarnations that were lost: runs of theirs may be going on.
    pub fn lost_processes(&self) -> impl Iterator<Item = &NodeProcess> {
        let current = self.latest_process().into_iter();
        current
            .filter(|process| process.is_lost())
            .chain(&self.past)
    }

    /// Returns how many workers are occupied by runs that are no longer followed: none if no
    /// process is there to have any.
    pub fn orphan_count(&self) -> usize {
        self.latest_process()
            .map_or(0, |process| process.orphans.len())
    }

    /// Counts the workers that are taken, or out of reach.
    pub fn taken(&self) -> u32 {
        self.load.taken(self.orphan_count())
    }

    /// Returns how many free workers it has that nothing waits for yet.
    pub fn free_workers(&self) -> u32 {
        self.load.free(self.orphan_count())
    }

    /// Returns what its process says of itself.
    pub fn readiness(&self) -> Readiness {
        let process = self.latest_process();
        process.map_or(Readiness::Ready, |process| process.readiness)
    }

    /// Asks its current incarnation, or the next one, to drain. Returns whether none was asked
    /// before.
    pub fn drain(&mut self) -> bool {
        let drain = self.incarnation().map_or(Drain::Next, Drain::Of);
        self.drain.replace(drain).is_none()
    }

    /// Forgets what was asked of the incarnation before this one, for which it does not hold.
    pub fn drain_follows(&mut self, incarnation: Incarnation) {
        self.drain = self.drain.and_then(|drain| drain.follows(incarnation));
    }

    /// Returns whether it drains, by whose wish ever.
    pub fn drains(&self) -> bool {
        self.drain.is_some() || self.readiness() == Readiness::Leaving
    }

    /// Returns whether it counts among the nodes that could run something.
    pub fn takes_tasks(&self) -> bool {
        self.is_up() && !self.drains() && !self.is_removed()
    }

    /// Returns how much may be placed on it.
    #[inline]
    pub fn room(&self, max_prefetch: u32) -> Room {
        if !self.takes_tasks() || self.readiness() != Readiness::Ready {
            return Room::None;
        }
        // What is prefetched would take the worker of a run that is sent after it.
        let max_prefetch = if self.staged > 0 { 0 } else { max_prefetch };
        self.load.room(self.orphan_count(), max_prefetch)
    }

    /// Returns whether it waits for the acknowledgement of its reports: to start something, or to
    /// be gone.
    fn waits(&self) -> bool {
        self.load.tally().prefetched > 0
            || self.readiness() != Readiness::Ready
            || self.drain.is_some()
    }

    /// Returns whether an acknowledgement is owed, and due or in company.
    pub fn owes(&self, company: bool) -> bool {
        let channel = self.channel();
        channel.is_some_and(|channel| channel.owes(company || self.waits()))
    }

    /// Returns what acknowledges its reports, if that is owed, and due or in company.
    pub fn acknowledge(&mut self, company: bool) -> Option<ToNode> {
        if !self.owes(company) {
            return None;
        }
        self.state.channel_mut()?.acknowledged();
        let process = self.latest_process()?;
        Some(ToNode::Acknowledge(process.acknowledged))
    }

    /// Notes a sign of life that names no answer.
    pub fn heard(&mut self, now: Timestamp, lease: Duration) {
        self.last_heard = now;
        if let Some(process) = self.state.latest_process_mut() {
            process.lease.heard(now, lease);
        }
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub nodes: Vec<Node>,
    pub names: BTreeMap<Arc<str>, NodeIndex>,
    /// Nodes that were taken out by hand and have not ended.
    pub leaving: BTreeSet<NodeIndex>,
    /// Vacant records by the name that they keep: tasks may still say that they have run there.
    pub vacant: BTreeMap<Arc<str>, NodeIndex>,
    /// Records that name no node.
    pub free: Vec<NodeIndex>,
    /// How many nodes may be away by now.
    pub away: usize,
    /// With more than this away, those that are gone are looked for.
    pub look_above: usize,
    /// And at that time, too: until then some may be waited for.
    pub look_at: Option<Timestamp>,
    /// Nodes with something to send or a load to be entered.
    pub touched: Vec<NodeIndex>,
}

impl Candidate for Roster {
    fn takes_suspect(&self, node: NodeIndex, company: Company) -> bool {
        self.get(node).load.takes_suspect(company)
    }

    fn retracted(&self, node: NodeIndex) -> Option<Turn> {
        self.get(node).load.retracted()
    }
}

impl Roster {
    #[inline]
    pub fn get(&self, node: NodeIndex) -> &Node {
        &self.nodes[node as usize]
    }

    #[inline]
    pub fn get_mut(&mut self, node: NodeIndex) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    #[inline]
    pub fn touch(&mut self, node: NodeIndex) {
        let entry = &mut self.nodes[node as usize];
        if !entry.touched {
            entry.touched = true;
            self.touched.push(node);
        }
    }

    /// Makes a record for a node of this name: the vacant one of that name, if it is kept.
    pub fn enter(&mut self, mut entry: Node) -> NodeIndex {
        let name = Arc::clone(&entry.name);
        let free = self.vacant.remove(&name).or_else(|| self.free.pop());
        let node = match free {
            Some(node) => {
                let old = self.get_mut(node);
                entry.touched = old.touched;
                entry.redial = old.redial.of_another();
                *old = entry;
                node
            }
            None => {
                self.nodes.push(entry);
                (self.nodes.len() - 1) as NodeIndex
            }
        };
        self.names.insert(name, node);
        self.away += 1;
        node
    }

    /// Vacates the record of a removed node without an offer that has ended: nothing but the name
    /// stays.
    pub fn vacate(&mut self, now: Timestamp, node: NodeIndex) {
        self.leaving.remove(&node);
        let old = self.get_mut(node);
        let vacant = Node {
            state: State::Vacant,
            reason: String::new(),
            touched: old.touched,
            redial: std::mem::take(&mut old.redial),
            // By this it is known how long it has been gone.
            last_heard: now,
            ..Node::new(Arc::clone(&old.name), Reach::Joins)
        };
        let name = Arc::clone(&vacant.name);
        *old = vacant;
        self.vacant.insert(name, node);
        self.away += 1;
    }

    /// Forgets a node that is gone and that nobody has named, without an offer. Its record is
    /// another's from now on.
    pub fn forget(&mut self, node: NodeIndex) {
        let old = self.get_mut(node);
        let free = Node {
            state: State::Free,
            touched: old.touched,
            redial: old.redial.of_another(),
            ..Node::new(Arc::from(""), Reach::Joins)
        };
        let name = std::mem::replace(old, free).name;
        // Another may have that name since this one was taken out by hand.
        for index in [&mut self.vacant, &mut self.names] {
            if index.get(&name) == Some(&node) {
                index.remove(&name);
            }
        }
        self.free.push(node);
    }
}
