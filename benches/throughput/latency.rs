//! One task at a time: the client sends the next when it has handled the status of the last.

use std::time::Instant;

use actix::prelude::*;
use callboard::{Execute, Scheduler, SchedulerActor, TaskStatus};
use tokio::sync::oneshot;

use super::Scale;
use super::board::{Board, Kept, Nodes};

/// A tenth as many go first, uncounted.
const WARM_UP: u64 = 10;

/// Takes the time of so many round trips, then tells.
pub struct Spans {
    began: Instant,
    micros: Vec<f64>,
    warm_up: u64,
    left: u64,
    done: Option<oneshot::Sender<Vec<f64>>>,
}

impl Spans {
    pub fn new(count: u64) -> (Self, oneshot::Receiver<Vec<f64>>) {
        let (done, told) = oneshot::channel();
        let spans = Self {
            began: Instant::now(),
            micros: Vec::new(),
            warm_up: count / WARM_UP,
            left: count,
            done: Some(done),
        };
        (spans, told)
    }

    pub fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Ends a span. Returns whether there are more to come.
    pub fn end(&mut self) -> bool {
        let span = self.began.elapsed().as_secs_f64() * 1e6;
        if self.warm_up > 0 {
            self.warm_up -= 1;
            return true;
        }
        self.micros.push(span);
        self.left -= 1;
        if self.left == 0
            && let Some(done) = self.done.take()
        {
            // The bench waits for it.
            let _ = done.send(std::mem::take(&mut self.micros));
        }
        self.left > 0
    }
}

/// Returns p50, p99 and p999.
pub fn percentiles(mut spans: Vec<f64>) -> [f64; 3] {
    [0.5, 0.99, 0.999].map(|share| percentile(&mut spans, share))
}

pub fn percentile(spans: &mut [f64], share: f64) -> f64 {
    spans.sort_by(f64::total_cmp);
    let at = (spans.len() as f64 * share) as usize;
    spans[at.min(spans.len() - 1)]
}

struct Client {
    scheduler: Option<Addr<SchedulerActor>>,
    spans: Spans,
    n: u64,
}

impl Actor for Client {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Begin(Scheduler);

impl Handler<Begin> for Client {
    type Result = ();

    fn handle(&mut self, begin: Begin, _: &mut Self::Context) {
        self.scheduler = Some(begin.0.addr().clone());
        self.send();
    }
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        self.n += 1;
        let output = status.output::<u64>().expect("a number");
        let more = self.spans.end();
        assert_eq!(output, self.n);
        if more {
            self.send();
        }
    }
}

impl Client {
    fn send(&mut self) {
        self.spans.begin();
        if let Some(scheduler) = &self.scheduler {
            scheduler.do_send(Execute::named("next", &self.n).expect("a number"));
        }
    }
}

/// A client that has not begun.
pub struct Ready {
    client: Addr<Client>,
    told: oneshot::Receiver<Vec<f64>>,
}

impl Ready {
    /// Sends one task after the other, and returns what each took.
    pub async fn take(self, board: &Board) -> Vec<f64> {
        self.client.do_send(Begin(board.scheduler.clone()));
        self.told.await.expect("the client lives")
    }
}

/// Starts a board with a client that will send so many.
pub async fn start(count: u64, nodes: Nodes, kept: Option<Kept>) -> (Board, Ready) {
    let (spans, told) = Spans::new(count);
    let arbiter = Arbiter::new();
    let client = Client::start_in_arbiter(&arbiter.handle(), |_| Client {
        scheduler: None,
        spans,
        n: 0,
    });
    let board = Board::start(arbiter, client.clone().recipient(), nodes, kept).await;
    (board, Ready { client, told })
}

pub fn latency(count: u64, nodes: Nodes, kept: Option<Kept>) -> [f64; 3] {
    System::new().block_on(async move {
        let (board, ready) = start(count, nodes, kept).await;
        let spans = ready.take(&board).await;
        board.end().await;
        percentiles(spans)
    })
}

pub fn local(scale: &Scale) -> [f64; 3] {
    latency(scale.of(20_000), Nodes::Local { workers: 10 }, None)
}

pub fn remote(scale: &Scale) -> [f64; 3] {
    latency(scale.of(20_000), Nodes::remote(1, 1, 10), None)
}

#[cfg(feature = "tls")]
pub fn tls(scale: &Scale) -> [f64; 3] {
    latency(scale.of(20_000), Nodes::remote(1, 1, 10).tls(), None)
}
