//! One running connection.
//!
//! Owns: reading and delivering, and, by its satellite, what waits to be sent, until one side
//! closes. Does not know: sockets (any [`Authenticated`] will do), what messages mean, heartbeats
//! and leases.
//!
//! Messages go in order, except that those which may overtake (beats and their answers) go before
//! all others, even between the chunks of a large body. All that has arrived, or waits to be sent,
//! is handled at once; nothing waits for company.
//!
//! The rest of a chunk is read where it belongs, and not copied there. This serves the bench row
//! `large` (1.08 times as many bytes a second as by way of the buffer), measured with and without
//! in one run, 2026-11-28.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout_at;

use super::codec::message::{Arrived, MessageReader, Wire};
use super::{Authenticated, LinkConfig};
use crate::error::LinkError;

mod send;

pub use send::LinkWriter;
use send::{Sent, send};

/// How much is read at once.
const READ_BUFFER: usize = 64 << 10;
/// Below this much room the buffer is renewed, so that no call reads just a few bytes.
const READ_ROOM: usize = 8 << 10;

/// How much is read at once between the chunks of a body: a few frames that overtake and the head
/// of the next chunk, whose bytes are then read where they belong and not copied.
const READ_HEADS: usize = 2 << 10;
/// Chunks below this size are read by way of the buffer, many at once: a copy is then cheaper than
/// a call.
const READ_STRAIGHT: usize = 16 << 10;

/// A command for a link.
#[derive(Debug)]
pub enum LinkCommand<Out> {
    /// Send a message.
    Send(Out),
    /// Send what was given before, then close, for this reason. What is given after it is dropped,
    /// and so is what arrives.
    Close(String),
}

/// An event from a link.
#[derive(Debug, PartialEq)]
pub enum LinkEvent<In> {
    /// A message has arrived.
    Message(In),
    /// A part of a message has arrived: a proof of life. At most one for each delivery.
    Heard,
    /// What has arrived does not belong to the protocol, and what is wrong with it. Nothing after
    /// it is read, and the link is closed.
    Malformed(String),
    /// The link is closed, by either side, for this reason. The last event.
    Closed(String),
}

/// Carries messages both ways until one side closes; ends when [`LinkEvent::Closed`] was delivered.
///
/// `deliver` is called once for all that was read at once. It must not block; the link yields after
/// each call, so a receiver on the same thread keeps up with it. What is sent, and when the link is
/// to close, is given on the `way` out; when that comes from an inbox which is closed and empty,
/// the link is closed. Dropping the future closes the connection at once and tells nobody.
pub async fn run_link<In: Wire, Out: Wire>(
    proved: Authenticated,
    config: LinkConfig,
    way: impl Into<LinkWriter<Out>>,
    mut deliver: impl FnMut(Vec<LinkEvent<In>>),
) {
    let Authenticated {
        read,
        write,
        direct,
        ..
    } = proved;
    let way = way.into();
    let closing = AtomicBool::new(false);
    let closed = {
        let reading = receive(read, config.max_frame, &closing, &mut deliver);
        let writing = send(write, direct, &config, &way, &closing);
        tokio::pin!(reading, writing);
        tokio::select! {
            closed = &mut reading => closed,
            Sent { closed, linger } = &mut writing => {
                if let Some(until) = linger {
                    // Closing a socket that has something to read would discard what is still on
                    // its way to the peer, so what comes is read until the peer has seen the end.
                    // And a peer that said goodbye before it closed said so even if it could not be
                    // answered.
                    let _ = timeout_at(until, reading).await;
                }
                closed
            }
        }
    };
    deliver(vec![LinkEvent::Closed(closed)]);
}

/// Reads and delivers until the peer closes or breaks the protocol; says which.
async fn receive<In: Wire>(
    mut read: impl AsyncRead + Unpin,
    max_body: usize,
    closing: &AtomicBool,
    deliver: &mut impl FnMut(Vec<LinkEvent<In>>),
) -> String {
    let mut buffer = BytesMut::new();
    let mut reader = MessageReader::new(max_body);
    loop {
        let within = reader.is_within_chunk();
        match read_some(&mut read, &mut reader, &mut buffer).await {
            Ok(0) => return ended(&reader, &buffer),
            Ok(_) => {}
            // TLS tells an end that was announced from one that was not, and a process that is
            // killed announces none. What it means is the same as without TLS: dial again.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return ended(&reader, &buffer);
            }
            Err(error) => return LinkError::from(error).to_string(),
        }
        if closing.load(Ordering::Relaxed) {
            buffer.clear();
            continue;
        }
        let mut events = Vec::new();
        if within && !reader.is_within_chunk() {
            events.push(LinkEvent::Heard);
        }
        let whole = decode(&mut reader, &mut buffer, &mut events);
        if let Err(error) = &whole {
            events.push(LinkEvent::Malformed(error.to_string()));
        }
        if !events.is_empty() {
            deliver(events);
            tokio::task::yield_now().await;
        }
        if let Err(error) = whole {
            return error.to_string();
        }
    }
}

/// Reads once: the rest of a chunk to where it belongs, all else to the buffer.
async fn read_some(
    read: &mut (impl AsyncRead + Unpin),
    reader: &mut MessageReader,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    if reader.is_within_chunk() {
        let count = read.read_buf(&mut reader.room()).await?;
        reader.filled(count);
        return Ok(count);
    }
    if buffer.capacity() - buffer.len() < READ_ROOM {
        buffer.reserve(READ_BUFFER);
    }
    if reader.last_chunk() >= READ_STRAIGHT {
        return read.read_buf(&mut buffer.limit(READ_HEADS)).await;
    }
    read.read_buf(buffer).await
}

/// Returns how what the peer sent has ended, with this left of it.
fn ended(reader: &MessageReader, buffer: &BytesMut) -> String {
    let within = if buffer.is_empty() && !reader.is_within_chunk() {
        ""
    } else {
        " within a frame"
    };
    format!("the peer closed the connection{within}")
}

/// Decodes all that is whole in the buffer.
fn decode<In: Wire>(
    reader: &mut MessageReader,
    buffer: &mut BytesMut,
    events: &mut Vec<LinkEvent<In>>,
) -> Result<(), LinkError> {
    let mut heard = !events.is_empty();
    while let Some(arrived) = reader.next(buffer)? {
        match arrived {
            Arrived::Message(message) => events.push(LinkEvent::Message(message)),
            // One proof of life is as good as many.
            Arrived::Part if heard => {}
            Arrived::Part => {
                heard = true;
                events.push(LinkEvent::Heard);
            }
        }
    }
    Ok(())
}
