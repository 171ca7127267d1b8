//! What asks the dashboard of an application that runs.
//!
//! Owns: what each command asks for, and how the answer is told. Does not know: HTTP.

use std::io::Write;
use std::time::Duration;

use callboard::TaskId;
use callboard::stats::NodeStats;
use clap::ArgMatches;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{Kinds, Moment, kinds_table, nodes_table, problems};
use super::asking::BOUNDS;
use super::client::Client;
use super::ending::{Ending, Failed};
use super::place::place;
use super::run::Run;
use super::table::{self, facts};
use super::top;

/// How many tasks are handed in again by one request.
const AGAIN: usize = 200;

/// Does what the command line says.
///
/// # Errors
///
/// It could not be done.
pub fn run(name: &str, args: &ArgMatches, out: &mut dyn Write) -> Result<Ending, Failed> {
    let mut client = Client::new(place(args)?)?;
    let board = client.meet(args.get_one::<String>("scheduler").map(String::as_str))?;
    let mut run = Run {
        args,
        client,
        board,
        out,
        name,
    };
    match name {
        "stats" => run.stats()?,
        "kinds" => run.kinds()?,
        "tasks" => run.tasks()?,
        "explain" => run.explain()?,
        "nodes" => run.nodes()?,
        "failures" => run.failures()?,
        "cancel" => run.cancel()?,
        "execute-again" if run.ids().is_empty() => run.again_all()?,
        "execute-again" => run.again()?,
        "drain" => run.drain()?,
        "pause" | "resume" => run.hold()?,
        "limit" => run.limit()?,
        "mark" => {
            let text = run.text("text").to_owned();
            run.act("mark", &json!({ "text": text }))?;
        }
        "top" => top::run(&mut run)?,
        _ => {}
    }
    Ok(Ending::Done)
}

impl Run<'_> {
    fn stats(&mut self) -> Result<(), Failed> {
        let answer = self.client.get("api/stats", &[])?;
        if self.is_json() {
            return Ok(table::json(self.out, &answer)?);
        }
        let moment: Moment = self.client.read(answer)?;
        let stats = &moment.stats;
        let totals = &stats.totals;
        let failed: u64 = totals.failed.values().sum();
        let workers: u32 = stats.nodes.iter().map(|node| node.workers).sum();
        let mut all = vec![
            ("scheduler", stats.scheduler.to_string()),
            ("callboard", self.board.callboard.clone()),
            ("your access", self.board.access.clone()),
            (
                "title",
                self.board.title.clone().unwrap_or_else(|| "-".to_owned()),
            ),
            ("due", stats.pending.to_string()),
            ("due later", stats.due_later.to_string()),
            ("between attempts", stats.waiting_retries.to_string()),
            ("held", stats.held.to_string()),
            ("paused", stats.paused.to_string()),
            ("running", stats.running.to_string()),
            ("workers", workers.to_string()),
            ("nodes", stats.nodes.len().to_string()),
            ("accepted", totals.executed.to_string()),
            ("refused", totals.refusals().to_string()),
            ("completed", totals.completed.to_string()),
            ("failed", failed.to_string()),
            ("cancelled", totals.cancelled.to_string()),
            ("retried", totals.retried.to_string()),
            ("rerouted", totals.rerouted.to_string()),
        ];
        if let Some(store) = &stats.store {
            all.push(("store", format!("{:?}", store.state)));
        }
        facts(self.out, &all)?;
        for line in problems(&moment.problems) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn kinds(&mut self) -> Result<(), Failed> {
        let answer = self.client.get("api/kinds", &[])?;
        if self.is_json() {
            return Ok(table::json(self.out, &answer)?);
        }
        let Kinds { kinds } = self.client.read(answer)?;
        Ok(kinds_table(&kinds).print(self.out)?)
    }

    fn nodes(&mut self) -> Result<(), Failed> {
        let answer = self.client.get("api/nodes", &[])?;
        if self.is_json() {
            return Ok(table::json(self.out, &answer)?);
        }
        Ok(nodes_table(&self.nodes_of(answer)?).print(self.out)?)
    }

    fn nodes_of(&self, answer: Value) -> Result<Vec<NodeStats>, Failed> {
        #[derive(Deserialize)]
        struct Nodes {
            nodes: Vec<NodeStats>,
        }
        let Nodes { nodes } = self.client.read(answer)?;
        Ok(nodes)
    }

    /// Cancels each task; goes on after one that could not be, and then ends as that one did.
    fn cancel(&mut self) -> Result<(), Failed> {
        if let Some(search) = self.args.get_one::<String>("matching") {
            return self.cancel_all(&search.clone());
        }
        let ids = self.ids();
        self.harms(&format!("cancel {}", list(&ids)))?;
        let mut failed = None;
        for id in ids {
            match self.act("cancel", &json!({ "id": id.get() })) {
                Ok(()) => {}
                Err(Failed::Said {
                    ending: ending @ (Ending::Failed | Ending::NotFound),
                    words,
                }) => {
                    let all = failed.map_or(words.clone(), |(_, all)| format!("{all} {words}"));
                    failed = Some((ending, all));
                }
                other => return other,
            }
        }
        failed.map_or(Ok(()), |(ending, words)| Err(Failed::said(ending, words)))
    }

    fn again(&mut self) -> Result<(), Failed> {
        let ids = self.ids();
        self.harms(&format!("run {} again", list(&ids)))?;
        for some in ids.chunks(AGAIN) {
            let some: Vec<_> = some.iter().map(|id| id.get().to_string()).collect();
            self.act("execute_again", &json!({ "id": some.join(",") }))?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Failed> {
        let node = self.text("node").to_owned();
        self.harms(&format!("drain the node {node}"))?;
        self.act("drain", &json!({ "node": node }))?;
        if !self.args.get_flag("wait") {
            return Ok(());
        }
        self.out.flush()?;
        loop {
            let nodes = self.nodes_of(self.client.get("api/nodes", &[])?)?;
            let it = nodes.iter().find(|it| *it.name == *node);
            if it.is_none_or(|it| it.running + it.prefetched + it.taken == 0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn hold(&mut self) -> Result<(), Failed> {
        let kind = self.args.get_one::<String>("kind").cloned();
        let what = kind
            .as_ref()
            .map_or("all kinds".to_owned(), |kind| format!("the kind {kind}"));
        let pauses = self.name == "pause";
        if pauses {
            self.harms(&format!("pause {what}"))?;
        }
        match (kind, pauses) {
            (Some(kind), _) => self.act(self.name, &json!({ "kind": kind })),
            (None, true) => self.act("pause_all", &json!({})),
            (None, false) => self.act("resume_all", &json!({})),
        }
    }

    fn limit(&mut self) -> Result<(), Failed> {
        let kind = self.text("kind").to_owned();
        let mut fields = json!({ "kind": kind });
        let mut said = Vec::new();
        for (name, field, _) in BOUNDS {
            if let Some(number) = self.args.get_one::<u32>(name) {
                fields[field] = json!(number);
                said.push(format!("{name} {number}"));
            }
        }
        let what = if said.is_empty() {
            "nothing".to_owned()
        } else {
            said.join(", ")
        };
        self.harms(&format!("limit the kind {kind} to {what}"))?;
        self.act("limit", &fields)
    }
}

fn list(ids: &[TaskId]) -> String {
    match ids {
        [id] => format!("the task {id}"),
        ids => format!("{} tasks", ids.len()),
    }
}
