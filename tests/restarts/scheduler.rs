//! The scheduler's process, and what all of them have told.
//!
//! Owns: both ends of the lines between them. Does not know: what should have happened.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use callboard::{Node, Outcome, Scheduler, Shutdown, Store, TaskStatus};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::processes::{self, Process, own_binary};
use crate::work::{Output, Planned, RETRY, now};

/// What a scheduler's process is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub store: PathBuf,
    pub listen: SocketAddr,
    /// The nodes that it dials: names and addresses.
    pub nodes: Vec<(String, String)>,
    /// How long a run takes, on average.
    pub mean: u64,
}

const SETUP: &str = "CALLBOARD_RESTARTS_SETUP";
const FIRST: &str = "CALLBOARD_RESTARTS_FIRST";

/// Longer than any step takes; only a failing one waits for it.
const LONGEST: Duration = Duration::from_secs(60);
/// So many are handed in at once.
const BATCH: u64 = 10;
/// How long is waited between two batches.
const INTERVAL: Duration = Duration::from_millis(20);

struct Teller;

impl Actor for Teller {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Teller {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        let (outcome, dispatch) = match &status.outcome {
            Outcome::Completed(_) => ("completed".to_owned(), status.output::<Output>().unwrap().0),
            Outcome::Failed(failure) => (format!("failed:{:?}", failure.cause), 0),
            other => (format!("{other:?}").replace(' ', "_"), 0),
        };
        let (id, again) = (status.id.get(), status.is_given_again());
        println!("status {id} {outcome} {dispatch} {again}");
    }
}

/// Acts as a scheduler if this process was started as one, and otherwise returns at once.
pub fn act_if_told() {
    let Ok(setup) = env::var(SETUP) else { return };
    processes::end_with_the_test();
    let finish = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&finish);
    thread::spawn(move || {
        for _ in std::io::stdin().lock().lines().map_while(Result::ok) {
            told.store(true, Ordering::SeqCst);
        }
        std::process::exit(3);
    });
    let setup = serde_json::from_str(&setup).unwrap();
    let first = env::var(FIRST).unwrap().parse().unwrap();
    actix::System::new().block_on(serve(setup, first, &finish));
    std::process::exit(0);
}

async fn serve(setup: Setup, mut next: u64, finish: &AtomicBool) {
    let mut builder = Scheduler::builder("restarts")
        .store(Store::file(setup.store).wait(Duration::from_secs(10)))
        .listen(setup.listen.to_string())
        .client(Teller.start().recipient())
        .retry(RETRY);
    for (name, address) in setup.nodes {
        builder = builder.node(Node::connect(name, address));
    }
    let scheduler = builder.start().await.unwrap();
    println!("ready {}", now());
    while !finish.load(Ordering::SeqCst) {
        let numbers = next..next + BATCH;
        next += BATCH;
        println!("next {next}");
        let planned = numbers
            .clone()
            .map(|n| Planned::new(n, setup.mean).execute());
        let answers = scheduler.execute_many(planned.collect()).await;
        for (n, answer) in numbers.zip(answers) {
            match answer {
                Ok(id) => println!("accepted {} {n}", id.get()),
                Err(error) if error.refusal.is_temporary() => println!("refused"),
                Err(error) => panic!("{error}"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let left = scheduler.shutdown(Shutdown::Drain(LONGEST)).await.unwrap();
    let left = left.stored_tasks + left.stored_statuses + left.unfinished.len();
    assert_eq!(left, 0, "all was to be done");
    println!("ended");
}

/// What the processes have told so far.
#[derive(Debug, Default)]
pub struct Told {
    /// How many of them were ready.
    pub ready: u64,
    /// The first number that is free.
    pub next: u64,
    /// The number of each task that was accepted, by id.
    pub accepted: BTreeMap<u64, u64>,
    pub refused: usize,
    pub statuses: Vec<Status>,
    /// When each process was started but the first.
    pub restarts: Vec<u64>,
    pub ended: bool,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub task: u64,
    pub outcome: String,
    pub dispatch: u64,
    pub given_again: bool,
}

impl Told {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> u64 { words[at].parse().unwrap() };
        match words.first().copied() {
            Some("ready") => self.ready += 1,
            Some("next") => self.next = number(1),
            Some("accepted") => _ = self.accepted.insert(number(1), number(2)),
            Some("refused") => self.refused += 1,
            Some("status") => self.statuses.push(Status {
                task: number(1),
                outcome: words[2].to_owned(),
                dispatch: number(3),
                given_again: words[4] == "true",
            }),
            Some("ended") => self.ended = true,
            _ => {}
        }
    }
}

/// What was told, and who waits for more. Clones share it.
#[derive(Clone)]
pub struct Book {
    told: Arc<Mutex<Told>>,
    news: watch::Sender<u64>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            told: Arc::default(),
            news: watch::Sender::new(0),
        }
    }
}

impl Book {
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    pub fn restarted(&self) {
        self.told().restarts.push(now());
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Told) -> bool) {
        let mut news = self.news.subscribe();
        let waiting = async {
            while !holds(&self.told()) {
                news.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(LONGEST, waiting).await.is_err() {
            let told = self.told();
            let (accepted, settled) = (told.accepted.len(), told.statuses.len());
            panic!(
                "it never came to this: {what}; {accepted} accepted, {settled} told, {} refused",
                told.refused
            );
        }
    }
}

/// One process of the scheduler.
pub struct SchedulerProcess {
    process: Process,
    orders: ChildStdin,
    reader: Option<JoinHandle<()>>,
}

impl SchedulerProcess {
    /// Starts one that hands in tasks from this number on.
    pub fn spawn(setup: &Setup, book: &Book, first: u64) -> Self {
        let mut child = own_binary(None)
            .env(SETUP, serde_json::to_string(setup).unwrap())
            .env(FIRST, first.to_string())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let orders = child.stdin.take().unwrap();
        let book = book.clone();
        let reader = thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                book.told().line(&String::from_utf8(line).unwrap());
                book.news.send_modify(|lines| *lines += 1);
            }
        });
        Self {
            process: Process::new(child),
            orders,
            reader: Some(reader),
        }
    }

    /// Sends SIGKILL, and reads what it had told before.
    pub fn kill(&mut self) {
        self.process.kill();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    pub fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }
}

impl Deref for SchedulerProcess {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for SchedulerProcess {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
