//! The workers of one thread.
//!
//! Owns: beginning and stopping attempts, and the reports on their way to the node, which leave in one
//! batch per turn. Does not know: which task should run, or what becomes of a report.
//!
//! A fresh attempt is polled once at once, where its order is taken: most short handlers end there and
//! never cost a message to an actor. One that is pending goes to its worker's [`WorkerActor`], and so does
//! a blocking one, from a thread of tokio's blocking pool.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Actor, Addr};
use tokio::time::Instant;
use tracing::Span;

use super::line::{Line, Order, Start};
use super::worker::{Run, Take, WorkerActor, panic_message};
use crate::engine::WorkerId;
use crate::engine::node::NodeEvent;
use crate::engine::worker::{Attempts, Tried};
use crate::handlers::{Begun, Home, LocalFuture, Seed};
use crate::task::Dispatch;

/// How many orders are taken, and how long at most, before reports are sent and other futures of the
/// thread have their turn. Few, so that the node's thread works on the first reports while this one is at
/// the next orders, and soon, so that it knows what runs; fewer cost more wake-ups than that gains.
const TURN: usize = 64;
const LONG_TURN: Duration = Duration::from_micros(100);

/// See the module. Lives on its thread.
pub(super) struct Crew {
    home: Arc<Home>,
    line: Arc<Line>,
    max_output: usize,
    /// Over how many threads the node's workers are spread: the seats are numbered without gaps.
    stride: usize,
    seats: RefCell<Vec<Seat>>,
    /// Whether the crew's own turn is on, at whose end reports are sent.
    turning: Cell<bool>,
}

/// A worker's place: its actor, once it needed one, and the run that the actor has.
#[derive(Default)]
struct Seat {
    actor: Option<Addr<WorkerActor>>,
    run: Option<Rc<Run>>,
    /// Whether the line keeps starts until the run has ended.
    awaited: bool,
}

/// What the first poll led to.
enum First {
    Ended(Tried),
    Pending { future: LocalFuture, blocking: bool },
}

impl Crew {
    pub(super) fn new(
        home: Arc<Home>,
        line: Arc<Line>,
        max_output: usize,
        stride: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            home,
            line,
            max_output,
            stride: stride.max(1),
            seats: RefCell::default(),
            turning: Cell::new(false),
        })
    }

    /// Carries out orders until they are closed.
    pub(super) async fn run(self: Rc<Self>) {
        poll_fn(|cx| self.turn(cx)).await;
        self.wind_up();
    }

    fn turn(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.line.register(cx.waker());
        if self.line.is_closed() {
            return Poll::Ready(());
        }
        self.line.answer();
        self.turning.set(true);
        let began = Instant::now();
        let mut now = began;
        let mut more = true;
        for _ in 0..TURN {
            match self.line.pop(|worker| self.is_occupied(worker)) {
                Some(Order::Start(start)) => now = self.begin(start, now, cx),
                Some(Order::Stop { worker, dispatch }) => self.stop(worker, dispatch),
                None => {
                    more = false;
                    break;
                }
            }
            if now.saturating_duration_since(began) > LONG_TURN {
                break;
            }
        }
        self.turning.set(false);
        self.line.send_reports(&self.home.inbox);
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Begins an attempt; the moment at which it had been begun, or had ended.
    fn begin(self: &Rc<Self>, start: Start, now: Instant, cx: &mut Context<'_>) -> Instant {
        let Start {
            worker,
            assignment,
            retry,
        } = start;
        let attempts = Attempts::new(retry, assignment.attempt, self.max_output);
        let Some(entry) = self.home.handlers.entry(assignment.kind) else {
            let tried = Tried::Permanent {
                message: format!("the node has no handler number {}", assignment.kind),
            };
            self.report_end(worker, assignment.dispatch, attempts, tried, Duration::ZERO);
            return now;
        };
        let span = tracing::info_span!(
            "attempt",
            task = %assignment.task,
            kind = %entry.kind,
            attempt = assignment.attempt,
            dispatch = %assignment.dispatch,
        );
        let mut seed = Seed {
            home: &self.home,
            worker,
            assignment: &assignment,
            kind: &entry.kind,
            started: now,
            made: None,
        };
        let first = self.guarded(worker, || {
            span.in_scope(|| {
                first_poll(entry.handler.begin(&assignment.args, &mut seed), &span, cx)
            })
        });
        let context = seed.made.take();
        let after = Instant::now();
        match first {
            Ok(First::Pending { future, blocking }) => {
                let timeout = assignment.terms.and_then(|terms| terms.timeout);
                self.seat(Rc::new(Run::new(
                    worker,
                    assignment.dispatch,
                    attempts,
                    now,
                    context,
                    span,
                    blocking,
                    future,
                    timeout,
                )));
            }
            Ok(First::Ended(tried)) => {
                self.report_end(worker, assignment.dispatch, attempts, tried, after - now);
            }
            Err(message) => {
                let tried = Tried::Panicked { message };
                self.report_end(worker, assignment.dispatch, attempts, tried, after - now);
            }
        }
        after
    }

    /// Stops a run, unless its verdict is under way.
    fn stop(&self, worker: WorkerId, dispatch: Dispatch) {
        if let Some(run) = self.seated(worker, dispatch) {
            run.stop(self);
        }
    }

    /// The run at a worker's seat, if it is this one.
    pub(super) fn seated(&self, worker: WorkerId, dispatch: Dispatch) -> Option<Rc<Run>> {
        self.with_seat(worker, |seat| {
            seat.run.clone().filter(|run| run.dispatch == dispatch)
        })
    }

    /// Gives a run to the actor of its worker, which is started if there is none or it has died.
    pub(super) fn seat(self: &Rc<Self>, run: Rc<Run>) {
        let (worker, dispatch) = (run.worker, run.dispatch);
        let actor = self.with_seat(worker, |seat| {
            seat.run = Some(run);
            seat.actor.clone().filter(Addr::connected)
        });
        let actor = actor.unwrap_or_else(|| {
            let actor = WorkerActor::new(worker, Rc::clone(self)).start();
            self.with_seat(worker, |seat| seat.actor = Some(actor.clone()));
            actor
        });
        actor.do_send(Take(dispatch));
    }

    /// Gives a run whose actor has died to another.
    pub(super) fn replace(self: &Rc<Self>, run: Rc<Run>) {
        self.with_seat(run.worker, |seat| seat.actor = None);
        self.seat(run);
    }

    /// Whether a worker has a run, so that the next must wait.
    fn is_occupied(&self, worker: WorkerId) -> bool {
        self.with_seat(worker, |seat| {
            seat.awaited |= seat.run.is_some();
            seat.run.is_some()
        })
    }

    /// Forgets a run that has really ended, so that the next can begin.
    pub(super) fn unseat(&self, run: &Run) {
        let awaited = self.with_seat(run.worker, |seat| {
            let seated = seat.run.as_ref().map(|seated| seated.dispatch);
            if seated == Some(run.dispatch) {
                seat.run = None;
                std::mem::take(&mut seat.awaited)
            } else {
                false
            }
        });
        if awaited && self.line.resume(run.worker) && !self.turning.get() {
            self.line.wake();
        }
    }

    /// Runs what belongs to a user: a panic costs nothing but its message.
    pub(super) fn guarded<R>(
        &self,
        worker: WorkerId,
        user: impl FnOnce() -> R,
    ) -> Result<R, String> {
        self.line.enter(worker);
        let result = catch_unwind(AssertUnwindSafe(user));
        self.line.leave();
        result.map_err(panic_message)
    }

    /// Reports how an attempt ended that occupies its worker no longer.
    pub(super) fn report_end(
        &self,
        worker: WorkerId,
        dispatch: Dispatch,
        attempts: Attempts,
        tried: Tried,
        ran: Duration,
    ) {
        self.report(NodeEvent::Ended {
            worker,
            dispatch,
            end: attempts.verdict(tried, fastrand::u64(..)),
            ran,
            overrun: false,
        });
    }

    /// Reports at the end of this turn, or else of the next.
    pub(super) fn report(&self, event: NodeEvent) {
        if self.line.report(event) && !self.turning.get() {
            self.line.wake();
        }
    }

    /// Whether the thread is stopping, so that nothing is reported or replaced any more.
    pub(super) fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    fn with_seat<R>(&self, worker: WorkerId, f: impl FnOnce(&mut Seat) -> R) -> R {
        // A worker's number is far below what a usize holds on any platform that tokio runs on.
        let index = usize::try_from(worker.0).unwrap_or(usize::MAX) / self.stride;
        let mut seats = self.seats.borrow_mut();
        if seats.len() <= index {
            seats.resize_with(index + 1, Seat::default);
        }
        f(&mut seats[index])
    }

    /// Drops every future and lets the actors end. Blocking handlers are told, and go on.
    fn wind_up(&self) {
        let seats = self.seats.take();
        for seat in seats {
            if let Some(run) = seat.run {
                run.abandon(self);
            }
        }
    }
}

/// Polls a fresh future once; starts a blocking call.
fn first_poll(begun: Begun, span: &Span, cx: &mut Context<'_>) -> First {
    match begun {
        Begun::Ended(tried) => First::Ended(tried),
        Begun::Future(mut future) => match future.as_mut().poll(cx) {
            Poll::Ready(tried) => First::Ended(tried),
            Poll::Pending => First::Pending {
                future,
                blocking: false,
            },
        },
        Begun::Blocking(call) => {
            let span = span.clone();
            let thread = tokio::task::spawn_blocking(move || span.in_scope(call));
            let future = Box::pin(async move {
                thread.await.unwrap_or_else(|error| Tried::Panicked {
                    message: error
                        .try_into_panic()
                        .map_or_else(|error| error.to_string(), panic_message),
                })
            });
            First::Pending {
                future,
                blocking: true,
            }
        }
    }
}

#[cfg(test)]
mod tests;
