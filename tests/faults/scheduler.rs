//! The scheduler's process: a scheduler that is told what to do by lines and tells by lines what
//! happens.
//!
//! Owns: both ends of these lines. What it tells carries the time at which it was told. Does not
//! know: the network, or what is done to it.

use std::collections::BTreeMap;
use std::env;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use callboard::stats::NodeState;
use callboard::status::TaskEventKind;
use callboard::{Execute, Node, Outcome, Scheduler, Shutdown, TaskEvent, TaskStatus};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::credentials;
use crate::processes;
use crate::work::{Output, Planned, RETRY, now};

/// What a scheduler's process is to be, as JSON would say it; here it is MessagePack in hexadecimal
/// digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub heartbeat: Duration,
    pub lease: Duration,
    /// Where its certificate is, if it has one.
    pub certificates: Option<PathBuf>,
    /// The nodes that it dials: names and addresses.
    pub nodes: Vec<(String, String)>,
}

const SETUP: &str = "CALLBOARD_FAULTS_SCHEDULER";
/// The secret of every cluster here.
pub const SECRET: &str = "the secret of the faults";
/// The name of every scheduler here.
pub const NAME: &str = "faults";
/// Where a scheduler listens for those that join.
pub const PORT: u16 = 7100;

impl Setup {
    pub fn env(&self) -> (&'static str, String) {
        let bytes = rmp_serde::to_vec(self).unwrap();
        (
            SETUP,
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        )
    }

    fn read(digits: &str) -> Self {
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        rmp_serde::from_slice(&bytes).unwrap()
    }
}

/// A node is told to have been heard again when so much has passed, in nanoseconds: less than the
/// shortest heartbeat by far.
const HEARD_AGAIN: u64 = 20_000_000;

struct Teller;

impl Actor for Teller {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // Whatever waits here is bounded by the tasks of a scenario.
        context.set_mailbox_capacity(1 << 16);
    }
}

impl Handler<TaskStatus> for Teller {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        let (outcome, dispatch) = match &status.outcome {
            Outcome::Completed(_) => {
                let (dispatch, _) = status.output::<Output>().unwrap();
                ("completed".to_owned(), dispatch)
            }
            Outcome::Failed(failure) => (format!("failed:{:?}", failure.cause), 0),
            Outcome::Cancelled => ("cancelled".to_owned(), 0),
            other => (format!("{other:?}").replace(' ', "_"), 0),
        };
        println!(
            "status {} {} {outcome} {} {} {} {dispatch}",
            now(),
            status.id.get(),
            status.attempts,
            status.reroutes,
            status.is_given_again(),
        );
    }
}

impl Handler<TaskEvent> for Teller {
    type Result = ();

    fn handle(&mut self, told: TaskEvent, _: &mut Self::Context) {
        if let TaskEventKind::Rerouted { node } = told.event {
            println!("rerouted {} {} {node}", now(), told.id.get());
        }
    }
}

/// Acts as a scheduler if this process was started as one, and otherwise returns at once.
pub fn act_if_told() {
    let Ok(setup) = env::var(SETUP) else { return };
    processes::end_with_the_test();
    let (commands, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = commands.send(line);
        }
        std::process::exit(3);
    });
    actix::System::new().block_on(serve(Setup::read(&setup), orders));
    std::process::exit(0);
}

async fn serve(setup: Setup, mut orders: mpsc::UnboundedReceiver<String>) {
    let teller = Teller.start();
    let mut builder = Scheduler::builder(NAME)
        .listen(format!("0.0.0.0:{PORT}"))
        .client(teller.clone().recipient())
        .retry(RETRY)
        .configure(|config| (config.heartbeat, config.lease) = (setup.heartbeat, setup.lease));
    builder = credentials::of_scheduler(builder, NAME, setup.certificates.as_deref());
    for (name, address) in setup.nodes {
        builder = builder.node(Node::connect(name, address));
    }
    let scheduler = builder.start().await.unwrap();
    println!("ready");
    actix::spawn(tell_of_nodes(scheduler.clone()));
    while let Some(order) = orders.recv().await {
        let words: Vec<&str> = order.split(' ').collect();
        let number = |at: usize| -> u64 { words[at].parse().unwrap() };
        match words[0] {
            "execute" => {
                let planned =
                    (number(1)..number(2)).map(|n| (n, Planned::new(n, number(3)).execute()));
                accept(&scheduler, &teller, planned.collect()).await;
            }
            "large" => {
                let body = Bytes::from(vec![7; number(3) as usize]);
                let planned = (number(1)..number(2)).map(|n| {
                    // Numbers from a multiple of 20 on are plain tasks.
                    let args = (Planned::new(n * 20, 10).work, body.clone());
                    (
                        n * 20,
                        Execute::named("large", &args).unwrap().label(words[4]),
                    )
                });
                accept(&scheduler, &teller, planned.collect()).await;
            }
            "drain" => {
                // It may be gone already.
                let answer = scheduler.drain_node(words[1]).await;
                println!("draining {} {:?}", words[1], answer.is_ok());
            }
            "shutdown" => return end(&scheduler, number(1)).await,
            other => panic!("what is {other}?"),
        }
    }
}

async fn accept(scheduler: &Scheduler, teller: &actix::Addr<Teller>, planned: Vec<(u64, Execute)>) {
    let (numbers, tasks): (Vec<_>, Vec<_>) = planned
        .into_iter()
        .map(|(n, task)| (n, task.watch(teller.clone().recipient())))
        .unzip();
    for (n, answer) in numbers.into_iter().zip(scheduler.execute_many(tasks).await) {
        println!("accepted {} {} {n}", now(), answer.unwrap().get());
    }
    println!("batch");
}

/// Tells whenever something else is known of a node, and now and then when it was heard.
async fn tell_of_nodes(scheduler: Scheduler) {
    let mut told: BTreeMap<Arc<str>, (String, Option<u64>)> = BTreeMap::new();
    let mut told_heard: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    while let Ok(stats) = scheduler.stats().await {
        for node in stats.nodes {
            let heard = node.last_heard.filter(|_| node.state == NodeState::Up);
            if let Some(ago) = heard.and_then(|heard| heard.elapsed().ok()) {
                let heard = now().saturating_sub(ago.as_nanos() as u64);
                let last = told_heard.entry(node.name.clone()).or_default();
                if heard >= *last + HEARD_AGAIN {
                    println!("heard {heard} {}", node.name);
                    *last = heard;
                }
            }
            let state = (
                format!("{:?} {}", node.state, node.reason),
                node.incarnation,
            );
            if told.get(&node.name) != Some(&state) {
                let incarnation = node.incarnation.unwrap_or(0);
                println!("node {} {} {incarnation} {}", now(), node.name, state.0);
                told.insert(node.name, state);
            }
        }
        // Nothing tells of a node that is heard, so it is asked for.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn end(scheduler: &Scheduler, drain_millis: u64) {
    let totals = scheduler.stats().await.unwrap().totals;
    let how = match drain_millis {
        0 => Shutdown::Now,
        millis => Shutdown::Drain(Duration::from_millis(millis)),
    };
    let left = scheduler.shutdown(how).await.unwrap();
    println!("totals {} {}", totals.stale_reports, totals.violations);
    for task in &left.unfinished {
        println!("left {}", task.id.get());
    }
    for status in &left.statuses {
        println!("untold {} {}", status.id.get(), status.is_given_again());
    }
    println!("ended");
}
