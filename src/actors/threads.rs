//! The threads that run user code.
//!
//! Owns: the threads of a node's workers, the batches of orders to them, and noticing that one does
//! not answer. Does not know: what runs there.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use actix::System;
use tokio::time::Instant;

use super::blocking::{LifeSign, Pool};
use super::executor::Executor;
use super::thread_queue::{Order, Start, ThreadQueue};
use crate::config::NodeConfig;
use crate::engine::WorkerId;
use crate::engine::node::NodeEvent;
use crate::handlers::NodeEnv;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::panics::note_places;
use crate::task::Dispatch;

/// Where a node's workers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerThreads {
    /// On so many threads of their own, at least one.
    Own(usize),
    /// On the thread that starts the node, together with the node itself: for tests, under a paused
    /// clock too. A handler that blocks is then not noticed.
    Current,
}

/// How often threads that run something are asked for a sign of life.
const ROUND: Duration = Duration::from_millis(250);

/// How many rounds in a row a question may stay open before the thread counts as blocked. With
/// [`ROUND`], a handler that blocks is noticed after 500 to 750 ms, and so within the second that
/// is promised.
const OPEN_ROUNDS: u8 = 2;

/// See the module.
pub(super) struct Threads {
    threads: Vec<Thread>,
    env: Arc<NodeEnv>,
    /// One more than the highest worker that is known to exist, by seat.
    workers: Vec<u32>,
    max_workers: u32,
    /// Whether there are threads of their own, which can be asked.
    own: bool,
    next_round: Option<Instant>,
}

struct Thread {
    queue: Arc<ThreadQueue>,
    batch: Vec<Order>,
    /// Starts to take back.
    back: HashSet<Dispatch>,
    health: Health,
}

/// What the questions have shown of a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The thread answers; the last question has been open for so many rounds.
    Well { open: u8 },
    /// Something blocks it.
    Stalled,
}

impl Threads {
    /// Starts them. With threads of their own this needs an actix System on the calling thread.
    pub(super) fn start(
        place: WorkerThreads,
        env: &Arc<NodeEnv>,
        config: &NodeConfig,
        sign: &LifeSign,
    ) -> io::Result<Self> {
        note_places();
        let mut threads = Self {
            threads: Vec::new(),
            env: Arc::clone(env),
            workers: vec![config.max_workers],
            max_workers: config.max_workers,
            own: matches!(place, WorkerThreads::Own(_)),
            next_round: None,
        };
        match place {
            WorkerThreads::Current => {
                let queue = Arc::new(ThreadQueue::default());
                let pool = Pool::new(Arc::clone(sign));
                let executor = Executor::new(
                    Arc::clone(env),
                    Arc::clone(&queue),
                    pool,
                    config.max_output,
                    1,
                );
                actix_rt::spawn(executor.run());
                threads.threads.push(Thread::new(queue));
            }
            WorkerThreads::Own(count) => {
                let count = count.max(1);
                for _ in 0..count {
                    // Dropping `threads` on an error ends those that were started.
                    let thread = start_thread(env, sign, config.max_output, count)?;
                    threads.threads.push(thread);
                }
            }
        }
        Ok(threads)
    }

    /// Orders an assignment to be run.
    #[inline]
    pub(super) fn order_start(&mut self, start: Start) {
        let (seat, within) = (start.worker.seat(), start.worker.within_seat().0);
        if self.workers.len() <= seat {
            self.workers.resize(seat + 1, self.max_workers);
        }
        self.workers[seat] = self.workers[seat].max(within + 1);
        let own = self.own;
        self.of(start.worker).batch.push(Order::Start(start));
        if own && self.next_round.is_none() {
            self.next_round = Some(Instant::now() + ROUND);
        }
    }

    /// Orders a run to be stopped.
    pub(super) fn order_stop(&mut self, worker: WorkerId, dispatch: Dispatch) {
        let stop = Order::Stop { worker, dispatch };
        self.of(worker).batch.push(stop);
    }

    /// Orders a start to be taken back, if it has not begun.
    pub(super) fn order_back(&mut self, worker: WorkerId, dispatch: Dispatch) {
        self.of(worker).back.insert(dispatch);
    }

    /// Sends off the orders. Returns what was taken back before it had begun, to be told before
    /// anything that the threads report from then on: what was behind it may have begun, and have
    /// ended.
    pub(super) fn flush(&mut self) -> Vec<NodeEvent> {
        let inbox = &self.env.inbox;
        let threads = self.threads.iter_mut();
        threads.flat_map(|thread| thread.flush(inbox)).collect()
    }

    /// Returns when [`Threads::round`] is due.
    pub(super) fn next_round(&self) -> Option<Instant> {
        self.next_round
    }

    /// Asks the threads whose workers are occupied. Returns what has become of those that were
    /// asked, to be told after what their workers have reported.
    pub(super) fn round(
        &mut self,
        now: Instant,
        occupied: impl Iterator<Item = WorkerId>,
    ) -> Vec<NodeEvent> {
        let mut busy = vec![false; self.threads.len()];
        for worker in occupied {
            busy[self.index_of(worker)] = true;
        }
        self.next_round = None;
        let mut events = Vec::new();
        for (index, busy) in busy.into_iter().enumerate() {
            let thread = &mut self.threads[index];
            if !busy && thread.health != Health::Stalled {
                thread.health = Health::Well { open: 0 };
                continue;
            }
            self.next_round = Some(now + ROUND);
            if thread.queue.has_answered() {
                thread.queue.ask();
                let before = std::mem::replace(&mut thread.health, Health::Well { open: 0 });
                if before == Health::Stalled {
                    let workers = self.workers_of(index, None);
                    events.push(NodeEvent::Resumed { workers });
                }
            } else {
                match thread.health {
                    Health::Well { open } if open + 1 < OPEN_ROUNDS => {
                        thread.health = Health::Well { open: open + 1 };
                    }
                    Health::Well { .. } | Health::Stalled => {
                        self.take_from(index, &mut events);
                    }
                }
            }
        }
        events
    }

    /// Takes what is queued for a blocked thread, and says so. While it is blocked, this is
    /// done in each round, for orders that were on their way.
    fn take_from(&mut self, index: usize, events: &mut Vec<NodeEvent>) {
        let thread = &mut self.threads[index];
        thread.queue.send_reports(&self.env.inbox);
        let taken = thread.queue.withdraw_all();
        let before = std::mem::replace(&mut thread.health, Health::Stalled);
        if before == Health::Stalled && taken.is_empty() {
            return;
        }
        let active = thread.queue.active();
        // First the stall, so that what is taken back does not go to the same thread again.
        let workers = self.workers_of(index, active);
        events.push(NodeEvent::Stalled { workers });
        events.extend(taken.into_iter().map(Start::unstarted));
    }

    /// Returns all workers of a thread, the one whose handler has it first.
    fn workers_of(&self, index: usize, active: Option<WorkerId>) -> Vec<WorkerId> {
        let first = u32::try_from(index).unwrap_or(u32::MAX);
        let seats = self.workers.iter().enumerate();
        let workers = seats.flat_map(|(seat, &workers)| {
            let within = (first..workers).step_by(self.threads.len());
            within.map(move |worker| WorkerId(worker).at_seat(seat))
        });
        let workers = workers.filter(|worker| Some(*worker) != active);
        active.into_iter().chain(workers).collect()
    }

    #[inline]
    fn of(&mut self, worker: WorkerId) -> &mut Thread {
        let index = self.index_of(worker);
        &mut self.threads[index]
    }

    #[inline]
    fn index_of(&self, worker: WorkerId) -> usize {
        // A worker's number is far below what a usize holds on any platform that tokio runs on.
        let worker = usize::try_from(worker.within_seat().0).unwrap_or(usize::MAX);
        worker % self.threads.len()
    }
}

impl Drop for Threads {
    /// Ends the threads, and waits for nothing: a handler that blocks one keeps it until it
    /// returns.
    fn drop(&mut self) {
        for thread in &self.threads {
            thread.queue.close();
        }
    }
}

impl Thread {
    fn new(queue: Arc<ThreadQueue>) -> Self {
        Self {
            queue,
            batch: Vec::new(),
            back: HashSet::new(),
            health: Health::Well { open: 0 },
        }
    }

    /// See [`Threads::flush`].
    fn flush(&mut self, inbox: &Inbox<Incoming<NodeEvent>>) -> Vec<NodeEvent> {
        let mut events = Vec::new();
        if !self.back.is_empty() {
            // A handler that holds the thread holds the reports of those before it, too.
            self.queue.send_reports(inbox);
            // Before the orders: a stop frees a worker, on which what is taken back would begin.
            let taken = self.queue.withdraw(&mut self.batch, &mut self.back);
            events.extend(taken.into_iter().map(Start::unstarted));
        }
        self.queue.extend(&mut self.batch);
        events
    }
}

fn start_thread(
    env: &Arc<NodeEnv>,
    sign: &LifeSign,
    max_output: usize,
    stride: usize,
) -> io::Result<Thread> {
    if System::try_current().is_none() {
        return Err(io::Error::other(
            "no actix System runs on this thread; start the node inside one, for example under #[actix::main]",
        ));
    }
    let (env, queue) = (Arc::clone(env), Arc::new(ThreadQueue::default()));
    let pool = Pool::new(Arc::clone(sign));
    let thread = Thread::new(Arc::clone(&queue));
    let system = System::current();
    let (ready, started) = mpsc::channel();
    thread::Builder::new()
        .name("callboard-workers".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                // This function waits for it below.
                Err(error) => return drop(ready.send(Err(error))),
            };
            // A System of its own, so that its arbiter, which handlers find here, is not what the
            // executor runs on: a handler that stops it stops nothing.
            let runner = System::with_tokio_rt(move || runtime);
            System::set_current(system);
            let _ = ready.send(Ok(()));
            runner.block_on(Executor::new(env, queue, pool, max_output, stride).run());
        })?;
    let ended = || io::Error::other("a thread for workers ended as it was started");
    started.recv().map_err(|_| ended())??;
    Ok(thread)
}

#[cfg(test)]
mod tests;
