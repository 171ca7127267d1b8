//! Tasks that harm the process that runs them, and what becomes of their neighbours.

use std::collections::BTreeSet;

use callboard::stats::{NodeState, Reason, Stats};
use callboard::{CancelAnswer, Cause, Execute, Outcome, TaskId, TaskStatus};
use rustix::process::Signal;

use crate::cluster::{Listener, calls, endings, execute, find, finish, start, until, until_node};
use crate::log::Log;
use crate::processes::gate::{Gate, Visit};
use crate::processes::{NodeProcess, Role};

/// Enough for a node and its threads, and little for the machine.
const MEMORY: u64 = 512 << 20;

async fn spawn(name: &str, count: usize, workers: u32) -> Vec<NodeProcess> {
    let mut nodes = Vec::new();
    for number in 0..count {
        let role = Role::new(&format!("{name}{number}"), workers).memory(MEMORY);
        nodes.push(NodeProcess::spawn(&role).await);
    }
    nodes
}

fn lost(stats: &Stats) -> BTreeSet<String> {
    let lost = stats.nodes.iter();
    lost.filter(|node| node.state == NodeState::Lost)
        .map(|node| node.name.to_string())
        .collect()
}

/// Waits for the endings of tasks that wait at the gate, all of which are let on when they come.
async fn let_on(
    gate: &Gate,
    client: &mut Listener<TaskStatus>,
    count: usize,
) -> Vec<(TaskId, TaskStatus)> {
    let letting = async {
        loop {
            gate.next().await.release().await;
        }
    };
    tokio::select! {
        statuses = endings(client, count) => statuses.into_iter().collect(),
        () = letting => unreachable!("the gate stays open"),
    }
}

/// Checks that a task of this kind, which ends each process that runs it, costs two of four nodes
/// and then fails; its neighbours complete.
async fn costs_two_nodes(kind: &str) {
    let name = format!("poison-{kind}");
    let mut nodes = spawn(&format!("{name}-"), 4, 3).await;
    let (scheduler, mut client) = start(&name, &nodes).await;
    let gate = Gate::open().await;
    execute(&scheduler, calls(8, "gate", &gate.args())).await;
    let visits = gate.take(8).await;

    let poison = Execute::named(kind, &()).unwrap().max_reroutes(1);
    let poison = scheduler.execute(poison).await.unwrap();
    let status = client.next().await;
    assert_eq!(status.id, poison);
    assert_eq!((status.reroutes, status.attempts), (2, 0), "{status:?}");
    let Outcome::Failed(failure) = &status.outcome else {
        panic!("{status:?}")
    };
    assert_eq!(failure.cause, Cause::NodeLost);
    let message = &failure.message;
    assert!(
        message.contains(&format!("{poison} ({kind})")),
        "it does not name its task: {message}"
    );
    let lost = lost(&scheduler.stats().await.unwrap());
    assert_eq!(lost.len(), 2, "{lost:?}");
    for node in &mut nodes {
        let named = message.contains(node.name());
        assert_eq!(named, lost.contains(node.name()), "{message}");
        if named {
            assert_eq!(node.died().await, Some(Signal::ABORT.as_raw()));
        }
    }

    for visit in visits {
        visit.release().await;
    }
    for (_, status) in let_on(&gate, &mut client, 8).await {
        assert!(
            status.outcome.is_completed() && status.attempts == 1,
            "{status:?}"
        );
    }
    finish(scheduler).await;
}

#[actix::test]
async fn g7_a_task_that_aborts_costs_two_nodes_and_its_neighbours_end_well() {
    costs_two_nodes("abort").await;
}

#[actix::test]
async fn g7_a_task_that_overflows_its_stack_costs_two_nodes_and_its_neighbours_end_well() {
    costs_two_nodes("overflow").await;
}

#[actix::test]
async fn g7_a_blocking_task_that_overflows_its_stack_costs_no_more() {
    costs_two_nodes("overflow.blocking").await;
}

#[actix::test]
async fn g7_a_task_that_leaks_until_its_node_dies_costs_two_nodes_and_its_neighbours_end_well() {
    costs_two_nodes("leak").await;
}

#[actix::test]
async fn g7_tasks_that_lost_two_nodes_share_none() {
    let mut nodes = spawn("suspect", 4, 4).await;
    let two_left = nodes.split_off(2);
    let (scheduler, mut client) = start("poison-suspects", &nodes[..1]).await;
    let gate = Gate::open().await;
    let suspects = execute(&scheduler, calls(2, "gate", &gate.args())).await;
    for at in 0..2 {
        let visits = gate.take(2).await;
        let here = |visit: &Visit| visit.node == nodes[at].name();
        assert!(visits.iter().all(here));
        // Only runs whose start was heard count.
        until(&scheduler, "both run", |stats| stats.running == 2).await;
        if at == 0 {
            scheduler.add_node(nodes[1].node()).await.unwrap();
        }
        nodes[at].kill();
    }

    scheduler.add_node(two_left[0].node()).await.unwrap();
    let first = gate.next().await;
    let innocent = execute(&scheduler, calls(3, "gate", &gate.args())).await;
    for visit in gate.take(3).await {
        assert!(innocent.iter().any(|task| task.get() == visit.task));
        visit.release().await;
    }
    endings(&mut client, 3).await;
    let waits = suspects.iter().find(|task| task.get() != first.task);
    let explained = scheduler.explain(*waits.unwrap()).await.unwrap().unwrap();
    assert_eq!(explained.reason, Reason::Suspect, "{explained:?}");

    scheduler.add_node(two_left[1].node()).await.unwrap();
    let second = gate.next().await;
    assert_eq!(
        (&*first.node, &*second.node),
        (two_left[0].name(), two_left[1].name())
    );
    first.release().await;
    second.release().await;
    for status in endings(&mut client, 2).await.values() {
        assert!(
            status.outcome.is_completed() && status.reroutes == 2,
            "{status:?}"
        );
    }
    finish(scheduler).await;
}

#[actix::test]
async fn g7_a_handler_that_never_awaits_costs_its_thread_and_is_named() {
    let log = Log::of_this_process();
    let mut node = NodeProcess::spawn(&Role::new("spins", 4).logs()).await;
    let other = NodeProcess::spawn(&Role::new("heir", 4)).await;
    let (scheduler, mut client) = start("poison-spin", std::slice::from_ref(&node)).await;
    let spin = Execute::named("spin", &()).unwrap();
    let spin = scheduler.execute(spin).await.unwrap();
    // Two workers share its thread: its own, which runs, and one that is taken with it.
    let stats = until(&scheduler, "the stall is noticed", |stats| {
        find(stats, "spins").unwrap().taken > 0
    })
    .await;
    let stalled = find(&stats, "spins").unwrap();
    assert_eq!((stalled.running, stalled.taken), (1, 1), "{stalled:?}");
    let told = log.lines("poison-spin");
    let named = |line: &&String| line.contains("blocks") && line.contains("node=spins");
    let line = told.iter().find(named);
    let line = line.unwrap_or_else(|| panic!("the log does not say it: {told:?}"));
    assert!(line.contains(&format!("task={spin}")), "{line}");
    let line = node.said("blocks its thread").await;
    assert!(line.contains(&format!("task={spin}")), "{line}");

    // The other thread of the node goes on, again and again.
    let gate = Gate::open().await;
    execute(&scheduler, calls(6, "gate", &gate.args())).await;
    for _ in 0..2 {
        for visit in gate.take(2).await {
            assert_eq!(visit.node, "spins");
            visit.release().await;
        }
    }
    assert!(
        endings(&mut client, 4)
            .await
            .values()
            .all(|status| status.outcome.is_completed())
    );
    // It cannot be stopped, and the answer says so; the end of its process is its end.
    let answer = scheduler.cancel(spin).await.unwrap();
    assert_eq!(answer, CancelAnswer::StillRunning);
    scheduler.add_node(other.node()).await.unwrap();
    let neighbours = gate.take(2).await;
    node.kill();
    until_node(&scheduler, "spins", NodeState::Lost).await;
    assert_eq!(client.next().await.outcome, Outcome::Cancelled);
    for visit in neighbours {
        visit.dropped().await;
    }
    for _ in 0..2 {
        let visit = gate.next().await;
        assert_eq!(visit.node, "heir");
        visit.release().await;
    }
    for status in endings(&mut client, 2).await.values() {
        assert!(
            status.outcome.is_completed() && status.reroutes == 1,
            "{status:?}"
        );
    }
    finish(scheduler).await;
}
