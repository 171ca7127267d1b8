//! Schedulers and nodes that trust each other by certificates, and doubles that hold one of another
//! name.

use std::sync::Mutex;

use callboard::__internals::engine::message::{
    Holding, NodeHello, SchedulerHello, ToNode, ToScheduler, VERSION_MAX, VERSION_MIN,
};
use callboard::__internals::engine::{Incarnation, SchedulerId};
use callboard::__internals::inbox::Inbox;
use callboard::__internals::net::{
    Authenticated, LinkCommand, LinkConfig, LinkEvent, Listener as Socket, Role as Peer, Trust,
    Wire, dial, run_link,
};
use callboard::error::{LinkRefusal, NodeStartError, StartError};
use callboard::stats::NodeState;
use callboard::{Node, NodeHandle, Scheduler};
use tokio::time::timeout;

use crate::certificates::Authority;
use crate::cluster::{
    Listener, brisk, calls, connect, endings, execute, find, finish, nodes_of, until, until_node,
};
use crate::processes::handlers::handlers;
use crate::processes::{NodeProcess, PATIENCE, Role};

async fn node(authority: &Authority, name: &str) -> NodeHandle {
    callboard::node(name)
        .handlers(handlers())
        .max_workers(2)
        .threads(1)
        .tls(authority.issue(name))
        .listen("127.0.0.1:0")
        .start()
        .await
        .unwrap()
}

#[actix::test]
async fn tasks_run_over_tls_whichever_side_dials() {
    let authority = Authority::new();
    let dialled = node(&authority, "tls-dialled").await;
    let role = Role::new("tls-process", 2).tls(authority.directory());
    authority.issue("tls-process");
    let process = NodeProcess::spawn(&role).await;
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("tls-scheduler")
        .tls(
            authority
                .issue("tls-scheduler")
                .peers(["tls-dialled", "tls-process", "tls-joined"]),
        )
        .node(connect(&dialled))
        .node(process.node())
        .listen("127.0.0.1:0")
        .client(client.recipient())
        .configure(brisk)
        .require_all_nodes()
        .start()
        .await
        .unwrap();
    authority.issue("tls-joined");
    let role = Role::new("tls-joined", 2)
        .tls(authority.directory())
        .join(scheduler.listen_addr().unwrap());
    let mut joined = NodeProcess::spawn(&role).await;
    until_node(&scheduler, "tls-joined", NodeState::Up).await;

    execute(&scheduler, calls(60, "sleep", &10u64)).await;
    let statuses = endings(&mut client, 60).await;
    let expected = ["tls-dialled", "tls-joined", "tls-process"].map(str::to_owned);
    assert_eq!(nodes_of(statuses.values()), expected.into());

    // A link within TLS that ends by the death of its process is a loss like any other.
    joined.kill();
    until_node(&scheduler, "tls-joined", NodeState::Lost).await;
    execute(&scheduler, calls(20, "sleep", &1u64)).await;
    endings(&mut client, 20).await;
    finish(scheduler).await;
    dialled.stop().await;
}

/// Returns what a double is told, and how its link ended.
async fn converse<In: Wire, Out: Wire>(proved: Authenticated, says: Vec<Out>) -> (Vec<In>, String) {
    let commands = Inbox::new();
    commands.extend(says.into_iter().map(LinkCommand::Send));
    let heard = Mutex::new((Vec::new(), String::new()));
    let link = run_link(proved, LinkConfig::default(), commands, |events| {
        let mut heard = heard.lock().unwrap();
        for event in events {
            match event {
                LinkEvent::Message(message) => heard.0.push(message),
                LinkEvent::Heard | LinkEvent::Malformed(_) => {}
                LinkEvent::Closed(reason) => heard.1 = reason,
            }
        }
    });
    timeout(PATIENCE, link)
        .await
        .expect("the link is not ended");
    heard.into_inner().unwrap()
}

fn node_says(name: &str) -> Vec<ToScheduler> {
    let hello = NodeHello::new(name, Incarnation(1));
    let held = Holding {
        last: true,
        ..Holding::default()
    };
    vec![
        ToScheduler::Hello(Box::new(hello)),
        ToScheduler::Holding(held),
    ]
}

fn scheduler_says(name: &str) -> ToNode {
    ToNode::Hello(Box::new(SchedulerHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        scheduler: name.to_owned(),
        scheduler_id: SchedulerId(1),
        term: 0,
        max_frame: None,
    }))
}

fn trust(authority: &Authority, name: &str) -> Trust {
    Trust::Tls(authority.issue(name).load(name).unwrap())
}

#[actix::test]
async fn g11_a_node_that_joins_is_only_who_its_certificate_says() {
    let authority = Authority::new();
    let scheduler = Scheduler::builder("tls-joined")
        .tls(authority.issue("tls-joined").peers(["node-1", "node-2"]))
        .listen("127.0.0.1:0")
        .configure(brisk)
        .start()
        .await
        .unwrap();
    let address = scheduler.listen_addr().unwrap().to_string();
    let double = trust(&authority, "node-2");
    let stranger = trust(&authority, "node-3");
    for (trust, claims, words) in [
        (&double, "node-1", "its certificate does not bear that name"),
        (&double, "NODE2", "cannot stand in a certificate"),
        (&double, "tls-joined", "does not bear that name"),
        (
            &stranger,
            "node-3",
            "is not among the peers that the other side takes",
        ),
    ] {
        let link = dial(&address, trust, Peer::Node, &LinkConfig::default())
            .await
            .unwrap();
        let (heard, _) = converse::<ToNode, _>(link, node_says(claims)).await;
        // Before it, the scheduler's hello, if it was sooner than the double.
        let Some(ToNode::Refuse(refusal)) = heard.last() else {
            panic!("{claims} heard {heard:?}");
        };
        assert!(matches!(refusal, LinkRefusal::NotCertified { .. }));
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    // What comes before a hello does not count either.
    let link = dial(&address, &double, Peer::Node, &LinkConfig::default())
        .await
        .unwrap();
    let (heard, _) = converse::<ToNode, _>(link, vec![ToScheduler::Goodbye]).await;
    let last = heard.last();
    assert!(
        matches!(last, Some(ToNode::Refuse(LinkRefusal::Violation(_)))),
        "{heard:?}"
    );
    // The three false names and the message before a hello; the stranger is only not among the
    // peers.
    let breaches = 4;
    let stats = until(&scheduler, "the breaches are counted", |stats| {
        stats.totals.violations >= breaches
    })
    .await;
    assert!(stats.nodes.is_empty());

    let own = callboard::node("node-2")
        .handlers(handlers())
        .tls(authority.tls("node-2"))
        .join(address)
        .start()
        .await
        .unwrap();
    let stats = until_node(&scheduler, "node-2", NodeState::Up).await;
    assert_eq!(stats.totals.violations, breaches);
    finish(scheduler).await;
    own.stop().await;
}

#[actix::test]
async fn g11_a_node_that_is_dialled_is_only_who_its_certificate_says() {
    let authority = Authority::new();
    let double = trust(&authority, "node-2");
    let socket = Socket::bind("127.0.0.1:0", double, Peer::Node, LinkConfig::default())
        .await
        .unwrap();
    let address = socket.local_addr().to_string();
    let running = actix::spawn(socket.run(|proved, _| {
        actix::spawn(converse::<ToNode, _>(proved, node_says("node-1")));
    }));
    let builder = || {
        Scheduler::builder("tls-dialling")
            .tls(authority.issue("tls-dialling"))
            .configure(brisk)
            .node(Node::connect("node-1", &*address))
    };
    let error = builder().start().await.unwrap_err();
    assert!(matches!(error, StartError::Unreachable(_)));
    let words = "a process calls itself \"node-1\" and its certificate does not bear that name";
    assert!(error.to_string().contains(words), "{error}");

    // While it runs, the stats say so.
    let scheduler = builder().listen("127.0.0.1:0").start().await.unwrap();
    until(&scheduler, "the reason is known, and counted", |stats| {
        // Whoever sits at the address is not the node that was named, which has broken nothing.
        find(stats, "node-1")
            .is_some_and(|node| node.reason.contains(words) && node.violations == 0)
            && stats.totals.violations > 0
    })
    .await;
    finish(scheduler).await;
    running.abort();
}

#[actix::test]
async fn g11_a_scheduler_is_only_who_its_certificate_says_and_a_node_chooses_its_own() {
    let authority = Authority::new();
    let node = callboard::node("tls-chosen")
        .handlers(handlers())
        .tls(authority.issue("tls-chosen").peers(["tls-chooser"]))
        .listen("127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let address = node.listen_addr().unwrap().to_string();
    let double = trust(&authority, "node-2");
    // Another node's certificate makes no scheduler, whatever it calls itself.
    for (claims, words) in [
        ("tls-chooser", "does not bear that name"),
        ("node-2", "is not among the peers that the other side takes"),
    ] {
        let link = dial(&address, &double, Peer::Scheduler, &LinkConfig::default())
            .await
            .unwrap();
        let says = vec![scheduler_says(claims), ToNode::Leave];
        let (heard, _) = converse::<ToScheduler, _>(link, says).await;
        let [ToScheduler::Refuse(refusal @ LinkRefusal::NotCertified { .. })] = &heard[..] else {
            panic!("{heard:?}");
        };
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    // A refusal before the hello would end a node that believed it.
    let link = dial(&address, &double, Peer::Scheduler, &LinkConfig::default())
        .await
        .unwrap();
    let replaced = LinkRefusal::Replaced {
        name: "tls-chosen".to_owned(),
    };
    let (heard, _) = converse::<ToScheduler, _>(link, vec![ToNode::Refuse(replaced)]).await;
    assert!(
        matches!(&heard[..], [ToScheduler::Refuse(LinkRefusal::Violation(_))]),
        "{heard:?}"
    );

    let scheduler = Scheduler::builder("tls-chooser")
        .tls(authority.issue("tls-chooser"))
        .node(connect(&node))
        .require_all_nodes()
        .start()
        .await
        .unwrap();
    finish(scheduler).await;
    node.stop().await;
}

#[actix::test]
async fn a_start_with_tls_says_what_is_wrong_with_names_files_and_secrets() {
    let authority = Authority::new();
    let tls = authority.issue("tls-start");
    let start = |name: &str| Scheduler::builder(name).listen("127.0.0.1:0");
    let error = start("tls-start")
        .tls(tls.clone())
        .secret("sixteen bytes or more")
        .start()
        .await;
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("both a shared secret and certificates")
    );
    let error = start("tls start")
        .tls(tls.clone())
        .start()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("use a DNS name in lower case"),
        "{error}"
    );
    let listed = start("tls-start")
        .tls(tls.clone())
        .node(Node::connect("my_node", "127.0.0.1:9"));
    let error = listed.start().await.unwrap_err();
    assert!(matches!(error, StartError::Tls(_)));
    assert!(error.to_string().contains("\"my_node\""), "{error}");
    let peers = ["node-1", "Node 2"];
    let error = start("tls-start")
        .tls(tls.clone().peers(peers))
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Tls(_)));
    assert!(error.to_string().contains("\"Node 2\""), "{error}");
    let error = start("tls-other")
        .tls(tls.clone())
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("tls-start.crt"), "{error}");

    let scheduler = start("tls-start").tls(tls.clone()).start().await.unwrap();
    let error = scheduler
        .add_node(Node::connect("my_node", "127.0.0.1:9"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("use a DNS name in lower case"),
        "{error}"
    );
    // A local node needs no certificate.
    scheduler
        .add_node(Node::local("my_own", handlers()))
        .await
        .unwrap();
    finish(scheduler).await;

    let node = || {
        callboard::node("tls-start")
            .handlers(handlers())
            .listen("127.0.0.1:0")
    };
    let error = node()
        .tls(tls.clone())
        .secret("sixteen bytes or more")
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, NodeStartError::Tls(_)));
    std::fs::remove_file(authority.file("tls-start.key")).unwrap();
    let error = node().tls(tls).start().await.unwrap_err();
    assert!(matches!(error, NodeStartError::Tls(_)));
    assert!(error.to_string().contains("tls-start.key"), "{error}");
}

#[actix::test]
async fn g9_renewed_certificates_serve_nodes_that_come_later_and_leave_links_up() {
    let mut authority = Authority::new();
    let early = node(&authority, "tls-early").await;
    let mut client = Listener::start();
    let scheduler = Scheduler::builder("tls-renewing")
        .tls(authority.issue("tls-renewing"))
        .node(connect(&early))
        .client(client.recipient())
        .require_all_nodes()
        .start()
        .await
        .unwrap();
    authority.replace();
    authority.issue("tls-renewing");
    // It never had any other certificates than the new ones.
    let late = node(&authority, "tls-late").await;
    scheduler.add_node(connect(&late)).await.unwrap();
    execute(&scheduler, calls(40, "sleep", &10u64)).await;
    let statuses = endings(&mut client, 40).await;
    let expected = ["tls-early", "tls-late"].map(str::to_owned);
    assert_eq!(nodes_of(statuses.values()), expected.into());
    finish(scheduler).await;
    early.stop().await;
    late.stop().await;
}
