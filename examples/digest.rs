//! SHA-256 of every file under a directory, computed by several processes.
//!
//! **What it shows.** A scheduler with nodes in processes of their own, a blocking handler, raw
//! bytes as args, a client actor that hears how each task ended, memory that stays bounded however
//! many files there are, a node that is killed without a trace in the result, and the whole program
//! killed and started again, which goes on where it was.
//!
//! **How to run it.**
//!
//! ```text
//! cargo run --release --example digest -- PATH \
//!     [--nodes N] [--workers W] [--kill-after MS] [--store FILE]
//! ```
//!
//! `--nodes` (3) processes are started on loopback, each with `--workers` (4) workers.
//! `--kill-after` kills the busiest of them (SIGKILL) so many milliseconds after the first task was
//! handed in. `--store` keeps the tasks in a file, and in another beside it the digests that were
//! told: kill the program at any moment (SIGKILL), and run the same command again. Only what was
//! left is computed, and the output is the same. At the end both files are removed.
//!
//! **What you will see.** A progress bar, then on stdout exactly what this prints:
//!
//! ```text
//! find PATH -xtype f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
//! ```
//!
//! that is, the regular files and the links to such. A summary follows on stderr, and then a list
//! of what could not be read (no permission, a dangling link); the exit status is 1 if there is
//! any, 2 if nothing could be started, 130 after Ctrl-C.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use callboard::{
    Execute, Handlers, Node, Outcome, RetryPolicy, Scheduler, Shutdown, Store, TaskContext,
    TaskError, TaskStatus,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};

use done::{Done, Files};
use processes::{NODE_PROCESS, Processes};
use report::{Report, Unreadable, unless_closed};
use settings::Settings;

#[path = "digest/done.rs"]
mod done;
#[path = "digest/processes.rs"]
mod processes;
#[path = "digest/report.rs"]
mod report;
#[path = "digest/settings.rs"]
mod settings;

type AnyError = Box<dyn Error>;

const KIND: &str = "file.digest";
/// How many tasks may be out at once: enough for every worker to find its next one, few enough to
/// hold in memory whatever the number of files.
const WINDOW: u32 = 10_000;
/// How many files are handed in with one message.
const BATCH: usize = 500;
/// How often the bar is drawn and the processes are looked after.
const TICK: Duration = Duration::from_millis(100);

#[actix::main]
async fn main() -> ExitCode {
    // RUST_LOG=callboard=info tells what the scheduler and the nodes see.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == NODE_PROCESS).is_some() {
        return match serve(args.collect()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&*error),
        };
    }
    let job = async {
        match Settings::parse(args)? {
            Some(settings) => run(&settings).await,
            None => Ok(ExitCode::SUCCESS),
        }
    };
    tokio::select! {
        ended = job => ended.unwrap_or_else(|error| fail(&*error)),
        // Dropping the other future has ended the processes of the nodes.
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("digest: {error}");
    ExitCode::from(2)
}

// ---- A node's process ----

/// What a task returns.
#[derive(Serialize, Deserialize)]
struct Digest {
    sha256: String,
    bytes: u64,
}

/// How the task of a file ended.
type Ended = Result<Digest, String>;

/// Reads the file at the path that its args are, byte for byte, and returns its digest: the
/// handler.
fn digest(path: Bytes, cx: TaskContext) -> Result<Digest, TaskError> {
    let mut file = File::open(OsStr::from_bytes(&path)).map_err(advise)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 128 << 10]);
    loop {
        if cx.is_cancelled() {
            return Err(TaskError::retry("stopped before the end of the file"));
        }
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(advise(error)),
        }
    }
    let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Digest { sha256, bytes })
}

/// Turns an error into advice: a file that is missing or forbidden stays so; too many open files,
/// or a network disk that stumbles, do not.
fn advise(error: io::Error) -> TaskError {
    use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | PermissionDenied | IsADirectory | NotADirectory | InvalidFilename => {
            TaskError::permanent(error)
        }
        _ => TaskError::retry(error),
    }
}

/// Lives the whole life of a node's process: NAME WORKERS.
async fn serve(args: Vec<OsString>) -> Result<(), AnyError> {
    let [name, workers] = &args[..] else {
        return Err(format!("{NODE_PROCESS} is for this program's own use").into());
    };
    let name = name.to_str().ok_or("the name is not UTF-8")?;
    let secret = processes::read_secret()?;
    let node = callboard::node(name)
        .handlers(Handlers::new().on_blocking(KIND, digest))
        .max_workers(settings::number(workers, 1..=1024)?)
        .threads(1)
        .secret(secret)
        .listen("127.0.0.1:0")
        .start()
        .await?;
    let address = node.listen_addr().ok_or("the node does not listen")?;
    writeln!(io::stdout(), "{address}")?;
    node.wait().await;
    Ok(())
}

// ---- The client ----

/// Hears how each task ended.
struct Client {
    done: Done,
    window: Arc<Semaphore>,
    bar: ProgressBar,
}

impl Actor for Client {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Client {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        let result = match &status.outcome {
            Outcome::Failed(failure) => Err(failure.message.clone()),
            _ => status.output().map_err(|error| error.to_string()),
        };
        if self.done.ended(status.args.clone().into(), result) {
            self.bar.inc(1);
            self.window.add_permits(1);
        }
    }
}

/// All that the client has heard.
#[derive(Message)]
#[rtype(result = "Vec<(Bytes, Ended)>")]
struct Take;

impl Handler<Take> for Client {
    type Result = MessageResult<Take>;

    fn handle(&mut self, _: Take, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.done.take())
    }
}

// ---- The run ----

async fn run(settings: &Settings) -> Result<ExitCode, AnyError> {
    let mut processes = Processes::new()?;
    for number in 1..=settings.nodes {
        // Those of an earlier start are dead, and a name is one process's.
        let name = match settings.store {
            Some(_) => format!("node-{number}-{}", std::process::id()),
            None => format!("node-{number}"),
        };
        processes.spawn(&name, &[settings.workers.to_string()])?;
    }
    processes.hear_addresses()?;
    let window = Arc::new(Semaphore::new(WINDOW as usize));
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
        "{bar:30} {human_pos}/{human_len} files, {per_sec}, running: {msg}",
    )?);
    let files = Files::default();
    let client = Client {
        done: Done::open(settings.store.as_deref(), files.clone())?,
        window: Arc::clone(&window),
        bar: bar.clone(),
    }
    .start();
    let nodes = processes.nodes.iter();
    let builder = match &settings.store {
        Some(store) => Scheduler::builder("digest").store(Store::file(store)),
        None => Scheduler::builder("digest"),
    };
    let scheduler = nodes
        .fold(builder, |scheduler, node| {
            scheduler.node(Node::connect(node.name.as_str(), node.address.to_string()))
        })
        .secret(&processes.secret)
        .require_all_nodes()
        .retry(RetryPolicy::exponential(TICK, Duration::from_secs(1)).max_attempts(5))
        .client(client.clone().recipient())
        .start()
        .await?;

    let started = Instant::now();
    let mut kill = Kill::after(settings.kill_after);
    let unreadable = tokio::select! {
        done = execute_all(&scheduler, settings, &files, &window, &bar) => done?,
        error = watch(&scheduler, &mut processes, &bar, &mut kill) => return Err(error),
    };
    let took = started.elapsed();
    bar.finish_and_clear();

    let stats = scheduler.stats().await?;
    // All is done, so nothing is to go on.
    scheduler.shutdown(Shutdown::Discard).await?;
    let report = Report::new(client.send(Take).await?, unreadable);
    report.print_digests().or_else(unless_closed)?;
    eprint!("{}", report.summary(&stats, &kill, took));
    if let Some(store) = &settings.store {
        done::remove(store)?;
    }
    report.print_unreadable()?;
    Ok(ExitCode::from(u8::from(!report.unreadable.is_empty())))
}

/// Hands in one task a file and waits until all have ended. Returns what the walk could not read.
async fn execute_all(
    scheduler: &Scheduler,
    settings: &Settings,
    files: &Files,
    window: &Semaphore,
    bar: &ProgressBar,
) -> Result<Vec<Unreadable>, AnyError> {
    let (sender, mut batches) = mpsc::channel(2);
    let path = settings.path.clone();
    let walking = tokio::task::spawn_blocking(move || walk(&path, &sender));
    while let Some(batch) = batches.recv().await {
        let mut tasks: Vec<Execute> = batch;
        tasks.retain(|task| files.begin(task.args().clone().into()));
        if settings.store.is_some() {
            // What the store has already is joined.
            let keyed = tasks.into_iter().map(|task| {
                let key = done::key(task.args());
                task.key(key)
            });
            tasks = keyed.collect();
        }
        // The client gives the permits back, one an ending.
        window.acquire_many(tasks.len() as u32).await?.forget();
        bar.inc_length(tasks.len() as u64);
        for accepted in scheduler.execute_many(tasks).await {
            accepted?;
        }
    }
    let unreadable = walking.await?;
    window.acquire_many(WINDOW).await?.forget();
    Ok(unreadable)
}

/// Sends the files in batches, as fast as they are taken. A link counts as what it leads to, but is
/// not walked through; one that leads nowhere is sent too, so that its task says why it cannot be
/// read.
fn walk(path: &Path, batches: &mpsc::Sender<Vec<Execute>>) -> Vec<Unreadable> {
    let mut unreadable = Vec::new();
    let mut batch = Vec::new();
    for entry in walkdir::WalkDir::new(path) {
        match entry {
            Ok(entry) => {
                let kind = entry.file_type();
                let is_file = kind.is_file()
                    || kind.is_symlink() && entry.path().metadata().map_or(true, |to| to.is_file());
                if is_file {
                    let path = entry.into_path().into_os_string().into_vec();
                    batch.push(Execute::raw(KIND, path));
                }
            }
            Err(error) => unreadable.push(Unreadable::of_walk(path, error)),
        }
        if batch.len() == BATCH && batches.blocking_send(std::mem::take(&mut batch)).is_err() {
            return unreadable;
        }
    }
    if !batch.is_empty() {
        // Nobody listens any more only when the run has failed already.
        let _ = batches.blocking_send(batch);
    }
    unreadable
}

/// When to kill a node's process, and what came of it.
struct Kill {
    after: Option<Duration>,
    done: Option<String>,
}

impl Kill {
    fn after(after: Option<Duration>) -> Self {
        Self { after, done: None }
    }
}

/// Draws the bar, kills, and looks after the processes; returns only when it cannot go on.
async fn watch(
    scheduler: &Scheduler,
    processes: &mut Processes,
    bar: &ProgressBar,
    kill: &mut Kill,
) -> AnyError {
    let killing = tokio::time::sleep(kill.after.unwrap_or_default());
    let mut tick = tokio::time::interval(TICK);
    tokio::pin!(killing);
    loop {
        let to_kill = kill.after.is_some() && kill.done.is_none();
        tokio::select! {
            () = &mut killing, if to_kill => match kill_busiest(scheduler, processes).await {
                Ok(done) => kill.done = Some(done),
                Err(error) => return error,
            },
            _ = tick.tick() => {}
        }
        if let Err(error) = processes.look_after() {
            return error;
        }
        match scheduler.stats().await {
            Ok(stats) => {
                let nodes = stats.nodes.iter();
                let running = nodes.map(|node| format!("{} {}", node.name, node.running));
                bar.set_message(running.collect::<Vec<_>>().join(", "));
            }
            Err(error) => return error.into(),
        }
    }
}

async fn kill_busiest(
    scheduler: &Scheduler,
    processes: &mut Processes,
) -> Result<String, AnyError> {
    let stats = scheduler.stats().await?;
    let busiest = stats.nodes.iter().max_by_key(|node| node.running);
    let busiest = busiest.ok_or("there is no node to kill")?;
    processes.kill(&busiest.name)?;
    Ok(format!(
        "{} was killed with {} tasks running",
        busiest.name, busiest.running
    ))
}
