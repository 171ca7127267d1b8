//! Whoever waits for a node to be up, or to have left.
//!
//! Owns: the senders of these answers. Does not know: when a node is up or has left.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::engine::{NodeId, Note};
use crate::error::NodeError;
use crate::stats::{NodeState, Stats};

/// `Err` says why the first try to reach it failed.
type Reached = Result<(), String>;
/// `Err` says that the node was lost, and that runs may be going on there.
type Left = Result<(), NodeError>;

/// See the module.
#[derive(Default)]
pub(super) struct Nodes {
    up: HashMap<NodeId, Vec<oneshot::Sender<Reached>>>,
    left: HashMap<String, Vec<oneshot::Sender<Left>>>,
}

impl Nodes {
    /// Waits until a node is up, unless it is, or the first try to reach it has failed.
    pub fn expect(&mut self, node: NodeId, is_up: bool) -> oneshot::Receiver<Reached> {
        let (tx, rx) = oneshot::channel();
        if is_up {
            // The receiver is at hand.
            let _ = tx.send(Ok(()));
        } else {
            self.up.entry(node).or_default().push(tx);
        }
        rx
    }

    /// Waits until a drained node has left; not if it is lost, or if nothing can run there.
    pub fn expect_left(&mut self, stats: &Stats, name: &str) -> oneshot::Receiver<Left> {
        let (tx, rx) = oneshot::channel();
        let node = stats.nodes.iter().find(|node| &*node.name == name);
        let answer = match node {
            None => Ok(()),
            Some(node) => match node.state {
                NodeState::Connecting => Ok(()),
                // No incarnation of it is known: its process has ended.
                NodeState::Lost if node.incarnation.is_none() => Ok(()),
                NodeState::Lost => Err(lost(name, &node.reason)),
                _ => {
                    self.left.entry(name.to_owned()).or_default().push(tx);
                    return rx;
                }
            },
        };
        // The receiver is at hand.
        let _ = tx.send(answer);
        rx
    }

    pub fn note(&mut self, note: &Note) {
        match note {
            Note::NodeUp { node, .. } => self.reached(*node, &Ok(())),
            Note::NodeRefused {
                node: Some(node),
                reason,
                ..
            } => self.reached(*node, &Err(reason.clone())),
            Note::NodeLeft { name, .. }
            | Note::NodeLost {
                name, dead: true, ..
            } => {
                self.left(name, &Ok(()));
            }
            Note::NodeLost { name, reason, .. } => self.left(name, &Err(lost(name, reason))),
            _ => {}
        }
    }

    fn left(&mut self, name: &str, left: &Left) {
        for waiting in self.left.remove(name).unwrap_or_default() {
            // Whoever has dropped the request does not want to know.
            let _ = waiting.send(left.clone());
        }
    }

    fn reached(&mut self, node: NodeId, reached: &Reached) {
        for waiting in self.up.remove(&node).unwrap_or_default() {
            // Whoever has dropped the request does not want to know.
            let _ = waiting.send(reached.clone());
        }
    }
}

fn lost(name: &str, reason: &str) -> NodeError {
    NodeError::Unreachable {
        name: name.to_owned(),
        reason: reason.to_owned(),
    }
}
