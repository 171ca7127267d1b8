//! Cancelling all tasks that match a search, in the background.
//!
//! Owns: that it goes on when nobody waits, how far it is, and its own cancel. Does not know: which
//! tasks match, or who may begin one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;

use super::wrong::Wrong;
use crate::scheduler::Scheduler;
use crate::search::{FoundTask, TaskFilter};
use crate::status::CancelAnswer;
use crate::sync::lock;

/// How many tasks are cancelled at once, and found at once.
const AT_ONCE: usize = 64;
const PAGE: usize = 512;

/// How many sweeps are remembered.
const REMEMBERED: usize = 20;

/// One cancel of all that match.
#[derive(Debug)]
struct Sweep {
    number: u64,
    search: String,
    user: String,
    began: SystemTime,
    looked: AtomicU64,
    cancelled: AtomicU64,
    /// Those that had ended before, or whose run goes on.
    others: AtomicU64,
    is_stopped: AtomicBool,
    is_over: AtomicBool,
}

/// How far a sweep is.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    pub sweep: u64,
    pub search: String,
    pub user: String,
    /// `running`, `stopped` or `done`.
    pub state: &'static str,
    pub looked: u64,
    pub cancelled: u64,
    pub not_cancelled: u64,
}

/// The last sweeps of a scheduler, oldest first.
#[derive(Debug, Default)]
pub struct Sweeps(Mutex<VecDeque<Arc<Sweep>>>);

impl Sweeps {
    /// Begins one, as a search line asks and a filter understands it, and returns its number. It
    /// takes in the tasks that were accepted so far.
    ///
    /// # Errors
    ///
    /// One goes on already, or no thread can be started.
    pub fn begin(
        &self,
        scheduler: &Scheduler,
        search: &str,
        filter: TaskFilter,
        user: String,
    ) -> Result<u64, Wrong> {
        let sweep = self.enter(search, user)?;
        let number = sweep.number;
        let (scheduler, working) = (scheduler.clone(), Arc::clone(&sweep));
        let work = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            if let Ok(runtime) = runtime.enable_time().build() {
                runtime.block_on(working.work(&scheduler, &filter));
            }
            working.is_over.store(true, Ordering::Relaxed);
        };
        let thread = thread::Builder::new().name("callboard-sweep".to_owned());
        if let Err(error) = thread.spawn(work) {
            sweep.is_over.store(true, Ordering::Relaxed);
            return Err(Wrong::unavailable(format_args!(
                "no thread can be started: {error}"
            )));
        }
        Ok(number)
    }

    fn enter(&self, search: &str, user: String) -> Result<Arc<Sweep>, Wrong> {
        let mut sweeps = lock(&self.0);
        if sweeps.iter().any(|sweep| !sweep.is_over()) {
            return Err(Wrong::conflict(
                "another cancel of all that match goes on: wait for its end, or stop it",
            ));
        }
        let sweep = Arc::new(Sweep {
            number: sweeps.back().map_or(1, |last| last.number + 1),
            search: search.to_owned(),
            user,
            began: SystemTime::now(),
            looked: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            others: AtomicU64::default(),
            is_stopped: AtomicBool::default(),
            is_over: AtomicBool::default(),
        });
        sweeps.push_back(Arc::clone(&sweep));
        if sweeps.len() > REMEMBERED {
            sweeps.pop_front();
        }
        Ok(sweep)
    }

    /// Lets one cancel no further task.
    ///
    /// # Errors
    ///
    /// There is none of this number that goes on.
    pub fn stop(&self, number: u64) -> Result<(), Wrong> {
        let sweeps = lock(&self.0);
        let mut going = sweeps.iter().filter(|sweep| !sweep.is_over());
        let sweep = going.find(|sweep| sweep.number == number);
        let sweep = sweep.ok_or_else(|| {
            Wrong::not_found(format_args!(
                "no cancel of all that match with the number {number} goes on"
            ))
        })?;
        sweep.is_stopped.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns how far each is, the newest first.
    pub fn progress(&self) -> Vec<Progress> {
        let sweeps = lock(&self.0);
        sweeps.iter().rev().map(|sweep| sweep.progress()).collect()
    }
}

impl Sweep {
    async fn work(&self, scheduler: &Scheduler, filter: &TaskFilter) {
        let mut after = None;
        loop {
            // A stopped scheduler has nothing left to be cancelled.
            let Ok(page) = scheduler.find_tasks(filter, after, PAGE).await else {
                return;
            };
            self.looked.fetch_add(page.looked, Ordering::Relaxed);
            let is_meant = |task: &FoundTask| task.accepted_at <= self.began;
            let meets_the_end = page.tasks.last().is_some_and(|task| !is_meant(task));
            let tasks = page.tasks.into_iter().filter(is_meant);
            let each = stream::iter(tasks).for_each_concurrent(AT_ONCE, |task| async move {
                if self.is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                let count = match scheduler.cancel(task.id).await {
                    Ok(CancelAnswer::NeverStarted | CancelAnswer::Stopped) => &self.cancelled,
                    _ => &self.others,
                };
                count.fetch_add(1, Ordering::Relaxed);
            });
            each.await;
            after = page.next;
            if after.is_none() || meets_the_end || self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Returns whether it has ended.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Returns how far it is.
    fn progress(&self) -> Progress {
        let state = match (self.is_over(), self.is_stopped.load(Ordering::Relaxed)) {
            (false, _) => "running",
            (true, true) => "stopped",
            (true, false) => "done",
        };
        Progress {
            sweep: self.number,
            search: self.search.clone(),
            user: self.user.clone(),
            state,
            looked: self.looked.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            not_cancelled: self.others.load(Ordering::Relaxed),
        }
    }
}
