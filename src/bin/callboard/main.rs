//! The command `callboard`.
//!
//! Owns: the command line as a whole, and where lines go. Does not know: what any command does.

use std::io::{BufWriter, Write, stderr, stdout};
use std::process::ExitCode;

use callboard::__internals::text::words;
use callboard::TaskId;
use clap::Command;

mod answers;
mod asking;
mod client;
mod ending;
mod lists;
mod matching;
mod place;
mod remote;
mod run;
mod stored;
mod table;
mod top;

use ending::{Ending, Failed};

/// How many letters of a sentence are printed at most.
const LETTERS: usize = 2000;

fn command() -> Command {
    Command::new("callboard")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Asks and steers the schedulers of an application that runs, and looks into their \
             stores when it does not",
        )
        .after_help(ending::HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(asking::commands())
        .subcommand(stored::command())
}

fn task_id(text: &str) -> Result<TaskId, String> {
    let digits = text.strip_prefix('t').unwrap_or(text);
    let number = digits
        .parse()
        .map_err(|_| "a task is `t` and a number".to_owned())?;
    Ok(TaskId::new(number))
}

fn main() -> ExitCode {
    let matches = match command().try_get_matches_from(std::env::args_os()) {
        Ok(matches) => matches,
        Err(error) => {
            let status = u8::try_from(error.exit_code()).unwrap_or(Ending::Failed.status());
            // Whoever was to read it may have gone.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let mut out = BufWriter::new(stdout().lock());
    let done = match matches.subcommand() {
        Some(("store", store)) => stored::run(store, &mut out),
        Some((name, args)) => remote::run(name, args, &mut out),
        None => Ok(Ending::Done),
    };
    // Of what was done in part, that part is told.
    let told = out.flush();
    let done = done.and_then(|ending| {
        told?;
        Ok(ending)
    });
    // What is left in it could not be written.
    let _ = out.into_parts();
    let ending = done.unwrap_or_else(|failed| match failed {
        Failed::Print(error) if ending::nobody_reads(&error) => Ending::Done,
        Failed::Print(error) => say(
            Ending::Failed,
            &format!("what was found cannot be printed: {error}"),
        ),
        Failed::Said { ending, words } => say(ending, &words),
    });
    ExitCode::from(ending.status())
}

/// Says why on stderr, so that nothing of it is taken for an order by a terminal.
fn say(ending: Ending, why: &str) -> Ending {
    let _ = writeln!(stderr(), "callboard: {}", words(why, LETTERS));
    ending
}
