//! What proves the death of a node's process, and what does not: no exclusive task runs twice at
//! once because something between a scheduler and a node that lives refuses a dial (G8, G10).

use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use callboard::stats::{NodeState, NodeStats};
use callboard::{Execute, Handlers, Node, NodeBuilder, Outcome, Scheduler, Shutdown};
use tokio::sync::watch;

use crate::board::{PATIENCE, within};
use crate::child;
use crate::network::{Forwarder, nft, play_apart, sever};
use crate::news;

const SECRET: &str = "a secret of at least 16 bytes";

/// A handler that blocks until it is let go.
#[derive(Clone)]
struct Hold {
    begun: watch::Sender<usize>,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Hold {
    fn new() -> Self {
        Self {
            begun: watch::Sender::new(0),
            gate: Arc::default(),
        }
    }

    fn handlers(&self) -> Handlers {
        let hold = self.clone();
        Handlers::new().on_blocking("hold", move |(): ()| {
            hold.begun.send_modify(|begun| *begun += 1);
            let (open, opened) = &*hold.gate;
            let open = open.lock().unwrap();
            drop(opened.wait_while(open, |open| !*open).unwrap());
            Ok(())
        })
    }

    fn begun(&self) -> usize {
        *self.begun.borrow()
    }

    fn let_go(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

fn node(hold: &Hold) -> NodeBuilder {
    callboard::node("there").handlers(hold.handlers())
}

async fn until(scheduler: &Scheduler, what: &str, holds: impl Fn(&NodeStats) -> bool) {
    let mut logged = news::logged();
    let asking = async {
        loop {
            let stats = scheduler.stats().await.unwrap();
            let mut nodes = stats.nodes.iter();
            if nodes.any(|node| &*node.name == "there" && holds(node)) {
                return;
            }
            logged.changed().await.unwrap();
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    assert!(asked.is_ok(), "it never came to this: {what}");
}

/// Hands in an exclusive task that blocks to a scheduler whose node "there" runs it, and which has
/// another node for it.
async fn holding(scheduler: &Scheduler, hold: &Hold) -> callboard::TaskId {
    until(scheduler, "it is up", |node| node.state == NodeState::Up).await;
    let execute = Execute::named("hold", &()).unwrap().exclusive();
    let id = scheduler.execute(execute).await.unwrap();
    let mut begun = hold.begun.subscribe();
    within("the start", begun.wait_for(|begun| *begun > 0))
        .await
        .unwrap();
    let other = Node::local("other", hold.handlers());
    within("the other node", scheduler.add_node(other))
        .await
        .unwrap();
    id
}

/// Checks that a dial was refused, and that nothing follows from that.
async fn refused_in_vain(scheduler: &Scheduler, hold: &Hold) {
    until(scheduler, "a dial is refused", |node| {
        // Whoever believes the refusal has lost the node by it.
        node.reason.contains("refused") || node.state == NodeState::Lost
    })
    .await;
    let stats = scheduler.stats().await.unwrap();
    let there = stats.nodes.iter().find(|node| &*node.name == "there");
    let state = there.map(|node| node.state);
    assert_eq!(state, Some(NodeState::Unreachable), "{stats:?}");
    assert_eq!((hold.begun(), stats.held), (1, 0));
}

/// Ends its only run, and with it the task.
async fn ends_once(scheduler: Scheduler, hold: &Hold) {
    until(&scheduler, "it is back", |node| node.state == NodeState::Up).await;
    hold.let_go();
    let left = scheduler.shutdown(Shutdown::Drain(PATIENCE));
    let left = within("the shutdown", left).await.unwrap();
    assert_eq!(hold.begun(), 1);
    let [status] = &left.statuses[..] else {
        panic!("{left:?}");
    };
    assert!(
        matches!(status.outcome, Outcome::Completed(_)),
        "{status:?}"
    );
    assert_eq!((status.attempts, status.reroutes), (1, 0));
}

#[actix::test]
async fn g10_a_forwarder_that_ends_proves_nothing_of_the_node_behind_it() {
    let hold = Hold::new();
    let node = node(&hold).listen("127.0.0.1:0").start().await.unwrap();
    let to = node.listen_addr().unwrap();
    let forwarder = Forwarder::start("127.0.0.1:0", to).await;
    let at = forwarder.address().to_string();
    let scheduler = Scheduler::builder("behind-a-forwarder")
        .node(Node::connect("there", &at))
        .start()
        .await
        .unwrap();
    holding(&scheduler, &hold).await;
    forwarder.end().await;
    refused_in_vain(&scheduler, &hold).await;
    let _forwarder = Forwarder::start(&at, to).await;
    ends_once(scheduler, &hold).await;
}

#[actix::test]
async fn g10_who_says_that_a_refusal_means_death_is_believed() {
    let hold = Hold::new();
    let node = node(&hold).listen("127.0.0.1:0").start().await.unwrap();
    let forwarder = Forwarder::start("127.0.0.1:0", node.listen_addr().unwrap()).await;
    let there = Node::connect("there", forwarder.address().to_string());
    let scheduler = Scheduler::builder("behind-a-faithful-forwarder")
        .node(there.refusal_means_dead(true))
        .start()
        .await
        .unwrap();
    holding(&scheduler, &hold).await;
    forwarder.end().await;
    let mut begun = hold.begun.subscribe();
    let again = begun.wait_for(|begun| *begun == 2);
    within("the second run", again).await.unwrap();
    hold.let_go();
    let ended = scheduler.shutdown(Shutdown::Drain(PATIENCE));
    within("the shutdown", ended).await.unwrap();
}

#[actix::test]
async fn g10_a_port_of_another_family_than_the_link_is_not_probed() {
    let hold = Hold::new();
    let scheduler = Scheduler::builder("of-another-family")
        .secret(SECRET)
        .listen("[::1]:0")
        .start()
        .await
        .unwrap();
    let at = scheduler.listen_addr().unwrap();
    let node = node(&hold).secret(SECRET).listen("0.0.0.0:0");
    let _node = node.join(at.to_string()).start().await.unwrap();
    holding(&scheduler, &hold).await;
    sever(at.port());
    until(&scheduler, "its link breaks", |node| {
        node.state != NodeState::Up
    })
    .await;
    ends_once(scheduler, &hold).await;
}

/// Where the scheduler listens that is joined by a link-local address, in a namespace of its own.
const LINK_LOCAL_PORT: u16 = 7100;

#[test]
fn g8_the_death_of_a_node_that_joined_by_a_link_local_address_is_seen_at_once() {
    let set_up = "link set lo up\nlink add near type veth peer name far\n\
                  link set far up\nlink set near up\naddr add fe80::77/64 dev near nodad\n";
    if let Some(status) = play_apart("link-local", set_up) {
        assert!(status.success());
    }
}

pub fn joined_by_a_link_local_address() {
    actix_rt::System::new().block_on(async {
        let scheduler = Scheduler::builder("link-local")
            .secret(SECRET)
            .listen(format!("[::]:{LINK_LOCAL_PORT}"))
            .start()
            .await
            .unwrap();
        let mut node = child::start("link-local-node", Stdio::inherit());
        until(&scheduler, "it is up", |node| node.state == NodeState::Up).await;
        node.kill().unwrap();
        // Far less than its lease.
        let lost = until(&scheduler, "it is lost", |node| {
            node.state == NodeState::Lost
        });
        let lost = tokio::time::timeout(Duration::from_secs(5), lost).await;
        assert!(lost.is_ok(), "{:?}", scheduler.stats().await);
        node.wait().unwrap();
        let ended = scheduler.shutdown(Shutdown::Now);
        within("the shutdown", ended).await.unwrap();
    });
}

/// Plays the node that dies.
pub fn joins_by_a_link_local_address() {
    let interfaces = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
    let near = interfaces.lines().find(|line| line.ends_with("near"));
    let number = near.and_then(|near| near.split_whitespace().nth(1));
    let number = u32::from_str_radix(number.unwrap(), 16).unwrap();
    let node = node(&Hold::new()).secret(SECRET);
    let node = node.join(format!("[fe80::77%{number}]:{LINK_LOCAL_PORT}"));
    actix_rt::System::new().block_on(node.run()).unwrap();
}

#[test]
fn g10_a_translation_of_addresses_that_ends_proves_nothing_of_the_node_behind_it() {
    if let Some(status) = play_apart("translated", "link set lo up\n") {
        assert!(status.success());
    }
}

pub fn behind_a_translation_of_addresses() {
    actix_rt::System::new().block_on(async {
        let hold = Hold::new();
        let node = node(&hold).listen("127.0.0.1:0").start().await.unwrap();
        let to = node.listen_addr().unwrap();
        let rules = format!(
            "table ip surroundings {{ chain out {{ type nat hook output priority -100; \
             ip daddr 127.0.0.1 tcp dport 7000 dnat to {to}; }}; }}"
        );
        nft(&rules);
        let scheduler = Scheduler::builder("behind-a-translation")
            .node(Node::connect("there", "127.0.0.1:7000"))
            .start()
            .await
            .unwrap();
        holding(&scheduler, &hold).await;
        nft("delete table ip surroundings");
        sever(7000);
        refused_in_vain(&scheduler, &hold).await;
        nft(&rules);
        ends_once(scheduler, &hold).await;
    });
}
