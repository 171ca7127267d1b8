//! Links, as an actor has them: how one attaches, what is heard of it, and the way out.
//!
//! Owns: which link's messages go out where, what of a turn has still to go out, and the link
//! between two actors of one process. Does not know: sockets, or what messages mean.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::engine::message::{ToNode, ToScheduler};
use crate::engine::node::NodeEvent;
use crate::engine::{Event, LinkId, NodeId, Origin};
use crate::error::LinkRefusal;
use crate::inbox::Inbox;

/// What a machine hears of its links: an [`Event`] on the scheduler's side, a [`NodeEvent`] on the
/// node's.
pub trait LinkFact: Sized + Send + 'static {
    /// What arrives.
    type In: Send + 'static;
    /// What is sent.
    type Out: Send + 'static;
    /// Who is dialled.
    type Peer: Send + 'static;

    /// Tells that a proved connection is open.
    fn opened(link: LinkId, origin: Origin<Self::Peer>, ends: Ends) -> Self;
    /// Tells that a message has arrived.
    fn message(link: LinkId, message: Self::In) -> Self;
    /// Tells that a part of a message has arrived.
    fn heard(link: LinkId) -> Self;
    /// Tells that what has arrived is no message. `None` where the close that follows says as much.
    fn malformed(link: LinkId, reason: String) -> Option<Self>;
    /// Tells that a connection is closed, by whichever side.
    fn closed(link: LinkId, reason: String) -> Self;
    /// Tells that a dial did not lead to a link; `refused` says whether the address answered that
    /// nobody listens there.
    fn dial_failed(peer: Self::Peer, refused: bool, reason: String) -> Self;
    /// Returns the link, if this says that it is closed.
    fn closes(&self) -> Option<LinkId>;
    /// Returns the message that refuses a link.
    fn refuse(refusal: LinkRefusal) -> Self::Out;
}

impl LinkFact for Event {
    type In = ToScheduler;
    type Out = ToNode;
    type Peer = NodeId;

    fn opened(link: LinkId, origin: Origin, ends: Ends) -> Self {
        Self::LinkOpened {
            link,
            origin,
            peer: ends.theirs,
        }
    }

    fn message(link: LinkId, message: ToScheduler) -> Self {
        Self::Message { link, message }
    }

    fn heard(link: LinkId) -> Self {
        Self::Heard { link }
    }

    fn malformed(link: LinkId, reason: String) -> Option<Self> {
        Some(Self::Malformed { link, reason })
    }

    fn closed(link: LinkId, reason: String) -> Self {
        Self::LinkClosed { link, reason }
    }

    fn dial_failed(node: NodeId, refused: bool, reason: String) -> Self {
        Self::DialFailed {
            node,
            refused,
            reason,
        }
    }

    fn closes(&self) -> Option<LinkId> {
        match self {
            Self::LinkClosed { link, .. } => Some(*link),
            _ => None,
        }
    }

    fn refuse(refusal: LinkRefusal) -> ToNode {
        ToNode::Refuse(refusal)
    }
}

impl LinkFact for NodeEvent {
    type In = ToNode;
    type Out = ToScheduler;
    /// The address.
    type Peer = String;

    fn opened(link: LinkId, origin: Origin<String>, ends: Ends) -> Self {
        let dialled = match origin {
            Origin::Dialled(address) => Some(address),
            Origin::Came(_) => None,
        };
        Self::LinkOpened {
            link,
            dialled,
            address: ends.ours,
        }
    }

    fn message(link: LinkId, message: ToNode) -> Self {
        Self::Message { link, message }
    }

    fn heard(link: LinkId) -> Self {
        Self::Heard { link }
    }

    fn malformed(_: LinkId, _: String) -> Option<Self> {
        None
    }

    fn closed(link: LinkId, reason: String) -> Self {
        Self::LinkClosed { link, reason }
    }

    fn dial_failed(address: String, _: bool, reason: String) -> Self {
        Self::DialFailed { address, reason }
    }

    fn closes(&self) -> Option<LinkId> {
        match self {
            Self::LinkClosed { link, .. } => Some(*link),
            _ => None,
        }
    }

    fn refuse(refusal: LinkRefusal) -> ToScheduler {
        ToScheduler::Refuse(refusal)
    }
}

/// The way out of one link. Must not block.
pub trait LinkSender<M>: Send {
    /// Sends what a turn had to say, in order. If the link is closed, it is dropped. `at_once` says
    /// that the caller has nothing else to do: it may go out before this returns, if that spares
    /// another thread's wake-up.
    fn send(&self, batch: Vec<M>, at_once: bool);
    /// Closes the link after what was sent before.
    fn close(self: Box<Self>, reason: String);
}

/// What opens links for an actor. Must not block. Every answer comes into the actor's inbox.
pub trait Connector<E: LinkFact>: Send {
    /// Dials; answered once, by [`Incoming::Attach`] or [`LinkFact::dial_failed`]. It is refused if
    /// the address at which the peer was found refuses, or without one each that the name stands
    /// for. It may take as long as a handshake may, and no longer than `within`.
    fn dial(
        &self,
        peer: E::Peer,
        address: String,
        found_at: Option<String>,
        within: Option<Duration>,
    );
    /// Looks whether anybody listens; answered once, by what `fact` makes of whether the address
    /// answered that nobody does.
    fn probe(&self, address: String, fact: Box<dyn FnOnce(bool) -> E + Send>);
}

/// The addresses of both ends of a connection, as its socket has them; empty within a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The address of this side.
    pub ours: String,
    /// The address of the other side.
    pub theirs: String,
}

/// What comes into the inbox of an actor that has links, in order.
pub enum Incoming<E: LinkFact> {
    /// A fact for the machine.
    Event(E),
    /// A proved connection is open.
    Attach {
        /// The connection.
        link: LinkId,
        /// Who began it.
        origin: Origin<E::Peer>,
        /// Where it ends.
        ends: Ends,
        /// The way out.
        sender: Box<dyn LinkSender<E::Out>>,
    },
}

impl<E: LinkFact + fmt::Debug> fmt::Debug for Incoming<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Attach { link, .. } => f
                .debug_struct("Attach")
                .field("link", link)
                .finish_non_exhaustive(),
        }
    }
}

impl<E: LinkFact> From<E> for Incoming<E> {
    fn from(event: E) -> Self {
        Self::Event(event)
    }
}

/// The links of an actor, and what its turn has to say on each.
pub(crate) struct Links<E: LinkFact> {
    open: HashMap<LinkId, Way<E::Out>>,
    /// The links on which something has to go out.
    spoken: Vec<LinkId>,
}

struct Way<M> {
    sender: Box<dyn LinkSender<M>>,
    batch: Vec<M>,
}

impl<M> Way<M> {
    fn flush(&mut self, at_once: bool) {
        if !self.batch.is_empty() {
            self.sender.send(std::mem::take(&mut self.batch), at_once);
        }
    }

    fn close(mut self, reason: String) {
        self.flush(false);
        self.sender.close(reason);
    }
}

impl<E: LinkFact> Links<E> {
    pub fn new() -> Self {
        Self {
            open: HashMap::new(),
            spoken: Vec::new(),
        }
    }

    /// Takes note of what has come in; returns it as the machine is to hear it.
    #[inline]
    pub fn hear(&mut self, incoming: Incoming<E>) -> E {
        match incoming {
            Incoming::Event(event) => {
                // What the machine still says on it has nowhere to go.
                if let Some(link) = event.closes() {
                    self.open.remove(&link);
                }
                event
            }
            Incoming::Attach {
                link,
                origin,
                ends,
                sender,
            } => {
                let batch = Vec::new();
                self.open.insert(link, Way { sender, batch });
                E::opened(link, origin, ends)
            }
        }
    }

    /// Sends a message by the end of the turn. If the link is closed, it is dropped.
    pub fn send(&mut self, link: LinkId, message: E::Out) {
        if let Some(way) = self.open.get_mut(&link) {
            // Each link that has something to say stands in the list once.
            if way.batch.is_empty() {
                self.spoken.push(link);
            }
            way.batch.push(message);
        }
    }

    /// Closes a link after what was sent before.
    pub fn close(&mut self, link: LinkId, reason: String) {
        if let Some(way) = self.open.remove(&link) {
            way.close(reason);
        }
    }

    /// Sends what the turn had to say. It may only go out at once if it is all for one link.
    pub fn flush(&mut self, at_once: bool) {
        // To write to several would keep the last of them waiting for the others.
        let at_once = at_once && self.spoken.len() <= 1;
        for link in self.spoken.drain(..) {
            if let Some(way) = self.open.get_mut(&link) {
                way.flush(at_once);
            }
        }
    }

    /// Closes the inbox and all links, those too that the actor has not heard of yet.
    pub fn end(&mut self, inbox: &Inbox<Incoming<E>>, reason: &str) {
        inbox.close();
        let mut rest = Vec::new();
        inbox.take(&mut rest);
        // A link that has just attached is opened here, so that it is closed below.
        for incoming in rest {
            self.hear(incoming);
        }
        for (_, way) in self.open.drain() {
            way.close(reason.to_owned());
        }
    }
}

/// The way out of a link to an actor of this process: its inbox.
struct Inside<E: LinkFact> {
    link: LinkId,
    inbox: Inbox<Incoming<E>>,
}

impl<E: LinkFact> LinkSender<E::In> for Inside<E> {
    fn send(&self, batch: Vec<E::In>, _: bool) {
        let facts = batch.into_iter().map(|it| E::message(self.link, it));
        self.inbox.extend(facts.map(Incoming::Event));
    }

    fn close(self: Box<Self>, reason: String) {
        self.inbox.push(E::closed(self.link, reason).into());
    }
}

/// Joins a node of this process to a scheduler; returns the scheduler's way out.
pub(crate) fn join(
    link: LinkId,
    node: &Inbox<Incoming<NodeEvent>>,
    scheduler: &Inbox<Incoming<Event>>,
) -> Box<dyn LinkSender<ToNode>> {
    let inbox = scheduler.clone();
    node.push(Incoming::Attach {
        link,
        origin: Origin::Came("localhost".to_owned()),
        ends: Ends::default(),
        sender: Box::new(Inside { link, inbox }),
    });
    let inbox = node.clone();
    Box::new(Inside { link, inbox })
}
