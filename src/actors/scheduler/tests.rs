//! What becomes of a scheduler on whose thread something panics that nothing else contains.

use std::time::Duration;

use actix::{Handler, Message};

use super::*;
use crate::actors::{AddNode, Cancel, Submit};
use crate::engine::NodeId;
use crate::status::CancelAnswer;

/// Panics when it is to dial.
struct Bomb;

impl Connector<Event> for Bomb {
    fn dial(&self, _: NodeId, _: String) {
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

/// Whoever is kept waiting for ever fails the test instead.
async fn within<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(10), what).await;
    waited.expect("nobody is kept waiting by a scheduler that has ended")
}

/// Has a scheduler end by a panic, while a task waits.
async fn broken_by(strike: impl FnOnce(&Addr<SchedulerActor>)) {
    let (guard, ended) = oneshot::channel::<()>();
    let left = Handover::default();
    let parts = SchedulerParts {
        name: Arc::from("board"),
        life: Life(1),
        config: SchedulerConfig {
            accept_joins: true,
            ..SchedulerConfig::default()
        },
        clock: Clock::default(),
        on_client_gone: ClientGone::Hold,
        inbox: Inbox::new(),
        connector: Box::new(Bomb),
        left: left.clone(),
        guard: Box::new(guard),
    };
    let addr = parts.start(None);
    let (reply, answer) = oneshot::channel();
    let (caller, status) = oneshot::channel();
    addr.do_send(Submit {
        execute: Execute::call("kind", &()).unwrap(),
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
