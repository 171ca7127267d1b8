//! What becomes of a scheduler on whose thread something panics that nothing else contains.

use std::time::Duration;

use actix::{Handler, Message};

use super::*;
use crate::actors::tests::paused_runtime;
use crate::actors::{AddNode, Cancel, Shutdown, Submit};
use crate::engine::NodeId;
use crate::engine::found::Found;
use crate::engine::ledger::Sealed;
use crate::engine::record::{Claim, Term};
use crate::error::StoreError;
use crate::recorder::StoreReport;
use crate::status::CancelAnswer;

/// Panics when it is to dial.
struct Bomb;

impl Connector<Event> for Bomb {
    fn dial(&self, _: NodeId, _: String, _: Option<String>, _: Option<Duration>) {
        panic!("a dial");
    }

    fn probe(&self, _: String, _: Box<dyn FnOnce(bool) -> Event + Send>) {}
}

/// Something that panics in the actor itself.
struct Strike;

impl Message for Strike {
    type Result = ();
}

impl Handler<Strike> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: Strike, _: &mut Self::Context) {
        panic!("a message");
    }
}

/// Waits, and fails the test instead of keeping it for ever.
async fn within<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(10), what).await;
    waited.expect("nobody is kept waiting by a scheduler that has ended")
}

fn parts(clock: Clock, left: Handover, guard: Box<dyn Send>) -> SchedulerParts {
    SchedulerParts {
        name: Arc::from("board"),
        scheduler_id: SchedulerId(1),
        config: SchedulerConfig {
            accept_joins: true,
            ..SchedulerConfig::default()
        },
        clock,
        on_client_gone: ClientGone::Hold,
        inbox: Inbox::new(),
        connector: Box::new(Bomb),
        kept: None,
        left,
        guard,
    }
}

/// Lets a scheduler end by a panic, while a task waits.
async fn broken_by(strike: impl FnOnce(&Addr<SchedulerActor>)) {
    let (guard, ended) = oneshot::channel::<()>();
    let left = Handover::default();
    let parts = parts(Clock::default(), left.clone(), Box::new(guard));
    let addr = parts.start(None);
    let (reply, answer) = oneshot::channel();
    let (caller, status) = oneshot::channel();
    addr.do_send(Submit {
        execute: Execute::named("kind", &()).unwrap(),
        reply,
        caller: Some(caller),
        permit: None,
    });
    let task = within(answer).await.unwrap().unwrap();
    let asked = addr.send(Cancel(TaskId::new(u64::MAX)));
    assert_eq!(within(asked).await.unwrap(), Ok(CancelAnswer::NotFound));
    strike(&addr);
    assert!(within(status).await.is_err(), "its task has not settled");
    assert!(within(ended).await.is_err(), "what it held is freed");
    let answer = within(addr.send(Cancel(task))).await;
    assert!(matches!(answer, Err(_) | Ok(Err(Stopped))), "{answer:?}");
    let left = left.take().expect("what was not done is kept");
    let left: Vec<_> = left.unfinished.iter().map(|task| task.id).collect();
    assert_eq!(left, [task]);
}

#[actix::test]
async fn a_panic_of_the_pump_ends_the_scheduler_and_what_was_pending_is_told() {
    broken_by(|addr| addr.do_send(AddNode::connect("node", "there"))).await;
}

#[actix::test]
async fn a_panic_of_a_message_ends_the_scheduler_and_what_was_pending_is_told() {
    broken_by(|addr| addr.do_send(Strike)).await;
}

#[test]
fn a_shutdown_keeps_its_time_with_the_last_words_of_its_links() {
    actix::System::with_tokio_rt(paused_runtime).block_on(async {
        for millis in [0, 1, 50, 1_000, 5_000, 60_000, 86_400_000] {
            let limit = Duration::from_millis(millis);
            let left = Handover::default();
            let addr = parts(Clock::Tokio, left.clone(), Box::new(())).start(None);
            // No node is there to run it.
            let waits = Execute::named("kind", &()).unwrap();
            let task = addr.send(waits).await.unwrap().unwrap();
            let began = Instant::now();
            let ended = addr.send(Shutdown::Drain(limit)).await.unwrap().unwrap();
            let took = began.elapsed() + left.last_words().unwrap();
            assert_eq!(ended.unfinished[0].id, task);
            // Tokio's timers tell milliseconds.
            let exact = limit + Duration::from_millis(2);
            assert!(took <= exact, "{took:?} of {limit:?}");
            assert!(
                began.elapsed() >= limit * 8 / 10,
                "it waits for what is due"
            );
        }
    });
}

/// A disk that does not answer.
struct Deaf;

impl Recorder for Deaf {
    fn append(&mut self, _: Sealed) -> Option<Event> {
        None
    }

    fn report(&self) -> StoreReport {
        StoreReport::default()
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn a_disk_that_does_not_answer_holds_up_no_end_for_long() {
    actix::System::with_tokio_rt(paused_runtime).block_on(async {
        let clock = Clock::Tokio;
        let mut parts = parts(clock, Handover::default(), Box::new(()));
        let claim = Claim {
            scheduler_id: SchedulerId(1),
            term: Term(1),
            copied_from: None,
            last: 0,
        };
        let (name, config) = (Arc::clone(&parts.name), parts.config.clone());
        let now = Timestamp::default();
        let machine =
            SchedulerMachine::recover(name, config, Found::default(), claim, now, now).unwrap();
        let recorder: Box<dyn Recorder> = Box::new(Deaf);
        parts.kept = Some(Kept { machine, recorder });
        let addr = parts.start(None);
        let began = Instant::now();
        addr.send(Shutdown::Now).await.unwrap().unwrap();
        let exact = ending::STORE_PATIENCE + Duration::from_millis(2);
        assert!(began.elapsed() <= exact, "{:?}", began.elapsed());
    });
}
