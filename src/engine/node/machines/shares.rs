//! How schedulers share the workers of a process.
//!
//! Owns: the arithmetic: equal shares of all workers, of which what one does not want is lent to
//! the others, and the claims of schedulers whose next task is on its way. Does not know: what
//! runs, or how a scheduler is told.
//!
//! Nothing is preempted: a scheduler that has more than its share, since others wanted nothing,
//! starts nothing new until it has no more. Each scheduler is told how many workers others have
//! now, and tells how many tasks wait for those. So its tasks wait where they may still go to any
//! node, and a worker that comes back is kept for them until the first of them has come.

use std::collections::VecDeque;
use std::time::Duration;

use super::Machines;
use crate::engine::Timestamp;
use crate::engine::node::NodeMachine;
use crate::engine::node::workers::Share;

/// How long a claim lasts before a round trip was measured.
const FIRST_PATIENCE: Duration = Duration::from_millis(50);
/// A claim lasts for two round trips, but no longer than this: until then the worker is idle if
/// nothing comes.
const MAX_PATIENCE: Duration = Duration::from_millis(250);
/// The longest time for which a worker is kept for a scheduler that wants it.
const MAX_PATIENCE_WITH_WANTS: Duration = Duration::from_secs(1);
/// What the scheduler needs to decide, beside the way there and back.
const TO_DECIDE: Duration = Duration::from_millis(2);

/// The workers that a scheduler has just stopped using, and for which its next tasks may be on
/// their way: what must not wait at a node is sent only when the scheduler has heard of a free
/// worker. Without this memory a run of another scheduler, which may be long, would begin there in
/// between, again and again.
#[derive(Debug, Default)]
pub(super) struct FreedWorkers {
    used: u32,
    /// When each claim ends, in the order in which the workers were given up.
    ends: VecDeque<Timestamp>,
    /// Until when a worker is kept for what waits at the scheduler, if one is free for it.
    offered: Option<Timestamp>,
}

impl FreedWorkers {
    /// Takes note of how many workers are used, and returns that with what is still claimed, up to
    /// `most`.
    fn renew(&mut self, now: Timestamp, used: u32, patience: Duration, most: u32) -> u32 {
        while self.ends.front().is_some_and(|&end| end <= now) {
            self.ends.pop_front();
        }
        let used_again = used.saturating_sub(self.used) as usize;
        if used_again > 0 {
            // What it was offered is taken. The rest is offered anew.
            self.offered = None;
        }
        self.ends.drain(..used_again.min(self.ends.len()));
        let given_up = self.used.saturating_sub(used).min(most) as usize;
        if !patience.is_zero() {
            let end = now + patience;
            self.ends.extend(std::iter::repeat_n(end, given_up));
        }
        self.used = used;
        let room = most.saturating_sub(used) as usize;
        self.ends.truncate(room);
        // At most as many as there are workers.
        used + self.ends.len() as u32
    }

    /// Returns whether a scheduler has let a worker that it wanted be free for too long: it may be
    /// frozen, or what waited there has gone elsewhere.
    fn is_over(&self, now: Timestamp) -> bool {
        self.offered.is_some_and(|until| until <= now)
    }

    /// Takes note of whether a worker is free for what waits at the scheduler, which has so much
    /// time to send it.
    fn offer(&mut self, now: Timestamp, is_free: bool, patience: Duration) {
        self.offered = is_free.then(|| self.offered.unwrap_or(now + patience));
    }

    /// Returns when it changes by itself.
    fn next_end(&self) -> Option<Timestamp> {
        self.ends
            .front()
            .copied()
            .into_iter()
            .chain(self.offered)
            .min()
    }
}

impl Machines {
    /// Returns when the next claim ends, if somebody waits for its worker.
    pub(super) fn next_claim_end(&self) -> Option<Timestamp> {
        self.serves.max_workers?;
        let waits = |machine: &NodeMachine| {
            let wants = machine.wants > 0 || !machine.prefetched.is_empty();
            wants && machine.workers.waits_for_others()
        };
        if !self.seated().any(|it| waits(&it.machine)) {
            return None;
        }
        self.seated().filter_map(|it| it.claim.next_end()).min()
    }

    /// Gives every machine its share of the workers of the process, and lets it start what it can
    /// by that.
    pub(super) fn share_out(&mut self, now: Timestamp) {
        let Some(all) = self.serves.max_workers else {
            return;
        };
        let seated = self.seats.iter().flatten().count();
        let equal = (all / u32::try_from(seated.max(1)).unwrap_or(u32::MAX)).max(1);
        // Runs that go on beyond a share count too: their workers come back as they end.
        let mut busy = 0;
        let mut wants = Vec::with_capacity(seated);
        for it in self.seats.iter_mut().flatten() {
            busy += it.machine.workers.busy();
            let limit = it.machine.workers.limit();
            // What was lent to it goes back at once, so only its own share can be claimed.
            let most = equal.min(limit);
            let used = used(&it.machine);
            let claimed = it.claim.renew(now, used, patience(&it.machine), most);
            if it.claim.is_over(now) || it.machine.takes_nothing() {
                it.machine.wants = 0;
            }
            // What is claimed is claimed for what waits, too.
            let wanted = used.saturating_add(it.machine.wants).min(limit);
            wants.push(claimed.max(wanted));
        }
        let shares = shares(all, &wants);
        // What nobody wants now is open to all: the first task that comes may take it.
        let spare = all.saturating_sub(shares.iter().sum());
        let mut free = all.saturating_sub(busy);
        let seated = self.seats.iter_mut().flatten().zip(shares);
        let mut seated: Vec<_> = seated.map(|(it, share)| (share + spare, it)).collect();
        // Who lacks most of its share comes first.
        seated.sort_by_key(|(target, it)| {
            std::cmp::Reverse(target.saturating_sub(it.machine.workers.busy()))
        });
        let share = |target: u32, busy: u32, free: u32| Share {
            target,
            now: target.min(busy + free),
        };
        for (target, it) in &mut seated {
            let before = it.machine.workers.busy();
            it.machine.workers.set_share(share(*target, before, free));
            // It starts what it can before the next is asked, so that no worker is given twice.
            it.machine.pump(now);
            free -= it.machine.workers.busy() - before;
        }
        // What the others have started since is free for nobody.
        for (target, it) in &mut seated {
            let workers = &mut it.machine.workers;
            workers.set_share(share(*target, workers.busy(), free));
            let is_free = it.machine.wants > 0 && workers.has_free();
            it.claim
                .offer(now, is_free, patience_with_wants(&it.machine));
        }
    }
}

/// Returns how many workers a machine could use for what it has.
fn used(machine: &NodeMachine) -> u32 {
    let waiting = machine.prefetched.len() + machine.pipelines.len();
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let used = machine.workers.busy().saturating_add(waiting);
    used.min(machine.workers.limit())
}

/// Returns for how long a worker that was given up is claimed: not at all if no task can come for
/// it.
fn patience(machine: &NodeMachine) -> Duration {
    if !machine.is_up() || machine.takes_nothing() {
        return Duration::ZERO;
    }
    let measured = machine.lease.round_trip();
    measured.map_or(FIRST_PATIENCE, |round_trip| {
        (2 * round_trip + TO_DECIDE).min(MAX_PATIENCE)
    })
}

/// Returns for how long a free worker is kept for what waits at a scheduler that was told of it.
/// That has said that it wants it, so its link may be slow. A round trip that took very long was
/// held up.
fn patience_with_wants(machine: &NodeMachine) -> Duration {
    let measured = machine.lease.round_trip().unwrap_or_default();
    (2 * measured).clamp(MAX_PATIENCE, MAX_PATIENCE_WITH_WANTS)
}

/// Shares so many workers equally among those who want so many: nobody has more than it wants, and
/// nobody who wants more has less than another, but for what cannot be divided.
fn shares(all: u32, wants: &[u32]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|&place| wants[place]);
    let mut shares = vec![0; wants.len()];
    let mut left = all;
    for (rank, place) in order.into_iter().enumerate() {
        // At most as many as there are seats.
        let others = (wants.len() - rank) as u32;
        shares[place] = wants[place].min(left / others);
        left -= shares[place];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn what_one_does_not_want_is_lent_to_the_others_equally() {
        assert_eq!(shares(10, &[20, 20]), [5, 5]);
        assert_eq!(shares(10, &[2, 20]), [2, 8]);
        assert_eq!(shares(10, &[0, 20, 20]), [0, 5, 5]);
        assert_eq!(shares(10, &[20, 3, 20, 1]), [3, 3, 3, 1]);
        assert_eq!(shares(2, &[9, 9, 9]).iter().sum::<u32>(), 2);
        assert!(shares(10, &[]).is_empty());
    }
}
