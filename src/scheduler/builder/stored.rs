//! The start of a scheduler on a store.
//!
//! Owns: on which thread the store is opened and read. Does not know: how that is done, or what is
//! in it.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use crate::actors::scheduler::Kept;
use crate::clock::Clock;
use crate::config::SchedulerConfig;
use crate::contain::contained;
use crate::engine::scheduler::{SchedulerMachine, Unrecoverable};
use crate::engine::{Event, SchedulerId};
use crate::error::{StartError, StoreError};
use crate::handlers::Hold;
use crate::inbox::Inbox;
use crate::links::Incoming;
use crate::store::recorder::recorder;
use crate::store::writer::Reader;
use crate::store::{Claimant, LeftRunning, Opened, Store};

/// What is to go on from a store.
pub(super) struct Opening {
    pub store: Store,
    pub name: Arc<str>,
    /// The scheduler id, if the store has none.
    pub scheduler_id: SchedulerId,
    pub config: SchedulerConfig,
    pub clock: Clock,
}

impl Opening {
    /// Opens the store and recovers what is in it, on a thread of its own, and hears of it by
    /// `inbox` from then on. Without an inbox all of this is done on the calling thread.
    pub async fn open(
        self,
        inbox: Option<Inbox<Incoming<Event>>>,
    ) -> Result<(Kept, Reader), StartError> {
        if inbox.is_none() {
            return self.recover(None, || false);
        }
        let (tx, rx) = oneshot::channel();
        let open = move || {
            let recovered = contained(|| self.recover(inbox, || tx.is_closed()));
            let broken = |panic| Err(StoreError::Io(panic).into());
            // If whoever waits for it has gone, it is closed again.
            drop(tx.send(recovered.unwrap_or_else(broken)));
        };
        let named = thread::Builder::new().name("callboard-store".to_owned());
        named.spawn(open).map_err(StartError::Thread)?;
        rx.await
            .unwrap_or_else(|_| Err(StartError::Thread(io::Error::other("it has ended"))))
    }

    fn recover(
        self,
        inbox: Option<Inbox<Incoming<Event>>>,
        given_up: impl Fn() -> bool,
    ) -> Result<(Kept, Reader), StartError> {
        let who = Claimant {
            scheduler: &self.name,
            new_id: self.scheduler_id,
        };
        let Opened {
            log,
            keep,
            claim,
            found,
        } = self.store.open(&who, given_up)?;
        let (wall, now) = (self.clock.wall(), self.clock.now());
        let recovered =
            SchedulerMachine::recover(Arc::clone(&self.name), self.config, found, claim, wall, now);
        let path = self.store.path().to_owned();
        let machine = recovered.map_err(store_error)?.keeping(keep.clone());
        let recorder = recorder(log, keep, path, inbox);
        let (recorder, reader) = recorder.map_err(StartError::Thread)?;
        Ok((Kept { machine, recorder }, reader))
    }
}

/// Returns what keeps the next start from a store while the handler of an exclusive task, which
/// blocks, is still running here.
pub(super) fn hold(store: &Store) -> Hold {
    let path = store.path().to_owned();
    Hold::new(move || Arc::new(LeftRunning::begin(&path)))
}

fn store_error(error: Unrecoverable) -> StoreError {
    match error {
        Unrecoverable::TooLarge { task, bytes, limit } => {
            StoreError::TooLarge { task, bytes, limit }
        }
    }
}
