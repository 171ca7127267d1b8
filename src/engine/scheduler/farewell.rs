//! The last words of a process that another one has replaced.
//!
//! Owns: what such a process may still say, and when it is refused for good. Its word frees what
//! waits for the end of its runs; nothing that it says brings a run back, settles a task or makes
//! it count as its node. Does not know: when a process is replaced, or what follows from the end of
//! an orphaned run.

use std::collections::BTreeMap;

use super::SchedulerMachine;
use super::comparison::check_told;
use super::sessions::{Comparison, SessionStage, Speaker};
use crate::engine::message::{
    Beat, HeldRun, Holding, NodeHello, Report, ToNode, ToScheduler, VERSION_MAX, Welcome,
};
use crate::engine::placement::NodeIndex;
use crate::engine::roster::NodeProcess;
use crate::engine::timers::Timer;
use crate::engine::{Incarnation, LinkId, Memory, Timestamp};
use crate::error::LinkRefusal;
use crate::task::Dispatch;

impl SchedulerMachine {
    /// Returns whether another process of its name has taken the place of the one that says hello.
    pub(super) fn is_replaced(&self, node: NodeIndex, incarnation: Incarnation) -> bool {
        let entry = self.roster.get(node);
        entry.incarnation() != Some(incarnation) && entry.has_lived(incarnation)
    }

    /// Hears out a replaced process that says hello, if something waits for the end of a run that
    /// it may have, and refuses it otherwise.
    pub(super) fn hear_out(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        hello: NodeHello,
    ) {
        let mut own = self.replaced(node, hello.incarnation);
        let spoke_later = own.any(|process| process.hello >= hello.number);
        drop(own);
        if spoke_later {
            // What it held then is not what it holds now.
            self.fail(now, link, "the node has said a later hello on another link");
            return;
        }
        if !self.is_awaited(node, hello.incarnation) {
            let refusal = LinkRefusal::Replaced {
                name: hello.node.clone(),
            };
            self.refuse(now, link, &hello.node, refusal);
            return;
        }
        // Where it was dialled, the dial has found the wrong process.
        let entry = self.roster.get_mut(node);
        if entry.handshake.take_if(|it| *it == link).is_some() {
            entry.redial.setup_failed(now, entry.usual_interval());
        }
        self.sessions
            .begin_comparison(link, node, hello, Speaker::Replaced);
        self.timers.wake_at(node, now);
    }

    /// Takes in a part of what a replaced process holds. When that is whole, what it does not name
    /// has ended; all else is to stop, and to be told of when it has.
    pub(super) fn holding_at_last(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        (incarnation, memory): (Incarnation, Memory),
        holding: Holding,
    ) -> Result<(), String> {
        check_told(&holding)?;
        for report in holding.reports {
            self.last_report(now, node, incarnation, memory, report);
        }
        let whole = self.gather(now, link, holding.runs, holding.last)?;
        if let Some(comparison) = whole {
            self.held_at_last(now, link, node, *comparison);
        }
        self.timers.wake_at(node, now);
        Ok(())
    }

    fn held_at_last(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        comparison: Comparison,
    ) {
        let Comparison { hello, held, .. } = comparison;
        let until = now + self.config.heartbeat.saturating_mul(2);
        self.timers.start(until, Timer::Handshake(link));
        self.sessions.extend_setup(link, until);
        self.end_unnamed(now, node, hello.incarnation, hello.memory, &held);
        if hello.out_of_reach == 0 {
            self.end_unremembered(now, node, hello.incarnation, hello.memory);
        }
        if !self.is_awaited(node, hello.incarnation) {
            self.dismiss(now, link);
            return;
        }
        let lease = self.config.lease;
        let mut acknowledged = 0;
        for process in self.replaced_mut(node, hello.incarnation) {
            process.lease.link_up(now, lease);
            if process.memory == hello.memory {
                acknowledged = process.acknowledged;
            }
        }
        let welcome = Welcome {
            version: hello.version_max.min(VERSION_MAX),
            heartbeat: self.config.heartbeat,
            lease,
            outlive: self.outlive,
            workers: None,
            retry: self.config.retry,
            acknowledged,
            stop: held.into_keys().collect(),
            drain: false,
        };
        self.send(link, ToNode::Welcome(Box::new(welcome)));
    }

    /// Returns what it says after that. `Err` says how it broke the protocol.
    pub(super) fn last_words(
        &mut self,
        now: Timestamp,
        link: LinkId,
        node: NodeIndex,
        (incarnation, memory): (Incarnation, Memory),
        message: ToScheduler,
    ) -> Result<(), String> {
        match message {
            ToScheduler::Beat(Beat {
                number, answered, ..
            }) => {
                if answered >= number || !self.sessions.take_beat(link, number) {
                    return Err("its beats are out of order".to_owned());
                }
                // The lease goes on, and with it what ends with the lease.
                let lease = self.config.lease;
                for process in self.replaced_mut(node, incarnation) {
                    process.lease.answered(now, number, lease);
                }
                self.send(link, ToNode::Answer(number));
            }
            ToScheduler::Reports(reports) => {
                let last = reports.iter().filter_map(Report::seq).max();
                for report in reports {
                    self.last_report(now, node, incarnation, memory, report);
                }
                let mut own = self.replaced(node, incarnation);
                let unstored = own.any(NodeProcess::has_unstored);
                drop(own);
                // The process forgets what is acknowledged, so nothing is before it is stored.
                if let Some(last) = last
                    && !unstored
                {
                    self.send(link, ToNode::Acknowledge(last));
                }
            }
            // Nothing runs there any more.
            ToScheduler::Goodbye => {
                self.end_replaced(now, node, |process| process.incarnation == incarnation)
            }
            _ => return Err("it sent another hello, or again what it holds".to_owned()),
        }
        if !self.is_awaited(node, incarnation) {
            self.dismiss(now, link);
        }
        self.timers.wake_at(node, now);
        Ok(())
    }

    /// Takes what a report says of an end, and nothing else.
    fn last_report(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        incarnation: Incarnation,
        memory: Memory,
        report: Report,
    ) {
        self.totals.stale_reports += 1;
        if let Some(seq) = report.seq() {
            let mut own = self.replaced_mut(node, incarnation);
            if let Some(process) = own.find(|process| process.memory == memory) {
                process.take_report(seq);
                // This report brings nothing that is stored, but earlier ones may have.
                if !process.has_unstored() {
                    process.may_acknowledge();
                }
            }
        }
        let (task, dispatch, ran) = match report {
            Report::Stalled { workers: 0, .. } => {
                self.end_unremembered(now, node, incarnation, memory);
                return;
            }
            Report::Ended {
                task,
                dispatch,
                end,
                ran,
                overrun: false,
                ..
            } => (task, dispatch, !end.is_of_no_run(ran)),
            Report::Freed { task, dispatch, .. } => (task, dispatch, true),
            Report::Refused { task, dispatch, .. } | Report::Returned { task, dispatch, .. } => {
                (task, dispatch, false)
            }
            _ => return,
        };
        // Also if nothing waits for it any more, as after the end of its lease.
        if !ran {
            self.deny_start(task, dispatch);
        }
        self.ended_at_last(now, node, incarnation, dispatch, ran);
    }

    /// Ends a run of a replaced process that has ended there, or was never started.
    fn ended_at_last(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        incarnation: Incarnation,
        dispatch: Dispatch,
        ran: bool,
    ) {
        let mut own = self.replaced(node, incarnation);
        let Some(task) = own.find_map(|process| Some(process.orphans.get(&dispatch)?.task)) else {
            return;
        };
        drop(own);
        // The process lives, so the task has not cost it.
        if let Some(slot) = self.tasks.find(task) {
            self.uncount_loss(slot, node, incarnation);
            self.reclass(slot);
        }
        if ran {
            self.orphan_ended(now, node, dispatch);
        } else {
            self.orphan_never_ran(now, node, dispatch);
        }
    }

    /// Ends what a process does not hold, and would remember.
    fn end_unnamed(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        incarnation: Incarnation,
        memory: Memory,
        held: &BTreeMap<Dispatch, HeldRun>,
    ) {
        let own = self.replaced(node, incarnation);
        let own = own.filter(|process| process.memory == memory);
        let orphans = own.flat_map(|process| process.orphans.keys().copied());
        let ended: Vec<_> = orphans.filter(|it| !held.contains_key(it)).collect();
        // A node that was told to leave reports no ends, so what it does not name may have run.
        let reports_ends = !self.roster.get(node).is_removed();
        for dispatch in ended {
            self.ended_at_last(now, node, incarnation, dispatch, !reports_ends);
        }
    }

    /// Ends what a process had forgotten: nothing goes on there but what it names.
    fn end_unremembered(
        &mut self,
        now: Timestamp,
        node: NodeIndex,
        incarnation: Incarnation,
        memory: Memory,
    ) {
        self.end_replaced(now, node, |process| {
            process.incarnation == incarnation && process.memory != memory
        });
    }

    /// Returns a replaced process, and what it was before it forgot this scheduler.
    fn replaced(
        &self,
        node: NodeIndex,
        incarnation: Incarnation,
    ) -> impl Iterator<Item = &NodeProcess> {
        let past = self.roster.get(node).past.iter();
        past.filter(move |process| process.incarnation == incarnation)
    }

    fn replaced_mut(
        &mut self,
        node: NodeIndex,
        incarnation: Incarnation,
    ) -> impl Iterator<Item = &mut NodeProcess> {
        let past = self.roster.get_mut(node).past.iter_mut();
        past.filter(move |process| process.incarnation == incarnation)
    }

    /// Returns whether something waits for the end of a run that a replaced process may have.
    fn is_awaited(&self, node: NodeIndex, incarnation: Incarnation) -> bool {
        let mut own = self.replaced(node, incarnation);
        own.any(|process| !process.orphans.is_empty())
    }

    /// Dismisses a replaced process for which nothing waits any more.
    fn dismiss(&mut self, now: Timestamp, link: LinkId) {
        let session = self.sessions.get(link);
        if let Some(SessionStage::Farewell(hello)) = session.map(|session| &session.stage) {
            let name = hello.node.clone();
            self.send(link, ToNode::Refuse(LinkRefusal::Replaced { name }));
        }
        self.fail(now, link, "another process has taken its place");
    }
}
