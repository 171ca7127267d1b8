//! The beginning of a link: whose hello a node answers, what it says of itself, and what the
//! welcome sets.
//!
//! Owns: going over to a later term of its scheduler or to another scheduler, and telling what is
//! held. Does not know: how a link is opened or closed, or what becomes of what is held.

use super::lease::MIN_HEARTBEAT;
use super::state::{Bond, Course, Current, LinkStage, Session};
use super::workers::{Known, Owner, RunState};
use super::{Gone, NodeAction, NodeMachine, NodeNote};
use crate::config::{FRAME_OVERHEAD, SchedulerConfig};
use crate::engine::message::{
    HeldRun, HeldState, NAME_RULE, NodeHello, Report, SchedulerHello, ToScheduler, VERSION_MAX,
    VERSION_MIN, Welcome, is_name, no_dispatch,
};
use crate::engine::{LinkId, Timestamp};
use crate::error::LinkRefusal;

impl NodeMachine {
    pub(super) fn hello(
        &mut self,
        now: Timestamp,
        link: LinkId,
        hello: SchedulerHello,
    ) -> Result<(), String> {
        if !is_name(&hello.scheduler) {
            return Err(format!("a scheduler's name must have {NAME_RULE}"));
        }
        if let Err(refusal) = self.may_serve(now, &hello) {
            self.refuse(now, link, refusal);
            return Ok(());
        }
        // The older link is done with before the hello is written, so that the scheduler may take
        // what the hello is followed by for the whole truth.
        if let Some(older) = self.current {
            let reason = "a newer link has replaced this one".to_owned();
            self.close(now, older.link, reason);
        }
        let session = self.session.as_mut();
        let same = session.filter(|session| session.is_of(&hello));
        let known = same.map(|session| session.term = hello.term).is_some();
        let max_output = self.max_output_for(&hello);
        // A scheduler of another id remembers nothing of what this node was given, and would not
        // know the reports. A later term of the same one does.
        if !known {
            self.discard(Owner::Nobody);
            self.forget_session();
            self.session = Some(Session {
                scheduler: hello.scheduler,
                scheduler_id: hello.scheduler_id,
                term: hello.term,
                seen: no_dispatch(),
                bond: Bond::Greeted,
                refused: false,
                max_output,
                heard: now,
                down_since: now,
            });
        }
        if let Some(session) = &mut self.session {
            session.max_output = max_output;
        }
        self.kept.bound_outputs(max_output);
        self.greet(now, link);
        Ok(())
    }

    /// Returns the largest output that this scheduler takes. A larger one would close the link, be
    /// kept, and close each later one.
    fn max_output_for(&self, hello: &SchedulerHello) -> usize {
        match hello.max_frame {
            Some(max_frame) if !self.spec.local => usize::try_from(max_frame)
                .unwrap_or(usize::MAX)
                .saturating_sub(FRAME_OVERHEAD),
            _ => usize::MAX,
        }
    }

    fn may_serve(&self, now: Timestamp, hello: &SchedulerHello) -> Result<(), LinkRefusal> {
        if hello.version_min.max(VERSION_MIN) > hello.version_max.min(VERSION_MAX) {
            return Err(LinkRefusal::Version {
                ours_min: VERSION_MIN,
                ours_max: VERSION_MAX,
                theirs_min: hello.version_min,
                theirs_max: hello.version_max,
            });
        }
        if let Some(session) = &self.session {
            if session.supersedes(hello) {
                let term = session.term;
                return Err(LinkRefusal::Superseded { term });
            }
            if session.is_of(hello) {
                return Ok(());
            }
            // A scheduler of this name that starts anew has closed its links by that; another one
            // must wait until this one has been silent for a while.
            let counts = session.scheduler != hello.scheduler || self.current.is_some();
            if counts && now.since(session.heard) < self.lease.silence() {
                return Err(LinkRefusal::Busy {
                    name: session.scheduler.clone(),
                });
            }
        }
        match self.course {
            Course::Serving => Ok(()),
            Course::Ending(_) | Course::Gone => Err(LinkRefusal::Stopping),
        }
    }

    /// Writes the hello and what is held, and makes this link the one that counts.
    fn greet(&mut self, now: Timestamp, link: LinkId) {
        let seen = self.session.as_ref().map(|session| session.seen);
        let address = self.links.get_mut(&link).map_or_else(String::new, |entry| {
            entry.since = now;
            entry.address.clone()
        });
        if let Some(session) = &mut self.session {
            session.heard = now;
        }
        self.current = Some(Current {
            link,
            stage: LinkStage::Greeted {
                sent_through: self.kept.last(),
            },
        });
        self.hellos += 1;
        // The scheduler counts on the rest at once. Once the link is up it is told who is to blame.
        let out_of_reach = self.workers.out_of_reach();
        self.reported_stalled = (out_of_reach == 0).then_some(0);
        self.reported_lent = 0;
        self.wants = 0;
        let hello = NodeHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            node: self.spec.name.to_string(),
            incarnation: self.spec.incarnation,
            memory: self.memory,
            number: self.hellos,
            seen: seen.unwrap_or(no_dispatch()),
            kinds: self.spec.kinds.clone(),
            labels: self.spec.labels.clone(),
            workers: self.workers.limit(),
            out_of_reach,
            probe: self.spec.probe_beside(&address),
            refusal_means_dead: self.spec.refusal_means_dead == Some(true),
            address,
            draining: self.takes_nothing(),
            max_frame: self.spec.max_frame,
        };
        self.send(link, ToScheduler::Hello(Box::new(hello)));
        for part in self.kept.holdings(self.holds()) {
            self.send(link, ToScheduler::Holding(part));
        }
        // The holdings tell who runs and who waits, so that no start before them is to be
        // announced. The outbox is empty: nothing is put there without a link that is up.
        for (_, run) in self.workers.iter_mut() {
            run.known = Known::Yes;
        }
        self.prefetched.forget_reports();
        self.lease.greeted(now);
    }

    /// Returns what the node holds for the scheduler that it serves.
    pub(super) fn held_runs(&self) -> Vec<HeldRun> {
        let running = self.workers.iter().filter_map(|(_, run)| {
            let state = match (run.owner, run.state) {
                // The scheduler that is served has never heard of it.
                (Owner::Nobody, _) => return None,
                // Neither has an end to report any more, and both still take a worker.
                (Owner::Left, _) | (Owner::Session, RunState::Overrun) => HeldState::Overrun,
                (Owner::Session, _) => HeldState::Running,
            };
            Some(HeldRun {
                task: run.task,
                dispatch: run.dispatch,
                state,
            })
        });
        let waiting = self.prefetched.iter().map(|(_, waiting)| HeldRun {
            task: waiting.assignment.task,
            dispatch: waiting.assignment.dispatch,
            state: HeldState::Prefetched,
        });
        let pipelined = self.pipelines.iter();
        let pipelined = pipelined.filter(|(_, pipelined)| pipelined.run.owner == Owner::Session);
        let pipelined = pipelined.map(|(_, pipelined)| HeldRun {
            task: pipelined.run.task,
            dispatch: pipelined.run.dispatch,
            state: HeldState::Prefetched,
        });
        running.chain(pipelined).chain(waiting).collect()
    }

    pub(super) fn welcome(&mut self, now: Timestamp, welcome: Welcome) -> Result<(), String> {
        let Some(Current {
            link,
            stage: LinkStage::Greeted { sent_through },
        }) = self.current
        else {
            return Err("a second welcome on one link".to_owned());
        };
        // Nothing is changed by a welcome that breaks the protocol.
        self.check_welcome(&welcome)?;
        self.kept.acknowledge(welcome.acknowledged)?;
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        session.bond = session.bond.max(Bond::Served);
        // A scheduler that was refused may wait for word, and the word may have been lost with the
        // link.
        self.ready_acks |= session.refused;
        let scheduler = session.scheduler.clone();
        let stage = LinkStage::Up;
        self.current = Some(Current { link, stage });
        self.actions
            .push(NodeAction::Note(NodeNote::Serving { scheduler }));
        if !self.spec.local {
            self.lease.welcomed(&welcome);
        }
        self.retry = welcome.retry;
        if let Some(workers) = welcome.workers {
            self.workers.set_limit(workers);
        }
        self.catch_up(sent_through);
        // The lease that it renews may have come too late, or be shorter than the one before: what
        // it does not cover is given up before anything else is done.
        self.expire(now);
        self.cancel(&welcome.stop);
        if welcome.drain {
            self.drain(Gone::Dismissed);
        }
        Ok(())
    }

    fn check_welcome(&self, welcome: &Welcome) -> Result<(), String> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&welcome.version) {
            return Err(format!(
                "the welcome names the unknown version {}",
                welcome.version
            ));
        }
        let lease = welcome.heartbeat..=SchedulerConfig::MAX_LEASE;
        if !self.spec.local
            && (welcome.heartbeat < MIN_HEARTBEAT || !lease.contains(&welcome.lease))
        {
            return Err(format!(
                "the welcome names a heartbeat of {:?} and a lease of {:?}; the first must be at least {MIN_HEARTBEAT:?}, the second no shorter than it, and at most a day",
                welcome.heartbeat, welcome.lease
            ));
        }
        if welcome.outlive > SchedulerConfig::MAX_LEASE {
            return Err(format!(
                "the welcome lets the node go on for {:?} after its lease; at most a day is allowed",
                welcome.outlive
            ));
        }
        Ok(())
    }

    /// Sends what has happened since the holdings were written.
    fn catch_up(&mut self, sent_through: u64) {
        debug_assert!(self.outbox.is_empty());
        // It may have begun to drain after the hello.
        if self.course == Course::Ending(Gone::Drained) {
            self.outbox.push(Report::Draining);
        }
        for report in self.kept.after(sent_through) {
            self.outbox.push(report.clone());
        }
        // Nobody acknowledges what a local link has carried.
        if self.spec.local {
            self.kept.clear();
        }
        for (_, run) in self.workers.iter_mut() {
            let unknown = run.owner == Owner::Session && run.known == Known::No;
            if unknown && run.state != RunState::Overrun {
                let (task, dispatch) = (run.task, run.dispatch);
                let position = self.outbox.push(Report::Started { task, dispatch });
                run.known = Known::Announced(position);
            }
        }
    }
}
