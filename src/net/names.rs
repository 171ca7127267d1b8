//! Which names a peer may claim, and which names a process may have.
//!
//! Owns: the rule that with TLS a node, or a scheduler, is only who its certificate says that it
//! is. Does not know: how the certificate was proved, or when a name is claimed
//! ([`gate`](super::gate)).

#[cfg(feature = "tls")]
use rustls::client::verify_server_name;
#[cfg(feature = "tls")]
use rustls::pki_types::{CertificateDer, ServerName};
#[cfg(feature = "tls")]
use rustls::server::ParsedCertificate;
#[cfg(feature = "tls")]
use rustls::{CertificateError, Error};

#[cfg(feature = "tls")]
use super::text::printable;
use crate::error::LinkRefusal;
#[cfg(feature = "tls")]
use crate::error::TlsError;

/// The names that the peer of a connection may claim.
#[derive(Clone)]
pub(crate) enum Names {
    /// Any name: the peer knows the secret, or is on this machine.
    Any,
    /// The names that this certificate bears, which has been verified, if they are among those that
    /// are taken.
    #[cfg(feature = "tls")]
    Certified {
        certificate: CertificateDer<'static>,
        peers: Option<std::sync::Arc<[String]>>,
    },
}

impl Names {
    /// Returns why the peer may not claim this name.
    pub(super) fn check(&self, name: &str) -> Result<(), Denied> {
        #[cfg(not(feature = "tls"))]
        let _ = name;
        match self {
            Self::Any => Ok(()),
            #[cfg(feature = "tls")]
            Self::Certified { certificate, peers } => {
                let denied = |breach| {
                    move |message| Denied {
                        refusal: LinkRefusal::NotCertified { message },
                        breach,
                    }
                };
                bears(certificate, name).map_err(denied(true))?;
                takes(peers.as_deref(), name).map_err(denied(false))
            }
        }
    }
}

/// Why a peer may not claim a name, or sends what it may not send.
#[derive(Debug)]
pub(super) struct Denied {
    /// What it is told.
    pub refusal: LinkRefusal,
    /// Whether no honest peer does so: none claims a name that its certificate does not bear, since
    /// it checks that when it starts. One may be refused that is only not among the peers that are
    /// taken.
    pub breach: bool,
}

/// Returns whether a process may have this name with TLS: one that is spelled one way only, since
/// in a certificate upper and lower case are the same, and two nodes must not be.
#[cfg(feature = "tls")]
pub(crate) fn check_name(name: &str) -> Result<(), TlsError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let usable = name.len() <= 253
        && name.split('.').all(label)
        // It would be taken for an address.
        && !name.rsplit('.').next().is_some_and(is_number);
    if usable {
        return Ok(());
    }
    Err(TlsError::Name {
        name: name.to_owned(),
    })
}

/// Checks that this certificate bears this name. The error is for both sides. A wildcard
/// matches as it does on the web. The codec has bounded the name.
#[cfg(feature = "tls")]
pub(super) fn bears(certificate: &CertificateDer<'_>, name: &str) -> Result<(), String> {
    check_name(name).map_err(|error| error.to_string())?;
    let server_name = ServerName::try_from(name).map_err(|error| format!("{name:?}: {error}"))?;
    let parsed = ParsedCertificate::try_from(certificate)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let borne = match verify_server_name(&parsed, &server_name) {
        Ok(()) => return Ok(()),
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => list(&presented),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "a process calls itself {name:?} and its certificate does not bear that name ({borne}); give it a \
         certificate with the DNS name {name}, or another name"
    ))
}

/// Checks that a peer of this name, which its certificate bears, may be taken. The error is for
/// both sides.
#[cfg(feature = "tls")]
fn takes(peers: Option<&[String]>, name: &str) -> Result<(), String> {
    match peers {
        Some(peers) if !peers.iter().any(|peer| peer == name) => Err(format!(
            "{name:?} is not among the peers that the other side takes; add it to `Tls::peers` there, if it \
             is to be trusted"
        )),
        _ => Ok(()),
    }
}

/// Lists the names of a certificate, which its authority chose.
#[cfg(feature = "tls")]
fn list(presented: &[String]) -> String {
    if presented.is_empty() {
        return "it bears none".to_owned();
    }
    printable(&format!("it bears {}", presented.join(", ")))
}
