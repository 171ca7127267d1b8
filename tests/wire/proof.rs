//! Who is let in, over a pipe.

use std::time::Duration;

use callboard::__internals::net::handshake::{GREETING, Side};
use callboard::__internals::net::trust::prove;
use callboard::__internals::net::{Authenticated, Role, Secret, Trust};
use callboard::error::LinkError;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::time::timeout;

fn secret(text: &str) -> Trust {
    Trust::Secret(Secret::new(text).unwrap())
}

fn ours() -> Trust {
    secret("the secret of this cluster")
}

async fn side(
    stream: DuplexStream,
    side: Side,
    role: Role,
    trust: Trust,
) -> Result<Authenticated, String> {
    let (read, write) = split(stream);
    prove(read, write, side, role, &trust)
        .await
        .map_err(|error| error.to_string())
}

/// Returns what both sides say: first the one that dialled.
async fn meet(
    dialler: Trust,
    acceptor: Trust,
) -> (Result<Authenticated, String>, Result<Authenticated, String>) {
    let (a, b) = duplex(64);
    tokio::join!(
        side(a, Side::Dialler, Role::Scheduler, dialler),
        side(b, Side::Acceptor, Role::Node, acceptor)
    )
}

#[tokio::test]
async fn g11_both_sides_prove_or_neither_is_let_in() {
    let (a, b) = meet(ours(), ours()).await;
    assert!(a.is_ok() && b.is_ok());
    let (a, b) = meet(Trust::Open, Trust::Open).await;
    assert!(a.is_ok() && b.is_ok());

    let (a, b) = meet(secret("another secret, not ours"), ours()).await;
    assert!(
        a.unwrap_err()
            .contains("the peer refused: the secret that it was given is not its own")
    );
    assert!(b.unwrap_err().contains("the peer does not know the secret"));
    let (a, b) = meet(Trust::Open, ours()).await;
    assert!(
        a.unwrap_err()
            .contains("the peer has a secret and this side has none")
    );
    assert!(
        b.unwrap_err()
            .contains("this side has a secret and the peer has none")
    );
    let (a, b) = meet(ours(), Trust::Open).await;
    assert!(
        a.unwrap_err()
            .contains("this side has a secret and the peer has none")
    );
    assert!(
        b.unwrap_err()
            .contains("the peer has a secret and this side has none")
    );
}

#[tokio::test]
async fn two_of_the_same_role_say_so() {
    let (a, b) = duplex(64);
    let (a, b) = tokio::join!(
        side(a, Side::Dialler, Role::Node, ours()),
        side(b, Side::Acceptor, Role::Node, ours())
    );
    assert!(a.unwrap_err().contains("this side is a node"));
    assert!(b.unwrap_err().contains("this side is a node"));
}

/// Answers everything with the same bytes, but for `change`.
async fn echo(mut stream: DuplexStream, change: impl Fn(&mut [u8; GREETING])) {
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting).await.unwrap();
    change(&mut greeting);
    stream.write_all(&greeting).await.unwrap();
    let mut proof = [0; 33];
    if stream.read_exact(&mut proof).await.is_ok() {
        let _ = stream.write_all(&proof).await;
    }
}

#[tokio::test]
async fn g11_a_reflected_greeting_or_proof_is_refused() {
    for mended in [false, true] {
        let (a, b) = duplex(64);
        let (result, ()) = tokio::join!(
            side(a, Side::Dialler, Role::Scheduler, ours()),
            echo(b, |greeting| if mended {
                // As if from the other side and of the other role, yet with the proof of this one.
                greeting[10] = b'A';
                greeting[11] = b'N';
            })
        );
        let words = result.unwrap_err();
        let expected = if mended {
            "does not know the secret"
        } else {
            "echoes this side"
        };
        assert!(words.contains(expected), "{words}");
    }
}

/// Checks that an acceptor that is asked for a proof by a second connection's greeting gives none
/// before it was given one, so it cannot be used to answer in another's place.
#[tokio::test(start_paused = true)]
async fn g11_the_accepting_side_proves_nothing_to_a_stranger() {
    let (a, mut b) = duplex(256);
    let acceptor = tokio::spawn(side(a, Side::Acceptor, Role::Node, ours()));
    let mut greeting = [0; GREETING];
    b.read_exact(&mut greeting).await.unwrap();
    greeting[10] = b'D';
    greeting[11] = b'S';
    b.write_all(&greeting).await.unwrap();
    let silence = timeout(Duration::from_secs(60), b.read_u8()).await;
    assert!(silence.is_err(), "{silence:?}");
    b.write_all(&[1; 33]).await.unwrap();
    let mut words = Vec::new();
    let refused = timeout(Duration::from_secs(60), b.read_to_end(&mut words)).await;
    assert!(refused.is_ok(), "a wrong proof was accepted");
    assert_eq!(words[0], 2);
    assert!(acceptor.await.unwrap().unwrap_err().contains("secret"));
}

#[tokio::test]
async fn a_peer_that_is_not_callboard_is_told_apart_at_its_first_bytes() {
    for (bytes, expected) in [
        (
            &b"GET / HTTP/1.1\r\n"[..],
            "it began with \"GET / HTTP/1.1..\"",
        ),
        (
            b"\x16\x03\x01",
            "the peer speaks TLS and this side has no certificates",
        ),
        (b"callboard\x09", "generation 9"),
        (
            b"callboard\x01DS",
            "closed the connection during the handshake",
        ),
        (b"", "closed the connection during the handshake"),
    ] {
        let (a, mut b) = duplex(4096);
        let (result, words) = tokio::join!(side(a, Side::Acceptor, Role::Node, ours()), async {
            b.write_all(bytes).await.unwrap();
            b.shutdown().await.unwrap();
            let mut words = Vec::new();
            b.read_to_end(&mut words).await.unwrap();
            words
        });
        let error = result.unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(
            words.len() > GREETING,
            expected != "closed the connection during the handshake"
        );
    }
}

#[test]
fn a_secret_shows_nothing_of_itself_and_short_ones_are_refused() {
    assert_eq!(format!("{:?}", ours()), "Secret(Secret(..))");
    let error = Secret::new("short").unwrap_err();
    assert!(error.to_string().contains("at least 16 bytes"));
    assert!(!error.to_string().contains("short"));
    let _: LinkError = LinkError::HandshakeTimeout;
}
