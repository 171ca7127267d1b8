//! The machine of a scheduler: what is pending, what runs where, and what follows from what
//! happens.
//!
//! Owns: every unsettled task from its acceptance to its one ending, and the statuses until they
//! are confirmed. Does not know: handlers, sockets, mailboxes, clocks.
//!
//! Its state is in parts: the records of tasks and of nodes, and, each with fields that nobody else
//! changes, the catalogue (kinds, classes and groups of nodes), keys, statuses, timers, `sessions`,
//! `retraction` and `wants`. What each fact means for them is decided by chapter: `admission` takes
//! tasks in, `classes` follows the catalogue, `placing` sends tasks to nodes, `retracting` asks
//! them back, `wants` tells nodes what waits for workers that others have, `reports` follows what
//! nodes say of runs, `ends` decides what comes of an end, `settling` ends tasks, `orphans` are
//! orphaned runs and what waits for them. `links` brings links up or down, `hello` decides who may
//! speak for a node and `comparison` what of its runs is true, `farewell` hears processes out that
//! were replaced, `asking` dials and probes, `losses` says when a node is lost and `forgetting` how
//! long it is remembered. `control` carries out an operator's wishes, `pausing` and `limiting`
//! those about kinds, `views` answers questions, `metering` counts what is measured, `invariants`
//! checks all of it.
//!
//! With a store `recovery` begins a term and `takeover` learns from nodes what no record tells,
//! `recording` and `rewriting` turn facts into records, `stored` keeps back what must be stored
//! first, and `projection` checks in tests that the records tell the truth.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::catalogue::{Catalogue, Going};
use super::journal::Journal;
use super::keys::Keys;
use super::outbox::Outbox;
use super::placement::NodeIndex;
use super::priorities::Priorities;
use super::ranks::Ranks;
use super::record::{Settings, Term};
use super::roster::Roster;
use super::sequence::Sequence;
use super::tasks::{Phase, Slot, Stage, Task, Tasks};
use super::timers::{Timer, Timers};
use super::trails::Trails;
use super::wall::WallClock;
use super::watchers::Watchers;
use super::{Action, Audience, ClientId, Event, NodeId, SchedulerId, Timestamp, move_behind};
use crate::config::SchedulerConfig;
use crate::stats::{Totals, Unfinished};
use crate::status::{TaskEvent, TaskEventKind, TaskStatus};

mod admission;
mod asking;
mod classes;
mod comparison;
mod control;
mod ends;
mod farewell;
mod finding;
mod forgetting;
mod hello;
mod invariants;
mod limiting;
mod links;
mod losses;
mod metering;
mod orphans;
mod pausing;
mod placing;
mod projection;
mod recording;
mod recovery;
mod reports;
mod retracting;
mod retraction;
mod rewriting;
mod sessions;
mod settling;
mod stored;
mod takeover;
mod telling;
#[cfg(test)]
mod tests;
mod views;
mod wants;

pub use super::journal::{JournalState, StoreFailure};
pub use invariants::Remains;
pub use recovery::Unrecoverable;
pub use retracting::order_bound;

use ends::Reroutes;
use forgetting::MAX_GONE;
use metering::Meter;
use orphans::UnknownRuns;
use retraction::Retraction;
use sessions::Sessions;
use takeover::Takeover;
use wants::Wants;

/// What is still taken in and placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// Nothing new is taken in.
    Draining,
    /// Nothing new is taken in, nor is anything placed.
    Finishing,
}

/// How long a cancel may wait before it is answered with what is the case then.
pub const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

/// How often the wall clock is looked at while a task waits for a time of it: nobody announces that
/// it was set.
const WALL_ROUND: Duration = Duration::from_millis(500);

/// See the module.
///
/// The machine does nothing of itself. Its driver, at moments `now` that never go back,
///
/// 1. gives it what has come, as much as there is and in the order in which it came: commands
///    ([`submit`](Self::submit), [`cancel`](Self::cancel) and those of an operator), and facts,
///    which [`handle`](Self::handle) takes;
/// 2. calls [`take_effects`](Self::take_effects) once for all of it, and performs the actions in
///    their order. What the commands have returned is told to nobody before;
/// 3. then asks [`next_wakeup`](Self::next_wakeup), and takes the effects again by that time, even
///    if nothing has come. Asked before the effects were taken, it does not know what they bring
///    about.
///
/// [`stats`](Self::stats), [`explain`](Self::explain), [`unfinished`](Self::unfinished) and
/// [`check`](Self::check) may be called at any time, and change nothing.
#[derive(Debug)]
pub struct SchedulerMachine {
    name: Arc<str>,
    id: SchedulerId,
    /// The number of this start on the store; zero without one.
    term: Term,
    config: SchedulerConfig,
    /// How long after the end of its lease a node goes on with what is not exclusive.
    outlive: Duration,
    /// When it was last driven.
    now: Timestamp,
    intake: Intake,
    stopped: bool,

    tasks: Tasks,
    catalogue: Catalogue,
    roster: Roster,
    keys: Keys,
    outbox: Outbox,
    watchers: Watchers,
    trails: Trails,

    timers: Timers,
    sessions: Sessions,
    retraction: Retraction,
    wants: Wants,

    unknown_runs: UnknownRuns,
    task_ids: Sequence,
    dispatches: Sequence,
    /// Turns among the tasks of one priority.
    ranks: Ranks,
    counts: [usize; 7],
    /// The priorities of what waits at nodes.
    prefetched: Priorities,
    /// What operators have set. The policy of tasks that bring none is in `config` too.
    settings: Settings,
    totals: Totals,
    flushes: u64,
    reroutes: Reroutes,
    /// How many nodes that are gone are remembered.
    max_gone: usize,
    meter: Meter,
    /// What this term goes on from; `None` if it is the first, or there is no store.
    takeover: Option<Box<Takeover>>,
    /// What is to be stored; `None` without a store.
    journal: Option<Box<Journal>>,
    /// What is to be done, in order, up to the next flush.
    actions: Vec<Action>,
}

/// What the machine had not finished when it was shut down.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Rest {
    /// Tasks that were not settled, in order of id.
    pub unfinished: Vec<Unfinished>,
    /// Who was to be told how each of them ends, and who watched it.
    pub named: Vec<(Audience, Option<ClientId>)>,
    /// Statuses that no client had confirmed, oldest first.
    pub statuses: Vec<TaskStatus>,
}

impl SchedulerMachine {
    /// Makes a scheduler without nodes, clients and tasks. `config` must have been validated.
    pub fn new(name: Arc<str>, id: SchedulerId, config: SchedulerConfig, now: Timestamp) -> Self {
        let limits = config.limits.clone();
        let mut machine = Self {
            outbox: Outbox::new(&config),
            name,
            id,
            term: Term::default(),
            outlive: config.outlive.unwrap_or_default(),
            config,
            now,
            intake: Intake::Open,
            stopped: false,
            tasks: Tasks::default(),
            catalogue: Catalogue::default(),
            roster: Roster::default(),
            watchers: Watchers::default(),
            trails: Trails::default(),
            keys: Keys::default(),
            timers: Timers::default(),
            sessions: Sessions::default(),
            retraction: Retraction::default(),
            wants: Wants::default(),
            unknown_runs: UnknownRuns::default(),
            task_ids: Sequence::from(1),
            dispatches: Sequence::from(1),
            ranks: Ranks::default(),
            counts: [0; 7],
            prefetched: Priorities::default(),
            settings: Settings::default(),
            totals: Totals::default(),
            flushes: 0,
            reroutes: Reroutes::default(),
            max_gone: MAX_GONE,
            meter: Meter::default(),
            takeover: None,
            journal: None,
            actions: Vec::new(),
        };
        for (kind, limit) in limits {
            let (tasks, nothing) = (&machine.tasks, Going::default());
            let catalogue = &mut machine.catalogue;
            catalogue.set_limit(tasks, now, &kind, limit, &nothing);
        }
        machine
    }

    /// Counts ids and dispatches from this number on, instead of from 1. Call it before anything
    /// else.
    pub fn numbered_from(mut self, first: u64) -> Self {
        self.task_ids = Sequence::from(first);
        self.dispatches = Sequence::from(first);
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the settings.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// Takes note of a fact.
    pub fn handle(&mut self, now: Timestamp, event: Event) {
        self.observe(now);
        match event {
            Event::LinkOpened { link, origin, peer } => self.link_opened(now, link, origin, peer),
            Event::LinkClosed { link, reason } => self.link_closed(now, link, &reason),
            Event::DialFailed {
                node,
                refused,
                reason,
            } => self.dial_failed(now, node, refused, reason),
            Event::Probed {
                node,
                incarnation,
                refused,
            } => self.probed(now, node, incarnation, refused),
            Event::Message { link, message } => self.message(now, link, message),
            Event::Malformed { link, reason } => self.malformed(now, link, &reason),
            Event::Heard { link } => {
                self.heard(now, link);
            }
            Event::Confirmed {
                client,
                delivery,
                handled,
            } => {
                self.outbox.confirmed(client, delivery, handled);
            }
            Event::ClientGone { client } => self.client_gone(client),
            Event::Unclaimed(status) => self.unclaimed(status),
            Event::WallClock { shows } => {
                self.timers.set_wall(WallClock::showing(shows, now));
            }
            Event::Stored { batch, bytes } => self.batch_stored(now, batch, bytes),
            Event::NotStored {
                batch,
                records,
                reason,
            } => self.batch_not_stored(now, batch, records, reason),
            Event::StoreFailing { reason } => self.store_failing(now, reason),
        }
    }

    /// Places all that can be placed and appends the actions to perform, in order.
    pub fn take_effects(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.observe(now);
        self.end_resync(now);
        self.pass_time(now);
        if self.journal.is_some() {
            self.send_staged(now);
        }
        self.review_meters(now);
        self.enter_loads();
        self.look_at_limits(now);
        self.place(now);
        self.timers.set_limit(self.catalogue.next_limit());
        self.ask_back(now);
        self.tell_wants();
        self.note_reroutes();
        self.forget_gone(now);
        move_behind(&mut self.actions, actions);
        self.flush_nodes(actions);
        self.outbox.flush(actions);
        self.watchers.flush(actions);
        self.gate(now, actions);
    }

    /// Returns when the effects are to be taken again at the latest, or a batch is to be sealed.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.next_turn().into_iter().chain(self.seal_due()).min()
    }

    /// Returns when the effects are to be taken again at the latest, if no batch is to be sealed
    /// before.
    pub fn next_turn(&self) -> Option<Timestamp> {
        let look = self.now + WALL_ROUND;
        let look = self.timers.follows_wall().then_some(look);
        self.timers.next().into_iter().chain(look).min()
    }

    /// Returns a moment as the wall clock shows it now, also one before it was set.
    fn wall_time(&self, moment: Timestamp) -> SystemTime {
        self.timers.wall().at(moment).to_system_time()
    }

    /// Returns whether no task is unsettled.
    pub fn is_idle(&self) -> bool {
        self.tasks.len() == 0
    }

    /// Returns whether nothing is left to do by then: no task runs, is due, or waits for a next
    /// attempt that comes before. A task that waits for the time it was given is left to do later,
    /// so is one of a paused kind, and so is all that does not run if only what runs is finished.
    pub fn is_drained(&self, until: Timestamp) -> bool {
        if self.intake == Intake::Finishing {
            return self.count_of(Phase::Running) + self.count_of(Phase::Prefetched) == 0;
        }
        let waiting = self.count_of(Phase::Later) + self.count_of(Phase::Backoff);
        if self.tasks.len() > waiting + self.catalogue.resting() {
            return false;
        }
        let soon = |task: &Task| {
            matches!(task.stage, Stage::Backoff { due } if due <= until)
                && !self.catalogue.is_paused(task.class)
        };
        self.count_of(Phase::Backoff) == 0 || !self.tasks.iter().any(|(_, task)| soon(task))
    }

    /// Takes in what time it is. A machine that was not driven for two heartbeats, though it had
    /// asked to be, was frozen: what its nodes said meanwhile may still be unread, so no lease ends
    /// before there was time to read it.
    fn observe(&mut self, now: Timestamp) {
        if now <= self.now {
            return;
        }
        let asked = self.next_turn();
        let late =
            asked.is_some_and(|asked| now.since(asked) > self.config.heartbeat.saturating_mul(2));
        if late {
            let until = now + self.config.heartbeat;
            for index in 0..self.roster.nodes.len() {
                let node = &mut self.roster.nodes[index];
                let local = node.is_local();
                if let Some(process) = node.latest_process_mut()
                    && !local
                    && process.lease.defer(until)
                {
                    self.timers.wake_at(index as NodeIndex, until);
                }
            }
        }
        self.now = now;
    }

    /// Lets everything happen whose time has come, in order of time.
    fn pass_time(&mut self, now: Timestamp) {
        while let Some((at, timer)) = self.timers.pop(now) {
            match timer {
                Timer::Deadline(_, slot) => self.deadline_passed(now, slot),
                Timer::Due(_, slot) => self.became_due(at, slot),
                Timer::DueAt(_, slot) => self.became_due(now, slot),
                Timer::Patience(_, slot) => self.patience_ended(at, slot),
                Timer::OrphanPatience(dispatch, node) => self.orphan_outlasts(at, node, dispatch),
                Timer::Handshake(link) => self.handshake_overdue(now, link),
                Timer::Node(node) => self.wake_at(now, node),
                // Each flush looks whether the time has come.
                Timer::Retract | Timer::Limit | Timer::Takeover | Timer::Forget => {}
            }
        }
    }

    /// Tells the watcher of a task what has happened to it. `event` is made only if there is one.
    fn notify(&mut self, slot: Slot, event: impl FnOnce(&Self, &Task) -> TaskEventKind) {
        let task = self.tasks.get(slot);
        if let Some(watcher) = task.watcher() {
            let event = TaskEvent {
                id: task.id,
                kind: self.catalogue.kind(task.class).clone(),
                key: task.key().cloned(),
                event: event(self, task),
            };
            self.actions.push(Action::Notify { watcher, event });
        }
    }

    /// Moves a task to another stage, and counts it there.
    #[inline(always)]
    fn enter(&mut self, slot: Slot, stage: Stage) {
        let (new, task) = (stage.phase(), self.tasks.get_mut(slot));
        let (lateness, left) = (task.lateness(), task.enter(stage));
        let old = left.phase();
        if let Some(phase) = new {
            self.counts[phase as usize] += 1;
        }
        if new == Some(Phase::Prefetched) {
            self.prefetched.add(lateness);
        }
        self.leave_phase(old, lateness);
        if self.journal.is_some() {
            let waited = !matches!(left, Stage::Left { .. } | Stage::Held(_));
            self.note_stage(slot, waited);
        }
    }

    /// Counts a task of this priority out of a phase.
    #[inline]
    fn leave_phase(&mut self, phase: Option<Phase>, lateness: u8) {
        if let Some(phase) = phase {
            self.counts[phase as usize] -= 1;
        }
        if phase == Some(Phase::Prefetched) {
            self.prefetched.remove(lateness);
        }
    }

    /// Returns what a node has: what runs there in order of the starts, then what was prefetched.
    fn runs_of(&self, node: NodeIndex) -> Vec<Slot> {
        let entry = self.roster.get(node);
        let runs = self.tasks.walk(&entry.runs);
        runs.chain(entry.line.walk(&self.tasks)).collect()
    }

    fn count_of(&self, phase: Phase) -> usize {
        self.counts[phase as usize]
    }

    fn node_id(node: NodeIndex) -> NodeId {
        NodeId(node)
    }
}
