//! A scheduler with its nodes and its client, as a user sets them up.

use std::time::{Duration, Instant};

use actix::prelude::*;
#[cfg(feature = "store")]
use callboard::SchedulerBuilder;
use callboard::stats::NodeState;
use callboard::{Execute, Node, Outcome, Scheduler, Shutdown, TaskStatus};
#[cfg(feature = "store")]
use tempfile::TempDir;
use tokio::sync::oneshot;

#[cfg(feature = "tls")]
use super::certificates::Authority;
use super::helper::{Helper, handlers};

/// Where tasks run.
#[derive(Clone, Copy)]
pub enum Nodes {
    /// Those that join at the scheduler's address.
    Awaited,
    /// On one node of this process, with so many workers.
    Local { workers: u32 },
    /// In so many processes with so many nodes each.
    Remote {
        processes: u32,
        nodes: u32,
        workers: u32,
        tls: bool,
    },
}

impl Nodes {
    pub fn remote(processes: u32, nodes: u32, workers: u32) -> Self {
        Self::Remote {
            processes,
            nodes,
            workers,
            tls: false,
        }
    }

    /// Puts links to other processes under TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        if let Self::Remote { tls, .. } = &mut self {
            *tls = true;
        }
        self
    }
}

/// Where a scheduler keeps its tasks.
#[cfg(feature = "store")]
pub struct Kept {
    folder: TempDir,
    at_once: bool,
}

/// Without a store there is no such place.
#[cfg(not(feature = "store"))]
pub enum Kept {}

#[cfg(feature = "store")]
impl Kept {
    /// Keeps the tasks in a file of this folder.
    pub fn new(folder: TempDir) -> Self {
        Self {
            folder,
            at_once: false,
        }
    }

    /// Statuses do not wait for it.
    pub fn tell_at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    fn store(&self, builder: SchedulerBuilder) -> SchedulerBuilder {
        let store = callboard::Store::file(self.folder.path().join("tasks"));
        builder.store(store).configure(|config| {
            config.tell_at_once = self.at_once;
            config.max_unstored_bytes = 1 << 34;
        })
    }
}

/// A scheduler, its helpers, and the thread of its client.
pub struct Board {
    pub scheduler: Scheduler,
    arbiter: Arbiter,
    helpers: Vec<Helper>,
    /// Removed at the end.
    _kept: Option<Kept>,
}

impl Board {
    /// Starts them and waits until all nodes are up.
    pub async fn start(
        arbiter: Arbiter,
        client: impl Into<callboard::Client>,
        nodes: Nodes,
        kept: Option<Kept>,
    ) -> Self {
        let builder = Scheduler::unnamed().client(client).configure(|config| {
            config.max_tasks = 20_000_000;
            config.max_args_bytes = 1 << 34;
            // What is sent without waiting must not be refused because the client is behind.
            config.max_statuses = 20_000_000;
        });
        #[cfg(feature = "store")]
        let builder = match &kept {
            Some(kept) => kept.store(builder),
            None => builder,
        };
        let mut helpers = Vec::new();
        let scheduler = match nodes {
            Nodes::Local { workers } => {
                let node = Node::local("local", handlers())
                    .max_workers(workers)
                    .threads(1);
                builder.node(node).start().await.expect("it starts")
            }
            Nodes::Awaited => {
                let started = builder.listen("127.0.0.1:0").start().await;
                started.expect("it starts")
            }
            Nodes::Remote {
                processes,
                nodes,
                workers,
                tls,
            } => {
                #[cfg(feature = "tls")]
                let (builder, authority) = secure(builder, tls, processes * nodes);
                #[cfg(feature = "tls")]
                let certificates = authority.as_ref().map(Authority::directory);
                #[cfg(not(feature = "tls"))]
                let (certificates, _) = (None, tls);
                let started = builder.listen("127.0.0.1:0").start().await;
                let scheduler = started.expect("it starts");
                let address = scheduler.listen_addr().expect("it listens");
                for process in 0..processes {
                    let first = process * nodes;
                    helpers.push(Helper::spawn(
                        &[address],
                        first,
                        nodes,
                        workers,
                        certificates,
                    ));
                }
                wait_for(&scheduler, processes * nodes).await;
                scheduler
            }
        };
        Self {
            scheduler,
            arbiter,
            helpers,
            _kept: kept,
        }
    }

    /// Ends it with tasks that nobody was to run.
    #[cfg(feature = "dashboard")]
    pub async fn abandon(self) {
        let ended = self.scheduler.shutdown(Shutdown::Now).await;
        ended.expect("it runs");
        self.arbiter.stop();
    }

    pub async fn end(self) {
        let ended = self.scheduler.shutdown(Shutdown::Now).await;
        let left = ended.expect("it runs").unfinished;
        // Who was told of one twice was not told of another.
        assert!(left.is_empty(), "unfinished: {left:?}");
        self.arbiter.stop();
    }
}

/// Gives the scheduler a certificate, and one to each of so many nodes, if that is asked for.
#[cfg(feature = "tls")]
fn secure(
    builder: callboard::SchedulerBuilder,
    tls: bool,
    nodes: u32,
) -> (callboard::SchedulerBuilder, Option<Authority>) {
    if !tls {
        return (builder, None);
    }
    let authority = Authority::new();
    for node in 0..nodes {
        authority.issue(&format!("node{node}"));
    }
    // The name of one that has none.
    (builder.tls(authority.issue("callboard")), Some(authority))
}

/// Waits until so many nodes are up.
pub async fn wait_for(scheduler: &Scheduler, nodes: u32) {
    loop {
        let stats = scheduler.stats().await.expect("it runs");
        let up = stats
            .nodes
            .iter()
            .filter(|node| node.state == NodeState::Up);
        if up.count() >= nodes as usize {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Decodes outputs and counts endings.
struct Client {
    left: u64,
    /// How many are left when the mark is reached.
    mark: u64,
    reached: Option<oneshot::Sender<()>>,
    done: Option<oneshot::Sender<()>>,
}

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        match &status.outcome {
            // The body is the output as it is.
            Outcome::Completed(body) if body.len() > 16 => {}
            Outcome::Completed(_) => {
                std::hint::black_box(status.output::<u64>().expect("a number"));
            }
            other => panic!("a task of the bench {other}"),
        }
        self.left -= 1;
        let told = match self.left {
            0 => self.done.take(),
            left if left == self.mark => self.reached.take(),
            _ => None,
        };
        if let Some(told) = told {
            // The bench waits for it, or has no use for a mark.
            let _ = told.send(());
        }
    }
}

/// A board whose client hears so many endings.
pub struct Counted {
    board: Board,
    count: u64,
    reached: oneshot::Receiver<()>,
    done: oneshot::Receiver<()>,
}

impl Counted {
    pub async fn start(count: u64, nodes: Nodes) -> Self {
        Self::start_with_mark(count, count / 3, nodes).await
    }

    /// Starts one with a client that confirms each status by itself, which is the default.
    pub async fn start_each(count: u64, nodes: Nodes) -> Self {
        Self::start_so(count, count / 3, nodes, true, None).await
    }

    /// Starts one with a mark that is reached when so many are done.
    pub async fn start_with_mark(count: u64, mark: u64, nodes: Nodes) -> Self {
        Self::start_so(count, mark, nodes, false, None).await
    }

    /// Starts one with a store.
    #[cfg(feature = "store")]
    pub async fn start_kept(count: u64, nodes: Nodes, kept: Kept) -> Self {
        Self::start_so(count, count / 3, nodes, false, Some(kept)).await
    }

    async fn start_so(count: u64, mark: u64, nodes: Nodes, each: bool, kept: Option<Kept>) -> Self {
        let ((tx_reached, reached), (tx_done, done)) = (oneshot::channel(), oneshot::channel());
        let arbiter = Arbiter::new();
        let client = Client::start_in_arbiter(&arbiter.handle(), move |_| Client {
            left: count,
            mark: count - mark,
            reached: Some(tx_reached),
            done: Some(tx_done),
        });
        let client = if each {
            client.recipient().into()
        } else {
            callboard::Client::in_groups(&client)
        };
        let board = Board::start(arbiter, client, nodes, kept).await;
        Self {
            board,
            count,
            reached,
            done,
        }
    }

    pub fn scheduler(&self) -> &Scheduler {
        &self.board.scheduler
    }

    /// Sends all, one by one, without waiting.
    pub fn send_all(&self, mut execute: impl FnMut(u64) -> Execute) {
        for n in 0..self.count {
            self.board.scheduler.addr().do_send(execute(n));
        }
    }

    /// Waits until the mark is reached, by default a third.
    pub async fn mark(&mut self) {
        (&mut self.reached).await.expect("the client lives");
    }

    /// Kills one of its helpers.
    pub fn kill_one(&mut self) {
        self.board.helpers[0].kill();
    }

    /// Waits until all are done, and gives the rate since then.
    pub async fn rate_since(self, began: Instant) -> f64 {
        let (rate, board) = self.rate_and_board(began).await;
        board.end().await;
        rate
    }

    /// Does the same, and leaves the board.
    pub async fn rate_and_board(self, began: Instant) -> (f64, Board) {
        self.done.await.expect("the client lives");
        let rate = self.count as f64 / began.elapsed().as_secs_f64();
        (rate, self.board)
    }

    pub async fn end(self) {
        self.board.end().await;
    }
}
