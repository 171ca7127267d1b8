//! One command that is being done.
//!
//! Owns: what was said, whom it is said to, and that what does harm has to be meant. Does not know:
//! which commands there are.

use std::io::Write;

use callboard::TaskId;
use clap::ArgMatches;
use serde::Deserialize;
use serde_json::Value;

use super::answers::{Kind, Kinds};
use super::client::{Board, Client};
use super::ending::{Ending, Failed};
use super::table::{self, sentence};

/// A command that is being done.
pub struct Run<'a> {
    pub args: &'a ArgMatches,
    pub client: Client,
    pub board: Board,
    pub out: &'a mut dyn Write,
    pub name: &'a str,
}

impl Run<'_> {
    /// Returns what was said, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.args.get_one::<String>(name).map_or("", String::as_str)
    }

    /// Returns the tasks that were named.
    pub fn ids(&self) -> Vec<TaskId> {
        let ids = self.args.get_many::<TaskId>("id");
        ids.into_iter().flatten().copied().collect()
    }

    /// Returns whether the answer itself is to be printed.
    pub fn is_json(&self) -> bool {
        self.args.get_flag("json")
    }

    /// Returns the name of the scheduler.
    pub fn scheduler(&self) -> &str {
        let named = self.args.get_one::<String>("scheduler");
        let first = named.or_else(|| self.board.schedulers.first());
        first.map_or("", String::as_str)
    }

    /// Refuses what does harm, unless it is meant, where it would hurt.
    ///
    /// # Errors
    ///
    /// It was not meant.
    pub fn harms(&self, what: &str) -> Result<(), Failed> {
        if self.args.get_flag("yes") || !self.board.is_production() {
            return Ok(());
        }
        Err(Failed::said(
            Ending::NotMeant,
            format!(
                "this is {:?}: `callboard {}` would {what}, of the scheduler {}. Nothing was done; \
                 say --yes if you mean it.",
                self.board.title.as_deref().unwrap_or_default(),
                self.name,
                self.scheduler()
            ),
        ))
    }

    /// Has it done, and tells the answer.
    ///
    /// # Errors
    ///
    /// It was not done.
    pub fn act(&mut self, action: &str, fields: &Value) -> Result<(), Failed> {
        let answer = self.client.act(action, fields)?;
        if self.is_json() {
            return Ok(table::json(self.out, &answer)?);
        }
        #[derive(Deserialize)]
        struct Done {
            done: String,
        }
        let Done { done } = self.client.read(answer)?;
        Ok(sentence(self.out, &done)?)
    }

    /// Asks for the kinds, those with most to do first.
    ///
    /// # Errors
    ///
    /// They cannot be told.
    pub fn busiest_kinds(&self) -> Result<Vec<Kind>, Failed> {
        let answer = self.client.get("api/kinds", &[])?;
        let Kinds { mut kinds } = self.client.read(answer)?;
        let busy = |kind: &Kind| kind.due.unwrap_or(0) + kind.running.unwrap_or(0);
        kinds.sort_by_key(|kind| std::cmp::Reverse(busy(kind)));
        Ok(kinds)
    }
}
