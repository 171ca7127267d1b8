//! The floor between processes: a bare socket that sends each frame back.

use std::time::Instant;

use actix::System;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::Scale;
use super::latency::percentiles;

type Wire = Framed<TcpStream, LengthDelimitedCodec>;

fn wire(stream: TcpStream) -> Wire {
    stream.set_nodelay(true).expect("a fresh socket");
    LengthDelimitedCodec::builder()
        .max_frame_length(16 << 20)
        .new_framed(stream)
}

/// Opens a socket to a thread that decodes each frame, encodes it anew and sends it back.
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

async fn hear(wire: &mut Wire) -> u64 {
    let frame = wire.next().await.expect("the peer answers");
    rmp_serde::from_slice(&frame.expect("a frame")).expect("a number")
}

/// Measures so many numbers there and back, so many at a time.
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
            hear(&mut wire).await;
            heard += 1;
            // More than a header is a frame or its beginning: all that has come is read before more
            // is sent.
            while heard < sent && wire.read_buffer().len() >= 5 {
                hear(&mut wire).await;
                heard += 1;
            }
        }
        count as f64 / began.elapsed().as_secs_f64()
    })
}

pub fn ten(scale: &Scale) -> f64 {
    tcp(scale.of(300_000), 10)
}

pub fn pipelined(scale: &Scale) -> f64 {
    tcp(scale.of(1_000_000), 1024)
}

/// Measures one number at a time.
pub fn latency(scale: &Scale) -> [f64; 3] {
    let count = scale.of(20_000);
    System::new().block_on(async move {
        let mut wire = echo().await;
        let mut spans = Vec::new();
        for n in 0..count {
            let began = Instant::now();
            let frame = rmp_serde::to_vec(&n).expect("a number");
            wire.send(Bytes::from(frame)).await.expect("the peer reads");
            let reply = hear(&mut wire).await;
            spans.push(began.elapsed().as_secs_f64() * 1e6);
            assert_eq!(reply, n + 1);
        }
        percentiles(spans)
    })
}

/// Bodies of 1 MiB there and back, as many as the sockets hold: bytes in one direction.
pub fn bytes(scale: &Scale) -> f64 {
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
