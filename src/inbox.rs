//! A vector that many threads push to and one future takes whole.
//!
//! Owns: the queue between threads, with one wake-up per batch. Does not know: what travels in it. It has
//! no bound of its own: what may be in it is bounded by those who push.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// See the module. Clones are the same inbox.
#[derive(Debug)]
pub struct Inbox<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Vec<T>>,
    waker: AtomicWaker,
    closed: AtomicBool,
}

impl<T> Inbox<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Vec::new()),
            waker: AtomicWaker::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Adds one. After [`Inbox::close`] it is dropped.
    pub fn push(&self, value: T) {
        self.extend(std::iter::once(value));
    }

    /// Adds all, in order, with at most one wake-up. After [`Inbox::close`] they are dropped.
    pub fn extend(&self, values: impl IntoIterator<Item = T>) {
        if self.is_closed() {
            return;
        }
        let mut queue = self.queue();
        let was_empty = queue.is_empty();
        queue.extend(values);
        let wake = was_empty && !queue.is_empty();
        drop(queue);
        if wake {
            self.0.waker.wake();
        }
    }

    /// Takes nothing more; what is in it can still be taken.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Appends all that is in it to `into`; whether there was anything.
    pub fn take(&self, into: &mut Vec<T>) -> bool {
        let mut queue = self.queue();
        if queue.is_empty() {
            return false;
        }
        if into.is_empty() {
            // The two vectors change places, so neither side allocates in the long run.
            std::mem::swap(&mut *queue, into);
        } else {
            into.append(&mut queue);
        }
        true
    }

    /// Waits until there is something to take, or it is closed. Only one may wait at a time.
    pub async fn ready(&self) {
        poll_fn(|cx| {
            self.0.waker.register(cx.waker());
            if self.is_closed() || !self.queue().is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn queue(&self) -> MutexGuard<'_, Vec<T>> {
        // A panic under the lock could only come from an iterator given to `extend`; the vector is whole.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
