//! Going on from what a store has.
//!
//! Owns: what a term begins with. Each fact is brought about by the same code as in a term that
//! goes on. Does not know: what is stored later, how it is read, or what nodes say to it (see
//! `takeover`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::SchedulerMachine;
use super::takeover::{Earlier, Recorded, Resync, Takeover};
use crate::config::SchedulerConfig;
use crate::engine::found::Found;
use crate::engine::journal::Journal;
use crate::engine::ledger::{Ledger, LedgerState, Placing};
use crate::engine::placement::NodeIndex;
use crate::engine::record::{
    AcceptedTask, Changed, Claim, KnownProcess, NodeFact, ProcessFact, ProcessRef, Timing,
};
use crate::engine::roster::{Lease, NodeProcess, State};
use crate::engine::tasks::Slot;
use crate::engine::timers::Timer;
use crate::engine::wall::WallClock;
use crate::engine::{Incarnation, Reach, Timestamp, first_number};
use crate::task::{Due, TaskId};

/// How long what is not exclusive outlives its node's lease, if nothing is said: long enough for a
/// machine that boots anew.
const OUTLIVE: Duration = Duration::from_secs(60);

/// Why a scheduler cannot go on from what a store has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecoverable {
    /// A task has larger args than links may carry by these settings.
    #[error(
        "the args of {task} have {bytes} bytes, and `max_task_args` allows {limit}; raise it to what it was"
    )]
    TooLarge {
        /// The task.
        task: TaskId,
        /// The size of its args.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl SchedulerMachine {
    /// Makes a scheduler that goes on from what was found in a store, as `claim` allows, when the
    /// wall clock shows `wall`. `config` must have been validated. Nodes that are to be there are
    /// added after that: one that the store knows keeps what it runs.
    ///
    /// # Errors
    ///
    /// What was stored does not fit the settings.
    pub fn recover(
        name: Arc<str>,
        config: SchedulerConfig,
        found: Found,
        claim: Claim,
        wall: Timestamp,
        now: Timestamp,
    ) -> Result<Self, Unrecoverable> {
        let Found { ledger, cleaning } = found;
        let set_back = ledger
            .last()
            .map_or(Duration::ZERO, |last| last.at.since(wall));
        // By the wall clock too: a store that was put back has lost what was given out since.
        let floor = first_number(wall);
        let reserved = ledger.reserved();
        let mut machine = Self::new(name, claim.scheduler_id, config, now);
        machine.term = claim.term;
        machine.outlive = machine.config.outlive.unwrap_or(OUTLIVE);
        machine.timers.set_wall(WallClock::showing(wall, now));
        machine.task_ids.skip_to(floor.max(reserved.tasks));
        machine.dispatches.skip_to(floor.max(reserved.dispatches));
        // Nothing may be told before it is reserved.
        machine.task_ids.end_at(0);
        machine.dispatches.end_at(0);
        machine.outbox.over = Some(Vec::new());
        machine.journal = Some(Box::new(Journal::new(claim, wall, now, set_back, cleaning)));
        let Ok(head) = ledger.finish() else {
            // Nothing was ever stored.
            machine.nothing_is_recorded();
            return Ok(machine);
        };
        let before = head.timing;
        let times = Times {
            clock: WallClock::showing(wall, now),
            set_back,
        };
        let until = now + machine.longest_resync();
        machine.timers.start(until, Timer::Takeover);
        // A node that is not heard yet goes by what the term before has told it.
        let timing = Timing {
            heartbeat: machine.config.heartbeat,
            lease: machine.config.lease.max(before.lease),
            outlive: machine.outlive.max(before.outlive),
        };
        let last = ledger.last();
        // Of these the log does not say whether they were given out.
        let tail = last.map_or(0, |last| last.next_dispatch)..reserved.dispatches;
        machine.takeover = Some(Box::new(Takeover {
            resync: Some(Resync {
                until,
                deadlines: Vec::new(),
                cancels: Vec::new(),
                doomed: Vec::new(),
            }),
            tail,
            over: HashMap::new(),
            first: machine.dispatches.next(),
            recorded: BTreeMap::new(),
            silent: Vec::new(),
            earlier: (timing != machine.own_timing()).then(|| Earlier {
                timing,
                until: now + timing.lease + timing.outlive + timing.heartbeat,
            }),
            rolled_back: false,
        }));
        machine.nothing_is_recorded();
        // A node's own half of the lease, which the term before had renewed up to now at the
        // latest.
        let outlives = before.outlive.saturating_sub(machine.outlive);
        let safe_at = now + timing.lease + outlives;
        let placed_by = last.map_or(now, |last| times.moment(last.at).min(now));
        let recovery = Recovery {
            // The nodes are those of the scheduler whose state it was before.
            is_copy: claim
                .copied_from
                .is_some_and(|from| from == head.scheduler_id),
            closed: ledger.is_closed(),
            machine,
            times,
            now,
            safe_at,
            placed_by,
            local: BTreeMap::new(),
        };
        recovery.run(ledger)
    }
}

impl SchedulerMachine {
    /// Tells the journal that what is given out from now on is not written down.
    fn nothing_is_recorded(&mut self) {
        let from = self.unrecorded_from();
        if let Some(journal) = &mut self.journal {
            journal.unrecorded_from(from);
        }
    }
}

/// How times of the wall clock that were stored are told now.
#[derive(Clone, Copy, Debug)]
struct Times {
    clock: WallClock,
    /// How far it was set back meanwhile.
    set_back: Duration,
}

impl Times {
    fn moment(&self, stored: Timestamp) -> Timestamp {
        self.clock.moment(stored - self.set_back)
    }
}

mod tasks;

/// A machine that is being made from what a store has.
struct Recovery {
    machine: SchedulerMachine,
    times: Times,
    now: Timestamp,
    /// When every process has ended what it may end, unless it is heard.
    safe_at: Timestamp,
    /// What was placed was placed by then.
    placed_by: Timestamp,
    is_copy: bool,
    /// Whether the last term has ended in order.
    closed: bool,
    /// What runs of the scheduler's own process had: the task, and whether it had started.
    local: BTreeMap<(NodeIndex, Incarnation), Vec<(Slot, bool)>>,
}

/// Processes of the scheduler itself.
type Own = BTreeSet<(Arc<str>, Incarnation)>;

/// Where a process is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// The process is the node's, and its lease runs.
    Leased(NodeIndex),
    /// The process is the node's, and its lease has ended, or the node was taken out.
    Lost(NodeIndex),
    /// Another process has replaced it.
    Replaced(NodeIndex),
    /// The process was this scheduler's own.
    Own,
    /// The process has ended.
    Over,
}

/// An unsettled task, as it was stored.
struct Open {
    due: Timestamp,
    accepted: Box<AcceptedTask>,
    changed: Option<Box<Changed>>,
    placed: Option<Box<Placing>>,
}

impl Recovery {
    fn run(mut self, ledger: Ledger) -> Result<SchedulerMachine, Unrecoverable> {
        self.machine.settings = ledger.settings().clone();
        self.machine.follow_pauses();
        self.machine.follow_limits(self.now);
        if let Some(retry) = self.machine.settings.retry {
            self.machine.config.retry = retry;
        }
        let mut own = BTreeSet::new();
        for fact in ledger.nodes().values() {
            if let (Reach::Local, ProcessFact::Known(process)) = (&fact.reach, &fact.process) {
                own.insert((fact.name.clone(), process.incarnation));
            }
            if !self.is_copy {
                self.node(fact.clone());
            }
        }
        let (mut open, mut settled) = (Vec::new(), Vec::new());
        for (_, facts) in ledger.into_tasks() {
            let accepted = facts.accepted;
            match facts.state {
                LedgerState::Open { changed, placed } => open.push(Open {
                    due: first_due(&accepted, changed.as_deref()),
                    accepted,
                    changed,
                    placed,
                }),
                LedgerState::Settled { ending, confirmed } => {
                    settled.push((accepted, ending, confirmed));
                }
            }
        }
        // Ranks follow that order. It is nearly there already.
        open.sort_by_key(|task| (task.due, task.accepted.id));
        for task in open {
            self.open(task, &own)?;
        }
        settled.sort_by_key(|(_, ending, _)| (ending.at, ending.id));
        for (accepted, ending, confirmed) in settled {
            self.settled(*accepted, *ending, confirmed, &own);
        }
        self.blame_own_end();
        Ok(self.machine)
    }

    /// Goes on with a node that the store knows, unless it was never reached, or its processes have
    /// ended: then nothing is left of it, and it is there again only if it is added.
    fn node(&mut self, fact: NodeFact) {
        let local = fact.reach == Reach::Local;
        let state = match &fact.process {
            ProcessFact::Known(process) if !local => State::Member(self.process(process)),
            ProcessFact::Removed(Some(process)) if !local => {
                State::Leaving(Some(self.process(process)))
            }
            // Only those that were replaced are waited for.
            _ if fact.replaced.is_empty() => return,
            _ if fact.reach == Reach::Joins => State::Dead,
            _ => State::Leaving(None),
        };
        let machine = &mut self.machine;
        let node = machine.enter_node(fact.name.clone(), fact.reach);
        let leaves = matches!(state, State::Leaving(_));
        let entry = machine.roster.get_mut(node);
        entry.state = state;
        entry.last_heard = self.now;
        "the scheduler was started again".clone_into(&mut entry.reason);
        for known in &fact.replaced {
            let lease = Lease::taken_over(self.now, machine.config.lease, self.safe_at);
            entry.past.push(NodeProcess::taken_over(known, lease));
        }
        let up = entry.leased().map(|process| process.incarnation);
        if leaves {
            machine.roster.names.remove(&fact.name);
            machine.roster.leaving.insert(node);
        }
        if let Some(takeover) = &mut machine.takeover {
            takeover.recorded.insert(node, Recorded::Unheard);
            takeover
                .silent
                .extend(up.map(|incarnation| (node, incarnation)));
        }
        machine.timers.wake_at(node, self.now);
    }

    fn process(&self, known: &KnownProcess) -> NodeProcess {
        let lease = Lease::taken_over(self.now, self.machine.config.lease, self.safe_at);
        NodeProcess::taken_over(known, lease)
    }

    fn find(&self, at: &ProcessRef, own: &Own) -> Where {
        if own.contains(&(at.node.clone(), at.incarnation)) {
            return Where::Own;
        }
        let there = self.machine.roster.names.get(&at.node).copied();
        let Some(node) = there.or_else(|| self.machine.leaving(&at.node)) else {
            return Where::Over;
        };
        let entry = self.machine.roster.get(node);
        if entry.incarnation() != Some(at.incarnation) {
            return match entry.has_lived(at.incarnation) {
                true => Where::Replaced(node),
                false => Where::Over,
            };
        }
        match entry.is_removed() || entry.leased().is_none() {
            true => Where::Lost(node),
            false => Where::Leased(node),
        }
    }
}

/// Returns when a task is due, or was, as it was stored.
fn first_due(accepted: &AcceptedTask, changed: Option<&Changed>) -> Timestamp {
    if let Some(due) = changed.and_then(|changed| changed.due) {
        return due;
    }
    match accepted.options.as_ref().map(|options| options.due) {
        None | Some(Due::Now) => accepted.at,
        Some(Due::After(delay)) => accepted.at + delay,
        Some(Due::At(time)) => accepted.at.max(Timestamp::of_system_time(time)),
    }
}
