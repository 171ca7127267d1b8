//! Many tasks. Nothing here asserts how long it takes: benches do.

use std::collections::HashSet;

use callboard::Scheduler;

use crate::cluster::{Listener, calls, endings, execute, finish, runs, until};
use crate::processes::handlers::Log;
use crate::processes::{NodeProcess, Role};

#[actix::test]
async fn g1_a_thousand_tasks_are_done_once_though_a_node_of_four_is_killed_at_half() {
    let mut nodes = NodeProcess::spawn_many("load", 4, 10).await;
    let mut client = Listener::start();
    let mut builder = Scheduler::builder("load-thousand").client(client.recipient());
    for node in &nodes {
        builder = builder.node(node.node());
    }
    let scheduler = builder.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs");
    let ids = execute(
        &scheduler,
        calls(
            1_000,
            "log",
            &Log {
                file: file.clone(),
                millis: 100,
            },
        ),
    )
    .await;
    let mut statuses = endings(&mut client, 500).await;
    nodes[2].kill();
    statuses.extend(endings(&mut client, 500).await);

    assert!(ids.iter().eq(statuses.keys()));
    let runs = runs(&file);
    for (id, status) in &statuses {
        assert!(
            status.outcome.is_completed() && status.attempts == 1,
            "{status:?}"
        );
        let runs = &runs[id];
        // A run that was killed may not have come to its first line.
        assert!(
            runs.len() <= 1 + status.reroutes as usize,
            "{id} ran {runs:?}"
        );
        let (last, lost) = runs.split_last().unwrap();
        assert_eq!(Some(&*last.1), status.node.as_deref(), "{id} ran {runs:?}");
        assert!(
            lost.iter().all(|(_, node)| node == "load2"),
            "{id} ran {runs:?}"
        );
    }
    let rerun = statuses
        .values()
        .filter(|status| status.reroutes > 0)
        .count();
    assert!(
        rerun <= 10,
        "{rerun} tasks ran again, more than the node had workers"
    );
    assert_eq!(client.left(), 0);
    finish(scheduler).await;
}

#[actix::test]
async fn g5_a_crowd_of_pending_tasks_is_done_when_workers_join() {
    // The million of the benches, within a test's time.
    const CROWD: usize = 200_000;
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("load-crowd")
        .listen("127.0.0.1:0")
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    for _ in 0..CROWD / 10_000 {
        execute(&scheduler, calls(10_000, "echo", &1u64)).await;
    }
    let stats = scheduler.stats().await.unwrap();
    assert_eq!(
        (stats.pending, stats.totals.executed),
        (CROWD, CROWD as u64)
    );
    let _node =
        NodeProcess::spawn(&Role::new("joins", 10).join(scheduler.listen_addr().unwrap())).await;
    let mut seen = HashSet::new();
    for _ in 0..CROWD {
        let status = client.next().await;
        assert!(status.outcome.is_completed(), "{status:?}");
        assert!(seen.insert(status.id), "{} was told twice", status.id);
    }
    until(&scheduler, "all is confirmed", |stats| {
        stats.unconfirmed_statuses == 0
    })
    .await;
    finish(scheduler).await;
}
