//! What is paused starts nowhere, and nothing else waits for it.
//!
//! Owns: what was paused in this term and when, and the judgement of what is placed, starts and is
//! accepted meanwhile. Does not know: when a pause begins or ends.

use std::collections::BTreeMap;

use callboard::__internals::engine::message::Assignment;
use callboard::task::TaskKind;

use super::limits::Limits;
use crate::cluster::Cluster;
use crate::plan::{Fault, KINDS, MS, Time};
use crate::scheduler::{SchedulerIn, clock};
use crate::workers::Run;

/// By kind, or for all, since when it is paused; and of which kinds the intake is closed.
#[derive(Default)]
pub struct Pauses {
    since: BTreeMap<Option<usize>, Time>,
    closed: BTreeMap<usize, Time>,
    pub limits: Limits,
}

impl Pauses {
    /// Returns since when nothing of a kind may start.
    fn since(&self, kind: &TaskKind) -> Option<Time> {
        let named = |at: &usize| *kind == KINDS[*at].0;
        let both = self
            .since
            .iter()
            .filter(|(of, _)| of.as_ref().is_none_or(named));
        both.map(|(_, &since)| since).min()
    }

    pub fn is_closed(&self, kind: &TaskKind) -> bool {
        self.closed.keys().any(|&at| *kind == KINDS[at].0)
    }
}

impl Cluster {
    pub fn pause(&mut self, kind: Option<usize>, paused: bool) {
        self.say(|| format!("# pause {kind:?} {paused}"));
        let (now, at) = (clock(self.now), self.now);
        let named: Option<TaskKind> = kind.map(|kind| KINDS[kind].0.into());
        if paused {
            let _ = self.scheduler.machine.pause(now, named.as_ref());
            self.oracle.pauses.since.entry(kind).or_insert(at);
        } else {
            self.scheduler.machine.resume(now, named.as_ref());
            self.oracle.pauses.since.remove(&kind);
        }
    }

    pub fn set_intake(&mut self, kind: usize, open: bool) {
        self.say(|| format!("# intake {kind} {open}"));
        let (now, name) = (clock(self.now), TaskKind::from(KINDS[kind].0));
        if open {
            self.scheduler.machine.open_intake(now, &name);
            self.oracle.pauses.closed.remove(&kind);
        } else {
            let _ = self.scheduler.machine.close_intake(now, &name);
            self.oracle.pauses.closed.insert(kind, self.now);
        }
    }

    /// Ends the pauses: none outlasts the faults.
    pub fn heal_pauses(&mut self) {
        (0..self.plan.faults.len()).for_each(|index| self.unpause(index));
    }

    /// Lets an operator take back what the fault of this index is, if he has done it.
    pub fn unpause(&mut self, index: usize) {
        match self.plan.faults[index].1 {
            Fault::Pause { kind, .. } => self.command(SchedulerIn::Pause(kind, false)),
            Fault::Limit { kind, .. } => self.command(SchedulerIn::Limit(kind, None)),
            Fault::CloseIntake { kind, .. } => self.command(SchedulerIn::Intake(kind, true)),
            _ => {}
        }
    }

    /// Judges that nothing of a paused kind is placed. With a store, what was placed before is sent
    /// when that is stored.
    pub fn judge_paused(&mut self, assignments: &[Assignment]) {
        if self.plan.store.is_some() {
            return;
        }
        let pauses = &self.oracle.pauses;
        let tasks = self.oracle.tasks.last();
        let paused = assignments.iter().find(|it| {
            let facts = tasks.and_then(|tasks| tasks.get(&it.task));
            facts.is_some_and(|facts| pauses.since(&facts.sent.kind).is_some())
        });
        if let Some(task) = paused.map(|it| it.task) {
            self.fail(
                "pause",
                task,
                "it is placed, though its kind is paused".into(),
            );
        }
    }

    /// Judges that what was sent ahead before a pause is asked back: it may start only until its
    /// node hears of that.
    pub fn judge_paused_start(&mut self, run: &Run) {
        let tasks = &self.oracle.tasks[run.life];
        let facts = tasks.get(&run.task).filter(|_| run.life == self.life);
        let since = facts.and_then(|facts| self.oracle.pauses.since(&facts.sent.kind));
        let Some(since) = since else { return };
        let heard = 2 * self.plan.net.max + 2 * self.plan.late + self.log_takes() + 250 * MS;
        if since + heard < self.now && !self.oracle.is_disturbed(since, self.now) {
            let text = format!("it starts, though its kind is paused since {since}");
            self.fail("pause", run.task, text);
        }
    }
}
