//! Taking tasks in, or saying why not.
//!
//! Owns: every bound on what is accepted, and the keys' rule. Does not know: nodes.

use std::fmt;
use std::time::Duration;

use super::{Intake, SchedulerMachine};
use crate::engine::message::{MAX_LABELS, NAME_RULE, is_name};
use crate::engine::tasks::{
    Addressee, Era, FirstDue, InGroup, NO_SLOT, Past, Prefetch, Rare, Slot, Stage, Task,
};
use crate::engine::timers::Timer;
use crate::engine::{Accepted, Attached, Audience, ClientId, Refused, Submission, Timestamp};
use crate::error::Refusal;
use crate::status::{Ending, Outcome, TaskStatus};
use crate::task::{Due, Labels, Options, TaskGroup, TaskId, TaskKey};

/// What nearly every task asks of its node.
pub(super) static NO_LABELS: Labels = Labels::new();

impl SchedulerMachine {
    /// Takes a task in, or says why not.
    ///
    /// # Errors
    ///
    /// The refusal and the submission, unchanged. Nothing else has changed.
    pub fn submit(&mut self, now: Timestamp, submission: Submission) -> Result<Accepted, Refused> {
        self.observe(now);
        if let Audience::Client(client) = submission.audience {
            self.outbox.name(client);
        }
        if let Some(watcher) = submission.watcher {
            self.watchers.name(watcher);
        }
        match self.admit(&submission) {
            Ok(None) => Ok(Accepted::New(self.accept(now, submission))),
            Ok(Some(joined)) => {
                self.totals.joined += 1;
                self.join(joined, submission.audience);
                Ok(Accepted::Joined(joined))
            }
            Err(refusal) => {
                *self.totals.refused.entry(refusal.cause()).or_default() += 1;
                Err(Refused {
                    refusal,
                    submission: Box::new(submission),
                })
            }
        }
    }

    /// Lets another caller know how a task ends. One that waits is answered beside the audience;
    /// where only callers waited so far, the first of another kind becomes the audience.
    fn join(&mut self, id: TaskId, audience: Audience) {
        let Some(slot) = self.tasks.find(id) else {
            return;
        };
        let task = self.tasks.get_mut(slot);
        let waits = audience == Audience::Caller;
        let callers_alone = task.addressee.audience() == Audience::Caller;
        if waits != callers_alone {
            task.rare().callers = true;
            if callers_alone {
                let addressee = self.engage(audience);
                self.tasks.get_mut(slot).addressee = addressee;
                self.reclass(slot);
            }
        }
    }

    /// Lets a caller wait for the ending of a task that was handed in before, if it has not
    /// settled.
    pub fn attach(&mut self, now: Timestamp, task: TaskId) -> Attached {
        self.observe(now);
        if self.tasks.find(task).is_none() {
            return Attached::Over(self.outbox.find(task).cloned());
        }
        self.join(task, Audience::Caller);
        Attached::Waits
    }

    /// Returns an audience as a task keeps it, which it is to tell of its ending from now on.
    fn engage(&mut self, audience: Audience) -> Addressee {
        let addressee = Addressee::of(audience);
        // The client's number may not fit, and then another is told.
        if let Audience::Client(client) = addressee.audience() {
            self.outbox.engage(client);
        }
        addressee
    }

    /// Tells the submission's audience of its refusal, by a status with an id of its own; beyond a
    /// bound it is only counted. For submissions that nobody waits to have answered.
    pub fn tell_refusal(&mut self, now: Timestamp, refused: Refused) {
        self.observe(now);
        // Nor is a number told that another start may give out.
        if !self.outbox.admits_refusal() || self.task_ids.is_spent() {
            self.outbox.refusals_not_told += 1;
            return;
        }
        let submission = *refused.submission;
        let id = self.take_id();
        let ending = Ending {
            scheduler: self.name.clone(),
            id,
            key: submission.options.as_ref().and_then(|it| it.key.clone()),
            options: submission.options,
            kind: submission.kind,
            args: submission.args,
            outcome: Outcome::Refused(refused.refusal),
            node: None,
            attempts: 0,
            reroutes: 0,
            accepted_at: self.wall_time(now),
            started_at: None,
            settled_at: self.wall_time(now),
        };
        let status = TaskStatus::new(ending);
        match submission.audience {
            Audience::Current | Audience::Caller => self.outbox.push_current(status),
            Audience::Client(client) => {
                self.outbox.name(client);
                self.outbox.push_client(client, status);
            }
        }
    }

    fn take_id(&mut self) -> TaskId {
        TaskId::new(self.task_ids.take())
    }

    /// Finds the earlier task to join, if there is one, or why the submission is refused.
    fn admit(&self, submission: &Submission) -> Result<Option<TaskId>, Refusal> {
        if self.intake != Intake::Open {
            return Err(Refusal::Draining);
        }
        if !submission.kind.is_usable() {
            return Err(Refusal::InvalidKind {
                kind: submission.kind.clone(),
            });
        }
        if self.config.refuse_unknown_kinds && !self.catalogue.offers(&submission.kind) {
            return Err(Refusal::UnknownKind {
                kind: submission.kind.clone(),
            });
        }
        if submission.args.len() > self.config.max_task_args {
            return Err(Refusal::ArgsTooLarge {
                bytes: submission.args.len(),
                limit: self.config.max_task_args,
            });
        }
        // Before all that asks for room: what joins an earlier task takes none, and is answered
        // while intake is closed, too.
        if let Some(options) = &submission.options {
            check_options(options)?;
            if let Some(key) = &options.key
                && let Some(joined) = self.find_key(key, submission)?
            {
                return Ok(Some(joined));
            }
        }
        if let Some(refusal) = self.intake_refuses(&submission.kind) {
            return Err(refusal);
        }
        if let Some(refusal) = self.store_refuses(submission.args.len()) {
            return Err(refusal);
        }
        if self.tasks.len() >= self.config.max_tasks {
            return Err(Refusal::QueueFull {
                limit: self.config.max_tasks,
            });
        }
        if self
            .tasks
            .args_bytes()
            .saturating_add(submission.args.len() as u64)
            > self.config.max_args_bytes
        {
            return Err(Refusal::BytesFull {
                limit: self.config.max_args_bytes,
            });
        }
        match self.outbox.fullness() {
            // The status of what a caller waits for is never held.
            Some(refusal) if submission.audience != Audience::Caller => Err(refusal),
            _ => Ok(None),
        }
    }

    fn find_key(&self, key: &TaskKey, submission: &Submission) -> Result<Option<TaskId>, Refusal> {
        let Some((id, settled)) = self.keys.find(key) else {
            return Ok(None);
        };
        let key = key.clone();
        match self.tasks.find(id) {
            Some(slot) if !settled => {
                let task = self.tasks.get(slot);
                let kind = self.catalogue.kind(task.class);
                if *kind == submission.kind && task.args == submission.args {
                    Ok(Some(id))
                } else {
                    Err(Refusal::KeyConflict { key, id })
                }
            }
            _ => Err(Refusal::KeyBusy { key, id }),
        }
    }

    fn accept(&mut self, now: Timestamp, submission: Submission) -> TaskId {
        let id = self.take_id();
        let options = submission.options.as_ref();
        let priority = options.map_or(0, |options| options.priority.0);
        let due = options.map_or(Due::Now, |options| options.due);
        let rare = self.rare_of(now, submission.options.as_deref(), submission.watcher);
        let mut task = Task {
            id,
            args: submission.args,
            rare,
            accepted_at: now,
            stage: Stage::New,
            rank: 0,
            prev: NO_SLOT,
            next: NO_SLOT,
            class: 0,
            addressee: self.engage(submission.audience),
            failed_attempts: 0,
            priority,
            past: Past::Fresh,
            prefetch: Prefetch::Allowed,
            era: Era::Present,
        };
        let options = submission.options.as_ref();
        let labels = options.map_or(&NO_LABELS, |options| &options.labels);
        let (rule, hearer) = (Self::rule_of(&task), Self::hearer_of(&task));
        task.class = self.catalogue.join(&submission.kind, labels, rule, hearer);
        self.catalogue.join_group(&mut task);
        if let Some(key) = task.key() {
            self.keys.claim(key.clone(), id);
        }
        let bytes = task.args.len();
        let slot = self.tasks.insert(task);
        self.totals.executed += 1;
        let due = match due {
            Due::Now => FirstDue::Now,
            Due::After(delay) if delay.is_zero() => FirstDue::Now,
            Due::After(delay) => FirstDue::Later(now + delay),
            Due::At(time) => FirstDue::Planned(Timestamp::of_system_time(time)),
        };
        match &mut self.journal {
            None => self.begin(now, slot, due),
            // No turn before it is stored: by then it may have to be refused after all.
            Some(journal) => {
                journal.accepted(now, id, bytes);
                self.enter(slot, Stage::Unstored { due });
            }
        }
        id
    }

    /// Begins a task that is accepted for good: it waits until it is due.
    #[inline(always)]
    pub(super) fn begin(&mut self, now: Timestamp, slot: Slot, due: FirstDue) {
        let task = self.tasks.get(slot);
        self.catalogue.accepted(task.class);
        if let Some(deadline) = task.deadline() {
            self.timers.start(deadline, Timer::Deadline(task.id, slot));
        }
        match due {
            FirstDue::Now => self.became_due(now, slot),
            FirstDue::Later(due) if due <= now => self.became_due(due, slot),
            FirstDue::Later(due) => self.wait_until(slot, due, Stage::Later { due }),
            FirstDue::Planned(at) => self.plan(now, slot, at),
        }
    }

    /// Returns what few tasks need, of one that was accepted at this moment.
    #[inline]
    pub(super) fn rare_of(
        &mut self,
        accepted_at: Timestamp,
        options: Option<&Options>,
        watcher: Option<ClientId>,
    ) -> Option<Box<Rare>> {
        if options.is_none() && watcher.is_none() {
            return None;
        }
        if let Some(watcher) = watcher {
            self.watchers.engage(watcher);
        }
        let mut rare = Rare {
            watcher,
            ..Rare::default()
        };
        if let Some(options) = options {
            rare.timeout = options.timeout;
            rare.deadline = options.deadline.map(|deadline| accepted_at + deadline);
            rare.retry = options.retry;
            rare.max_reroutes = options.max_reroutes;
            rare.key = options.key.clone();
            rare.group = options.group.clone().map(InGroup::new);
            rare.again_of = options.again_of;
            rare.trace = options.trace.clone();
            rare.trace_mode = options.trace_mode;
            rare.exclusive = options.exclusive;
        }
        Some(Box::new(rare))
    }

    /// Lets a task wait for a time, in this stage.
    pub(super) fn wait_until(&mut self, slot: Slot, due: Timestamp, stage: Stage) {
        self.enter(slot, stage);
        let id = self.tasks.get(slot).id;
        self.timers.start(due, Timer::Due(id, slot));
    }

    /// Lets a task wait for a time of the wall clock, unless that has passed.
    pub(super) fn plan(&mut self, now: Timestamp, slot: Slot, at: Timestamp) {
        if at <= self.timers.wall().at(now) {
            self.became_due(now, slot);
            return;
        }
        self.enter(slot, Stage::Planned { at });
        let id = self.tasks.get(slot).id;
        self.timers.start(at, Timer::DueAt(id, slot));
    }

    /// Queues a task that is due for the first time, or after a wait: its turn counts from then.
    #[inline(always)]
    pub(super) fn became_due(&mut self, due: Timestamp, slot: Slot) {
        self.tasks.get_mut(slot).rank = self.ranks.take(due);
        self.enqueue(slot, None);
    }
}

fn check_options(options: &Options) -> Result<(), Refusal> {
    let check = |holds: bool, option: &'static str, reason: fmt::Arguments<'_>| {
        if holds {
            return Ok(());
        }
        Err(Refusal::InvalidOption {
            option: option.into(),
            reason: reason.to_string(),
        })
    };
    for (time, option) in [(options.timeout, "timeout"), (options.deadline, "deadline")] {
        let reason = format_args!("it must be longer than zero");
        check(time != Some(Duration::ZERO), option, reason)?;
    }
    let few = options.labels.len() <= MAX_LABELS;
    let reason = format_args!("there may be at most {MAX_LABELS} labels");
    check(few, "labels", reason)?;
    let named = options.labels.iter().all(|label| is_name(label));
    check(named, "labels", format_args!("each must have {NAME_RULE}"))?;
    let key = options.key.as_ref().map(|key| key.as_str().len());
    let fits = key.is_none_or(|bytes| (1..=TaskKey::MAX_BYTES).contains(&bytes));
    let reason = format_args!("it must have 1 to {} bytes", TaskKey::MAX_BYTES);
    check(fits, "key", reason)?;
    let group = options.group.as_ref().map(|group| group.as_str().len());
    let fits = group.is_none_or(|bytes| (1..=TaskGroup::MAX_BYTES).contains(&bytes));
    let reason = format_args!("it must have 1 to {} bytes", TaskGroup::MAX_BYTES);
    check(fits, "group", reason)
}
