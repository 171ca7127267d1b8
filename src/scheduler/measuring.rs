//! What the handle tells of all that is measured.
//!
//! Owns: that the counts of the network come to those of the actor. Does not know: what is measured
//! or how it is written.

use super::Scheduler;
#[cfg(feature = "metrics")]
use super::publishing;
use crate::actors::GetSnapshot;
use crate::error::Stopped;
use crate::prometheus;
use crate::snapshot::Snapshot;
use crate::stats::MetricsDetail;

impl Scheduler {
    /// Returns all that is measured, as text that Prometheus reads: its text format, version 0.0.4.
    /// Serve it with the content type `text/plain; version=0.0.4`. [Operations] lists the names,
    /// types, units and labels, and has rules to alarm by.
    ///
    /// Counters begin at zero with each start of the scheduler. The 25 kinds that had most tasks of
    /// late are told by name, all others together as `kind="other"`; none of it is told by node.
    /// The text is made on the thread of the caller. What the scheduler does for it takes about as
    /// long as [`stats`](Self::stats), and longer with what runs and waits at nodes.
    ///
    /// ```
    /// # use callboard::Scheduler;
    /// # async fn example(scheduler: Scheduler) -> Result<(), callboard::error::Stopped> {
    /// let text = scheduler.prometheus().await?;
    /// assert!(text.contains("# TYPE callboard_tasks gauge"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing but that the answer is lost.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    ///
    /// [Operations]: crate::guide::operations
    pub async fn prometheus(&self) -> Result<String, Stopped> {
        self.prometheus_with(MetricsDetail::Totals).await
    }

    /// Returns the same in this detail.
    ///
    /// ```
    /// # use callboard::{Scheduler, stats::MetricsDetail};
    /// # async fn example(scheduler: Scheduler) -> Result<(), callboard::error::Stopped> {
    /// let text = scheduler.prometheus_with(MetricsDetail::PerNode).await?;
    /// assert!(text.contains("# TYPE callboard_node_workers gauge"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As for [`prometheus`](Self::prometheus).
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn prometheus_with(&self, detail: MetricsDetail) -> Result<String, Stopped> {
        let snapshot = self.snapshot().await?;
        Ok(prometheus::write(&snapshot, detail))
    }

    /// Tells the facade `metrics` once a second all that [`prometheus`](Self::prometheus) does, but
    /// the histograms, until the scheduler ends: to whichever recorder the application has
    /// installed by then. It goes on in a thread of its own, and keeps the scheduler from nothing.
    /// Called again it changes nothing.
    ///
    /// Counters are set to what they are (`absolute`). When the scheduler has ended, all gauges are
    /// set to zero, and so is a gauge that is told no more, as of a kind that is no longer paused.
    /// [Operations] has the names.
    ///
    /// ```
    /// # fn example(scheduler: callboard::Scheduler) -> std::io::Result<()> {
    /// scheduler.publish_metrics()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system gives no thread; nothing is told, and a later call tries again.
    ///
    /// [Operations]: crate::guide::operations
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) -> std::io::Result<()> {
        publishing::begin(self)
    }

    /// Returns all that is measured.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Stopped> {
        let mut snapshot = *self.ask(GetSnapshot).await?;
        snapshot.bytes = self.inner.traffic.bytes();
        Ok(snapshot)
    }
}
