//! The trails of tasks: attempts that failed or were lost, notes, progress.
//!
//! Owns: how much of it is kept, and what is forgotten first. Does not know: tasks but by their
//! ids, whether they have settled, or why one is tried again.
//!
//! One limit in bytes covers all trails, so an outage in which every task fails cannot exhaust
//! memory.

use std::collections::BTreeMap;

use super::message::MAX_NOTE_BYTES;
use crate::payload::Payload;
use crate::status::beginning;
use crate::task::{Dispatch, TaskId};
use crate::trail::{PastAttempt, TaskNote, TaskProgress, TaskTrail};

/// How many bytes all of them may take, by the reckoning of [`Trail::bytes`].
const MAX_BYTES: usize = 16 << 20;
/// The largest progress value that is remembered.
const MAX_PROGRESS: usize = 1 << 10;
/// What the maps need for a task beside what it has told.
const OVERHEAD: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    kept: BTreeMap<TaskId, Trail>,
    /// Who has told something when: the first is forgotten first.
    turns: BTreeMap<u64, TaskId>,
    last: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Trail {
    turn: u64,
    told: TaskTrail,
}

impl Trail {
    fn is_empty(&self) -> bool {
        let TaskTrail {
            attempts,
            notes,
            progress,
        } = &self.told;
        attempts.is_empty() && notes.is_empty() && progress.is_none()
    }

    fn bytes(&self) -> usize {
        let TaskTrail {
            attempts,
            notes,
            progress,
        } = &self.told;
        let room = attempts.capacity() * size_of::<PastAttempt>()
            + notes.capacity() * size_of::<TaskNote>();
        let attempts = attempts.iter().map(|it| it.message.len());
        let notes = notes.iter().map(|it| it.text.len());
        let progress = progress.as_ref().map_or(0, |it| it.value.len());
        let texts = attempts.sum::<usize>() + notes.sum::<usize>() + progress;
        OVERHEAD + size_of::<Self>() + room + texts
    }
}

impl Trails {
    /// Returns the trail of a task, if it has one that is remembered.
    pub fn of(&self, task: TaskId) -> Option<&TaskTrail> {
        Some(&self.kept.get(&task)?.told)
    }

    /// Remembers an attempt, and the beginning of its message.
    pub fn attempt(&mut self, task: TaskId, mut attempt: PastAttempt) {
        let message = &mut attempt.message;
        message.truncate(beginning(message, MAX_NOTE_BYTES).len());
        message.shrink_to_fit();
        self.change(task, |told| {
            push(&mut told.attempts, attempt, TaskTrail::MAX_ATTEMPTS);
        });
    }

    /// Takes back that a run was lost: it goes on.
    pub fn goes_on(&mut self, task: TaskId, dispatch: Dispatch) {
        if self.kept.contains_key(&task) {
            self.change(task, |told| {
                told.attempts.retain(|run| run.dispatch != dispatch);
            });
        }
    }

    /// Remembers a note.
    pub fn note(&mut self, task: TaskId, note: TaskNote) {
        self.change(task, |told| {
            push(&mut told.notes, note, TaskTrail::MAX_NOTES);
        });
    }

    /// Remembers how far a task is, unless the value is large.
    pub fn progress(&mut self, task: TaskId, progress: TaskProgress) {
        if progress.value.len() <= MAX_PROGRESS {
            // It may be a part of a large frame, which it would keep.
            let value = Payload::from(&progress.value[..]);
            let progress = TaskProgress { value, ..progress };
            self.change(task, |told| told.progress = Some(progress));
        }
    }

    fn change(&mut self, task: TaskId, change: impl FnOnce(&mut TaskTrail)) {
        let mut trail = self.take(task).unwrap_or_default();
        change(&mut trail.told);
        if trail.is_empty() {
            return;
        }
        self.last += 1;
        trail.turn = self.last;
        self.bytes += trail.bytes();
        self.turns.insert(trail.turn, task);
        self.kept.insert(task, trail);
        while self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.turns.first_key_value() else {
                break;
            };
            self.take(*oldest);
        }
    }

    fn take(&mut self, task: TaskId) -> Option<Trail> {
        let trail = self.kept.remove(&task)?;
        self.turns.remove(&trail.turn);
        self.bytes -= trail.bytes();
        Some(trail)
    }

    /// Returns the first count that does not fit what it counts.
    pub fn check(&self) -> Result<(), String> {
        let bytes: usize = self.kept.values().map(Trail::bytes).sum();
        if bytes != self.bytes || bytes > MAX_BYTES {
            return Err(format!(
                "{} bytes of trails, and {bytes} are kept",
                self.bytes
            ));
        }
        if self.turns.len() != self.kept.len() {
            return Err(format!(
                "{} trails have {} turns",
                self.kept.len(),
                self.turns.len()
            ));
        }
        Ok(())
    }
}

/// Adds one as the last, and lets go of the first if there are more than `most`.
fn push<T>(all: &mut Vec<T>, one: T, most: usize) {
    if all.len() == most {
        all.remove(0);
    }
    all.push(one);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::status::Cause;

    fn at(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(number)
    }

    fn attempt(number: u64, message: &str) -> PastAttempt {
        PastAttempt {
            node: "node".into(),
            dispatch: Dispatch::new(number),
            started_at: at(number),
            ran: Duration::from_secs(1),
            cause: Cause::Error,
            message: message.to_owned(),
        }
    }

    fn note(number: u64, text: &str) -> TaskNote {
        TaskNote {
            dispatch: Dispatch::new(number),
            at: at(number),
            text: text.into(),
        }
    }

    #[test]
    fn the_last_attempts_and_notes_are_remembered() {
        let mut trails = Trails::default();
        let task = TaskId::new(1);
        let long = "\u{e9}".repeat(500);
        for number in 1..=100 {
            trails.attempt(task, attempt(number, &long));
            trails.note(task, note(number, "here"));
        }
        trails.goes_on(task, Dispatch::new(99));
        let told = trails.of(task).unwrap();
        let attempts: Vec<_> = told.attempts.iter().map(|it| it.dispatch.get()).collect();
        assert_eq!(attempts, [93, 94, 95, 96, 97, 98, 100]);
        let mut messages = told.attempts.iter().map(|it| it.message.len());
        assert!(messages.all(|length| length == MAX_NOTE_BYTES));
        let notes: Vec<_> = told.notes.iter().map(|it| it.dispatch.get()).collect();
        assert_eq!(notes, (69..=100).collect::<Vec<_>>());
        assert_eq!(trails.check(), Ok(()));
    }

    #[test]
    fn who_has_told_nothing_for_the_longest_time_is_forgotten_first() {
        let mut trails = Trails::default();
        let first = TaskId::new(1);
        let text = "x".repeat(MAX_NOTE_BYTES);
        for number in 1..=100_000 {
            trails.note(TaskId::new(number), note(number, &text));
            // It tells something all the time.
            trails.note(first, note(number, &text));
        }
        assert!(trails.of(first).is_some());
        assert!(trails.of(TaskId::new(2)).is_none());
        assert!(trails.of(TaskId::new(100_000)).is_some());
        assert!(trails.kept.len() > 10_000, "{}", trails.kept.len());
        assert_eq!(trails.check(), Ok(()));
    }

    #[test]
    fn of_a_task_whose_run_goes_on_nothing_is_left() {
        let mut trails = Trails::default();
        let task = TaskId::new(1);
        trails.attempt(task, attempt(7, ""));
        trails.goes_on(task, Dispatch::new(7));
        assert!(trails.of(task).is_none());
        assert_eq!((trails.bytes, trails.turns.len()), (0, 0));
    }

    #[test]
    fn a_large_progress_value_leaves_the_one_before() {
        let mut trails = Trails::default();
        let task = TaskId::new(1);
        for (number, length) in [(1, 10), (2, MAX_PROGRESS + 1)] {
            let progress = TaskProgress {
                dispatch: Dispatch::new(number),
                at: at(number),
                value: Payload::from(vec![0; length]),
            };
            trails.progress(task, progress);
        }
        let progress = trails.of(task).unwrap().progress.as_ref().unwrap();
        assert_eq!(progress.dispatch, Dispatch::new(1));
    }
}
