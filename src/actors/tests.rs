//! What the tests of the actors and of the handlers share.

pub(crate) mod lone_node;

use tokio::runtime::{Builder, Runtime};

/// Makes a runtime of one thread whose clock stands while something can be done.
pub(crate) fn paused_runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}
