//! Reads what the nodes wrote down, and says what is wrong with it.
//!
//! Owns: which runs may overlap, and which troubles of a node are a reason to run a task again.
//! Does not know: what the client was told.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::AnyError;
use crate::cluster::{self, SchedulerId, Trouble};
use crate::keeper::Restart;
use crate::ledger::Book;
use crate::starts::first_starts;
use crate::{HEARTBEAT, LEASE};

/// How long a process that was frozen may take, once it goes on, to see that its lease has ended:
/// until then it may take a last step, which only the fencing number stops.
const LAST_STEP: u64 = 1_000_000_000;
/// A trouble that lasts no longer costs nothing: a link that returns within the lease less a
/// heartbeat and a second reruns no task.
const SHORT: Duration = LEASE
    .saturating_sub(HEARTBEAT)
    .saturating_sub(Duration::from_secs(1));

/// What a node takes at most to find its scheduler again, and to have a heartbeat answered. Two
/// troubles that are not further apart are one.
const SETTLING: Duration = Duration::from_secs(2);
/// How long before a kill a task may have been placed and begun, or cancelled, without that being
/// stored. The promise is 20 ms and a commit.
const NOT_STORED: u64 = 250_000_000;

/// One run of a task.
#[derive(Clone, Copy)]
struct Run {
    node: usize,
    task: u64,
    dispatch: u64,
    attempt: u32,
    exclusive: bool,
    begin: u64,
    end: u64,
    /// Whether its process may not have known yet that it had lost it.
    last_step: bool,
}

/// What the runs show.
#[derive(Default)]
pub struct Judgement {
    pub runs: usize,
    /// Runs of an attempt that had been run before.
    pub second_runs: usize,
    /// Those that began before the earlier one had ended.
    pub overlaps: usize,
    pub exclusive_runs: usize,
    pub exclusive_second_runs: usize,
    /// Exclusive runs that went on for a moment in a process that had been frozen.
    pub last_steps: usize,
    /// From each start of the scheduler to the first start of a task that it placed.
    pub first_starts: Vec<Duration>,
    pub wrong: Vec<String>,
}

pub fn judge(
    lives: &[SchedulerId],
    troubles: &[Vec<Trouble>],
    restarts: &[Restart],
    book: &Book,
) -> Result<Judgement, AnyError> {
    let mut judgement = Judgement::default();
    let mut runs = Vec::new();
    for life in lives {
        read(life, &mut runs, &mut judgement.wrong)?;
    }
    judgement.runs = runs.len();
    judgement.first_starts = first_starts(
        runs.iter().map(|run| (run.begin, run.dispatch)),
        &restarts.iter().map(|at| at.started).collect::<Vec<_>>(),
    );
    let spans: Vec<_> = troubles.iter().map(|own| spans(own, restarts)).collect();
    let mut dispatches = HashSet::with_capacity(runs.len());
    for run in &runs {
        if !dispatches.insert(run.dispatch) {
            let words = format!("the dispatch {} of t{} began twice", run.dispatch, run.task);
            judgement.wrong.push(words);
        }
    }
    runs.sort_unstable_by_key(|run| (run.task, run.dispatch));
    for of_task in runs.chunk_by(|a, b| a.task == b.task) {
        judgement.compare(of_task);
        let forgotten =
            |before: &Run| book.may_be_cancelled(before.task) && ends_with_a_kill(before, restarts);
        if let Some((before, again)) = without_reason(of_task, troubles, &spans)
            && !forgotten(before)
        {
            let story = story(before, again, &troubles[before.node], restarts);
            let fate = book.fate(before.task);
            judgement.wrong.push(format!("{story} ({fate})"));
        }
    }
    Ok(judgement)
}

impl Judgement {
    /// Compares the runs of one task, given in the order of their fencing numbers.
    fn compare(&mut self, runs: &[Run]) {
        self.exclusive_runs += runs.iter().filter(|run| run.exclusive).count();
        self.last_steps += runs
            .iter()
            .filter(|run| run.exclusive && run.last_step)
            .count();
        let mut before: Option<&Run> = None;
        for run in runs {
            if let Some(before) = before {
                let again = run.attempt == before.attempt;
                self.second_runs += usize::from(again);
                self.exclusive_second_runs += usize::from(again && run.exclusive);
                let overlap = run.begin < before.end;
                self.overlaps += usize::from(overlap);
                if overlap && run.exclusive {
                    self.wrong.push(format!(
                        "two runs of t{}, which is exclusive, overlap by {} us: {} and {}",
                        run.task,
                        (before.end.min(run.end) - run.begin) / 1_000,
                        before.dispatch,
                        run.dispatch
                    ));
                }
            }
            if !(run.exclusive && run.last_step) {
                before = Some(run);
            }
        }
    }
}

/// Returns two runs that break G9, if any: a task is run again only if the node of the run before
/// was killed since, or in trouble for long.
fn without_reason<'a>(
    runs: &'a [Run],
    troubles: &[Vec<Trouble>],
    spans: &[Vec<Span>],
) -> Option<(&'a Run, &'a Run)> {
    let pair = runs.windows(2).find(|pair| {
        let before = &pair[0];
        let own = troubles[before.node].iter();
        let mut own = own.filter(|trouble| is_between(trouble.from, trouble.to, pair));
        let both = spans[before.node].iter();
        let mut both = both.filter(|span| is_between(span.from, span.to, pair));
        pair[1].attempt == before.attempt
            && !own.any(|trouble| trouble.killed || trouble.lasted() > SHORT)
            && !both.any(|span| span.excuses(before))
    })?;
    Some((&pair[0], &pair[1]))
}

/// Returns whether a run ended about when the scheduler was killed: a cancel that was not stored
/// may have stopped it.
fn ends_with_a_kill(run: &Run, restarts: &[Restart]) -> bool {
    let mut kills = restarts.iter().map(|restart| restart.killed);
    kills.any(|kill| kill.abs_diff(run.end) < NOT_STORED)
}

/// Tells of two runs what befell the first one's node and the scheduler near them, in milliseconds
/// from the start of the first.
fn story(before: &Run, again: &Run, own: &[Trouble], restarts: &[Restart]) -> String {
    let since = |at: u64| (at as i64 - before.begin as i64) / 1_000_000;
    let is_near = |at: &u64| since(*at).abs() < 10_000;
    let own = own.iter().filter(|trouble| is_near(&trouble.from));
    let own: Vec<_> = own.map(|at| [at.from, at.to].map(since)).collect();
    let restarts = restarts.iter().filter(|restart| is_near(&restart.killed));
    let restarts = restarts.map(|at| [at.killed, at.started, at.ready].map(since));
    format!(
        "t{} was run again as {} without a reason, on {} at {} ms from {:.3} s; {} had ended on {} at {} ms, which had faults at \
         {own:?} ms, the scheduler was killed, started and ready at {:?} ms",
        again.task,
        again.dispatch,
        cluster::name(again.node),
        since(again.begin),
        before.begin as f64 / 1e9,
        before.dispatch,
        cluster::name(before.node),
        since(before.end),
        restarts.collect::<Vec<_>>(),
    )
}

/// Returns whether a trouble met the first of two runs, and began before the second.
fn is_between(from: u64, to: u64, pair: &[Run]) -> bool {
    // What was on its way may begin in the moment after.
    from < pair[1].begin && to.saturating_add(LAST_STEP) > pair[0].begin
}

/// A time in which a node and its scheduler were parted, by the node's troubles and by restarts of
/// the scheduler that followed each other closely.
struct Span {
    from: u64,
    to: u64,
    /// When the scheduler was killed in it.
    kills: Vec<u64>,
}

impl Span {
    /// Returns whether this is a reason to run a task again: it was too long, or the scheduler did
    /// not know that the task had been placed.
    fn excuses(&self, before: &Run) -> bool {
        let lasted = Duration::from_nanos(self.to - self.from) + SETTLING / 2;
        let unknown = |&kill: &u64| (kill.saturating_sub(NOT_STORED)..).contains(&before.begin);
        lasted > SHORT || !before.exclusive && self.kills.iter().any(unknown)
    }
}

/// Returns the spans of one node in which its scheduler was killed while it was in trouble itself.
fn spans(own: &[Trouble], restarts: &[Restart]) -> Vec<Span> {
    let troubles = own.iter().map(|at| (at.from, at.to, None));
    let outages = restarts
        .iter()
        .map(|at| (at.killed, at.ready, Some(at.killed)));
    let mut parts: Vec<_> = troubles.chain(outages).collect();
    parts.sort_unstable();
    let settling = SETTLING.as_nanos() as u64;
    let closely = |a: &(u64, u64, _), b: &(u64, u64, _)| b.0 <= a.1.saturating_add(settling);
    let joined = parts.chunk_by(closely);
    let joined = joined.filter(|parts| parts.iter().any(|part| part.2.is_none()));
    let spans = joined.map(|parts| Span {
        from: parts[0].0,
        to: parts.iter().map(|part| part.1).max().unwrap_or_default(),
        kills: parts.iter().filter_map(|part| part.2).collect(),
    });
    spans.filter(|span| !span.kills.is_empty()).collect()
}

fn read(life: &SchedulerId, runs: &mut Vec<Run>, wrong: &mut Vec<String>) -> Result<(), AnyError> {
    let first = runs.len();
    let mut going = HashMap::new();
    let file = match File::open(&life.journal) {
        Ok(file) => file,
        // It was killed before it had made one.
        Err(_) if life.ended.is_some() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for line in BufReader::new(file).lines() {
        let line = line?;
        let mut words = line.split(' ');
        let what = words.next();
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>()?;
        match (what, &numbers[..]) {
            (Some("B"), &[task, dispatch, attempt, exclusive, begin]) => {
                going.insert(dispatch, runs.len());
                runs.push(Run {
                    node: life.node,
                    task,
                    dispatch,
                    attempt: attempt as u32,
                    exclusive: exclusive == 1,
                    begin,
                    // Of one that was killed in the middle, only this is known.
                    end: life.ended.unwrap_or(u64::MAX),
                    last_step: false,
                });
            }
            (Some("E"), &[dispatch, end]) => match going.remove(&dispatch) {
                Some(at) => runs[at].end = end,
                None => wrong.push(format!("the dispatch {dispatch} ended and never began")),
            },
            (Some("O"), &[task, _, running]) => {
                wrong.push(format!(
                    "t{task} began as the {running}th at once on its node"
                ));
            }
            _ => wrong.push(format!("a node wrote {line:?}")),
        }
    }
    let lease = u64::try_from(LEASE.as_nanos())?;
    let frozen = life.frozen.iter();
    for &(_, to) in frozen.filter(|(from, to)| to.saturating_sub(*from) > lease / 5 * 4) {
        for run in &mut runs[first..] {
            let across = run.begin < to && run.end >= to;
            run.last_step |= across && run.end <= to.saturating_add(LAST_STEP);
        }
    }
    Ok(())
}
