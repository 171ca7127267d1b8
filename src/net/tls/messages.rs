//! What rustls says, as sentences that say what to do.
//!
//! Owns: the sentences. Does not know: who reads them; each is for the log of one side.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use crate::error::LinkError;
use crate::net::text::printable;

pub(super) const NO_CERTIFICATE: &str =
    "the peer presented no certificate; give it one that an authority of this side has signed";

/// Returns the error for a peer that was there, and said nothing or too little.
pub(super) fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed the connection during the handshake; its log may say why",
    )
}

/// Converts an error of a connection that is being secured.
pub(super) fn of_link(error: io::Error) -> LinkError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(inner) => LinkError::Tls(of(inner)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => closed().into(),
        None => error.into(),
    }
}

fn of(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(_) => format!("the peer's certificate {}", of_certificate(error)),
        Error::NoCertificatesPresented => NO_CERTIFICATE.to_owned(),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::PeerIncompatible(reason) => of_incompatible(reason),
        Error::InvalidMessage(_) => "what the peer sent is not TLS; check the address".to_owned(),
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord
        | Error::NoApplicationProtocol => format!(
            "the peer breaks the rules of TLS ({error}); check that callboard runs at its address, and \
             update it"
        ),
        Error::DecryptError => {
            "what the peer sent cannot be decrypted: something between the two sides \
             changes it; connect them without it"
                .to_owned()
        }
        // Its clock, its random numbers, its memory: the peer has no part in these.
        error => format!(
            "this side cannot do its part of the handshake ({}); mend that on this machine",
            printable(&error.to_string())
        ),
    }
}

/// Returns what is wrong with a certificate; what it is stands before.
pub(super) fn of_certificate(error: &Error) -> String {
    let Error::InvalidCertificate(error) = error else {
        return format!("cannot be used: {error}");
    };
    match error {
        CertificateError::UnknownIssuer => "is signed by no authority that this side trusts; give both sides \
             certificates and roots of the same authority"
            .to_owned(),
        CertificateError::BadSignature => "is not signed by the authority that it names, as this side knows it: there \
             are two of one name; give both sides certificates and roots of the same authority"
            .to_owned(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "expired {} ago by the clock of this side, or one that signed it did; renew it, or set that \
             clock",
            span(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        CertificateError::Expired => {
            "has expired by the clock of this side; renew it, or set that clock".to_owned()
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "is not valid before {} from now by the clock of this side; set that clock, or wait",
            span(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        CertificateError::NotValidYet => {
            "is not valid yet by the clock of this side; set that clock, or wait".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "may not be used for both servers and clients; make one with the extended key usage serverAuth \
             and clientAuth"
                .to_owned()
        }
        error => format!(
            "cannot be used: {}; make another one",
            printable(&error.to_string())
        ),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "the peer refused: this side's certificate is signed by no authority that \
             the peer trusts; give both sides certificates and roots of the same authority"
                .to_owned()
        }
        AlertDescription::DecryptError => "the peer refused: this side's certificate is not signed by the authority \
             that it names, as the peer knows it: there are two of one name; give both sides certificates and \
             roots of the same authority"
            .to_owned(),
        AlertDescription::CertificateExpired => {
            "the peer refused: this side's certificate has expired, or is not valid yet, by the \
             clock of the peer; renew it, or set that clock"
                .to_owned()
        }
        AlertDescription::CertificateRequired => {
            "the peer refused: this side presented no certificate; give it one".to_owned()
        }
        AlertDescription::ProtocolVersion => {
            "the peer refused: it does not speak TLS 1.3, and this side speaks nothing else; \
             update the peer"
                .to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked => {
            format!("the peer refused this side's certificate ({alert:?}); its log says why")
        }
        alert => format!("the peer broke the handshake off ({alert:?}); its log says why"),
    }
}

fn of_incompatible(reason: &PeerIncompatible) -> String {
    match reason {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            "the peer does not speak TLS 1.3, and this side speaks nothing else; update the peer"
                .to_owned()
        }
        reason => {
            format!("the peer's TLS lacks what this side needs ({reason:?}); update the peer")
        }
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::UnixTime;
    use rustls::{InvalidMessage, OtherError, PeerMisbehaved};

    use super::*;

    #[test]
    fn every_message_says_which_side_is_meant_and_what_to_do() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let certificates = [
            CertificateError::UnknownIssuer,
            CertificateError::BadSignature,
            CertificateError::Expired,
            CertificateError::ExpiredContext {
                time: at(100_000),
                not_after: at(0),
            },
            CertificateError::NotValidYet,
            CertificateError::NotValidYetContext {
                time: at(0),
                not_before: at(100_000),
            },
            CertificateError::InvalidPurpose,
            CertificateError::BadEncoding,
        ];
        let alerts = [
            AlertDescription::UnknownCA,
            AlertDescription::DecryptError,
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateRequired,
            AlertDescription::ProtocolVersion,
            AlertDescription::BadCertificate,
            AlertDescription::InternalError,
        ];
        let others = [
            Error::NoCertificatesPresented,
            Error::InvalidMessage(InvalidMessage::MessageTooLarge),
            Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
            Error::PeerSentOversizedRecord,
            Error::DecryptError,
            Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::FailedToGetCurrentTime,
            Error::Other(OtherError(Arc::new(io::Error::other("no memory")))),
        ];
        let certificates = certificates.map(Error::InvalidCertificate);
        let all = certificates.into_iter();
        let all = all.chain(alerts.map(Error::AlertReceived)).chain(others);
        for error in all {
            let message = of(&error);
            let (fault, remedy) = message.split_once("; ").unwrap_or((&message, ""));
            let side = ["the peer", "this side"];
            assert!(side.iter().any(|side| fault.contains(side)), "{message}");
            assert!(!remedy.is_empty(), "{message}");
        }
        let expired = of(&Error::InvalidCertificate(
            CertificateError::ExpiredContext {
                time: at(200_000),
                not_after: at(0),
            },
        ));
        assert_eq!(
            expired,
            "the peer's certificate expired 2 days ago by the clock of this side, or one that signed it did; \
             renew it, or set that clock"
        );
    }
}
