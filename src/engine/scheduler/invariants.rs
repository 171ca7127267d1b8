//! The promises as predicates over the state, for the simulation and the property tests.
//!
//! Owns: nothing; reads only, at a cost that grows with the state.

use std::collections::BTreeMap;

use super::SchedulerMachine;
use crate::engine::Audience;
use crate::engine::roster::{Orphan, State};
use crate::engine::tasks::{Era, Held, Phase, Stage, Task};
use crate::engine::timers::Timer;

/// How much is remembered, to check that all is forgotten that should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remains {
    /// Kinds that are known by name.
    pub kinds: usize,
    /// Classes that have tasks.
    pub classes: usize,
    /// Records of nodes, those included of which only the name is left.
    pub nodes: usize,
    /// The nodes among them that were taken out by hand, and are waited for.
    pub leaving: usize,
    /// Runs that were given up and may still be going on.
    pub orphaned_runs: usize,
    /// The orphaned runs among them of processes that were replaced, for the end of which nothing
    /// waits.
    pub idle_orphans: usize,
    /// Keys that are taken.
    pub keys: usize,
    /// Times at which something is due for a task.
    pub timers: usize,
    /// Tasks that were asked back for a free worker, and have not come.
    pub claims: usize,
    /// Links.
    pub links: usize,
}

impl SchedulerMachine {
    /// Counts what is remembered.
    pub fn remains(&self) -> Remains {
        let (kinds, classes) = self.catalogue.in_use();
        let nodes = self.roster.nodes.iter();
        let processes = nodes.clone().flat_map(|node| node.processes());
        let replaced = nodes.clone().flat_map(|node| &node.past);
        let replaced = replaced.flat_map(|process| process.orphans.values());
        let of_tasks = |timer: &Timer| {
            !matches!(
                timer,
                Timer::Node(_)
                    | Timer::Retract
                    | Timer::Limit
                    | Timer::Handshake(_)
                    | Timer::Takeover
                    | Timer::Forget
            )
        };
        let timers = self.timers.iter().filter(|(_, timer)| of_tasks(timer));
        Remains {
            kinds,
            classes,
            nodes: nodes
                .filter(|node| !matches!(node.state, State::Free))
                .count(),
            leaving: self.roster.leaving.len(),
            orphaned_runs: processes.map(|process| process.orphans.len()).sum(),
            idle_orphans: replaced.filter(|it| self.is_idle_orphan(it)).count(),
            keys: self.keys.len(),
            timers: timers.count(),
            claims: self.retraction.claims(),
            links: self.sessions.len(),
        }
    }

    /// Checks every invariant of the state; the simulation calls it after each step.
    ///
    /// # Errors
    ///
    /// The first that does not hold, in words.
    pub fn check(&self) -> Result<(), String> {
        self.check_tasks()?;
        self.check_nodes()?;
        self.check_timers()?;
        self.check_orphans()?;
        self.catalogue.check(&self.tasks)?;
        self.check_totals()?;
        self.check_audiences()?;
        self.check_pauses()?;
        self.check_limits()?;
        self.check_meter()?;
        self.outbox.check()
    }

    /// Checks that each client and watcher is engaged for just the tasks that name it.
    fn check_audiences(&self) -> Result<(), String> {
        let mut named = (0, 0);
        for (_, task) in self.tasks.iter() {
            named.0 += usize::from(matches!(task.addressee.audience(), Audience::Client(_)));
            named.1 += usize::from(task.watcher().is_some());
        }
        let engaged = (self.outbox.engaged(), self.watchers.engaged());
        if named == engaged {
            return Ok(());
        }
        Err(format!(
            "G1: tasks name {named:?} clients and watchers, {engaged:?} are engaged"
        ))
    }

    /// Checks that each task is in exactly the place that its phase says, and that the counts
    /// agree.
    fn check_tasks(&self) -> Result<(), String> {
        let mut counts = [0_usize; 7];
        let mut bytes = 0;
        for (slot, task) in self.tasks.iter() {
            bytes += task.args.len() as u64;
            let id = task.id;
            let Some(phase) = task.stage.phase() else {
                return Err(format!("G1: {id} is in no place: {:?}", task.stage));
            };
            counts[phase as usize] += 1;
            if self.tasks.find(id) != Some(slot) {
                return Err(format!("G1: {id} is not found by its id"));
            }
            match &task.stage {
                Stage::Later { due } | Stage::Backoff { due }
                    if !self.timers.contains(*due, Timer::Due(id, slot)) =>
                {
                    return Err(format!("G1: {id} waits for a time and would never be due"));
                }
                Stage::Planned { at } if !self.timers.contains(*at, Timer::DueAt(id, slot)) => {
                    return Err(format!("G1: {id} waits for a time and would never be due"));
                }
                Stage::Held(held) if !self.is_held_by_a_orphan(held) => {
                    return Err(format!(
                        "G10: {id} is held by no run and would never be due"
                    ));
                }
                Stage::Prefetched { .. } if task.is_exclusive() => {
                    return Err(format!("G10: {id} is exclusive and was prefetched"));
                }
                _ => {}
            }
            if !self.is_run_awaited(task) {
                return Err(format!(
                    "G9: {id} would not hear that the process of its run has ended"
                ));
            }
            let deadline = task.deadline();
            // A deadline has no timer before its task is stored, nor during a resync.
            let deferred = match task.stage {
                Stage::Unstored { .. } => true,
                _ => task.era != Era::Present && self.is_resyncing(),
            };
            if deadline.is_some_and(|deadline| {
                !deferred && !self.timers.contains(deadline, Timer::Deadline(id, slot))
            }) {
                return Err(format!("G12: the deadline of {id} would not be noticed"));
            }
            if self.catalogue.rule(task.class) != Self::rule_of(task)
                && task.stage.placed().is_none()
            {
                return Err(format!(
                    "G7: {id} waits among tasks that are placed in another rule"
                ));
            }
        }
        for (of, phase) in [
            (self.catalogue.queued(), Phase::Queued),
            (&self.prefetched, Phase::Prefetched),
        ] {
            let tasks = self.tasks.iter().map(|(_, task)| task);
            // What rests has no turn, so its priority does not count.
            let rests = |task: &Task| phase == Phase::Queued && self.catalogue.rests(task);
            let tasks = tasks.filter(|task| task.stage.phase() == Some(phase) && !rests(task));
            let ends = tasks.map(Task::lateness).fold(None, |ends, one| {
                let (first, last) = ends.unwrap_or((one, one));
                Some((one.min(first), one.max(last)))
            });
            if of.first().zip(of.last()) != ends {
                return Err(format!(
                    "G6: the priorities of tasks {phase:?} are miscounted"
                ));
            }
        }
        if counts != self.counts {
            return Err(format!(
                "tasks by phase are {counts:?}, counted {:?}",
                self.counts
            ));
        }
        if bytes != self.tasks.args_bytes() {
            return Err("G2: the bytes of args are miscounted".to_owned());
        }
        Ok(())
    }

    /// Checks that each timer is that of something that waits for it: none may come when its slot
    /// is another's.
    fn check_timers(&self) -> Result<(), String> {
        for (at, timer) in self.timers.iter() {
            let wanted = match timer {
                Timer::Deadline(id, slot) => {
                    let task = self.tasks.get(slot);
                    let deadline = task.deadline();
                    task.id == id && deadline == Some(at)
                }
                Timer::Due(id, slot) => {
                    let task = self.tasks.get(slot);
                    let due = match task.stage {
                        Stage::Later { due } | Stage::Backoff { due } => Some(due),
                        _ => None,
                    };
                    task.id == id && due == Some(at)
                }
                Timer::DueAt(id, slot) => {
                    let task = self.tasks.get(slot);
                    task.id == id && matches!(task.stage, Stage::Planned { at: due } if due == at)
                }
                Timer::Patience(id, slot) => {
                    let task = self.tasks.get(slot);
                    let mut rare = task.rare.iter();
                    task.id == id && rare.any(|rare| rare.cancels.times().any(|time| time == at))
                }
                Timer::OrphanPatience(dispatch, node) => {
                    let mut processes = self.roster.get(node).processes();
                    let orphan = processes.find_map(|process| process.orphans.get(&dispatch));
                    let waiting = orphan.and_then(Orphan::waiting);
                    waiting.is_some_and(|it| it.cancels.times().any(|time| time == at))
                }
                Timer::Handshake(link) => self
                    .sessions
                    .get(link)
                    .is_some_and(|session| session.set_up_by() == Some(at)),
                Timer::Node(node) => (node as usize) < self.roster.nodes.len(),
                Timer::Retract | Timer::Limit => true,
                Timer::Forget => self.roster.look_at == Some(at),
                Timer::Takeover => self.is_resyncing(),
            };
            if !wanted {
                return Err(format!("nobody waits for {timer:?} at {at:?}"));
            }
        }
        self.trails.check()?;
        self.timers.check()
    }

    /// Returns whether a process stands for a run that was given up: then the task hears of it when
    /// that is replaced or ends.
    fn is_run_awaited(&self, task: &Task) -> bool {
        task.stage.given_up().is_none_or(|run| {
            let process = self.roster.get(run.node).latest_process();
            process.is_some_and(|process| process.lost_tasks.contains(&task.id))
        })
    }

    fn is_held_by_a_orphan(&self, held: &Held) -> bool {
        let node = self.roster.get(held.run.node);
        node.processes().any(|process| {
            let orphan = process.orphans.get(&held.run.dispatch);
            orphan.is_some_and(Orphan::holds_task)
        })
    }

    /// Checks that each node's counts agree with its runs.
    fn check_nodes(&self) -> Result<(), String> {
        for (index, node) in self.roster.nodes.iter().enumerate() {
            let name = &node.name;
            let (mut running, mut prefetched, mut suspects, mut retractions) = (0, 0, 0, 0);
            let (mut lost_two, mut prefetched_bytes, mut company) = (0, 0, None);
            for slot in self.runs_of(index as u32) {
                let task = self.tasks.get(slot);
                let Some(run) = task.stage.placed() else {
                    return Err(format!("{name} has {} as {:?}", task.id, task.stage));
                };
                if run.started {
                    running += 1;
                } else {
                    prefetched += 1;
                    prefetched_bytes += task.args.len();
                }
                suspects += u32::from(task.stage.suspect().is_some());
                company = company.into_iter().chain(task.stage.suspect()).min();
                lost_two += u32::from(task.company().is_some());
                retractions += u32::from(task.stage.retracting().is_some());
                if run.node as usize != index {
                    return Err(format!("{name} has {}, which another node has", task.id));
                }
            }
            let load = &node.load;
            let tally = load.tally();
            if retractions != tally.retractions || load.retracted().is_some() != (retractions > 0) {
                return Err(format!(
                    "G6: {name} has {retractions} tasks asked back, {} are counted",
                    tally.retractions
                ));
            }
            if (running, prefetched, suspects) != (tally.running, tally.prefetched, tally.suspects)
            {
                return Err(format!("G4: the runs of {name} are miscounted"));
            }
            if prefetched_bytes != tally.prefetched_bytes {
                return Err(format!(
                    "{name} has {prefetched_bytes} bytes of args prefetched, {} are counted",
                    tally.prefetched_bytes
                ));
            }
            if company.is_some_and(|company| suspects > company.get()) {
                return Err(format!(
                    "G7: {name} runs {suspects} tasks that have lost two nodes, more than one of them may be among"
                ));
            }
            if lost_two > suspects {
                return Err(format!(
                    "G7: {name} runs a task that has lost two nodes and is not counted"
                ));
            }
            if node.leased().is_none() && running + prefetched > 0 {
                return Err(format!("G8: {name} is lost and has tasks"));
            }
            // What has been touched is yet to be flushed.
            if node.is_up() && !node.touched && node.owes(false) {
                return Err(format!(
                    "G9: {name} waits for an acknowledgement that would not be sent"
                ));
            }
            if self.catalogue.is_present(index as u32) != node.takes_tasks() {
                return Err(format!(
                    "G5: {name} is wrongly counted as present or absent"
                ));
            }
        }
        Ok(())
    }

    /// Checks that what is counted as it comes and goes is what is there.
    fn check_totals(&self) -> Result<(), String> {
        self.sessions.check()?;
        for (index, node) in (0..).zip(&self.roster.nodes) {
            let there = self.roster.names.get(&node.name) == Some(&index);
            let leaves = self.roster.leaving.contains(&index);
            let empty = node.is_vacant()
                && self.catalogue.has_nothing_of(index)
                && node.processes().next().is_none();
            if u8::from(there) + u8::from(leaves) + u8::from(empty) != 1 {
                return Err(format!(
                    "{} is neither there, nor leaving, nor gone with all that it had",
                    node.name
                ));
            }
        }
        Ok(())
    }

    /// Checks that what is remembered of orphans agrees with them.
    fn check_orphans(&self) -> Result<(), String> {
        let nodes = self.roster.nodes.iter();
        let processes = nodes.flat_map(|node| node.processes());
        let orphans = processes.flat_map(|process| process.orphans.values());
        let mut unknown = 0;
        let mut counted = BTreeMap::new();
        for orphan in orphans {
            unknown += usize::from(orphan.is_unknown());
            if orphan.is_counted() {
                *counted.entry(orphan.task).or_insert(0) += 1;
            }
        }
        if unknown != self.unknown_runs.count() {
            return Err(format!(
                "G11: {unknown} runs are known by their nodes' word alone, {} are counted",
                self.unknown_runs.count()
            ));
        }
        for (_, task) in self.tasks.iter() {
            let known = task.rare.as_ref().map_or(0, |rare| rare.orphans.len());
            let there = counted.get(&task.id).copied().unwrap_or(0);
            if known != there {
                return Err(format!(
                    "G12: {} has {there} runs that may go on, {known} are counted",
                    task.id
                ));
            }
        }
        Ok(())
    }
}
