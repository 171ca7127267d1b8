//! How nodes come to their ends: by their handles, by signals, and without a word.

use callboard::stats::NodeState;
use callboard::{Execute, NodeExit, NodeHandle, Scheduler, Shutdown};
use futures_util::FutureExt;

use crate::cluster::{Listener, brisk, calls, connect, execute, find, until, until_node};
use crate::processes::gate::Gate;
use crate::processes::handlers::handlers;
use crate::processes::{NodeProcess, Role};

/// Starts a node of this process, which goes on when the node ends.
async fn node(name: &str) -> NodeHandle {
    let node = callboard::node(name).handlers(handlers()).max_workers(2);
    node.threads(1).listen("127.0.0.1:0").start().await.unwrap()
}

/// What follows when a handler returns whose node has come to its end.
#[derive(Debug, PartialEq, Eq)]
enum Afterwards {
    /// The node can still tell its result, which is the task's.
    ItCounts,
    /// Nobody tells its result, so the task runs again.
    ItRunsAgain,
}

/// Asserts that an exclusive task whose handler blocks does not run a second time while it still
/// runs the first, when its node comes to its end so and is in this state then, and what follows as
/// soon as that has returned.
async fn never_twice_at_once(
    name: &str,
    first: NodeHandle,
    end: impl AsyncFnOnce(NodeHandle),
    state: NodeState,
    expected: Afterwards,
) {
    let second = node(&format!("{name}-second")).await;
    let mut client = Listener::start();
    let scheduler = Scheduler::builder(name).configure(brisk);
    let scheduler = scheduler
        .node(connect(&first))
        .client(client.recipient())
        .start()
        .await
        .unwrap();
    let gate = Gate::open().await;
    let task = Execute::named("gate.blocking", &gate.args()).unwrap();
    scheduler.execute(task.exclusive()).await.unwrap();
    let visit = gate.next().await;
    scheduler.add_node(connect(&second)).await.unwrap();
    end(first).await;
    until(&scheduler, "its node is not used any more", |stats| {
        find(stats, &visit.node).unwrap().state == state
    })
    .await;
    // What could run again would have been placed before this.
    let echo = Execute::named("echo", &1u64).unwrap();
    scheduler.execute_and_wait(echo).await.unwrap();
    assert!(
        gate.next().now_or_never().is_none(),
        "it runs twice at once"
    );
    visit.release().await;
    let afterwards = tokio::select! {
        again = gate.next() => {
            again.release().await;
            assert!(client.next().await.outcome.is_completed());
            Afterwards::ItRunsAgain
        }
        status = client.next() => {
            assert!(status.outcome.is_completed(), "{status:?}");
            Afterwards::ItCounts
        }
    };
    assert_eq!(afterwards, expected);
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    second.stop().await;
}

#[actix::test]
async fn g10_a_node_whose_handle_is_dropped_is_not_dead_while_a_handler_runs() {
    let first = node("ends-dropped-first").await;
    let end = async |node| drop(node);
    let counts = Afterwards::ItCounts;
    never_twice_at_once("ends-dropped", first, end, NodeState::Draining, counts).await;
}

#[actix::test]
async fn g10_a_node_whose_actor_has_ended_is_not_dead_while_a_handler_runs() {
    let first = node("ends-halted-first").await;
    let end = async |node: NodeHandle| {
        node.addr()
            .send(callboard::__internals::actors::Halt)
            .await
            .unwrap();
        assert_eq!(node.wait().await, NodeExit::Failed);
    };
    let again = Afterwards::ItRunsAgain;
    never_twice_at_once("ends-halted", first, end, NodeState::Lost, again).await;
}

#[test]
fn g10_a_node_whose_system_has_stopped_is_not_dead_while_a_handler_runs() {
    let (sender, started) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runner = actix::System::new();
        let first = runner.block_on(node("ends-system-first"));
        sender.send((actix::System::current(), first)).unwrap();
        runner.run().unwrap();
    });
    let (system, first) = started.recv().unwrap();
    actix::System::new().block_on(async {
        let end = async |node: NodeHandle| {
            system.stop();
            assert_eq!(node.wait().await, NodeExit::Failed);
        };
        let again = Afterwards::ItRunsAgain;
        never_twice_at_once("ends-system", first, end, NodeState::Lost, again).await;
    });
    thread.join().unwrap();
}

/// Starts a scheduler at which these nodes have joined.
async fn joined(
    name: &str,
    roles: impl IntoIterator<Item = Role>,
) -> (Scheduler, Vec<NodeProcess>) {
    let scheduler = Scheduler::builder(name).configure(brisk);
    let scheduler = scheduler.listen("127.0.0.1:0").start().await.unwrap();
    let address = scheduler.listen_addr().unwrap();
    let mut nodes = Vec::new();
    for role in roles {
        nodes.push(NodeProcess::spawn(&role.join(address)).await);
    }
    for node in &nodes {
        until_node(&scheduler, node.name(), NodeState::Up).await;
    }
    (scheduler, nodes)
}

#[actix::test]
async fn g8_a_node_that_ends_by_a_signal_is_never_told_as_lost() {
    let roles = (0..12).map(|number| Role::new(&format!("leaves-{number}"), 1));
    let (scheduler, mut nodes) = joined("ends-goodbye", roles).await;
    for node in &mut nodes {
        node.terminate();
        let (status, gone) = node.ended().await;
        assert!(
            status.success() && gone.as_deref() == Some("Drained"),
            "{gone:?}"
        );
    }
    let stats = until(&scheduler, "none is there", |stats| {
        stats.nodes.iter().all(|node| node.state == NodeState::Lost)
    })
    .await;
    let reasons: Vec<_> = stats.nodes.iter().map(|node| &node.reason[..]).collect();
    assert_eq!(reasons, ["it has left"; 12]);
    scheduler.shutdown(Shutdown::Now).await.unwrap();
}

#[actix::test]
async fn two_signals_at_once_drain_a_node_as_one_does() {
    let (scheduler, mut nodes) = joined("ends-twice", [Role::new("signalled", 1)]).await;
    let node = &mut nodes[0];
    let gate = Gate::open().await;
    let settled = scheduler.execute_and_wait(Execute::named("gate", &gate.args()).unwrap());
    let told = async {
        let visit = gate.next().await;
        // As GNU `timeout` sends it, to the process and to its group.
        node.terminate();
        node.interrupt();
        until_node(&scheduler, node.name(), NodeState::Draining).await;
        visit.release().await;
    };
    let (settled, ()) = tokio::join!(settled, told);
    assert_eq!(settled.unwrap().attempts, 1);
    let (status, gone) = node.ended().await;
    assert!(
        status.success() && gone.as_deref() == Some("Drained"),
        "{gone:?}"
    );
    scheduler.shutdown(Shutdown::Now).await.unwrap();
}

#[actix::test]
async fn a_second_signal_ends_a_node_whose_handler_does_not_return() {
    let role = Role::new("stuck", 1).stop_timeout(100);
    let (scheduler, mut nodes) = joined("ends-stuck", [role]).await;
    let node = &mut nodes[0];
    let gate = Gate::open().await;
    execute(&scheduler, calls(1, "gate.blocking", &gate.args())).await;
    let visit = gate.next().await;
    node.terminate();
    until_node(&scheduler, node.name(), NodeState::Draining).await;
    // One that comes too soon after the first is the first, so another follows.
    let (_, gone) = node.ended_by_signals().await;
    assert_eq!(gone.as_deref(), Some("Unfinished"));
    visit.dropped().await;
    until_node(&scheduler, "stuck", NodeState::Lost).await;
    let left = scheduler.shutdown(Shutdown::Now).await.unwrap();
    assert_eq!(left.unfinished.len(), 1);
}
