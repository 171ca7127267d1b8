//! A real listener on loopback, and what it does with peers of all sorts. Time limits are on pipes,
//! in `proof` and `link`: real sockets do not run under a paused clock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use callboard::__internals::engine::message::{ToNode, ToScheduler};
use callboard::__internals::inbox::Inbox;
use callboard::__internals::links::LinkSender;
use callboard::__internals::net::handshake::{GREETING, Side};
use callboard::__internals::net::trust::prove;
use callboard::__internals::net::{
    Authenticated, DialError, LinkCommand, LinkConfig, LinkEvent, LinkWriter, ListenError,
    Listener, Role, Secret, Trust, dial, probe, run_link,
};
use callboard::error::LinkError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::messages::assign;

fn secret() -> Trust {
    Trust::Secret(Secret::new("the secret of this cluster").unwrap())
}

/// A node that listens, and what it let in.
pub struct Listening {
    pub address: SocketAddr,
    trust: Trust,
    proved: Inbox<Authenticated>,
    running: JoinHandle<()>,
}

impl Listening {
    async fn start(config: LinkConfig) -> Self {
        Self::start_with(secret(), config).await
    }

    pub async fn start_with(trust: Trust, config: LinkConfig) -> Self {
        let listener = Listener::bind("127.0.0.1:0", trust.clone(), Role::Node, config)
            .await
            .unwrap();
        let address = listener.local_addr();
        let proved = Inbox::new();
        let given = proved.clone();
        let running = tokio::spawn(listener.run(move |link, _| given.push(link)));
        Self {
            address,
            trust,
            proved,
            running,
        }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Checks that a scheduler still gets in and can speak, large tasks included.
    pub async fn serves(&self) {
        self.serves_to(&self.trust).await;
    }

    /// Checks the same for a scheduler that trusts so.
    pub async fn serves_to(&self, trust: &Trust) {
        let config = LinkConfig::default();
        let dialled = self.dial(trust).await.unwrap();
        self.proved.ready().await;
        let mut accepted = Vec::new();
        self.proved.take(&mut accepted);
        let accepted = accepted.pop().unwrap();
        let (to_node, to_scheduler) = (Inbox::new(), Inbox::new());
        let large = ToNode::Assign(vec![assign(1, Bytes::from(vec![5; 1 << 20]))]);
        to_node.push(LinkCommand::Send(large.clone()));
        to_scheduler.push(LinkCommand::Send(ToScheduler::Goodbye));
        let (mut at_node, mut at_scheduler) = (Vec::new(), Vec::new());
        let node = run_link(accepted, config.clone(), to_scheduler, |events| {
            at_node.extend(events);
        });
        let finish = to_node.clone();
        let scheduler = run_link(dialled, config, to_node, |events| {
            at_scheduler.extend(events);
            // All that was sent before goes out first.
            finish.push(LinkCommand::Close("heard it".to_owned()));
        });
        tokio::join!(node, scheduler);
        assert_eq!(at_node[0], LinkEvent::Heard);
        assert!(at_node.contains(&LinkEvent::Message(large)));
        assert_eq!(at_scheduler[0], LinkEvent::Message(ToScheduler::Goodbye));
    }

    pub async fn dial(&self, trust: &Trust) -> Result<Authenticated, DialError> {
        let config = LinkConfig::default();
        dial(&self.address.to_string(), trust, Role::Scheduler, &config).await
    }

    pub async fn stop(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
        let mut left = Vec::new();
        assert!(!self.proved.take(&mut left), "somebody else was let in");
    }
}

pub async fn all_words(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes[bytes.len().min(GREETING)..]).into_owned()
}

#[tokio::test]
async fn g11_peers_that_say_something_else_are_refused_in_words() {
    let node = Listening::start(LinkConfig::default()).await;
    for (bytes, expected) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            "does not speak its protocol",
        ),
        (
            b"\x16\x03\x01\x02\x00",
            "this side has no certificates and speaks no TLS",
        ),
        (&[0xff; 40], "does not speak its protocol"),
        (b"callboard\x02", "another generation"),
    ] {
        let mut peer = node.connect().await;
        peer.write_all(bytes).await.unwrap();
        let words = all_words(peer).await;
        assert!(words.contains(expected), "{words}");
    }
    node.serves().await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_flood_of_bytes_before_the_proof_is_cut_off() {
    let node = Listening::start(LinkConfig::default()).await;
    let mut peer = node.connect().await;
    let garbage = vec![b'x'; 64 << 10];
    let mut sent = 0usize;
    while peer.write_all(&garbage).await.is_ok() {
        sent += garbage.len();
        assert!(sent < 64 << 20, "nobody stops reading");
    }
    node.serves().await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_wrong_secret_is_refused_on_both_sides() {
    let node = Listening::start(LinkConfig::default()).await;
    let wrong = Trust::Secret(Secret::new("another secret, not ours").unwrap());
    let address = node.address.to_string();
    let config = LinkConfig::default();
    for (trust, expected) in [
        (
            wrong,
            "the peer refused: the secret that it was given is not its own",
        ),
        (Trust::Open, "the peer has a secret and this side has none"),
    ] {
        let error = dial(&address, &trust, Role::Scheduler, &config)
            .await
            .unwrap_err();
        assert!(!error.refused);
        assert!(matches!(error.error, LinkError::Proof(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
    node.serves().await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_peer_that_says_one_byte_at_a_time_runs_out_of_time() {
    let mut config = LinkConfig::default();
    config.handshake_timeout = Duration::from_millis(50);
    let node = Listening::start(config).await;
    let mut peer = node.connect().await;
    let mut greeting = [0; GREETING];
    peer.read_exact(&mut greeting).await.unwrap();
    let start = std::time::Instant::now();
    // It says the beginning of a greeting, and then nothing more.
    for byte in &greeting[..10] {
        peer.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(all_words(peer).await, "");
    assert!(start.elapsed() < Duration::from_secs(3));
    node.serves().await;
    node.stop().await;
}

#[tokio::test]
async fn g11_a_thousand_silent_connections_keep_no_scheduler_out() {
    let mut config = LinkConfig::default();
    config.handshake_timeout = Duration::from_secs(60);
    let node = Listening::start(config).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(node.connect().await);
    }
    node.serves().await;
    // Those beyond 64 were closed, the oldest first: they read to an end.
    for stream in silent.drain(..300) {
        let words = timeout(Duration::from_secs(20), all_words(stream)).await;
        assert_eq!(words.expect("the oldest are closed"), "");
    }
    for _ in 0..600 {
        silent.push(node.connect().await);
    }
    node.serves().await;
    node.stop().await;
}

/// Opens a stranger's connection, which the listener has greeted.
async fn stranger(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    stream.readable().await.unwrap();
    stream
}

#[tokio::test]
async fn g11_a_stranger_who_connects_without_end_drops_its_own_and_keeps_no_scheduler_out() {
    let mut config = LinkConfig::default();
    config.handshake_timeout = Duration::from_secs(60);
    config.max_unproved = 8;
    let node = Listening::start(config.clone()).await;
    let mut strangers = VecDeque::new();
    let mut connect = async || {
        strangers.push_back(stranger(node.address).await);
        if strangers.len() > 16 {
            strangers.pop_front();
        }
    };
    // An honest handshake over a slow line: far more strangers come in the middle of it than there
    // is room for.
    let honest = node.connect().await;
    honest.readable().await.unwrap();
    for _ in 0..64 {
        connect().await;
    }
    let (read, write) = honest.into_split();
    let proved = prove(read, write, Side::Dialler, Role::Scheduler, &node.trust);
    proved.await.expect("the honest connection is kept");
    node.proved.ready().await;
    node.proved.take(&mut Vec::new());
    // And while they go on.
    tokio::select! {
        () = node.serves() => {}
        () = async { loop { connect().await } } => {}
    }
    node.stop().await;
}

#[tokio::test]
async fn a_listener_for_strangers_needs_a_secret_and_so_does_a_dial() {
    let config = LinkConfig::default();
    let error = Listener::bind("0.0.0.0:0", Trust::Open, Role::Node, config.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, ListenError::NeedsTrust { .. }));
    assert!(error.to_string().contains("set a secret"), "{error}");
    let open = Listener::bind("127.0.0.1:0", Trust::Open, Role::Node, config.clone()).await;
    assert!(open.is_ok());
    let error = dial("192.0.2.1:9", &Trust::Open, Role::Node, &config)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a shared secret or certificates are needed")
    );
}

#[tokio::test]
async fn g8_only_an_answer_that_nothing_listens_is_a_refusal() {
    let config = LinkConfig::default();
    let gone = {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap().to_string()
    };
    let error = dial(&gone, &secret(), Role::Scheduler, &config)
        .await
        .unwrap_err();
    assert!(error.refused);
    assert!(probe(&gone).await);

    let node = Listening::start(config.clone()).await;
    assert!(!probe(&node.address.to_string()).await);
    node.serves().await;
    node.stop().await;

    // It accepts and closes.
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let trust = secret();
    let (result, _) = tokio::join!(dial(&address, &trust, Role::Scheduler, &config), async {
        socket.accept().await.map(drop)
    });
    let error = result.unwrap_err();
    assert!(!error.refused);
    assert!(error.to_string().contains("connection failed"), "{error}");
    let error = dial("no port here", &trust, Role::Node, &config).await;
    assert!(!error.unwrap_err().refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_on_a_socket_that_two_threads_write_to() {
    const COUNT: u64 = 20_000;
    let mut config = LinkConfig::default();
    config.notsent_lowat = 4 << 10;
    let listening = Listening::start(config.clone()).await;
    let dialled = listening.dial(&listening.trust).await.unwrap();
    listening.proved.ready().await;
    let mut accepted = Vec::new();
    listening.proved.take(&mut accepted);

    let way = LinkWriter::new();
    let given = way.clone();
    let link = tokio::spawn(run_link(
        dialled,
        config.clone(),
        way.clone(),
        |_: Vec<LinkEvent<ToScheduler>>| {},
    ));
    let sender = tokio::task::spawn_blocking(move || {
        for number in 1..=COUNT {
            let args = Bytes::from(vec![5; (number % 700) as usize]);
            let message = ToNode::Assign(vec![assign(number, args)]);
            match number % 16 {
                0 => given.give(LinkCommand::Send(message)),
                _ => given.send(vec![message], true),
            }
        }
        given.give(LinkCommand::Close("all was sent".to_owned()));
    });
    let mut next = 1;
    let node = run_link(
        accepted.pop().unwrap(),
        config,
        Inbox::<LinkCommand<ToScheduler>>::new(),
        |events| {
            for event in events {
                if let LinkEvent::Message(ToNode::Assign(assignments)) = event {
                    assert_eq!(assignments[0].task.get(), next);
                    next += 1;
                }
            }
        },
    );
    node.await;
    assert_eq!(next, COUNT + 1);
    sender.await.unwrap();
    link.await.unwrap();
    listening.stop().await;
}
