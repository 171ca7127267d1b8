//! What the scenarios share: a client that hears, and waits for what a scheduler has come to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message, Recipient};
use callboard::stats::{NodeState, NodeStats, Stats};
use callboard::{
    Execute, Handlers, Node, NodeHandle, Scheduler, Shutdown, TaskEvent, TaskId, TaskStatus,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::processes::{NodeProcess, PATIENCE};

/// A client, or a watcher, and what it has heard.
pub struct Listener<M: 'static> {
    addr: Addr<Ear<M>>,
    heard: UnboundedReceiver<M>,
}

struct Ear<M>(UnboundedSender<M>);

struct Die;

impl Message for Die {
    type Result = ();
}

impl<M: 'static> Actor for Ear<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + 'static> Handler<M> for Ear<M>
where
    M: Heard,
{
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Context<Self>) {
        // A test that has heard enough has dropped the other side.
        let _ = self.0.send(message);
    }
}

impl<M: 'static> Handler<Die> for Ear<M> {
    type Result = ();

    fn handle(&mut self, _: Die, context: &mut Context<Self>) {
        context.stop();
    }
}

/// What a listener may be told.
pub trait Heard {}

impl Heard for TaskStatus {}
impl Heard for TaskEvent {}

impl<M: Heard + Message<Result = ()> + Send + 'static> Listener<M> {
    pub fn start() -> Self {
        let (sender, heard) = unbounded_channel();
        let addr = Ear(sender).start();
        Self { addr, heard }
    }

    pub fn recipient(&self) -> Recipient<M> {
        self.addr.clone().recipient()
    }

    pub async fn next(&mut self) -> M {
        let next = timeout(PATIENCE, self.heard.recv()).await;
        next.expect("nothing was told")
            .expect("the listener is gone")
    }

    pub async fn take(&mut self, count: usize) -> Vec<M> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// Ends the actor and waits until it has.
    pub async fn die(mut self) -> Vec<M> {
        self.addr.send(Die).await.unwrap();
        let mut heard = Vec::new();
        while let Some(message) = self.heard.recv().await {
            heard.push(message);
        }
        heard
    }

    /// Counts what was heard that nobody has taken.
    pub fn left(&mut self) -> usize {
        self.heard.len()
    }
}

/// Starts a [`brisk`] scheduler of these processes, and its client.
pub async fn start(
    name: &str,
    nodes: impl IntoIterator<Item = &NodeProcess>,
) -> (Scheduler, Listener<TaskStatus>) {
    let client = Listener::start();
    let mut builder = Scheduler::builder(name)
        .client(client.recipient())
        .configure(brisk);
    for node in nodes {
        builder = builder.node(node.node());
    }
    (builder.start().await.unwrap(), client)
}

/// Describes a node of two workers in the scheduler's own process.
pub fn here(handlers: Handlers) -> Node {
    Node::local("here", handlers).max_workers(2).threads(1)
}

/// Returns what a scheduler that dials this node of the test's process is given.
pub fn connect(node: &NodeHandle) -> Node {
    Node::connect(node.name(), node.listen_addr().unwrap().to_string())
}

/// Waits for the endings of so many tasks, no task twice.
pub async fn endings(
    client: &mut Listener<TaskStatus>,
    count: usize,
) -> BTreeMap<TaskId, TaskStatus> {
    let mut endings = BTreeMap::new();
    for status in client.take(count).await {
        let again = endings.insert(status.id, status);
        assert!(again.is_none(), "told twice: {again:?}");
    }
    endings
}

/// Hands in all of them, which must be accepted.
pub async fn execute(
    scheduler: &Scheduler,
    tasks: impl IntoIterator<Item = Execute>,
) -> Vec<TaskId> {
    let answers = scheduler.execute_many(tasks.into_iter().collect()).await;
    answers.into_iter().map(Result::unwrap).collect()
}

/// Makes so many tasks of this kind with the same args.
pub fn calls<A: serde::Serialize + 'static>(count: usize, kind: &str, args: &A) -> Vec<Execute> {
    (0..count)
        .map(|_| Execute::named(kind, args).unwrap())
        .collect()
}

/// Waits until the scheduler has come to this. What is told by no message is asked for, again and
/// again.
pub async fn until(scheduler: &Scheduler, what: &str, holds: impl Fn(&Stats) -> bool) -> Stats {
    let mut last = None;
    let asking = async {
        loop {
            let stats = scheduler.stats().await.unwrap();
            if holds(&stats) {
                return stats;
            }
            last = Some(stats);
            // So that asking takes no core from what is waited for.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match timeout(PATIENCE, asking).await {
        Ok(stats) => stats,
        Err(_) => panic!("it never came to this: {what}; it came to {last:#?}"),
    }
}

pub async fn until_node(scheduler: &Scheduler, name: &str, state: NodeState) -> Stats {
    let what = format!("{name} is {state:?}");
    until(scheduler, &what, |stats| {
        find(stats, name).is_some_and(|node| node.state == state)
    })
    .await
}

pub fn find<'a>(stats: &'a Stats, name: &str) -> Option<&'a NodeStats> {
    stats.nodes.iter().find(|node| &*node.name == name)
}

/// Shuts down a scheduler that must have nothing left, not even a status.
pub async fn finish(scheduler: Scheduler) {
    let left = scheduler.shutdown(Shutdown::Drain(PATIENCE)).await.unwrap();
    assert!(
        left.unfinished.is_empty(),
        "unfinished: {:?}",
        left.unfinished
    );
    assert!(left.statuses.is_empty(), "not taken: {:?}", left.statuses);
}

/// Returns the runs of each task, in order, from the file of `log` tasks: the dispatch and the
/// node.
pub fn runs(file: &Path) -> BTreeMap<TaskId, Vec<(u64, String)>> {
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let id = TaskId::new(words[0].parse().unwrap());
        runs.entry(id)
            .or_default()
            .push((words[1].parse().unwrap(), words[2].to_owned()));
    }
    runs
}

/// Returns the nodes that the statuses name.
pub fn nodes_of<'a>(statuses: impl IntoIterator<Item = &'a TaskStatus>) -> BTreeSet<String> {
    statuses
        .into_iter()
        .filter_map(|status| status.node.as_deref().map(str::to_owned))
        .collect()
}

/// The lease of a [`brisk`] scheduler.
pub const LEASE: Duration = Duration::from_secs(2);

/// Proofs of life often enough that a loss is noticed within a test.
pub fn brisk(config: &mut callboard::SchedulerConfig) {
    config.heartbeat = Duration::from_millis(100);
    config.lease = LEASE;
}
