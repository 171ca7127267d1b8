//! Who waits by `run` and `execute_and_wait`: beside others that joined, without a client, and
//! while the scheduler ends.

use std::future::ready;
use std::pin::pin;

use callboard::error::Refusal;
use callboard::execute::{ExecuteError, RunError};
use callboard::stats::{ClientState, Stats, StatusRoom};
use callboard::{
    Execute, Handlers, Node, Scheduler, Shutdown, Task, TaskContext, TaskError, TaskStatus,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::cluster::{Listener, finish, until};
use crate::processes::PATIENCE;
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;

fn here(handlers: Handlers) -> Node {
    Node::local("here", handlers).max_workers(1).threads(1)
}

#[actix::test]
async fn g1_settle_joins_by_key_and_is_answered_though_there_is_no_client() {
    let scheduler = Scheduler::builder("caller-joins").node(here(handlers()));
    let scheduler = scheduler.start().await.unwrap();
    let gate = Gate::open().await;
    let task = || Execute::named("gate", &gate.args()).unwrap().key("k");
    let id = scheduler.execute(task()).await.unwrap();
    let visit = gate.next().await;
    let caller = scheduler.clone();
    let mut settling = pin!(caller.execute_and_wait(task()));
    // Its message is under way, before that of the release.
    tokio::select! {
        biased;
        status = &mut settling => panic!("it has not ended: {status:?}"),
        () = ready(()) => {}
    }
    scheduler.stats().await.unwrap();
    visit.release().await;
    let status = timeout(PATIENCE, settling).await.expect("nobody answers");
    assert_eq!(status.unwrap().id, id);

    let mut client = Listener::<TaskStatus>::start();
    scheduler.set_client(client.recipient()).await.unwrap();
    assert_eq!(client.next().await.id, id);
    finish(scheduler).await;
}

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Task for Nothing {
    const KIND: &'static str = "nothing";
    type Output = ();

    async fn run(self, _: TaskContext) -> Result<(), TaskError> {
        Ok(())
    }
}

/// Returns what each way of handing a task in is told.
async fn refusals(scheduler: &Scheduler) -> Vec<Refusal> {
    let task = || Execute::new(&Nothing).unwrap();
    let refusal = |error: ExecuteError| {
        assert_eq!(error.execute.kind().as_str(), Nothing::KIND);
        error.refusal
    };
    let mut refusals = vec![
        refusal(scheduler.execute(task()).await.unwrap_err()),
        refusal(
            scheduler
                .execute_and_wait(task())
                .await
                .map(|_| ())
                .unwrap_err(),
        ),
    ];
    match scheduler.run(&Nothing).await.unwrap_err() {
        RunError::Refused(error) => refusals.push(refusal(error)),
        other => panic!("{other:?}"),
    }
    let answers = scheduler.execute_many(vec![task(), task()]).await;
    refusals.extend(
        answers
            .into_iter()
            .map(|answer| refusal(answer.unwrap_err())),
    );
    refusals
}

#[actix::test]
async fn g2_the_handle_is_told_that_the_scheduler_drains_and_later_that_it_has_stopped() {
    let handlers = handlers().task::<Nothing>();
    let scheduler = Scheduler::builder("caller-drain").node(here(handlers));
    let scheduler = scheduler.start().await.unwrap();
    let gate = Gate::open().await;
    let task = Execute::named("gate", &gate.args()).unwrap();
    let mut settling = pin!(scheduler.execute_and_wait(task));
    let visit = tokio::select! {
        status = &mut settling => panic!("it has not ended: {status:?}"),
        visit = gate.next() => visit,
    };
    let mut ending = pin!(scheduler.shutdown(Shutdown::Drain(PATIENCE)));
    tokio::select! {
        biased;
        _ = &mut ending => panic!("it waits for what runs"),
        () = ready(()) => {}
    }
    let told = refusals(&scheduler).await;
    assert!(
        told.iter().all(|told| matches!(told, Refusal::Draining)),
        "{told:?}"
    );
    visit.release().await;
    assert!(settling.await.unwrap().outcome.is_completed());
    ending.await.unwrap();
    let told = refusals(&scheduler).await;
    assert!(
        told.iter().all(|told| matches!(told, Refusal::Stopped)),
        "{told:?}"
    );
}

#[actix::test]
async fn g1_who_waits_is_served_though_nobody_takes_the_statuses_of_others() {
    const MOST: usize = 20;
    let scheduler = Scheduler::builder("caller-no-client")
        .node(here(handlers()))
        .configure(|config| config.max_statuses = MOST);
    let scheduler = scheduler.start().await.unwrap();
    let echo = || Execute::named("echo", &7_u64).unwrap();
    for _ in 0..MOST {
        scheduler.execute(echo()).await.unwrap();
    }
    let full = |stats: &Stats| stats.status_room == StatusRoom::None;
    let stats = until(&scheduler, "no room is left", full).await;
    assert_eq!(stats.client, ClientState::Awaited);
    let refused = scheduler.execute(echo()).await.unwrap_err();
    assert_eq!(refused.refusal, Refusal::ClientBehind { limit: MOST });
    for _ in 0..2 * MOST {
        let status = scheduler.execute_and_wait(echo()).await.unwrap();
        assert_eq!(status.output::<u64>().unwrap(), 7);
    }
    // Nobody wants them.
    scheduler.no_client().await.unwrap();
    scheduler.execute(echo()).await.unwrap();
    let told = |stats: &Stats| stats.totals.untold == MOST as u64 + 1;
    let stats = until(&scheduler, "all have ended", told).await;
    assert_eq!(
        (stats.client, stats.unconfirmed_statuses),
        (ClientState::Unwanted, 0)
    );
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert!(left.statuses.is_empty(), "{left:?}");
}
