//! Actions on all tasks that match a filter.
//!
//! Owns: that they are counted first, and that nothing is done before somebody has said that it is
//! meant. Does not know: what matches.

use callboard::__internals::text::counted;
use serde_json::{Map, Value, json};

use super::ending::{Ending, Failed};
use super::run::Run;

/// The options by which failures are chosen, as in `failures`.
pub const FAILURES: [&str; 3] = ["kind", "message", "hours"];

/// How many a page has, and how many pages are counted.
const PAGE: usize = 1000;
const PAGES: usize = 100;

impl Run<'_> {
    /// Asks for the failures that are chosen.
    ///
    /// # Errors
    ///
    /// They cannot be told.
    pub fn chosen_failures(&self) -> Result<Value, Failed> {
        let chosen = self.chosen();
        let query: Vec<_> = chosen
            .iter()
            .map(|(name, it)| (*name, it.as_str()))
            .collect();
        self.client.get("api/failures", &query)
    }

    /// Returns by what failures are chosen.
    fn chosen(&self) -> Vec<(&'static str, String)> {
        let text = |name| self.args.get_one::<String>(name).cloned();
        let hours = self.args.get_one::<u32>("hours").map(u32::to_string);
        let values = [text("kind"), text("message"), hours];
        let all = FAILURES.into_iter().zip(values);
        all.filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Hands all failed tasks that are chosen in again.
    ///
    /// # Errors
    ///
    /// It was not done: nobody has said that it is meant, or the application refuses.
    pub fn again_all(&mut self) -> Result<(), Failed> {
        let answer = self.chosen_failures()?;
        let count = answer["failures"].as_array().map_or(0, Vec::len);
        let words = if count == PAGE {
            format!("run at least {count} failed tasks again")
        } else {
            let failed = counted(count as u64, "failed task", "failed tasks");
            format!("run {failed} again")
        };
        self.meant(&words)?;
        let chosen = self.chosen().into_iter();
        let fields: Map<_, _> = chosen
            .map(|(name, value)| (name.to_owned(), Value::String(value)))
            .collect();
        self.act("execute_again_all", &Value::Object(fields))
    }

    /// Has all tasks cancelled that a search finds, in the background of the application.
    ///
    /// # Errors
    ///
    /// It was not done: nobody has said that it is meant, or the application refuses.
    pub fn cancel_all(&mut self, search: &str) -> Result<(), Failed> {
        let count = self.count(search)?;
        self.meant(&format!("cancel {count}"))?;
        self.act("cancel_all", &json!({ "q": search }))
    }

    /// Counts the tasks that a search finds.
    fn count(&self, search: &str) -> Result<String, Failed> {
        let limit = PAGE.to_string();
        let mut found = 0;
        let mut after: Option<String> = None;
        for _ in 0..PAGES {
            let mut asked = vec![("q", search), ("limit", limit.as_str())];
            asked.extend(after.as_deref().map(|after| ("after", after)));
            let page = self.client.get("api/tasks", &asked)?;
            found += page["tasks"].as_array().map_or(0, Vec::len) as u64;
            let next = &page["next"];
            if next.is_null() {
                return Ok(counted(found, "task", "tasks"));
            }
            after = Some(next.to_string());
        }
        Ok(format!("at least {}", counted(found, "task", "tasks")))
    }

    /// Requires `--yes` for an action on many tasks.
    fn meant(&self, what: &str) -> Result<(), Failed> {
        self.harms(what)?;
        if self.args.get_flag("yes") {
            return Ok(());
        }
        Err(Failed::said(
            Ending::NotMeant,
            format!(
                "`callboard {}` would {what}, of the scheduler {}. Nothing was done; say --yes if \
                 you mean it.",
                self.name,
                self.scheduler()
            ),
        ))
    }
}
