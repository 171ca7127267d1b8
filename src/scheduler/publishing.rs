//! Telling metrics once a second.
//!
//! Owns: the thread that does, and when it ends. Does not know: which metrics there are.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{MissedTickBehavior, interval};

use super::{Inner, Scheduler};
use crate::facade::Facade;
use crate::sync::lock;

/// How often it is told.
const PERIOD: Duration = Duration::from_secs(1);

/// Begins, if it has not begun.
///
/// # Errors
///
/// There is no thread or no timer for it.
pub(super) fn begin(scheduler: &Scheduler) -> io::Result<()> {
    let mut publisher = lock(&scheduler.inner.publisher);
    if publisher.is_some() {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let inner = Arc::downgrade(&scheduler.inner);
    let facade = Facade::new(&scheduler.inner.name);
    let thread = thread::Builder::new().name("callboard-metrics".to_owned());
    let work = move || runtime.block_on(publish(&inner, facade));
    *publisher = Some(thread.spawn(work)?.thread().id());
    Ok(())
}

/// Tells until the scheduler has stopped, or nobody has its handle.
async fn publish(inner: &Weak<Inner>, mut facade: Facade) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else {
            break;
        };
        match (Scheduler { inner }).snapshot().await {
            Ok(snapshot) => facade.tell(&snapshot),
            Err(_) => break,
        }
    }
    facade.end();
}
