//! Several schedulers that share one fleet of nodes.

use std::net::SocketAddr;
use std::process::Command;

use callboard::stats::{NodeState, Stats};
use callboard::{Execute, Node, Scheduler, Shutdown};

use crate::cluster::{
    brisk, calls, connect, endings, execute, finish, runs, start, until, until_node,
};
use crate::processes::gate::Gate;
use crate::processes::handlers::{Log, handlers};
use crate::processes::{NodeProcess, Process, Role, own_binary};

async fn listening(name: &str, address: &str) -> Scheduler {
    let scheduler = Scheduler::builder(name).configure(brisk).listen(address);
    scheduler.start().await.unwrap()
}

#[actix::test]
async fn two_schedulers_each_have_all_workers_of_a_process() {
    let node = NodeProcess::spawn(&Role::new("shared", 2)).await;
    let gate = Gate::open().await;
    let (one, mut first) = start("fleet-one", [&node]).await;
    let (two, mut second) = start("fleet-two", [&node]).await;
    for scheduler in [&one, &two] {
        execute(scheduler, calls(3, "gate", &gate.args())).await;
    }
    // Two of each at once, and no more.
    for visit in gate.take(4).await {
        visit.release().await;
    }
    for visit in gate.take(2).await {
        visit.release().await;
    }
    endings(&mut first, 3).await;
    endings(&mut second, 3).await;
    for (scheduler, name) in [(&one, "fleet-one"), (&two, "fleet-two")] {
        let whose = Execute::named("whose", &()).unwrap();
        let status = scheduler.execute_and_wait(whose).await.unwrap();
        assert_eq!(status.output::<String>().unwrap(), name);
    }
    finish(one).await;
    finish(two).await;
}

#[actix::test]
async fn a_node_that_joins_two_schedulers_serves_and_leaves_both() {
    let one = listening("fleet-a", "127.0.0.1:0").await;
    let two = listening("fleet-b", "127.0.0.1:0").await;
    let address = |scheduler: &Scheduler| scheduler.listen_addr().unwrap().to_string();
    let node = callboard::node("both").handlers(handlers()).max_workers(2);
    let node = node.join(address(&one)).join(address(&two));
    let node = node.start().await.unwrap();
    for scheduler in [&one, &two] {
        let echo = Execute::named("echo", &7u64).unwrap();
        let status = scheduler.execute_and_wait(echo).await.unwrap();
        assert_eq!(status.output::<u64>().unwrap(), 7);
    }
    assert_eq!(node.schedulers().await, ["fleet-a", "fleet-b"]);
    assert_eq!(node.drain().await, callboard::NodeExit::Drained);
    for scheduler in [one, two] {
        let stats = until_node(&scheduler, "both", NodeState::Lost).await;
        assert_eq!(stats.nodes[0].reason, "it has left");
        scheduler.shutdown(Shutdown::Now).await.unwrap();
    }
}

#[actix::test]
async fn only_the_schedulers_that_a_node_names_are_served() {
    let node = callboard::node("choosy").handlers(handlers());
    let node = node.schedulers(["fleet-chosen"]).listen("127.0.0.1:0");
    let node = node.start().await.unwrap();
    let other = Scheduler::builder("fleet-other").require_all_nodes();
    let refused = other.node(connect(&node)).start().await.map(|_| ());
    let words = refused.unwrap_err().to_string();
    assert!(
        words.contains("does not serve the scheduler \"fleet-other\""),
        "{words}"
    );
    let chosen = Scheduler::builder("fleet-chosen").require_all_nodes();
    finish(chosen.node(connect(&node)).start().await.unwrap()).await;
    node.drain().await;
}

#[actix::test]
async fn a_scheduler_that_is_shut_down_leaves_its_nodes_to_its_next_start() {
    let first = listening("fleet-again", "127.0.0.1:0").await;
    let address = first.listen_addr().unwrap();
    let mut node = NodeProcess::spawn(&Role::new("stays", 2).join(address)).await;
    let gate = Gate::open().await;
    execute(&first, calls(1, "gate", &gate.args())).await;
    let visit = gate.next().await;
    first.shutdown(Shutdown::Now).await.unwrap();
    visit.dropped().await;
    let next = listening("fleet-again", &address.to_string()).await;
    let echo = next.execute_and_wait(Execute::named("echo", &1u64).unwrap());
    assert!(echo.await.unwrap().outcome.is_completed());
    node.terminate();
    let (status, gone) = node.ended().await;
    assert!(
        status.success() && gone.as_deref() == Some("Drained"),
        "{gone:?}"
    );
    next.shutdown(Shutdown::Now).await.unwrap();
}

/// How many tasks each of two schedulers has.
const TASKS: usize = 5_000;
const ADDRESS: &str = "CALLBOARD_TEST_FLEET";

/// A scheduler in a process of its own, with as many tasks for a node as the one in the test.
fn other_scheduler(node: SocketAddr) -> Process {
    let mut command: Command = own_binary(None);
    let entry = ["fleet::other_scheduler_process", "--exact", "--nocapture"];
    command.args(entry).env(ADDRESS, node.to_string());
    Process::new(command.spawn().unwrap())
}

/// Not a test: what [`other_scheduler`] runs.
#[test]
fn other_scheduler_process() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    crate::processes::end_with_the_test();
    actix::System::new().block_on(async {
        let scheduler = Scheduler::builder("fleet-shaky").configure(brisk);
        let scheduler = scheduler.node(Node::connect("shared", address));
        let scheduler = scheduler.start().await.unwrap();
        loop {
            let tasks = calls(TASKS, "whose", &());
            for task in scheduler.execute_many(tasks).await {
                // At the bound of statuses that nobody takes it has done enough.
                if task.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    });
}

#[actix::test]
async fn what_becomes_of_one_scheduler_is_nothing_to_another() {
    let node = NodeProcess::spawn(&Role::new("shared", 4)).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runs");
    let (steady, mut client) = start("fleet-steady", [&node]).await;
    let mut told = 0;
    let mut part = async |parts: usize| {
        let log = Log {
            file: file.clone(),
            millis: 0,
        };
        let count = TASKS / parts;
        execute(&steady, calls(count, "log", &log)).await;
        for status in endings(&mut client, count).await.values() {
            assert_eq!(status.attempts, 1, "{status:?}");
        }
        told += count;
    };
    let mut other = other_scheduler(node.address());
    part(5).await;
    other.freeze();
    part(5).await;
    other.thaw();
    part(5).await;
    other.kill();
    part(5).await;
    let _again = other_scheduler(node.address());
    part(5).await;
    assert_eq!(told, TASKS);
    let runs = runs(&file);
    assert!(runs.len() == TASKS && runs.values().all(|runs| runs.len() == 1));
    let stats: Stats = until(&steady, "all is told", |stats| {
        stats.unconfirmed_statuses == 0
    })
    .await;
    assert_eq!(stats.totals.rerouted, 0);
    assert_eq!(stats.nodes[0].state, NodeState::Up);
    finish(steady).await;
}
