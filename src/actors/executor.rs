//! The workers of one thread.
//!
//! Owns: beginning and stopping attempts, and the reports on their way to the node, which leave in
//! one batch per turn. Does not know: which task should run, or what becomes of a report.
//!
//! A fresh attempt is polled once, at once, where its order is taken: most short handlers end there
//! and never cost a message to an actor. One that is pending goes to the actor of its worker, and
//! so does a blocking one, which a thread of the pool runs.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::blocking::Pool;
use super::run::{self, First, Run, Step};
use super::thread_queue::{Order, Start, ThreadQueue};
use super::worker::StartedWorker;
use crate::contain::contained;
use crate::engine::WorkerId;
use crate::engine::message::Assignment;
use crate::engine::node::NodeEvent;
use crate::handlers::NodeEnv;
use crate::say::say;
use crate::task::Dispatch;

/// How many orders are taken, and how long at most, before reports are sent and other futures of
/// the thread have their turn. Few, so that the node's thread works on the first reports while this
/// one is at the next orders, and soon, so that it knows what runs; fewer cost more wake-ups than
/// that gains.
const TURN: usize = 64;
const LONG_TURN: Duration = Duration::from_micros(100);

/// How long a worker is left alone when no thread could be started for its blocking handler.
const NO_THREAD_WAIT: Duration = Duration::from_secs(1);

/// See the module. Lives on its thread.
pub(super) struct Executor {
    env: Arc<NodeEnv>,
    queue: Arc<ThreadQueue>,
    pool: Pool,
    max_output: usize,
    /// Over how many threads the node's workers are spread: their slots are numbered without gaps.
    stride: usize,
    /// By the seat of the scheduler in the process, and by worker.
    slots: RefCell<Vec<Vec<WorkerSlot>>>,
    /// Whether the executor's own turn is on, at whose end reports are sent.
    turning: Cell<bool>,
}

/// What belongs to a worker: its actor, once it needed one, and the run that the actor has.
#[derive(Default)]
struct WorkerSlot {
    actor: Option<Rc<StartedWorker>>,
    run: Option<Rc<Run>>,
}

impl Executor {
    pub(super) fn new(
        env: Arc<NodeEnv>,
        queue: Arc<ThreadQueue>,
        pool: Pool,
        max_output: usize,
        stride: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            env,
            queue,
            pool,
            max_output,
            stride: stride.max(1),
            slots: RefCell::default(),
            turning: Cell::new(false),
        })
    }

    /// Carries out orders until they are closed.
    pub(super) async fn run(self: Rc<Self>) {
        poll_fn(|cx| {
            let turn = contained(|| self.turn(cx));
            turn.unwrap_or_else(|message| {
                say!(error: reason = message, "a panic among the workers of a node; they go on");
                self.turning.set(false);
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        })
        .await;
        self.wind_up();
    }

    fn turn(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.register(cx.waker());
        if self.queue.is_closed() {
            return Poll::Ready(());
        }
        self.queue.answer();
        self.turning.set(true);
        let mut now = Instant::now();
        let until = now + LONG_TURN;
        let mut more = true;
        for _ in 0..TURN {
            match self.queue.pop(|worker| self.is_occupied(worker)) {
                Some(Order::Start(start)) => now = self.begin(start, now, cx),
                Some(Order::Stop { worker, dispatch }) => self.stop(worker, dispatch),
                None => {
                    more = false;
                    break;
                }
            }
            if now > until {
                break;
            }
        }
        self.turning.set(false);
        self.queue.send_reports(&self.env.inbox);
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Begins an attempt. Returns the moment at which it had been begun, or had ended.
    #[inline(always)]
    fn begin(self: &Rc<Self>, start: Start, now: Instant, cx: &mut Context<'_>) -> Instant {
        let worker = start.worker;
        let (first, after) = self.queue.held_by(start.worker, || {
            run::begin(&self.env, &self.pool, self.max_output, &start, now, cx)
        });
        match first {
            First::Ended(event) => self.report(event),
            First::Pending(run) => self.hand_over(run),
            First::NoThread => self.rest(worker, start.assignment),
        }
        after
    }

    /// Gives back what no thread could be started for, and has its worker used again after a while.
    fn rest(self: &Rc<Self>, worker: WorkerId, assignment: Assignment) {
        self.report(NodeEvent::NoThread { worker, assignment });
        let executor = Rc::clone(self);
        actix_rt::spawn(async move {
            tokio::time::sleep(NO_THREAD_WAIT).await;
            let workers = vec![worker];
            executor.report(NodeEvent::Resumed { workers });
        });
    }

    /// Stops a run, unless its verdict is under way.
    fn stop(&self, worker: WorkerId, dispatch: Dispatch) {
        let run = self.with_slot(worker, |slot| slot.run.clone());
        if let Some(run) = run.filter(|run| run.dispatch == dispatch) {
            let step = self.queue.held_by(worker, || run.stop());
            self.follow(&run, step);
        }
    }

    /// Does what follows from a step of a run. Returns whether the run goes on.
    fn follow(&self, run: &Run, step: Step) -> bool {
        match step {
            Step::Pending => true,
            Step::Overran(event) => {
                self.report(event);
                true
            }
            Step::Ended(event) => {
                self.vacate(run);
                self.report(event);
                false
            }
            Step::Over => false,
        }
    }

    /// Gives a run to the actor of its worker, which is started if there is none or it has died.
    fn hand_over(self: &Rc<Self>, run: Rc<Run>) {
        let worker = run.worker;
        let actor = self.with_slot(worker, |slot| {
            slot.run = Some(Rc::clone(&run));
            slot.actor.clone()
        });
        let executor = Rc::clone(self);
        let attempt = Box::pin(Attempt { executor, run });
        let refused = match actor {
            Some(actor) => actor.poll(attempt).err(),
            None => Some(attempt as _),
        };
        if let Some(attempt) = refused {
            let actor = Rc::new(StartedWorker::new(worker, attempt));
            self.with_slot(worker, |slot| slot.actor = Some(actor));
        }
    }

    /// Returns whether a worker has a run, so that the next must wait.
    #[inline]
    fn is_occupied(&self, worker: WorkerId) -> bool {
        self.with_slot(worker, |slot| slot.run.is_some())
    }

    /// Forgets a run that has really ended, so that the next can begin.
    fn vacate(&self, run: &Run) {
        let left = self.with_slot(run.worker, |slot| {
            let same = |held: &mut Rc<Run>| held.dispatch == run.dispatch;
            slot.run.take_if(same).is_some()
        });
        if left && self.queue.resume(run.worker) && !self.turning.get() {
            self.queue.wake();
        }
    }

    /// Reports at the end of this turn, or else of the next.
    #[inline(always)]
    fn report(&self, event: NodeEvent) {
        if self.queue.report(event) && !self.turning.get() {
            self.queue.wake();
        }
    }

    #[inline]
    fn with_slot<R>(&self, worker: WorkerId, f: impl FnOnce(&mut WorkerSlot) -> R) -> R {
        // A worker's number is far below what a usize holds on any platform that tokio runs on.
        let within = usize::try_from(worker.within_seat().0).unwrap_or(usize::MAX);
        let (scheduler, index) = (worker.seat(), within / self.stride);
        let mut all = self.slots.borrow_mut();
        if all.len() <= scheduler {
            all.resize_with(scheduler + 1, Vec::new);
        }
        let slots = &mut all[scheduler];
        if slots.len() <= index {
            slots.resize_with(index + 1, WorkerSlot::default);
        }
        f(&mut slots[index])
    }

    /// Drops every future and lets the actors end. Blocking handlers are told, and go on.
    fn wind_up(&self) {
        let slots = self.slots.take();
        for slot in slots.into_iter().flatten() {
            if let Some(run) = slot.run {
                self.queue.held_by(run.worker, || run.abandon());
            }
        }
    }
}

/// A run in the hands of its worker's actor.
struct Attempt {
    executor: Rc<Executor>,
    run: Rc<Run>,
}

impl Future for Attempt {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { executor, run } = &*self;
        let step = executor.queue.held_by(run.worker, || run.poll(cx));
        match executor.follow(run, step) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl Drop for Attempt {
    /// Gives a run that has not ended, and whose actor has died, to the actor's successor: it waits
    /// for a blocking handler, which cannot be dropped.
    fn drop(&mut self) {
        let Self { executor, run } = self;
        if executor.queue.is_closed() {
            return;
        }
        // The thread itself may be ending, where no actor can be started.
        let replaced = contained(|| {
            let step = executor.queue.held_by(run.worker, || run.lose_actor());
            if executor.follow(run, step) {
                executor.with_slot(run.worker, |slot| slot.actor = None);
                executor.hand_over(Rc::clone(run));
            }
        });
        if let Err(reason) = replaced {
            say!(debug: reason, "a worker ended with its thread");
        }
    }
}

#[cfg(test)]
mod tests;
