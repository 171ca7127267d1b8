//! What the picture of the README shows: a shop whose cluster is busy.
//!
//! Owns: its kinds of tasks, and how much of each comes when. Does not know: browsers.

use std::sync::Arc;
use std::time::Duration;

use callboard::dashboard::Colour;
use callboard::{Execute, Handlers, Node, Priority, RetryPolicy, Scheduler, Store, TaskError};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::board::{Board, Busy};

/// How many nodes there are, each with four workers.
pub const NODES: usize = 5;

/// How often tasks are handed in.
const TICK: Duration = Duration::from_millis(100);

/// After so many ticks less comes in than before, and after as many again more.
const WAVE: u64 = 112;

/// The kinds, their priorities, and how many of each come in a thousand ticks.
const KINDS: [(&str, i8, u64); 4] = [
    ("mail", 10, 2_100),
    ("thumbnail", 0, 4_500),
    ("import", 0, 750),
    ("report", -10, 190),
];

/// Starts the shop.
pub async fn start() -> Board {
    let folder = tempfile::tempdir().expect("a directory for the store");
    let mut builder = Scheduler::builder("orders")
        .store(Store::file(folder.path().join("tasks.redb")))
        .retry(RetryPolicy::fixed(Duration::from_secs(2)).max_attempts(3))
        .no_client();
    for number in 1..=NODES {
        let node = Node::local(format!("node-{number}"), handlers());
        builder = builder.node(node.max_workers(4).threads(1));
    }
    let scheduler = builder.start().await.expect("the scheduler starts");
    Board::of(
        scheduler,
        "shop",
        Colour::Blue,
        Arc::new(Notify::new()),
        folder,
    )
}

/// Hands in tasks for as long as what is returned lives, more and fewer in turn.
pub fn keep_busy(board: &Board) -> Busy {
    let scheduler = board.scheduler.clone();
    Busy(actix_web::rt::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        for tick in 0u64.. {
            ticks.tick().await;
            // It is refused only when all is over.
            let _ = scheduler.execute_many(due_at(tick)).await;
        }
    }))
}

/// Returns what comes in at a tick: it rises and falls in turn, with a little of chance in it.
fn due_at(tick: u64) -> Vec<Execute> {
    let phase = tick % (2 * WAVE);
    let percent = 50 + 60 * phase.min(2 * WAVE - phase) / WAVE;
    let mut tasks = Vec::new();
    for (kind, priority, in_a_thousand_ticks) in KINDS {
        let thousandths = in_a_thousand_ticks * percent / 100;
        let chance = mixed(tick ^ in_a_thousand_ticks) % 1_000;
        let many = (thousandths + chance) / 1_000;
        tasks.extend((0..many).map(|number| {
            let task = Execute::named(kind, &(tick * 10 + number)).expect("it can be encoded");
            task.priority(Priority(priority))
        }));
    }
    tasks
}

/// Returns a number that looks like chance, always the same for the same.
fn mixed(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33
}

fn handlers() -> Handlers {
    let takes = |least: u64, most: u64, number: u64| {
        sleep(Duration::from_millis(
            least + mixed(number) % (most - least),
        ))
    };
    Handlers::new()
        .on("thumbnail", async move |number: u64| {
            takes(80, 300, number).await;
            match mixed(number) % 60 {
                0 => Err(TaskError::retry("the image store is busy")),
                _ => Ok(number),
            }
        })
        .on("mail", async move |number: u64| {
            takes(20, 90, number).await;
            Ok(number)
        })
        .on("import", async move |number: u64| {
            takes(400, 1_200, number).await;
            match mixed(number) % 15 {
                0 => Err(TaskError::permanent("line 17 has no price")),
                _ => Ok(number),
            }
        })
        .on("report", async move |number: u64| {
            takes(1_200, 2_600, number).await;
            Ok(number)
        })
}
