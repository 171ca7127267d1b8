//! The roads between actors and the network: dials, probes and listeners whose links end in an actor's
//! inbox.
//!
//! Owns: the tasks that carry a link, on a thread where neither user code nor a scheduler runs. Does not
//! know: what the messages mean.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::ArbiterHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::names::{Claiming, Denied, Gate};
use super::told::Told;
use super::{
    LinkCommand, LinkConfig, LinkEvent, Listener, Proved, Role, Trust, WayOut, dial, probe,
    run_link,
};
use crate::actors::scheduler::{Incoming, NodeOutlet, Roads};
use crate::actors::{Dialler, Outlet, Ports};
use crate::engine::message::{ToNode, ToScheduler};
use crate::engine::node::{Gone, NodeEvent};
use crate::engine::{Epoch, Event, LinkId, NodeId, Origin};
use crate::error::LinkRefusal;
use crate::inbox::Inbox;

/// A number that no other link of this process has.
pub fn fresh_link() -> LinkId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How long the last words of links may take when their thread is to end: a peer that does not read must
/// not hold it up. Longer than the default of [`LinkConfig::close_timeout`].
const LAST_WORDS: Duration = Duration::from_secs(4);

/// The links that this thread carries.
struct Traffic {
    open: watch::Sender<usize>,
    parting: watch::Sender<bool>,
}

thread_local! {
    static TRAFFIC: Traffic = Traffic {
        open: watch::Sender::new(0),
        parting: watch::Sender::new(false),
    };
}

/// One link of this thread, while it is carried.
struct Carried(watch::Sender<usize>);

impl Carried {
    fn begin() -> Self {
        let open = TRAFFIC.with(|traffic| traffic.open.clone());
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Accepts nothing more on this thread, and waits until its links, which are told to close, have sent what
/// was given to them: a node that does not hear that its scheduler leaves works on until its lease ends.
pub async fn part() {
    let mut open = TRAFFIC.with(|traffic| {
        traffic.parting.send_replace(true);
        traffic.open.subscribe()
    });
    // Whoever has not read by then does without.
    let _ = tokio::time::timeout(LAST_WORDS, open.wait_for(|open| *open == 0)).await;
}

/// The way out to a node, over a link that runs on the network's thread.
struct ToNodeOutlet {
    way: WayOut<ToNode>,
    /// What was sent in this turn.
    sent: RefCell<Vec<ToNode>>,
}

impl NodeOutlet for ToNodeOutlet {
    fn send(&self, message: ToNode) {
        self.sent.borrow_mut().push(message);
    }

    fn flush(&self, at_once: bool) {
        let mut sent = self.sent.borrow_mut();
        if at_once {
            self.way.send_at_once(&mut sent);
        } else {
            self.way.send(&mut sent);
        }
    }

    fn close(&self, reason: String) {
        self.flush(false);
        self.way.give(LinkCommand::Close(reason));
    }
}

/// The way out to a scheduler.
struct ToSchedulerOutlet(WayOut<ToScheduler>);

impl Outlet for ToSchedulerOutlet {
    fn send(&self, message: ToScheduler) {
        self.0.give(LinkCommand::Send(message));
    }

    fn close(&self, reason: String) {
        self.0.give(LinkCommand::Close(reason));
    }
}

/// The network as a scheduler sees it.
#[derive(Clone)]
pub struct SchedulerRoads {
    /// The thread that carries the links.
    pub network: ArbiterHandle,
    /// What a peer must prove.
    pub trust: Trust,
    /// The settings of the links.
    pub config: LinkConfig,
    /// Where the scheduler hears of what happens.
    pub inbox: Inbox<Incoming>,
    /// Which refusals are told.
    pub told: Told,
}

impl SchedulerRoads {
    /// Accepts nodes that join, on the network's thread, until that is to end.
    pub fn listen(&self, listener: Listener) {
        let roads = self.clone();
        self.network.spawn(async move {
            let accept = |proved, peer: SocketAddr| {
                actix_rt::spawn(roads.clone().carry(
                    proved,
                    Origin::Came(host(peer)),
                    Peer::Came(peer),
                ));
            };
            let mut parting = TRAFFIC.with(|traffic| traffic.parting.subscribe());
            tokio::select! {
                () = listener.run(accept) => {}
                _ = parting.wait_for(|parting| *parting) => {}
            }
        });
    }

    async fn carry(self, proved: Proved, origin: Origin, peer: Peer) {
        let _carried = Carried::begin();
        let link = fresh_link();
        let way = WayOut::new();
        self.inbox.push(Incoming::Attach {
            link,
            origin,
            outlet: Box::new(ToNodeOutlet {
                way: way.clone(),
                sent: RefCell::default(),
            }),
        });
        let inbox = self.inbox;
        let mut guard = Guard::new(&proved, way.clone(), self.told, peer);
        let deliver = move |mut events: Vec<LinkEvent<ToScheduler>>| {
            if !guard.admit(&mut events, ToNode::Refuse) {
                return;
            }
            inbox.extend(events.into_iter().map(|event| match event {
                LinkEvent::Message(message) => Incoming::message(link, message),
                LinkEvent::Heard => Incoming::Event(Event::Heard { link }),
                LinkEvent::Malformed(reason) => Incoming::Event(Event::Malformed { link, reason }),
                LinkEvent::Closed(reason) => Incoming::Event(Event::LinkClosed { link, reason }),
            }));
        };
        run_link(proved, self.config, way, deliver).await;
    }
}

impl Roads for SchedulerRoads {
    fn dial(&self, node: NodeId, address: String) {
        let roads = self.clone();
        self.network.spawn(async move {
            match dial(&address, &roads.trust, Role::Scheduler, &roads.config).await {
                Ok(proved) => {
                    let peer = Peer::Dialled(address);
                    actix_rt::spawn(roads.carry(proved, Origin::Dialled(node), peer));
                }
                Err(error) => roads.inbox.push(Incoming::Event(Event::DialFailed {
                    node,
                    refused: error.refused,
                    reason: error.to_string(),
                })),
            }
        });
    }

    fn probe(&self, node: NodeId, epoch: Epoch, address: String) {
        let inbox = self.inbox.clone();
        self.network.spawn(async move {
            let refused = probe(&address).await;
            inbox.push(Incoming::Event(Event::Probed {
                node,
                epoch,
                refused,
            }));
        });
    }
}

/// The other side of a link.
enum Peer {
    Came(SocketAddr),
    Dialled(String),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Came(address) => address.fmt(f),
            Self::Dialled(address) => address.fmt(f),
        }
    }
}

/// Stands at the beginning of a link.
struct Guard<Out> {
    gate: Gate,
    answers: WayOut<Out>,
    told: Told,
    peer: Peer,
    /// When the last events passed.
    passed: Option<Instant>,
}

/// A part of a large body that comes within this time after other events is no news of its peer: telling of it would
/// wake the actor's thread for each 64 KiB. Far below the shortest heartbeat, 10 ms.
const PART_PAUSE: Duration = Duration::from_millis(2);

impl<Out> Guard<Out> {
    fn new(proved: &Proved, answers: WayOut<Out>, told: Told, peer: Peer) -> Self {
        Self {
            gate: Gate::new(proved.names.clone()),
            answers,
            told,
            peer,
            passed: None,
        }
    }

    /// Whether there is anything to tell in what was admitted.
    fn has_news<In>(&mut self, events: &[LinkEvent<In>]) -> bool {
        let now = Instant::now();
        let news = match events {
            [] => false,
            [LinkEvent::Heard] => self.passed.is_none_or(|passed| now - passed >= PART_PAUSE),
            _ => true,
        };
        if news {
            self.passed = Some(now);
        }
        news
    }

    /// Keeps back what a peer says before, or beside, a name that it may claim, and ends such a link in words. A
    /// breach of the rules is an event like any other: whoever counts them, counts it. Whether there is anything to
    /// tell then.
    fn admit<In: Claiming>(
        &mut self,
        events: &mut Vec<LinkEvent<In>>,
        refuse: impl FnOnce(LinkRefusal) -> Out,
    ) -> bool {
        if let Some(Denied { refusal, breach }) = self.gate.admit(events) {
            let reason = refusal.to_string();
            self.tell(&reason);
            // Before the machine hears of it: it would refuse in words of its own.
            self.answers.give(LinkCommand::Send(refuse(refusal)));
            self.answers.give(LinkCommand::Close(reason.clone()));
            if breach {
                events.push(LinkEvent::Malformed(reason));
            }
        }
        self.has_news(events)
    }

    fn tell(&self, reason: &str) {
        let untold = match &self.peer {
            Peer::Came(address) => self.told.tell(address.ip()),
            // Whoever dials does so with pauses.
            Peer::Dialled(_) => Some(0),
        };
        if let Some(untold) = untold {
            warn!(peer = %self.peer, untold, reason, "refused a link");
        }
    }
}

/// The host of an address, as it stands before `:port`.
fn host(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The network as a node sees it.
#[derive(Clone)]
pub struct NodeRoads {
    /// The thread that carries the links.
    pub network: ArbiterHandle,
    /// What a peer must prove.
    pub trust: Trust,
    /// The settings of the links.
    pub config: LinkConfig,
    /// Which refusals are told.
    pub told: Told,
}

impl NodeRoads {
    /// Accepts schedulers that dial, on the network's thread, until the node is gone.
    pub fn listen(
        &self,
        listener: Listener,
        ports: Ports,
        mut gone: watch::Receiver<Option<Gone>>,
    ) {
        let roads = self.clone();
        self.network.spawn(async move {
            let accept = |proved, peer| {
                let (roads, ports) = (roads.clone(), ports.clone());
                actix_rt::spawn(roads.carry(proved, None, Peer::Came(peer), ports));
            };
            tokio::select! {
                () = listener.run(accept) => {}
                _ = gone.wait_for(Option::is_some) => {}
            }
        });
    }

    /// Keeps a port open that says by its being there that the node's process lives, until the node is
    /// gone. What comes in is closed at once.
    pub fn be_probed(&self, listener: TcpListener, mut gone: watch::Receiver<Option<Gone>>) {
        self.network.spawn(async move {
            let accept = async {
                loop {
                    if listener.accept().await.is_err() {
                        // Out of descriptors: the port is there all the same.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            };
            tokio::select! {
                () = accept => {}
                _ = gone.wait_for(Option::is_some) => {}
            }
        });
    }

    async fn carry(self, proved: Proved, dialled: Option<String>, peer: Peer, ports: Ports) {
        let _carried = Carried::begin();
        let link = fresh_link();
        let way = WayOut::new();
        ports.attach(link, dialled, Box::new(ToSchedulerOutlet(way.clone())));
        let mut guard = Guard::new(&proved, way.clone(), self.told, peer);
        let deliver = move |mut events: Vec<LinkEvent<ToNode>>| {
            if !guard.admit(&mut events, ToScheduler::Refuse) {
                return;
            }
            for event in events {
                match event {
                    LinkEvent::Message(message) => {
                        ports.inbox().push(NodeEvent::Message { link, message })
                    }
                    LinkEvent::Heard => ports.inbox().push(NodeEvent::Heard { link }),
                    // The close that follows says the same.
                    LinkEvent::Malformed(_) => {}
                    LinkEvent::Closed(reason) => ports.detach(link, reason),
                }
            }
        };
        run_link(proved, self.config, way, deliver).await;
    }
}

impl Dialler for NodeRoads {
    fn dial(&self, address: String, ports: &Ports) {
        let (roads, ports) = (self.clone(), ports.clone());
        self.network.spawn(async move {
            match dial(&address, &roads.trust, Role::Node, &roads.config).await {
                Ok(proved) => {
                    let peer = Peer::Dialled(address.clone());
                    actix_rt::spawn(roads.carry(proved, Some(address), peer, ports));
                }
                Err(error) => ports.inbox().push(NodeEvent::DialFailed {
                    address,
                    reason: error.to_string(),
                }),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::names::Names;

    #[tokio::test(start_paused = true)]
    async fn g8_parts_of_a_body_are_told_as_proofs_of_life_and_not_each_of_them() {
        let mut guard = Guard {
            gate: Gate::new(Names::Any),
            answers: WayOut::<ToNode>::new(),
            told: Told::default(),
            peer: Peer::Dialled("localhost:1".to_owned()),
            passed: None,
        };
        let part = || LinkEvent::<ToScheduler>::Heard;
        let message = || LinkEvent::Message(ToScheduler::Goodbye);
        assert!(!guard.has_news::<ToScheduler>(&[]));
        assert!(guard.has_news(&[part()]));
        for _ in 0..10 {
            tokio::time::advance(PART_PAUSE).await;
            assert!(guard.has_news(&[part()]), "it is due");
            tokio::time::advance(PART_PAUSE / 2).await;
            assert!(!guard.has_news(&[part()]), "it is soon after the last");
        }
        // What is no proof of life alone is never kept back, and is as good as one.
        assert!(guard.has_news(&[part(), message()]));
        tokio::time::advance(PART_PAUSE / 2).await;
        assert!(!guard.has_news(&[part()]));
        assert!(guard.has_news(&[message()]));
        assert!(guard.has_news(&[LinkEvent::<ToScheduler>::Closed(String::new())]));
    }
}
