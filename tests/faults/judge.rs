//! Whether a scenario kept what is promised, from the ledgers, the effects and what the scheduler
//! told.
//!
//! Owns: the promises as predicates over these, and the figures of the table. Does not know: how
//! the faults were made, but for their times.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::{Cluster, Fate, Shape, WORKERS};
use crate::record::{Effect, Run, Told, effects, runs};
use crate::work::{Expected, Planned};

/// What happened in a scenario and what it promises.
#[derive(Debug, Default)]
pub struct Course {
    /// When a fault began, and the nodes that were lost by it.
    pub faults: Vec<(u64, Vec<String>)>,
    /// When the last fault ended.
    pub healed: Option<u64>,
    /// Nodes that have to be busy again then.
    pub nodes: u32,
    /// Whether no attempt may run twice.
    pub no_second_runs: bool,
    /// How long the longest cut or freeze of those lasted that are to be short, measured from
    /// without.
    pub longest: Duration,
    /// How long after the fault the tasks of a lost node are to be pending again.
    pub reroute_within: Option<Duration>,
    /// Whether the processes of the lost nodes live, and report when they return.
    pub returns: bool,
    /// Whether a node breaks the rules, which has to be counted.
    pub breaks_rules: bool,
    /// Whether the drain and the shutdown came in the middle.
    pub cut_off: bool,
}

/// A time may be beyond what is promised by this part of it, since the processes of six scenarios,
/// and whoever else is at work, share the cores of a machine of CI. The table marks what is missed
/// by less.
const BEYOND: u32 = 4;
/// But by so much always: each of the few turns that a reroute takes may have waited for a core.
const WAITED: Duration = Duration::from_millis(250);
/// One last step is what a frozen process may take, and a few more when its threads wait for a
/// core.
const LATE_STEPS: usize = 5;
/// How long a process that was frozen may take, once it goes on, to see that its lease has ended.
const WAKING: Duration = Duration::from_millis(500);
/// Within what all workers are to be busy again after a heal.
pub const BUSY_WITHIN: Duration = Duration::from_secs(1);

/// What is put in the table.
#[derive(Debug, Default)]
pub struct Figures {
    /// From the fault to the reroute, in order.
    pub reroutes: Vec<Duration>,
    pub second_runs: usize,
    pub overlaps: usize,
    pub exclusive_overlaps: usize,
    pub late_steps: usize,
    pub busy_after: Option<Duration>,
    pub accepted: usize,
    pub settled: usize,
    pub left: usize,
    pub lost: usize,
    pub double: usize,
    /// Every promise that was broken, in a sentence.
    pub broken: Vec<String>,
    /// Every time that was missed, which a machine that is too loaded for this does too.
    pub missed: Vec<String>,
}

impl Figures {
    pub fn reroute(&self, percent: usize) -> Option<Duration> {
        let last = self.reroutes.len().checked_sub(1)?;
        // The nearest rank.
        Some(
            self.reroutes[(self.reroutes.len() * percent)
                .div_ceil(100)
                .clamp(1, last + 1)
                - 1],
        )
    }

    fn broke(&mut self, promise: impl Into<String>) {
        self.broken.push(promise.into());
    }
}

/// Judges a scenario whose processes have all ended.
pub fn judge(cluster: &Cluster, course: &Course, mean: u64) -> Figures {
    let (runs, effects) = (runs(cluster.directory()), effects(cluster.directory()));
    let told = cluster.told();
    let mut figures = Figures::default();
    endings(&told, &runs, course, mean, &mut figures);
    again(&runs, &told, cluster.shape(), mean, course, &mut figures);
    overlaps(&runs, cluster, &mut figures);
    let honest = cluster
        .fates
        .keys()
        .filter(|name| *name != crate::double::NAME);
    for process in honest {
        limit(process, &runs, &mut figures);
    }
    let lease = cluster.shape().lease;
    for (task, effects) in &effects {
        let fate = |dispatch| {
            let run = runs
                .iter()
                .find(|run| (run.task, run.dispatch) == (*task, dispatch));
            &cluster.fates[&run.unwrap().process]
        };
        exclusive(*task, effects, fate, lease, &mut figures);
    }
    times(&told, &runs, course, &mut figures);
    figures
}

/// Checks G1: every accepted task has one ending, and the right one.
fn endings(told: &Told, runs: &[Run], course: &Course, mean: u64, figures: &mut Figures) {
    let completed: BTreeSet<(u64, u64)> = runs
        .iter()
        .filter(|run| matches!(&run.end, Some((_, how)) if how == "completed"))
        .map(|run| (run.task, run.dispatch))
        .collect();
    let mut settled = BTreeSet::new();
    for status in &told.statuses {
        let Some(&n) = told.accepted.get(&status.task) else {
            figures.broke(format!("t{} settled and was not accepted", status.task));
            continue;
        };
        if !settled.insert(status.task) || status.given_again {
            figures.double += 1;
        }
        let right = match Planned::new(n, mean).expected() {
            Expected::Completed => status.outcome == "completed",
            Expected::Failed(cause) => status.outcome == format!("failed:{cause:?}"),
        };
        if !right {
            figures.broke(format!("t{} ended with {}", status.task, status.outcome));
        }
        if status.outcome == "completed" && !completed.contains(&(status.task, status.dispatch)) {
            figures.broke(format!(
                "t{} was completed by #{}, and no such run was",
                status.task, status.dispatch
            ));
        }
    }
    // What shutdown hands back was told to nobody, and is an ending or none; unless it is marked.
    let unmarked = told.untold.iter().filter(|(_, again)| !again);
    let once: BTreeSet<u64> = told
        .left
        .iter()
        .chain(unmarked.map(|(task, _)| task))
        .copied()
        .collect();
    let left: BTreeSet<u64> = told
        .untold
        .iter()
        .map(|(task, _)| *task)
        .chain(once.iter().copied())
        .filter(|task| !settled.contains(task) || once.contains(task))
        .collect();
    figures.accepted = told.accepted.len();
    figures.settled = settled.len();
    figures.left = left.len();
    figures.double += once.intersection(&settled).count();
    figures.lost = told
        .accepted
        .keys()
        .filter(|id| !settled.contains(id) && !left.contains(id))
        .count();
    if course.breaks_rules && (told.violations == 0 || told.stale_reports == 0) {
        figures.broke(format!(
            "{} violations and {} stale reports were counted of a node that breaks the rules",
            told.violations, told.stale_reports
        ));
    }
    if figures.lost > 0 {
        figures.broke("tasks were lost");
    }
    if figures.double > 0 {
        figures.broke("tasks have two endings");
    }
    if !course.cut_off && !left.is_empty() {
        figures.broke("tasks were left over");
    }
}

/// Checks G9: finds runs of an attempt that had been begun before. A time that was missed explains
/// them: a cut or freeze that lasted longer than it was to, or a link that was not back within a
/// second of the heal, which a machine that is too loaded does too. Nothing else does.
pub fn again(
    runs: &[Run],
    told: &Told,
    shape: Shape,
    mean: u64,
    course: &Course,
    figures: &mut Figures,
) {
    let mut begun: BTreeMap<(u64, u32), &Run> = BTreeMap::new();
    for run in runs {
        let Some(earlier) = begun.insert((run.task, run.attempt), run) else {
            continue;
        };
        figures.second_runs += 1;
        if !course.no_second_runs || figures.broken.len() + figures.missed.len() > 5 {
            continue;
        }
        let number = told.accepted.get(&run.task);
        let covers = match number {
            // A node drops them then.
            Some(&n) if Planned::new(n, mean).work.exclusive => shape.lease / 5 * 4,
            _ => shape.lease,
        };
        let renewed = covers - shape.heartbeat;
        let promised = renewed - Duration::from_secs(1);
        let away = told.longest_silence(earlier.node(), earlier.start, run.start);
        let what = format!(
            "t{}#{} is a second run of attempt {} (on {}, after one on {}); the longest cut or \
             freeze lasted {:?}, and {} was not heard for {away:?}",
            run.task,
            run.dispatch,
            run.attempt,
            run.process,
            earlier.process,
            course.longest,
            earlier.node(),
        );
        if course.longest > promised || away > renewed {
            figures.missed.push(what);
        } else {
            figures.broken.push(what);
        }
    }
}

/// Runs of one task at the same time.
fn overlaps(runs: &[Run], cluster: &Cluster, figures: &mut Figures) {
    let mut last: BTreeMap<u64, &Run> = BTreeMap::new();
    for run in runs {
        if let Some(earlier) = last.insert(run.task, run) {
            let fate = &cluster.fates[&earlier.process];
            let over = earlier.end.as_ref().is_some_and(|(at, _)| *at <= run.start);
            if !over && !fate.was_dead(run.start) && !fate.was_frozen(run.start) {
                figures.overlaps += 1;
            }
        }
    }
}

/// Checks G4: no more than the limit at once. What a killed process ran ended with it, so it frees
/// nothing.
fn limit(process: &str, runs: &[Run], figures: &mut Figures) {
    let own = runs.iter().filter(|run| run.process == process);
    let most = most_at_once(own).map_or(0, |(most, _)| most);
    if most > i64::from(WORKERS) {
        figures.broke(format!(
            "{process} ran {most} at once, of {WORKERS} that it may"
        ));
    }
}

/// Returns the most runs at once, and when it was first so many.
fn most_at_once<'a>(runs: impl Iterator<Item = &'a Run>) -> Option<(i64, u64)> {
    changes(runs)
        .into_iter()
        .scan(0, |running, (at, change)| {
            *running += change;
            Some((*running, at))
        })
        .max_by_key(|&(running, at)| (running, std::cmp::Reverse(at)))
}

/// Starts and ends in order; at one moment ends come first.
fn changes<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<(u64, i64)> {
    let mut changes: Vec<_> = runs
        .flat_map(|run| {
            let end = run.end.as_ref().map(|(at, _)| (*at, -1));
            [Some((run.start, 1)), end]
        })
        .flatten()
        .collect();
    changes.sort_unstable();
    changes
}

/// Checks G10: the effects of one run end before those of the next begin, as a keeper sees them
/// that refuses a lower fencing number than it has seen. Of a run whose process slept through its
/// lease when the next began it refuses one last step; that a run begins after a newer one is wrong
/// wherever it does.
pub fn exclusive<'a>(
    task: u64,
    effects: &[Effect],
    fate: impl Fn(u64) -> &'a Fate,
    lease: Duration,
    figures: &mut Figures,
) {
    let mut open: BTreeSet<u64> = BTreeSet::new();
    let mut late: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut highest, mut since) = (0, 0);
    for effect in effects {
        let dispatch = effect.dispatch;
        if dispatch < highest {
            open.remove(&dispatch);
            if effect.what == "start" {
                figures.exclusive_overlaps += 1;
                figures.broke(format!(
                    "the exclusive t{task}#{dispatch} began after #{highest} had"
                ));
            } else if effect.what == "step" {
                // The end follows from it.
                *late.entry(dispatch).or_default() += 1;
                figures.late_steps += 1;
                if late[&dispatch] == 1 && !asleep(fate(dispatch), since, lease) {
                    figures.broke(format!(
                        "the exclusive t{task}#{dispatch} went on when #{highest} had begun, and nobody had frozen it"
                    ));
                }
            }
            continue;
        }
        match effect.what.as_str() {
            "start" => {
                (highest, since) = (dispatch, effect.at);
                for &earlier in &open {
                    let fate = fate(earlier);
                    if !fate.was_dead(effect.at) && !asleep(fate, effect.at, lease) {
                        figures.exclusive_overlaps += 1;
                        figures.broke(format!(
                            "the exclusive t{task}#{dispatch} began while #{earlier} went on"
                        ));
                    }
                }
                open.insert(dispatch);
            }
            "end" => _ = open.remove(&dispatch),
            _ => {}
        }
    }
    for (dispatch, steps) in late {
        if steps > LATE_STEPS {
            figures.broke(format!(
                "t{task}#{dispatch} took {steps} steps after it was fenced off"
            ));
        }
    }
}

/// Returns whether a process had slept through so much of a lease that its exclusive tasks may have
/// been lost, and has not had the time to see it since. A node drops them at four fifths of its
/// lease, which began with its last answered heartbeat, a little before it was frozen; so half is
/// less than ever passes before one is run again.
fn asleep(fate: &Fate, at: u64, lease: Duration) -> bool {
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap();
    fate.frozen.iter().any(|&(from, to)| {
        let least = from + nanos(lease / 2);
        to >= least && (least..=to.saturating_add(nanos(WAKING))).contains(&at)
    })
}

/// Checks G8 and G5: how soon tasks were rerouted and workers busy again.
fn times(told: &Told, runs: &[Run], course: &Course, figures: &mut Figures) {
    rerouted(told, course, figures);
    let Some(healed) = course.healed.filter(|_| !course.cut_off) else {
        return;
    };
    let all = i64::from(course.nodes * WORKERS);
    let at = busy_again(runs, healed, all);
    figures.busy_after = at.map(|at| Duration::from_nanos(at - healed));
    if figures
        .busy_after
        .is_none_or(|after| after > at_most(BUSY_WITHIN))
    {
        figures.missed.push(format!(
            "{all} workers were to be busy within {BUSY_WITHIN:?} of the heal, and were after {:?}",
            figures.busy_after
        ));
    }
}

/// Returns what a time is judged by where this is promised.
fn at_most(promised: Duration) -> Duration {
    promised + (promised / BEYOND).max(WAITED)
}

/// Checks that every fault that loses nodes has tasks rerouted, and in time.
pub fn rerouted(told: &Told, course: &Course, figures: &mut Figures) {
    for (at, nodes) in &course.faults {
        let before = figures.reroutes.len();
        let reroutes = told.reroutes.iter().filter(|reroute| {
            // A later fault of the same node has its own.
            let next = course
                .faults
                .iter()
                .filter(|(later, others)| later > at && others.contains(&reroute.node))
                .map(|(later, _)| *later)
                .min();
            // What comes after the heal is what a node that lives reports on its return.
            let reported = course.returns && course.healed.is_some_and(|heal| reroute.at >= heal);
            reroute.at >= *at
                && !reported
                && nodes.contains(&reroute.node)
                && next.is_none_or(|next| reroute.at < next)
        });
        figures
            .reroutes
            .extend(reroutes.map(|reroute| Duration::from_nanos(reroute.at - at)));
        // The end of the scheduler may come before a lease's.
        let none = figures.reroutes.len() == before && !course.cut_off;
        if none && course.reroute_within.is_some() {
            figures.broke(format!("no task was rerouted when {nodes:?} was lost"));
        }
    }
    figures.reroutes.sort_unstable();
    if let (Some(limit), Some(p99)) = (course.reroute_within, figures.reroute(99))
        && p99 > at_most(limit)
    {
        figures.missed.push(format!(
            "a reroute took {p99:?} where {limit:?} is promised"
        ));
    }
}

/// Returns when all workers were first busy after the heal and something had been started since.
fn busy_again(runs: &[Run], healed: u64, all: i64) -> Option<u64> {
    let first = runs
        .iter()
        .map(|run| run.start)
        .find(|&start| start >= healed)?;
    changes(runs.iter().filter(|run| run.end.is_some()))
        .into_iter()
        .scan(0, |running, (at, change)| {
            *running += change;
            Some((*running, at))
        })
        .find(|&(running, at)| running >= all && at >= first)
        .map(|(_, at)| at)
}
