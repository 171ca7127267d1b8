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
//! cargo bench --bench soak -- [--minutes M | --seconds S] [--seed S] [--nodes N] [--store]
//!     [--tls]
//! ```
//!
//! `--nodes` (20) processes on loopback, each reached through a proxy that can fail, are given
//! 100,000 tasks for each minute (one if nothing is said), by a process of the scheduler, which
//! hands them in to itself. `--seed` draws the same faults and tasks again. With `--store` the
//! scheduler has a store, its process is killed and started again too, and all holds over that.
//! With `--tls` the links are TLS.
//!
//! **What you will see.** The seed, a line every so often, a table, and, if anything was wrong,
//! what; then the exit status is 1. It is 2 if it could not be run, 130 after Ctrl-C.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::Cluster;
use credentials::Credentials;
use journal::now;
use keeper::Keeper;
use ledger::Ledger;
use processes::{NODE_PROCESS, Processes};
use report::Report;
use scheduler::Setup;
use settings::Settings;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

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
#[path = "keeper.rs"]
mod keeper;
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
#[path = "scheduler.rs"]
mod scheduler;
#[path = "settings.rs"]
mod settings;
#[path = "../../tests/restarts/starts.rs"]
mod starts;
#[path = "words.rs"]
mod words;

type AnyError = Box<dyn Error>;

/// The scheduler's.
const NAME: &str = "soak";
/// How often a node proves that it lives, and how long that holds: short, so that many leases end
/// in a run, and long enough for 20 processes on two cores.
const HEARTBEAT: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(5);
/// Where the scheduler is: nobody who dials from the address that all else has can take its port
/// while it is down.
const PLACE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How often it is said how far it is.
const NEWS: Duration = Duration::from_secs(15);

/// The clock of the journals, in seconds, so that a log can be read beside them.
struct MachineTime;

impl FormatTime for MachineTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{:.6}", now() as f64 / 1e9)
    }
}

#[actix::main]
async fn main() -> ExitCode {
    // RUST_LOG=callboard=info tells what the scheduler and the nodes see.
    tracing_subscriber::fmt()
        .with_timer(MachineTime)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    let mut args = std::env::args_os().skip(1).peekable();
    let running = async {
        if args.next_if(|arg| arg == NODE_PROCESS).is_some() {
            let args = args.collect::<Vec<_>>();
            match &args[..] {
                [name, setup] if name == NAME => {
                    let setup = setup.to_str().ok_or("it is not UTF-8")?;
                    scheduler::serve(setup).await?;
                }
                _ => node::serve(&args).await?,
            }
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
        // Dropping the other future has ended all processes.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn soak(settings: &Settings) -> Result<ExitCode, AnyError> {
    println!("seed {}", settings.seed);
    let folder = tempfile::tempdir()?;
    let processes = Processes::new()?;
    let secret = processes.secret.clone();
    let names = (0..settings.nodes).map(cluster::name);
    let credentials = Credentials::new(settings.tls, NAME, names);
    let certificates = credentials.directory();
    let address = TcpListener::bind((PLACE, 0))?.local_addr()?;
    let mut cluster = Cluster::start(
        processes,
        settings.nodes,
        address,
        folder.path(),
        certificates,
    )
    .await?;
    let setup = Setup {
        listen: address,
        store: settings.store.then(|| folder.path().join("tasks.redb")),
        certificates: certificates.map(ToOwned::to_owned),
        seed: settings.seed,
        tasks: settings.tasks,
        length: settings.length,
        began: now(),
        first: 0,
    };
    let ledger = Arc::new(Ledger::default());
    let mut keeper = Keeper::start(setup, &secret, &ledger).await?;
    let plan = plan::draw(settings.seed, settings.length, settings.nodes);
    let outages = match settings.store {
        true => plan::draw_outages(settings.seed, settings.length),
        false => Vec::new(),
    };

    let third = Cell::new(None);
    let working = async { tokio::try_join!(keeper.suffer(&outages), cluster.suffer(&plan)) };
    tokio::select! {
        done = working => {
            done?;
        }
        () = tell(&ledger, settings, &third) => {}
        gone = ledger.until(|_| false) => gone?,
    }
    let Cluster {
        lives,
        faults,
        troubles,
        ..
    } = cluster;
    let book = ledger.book();
    let report = Report {
        judgement: judge::judge(&lives, &troubles, &keeper.restarts, &book)?,
        faults,
        third: third.get().ok_or("it was over too soon")?,
        wrong: Vec::new(),
    };
    Ok(report.print(&book))
}

/// Says how far it is, and notes what memory is taken at a third. Never returns.
async fn tell(ledger: &Ledger, settings: &Settings, third: &Cell<Option<u64>>) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut news = NEWS;
    loop {
        ticks.tick().await;
        let elapsed = started.elapsed();
        let book = ledger.book();
        if third.get().is_none() && elapsed >= settings.length / 3 {
            third.set(Some(book.state.memory));
        }
        if elapsed >= news {
            news += NEWS;
            println!(
                "{:>5} s: {} accepted, {} settled, {} KiB",
                elapsed.as_secs(),
                book.accepted.len(),
                book.settled_count(),
                book.state.memory >> 10
            );
        }
    }
}
