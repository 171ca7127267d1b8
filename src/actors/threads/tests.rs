//! Orders to a thread that carries them out as soon as it is woken.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use super::*;
use crate::engine::message::Assignment;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::sync::lock;
use crate::task::TaskId;

const WORKER: WorkerId = WorkerId(0);

/// A thread with one worker, which acts within the wake-up.
#[derive(Default)]
struct Quick {
    queue: Arc<ThreadQueue>,
    is_busy: AtomicBool,
    begun: Mutex<Vec<Dispatch>>,
}

impl Wake for Quick {
    fn wake(self: Arc<Self>) {
        let is_busy = |_| self.is_busy.load(Ordering::Relaxed);
        while let Some(order) = self.queue.pop(is_busy) {
            match order {
                Order::Start(start) => {
                    self.is_busy.store(true, Ordering::Relaxed);
                    lock(&self.begun).push(start.assignment.dispatch);
                }
                Order::Stop { worker, .. } => {
                    self.is_busy.store(false, Ordering::Relaxed);
                    self.queue.resume(worker);
                }
            }
        }
    }
}

struct Bench {
    quick: Arc<Quick>,
    thread: Thread,
    inbox: Inbox<Incoming<NodeEvent>>,
}

impl Bench {
    fn new() -> Self {
        let quick = Arc::new(Quick::default());
        Self {
            thread: Thread::new(Arc::clone(&quick.queue)),
            quick,
            inbox: Inbox::new(),
        }
    }

    fn start(&mut self, number: u64) {
        let (task, dispatch) = (TaskId::new(number), Dispatch::new(number));
        self.thread.batch.push(Order::Start(Start {
            worker: WORKER,
            assignment: Assignment {
                task,
                dispatch,
                kind: 0,
                attempt: 1,
                prefetched: true,
                args: Payload::default(),
                terms: None,
            },
            retry: RetryPolicy::default(),
        }));
    }

    fn stop(&mut self, number: u64) {
        let dispatch = Dispatch::new(number);
        let worker = WORKER;
        self.thread.batch.push(Order::Stop { worker, dispatch });
    }

    /// Sends off the orders, and returns what was taken back.
    fn flush(&mut self, back: &[u64]) -> Vec<u64> {
        let waker = Waker::from(Arc::clone(&self.quick));
        self.quick.queue.register(&waker);
        self.thread.back = back.iter().copied().map(Dispatch::new).collect();
        let events = self.thread.flush(&self.inbox);
        let taken = events.into_iter().map(|event| match event {
            NodeEvent::Unstarted { assignment, .. } => assignment.dispatch.get(),
            other => panic!("{other:?}"),
        });
        taken.collect()
    }

    fn begun(&self) -> Vec<u64> {
        lock(&self.quick.begun).iter().map(|it| it.get()).collect()
    }
}

#[test]
fn what_is_taken_back_does_not_begin_as_the_run_before_it_is_stopped() {
    let mut bench = Bench::new();
    (1..=3).for_each(|number| bench.start(number));
    assert!(bench.flush(&[]).is_empty());
    assert_eq!(bench.begun(), [1]);
    bench.stop(1);
    // It was ordered and is taken back within one turn.
    bench.start(4);
    assert_eq!(bench.flush(&[2, 3, 4]), [4, 3, 2]);
    assert_eq!(bench.begun(), [1]);
    // The worker is free for what comes then.
    bench.start(5);
    assert!(bench.flush(&[]).is_empty());
    assert_eq!(bench.begun(), [1, 5]);
}
