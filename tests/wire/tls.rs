//! Mutual TLS over real sockets: who is let in, and what both sides say to who is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use callboard::__internals::net::{LinkConfig, Listener, Role, Secret, Tls, Trust, dial};
use rcgen::date_time_ymd;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::Authority;
use crate::log;
use crate::peers::{Listening, all_words};

mod files;

fn trust(tls: Tls, name: &str) -> Trust {
    Trust::Tls(tls.load(name).unwrap())
}

fn secret() -> Trust {
    Trust::Secret(Secret::new("the secret of this cluster").unwrap())
}

/// Checks what both sides say of a connection that is refused: the one that dialled, and the log of
/// the other.
async fn refused(dialler: &Trust, acceptor: Trust, dialler_says: &str, acceptor_says: &str) {
    log::begin();
    let node = Listening::start_with(acceptor, LinkConfig::default()).await;
    let error = node.dial(dialler).await.unwrap_err();
    assert!(!error.refused);
    assert!(error.to_string().contains(dialler_says), "{error}");
    let address = format!("address={}", node.address);
    log::line(&[&address, "refused a connection", acceptor_says]).await;
    node.stop().await;
}

#[tokio::test]
async fn g11_both_hold_certificates_of_one_authority_whoever_dials() {
    let authority = Authority::new();
    let node = trust(authority.issue("node-1"), "node-1");
    let scheduler = trust(authority.issue("scheduler"), "scheduler");
    let listening = Listening::start_with(node.clone(), LinkConfig::default()).await;
    listening.serves_to(&scheduler).await;
    listening.stop().await;

    let config = LinkConfig::default();
    let listener = Listener::bind("127.0.0.1:0", scheduler, Role::Scheduler, config.clone())
        .await
        .unwrap();
    let address = listener.local_addr().to_string();
    let (let_in, mut came) = tokio::sync::mpsc::unbounded_channel();
    let running = tokio::spawn(listener.run(move |proved, _| {
        let _ = let_in.send(proved);
    }));
    dial(&address, &node, Role::Node, &config).await.unwrap();
    assert!(came.recv().await.is_some());
    running.abort();
}

#[tokio::test]
async fn g11_another_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ours_says = "signed by no authority that this side trusts";
    let theirs_hears =
        "the peer refused: this side's certificate is signed by no authority that the peer trusts";
    // The side that dials sees the other's certificate first.
    refused(
        &trust(theirs.issue("scheduler"), "scheduler"),
        trust(ours.issue("node-1"), "node-1"),
        ours_says,
        theirs_hears,
    )
    .await;
    // Two of one name are as different.
    let (ours, theirs) = (Authority::named("namesake"), Authority::named("namesake"));
    refused(
        &trust(theirs.issue("scheduler"), "scheduler"),
        trust(ours.issue("node-1"), "node-1"),
        "is not signed by the authority that it names, as this side knows it",
        "is not signed by the authority that it names, as the peer knows it",
    )
    .await;
}

#[tokio::test]
async fn g11_a_side_that_dials_hears_that_its_certificate_is_not_trusted() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    // It trusts both and is refused by the one that does not.
    theirs.put("ca.crt", &(theirs.pem() + &ours.pem()));
    refused(
        &trust(theirs.issue("scheduler"), "scheduler"),
        trust(ours.issue("node-1"), "node-1"),
        "the peer refused: this side's certificate is signed by no authority that the peer trusts",
        "signed by no authority that this side trusts",
    )
    .await;
}

#[tokio::test]
async fn g11_plain_links_and_tls_links_tell_each_other_so() {
    let authority = Authority::new();
    let tls = trust(authority.issue("node-1"), "node-1");
    let only_tls = "this side speaks TLS only and the peer has no certificates";
    for plain in [Trust::Open, secret()] {
        let hears = "the peer speaks TLS only and this side has no certificates";
        refused(&plain, tls.clone(), hears, only_tls).await;
        let says = "the peer speaks TLS and this side has no certificates";
        refused(&tls, plain, only_tls, says).await;
    }
}

#[tokio::test]
async fn g11_who_asks_for_tls_without_speaking_it_is_not_let_in() {
    log::begin();
    let authority = Authority::new();
    let node = Listening::start_with(
        trust(authority.issue("node-1"), "node-1"),
        LinkConfig::default(),
    )
    .await;
    let mut peer = node.connect().await;
    // A greeting that would be right within TLS.
    let mut greeting = b"callboard\x01DS\x02".to_vec();
    greeting.extend_from_slice(&[7; 32]);
    peer.write_all(&greeting).await.unwrap();
    assert_eq!(all_words(peer).await, "");
    let address = format!("address={}", node.address);
    log::line(&[
        &address,
        "refused a connection",
        "this side speaks TLS only",
    ])
    .await;

    let mut peer = node.connect().await;
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let words = all_words(peer).await;
    assert!(words.contains("does not speak its protocol"), "{words}");
    node.serves().await;
    node.stop().await;
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let pem = authority.pem();
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    roots
}

/// Files of this name as rustls takes them.
fn own(
    authority: &Authority,
    name: &str,
) -> (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    rustls::pki_types::PrivateKeyDer<'static>,
) {
    let certificate = authority.file(&format!("{name}.crt"));
    let key = authority.file(&format!("{name}.key"));
    (
        vec![rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap()],
        rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap(),
    )
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A clock that is ahead by three thousand years, for which every certificate here has expired.
#[derive(Debug)]
struct Later;

impl TimeProvider for Later {
    fn current_time(&self) -> Option<UnixTime> {
        let years = Duration::from_secs(3000 * 365 * 24 * 3600);
        Some(UnixTime::since_unix_epoch(
            Duration::from_secs(UnixTime::now().as_secs()) + years,
        ))
    }
}

/// A peer of another make.
struct Foreign<'a> {
    authority: &'a Authority,
    version: &'static SupportedProtocolVersion,
    /// Whose certificate it presents.
    name: Option<&'a str>,
    later: bool,
}

impl Foreign<'_> {
    /// Dials, and says what it was told.
    async fn dial(&self, address: SocketAddr) -> String {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots(self.authority));
        let mut config = match self.name {
            Some(name) => {
                let (certificates, key) = own(self.authority, name);
                builder.with_client_auth_cert(certificates, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        if self.later {
            config.time_provider = Arc::new(Later);
        }
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("node-1").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        match connector.connect(name, stream).await {
            Err(error) => error.to_string(),
            Ok(mut stream) => stream.read_u8().await.unwrap_err().to_string(),
        }
    }

    /// Is dialled; returns how both say that that ended.
    async fn accept(&self, dialler: &Trust) -> (String, String) {
        let (certificates, key) = own(self.authority, self.name.unwrap());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots(self.authority)),
            provider(),
        );
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(certificates, key)
            .unwrap();
        if self.later {
            config.time_provider = Arc::new(Later);
        }
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let link = LinkConfig::default();
        let (dialled, accepted) =
            tokio::join!(dial(&address, dialler, Role::Scheduler, &link), async {
                let (stream, _) = socket.accept().await.unwrap();
                TlsAcceptor::from(Arc::new(config)).accept(stream).await
            });
        let accepted = accepted.map(drop).unwrap_err();
        (dialled.unwrap_err().to_string(), accepted.to_string())
    }
}

/// Checks a node that is dialled by a peer of another make: what that one hears, and what the node
/// says.
async fn turned_away(authority: &Authority, peer: Foreign<'_>, hears: &str, says: &str) {
    log::begin();
    let tls = trust(authority.issue("node-1"), "node-1");
    let node = Listening::start_with(tls, LinkConfig::default()).await;
    let heard = peer.dial(node.address).await;
    assert!(heard.contains(hears), "{heard}");
    let address = format!("address={}", node.address);
    log::line(&[&address, "refused a connection", says]).await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_certificate_that_has_expired_is_refused_on_both_sides() {
    let authority = Authority::new();
    authority.issue_with("expired", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    authority.issue("node-1");
    let dialler = trust(authority.issue("scheduler"), "scheduler");
    let peer = |name, later| Foreign {
        authority: &authority,
        version: &TLS13,
        name: Some(name),
        later,
    };
    // It dials, and is told.
    let says = "the peer's certificate expired";
    turned_away(
        &authority,
        peer("expired", false),
        "CertificateExpired",
        says,
    )
    .await;
    // It is dialled, and is told.
    let (dialled, accepted) = peer("expired", false).accept(&dialler).await;
    assert!(dialled.contains(says), "{dialled}");
    assert!(accepted.contains("CertificateExpired"), "{accepted}");
    // Ours has, by the peer's clock, and we are told.
    let hears = "the peer refused: this side's certificate has expired";
    turned_away(&authority, peer("scheduler", true), "expired", hears).await;
    let (dialled, accepted) = peer("node-1", true).accept(&dialler).await;
    assert!(dialled.contains(hears), "{dialled}");
    assert!(accepted.contains("expired"), "{accepted}");
}

#[tokio::test]
async fn g11_a_peer_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let peer = Foreign {
        authority: &authority,
        version: &TLS13,
        name: None,
        later: false,
    };
    let says = "the peer presented no certificate; give it one";
    turned_away(&authority, peer, "CertificateRequired", says).await;
}

#[tokio::test]
async fn g11_an_older_tls_than_1_3_is_refused_on_both_sides() {
    let authority = Authority::new();
    authority.issue("node-1");
    let dialler = trust(authority.issue("scheduler"), "scheduler");
    let peer = |name| Foreign {
        authority: &authority,
        version: &TLS12,
        name: Some(name),
        later: false,
    };
    let says = "the peer does not speak TLS 1.3";
    turned_away(&authority, peer("scheduler"), "ProtocolVersion", says).await;
    let (dialled, accepted) = peer("node-1").accept(&dialler).await;
    assert!(dialled.contains("does not speak TLS 1.3"), "{dialled}");
    assert!(!accepted.is_empty());
}

#[tokio::test]
async fn g11_a_handshake_that_comes_byte_by_byte_runs_out_of_time() {
    log::begin();
    let authority = Authority::new();
    let mut config = LinkConfig::default();
    config.handshake_timeout = Duration::from_millis(500);
    let tls = trust(authority.issue("node-1"), "node-1");
    let node = Listening::start_with(tls, config).await;
    let mut peer = node.connect().await;
    // The beginning of a hello that is announced to be long.
    let mut sent = 0;
    for byte in b"\x16\x03\x01\x20\x00\x01\x00\x1f\xfc\x03\x03"
        .iter()
        .cycle()
    {
        if peer.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
        assert!(sent < 100_000, "nobody ends it");
        // The pace is the attack: the time of the handshake runs out between two bytes.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let address = format!("address={}", node.address);
    log::line(&[&address, "did not finish the handshake in time"]).await;
    node.serves().await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_flood_of_handshake_is_cut_off() {
    let authority = Authority::new();
    let tls = trust(authority.issue("node-1"), "node-1");
    let node = Listening::start_with(tls, LinkConfig::default()).await;
    let mut peer = node.connect().await;
    // Records of 16 KiB, parts of one message of 16 MiB.
    let mut record = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".to_vec();
    record.resize(5 + (16 << 10), 0);
    let mut sent = 0usize;
    while peer.write_all(&record).await.is_ok() {
        sent += record.len();
        assert!(sent < 64 << 20, "nobody stops reading");
    }
    node.serves().await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_thousand_silent_connections_keep_no_peer_with_a_certificate_out() {
    let authority = Authority::new();
    let mut config = LinkConfig::default();
    config.handshake_timeout = Duration::from_secs(60);
    assert_eq!(config.max_unproved, 64);
    let tls = trust(authority.issue("node-1"), "node-1");
    let node = Listening::start_with(tls, config).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(node.connect().await);
    }
    node.serves().await;
    for stream in silent.drain(..300) {
        let words = timeout(Duration::from_secs(20), all_words(stream)).await;
        assert_eq!(words.expect("the oldest are closed"), "");
    }
    for n in 0..600 {
        let mut stream = node.connect().await;
        if n % 2 == 0 {
            // Half of them begin to speak TLS.
            let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
        }
        silent.push(stream);
    }
    node.serves().await;
    node.stop().await;
}
