//! One worker: runs one attempt at a time.
//!
//! Owns: polling an attempt's future, its time limit, stopping it, and containing what it does. Does not
//! know: which task comes next, or what a verdict leads to.
//!
//! User code runs in futures of its own, caught, and never in a handler of the actor. That goes for
//! dropping it too.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskCx, Poll};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message};
use tokio::time::{Instant, Sleep};
use tracing::Span;

use super::crew::Crew;
use crate::engine::WorkerId;
use crate::engine::message::End;
use crate::engine::node::NodeEvent;
use crate::engine::worker::{Attempts, Tried};
use crate::handlers::{LocalFuture, TaskContext};
use crate::task::Dispatch;

/// The actor of one worker. Started when its worker first has an attempt that does not end at once, and
/// again should it die.
pub struct WorkerActor {
    worker: WorkerId,
    crew: Rc<Crew>,
}

impl WorkerActor {
    pub(super) fn new(worker: WorkerId, crew: Rc<Crew>) -> Self {
        Self { worker, crew }
    }
}

impl Actor for WorkerActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        tracing::trace!(worker = %self.worker, "worker started");
    }
}

/// Poll the run that lies at your seat, if it is still this one. (A run cannot travel in a message: it stays on
/// its thread.)
pub(super) struct Take(pub(super) Dispatch);

impl Message for Take {
    type Result = ();
}

impl Handler<Take> for WorkerActor {
    type Result = ();

    fn handle(&mut self, Take(dispatch): Take, ctx: &mut Self::Context) {
        if let Some(run) = self.crew.seated(self.worker, dispatch) {
            let crew = Rc::clone(&self.crew);
            ctx.spawn(actix::fut::wrap_future(Attempt { crew, run }));
        }
    }
}

/// An attempt that is under way, shared by the actor that polls it and the crew that may stop it.
pub(super) struct Run {
    pub(super) worker: WorkerId,
    pub(super) dispatch: Dispatch,
    attempts: Attempts,
    started: Instant,
    context: Option<TaskContext>,
    span: Span,
    blocking: bool,
    state: RefCell<State>,
}

struct State {
    /// Gone when the run has really ended, and while it is polled.
    future: Option<LocalFuture>,
    timer: Option<(Duration, Pin<Box<Sleep>>)>,
    /// Whether its end was reported though it goes on.
    overrun: bool,
    /// Whether it was told to stop.
    stopping: bool,
}

impl Run {
    #[allow(
        clippy::too_many_arguments,
        reason = "one caller; these are its fields"
    )]
    pub(super) fn new(
        worker: WorkerId,
        dispatch: Dispatch,
        attempts: Attempts,
        started: Instant,
        context: Option<TaskContext>,
        span: Span,
        blocking: bool,
        future: LocalFuture,
        timeout: Option<Duration>,
    ) -> Self {
        let timer = timeout.and_then(|timeout| {
            // A limit too long for the clock is none.
            let until = started.checked_add(timeout)?;
            Some((timeout, Box::pin(tokio::time::sleep_until(until))))
        });
        Self {
            worker,
            dispatch,
            attempts,
            started,
            context,
            span,
            blocking,
            state: RefCell::new(State {
                future: Some(future),
                timer,
                overrun: false,
                stopping: false,
            }),
        }
    }

    /// Stops it: an async handler is dropped, a blocking one is told.
    pub(super) fn stop(&self, crew: &Crew) {
        self.tell();
        let future = {
            let mut state = self.state.borrow_mut();
            state.stopping = true;
            if self.blocking {
                None
            } else {
                state.future.take()
            }
        };
        if let Some(future) = future {
            self.discard(crew, future);
            crew.unseat(self);
            crew.report(self.ended(End::Stopped, false));
        }
    }

    /// Drops it without a report.
    pub(super) fn abandon(&self, crew: &Crew) {
        self.tell();
        let future = self.state.borrow_mut().future.take();
        if let Some(future) = future {
            self.discard(crew, future);
        }
    }

    fn tell(&self) {
        if let Some(context) = &self.context {
            context.cancel();
        }
    }

    fn poll(&self, crew: &Crew, cx: &mut TaskCx<'_>) -> Poll<()> {
        // Taken out meanwhile, so that nothing that user code does can find it borrowed.
        let Some(mut future) = self.state.borrow_mut().future.take() else {
            return Poll::Ready(());
        };
        let polled = crew.guarded(self.worker, || {
            self.span.in_scope(|| future.as_mut().poll(cx))
        });
        match polled {
            Ok(Poll::Pending) => self.check_time(crew, future, cx),
            Ok(Poll::Ready(tried)) => {
                self.discard(crew, future);
                self.finish(crew, tried);
                Poll::Ready(())
            }
            Err(message) => {
                self.discard(crew, future);
                self.finish(crew, Tried::Panicked { message });
                Poll::Ready(())
            }
        }
    }

    fn check_time(&self, crew: &Crew, future: LocalFuture, cx: &mut TaskCx<'_>) -> Poll<()> {
        let timed_out = {
            let mut state = self.state.borrow_mut();
            let due = state
                .timer
                .as_mut()
                .is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
            if due { state.timer.take() } else { None }
        };
        let Some((timeout, _)) = timed_out else {
            self.state.borrow_mut().future = Some(future);
            return Poll::Pending;
        };
        self.tell();
        let tried = Tried::TimedOut { timeout };
        if self.blocking {
            self.state.borrow_mut().future = Some(future);
            self.overrun(crew, tried);
            Poll::Pending
        } else {
            self.discard(crew, future);
            self.finish(crew, tried);
            Poll::Ready(())
        }
    }

    /// It has ended, and its worker is free.
    fn finish(&self, crew: &Crew, tried: Tried) {
        crew.unseat(self);
        if self.state.borrow().overrun {
            crew.report(NodeEvent::Freed {
                worker: self.worker,
                dispatch: self.dispatch,
            });
        } else {
            crew.report(self.ended(self.verdict(tried), false));
        }
    }

    /// Its attempt has ended, but it goes on.
    fn overrun(&self, crew: &Crew, tried: Tried) {
        if !std::mem::replace(&mut self.state.borrow_mut().overrun, true) {
            crew.report(self.ended(self.verdict(tried), true));
        }
    }

    fn verdict(&self, tried: Tried) -> End {
        let end = self.attempts.verdict(tried, fastrand::u64(..));
        // A handler that was told to stop and did so tells it by an error, most often.
        if self.state.borrow().stopping && !matches!(end, End::Completed(_)) {
            End::Stopped
        } else {
            end
        }
    }

    fn ended(&self, end: End, overrun: bool) -> NodeEvent {
        NodeEvent::Ended {
            worker: self.worker,
            dispatch: self.dispatch,
            end,
            ran: self.started.elapsed(),
            overrun,
        }
    }

    /// Drops user code. What it says in a panic while it is dropped changes no verdict.
    fn discard(&self, crew: &Crew, future: LocalFuture) {
        let dropped = crew.guarded(self.worker, || self.span.in_scope(|| drop(future)));
        if let Err(message) = dropped {
            tracing::warn!(dispatch = %self.dispatch, message, "a handler panicked while it was dropped");
        }
    }
}

/// Polls a run for an actor.
struct Attempt {
    crew: Rc<Crew>,
    run: Rc<Run>,
}

impl Future for Attempt {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskCx<'_>) -> Poll<()> {
        self.run.poll(&self.crew, cx)
    }
}

impl Drop for Attempt {
    /// If the run has not ended, its actor has died with it. The attempt then counts as a panic, and a
    /// blocking handler, which cannot be dropped, is waited for by the actor's successor.
    fn drop(&mut self) {
        let unfinished = self.run.state.borrow().future.is_some();
        if !unfinished || self.crew.is_closed() {
            return;
        }
        // The thread itself may be ending, where no actor can be started.
        let replaced = catch_unwind(AssertUnwindSafe(|| {
            let tried = Tried::Panicked {
                message: "the worker's actor died".to_owned(),
            };
            if self.run.blocking {
                self.run.overrun(&self.crew, tried);
                self.crew.replace(Rc::clone(&self.run));
            } else {
                self.run.abandon(&self.crew);
                self.run.finish(&self.crew, tried);
            }
        }));
        if let Err(panic) = replaced {
            tracing::debug!(
                reason = panic_message(panic),
                "a worker ended with its thread"
            );
        }
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = panic.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    };
    // What was thrown may panic again when it is dropped; then it is better leaked.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    message
}
