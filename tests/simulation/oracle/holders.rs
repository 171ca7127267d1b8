//! G1: who has the status of each task that has ended, or is to have it.
//!
//! Owns: the client that a status goes to, what waits for the next one, and what is dropped since
//! nobody is to be told. Does not know: whether a status is true (see `statuses`).
//!
//! Who has a status is decided when its task ends, and again when that client is gone, a client is
//! set, or nobody is to be told any more. So what has ended is noted before each of these.

use std::collections::BTreeSet;

use callboard::__internals::engine::{Audience, ClientId};
use callboard::stats::ClientState;
use callboard::task::TaskId;

use super::{Facts, Given, Oracle};
use crate::cluster::Cluster;

/// Who has a status, or is to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Client(u64),
    /// The next client that is set.
    Next,
    /// It is dropped, and counted.
    Nobody,
}

impl Facts {
    /// Returns whether nothing is to be told of it any more.
    pub fn is_over(&self) -> bool {
        matches!(
            self.given,
            Given::Confirmed | Given::Answered | Given::Dropped
        )
    }

    /// Returns whether the scheduler holds its status for a client.
    fn is_held(&self) -> bool {
        self.holder.is_some() && !self.is_over()
    }
}

impl Oracle {
    /// Returns who is to have what is for this audience, if it ends now. What is for callers alone
    /// is held for nobody.
    pub fn heir(&self, audience: Audience) -> Option<Holder> {
        match audience {
            Audience::Caller => None,
            Audience::Client(client) if !self.gone.contains(&client.0) => {
                Some(Holder::Client(client.0))
            }
            Audience::Client(_) | Audience::Current => Some(self.current),
        }
    }

    /// Notes who has what has ended since this was noted last; `open` has not ended. What is not
    /// accepted by the batch that was `stored` last may have been refused after all, of which the
    /// next turn tells.
    fn note_holders(&mut self, open: &BTreeSet<TaskId>, stored: u64) {
        let ended = |(id, facts): &(&TaskId, &Facts)| {
            let untold = matches!(facts.given, Given::Nowhere | Given::Stored);
            untold && facts.holder.is_none() && facts.batch <= stored && !open.contains(id)
        };
        let tasks = self.tasks.last().into_iter().flatten();
        let ended: Vec<_> = tasks.filter(ended).map(|(id, _)| *id).collect();
        for id in ended {
            let heir = self.heir(self.tasks.last().unwrap()[&id].audience);
            if let Some(heir) = heir {
                self.hand_over(id, heir);
            }
        }
    }

    /// Gives a status to whoever has it from now on.
    fn hand_over(&mut self, id: TaskId, to: Holder) {
        let Some(facts) = self.now_tasks().get_mut(&id) else {
            return;
        };
        facts.holder = Some(to);
        if to == Holder::Nobody {
            facts.given = Given::Dropped;
            self.dropped += 1;
        }
    }

    /// Gives what one has to whoever is to be told from now on.
    fn pass_on(&mut self, from: Holder) {
        let has = |facts: &Facts| facts.holder == Some(from) && facts.is_held();
        let tasks = self.tasks.last().into_iter().flatten();
        let held: Vec<_> = tasks
            .filter(|(_, facts)| has(facts))
            .map(|(id, _)| *id)
            .collect();
        let to = self.current;
        held.into_iter().for_each(|id| self.hand_over(id, to));
    }

    /// Takes in who is to be told from now on. What waits for the next client goes there.
    fn set_current(&mut self, current: Holder) {
        self.current = current;
        self.says_nobody |= current == Holder::Nobody;
        self.pass_on(Holder::Next);
    }

    pub fn on_client_gone(&mut self, client: ClientId) {
        self.gone.insert(client.0);
        if self.current == Holder::Client(client.0) {
            self.current = Holder::Next;
        }
        self.pass_on(Holder::Client(client.0));
    }

    /// Takes in that the scheduler hears that nobody claimed an answer; `behind` says that as much
    /// waits for clients as may.
    pub fn on_hears_unclaimed(&mut self, task: TaskId, behind: bool) {
        let current = self.current;
        if let Some(facts) = self.now_tasks().get_mut(&task) {
            match current {
                Holder::Client(_) if !behind => facts.holder = Some(current),
                // Nobody is there to take it, or there is no room for it: it is only counted.
                _ => facts.given = Given::Answered,
            }
        }
    }
}

impl Cluster {
    /// Notes who has what has ended by now: that may change.
    pub fn note_holders(&mut self) {
        let open = self.scheduler.machine.unfinished();
        let open = open.iter().map(|task| task.id).collect();
        let stored = self.scheduler.machine.stored();
        self.oracle.note_holders(&open, stored);
    }

    /// Notes what was dropped by now.
    pub fn note_dropped(&mut self) {
        if self.oracle.current == Holder::Nobody {
            self.note_holders();
        }
    }

    /// Sets the client, or lets what ends wait for the next, or nobody be told.
    pub fn set_current(&mut self, current: Holder) {
        let now = crate::scheduler::clock(self.now);
        let machine = &mut self.scheduler.machine;
        match current {
            Holder::Client(client) => machine.set_client(now, Some(ClientId(client))),
            Holder::Next => machine.set_client(now, None),
            Holder::Nobody => machine.tell_nobody(now),
        }
        // What has ended until then is for whoever was to be told.
        self.note_holders();
        self.oracle.set_current(current);
        self.judge_dropped();
    }

    /// Judges that what nobody is to be told of is dropped, each ending once, and counted; and that
    /// all else is held, and nothing more.
    pub fn judge_dropped(&mut self) {
        if !self.oracle.says_nobody {
            return;
        }
        self.note_holders();
        let stats = self.stats();
        let tasks = self.oracle.now_tasks().values();
        let held = tasks.filter(|facts| facts.is_held()).count();
        let (dropped, current) = (self.oracle.dropped, self.oracle.current);
        let is_told = matches!(
            (current, stats.client),
            (Holder::Client(_), ClientState::Set)
                | (Holder::Next, ClientState::Awaited)
                | (Holder::Nobody, ClientState::Unwanted)
        );
        // A scheduler that slept has not read yet what clients have confirmed meanwhile.
        let has_read = self.scheduler.inbox.is_empty();
        let wrong = if stats.totals.untold != dropped {
            let counted = stats.totals.untold;
            format!("{dropped} endings are to be told to nobody, and {counted} are counted")
        } else if stats.unconfirmed_statuses != held && has_read {
            let counted = stats.unconfirmed_statuses;
            format!("{held} statuses are to be held, and {counted} are")
        } else if !is_told {
            format!(
                "{current:?} is to be told, and the client is {:?}",
                stats.client
            )
        } else {
            return;
        };
        self.oracle.fail("G1", None, wrong);
    }
}
