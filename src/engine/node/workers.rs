//! The workers of a node: which run occupies which, and which can be used.
//!
//! Owns: the occupancy, the limit, the workers whose thread is blocked. Does not know: what is
//! reported, links, the lease.

use super::prefetch::Spot;
use crate::config::NodeConfig;
use crate::engine::{Timestamp, WorkerId};
use crate::task::{Dispatch, TaskId};

/// How far a run on a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    /// The run goes on.
    Running,
    /// The run goes on, unless it had not begun when its scheduler asked for it back.
    Retracted,
    /// The run was told to stop by its scheduler.
    Cancelled,
    /// The run was told to stop because the lease or the node ends.
    Dropping,
    /// The end of the run was reported, and yet it keeps its worker.
    Overrun,
}

impl RunState {
    /// Returns whether it was not told to stop, and has no end.
    pub(super) fn goes_on(self) -> bool {
        matches!(self, Self::Running | Self::Retracted)
    }
}

/// Who still wants to hear of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The scheduler that is served.
    Session,
    /// The scheduler that is served and told the node to leave: it waits for the goodbye alone.
    Left,
    /// Nobody: its scheduler is gone.
    Nobody,
}

/// What the scheduler that is served knows of the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The scheduler knows nothing of it.
    No,
    /// The start is told with the next reports, from this position in the outbox, or was told by
    /// it.
    Announced(u64),
    /// The scheduler knows that the run goes on.
    Yes,
}

/// What occupies a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerRun {
    pub(super) task: TaskId,
    pub(super) dispatch: Dispatch,
    /// The index of its kind in what the node offers.
    pub(super) kind: u16,
    pub(super) blocking: bool,
    pub(super) exclusive: bool,
    pub(super) state: RunState,
    pub(super) owner: Owner,
    pub(super) known: Known,
    pub(super) started: Timestamp,
    /// Where it waited before, if it did.
    pub(super) spot: Option<Spot>,
}

/// What one of several schedulers may have of the workers of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// How many it may have once those beyond it have ended.
    pub(super) target: u32,
    /// How many it may have now.
    pub(super) now: u32,
}

impl Share {
    /// The share of a scheduler that has all workers.
    pub(super) const WHOLE: Self = Self {
        target: u32::MAX,
        now: u32::MAX,
    };
}

#[derive(Clone, Debug, Default)]
struct Slot {
    run: Option<WorkerRun>,
    stalled: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Workers {
    /// Grows as workers are first used, so that a large limit costs nothing by itself.
    slots: Vec<Slot>,
    /// Slots below the limit that are neither occupied nor stalled.
    free: Vec<u32>,
    limit: u32,
    busy: u32,
    /// Slots below the limit that are stalled and not occupied.
    stalled_free: u32,
    /// Runs for an earlier start of the scheduler, which keep their workers until they end.
    left_over: u32,
    /// What may be busy by the share of this scheduler, and for now.
    share: Share,
    /// The most that may be busy: the limit, or what was busy when the limit was lowered.
    ceiling: u32,
}

impl Workers {
    pub(super) fn new(limit: u32) -> Self {
        let limit = limit.min(NodeConfig::MAX_WORKERS);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            limit,
            busy: 0,
            stalled_free: 0,
            left_over: 0,
            share: Share::WHOLE,
            ceiling: limit,
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn busy(&self) -> u32 {
        self.busy
    }

    /// Counts the workers that cannot be used, and of which the scheduler that is served has no
    /// run: their thread is blocked, or they are kept by what another start of the scheduler has
    /// left behind.
    pub(super) fn out_of_reach(&self) -> u32 {
        self.stalled_free + self.left_over
    }

    /// Counts the workers that can do nothing for this scheduler now, since others have them or
    /// their share. What is out of reach is told apart.
    pub(super) fn lent(&self) -> u32 {
        let within_reach = self.limit.saturating_sub(self.stalled_free);
        within_reach.saturating_sub(self.share.now)
    }

    /// Gives every run to another owner, but for those of an earlier start of the scheduler.
    pub(super) fn give_to(&mut self, owner: Owner) {
        let runs = self.slots.iter_mut().filter_map(|slot| slot.run.as_mut());
        for run in runs.filter(|run| run.owner != Owner::Nobody) {
            run.owner = owner;
        }
        self.left_over = self.nobodys();
    }

    fn nobodys(&self) -> u32 {
        let runs = self.slots.iter().filter_map(|slot| slot.run.as_ref());
        runs.filter(|run| run.owner == Owner::Nobody).count() as u32
    }

    pub(super) fn has_free(&self) -> bool {
        self.busy < self.share.now && self.is_within_limit()
    }

    fn is_within_limit(&self) -> bool {
        self.busy + self.stalled_free < self.limit
    }

    /// Returns whether a worker would be free if others had not their share of the process.
    pub(super) fn waits_for_others(&self) -> bool {
        self.busy >= self.share.now && self.is_within_limit()
    }

    /// Returns whether more run than the share.
    pub(super) fn is_over_share(&self) -> bool {
        self.busy > self.share.target
    }

    /// Sets the share. What runs beyond it ends by itself.
    pub(super) fn set_share(&mut self, share: Share) {
        self.share = share;
    }

    /// Sets the limit. What runs beyond it ends by itself.
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit.min(NodeConfig::MAX_WORKERS);
        self.ceiling = self.limit.max(self.busy);
        self.find_free();
    }

    fn find_free(&mut self) {
        self.free.clear();
        self.stalled_free = 0;
        let usable = self.slots.len().min(self.limit as usize);
        // Downwards, so that the lowest is on top of the stack.
        for index in (0..usable).rev() {
            let slot = &self.slots[index];
            match (slot.run.is_some(), slot.stalled) {
                (false, true) => self.stalled_free += 1,
                (false, false) => self.free.push(index as u32),
                (true, _) => {}
            }
        }
    }

    /// Occupies a free worker. The caller has asked [`Workers::has_free`].
    pub(super) fn occupy(&mut self, run: WorkerRun) -> Option<WorkerId> {
        if !self.has_free() {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok()?;
                if index >= self.limit {
                    return None;
                }
                self.slots.push(Slot::default());
                index
            }
        };
        self.slots[index as usize].run = Some(run);
        self.busy += 1;
        self.left_over += u32::from(run.owner == Owner::Nobody);
        Some(WorkerId(index))
    }

    /// Returns the run of this number on this worker.
    pub(super) fn run_mut(
        &mut self,
        worker: WorkerId,
        dispatch: Dispatch,
    ) -> Option<&mut WorkerRun> {
        let run = self.slots.get_mut(worker.0 as usize)?.run.as_mut()?;
        (run.dispatch == dispatch).then_some(run)
    }

    /// Returns the run on this worker.
    pub(super) fn run(&self, worker: WorkerId) -> Option<&WorkerRun> {
        self.slots.get(worker.0 as usize)?.run.as_ref()
    }

    /// Gives an occupied worker to another run, without a pause.
    pub(super) fn replace(&mut self, worker: WorkerId, run: WorkerRun) {
        if let Some(slot) = self.slots.get_mut(worker.0 as usize)
            && let Some(old) = &mut slot.run
        {
            self.left_over += u32::from(run.owner == Owner::Nobody);
            self.left_over -= u32::from(old.owner == Owner::Nobody);
            *old = run;
        }
    }

    /// Returns whether something may begin on this worker when its run has ended.
    pub(super) fn is_usable(&self, worker: WorkerId) -> bool {
        let slot = self.slots.get(worker.0 as usize);
        worker.0 < self.limit && slot.is_some_and(|slot| !slot.stalled)
    }

    /// Returns every worker below the limit that was ever used and is not stalled, in order.
    pub(super) fn usable(&self) -> impl Iterator<Item = WorkerId> {
        let below = self.slots.iter().zip(0..).take(self.limit as usize);
        below
            .filter(|(slot, _)| !slot.stalled)
            .map(|(_, index)| WorkerId(index))
    }

    /// Frees an occupied worker.
    pub(super) fn free(&mut self, worker: WorkerId) -> Option<WorkerRun> {
        let slot = self.slots.get_mut(worker.0 as usize)?;
        let run = slot.run.take()?;
        self.busy -= 1;
        self.left_over -= u32::from(run.owner == Owner::Nobody);
        if self.ceiling > self.limit {
            self.ceiling = self.limit.max(self.busy);
        }
        if worker.0 < self.limit {
            if slot.stalled {
                self.stalled_free += 1;
            } else {
                self.free.push(worker.0);
            }
        }
        Some(run)
    }

    /// Marks workers as out of reach, or as back. Unknown ids below the largest number of workers
    /// there can be are remembered: they belong to the thread too.
    pub(super) fn set_stalled(&mut self, workers: &[WorkerId], stalled: bool) {
        for &WorkerId(index) in workers {
            if index >= NodeConfig::MAX_WORKERS {
                continue;
            }
            if self.slots.len() <= index as usize {
                self.slots.resize(index as usize + 1, Slot::default());
            }
            self.slots[index as usize].stalled = stalled;
        }
        self.find_free();
    }

    /// Returns a task that probably blocks the thread of these workers: one that runs on it, not
    /// beside it.
    pub(super) fn blamed(&self, workers: &[WorkerId]) -> Option<TaskId> {
        let slots = workers
            .iter()
            .filter_map(|worker| self.slots.get(worker.0 as usize));
        blamed_of(slots)
    }

    /// Returns a task that probably blocks its thread, of all threads that are blocked.
    pub(super) fn blamed_anywhere(&self) -> Option<TaskId> {
        blamed_of(self.slots.iter().filter(|slot| slot.stalled))
    }

    /// Returns every occupied worker, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (WorkerId, &WorkerRun)> {
        self.slots
            .iter()
            .zip(0..)
            .filter_map(|(slot, index)| Some((WorkerId(index), slot.run.as_ref()?)))
    }

    /// Returns every occupied worker, in order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut WorkerRun)> {
        self.slots
            .iter_mut()
            .zip(0..)
            .filter_map(|(slot, index)| Some((WorkerId(index), slot.run.as_mut()?)))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let busy = self.slots.iter().filter(|slot| slot.run.is_some()).count();
        if busy != self.busy as usize {
            return Err(format!(
                "{} workers are counted busy, {busy} are",
                self.busy
            ));
        }
        if self.busy > self.ceiling {
            return Err(format!(
                "G4: {} tasks run where {} may",
                self.busy, self.ceiling
            ));
        }
        let below = || self.slots.iter().zip(0u32..).take(self.limit as usize);
        let stalled = below().filter(|(slot, _)| slot.run.is_none() && slot.stalled);
        if stalled.count() != self.stalled_free as usize {
            return Err(format!(
                "{} free workers are counted stalled, wrongly",
                self.stalled_free
            ));
        }
        if self.nobodys() != self.left_over {
            return Err("what earlier schedulers have left behind is miscounted".to_owned());
        }
        let mut free = self.free.clone();
        free.sort_unstable();
        let truly: Vec<u32> = below()
            .filter(|(slot, _)| slot.run.is_none() && !slot.stalled)
            .map(|(_, index)| index)
            .collect();
        if free != truly {
            return Err(format!(
                "the free workers are {truly:?}, noted are {free:?}"
            ));
        }
        Ok(())
    }
}

fn blamed_of<'a>(slots: impl Iterator<Item = &'a Slot> + Clone) -> Option<TaskId> {
    let runs = slots
        .filter_map(|slot| slot.run.as_ref())
        .filter(|run| run.owner == Owner::Session);
    let on_thread = runs.clone().find(|run| !run.blocking);
    on_thread
        .or_else(|| runs.clone().next())
        .map(|run| run.task)
}
