//! Searches among the unfinished tasks, and what is known of one task, as requests ask for them.
//!
//! Owns: who may look into args, and that few search at once. Does not know: what passes.

use super::Access;
use super::asked::{Asked, id};
use super::wrong::Wrong;
use crate::error::StoreError;
use crate::payload::Payload;
use crate::search::{FoundPage, FoundTask, TaskFilter};
use crate::stats::Explanation;
use crate::status::TaskStatus;
use crate::task::TaskId;

/// What is known of one task.
pub enum Known {
    /// It has not settled.
    Unfinished {
        task: Box<FoundTask>,
        args: Payload,
        explanation: Explanation,
    },
    /// The store keeps how it ended.
    Settled(TaskStatus),
}

/// Reads a search line. Nobody finds out by it what stands in args who may not see them.
///
/// # Errors
///
/// It cannot be understood, or it looks into args, which the asker may not see.
pub fn filter(asked: &Asked<'_>, line: &str) -> Result<TaskFilter, Wrong> {
    let filter: TaskFilter = line.parse().map_err(Wrong::request)?;
    if filter.looks_into_args() && asked.access < Access::Full {
        return Err(Wrong::forbidden(
            "a search that looks into args needs the access to see them",
        ));
    }
    Ok(filter)
}

/// Reads a search line that may not mean every task.
///
/// # Errors
///
/// As for [`filter`], or it does.
pub fn narrow(asked: &Asked<'_>, line: &str) -> Result<TaskFilter, Wrong> {
    let filter = filter(asked, line)?;
    if filter.means_all() {
        return Err(Wrong::request(
            "the search means every task: name a kind, a key, a group, a node, a state or an age",
        ));
    }
    Ok(filter)
}

/// Finds a page of tasks, as the query of a request says.
///
/// # Errors
///
/// The request cannot be understood, or the scheduler has stopped.
pub async fn find(asked: &Asked<'_>, limit: usize) -> Result<FoundPage, Wrong> {
    let filter = filter(asked, asked.query.text("q").unwrap_or_default())?;
    page(asked, &filter, limit).await
}

/// Finds a page of tasks that a filter lets through.
///
/// # Errors
///
/// The request cannot be understood, or the scheduler has stopped.
pub async fn page(
    asked: &Asked<'_>,
    filter: &TaskFilter,
    limit: usize,
) -> Result<FoundPage, Wrong> {
    let after = asked.query.text("after").map(id).transpose()?;
    let _turn = asked.watch.turn().await;
    let scheduler = asked.watch.scheduler();
    Ok(scheduler.find_tasks(filter, after, limit).await?)
}

/// Returns what is known of a task.
///
/// # Errors
///
/// Nothing is, or the scheduler has stopped.
pub async fn known(asked: &Asked<'_>, id: TaskId) -> Result<Known, Wrong> {
    let scheduler = asked.watch.scheduler();
    if let Some((task, args)) = scheduler.find_one(id).await?
        && let Some(explanation) = scheduler.explain(id).await?
    {
        return Ok(Known::Unfinished {
            task: Box::new(task),
            args,
            explanation,
        });
    }
    let none = || Wrong::not_found(format_args!("nothing is known of the task {id}"));
    let _turn = asked.watch.turn().await;
    let status = match scheduler.settled(id).await {
        Err(StoreError::NoStore) => None,
        status => status?,
    };
    status.map(Known::Settled).ok_or_else(none)
}
