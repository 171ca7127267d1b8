//! Where a node's machine meets the links that others carry.
//!
//! Owns: which link's messages go out where. Does not know: what is on the other side, a socket or a
//! scheduler in the same process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::LinkId;
use crate::engine::message::ToScheduler;
use crate::engine::node::NodeEvent;
use crate::inbox::Inbox;

/// The way out of one link. Must not block.
pub trait Outlet: Send {
    /// Sends a message. If the link is closed, it is dropped. Must not call its [`Ports`].
    fn send(&self, message: ToScheduler);
    /// Closes the link after what was sent before. Called once at most; [`Ports::detach`] follows, at once
    /// or in time.
    fn close(&self, reason: String);
}

/// What dials schedulers for a node that joins.
pub trait Dialler: Send {
    /// Dials. It must be answered once, by [`Ports::attach`] or by [`NodeEvent::DialFailed`] in the inbox of
    /// `ports`. Must not block.
    fn dial(&self, address: String, ports: &Ports);
}

/// The links of a node. Clones are the same.
///
/// After [`Ports::attach`] messages go into [`Ports::inbox`] as [`NodeEvent::Message`].
#[derive(Clone)]
pub struct Ports {
    inbox: Inbox<NodeEvent>,
    outlets: Arc<Mutex<HashMap<LinkId, Box<dyn Outlet>>>>,
}

impl Ports {
    pub(super) fn new(inbox: Inbox<NodeEvent>) -> Self {
        Self {
            inbox,
            outlets: Arc::default(),
        }
    }

    /// Where the node hears of what happens.
    pub fn inbox(&self) -> &Inbox<NodeEvent> {
        &self.inbox
    }

    /// A proved connection is open. `dialled` is the address, if the node had it dialled. What comes into
    /// the inbox after this call is heard after it.
    pub fn attach(&self, link: LinkId, dialled: Option<String>, outlet: Box<dyn Outlet>) {
        self.outlets().insert(link, outlet);
        self.inbox.push(NodeEvent::LinkOpened { link, dialled });
    }

    /// A connection is closed, by whichever side.
    pub fn detach(&self, link: LinkId, reason: String) {
        let outlet = self.outlets().remove(&link);
        drop(outlet);
        self.inbox.push(NodeEvent::LinkClosed { link, reason });
    }

    pub(super) fn send(&self, link: LinkId, message: ToScheduler) {
        if let Some(outlet) = self.outlets().get(&link) {
            outlet.send(message);
        }
    }

    pub(super) fn close(&self, link: LinkId, reason: String) {
        // Out of the lock first: closing may lead to `detach` at once.
        let outlet = self.outlets().remove(&link);
        if let Some(outlet) = outlet {
            outlet.close(reason);
        }
    }

    pub(super) fn close_all(&self, reason: &str) {
        let outlets = std::mem::take(&mut *self.outlets());
        for outlet in outlets.into_values() {
            outlet.close(reason.to_owned());
        }
    }

    fn outlets(&self) -> MutexGuard<'_, HashMap<LinkId, Box<dyn Outlet>>> {
        // A panic of an outlet leaves the map whole.
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}
