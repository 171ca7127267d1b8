//! Reports that were taken and not acknowledged.
//!
//! Owns: how many may wait. Does not know: nodes, or why one might wait for them.
//!
//! An acknowledgement in a message of its own would wake two threads for each task. So it travels
//! with the next message to its node, at the latest with the answer to the next beat. A node that
//! waits for acknowledgements, because its budget is small, sends that beat at once.
//!
//! This serves the bench row `tls-latency`: without, one task at a time takes 1.36 times as long,
//! measured with and without in one run, 2026-11-28. Where a few words are written at once, without
//! TLS, it brings nothing. `MAX_REPORTS = 0` turns it off.

/// How many reports may wait. So few cost a node nothing.
const MAX_REPORTS: usize = 64;
/// How many bytes of bodies may wait: a thousandth of what a node may keep, by default.
const MAX_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    reports: usize,
    bytes: usize,
}

impl PendingAcks {
    /// Counts reports with bodies of so many bytes.
    pub fn add(&mut self, reports: usize, bytes: usize) {
        self.reports += reports;
        self.bytes += bytes;
    }

    /// Returns whether any are owed, and must not or need not wait: there is company, or they are
    /// many.
    pub fn is_due(&self, company: bool) -> bool {
        self.reports > 0 && (company || self.reports >= MAX_REPORTS || self.bytes >= MAX_BYTES)
    }
}
