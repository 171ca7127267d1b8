//! A scheduler with a store that is killed again and again under load: what is promised of a
//! restart, judged by what the runs of tasks and the scheduler's processes have written down.
//!
//! Five nodes live on while the process of their scheduler is ended by SIGKILL, in every fifth
//! round after it was frozen for a while, and started anew at once. `CALLBOARD_RESTARTS` says how
//! many rounds there are. Where a small file system can be mounted, the disk is full in the middle
//! of another round; with `CALLBOARD_FAULTS=required` it must be possible.

#![allow(clippy::unwrap_used, reason = "tests")]

mod judge;
#[path = "../processes/mod.rs"]
mod processes;
#[allow(dead_code, reason = "the faults use the rest")]
#[path = "../faults/record.rs"]
mod record;
mod scheduler;
mod starts;
#[allow(dead_code, reason = "the faults use the rest")]
#[path = "../faults/work.rs"]
mod work;

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use processes::{NodeProcess, Role};
use scheduler::{Book, SchedulerProcess, Setup};

/// Rounds if nothing is said of them.
const ROUNDS: u64 = 3;
const NODES: usize = 5;
/// Those of them that are dialled; the others join.
const DIALLED: usize = 3;
const WORKERS: u32 = 4;
/// How long a run takes, on average, in milliseconds.
const MEAN: u64 = 20;
/// How large the disk is that becomes full.
const SMALL_DISK: u64 = 8 << 20;

fn main() -> ExitCode {
    scheduler::act_if_told();
    if env::var_os(work::LEDGER).is_some() {
        processes::act_if_told_with(work::handlers);
        return ExitCode::SUCCESS;
    }
    if env::args().any(|word| word == "--list") {
        println!("restarts: test");
        return ExitCode::SUCCESS;
    }
    let wish = env::var("CALLBOARD_FAULTS").unwrap_or_default();
    if wish == "skip" {
        println!("The restarts are not tried: CALLBOARD_FAULTS=skip says so.");
        return ExitCode::SUCCESS;
    }
    let rounds = env::var("CALLBOARD_RESTARTS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut well = runtime.block_on(killed(rounds));
    let place = tempfile::tempdir().unwrap();
    match SmallDisk::mount(place.path()) {
        Ok(disk) => well &= runtime.block_on(full(&disk)),
        Err(reason) => {
            println!("A full disk is not tried: {reason}.");
            well &= wish != "required";
        }
    }
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The nodes, the store, and one process of the scheduler after the other.
struct Cluster {
    directory: tempfile::TempDir,
    nodes: Vec<NodeProcess>,
    setup: Setup,
    book: Book,
    scheduler: SchedulerProcess,
}

impl Cluster {
    async fn start(store: Option<PathBuf>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        work::Ledger::prepare(directory.path());
        let listen = free_address();
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let name = format!("node{number}");
            let place = directory.path().to_str().unwrap();
            let role = Role::new(&name, WORKERS)
                .env(work::DIRECTORY, place)
                .env(work::LEDGER, format!("{name}-1"));
            let role = if number < DIALLED {
                role
            } else {
                role.join(listen)
            };
            nodes.push(NodeProcess::spawn(&role).await);
        }
        let dialled = nodes[..DIALLED].iter();
        let setup = Setup {
            store: store.unwrap_or_else(|| directory.path().join("tasks.redb")),
            listen,
            nodes: dialled
                .map(|node| (node.name().to_owned(), node.address().to_string()))
                .collect(),
            mean: MEAN,
        };
        let book = Book::default();
        let scheduler = SchedulerProcess::spawn(&setup, &book, 0);
        book.until("it has started", |told| told.ready == 1).await;
        Self {
            directory,
            nodes,
            setup,
            book,
            scheduler,
        }
    }

    /// Kills the scheduler and starts it again.
    async fn restart(&mut self, round: u64) {
        self.scheduler.kill();
        let first = self.book.told().next;
        self.book.restarted();
        self.scheduler = SchedulerProcess::spawn(&self.setup, &self.book, first);
        self.book
            .until("it has started", |told| told.ready == round + 2)
            .await;
    }

    /// Has all done, ends it, and judges.
    async fn finish(mut self, what: &str) -> bool {
        self.scheduler.order("finish");
        self.book.until("all is done", |told| told.ended).await;
        assert!(self.scheduler.wait().success());
        for node in &mut self.nodes {
            node.kill();
        }
        let figures = judge::judge(&self.book.told(), self.directory.path());
        println!("{what}: {figures}");
        for broken in figures.broken.iter().take(20) {
            println!("  {broken}");
        }
        figures.broken.is_empty()
    }
}

async fn killed(rounds: u64) -> bool {
    let mut cluster = Cluster::start(None).await;
    for round in 0..rounds {
        let accepted = cluster.book.told().accepted.len();
        // A moment that differs from round to round, given by how far the work is.
        let more = 50 + (round * 37) as usize % 400;
        cluster
            .book
            .until("more is accepted", |told| {
                told.accepted.len() >= accepted + more
            })
            .await;
        if round % 5 == 4 {
            cluster.scheduler.freeze();
            tokio::time::sleep(Duration::from_millis(700)).await;
            cluster.scheduler.thaw();
        }
        cluster.restart(round).await;
    }
    cluster.finish(&format!("{rounds} kills")).await
}

/// Fills the disk while tasks are handed in, then makes room again.
async fn full(disk: &SmallDisk) -> bool {
    let cluster = Cluster::start(Some(disk.0.join("tasks.redb"))).await;
    let accepted = |more: usize| {
        let from = cluster.book.told().accepted.len();
        move |told: &scheduler::Told| told.accepted.len() >= from + more
    };
    cluster.book.until("some are accepted", accepted(200)).await;
    let filling = disk.0.join("filling");
    disk.fill(&filling);
    cluster
        .book
        .until("it is refused for the store", |told| told.refused >= 50)
        .await;
    fs::remove_file(&filling).unwrap();
    cluster.book.until("it goes on", accepted(200)).await;
    cluster.finish("a full disk").await
}

/// A file system in memory that is soon full. Dropped, it is unmounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Result<Self, String> {
        let size = format!("size={SMALL_DISK}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place);
        let output = mount.output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self(place.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Fills it to the last byte.
    fn fill(&self, file: &Path) {
        let mut file = fs::File::create(file).unwrap();
        let written = std::io::copy(&mut std::io::repeat(7), &mut file);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may be in use after a failure; the namespace of the test ends anyway.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
