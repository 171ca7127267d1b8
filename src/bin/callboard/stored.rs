//! `callboard store`, which looks into the file of a store.
//!
//! Owns: its command line, and what is printed. Does not know: stores.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use callboard::__internals::engine::{SchedulerId, Timestamp};
use callboard::__internals::store::export::State;
use callboard::__internals::store::tool::{Listed, Tool, ToolError};
use callboard::TaskId;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::ending::{Ending, Failed};
use super::task_id;

const AFTER: &str = "\
No scheduler may have the file open meanwhile; of one that runs, look at a backup.

Exit status: 0 if it was done, 1 if it could not be or the store is damaged, 2 if the command line is wrong.";

const COLUMNS: &str = "\
A line a task, with tabs between: id, kind, priority, state, due time, attempts, key; `-` where there is none.
A kind or a key that is not one word stands in quotes, as in JSON. Tasks that are unfinished or whose
status was not handled so far come first, by id, then those that are kept, by outcome, newest first.";

/// Returns the command line.
pub fn command() -> Command {
    let file = Arg::new("file")
        .required(true)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The file of the store");
    let id = Arg::new("id")
        .required(true)
        .value_name("ID")
        .value_parser(task_id)
        .help("The task, as `t42` or `42`");
    let to = Arg::new("to")
        .required(true)
        .value_name("TO")
        .value_parser(value_parser!(PathBuf))
        .help("A file that is not there yet");
    let states = State::ALL.map(State::word);
    let kind = Arg::new("kind")
        .long("kind")
        .value_name("KIND")
        .value_parser(NonEmptyStringValueParser::new())
        .help("Only tasks of this kind");
    let state = Arg::new("state")
        .long("state")
        .value_name("STATE")
        .action(ArgAction::Append)
        .value_delimiter(',')
        .value_parser(PossibleValuesParser::new(states))
        .help("Only tasks in this state; may be given more than once");
    let sub =
        |name: &'static str, about: &'static str| Command::new(name).about(about).arg(file.clone());
    Command::new("store")
        .about("Looks into a store, saves it, or mends it")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            sub("list", "Lists the tasks")
                .after_help(COLUMNS)
                .args([kind, state]),
        )
        .subcommand(sub("show", "Shows all that is known of a task").arg(id.clone()))
        .subcommand(sub("export", "Prints every task as a line of JSON"))
        .subcommand(sub("check", "Reads all there is and lists what is wrong with it"))
        .subcommand(sub("backup", "Copies the store to a new file").arg(to.clone()))
        .subcommand(
            sub("salvage", "Copies what is whole of a damaged store to a new file").arg(to),
        )
        .subcommand(sub(
            "relive",
            "Gives a store that was put back to an earlier state a new scheduler id, so that nodes follow it",
        ))
        .subcommand(
            sub("execute-again", "Hands a task that has settled in again, as a new one").arg(id),
        )
}

impl From<ToolError> for Failed {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Print(error) => Self::Print(error),
            error => Self::said(Ending::Failed, error),
        }
    }
}

/// Does what the command line says.
///
/// # Errors
///
/// It could not be done.
pub fn run(matches: &ArgMatches, out: &mut dyn Write) -> Result<Ending, Failed> {
    let Some((name, args)) = matches.subcommand() else {
        return Ok(Ending::Done);
    };
    let path = |name: &str| {
        args.get_one::<PathBuf>(name)
            .map_or(Path::new(""), |path| path)
    };
    let id = || {
        args.get_one::<TaskId>("id")
            .copied()
            .unwrap_or(TaskId::new(0))
    };
    let mut tool = Tool::open(path("file"))?;
    match name {
        "list" => tool.list(&listed(args), out)?,
        "show" => tool.show(id(), out)?,
        "export" => tool.export(out)?,
        "check" => return Ok(check(&mut tool, out)?),
        "backup" => {
            tool.backup(path("to"))?;
            say(
                out,
                &format!("The store was copied to {}.", path("to").display()),
            )?;
        }
        "salvage" => salvage(&mut tool, path("to"), out)?,
        "relive" => {
            tool.relive()?;
            say(
                out,
                "The next start takes a new scheduler id: nodes discard what they have of the earlier one, and follow it.",
            )?;
        }
        "execute-again" => {
            let again = tool.execute_again(id(), now(), SchedulerId(random()))?;
            say(out, &again.to_string())?;
        }
        _ => {}
    }
    Ok(Ending::Done)
}

fn say(out: &mut dyn Write, line: &str) -> Result<(), ToolError> {
    writeln!(out, "{line}").map_err(ToolError::Print)
}

fn listed(args: &ArgMatches) -> Listed {
    let wanted: Vec<&String> = args.get_many("state").into_iter().flatten().collect();
    let is_wanted = |state: &State| wanted.iter().any(|word| *word == state.word());
    Listed {
        kind: args.get_one::<String>("kind").cloned(),
        states: State::ALL.into_iter().filter(is_wanted).collect(),
    }
}

fn check(tool: &mut Tool, out: &mut dyn Write) -> Result<Ending, ToolError> {
    let checked = tool.check()?;
    for damage in &checked.damage {
        say(out, damage)?;
    }
    let (batches, tasks, kept) = (checked.batches, checked.tasks, checked.kept);
    if checked.damage.is_empty() {
        say(
            out,
            &format!("All is whole: {batches} batches, {tasks} tasks, and {kept} that are kept."),
        )?;
        return Ok(Ending::Done);
    }
    say(
        out,
        &format!(
            "{batches} batches are whole. Start from a backup, or let `callboard store salvage` copy what is whole."
        ),
    )?;
    Ok(Ending::Failed)
}

fn salvage(tool: &mut Tool, to: &Path, out: &mut dyn Write) -> Result<(), ToolError> {
    let salvaged = tool.salvage(to)?;
    for missing in &salvaged.missing {
        say(out, missing)?;
    }
    if salvaged.dropped > 0 {
        say(
            out,
            &format!(
                "{} facts are of no use without what is missing.",
                salvaged.dropped
            ),
        )?;
    }
    let (batches, tasks, kept) = (salvaged.batches, salvaged.tasks, salvaged.kept);
    say(
        out,
        &format!(
            "{tasks} tasks of {batches} whole batches, and {kept} that are kept, were copied to {}.",
            to.display()
        ),
    )
}

/// Returns what the wall clock shows.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(0) + since.unwrap_or_default()
}

/// Returns a number that tells one store from another.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))
}
