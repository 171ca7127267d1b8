//! The nodes of the scheduler's own process.
//!
//! Owns: how one is started and linked, and ended if it was not added after all. Does not know: what the scheduler
//! makes of it.

use std::sync::Arc;

use super::Threads;
use crate::actors::node::NodeParts;
use crate::actors::{AddNode, Halt, WorkerThreads};
use crate::engine::node::NodeSpec;
use crate::engine::{Epoch, Event, LinkId, Memory, Reach};
use crate::error::StartError;
use crate::inbox::Inbox;
use crate::links::{Incoming, join};
use crate::net::carrier::fresh_link;
use crate::node::{LocalNode, check_names, random};
use crate::sync::lock;

impl Threads {
    /// Ends a node of this process that was not added after all.
    pub(super) fn stop_local(&self, link: LinkId) {
        let mut nodes = lock(&self.nodes);
        if let Some(at) = nodes.iter().position(|(other, _)| *other == link) {
            let (_, node) = nodes.swap_remove(at);
            node.addr.do_send(Halt);
        }
    }

    /// Starts a node in this process; what it returns adds it to the scheduler.
    pub(super) async fn start_local(
        &self,
        name: Arc<str>,
        local: LocalNode,
        inbox: &Inbox<Incoming<Event>>,
    ) -> Result<AddNode, StartError> {
        local.config.validate()?;
        check_names(&name, &local.labels)?;
        local
            .handlers
            .validate()
            .map_err(|error| StartError::Handlers {
                node: name.to_string(),
                error,
            })?;
        let place = if self.current {
            WorkerThreads::Current
        } else {
            WorkerThreads::Own(local.config.threads)
        };
        let parts = NodeParts {
            place,
            spec: NodeSpec {
                name: Arc::clone(&name),
                epoch: Epoch(random()),
                memory: Memory(random()),
                kinds: Vec::new(),
                labels: local.labels,
                config: local.config,
                probe: None,
                joins: Vec::new(),
                end_with_scheduler: false,
                max_frame: None,
                local: true,
            },
            handlers: local.handlers,
            clock: self.clock,
            inbox: Inbox::new(),
            connector: None,
            serves: Default::default(),
            sign: Arc::new(()),
        };
        let running = parts
            .start(self.host.control())
            .await
            .map_err(StartError::Thread)?;
        let link: LinkId = fresh_link();
        let sender = join(link, &running.inbox, inbox);
        lock(&self.nodes).push((link, running));
        Ok(AddNode {
            name,
            reach: Reach::Local,
            workers: None,
            keep: false,
            linked: Some((link, sender)),
        })
    }
}
