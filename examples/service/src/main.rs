//! An actix-web service that computes SHA-256 on a cluster of its own.
//!
//! **What it shows.** A scheduler with a store within a web service, two worker processes that are
//! started again when they end, jobs of many tasks with progress by server-sent events and cancel,
//! the dashboard at `/tasks`, and metrics at `/metrics`.
//!
//! **How to run it.** `cargo run --release --manifest-path examples/service/Cargo.toml`; its README
//! has the requests.
//!
//! **What you will see.** A job goes on to its end whatever dies: kill a worker, or the service,
//! and start that again.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use actix::prelude::*;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use callboard::dashboard::{self, Access, Colour};
use callboard::{RetryPolicy, Scheduler, Shutdown, Store};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

mod files;
mod jobs;
mod record;
mod settings;
mod web;
mod workers;

use files::Served;
use jobs::{Jobs, Reporter};
use settings::Settings;
use web::Service;
use workers::Workers;

pub type AnyError = Box<dyn Error>;

/// How many processes work.
const WORKERS: usize = 2;

/// How long what runs may go on after Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

#[actix_web::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(Level::WARN)
        .with_writer(io::stderr)
        .init();
    let mut args = env::args_os().skip(1).peekable();
    let ended = match args.next_if(|first| first == workers::PROCESS) {
        Some(_) => workers::work(args).await,
        None => serve(args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Lives the whole life of the service.
async fn serve(args: impl Iterator<Item = OsString>) -> Result<(), AnyError> {
    let settings = Settings::read(args)?;
    let _alone = take(&settings)?;
    let jobs = Jobs::open(&settings.data)?;
    let secret = workers::secret()?;
    let scheduler = Scheduler::builder("service")
        .listen("127.0.0.1:0")
        .secret(&secret)
        .store(Store::file(settings.data.join("tasks.redb")))
        .retry(RetryPolicy::exponential(
            Duration::from_millis(100),
            Duration::from_secs(5),
        ))
        .client(Reporter(jobs.clone()).start().recipient())
        .start()
        .await?;
    let address = scheduler
        .listen_addr()
        .ok_or("the scheduler does not listen")?;
    let workers = Workers::start(WORKERS, address, &secret);
    scheduler.mark("started");
    actix::spawn(jobs.clone().go_on(scheduler.clone()));

    let service = Data::new(Service::new(
        scheduler.clone(),
        jobs,
        Served {
            root: settings.root,
            except: settings.data,
        },
        settings.max_upload,
    ));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(service.clone())
            .configure(web::routes)
            .service(
                dashboard::scope("/tasks")
                    .scheduler(&service.scheduler)
                    .title("digests", Colour::Green)
                    .access(Access::loopback),
            )
    });
    let server = server
        .bind(("127.0.0.1", settings.port))
        .map_err(|error| format!("port {} cannot be used: {error}", settings.port))?;
    for address in server.addrs() {
        // It goes on if nobody reads this.
        let _ = writeln!(io::stdout(), "open http://{address}/tasks");
    }
    // Left to the server, a signal would stop the whole actix System, and the scheduler with it.
    // Who follows a job or looks at the dashboard does not hold the end up.
    let server = server
        .workers(2)
        .disable_signals()
        .shutdown_timeout(1)
        .run();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let stop = server.handle();
    actix::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.stop(true).await;
    });
    server.await?;

    // What runs may end; the rest stays in the store.
    workers.let_end();
    scheduler.shutdown(Shutdown::FinishRunning(GRACE)).await?;
    Ok(())
}

/// Takes the data for this process alone, for as long as what is returned lives: two would count
/// each other's uploads as left behind.
fn take(settings: &Settings) -> Result<File, AnyError> {
    fs::create_dir_all(settings.data.join("jobs"))?;
    let lock = File::create(settings.data.join("lock"))?;
    lock.try_lock().map_err(|error| {
        let data = settings.data.display();
        format!("{data} cannot be used, perhaps since another service uses it: {error}")
    })?;
    Ok(lock)
}
