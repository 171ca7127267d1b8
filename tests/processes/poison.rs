//! Handlers that do what no handler should: each harms its process in a way of its own.
//!
//! Owns: the harm, and the limit that keeps it from the machine. Which of them a node survives is
//! for the tests to say.

use callboard::{Handlers, TaskError};
use rustix::process::{Resource, Rlimit, setrlimit};

/// What a process that leaks takes at a time.
const BITE: usize = 16 << 20;

pub fn add_to(handlers: Handlers) -> Handlers {
    handlers
        .on("abort", async |(): ()| -> Result<(), TaskError> {
            std::process::abort()
        })
        .on("overflow", async |(): ()| Ok(sink(0)))
        .on_blocking("overflow.blocking", |(): ()| Ok(sink(0)))
        .on("leak", leak)
        // Never awaits, and never ends.
        .on("spin", async |(): ()| -> Result<(), TaskError> {
            loop {
                std::hint::spin_loop();
            }
        })
}

/// Needs more stack than any thread has.
fn sink(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 128]);
    if depth == u64::MAX {
        return 0;
    }
    // Used after the call, so that the frame stays.
    sink(depth + 1) + std::hint::black_box(frame)[0]
}

/// Takes memory, and lets others have their turn, until there is none.
async fn leak((): ()) -> Result<(), TaskError> {
    let mut taken = Vec::new();
    loop {
        // Written, so that it is memory and not a promise.
        taken.push(vec![1u8; BITE]);
        tokio::task::yield_now().await;
    }
}

/// Bounds what this process may write to, so that a leak ends it and not the machine; and leaves no
/// core behind.
pub fn limit(memory: Option<u64>) {
    let both = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Core, both(0)).unwrap();
    if let Some(memory) = memory {
        setrlimit(Resource::Data, both(memory)).unwrap();
    }
}
