//! What only the inside can bring about: the death of a worker's actor.

use std::sync::{Mutex, mpsc};

use actix::{ActorContext, Handler, Message};
use tokio::sync::Semaphore;

use super::*;
use crate::actors::worker::WorkerActor;
use crate::engine::message::{Assignment, End};
use crate::handlers::{Handlers, TaskError};
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::status::Cause;
use crate::task::TaskId;

struct Die;

impl Message for Die {
    type Result = ();
}

impl Handler<Die> for WorkerActor {
    type Result = ();

    fn handle(&mut self, _: Die, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}

const WORKER: WorkerId = WorkerId(0);

struct Bench {
    executor: Rc<Executor>,
    queue: Arc<ThreadQueue>,
    inbox: Inbox<Incoming<NodeEvent>>,
    events: Vec<Incoming<NodeEvent>>,
}

impl Bench {
    fn new(handlers: Handlers) -> Self {
        let inbox = Inbox::new();
        let queue = Arc::new(ThreadQueue::default());
        let env = Arc::new(NodeEnv {
            node: "test".into(),
            handlers,
            inbox: inbox.clone(),
            schedulers: Default::default(),
            hold: None,
        });
        let pool = Pool::new(Arc::new(()));
        let executor = Executor::new(env, Arc::clone(&queue), pool, 1000, 1);
        actix_rt::spawn(Rc::clone(&executor).run());
        Self {
            executor,
            queue,
            inbox,
            events: Vec::new(),
        }
    }

    fn start(&self, kind: u16, dispatch: u64) {
        let assignment = Assignment {
            task: TaskId::new(dispatch),
            dispatch: Dispatch::new(dispatch),
            kind,
            attempt: 1,
            prefetched: false,
            args: Payload::from(&[0xc0]),
            terms: None,
        };
        let start = Start {
            worker: WORKER,
            assignment,
            retry: RetryPolicy::default(),
        };
        self.queue.extend(&mut vec![Order::Start(start)]);
    }

    fn withdraw(&self, dispatches: &[u64]) -> Vec<u64> {
        let mut back = dispatches.iter().copied().map(Dispatch::new).collect();
        let taken = self.queue.withdraw(&mut Vec::new(), &mut back).into_iter();
        taken.map(|start| start.assignment.dispatch.get()).collect()
    }

    fn kill(&self) {
        let actor = self.executor.with_slot(WORKER, |slot| slot.actor.clone());
        actor.unwrap().addr.do_send(Die);
    }

    async fn event(&mut self) -> NodeEvent {
        if self.events.is_empty() {
            self.inbox.ready().await;
            self.inbox.take(&mut self.events);
        }
        match self.events.remove(0) {
            Incoming::Event(event) => event,
            Incoming::Attach { .. } => panic!("a executor has no links"),
        }
    }
}

fn assert_died(event: NodeEvent, overran: bool) {
    match event {
        NodeEvent::Ended {
            end: End::Again { failure, .. },
            overrun,
            ..
        } => assert_eq!((failure.cause, overrun), (Cause::Panic, overran)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn g7_a_worker_that_dies_is_replaced_and_its_attempt_counts_as_a_panic() {
    let started = Arc::new(Semaphore::new(0));
    let handlers = Handlers::new()
        .on("pends", {
            let started = Arc::clone(&started);
            async move |(): ()| -> Result<(), TaskError> {
                // At the second poll, and so in the actor.
                tokio::task::yield_now().await;
                started.add_permits(1);
                std::future::pending().await
            }
        })
        .on("ends", async |(): ()| {
            tokio::task::yield_now().await;
            Ok(())
        });
    actix::System::new().block_on(async {
        let mut bench = Bench::new(handlers);
        bench.start(0, 1);
        started.acquire().await.unwrap().forget();
        bench.kill();
        assert_died(bench.event().await, false);
        bench.start(1, 2);
        match bench.event().await {
            NodeEvent::Ended { end, .. } => assert!(matches!(end, End::Completed(_)), "{end:?}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn g7_an_attempt_that_its_actor_has_not_taken_yet_dies_with_it() {
    let (handlers, started, gate) = gated();
    actix::System::new().block_on(async {
        let mut bench = Bench::new(handlers);
        bench.start(0, 1);
        started.acquire().await.unwrap().forget();
        gate.add_permits(1);
        assert_eq!(ended(bench.event().await), 1);
        // The executor hands the second over while the actor has only this message to handle.
        bench.start(0, 2);
        bench.kill();
        assert_died(bench.event().await, false);
        bench.start(1, 3);
        assert_eq!(ended(bench.event().await), 3);
    });
}

#[test]
fn g4_a_worker_that_dies_under_a_blocking_handler_is_free_when_that_ends() {
    let (let_go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let started = Arc::new(Semaphore::new(0));
    let handlers = Handlers::new().on_blocking("held", {
        let started = Arc::clone(&started);
        move |(): ()| {
            started.add_permits(1);
            gate.lock().unwrap().recv()?;
            Ok(())
        }
    });
    actix::System::new().block_on(async {
        let mut bench = Bench::new(handlers);
        bench.start(0, 1);
        started.acquire().await.unwrap().forget();
        // The run was handed to the actor before; its message is handled before this one.
        bench.kill();
        assert_died(bench.event().await, true);
        let_go.send(()).unwrap();
        match bench.event().await {
            NodeEvent::Freed { dispatch, .. } => assert_eq!(dispatch, Dispatch::new(1)),
            other => panic!("{other:?}"),
        }
    });
}

fn ended(event: NodeEvent) -> u64 {
    match event {
        NodeEvent::Ended { dispatch, .. } => dispatch.get(),
        other => panic!("{other:?}"),
    }
}

/// Makes a handler that waits for a permit, whose number of runs at once is watched, and one that
/// ends at once.
fn gated() -> (Handlers, Arc<Semaphore>, Arc<Semaphore>) {
    let started = Arc::new(Semaphore::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let handlers = Handlers::new()
        .on("held", {
            let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
            async move |(): ()| {
                started.add_permits(1);
                gate.acquire().await?.forget();
                Ok(())
            }
        })
        .on("ends", async |(): ()| Ok(()));
    (handlers, started, gate)
}

#[test]
fn g4_a_pipelined_start_begins_when_the_run_before_it_has_ended_and_in_order() {
    let (handlers, started, gate) = gated();
    actix::System::new().block_on(async {
        let mut bench = Bench::new(handlers);
        bench.start(0, 1);
        started.acquire().await.unwrap().forget();
        bench.start(0, 2);
        bench.start(1, 3);
        // Many turns of the executor change nothing.
        for _ in 0..10 {
            bench.queue.wake();
            tokio::task::yield_now().await;
        }
        assert_eq!(started.available_permits(), 0, "one at a time");
        assert!(bench.inbox.is_empty());
        gate.add_permits(1);
        assert_eq!(ended(bench.event().await), 1);
        started.acquire().await.unwrap().forget();
        assert!(bench.inbox.is_empty());
        gate.add_permits(1);
        assert_eq!(ended(bench.event().await), 2);
        assert_eq!(ended(bench.event().await), 3);
    });
}

#[test]
fn g12_a_pipelined_start_is_taken_back_from_either_place_in_the_queue_or_not_at_all() {
    let (handlers, started, gate) = gated();
    actix::System::new().block_on(async {
        let mut bench = Bench::new(handlers);
        bench.start(0, 1);
        started.acquire().await.unwrap().forget();
        bench.start(1, 2);
        bench.start(1, 3);
        tokio::task::yield_now().await;
        // This one has not even been looked at.
        bench.start(1, 4);
        assert_eq!(bench.withdraw(&[1, 2, 4]), [4, 2]);
        gate.add_permits(1);
        assert_eq!(ended(bench.event().await), 1);
        assert_eq!(ended(bench.event().await), 3);
        assert!(bench.inbox.is_empty() && bench.events.is_empty());
    });
}

#[test]
fn g12_a_stopped_run_makes_way_for_the_next_of_its_pipeline() {
    let (handlers, started, _gate) = gated();
    actix::System::new().block_on(async {
        let mut bench = Bench::new(handlers);
        bench.start(0, 1);
        started.acquire().await.unwrap().forget();
        bench.start(1, 2);
        let (worker, dispatch) = (WORKER, Dispatch::new(1));
        bench
            .queue
            .extend(&mut vec![Order::Stop { worker, dispatch }]);
        assert_eq!(ended(bench.event().await), 1);
        assert_eq!(ended(bench.event().await), 2);
    });
}
