//! The link between a scheduler and a node in the same process: two inboxes.
//!
//! Owns: the ways out on both sides. Does not know: what passes.

use crate::actors::node::RunningNode;
use crate::actors::scheduler::{Incoming, NodeOutlet};
use crate::actors::{Outlet, Ports};
use crate::engine::message::{ToNode, ToScheduler};
use crate::engine::node::NodeEvent;
use crate::engine::{Event, LinkId};
use crate::inbox::Inbox;

/// From the scheduler to the node.
struct Down {
    link: LinkId,
    ports: Ports,
}

impl NodeOutlet for Down {
    fn send(&self, message: ToNode) {
        self.ports.inbox().push(NodeEvent::Message {
            link: self.link,
            message,
        });
    }

    fn close(&self, reason: String) {
        self.ports.detach(self.link, reason);
    }
}

/// From the node to the scheduler.
struct Up {
    link: LinkId,
    inbox: Inbox<Incoming>,
}

impl Outlet for Up {
    fn send(&self, message: ToScheduler) {
        self.inbox.push(Incoming::message(self.link, message));
    }

    fn close(&self, reason: String) {
        self.inbox.push(Incoming::Event(Event::LinkClosed {
            link: self.link,
            reason,
        }));
    }
}

/// Joins a node of this process to a scheduler's inbox; returns the scheduler's way out.
pub(crate) fn join(
    link: LinkId,
    node: &RunningNode,
    inbox: &Inbox<Incoming>,
) -> Box<dyn NodeOutlet> {
    node.ports.attach(
        link,
        None,
        Box::new(Up {
            link,
            inbox: inbox.clone(),
        }),
    );
    Box::new(Down {
        link,
        ports: node.ports.clone(),
    })
}
