//! The queue between a node's thread and one thread of its workers.
//!
//! Owns: the orders that have not begun, the reports that have not left, and the signs of life of
//! the thread. Does not know: what an order or a report means.
//!
//! A handler may block the thread. What is queued is therefore seen from both ends, and the
//! node's thread can take it when the other one does not move.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::engine::WorkerId;
use crate::engine::message::Assignment;
use crate::engine::node::NodeEvent;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::retry::RetryPolicy;
use crate::sync::lock;
use crate::task::Dispatch;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Run this.
    Start(Start),
    /// Stop this run.
    Stop {
        worker: WorkerId,
        dispatch: Dispatch,
    },
}

#[derive(Debug)]
pub(super) struct Start {
    pub(super) worker: WorkerId,
    pub(super) assignment: Assignment,
    pub(super) retry: RetryPolicy,
}

/// What has not begun.
#[derive(Debug, Default)]
struct Orders {
    queue: VecDeque<Order>,
    /// Starts whose worker has a run, in order. They stay here, so that they can be taken back.
    parked: BTreeMap<WorkerId, VecDeque<Start>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ThreadQueue {
    orders: Mutex<Orders>,
    reports: Mutex<Vec<NodeEvent>>,
    waker: AtomicWaker,
    closed: AtomicBool,
    /// The last question whether the thread answers, and the last answer.
    asked: AtomicU64,
    answered: AtomicU64,
    /// One more than the worker whose handler has the thread at this moment; zero for none.
    active: AtomicU32,
}

impl Start {
    pub(super) fn unstarted(self) -> NodeEvent {
        NodeEvent::Unstarted {
            worker: self.worker,
            assignment: self.assignment,
        }
    }
}

impl Orders {
    fn take_from_queue(&mut self, wanted: impl Fn(Dispatch) -> bool, into: &mut Vec<Start>) {
        let queue = std::mem::take(&mut self.queue);
        self.queue.extend(without(queue, wanted, into));
    }
}

/// Moves these starts out of some orders; the others stay, in their order.
fn without(
    orders: impl IntoIterator<Item = Order>,
    wanted: impl Fn(Dispatch) -> bool,
    into: &mut Vec<Start>,
) -> impl Iterator<Item = Order> {
    orders.into_iter().filter_map(move |order| match order {
        Order::Start(start) if wanted(start.assignment.dispatch) => {
            into.push(start);
            None
        }
        other => Some(other),
    })
}

impl ThreadQueue {
    /// Adds all, in order, with at most one wake-up.
    pub(super) fn extend(&self, orders: &mut Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        let mut waiting = lock(&self.orders);
        let was_empty = waiting.queue.is_empty();
        waiting.queue.extend(orders.drain(..));
        drop(waiting);
        if was_empty {
            self.waker.wake();
        }
    }

    /// Takes the next order to begin it. A start whose worker is `occupied` is kept until
    /// [`ThreadQueue::resume`].
    #[inline]
    pub(super) fn pop(&self, occupied: impl Fn(WorkerId) -> bool) -> Option<Order> {
        let mut waiting = lock(&self.orders);
        loop {
            match waiting.queue.pop_front()? {
                Order::Start(start) if occupied(start.worker) => {
                    waiting
                        .parked
                        .entry(start.worker)
                        .or_default()
                        .push_back(start);
                }
                order => return Some(order),
            }
        }
    }

    /// Puts what was kept for a worker first in the queue, in its order. Returns whether there was
    /// anything.
    pub(super) fn resume(&self, worker: WorkerId) -> bool {
        let mut waiting = lock(&self.orders);
        let Some(parked) = waiting.parked.remove(&worker) else {
            return false;
        };
        for start in parked.into_iter().rev() {
            waiting.queue.push_front(Order::Start(start));
        }
        true
    }

    /// Takes back every start that has not begun. Stops stay: what they stop may have begun before.
    pub(super) fn withdraw_all(&self) -> Vec<Start> {
        let mut waiting = lock(&self.orders);
        // What is kept for a worker has come before what is queued for it.
        let parked = std::mem::take(&mut waiting.parked);
        let mut starts: Vec<Start> = parked.into_values().flatten().collect();
        waiting.take_from_queue(|_| true, &mut starts);
        starts
    }

    /// Takes those of these starts back that have not begun, also out of `batch`, which is to be
    /// queued behind the rest; the last first, so that each is put back before those that came
    /// after it. What is behind them may begin, and end, from then on.
    pub(super) fn withdraw(
        &self,
        batch: &mut Vec<Order>,
        back: &mut HashSet<Dispatch>,
    ) -> Vec<Start> {
        let mut starts = Vec::new();
        let mut waiting = lock(&self.orders);
        waiting.parked.retain(|_, parked| {
            for start in std::mem::take(parked) {
                match back.contains(&start.assignment.dispatch) {
                    true => starts.push(start),
                    false => parked.push_back(start),
                }
            }
            !parked.is_empty()
        });
        waiting.take_from_queue(|dispatch| back.contains(&dispatch), &mut starts);
        drop(waiting);
        let orders = std::mem::take(batch);
        batch.extend(without(orders, |it| back.contains(&it), &mut starts));
        starts.reverse();
        back.clear();
        starts
    }

    /// Ends the thread's work; orders that have not begun are dropped.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *lock(&self.orders) = Orders::default();
        self.waker.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Adds a report; whether it is the first that waits.
    #[inline]
    pub(super) fn report(&self, report: NodeEvent) -> bool {
        let mut reports = lock(&self.reports);
        reports.push(report);
        reports.len() == 1
    }

    /// Sends off the reports that wait. Either end may do so.
    pub(super) fn send_reports(&self, inbox: &Inbox<Incoming<NodeEvent>>) {
        let mut reports = lock(&self.reports);
        if !reports.is_empty() {
            inbox.extend(reports.drain(..).map(Incoming::Event));
        }
    }

    /// Asks the thread for a sign of life.
    pub(super) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Returns whether the thread has answered the last question.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire) == self.asked.load(Ordering::Relaxed)
    }

    /// Gives a sign of life.
    pub(super) fn answer(&self) {
        let asked = self.asked.load(Ordering::Relaxed);
        if self.answered.load(Ordering::Relaxed) != asked {
            self.answered.store(asked, Ordering::Release);
        }
    }

    /// Runs what may hold the thread, and names its worker meanwhile.
    #[inline]
    pub(super) fn held_by<R>(&self, worker: WorkerId, user: impl FnOnce() -> R) -> R {
        let named = worker.0.saturating_add(1);
        self.active.store(named, Ordering::Relaxed);
        let result = user();
        self.active.store(0, Ordering::Relaxed);
        result
    }

    /// Returns the worker whose handler has the thread.
    pub(super) fn active(&self) -> Option<WorkerId> {
        let active = self.active.load(Ordering::Relaxed);
        active.checked_sub(1).map(WorkerId)
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }
}
