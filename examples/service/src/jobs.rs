//! Jobs: each a list of files, and what became of every one.
//!
//! Owns: which jobs there are and how many may be, that whoever watches one is told, and that each
//! file is handed in until it is done. Does not know: requests, and how a job is kept on disk.
//!
//! The key of a task says which file of which job it is. So a start of the service hands in all
//! that is not done: what the store of the scheduler has already is joined by its key, and what
//! it has told already is counted once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use bytes::Bytes;
use callboard::error::{Refusal, Stopped};
use callboard::{Execute, Outcome, Scheduler, TaskFilter, TaskStatus};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::record::{Ended, Folder, Line, Record};
use crate::workers::KIND;

/// How many files all jobs may have together, and so a single one: about 300 bytes of memory each.
pub const MAX_FILES: usize = 200_000;

/// How many jobs are kept. To make room, the oldest that is over is forgotten.
const MAX_JOBS: usize = 100;

/// How many tasks are handed in, or cancelled, at once.
const BATCH: usize = 500;

/// How long is waited when the scheduler can take no more.
const PAUSE: Duration = Duration::from_millis(100);

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub files: usize,
    pub done: usize,
    pub failed: usize,
    pub cancelled: usize,
}

impl Progress {
    /// Returns whether nothing is left to do.
    pub fn is_over(self) -> bool {
        self.done + self.failed + self.cancelled == self.files
    }

    fn add(&mut self, ended: &Ended) {
        match ended {
            Ended::Digest(_) => self.done += 1,
            Ended::Failed(_) => self.failed += 1,
            Ended::Cancelled => self.cancelled += 1,
        }
    }
}

/// A file, and what became of it, if anything has.
type Entry = (Bytes, Option<Ended>);

struct Job {
    files: Vec<Entry>,
    progress: watch::Sender<Progress>,
    record: Record,
}

impl Job {
    fn new(files: Vec<Bytes>, record: Record) -> Self {
        let progress = Progress {
            files: files.len(),
            ..Progress::default()
        };
        Self {
            files: files.into_iter().map(|path| (path, None)).collect(),
            progress: watch::Sender::new(progress),
            record,
        }
    }

    fn is_over(&self) -> bool {
        self.progress.borrow().is_over()
    }

    /// Returns whether it changes anything that this has happened.
    fn is_news(&self, line: &Line) -> bool {
        match line {
            Line::Ended(number, _) => matches!(self.files.get(*number), Some((_, None))),
            Line::Cancelled => !self.is_over(),
        }
    }

    /// Takes in what has happened, and tells whoever watches.
    fn apply(&mut self, line: &Line) {
        let cancelled = Ended::Cancelled;
        let (files, ended) = match line {
            Line::Ended(number, ended) => match self.files.get_mut(*number) {
                Some(file) => (std::slice::from_mut(file), ended),
                None => return,
            },
            Line::Cancelled => (&mut self.files[..], &cancelled),
        };
        let mut now = *self.progress.borrow();
        for (_, place) in files.iter_mut().filter(|(_, place)| place.is_none()) {
            *place = Some(ended.clone());
            now.add(ended);
        }
        self.progress
            .send_if_modified(|told| std::mem::replace(told, now) != now);
    }
}

/// All jobs. Clones are the same.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

struct Shared {
    folder: Folder,
    all: Mutex<BTreeMap<u64, Job>>,
    /// The highest number of a job so far.
    last: AtomicU64,
}

/// Why a job cannot begin.
#[derive(Debug)]
pub enum BeginError {
    /// Too much is under way. Nothing has changed, and it can be tried again later.
    Full,
    /// It cannot be kept.
    Disk(io::Error),
}

impl From<io::Error> for BeginError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Jobs {
    /// Reads what an earlier start has left.
    pub fn open(data: &Path) -> io::Result<Self> {
        let folder = Folder::open(data.join("jobs"))?;
        let mut all = BTreeMap::new();
        for id in folder.jobs()? {
            let (files, lines, record) = folder.read(id)?;
            let mut job = Job::new(files, record);
            for line in lines {
                job.apply(&line);
            }
            if job.is_over() {
                // The service may have been killed before it did so.
                folder.remove_upload(id);
            }
            all.insert(id, job);
        }
        let last = all.last_key_value().map_or(0, |(id, _)| *id);
        Ok(Self(Arc::new(Shared {
            folder,
            all: Mutex::new(all),
            last: AtomicU64::new(last),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Job>> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of the next job, which none had before: the milliseconds since 1970, or
    /// one more than the last.
    pub fn next_id(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0);
        let next = |last: u64| now.max(last + 1);
        let last = &self.0.last;
        let before = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(next(it)));
        before.map_or(now, next)
    }

    /// Returns the path of what is sent for a job.
    pub fn upload(&self, id: u64) -> PathBuf {
        self.0.folder.upload(id)
    }

    /// Returns whether this is the path of something that was sent.
    pub fn has(&self, path: &Path) -> bool {
        self.0.folder.has(path)
    }

    /// Removes what there is of a job that did not begin.
    pub fn discard(&self, id: u64) {
        self.0.folder.remove(id);
    }

    /// Begins a job. When this has returned, it goes on also after a restart. Slow: it waits for
    /// the disk.
    pub fn begin(&self, id: u64, files: Vec<Bytes>) -> Result<Progress, BeginError> {
        let folder = &self.0.folder;
        let begun = folder
            .prepare(id, &files)
            .map_err(BeginError::Disk)
            .and_then(|()| {
                let mut all = self.lock();
                make_room(folder, &mut all, files.len())?;
                let job = Job::new(files, folder.begin(id)?);
                let progress = *job.progress.borrow();
                all.insert(id, job);
                Ok(progress)
            });
        if begun.is_err() {
            self.discard(id);
        }
        begun
    }

    /// Goes on with what an earlier start has left: hands in what is not done, and cancels what was
    /// to be cancelled.
    pub async fn go_on(self, scheduler: Scheduler) {
        let all: Vec<_> = self
            .lock()
            .iter()
            .map(|(id, job)| (*id, job.is_over()))
            .collect();
        for (id, is_over) in all {
            if is_over {
                // It may have been killed before it had cancelled all tasks.
                let _ = cancel_tasks(&scheduler, id).await;
            } else {
                self.hand_in(&scheduler, id).await;
            }
        }
    }

    /// Hands in what is not done of a job, as fast as the scheduler takes it.
    pub async fn hand_in(&self, scheduler: &Scheduler, id: u64) {
        let files = self.lock().get(&id).map_or(0, |job| job.files.len());
        let numbers: Vec<usize> = (0..files).collect();
        for batch in numbers.chunks(BATCH) {
            let mut left = batch.to_vec();
            loop {
                left = match self.hand_in_batch(scheduler, id, &left).await {
                    Ok(left) => left,
                    // The next start goes on.
                    Err(Stopped) => return,
                };
                if left.is_empty() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Hands in some files of a job. Returns those that the scheduler can take only later.
    async fn hand_in_batch(
        &self,
        scheduler: &Scheduler,
        id: u64,
        numbers: &[usize],
    ) -> Result<Vec<usize>, Stopped> {
        let wanted = self.unfinished(id, numbers);
        let tasks = wanted.iter().map(|(number, path)| {
            Execute::raw(KIND, path.clone())
                .group(id.to_string())
                .key(key(id, *number))
        });
        let answers = scheduler.execute_many(tasks.collect()).await;
        let mut later = Vec::new();
        for ((number, _), answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(task) => {
                    // The job was cancelled meanwhile, or the file has ended, and this is its task
                    // no more.
                    if self.unfinished(id, &[number]).is_empty() {
                        scheduler.cancel(task).await?;
                    }
                }
                Err(refused) if refused.refusal.is_temporary() => later.push(number),
                Err(refused) if refused.refusal == Refusal::Stopped => return Err(Stopped),
                Err(refused) => {
                    let ended = Ended::Failed(refused.to_string());
                    self.add(id, &Line::Ended(number, ended));
                }
            }
        }
        Ok(later)
    }

    /// Returns those of some files that have not ended.
    fn unfinished(&self, id: u64, numbers: &[usize]) -> Vec<(usize, Bytes)> {
        let jobs = self.lock();
        let Some(job) = jobs.get(&id) else {
            return Vec::new();
        };
        let files = numbers.iter().map(|&number| (number, &job.files[number]));
        let unfinished = files.filter(|(_, (_, ended))| ended.is_none());
        unfinished
            .map(|(number, (path, _))| (number, path.clone()))
            .collect()
    }

    /// Takes down what became of a file: first on disk, so that a kill does not undo what somebody
    /// was told.
    ///
    /// If it cannot be kept, it holds until the next start, which does the file again.
    fn add(&self, id: u64, line: &Line) {
        let mut jobs = self.lock();
        let Some(job) = jobs.get_mut(&id).filter(|job| job.is_news(line)) else {
            return;
        };
        let kept = job.record.add(line);
        job.apply(line);
        match kept {
            Ok(()) => self.let_go_of_upload(id, job),
            Err(error) => error!("what became of the job {id} cannot be kept: {error}"),
        }
    }

    /// Removes the upload of a job that is over by what has just happened, and was kept.
    fn let_go_of_upload(&self, id: u64, job: &Job) {
        if job.is_over() {
            self.0.folder.remove_upload(id);
        }
    }

    /// Takes down that a job is cancelled, if it is not over: first on disk, since what the next
    /// start would take up again is not cancelled.
    fn take_down_cancel(&self, id: u64) -> Option<io::Result<Progress>> {
        let mut jobs = self.lock();
        let job = jobs.get_mut(&id)?;
        if job.is_news(&Line::Cancelled) {
            if let Err(error) = job.record.add(&Line::Cancelled) {
                return Some(Err(error));
            }
            job.apply(&Line::Cancelled);
            self.let_go_of_upload(id, job);
        }
        let progress = *job.progress.borrow();
        Some(Ok(progress))
    }

    /// Cancels what is left of a job; returns how far it is then, if there is one. What runs is
    /// told to stop, and what comes of it changes nothing any more. Nothing is cancelled if that
    /// cannot be kept.
    pub async fn cancel(&self, scheduler: &Scheduler, id: u64) -> Option<io::Result<Progress>> {
        let progress = match self.take_down_cancel(id)? {
            Ok(progress) => progress,
            Err(error) => return Some(Err(error)),
        };
        if cancel_tasks(scheduler, id).await.is_err() {
            warn!(
                "the scheduler has stopped; the tasks of the job {id} are cancelled at its start"
            );
        }
        Some(Ok(progress))
    }

    /// Lets somebody watch a job.
    pub fn watch(&self, id: u64) -> Option<watch::Receiver<Progress>> {
        Some(self.lock().get(&id)?.progress.subscribe())
    }

    /// Returns how far each job is, the oldest first.
    pub fn list(&self) -> Vec<(u64, Progress)> {
        let jobs = self.lock();
        jobs.iter()
            .map(|(id, job)| (*id, *job.progress.borrow()))
            .collect()
    }

    /// Returns how far a job is, and its files.
    pub fn results(&self, id: u64) -> Option<(Progress, Vec<Entry>)> {
        let jobs = self.lock();
        let job = jobs.get(&id)?;
        Some((*job.progress.borrow(), job.files.clone()))
    }
}

/// Forgets the oldest jobs that are over, until one more with so many files can be kept.
fn make_room(
    folder: &Folder,
    all: &mut BTreeMap<u64, Job>,
    files: usize,
) -> Result<(), BeginError> {
    let count = |all: &BTreeMap<u64, Job>| all.values().map(|job| job.files.len()).sum::<usize>();
    while all.len() >= MAX_JOBS || count(all) + files > MAX_FILES {
        let oldest = all.iter().find(|(_, job)| job.is_over());
        let id = oldest.map(|(id, _)| *id).ok_or(BeginError::Full)?;
        all.remove(&id);
        folder.remove(id);
    }
    Ok(())
}

/// Cancels all tasks of a job, many at once, so that they share the commits of the store.
async fn cancel_tasks(scheduler: &Scheduler, id: u64) -> Result<(), Stopped> {
    let filter = TaskFilter::default().kind(KIND).group(id.to_string());
    let mut after = None;
    loop {
        let page = scheduler.find_tasks(&filter, after, BATCH).await?;
        let cancels = page.tasks.iter().map(|task| scheduler.cancel(task.id));
        for answer in join_all(cancels).await {
            answer?;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn key(job: u64, number: usize) -> String {
    format!("{job}-{number}")
}

/// The client of the scheduler: hears how each task ended.
pub struct Reporter(pub Jobs);

impl Actor for Reporter {
    type Context = Context<Self>;
}

impl Handler<TaskStatus> for Reporter {
    type Result = ();

    fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
        let key = status
            .key
            .as_ref()
            .and_then(|key| key.as_str().split_once('-'));
        let file = key.and_then(|(job, number)| Some((job.parse().ok()?, number.parse().ok()?)));
        // Tasks without such a key were not handed in by this service.
        let Some((job, number)) = file else {
            return;
        };
        let ended = match &status.outcome {
            Outcome::Cancelled => Ended::Cancelled,
            Outcome::Failed(failure) => Ended::Failed(failure.message.clone()),
            _ => match status.output::<String>() {
                Ok(digest) => Ended::Digest(digest),
                Err(error) => Ended::Failed(error.to_string()),
            },
        };
        self.0.add(job, &Line::Ended(number, ended));
    }
}
