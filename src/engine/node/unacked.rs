//! The numbered reports of a node until they are acknowledged, and the reports to send next.
//!
//! Owns: the numbers, what is kept and its weight, the outbox. Does not know: links, runs, the
//! budget.

use std::collections::VecDeque;

use super::workers::Known;
use crate::engine::LinkId;
use crate::engine::message::{End, HeldRun, Holding, MAX_BATCH, Report, ToScheduler};
use crate::engine::node::NodeAction;
use crate::status::{Cause, Failure};

/// What a kept report weighs beside its output or message, about its size in memory.
const REPORT_BYTES: u64 = 64;
/// The bodies in one part of the holdings: small enough that a beat is soon sent behind it.
const PART_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    reports: VecDeque<Report>,
    bytes: u64,
    /// Kept reports of assignments that never started.
    unstarted: usize,
    last: u64,
}

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn unstarted(&self) -> usize {
        self.unstarted
    }

    /// Returns the number of the last report.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Takes the number of a new report. Numbers rise as long as the node's process lives, over all
    /// starts of its schedulers, so that no number is ever mistaken for an earlier one.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Begins behind this number.
    pub(super) fn number_after(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// Keeps a numbered report.
    pub(super) fn push(&mut self, report: Report) {
        self.bytes += weight(&report);
        self.unstarted += usize::from(never_started(&report));
        self.reports.push_back(report);
    }

    /// Forgets every report up to this number. A number that was not given out changes nothing.
    pub(super) fn acknowledge(&mut self, through: u64) -> Result<(), String> {
        if through > self.last {
            return Err(format!(
                "report {through} was acknowledged, but the last one is {}",
                self.last
            ));
        }
        while let Some(report) = self.reports.front()
            && report.seq() <= Some(through)
        {
            self.bytes -= weight(report);
            self.unstarted -= usize::from(never_started(report));
            self.reports.pop_front();
        }
        Ok(())
    }

    /// Turns outputs that are larger than the scheduler takes into failures.
    pub(super) fn bound_outputs(&mut self, max_output: usize) {
        for report in &mut self.reports {
            let before = weight(report);
            if let Report::Ended { end, .. } = report {
                let whole = std::mem::replace(end, End::Dropped);
                *end = bounded(whole, max_output);
            }
            self.bytes = self.bytes - before + weight(report);
        }
    }

    /// Returns the kept reports after this number, in order.
    pub(super) fn after(&self, seq: u64) -> impl Iterator<Item = &Report> {
        let start = self
            .reports
            .partition_point(|report| report.seq() <= Some(seq));
        self.reports.range(start..)
    }

    pub(super) fn clear(&mut self) {
        self.reports.clear();
        self.bytes = 0;
        self.unstarted = 0;
    }

    /// Returns the holdings, in parts; the last is marked.
    pub(super) fn holdings(&self, runs: Vec<HeldRun>) -> Vec<Holding> {
        let mut parts = vec![Holding::default()];
        let mut bodies = 0;
        for chunk in runs.chunks(MAX_BATCH) {
            let part = Holding {
                runs: chunk.to_vec(),
                ..Holding::default()
            };
            parts.push(part);
        }
        for report in &self.reports {
            let bytes = weight(report);
            let full = parts.last().is_none_or(|part| {
                let entries = part.runs.len() + part.reports.len();
                entries >= MAX_BATCH || (bodies > 0 && bodies + bytes > PART_BYTES)
            });
            if full {
                parts.push(Holding::default());
                bodies = 0;
            }
            bodies += bytes;
            if let Some(part) = parts.last_mut() {
                part.reports.push(report.clone());
            }
        }
        parts.retain(|part| !part.runs.is_empty() || !part.reports.is_empty());
        match parts.last_mut() {
            Some(part) => part.last = true,
            None => parts.push(Holding {
                last: true,
                ..Holding::default()
            }),
        }
        parts
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let mut before = 0;
        for report in &self.reports {
            match report.seq() {
                Some(seq) if seq > before && seq <= self.last => before = seq,
                seq => return Err(format!("kept report {seq:?} follows {before}")),
            }
        }
        if self.bytes != self.reports.iter().map(weight).sum::<u64>() {
            return Err(format!("kept reports are counted at {} bytes", self.bytes));
        }
        if self.unstarted
            != self
                .reports
                .iter()
                .filter(|report| never_started(report))
                .count()
        {
            return Err("kept reports of what never started are miscounted".to_owned());
        }
        Ok(())
    }
}

/// Returns an end as the scheduler takes it: an output that is too large is a failure. There is no
/// other attempt, which would find the same scheduler.
#[inline(always)]
pub(super) fn bounded(end: End, max_output: usize) -> End {
    match end {
        End::Completed(output) if output.len() > max_output => too_large(output.len(), max_output),
        end => end,
    }
}

#[cold]
fn too_large(bytes: usize, max_output: usize) -> End {
    End::Failed(Box::new(Failure::new(
        Cause::OutputTooLarge,
        format!(
            "the output is {bytes} bytes, and the scheduler takes {max_output}; return a reference to it, or raise \
             `max_frame` on the scheduler"
        ),
    )))
}

fn weight(report: &Report) -> u64 {
    REPORT_BYTES + report.kept_bytes() as u64
}

fn never_started(report: &Report) -> bool {
    match report {
        Report::Refused { .. } | Report::Returned { .. } => true,
        Report::Ended { ran, .. } => ran.is_zero(),
        _ => false,
    }
}

/// Reports to send at the next flush, in order.
#[derive(Debug, Default)]
pub(super) struct OutgoingReports {
    reports: Vec<Option<Report>>,
    /// How many were taken out before; positions count from 1.
    before: u64,
}

impl OutgoingReports {
    /// Adds a report; the answer is its position.
    pub(super) fn push(&mut self, report: Report) -> u64 {
        self.reports.push(Some(report));
        self.before + self.reports.len() as u64
    }

    /// Takes back the report of a start. Returns whether it was still there.
    #[inline]
    pub(super) fn retract(&mut self, start: Known) -> bool {
        let Known::Announced(position) = start else {
            return false;
        };
        position
            .checked_sub(self.before + 1)
            .and_then(|index| self.reports.get_mut(usize::try_from(index).ok()?))
            .and_then(Option::take)
            .is_some()
    }

    /// Empties it; the answer is what was in it.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Report> {
        self.before += self.reports.len() as u64;
        self.reports.drain(..).flatten()
    }

    /// Appends the messages that carry all of it.
    pub(super) fn flush(&mut self, link: LinkId, actions: &mut Vec<NodeAction>) {
        if self.reports.is_empty() {
            return;
        }
        let count = self.reports.len();
        let mut reports = self.drain();
        loop {
            let mut batch = Vec::with_capacity(count.min(MAX_BATCH));
            batch.extend(reports.by_ref().take(MAX_BATCH));
            if batch.is_empty() {
                break;
            }
            let message = ToScheduler::Reports(batch);
            actions.push(NodeAction::Send { link, message });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }
}
