//! `callboard top`: a plain table that is drawn anew.
//!
//! Owns: what stands in it, how it fits a terminal, and when it ends. Does not know: how it is
//! asked for.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use callboard::__internals::text::words;
use rustix::termios::tcgetwinsize;

use super::answers::{Kind, Moment, kinds_table, nodes_table, problems};
use super::ending::{Ending, Failed};
use super::run::Run;
use super::table;

/// To the upper left corner; the rest of a line, and all below it, away.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// How the line begins that says why what stands below is old.
const SILENT: &str = "No answer: ";

/// Where it is drawn.
#[derive(Clone, Copy, Debug)]
enum Screen {
    /// Each look begins where the one before did.
    Terminal { rows: usize, columns: usize },
    /// A file or a pipe: one look after the other.
    Lines,
}

impl Screen {
    /// Finds out; a terminal may have changed its size since the last look.
    fn now() -> Self {
        let out = stdout();
        match tcgetwinsize(&out) {
            Ok(size) if out.is_terminal() && size.ws_row > 0 && size.ws_col > 0 => Self::Terminal {
                rows: size.ws_row.into(),
                columns: size.ws_col.into(),
            },
            _ => Self::Lines,
        }
    }

    fn draw(self, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Terminal { rows, columns } => {
                write!(out, "{HOME}")?;
                let shown = lines.iter().take(rows.saturating_sub(1));
                for line in shown {
                    let cut: String = line.chars().take(columns).collect();
                    writeln!(out, "{cut}{CLEAR_LINE}")?;
                }
                write!(out, "{CLEAR_BELOW}")?;
            }
            Self::Lines => {
                for line in lines {
                    writeln!(out, "{line}")?;
                }
                writeln!(out)?;
            }
        }
        out.flush()
    }
}

/// Looks and draws, until nobody reads any more or as often as was asked for.
///
/// # Errors
///
/// The first look has failed, or a later one by other than that nothing answers.
pub fn run(run: &mut Run<'_>) -> Result<(), Failed> {
    let every = run.args.get_one::<u32>("every").copied().unwrap_or(2);
    let frames = run.args.get_one::<u32>("frames").copied();
    let mut before = None;
    let mut lines = Vec::new();
    for frame in 1u64.. {
        match look(run, before.as_ref()) {
            Ok(None) => {}
            Ok(Some((moment, drawn))) => {
                lines = drawn;
                before = Some(moment);
            }
            // What is started again comes back.
            Err(Failed::Said {
                ending: Ending::NoAnswer,
                words: why,
            }) if frame > 1 => {
                let why = words(&why, 1000);
                if run.is_json() {
                    let _ = writeln!(stderr(), "callboard: {why}");
                } else {
                    // What was seen last stays below.
                    lines.retain(|line| !line.starts_with(SILENT));
                    lines.insert(0, format!("{SILENT}{why}"));
                }
            }
            Err(failed) => return Err(failed),
        }
        if !run.is_json() {
            Screen::now().draw(&lines, run.out)?;
        }
        run.out.flush()?;
        if frames.is_some_and(|most| frame >= u64::from(most)) {
            break;
        }
        std::thread::sleep(Duration::from_secs(every.into()));
    }
    Ok(())
}

/// Looks once, and prints the answer or returns the lines that it makes.
fn look(
    run: &mut Run<'_>,
    before: Option<&Moment>,
) -> Result<Option<(Moment, Vec<String>)>, Failed> {
    let answer = run.client.get("api/stats", &[])?;
    if run.is_json() {
        table::json(run.out, &answer)?;
        return Ok(None);
    }
    let moment: Moment = run.client.read(answer)?;
    let kinds = run.busiest_kinds()?;
    let title = run.board.title.as_deref();
    let lines = lines(title, &moment, before, &kinds);
    Ok(Some((moment, lines)))
}

/// Returns the lines of a look. What is wrong comes first, and what may be long comes last.
fn lines(
    title: Option<&str>,
    moment: &Moment,
    before: Option<&Moment>,
    kinds: &[Kind],
) -> Vec<String> {
    let stats = &moment.stats;
    let title = title.map(|title| format!(" ({title})")).unwrap_or_default();
    let workers: u32 = stats.nodes.iter().map(|node| node.workers).sum();
    let mut lines = vec![
        words(&format!("{}{title}", stats.scheduler), 200),
        format!(
            "due {}  later {}  between attempts {}  held {}  running {} on {workers} workers",
            stats.pending, stats.due_later, stats.waiting_retries, stats.held, stats.running
        ),
    ];
    lines.extend(before.and_then(|before| rates(moment, before)));
    lines.extend(problems(&moment.problems));
    lines.push(String::new());
    lines.extend(kinds_table(kinds).lines());
    lines.push(String::new());
    lines.extend(nodes_table(&stats.nodes).lines());
    lines
}

/// Returns how fast things went between two looks; `None` if the scheduler was started anew.
fn rates(now: &Moment, before: &Moment) -> Option<String> {
    let seconds = now.at - before.at;
    let failed = |moment: &Moment| moment.stats.totals.failed.values().sum::<u64>();
    let rate = |now: u64, before: u64| Some(now.checked_sub(before)? as f64 / seconds);
    if seconds <= 0.0 {
        return None;
    }
    let (new, old) = (&now.stats.totals, &before.stats.totals);
    Some(format!(
        "accepted {:.1}/s  settled {:.1}/s  failed {:.1}/s",
        rate(new.executed, old.executed)?,
        rate(new.settled(), old.settled())?,
        rate(failed(now), failed(before))?,
    ))
}
