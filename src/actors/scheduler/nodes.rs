//! Whoever waits for a node to be up, or to have left.
//!
//! Owns: the senders of these answers. Does not know: when a node is up or has left.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::engine::{NodeId, Note};
use crate::stats::{NodeState, Stats};

/// `Err` says why the first try to reach it failed.
type Reached = Result<(), String>;

/// See the module.
#[derive(Default)]
pub(super) struct Nodes {
    up: HashMap<NodeId, Vec<oneshot::Sender<Reached>>>,
    left: HashMap<String, Vec<oneshot::Sender<()>>>,
}

impl Nodes {
    /// Waits until a node is up, or the first try to reach it has failed.
    pub fn expect(&mut self, node: NodeId) -> oneshot::Receiver<Reached> {
        let (tx, rx) = oneshot::channel();
        self.up.entry(node).or_default().push(tx);
        rx
    }

    /// Waits until a drained node has left; at once if it is not there.
    pub fn expect_left(&mut self, stats: &Stats, name: &str) -> oneshot::Receiver<()> {
        let (tx, rx) = oneshot::channel();
        let there = stats.nodes.iter().any(|node| {
            &*node.name == name && !matches!(node.state, NodeState::Connecting | NodeState::Lost)
        });
        if there {
            self.left.entry(name.to_owned()).or_default().push(tx);
        } else {
            // The receiver is at hand.
            let _ = tx.send(());
        }
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
            Note::NodeLeft { name, .. } | Note::NodeLost { name, .. } => {
                for waiting in self.left.remove(&**name).unwrap_or_default() {
                    // Whoever has dropped the request does not want to know.
                    let _ = waiting.send(());
                }
            }
            _ => {}
        }
    }

    fn reached(&mut self, node: NodeId, reached: &Reached) {
        for waiting in self.up.remove(&node).unwrap_or_default() {
            // Whoever has dropped the request does not want to know.
            let _ = waiting.send(reached.clone());
        }
    }
}
