//! The requests.
//!
//! Owns: what may be asked, by whom, and how large it may be. Does not know: how jobs are kept.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::ErrorRequestTimeout;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use actix_web::middleware::{Next, from_fn};
use actix_web::rt::spawn;
use actix_web::web::{Data, Json, Payload, ServiceConfig, block, get, resource, scope};
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, delete, post, web};
use bytes::Bytes;
use callboard::Scheduler;
use callboard::dashboard::Access;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::files::Served;
use crate::jobs::{BeginError, Jobs, MAX_FILES};

/// How many uploads may be sent at once. Each stays on disk until its job is over.
const MAX_UPLOADS: usize = 4;

/// How long an upload may stand still: it keeps others from being sent.
const STILL_SENT: Duration = Duration::from_secs(30);

/// How often who follows a job hears something, so that who has gone is noticed.
const STILL_THERE: Duration = Duration::from_secs(15);

/// What the requests need.
pub struct Service {
    pub scheduler: Scheduler,
    jobs: Jobs,
    served: Arc<Served>,
    max_upload: u64,
    uploads: Semaphore,
}

impl Service {
    pub fn new(scheduler: Scheduler, jobs: Jobs, served: Served, max_upload: u64) -> Self {
        Self {
            scheduler,
            jobs,
            served: Arc::new(served),
            max_upload,
            uploads: Semaphore::new(MAX_UPLOADS),
        }
    }

    /// Begins a job, and hands it in meanwhile.
    async fn begin(&self, id: u64, files: Vec<Bytes>) -> Result<HttpResponse, Error> {
        let jobs = self.jobs.clone();
        Ok(match block(move || jobs.begin(id, files)).await? {
            Ok(progress) => {
                let (jobs, scheduler) = (self.jobs.clone(), self.scheduler.clone());
                spawn(async move { jobs.hand_in(&scheduler, id).await });
                HttpResponse::Accepted().json(json!({ "job": id, "progress": progress }))
            }
            Err(BeginError::Full) => HttpResponse::ServiceUnavailable()
                .body("too many jobs are under way; try again when one is over\n"),
            Err(BeginError::Disk(error)) => HttpResponse::InternalServerError()
                .body(format!("the job cannot be kept: {error}\n")),
        })
    }
}

/// Sets the routes.
pub fn routes(config: &mut ServiceConfig) {
    let jobs = scope("/jobs")
        .wrap(from_fn(from_here))
        .service(directory)
        .service(upload)
        .service(events)
        .service(cancel)
        .route("", get().to(list))
        .route("/{id}", get().to(results));
    let metrics = resource("/metrics").wrap(from_fn(from_here)).get(metrics);
    config.service(jobs).service(metrics);
}

/// Lets only this machine ask, by its own name: no other machine, and no page from elsewhere.
async fn from_here(
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if Access::loopback(req.request()) == Access::Full {
        return next.call(req).await;
    }
    let refused = HttpResponse::Forbidden().body("only this machine may ask\n");
    Ok(req.into_response(refused))
}

/// Does this to its end, also if whoever has asked goes away meanwhile: actix-web drops the handler
/// of a request then.
async fn to_its_end(
    work: impl Future<Output = Result<HttpResponse, Error>> + 'static,
) -> Result<HttpResponse, Error> {
    match spawn(work).await {
        Ok(answer) => answer,
        Err(error) => Ok(HttpResponse::InternalServerError().body(format!("{error}\n"))),
    }
}

#[derive(Deserialize)]
struct Directory {
    path: PathBuf,
}

/// Begins a job of all files below a directory. It must be JSON, which a form of another page
/// cannot send.
#[post("/directory")]
async fn directory(asked: Json<Directory>, service: Data<Service>) -> Result<HttpResponse, Error> {
    to_its_end(async move {
        let served = Arc::clone(&service.served);
        match block(move || served.below(&asked.path, MAX_FILES)).await? {
            Ok(files) => service.begin(service.jobs.next_id(), files).await,
            Err(wrong) => Ok(HttpResponse::BadRequest().body(format!("{wrong}\n"))),
        }
    })
    .await
}

/// Begins a job of one file, which is the body.
#[post("/upload")]
async fn upload(
    req: HttpRequest,
    body: Payload,
    service: Data<Service>,
) -> Result<HttpResponse, Error> {
    // What a form of another page cannot send.
    if req.content_type() != "application/octet-stream" {
        return Ok(HttpResponse::UnsupportedMediaType()
            .body("send it with Content-Type: application/octet-stream\n"));
    }
    let length = req.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    to_its_end(async move {
        let Ok(_permit) = service.uploads.try_acquire() else {
            return Ok(HttpResponse::ServiceUnavailable()
                .body("too many uploads go on; try again when one is over\n"));
        };
        let id = service.jobs.next_id();
        let path = service.jobs.upload(id);
        let written = if length.is_some_and(|length: u64| length > service.max_upload) {
            Ok(false)
        } else {
            write(body, path.clone(), service.max_upload).await
        };
        match written {
            Ok(true) => {
                let files = vec![Bytes::copy_from_slice(path.as_os_str().as_bytes())];
                service.begin(id, files).await
            }
            Ok(false) => {
                service.jobs.discard(id);
                let most = service.max_upload >> 20;
                Ok(HttpResponse::PayloadTooLarge()
                    .force_close()
                    .body(format!("an upload has at most {most} MiB\n")))
            }
            // The connection has broken, or the disk is full.
            Err(error) => {
                service.jobs.discard(id);
                Err(error)
            }
        }
    })
    .await
}

/// Writes a body to a file; returns whether it was not larger than it may be.
async fn write(mut body: Payload, path: PathBuf, most: u64) -> Result<bool, Error> {
    let mut file = block(move || File::create_new(path)).await??;
    let mut left = most;
    let late = || ErrorRequestTimeout("nothing more came of the upload for too long\n");
    while let Some(part) = timeout(STILL_SENT, body.next()).await.map_err(|_| late())? {
        let part = part?;
        left = match left.checked_sub(part.len() as u64) {
            Some(left) => left,
            None => return Ok(false),
        };
        file = block(move || file.write_all(&part).map(|()| file)).await??;
    }
    block(move || file.sync_all()).await??;
    Ok(true)
}

/// Tells how far a job is, at once and at each change, until it is over.
#[actix_web::get("/{id}/events")]
async fn events(id: web::Path<u64>, service: Data<Service>) -> HttpResponse {
    let Some(mut progress) = service.jobs.watch(*id) else {
        return no_such_job();
    };
    progress.mark_changed();
    let all = stream::unfold(Some(progress), |progress| async {
        let mut progress = progress?;
        let (event, goes_on) = match timeout(STILL_THERE, progress.changed()).await {
            Ok(changed) => {
                changed.ok()?;
                let now = *progress.borrow_and_update();
                (format!("data: {}\n\n", json!(now)), !now.is_over())
            }
            // A comment, which listeners skip.
            Err(_) => (":\n\n".to_owned(), true),
        };
        let event = Ok::<_, Infallible>(Bytes::from(event));
        Some((event, goes_on.then_some(progress)))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(all)
}

/// Tells how far each job is.
async fn list(service: Data<Service>) -> HttpResponse {
    let jobs = service.jobs.list().into_iter();
    let jobs: Vec<Value> = jobs
        .map(|(id, progress)| json!({ "job": id, "progress": progress }))
        .collect();
    HttpResponse::Ok().json(json!({ "jobs": jobs }))
}

/// Tells what became of each file so far.
async fn results(id: web::Path<u64>, service: Data<Service>) -> HttpResponse {
    let Some((progress, files)) = service.jobs.results(*id) else {
        return no_such_job();
    };
    let files: Vec<Value> = files
        .iter()
        .filter_map(|(path, ended)| {
            let path = shown(&service, Path::new(OsStr::from_bytes(path)));
            Some(json!({ "path": path, "ended": ended.as_ref()? }))
        })
        .collect();
    HttpResponse::Ok().json(json!({ "job": *id, "progress": progress, "files": files }))
}

/// Returns a path as it was asked for.
fn shown(service: &Service, path: &Path) -> String {
    if service.jobs.has(path) {
        return "upload".to_owned();
    }
    let below = path.strip_prefix(&service.served.root).unwrap_or(path);
    below.to_string_lossy().into_owned()
}

/// Cancels what is left of a job.
#[delete("/{id}")]
async fn cancel(id: web::Path<u64>, service: Data<Service>) -> Result<HttpResponse, Error> {
    to_its_end(async move {
        let cancelled = service.jobs.cancel(&service.scheduler, *id).await;
        Ok(match cancelled {
            Some(progress) => HttpResponse::Ok().json(json!({ "job": *id, "progress": progress? })),
            None => no_such_job(),
        })
    })
    .await
}

fn no_such_job() -> HttpResponse {
    HttpResponse::NotFound()
        .body("there is no such job, or it was so long ago that it is forgotten\n")
}

async fn metrics(service: Data<Service>) -> HttpResponse {
    match service.scheduler.prometheus().await {
        Ok(text) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4")
            .body(text),
        Err(stopped) => HttpResponse::ServiceUnavailable().body(format!("{stopped}\n")),
    }
}
