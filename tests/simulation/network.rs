//! The virtual network: dials, connections, delays, cuts and resets.
//!
//! Owns: what is in flight and when it arrives. Does not know: what the messages are for.

use std::collections::VecDeque;

use callboard::__internals::engine::message::{Report, ToNode, ToScheduler};
use callboard::__internals::engine::node::NodeEvent;
use callboard::__internals::engine::{Event, LinkId, NodeId};

use crate::cluster::{Cluster, Ev};
use crate::neighbour::{ADDRESS, FIRST_NEIGHBOUR};
use crate::nodes::{Death, NodeIn};
use crate::plan::{MS, NEVER, SECOND, Time};

/// The scheduler's end of a link and the direction towards the node.
pub const DOWN: usize = 0;
/// The node's end of a link and the direction towards the scheduler.
pub const UP: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whoever is at this end has not been told yet that the link is open.
    NotYet,
    Open,
    Closed,
}

#[derive(Debug)]
pub enum Item {
    ToNode(ToNode),
    ToScheduler(ToScheduler),
    /// A part of a large message.
    Chunk,
    Fin(String),
}

#[derive(Debug, Default)]
pub struct Pipe {
    queue: VecDeque<(Time, Item)>,
    last: Time,
    held_until: Time,
    under_way: bool,
    pub cut_until: Time,
}

/// Which scheduler is at one end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one that is judged.
    Own,
    Neighbours,
}

impl Whose {
    pub fn of_life(life: usize) -> Self {
        match life < FIRST_NEIGHBOUR {
            true => Self::Own,
            false => Self::Neighbours,
        }
    }
}

#[derive(Debug)]
pub struct Link {
    pub id: LinkId,
    pub proc: usize,
    pub whose: Whose,
    /// The term of that scheduler.
    pub term: usize,
    pub local: bool,
    /// Indexed by [`DOWN`] (the scheduler's) and [`UP`] (the node's).
    pub ends: [End; 2],
    /// Indexed by direction: [`DOWN`] is towards the node.
    pub pipes: [Pipe; 2],
    pub broken: bool,
    pub dialler: Dialler,
}

#[derive(Clone, Debug)]
pub enum Dialler {
    Scheduler(NodeId),
    Neighbour(NodeId),
    Node(String),
    /// Inside one process.
    Local(NodeId),
}

impl Dialler {
    /// Returns which scheduler dials or is dialled.
    pub fn whose(&self) -> Whose {
        match self {
            Self::Neighbour(_) => Whose::Neighbours,
            Self::Node(address) if address == ADDRESS => Whose::Neighbours,
            _ => Whose::Own,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Dial {
    pub dialler: Dialler,
    /// The process that dials, if it is a node.
    pub proc: usize,
    pub term: usize,
    pub address: String,
    pub until: Time,
    /// A probe is a dial that is closed at once.
    pub probe: Option<callboard::__internals::engine::Incarnation>,
}

/// A machine's share of the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// Indexed by direction.
    pub cut_until: [Time; 2],
    pub slow_until: Time,
    pub bytes_per_ms: u64,
}

impl Host {
    pub fn is_cut(&self, now: Time) -> bool {
        self.cut_until.iter().any(|&until| now < until)
    }
}

impl Cluster {
    pub fn delay(&mut self, local: bool) -> Time {
        if local {
            return self.rng.u64(..20_000);
        }
        let net = &self.plan.net;
        if net.spike > 0 && !self.quiet && self.rng.u32(..net.spike) == 0 {
            return 200 * MS;
        }
        self.rng.u64(net.min..=net.max)
    }

    pub fn is_blocked(&self, link: usize, direction: usize) -> bool {
        let it = &self.links[link];
        let host = self.procs[it.proc].host;
        it.ends[1 - direction] == End::NotYet
            || self.now < it.pipes[direction].cut_until
            || (it.whose == Whose::Neighbours && self.neighbour.is_cut(direction, self.now))
            || (!it.local && self.now < self.hosts[host].cut_until[direction])
    }

    /// Puts an item on its way. `direction` is also the index of the end that sends.
    pub fn send(&mut self, link: usize, direction: usize, item: Item) {
        let it = &self.links[link];
        if it.ends[direction] != End::Open {
            return;
        }
        if it.broken {
            // Whoever writes to a dead connection is told so, unless the answer is cut off too.
            if !self.is_blocked(link, 1 - direction) {
                let delay = self.delay(false);
                self.after(
                    delay,
                    Ev::Closed {
                        link,
                        end: direction,
                        reason: "reset by peer",
                    },
                );
            }
            return;
        }
        let local = it.local;
        let host = self.hosts[self.procs[it.proc].host];
        let delay = self.delay(local);
        let bytes = size(&item);
        let mut at = (self.now + delay).max(self.links[link].pipes[direction].last + 1);
        let mut chunks = Vec::new();
        if !local && self.now < host.slow_until {
            // A driver splits what is large, so that a beat is never behind more than a quarter
            // lease.
            let quarter = crate::plan::nanos(self.plan.config.lease) / 4;
            let span = (bytes / host.bytes_per_ms * MS).min(quarter);
            let parts = span / (400 * MS);
            chunks.extend((1..=parts).map(|part| at + part * 400 * MS - 1));
            at += span;
        }
        let pipe = &mut self.links[link].pipes[direction];
        for chunk in chunks {
            pipe.queue.push_back((chunk, Item::Chunk));
        }
        if matters(&item) {
            self.in_flight += 1;
        }
        pipe.queue.push_back((at, item));
        pipe.last = at;
        self.pump(link, direction);
    }

    /// Sees to it that the next item of a direction arrives in its time.
    pub fn pump(&mut self, link: usize, direction: usize) {
        if self.is_blocked(link, direction) {
            return;
        }
        let pipe = &mut self.links[link].pipes[direction];
        if pipe.under_way {
            return;
        }
        if let Some((at, _)) = pipe.queue.front() {
            let at = (*at).max(pipe.held_until).max(self.now);
            pipe.under_way = true;
            self.at(at, Ev::Deliver { link, direction });
        }
    }

    pub fn deliver(&mut self, link: usize, direction: usize) {
        self.links[link].pipes[direction].under_way = false;
        if self.is_blocked(link, direction) {
            return;
        }
        let now = self.now;
        let pipe = &mut self.links[link].pipes[direction];
        // What this delivery was for may have been dropped since.
        if pipe.queue.front().is_some_and(|(at, _)| *at > now) {
            self.pump(link, direction);
            return;
        }
        let Some((_, item)) = pipe.queue.pop_front() else {
            return;
        };
        if matters(&item) {
            self.in_flight -= 1;
        }
        self.arrive(link, direction, item);
        self.pump(link, direction);
    }

    pub fn arrive(&mut self, link: usize, direction: usize, item: Item) {
        let (id, proc, whose, end) = {
            let it = &self.links[link];
            (it.id, it.proc, it.whose, it.ends[1 - direction])
        };
        if end == End::Closed {
            if !self.is_blocked(link, 1 - direction) {
                let delay = self.delay(false);
                self.after(
                    delay,
                    Ev::Closed {
                        link,
                        end: direction,
                        reason: "reset by peer",
                    },
                );
            }
            return;
        }
        self.trace.mix((id.0, direction));
        match item {
            Item::ToNode(message) => {
                self.tell_node(
                    proc,
                    NodeIn::Event(NodeEvent::Message { link: id, message }),
                );
            }
            Item::ToScheduler(message) => {
                self.tell(whose, Event::Message { link: id, message });
            }
            Item::Chunk if direction == DOWN => {
                self.tell_node(proc, NodeIn::Event(NodeEvent::Heard { link: id }));
            }
            Item::Chunk => self.tell(whose, Event::Heard { link: id }),
            Item::Fin(reason) => self.closed(link, 1 - direction, &reason),
        }
    }

    /// Lets an end learn that its connection is closed.
    pub fn closed(&mut self, link: usize, end: usize, reason: &str) {
        let it = &mut self.links[link];
        let before = std::mem::replace(&mut it.ends[end], End::Closed);
        let (id, proc, dialler) = (it.id, it.proc, it.dialler.clone());
        let (whose, term) = (it.whose, it.term);
        if end == DOWN && term != self.term_of(whose) {
            return;
        }
        match (before, end) {
            (End::Closed, _) => {}
            (End::Open, DOWN) => {
                let reason = reason.to_owned();
                self.tell(whose, Event::LinkClosed { link: id, reason });
            }
            (End::Open, _) => self.tell_node(
                proc,
                NodeIn::Event(NodeEvent::LinkClosed {
                    link: id,
                    reason: reason.to_owned(),
                }),
            ),
            (End::NotYet, _) => self.dial_failed(dialler, proc, end, false, reason),
        }
        // The other direction can bring nothing more to this end.
        self.drop_queue(link, 1 - end);
    }

    pub fn drop_queue(&mut self, link: usize, direction: usize) {
        let queue = std::mem::take(&mut self.links[link].pipes[direction].queue);
        self.in_flight -= queue.iter().filter(|(_, item)| matters(item)).count();
    }

    /// Lets a machine close a link by itself.
    pub fn close(&mut self, link: usize, end: usize, reason: String) {
        self.send(link, end, Item::Fin(reason));
        let delay = self.rng.u64(..2 * MS);
        self.after(
            delay,
            Ev::Closed {
                link,
                end,
                reason: "closed by this side",
            },
        );
    }

    /// Breaks a connection though both processes live.
    pub fn reset(&mut self, link: usize, tell: [bool; 2]) {
        self.links[link].broken = true;
        for end in [DOWN, UP] {
            self.drop_queue(link, end);
            if tell[end] {
                let delay = self.delay(false);
                self.after(
                    delay,
                    Ev::Closed {
                        link,
                        end,
                        reason: "connection reset",
                    },
                );
            }
        }
    }

    /// Abandons an end whose process is gone. Its machine says so to the other end, if that lives
    /// itself.
    pub fn abandon(&mut self, link: usize, end: usize, death: Death) {
        if self.links[link].ends[end] == End::Closed {
            return;
        }
        if death != Death::Exit && self.rng.bool() {
            // A reset overtakes what was not read.
            self.drop_queue(link, end);
        }
        if death != Death::Machine {
            match self.links[link].ends[end] {
                End::Open => self.send(link, end, Item::Fin("the process ended".to_owned())),
                _ => {
                    let delay = self.delay(false);
                    self.after(
                        delay,
                        Ev::Closed {
                            link,
                            end: 1 - end,
                            reason: "the process ended",
                        },
                    );
                }
            }
        }
        self.links[link].ends[end] = End::Closed;
        self.drop_queue(link, 1 - end);
    }

    /// Lets flow again what was held.
    pub fn heal(&mut self, hosts: bool) {
        for link in 0..self.links.len() {
            for direction in [DOWN, UP] {
                let waits = {
                    let pipe = &self.links[link].pipes[direction];
                    !pipe.under_way && !pipe.queue.is_empty()
                };
                if waits && !self.is_blocked(link, direction) {
                    // The sender's next retransmission is some time away.
                    let most = if hosts { 700 * MS } else { 10 * MS };
                    let pause = self.rng.u64(..most);
                    self.links[link].pipes[direction].held_until = self.now + pause;
                    self.pump(link, direction);
                }
            }
        }
    }

    /// Finds the newest link of a process that is open on both sides.
    pub fn newest_link(&self, proc: usize) -> Option<usize> {
        (0..self.links.len()).rev().find(|&link| {
            let it = &self.links[link];
            it.proc == proc
                && it.whose == Whose::Own
                && !it.local
                && !it.broken
                && it.ends == [End::Open; 2]
        })
    }

    /// Tells the scheduler at the end of a link.
    pub fn tell(&mut self, whose: Whose, event: Event) {
        match whose {
            Whose::Own => self.tell_scheduler(event),
            Whose::Neighbours => self.tell_neighbour(event),
        }
    }

    pub fn term_of(&self, whose: Whose) -> usize {
        match whose {
            Whose::Own => self.term(),
            Whose::Neighbours => self.neighbour.term(),
        }
    }

    pub fn link_index(&self, id: LinkId) -> usize {
        usize::try_from(id.0).unwrap() - 1
    }

    pub fn is_network_whole(&self) -> bool {
        self.hosts
            .iter()
            .all(|host| !host.is_cut(self.now) && self.now >= host.slow_until)
            && self.links.iter().all(|link| {
                link.pipes.iter().all(|pipe| pipe.cut_until <= self.now)
                    && !(link.broken && link.ends.contains(&End::Open))
            })
    }

    pub fn cut_host(&mut self, host: usize, up: bool, down: bool, span: Time) {
        let until = if span == NEVER {
            NEVER
        } else {
            self.now + span
        };
        for (direction, cut) in [(DOWN, down), (UP, up)] {
            if cut {
                let cut_until = &mut self.hosts[host].cut_until[direction];
                *cut_until = until.max(*cut_until);
            }
        }
        if until != NEVER {
            self.at(until, Ev::Heal { hosts: true });
        }
    }

    pub fn cut_link(&mut self, link: usize, up: bool, down: bool, span: Time) {
        let until = self.now + span;
        for (direction, cut) in [(DOWN, down), (UP, up)] {
            if cut {
                self.links[link].pipes[direction].cut_until = until;
            }
        }
        self.at(until, Ev::Heal { hosts: false });
    }

    pub fn slow_host(&mut self, host: usize, bytes_per_ms: u64, span: Time) {
        self.hosts[host].slow_until = self.now + span.min(30 * SECOND);
        self.hosts[host].bytes_per_ms = bytes_per_ms.max(1);
    }
}

/// Returns whether an item may change what runs where. An answer may: it makes a node ready whose
/// lease had ended.
pub fn matters(item: &Item) -> bool {
    !matches!(
        item,
        Item::ToNode(ToNode::Acknowledge(_))
            | Item::ToScheduler(ToScheduler::Beat(_))
            | Item::Chunk
    )
}

pub fn size(item: &Item) -> u64 {
    let body = match item {
        Item::ToNode(ToNode::Assign(assignments)) => {
            assignments.iter().map(|it| 40 + it.args.len()).sum()
        }
        Item::ToScheduler(ToScheduler::Reports(reports)) => reports.iter().map(report_size).sum(),
        Item::ToScheduler(ToScheduler::Holding(holding)) => {
            holding.runs.len() * 20 + holding.reports.iter().map(report_size).sum::<usize>()
        }
        _ => 30,
    };
    30 + body as u64
}

pub fn report_size(report: &Report) -> usize {
    match report {
        Report::Ended { .. } => 100,
        Report::Progress { value, .. } => 30 + value.len(),
        Report::Note { text, .. } => 30 + text.len(),
        _ => 20,
    }
}
