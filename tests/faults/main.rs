//! Real processes on a network that really fails: what is promised of faults, judged by what the
//! runs of tasks have written down.
//!
//! Needs root, `ip`, `tc`, `ss` (iproute2) and `nft` (nftables). Where they cannot be had, the run
//! says so and is skipped; with `CALLBOARD_FAULTS=required` it fails instead, and with
//! `CALLBOARD_FAULTS=skip` it is skipped anywhere. `CALLBOARD_FAULTS_MINUTE=1` lets the link flap
//! for a whole minute. Words on the command line choose the scenarios whose names have one of them.
//!
//! Each scenario has a network of its own: a scheduler and five nodes, each in its own namespace.
//! Scenarios run side by side, since they mostly wait. At the end there is a table. Times are
//! judged with some patience, for a loaded machine: what misses the promise by little is marked,
//! and what misses it by more is tried once more when the others are done. Then it fails the run.

#![allow(clippy::unwrap_used, reason = "tests")]

#[cfg(feature = "tls")]
#[path = "../certificates/mod.rs"]
mod certificates;
mod cluster;
mod credentials;
mod double;
mod judge;
mod network;
mod planted;
#[path = "../processes/mod.rs"]
mod processes;
mod proxy;
mod record;
mod scheduler;
mod strikes;
mod table;
mod work;

use std::any::Any;
use std::env;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::{FutureExt, StreamExt, stream};

use cluster::{Cluster, NODES};
use judge::{Course, Figures};
use network::{Available, Host, Network};
use strikes::Fault;
use table::Row;

/// The tasks of a scenario.
const TASKS: u64 = 2_000;
/// Those among them that are handed in when the fault is over, so that all workers have something
/// to do.
const AFTER: u64 = 400;
/// So many have settled when the fault begins.
const BEFORE: usize = 200;
/// Scenarios at once: they mostly wait.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    scheduler::act_if_told();
    if env::var_os(work::LEDGER).is_some() {
        processes::act_if_told_with(work::handlers);
        return ExitCode::SUCCESS;
    }
    planted::try_the_judge();
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if env::args().any(|word| word == "--list") {
        return list();
    }
    let wish = env::var("CALLBOARD_FAULTS").unwrap_or_default();
    let available = match wish.as_str() {
        "skip" => Err("CALLBOARD_FAULTS=skip says so".to_owned()),
        _ => network::available(),
    };
    let required = wish == "required";
    let available = match available {
        Ok(available) => available,
        Err(reason) => {
            println!("The faults are not tried: {reason}.");
            return match required {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            };
        }
    };
    let chosen =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let mut scenarios = scenarios();
    scenarios.retain(|one| chosen(&one.name));
    if let Err(reason) = &available.resets {
        scenarios.retain(|one| required || one.possible(reason));
    }
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let rows = runtime.unwrap().block_on(run(&scenarios, &available));
    println!("{}", table::print(&rows, start.elapsed()));
    let left = network::left_over();
    assert!(left.is_empty(), "namespaces are left: {left:?}");
    match rows.iter().all(|row| row.failed.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs all of them, and those again, alone, that had nothing but late times.
async fn run(scenarios: &[Scenario], available: &Available) -> Vec<Row> {
    let networks = &Networks::default();
    let running = stream::iter(scenarios.iter().enumerate())
        .map(|(place, scenario)| async move { (place, scenario.run(available, networks).await) })
        .buffer_unordered(AT_ONCE);
    let mut rows: Vec<(usize, Row)> = running.collect().await;
    rows.sort_by_key(|(place, _)| *place);
    for (place, row) in rows.iter_mut().filter(|(_, row)| row.only_late) {
        *row = scenarios[*place].run(available, networks).await;
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

fn list() -> ExitCode {
    for scenario in scenarios() {
        println!("{}: test", scenario.name);
    }
    ExitCode::SUCCESS
}

/// The networks of all scenarios, which stay until the last has ended: to remove one holds the
/// kernel up for seconds, and with it the end of a short cut elsewhere.
type Networks = Mutex<Vec<Arc<Network>>>;

/// A fault under load.
struct Scenario {
    name: String,
    fault: Fault,
    /// Whether a drain and the shutdown come in the middle.
    ending: bool,
}

/// Returns each fault for itself, and each with drain and shutdown in its middle.
fn scenarios() -> Vec<Scenario> {
    let one = |fault: Fault, ending| Scenario {
        name: match ending {
            true => format!("{}; drain and shutdown in it", fault.name),
            false => fault.name.to_owned(),
        },
        fault,
        ending,
    };
    let faults = strikes::all();
    let whole = faults.iter().map(|&fault| one(fault, false));
    let ending = faults.iter().map(|&fault| one(fault, true));
    whole.chain(ending).collect()
}

impl Scenario {
    /// Returns whether it can be tried where connections cannot be reset for this reason; it says
    /// so if not.
    fn possible(&self, reason: &str) -> bool {
        if self.fault.resets {
            println!("{}: not tried: {reason}.", self.name);
        }
        !self.fault.resets
    }

    async fn run(&self, available: &Available, networks: &Networks) -> Row {
        let start = Instant::now();
        let result = match &available.resets {
            Err(reason) if self.fault.resets => Err(format!("it cannot be tried: {reason}")),
            _ => {
                let result = AssertUnwindSafe(self.judged(networks)).catch_unwind().await;
                result.unwrap_or_else(|panic| Err(message(&*panic)))
            }
        };
        let took = start.elapsed();
        let row = Row::new(&self.name, self.ending, took, result);
        eprintln!("{}", row.progress());
        row
    }

    async fn judged(&self, networks: &Networks) -> Result<(Course, Figures), String> {
        let mut hosts = vec![Host::Scheduler, Host::Proxy, Host::Stranger];
        hosts.extend((0..NODES).map(Host::Node));
        let network = tokio::task::spawn_blocking(move || Network::new(&hosts));
        let network = Arc::new(network.await.unwrap()?);
        networks.lock().unwrap().push(Arc::clone(&network));
        let mean = self.fault.mean;
        let mut cluster =
            Cluster::start(self.fault.shape, self.fault.delay, network, self.ending).await;
        let mut course = Course {
            nodes: u32::from(NODES),
            cut_off: self.ending,
            ..Course::default()
        };
        let first = if self.ending { TASKS } else { TASKS - AFTER };
        cluster.execute(&format!("execute 0 {first} {mean}")).await;
        cluster.until_settled(BEFORE).await;
        (self.fault.strike)(&mut cluster, &mut course).await;
        if !self.ending {
            let rest = format!("execute {first} {TASKS} {mean}");
            cluster.execute(&rest).await;
            let accepted = cluster.told().accepted.len();
            cluster.until_settled(accepted).await;
        }
        cluster.shut_down().await;
        cluster.stop_nodes();
        let figures = judge::judge(&cluster, &course, mean);
        if !(figures.broken.is_empty() && figures.missed.is_empty()) {
            cluster.keep(&self.name);
        }
        Ok((course, figures))
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
