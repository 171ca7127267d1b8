//! The command line of what asks a dashboard.
//!
//! Owns: the commands, and what each may be given. Does not know: how any of it is done.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};

use super::matching::FAILURES;
use super::task_id;

const WHERE: &str = "\
The address is that of the dashboard in an application that runs, by --at or CALLBOARD_URL, such as
http://127.0.0.1:8080/tasks. A token, if it needs one, is read from CALLBOARD_TOKEN, or a file by --token-file.";

const QUERY: &str = "\
The search is as on the page of the tasks: kind:mail.send key:a group:customer-7 node:node-1 state:due
'age>10m' 'attempts>1' args.customer:42. All that is said must be true; nothing said means all tasks.";

/// What limits a kind, by the option and by the field of the action.
pub const BOUNDS: [(&str, &str, &str); 8] = [
    ("concurrency", "concurrency", "How many may go on at once"),
    ("rate", "rate", "How many may start in each period"),
    (
        "period",
        "period_seconds",
        "How many seconds a period has; 1 if this is not said",
    ),
    ("burst", "burst", "How many may start at once after a pause"),
    (
        "group-concurrency",
        "group_concurrency",
        "The same for each group of the kind's tasks",
    ),
    ("group-rate", "group_rate", "The same for each group"),
    (
        "group-period",
        "group_period_seconds",
        "The same for each group",
    ),
    ("group-burst", "group_burst", "The same for each group"),
];

/// Returns the commands.
pub fn commands() -> Vec<Command> {
    let kind = || word("kind", "KIND", "The kind of tasks");
    let all = |what: &'static str| {
        Arg::new("all")
            .long("all")
            .action(ArgAction::SetTrue)
            .help(what)
    };
    let one_or_all = || ArgGroup::new("what").args(["kind", "all"]).required(true);
    let mut limit = asks("limit", "Limits how many tasks of a kind go on or start")
        .arg(kind())
        .arg(yes())
        .arg(
            Arg::new("none")
                .long("none")
                .action(ArgAction::SetTrue)
                .conflicts_with("bounds")
                .help("Takes the limit away"),
        );
    for (name, _, what) in BOUNDS {
        limit = limit.arg(number(name, what, value_parser!(u32).range(1..)));
    }
    let bounds = BOUNDS.map(|(name, ..)| name);
    let limit = limit
        .group(ArgGroup::new("bounds").args(bounds).multiple(true))
        .group(
            ArgGroup::new("how")
                .args(bounds)
                .arg("none")
                .multiple(true)
                .required(true),
        );
    vec![
        asks(
            "stats",
            "Shows the numbers of a scheduler, and what is wrong with it",
        ),
        asks("kinds", "Lists the kinds: what waits, runs, and has failed"),
        asks("tasks", "Lists unfinished tasks")
            .after_help(QUERY)
            .arg(
                Arg::new("query")
                    .value_name("QUERY")
                    .num_args(0..)
                    .help("Words of a search, all of which must be true"),
            )
            .arg(
                number("limit", "How many at most", value_parser!(u32).range(1..))
                    .default_value("100"),
            ),
        asks(
            "explain",
            "Shows all that is known of a task, and why it is where it is",
        )
        .arg(id()),
        asks("cancel", "Cancels tasks")
            .arg(ids().required_unless_present("matching"))
            .arg(
                some(
                    "matching",
                    "QUERY",
                    "All that match a search, in the background; needs --yes",
                )
                .conflicts_with("id"),
            )
            .arg(yes()),
        asks("nodes", "Lists the nodes"),
        asks(
            "drain",
            "Lets a node finish what runs there, and take nothing new",
        )
        .arg(word("node", "NODE", "The name of the node"))
        .arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .help("Comes back when nothing runs there any more"),
        )
        .arg(yes()),
        asks("pause", "Starts no more tasks of a kind; what runs goes on")
            .arg(kind().required(false))
            .arg(all("All kinds"))
            .group(one_or_all())
            .arg(yes()),
        asks("resume", "Lets the tasks of a kind start again")
            .arg(kind().required(false))
            .arg(all("All kinds, but those that are paused by name"))
            .group(one_or_all()),
        limit,
        asks(
            "failures",
            "Lists the newest 1,000 failed tasks that the store keeps",
        )
        .args(which_failures())
        .arg(
            Arg::new("groups")
                .long("groups")
                .action(ArgAction::SetTrue)
                .help("By kind and message, with numbers and ids as `#`"),
        ),
        asks(
            "execute-again",
            "Hands tasks that the store keeps in again, as new ones",
        )
        .arg(ids().required_unless_present_any(FAILURES))
        .args(which_failures().map(|arg| arg.conflicts_with("id")))
        .arg(
            yes().help(
                "Does it for all that match, and where the application calls itself production",
            ),
        ),
        asks(
            "mark",
            "Sets a mark in the plots, for a deploy or whatever happens",
        )
        .arg(word("text", "TEXT", "What the mark says")),
        asks("top", "Shows what goes on, until it is interrupted")
            .arg(
                number(
                    "every",
                    "The seconds between two looks",
                    value_parser!(u32).range(1..),
                )
                .default_value("2"),
            )
            .arg(number(
                "frames",
                "Ends after so many looks",
                value_parser!(u32).range(1..),
            )),
    ]
}

/// Begins a command that asks a dashboard.
fn asks(name: &'static str, about: &'static str) -> Command {
    let file = |name: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
    };
    let command = Command::new(name)
        .about(about)
        .after_help(WHERE)
        .arg(
            Arg::new("at")
                .long("at")
                .value_name("URL")
                .help("The address of the dashboard"),
        )
        .arg(file("token-file").help("A file whose first line is the token"))
        .arg(
            Arg::new("scheduler")
                .long("scheduler")
                .value_name("NAME")
                .help("The scheduler, if several are shown there"),
        )
        .arg(
            number(
                "timeout",
                "The seconds to wait for each answer",
                value_parser!(u32).range(1..=86_400),
            )
            .default_value("30"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Prints what the dashboard answers: a line of JSON for each answer"),
        );
    #[cfg(feature = "tls")]
    let command = command.arg(
        file("ca").help("A file of authorities to trust, as PEM, in the place of those of the web"),
    );
    command
}

fn number(
    name: &'static str,
    what: &'static str,
    range: clap::builder::RangedI64ValueParser<u32>,
) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(range)
        .help(what)
}

fn word(name: &'static str, value: &'static str, what: &'static str) -> Arg {
    Arg::new(name)
        .required(true)
        .value_name(value)
        .value_parser(NonEmptyStringValueParser::new())
        .help(what)
}

fn id() -> Arg {
    Arg::new("id")
        .required(true)
        .value_name("ID")
        .value_parser(task_id)
        .help("The task, as `t42` or `42`")
}

/// Makes the ids of tasks, which need not be there.
fn ids() -> Arg {
    let ids = id().required(false).num_args(1..);
    ids.help("The tasks, each as `t42` or `42`")
}

/// Makes an option with a value.
fn some(name: &'static str, value: &'static str, what: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .value_parser(NonEmptyStringValueParser::new())
        .help(what)
}

/// Makes the options that choose failures.
fn which_failures() -> [Arg; 3] {
    let hours = number(
        "hours",
        "Only those of the last so many hours",
        value_parser!(u32).range(1..),
    );
    [
        some("kind", "KIND", "Only those of this kind"),
        some("message", "PART", "Only those whose message has this part"),
        hours,
    ]
}

fn yes() -> Arg {
    Arg::new("yes")
        .long("yes")
        .action(ArgAction::SetTrue)
        .help("Does it also where the application calls itself production")
}
