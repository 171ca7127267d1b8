//! A soak: a cluster of processes at work for a while, of which one or another is always killed,
//! frozen or cut off.
//!
//! **What it measures.** What the library promises, held for long and under faults: every accepted
//! task settles once, as it should; nothing settles that was not accepted; exclusive tasks never
//! overlap; a fault shorter than the lease reruns nothing; no node runs more than its workers; and
//! the scheduler's memory does not grow.
//!
//! **How to run it.**
//!
//! ```text
//! cargo bench --bench soak -- [--minutes M] [--seed S] [--nodes N] [--tls]
//! ```
//!
//! `--nodes` (20) processes on loopback, each reached through a proxy that can fail, are given
//! 100,000 tasks for each of `--minutes` (1). `--seed` draws the same faults and tasks again. With
//! `--tls` the links are TLS.
//!
//! **What you will see.** The seed, a line every so often, a table, and, if anything was wrong,
//! what; then the exit status is 1. It is 2 if it could not be run, 130 after Ctrl-C.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use callboard::{Scheduler, Shutdown, TaskStatus};

use cluster::Cluster;
use credentials::Credentials;
use ledger::Ledger;
use processes::{NODE_PROCESS, Processes};
use report::Report;
use settings::Settings;

#[cfg(feature = "tls")]
#[path = "../../tests/certificates/mod.rs"]
mod certificates;
#[path = "cluster.rs"]
mod cluster;
#[path = "credentials.rs"]
mod credentials;
#[path = "journal.rs"]
mod journal;
#[path = "judge.rs"]
mod judge;
#[path = "ledger.rs"]
mod ledger;
#[path = "load.rs"]
mod load;
#[path = "node.rs"]
mod node;
#[path = "plan.rs"]
mod plan;
#[path = "../../examples/digest/processes.rs"]
mod processes;
#[path = "proxy.rs"]
mod proxy;
#[path = "report.rs"]
mod report;
#[path = "settings.rs"]
mod settings;

type AnyError = Box<dyn Error>;

/// The scheduler's.
const NAME: &str = "soak";
/// How often a node proves that it lives, and how long that holds: short, so that many leases end
/// in a run, and long enough for 20 processes on two cores.
const HEARTBEAT: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(5);
/// What the last tasks get to settle after the last fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is said how far it is.
const NEWS: Duration = Duration::from_secs(15);

#[actix::main]
async fn main() -> ExitCode {
    // RUST_LOG=callboard=info tells what the scheduler and the nodes see.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    let mut args = std::env::args_os().skip(1).peekable();
    let running = async {
        if args.next_if(|arg| arg == NODE_PROCESS).is_some() {
            node::serve(&args.collect::<Vec<_>>()).await?;
            return Ok(ExitCode::SUCCESS);
        }
        match Settings::parse(args)? {
            Some(settings) => soak(&settings).await,
            None => Ok(ExitCode::SUCCESS),
        }
    };
    tokio::select! {
        ended = running => ended.unwrap_or_else(|error: AnyError| {
            eprintln!("soak: {error}");
            ExitCode::from(2)
        }),
        // Dropping the other future has ended the processes of the nodes.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

/// Hears how each task ended.
struct Client(Arc<Ledger>);

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        self.0.settled(&status, load::objection(&status));
    }
}

async fn soak(settings: &Settings) -> Result<ExitCode, AnyError> {
    println!("seed {}", settings.seed);
    let folder = tempfile::tempdir()?;
    let processes = Processes::new()?;
    let names = (0..settings.nodes).map(cluster::name);
    let credentials = Credentials::new(settings.tls, NAME, names);
    let ledger = Arc::new(Ledger::new(settings.tasks * 5 / 4));
    let scheduler = credentials
        .of_scheduler(Scheduler::builder(NAME), NAME, &processes.secret)
        .listen("127.0.0.1:0")
        .configure(|config| {
            config.heartbeat = HEARTBEAT;
            config.lease = LEASE;
        })
        .client(Client(Arc::clone(&ledger)).start().recipient())
        .start()
        .await?;
    let address = scheduler.listen_addr().ok_or("it does not listen")?;
    let certificates = credentials.directory();
    let mut cluster = Cluster::start(
        processes,
        settings.nodes,
        address,
        folder.path(),
        certificates,
    )
    .await?;
    let plan = plan::draw(settings.seed, settings.length, settings.nodes);

    let third = Cell::new(None);
    let working = async {
        tokio::try_join!(
            load::hand_in(&scheduler, &ledger, settings),
            cluster.suffer(&plan),
        )
    };
    tokio::select! {
        done = working => {
            done?;
        }
        () = tell(&ledger, settings, &third) => {}
    }
    let settled = tokio::time::timeout(PATIENCE, all_told(&scheduler, &ledger)).await;
    let memory = [
        third.get().ok_or("it was over too soon")?,
        report::memory()?,
    ];
    let mut wrong = Vec::new();
    match settled {
        Ok(ended) => ended?,
        Err(_) => wrong.extend(report::unfinished(&scheduler).await?),
    }
    let stats = scheduler.stats().await?;
    scheduler.shutdown(Shutdown::Now).await?;
    let Cluster {
        lives,
        faults,
        troubles,
        ..
    } = cluster;
    let report = Report {
        judgement: judge::judge(&lives, &troubles)?,
        faults,
        memory,
        wrong,
    };
    Ok(report.print(&ledger, &stats))
}

/// Says how far it is, and notes what memory is taken at a third. Never returns.
async fn tell(ledger: &Ledger, settings: &Settings, third: &Cell<Option<u64>>) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut news = NEWS;
    loop {
        ticks.tick().await;
        let elapsed = started.elapsed();
        if third.get().is_none() && elapsed >= settings.length / 3 {
            third.set(report::memory().ok());
        }
        if elapsed >= news {
            news += NEWS;
            let [accepted, settled, ..] = ledger.counts();
            let memory = report::memory().unwrap_or_default() >> 10;
            println!(
                "{:>5} s: {accepted} accepted, {settled} settled, {memory} KiB",
                elapsed.as_secs()
            );
        }
    }
}

/// Waits until all that was accepted has settled, and the client has handled it.
async fn all_told(scheduler: &Scheduler, ledger: &Ledger) -> Result<(), AnyError> {
    loop {
        let [accepted, settled, ..] = ledger.counts();
        let stats = scheduler.stats().await?;
        if settled >= accepted && stats.unconfirmed_statuses == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
