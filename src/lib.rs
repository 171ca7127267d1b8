//! A task scheduler for actix actors.
//!
//! A callboard is the notice board backstage on which actors find when and where they are called.
//! This crate is one for actix actors: it runs tasks on a cluster of nodes and tells the client, by
//! an actix message, how each one ended.
//!
//! ```
//! use actix::prelude::*;
//! use callboard::{Execute, Handlers, Node, Scheduler, Shutdown, TaskStatus};
//!
//! struct Client(tokio::sync::mpsc::UnboundedSender<u64>);
//!
//! impl Actor for Client {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<TaskStatus> for Client {
//!     type Result = ();
//!
//!     fn handle(&mut self, status: TaskStatus, _: &mut Self::Context) {
//!         let doubled = status.output::<u64>().expect("the handler does not fail");
//!         self.0.send(doubled).expect("somebody waits for it");
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # System::new().block_on(async {
//! let (tx, mut doubled) = tokio::sync::mpsc::unbounded_channel();
//! let client = Client(tx).start();
//!
//! let handlers = Handlers::new().on("double", async |n: u64| Ok(2 * n));
//! let scheduler = Scheduler::builder("example")
//!     .node(Node::local("here", handlers).max_workers(4))
//!     .client(client.recipient())
//!     .start()
//!     .await?;
//!
//! scheduler.execute(Execute::named("double", &21u64)?).await?;
//! assert_eq!(doubled.recv().await, Some(42));
//!
//! scheduler.shutdown(Shutdown::Now).await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # The parts
//!
//! An application holds a [`Scheduler`], gives it [`Node`]s, hands in [`Execute`]s and implements
//! `Handler<TaskStatus>`. The process of a node runs [`node()`]. What runs is registered in
//! [`Handlers`], by name or by a type that implements [`Task`].
//!
//! Inside there are four layers, and each knows only those before it:
//!
//! - values: [`task`], [`payload`], [`retry`], [`status`], [`stats`], [`config`], [`error`];
//! - the engine: it decides. Pure machines, without clock, chance or I/O, that a simulation drives
//!   through thousands of histories a second;
//! - the actors: they act. Mailboxes, timers and spawned futures, and the [`handlers`] with their
//!   [`TaskContext`]. What an application may send to a scheduler's address is in [`messages`];
//! - the edges: they carry the links between processes.
//!
//! Over them all stand the two handles, [`Scheduler`] and [`NodeHandle`].
//!
//! # What it promises
//!
//! Every accepted task has exactly one ending, whatever is lost, late or doubled. A task may run
//! more than once, and each run has a greater fencing number than every earlier one ([`Dispatch`]);
//! a task marked [`exclusive`](Execute::exclusive) never runs twice at once. A link that breaks and
//! returns within the lease reruns nothing. [`guide::guarantees`] has each promise with its limits.
//!
//! # Read on
//!
//! The [`guide`] has the documents: recipes, operations, a checklist for production, what to do
//! about which message, and how the library is built.

#![forbid(unsafe_code)]

mod actors;
mod client;
mod clock;
pub mod config;
mod contain;
#[cfg(feature = "dashboard")]
pub mod dashboard;
mod encoding;
mod engine;
pub mod error;
pub mod execute;
#[cfg(feature = "metrics")]
mod facade;
pub mod guide;
pub mod handlers;
mod host;
mod inbox;
mod limit;
mod links;
pub mod messages;
mod net;
mod node;
#[cfg_attr(not(feature = "otel"), path = "otel/off.rs")]
mod otel;
mod panics;
pub mod payload;
mod prometheus;
mod recorder;
mod repeats;
pub mod retry;
mod say;
mod scheduler;
pub mod search;
mod snapshot;
pub mod stats;
pub mod status;
#[cfg(feature = "store")]
mod store;
pub(crate) mod sync;
pub mod task;
mod testing;
#[cfg(any(feature = "cli", feature = "dashboard"))]
mod text;
pub mod trace;
pub mod trail;

pub use actors::Shutdown;
pub use actors::node::NodeActor;
pub use actors::scheduler::{ClientGone, SchedulerActor};
pub use actors::worker::WorkerActor;
pub use client::Client;
pub use config::{NodeConfig, SchedulerConfig};
#[cfg(feature = "store")]
pub use engine::keep::{Ended, Keep};
pub use execute::{Execute, ExecuteMany, Leftovers};
pub use handlers::{Call, Handlers, Task, TaskContext, TaskError};
pub use limit::Limit;
pub use net::LinkConfig;
#[cfg(feature = "tls")]
pub use net::Tls;
pub use node::{Node, NodeBuilder, NodeExit, NodeHandle, node};
pub use payload::Payload;
pub use retry::RetryPolicy;
#[cfg(feature = "store")]
pub use scheduler::{ExecutedAgain, ForgetError, SettledPage};
pub use scheduler::{Scheduler, SchedulerBuilder};
pub use search::TaskFilter;
pub use status::{CancelAnswer, Cause, Failure, Outcome, TaskEvent, TaskStatus};
#[cfg(feature = "store")]
pub use store::Store;
#[cfg(feature = "store")]
pub use store::retained::{Cursor as SettledCursor, SettledFilter};
pub use task::{Dispatch, Priority, TaskId, TaskKey};

/// What the tests, benches and fuzz targets of this crate need of its inside. It is no part of the
/// public interface, and changes with any release.
#[doc(hidden)]
pub mod __internals {
    /// The actors that do what the machines decide.
    pub mod actors {
        pub use crate::actors::*;
    }
    /// The clock that the machines are driven by.
    pub mod clock {
        pub use crate::clock::*;
    }
    /// The machines.
    pub mod engine {
        pub use crate::engine::*;
    }
    /// The queue beside a mailbox.
    pub mod inbox {
        pub use crate::inbox::*;
    }
    /// Both ends of a link.
    pub mod links {
        pub use crate::links::*;
    }
    /// Connections to other processes.
    pub mod net {
        pub use crate::net::*;
    }
    /// The log of a scheduler on disk.
    #[cfg(feature = "store")]
    pub mod store {
        pub use crate::store::*;
    }
    /// How names, spans and times read.
    #[cfg(any(feature = "cli", feature = "dashboard"))]
    pub mod text {
        pub use crate::text::*;
    }
    /// A driver of each machine.
    pub mod testing {
        pub use crate::testing::*;
    }
}

/// The examples of the README are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
