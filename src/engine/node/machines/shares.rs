//! How schedulers share the workers of a process.
//!
//! Owns: the arithmetic: equal shares of all workers, of which what one does not want is lent to
//! the others, and the claims of schedulers whose next task is on its way. Does not know: what
//! runs, or how a scheduler is told.
//!
//! Nothing is preempted: who has more than its share, since others wanted nothing, starts nothing
//! new until it has no more. Each scheduler is told to count on its equal share at least, whatever
//! is lent: only what it sends shows that it wants its share back.

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
/// What the scheduler needs to decide, beside the way there and back.
const TO_DECIDE: Duration = Duration::from_millis(2);

/// The workers that a scheduler has just stopped using, and for which its next tasks may be on
/// their way: what must not wait at a node is sent only when the scheduler has heard of a free
/// worker. Without this memory a run of another scheduler, which may be long, would begin there in
/// between, again and again.
#[derive(Debug, Default)]
pub(super) struct Claim {
    wanted: u32,
    /// When each claim ends, in the order in which the workers were given up.
    ends: VecDeque<Timestamp>,
}

impl Claim {
    /// Takes note of how many workers are wanted, and returns that with what is still claimed, up
    /// to `most`.
    fn renew(&mut self, now: Timestamp, wanted: u32, patience: Duration, most: u32) -> u32 {
        while self.ends.front().is_some_and(|&end| end <= now) {
            self.ends.pop_front();
        }
        let used_again = wanted.saturating_sub(self.wanted) as usize;
        self.ends.drain(..used_again.min(self.ends.len()));
        let given_up = self.wanted.saturating_sub(wanted).min(most) as usize;
        if !patience.is_zero() {
            let end = now + patience;
            self.ends.extend(std::iter::repeat_n(end, given_up));
        }
        self.wanted = wanted;
        let room = most.saturating_sub(wanted) as usize;
        self.ends.truncate(room);
        // At most as many as there are workers.
        wanted + self.ends.len() as u32
    }
}

impl Machines {
    /// When the next claim ends, if somebody waits for its worker.
    pub(super) fn next_claim_end(&self) -> Option<Timestamp> {
        self.serves.max_workers?;
        let waits = |machine: &NodeMachine| {
            !machine.prefetched.is_empty() && machine.workers.waits_for_others()
        };
        if !self.seated().any(|it| waits(&it.machine)) {
            return None;
        }
        let ends = self.seated().filter_map(|it| it.claim.ends.front());
        ends.copied().min()
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
            // What was lent to it goes back at once, so only its own share can be claimed.
            let most = equal.min(it.machine.workers.limit());
            let patience = patience(&it.machine);
            wants.push(it.claim.renew(now, wanted(&it.machine), patience, most));
        }
        let shares = shares(all, &wants);
        // What nobody wants now is open to all: the first task that comes may take it.
        let spare = all.saturating_sub(shares.iter().sum());
        let mut free = all.saturating_sub(busy);
        let mut machines: Vec<(u32, &mut NodeMachine)> = self
            .seats
            .iter_mut()
            .flatten()
            .map(|it| &mut it.machine)
            .zip(shares)
            .map(|(machine, share)| (share + spare, machine))
            .collect();
        // Who lacks most of its share comes first.
        machines.sort_by_key(|(target, machine)| {
            std::cmp::Reverse(target.saturating_sub(machine.workers.busy()))
        });
        let share = |target: u32, busy: u32, free: u32| Share {
            target,
            now: target.min(busy + free),
            promised: target.max(equal),
        };
        for (target, machine) in &mut machines {
            let before = machine.workers.busy();
            machine.workers.set_share(share(*target, before, free));
            // It starts what it can before the next is asked, so that no worker is given twice.
            machine.pump(now);
            free -= machine.workers.busy() - before;
        }
        // What the others have started since is free for nobody.
        for (target, machine) in &mut machines {
            let busy = machine.workers.busy();
            machine.workers.set_share(share(*target, busy, free));
        }
    }
}

/// How many workers a machine could use.
fn wanted(machine: &NodeMachine) -> u32 {
    let waiting = machine.prefetched.len() + machine.pipelines.len();
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let wanted = machine.workers.busy().saturating_add(waiting);
    wanted.min(machine.workers.limit())
}

/// For how long a worker that was given up is claimed: not at all if no task can come for it.
fn patience(machine: &NodeMachine) -> Duration {
    if !machine.is_up() || machine.takes_nothing() {
        return Duration::ZERO;
    }
    let measured = machine.lease.round_trip();
    measured.map_or(FIRST_PATIENCE, |round_trip| {
        (2 * round_trip + TO_DECIDE).min(MAX_PATIENCE)
    })
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
