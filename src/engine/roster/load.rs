//! How much a node takes: now, and ahead of its workers.
//!
//! Owns: the counts of a node's workers and of what it has, the arithmetic of its load, and what is
//! learned from runs for it. Does not know: which runs these are, whether the node takes tasks at
//! all, and which node is chosen.
//!
//! What is prefetched serves the bench rows `local` (7.5 times as many tasks a second as without),
//! `remote-1` (11 times) and `pending-1M` (9 times), measured with and without in one run,
//! 2026-11-28. `max_prefetch = 0` in the scheduler's settings turns it off.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::NodeConfig;
use crate::engine::placement::Room;
use crate::engine::queue::Turn;
use crate::engine::tasks::Company;
use crate::task::TaskId;

/// The args of tasks that wait at a node: nothing more is prefetched beyond it. It is what a line
/// of a gigabit a second carries in an eighth of a second. Large tasks that take less long than
/// their way would pile up at the node without it, in memory that is touched for the first time,
/// which costs more than a copy.
const MAX_AHEAD_BYTES: usize = 16 << 20;
/// The longest round trip that is believed, in nanoseconds. What took longer was held up by a cut
/// or a stall, and prefetching by it would pile tasks up where they wait.
const MAX_ROUND_TRIP: u64 = 500_000_000;
/// The shortest round trip, in nanoseconds: that of a wake-up between threads.
const SHORTEST_ROUND_TRIP: u64 = 20_000;
/// The shortest run and the longest time of all that are counted, in nanoseconds.
const SHORTEST_RUN: u64 = 1_000;
const LONGEST: u64 = u64::MAX / 16;

/// A task that waits at a node for less is not asked back: the asking takes as long.
const RIPE_AFTER: Duration = Duration::from_millis(1);
/// Nothing is prefetched when a run takes so many round trips, and no longer run is counted on in a
/// line.
const LONGEST_RUN: u32 = 4;

/// Whether what waits at a node gets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Moving,
    /// Something was asked back since the last start or end there, for it had waited too long:
    /// nothing more is prefetched, to wait behind the same runs.
    HeldUp,
}

/// What is counted of the tasks that a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub running: u32,
    pub prefetched: u32,
    /// The args of those that wait at it.
    pub prefetched_bytes: usize,
    pub suspects: u32,
    /// Tasks that were asked back and have neither come back nor started.
    pub retractions: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Workers by the node's word, or by `set`.
    workers: u32,
    /// Workers by an operator's wish.
    set: Option<u32>,
    /// Workers that do not answer, or that are kept by runs which this scheduler does not know.
    stalled: u32,
    /// Workers that can do nothing for this scheduler, since others have them or their share.
    lent: u32,
    /// The task that was blamed when it last told that some do not.
    blamed: Option<Option<TaskId>>,
    tally: Tally,
    /// The suspects at the node, by the number among which each may be.
    companies: BTreeMap<Company, u32>,
    flow: Flow,
    /// The best turn among the tasks that were asked back: nothing after it is prefetched, since it
    /// would start before what comes back. There is one as long as any is asked back.
    retracted: Option<Turn>,
    /// Moving averages, in nanoseconds: a run; and what a task costs beside its run.
    run_time: u64,
    round_trip: u64,
}

impl Load {
    pub fn new(workers: Option<u32>) -> Self {
        Self {
            set: workers,
            ..Self::default()
        }
    }

    #[inline]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Returns the number of workers that an operator wishes, if there is one.
    pub fn wanted_workers(&self) -> Option<u32> {
        self.set
    }

    /// Sets how many workers an operator wants.
    pub fn want_workers(&mut self, workers: u32) {
        self.set = Some(workers);
        self.workers = workers;
    }

    /// Takes in that its link is up, and that it has said how many workers it has, and how many of
    /// them cannot be used.
    pub fn link_up(&mut self, workers: u32, stalled: u32) {
        self.workers = self.set.unwrap_or(workers).min(NodeConfig::MAX_WORKERS);
        self.stalled = stalled.min(self.workers);
        self.lent = 0;
        self.blamed = (stalled > 0).then_some(None);
    }

    /// Takes in that so many of its workers cannot be used, and that this task is to blame, if one
    /// of this scheduler is. Returns whether an operator should hear of it: the handler that blocks
    /// its thread is another one than before. That the number has changed says nothing: it does so
    /// when the handler ends, too.
    pub fn stalled(&mut self, workers: u32, task: Option<TaskId>) -> bool {
        self.stalled = workers.min(self.workers);
        let blamed = (workers > 0 || task.is_some()).then_some(task);
        let before = std::mem::replace(&mut self.blamed, blamed);
        blamed.is_some() && (before.is_none() || (task.is_some() && before != blamed))
    }

    /// Takes in that so many of its workers do nothing for this scheduler now.
    pub fn lent(&mut self, workers: u32) {
        self.lent = workers.min(self.workers);
    }

    /// Counts the workers that do nothing for this scheduler now.
    pub fn lent_workers(&self) -> u32 {
        self.lent
    }

    /// Counts a task that is at it: ahead of its workers if so many bytes of args wait there, or
    /// else running.
    #[inline]
    pub fn put_on(&mut self, prefetched: Option<usize>, suspect: Option<Company>) {
        match prefetched {
            Some(bytes) => {
                self.tally.prefetched += 1;
                self.tally.prefetched_bytes += bytes;
            }
            None => {
                self.tally.running += 1;
                self.flow = Flow::Moving;
            }
        }
        if let Some(company) = suspect {
            self.tally.suspects += 1;
            *self.companies.entry(company).or_default() += 1;
        }
    }

    /// Counts a task that is not at it any more.
    #[inline]
    pub fn take_off(&mut self, prefetched: Option<usize>, suspect: Option<Company>) {
        match prefetched {
            Some(bytes) => {
                self.tally.prefetched -= 1;
                self.tally.prefetched_bytes -= bytes;
            }
            None => {
                self.tally.running -= 1;
                self.flow = Flow::Moving;
            }
        }
        if let Some(company) = suspect
            && let Some(count) = self.companies.get_mut(&company)
        {
            self.tally.suspects -= 1;
            *count -= 1;
            if *count == 0 {
                self.companies.remove(&company);
            }
        }
    }

    /// Counts a task of this turn that was asked back.
    pub fn retract(&mut self, turn: Turn) {
        self.tally.retractions += 1;
        self.retracted = Some(self.retracted.map_or(turn, |first| first.min(turn)));
    }

    /// Counts a task that was asked back, and has come back or will not.
    pub fn retract_over(&mut self) {
        self.tally.retractions -= 1;
        if self.tally.retractions == 0 {
            self.retracted = None;
        }
    }

    /// Returns the best turn among the tasks that were asked back.
    pub fn retracted(&self) -> Option<Turn> {
        self.retracted
    }

    /// Notes that its runs hold up what waits for them.
    pub fn is_held_up(&mut self) {
        self.flow = Flow::HeldUp;
    }

    /// Returns how long a task waits at it before it is asked back for a better use: the asking
    /// takes as long.
    pub fn ripe_after(&self) -> Duration {
        RIPE_AFTER.max(self.round_trip().saturating_mul(2))
    }

    /// Returns after which wait its runs count as holding a task up: so many round trips and
    /// average runs.
    pub fn held_up_after(&self, times: u32) -> Duration {
        let round_trip = self.round_trip();
        let run = Duration::from_nanos(self.run_time);
        let run = run.min(round_trip.saturating_mul(LONGEST_RUN));
        round_trip.saturating_add(run).saturating_mul(times)
    }

    /// Returns whether a suspect may be put on it: neither that one nor any that it has would be
    /// among too many.
    pub fn takes_suspect(&self, company: Company) -> bool {
        let least = self.companies.keys().next();
        let most = least.map_or(company, |&least| least.min(company));
        self.tally.suspects < most.get()
    }

    /// Returns what a task costs beside its run.
    pub fn round_trip(&self) -> Duration {
        Duration::from_nanos(self.round_trip)
    }

    /// Counts the workers that are taken, or out of reach, if so many are by orphaned runs.
    #[inline]
    pub fn taken(&self, orphaned: usize) -> u32 {
        self.tally
            .running
            .saturating_add(orphaned as u32)
            .saturating_add(self.stalled)
            .saturating_add(self.lent)
    }

    /// Counts the free workers that nothing waits for yet.
    pub fn free(&self, orphaned: usize) -> u32 {
        let taken = self.taken(orphaned).saturating_add(self.tally.prefetched);
        self.workers.saturating_sub(taken)
    }

    /// Returns how much may be placed on a node that takes tasks.
    #[inline]
    pub fn room(&self, orphaned: usize, max_prefetch: u32) -> Room {
        let prefetched = self.tally.prefetched;
        let taken = self.taken(orphaned).saturating_add(prefetched);
        if taken < self.workers {
            return Room::Free {
                taken,
                of: self.workers,
            };
        }
        let places = self.prefetches(max_prefetch);
        let moves = self.flow == Flow::Moving;
        if moves && prefetched < places && self.tally.prefetched_bytes < MAX_AHEAD_BYTES {
            Room::Prefetched {
                taken: prefetched,
                of: places,
            }
        } else {
            Room::None
        }
    }

    /// Returns how many tasks may wait at the node, so that its workers do not wait for a round
    /// trip: what they do in two of them. None when a run takes more than four: then the wait is
    /// small beside it, and a task that waits at a node cannot run at another.
    #[inline]
    fn prefetches(&self, max_prefetch: u32) -> u32 {
        if self.run_time == 0
            || self.round_trip == 0
            || self.run_time > self.round_trip.saturating_mul(u64::from(LONGEST_RUN))
        {
            return 0;
        }
        let per_worker = (self.round_trip.saturating_mul(2)).div_ceil(self.run_time.max(1));
        let usable = self.workers.saturating_sub(self.stalled + self.lent);
        let places = per_worker.saturating_mul(u64::from(usable));
        u32::try_from(places).unwrap_or(u32::MAX).min(max_prefetch)
    }

    /// Learns from a run that was placed on a free worker.
    #[inline]
    pub fn learn(&mut self, ran: Duration, whole: Duration) {
        let way = nanos(whole.saturating_sub(ran));
        self.round_trip = average(self.round_trip, way.min(MAX_ROUND_TRIP));
        self.learn_run(ran);
    }

    /// Learns from a run alone, since its wait says nothing of the round trip.
    #[inline]
    pub fn learn_run(&mut self, ran: Duration) {
        self.flow = Flow::Moving;
        self.run_time = average(self.run_time, nanos(ran)).max(SHORTEST_RUN);
        self.round_trip = self.round_trip.max(SHORTEST_ROUND_TRIP);
    }
}

/// Returns a time in nanoseconds; one that is far beyond all others is cut.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).map_or(LONGEST, |nanos| nanos.min(LONGEST))
}

/// Returns a moving average. The first figure is taken as it is.
fn average(old: u64, new: u64) -> u64 {
    match old {
        0 => new,
        old => old - old / 8 + new / 8,
    }
}
