//! One run: an attempt from its first poll to its real end.
//!
//! Owns: beginning it, polling its future, its time limit, stopping it, and containing what it
//! does. Does not know: who polls it, which worker is free, or where reports go. Each call returns
//! what follows.
//!
//! User code runs in futures of its own, caught, and never in a handler of the actor. That goes for
//! dropping it too.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::blocking::{BlockingCall, Pool};
use super::thread_queue::Start;
use crate::contain::shielded;
use crate::engine::WorkerId;
use crate::engine::message::End;
use crate::engine::node::NodeEvent;
use crate::engine::worker::{Attempts, Tried};
use crate::handlers::{Begun, ContextSource, Hold, LocalFuture, NodeEnv, TaskContext};
use crate::otel::attempt_span;
use crate::panics::Panic;
use crate::say::{AttemptSpan, say};
use crate::task::Dispatch;

/// What follows from beginning an attempt.
pub(super) enum First {
    /// The run has ended: report this.
    Ended(NodeEvent),
    /// The run goes on: it needs somebody who polls it.
    Pending(Rc<Run>),
    /// The handler blocks, and could not begin: no thread could be started for it.
    NoThread,
}

/// What follows from polling or stopping a run, or from the death of its actor.
pub(super) enum Step {
    /// Nothing: it goes on.
    Pending,
    /// The run goes on and keeps its worker, though its attempt has ended: report this.
    Overran(NodeEvent),
    /// The run has really ended: free its worker, then report this.
    Ended(NodeEvent),
    /// Nothing: it had ended before.
    Over,
}

/// A run that did not end at its first poll, shared by the actor that polls it and the executor
/// that may stop it.
pub(super) struct Run {
    pub(super) worker: WorkerId,
    pub(super) dispatch: Dispatch,
    attempts: Attempts,
    started: Instant,
    context: Option<TaskContext>,
    span: AttemptSpan,
    blocking: bool,
    state: RefCell<State>,
}

/// How far a run is. Only a blocking handler, which cannot be dropped, is ever stopping or overrun.
enum State {
    Running(Live),
    /// The run was told to stop.
    Stopping(Live),
    /// The end of the run was reported, though it goes on.
    Overrun(Live),
    /// The run has really ended. One that is being polled looks the same, so that nothing that user
    /// code does finds it borrowed.
    Ended,
}

/// What is there of a run until it has really ended.
struct Live {
    future: LocalFuture,
    limit: Option<TimeLimit>,
}

/// A time limit that has not been reached.
struct TimeLimit {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// Begins an attempt: polls an async handler once, or hands a blocking one to a thread of the pool.
/// Also returns the moment after that.
#[inline(always)]
pub(super) fn begin(
    env: &Arc<NodeEnv>,
    pool: &Pool,
    max_output: usize,
    start: &Start,
    now: Instant,
    cx: &mut Context<'_>,
) -> (First, Instant) {
    let assignment = &start.assignment;
    let (worker, retry) = (start.worker, start.retry);
    let dispatch = assignment.dispatch;
    let attempts = Attempts::new(retry, assignment.attempt, max_output);
    let ended = |tried, ran| {
        First::Ended(NodeEvent::Ended {
            worker,
            dispatch,
            end: verdict(attempts, tried),
            ran,
            overrun: false,
        })
    };
    let Some(entry) = env.handlers.entry(assignment.kind) else {
        let message = format!("the node has no handler number {}", assignment.kind);
        return (ended(Tried::Permanent { message }, Duration::ZERO), now);
    };
    let span = AttemptSpan::new(|| attempt_span(assignment, &entry.kind, &env.node));
    let mut seed = ContextSource {
        env,
        worker,
        assignment,
        kind: &entry.kind,
        started: now,
        made: None,
    };
    let polled = span.contained(|| {
        first_poll(
            entry.handler.begin(&assignment.args, &mut seed),
            &span,
            pool,
            env.hold.as_ref().filter(|_| assignment.is_exclusive()),
            cx,
        )
    });
    let context = seed.made.take();
    let after = Instant::now();
    let tried = match polled {
        Ok(Polled::Ended(tried)) => tried,
        Err(panic) => panicked(panic),
        Ok(Polled::NoThread) => return (First::NoThread, after),
        Ok(Polled::Pending { future, blocking }) => {
            let terms = assignment.terms.as_ref();
            let timeout = terms.and_then(|terms| terms.timeout);
            let limit = timeout.and_then(|timeout| TimeLimit::new(now, timeout));
            let run = Rc::new(Run {
                worker,
                dispatch,
                attempts,
                started: now,
                context,
                span,
                blocking,
                state: RefCell::new(State::Running(Live { future, limit })),
            });
            return (First::Pending(run), after);
        }
    };
    let ended = ended(tried, after - now);
    if let First::Ended(NodeEvent::Ended { end, .. }) = &ended {
        span.end(end);
    }
    (ended, after)
}

/// What the first poll led to.
enum Polled {
    Ended(Tried),
    Pending { future: LocalFuture, blocking: bool },
    NoThread,
}

/// Polls a fresh future once; starts a blocking call.
#[inline]
fn first_poll(
    begun: Begun,
    span: &AttemptSpan,
    pool: &Pool,
    hold: Option<&Hold>,
    cx: &mut Context<'_>,
) -> Polled {
    match begun {
        Begun::Ended(tried) => Polled::Ended(tried),
        Begun::Future(mut future) => match future.as_mut().poll(cx) {
            Poll::Ready(tried) => Polled::Ended(tried),
            Poll::Pending => Polled::Pending {
                future,
                blocking: false,
            },
        },
        Begun::Blocking(call) => {
            let (told, end) = oneshot::channel();
            let call = BlockingCall {
                span: span.clone(),
                call,
                told,
                hold: hold.map(Hold::begin),
            };
            if let Err(error) = pool.begin(call) {
                say!(debug: %error, "no thread could be started for a blocking handler");
                return Polled::NoThread;
            }
            let future = Box::pin(async move {
                let called = end
                    .await
                    .unwrap_or_else(|_| Err(unraised("its thread ended")));
                called.unwrap_or_else(panicked)
            });
            Polled::Pending {
                future,
                blocking: true,
            }
        }
    }
}

impl Run {
    /// Polls it, and looks at its time limit.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Step {
        let mut state = self.state.replace(State::Ended);
        let (State::Running(live) | State::Stopping(live) | State::Overrun(live)) = &mut state
        else {
            return Step::Over;
        };
        let polled = self.span.contained(|| live.future.as_mut().poll(cx));
        let tried = match polled {
            Ok(Poll::Ready(tried)) => tried,
            Err(panic) => panicked(panic),
            Ok(Poll::Pending) => match live.time_out(cx) {
                Some(timeout) => {
                    self.tell();
                    return self.give_up(state, Tried::TimedOut { timeout });
                }
                None => {
                    self.state.replace(state);
                    return Step::Pending;
                }
            },
        };
        self.finish(state, tried)
    }

    /// Stops it: an async handler is dropped, a blocking one is told and goes on.
    pub(super) fn stop(&self) -> Step {
        self.tell();
        match self.state.replace(State::Ended) {
            State::Running(live) if !self.blocking => {
                self.discard(live.future);
                Step::Ended(self.ended(End::Stopped, false))
            }
            State::Running(live) => self.go_on(State::Stopping(live)),
            State::Ended => Step::Over,
            state => self.go_on(state),
        }
    }

    /// Notes that the actor which polled it has died. The attempt counts as a panic.
    pub(super) fn lose_actor(&self) -> Step {
        let state = self.state.replace(State::Ended);
        if matches!(state, State::Ended) {
            return Step::Over;
        }
        if !self.blocking {
            self.tell();
        }
        self.give_up(state, panicked(unraised("the worker's actor died")))
    }

    /// Drops it without a report.
    pub(super) fn abandon(&self) {
        self.tell();
        let state = self.state.replace(State::Ended);
        if let State::Running(live) | State::Stopping(live) | State::Overrun(live) = state {
            self.discard(live.future);
        }
    }

    /// Tells what the handler has kept of its context that the attempt is to end.
    fn tell(&self) {
        if let Some(context) = &self.context {
            // It wakes those who wait, and a waker is code of others.
            shielded(|| context.cancel());
        }
    }

    fn go_on(&self, state: State) -> Step {
        self.state.replace(state);
        Step::Pending
    }

    /// Ends the attempt though its handler has not: an async one is dropped, a blocking one
    /// overruns.
    fn give_up(&self, state: State, tried: Tried) -> Step {
        if !self.blocking {
            return self.finish(state, tried);
        }
        let (live, end) = match state {
            State::Running(live) => (live, self.verdict(tried)),
            State::Stopping(live) => (live, stopped(self.verdict(tried))),
            // Its end is known already.
            State::Overrun(live) => return self.go_on(State::Overrun(live)),
            State::Ended => return Step::Over,
        };
        self.state.replace(State::Overrun(live));
        Step::Overran(self.ended(end, true))
    }

    /// Drops what is left of it and says how it ended.
    fn finish(&self, state: State, tried: Tried) -> Step {
        match state {
            State::Running(live) => {
                self.discard(live.future);
                Step::Ended(self.ended(self.verdict(tried), false))
            }
            State::Stopping(live) => {
                self.discard(live.future);
                Step::Ended(self.ended(stopped(self.verdict(tried)), false))
            }
            State::Overrun(live) => {
                self.discard(live.future);
                Step::Ended(NodeEvent::Freed {
                    worker: self.worker,
                    dispatch: self.dispatch,
                })
            }
            State::Ended => Step::Over,
        }
    }

    fn ended(&self, end: End, overrun: bool) -> NodeEvent {
        self.span.end(&end);
        NodeEvent::Ended {
            worker: self.worker,
            dispatch: self.dispatch,
            end,
            ran: self.started.elapsed(),
            overrun,
        }
    }

    fn verdict(&self, tried: Tried) -> End {
        verdict(self.attempts, tried)
    }

    /// Drops user code. What it says in a panic while it is dropped changes no verdict.
    fn discard(&self, future: LocalFuture) {
        if let Err(Panic { message, place }) = self.span.contained(|| drop(future)) {
            let place = place.as_deref();
            say!(warn: dispatch = %self.dispatch, reason = message, place, "a handler panicked while it was dropped");
        }
    }
}

impl Live {
    /// Returns the time limit if it has been reached, once.
    fn time_out(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let limit = self.limit.as_mut()?;
        let reached = limit.sleep.as_mut().poll(cx).is_ready();
        let reached = if reached { self.limit.take() } else { None };
        reached.map(|limit| limit.timeout)
    }
}

impl TimeLimit {
    /// Returns `None` for a limit that is too long for the clock: nothing ends by it.
    fn new(started: Instant, timeout: Duration) -> Option<Self> {
        let until = started.checked_add(timeout)?;
        let sleep = Box::pin(tokio::time::sleep_until(until));
        Some(Self { timeout, sleep })
    }
}

fn panicked(Panic { message, place }: Panic) -> Tried {
    Tried::Panicked { message, place }
}

/// Returns what ends an attempt like a panic, and was raised nowhere.
fn unraised(message: &str) -> Panic {
    Panic {
        message: message.to_owned(),
        place: None,
    }
}

#[inline]
fn verdict(attempts: Attempts, tried: Tried) -> End {
    attempts.verdict(tried, || fastrand::u64(..))
}

/// Returns the end of a handler that was told to stop: one that did so tells it by an error, most
/// often.
fn stopped(end: End) -> End {
    match end {
        End::Completed(_) => end,
        _ => End::Stopped,
    }
}
