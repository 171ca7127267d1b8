//! How batches move between threads: a vector that many push to and one swaps out.
//!
//! Owns: the vector, the waker, the closed mark. Does not know: what it carries, or how much of it
//! is too much; those who push bound what they push.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::sync::lock;

/// A vector with many producers and one consumer. Clones share it.
///
/// The consumer is woken when the vector goes from empty to non-empty, so a batch costs one wake-up
/// however many elements it has and however many calls pushed them.
pub struct Inbox<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    consumer: AtomicWaker,
}

struct State<T> {
    waiting: Vec<T>,
    closed: bool,
}

impl<T> Inbox<T> {
    /// Makes an empty, open inbox.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                waiting: Vec::new(),
                closed: false,
            }),
            consumer: AtomicWaker::new(),
        }))
    }

    /// Adds one element. Dropped if the inbox is closed.
    pub fn push(&self, element: T) {
        self.extend([element]);
    }

    /// Adds elements in their order, under one lock. Dropped if the inbox is closed.
    pub fn extend(&self, elements: impl IntoIterator<Item = T>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend(elements);
        let wake = was_empty && !state.waiting.is_empty();
        drop(state);
        if wake {
            self.0.consumer.wake();
        }
    }

    /// Takes nothing more. What is inside can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.consumer.wake();
    }

    /// Returns whether it takes nothing more.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Returns whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// Moves all elements to the end of `into`, in order; `false` if there were none. When `into`
    /// is empty the two vectors are swapped, so that no element is copied and both allocations are
    /// used again.
    pub fn take(&self, into: &mut Vec<T>) -> bool {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return false;
        }
        if into.is_empty() {
            mem::swap(&mut state.waiting, into);
        } else {
            into.append(&mut state.waiting);
        }
        true
    }

    /// Waits until there is something to take or the inbox is closed. For one consumer: of two that
    /// wait only the later is woken. Safe to drop and call again.
    pub async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Polls as [`Inbox::ready`] waits, for a hand-written future.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.0.consumer.register(cx.waker());
        // A push between the first look and the registration woke nobody.
        if self.is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn is_ready(&self) -> bool {
        let state = self.state();
        state.closed || !state.waiting.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // No code of others runs under the lock but an iterator's; should that panic, the vector is
        // whole.
        lock(&self.0.state)
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Inbox")
            .field("waiting", &state.waiting.len())
            .field("closed", &state.closed)
            .finish()
    }
}

#[cfg(test)]
mod tests;
