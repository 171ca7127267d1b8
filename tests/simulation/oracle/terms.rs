//! G1, G3, G9: what holds over all terms of one life, that is over all starts on one store.
//!
//! Owns: the judgement of what a start finds, and of what is repeated. Does not know: how a log
//! fails (see `log`).

use std::collections::BTreeMap;

use callboard::__internals::engine::Audience;
use callboard::__internals::engine::ledger::LedgerState;
use callboard::__internals::engine::message::Assignment;
use callboard::__internals::engine::record::{FinalOutcome, SettledTask};
use callboard::status::Outcome;
use callboard::task::{Dispatch, TaskId};

use super::copies::Forgotten;
use super::{Facts, Given, Oracle, Start};
use crate::cluster::Cluster;
use crate::log::SimLog;
use crate::plan::{MS, SECOND, Time, nanos};
use crate::workers::Run;

/// What a term has of those before it.
#[derive(Default)]
pub struct Terms {
    /// When it began, unless it is the first.
    pub began: Option<Time>,
    /// The highest numbers that were given out before.
    pub last_task: Option<TaskId>,
    last_dispatch: Option<Dispatch>,
    /// What was told until this time was stored when the scheduler died, though it was told at
    /// once.
    pub stored_until: Time,
    /// The same with those of this term.
    pub highest: Option<Dispatch>,
    /// What was sent before each copy that was put in the store's place.
    pub forgotten: Vec<Forgotten>,
}

impl Terms {
    pub fn begin(&mut self, now: Time) {
        self.began = Some(now);
        self.last_dispatch = self.highest;
    }
}

impl Oracle {
    /// Numbers of a term are above all before.
    pub fn judge_number(&mut self, run: &Assignment) {
        let terms = &mut self.terms;
        let reused = terms.last_dispatch >= Some(run.dispatch);
        terms.highest = terms.highest.max(Some(run.dispatch));
        if reused {
            let text = format!("{} was given out by an earlier term", run.dispatch);
            self.fail("G3", Some(run.task), text);
        }
    }
}

impl Cluster {
    /// Notes, when the scheduler dies, until when what was told is stored.
    pub fn note_what_is_stored(&mut self) {
        // It waits for company, for a batch before it, and for its own.
        let until = self.told_is_stored_until();
        self.oracle.terms.stored_until = until;
    }

    /// Returns until when what was told is stored by now.
    pub fn told_is_stored_until(&self) -> Time {
        let wait = 20 * MS + self.plan.late + self.log_takes();
        let since = self.now.saturating_sub(wait);
        match (self.plan.config.tell_at_once, since) {
            (false, _) => Time::MAX,
            (true, since) if self.log_failed_since(since) => 0,
            (true, since) => since,
        }
    }

    /// Judges a start on a log: what it finds is what was answered and told before.
    pub fn judge_found(&mut self, log: &SimLog) {
        let found = match log.found() {
            Ok(found) => found,
            Err(text) => return self.oracle.fail("log", None, text),
        };
        let known = found.ledger.tasks();
        let stored = self.scheduler.machine.stored();
        let stored_until = self.oracle.terms.stored_until;
        let put_back = log.put_back.as_ref();
        if let Some(put_back) = put_back {
            self.oracle.forget_runs(put_back.known.clone());
        }
        let tasks = std::mem::take(self.oracle.now_tasks());
        if let Some((id, _)) = known.iter().find(|(id, _)| !tasks.contains_key(id)) {
            self.fail(
                "G2",
                *id,
                "a start finds it, and it was not accepted".into(),
            );
        }
        let mut left = BTreeMap::new();
        for (id, mut facts) in tasks {
            let state = known.get(&id).map(|it| &it.state);
            let is_left = match put_back {
                None => Ok(true),
                Some(put_back) => facts.go_back(id, state, stored, &put_back.told),
            };
            let carried = is_left.and_then(|is_left| match is_left {
                true => facts.carry_over(state, stored, stored_until),
                false => Ok(false),
            });
            match carried {
                Ok(true) => drop(left.insert(id, facts)),
                // Its acceptance was never told.
                Ok(false) => {}
                Err((promise, text)) => self.fail(promise, id, text),
            }
        }
        let last = left.keys().next_back().copied();
        self.oracle.terms.last_task = self.oracle.terms.last_task.max(last);
        *self.oracle.now_tasks() = left;
    }

    /// Returns whether the nodes of the term before may still be waited for.
    pub fn may_resync(&self) -> bool {
        let config = &self.plan.config;
        let longest = (2 * nanos(config.heartbeat) + SECOND).min(nanos(config.lease));
        let began = self
            .oracle
            .terms
            .began
            .filter(|_| self.plan.store.is_some());
        began.is_some_and(|began| self.now < began + longest + self.plan.late + SECOND)
    }

    /// Returns whether all that a task has run may be unknown: it ran before this term, and what it
    /// ran where ended with its process, or was not heard in time.
    pub fn may_be_unknown(&self, task: TaskId) -> bool {
        let facts = self.oracle.tasks[self.life].get(&task);
        let in_time = self.plan.only_restarts_in_time();
        facts.is_some_and(|facts| {
            let began = self.oracle.terms.began;
            let mut starts = facts.starts.iter();
            starts.all(|it| Some(it.at) < began && (self.procs[it.proc].local || !in_time))
        })
    }

    /// Returns whether an attempt that now begins has begun on another process, of which the
    /// scheduler was never away for long.
    pub fn is_held_elsewhere(&self, facts: &Facts, run: &Run) -> bool {
        // An attempt in the scheduler's own process may have been forgotten with that. Those after
        // it then count as one less.
        let own = |start: &Start| self.procs[start.proc].local && start.attempt < run.attempt();
        // That it is to be cancelled may have been forgotten with its end. So may that its deadline
        // has passed, which lies ahead again once the clock was set back.
        let options = facts.sent.options.as_ref();
        let has_deadline = options.is_some_and(|options| options.deadline.is_some());
        let forgotten = facts.cancel_asked || has_deadline && self.oracle.clock_was_set;
        !forgotten
            && !facts.starts.iter().any(own)
            && self.plan.only_restarts_in_time()
            && facts
                .starts
                .iter()
                .any(|start| start.attempt == run.attempt() && !self.procs[start.proc].local)
    }
}

impl Facts {
    /// Carries a task over into another term, which finds this of it. Returns whether there is such
    /// a task; `stored` is the last batch that was known to be stored, and what was told until
    /// `stored_until` is stored.
    fn carry_over(
        &mut self,
        found: Option<&LedgerState>,
        stored: u64,
        stored_until: Time,
    ) -> Result<bool, (&'static str, String)> {
        // All clients have died with the process.
        self.audience = Audience::Current;
        self.restarts += 1;
        self.rerouted = false;
        self.holder = None;
        self.forget_term_of_runs();
        let handled = self.is_over();
        match found {
            None if handled => self.settled_before = true,
            None if self.batch <= stored => {
                return Err(("G1", "it was accepted, and a start does not find it".into()));
            }
            None if !self.starts.is_empty() || self.told.is_some() => {
                return Err(("G1", "it ran or was told of, and is not stored".into()));
            }
            None => return Ok(false),
            Some(LedgerState::Open { changed, .. }) => {
                if let Some((at, outcome)) = &self.told
                    && *at <= stored_until
                {
                    let text = format!("it was told that it {outcome}, and a start finds it open");
                    return Err(("G1", text));
                }
                // It was told at once, and may end otherwise now.
                self.told = None;
                if self.must_be_cancelled {
                    let text = "a cancel was said to have succeeded, and a start finds it open";
                    return Err(("G12", text.into()));
                }
                let cancelling = changed.as_ref().is_some_and(|it| it.cancelling);
                if self.cancel_promised && !cancelling {
                    return Err(("G12", "that it is to be cancelled is forgotten".into()));
                }
                self.to_be_cancelled = cancelling;
                self.given = Given::Nowhere;
            }
            Some(LedgerState::Settled { ending, confirmed }) => {
                let told = self.outcome();
                if told.is_some_and(|told| !is_outcome(told, ending)) {
                    let text = format!("it was told that it {told:?}, and is stored as {ending:?}");
                    return Err(("G1", text));
                }
                if *confirmed && !handled {
                    return Err(("G1", "nobody has handled its status, as is stored".into()));
                }
                self.settled_before = true;
                if !confirmed {
                    self.given = Given::Stored;
                }
            }
        }
        Ok(true)
    }
}

fn is_outcome(told: &Outcome, ending: &SettledTask) -> bool {
    match (told, &ending.outcome) {
        (Outcome::Completed(told), FinalOutcome::Completed(stored)) => told == stored,
        (Outcome::Failed(told), FinalOutcome::Failed(stored)) => told == stored,
        (told, stored) => *told == Outcome::Cancelled && *stored == FinalOutcome::Cancelled,
    }
}
