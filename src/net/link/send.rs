//! The sending half of a link.
//!
//! Owns: what waits to be sent, in which order it goes and how much of it there may be, and writing
//! it. Does not know: what arrives, sockets, what messages mean.
//!
//! The link's task writes. While it waits for something to send and nothing waits before it, a
//! thread that hands over a few small messages may write them in its place: that spares waking the
//! thread of the link, which costs about as much as the write. What the transport does not take at
//! once is left to the task, and so is every error. Nobody waits for the lock, which is held only
//! for a write that does not block. A thread that finds it taken hands its messages to the task,
//! which is woken when the lock is free. Only a link that ends waits for the one write that may be
//! going on.
//!
//! These direct writes serve the row `latency-remote` of the bench: its median is longer by a
//! quarter without, and no other row changes. `MAX_AT_ONCE = 0` turns them off.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Buf;
use futures_util::task::AtomicWaker;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tokio_util::io::poll_write_buf;

use super::LinkCommand;
use crate::error::LinkError;
use crate::inbox::Inbox;
use crate::links::LinkSender;
use crate::net::LinkConfig;
use crate::net::codec::framing::{BURST, Burst, Frames};
use crate::net::codec::message::Wire;
use crate::sync::lock;

/// How many messages the caller's thread may write in the place of the link's task.
const MAX_AT_ONCE: usize = 4;
/// How many bytes these may have. With more it is better that another thread writes while this one
/// works on. So few bytes are one piece, for one system call.
const MAX_BYTES_AT_ONCE: usize = 4 << 10;

/// How long a broken connection is read on. What the peer said before is there, and so is the end.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// The way out of a link. Clones are the same.
pub struct LinkWriter<Out> {
    commands: Inbox<LinkCommand<Out>>,
    shared: Arc<Shared<Out>>,
}

struct Shared<Out> {
    /// The sending half, while the link runs.
    sending: Mutex<Option<Sending<Out>>>,
    /// The link's task, if it has found the lock taken.
    kept_waiting: AtomicWaker,
}

impl<Out> Shared<Out> {
    fn new() -> Self {
        Self {
            sending: Mutex::new(None),
            kept_waiting: AtomicWaker::new(),
        }
    }
}

impl<Out> LinkWriter<Out> {
    /// Returns the writer of a link that is to run.
    pub fn new() -> Self {
        Self::from(Inbox::new())
    }

    /// Gives a command, behind all that were given before.
    pub fn give(&self, command: LinkCommand<Out>) {
        self.commands.push(command);
    }

    fn sending(&self) -> MutexGuard<'_, Option<Sending<Out>>> {
        // A panic of a transport leaves what waits whole, but for what it was given.
        lock(&self.shared.sending)
    }

    /// Returns what sends, if no other thread holds it.
    fn try_sending(&self) -> Option<MutexGuard<'_, Option<Sending<Out>>>> {
        match self.shared.sending.try_lock() {
            Ok(sending) => Some(sending),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<Out: Wire> LinkSender<Out> for LinkWriter<Out> {
    /// Sends messages in their order, behind all that was given before. `at_once`, if they are few
    /// and small and nothing waits on the link, they are written before this returns: that costs a
    /// system call, but never blocks.
    fn send(&self, mut batch: Vec<Out>, at_once: bool) {
        if at_once {
            let wakes = self.write(&mut batch);
            // The lock is free again.
            self.shared.kept_waiting.wake();
            if let Some(waker) = wakes {
                waker.wake();
            }
        }
        let commands = batch.into_iter().map(LinkCommand::Send);
        self.commands.extend(commands);
    }

    fn close(self: Box<Self>, reason: String) {
        self.give(LinkCommand::Close(reason));
    }
}

impl<Out: Wire> LinkWriter<Out> {
    /// Writes messages in the place of the link's task, and takes them, if that can be; gives who
    /// is to be woken.
    fn write(&self, messages: &mut Vec<Out>) -> Option<Waker> {
        let bytes = messages.iter().map(Wire::size).sum::<Option<usize>>();
        if messages.len() > MAX_AT_ONCE || bytes.is_none_or(|bytes| bytes > MAX_BYTES_AT_ONCE) {
            return None;
        }
        // Who holds the lock is about to write.
        let mut sending = self.try_sending()?;
        let sending = sending.as_mut()?;
        if !sending.direct || !self.commands.is_empty() || self.commands.is_closed() {
            return None;
        }
        let task = sending.idle.take()?;
        for message in messages.drain(..) {
            sending.outbox.push(message);
        }
        let mut cx = Context::from_waker(&task);
        loop {
            match sending.poll_write_burst(&mut cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    sending.idle = Some(task);
                    return None;
                }
                // The transport will wake the task, which goes on with what is left.
                Poll::Pending => return None,
                Poll::Ready(Err(reason)) => {
                    sending.broken = Some(reason);
                    return Some(task);
                }
            }
        }
    }
}

impl<Out> From<Inbox<LinkCommand<Out>>> for LinkWriter<Out> {
    /// Returns the writer of a link that is to run and takes its commands from this inbox.
    fn from(commands: Inbox<LinkCommand<Out>>) -> Self {
        Self {
            commands,
            shared: Arc::new(Shared::new()),
        }
    }
}

impl<Out> Clone for LinkWriter<Out> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<Out> Default for LinkWriter<Out> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Out> fmt::Debug for LinkWriter<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkWriter").finish_non_exhaustive()
    }
}

/// How sending ended.
pub(super) struct Sent {
    pub(super) closed: String,
    /// The time until which to read on, for the peer's end or what it said before its own.
    pub(super) linger: Option<Instant>,
}

/// Why sending cannot go on.
enum Fault {
    /// The connection is broken. What the peer said before may have arrived: its goodbye, most
    /// often.
    Broken(String),
    /// This side gives the link up.
    GivenUp(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::GivenUp(reason)
    }
}

/// Sends what is given on the way out until it is told to close, or cannot go on. `direct` says
/// whether others than the link's task may write.
pub(super) async fn send<Out: Wire>(
    write: Box<dyn AsyncWrite + Send + Unpin>,
    direct: bool,
    config: &LinkConfig,
    way: &LinkWriter<Out>,
    closing: &AtomicBool,
) -> Sent {
    *way.sending() = Some(Sending {
        write,
        direct,
        outbox: Outbox::new(config),
        burst: Burst::default(),
        unflushed: false,
        idle: None,
        broken: None,
    });
    let open = Open(way);
    let mut expiry = None;
    match poll_fn(|cx| open.poll(cx, closing, &mut expiry)).await {
        Ok(Closing { reason, until }) => {
            let end = timeout_at(until, poll_fn(|cx| open.poll_shutdown(cx))).await;
            Sent {
                closed: reason,
                linger: matches!(end, Ok(Ok(()))).then_some(until),
            }
        }
        Err(Fault::Broken(closed)) => Sent {
            closed,
            linger: Some(Instant::now() + LAST_LOOK),
        },
        Err(Fault::GivenUp(closed)) => Sent {
            closed,
            linger: None,
        },
    }
}

/// A way out whose link runs; the transport is dropped with it.
struct Open<'a, Out>(&'a LinkWriter<Out>);

impl<Out> Drop for Open<'_, Out> {
    fn drop(&mut self) {
        let sending = self.0.sending().take();
        drop(sending);
    }
}

impl<Out: Wire> Open<'_, Out> {
    /// Sends until told to close, and says why and until when; or why it could not go on.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        closing: &AtomicBool,
        expiry: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<Closing, Fault>> {
        let sending = self.0.try_sending().or_else(|| {
            self.0.shared.kept_waiting.register(cx.waker());
            // The lock may have been given back before that.
            self.0.try_sending()
        });
        let Some(mut sending) = sending else {
            return Poll::Pending;
        };
        let Some(sending) = sending.as_mut() else {
            return Poll::Pending;
        };
        if let Poll::Ready(ended) = sending.poll(cx, &self.0.commands, closing) {
            return Poll::Ready(ended);
        }
        let Some(close) = &sending.outbox.close else {
            return Poll::Pending;
        };
        let expiry = expiry.get_or_insert_with(|| Box::pin(sleep_until(close.until)));
        ready!(expiry.as_mut().poll(cx));
        let reason = &close.reason;
        let reason = format!("{reason}; the peer did not read all that was sent before");
        Poll::Ready(Err(Fault::GivenUp(reason)))
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.sending().as_mut() {
            Some(sending) => Pin::new(&mut sending.write).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// What waits to be sent, and by what it goes.
struct Sending<Out> {
    write: Box<dyn AsyncWrite + Send + Unpin>,
    direct: bool,
    outbox: Outbox<Out>,
    /// What is being written.
    burst: Burst,
    unflushed: bool,
    /// The link's task, while it waits and nothing is to be sent.
    idle: Option<Waker>,
    /// Why somebody who wrote in the task's place could not go on.
    broken: Option<Fault>,
}

impl<Out: Wire> Sending<Out> {
    /// Sends all that waits, and takes commands even while the transport takes nothing, so that
    /// what waits stays bounded and a close is heard.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        commands: &Inbox<LinkCommand<Out>>,
        closing: &AtomicBool,
    ) -> Poll<Result<Closing, Fault>> {
        self.idle = None;
        if let Some(reason) = self.broken.take() {
            return Poll::Ready(Err(reason));
        }
        loop {
            self.outbox.absorb(commands, closing)?;
            let written = self.poll_write_burst(cx)?;
            if let Poll::Ready(true) = written {
                continue;
            }
            if self.outbox.close.is_some() {
                // Nothing is taken after a close.
                ready!(written);
                return Poll::Ready(
                    self.outbox
                        .close
                        .take()
                        .ok_or(Fault::GivenUp(String::new())),
                );
            }
            if commands.poll_ready(cx).is_pending() {
                self.idle = written.is_ready().then(|| cx.waker().clone());
                return Poll::Pending;
            }
        }
    }

    /// Writes what waits, about as much as one burst takes; whether there was anything.
    fn poll_write_burst(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Fault>> {
        if !self.burst.has_remaining() && !self.unflushed {
            let filled = self.outbox.fill(&mut self.burst);
            filled.map_err(|error| error.to_string())?;
            self.unflushed = self.burst.has_remaining();
        }
        let wrote = self.unflushed;
        let written = ready!(self.poll_write(cx));
        written.map_err(|error| Fault::Broken(LinkError::from(error).to_string()))?;
        Poll::Ready(Ok(wrote))
    }

    /// Writes and flushes the rest of the burst.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.burst.has_remaining() {
            let write = Pin::new(&mut self.write);
            if ready!(poll_write_buf(write, cx, &mut self.burst))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.write).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// What waits to be sent.
struct Outbox<Out> {
    taken: Vec<LinkCommand<Out>>,
    /// The messages that keep their order.
    ordered: VecDeque<Out>,
    ordered_weight: usize,
    /// The messages that may overtake.
    first: Vec<Out>,
    frames: Frames,
    first_frames: Frames,
    close: Option<Closing>,
    max_queued: usize,
    close_timeout: Duration,
}

/// A close that was asked for.
struct Closing {
    reason: String,
    until: Instant,
}

impl<Out: Wire> Outbox<Out> {
    fn new(config: &LinkConfig) -> Self {
        Self {
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

    /// Takes all commands that wait.
    fn absorb(
        &mut self,
        commands: &Inbox<LinkCommand<Out>>,
        closing: &AtomicBool,
    ) -> Result<(), String> {
        let mut taken = mem::take(&mut self.taken);
        // Looked at first, so that nothing is pushed in between.
        let finished = commands.is_closed();
        commands.take(&mut taken);
        for command in taken.drain(..) {
            match command {
                _ if self.close.is_some() => {}
                LinkCommand::Send(message) => self.push(message),
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

    fn push(&mut self, message: Out) {
        if message.overtakes() {
            self.first.push(message);
        } else {
            self.ordered_weight += message.weight();
            self.ordered.push_back(message);
        }
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

#[cfg(test)]
mod tests;
