//! What a dashboard asks each second, and the marks that an application sets in its plots.
//!
//! Owns: a handful of numbers, and the last marks. Does not know: how they are drawn.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use super::Scheduler;
use crate::actors::finding::GetPulse;
use crate::engine::meter::Pulse;
use crate::error::Stopped;
use crate::sync::lock;

/// How many marks are kept.
const MARKS: usize = 100;

/// How long the text of a mark may be, in letters; a longer one is cut.
const LETTERS: usize = 100;

/// The last marks, oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<VecDeque<(SystemTime, String)>>);

impl Scheduler {
    /// Sets a mark in the plots of the dashboard, such as the version that was just deployed. The
    /// last 100 are kept, for as long as the process lives; a text is cut at 100 letters.
    ///
    /// ```no_run
    /// # fn example(scheduler: callboard::Scheduler) {
    /// scheduler.mark("v1.4.2");
    /// # }
    /// ```
    pub fn mark(&self, text: impl AsRef<str>) {
        let text = text.as_ref().chars().take(LETTERS).collect();
        let mut marks = lock(&self.inner.marks.0);
        marks.push_back((SystemTime::now(), text));
        if marks.len() > MARKS {
            marks.pop_front();
        }
    }

    /// Returns the marks, oldest first.
    pub(crate) fn marks(&self) -> Vec<(SystemTime, String)> {
        lock(&self.inner.marks.0).iter().cloned().collect()
    }

    /// Returns the numbers of the plots.
    pub(crate) async fn pulse(&self) -> Result<Pulse, Stopped> {
        self.ask(GetPulse).await
    }
}
