//! What rustls is given.
//!
//! Owns: the settings of both sides, the verification of peers without a name, and the check of the
//! own certificate, so that a process does not start with one that every peer will refuse. Does not
//! know: sockets.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::files::{certificates, fault, key};
use super::{Tls, messages};
use crate::error::TlsError;
use crate::net::names::bears;

/// The settings of TLS, for the side that dials and for the one that accepts.
#[derive(Clone)]
pub(super) struct Configs {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

impl Configs {
    /// Reads the files, for a process of this name, and checks that they are of use now.
    pub fn load(tls: &Tls, name: &str) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(tls)?);
        let own = own(tls, &provider)?;
        bears(&own.cert[0], name).map_err(|message| fault(&tls.certificates, message))?;

        let accepting =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| fault(&tls.roots, error.to_string()))?;
        let dialling = AnyName {
            roots,
            algorithms: provider.signature_verification_algorithms,
        };
        check_own(tls, &own.cert, &*accepting, &dialling)?;

        let own = Arc::new(SingleCertAndKey::from(own));
        let unsupported = |error: Error| fault(&tls.certificates, error.to_string());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unsupported)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(dialling))
            .with_client_cert_resolver(Arc::clone(&own) as _);
        // No name is asked for.
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unsupported)?
            .with_client_cert_verifier(accepting)
            .with_cert_resolver(own);
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}

fn roots(tls: &Tls) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates(&tls.roots)?) {
        roots.add(certificate).map_err(|error| {
            let problem =
                format!("its certificate number {number} cannot be an authority: {error}");
            fault(&tls.roots, problem)
        })?;
    }
    Ok(roots)
}

/// Reads the own certificates with their key; there is at least one.
fn own(tls: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificates = certificates(&tls.certificates)?;
    let key = provider.key_provider.load_private_key(key(&tls.key)?);
    let key = key.map_err(|_| {
        let problem = "the private key cannot be used; it must be of ECDSA P-256 or P-384, Ed25519, or RSA \
                       with 2048 bits or more";
        fault(&tls.key, problem)
    })?;
    let own = CertifiedKey::new(certificates, key);
    own.keys_match().map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => fault(
            &tls.key,
            format!(
                "the private key does not belong to the first certificate of {}",
                tls.certificates.display()
            ),
        ),
        error => fault(
            &tls.certificates,
            format!("its first certificate cannot be read: {error}"),
        ),
    })?;
    Ok(own)
}

/// Checks the own certificate as a peer will: its times, and what it may be used for. A peer may
/// trust other authorities than this side does, so that whether it is signed by one is for the peer
/// to say.
fn check_own(
    tls: &Tls,
    own: &[CertificateDer<'_>],
    accepting: &dyn ClientCertVerifier,
    dialling: &AnyName,
) -> Result<(), TlsError> {
    let now = UnixTime::now();
    let found = [
        accepting
            .verify_client_cert(&own[0], &own[1..], now)
            .map(drop),
        dialling.verify(&own[0], &own[1..], now),
    ];
    for error in found.into_iter().filter_map(Result::err) {
        if !matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            )
        ) {
            let problem = messages::of_certificate(&error);
            return Err(fault(
                &tls.certificates,
                format!("its first certificate {problem}"),
            ));
        }
    }
    Ok(())
}

/// Verifies that a peer which was dialled has a certificate of a trusted authority, whatever its
/// name. The name is verified when it is known.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyName {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
