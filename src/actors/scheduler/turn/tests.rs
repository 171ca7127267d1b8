//! When a turn has what it sends written at once.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::mpsc;

use super::*;
use crate::actors::scheduler::{NodeOutlet, Roads, SchedulerActor, SchedulerParts};
use crate::clock::Clock;
use crate::config::SchedulerConfig;
use crate::engine::message::{Holding, KindOffer, NodeHello, ToNode, ToScheduler};
use crate::engine::{Epoch, Life, LinkId, NodeId, Origin};
use crate::execute::Execute;
use crate::inbox::Inbox;

const LINK: LinkId = LinkId(1);
const KIND: &str = "kind";

/// What a link was told.
#[derive(Debug, PartialEq)]
enum Said {
    Assign(usize),
    Other,
    Flush { at_once: bool },
}

struct Recorder {
    said: mpsc::UnboundedSender<Said>,
    /// Where something comes in while an assignment is sent.
    interrupts: Option<Inbox<Incoming>>,
}

impl NodeOutlet for Recorder {
    fn send(&self, message: ToNode) {
        let said = match message {
            ToNode::Assign(assignments) => Said::Assign(assignments.len()),
            _ => Said::Other,
        };
        if let (Said::Assign(_), Some(inbox)) = (&said, &self.interrupts) {
            inbox.push(Incoming::Event(Event::Tick));
        }
        self.said.send(said).unwrap();
    }

    fn flush(&self, at_once: bool) {
        self.said.send(Said::Flush { at_once }).unwrap();
    }

    fn close(&self, _: String) {}
}

struct NoRoads;

impl Roads for NoRoads {
    fn dial(&self, _: NodeId, _: String) {}
    fn probe(&self, _: NodeId, _: Epoch, _: String) {}
}

/// A scheduler with a node of many workers, and what the node's link is told from then on.
async fn board(interrupted: bool) -> (Addr<SchedulerActor>, mpsc::UnboundedReceiver<Said>) {
    let inbox = Inbox::new();
    let parts = SchedulerParts {
        name: Arc::from("board"),
        life: Life(1),
        config: SchedulerConfig {
            accept_joins: true,
            ..SchedulerConfig::default()
        },
        clock: Clock::default(),
        on_client_gone: ClientGone::Hold,
        inbox: inbox.clone(),
        roads: Box::new(NoRoads),
        guard: Box::new(()),
    };
    let addr = parts.start(None);
    let (said, mut heard) = mpsc::unbounded_channel();
    inbox.push(Incoming::Attach {
        link: LINK,
        origin: Origin::Came("127.0.0.1".to_owned()),
        outlet: Box::new(Recorder {
            said,
            interrupts: interrupted.then(|| inbox.clone()),
        }),
    });
    let hello = NodeHello {
        kinds: vec![KindOffer {
            kind: KIND.to_owned(),
            blocking: false,
        }],
        workers: 100,
        ..NodeHello::new("node", Epoch(1))
    };
    inbox.push(Incoming::message(LINK, ToScheduler::Hello(hello)));
    let holding = Holding {
        last: true,
        ..Default::default()
    };
    inbox.push(Incoming::message(LINK, ToScheduler::Holding(holding)));
    // Its own hello and the welcome. Then the actor's turns come to rest.
    while heard.recv().await != Some(Said::Other) {}
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    while heard.try_recv().is_ok() {}
    (addr, heard)
}

fn execute() -> Execute {
    Execute::call(KIND, &()).unwrap()
}

#[actix::test]
async fn what_a_task_alone_leads_to_is_written_at_once() {
    let (addr, mut heard) = board(false).await;
    addr.send(execute()).await.unwrap().unwrap();
    assert_eq!(heard.recv().await, Some(Said::Assign(1)));
    assert_eq!(heard.recv().await, Some(Said::Flush { at_once: true }));
}

#[actix::test]
async fn what_many_lead_to_is_left_to_the_thread_of_the_link() {
    let (addr, mut heard) = board(false).await;
    for _ in 0..=SMALL_TURN {
        addr.do_send(execute());
    }
    assert_eq!(heard.recv().await, Some(Said::Assign(SMALL_TURN + 1)));
    assert_eq!(heard.recv().await, Some(Said::Flush { at_once: false }));
}

#[actix::test]
async fn a_thread_that_has_more_to_do_leaves_the_writing_to_that_of_the_link() {
    let (addr, mut heard) = board(true).await;
    addr.send(execute()).await.unwrap().unwrap();
    assert_eq!(heard.recv().await, Some(Said::Assign(1)));
    assert_eq!(heard.recv().await, Some(Said::Flush { at_once: false }));
}
