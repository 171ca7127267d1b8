//! What is done as soon as a scheduler runs: its client is set, and its nodes are reached.
//!
//! Nodes that join are let in between the two: while the start waits for one that is silent,
//! another may be at work for the scheduler since before a restart, and is to be heard.
//!
//! Owns: how long the start waits for them, and which of them must be up. Does not know: how a node
//! is reached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::Request;

use super::ClientChoice;
use crate::actors::AddNode;
use crate::actors::scheduler::SchedulerActor;
use crate::error::{NodeError, StartError};
use crate::node::{Node, Place};
use crate::scheduler::Scheduler;

impl Scheduler {
    /// Sets the client.
    pub(super) async fn begin(&self, client: ClientChoice) {
        // It has just started; if its System is stopping, its nodes will say so.
        let _ = match client {
            ClientChoice::Next => Ok(()),
            ClientChoice::Nobody => self.no_client().await,
            ClientChoice::Is(client) => self.set_client(client).await,
        };
    }

    /// Reaches the nodes.
    pub(super) async fn reach(
        &self,
        nodes: Vec<Node>,
        timeout: Duration,
        require_all: bool,
        others_may_join: bool,
    ) -> Result<(), StartError> {
        let mut waiting = HashMap::new();
        for node in nodes {
            let name = node.name;
            let adding = match node.place {
                Place::Connect {
                    address,
                    workers,
                    refusal_means_dead,
                    ..
                } => AddNode {
                    refusal_means_dead,
                    keep: true,
                    workers,
                    ..AddNode::connect(Arc::clone(&name), address)
                },
                Place::Local(local) => {
                    self.inner
                        .threads
                        .start_local(Arc::clone(&name), *local, &self.inner.inbox)
                        .await?
                }
            };
            let up = self.inner.addr.send(adding);
            if waiting.insert(name.to_string(), up).is_some() {
                return Err(NodeError::NameTaken(name.to_string()).into());
            }
        }
        let total = waiting.len();
        let reached = self
            .inner
            .threads
            .host
            .on_control(reached(waiting, timeout));
        let failed = reached.await.map_err(StartError::Thread)??;
        let none = failed.len() == total && !others_may_join;
        if !failed.is_empty() && (require_all || none) {
            return Err(StartError::Unreachable(failed));
        }
        Ok(())
    }
}

/// Waits for nodes to be up, so long at most. Returns those that are not, and why, in order of
/// name.
async fn reached(
    waiting: HashMap<String, Request<SchedulerActor, AddNode>>,
    timeout: Duration,
) -> Result<Vec<(String, String)>, NodeError> {
    let mut failed = Vec::new();
    // What no clock can tell is for ever.
    let until = tokio::time::Instant::now().checked_add(timeout);
    for (name, up) in waiting {
        let up = match until {
            Some(until) => tokio::time::timeout_at(until, up).await,
            None => Ok(up.await),
        };
        match up {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(NodeError::Unreachable { reason, .. }))) => failed.push((name, reason)),
            Ok(Ok(Err(error))) => return Err(error),
            Ok(Err(_)) => return Err(NodeError::Stopped),
            Err(_) => failed.push((name, format!("it did not answer within {timeout:?}"))),
        }
    }
    failed.sort();
    Ok(failed)
}
