//! The actors, and every actix message that they take from outside.
//!
//! Owns: mailboxes, timers and spawned futures. Does not know: the rules. An `if` about tasks, nodes or
//! retries belongs to the engine.

use actix::Message;

use crate::engine::LinkId;

pub mod node;
pub mod worker;

mod crew;
mod line;
mod ports;
mod threads;

pub use ports::{Dialler, Outlet, Ports};
pub use threads::WorkerThreads;

/// To a [`NodeActor`](node::NodeActor): a proved connection is open. [`Ports::attach`] does the same from
/// any thread, at once.
pub struct Attach {
    /// The connection.
    pub link: LinkId,
    /// The address, if the node had it dialled.
    pub dialled: Option<String>,
    /// The way out.
    pub outlet: Box<dyn Outlet>,
}

impl Message for Attach {
    type Result = ();
}

/// To a [`NodeActor`](node::NodeActor): how many workers are taken now?
#[derive(Clone, Copy, Debug)]
pub struct Running;

impl Message for Running {
    type Result = usize;
}

/// To a [`NodeActor`](node::NodeActor): end, with all threads, now. What runs is dropped and nothing more is
/// reported. To stop in order, give the inbox [`NodeEvent::Drain`](crate::engine::node::NodeEvent::Drain) or
/// [`NodeEvent::Stop`](crate::engine::node::NodeEvent::Stop) and wait for
/// [`RunningNode::gone`](node::RunningNode::gone).
#[derive(Clone, Copy, Debug)]
pub struct Halt;

impl Message for Halt {
    type Result = ();
}
