//! One running connection.
//!
//! Owns: what waits to be sent and in which order it goes, reading and writing until one side closes. Does
//! not know: sockets (any [`Proved`] will do), what messages mean, heartbeats and leases.
//!
//! Messages go in order, except that those which may overtake (beats and their answers) go before all
//! others, even between the chunks of a large body. All that has arrived, or waits to be sent, is handled
//! at once; nothing waits for company.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::body::{BURST, Burst, Frames};
use super::wire::{Arrived, Incoming, Wire};
use super::{LinkConfig, Proved};
use crate::error::LinkError;
use crate::inbox::Inbox;

/// How much is read at once.
const READ_BUFFER: usize = 64 << 10;
/// Below this much room the buffer is renewed, so that no call reads just a few bytes.
const READ_ROOM: usize = 8 << 10;

/// How much is read at once between the chunks of a body: a few frames that overtake and the head of the next
/// chunk, whose bytes are then read where they belong and not copied.
const READ_HEADS: usize = 2 << 10;
/// Chunks below this size are read by way of the buffer, many at once: a copy is then cheaper than a call.
const READ_STRAIGHT: usize = 16 << 10;

/// For a link.
#[derive(Debug)]
pub enum LinkCommand<Out> {
    /// Send a message.
    Send(Out),
    /// Send what was given before, then close; why, in words. What is given after it is dropped, and so
    /// is what arrives.
    Close(String),
}

/// From a link.
#[derive(Debug, PartialEq)]
pub enum LinkEvent<In> {
    /// A message has arrived.
    Message(In),
    /// A part of a message has arrived: a proof of life. At most one for each delivery.
    Heard,
    /// What has arrived is none of the protocol; what is wrong with it, in words. Nothing after it is read, and
    /// the link is closed.
    Malformed(String),
    /// The link is closed, by whichever side; why, in words. The last event.
    Closed(String),
}

/// Carries messages both ways until one side closes; ends when [`LinkEvent::Closed`] was delivered.
///
/// `deliver` is called once for all that was read at once. It must not block; the link yields after each
/// call, so a receiver on the same thread keeps up with it. When `commands` is closed and empty, the link
/// is closed. Dropping the future closes the connection at once and tells nobody.
pub async fn run_link<In: Wire, Out: Wire>(
    proved: Proved,
    config: LinkConfig,
    commands: Inbox<LinkCommand<Out>>,
    mut deliver: impl FnMut(Vec<LinkEvent<In>>),
) {
    let Proved { read, write, .. } = proved;
    let closing = AtomicBool::new(false);
    let closed = {
        let reading = receive(read, config.max_frame, &closing, &mut deliver);
        let writing = send(write, &config, commands, &closing);
        tokio::pin!(reading, writing);
        tokio::select! {
            closed = &mut reading => closed,
            Sent { closed, linger } = &mut writing => {
                if let Some(until) = linger {
                    // Closing a socket that has something to read would discard what is still on its way
                    // to the peer, so what comes is read until the peer has seen the end.
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
    let mut incoming = Incoming::new(max_body);
    loop {
        let within = incoming.is_within_chunk();
        match read_some(&mut read, &mut incoming, &mut buffer).await {
            Ok(0) => return ended(&incoming, &buffer),
            Ok(_) => {}
            // TLS tells an end that was announced from one that was not, and a process that is killed
            // announces none. What it means is the same as without TLS: dial again.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return ended(&incoming, &buffer);
            }
            Err(error) => return LinkError::from(error).to_string(),
        }
        if closing.load(Ordering::Relaxed) {
            buffer.clear();
            continue;
        }
        let mut events = Vec::new();
        if within && !incoming.is_within_chunk() {
            events.push(LinkEvent::Heard);
        }
        let whole = decode(&mut incoming, &mut buffer, &mut events);
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
    incoming: &mut Incoming,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    if incoming.is_within_chunk() {
        let count = read.read_buf(&mut incoming.room()).await?;
        incoming.filled(count);
        return Ok(count);
    }
    if buffer.capacity() - buffer.len() < READ_ROOM {
        buffer.reserve(READ_BUFFER);
    }
    if incoming.last_chunk() >= READ_STRAIGHT {
        return read.read_buf(&mut buffer.limit(READ_HEADS)).await;
    }
    read.read_buf(buffer).await
}

/// The end of what the peer sent, with this left of it.
fn ended(incoming: &Incoming, buffer: &BytesMut) -> String {
    let within = if buffer.is_empty() && !incoming.is_within_frame() {
        ""
    } else {
        " within a frame"
    };
    format!("the peer closed the connection{within}")
}

/// All that is whole in the buffer.
fn decode<In: Wire>(
    incoming: &mut Incoming,
    buffer: &mut BytesMut,
    events: &mut Vec<LinkEvent<In>>,
) -> Result<(), LinkError> {
    let mut heard = !events.is_empty();
    while let Some(arrived) = incoming.next(buffer)? {
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

/// How sending ended.
struct Sent {
    closed: String,
    /// Until when to wait for the peer to close too.
    linger: Option<Instant>,
}

async fn send<Out: Wire>(
    mut write: impl AsyncWrite + Unpin,
    config: &LinkConfig,
    commands: Inbox<LinkCommand<Out>>,
    closing: &AtomicBool,
) -> Sent {
    let mut outbox = Outbox::new(config, commands);
    match outbox.run(&mut write, closing).await {
        Ok((closed, until)) => {
            let end = timeout_at(until, write.shutdown()).await;
            Sent {
                closed,
                linger: matches!(end, Ok(Ok(()))).then_some(until),
            }
        }
        Err(closed) => Sent {
            closed,
            linger: None,
        },
    }
}

/// What waits to be sent.
struct Outbox<Out> {
    commands: Inbox<LinkCommand<Out>>,
    taken: Vec<LinkCommand<Out>>,
    /// In order.
    ordered: VecDeque<Out>,
    ordered_weight: usize,
    /// Those that may overtake.
    first: Vec<Out>,
    frames: Frames,
    first_frames: Frames,
    close: Option<Closing>,
    max_queued: usize,
    close_timeout: Duration,
}

struct Closing {
    reason: String,
    until: Instant,
}

impl<Out: Wire> Outbox<Out> {
    fn new(config: &LinkConfig, commands: Inbox<LinkCommand<Out>>) -> Self {
        Self {
            commands,
            taken: Vec::new(),
            ordered: VecDeque::new(),
            ordered_weight: 0,
            first: Vec::new(),
            frames: Frames::new(config.chunk_bytes, config.max_frame),
            first_frames: Frames::new(config.chunk_bytes, config.max_frame),
            close: None,
            max_queued: config.max_queued(),
            close_timeout: config.close_timeout,
        }
    }

    /// Sends until told to close, and says why and until when; or why it could not go on.
    async fn run(
        &mut self,
        write: &mut (impl AsyncWrite + Unpin),
        closing: &AtomicBool,
    ) -> Result<(String, Instant), String> {
        let mut burst = Burst::default();
        loop {
            self.absorb(closing)?;
            self.fill(&mut burst).map_err(|error| error.to_string())?;
            if burst.has_remaining() {
                self.write(write, &mut burst, closing).await?;
            } else if let Some(Closing { reason, until }) = self.close.take() {
                return Ok((reason, until));
            } else {
                self.commands.ready().await;
            }
        }
    }

    /// Writes a burst, and meanwhile goes on to take commands, so that what waits stays bounded and a
    /// close is heard.
    async fn write(
        &mut self,
        write: &mut (impl AsyncWrite + Unpin),
        burst: &mut Burst,
        closing: &AtomicBool,
    ) -> Result<(), String> {
        let writing = async {
            write.write_all_buf(burst).await?;
            write.flush().await
        };
        tokio::pin!(writing);
        loop {
            let until = self.close.as_ref().map(|close| close.until);
            tokio::select! {
                biased;
                written = &mut writing => {
                    return written.map_err(|error| LinkError::from(error).to_string());
                }
                () = expired(until) => {
                    return Err(self.close.take().map_or_else(String::new, |close| {
                        format!("{}; the peer did not read all that was sent before", close.reason)
                    }));
                }
                // Nothing is taken after a close.
                () = self.commands.ready(), if until.is_none() => self.absorb(closing)?,
            }
        }
    }

    /// Takes all commands that wait.
    fn absorb(&mut self, closing: &AtomicBool) -> Result<(), String> {
        let mut taken = mem::take(&mut self.taken);
        // Looked at first, so that nothing is pushed in between.
        let finished = self.commands.is_closed();
        self.commands.take(&mut taken);
        for command in taken.drain(..) {
            match command {
                _ if self.close.is_some() => {}
                LinkCommand::Send(message) if message.overtakes() => self.first.push(message),
                LinkCommand::Send(message) => {
                    self.ordered_weight += message.weight();
                    self.ordered.push_back(message);
                }
                LinkCommand::Close(reason) => self.close_for(reason),
            }
        }
        self.taken = taken;
        if finished && self.close.is_none() {
            self.close_for("this side has stopped".to_owned());
        }
        closing.store(self.close.is_some(), Ordering::Relaxed);
        // Those that overtake are small: their number is bounded by the same number of bytes.
        let queued = self.ordered_weight + self.first.len() * 64;
        if queued > self.max_queued {
            return Err(format!(
                "the peer reads too slowly: {queued} bytes wait to be sent, more than {}",
                self.max_queued
            ));
        }
        Ok(())
    }

    fn close_for(&mut self, reason: String) {
        self.close = Some(Closing {
            reason,
            until: Instant::now() + self.close_timeout,
        });
    }

    /// Encodes about as much as one burst takes: first what may overtake, then in order.
    fn fill(&mut self, burst: &mut Burst) -> Result<(), LinkError> {
        for message in self.first.drain(..) {
            message.encode(&mut self.first_frames)?;
        }
        while !self.first_frames.is_empty() {
            self.first_frames.take_burst(burst);
        }
        while self.frames.len() < BURST
            && let Some(message) = self.ordered.pop_front()
        {
            self.ordered_weight -= message.weight();
            message.encode(&mut self.frames)?;
        }
        self.frames.take_burst(burst);
        Ok(())
    }
}

async fn expired(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
