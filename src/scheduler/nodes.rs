//! What the handle of a scheduler does with its nodes.
//!
//! Owns: the methods that add nodes, take them out, and set their workers. Does not know: what
//! follows for their tasks; that goes to the actor as a message.

use std::sync::Arc;

use super::Scheduler;
use crate::actors::{AddNode, DeclareDead, DrainNode, RemoveNode, SetWorkers};
use crate::error::NodeError;
use crate::node::{Node, Place};

impl Scheduler {
    /// Adds a node, and waits until it is up.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.add_node(Node::connect("node-2", "10.0.0.3:7000").max_workers(8)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the node is added; [`Scheduler::stats`] tells. A
    /// node of this process that is not added ends.
    ///
    /// # Errors
    ///
    /// [`NodeError`]; one that cannot be reached is not added. One that worked for this scheduler
    /// before a restart, by what the store says, is: it may still be at work, and is dialled until
    /// it answers or is lost.
    pub async fn add_node(&self, node: Node) -> Result<(), NodeError> {
        node.check_settings()
            .map_err(|error| NodeError::Invalid(error.to_string()))?;
        node.check_trust(&self.inner.trust)
            .map_err(|error| NodeError::Invalid(error.to_string()))?;
        let adding = match node.place {
            Place::Connect {
                address,
                workers,
                refusal_means_dead,
                ..
            } => AddNode {
                refusal_means_dead,
                workers,
                ..AddNode::connect(node.name, address)
            },
            Place::Local(local) => self
                .inner
                .threads
                .start_local(Arc::clone(&node.name), *local, &self.inner.inbox)
                .await
                .map_err(|error| NodeError::Invalid(error.to_string()))?,
        };
        self.ask(adding).await
    }

    /// Takes a node out. Answers at once, and tells the node to leave as soon as it can be reached;
    /// it then stops what it runs for this scheduler.
    ///
    /// Its tasks go elsewhere at once, whether the stopped runs have ended or not. An exclusive
    /// task, and a key, wait until none of them can still be going on: for the node's goodbye,
    /// which comes when its last handler has returned, or for a proof that its process is dead. A
    /// node that cannot be reached is waited for until its lease is over. After that its removal is
    /// the caller's word that it is dead: even a run whose handler blocks is waited for no longer.
    /// If you know sooner, call [`Scheduler::declare_dead`]. Until then the name is taken.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.remove_node("node-2").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; [`Scheduler::stats`] tells.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotFound`], [`NodeError::Stopped`].
    pub async fn remove_node(&self, name: &str) -> Result<(), NodeError> {
        let message = RemoveNode(name.to_owned());
        self.ask(message).await
    }

    /// Declares that no process of a node is alive any more, since its machine was turned off, say.
    /// It is lost at once, without the end of its lease, and so are processes that another has
    /// replaced under its name. What waited for the end of a run there goes on: an exclusive task
    /// whose handler blocks waits for nothing but this, if nobody can see whether the process
    /// lives. One that is heard is alive, and is left alone. The node stays, and is used again when
    /// it comes; a node that was removed is forgotten.
    ///
    /// If this is not true, an exclusive task may run twice at once.
    ///
    /// ```no_run
    /// # use callboard::{Scheduler, error::NodeError};
    /// # async fn example(scheduler: Scheduler) -> Result<(), NodeError> {
    /// // Its machine has burnt down.
    /// scheduler.declare_dead("node-1").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::Alive`] if the node was heard within two heartbeats and nothing else is waited
    /// for under its name, [`NodeError::NotFound`], [`NodeError::Stopped`].
    pub async fn declare_dead(&self, name: &str) -> Result<(), NodeError> {
        let message = DeclareDead(name.to_owned());
        self.ask(message).await
    }

    /// Gives a node nothing new, and waits until nothing runs there any more: until its process has
    /// said goodbye or is known to be dead. A node that has not come so far, or whose process has
    /// ended, is done at once, and drains when it comes. A new process in the place of one that was
    /// drained takes tasks again.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.drain_node("node-2").await?;
    /// // Nothing runs there any more: its machine may be restarted.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, the node drains, whether or not this is awaited to its end. Calling it again
    /// waits again.
    ///
    /// # Errors
    ///
    /// [`NodeError::Unreachable`] if the node is lost, before or meanwhile: runs may be going on
    /// there. If it returns it drains; if it is known to be dead, declare it dead.
    /// [`NodeError::NotFound`], [`NodeError::Stopped`].
    pub async fn drain_node(&self, name: &str) -> Result<(), NodeError> {
        let message = DrainNode(name.to_owned());
        self.ask(message).await
    }

    /// Sets how many workers a node may use. What runs goes on if there are fewer.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.set_workers("node-2", 16).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::NotFound`], [`NodeError::Stopped`], and [`NodeError::Invalid`] for more than
    /// 1,000,000.
    pub async fn set_workers(&self, node: &str, workers: u32) -> Result<(), NodeError> {
        let node = Some(node.to_owned());
        let message = SetWorkers { node, workers };
        self.ask(message).await
    }

    /// Sets how many workers each present and future node may use.
    ///
    /// ```no_run
    /// # use callboard::*;
    /// # async fn example(scheduler: Scheduler) -> Result<(), Box<dyn std::error::Error>> {
    /// scheduler.set_all_workers(4).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Once polled, it may be done or not; doing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`], and [`NodeError::Invalid`] for more than 1,000,000.
    pub async fn set_all_workers(&self, workers: u32) -> Result<(), NodeError> {
        let message = SetWorkers {
            node: None,
            workers,
        };
        self.ask(message).await
    }
}
