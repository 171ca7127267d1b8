//! A proved peer that is no honest node, over a real link.

use std::sync::Arc;

use actix::System;
use callboard::__internals::engine::message::{
    End, Holding, KindOffer, NodeHello, Report, ToNode, ToScheduler,
};
use callboard::__internals::engine::{Incarnation, Memory};
use callboard::__internals::inbox::Inbox;
use callboard::__internals::net::codec::framing::Frames;
use callboard::__internals::net::codec::message::Frame;
use callboard::__internals::net::{
    LinkCommand, LinkConfig, LinkEvent, Role, Trust, Wire, dial, run_link,
};
use callboard::error::LinkError;
use callboard::stats::{Stats, TaskState};
use callboard::{Dispatch, Execute, Handlers, Node, Scheduler, Shutdown, TaskId};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::processes::PATIENCE;

/// What a peer sends: a message, or a frame of a kind that there is not.
enum Says {
    Message(ToScheduler),
    Garbage,
}

impl Wire for Says {
    fn overtakes(&self) -> bool {
        false
    }

    fn weight(&self) -> usize {
        0
    }

    fn encode(&self, frames: &mut Frames) -> Result<(), LinkError> {
        match self {
            Self::Message(message) => message.encode(frames),
            Self::Garbage => {
                let begun = frames.begin(99);
                frames.end_control(begun)
            }
        }
    }

    fn decode(_: Frame) -> Result<Self, LinkError> {
        unreachable!("a peer does not hear itself")
    }
}

fn hello() -> Says {
    Says::Message(ToScheduler::Hello(Box::new(NodeHello {
        version_min: 1,
        version_max: 1,
        node: "evil".to_owned(),
        incarnation: Incarnation(1),
        memory: Memory(1),
        number: 1,
        seen: Dispatch::new(0),
        kinds: vec![KindOffer {
            kind: "other".to_owned(),
            blocking: false,
        }],
        labels: Default::default(),
        workers: 1,
        out_of_reach: 0,
        probe: None,
        address: String::new(),
        refusal_means_dead: false,
        draining: false,
        max_frame: None,
    })))
}

/// Joins as the node "evil", says these as soon as the link is up, and waits until it is closed;
/// what the scheduler said.
async fn join(scheduler: &Scheduler, words: Vec<Says>) -> Vec<ToNode> {
    let address = scheduler.listen_addr().unwrap().to_string();
    let config = LinkConfig::default();
    let proved = dial(&address, &Trust::Open, Role::Node, &config);
    let proved = proved.await.unwrap();
    let commands = Inbox::new();
    let send = commands.clone();
    let say = move |says| send.push(LinkCommand::Send(says));
    say(hello());
    say(Says::Message(ToScheduler::Holding(Holding {
        last: true,
        ..Default::default()
    })));
    let mut words = Some(words);
    let mut heard = Vec::new();
    let link = run_link(proved, config, commands, |events| {
        for event in events {
            if let LinkEvent::Message(message) = event {
                if matches!(message, ToNode::Welcome(_)) {
                    words.take().into_iter().flatten().for_each(&say);
                }
                heard.push(message);
            }
        }
    });
    timeout(PATIENCE, link).await.expect("the link stays");
    heard
}

/// Lets an honest node's task end well while the other says this of its run; returns what is
/// counted then, and what the scheduler said.
async fn beside(name: &str, words: impl FnOnce(TaskId, Dispatch) -> Says) -> (Stats, Vec<ToNode>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handlers = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        Handlers::new().on("work", move |n: u64| {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.notify_one();
                go.notified().await;
                Ok(n)
            }
        })
    };
    let scheduler = Scheduler::builder(name)
        .node(Node::local("honest", handlers))
        .listen("127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let settles = scheduler.execute_and_wait(Execute::named("work", &7u64).unwrap());
    let evil = async {
        begun.notified().await;
        let unfinished = scheduler.unfinished().await.unwrap();
        let TaskState::Running { dispatch, .. } = unfinished[0].state else {
            panic!("it has begun: {unfinished:?}");
        };
        let words = words(unfinished[0].id, dispatch);
        let heard = join(&scheduler, vec![words]).await;
        go.notify_one();
        heard
    };
    let (status, heard) = tokio::join!(settles, evil);
    assert_eq!(status.unwrap().output::<u64>(), Ok(7));
    let stats = scheduler.stats().await.unwrap();
    scheduler.shutdown(Shutdown::Now).await.unwrap();
    (stats, heard)
}

fn violations_of(stats: &Stats, name: &str) -> u64 {
    let node = stats.nodes.iter().find(|node| &*node.name == name);
    node.unwrap().violations
}

#[test]
fn g11_a_proved_peer_that_reports_what_was_never_assigned_is_counted_and_told() {
    System::new().block_on(async {
        let lie = |task, dispatch| {
            let report = Report::Ended {
                seq: 1,
                task,
                dispatch,
                end: End::Completed(b"lie".into()),
                ran: PATIENCE,
                overrun: false,
            };
            Says::Message(ToScheduler::Reports(vec![report]))
        };
        let (stats, heard) = beside("roles-report", lie).await;
        assert_eq!(stats.totals.violations, 1);
        assert_eq!(violations_of(&stats, "evil"), 1);
        assert_eq!(violations_of(&stats, "honest"), 0);
        assert!(
            matches!(heard.last(), Some(ToNode::Refuse(why)) if why.to_string().contains("another node has")),
            "{heard:?}"
        );
    });
}

#[test]
fn g11_a_proved_peer_that_sends_what_is_no_frame_is_counted() {
    System::new().block_on(async {
        let (stats, _) = beside("roles-frame", |_, _| Says::Garbage).await;
        assert_eq!(stats.totals.violations, 1);
        assert_eq!(violations_of(&stats, "evil"), 1);
        assert_eq!(violations_of(&stats, "honest"), 0);
    });
}
