//! When a log may give room back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::WHO;
use crate::engine::keep::Keep;
use crate::engine::ledger::{Sealed, Stamp};
use crate::engine::record::{Claim, Term};
use crate::engine::{Event, Timestamp};
use crate::recorder::Recorder;
use crate::store::memory::MemoryLog;
use crate::store::recorder::recorder;
use crate::store::writer::IDLE;
use crate::store::{Batch, Claimant, EachRow, LogError, Snapshot, TaskLog};
use crate::task::TaskId;

/// A log that counts how often it may give room back.
struct Counting {
    log: MemoryLog,
    tidied: Arc<AtomicU32>,
}

impl TaskLog for Counting {
    fn claim(&mut self, who: &Claimant<'_>) -> Result<Claim, LogError> {
        self.log.claim(who)
    }

    fn replay(&mut self, each: EachRow<'_>) -> Result<(), LogError> {
        self.log.replay(each)
    }

    fn append(&mut self, batch: &Batch<'_>) -> Result<(), LogError> {
        self.log.append(batch)
    }

    fn reread(&mut self) -> Result<u64, LogError> {
        self.log.reread()
    }

    fn truncate(&mut self, before: u64) -> Result<(), LogError> {
        self.log.truncate(before)
    }

    fn check(&mut self) -> Result<(), LogError> {
        self.log.check()
    }

    fn max_row(&self) -> usize {
        self.log.max_row()
    }

    fn snapshot(&mut self) -> Result<Box<dyn Snapshot>, LogError> {
        self.log.snapshot()
    }

    fn forget(&mut self, ids: &[TaskId]) -> Result<usize, LogError> {
        self.log.forget(ids)
    }

    fn tidy(&mut self) -> Result<(), LogError> {
        self.tidied.fetch_add(1, Ordering::Relaxed);
        self.log.tidy()
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        Box::new(self.log).close()
    }
}

fn store(recorder: &mut dyn Recorder, batch: u64) {
    let told = recorder.append(Sealed {
        stamp: Stamp {
            term: Term(1),
            batch,
            next_task: 1,
            next_dispatch: 1,
            at: Timestamp(0),
        },
        records: Vec::new(),
        truncate: None,
    });
    assert!(matches!(told, Some(Event::Stored { .. })), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_log_on_the_thread_of_its_scheduler_gives_room_back_once_it_is_idle() {
    let tidied = Arc::new(AtomicU32::new(0));
    let mut log = Counting {
        log: MemoryLog::default(),
        tidied: Arc::clone(&tidied),
    };
    log.claim(&WHO).unwrap();
    let (mut recorder, _) = recorder(Box::new(log), Keep::nothing(), PathBuf::new(), None).unwrap();
    assert_eq!(recorder.due(), None, "nothing was appended");
    store(&mut *recorder, 1);
    let moment = Duration::from_millis(1);
    tokio::time::advance(IDLE - moment).await;
    // What comes meanwhile puts it off.
    store(&mut *recorder, 2);
    tokio::time::advance(IDLE - moment).await;
    assert!(recorder.look().is_none());
    assert_eq!(tidied.load(Ordering::Relaxed), 0);
    let due = recorder.due().expect("it is looked at again");
    assert_eq!(due, tokio::time::Instant::now() + moment);
    tokio::time::advance(moment).await;
    assert!(recorder.look().is_none());
    assert_eq!(tidied.load(Ordering::Relaxed), 1);
    // Once is enough, until something is appended.
    assert_eq!(recorder.due(), None);
    assert!(recorder.look().is_none());
    assert_eq!(tidied.load(Ordering::Relaxed), 1);
}
