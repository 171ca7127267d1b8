//! When a turn has what it sends written at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use actix::Addr;
use tokio::sync::mpsc;

use super::*;
use crate::actors::AddNode;
use crate::actors::scheduler::{SchedulerActor, SchedulerParts};
use crate::clock::Clock;
use crate::config::SchedulerConfig;
use crate::engine::message::{Holding, KindOffer, NodeHello, ToNode, ToScheduler};
use crate::engine::{Incarnation, LinkId, NodeId, Origin, SchedulerId};
use crate::execute::Execute;
use crate::inbox::Inbox;
use crate::links::{Connector, Incoming, LinkSender};

const LINK: LinkId = LinkId(1);
const KIND: &str = "kind";

/// What a turn told a link.
#[derive(Debug, PartialEq)]
struct Said {
    /// How many assignments were among it.
    assigned: usize,
    at_once: bool,
}

struct Recorder(mpsc::UnboundedSender<Said>);

impl LinkSender<ToNode> for Recorder {
    fn send(&self, batch: Vec<ToNode>, at_once: bool) {
        let assigned = batch.iter().map(|message| match message {
            ToNode::Assign(assignments) => assignments.len(),
            _ => 0,
        });
        let assigned = assigned.sum();
        self.0.send(Said { assigned, at_once }).unwrap();
    }

    fn close(self: Box<Self>, _: String) {}
}

/// Something comes in when it is to dial.
struct Interrupter(Inbox<Incoming<Event>>);

impl Connector<Event> for Interrupter {
    fn dial(&self, _: NodeId, _: String, _: Option<String>, _: Option<Duration>) {
        self.0.push(Event::Heard { link: LINK }.into());
    }

    fn probe(&self, _: String, _: Box<dyn FnOnce(bool) -> Event + Send>) {}
}

/// Starts a scheduler with a node of many workers; also returns what the node's link is told from
/// then on.
async fn board_at(clock: Clock) -> (Addr<SchedulerActor>, mpsc::UnboundedReceiver<Said>) {
    let inbox = Inbox::new();
    let parts = SchedulerParts {
        name: Arc::from("board"),
        scheduler_id: SchedulerId(1),
        config: SchedulerConfig {
            accept_joins: true,
            ..SchedulerConfig::default()
        },
        clock,
        on_client_gone: ClientGone::Hold,
        left: super::super::Handover::default(),
        inbox: inbox.clone(),
        connector: Box::new(Interrupter(inbox.clone())),
        kept: None,
        guard: Box::new(()),
    };
    let addr = parts.start(None);
    let (said, mut heard) = mpsc::unbounded_channel();
    inbox.push(Incoming::Attach {
        link: LINK,
        ends: Default::default(),
        origin: Origin::Came("127.0.0.1".to_owned()),
        sender: Box::new(Recorder(said)),
    });
    let hello = NodeHello {
        kinds: vec![KindOffer {
            kind: KIND.to_owned(),
            blocking: false,
        }],
        workers: 100,
        ..NodeHello::new("node", Incarnation(1))
    };
    let say = |message| {
        let link = LINK;
        inbox.push(Event::Message { link, message }.into());
    };
    say(ToScheduler::Hello(Box::new(hello)));
    let holding = Holding {
        last: true,
        ..Default::default()
    };
    say(ToScheduler::Holding(holding));
    // Its own hello and the welcome. Then the actor's turns come to rest.
    heard.recv().await.unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    while heard.try_recv().is_ok() {}
    (addr, heard)
}

async fn board() -> (Addr<SchedulerActor>, mpsc::UnboundedReceiver<Said>) {
    board_at(Clock::default()).await
}

fn execute() -> Execute {
    Execute::named(KIND, &()).unwrap()
}

fn said(assigned: usize, at_once: bool) -> Option<Said> {
    Some(Said { assigned, at_once })
}

#[actix::test]
async fn what_a_task_alone_leads_to_is_written_at_once() {
    let (addr, mut heard) = board().await;
    addr.send(execute()).await.unwrap().unwrap();
    assert_eq!(heard.recv().await, said(1, true));
}

#[actix::test]
async fn what_many_lead_to_is_left_to_the_thread_of_the_link() {
    let (addr, mut heard) = board().await;
    for _ in 0..=SMALL_TURN {
        addr.do_send(execute());
    }
    assert_eq!(heard.recv().await, said(SMALL_TURN + 1, false));
}

#[actix::test]
async fn a_thread_that_has_more_to_do_leaves_the_writing_to_that_of_the_link() {
    let (addr, mut heard) = board().await;
    addr.do_send(AddNode::connect("another", "there"));
    addr.send(execute()).await.unwrap().unwrap();
    assert_eq!(heard.recv().await, said(1, false));
}

#[actix::test]
async fn a_planned_task_starts_within_a_second_after_the_wall_clock_was_set() {
    static AHEAD: AtomicI64 = AtomicI64::new(0);
    const HOUR: Duration = Duration::from_secs(3600);
    let (addr, mut heard) = board_at(Clock::Set(&AHEAD)).await;
    let at = SystemTime::now() + HOUR;
    addr.send(execute().run_at(at)).await.unwrap().unwrap();
    addr.send(execute()).await.unwrap().unwrap();
    // Only the one that is not planned.
    assert_eq!(heard.recv().await, said(1, true));
    assert!(heard.try_recv().is_err());
    AHEAD.store(HOUR.as_nanos() as i64, Ordering::Relaxed);
    let set = Instant::now();
    let assigned = async { while heard.recv().await.expect("the scheduler runs").assigned == 0 {} };
    assigned.await;
    assert!(set.elapsed() < Duration::from_secs(1));
    // What is submitted next is judged by the clock as it is then.
    AHEAD.store(0, Ordering::Relaxed);
    addr.send(execute().run_at(at)).await.unwrap().unwrap();
    addr.send(execute()).await.unwrap().unwrap();
    assert_eq!(heard.recv().await, said(1, true));
}
