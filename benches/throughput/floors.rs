//! The floors: bare actix actors that hand each message on, and a bare socket that sends each frame back.

use std::time::Instant;

use actix::prelude::*;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::Scale;

#[derive(Message)]
#[rtype(result = "()")]
struct Hand(u64);

/// Hands each message on, the last one tells.
struct Link {
    next: Option<Recipient<Hand>>,
    left: u64,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Link {
    type Context = Context<Self>;
}

impl Handler<Hand> for Link {
    type Result = ();

    fn handle(&mut self, hand: Hand, _: &mut Self::Context) {
        if let Some(next) = &self.next {
            next.do_send(Hand(hand.0 + 1));
            return;
        }
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // The bench waits for it.
            let _ = done.send(());
        }
    }
}

/// The actors that a task passes, as hops that do nothing: scheduler, node, worker, node, scheduler,
/// client.
const HOPS: usize = 6;

/// Hands numbers through all hops, which are spread over so many arbiters.
fn chain(count: u64, arbiters: usize) -> f64 {
    System::new().block_on(async move {
        let arbiters: Vec<_> = (0..arbiters).map(|_| Arbiter::new()).collect();
        let (tx, rx) = oneshot::channel();
        let mut next = None;
        let mut done = Some(tx);
        for index in (0..HOPS).rev() {
            let (after, told) = (next.take(), done.take());
            let arbiter = &arbiters[index % arbiters.len()];
            let link = Link::start_in_arbiter(&arbiter.handle(), move |_| Link {
                next: after,
                left: count,
                done: told,
            });
            next = Some(link.recipient());
        }
        let first = next.expect("the chain has links");
        let began = Instant::now();
        for n in 0..count {
            first.do_send(Hand(n));
        }
        rx.await.expect("the last link tells");
        let rate = count as f64 / began.elapsed().as_secs_f64();
        for arbiter in arbiters {
            arbiter.stop();
        }
        rate
    })
}

pub fn chain_one(scale: &Scale) -> f64 {
    chain(scale.of(2_000_000), 1)
}

pub fn chain_three(scale: &Scale) -> f64 {
    chain(scale.of(1_000_000), 3)
}

/// One message at a time through three arbiters: the median.
pub fn chain_three_latency(scale: &Scale) -> f64 {
    let count = scale.of(10_000);
    System::new().block_on(async move {
        let arbiters = [Arbiter::new(), Arbiter::new(), Arbiter::new()];
        let mut spans = Vec::new();
        for _ in 0..count {
            let (tx, rx) = oneshot::channel();
            // Fresh actors would measure their start: a closure on each arbiter is the same hop.
            let (b, c) = (arbiters[1].handle(), arbiters[2].handle());
            let began = Instant::now();
            arbiters[0].spawn_fn(move || {
                b.spawn_fn(move || {
                    c.spawn_fn(move || {
                        // The bench waits for it.
                        let _ = tx.send(());
                    });
                });
            });
            rx.await.expect("the last hop tells");
            spans.push(began.elapsed().as_secs_f64() * 1e6);
        }
        for arbiter in arbiters {
            arbiter.stop();
        }
        super::board::percentile(&mut spans, 0.5)
    })
}

type Wire = Framed<TcpStream, LengthDelimitedCodec>;

fn wire(stream: TcpStream) -> Wire {
    stream.set_nodelay(true).expect("a fresh socket");
    LengthDelimitedCodec::builder()
        .max_frame_length(16 << 20)
        .new_framed(stream)
}

/// A socket to a thread that decodes each frame, encodes it anew and sends it back.
async fn echo() -> Wire {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let listener = listener.into_std().expect("a plain socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a plain socket");
            let (stream, _) = listener.accept().await.expect("the bench connects");
            let mut wire = wire(stream);
            while let Some(Ok(frame)) = wire.next().await {
                let reply = if frame.len() <= 16 {
                    let n: u64 = rmp_serde::from_slice(&frame).expect("a number");
                    Bytes::from(rmp_serde::to_vec(&(n + 1)).expect("a number"))
                } else {
                    frame.freeze()
                };
                // All that has come is answered by one write.
                if wire.feed(reply).await.is_err() {
                    return;
                }
                if wire.read_buffer().len() < 4 && SinkExt::<Bytes>::flush(&mut wire).await.is_err()
                {
                    return;
                }
            }
        });
    });
    wire(TcpStream::connect(address).await.expect("it listens"))
}

/// So many numbers there and back, so many at a time.
fn tcp(count: u64, window: u64) -> f64 {
    System::new().block_on(async move {
        let mut wire = echo().await;
        let (mut sent, mut heard) = (0, 0);
        let began = Instant::now();
        while heard < count {
            while sent < count && sent - heard < window {
                let frame = rmp_serde::to_vec(&sent).expect("a number");
                wire.feed(Bytes::from(frame)).await.expect("the peer reads");
                sent += 1;
            }
            SinkExt::<Bytes>::flush(&mut wire)
                .await
                .expect("the peer reads");
            let frame = wire
                .next()
                .await
                .expect("the peer answers")
                .expect("a frame");
            let _: u64 = rmp_serde::from_slice(&frame).expect("a number");
            heard += 1;
            while heard < sent && wire.read_buffer().len() >= 5 {
                let frame = wire
                    .next()
                    .await
                    .expect("the peer answers")
                    .expect("a frame");
                let _: u64 = rmp_serde::from_slice(&frame).expect("a number");
                heard += 1;
            }
        }
        count as f64 / began.elapsed().as_secs_f64()
    })
}

pub fn tcp_ten(scale: &Scale) -> f64 {
    tcp(scale.of(300_000), 10)
}

pub fn tcp_pipelined(scale: &Scale) -> f64 {
    tcp(scale.of(1_000_000), 1024)
}

pub fn tcp_latency(scale: &Scale) -> f64 {
    1e6 / tcp(scale.of(20_000), 1)
}

/// Bodies of 1 MiB there and back, as many as the sockets hold: bytes in one direction.
pub fn tcp_bytes(scale: &Scale) -> f64 {
    let count = scale.of(400);
    System::new().block_on(async move {
        let body = Bytes::from(vec![7_u8; 1 << 20]);
        let (mut write, mut read) = echo().await.split();
        let began = Instant::now();
        let sent = body.clone();
        let writer = actix_rt::spawn(async move {
            for _ in 0..count {
                write.send(sent.clone()).await.expect("the peer reads");
            }
        });
        for _ in 0..count {
            read.next()
                .await
                .expect("the peer answers")
                .expect("a frame");
        }
        writer.await.expect("it only writes");
        (count << 20) as f64 / began.elapsed().as_secs_f64()
    })
}
