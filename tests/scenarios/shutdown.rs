//! The end of a scheduler: what still gets done, and what is handed back.

use std::time::Duration;

use callboard::error::Refusal;
use callboard::{Execute, Scheduler, Shutdown};

use crate::cluster::{Listener, calls, endings, execute, here, until};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;

#[actix::test]
async fn a_shutdown_that_drains_refuses_what_is_new_and_ends_when_all_is_done() {
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("handle-drain")
        .node(here(handlers()))
        .client(client.recipient());
    let scheduler = scheduler.start().await.unwrap();
    let gate = Gate::open().await;
    execute(&scheduler, calls(5, "gate", &gate.args())).await;
    let addr = scheduler.addr().clone();
    let release = async {
        let visit = gate.next().await;
        let refused = addr
            .send(Execute::call("echo", &1u64).unwrap())
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.refusal, Refusal::Draining);
        visit.release().await;
        for _ in 0..4 {
            gate.next().await.release().await;
        }
    };
    let (left, ()) = tokio::join!(
        scheduler.shutdown(Shutdown::Drain(Duration::from_secs(60))),
        release
    );
    let left = left.unwrap();
    assert!(
        left.unfinished.is_empty() && left.statuses.is_empty(),
        "{left:?}"
    );
    assert_eq!(endings(&mut client, 5).await.len(), 5);
    let error = scheduler
        .execute(Execute::call("echo", &1u64).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.refusal, Refusal::Stopped);
}

#[actix::test]
async fn a_shutdown_returns_what_was_not_done_when_its_time_is_over_and_what_no_client_took() {
    let scheduler = Scheduler::builder("handle-leftovers")
        .node(here(handlers()))
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let done = execute(&scheduler, calls(3, "echo", &1u64)).await;
    until(&scheduler, "three are done", |stats| {
        stats.unconfirmed_statuses == 3
    })
    .await;
    let stuck = execute(&scheduler, calls(4, "gate", &gate.args())).await;
    let visits = gate.take(2).await;
    let left = scheduler
        .shutdown(Shutdown::Drain(Duration::from_millis(50)))
        .await
        .unwrap();
    assert!(
        stuck.iter().eq(left.unfinished.iter().map(|task| &task.id)),
        "{left:?}"
    );
    let mut statuses: Vec<_> = left.statuses.iter().map(|status| status.id).collect();
    statuses.sort();
    assert_eq!(statuses, done);
    for visit in visits {
        visit.dropped().await;
    }
}
