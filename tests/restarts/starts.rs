//! When tasks start again after a restart of their scheduler.
//!
//! Owns: which run was placed by the new process. Does not know: who wrote the runs down.

use std::time::Duration;

/// Dispatches of a later term are above all that were reserved before, and so above what was given
/// out by about this much at least.
const NEXT_TERM: u64 = 1 << 16;

/// Returns the spans from each restart to the first start of a task that was placed after it,
/// the shortest first. Of a run it takes when it started and its dispatch.
pub fn first_starts(
    runs: impl Iterator<Item = (u64, u64)> + Clone,
    restarts: &[u64],
) -> Vec<Duration> {
    let first = |&at: &u64| {
        let before = runs.clone().filter(|&(start, _)| start < at);
        let highest = before.map(|(_, dispatch)| dispatch).max().unwrap_or(0);
        let after = runs.clone().filter(|&(start, _)| start >= at);
        let placed = after.filter(|&(_, dispatch)| dispatch > highest + NEXT_TERM);
        let start = placed.map(|(start, _)| start).min()?;
        Some(Duration::from_nanos(start - at))
    };
    let mut starts: Vec<_> = restarts.iter().filter_map(first).collect();
    starts.sort_unstable();
    starts
}
