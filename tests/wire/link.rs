//! Running links, over pipes and a paused clock.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use callboard::__internals::engine::Incarnation;
use callboard::__internals::engine::message::*;
use callboard::__internals::inbox::Inbox;
use callboard::__internals::net::handshake::Side;
use callboard::__internals::net::trust::prove;
use callboard::__internals::net::{
    Authenticated, LinkCommand, LinkConfig, LinkEvent, Role, Trust, run_link,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::JoinHandle;

use crate::messages::{assign, completed};

/// Makes two proved ends of a pipe: first the scheduler's.
async fn proved(capacity: usize) -> (Authenticated, Authenticated) {
    let (a, b) = duplex(capacity);
    let (a_read, a_write) = split(a);
    let (b_read, b_write) = split(b);
    let (a, b) = tokio::join!(
        prove(
            a_read,
            a_write,
            Side::Dialler,
            Role::Scheduler,
            &Trust::Open
        ),
        prove(b_read, b_write, Side::Acceptor, Role::Node, &Trust::Open)
    );
    (a.unwrap(), b.unwrap())
}

/// One running link.
struct End<In, Out> {
    commands: Inbox<LinkCommand<Out>>,
    batches: Inbox<Vec<LinkEvent<In>>>,
    running: JoinHandle<()>,
}

impl<In, Out> End<In, Out>
where
    In: callboard::__internals::net::Wire + Send + 'static,
    Out: callboard::__internals::net::Wire + Send + 'static,
{
    fn run(proved: Authenticated, config: LinkConfig) -> Self {
        let (commands, batches) = (Inbox::new(), Inbox::new());
        let (events, given) = (batches.clone(), commands.clone());
        let running = tokio::spawn(async move {
            run_link(proved, config, given, |batch| events.push(batch)).await;
            events.close();
        });
        Self {
            commands,
            batches,
            running,
        }
    }

    fn send(&self, message: Out) {
        self.commands.push(LinkCommand::Send(message));
    }

    fn close(&self) {
        self.commands
            .push(LinkCommand::Close("the end of the test".to_owned()));
    }

    /// Waits for the next events; none after the last.
    async fn next(&self) -> Vec<LinkEvent<In>> {
        self.batches.ready().await;
        let mut batches = Vec::new();
        self.batches.take(&mut batches);
        batches.into_iter().flatten().collect()
    }

    /// Waits for all events until the link is closed.
    async fn finish(self) -> Vec<LinkEvent<In>> {
        self.running.await.unwrap();
        let mut batches = Vec::new();
        self.batches.take(&mut batches);
        batches.into_iter().flatten().collect()
    }
}

type Scheduler = End<ToScheduler, ToNode>;
type Node = End<ToNode, ToScheduler>;

async fn pair(capacity: usize) -> (Scheduler, Node) {
    let (scheduler, node) = proved(capacity).await;
    (
        End::run(scheduler, LinkConfig::default()),
        End::run(node, LinkConfig::default()),
    )
}

fn closed<In>(events: &[LinkEvent<In>]) -> &str {
    match events.last() {
        Some(LinkEvent::Closed(reason)) => reason,
        _ => panic!("the link was not closed"),
    }
}

fn beat(number: u64) -> ToScheduler {
    ToScheduler::Beat(Beat {
        number,
        answered: 0,
        round_trip: None,
    })
}

/// Makes a hello with so many kinds of the longest names.
fn hello(kinds: usize) -> ToScheduler {
    ToScheduler::Hello(Box::new(NodeHello {
        kinds: (0..kinds)
            .map(|n| KindOffer {
                kind: format!("{n:0>256}"),
                blocking: false,
            })
            .collect(),
        ..NodeHello::new("node-1", Incarnation(1))
    }))
}

#[tokio::test(start_paused = true)]
async fn g11_before_its_hello_a_peer_can_make_no_link_hold_more_than_a_hello() {
    let large = ToScheduler::Reports(vec![completed(1, Bytes::from(vec![9; 3 << 20]))]);
    let (scheduler, node) = pair(1024).await;
    node.send(large.clone());
    node.close();
    let events = scheduler.finish().await;
    let heard = events.iter().filter(|event| **event == LinkEvent::Heard);
    assert!(heard.count() <= 32, "more than 2 MiB were taken");
    let reason = closed(&events);
    assert!(reason.contains("larger than the limit"), "{reason}");
    node.finish().await;

    // The largest hello there can be passes, each part of it a proof of life, and then what is
    // larger.
    let (scheduler, node) = pair(1024).await;
    let longest = hello(MAX_KINDS);
    node.send(longest.clone());
    node.send(large.clone());
    node.close();
    let events = scheduler.finish().await;
    let at = |message| {
        let message = LinkEvent::Message(message);
        events.iter().position(|event| *event == message).unwrap()
    };
    assert!(at(longest.clone()) >= 16, "1 MiB of names are 16 parts");
    assert!(at(large) > at(longest));
    node.finish().await;
}

#[tokio::test(start_paused = true)]
async fn g8_a_beat_overtakes_between_the_chunks_of_a_large_output() {
    let (scheduler, node) = pair(1024).await;
    node.send(hello(1));
    assert_eq!(scheduler.next().await, [LinkEvent::Message(hello(1))]);
    let output = Bytes::from(vec![9; 5 << 20]);
    node.send(ToScheduler::Reports(vec![completed(1, Bytes::new())]));
    node.send(ToScheduler::Reports(vec![completed(2, output.clone())]));
    let mut messages = Vec::new();
    let mut heard = 0;
    while messages.len() < 6 {
        for event in scheduler.next().await {
            match event {
                LinkEvent::Heard => {
                    heard += 1;
                    match heard {
                        // Reports keep their order; only the beats go before.
                        3 => node.send(ToScheduler::Reports(vec![Report::Ready])),
                        5 => node.send(beat(1)),
                        40 => node.send(beat(2)),
                        _ => {}
                    }
                    if heard == 41 {
                        node.send(ToScheduler::Goodbye);
                    }
                }
                LinkEvent::Message(message) => messages.push((heard, message)),
                LinkEvent::Malformed(reason) | LinkEvent::Closed(reason) => panic!("{reason}"),
            }
        }
    }
    assert_eq!(heard, 80, "5 MiB are 80 chunks");
    let [first, one, two, large, ready, goodbye] = &messages[..] else {
        panic!("six messages");
    };
    assert_eq!(
        first,
        &(0, ToScheduler::Reports(vec![completed(1, Bytes::new())]))
    );
    assert_eq!(one.1, beat(1));
    assert!(one.0 < 9, "the first beat came after {} chunks", one.0);
    assert_eq!(two.1, beat(2));
    assert!(two.0 < 44, "the second beat came after {} chunks", two.0);
    assert_eq!(
        large,
        &(80, ToScheduler::Reports(vec![completed(2, output)]))
    );
    assert_eq!(ready.1, ToScheduler::Reports(vec![Report::Ready]));
    assert_eq!(goodbye.1, ToScheduler::Goodbye);
    node.close();
    assert_eq!(closed(&node.finish().await), "the end of the test");
    let events = scheduler.finish().await;
    assert_eq!(closed(&events), "the peer closed the connection");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_at_once_arrives_at_once_and_in_order() {
    let (scheduler, node) = pair(1 << 20).await;
    for number in 0..1000 {
        scheduler.send(ToNode::Assign(vec![assign(
            number,
            Bytes::from_static(b"x"),
        )]));
    }
    let events = node.next().await;
    assert_eq!(events.len(), 1000, "one delivery");
    for (number, event) in (0..).zip(events) {
        let expected = ToNode::Assign(vec![assign(number, Bytes::from_static(b"x"))]);
        assert_eq!(event, LinkEvent::Message(expected));
    }
    scheduler.close();
    scheduler.finish().await;
    node.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_sends_what_was_given_before_and_nothing_after() {
    let (scheduler, node) = pair(100).await;
    scheduler.send(ToNode::Assign(vec![assign(
        1,
        Bytes::from(vec![0; 100_000]),
    )]));
    scheduler.send(ToNode::Leave);
    scheduler.close();
    scheduler.send(ToNode::Drain);
    // What arrives after the close is dropped.
    node.send(ToScheduler::Goodbye);
    assert_eq!(closed(&scheduler.finish().await), "the end of the test");
    let events = node.finish().await;
    assert_eq!(closed(&events), "the peer closed the connection");
    assert_eq!(events[events.len() - 2], LinkEvent::Message(ToNode::Leave));
}

/// Makes one running end, and the bare other one, proved.
async fn bare(config: LinkConfig) -> (Scheduler, DuplexStream) {
    let (a, mut b) = duplex(1024);
    let (read, write) = split(a);
    let dialler = prove(read, write, Side::Dialler, Role::Scheduler, &Trust::Open);
    let (proved, ()) = tokio::join!(dialler, async {
        let mut greeting = [0; callboard::__internals::net::handshake::GREETING];
        b.read_exact(&mut greeting).await.unwrap();
        greeting[10] = b'A';
        greeting[11] = b'N';
        b.write_all(&greeting).await.unwrap();
    });
    (End::run(proved.unwrap(), config), b)
}

#[tokio::test(start_paused = true)]
async fn a_close_does_not_wait_for_ever_for_a_peer_that_reads_nothing() {
    let (scheduler, _peer) = bare(LinkConfig::default()).await;
    scheduler.send(ToNode::Assign(vec![assign(
        1,
        Bytes::from(vec![0; 100_000]),
    )]));
    scheduler.close();
    let start = tokio::time::Instant::now();
    let events = scheduler.finish().await;
    assert!(closed(&events).contains("the end of the test; the peer did not read all"));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn g11_a_peer_that_reads_nothing_does_not_fill_the_memory() {
    let mut config = LinkConfig::default();
    config.max_frame = 128 << 10;
    let (scheduler, _peer) = bare(config).await;
    let mut sent = 0;
    while !scheduler.running.is_finished() {
        let batch = (0..1000).map(|n| assign(n, Bytes::new())).collect();
        scheduler.send(ToNode::Assign(batch));
        sent += 1;
        assert!(sent < 1000);
        tokio::task::yield_now().await;
    }
    assert!(sent > 100, "16 MiB are allowed");
    assert!(closed(&scheduler.finish().await).contains("the peer reads too slowly"));
}

#[tokio::test(start_paused = true)]
async fn g11_a_malformed_frame_closes_the_link_after_what_came_before() {
    let (scheduler, mut peer) = bare(LinkConfig::default()).await;
    let mut bytes = BytesMut::new();
    // A goodbye, and a kind that does not exist.
    bytes.put_slice(&[0, 0, 0, 2, 23, 0x80, 0, 0, 0, 1, 99]);
    peer.write_all(&bytes).await.unwrap();
    let events = scheduler.finish().await;
    assert_eq!(events[0], LinkEvent::Message(ToScheduler::Goodbye));
    let reason = closed(&events);
    assert!(
        reason.contains("malformed frame: 99 is no kind"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_byte_by_byte_arrives() {
    let (scheduler, mut peer) = bare(LinkConfig::default()).await;
    for byte in [0, 0, 0, 2, 23, 0x80] {
        peer.write_all(&[byte]).await.unwrap();
        // The clock stands still until nobody has anything to do, so the byte has been read.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let events = scheduler.next().await;
    assert_eq!(events, [LinkEvent::Message(ToScheduler::Goodbye)]);
    peer.write_all(&[0, 0]).await.unwrap();
    drop(peer);
    let events = scheduler.finish().await;
    assert!(closed(&events).contains("within a frame"));
}

#[tokio::test(start_paused = true)]
async fn a_closed_inbox_closes_the_link() {
    let (scheduler, node) = pair(1024).await;
    scheduler.send(ToNode::Leave);
    scheduler.commands.close();
    assert_eq!(closed(&scheduler.finish().await), "this side has stopped");
    assert_eq!(node.finish().await[0], LinkEvent::Message(ToNode::Leave));
}
