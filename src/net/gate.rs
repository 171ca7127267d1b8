//! The gate at which a peer must claim its name before anything else.
//!
//! Owns: which messages of a peer get past, and that none does before a hello with a name that it
//! may claim. Does not know: which names those are ([`names`](super::names)), and whose name is
//! expected where; the machines compare names with those that they expect.
//!
//! Neither side asks for a name when it dials: the handshake of TLS proves that the peer's
//! certificate is signed by a trusted authority, and no more. The name becomes known by the
//! hello, on both sides and whichever dialled, and there it must be one of the DNS names that the
//! certificate bears. Nothing that comes before such a hello gets past the gate.

use super::LinkEvent;
use super::names::{Denied, Names};
use crate::engine::message::{ToNode, ToScheduler};
use crate::error::LinkRefusal;

/// What a message says of its sender's name.
pub(crate) enum Introduction<'a> {
    /// The sender claims this name.
    Name(&'a str),
    /// The sender names nobody; but the message is a refusal, which ends this link and tells no
    /// more than why.
    Words,
    /// The sender names nobody.
    Nothing,
}

pub(crate) trait Claiming {
    /// See [`Introduction`].
    fn introduction(&self) -> Introduction<'_>;
}

impl Claiming for ToScheduler {
    fn introduction(&self) -> Introduction<'_> {
        match self {
            Self::Hello(hello) => Introduction::Name(&hello.node),
            // A node may refuse in place of its hello.
            Self::Refuse(_) => Introduction::Words,
            _ => Introduction::Nothing,
        }
    }
}

impl Claiming for ToNode {
    fn introduction(&self) -> Introduction<'_> {
        match self {
            Self::Hello(hello) => Introduction::Name(&hello.scheduler),
            // A scheduler always says hello first, and one of its refusals ends the node.
            _ => Introduction::Nothing,
        }
    }
}

/// Stands between a link and the machine that hears of it.
pub(super) struct Gate {
    names: Names,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// No name was claimed so far that is right.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "any name will do"))]
    Waiting,
    Open,
    /// The peer was refused.
    Shut,
}

impl Gate {
    pub fn new(names: Names) -> Self {
        let state = match names {
            Names::Any => State::Open,
            #[cfg(feature = "tls")]
            Names::Certified { .. } => State::Waiting,
        };
        Self { names, state }
    }

    /// Removes what must not be believed. A refusal is to be sent, and the link closed for that
    /// reason.
    pub fn admit<M: Claiming>(&mut self, events: &mut Vec<LinkEvent<M>>) -> Option<Denied> {
        if matches!(self.names, Names::Any) {
            return None;
        }
        let mut refusal = None;
        events.retain(|event| match event {
            LinkEvent::Closed(_) => true,
            _ if self.state == State::Shut => false,
            // Also before the hello: a long one over a slow line comes in parts for longer than a
            // side may be silent.
            LinkEvent::Heard | LinkEvent::Malformed(_) => true,
            LinkEvent::Message(message) => match self.judge(message.introduction()) {
                Ok(()) => true,
                Err(denied) => {
                    self.state = State::Shut;
                    refusal = Some(denied);
                    false
                }
            },
        });
        refusal
    }

    fn judge(&mut self, introduction: Introduction<'_>) -> Result<(), Denied> {
        match introduction {
            Introduction::Name(name) => {
                self.names.check(name)?;
                self.state = State::Open;
                Ok(())
            }
            Introduction::Words => Ok(()),
            Introduction::Nothing if self.state == State::Open => Ok(()),
            Introduction::Nothing => Err(Denied {
                refusal: LinkRefusal::Violation("it sent a message before its hello".to_owned()),
                breach: true,
            }),
        }
    }
}

#[cfg(feature = "tls")]
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::engine::Incarnation;
    use crate::engine::message::NodeHello;

    /// Makes the gate for the holder of a certificate for "node-1".
    fn gate(peers: Option<&[&str]>) -> Gate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["node-1".to_owned()]).unwrap();
        let peers = peers.map(|peers| peers.iter().map(|&peer| peer.to_owned()).collect());
        Gate::new(Names::Certified {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            peers,
        })
    }

    fn hello(node: &str) -> LinkEvent<ToScheduler> {
        LinkEvent::Message(ToScheduler::Hello(Box::new(NodeHello::new(
            node,
            Incarnation(1),
        ))))
    }

    #[test]
    fn g8_the_parts_of_a_hello_are_proofs_of_life_and_those_of_a_refused_peer_are_none() {
        let mut gate = gate(None);
        let mut events = vec![LinkEvent::<ToScheduler>::Heard];
        assert!(gate.admit(&mut events).is_none());
        assert_eq!(events, [LinkEvent::Heard]);
        let mut events = vec![hello("node-2"), LinkEvent::Heard];
        assert!(gate.admit(&mut events).is_some_and(|denied| denied.breach));
        assert_eq!(events, []);
        let mut events = vec![LinkEvent::Heard, hello("node-1")];
        assert!(gate.admit(&mut events).is_none());
        assert_eq!(events, []);
    }

    /// Returns what a peer sends, both what it may send and what it may not.
    fn event() -> impl Strategy<Value = LinkEvent<ToScheduler>> {
        (0..12u8).prop_map(|what| match what {
            0..3 => hello("node-1"),
            3 => hello("node-2"),
            4 => hello(""),
            5..7 => LinkEvent::Message(ToScheduler::Goodbye),
            7 => LinkEvent::Message(ToScheduler::Refuse(LinkRefusal::Stopping)),
            8..10 => LinkEvent::Heard,
            10 => LinkEvent::Malformed("noise".to_owned()),
            _ => LinkEvent::Closed("an end".to_owned()),
        })
    }

    proptest! {
        #[test]
        fn g11_whatever_a_peer_sends_it_is_heard_by_no_name_but_its_own(
            batches in proptest::collection::vec(proptest::collection::vec(event(), 0..6), 0..12)
        ) {
            static NAMES: std::sync::LazyLock<Names> = std::sync::LazyLock::new(|| gate(None).names);
            let mut gate = Gate::new(NAMES.clone());
            let (mut named, mut denials) = (false, 0);
            for mut batch in batches {
                let ends = |batch: &[_]| {
                    batch.iter().filter(|event| matches!(event, LinkEvent::Closed(_))).count()
                };
                let closed = ends(&batch);
                let shut = denials > 0;
                denials += u32::from(gate.admit(&mut batch).is_some());
                prop_assert_eq!(ends(&batch), closed, "every end is told");
                prop_assert!(!shut || batch.len() == closed, "{batch:?} passed after a refusal");
                for event in batch {
                    match event {
                        LinkEvent::Message(ToScheduler::Hello(hello)) => {
                            prop_assert_eq!(&*hello.node, "node-1");
                            named = true;
                        }
                        LinkEvent::Message(ToScheduler::Refuse(_)) => {}
                        LinkEvent::Message(message) => {
                            prop_assert!(named, "{message:?} passed before a name");
                        }
                        _ => {}
                    }
                }
            }
            prop_assert!(denials <= 1, "refused {denials} times");
        }
    }

    #[test]
    fn g11_a_false_name_is_a_breach_and_to_be_no_peer_that_is_taken_is_none() {
        for (peers, claims, breach) in [
            (None, "node-1", None),
            (Some(&["node-1"][..]), "node-1", None),
            (Some(&["node-2"]), "node-1", Some(false)),
            (Some(&["node-2"]), "node-2", Some(true)),
            (None, "no name", Some(true)),
        ] {
            let denied = gate(peers).admit(&mut vec![hello(claims)]);
            assert_eq!(denied.map(|denied| denied.breach), breach, "{claims}");
        }
    }
}
