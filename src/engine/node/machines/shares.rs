//! How schedulers share the workers of a process.
//!
//! Owns: the arithmetic: equal shares of all workers, of which what one does not want is lent to
//! the others. Does not know: what runs, or how a scheduler is told.
//!
//! Nothing is preempted: who has more than its share, since others wanted nothing, starts nothing
//! new until it has no more. Each scheduler is told to count on its equal share at least, whatever
//! is lent: only what it sends shows that it wants its share back.

use super::Machines;
use crate::engine::Timestamp;
use crate::engine::node::NodeMachine;
use crate::engine::node::workers::Share;

impl Machines {
    /// Gives every machine its share of the workers of the process, and lets it start what it can
    /// by that.
    pub(super) fn share_out(&mut self, now: Timestamp) {
        let Some(all) = self.serves.max_workers else {
            return;
        };
        let machines = || self.seats.iter().flatten().map(|it| &it.machine);
        let wants: Vec<u32> = machines().map(wanted).collect();
        let busy: u32 = machines().map(|machine| machine.workers.busy()).sum();
        let shares = shares(all, &wants);
        let spare = all.saturating_sub(shares.iter().sum());
        let equal = (all / u32::try_from(wants.len().max(1)).unwrap_or(u32::MAX)).max(1);
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
            told: target.max(equal),
        };
        for (target, machine) in &mut machines {
            let before = machine.workers.busy();
            machine.workers.set_share(share(*target, before, free));
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
    let waiting = machine.ahead.len() + machine.chains.len();
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let wanted = machine.workers.busy().saturating_add(waiting);
    wanted.min(machine.workers.limit())
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
