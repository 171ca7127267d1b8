//! The tasks: a mixture, handed in evenly over the run.
//!
//! Owns: what is asked, and which ends are right for it. Does not know: nodes and their faults.

use std::time::{Duration, Instant};

use callboard::{Cause, Execute, Outcome, RetryPolicy, Scheduler, TaskId, TaskStatus};

use crate::AnyError;
use crate::ledger::Ledger;
use crate::node::{BLOCK, FAIL, LINGER, LOCK, LOCK_BLOCK, PANIC, QUICK, SLEEP, STUMBLE, Work};
use crate::settings::Settings;

/// How often tasks are handed in.
const TICK: Duration = Duration::from_millis(50);
/// The most that is handed in at once: what was held up comes in such steps.
const MOST: u64 = 2_000;

/// How many nodes a long task may lose: more than any plan takes from it.
const LOSSES: u32 = 100;

/// One task to hand in.
#[derive(Clone)]
struct Drawn {
    execute: Execute,
    /// Whether it is handed in twice.
    twice: bool,
    cancel: Option<Duration>,
}

impl Drawn {
    fn new(execute: Execute) -> Self {
        Self {
            execute,
            twice: false,
            cancel: None,
        }
    }
}

fn draw(rng: &mut fastrand::Rng, number: u64) -> Drawn {
    let call = |kind: &str, amount| Execute::raw(kind, Work { number, amount }.to_args());
    let retry = RetryPolicy::fixed(Duration::from_millis(50));
    if rng.u32(..500) == 0 {
        // Those that outlast a lease, and so may lose one node after another.
        let long = match rng.bool() {
            true => call(LOCK, rng.u32(3_000..10_000)).exclusive(),
            false => call(SLEEP, rng.u32(2_000..6_000)),
        };
        return Drawn::new(long.max_reroutes(LOSSES));
    }
    match rng.u32(..100) {
        0..50 => Drawn::new(call(QUICK, 0)),
        50..65 => Drawn::new(call(SLEEP, rng.u32(1..20))),
        65..75 => Drawn::new(call(BLOCK, rng.u32(1..5))),
        75..82 => Drawn::new(call(STUMBLE, rng.u32(2..4)).retry(retry.max_attempts(3))),
        82..85 => Drawn::new(call(FAIL, 0)),
        85..88 => Drawn::new(call(PANIC, 0).retry(retry.max_attempts(2))),
        88..92 => Drawn::new(call(LOCK, rng.u32(1..100)).exclusive()),
        92..93 => Drawn::new(call(LOCK_BLOCK, rng.u32(1..50)).exclusive()),
        93..96 => Drawn {
            twice: rng.bool(),
            ..Drawn::new(call(SLEEP, 5).key(format!("task {number}")))
        },
        96..98 => {
            let deadline = Duration::from_millis(rng.u64(1..150));
            Drawn::new(call(LINGER, rng.u32(1..150)).deadline(deadline))
        }
        _ => Drawn {
            cancel: Some(Duration::from_millis(rng.u64(0..30))),
            ..Drawn::new(call(LINGER, rng.u32(1..30)))
        },
    }
}

/// Why an ending is not right for its task, if so.
pub fn objection(status: &TaskStatus) -> Option<String> {
    let Some(work) = Work::from_args(&status.args) else {
        return Some(format!("the args of {} are not what they were", status.id));
    };
    let right = match (status.kind.as_str(), &status.outcome) {
        (LINGER, Outcome::Cancelled) => true,
        (LINGER, Outcome::Failed(failure)) => failure.cause == Cause::Deadline,
        (FAIL, Outcome::Failed(failure)) => failure.cause == Cause::Permanent,
        (PANIC, Outcome::Failed(failure)) => failure.cause == Cause::Panic,
        (FAIL | PANIC, _) => false,
        (_, Outcome::Completed(_)) => {
            status.output::<u64>() == Ok(work.number)
                && (status.kind.as_str() != STUMBLE || status.attempts == work.amount)
        }
        _ => false,
    };
    (!right).then(|| format!("{} ({}) {}", status.id, status.kind, status.outcome))
}

/// Hands in all tasks over the length of the run, and returns when all are accepted.
pub async fn hand_in(
    scheduler: &Scheduler,
    ledger: &Ledger,
    settings: &Settings,
) -> Result<(), AnyError> {
    let (total, length) = (settings.tasks, settings.length);
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let mut tick = tokio::time::interval(TICK);
    let started = Instant::now();
    let (mut drawn, mut again) = (0, Vec::new());
    while drawn < total || !again.is_empty() {
        tick.tick().await;
        let share = started.elapsed().div_duration_f64(length).min(1.0);
        let due = (total as f64 * share) as u64;
        let mut tasks = std::mem::take(&mut again);
        let most = due.min(drawn + MOST);
        for number in drawn..most {
            let task = draw(&mut rng, number);
            tasks.extend(task.twice.then(|| task.clone()));
            tasks.push(task);
        }
        drawn = most;
        let answers = scheduler
            .execute_many(tasks.iter().map(|task| task.execute.clone()).collect())
            .await;
        for (task, answer) in tasks.into_iter().zip(answers) {
            match answer {
                Ok(id) => accepted(scheduler, ledger, &task, id),
                // Its first task has settled, and its key will soon be free.
                Err(error) if error.refusal.is_temporary() => {
                    ledger.refused();
                    again.push(task);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn accepted(scheduler: &Scheduler, ledger: &Ledger, task: &Drawn, id: TaskId) {
    ledger.accepted(id);
    if let Some(after) = task.cancel {
        let scheduler = scheduler.clone();
        actix::spawn(async move {
            tokio::time::sleep(after).await;
            // The status tells what came of it, and a scheduler that has stopped is seen by all.
            let _ = scheduler.cancel(id).await;
        });
    }
}
