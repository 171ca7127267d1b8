//! Several schedulers that share one fleet of nodes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use callboard::stats::{NodeState, Stats};
use callboard::{Execute, Node, Scheduler, Shutdown};

use crate::cluster::{
    brisk, calls, connect, endings, execute, finish, runs, start, until, until_node,
};
use crate::processes::gate::Gate;
use crate::processes::handlers::{Log, Tally, handlers};
use crate::processes::proxy::{Proxy, Traffic};
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
    // At an address from which nobody dials: the port would be free for that meanwhile.
    let first = listening("fleet-again", "127.0.0.9:0").await;
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

/// Tells a worker process that two schedulers have to end: both see it leave, and nothing is lost.
#[actix::test]
async fn a_process_that_is_told_to_end_leaves_both_its_schedulers() {
    let one = listening("fleet-left", "127.0.0.1:0").await;
    let two = listening("fleet-right", "127.0.0.1:0").await;
    let address = |scheduler: &Scheduler| scheduler.listen_addr().unwrap();
    let both = Role::new("shared", 1)
        .join(address(&one))
        .join(address(&two));
    let mut node = NodeProcess::spawn(&both).await;
    let gate = Gate::open().await;
    let tasks = [&one, &two].map(|scheduler| {
        let tasks = calls(3, "gate", &gate.args()).into_iter();
        tasks.map(|task| scheduler.execute_and_wait(task))
    });
    let all = futures_util::future::join_all(tasks.into_iter().flatten());
    let watch = async {
        let running = gate.take(2).await;
        node.terminate();
        for scheduler in [&one, &two] {
            let drains = |stats: &Stats| stats.nodes[0].state == NodeState::Draining;
            until(scheduler, "it drains", drains).await;
        }
        for visit in running {
            visit.release().await;
        }
        let (status, gone) = node.ended().await;
        assert!(status.success(), "{status}");
        assert_eq!(gone.as_deref(), Some("Drained"));
        for scheduler in [&one, &two] {
            let stats = until_node(scheduler, "shared", NodeState::Lost).await;
            assert_eq!(stats.nodes[0].reason, "it has left");
            assert_eq!(stats.totals.completed, 1, "{stats:?}");
        }
        let spare = NodeProcess::spawn(&Role::new("spare", 2)).await;
        for scheduler in [&one, &two] {
            scheduler.add_node(spare.node()).await.unwrap();
        }
        for visit in gate.take(4).await {
            visit.release().await;
        }
        spare
    };
    let (statuses, _spare) = futures_util::join!(all, watch);
    for status in statuses {
        let status = status.unwrap();
        assert!(status.outcome.is_completed(), "{status:?}");
        assert_eq!(status.attempts, 1, "{status:?}");
    }
    finish(one).await;
    finish(two).await;
}

/// How many tasks each of two schedulers has.
const TASKS: usize = 5_000;
const ADDRESS: &str = "CALLBOARD_TEST_FLEET";

/// Starts a scheduler in a process of its own, with more tasks for a node than the one in the test.
fn other_scheduler(node: SocketAddr) -> Process {
    let mut command: Command = own_binary(None);
    let entry = ["fleet::other_scheduler_process", "--exact", "--nocapture"];
    command.args(entry).env(ADDRESS, node.to_string());
    Process::new(command.spawn().unwrap())
}

/// Runs what [`other_scheduler`] starts; not a test.
#[test]
fn other_scheduler_process() {
    let Ok(address) = std::env::var(ADDRESS) else {
        return;
    };
    crate::processes::end_with_the_test();
    actix::System::new().block_on(async {
        let scheduler = Scheduler::builder("fleet-shaky").configure(brisk);
        let scheduler = scheduler.no_client();
        let scheduler = scheduler.node(Node::connect("shared", address));
        let scheduler = scheduler.start().await.unwrap();
        // More than the node can do for it before the test is over.
        for _ in 0..20 {
            let tasks = calls(TASKS, "tally", &tally_to("/dev/null".into()));
            for task in scheduler.execute_many(tasks).await {
                task.unwrap();
            }
        }
        std::future::pending::<()>().await;
    });
}

fn tally_to(file: PathBuf) -> Log {
    Log { file, millis: 1 }
}

/// Waits until the other scheduler's tasks run.
async fn until_another_runs(scheduler: &Scheduler) {
    loop {
        let tally = Execute::named("tally", &tally_to("/dev/null".into())).unwrap();
        let status = scheduler.execute_and_wait(tally).await.unwrap();
        if status.output::<Tally>().unwrap().others > 0 {
            return;
        }
    }
}

/// Kills, freezes, cuts off and restarts the other scheduler, which has more to do all the time
/// than the node can.
#[actix::test]
async fn what_becomes_of_one_scheduler_is_nothing_to_another() {
    let node = NodeProcess::spawn(&Role::new("shared", 4).total(4)).await;
    let road = Proxy::to(node.address()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runs");
    let (steady, mut client) = start("fleet-steady", [&node]).await;
    let mut told = 0;
    let mut beside = Vec::new();
    let mut part = async |what: &'static str| {
        let count = TASKS / 8;
        let tasks = calls(count, "tally", &tally_to(file.clone()));
        execute(&steady, tasks).await;
        let mut tallies = Vec::new();
        for status in endings(&mut client, count).await.values() {
            assert_eq!(status.attempts, 1, "{what}: {status:?}");
            tallies.push(status.output::<Tally>().unwrap());
        }
        told += count;
        tallies.sort_by_key(|tally| tally.own);
        // Between its first start and its last.
        let (first, last) = (tallies[0], tallies[count - 1]);
        let (own, others) = (last.own - first.own, last.others - first.others);
        assert!(
            own * 20 >= (own + others) * 9,
            "{what}: it has had {own} starts, and the other {others}"
        );
        beside.push((what, others));
    };
    let mut other = other_scheduler(road.address());
    until_another_runs(&steady).await;
    part("beside it").await;
    other.freeze();
    part("while it is frozen").await;
    other.thaw();
    part("after it was frozen").await;
    let silent = Traffic {
        there: false,
        back: false,
        ..Traffic::FREE
    };
    road.set(silent);
    part("while it is cut off").await;
    road.set(Traffic::FREE);
    part("after it was cut off").await;
    road.set(Traffic::CUT);
    road.set(Traffic::FREE);
    part("after its links were broken").await;
    other.kill();
    part("after it was killed").await;
    let _again = other_scheduler(road.address());
    part("after it was started again").await;
    assert_eq!(told, TASKS);
    assert!(beside[0].1 > 0, "the other did nothing: {beside:?}");
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
