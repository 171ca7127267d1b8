//! **What it shows.** An exclusive task, and a store that refuses what an older run writes.
//!
//! No two runs of an exclusive task overlap. A process that was frozen may still take one last step
//! when it wakes: only the fencing number stops that, if the store checks it.
//!
//! **How to run it.** `cargo run --example fencing`
//!
//! **What you will see.** The second attempt writes; then the write of an older run is refused.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Mutex;

use callboard::{Dispatch, Execute, Handlers, Node, Scheduler, Shutdown, TaskContext, TaskError};

/// A store that remembers with each row the highest number that wrote it. In SQL:
/// `UPDATE .. SET body = $1, fence = $2 WHERE id = $3 AND fence <= $2`.
#[derive(Default)]
struct Store(Mutex<HashMap<String, (u64, String)>>);

impl Store {
    fn write(&self, key: &str, body: &str, dispatch: Dispatch) -> Result<(), String> {
        let mut rows = self.0.lock().map_err(|broken| broken.to_string())?;
        let row = rows.entry(key.to_owned()).or_default();
        if dispatch.get() < row.0 {
            return Err(format!(
                "{dispatch} is older than #{}, which wrote {key}",
                row.0
            ));
        }
        *row = (dispatch.get(), body.to_owned());
        Ok(())
    }
}

async fn book(account: String, cx: TaskContext) -> Result<u64, TaskError> {
    if cx.attempt() == 1 {
        return Err(TaskError::retry("the first attempt fails before it writes"));
    }
    let store = cx.data::<Store>()?;
    let body = format!("booked by attempt {}", cx.attempt());
    // A refusal means that a later run has written: to try again would not help.
    let written = store.write(&account, &body, cx.dispatch());
    written.map_err(TaskError::permanent)?;
    println!("{account}: {body}, with the number {}", cx.dispatch());
    Ok(cx.dispatch().get())
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let handlers = Handlers::new().on("book", book).data(Store::default());
    let store = TaskContext::for_test_with(&handlers).data::<Store>();
    let store = store.map_err(|error| error.message().to_owned())?;
    let scheduler = Scheduler::builder("fencing")
        .node(Node::local("here", handlers))
        .no_client()
        .start()
        .await?;
    let execute = Execute::named("book", &"alice")?.exclusive();
    let number: u64 = scheduler.execute_and_wait(execute).await?.output()?;

    // What a process that slept through its lease would do on waking.
    let late = store.write("alice", "booked by nobody", Dispatch::new(number - 1));
    println!("the older run: {}", late.err().unwrap_or_default());
    scheduler.shutdown(Shutdown::Now).await?;
    Ok(())
}
