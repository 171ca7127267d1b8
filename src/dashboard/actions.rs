//! What a button presses.
//!
//! Owns: the actions, what each needs and may be done by whom, and that each is logged and
//! counted. Does not know: where a request came from, or how the answer is shown.

use std::time::Duration;

use tokio::time::timeout;

use super::asked::{Asked, Fields, id};
use super::text::counted;
use super::wrong::Wrong;
use super::{Access, failures, looking};
use crate::error::NodeError;
use crate::limit::Limit;
use crate::say::say;
use crate::scheduler::Scheduler;
use crate::status::CancelAnswer;
use crate::task::TaskId;

/// How long is waited for a drain to end. It goes on when nobody waits.
const DRAIN_WAIT: Duration = Duration::from_millis(500);

/// How many tasks are named by one action.
const MOST: usize = failures::IDS;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    PauseAll,
    ResumeAll,
    Pause,
    Resume,
    CloseIntake,
    OpenIntake,
    Limit,
    Cancel,
    CancelAll,
    StopSweep,
    ExecuteAgain,
    ExecuteAgainAll,
    Forget,
    ForgetAll,
    Mark,
    Workers,
    Drain,
    Remove,
    DeclareDead,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::PauseAll,
        Self::ResumeAll,
        Self::Pause,
        Self::Resume,
        Self::CloseIntake,
        Self::OpenIntake,
        Self::Limit,
        Self::Cancel,
        Self::CancelAll,
        Self::StopSweep,
        Self::ExecuteAgain,
        Self::ExecuteAgainAll,
        Self::Forget,
        Self::ForgetAll,
        Self::Mark,
        Self::Workers,
        Self::Drain,
        Self::Remove,
        Self::DeclareDead,
    ];

    /// Returns its name in an address and in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PauseAll => "pause_all",
            Self::ResumeAll => "resume_all",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::CloseIntake => "close_intake",
            Self::OpenIntake => "open_intake",
            Self::Limit => "limit",
            Self::Cancel => "cancel",
            Self::CancelAll => "cancel_all",
            Self::StopSweep => "stop_sweep",
            Self::ExecuteAgain => "execute_again",
            Self::ExecuteAgainAll => "execute_again_all",
            Self::Forget => "forget",
            Self::ForgetAll => "forget_all",
            Self::Mark => "mark",
            Self::Workers => "workers",
            Self::Drain => "drain",
            Self::Remove => "remove",
            Self::DeclareDead => "declare_dead",
        }
    }

    /// Returns the action of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// Returns who may do it at least. What takes a node out, or takes a person's word for its
    /// death, can cost more than work that waits.
    pub const fn least(self) -> Access {
        match self {
            Self::Remove | Self::DeclareDead => Access::Full,
            _ => Access::Operate,
        }
    }

    /// Returns the fields that say to what it is done.
    const fn subject(self) -> &'static [&'static str] {
        match self {
            Self::PauseAll | Self::ResumeAll => &[],
            Self::Pause | Self::Resume | Self::CloseIntake | Self::OpenIntake | Self::Limit => {
                &["kind"]
            }
            Self::Cancel | Self::ExecuteAgain | Self::Forget => &["id"],
            Self::CancelAll => &["q"],
            Self::ExecuteAgainAll | Self::ForgetAll => &failures::FIELDS,
            Self::StopSweep => &["sweep"],
            Self::Mark => &["text"],
            Self::Workers | Self::Drain | Self::Remove | Self::DeclareDead => &["node"],
        }
    }
}

/// Does it, logs who did, and counts it. Returns what was done, in a sentence.
///
/// # Errors
///
/// It could not be done; nothing changed unless the words say so.
pub async fn perform(asked: &Asked<'_>, action: Action, fields: &Fields) -> Result<String, Wrong> {
    let done = act(asked, action, fields).await;
    let (result, words) = match &done {
        Ok(words) => ("done", words.as_str()),
        Err(wrong) => ("refused", wrong.words.as_str()),
    };
    asked.watch.count(action.name(), result);
    asked.watch.forget().await;
    let subject = match action.subject() {
        [one] => fields.text(one).unwrap_or_default().to_owned(),
        several => {
            let named = several
                .iter()
                .filter_map(|name| Some((name, fields.text(name)?)));
            let named = named.map(|(name, text)| format!("{name}: {text}"));
            named.collect::<Vec<_>>().join(", ")
        }
    };
    say!(
        info: target: "callboard::audit",
        user = ?asked.user(),
        action = action.name(),
        scheduler = asked.watch.name(),
        subject = ?subject,
        result,
        answer = ?words,
        "an operator has acted"
    );
    done
}

async fn act(asked: &Asked<'_>, action: Action, fields: &Fields) -> Result<String, Wrong> {
    let scheduler = &asked.watch.scheduler();
    let kind = || fields.required("kind");
    let node = || fields.required("node");
    Ok(match action {
        Action::PauseAll => {
            scheduler.pause_all().await?;
            "All kinds are paused; what runs goes on.".to_owned()
        }
        Action::ResumeAll => {
            scheduler.resume_all().await?;
            "All kinds go on, but those that are paused by name.".to_owned()
        }
        Action::Pause => {
            scheduler.pause(kind()?).await?;
            format!("The kind {} is paused; what runs goes on.", kind()?)
        }
        Action::Resume => {
            scheduler.resume(kind()?).await?;
            format!("The kind {} goes on.", kind()?)
        }
        Action::CloseIntake => {
            scheduler.close_intake(kind()?).await?;
            format!("No task of the kind {} is taken in any more.", kind()?)
        }
        Action::OpenIntake => {
            scheduler.open_intake(kind()?).await?;
            format!("Tasks of the kind {} are taken in again.", kind()?)
        }
        Action::Limit => {
            let limit = limit(fields)?;
            scheduler.set_limit(kind()?, limit).await?;
            let is = if limit.is_none() { "no more" } else { "now" };
            format!("The kind {} is {is} limited.", kind()?)
        }
        Action::Cancel => {
            let id = fields.id("id")?;
            match scheduler.cancel(id).await? {
                CancelAnswer::NeverStarted => {
                    format!("The task {id} is cancelled; it had never begun.")
                }
                CancelAnswer::Stopped => format!("The task {id} is cancelled and was stopped."),
                CancelAnswer::StillRunning => format!(
                    "The task {id} is to be cancelled, but a run of it still goes on and keeps its \
                     worker."
                ),
                CancelAnswer::TooLate => {
                    return Err(Wrong::conflict(format_args!(
                        "The task {id} had ended before it could be cancelled."
                    )));
                }
                CancelAnswer::NotFound => {
                    return Err(Wrong::not_found(format_args!(
                        "No task with the id {id} is unfinished."
                    )));
                }
            }
        }
        Action::CancelAll => {
            let search = fields.required("q")?;
            let filter = looking::narrow(asked, search)?;
            let sweeps = &asked.watch.sweeps;
            let sweep = sweeps.begin(scheduler, search, filter, asked.user())?;
            format!("All that match {search:?} are being cancelled, by the sweep {sweep}.")
        }
        Action::StopSweep => {
            let sweep = fields.number("sweep")?;
            let sweep = sweep.ok_or_else(|| Wrong::request("the field `sweep` is missing"))?;
            asked.watch.sweeps.stop(sweep)?;
            format!("The sweep {sweep} cancels no further task.")
        }
        Action::ExecuteAgain => again(scheduler, fields).await?,
        Action::ExecuteAgainAll => {
            let all = scheduler
                .execute_again_all(failures::narrow(fields)?)
                .await?;
            let refused = all.iter().filter_map(|again| again.answer.as_ref().err());
            let (refusals, why) = (refused.clone().count(), refused.clone().next_back());
            let done = all.len() - refusals;
            match why {
                None => format!("{} handed in again.", were(done)),
                Some(why) => format!("{done} of {} tasks were handed in again: {why}.", all.len()),
            }
        }
        Action::Forget => forget(scheduler, fields).await?,
        Action::ForgetAll => {
            let forgotten = scheduler.forget_all(failures::narrow(fields)?).await?;
            let forgotten = counted(forgotten as u64, "failed task is", "failed tasks are");
            format!("{forgotten} forgotten.")
        }
        Action::Mark => {
            scheduler.mark(fields.required("text")?);
            "The mark is in the plots.".to_owned()
        }
        Action::Workers => {
            let workers = fields.number("workers")?;
            let workers =
                workers.ok_or_else(|| Wrong::request("the field `workers` is missing"))?;
            scheduler.set_workers(node()?, workers).await?;
            format!("The node {} may use {workers} workers.", node()?)
        }
        Action::Drain => match timeout(DRAIN_WAIT, scheduler.drain_node(node()?)).await {
            Ok(drained) => {
                drained?;
                format!("Nothing runs on the node {} any more.", node()?)
            }
            Err(_) => format!("The node {} drains: it finishes what runs.", node()?),
        },
        Action::Remove => {
            scheduler.remove_node(node()?).await?;
            format!("The node {} is removed; its tasks go elsewhere.", node()?)
        }
        Action::DeclareDead => match scheduler.declare_dead(node()?).await {
            Ok(()) => format!("The node {} counts as dead.", node()?),
            Err(NodeError::Alive(name)) => {
                return Err(Wrong::conflict(format_args!(
                    "The node {name} was heard just now, so that it cannot be declared dead."
                )));
            }
            Err(error) => return Err(error.into()),
        },
    })
}

/// Reads the ids of some tasks, with commas between.
pub fn ids(fields: &Fields) -> Result<Vec<TaskId>, Wrong> {
    let ids: Vec<_> = fields.required("id")?.split(',').map(id).collect();
    if ids.len() > MOST {
        return Err(Wrong::request(format_args!(
            "at most {MOST} tasks are named at once"
        )));
    }
    ids.into_iter().collect()
}

fn were(tasks: usize) -> String {
    counted(tasks as u64, "task was", "tasks were")
}

/// Forgets failed tasks whose ids are given.
async fn forget(scheduler: &Scheduler, fields: &Fields) -> Result<String, Wrong> {
    let ids = ids(fields)?;
    if let [id] = ids[..] {
        scheduler.forget(id).await?;
        return Ok(format!("The task {id} is forgotten."));
    }
    let all = ids.len();
    let forgotten = scheduler.forget_these(ids).await?;
    Ok(format!("{forgotten} of {all} tasks are forgotten."))
}

/// Hands tasks in again whose ids are given.
async fn again(scheduler: &Scheduler, fields: &Fields) -> Result<String, Wrong> {
    let ids = ids(fields)?;
    if let [id] = ids[..] {
        let again = scheduler.execute_again(id).await?;
        return Ok(format!("The task {again} repeats the task {id}."));
    }
    let mut done = 0;
    let mut refused = None;
    for id in &ids {
        match scheduler.execute_again(*id).await {
            Ok(_) => done += 1,
            Err(error) => refused = Some(error),
        }
    }
    let all = ids.len();
    match refused {
        Some(error) if done == 0 => Err(error.into()),
        Some(error) => Ok(format!(
            "{done} of {all} tasks were handed in again: {error}."
        )),
        None => Ok(format!("{} handed in again.", were(done))),
    }
}

/// Reads a limit; no field is no limit.
fn limit(fields: &Fields) -> Result<Limit, Wrong> {
    let bounds = |prefix: &str| {
        let number = |name: &str| fields.number(&format!("{prefix}{name}"));
        let mut limit = number("concurrency")?.map_or_else(Limit::new, Limit::concurrency);
        if let Some(rate) = number("rate")? {
            let seconds = number("period_seconds")?.unwrap_or(1);
            limit = limit.rate(rate, Duration::from_secs(u64::from(seconds)));
        }
        if let Some(burst) = number("burst")? {
            limit = limit.burst(burst);
        }
        Ok::<_, Wrong>(limit)
    };
    let each_group = bounds("group_")?;
    Ok(bounds("")?.each_group(each_group))
}
