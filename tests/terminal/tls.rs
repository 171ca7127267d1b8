//! A dashboard behind TLS.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use actix_web::rt::net::TcpListener;
use callboard::Scheduler;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::{Served, finish, judge, printed, refused, scheduler, serve};

/// Takes off the TLS, as a proxy does.
async fn behind_tls(authority: &Authority, to: SocketAddr) -> SocketAddr {
    authority.issue("localhost");
    let chain = CertificateDer::pem_file_iter(authority.file("localhost.crt")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("localhost.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    actix_web::rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            actix_web::rt::spawn(async move {
                let inner = TcpStream::connect(to).unwrap();
                inner.set_nonblocking(true).unwrap();
                let mut inner = actix_web::rt::net::TcpStream::from_std(inner).unwrap();
                if let Ok(mut outer) = acceptor.accept(stream).await {
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                }
            });
        }
    });
    at
}

async fn served(folder: &tempfile::TempDir) -> (Scheduler, Served) {
    let scheduler = scheduler("terminal-tls", folder.path()).await;
    let served = serve(&[&scheduler], "", judge);
    (scheduler, served)
}

#[actix::test]
async fn only_a_certificate_that_is_trusted_is_given_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let (scheduler, served) = served(&folder).await;
    let authority = Authority::new();
    let at = behind_tls(&authority, served.at).await;
    let url = format!("https://localhost:{}/tasks", at.port());
    let ca = authority.file("ca.crt");
    let told = printed(&url, &["stats", "--ca", ca.to_str().unwrap()]).await;
    assert!(told.contains("terminal-tls"), "{told}");
    let other = Authority::new().file("ca.crt");
    assert!(!other.exists(), "it goes with its authority");
    let stranger = Authority::new();
    let strange = stranger.file("ca.crt");
    for args in [
        &["stats"][..],
        &["stats", "--ca", strange.to_str().unwrap()],
    ] {
        let told = refused(&url, "sees-all", args, 6).await;
        assert!(
            told.contains("cannot be trusted") && told.contains("--ca"),
            "{told}"
        );
    }
    // The certificate is for another name.
    let url = format!("https://127.0.0.1:{}/tasks", at.port());
    refused(
        &url,
        "sees-all",
        &["stats", "--ca", ca.to_str().unwrap()],
        6,
    )
    .await;
    finish(scheduler, served).await;
}
