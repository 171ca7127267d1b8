//! The sending half of a link.
//!
//! Owns: what waits to be sent, in which order it goes and how much of it there may be, and writing it. Does
//! not know: what arrives, sockets, what messages mean.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::LinkCommand;
use crate::error::LinkError;
use crate::inbox::Inbox;
use crate::net::LinkConfig;
use crate::net::body::{BURST, Burst, Frames};
use crate::net::wire::Wire;

/// How sending ended.
pub(super) struct Sent {
    pub(super) closed: String,
    /// Until when to wait for the peer to close too.
    pub(super) linger: Option<Instant>,
}

/// Sends what is commanded until it is told to close, or cannot go on.
pub(super) async fn send<Out: Wire>(
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
