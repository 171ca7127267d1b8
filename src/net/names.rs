//! Which names a peer may claim, and the gate at which it must claim one first.
//!
//! Owns: the rule that with TLS a node, or a scheduler, is only who its certificate says that it is. Does not
//! know: how the certificate was proved, and whose name is expected where; the machines compare names with
//! those that they expect.
//!
//! Neither side asks for a name when it dials: the handshake of TLS proves that the peer's certificate is
//! signed by a trusted authority, whoever it is. The name becomes known by the hello, on both sides and
//! whichever dialled, and there it must be one of the DNS names that the certificate bears. Nothing that
//! comes before such a hello gets past the gate.

use super::LinkEvent;
use crate::engine::message::{ToNode, ToScheduler};
use crate::error::LinkRefusal;

/// The names that the peer of a connection may claim.
#[derive(Clone)]
pub(crate) enum Names {
    /// Any: it knows the secret, or is on this machine.
    Any,
    /// Those that this certificate bears, which has been verified, if they are among those that are taken.
    #[cfg(feature = "tls")]
    Certified {
        certificate: rustls::pki_types::CertificateDer<'static>,
        peers: Option<std::sync::Arc<[String]>>,
    },
}

impl Names {
    /// Why the peer may not claim this name; in words that are sent to it too.
    fn check(&self, name: &str) -> Result<(), String> {
        #[cfg(not(feature = "tls"))]
        let _ = name;
        match self {
            Self::Any => Ok(()),
            #[cfg(feature = "tls")]
            Self::Certified { certificate, peers } => {
                super::tls::bears(certificate, peers.as_deref(), name)
            }
        }
    }
}

/// What a message says of its sender's name.
pub(super) enum Claim<'a> {
    /// It is this.
    Name(&'a str),
    /// Nothing; but the message is a refusal, which ends this link and tells no more than why.
    Words,
    /// Nothing.
    Nothing,
}

pub(super) trait Claiming {
    /// See [`Claim`].
    fn claim(&self) -> Claim<'_>;
}

impl Claiming for ToScheduler {
    fn claim(&self) -> Claim<'_> {
        match self {
            Self::Hello(hello) => Claim::Name(&hello.node),
            // A node may refuse in place of its hello.
            Self::Refuse(_) => Claim::Words,
            _ => Claim::Nothing,
        }
    }
}

impl Claiming for ToNode {
    fn claim(&self) -> Claim<'_> {
        match self {
            Self::Hello(hello) => Claim::Name(&hello.scheduler),
            // A scheduler always says hello first, and one of its refusals ends the node.
            _ => Claim::Nothing,
        }
    }
}

/// Stands between a link and whoever hears of it.
pub(super) struct Gate {
    names: Names,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Until a name is claimed, and is right.
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

    /// Removes what must not be believed. A refusal is to be sent, and the link closed for that reason.
    pub fn admit<M: Claiming>(&mut self, events: &mut Vec<LinkEvent<M>>) -> Option<LinkRefusal> {
        if matches!(self.names, Names::Any) {
            return None;
        }
        let mut refusal = None;
        events.retain(|event| match event {
            LinkEvent::Closed(_) => true,
            LinkEvent::Heard => self.state == State::Open,
            LinkEvent::Message(_) | LinkEvent::Malformed(_) if self.state == State::Shut => false,
            LinkEvent::Malformed(_) => true,
            LinkEvent::Message(message) => match self.judge(message.claim()) {
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

    fn judge(&mut self, claim: Claim<'_>) -> Result<(), LinkRefusal> {
        match claim {
            Claim::Name(name) => match self.names.check(name) {
                Ok(()) => {
                    self.state = State::Open;
                    Ok(())
                }
                Err(words) => Err(LinkRefusal::NotCertified { words }),
            },
            Claim::Words => Ok(()),
            Claim::Nothing if self.state == State::Open => Ok(()),
            Claim::Nothing => Err(LinkRefusal::Violation(
                "it sent a message before its hello".to_owned(),
            )),
        }
    }
}
