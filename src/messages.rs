//! The messages that an application may send to a scheduler's address.
//!
//! [`Scheduler`](crate::Scheduler) has a method for each of them, which is the plain way. An actor
//! that holds only the address ([`Scheduler::addr`](crate::Scheduler::addr)) sends the message:
//! with `send` to hear the answer, with `do_send` if it does not want one. A scheduler that has
//! ended answers with [`Stopped`](crate::error::Stopped), or not at all, which actix tells as
//! `MailboxError::Closed`.
//!
//! ```
//! use callboard::messages::{Execute, GetStats, Shutdown};
//! use callboard::{Handlers, Node, Scheduler};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # actix::System::new().block_on(async {
//! let handlers = Handlers::new().on("double", async |n: u64| Ok(2 * n));
//! let scheduler = Scheduler::builder("messages")
//!     .node(Node::local("here", handlers))
//!     .no_client()
//!     .start()
//!     .await?;
//!
//! let address = scheduler.addr().clone();
//! address.send(Execute::named("double", &21u64)?).await??;
//! let stats = address.send(GetStats).await??;
//! assert_eq!(stats.nodes.len(), 1);
//! address.send(Shutdown::Drain(std::time::Duration::from_secs(5))).await??;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! This module owns nothing: it says which messages are public.

pub use crate::actors::kinds::{CloseIntake, OpenIntake, Pause, Resume, SetLimit};
pub use crate::actors::{
    AddNode, Cancel, DeclareDead, DrainNode, Explain, GetStats, GetTrail, GetUnfinished, NoClient,
    RemoveNode, SetClient, SetRetry, SetWorkers, Shutdown,
};
pub use crate::execute::{Execute, ExecuteMany};
