//! What both sides hold, compared when a link comes up.
//!
//! Owns: the comparison and the welcome that ends it. Does not know: who may bring a link up, or
//! what a run's end means.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SchedulerMachine;
use super::metering::LinkEnd;
use super::reports::Told;
use super::sessions::{Comparison, Speaker, TooMany};
use super::takeover::ToldRun;
use crate::engine::message::{
    End, HeldRun, HeldState, Holding, NodeHello, Report, ToNode, VERSION_MAX, Welcome,
};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::{Channel, NodeProcess, Readiness, Standing, State};
use crate::engine::{Action, LinkId, Note, Timestamp};
use crate::task::Dispatch;

impl SchedulerMachine {
    pub(super) fn compare_begins(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        hello: NodeHello,
    ) {
        self.check_seen(hello.seen);
        self.spare(link, node);
        self.forget_link(node, LinkEnd::Replaced, "the node has a newer link");
        self.sessions
            .begin_comparison(link, node, hello.clone(), Speaker::Present);
        let dialled = self.was_dialled(link);
        let found_at = self.found_at(link, &hello).filter(|_| dialled);
        let lease = self.config.lease;
        let entry = self.roster.get_mut(node);
        entry.handshake = Some(link);
        entry.last_heard = now;
        let is_new = entry.latest_process().is_none();
        // A process before this one was ended or replaced when the hello was admitted.
        if is_new {
            entry.state = State::Member(NodeProcess::new(&hello, !dialled, now, lease));
            entry.drain_follows(hello.incarnation);
        }
        let process = entry.process_mut();
        // A process that was ever reached at its address listens there.
        process.joined &= !dialled;
        if dialled {
            process.found_at = found_at;
        }
        process.hello = hello.number;
        process.probe.clone_from(&hello.probe);
        self.set_offer(node, &hello.kinds, hello.labels);
        self.node_changed(node);
        if is_new {
            self.store_process(now, node);
        }
    }

    pub(super) fn holding(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        holding: Holding,
    ) -> Result<(), String> {
        check_told(&holding)?;
        // What was taken and not acknowledged before the link broke is told again, as it should be.
        let taken = Some(self.roster.get(node).process().taken);
        let reports = holding.reports.into_iter();
        let news: Vec<_> = reports.filter(|report| report.seq() > taken).collect();
        let told = news.iter().filter_map(run_of);
        let held = holding.runs.iter().map(|run| ToldRun {
            task: run.task,
            dispatch: run.dispatch,
            started: run.state != HeldState::Prefetched,
        });
        self.adopt(now, node, told.chain(held));
        self.reports(now, node, news)?;
        for run in &holding.runs {
            self.check_holder(node, run.task, run.dispatch)?;
        }
        if let Some(comparison) = self.gather(now, link, holding.runs, holding.last)? {
            self.welcome(now, link, node, *comparison);
        }
        Ok(())
    }

    /// Adds to what the node at the other end holds. Returns that when it is whole.
    pub(super) fn gather(
        &mut self,
        now: Timestamp,
        link: LinkId,
        runs: Vec<HeldRun>,
        last: bool,
    ) -> Result<Option<Box<Comparison>>, String> {
        match self.sessions.gather(link, runs) {
            // The node has done nothing wrong: it comes again when others have been compared.
            Err(TooMany::Compared) => {
                self.fail(now, link, "too many runs are being compared at once");
                Ok(None)
            }
            Err(TooMany::Held) => Err("it holds more runs than a node may".to_owned()),
            Ok(()) if last => {
                self.stop_setup(link);
                Ok(self.sessions.finish_comparison(link))
            }
            Ok(()) => Ok(None),
        }
    }

    /// Compares what both sides hold and tells the node that the link is up.
    fn welcome(&mut self, now: Timestamp, link: LinkId, node: NodeIndex, comparison: Comparison) {
        let Comparison { hello, held, .. } = comparison;
        self.has_spoken(node, &held);
        let forgotten = self.roster.get(node).process().memory != hello.memory;
        let stop = self.compare(now, node, &held, forgotten);
        if self.roster.get(node).process().is_lost() {
            // Not before: what the comparison finds is told from a lie by what was lost here.
            self.process_returned(node);
        }
        // Nothing was sent while the link was down: what is to be cancelled and is still there is
        // told now.
        let runs = self.runs_of(node).into_iter();
        let cancels: Vec<_> = runs
            .map(|slot| self.tasks.get(slot))
            .filter(|task| task.is_cancelling())
            .filter_map(|task| Some(task.stage.placed()?.dispatch))
            .collect();
        let (heartbeat, lease, retry) =
            (self.config.heartbeat, self.config.lease, self.config.retry);
        let entry = self.roster.get_mut(node);
        let process = entry.process_mut();
        process.standing = Standing::Up(Channel::new(link, now, cancels));
        process.lease.link_up(now, lease);
        process.readiness = if hello.draining {
            Readiness::Leaving
        } else {
            Readiness::Ready
        };
        let (incarnation, joined, acknowledged) =
            (process.incarnation, process.joined, process.acknowledged);
        entry.reason.clear();
        entry.handshake = None;
        entry.redial.link_up(entry.usual_interval());
        entry.last_heard = now;
        entry.load.link_up(hello.workers, hello.out_of_reach);
        let welcome = Welcome {
            version: hello.version_max.min(VERSION_MAX),
            heartbeat,
            lease,
            outlive: self.outlive,
            workers: entry.load.wanted_workers(),
            retry,
            acknowledged,
            stop,
            drain: entry.drain.is_some(),
        };
        let note = Note::NodeUp {
            node: Self::node_id(node),
            name: entry.name.clone(),
            incarnation,
            joined,
        };
        let (removed, present) = (entry.is_removed(), entry.takes_tasks());
        self.send(link, ToNode::Welcome(Box::new(welcome)));
        // It was taken out while no link could tell it so.
        if removed {
            self.send(link, ToNode::Leave);
        }
        self.actions.push(Action::Note(Box::new(note)));
        // With no worker out of reach nothing goes on there that it had forgotten.
        if hello.out_of_reach == 0 {
            self.forgotten_ended(now, node);
        }
        self.set_present(node, present);
        self.node_changed(node);
        self.roster.touch(node);
        self.timers.wake_at(node, now);
    }

    /// Brings what is believed of a node's runs in line with what it holds; returns what it is to
    /// stop. Only a node that was told to leave is compared though it has forgotten this scheduler.
    fn compare(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        held: &BTreeMap<Dispatch, HeldRun>,
        forgotten: bool,
    ) -> Vec<Dispatch> {
        for slot in self.runs_of(node) {
            let task = self.tasks.get(slot);
            let run = task.stage.placed().and_then(|run| held.get(&run.dispatch));
            match run.filter(|run| run.task == task.id) {
                Some(run) if run.state == HeldState::Running => self.started(now, slot),
                // Its attempt is over, and nobody tells again how: that was acknowledged before the
                // store was put back to an earlier state, or the node was told to leave by a term
                // that did not store it.
                Some(run) if run.state == HeldState::Overrun => {
                    self.ended(now, slot, false, End::Stopped, Duration::ZERO, true);
                }
                // What was asked back on the older link may never have been read there.
                Some(_) => self.forget_retraction(slot),
                // The run was lost on the way.
                None => self.never_started(now, slot, false),
            }
        }
        let orphans = self.roster.get(node).process().orphans.keys().copied();
        let ended: Vec<_> = orphans.filter(|it| !held.contains_key(it)).collect();
        // A node that was told to leave reports no ends, so what it does not name may have run.
        let silent = matches!(self.roster.get(node).state, State::Leaving(_));
        for dispatch in ended {
            if forgotten {
                // The run goes on, for all that is known, until the node says goodbye.
            } else if silent {
                self.orphan_ended(now, node, dispatch);
            } else {
                // Had it ended, its end would have been told before.
                self.orphan_never_ran(now, node, dispatch);
            }
        }
        let mut stop = Vec::new();
        for run in held.values() {
            match self.find_held(node, run.task, run.dispatch) {
                Told::Live(_) => continue,
                // The node has it, and no later run was begun: the cut costs nothing. What only
                // waits there is taken back, too, since it may start before a stop arrives.
                Told::GivenUp(slot) if run.state != HeldState::Overrun && self.keeps_runs(node) => {
                    self.reclaim(slot);
                    if run.state == HeldState::Running {
                        self.started(now, slot);
                    }
                    continue;
                }
                Told::GivenUp(_) | Told::Orphan | Told::Stale => {}
            }
            stop.push(run.dispatch);
            if !self.roster.get(node).process().has_orphan(run.dispatch) {
                self.add_unknown(node, run.task, run.dispatch);
            }
        }
        stop
    }
}

/// Checks that only what has a number is told with what a node holds: all else is news of a link
/// that is up.
pub(super) fn check_told(holding: &Holding) -> Result<(), String> {
    if holding.reports.iter().any(|report| report.seq().is_none()) {
        return Err("it told what it holds with a report that has no number".to_owned());
    }
    Ok(())
}

/// Returns the run of which a report tells, if it is of one.
fn run_of(report: &Report) -> Option<ToldRun> {
    let (task, dispatch, started) = match report {
        Report::Started { task, dispatch }
        | Report::Ended { task, dispatch, .. }
        | Report::Freed { task, dispatch, .. }
        | Report::Progress { task, dispatch, .. }
        | Report::Note { task, dispatch, .. } => (*task, *dispatch, true),
        Report::Refused { task, dispatch, .. } | Report::Returned { task, dispatch, .. } => {
            (*task, *dispatch, false)
        }
        Report::Ready | Report::Draining | Report::Stalled { .. } | Report::Lent { .. } => {
            return None;
        }
    };
    Some(ToldRun {
        task,
        dispatch,
        started,
    })
}
