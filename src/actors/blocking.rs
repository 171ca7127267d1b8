//! The threads on which blocking handlers run.
//!
//! Owns: handing a call to a thread that waits for one, or to a new one. Does not know: what is
//! called, or what becomes of a call that no thread could be had for.
//!
//! A call that was handed over has begun: none is kept for a thread that may come later, as tokio's
//! pool does. So what is told of a run is true, and a run that could not begin never does.

use std::any::Any;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::contain::shielded;
use crate::engine::worker::Tried;
use crate::handlers::Held;
use crate::panics::Panic;
use crate::say::AttemptSpan;
use crate::sync::lock;

/// How long a thread waits for the next call before it ends.
const KEEP: Duration = Duration::from_secs(10);

/// What is to stay while a handler may be running, however its node has ended: it is dropped with
/// the last thread on which one can.
pub type LifeSign = Arc<dyn Any + Send + Sync>;

/// How a call ended; `Err` is its panic.
pub(super) type Called = Result<Tried, Panic>;

/// A call, and who waits for its end.
pub(super) struct BlockingCall {
    pub(super) span: AttemptSpan,
    pub(super) call: Box<dyn FnOnce() -> Tried + Send>,
    pub(super) told: oneshot::Sender<Called>,
    /// What stays until it has ended.
    pub(super) hold: Option<Held>,
}

/// See the module. Threads that wait end with it, others when their call has.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    idle: Mutex<Idle>,
    /// Held by each thread until its call has ended.
    _sign: LifeSign,
}

#[derive(Default)]
struct Idle {
    waiting: Vec<(u64, Sender<BlockingCall>)>,
    /// Tells one wait of a thread from another.
    waits: u64,
    closed: bool,
}

impl Pool {
    /// Makes a pool without threads. It and its threads keep the sign.
    pub(super) fn new(sign: LifeSign) -> Self {
        Self(Arc::new(Shared {
            idle: Mutex::default(),
            _sign: sign,
        }))
    }

    /// Begins a call at once, on a thread of the pool or a new one.
    ///
    /// # Errors
    ///
    /// No thread could be started. The call was dropped.
    pub(super) fn begin(&self, call: BlockingCall) -> io::Result<()> {
        let mut call = call;
        while let Some(thread) = self.0.take() {
            match thread.send(call) {
                Ok(()) => return Ok(()),
                // It has died.
                Err(error) => call = error.0,
            }
        }
        let (shared, runtime) = (Arc::clone(&self.0), Handle::current());
        thread::Builder::new()
            .name("callboard-blocking".to_owned())
            .spawn(move || {
                let _runtime = runtime.enter();
                shared.work(call);
            })?;
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut idle = lock(&self.0.idle);
        idle.closed = true;
        idle.waiting.clear();
    }
}

impl Shared {
    /// Takes the thread that has waited for the shortest time, so that those beyond need end.
    fn take(&self) -> Option<Sender<BlockingCall>> {
        lock(&self.idle).waiting.pop().map(|(_, thread)| thread)
    }

    /// Does calls, until none has come for a while.
    fn work(&self, first: BlockingCall) {
        let mut next = Some(first);
        while let Some(BlockingCall {
            span,
            call,
            told,
            hold,
        }) = next.take()
        {
            let called = span.contained(call);
            drop(span);
            drop(hold);
            let (sender, calls) = channel();
            // Before its end is told, so that the call which follows that finds this thread.
            let wait = self.wait_as(sender);
            shielded(|| drop(told.send(called)));
            let Some(wait) = wait else {
                return;
            };
            next = match calls.recv_timeout(KEEP) {
                Ok(call) => Some(call),
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) if self.give_up(wait) => None,
                // Somebody has just taken it, and sends a call.
                Err(RecvTimeoutError::Timeout) => calls.recv().ok(),
            };
        }
    }

    fn wait_as(&self, thread: Sender<BlockingCall>) -> Option<u64> {
        let mut idle = lock(&self.idle);
        if idle.closed {
            return None;
        }
        idle.waits += 1;
        let wait = idle.waits;
        idle.waiting.push((wait, thread));
        Some(wait)
    }

    /// Ends a wait; `false` if the thread was taken.
    fn give_up(&self, wait: u64) -> bool {
        let mut idle = lock(&self.idle);
        let before = idle.waiting.len();
        idle.waiting.retain(|(other, _)| *other != wait);
        idle.waiting.len() < before
    }
}
