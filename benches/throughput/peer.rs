//! A peer: ractor's factory, ten workers, messages queued by the factory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job, JobOptions, Worker, WorkerBuilder, WorkerId,
    queues, routing,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;

use super::Scale;

struct Counting {
    left: Arc<AtomicU64>,
    done: Arc<Notify>,
}

impl Worker for Counting {
    type Key = u64;
    type Message = u64;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<u64, u64>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<u64, u64>>,
        job: Job<u64, u64>,
        (): &mut (),
    ) -> Result<u64, ActorProcessingErr> {
        std::hint::black_box(job.msg + 1);
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
        Ok(job.key)
    }
}

struct Builder {
    left: Arc<AtomicU64>,
    done: Arc<Notify>,
}

impl WorkerBuilder<Counting, ()> for Builder {
    fn build(&mut self, _: WorkerId) -> (Counting, ()) {
        let worker = Counting {
            left: Arc::clone(&self.left),
            done: Arc::clone(&self.done),
        };
        (worker, ())
    }
}

type Queue = queues::DefaultQueue<u64, u64>;
type Routing = routing::QueuerRouting<u64, u64>;

pub fn factory(scale: &Scale) -> f64 {
    let count = scale.of(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let left = Arc::new(AtomicU64::new(count));
        let done = Arc::new(Notify::new());
        let builder = Builder {
            left: Arc::clone(&left),
            done: Arc::clone(&done),
        };
        let definition = Factory::<u64, u64, (), Counting, Routing, Queue>::default();
        let arguments = FactoryArguments::builder()
            .num_initial_workers(10)
            .worker_builder(Box::new(builder))
            .queue(Queue::default())
            .router(Routing::default())
            .build();
        let (factory, handle) = Actor::spawn(None, definition, arguments)
            .await
            .expect("the factory starts");
        let began = Instant::now();
        for key in 0..count {
            let job = Job {
                key,
                msg: key,
                options: JobOptions::default(),
                accepted: None,
            };
            factory
                .cast(FactoryMessage::Dispatch(job))
                .expect("the factory runs");
        }
        done.notified().await;
        let rate = count as f64 / began.elapsed().as_secs_f64();
        factory.stop(None);
        handle.await.expect("the factory ends");
        rate
    })
}
