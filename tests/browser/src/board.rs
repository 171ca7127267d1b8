//! What is looked at: a scheduler with twenty nodes at work, and its dashboards.
//!
//! Owns: the kinds of tasks, and who may do what. Does not know: browsers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use callboard::dashboard::{self, Access, Colour};
use callboard::{Execute, Handlers, Node, Scheduler, Shutdown, Store, TaskError};
use tokio::sync::Notify;

/// How many nodes work.
pub const NODES: usize = 20;

/// What a page must show and never do.
pub const HURT: &str = "<script>window.hurt=1</script><img src=x onerror='window.hurt=1'>\"&amp;";

/// See the module.
pub struct Board {
    pub scheduler: Scheduler,
    pub address: SocketAddr,
    /// Told each time that a task of the kind `fail` begins.
    pub failing: Arc<Notify>,
    server: ServerHandle,
    _folder: tempfile::TempDir,
}

impl Board {
    /// Starts one whose scheduler has this name, which no other of the process has.
    pub async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a directory for the store");
        let failing = Arc::new(Notify::new());
        let mut builder = Scheduler::builder(name)
            .store(Store::file(folder.path().join("tasks.redb")))
            .no_client();
        for number in 1..=NODES {
            let node = Node::local(format!("node-{number:02}"), handlers(&failing));
            builder = builder.node(node.max_workers(4).threads(1));
        }
        let scheduler = builder.start().await.expect("the scheduler starts");
        Self::of(scheduler, "staging", Colour::Blue, failing, folder)
    }

    /// Serves the dashboards of a scheduler, whose store is in this folder.
    pub(crate) fn of(
        scheduler: Scheduler,
        title: &'static str,
        colour: Colour,
        failing: Arc<Notify>,
        folder: tempfile::TempDir,
    ) -> Self {
        let shown = scheduler.clone();
        let server = HttpServer::new(move || {
            App::new()
                .service(
                    dashboard::scope("/tasks")
                        .scheduler(&shown)
                        .title(title, colour)
                        .access(Access::loopback),
                )
                .service(
                    dashboard::scope("/look")
                        .scheduler(&shown)
                        .access(|_| Access::Read),
                )
                .service(dashboard::scope("/closed").scheduler(&shown))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .expect("a port of its own");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self {
            scheduler,
            address,
            failing,
            server: handle,
            _folder: folder,
        }
    }

    /// Returns the address of a page.
    pub fn page(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Hands in work for as long as what is returned lives.
    pub fn keep_busy(&self) -> Busy {
        let scheduler = self.scheduler.clone();
        Busy(actix_web::rt::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                for length in [40u64, 150, 350, 900] {
                    let work = Execute::named("work", &length).expect("it can be encoded");
                    // It is refused only when all is over.
                    let _ = scheduler.execute(work).await;
                }
            }
        }))
    }

    pub async fn end(self) {
        self.server.stop(false).await;
        let ended = self.scheduler.shutdown(Shutdown::Now).await;
        ended.expect("the scheduler ends");
    }
}

/// Work that is handed in until this is dropped.
pub struct Busy(pub(crate) actix_web::rt::task::JoinHandle<()>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn handlers(failing: &Arc<Notify>) -> Handlers {
    let failing = Arc::clone(failing);
    Handlers::new()
        .on("work", async |length: u64| {
            tokio::time::sleep(Duration::from_millis(length)).await;
            Ok(length)
        })
        .on("wait", async |(): ()| {
            std::future::pending::<()>().await;
            Ok(())
        })
        .on("fail", move |message: String| {
            let failing = Arc::clone(&failing);
            async move {
                failing.notify_one();
                Err::<(), _>(TaskError::permanent(message))
            }
        })
        .on(HURT, async |(): ()| Ok(()))
}
