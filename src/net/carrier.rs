//! What carries the links of an actor over the network: dials, probes and listeners whose links end
//! in its inbox.
//!
//! Owns: the tasks that carry a link, on a thread where neither user code nor a scheduler runs.
//! Does not know: what the messages mean.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::ArbiterHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::gate::{Claiming, Gate};
use super::log_limiter::LogLimiter;
use super::names::Denied;
use super::text::host;
use super::traffic::LinkTraffic;
use super::{
    Authenticated, LinkCommand, LinkConfig, LinkEvent, LinkWriter, Listener, Role, Trust, Wire,
    dial, probe, run_link,
};
use crate::engine::node::NodeEvent;
use crate::engine::{Event, LinkId, Origin};
use crate::error::LinkRefusal;
use crate::inbox::Inbox;
use crate::links::{Connector, Incoming, LinkFact};
use crate::say::say;

/// Returns a number that no other link of this process has.
pub(crate) fn fresh_link() -> LinkId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    LinkId(NEXT.fetch_add(1, Ordering::Relaxed))
}

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

/// Waits until the links of this thread are to be told to close.
pub(crate) async fn parting() {
    let mut parting = TRAFFIC.with(|traffic| traffic.parting.subscribe());
    // It lives as long as the thread.
    let _ = parting.wait_for(|parting| *parting).await;
}

/// Accepts nothing more on this thread, and waits until its links, which are told to close, have
/// sent what was given to them, at most so long: a node that does not hear that its scheduler
/// leaves works on until its lease ends, but a peer that does not read must not hold the end up.
pub(crate) async fn part(limit: Duration) {
    let mut open = TRAFFIC.with(|traffic| {
        traffic.parting.send_replace(true);
        traffic.open.subscribe()
    });
    // A peer that has not read by then does without.
    let _ = tokio::time::timeout(limit, open.wait_for(|open| *open == 0)).await;
}

/// What a machine hears of links that are carried over a network.
pub(crate) trait Remote: LinkFact<In: Wire + Claiming, Out: Wire> {
    /// What this side proves to be.
    const ROLE: Role;
}

impl Remote for Event {
    const ROLE: Role = Role::Scheduler;
}

impl Remote for NodeEvent {
    const ROLE: Role = Role::Node;
}

/// The network as one actor sees it.
pub(crate) struct Carrier<E: Remote> {
    /// The thread that carries the links.
    pub network: ArbiterHandle,
    /// What a peer must prove.
    pub trust: Trust,
    /// The settings of the links.
    pub config: LinkConfig,
    /// Where the actor hears of what happens.
    pub inbox: Inbox<Incoming<E>>,
    /// Which refusals are told.
    pub refusals: LogLimiter,
    /// What goes over the links.
    pub traffic: LinkTraffic,
}

impl<E: Remote> Carrier<E> {
    /// Accepts peers that dial, on the network's thread, until `end`.
    pub fn listen(
        self: &Arc<Self>,
        listener: Listener,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let carrier = Arc::clone(self);
        self.network.spawn(async move {
            let accept = |proved, peer: SocketAddr| {
                let origin = Origin::Came(host(peer));
                actix_rt::spawn(Arc::clone(&carrier).carry(proved, origin, Peer::Came(peer)));
            };
            tokio::select! {
                () = listener.run(accept) => {}
                () = end => {}
            }
        });
    }

    /// Keeps a port open, until `end`, that says by its being there that this process lives. What
    /// comes in is closed at once.
    pub fn be_probed(&self, listener: TcpListener, end: impl Future<Output = ()> + Send + 'static) {
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
                () = end => {}
            }
        });
    }

    async fn carry(self: Arc<Self>, proved: Authenticated, origin: Origin<E::Peer>, peer: Peer) {
        let _carried = Carried::begin();
        let proved = self.traffic.count(proved);
        let link = fresh_link();
        let way = LinkWriter::new();
        self.inbox.push(Incoming::Attach {
            link,
            origin,
            ends: proved.ends.clone(),
            sender: Box::new(way.clone()),
        });
        if self.inbox.is_closed() {
            // The actor may have ended without having heard of it.
            way.give(LinkCommand::Close("this side has stopped".to_owned()));
        }
        let mut guard = Guard::new(&proved, way.clone(), self.refusals.clone(), peer);
        let inbox = self.inbox.clone();
        let deliver = move |mut events: Vec<LinkEvent<E::In>>| {
            if guard.admit(&mut events, E::refuse) {
                let facts = events.into_iter().filter_map(|event| fact(link, event));
                inbox.extend(facts.map(Incoming::Event));
            }
        };
        run_link(proved, self.config.clone(), way, deliver).await;
    }
}

/// Returns what the machine hears of an event.
fn fact<E: Remote>(link: LinkId, event: LinkEvent<E::In>) -> Option<E> {
    match event {
        LinkEvent::Message(message) => Some(E::message(link, message)),
        LinkEvent::Heard => Some(E::heard(link)),
        LinkEvent::Malformed(reason) => E::malformed(link, reason),
        LinkEvent::Closed(reason) => Some(E::closed(link, reason)),
    }
}

impl<E: Remote> Connector<E> for Arc<Carrier<E>> {
    fn dial(
        &self,
        whom: E::Peer,
        address: String,
        found_at: Option<String>,
        within: Option<Duration>,
    ) {
        let carrier = Arc::clone(self);
        let mut config = self.config.clone();
        // One that hangs must not take the time of the next.
        config.handshake_timeout = within.map_or(config.handshake_timeout, |within| {
            within.min(config.handshake_timeout)
        });
        self.network.spawn(async move {
            match dial(&address, &carrier.trust, E::ROLE, &config).await {
                Ok(proved) => {
                    let peer = Peer::Dialled(address);
                    actix_rt::spawn(carrier.carry(proved, Origin::Dialled(whom), peer));
                }
                Err(error) => {
                    let refused = match &found_at {
                        Some(at) => error.refused_at.contains(at),
                        None => error.refused,
                    };
                    let failed = E::dial_failed(whom, refused, error.to_string());
                    carrier.inbox.push(failed.into());
                }
            }
        });
    }

    fn probe(&self, address: String, fact: Box<dyn FnOnce(bool) -> E + Send>) {
        let inbox = self.inbox.clone();
        self.network.spawn(async move {
            inbox.push(fact(probe(&address).await).into());
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
    answers: LinkWriter<Out>,
    refusals: LogLimiter,
    peer: Peer,
    /// When the last events passed.
    passed: Option<Instant>,
}

/// A part of a large body that comes within this time after other events is no news of its peer:
/// telling of it would wake the actor's thread for each 64 KiB. Far below the shortest heartbeat,
/// 10 ms.
const PART_INTERVAL: Duration = Duration::from_millis(2);

impl<Out> Guard<Out> {
    fn new(
        proved: &Authenticated,
        answers: LinkWriter<Out>,
        refusals: LogLimiter,
        peer: Peer,
    ) -> Self {
        Self {
            gate: Gate::new(proved.names.clone()),
            answers,
            refusals,
            peer,
            passed: None,
        }
    }

    /// Returns whether there is anything to tell in what was admitted.
    fn has_news<In>(&mut self, events: &[LinkEvent<In>]) -> bool {
        let now = Instant::now();
        let news = match events {
            [] => false,
            [LinkEvent::Heard] => self
                .passed
                .is_none_or(|passed| now - passed >= PART_INTERVAL),
            _ => true,
        };
        if news {
            self.passed = Some(now);
        }
        news
    }

    /// Keeps back what a peer says before, or beside, a name that it may claim, and ends such a
    /// link with a reason. A breach of the rules is an event like any other, so that it is counted.
    /// Returns whether there is anything to tell then.
    fn admit<In: Claiming>(
        &mut self,
        events: &mut Vec<LinkEvent<In>>,
        refuse: impl FnOnce(LinkRefusal) -> Out,
    ) -> bool {
        if let Some(Denied { refusal, breach }) = self.gate.admit(events) {
            let reason = refusal.to_string();
            self.tell(&reason);
            // Before the machine hears of it: it would refuse with a reason of its own.
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
            Peer::Came(address) => self.refusals.tell(address.ip()),
            // This side dialled, and waits between its dials.
            Peer::Dialled(_) => Some(0),
        };
        if let Some(untold) = untold {
            say!(warn: peer = %self.peer, repeated = untold, reason, "refused a link");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::message::{ToNode, ToScheduler};
    use crate::net::names::Names;

    #[tokio::test(start_paused = true)]
    async fn g8_parts_of_a_body_are_told_as_proofs_of_life_and_not_each_of_them() {
        let mut guard = Guard {
            gate: Gate::new(Names::Any),
            answers: LinkWriter::<ToNode>::new(),
            refusals: LogLimiter::default(),
            peer: Peer::Dialled("localhost:1".to_owned()),
            passed: None,
        };
        let part = || LinkEvent::<ToScheduler>::Heard;
        let message = || LinkEvent::Message(ToScheduler::Goodbye);
        assert!(!guard.has_news::<ToScheduler>(&[]));
        assert!(guard.has_news(&[part()]));
        for _ in 0..10 {
            tokio::time::advance(PART_INTERVAL).await;
            assert!(guard.has_news(&[part()]), "it is due");
            tokio::time::advance(PART_INTERVAL / 2).await;
            assert!(!guard.has_news(&[part()]), "it is soon after the last");
        }
        // What is no proof of life alone is never kept back, and is as good as one.
        assert!(guard.has_news(&[part(), message()]));
        tokio::time::advance(PART_INTERVAL / 2).await;
        assert!(!guard.has_news(&[part()]));
        assert!(guard.has_news(&[message()]));
        assert!(guard.has_news(&[LinkEvent::<ToScheduler>::Closed(String::new())]));
    }
}
