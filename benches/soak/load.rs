//! The tasks: a mixture, handed in evenly over the run.
//!
//! Owns: what is asked, and which ends are right for it. Does not know: nodes and their faults.

use std::time::Duration;

use callboard::{Cause, Execute, Outcome, RetryPolicy, Scheduler, TaskId, TaskStatus};

use crate::AnyError;
use crate::journal::now;
use crate::node::{BLOCK, FAIL, LINGER, LOCK, LOCK_BLOCK, PANIC, QUICK, SLEEP, STUMBLE, Work};
use crate::scheduler::Setup;
use crate::words::{Word, say};

/// How often tasks are handed in.
const TICK: Duration = Duration::from_millis(50);
/// The most that is handed in at once: what was held up comes in such steps.
const MOST: u64 = 2_000;

/// An odd number with which the seeds of following numbers have nothing in common.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// How many nodes a long task may lose: more than any plan takes from it.
const LOSSES: u32 = 100;

/// One task to hand in.
#[derive(Clone)]
struct Drawn {
    number: u64,
    execute: Execute,
    /// Whether it is handed in twice.
    twice: bool,
    cancel: Option<Duration>,
}

impl Drawn {
    fn new(number: u64, execute: Execute) -> Self {
        Self {
            number,
            execute,
            twice: false,
            cancel: None,
        }
    }
}

/// Draws the task of this number, whichever process does so.
fn draw(seed: u64, number: u64) -> Drawn {
    let mut rng = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(SPREAD));
    let call = |kind: &str, amount| Execute::raw(kind, Work { number, amount }.to_args());
    let retry = RetryPolicy::fixed(Duration::from_millis(50));
    if rng.u32(..500) == 0 {
        // Those that outlast a lease, and so may lose one node after another.
        let long = match rng.bool() {
            true => call(LOCK, rng.u32(3_000..10_000)).exclusive(),
            false => call(SLEEP, rng.u32(2_000..6_000)),
        };
        return Drawn::new(number, long.max_reroutes(LOSSES));
    }
    match rng.u32(..100) {
        0..50 => Drawn::new(number, call(QUICK, 0)),
        50..65 => Drawn::new(number, call(SLEEP, rng.u32(1..20))),
        65..75 => Drawn::new(number, call(BLOCK, rng.u32(1..5))),
        75..82 => Drawn::new(
            number,
            call(STUMBLE, rng.u32(2..4)).retry(retry.max_attempts(3)),
        ),
        82..85 => Drawn::new(number, call(FAIL, 0)),
        85..88 => Drawn::new(number, call(PANIC, 0).retry(retry.max_attempts(2))),
        88..92 => Drawn::new(number, call(LOCK, rng.u32(1..100)).exclusive()),
        92..93 => Drawn::new(number, call(LOCK_BLOCK, rng.u32(1..50)).exclusive()),
        93..96 => Drawn {
            twice: rng.bool(),
            ..Drawn::new(number, call(SLEEP, 5).key(format!("task {number}")))
        },
        96..98 => {
            let deadline = Duration::from_millis(rng.u64(1..150));
            Drawn::new(number, call(LINGER, rng.u32(1..150)).deadline(deadline))
        }
        _ => Drawn {
            cancel: Some(Duration::from_millis(rng.u64(0..30))),
            ..Drawn::new(number, call(LINGER, rng.u32(1..30)))
        },
    }
}

/// Returns why an ending is not right for its task, if so.
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

/// Hands in all tasks that are left, over the rest of the run, and returns when all are accepted.
pub async fn hand_in(scheduler: &Scheduler, setup: &Setup) -> Result<(), AnyError> {
    let mut tick = tokio::time::interval(TICK);
    let (mut drawn, mut again) = (setup.first, Vec::new());
    while drawn < setup.tasks || !again.is_empty() {
        tick.tick().await;
        let elapsed = Duration::from_nanos(now() - setup.began);
        let share = elapsed.div_duration_f64(setup.length).min(1.0);
        let due = (setup.tasks as f64 * share) as u64;
        let mut tasks = std::mem::take(&mut again);
        let most = due.min(drawn + MOST);
        for number in drawn..most {
            let task = draw(setup.seed, number);
            tasks.extend(task.twice.then(|| task.clone()));
            tasks.push(task);
        }
        drawn = drawn.max(most);
        say(&Word::HandingIn(
            tasks.iter().map(|task| task.number).collect(),
        ));
        let answers = scheduler
            .execute_many(tasks.iter().map(|task| task.execute.clone()).collect())
            .await;
        let mut accepted = Vec::new();
        for (task, answer) in tasks.into_iter().zip(answers) {
            match answer {
                Ok(id) => {
                    accepted.push(id.get());
                    cancel_later(scheduler, &task, id);
                }
                // Its first task has settled, and its key will soon be free.
                Err(error) if error.refusal.is_temporary() => again.push(task),
                Err(error) => return Err(error.into()),
            }
        }
        say(&Word::Answered {
            accepted,
            refused: again.len() as u64,
        });
    }
    Ok(())
}

fn cancel_later(scheduler: &Scheduler, task: &Drawn, id: TaskId) {
    if let Some(after) = task.cancel {
        let scheduler = scheduler.clone();
        actix::spawn(async move {
            tokio::time::sleep(after).await;
            // The status tells what came of it, and a scheduler that has stopped is seen by all.
            let _ = scheduler.cancel(id).await;
        });
    }
}
