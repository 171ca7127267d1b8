//! What was accepted and what has settled.
//!
//! Owns: that each task is entered once on either side. Its memory is taken at the start, so that
//! it does not look like a leak.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use callboard::{Outcome, TaskId, TaskStatus};

const ACCEPTED: u8 = 1;
const SETTLED: u8 = 2;

/// How many of the first ids may be entered after a later one: more than are handed in at once.
const EARLIER: u64 = 1 << 16;

/// How many objections are kept in words.
const WORDS: usize = 20;

/// See the module.
pub struct Ledger {
    tasks: Vec<AtomicU8>,
    /// The id of the first place.
    lowest: OnceLock<u64>,
    accepted: AtomicU64,
    settled: AtomicU64,
    refused: AtomicU64,
    reroutes: AtomicU64,
    told: Mutex<Told>,
}

/// How tasks ended, and what is wrong with that.
#[derive(Clone, Default)]
pub struct Told {
    pub outcomes: BTreeMap<String, u64>,
    pub wrong: u64,
    pub words: Vec<String>,
}

impl Ledger {
    /// For so many tasks, whose ids follow each other.
    pub fn new(count: u64) -> Self {
        // Not zeroes: those would be memory only when they are written.
        let tasks = (0..EARLIER + count).map(|_| AtomicU8::new(!0));
        let tasks = tasks.collect::<Vec<_>>();
        for task in &tasks {
            task.store(0, Ordering::Relaxed);
        }
        Self {
            tasks,
            lowest: OnceLock::new(),
            accepted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            reroutes: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    fn enter(&self, id: TaskId, what: u8) -> Option<bool> {
        let lowest = self.lowest.get_or_init(|| id.get().saturating_sub(EARLIER));
        let place = id.get().checked_sub(*lowest)?;
        let task = self.tasks.get(usize::try_from(place).ok()?)?;
        Some(task.fetch_or(what, Ordering::SeqCst) & what == 0)
    }

    /// Enters a task that was accepted; one that joined an earlier one by its key is that one.
    pub fn accepted(&self, id: TaskId) {
        match self.enter(id, ACCEPTED) {
            Some(true) => _ = self.accepted.fetch_add(1, Ordering::SeqCst),
            Some(false) => {}
            None => self.object(format!("{id} is a number that nobody expected")),
        }
    }

    /// Enters an ending; `objection` is what is wrong with it.
    pub fn settled(&self, status: &TaskStatus, objection: Option<String>) {
        match self.enter(status.id, SETTLED) {
            Some(true) => _ = self.settled.fetch_add(1, Ordering::SeqCst),
            Some(false) => self.object(format!("{} settled twice", status.id)),
            None => self.object(format!("{} settled, and nobody handed it in", status.id)),
        }
        self.reroutes
            .fetch_add(status.reroutes.into(), Ordering::SeqCst);
        let outcome = match &status.outcome {
            Outcome::Completed(_) => "completed".to_owned(),
            Outcome::Failed(failure) => format!("failed: {}", failure.cause),
            Outcome::Cancelled => "cancelled".to_owned(),
            other => other.to_string(),
        };
        *self.told().outcomes.entry(outcome).or_default() += 1;
        if let Some(objection) = objection {
            self.object(objection);
        }
    }

    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    fn object(&self, words: String) {
        let mut told = self.told();
        told.wrong += 1;
        if told.words.len() < WORDS {
            told.words.push(words);
        }
    }

    /// Accepted, settled, refused for a time, and nodes lost under tasks that ran.
    pub fn counts(&self) -> [u64; 4] {
        [&self.accepted, &self.settled, &self.refused, &self.reroutes]
            .map(|count| count.load(Ordering::SeqCst))
    }

    /// Tasks that were only accepted, and those that only settled.
    pub fn unmatched(&self) -> (Vec<TaskId>, Vec<TaskId>) {
        let only = |what| {
            let lowest = self.lowest.get().copied().unwrap_or_default();
            let tasks = self.tasks.iter().zip(lowest..);
            let tasks = tasks.filter(move |(task, _)| task.load(Ordering::SeqCst) == what);
            tasks.map(|(_, id)| TaskId::new(id)).collect()
        };
        (only(ACCEPTED), only(SETTLED))
    }

    pub fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // What a panic interrupts here is whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
