//! A node with its actors and threads, and a scheduler played by the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::Arbiter;
use tokio::sync::mpsc;

use crate::actors::node::{NodeParts, RunningNode};
use crate::actors::{Halt, Running, WorkerThreads};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::engine::message::{
    Assignment, End, Report, SchedulerHello, Terms, ToNode, ToScheduler, Welcome,
};
use crate::engine::node::{NodeEvent, NodeSpec};
use crate::engine::{Incarnation, LinkId, Memory, Origin, SchedulerId};
use crate::handlers::Handlers;
use crate::inbox::Inbox;
use crate::links::{Incoming, LinkSender};
use crate::payload::Payload;
use crate::retry::RetryPolicy;
use crate::task::{Dispatch, TaskId};

/// Longer than anything here takes, by a paused clock too; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSED_PATIENCE: Duration = Duration::from_secs(24 * 3600);

pub const LINK: LinkId = LinkId(1);

struct Wire(mpsc::UnboundedSender<ToScheduler>);

impl LinkSender<ToScheduler> for Wire {
    fn send(&self, batch: Vec<ToScheduler>, _: bool) {
        for message in batch {
            let _ = self.0.send(message);
        }
    }

    fn close(self: Box<Self>, _: String) {}
}

/// Returns what such a node is made of.
pub fn parts(handlers: Handlers, workers: u32, place: WorkerThreads, clock: Clock) -> NodeParts {
    handlers.validate().unwrap();
    let config = NodeConfig {
        max_workers: workers,
        max_output: 1000,
        ..NodeConfig::default()
    };
    NodeParts {
        spec: NodeSpec {
            name: Arc::from("alone"),
            incarnation: Incarnation(7),
            memory: Memory(1),
            kinds: Vec::new(),
            labels: Default::default(),
            config,
            probes: Vec::new(),
            refusal_means_dead: None,
            joins: Vec::new(),
            end_with_scheduler: false,
            local: true,
            max_frame: None,
        },
        handlers,
        place,
        clock,
        inbox: Inbox::new(),
        connector: None,
        serves: Default::default(),
        sign: Arc::new(()),
        hold: None,
    }
}

pub struct LoneNode {
    pub node: RunningNode,
    pub retry: RetryPolicy,
    kinds: Vec<String>,
    wire: mpsc::UnboundedReceiver<ToScheduler>,
    reports: std::collections::VecDeque<Report>,
    control: Option<Arbiter>,
    next: AtomicU64,
}

impl LoneNode {
    pub async fn start(handlers: Handlers, workers: u32, threads: usize) -> Self {
        let control = Arbiter::new();
        let place = WorkerThreads::Own(threads);
        Self::start_at(handlers, workers, place, Clock::Process, Some(control)).await
    }

    pub async fn start_here(handlers: Handlers, workers: u32) -> Self {
        Self::start_at(
            handlers,
            workers,
            WorkerThreads::Current,
            Clock::Tokio,
            None,
        )
        .await
    }

    async fn start_at(
        handlers: Handlers,
        workers: u32,
        place: WorkerThreads,
        clock: Clock,
        control: Option<Arbiter>,
    ) -> Self {
        let kinds = handlers.kinds().map(ToString::to_string).collect();
        let parts = parts(handlers, workers, place, clock);
        let node = parts
            .start(control.as_ref().map(Arbiter::handle).as_ref())
            .await
            .unwrap();
        let (sender, wire) = mpsc::unbounded_channel();
        node.inbox.push(Incoming::Attach {
            link: LINK,
            ends: Default::default(),
            origin: Origin::Came("localhost".to_owned()),
            sender: Box::new(Wire(sender)),
        });
        let mut alone = Self {
            node,
            retry: RetryPolicy::fixed(Duration::from_secs(3)),
            kinds,
            wire,
            reports: Default::default(),
            control,
            next: AtomicU64::new(1),
        };
        alone.greet().await;
        alone
    }

    async fn greet(&mut self) {
        self.tell(ToNode::Hello(Box::new(SchedulerHello {
            version_min: 1,
            version_max: 1,
            scheduler: "test".to_owned(),
            scheduler_id: SchedulerId(1),
            term: 0,
            max_frame: None,
        })));
        loop {
            if let ToScheduler::Holding(holding) = self.hear().await
                && holding.last
            {
                break;
            }
        }
        self.tell(ToNode::Welcome(Box::new(Welcome {
            version: 1,
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(15),
            outlive: Duration::ZERO,
            workers: None,
            retry: self.retry,
            acknowledged: 0,
            stop: Vec::new(),
            drain: false,
        })));
    }

    pub fn tell(&self, message: ToNode) {
        let link = LINK;
        self.node
            .inbox
            .push(NodeEvent::Message { link, message }.into());
    }

    async fn hear(&mut self) -> ToScheduler {
        let patience = match self.control {
            Some(_) => PATIENCE,
            None => PAUSED_PATIENCE,
        };
        tokio::time::timeout(patience, self.wire.recv())
            .await
            .expect("the node says nothing")
            .expect("the node is gone")
    }

    /// Takes the next report but those of workers.
    pub async fn report(&mut self) -> Report {
        loop {
            match self.any_report().await {
                Report::Ready
                | Report::Draining
                | Report::Lent { .. }
                | Report::Stalled { .. }
                | Report::Started { .. } => {}
                report => return report,
            }
        }
    }

    pub async fn any_report(&mut self) -> Report {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return report;
            }
            if let ToScheduler::Reports(reports) = self.hear().await {
                self.reports.extend(reports);
            }
        }
    }

    pub fn assignment(&self, kind: &str, args: impl serde::Serialize) -> Assignment {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let kind = self.kinds.iter().position(|known| known == kind).unwrap();
        Assignment {
            task: TaskId::new(number),
            dispatch: Dispatch::new(number),
            kind: u16::try_from(kind).unwrap(),
            attempt: 1,
            prefetched: true,
            args: Payload::from(rmp_serde::to_vec_named(&args).unwrap()),
            terms: None,
        }
    }

    pub fn assign(&self, assignment: Assignment) -> Dispatch {
        let dispatch = assignment.dispatch;
        self.tell(ToNode::Assign(vec![assignment]));
        dispatch
    }

    pub fn call(&self, kind: &str, args: impl serde::Serialize) -> Dispatch {
        self.assign(self.assignment(kind, args))
    }

    pub fn call_with(&self, kind: &str, args: impl serde::Serialize, terms: Terms) -> Dispatch {
        let mut assignment = self.assignment(kind, args);
        assignment.terms = Some(Box::new(terms));
        self.assign(assignment)
    }

    /// Runs one attempt to its end.
    pub async fn end_of(&mut self, kind: &str, args: impl serde::Serialize) -> End {
        let dispatch = self.call(kind, args);
        self.end(dispatch).await.0
    }

    /// Takes the end of this run, which must be reported next, and whether it is an overrun.
    pub async fn end(&mut self, run: Dispatch) -> (End, bool) {
        match self.report().await {
            Report::Ended {
                dispatch,
                end,
                overrun,
                ..
            } if dispatch == run => (end, overrun),
            other => panic!("not the end of {run}: {other:?}"),
        }
    }

    /// Ends the node, on which nothing may be left running.
    pub async fn stop(self) {
        assert_eq!(self.node.addr.send(Running).await, Ok(0));
        self.kill().await;
    }

    /// Ends the node, whatever runs.
    pub async fn kill(mut self) {
        self.node.addr.do_send(Halt);
        while self.node.gone.changed().await.is_ok() {}
        if let Some(control) = self.control {
            control.stop();
        }
    }
}
