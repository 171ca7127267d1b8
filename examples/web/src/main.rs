//! **What it shows.** A job with progress and cancel in an actix-web service: the handler of a
//! request hands a task in, others ask how far it is, or cancel it.
//!
//! **How to run it.** `cargo run --manifest-path examples/web/Cargo.toml`, then, in another
//! terminal:
//!
//! ```text
//! curl -X POST http://127.0.0.1:8080/reports/2026     # the id of the job
//! curl http://127.0.0.1:8080/jobs/ID                  # how far it is, or how it ended
//! curl -X DELETE http://127.0.0.1:8080/jobs/ID        # what the cancel achieved
//! ```
//!
//! **What you will see.** A report takes ten seconds. Asked for meanwhile, it tells its percents.
//!
//! Here a job is one task, and what is known of it is gone with the process. `examples/service` has
//! jobs of many tasks, processes that do the work, and a store.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use actix_web::web::{Data, Path};
use actix_web::{App, HttpResponse, HttpServer, Responder, delete, get, post};
use callboard::status::TaskEventKind;
use callboard::{
    Execute, Handlers, Node, Scheduler, Shutdown, TaskContext, TaskError, TaskEvent, TaskId,
    TaskStatus,
};
use tokio::signal::unix::{SignalKind, signal};

/// What is known of each job. A service keeps it in its database, or forgets it after a while.
#[derive(Clone, Default)]
struct Jobs(Arc<Mutex<HashMap<TaskId, String>>>);

impl Jobs {
    fn set(&self, id: TaskId, state: String) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(id, state);
    }

    fn get(&self, id: TaskId) -> Option<String> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(&id).cloned()
    }
}

impl Actor for Jobs {
    type Context = Context<Self>;
}

/// Progress, as it happens.
impl Handler<TaskEvent> for Jobs {
    type Result = ();

    fn handle(&mut self, told: TaskEvent, _: &mut Self::Context) {
        if let TaskEventKind::Progress(_) = &told.event {
            let percent = told.event.progress::<u8>().unwrap_or(0);
            self.set(told.id, format!("{percent} %"));
        }
    }
}

/// The one ending.
impl Handler<TaskStatus> for Jobs {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        self.set(status.id, status.outcome.to_string());
    }
}

/// Makes a report. An async handler need not ask whether it was cancelled: it is dropped at its
/// next `await`.
async fn make_report(year: u32, cx: TaskContext) -> Result<String, TaskError> {
    for percent in 0..=100u8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cx.progress(&percent)?;
    }
    Ok(format!("the report of {year}"))
}

#[post("/reports/{year}")]
async fn begin(
    year: Path<u32>,
    scheduler: Data<Scheduler>,
    jobs: Data<Addr<Jobs>>,
) -> impl Responder {
    let execute = match Execute::named("report.make", &*year) {
        Ok(execute) => execute.watch(jobs.get_ref().clone().recipient()),
        Err(error) => return HttpResponse::BadRequest().body(error.to_string()),
    };
    match scheduler.execute(execute).await {
        Ok(id) => HttpResponse::Accepted().body(id.get().to_string()),
        Err(refused) if refused.refusal.is_temporary() => {
            HttpResponse::ServiceUnavailable().body(refused.to_string())
        }
        Err(refused) => HttpResponse::InternalServerError().body(refused.to_string()),
    }
}

#[get("/jobs/{id}")]
async fn ask(id: Path<u64>, scheduler: Data<Scheduler>, jobs: Data<Jobs>) -> impl Responder {
    let id = TaskId::new(*id);
    if let Some(state) = jobs.get(id) {
        return HttpResponse::Ok().body(state);
    }
    match scheduler.explain(id).await {
        Ok(Some(explanation)) => HttpResponse::Ok().body(format!("{:?}", explanation.reason)),
        Ok(None) => HttpResponse::NotFound().finish(),
        Err(stopped) => HttpResponse::ServiceUnavailable().body(stopped.to_string()),
    }
}

#[delete("/jobs/{id}")]
async fn cancel(id: Path<u64>, scheduler: Data<Scheduler>) -> impl Responder {
    match scheduler.cancel(TaskId::new(*id)).await {
        Ok(answer) => HttpResponse::Ok().body(format!("{answer:?}")),
        Err(stopped) => HttpResponse::ServiceUnavailable().body(stopped.to_string()),
    }
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let jobs = Jobs::default();
    let address = jobs.clone().start();
    let handlers = Handlers::new().on("report.make", make_report);
    let scheduler = Scheduler::builder("web")
        .node(Node::local("here", handlers).max_workers(8))
        .client(address.clone().recipient())
        .start()
        .await?;

    let held = scheduler.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(held.clone()))
            .app_data(Data::new(jobs.clone()))
            .app_data(Data::new(address.clone()))
            .service(begin)
            .service(ask)
            .service(cancel)
    })
    // Left to the server, a signal would stop the whole actix System, and the scheduler with it.
    .disable_signals()
    .bind(("127.0.0.1", 8080))?
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

    // A signal has ended the server; now the jobs that run may end.
    let limit = Duration::from_secs(20);
    scheduler.shutdown(Shutdown::FinishRunning(limit)).await?;
    Ok(())
}
