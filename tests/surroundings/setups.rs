//! Setups that cannot work: what is known at once is an error at the start, and the rest can be
//! asked.

use std::time::Duration;

use callboard::error::{NodeError, NodeRunError, NodeStartError, StartError};
use callboard::{Node, NodeExit, Scheduler, Shutdown};

use crate::board::{handlers, within};

const SECRET: &str = "a secret of at least 16 bytes";
const NO_ADDRESSES: [&str; 5] = [
    "10.0.0.1",
    "localhost:",
    "localhost:0",
    ":7000",
    "localhost:port",
];

async fn listening(name: &str) -> Scheduler {
    let starting = Scheduler::builder(name)
        .secret(SECRET)
        .listen("127.0.0.1:0");
    starting.start().await.unwrap()
}

fn node(scheduler: &Scheduler) -> callboard::NodeBuilder {
    let at = scheduler.listen_addr().unwrap().to_string();
    callboard::node("there").handlers(handlers()).join(at)
}

async fn end(scheduler: Scheduler) {
    let ended = scheduler.shutdown(Shutdown::Now);
    within("the shutdown", ended).await.unwrap();
}

#[actix::test]
async fn an_address_without_a_port_is_an_error_at_the_start() {
    let scheduler = listening("told-of-addresses").await;
    for address in NO_ADDRESSES {
        let joins = callboard::node("there").secret(SECRET).join(address);
        let Err(NodeStartError::Config(error)) = joins.start().await else {
            panic!("{address} is joined");
        };
        assert!(error.to_string().contains("host:port"), "{error}");
        let added = scheduler.add_node(Node::connect("there", address)).await;
        let Err(NodeError::Invalid(reason)) = added else {
            panic!("{address}: {added:?}");
        };
        assert!(
            reason.contains(address) && reason.contains("host:port"),
            "{reason}"
        );
        let starting = Scheduler::builder("with-no-address").node(Node::connect("there", address));
        match starting.start().await {
            Err(StartError::Config(_) | StartError::Node(NodeError::Invalid(_))) => {}
            other => panic!("{address}: {other:?}"),
        }
    }
    end(scheduler).await;
}

#[actix::test]
async fn an_address_to_listen_at_without_a_port_is_told_in_words() {
    // Port 0 is one that the system chooses.
    for address in NO_ADDRESSES.iter().filter(|it| **it != "localhost:0") {
        let listens = callboard::node("there").secret(SECRET).listen(*address);
        let Err(NodeStartError::Listen(error)) = listens.start().await else {
            panic!("{address} is listened at");
        };
        assert!(error.to_string().contains("host:port"), "{error}");
    }
}

#[actix::test]
async fn a_node_that_is_not_welcomed_in_time_ends_and_says_whose_secret_is_wrong() {
    let scheduler = listening("with-another-secret").await;
    let run = node(&scheduler).secret("another secret of 16 bytes");
    let ran = within("the run", run.join_within(Duration::from_millis(300)).run()).await;
    let Err(NodeRunError::NotJoined { reason, .. }) = ran else {
        panic!("{ran:?}");
    };
    assert!(
        reason.contains("the peer refused: the secret that it was given is not its own"),
        "{reason}"
    );
    end(scheduler).await;
}

#[actix::test]
async fn a_secret_on_one_side_only_is_told_in_words_by_either_side() {
    let with = listening("with-a-secret").await;
    let without = Scheduler::builder("without-a-secret").listen("127.0.0.1:0");
    let without = without.start().await.unwrap();
    for (joins, words) in [
        (
            node(&with),
            "the peer has a secret and this side has none; give both the same",
        ),
        (
            node(&without).secret(SECRET),
            "this side has a secret and the peer has none; give both the same",
        ),
    ] {
        let run = joins.join_within(Duration::from_millis(300)).run();
        let ran = within("the run", run).await;
        let Err(NodeRunError::NotJoined { reason, .. }) = ran else {
            panic!("{ran:?}");
        };
        assert!(reason.contains(words), "{reason}");
    }
    end(with).await;
    end(without).await;
}

#[actix::test]
async fn a_node_that_is_not_up_is_told_with_the_reason_and_what_to_do() {
    let serves = callboard::node("there").handlers(handlers());
    let serves = serves.schedulers(["mail"]).listen("127.0.0.1:0");
    let serves = serves.start().await.unwrap();
    let scheduler = Scheduler::builder("orders")
        .node(Node::local("here", handlers()))
        .start()
        .await
        .unwrap();
    for (address, reason) in [
        // It answers, so that it is not said that it cannot be reached.
        (
            serves.listen_addr().unwrap().to_string(),
            "the node does not serve the scheduler \"orders",
        ),
        // Nobody listens there.
        ("127.0.0.1:1".to_owned(), "refused"),
    ] {
        let added = scheduler.add_node(Node::connect("there", &address)).await;
        let added = added.unwrap_err().to_string();
        let alone = Scheduler::builder("orders-alone").node(Node::connect("there", &address));
        let alone = alone.start_timeout(Duration::from_millis(300)).start();
        let alone = within("the start", alone).await.unwrap_err().to_string();
        for words in [&added, &alone] {
            assert!(
                words.contains("not up") && words.contains(reason),
                "{words}"
            );
            let remedy = "see that its process runs and takes this scheduler";
            let remedies = "see that their processes run and take this scheduler";
            assert!(
                words.contains(remedy) || words.contains(remedies),
                "{words}"
            );
            assert!(!words.contains("reached"), "{words}");
        }
    }
    end(scheduler).await;
    assert_eq!(serves.drain().await, NodeExit::Drained);
}

#[actix::test]
async fn a_handle_tells_when_its_node_is_joined() {
    let scheduler = listening("joined-by-a-handle").await;
    let joining = node(&scheduler).secret(SECRET).start().await.unwrap();
    assert_eq!(within("the welcome", joining.joined()).await, Ok(()));
    assert_eq!(joining.schedulers().await, ["joined-by-a-handle"]);
    assert_eq!(joining.why_not_joined(), None);

    let wrong = node(&scheduler)
        .secret("another secret of 16 bytes")
        .start();
    let wrong = wrong.await.unwrap();
    let gone = async {
        let (joined, gone) = tokio::join!(wrong.joined(), wrong.drain());
        assert_eq!((joined, gone), (Err(NodeExit::Drained), NodeExit::Drained));
    };
    within("the end", gone).await;
    end(scheduler).await;
}
