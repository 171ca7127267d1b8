//! callboard
#![allow(missing_docs)]

pub mod actors;
pub mod clock;
pub mod config;
mod encoding;
pub mod engine;
pub mod error;
pub mod execute;
pub mod handlers;
mod host;
pub mod inbox;
mod local;
pub mod net;
mod node;
pub mod retry;
mod scheduler;
pub mod stats;
pub mod status;
pub mod task;

pub use actors::Shutdown;
pub use actors::node::NodeActor;
pub use actors::scheduler::{ClientGone, SchedulerActor};
pub use actors::worker::WorkerActor;
pub use config::{NodeConfig, SchedulerConfig};
pub use engine::node::Gone;
pub use engine::scheduler::Leftovers;
pub use execute::{Execute, ExecuteMany};
pub use handlers::{Call, Handlers, Task, TaskContext, TaskError};
pub use node::{Node, NodeBuilder, NodeHandle, node};
pub use retry::RetryPolicy;
pub use scheduler::{Scheduler, SchedulerBuilder};
pub use status::{CancelAnswer, Cause, Failure, Outcome, TaskEvent, TaskStatus};
pub use task::{Dispatch, Priority, TaskId, TaskKey};
