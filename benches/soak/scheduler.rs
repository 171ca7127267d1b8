//! A process of the scheduler: it hands in the tasks, is told how they end, and says all that.
//!
//! Owns: how the scheduler is set up, and when it is done. Does not know: what befalls it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actix::prelude::*;
use callboard::{Outcome, Scheduler, SchedulerBuilder, Shutdown, TaskStatus};
use serde::{Deserialize, Serialize};

use crate::node::Work;
use crate::words::{Ending, State, Word, say};
use crate::{AnyError, HEARTBEAT, LEASE, NAME, credentials, load, processes};

/// What the last tasks get to settle after they were handed in: the last fault lasts longer than a
/// lease.
const PATIENCE: Duration = Duration::from_secs(70);
/// How many tasks that do not settle are named.
const NAMED: usize = 10;

/// What a process is given, by its second argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub listen: SocketAddr,
    /// The file of its store, if it has one.
    pub store: Option<PathBuf>,
    /// Where certificates are, if links are TLS.
    pub certificates: Option<PathBuf>,
    pub seed: u64,
    pub tasks: u64,
    pub length: Duration,
    /// When the first process began to hand in tasks, by [`now`](crate::journal::now).
    pub began: u64,
    /// The number of the first task that no process has handed in.
    pub first: u64,
}

/// Says how each task ended.
struct Client;

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        say(&Word::Settled(Ending {
            id: status.id.get(),
            kind: status.kind.to_string(),
            number: Work::from_args(&status.args).map(|work| work.number),
            outcome: match &status.outcome {
                Outcome::Completed(_) => "completed".to_owned(),
                Outcome::Failed(failure) => format!("failed: {}", failure.cause),
                Outcome::Cancelled => "cancelled".to_owned(),
                other => other.to_string(),
            },
            attempts: status.attempts,
            reroutes: status.reroutes,
            given_again: status.is_given_again(),
            objection: load::objection(&status),
        }));
    }
}

/// Runs the scheduler's process for its whole life, if nothing ends it before.
pub async fn serve(setup: &str) -> Result<(), AnyError> {
    let setup: Setup = serde_json::from_str(setup)?;
    let secret = processes::read_secret()?;
    let certificates = setup.certificates.as_deref();
    let builder = credentials::of_scheduler(Scheduler::builder(NAME), NAME, &secret, certificates);
    let scheduler = kept(builder, setup.store.as_deref())
        .listen(setup.listen.to_string())
        .configure(|config| {
            config.heartbeat = HEARTBEAT;
            config.lease = LEASE;
        })
        .client(Client.start().recipient())
        .start()
        .await?;
    say(&Word::Ready);
    let work = async {
        load::hand_in(&scheduler, &setup).await?;
        match tokio::time::timeout(PATIENCE, all_told(&scheduler)).await {
            Ok(told) => told,
            Err(_) => {
                say(&Word::Unfinished(unfinished(&scheduler).await?));
                Ok(())
            }
        }
    };
    tokio::select! {
        done = work => done?,
        failed = tell(&scheduler, &setup) => return failed,
    }
    say(&Word::State(state(&scheduler, &setup).await?));
    scheduler.shutdown(Shutdown::Now).await?;
    say(&Word::Ended);
    Ok(())
}

#[cfg(feature = "store")]
fn kept(builder: SchedulerBuilder, store: Option<&Path>) -> SchedulerBuilder {
    match store {
        Some(file) => builder.store(callboard::Store::file(file)),
        None => builder,
    }
}

#[cfg(not(feature = "store"))]
fn kept(builder: SchedulerBuilder, _: Option<&Path>) -> SchedulerBuilder {
    builder
}

/// Says each second what it takes. Returns only if that cannot be known.
async fn tell(scheduler: &Scheduler, setup: &Setup) -> Result<(), AnyError> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        say(&Word::State(state(scheduler, setup).await?));
    }
}

async fn state(scheduler: &Scheduler, setup: &Setup) -> Result<State, AnyError> {
    let store = setup.store.as_ref().map(std::fs::metadata).transpose()?;
    Ok(State {
        memory: memory()?,
        store: store.map_or(0, |file| file.len()),
        totals: scheduler.stats().await?.totals,
    })
}

/// Returns the memory that this process has, in bytes.
fn memory() -> Result<u64, AnyError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .ok_or("the system does not tell what memory is taken")?
        .parse()?;
    Ok(kib << 10)
}

/// Waits until all that was accepted has settled, and the client has handled it.
async fn all_told(scheduler: &Scheduler) -> Result<(), AnyError> {
    while !(scheduler.unfinished().await?.is_empty()
        && scheduler.stats().await?.unconfirmed_statuses == 0)
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Returns how many tasks are unsettled, and what some of them wait for.
async fn unfinished(scheduler: &Scheduler) -> Result<Vec<String>, AnyError> {
    let unfinished = scheduler.unfinished().await?;
    let mut words = vec![format!("{} tasks do not settle", unfinished.len())];
    for task in unfinished.iter().take(NAMED) {
        let explained = scheduler.explain(task.id).await?;
        words.push(format!("{} ({}): {explained:?}", task.id, task.kind));
    }
    Ok(words)
}
