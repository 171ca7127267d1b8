//! G8: a node that stays away is dialled again at once after a dial that hung.
//!
//! Owns: the dials of this scheduler that ended without an answer. Does not know: what a link says.

use std::collections::BTreeMap;
use std::sync::Arc;

use callboard::__internals::engine::{Event, LinkId, NodeId};

use crate::cluster::Cluster;
use crate::plan::{MS, Time, nanos};

/// A dial that took as long as this has waited out the interval before the next.
const INTERVAL: Time = 500 * MS;
/// What lies between a dial's end and the next, in a scheduler that is awake.
const AT_ONCE: Time = 20 * MS;

#[derive(Default)]
pub struct Dials {
    begun: BTreeMap<NodeId, Time>,
    /// When a dial that had hung ended, while nothing else has come in.
    hung: BTreeMap<NodeId, Time>,
    /// When a message of each node was read last.
    read: BTreeMap<Arc<str>, Time>,
}

impl Dials {
    /// Forgets the dials of a node that was added: it may have the number of one of its name that
    /// was removed.
    pub fn added(&mut self, node: NodeId) {
        self.begun.remove(&node);
        self.hung.remove(&node);
    }

    pub fn heard(&mut self, now: Time, event: &Event) {
        match event {
            Event::DialFailed {
                node,
                refused: false,
                ..
            } => {
                let begun = self.begun.remove(node);
                if begun.is_some_and(|begun| begun + INTERVAL <= now) {
                    self.hung.insert(*node, now);
                }
            }
            Event::Probed { .. } => {}
            // It may be a reason to wait, or none to dial.
            _ => self.hung.clear(),
        }
    }
}

impl Cluster {
    /// Notes that a message of a node is read.
    pub fn hear_of_node(&mut self, link: LinkId) {
        if !self.oracle.closed.contains(&link) {
            let proc = self.links[self.link_index(link)].proc;
            let name = Arc::clone(&self.procs[proc].name);
            self.oracle.dials.read.insert(name, self.now);
        }
    }

    /// Returns whether the node at this address was heard until a moment ago, and so had not to be
    /// dialled. The tick at which its silence has lasted long enough may be late.
    fn has_just_fallen_silent(&self, address: &str) -> bool {
        let silence = 2 * nanos(self.plan.config.heartbeat);
        let moment = AT_ONCE + self.plan.late;
        let read = self.oracle.dials.read.get(address);
        read.is_some_and(|read| read + silence + moment >= self.now)
    }

    pub fn judge_dial(&mut self, node: NodeId, address: &str) {
        let now = self.now;
        self.oracle.dials.begun.insert(node, now);
        let Some(hung) = self.oracle.dials.hung.remove(&node) else {
            return;
        };
        // One that drains is dialled less often.
        let excused = self.oracle.scheduler_late_until >= hung || self.oracle.has_drained;
        if !excused && now > hung + AT_ONCE && !self.has_just_fallen_silent(address) {
            let text = format!(
                "{node} was dialled {} ms after a dial that hung",
                (now - hung) / MS
            );
            self.oracle.fail("G8", None, text);
        }
    }
}
