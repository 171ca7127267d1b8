//! Whole clusters in one thread, each from a seed: no socket, no clock, no actix.
//!
//! `SIM_SEED=123 cargo test --test simulation one_seed -- --nocapture` runs one seed again and
//! prints its history; `SIM_SEEDS=100000` sets how many are tried and `SIM_FIRST` the first,
//! `SIM_LINES` how many lines of a history are shown, and `SIM_SHRINK=1` looks for a smaller
//! history first. Beside this range, which is the same each time, each run tries `SIM_NEW` seeds
//! that are new, and prints the first of them; `SIM_FAMILY` makes them all of one family. With
//! `SIM_STORE=1` all families have a store now and then, not only the one of restarts.
//!
//! A failure that is found is kept, so that it outlasts the seed that showed it: `SIM_SEED=123
//! SIM_KEEP=g8_what_goes_wrong cargo test --test simulation one_seed` writes its plan, shrunk, to
//! `tests/simulation/kept/g8_what_goes_wrong.plan`, marked with the failure that it shows; the
//! reason is written by hand. A test runs all kept plans. It fails if a mark no longer holds, so
//! whoever mends the failure takes the mark off, and from then on the plan must hold.
//! `SIM_KEPT=g8_what_goes_wrong` with `one_seed` prints the history of a kept plan.

#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

mod args;
mod brief;
mod clients;
mod cluster;
mod deaths;
mod dials;
mod faults;
mod kept;
mod lives;
mod log;
mod neighbour;
mod network;
mod nodes;
mod oracle;
mod plan;
mod quiet;
mod scheduler;
mod trace;
mod visitors;
mod workers;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cluster::Cluster;
use plan::{Family, Plan};
use workers::Pipelined;

/// How many seeds `cargo test` tries, shared by the families.
const SEEDS: u64 = 10_000;

/// How many new ones it tries.
const NEW_SEEDS: usize = 100;

/// Where the new ones begin: beyond all that were tried by hand.
const FIRST_NEW: u64 = 1 << 32;

struct Broken {
    promise: String,
    task: Option<String>,
    text: String,
}

/// Runs one history; `None` if all promises held.
fn run(seed: u64, plan: &Arc<Plan>, keep_lines: bool) -> (Option<Broken>, Cluster) {
    let mut cluster = Cluster::new(seed, plan.clone(), keep_lines);
    let outcome = catch_unwind(AssertUnwindSafe(|| cluster.run()));
    let broken = match outcome {
        Ok(()) => cluster.oracle.broken.as_ref().map(|broken| Broken {
            promise: broken.promise.to_owned(),
            task: broken.task.clone(),
            text: broken.text.clone(),
        }),
        Err(panic) => Some(Broken {
            promise: "panic".to_owned(),
            task: None,
            text: panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default(),
        }),
    };
    (broken, cluster)
}

/// Panics with the promise, the seed, and the end of the history as far as it concerns the task.
fn report(seed: u64, plan: &Arc<Plan>, broken: &Broken) -> ! {
    let plan = match std::env::var_os("SIM_SHRINK") {
        None => plan.clone(),
        Some(_) => shrink(seed, plan, |again| again.promise == broken.promise),
    };
    let (again, cluster) = run(seed, &plan, true);
    let Some(broken) = again else {
        panic!(
            "seed {seed} broke {}, but not when it was run again",
            broken.promise
        );
    };
    let task = if number("SIM_ALL", 0) == 1 {
        None
    } else {
        broken.task.as_deref()
    };
    let lines = cluster
        .trace
        .about(task, number("SIM_LINES", 200))
        .join("\n");
    panic!(
        "{lines}\n\n{} is broken by seed {seed} ({:?}) at step {}, task {:?}: {}\n\
         Run it again: SIM_SEED={seed} cargo test --test simulation one_seed -- --nocapture\n",
        broken.promise, plan.family, cluster.steps, broken.task, broken.text,
    );
}

/// Looks for a smaller plan that breaks the same.
fn shrink(seed: u64, plan: &Arc<Plan>, is_same: impl Fn(&Broken) -> bool) -> Arc<Plan> {
    let mut plan = plan.clone();
    let still =
        |candidate: &Arc<Plan>| run(seed, candidate, false).0.is_some_and(|it| is_same(&it));
    for _ in 0..2 {
        for index in (0..plan.faults.len()).rev() {
            let mut smaller = Plan::clone(&plan);
            smaller.faults.remove(index);
            let smaller = Arc::new(smaller);
            if still(&smaller) {
                plan = smaller;
            }
        }
        for size in [64, 16, 4, 1] {
            let mut end = plan.tasks.len();
            while end >= size {
                let mut smaller = Plan::clone(&plan);
                smaller.tasks.drain(end - size..end);
                let smaller = Arc::new(smaller);
                if still(&smaller) {
                    plan = smaller;
                }
                end -= size;
            }
        }
    }
    plan
}

/// Reads a number from the environment.
fn number<N: std::str::FromStr>(name: &str, default: N) -> N {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Returns the only family that is to be tried, if there is one.
fn family() -> Option<Family> {
    let name = std::env::var("SIM_FAMILY").ok()?;
    let family = serde_json::from_value(name.into());
    Some(family.expect("SIM_FAMILY must name a family, such as `Restarts`"))
}

fn count() -> u64 {
    number("SIM_SEEDS", SEEDS)
}

/// Tries all seeds of one family.
fn try_family(family: Family) {
    let mut steps = 0;
    let mut tried = 0;
    let mut pipelined = Pipelined::default();
    let first = number("SIM_FIRST", 0);
    for seed in first..first + count() {
        let plan = Arc::new(Plan::draw(seed));
        if plan.family != family {
            continue;
        }
        let (broken, cluster) = run(seed, &plan, false);
        steps += cluster.steps;
        pipelined.given += cluster.pipelined.given;
        pipelined.taken_back += cluster.pipelined.taken_back;
        pipelined.too_late += cluster.pipelined.too_late;
        tried += 1;
        if let Some(broken) = broken {
            report(seed, &plan, &broken);
        }
    }
    println!("{family:?}: {tried} histories, {steps} events, {pipelined:?}");
    assert!(
        tried < 100 || (pipelined.given > 0 && pipelined.taken_back > 0),
        "pipelines are hardly tried: {pipelined:?}"
    );
}

/// Tries seeds that no run has tried before: they begin at the time of day.
#[test]
fn all_promises_hold_in_new_histories() {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let first = FIRST_NEW + since.as_millis() as u64;
    let count = number("SIM_NEW", NEW_SEEDS);
    // Written past the capture of output, so that it is seen when all is well, too.
    writeln!(
        std::io::stderr(),
        "{count} new histories, from seed {first} on"
    )
    .unwrap();
    let family = family();
    let of_family = |plan: &Plan| family.is_none_or(|it| it == plan.family);
    let plans = (first..).map(|seed| (seed, Arc::new(Plan::draw(seed))));
    for (seed, plan) in plans.filter(|(_, plan)| of_family(plan)).take(count) {
        if let (Some(broken), _) = run(seed, &plan, false) {
            report(seed, &plan, &broken);
        }
    }
}

#[test]
fn all_promises_hold_in_calm_histories() {
    try_family(Family::Calm);
}

#[test]
fn g6_one_worker_starts_by_priority_then_first_come() {
    try_family(Family::Order);
}

#[test]
fn g5_g6_no_worker_idles_and_nothing_urgent_waits_under_load() {
    try_family(Family::Load);
}

#[test]
fn what_becomes_of_one_scheduler_is_nothing_to_another() {
    try_family(Family::Fleet);
}

#[test]
fn g9_short_cuts_rerun_nothing_and_lose_nothing() {
    try_family(Family::Cuts);
}

#[test]
fn g8_dead_nodes_are_noticed_in_time_and_lose_nothing() {
    try_family(Family::Kills);
}

#[test]
fn g1_g9_a_store_carries_all_over_restarts() {
    try_family(Family::Restarts);
}

#[test]
fn g1_g9_a_crash_at_any_batch_loses_nothing_and_reruns_nothing() {
    for seed in [13] {
        let plan = Plan::draw(seed);
        assert_eq!(plan.family, Family::Restarts);
        let (broken, undisturbed) = run(seed, &Arc::new(plan.dying_with(0, false)), false);
        assert!(broken.is_none(), "seed {seed}");
        let last = undisturbed.last_batch();
        assert!(last > 50, "{last} batches are few");
        for batch in 1..=last {
            for keeps in [false, true] {
                let plan = Arc::new(plan.dying_with(batch, keeps));
                if let (Some(broken), _) = run(seed, &plan, false) {
                    eprintln!("it dies with batch {batch}, which is stored: {keeps}");
                    report(seed, &plan, &broken);
                }
            }
        }
    }
}

#[test]
fn all_promises_hold_whatever_goes_wrong() {
    try_family(Family::Everything);
}

/// Checks that a second run in the same process is like the first: it would differ if any hash
/// order or clock reached an effect.
#[test]
fn one_seed_gives_one_history() {
    for seed in 0..40 {
        let plan = Arc::new(Plan::draw(seed));
        let (_, first) = run(seed, &plan, true);
        let (_, second) = run(seed, &plan, true);
        assert_eq!(first.trace.lines(), second.trace.lines(), "seed {seed}");
        let (_, third) = run(seed, &plan, false);
        assert_eq!(first.trace.hash(), third.trace.hash(), "seed {seed}");
    }
}

/// Tells what breaks, as it is found, and counts it by promise, of one `SIM_FAMILY` or of all: for
/// whoever works on the machines.
#[test]
#[ignore = "a survey of what is broken, for a reader"]
fn survey() {
    let mut broken_by: std::collections::BTreeMap<String, u64> = Default::default();
    std::panic::set_hook(Box::new(|_| {}));
    let first = number("SIM_FIRST", 0);
    let family = family();
    // In hundredths of the tasks.
    let mut most = [(0, 0, 0); 2];
    for seed in first..first + count() {
        let plan = Arc::new(Plan::draw(seed));
        if family.is_some_and(|family| family != plan.family) {
            continue;
        }
        let (broken, cluster) = run(seed, &plan, false);
        let cost = [cluster.oracle.refusals, cluster.oracle.reroutes];
        let tasks = plan.tasks.len().max(1) as u64;
        for (of, most) in cost.into_iter().zip(&mut most) {
            *most = (*most).max((of * 100 / tasks, seed, of));
        }
        if let Some(broken) = broken {
            let promise = format!("{} in {:?}", broken.promise, plan.family);
            let text: String = broken.text.chars().take(300).collect();
            println!("{seed}: {promise}: {text}");
            *broken_by.entry(promise).or_default() += 1;
        }
    }
    println!("most refusals, and most reroutes: {most:?}");
    for (promise, seeds) in broken_by {
        println!("{promise}: {seeds} seeds");
    }
}

#[test]
fn kept_plans_show_what_they_are_known_to_show() {
    kept::try_all();
}

#[test]
fn a_kept_plan_is_read_as_it_was_written() {
    (0..200).for_each(kept::write_and_read);
}

/// Runs one seed, from `SIM_SEED`, or one kept plan, from `SIM_KEPT`, and prints its history.
#[test]
fn one_seed() {
    let (seed, plan) = match (std::env::var("SIM_SEED"), std::env::var("SIM_KEPT")) {
        (Ok(seed), _) => {
            let seed = seed.parse().expect("SIM_SEED must be a number");
            (seed, Arc::new(Plan::draw(seed)))
        }
        (_, Ok(name)) => kept::open(&name),
        _ => return,
    };
    let (broken, cluster) = run(seed, &plan, true);
    if let (Some(broken), Ok(name)) = (&broken, std::env::var("SIM_KEEP")) {
        kept::keep(&name, seed, &plan, broken);
    }
    match broken {
        Some(broken) => report(seed, &plan, &broken),
        None => println!("{}\nseed {seed} holds", cluster.trace.lines().join("\n")),
    }
}
