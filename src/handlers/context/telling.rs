//! What a handler tells of its attempt on the way: its progress, and notes.
//!
//! Owns: how often it may. Does not know: who hears it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::TaskContext;
use crate::encoding;
use crate::engine::message::{MAX_NOTE_BYTES, MAX_PROGRESS_BYTES, PROGRESS_INTERVAL};
use crate::engine::node::NodeEvent;
use crate::error::EncodeError;
use crate::status::beginning;

/// How often an attempt may tell something: a handler in a tight loop must fill no memory. It is
/// the generic cell rate algorithm (ITU-T I.371).
pub(super) struct Pace {
    interval: Duration,
    /// How many may be told at once.
    burst: u32,
    /// When all that was told would have been due, had it been told evenly: in nanoseconds from the
    /// start of the attempt.
    told: AtomicU64,
}

impl Pace {
    /// How often a watcher is told.
    pub fn watched() -> Self {
        Self {
            interval: PROGRESS_INTERVAL,
            burst: 32,
            told: AtomicU64::new(0),
        }
    }

    /// How often progress is told that nobody watches: once a second, for those who look, and not
    /// within the first second, so that short attempts need not tell any.
    pub fn unwatched() -> Self {
        let interval = Duration::from_secs(1);
        Self {
            interval,
            burst: 1,
            told: AtomicU64::new(nanos(interval)),
        }
    }

    /// How often a note is told.
    pub fn notes() -> Self {
        Self {
            interval: Duration::from_millis(100),
            ..Self::watched()
        }
    }

    /// Returns whether one more may be told, so long after the start of the attempt.
    fn may_tell(&self, now: Duration) -> bool {
        let (now, interval) = (nanos(now), nanos(self.interval));
        let latest = now.saturating_add(nanos(self.interval * self.burst));
        self.told
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |told| {
                let next = told.max(now).saturating_add(interval);
                (next <= latest).then_some(next)
            })
            .is_ok()
    }
}

impl TaskContext {
    /// Tells how far the handler is: the task's watcher, and whoever asks for its
    /// [trail](crate::Scheduler::trail), as the dashboard does.
    ///
    /// ```
    /// # use callboard::*;
    /// fn paint(_: (), cx: TaskContext) -> Result<(), TaskError> {
    ///     for percent in 0..=100u8 {
    ///         // ... a hundredth of the work ...
    ///         cx.progress(&percent)?;
    ///     }
    ///     Ok(())
    /// }
    /// # assert!(paint((), TaskContext::for_test()).is_ok());
    /// ```
    ///
    /// Nobody confirms it. An attempt that is watched may tell 32 values at once and then one each
    /// 10 ms, any other one a second after its first second; what goes beyond is dropped silently,
    /// and costs next to nothing. Of a value of more than 1 KiB the trail knows nothing. Whoever
    /// may see the dashboard sees it, after `Dashboard::redact`: put no secret into it.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded, or takes more than [`MAX_PROGRESS_BYTES`]: a mistake in the
    /// handler, which trying again does not mend. It is found when a value is sent, so a short
    /// attempt that nobody watches does not find it.
    pub fn progress<T: Serialize + 'static>(&self, value: &T) -> Result<(), EncodeError> {
        if !self.0.progress.may_tell(self.0.started.elapsed()) {
            return Ok(());
        }
        let value = encoding::encode(value).map_err(EncodeError)?;
        if value.len() > MAX_PROGRESS_BYTES {
            return Err(EncodeError(format!(
                "a progress value of {} bytes is larger than the limit of {MAX_PROGRESS_BYTES}",
                value.len()
            )));
        }
        let progress = NodeEvent::Progress {
            worker: self.0.worker,
            dispatch: self.0.dispatch,
            value,
        };
        self.0.env.inbox.push(progress.into());
        Ok(())
    }

    /// Notes something for those who look at the task: the scheduler remembers the last 32 notes of
    /// a task, of 256 bytes each, and tells them by [`Scheduler::trail`](crate::Scheduler::trail),
    /// on the dashboard and to `callboard explain`.
    ///
    /// ```
    /// # use callboard::*;
    /// async fn import(path: String, cx: TaskContext) -> Result<(), TaskError> {
    ///     cx.note(format!("{path} has a header of version 2"));
    ///     // ...
    ///     Ok(())
    /// }
    /// # let handlers = Handlers::new().on("import", import);
    /// ```
    ///
    /// A longer note is cut. Nobody confirms it: a note that is under way when a link breaks is
    /// lost, and the end of the attempt never waits for one. An attempt may note 32 things at once,
    /// and then ten a second; what goes beyond is dropped silently. Whoever may see the dashboard
    /// sees it: put no secret into it.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.0.notes.may_tell(self.0.started.elapsed()) {
            return;
        }
        let note = NodeEvent::Note {
            worker: self.0.worker,
            dispatch: self.0.dispatch,
            text: beginning(text.as_ref(), MAX_NOTE_BYTES).into(),
        };
        self.0.env.inbox.push(note.into());
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pace: &Pace, from: u64, to: u64) -> usize {
        let times = (from..to).map(Duration::from_millis);
        times.filter(|&now| pace.may_tell(now)).count()
    }

    #[test]
    fn a_watched_attempt_tells_32_at_once_and_then_a_hundred_a_second() {
        let pace = Pace::watched();
        let at_once = (0..100).filter(|_| pace.may_tell(Duration::ZERO)).count();
        assert_eq!(at_once, 32);
        assert_eq!(told(&pace, 0, 1000), 99);
    }

    #[test]
    fn one_that_nobody_watches_tells_nothing_in_its_first_second_and_then_one_a_second() {
        let pace = Pace::unwatched();
        assert_eq!(told(&pace, 0, 1000), 0);
        assert_eq!(told(&pace, 1000, 10_000), 9);
        // What was not told is not made up for.
        assert_eq!(told(&pace, 60_000, 60_500), 1);
    }

    #[test]
    fn notes_come_ten_a_second() {
        let pace = Pace::notes();
        let at_once = (0..100).filter(|_| pace.may_tell(Duration::ZERO)).count();
        assert_eq!(at_once, 32);
        assert_eq!(told(&pace, 0, 1000), 9);
    }
}
