//! Whether a cluster kept what is promised over restarts of its scheduler.
//!
//! Owns: the promises as predicates over what was written down. Does not know: how often, or how,
//! the scheduler was ended.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::record::{Run, effects, runs};
use crate::scheduler::{Status, Told};
use crate::starts::first_starts;
use crate::work::{Expected, Planned};

/// What is put in the table.
#[derive(Debug, Default)]
pub struct Figures {
    accepted: usize,
    told: usize,
    given_again: usize,
    refused: usize,
    lost: usize,
    two_endings: usize,
    exclusive_overlaps: usize,
    reruns: usize,
    /// From each restart to the first start of a task that was placed after it.
    first_starts: Vec<Duration>,
    /// Every promise that was broken, in a sentence.
    pub broken: Vec<String>,
}

pub fn judge(told: &Told, directory: &Path) -> Figures {
    let runs = runs(directory);
    let mut figures = Figures {
        accepted: told.accepted.len(),
        refused: told.refused,
        ..Figures::default()
    };
    let mut statuses: BTreeMap<u64, Vec<&Status>> = BTreeMap::new();
    for status in &told.statuses {
        statuses.entry(status.task).or_default().push(status);
    }
    figures.told = statuses.len();
    let mut broken = Vec::new();
    for (task, number) in &told.accepted {
        let Some(status) = statuses.get(task) else {
            figures.lost += 1;
            broken.push(format!("t{task} was accepted and never told of"));
            continue;
        };
        let status = status[0];
        let expected = match Planned::new(*number, 20).expected() {
            Expected::Completed => "completed".to_owned(),
            Expected::Failed(cause) => format!("failed:{cause:?}"),
        };
        if status.outcome != expected {
            broken.push(format!("t{task} ended so: {status:?}, not {expected}"));
        }
    }
    for (task, all) in &statuses {
        let first = all[0];
        for again in &all[1..] {
            figures.given_again += 1;
            let same = (&again.outcome, again.dispatch) == (&first.outcome, first.dispatch);
            if !same || !again.given_again {
                figures.two_endings += 1;
                broken.push(format!("t{task} ended twice: {first:?} and {again:?}"));
            }
        }
    }
    figures.reruns = reruns(&runs, &mut broken);
    numbers_rise(&runs, &mut broken);
    for (task, effects) in effects(directory) {
        let mut going = None;
        for effect in effects {
            let alone = match effect.what.as_str() {
                "start" => going.replace(effect.dispatch).is_none(),
                "end" => going.take() == Some(effect.dispatch),
                _ => going == Some(effect.dispatch),
            };
            if !alone {
                figures.exclusive_overlaps += 1;
                broken.push(format!(
                    "two runs of the exclusive t{task} overlap: {effect:?}"
                ));
            }
        }
    }
    figures.first_starts = first_starts(
        runs.iter().map(|run| (run.start, run.dispatch)),
        &told.restarts,
    );
    figures.broken = broken;
    figures
}

/// Counts the second runs of attempts. No node was lost, and each restart came well within the
/// lease, so each attempt is to run once.
fn reruns(runs: &[Run], broken: &mut Vec<String>) -> usize {
    let mut attempts: BTreeMap<(u64, u32), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        let attempt = attempts.entry((run.task, run.attempt)).or_default();
        attempt.push(run);
    }
    let mut reruns = 0;
    for ((task, attempt), runs) in attempts {
        if runs.len() > 1 {
            reruns += runs.len() - 1;
            broken.push(format!("attempt {attempt} of t{task} ran again: {runs:?}"));
        }
    }
    reruns
}

fn numbers_rise(runs: &[Run], broken: &mut Vec<String>) {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for run in runs {
        let before = last.insert(run.task, run.dispatch);
        if before.is_some_and(|before| before >= run.dispatch) {
            broken.push(format!(
                "a run of t{} has no greater number: {run:?}",
                run.task
            ));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} accepted, {} told, {} of them again; {} refused; lost {}, two endings {}, overlaps of exclusive tasks \
             {}, reruns of what nodes held {}",
            self.accepted,
            self.told,
            self.given_again,
            self.refused,
            self.lost,
            self.two_endings,
            self.exclusive_overlaps,
            self.reruns
        )?;
        if let (Some(median), Some(last)) = (
            self.first_starts.get(self.first_starts.len() / 2),
            self.first_starts.last(),
        ) {
            write!(
                f,
                "; from a restart to the first start of a pending task p50 {median:.1?}, at most {last:.1?}"
            )?;
        }
        Ok(())
    }
}
