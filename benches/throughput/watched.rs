//! What it costs that people look: a million tasks pend meanwhile, which no node takes.
//!
//! Pages are read by a thread of their own, and served by another, on the cores that the scheduler
//! has: what they cost is in the figures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::System;
use actix_web::{App, HttpServer};
use callboard::dashboard::{self, Access};
use callboard::{Execute, Scheduler, TaskFilter};

use super::Scale;
use super::board::{Counted, Nodes};
use super::latency::{self, percentiles};

const PAGES: usize = 100;

/// Which pages are open, in turn. They are the overview, which is the largest, and two others.
const PATHS: [&str; 3] = ["", "kinds", "nodes"];

/// What goes on beside what is measured.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// A hundred open pages.
    Pages,
    /// One search after the other over all tasks, which finds none.
    Search,
}

/// What goes on, until it is dropped.
struct GoesOn {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl GoesOn {
    /// Begins it, and waits until it has done something.
    async fn begin(scheduler: &Scheduler, beside: Beside) -> Self {
        let mut this = Self {
            stop: Arc::default(),
            done: Arc::default(),
            threads: Vec::new(),
        };
        match beside {
            Beside::Nothing => return this,
            Beside::Pages => this.open_pages(scheduler).await,
            Beside::Search => this.search(scheduler),
        }
        let least = match beside {
            Beside::Pages => PAGES as u64,
            _ => 1,
        };
        while this.done.load(Ordering::Relaxed) < least {
            let ended = this.threads.iter().any(JoinHandle::is_finished);
            assert!(!ended, "a thread has ended before its time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        this
    }

    async fn open_pages(&mut self, scheduler: &Scheduler) {
        let scheduler = scheduler.clone();
        let (tx, rx) = tokio::sync::oneshot::channel();
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            System::new().block_on(async move {
                let app = move || {
                    let access = |_: &_| Access::Full;
                    let scope = dashboard::scope("/tasks").scheduler(&scheduler);
                    App::new().service(scope.access(access))
                };
                let server = HttpServer::new(app).workers(1).disable_signals();
                let server = server.bind("127.0.0.1:0").expect("a port");
                tx.send(server.addrs()[0]).expect("the bench waits");
                let server = server.run();
                let handle = server.handle();
                actix::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    handle.stop(false).await;
                });
                server.await.expect("it serves");
            });
        }));
        let address = rx.await.expect("it is served");
        let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
        let read = move || read_pages(address, &stop, &done);
        self.threads.push(std::thread::spawn(read));
    }

    fn search(&mut self, scheduler: &Scheduler) {
        let scheduler = scheduler.clone();
        let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
        self.threads.push(std::thread::spawn(move || {
            System::new().block_on(async move {
                let filter: TaskFilter = "key:none".parse().expect("a search");
                let mut after = None;
                while !stop.load(Ordering::Relaxed) {
                    let page = scheduler.find_tasks(&filter, after, 100).await;
                    let page = page.expect("it runs");
                    assert!(page.tasks.is_empty(), "nobody has a key");
                    after = page.next;
                    done.fetch_add(u64::from(after.is_none()), Ordering::Relaxed);
                }
            });
        }));
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it ends well");
        }
    }
}

/// Opens the pages and reads what comes until told to stop.
fn read_pages(address: SocketAddr, stop: &AtomicBool, done: &AtomicU64) {
    let open = |path: &&str| {
        let mut stream = TcpStream::connect(address).expect("it is served");
        let asks = format!("GET /tasks/live?page={path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(asks.as_bytes()).expect("it is read");
        stream.set_nonblocking(true).expect("a socket");
        (stream, false)
    };
    let mut pages: Vec<_> = PATHS.iter().cycle().take(PAGES).map(open).collect();
    let mut room = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        for (stream, answered) in &mut pages {
            while let Ok(length) = stream.read(&mut room) {
                assert!(length > 0, "the page is open");
                if !*answered {
                    let begin = String::from_utf8_lossy(&room[..length]);
                    assert!(begin.starts_with("HTTP/1.1 200"), "{begin}");
                    *answered = true;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Hands in as many tasks as pend meanwhile.
async fn fill(scheduler: &Scheduler, count: u64) {
    for first in (0..count).step_by(1000) {
        let batch = (first..count.min(first + 1000))
            .map(|n| Execute::named("never", &n).expect("a number"))
            .collect();
        let ids = scheduler.execute_many(batch).await;
        assert!(ids.iter().all(Result::is_ok), "there is room for all");
    }
}

fn rate(scale: &Scale, beside: Beside) -> f64 {
    let (count, pending) = (scale.of(1_000_000), scale.of(1_000_000));
    System::new().block_on(async move {
        let counted = Counted::start(count, Nodes::Local { workers: 10 }).await;
        fill(counted.scheduler(), pending).await;
        let goes_on = GoesOn::begin(counted.scheduler(), beside).await;
        let began = Instant::now();
        counted.send_all(|n| Execute::named("next", &n).expect("a number"));
        let (rate, board) = counted.rate_and_board(began).await;
        goes_on.end();
        board.abandon().await;
        rate
    })
}

fn latency(scale: &Scale, beside: Beside) -> [f64; 3] {
    let (count, pending) = (scale.of(20_000), scale.of(1_000_000));
    System::new().block_on(async move {
        let (board, spans) = latency::start(count, Nodes::Local { workers: 10 }, None).await;
        fill(&board.scheduler, pending).await;
        let goes_on = GoesOn::begin(&board.scheduler, beside).await;
        let spans = spans.take(&board).await;
        goes_on.end();
        board.abandon().await;
        percentiles(spans)
    })
}

pub fn rate_alone(scale: &Scale) -> f64 {
    rate(scale, Beside::Nothing)
}

pub fn rate_beside_pages(scale: &Scale) -> f64 {
    rate(scale, Beside::Pages)
}

pub fn latency_alone(scale: &Scale) -> [f64; 3] {
    latency(scale, Beside::Nothing)
}

pub fn latency_beside_pages(scale: &Scale) -> [f64; 3] {
    latency(scale, Beside::Pages)
}

pub fn latency_beside_a_search(scale: &Scale) -> [f64; 3] {
    latency(scale, Beside::Search)
}
