//! The facts of the machine as records.
//!
//! Owns: which record says what is true of a task, a node or a run now. Does not know: when one is
//! written, or what waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SchedulerMachine;
use crate::engine::Timestamp;
use crate::engine::ids::NodeIndex;
use crate::engine::journal::{Gathered, Journal};
use crate::engine::keep::Ended;
use crate::engine::record::{
    AcceptedTask, Changed, FinalOutcome, Head, KnownProcess, NodeFact, PlacedRun, ProcessFact,
    ProcessRef, Record, Reserved, RetainedTask, RunRef, SettledTask,
};
use crate::engine::roster::{Node, NodeProcess, Orphan, State};
use crate::engine::tasks::{FirstDue, Slot, Stage, Task, Then};
use crate::status::Ending;
use crate::task::{Dispatch, Due, Options, TaskId};

/// How many ids, and how many dispatches, are reserved at once. The next ones are when half of them
/// have been given out.
const BLOCK: u64 = 1 << 20;

impl SchedulerMachine {
    /// Returns what the next batch says may be given out.
    pub(super) fn reservation(&self, journal: &Journal) -> Reserved {
        let next = Reserved {
            tasks: self.task_ids.next(),
            dispatches: self.dispatches.next(),
        };
        let before = journal.reserved;
        let enough = |before: u64, next: u64| before >= next + BLOCK / 2;
        if enough(before.tasks, next.tasks) && enough(before.dispatches, next.dispatches) {
            return before;
        }
        Reserved {
            tasks: before.tasks.max(next.tasks + BLOCK),
            dispatches: before.dispatches.max(next.dispatches + BLOCK),
        }
    }

    /// Returns the records of a batch. The `first` of those that gather says, too, what is not of
    /// one task.
    pub(super) fn compose(
        &self,
        journal: &Journal,
        gathered: &Gathered,
        first: bool,
        at: Timestamp,
    ) -> Vec<Record> {
        let mut records = Vec::new();
        let reserved = self.reservation(journal);
        let head = journal.head.filter(|_| first);
        if let Some(set_back) = head {
            records.push(Record::Head(Box::new(Head {
                scheduler: self.name.clone(),
                scheduler_id: self.id,
                copied_from: journal.copied_from(),
                term: journal.term(),
                at,
                set_back,
                timing: self.timing(),
                reserved,
                nodes: self.node_facts(),
                settings: self.settings.list(),
            })));
        }
        records.extend(gathered.records.iter().cloned());
        // Nothing follows the end of the term, if that is tried again.
        if first && head.is_none() && !journal.is_closed() {
            if reserved != journal.reserved {
                records.push(Record::Reserved(reserved));
            }
            let nodes = journal.changed_nodes.iter().filter_map(|name| {
                let fact = self.fact_of(name);
                let same = match journal.nodes.get(name) {
                    Some(before) => *before == fact,
                    None => fact.is_vacant(),
                };
                (!same).then(|| Record::Node(Box::new(fact)))
            });
            records.extend(nodes);
            records.extend(journal.settings.iter().cloned().map(Record::Setting));
        }
        let accepted = self.going_on(&gathered.accepted);
        records
            .extend(accepted.map(|task| Record::Accepted(Box::new(self.accepted(journal, task)))));
        let changed = self.going_on(&gathered.changed);
        records.extend(changed.map(|task| Record::Changed(Box::new(self.changed(journal, task)))));
        self.compose_placed(&gathered.placed, &mut records);
        if !gathered.confirmed.is_empty() {
            records.push(Record::Confirmed(gathered.confirmed.clone()));
        }
        // The last record of its term, so that all that is settled by the end is in it.
        if first && let Some(untold) = journal.ends_with_next() {
            if let Some(untold) = untold {
                self.compose_given_up(untold, at, &mut records);
            }
            records.push(Record::Closed);
        }
        records
    }

    /// Gives up all tasks that have not settled. Nobody is told how these ended, or the `untold`.
    fn compose_given_up(&self, untold: &[TaskId], at: Timestamp, records: &mut Vec<Record>) {
        let mut tasks: Vec<_> = self.tasks.iter().map(|(_, task)| task).collect();
        tasks.sort_unstable_by_key(|task| task.id);
        let settled = |task: &&Task| SettledTask {
            id: task.id,
            outcome: FinalOutcome::Cancelled,
            node: None,
            attempts: task.failed_attempts,
            reroutes: task.losses() as u32,
            started_at: None,
            at,
            busy: Vec::new(),
        };
        records.extend(
            tasks
                .iter()
                .map(settled)
                .map(|it| Record::Settled(Box::new(it))),
        );
        let ids = tasks.iter().map(|task| task.id);
        records.push(Record::Confirmed(
            ids.chain(untold.iter().copied()).collect(),
        ));
    }

    pub(super) fn compose_placed(&self, placed: &[TaskId], records: &mut Vec<Record>) {
        let mut runs: BTreeMap<ProcessRef, Vec<PlacedRun>> = BTreeMap::new();
        for task in self.going_on(placed) {
            if let Some((at, run)) = self.placing(task) {
                runs.entry(at).or_default().push(run);
            }
        }
        let placed = runs.into_iter();
        records.extend(placed.map(|(at, runs)| Record::Placed { at, runs }));
    }

    /// Returns those of these tasks that have not settled, each once.
    pub(super) fn going_on(&self, ids: &[TaskId]) -> impl Iterator<Item = &Task> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let slots = ids.into_iter().filter_map(|id| self.tasks.find(id));
        slots.map(|slot| self.tasks.get(slot))
    }

    /// Returns a task as it was handed in; of a delay that is over nothing is known any more.
    pub(super) fn accepted(&self, journal: &Journal, task: &Task) -> AcceptedTask {
        AcceptedTask {
            id: task.id,
            at: journal.time(task.accepted_at),
            kind: self.catalogue.kind(task.class).clone(),
            args: task.args.clone(),
            options: self.options_as_accepted(task),
        }
    }

    pub(super) fn options_as_accepted(&self, task: &Task) -> Option<Box<Options>> {
        let after = |due: Timestamp| Due::After(due.since(task.accepted_at));
        let due = match task.stage {
            Stage::Later { due } => after(due),
            Stage::Unstored { due } => match due {
                FirstDue::Now => Due::Now,
                FirstDue::Later(due) => after(due),
                FirstDue::Planned(at) => Due::At(at.to_system_time()),
            },
            Stage::Planned { at } => Due::At(at.to_system_time()),
            _ => Due::Now,
        };
        let options = self.options_with(task, due);
        options.filter(|options| **options != Options::default())
    }

    /// Returns what may have changed of a task since it was accepted.
    pub(super) fn changed(&self, journal: &Journal, task: &Task) -> Changed {
        let rare = task.rare.as_deref();
        let lost = rare.iter().flat_map(|rare| rare.lost_on.all());
        let named = |&(node, incarnation): &(crate::engine::NodeId, _)| ProcessRef {
            node: self.roster.get(node.0).name.clone(),
            incarnation,
        };
        let due = match &task.stage {
            Stage::Backoff { due } => Some(*due),
            Stage::Held(held) => match held.then {
                Then::BackOff(due) => Some(due),
                Then::Queue | Then::QueueUnlessItReturns => None,
            },
            _ => None,
        };
        let orphans = rare.map_or(&[][..], |rare| &rare.orphans);
        let orphans = orphans.iter().filter_map(|&it| self.orphaned(journal, it));
        let held = match &task.stage {
            Stage::Held(held) => Some(held.run.dispatch),
            _ => None,
        };
        // What is not the run that it has, or may have again, is over.
        let run = task.stage.placed().or_else(|| task.stage.given_up());
        let over = run.map(|run| Dispatch::new(run.dispatch.get().saturating_sub(1)));
        Changed {
            id: task.id,
            failed_attempts: task.failed_attempts,
            due: due.map(|due| journal.time(due)),
            over: over.unwrap_or_else(|| self.all_over(task)),
            lost: lost.map(named).collect(),
            lost_prefetched: rare.and_then(|rare| rare.lost_prefetched_on.as_ref().map(named)),
            last_failure: task.last_failure().cloned(),
            cancelling: task.is_cancelling(),
            orphans: orphans.collect(),
            held,
        }
    }

    /// Returns an orphaned run of a task that goes on.
    fn orphaned(
        &self,
        journal: &Journal,
        (node, dispatch): (NodeIndex, Dispatch),
    ) -> Option<RunRef> {
        let node = self.roster.get(node);
        let mut processes = node.processes();
        processes.find_map(|process| {
            let orphan = process.orphans.get(&dispatch)?;
            Some(self.run_ref(journal, node, process, dispatch, orphan))
        })
    }

    fn run_ref(
        &self,
        journal: &Journal,
        node: &Node,
        process: &NodeProcess,
        dispatch: Dispatch,
        orphan: &Orphan,
    ) -> RunRef {
        let safe_at = process.lease.safe_at();
        let ends_at = orphan.safe_at(safe_at, self.margin());
        RunRef {
            at: ProcessRef {
                node: node.name.clone(),
                incarnation: process.incarnation,
            },
            dispatch,
            blocking: orphan.blocking,
            not_before: journal.time(ends_at.unwrap_or(safe_at)),
        }
    }

    /// Returns the run that a task has, or may have again, and where.
    pub(super) fn placing(&self, task: &Task) -> Option<(ProcessRef, PlacedRun)> {
        let run = task.stage.placed().or_else(|| task.stage.given_up())?;
        let node = self.roster.get(run.node);
        let at = ProcessRef {
            node: node.name.clone(),
            incarnation: node.latest_process()?.incarnation,
        };
        let run = PlacedRun {
            task: task.id,
            dispatch: run.dispatch,
            prefetched: !run.started,
            blocking: self.blocks(task, run.node),
        };
        Some((at, run))
    }

    /// Writes down how a task ended. Its record has left the tasks, and its key is settled.
    pub(super) fn write_settled(
        &mut self,
        now: Timestamp,
        ending: &Ending,
        last_start: Option<Timestamp>,
    ) {
        let Some(journal) = &self.journal else {
            return;
        };
        let busy = self.busy_runs(journal, ending);
        // What was refused has never been a task.
        let Some(mut settled) = SettledTask::of_ending(ending, busy) else {
            return;
        };
        settled.at = journal.time(now);
        settled.started_at = last_start.map(|at| journal.time(at));
        let bytes = match &settled.outcome {
            FinalOutcome::Completed(output) => output.len(),
            FinalOutcome::Failed(failure) => failure.message.len(),
            FinalOutcome::Cancelled => 0,
        };
        let task = || RetainedTask {
            accepted: AcceptedTask::of_ending(ending),
            ending: settled.clone(),
        };
        let retained = journal.keep.keeps(Ended::of(&settled.outcome));
        let retained = retained.then(task);
        let busy = (!settled.busy.is_empty()).then(task);
        if let Some(journal) = &mut self.journal {
            journal.busy.extend(busy.map(|task| (ending.id, task)));
            let record = match self.config.tell_at_once {
                true => Journal::record_told,
                false => Journal::record,
            };
            record(journal, now, bytes, Record::Settled(Box::new(settled)));
            if let Some(retained) = retained {
                let bytes = bytes + ending.args.len();
                record(journal, now, bytes, Record::Retained(Box::new(retained)));
            }
        }
    }

    /// Returns the runs for which the key of a task that has settled stays busy.
    fn busy_runs(&self, journal: &Journal, ending: &Ending) -> Vec<RunRef> {
        let Some(key) = &ending.key else {
            return Vec::new();
        };
        if self.keys.find(key) != Some((ending.id, true)) {
            return Vec::new();
        }
        let nodes = self.roster.nodes.iter();
        let processes = nodes.flat_map(|node| node.processes().map(move |it| (node, it)));
        let runs = processes.flat_map(|(node, process)| {
            let own = process.orphans.iter();
            let own = own.filter(|(_, orphan)| orphan.key.as_ref() == Some(key));
            own.map(move |(&dispatch, orphan)| {
                self.run_ref(journal, node, process, dispatch, orphan)
            })
        });
        runs.collect()
    }

    /// Returns what is believed of all nodes.
    pub(super) fn node_facts(&self) -> Vec<NodeFact> {
        let leaving = self.roster.leaving.iter();
        let leaving = leaving.map(|&node| &self.roster.get(node).name);
        let names: BTreeSet<_> = self.roster.names.keys().chain(leaving).collect();
        let facts = names.into_iter().map(|name| self.fact_of(name));
        facts.filter(|fact| !fact.is_vacant()).collect()
    }

    /// Returns what is believed of the node of this name. One that was taken out may not have
    /// ended when another has its name: then its processes are replaced ones.
    fn fact_of(&self, name: &Arc<str>) -> NodeFact {
        let leaving = self.roster.leaving.iter().copied();
        let leaving = leaving.filter(|&node| self.roster.get(node).name == *name);
        let there = self.roster.names.get(name).copied();
        let mut nodes: Vec<_> = leaving.chain(there).collect();
        let Some(last) = nodes.pop() else {
            return NodeFact {
                name: name.clone(),
                reach: crate::engine::Reach::Joins,
                process: ProcessFact::Removed(None),
                replaced: Vec::new(),
            };
        };
        let mut fact = node_fact(self.roster.get(last));
        let earlier = nodes.into_iter().map(|node| self.roster.get(node));
        let processes = earlier.flat_map(|node| node.past.iter().chain(node.latest_process()));
        let mut replaced: Vec<_> = processes.map(NodeProcess::known).collect();
        replaced.append(&mut fact.replaced);
        replaced.dedup_by_key(|process| process.incarnation);
        fact.replaced = replaced;
        fact
    }

    /// Notes that something else may be true of a node.
    pub(super) fn node_changed(&mut self, node: NodeIndex) {
        if let Some(journal) = &mut self.journal {
            journal.node_changed(self.now, &self.roster.get(node).name);
        }
    }

    /// Notes that something else is true of a task that goes on, and that nobody waits for that to
    /// be stored.
    pub(super) fn task_changed(&mut self, slot: Slot) {
        if let Some(journal) = &mut self.journal {
            journal.changed_lazily(self.now, self.tasks.get(slot).id);
        }
    }

    /// Notes that a task is in another stage than before.
    #[cold]
    pub(super) fn note_stage(&mut self, slot: Slot, was_waiting: bool) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let task = self.tasks.get(slot);
        match task.stage {
            Stage::Prefetched { .. } | Stage::Running { .. } => journal.placed(self.now, task.id),
            Stage::Backoff { .. } | Stage::Held(_) => journal.changed(self.now, task.id),
            Stage::Queued { .. } if !was_waiting => journal.changed_lazily(self.now, task.id),
            _ => {}
        }
    }
}

fn node_fact(node: &Node) -> NodeFact {
    let process = match &node.state {
        State::Connecting | State::Dead => ProcessFact::None,
        State::Member(process) => ProcessFact::Known(process.known()),
        State::Leaving(process) => ProcessFact::Removed(process.as_ref().map(NodeProcess::known)),
        State::Vacant | State::Free => ProcessFact::Removed(None),
    };
    let present = node.incarnation();
    let mut replaced = Vec::new();
    for process in &node.past {
        let is_there = |it: &KnownProcess| it.incarnation == process.incarnation;
        if Some(process.incarnation) != present && !replaced.iter().any(is_there) {
            replaced.push(process.known());
        }
    }
    NodeFact {
        name: node.name.clone(),
        reach: node.reach.clone(),
        process,
        replaced,
    }
}
