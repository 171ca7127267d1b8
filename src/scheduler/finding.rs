//! How a handle looks for unfinished tasks.
//!
//! Owns: that a search goes on step by step, and that args are looked into on the asker's thread.
//! Does not know: how many tasks a step looks at.

use std::sync::Arc;

use super::Scheduler;
use crate::actors::finding::Find;
use crate::error::Stopped;
#[cfg(feature = "dashboard")]
use crate::payload::Payload;
#[cfg(feature = "dashboard")]
use crate::search::FoundTask;
use crate::search::{FoundPage, TaskFilter};
use crate::task::TaskId;

/// At how many tasks one call looks at most.
const MAX_LOOKS: u64 = 1 << 18;

impl Scheduler {
    /// Returns at most so many of the tasks that have not settled and that a filter lets through,
    /// in order of id: from the first one on, or after another.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// let filter: TaskFilter = "kind:mail.send age>10m".parse()?;
    /// let mut after = None;
    /// loop {
    ///     let page = scheduler.find_tasks(&filter, after, 100).await?;
    ///     for task in &page.tasks {
    ///         println!("{} is {}", task.id, task.state);
    ///     }
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The scheduler looks at 64 tasks at a time, and does in between what else is to be done. One
    /// call looks at no more than 262,144, so a page may have fewer tasks than asked for, or none,
    /// and still a `next`. A task that is unfinished from the first page to the last is on exactly
    /// one of them, if it passes all the while.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the search.
    ///
    /// # Errors
    ///
    /// The scheduler has stopped.
    pub async fn find_tasks(
        &self,
        filter: &TaskFilter,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<FoundPage, Stopped> {
        let filter = Arc::new(filter.clone());
        let mut page = FoundPage {
            next: after,
            ..FoundPage::default()
        };
        let limit = limit.max(1);
        loop {
            let find = Find {
                filter: Arc::clone(&filter),
                after: page.next,
                limit: limit - page.tasks.len(),
                with_args: filter.looks_into_args(),
            };
            let step = self.ask(find).await?;
            page.looked += step.looked;
            page.next = step.next;
            let passes = |args: &Option<_>| args.as_ref().is_none_or(|it| filter.lets_through(it));
            let passed = step.tasks.into_iter().filter(|(_, args)| passes(args));
            page.tasks.extend(passed.map(|(task, _)| task));
            if page.next.is_none() || page.tasks.len() >= limit || page.looked >= MAX_LOOKS {
                return Ok(page);
            }
        }
    }

    /// Returns one that has not settled, with its args.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn find_one(
        &self,
        id: TaskId,
    ) -> Result<Option<(FoundTask, Payload)>, Stopped> {
        let find = Find {
            filter: Arc::default(),
            after: id.get().checked_sub(1).map(TaskId::new),
            limit: 1,
            with_args: true,
        };
        let found = self.ask(find).await?.tasks.into_iter().next();
        let found = found.filter(|(task, _)| task.id == id);
        Ok(found.map(|(task, args)| (task, args.unwrap_or_default())))
    }
}
