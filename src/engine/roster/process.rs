//! One incarnation of a node's process, as long as that forgets nothing.
//!
//! Owns: what is known of that process and of no other: its hello, its lease, the reports of it
//! that were taken, the runs that may still be going on there. Does not know: what goes out on its
//! link, or what follows from its end. Nothing of one incarnation is reset for the next, which
//! begins as a value of its own. So does a process that has forgotten its scheduler, under the same
//! incarnation.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Channel, Lease, Orphan};
use crate::engine::message::NodeHello;
use crate::engine::record::KnownProcess;
use crate::engine::{Incarnation, Memory, Timestamp};
use crate::task::{Dispatch, TaskId};

/// What a process says of itself: whether it would start something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// The process has refused an assignment and not yet said that it would start something again.
    Refusing,
    /// The process drains by its own wish, and that is for good.
    Leaving,
}

/// How long its beats take to be answered, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// No beat was answered so far.
    Unknown,
    Quick(Duration),
    /// More than a share of the lease: little more makes the lease end on a link that is up.
    Slow(Duration),
}

/// A link is slow once a round trip takes more than one part in so many of the lease.
const SLOW_SHARE: u32 = 5;
/// A slow link is slow until a round trip takes less than one part in so many of the lease.
const QUICK_SHARE: u32 = 10;

impl Pace {
    pub fn round_trip(self) -> Option<Duration> {
        match self {
            Self::Unknown => None,
            Self::Quick(round_trip) | Self::Slow(round_trip) => Some(round_trip),
        }
    }

    pub fn is_slow(self) -> bool {
        matches!(self, Self::Slow(_))
    }

    fn after(self, round_trip: Duration, lease: Duration) -> Self {
        let share = if self.is_slow() {
            QUICK_SHARE
        } else {
            SLOW_SHARE
        };
        if round_trip > lease / share {
            Self::Slow(round_trip)
        } else {
            Self::Quick(round_trip)
        }
    }
}

/// How far the scheduler reaches it.
#[derive(Debug)]
pub(crate) enum Standing {
    Up(Channel),
    /// The link of the process is not up, its lease runs.
    Reconnecting,
    /// The lease of the process has ended; it may return.
    Lost,
}

/// Reports that may be acknowledged when a batch is stored.
#[derive(Debug)]
struct Unstored {
    batch: u64,
    /// The last of them.
    seq: u64,
    reports: usize,
    /// The bytes of their bodies.
    bytes: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    pub incarnation: Incarnation,
    pub memory: Memory,
    /// The number of its latest hello.
    pub hello: u64,
    /// The port at which it would answer a probe.
    pub probe: Option<String>,
    /// Whether it had dialled in, and was never dialled.
    pub joined: bool,
    /// The address at which it was dialled, if it listens there itself: then it is dead if nobody
    /// listens there any more, or another process does.
    pub found_at: Option<String>,
    pub standing: Standing,
    pub readiness: Readiness,
    pub pace: Pace,
    pub lease: Lease,
    /// The batch with which it is stored that the node has this process; 0 without a store.
    pub stored_with: u64,
    /// The last report of it that was taken.
    pub taken: u64,
    /// The last one that may be acknowledged: what it has brought is stored, if anything is.
    pub acknowledged: u64,
    /// What waits for that, in order.
    unstored: VecDeque<Unstored>,
    pub orphans: BTreeMap<Dispatch, Orphan>,
    /// Tasks that count it as lost; taken back if it returns.
    pub lost_tasks: Vec<TaskId>,
}

impl NodeProcess {
    /// Makes the record of a process that says its first hello, or the first since it has forgotten
    /// its scheduler.
    pub fn new(hello: &NodeHello, joined: bool, now: Timestamp, lease: Duration) -> Self {
        Self {
            incarnation: hello.incarnation,
            memory: hello.memory,
            hello: 0,
            probe: None,
            joined,
            found_at: None,
            standing: Standing::Reconnecting,
            readiness: Readiness::Ready,
            pace: Pace::Unknown,
            lease: Lease::new(now, lease),
            stored_with: 0,
            taken: 0,
            acknowledged: 0,
            unstored: VecDeque::new(),
            orphans: BTreeMap::new(),
            lost_tasks: Vec::new(),
        }
    }

    /// Makes the record of a process of which an earlier term has told.
    pub fn taken_over(known: &KnownProcess, lease: Lease) -> Self {
        let standing = match known.lost {
            true => Standing::Lost,
            false => Standing::Reconnecting,
        };
        let (probe, found_at) = match known.joined {
            true => (known.probe.clone(), None),
            false => (None, known.probe.clone()),
        };
        Self {
            incarnation: known.incarnation,
            memory: known.memory,
            hello: 0,
            probe,
            joined: known.joined,
            found_at,
            standing,
            readiness: Readiness::Ready,
            pace: Pace::Unknown,
            lease,
            stored_with: 0,
            taken: 0,
            acknowledged: 0,
            unstored: VecDeque::new(),
            orphans: BTreeMap::new(),
            lost_tasks: Vec::new(),
        }
    }

    /// Returns what the next term is to know of it: where a refusal proves that it is dead, among
    /// that.
    pub fn known(&self) -> KnownProcess {
        KnownProcess {
            incarnation: self.incarnation,
            memory: self.memory,
            probe: match self.joined {
                true => self.probe.clone(),
                false => self.found_at.clone(),
            },
            joined: self.joined,
            lost: self.is_lost(),
        }
    }

    pub fn has_orphan(&self, dispatch: Dispatch) -> bool {
        self.orphans.contains_key(&dispatch)
    }

    pub fn is_lost(&self) -> bool {
        matches!(self.standing, Standing::Lost)
    }

    /// Takes in that its lease has ended, or that it is dead. If it returns, its hello says anew
    /// whether it drains.
    pub fn lost(&mut self) {
        self.standing = Standing::Lost;
        self.readiness = Readiness::Ready;
    }

    /// Notes that it has refused something. One that drains refuses all, and stays `Leaving`.
    pub fn has_refused(&mut self) {
        if self.readiness == Readiness::Ready {
            self.readiness = Readiness::Refusing;
        }
    }

    /// Takes in that it has a worker again for what it would have refused. Nobody takes back that
    /// it drains.
    pub fn turned_ready(&mut self) {
        if self.readiness == Readiness::Refusing {
            self.readiness = Readiness::Ready;
        }
    }

    /// Hears how long a beat took to be answered. Returns whether its link is slow, and was not
    /// before.
    pub fn paced(&mut self, round_trip: Duration, lease: Duration) -> bool {
        let before = self.pace;
        self.pace = before.after(round_trip, lease);
        self.pace.is_slow() && !before.is_slow()
    }

    /// Takes a report of that number. Returns whether it is new.
    pub fn take_report(&mut self, seq: u64) -> bool {
        let new = seq > self.taken;
        self.taken = self.taken.max(seq);
        new
    }

    /// Lets all that was taken be acknowledged.
    pub fn may_acknowledge(&mut self) {
        self.acknowledged = self.taken;
        self.unstored.clear();
    }

    /// Lets what was taken be acknowledged when a batch is stored, the last report with a body of
    /// so many bytes.
    pub fn acknowledge_with(&mut self, batch: u64, bytes: usize) {
        if self.unstored.back().is_none_or(|last| last.batch < batch) {
            self.unstored.push_back(Unstored {
                batch,
                seq: 0,
                reports: 0,
                bytes: 0,
            });
        }
        if let Some(last) = self.unstored.back_mut() {
            last.seq = self.taken;
            last.reports += 1;
            last.bytes += bytes;
        }
    }

    /// Takes in that all up to this batch is stored. Returns how many reports may be acknowledged
    /// by that, and the bytes of their bodies.
    pub fn stored(&mut self, batch: u64) -> (usize, usize) {
        let (mut reports, mut bytes) = (0, 0);
        while let Some(first) = self.unstored.front().filter(|first| first.batch <= batch) {
            self.acknowledged = self.acknowledged.max(first.seq);
            reports += first.reports;
            bytes += first.bytes;
            self.unstored.pop_front();
        }
        (reports, bytes)
    }

    /// Returns whether something waits to be stored before it is acknowledged.
    pub fn has_unstored(&self) -> bool {
        !self.unstored.is_empty()
    }

    /// Takes in that another process has taken its place: it is never answered again. Returns the
    /// tasks that count it as lost.
    pub fn replaced(&mut self) -> Vec<TaskId> {
        self.lease.forget_answers();
        std::mem::take(&mut self.lost_tasks)
    }
}
