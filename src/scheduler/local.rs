//! The nodes of the scheduler's own process.
//!
//! Owns: how one is started and linked, and ended if it was not added after all. Does not know:
//! what the scheduler makes of it.

use std::sync::Arc;

use tokio::sync::watch::Receiver;

use super::Threads;
use crate::actors::node::NodeParts;
use crate::actors::{AddNode, Halt, Linked, WorkerThreads};
use crate::engine::node::{Gone, NodeSpec};
use crate::engine::{Event, Incarnation, LinkId, Memory, Reach};
use crate::error::StartError;
use crate::inbox::Inbox;
use crate::links::{Incoming, join};
use crate::net::carrier::fresh_link;
use crate::node::{LocalNode, check_names, random};
use crate::sync::lock;

impl Threads {
    /// Forgets a node of this process when it has ended, since it was removed, for example.
    fn forget_when_gone(self: &Arc<Self>, link: LinkId, mut gone: Receiver<Option<Gone>>) {
        let threads = Arc::downgrade(self);
        let forget = async move {
            // It closes when the node has ended.
            while gone.changed().await.is_ok() {}
            if let Some(threads) = threads.upgrade() {
                threads.stop_local(link);
            }
        };
        match self.host.control() {
            // Where it has ended, all nodes have.
            Some(control) => drop(control.spawn(forget)),
            None => drop(actix_rt::spawn(forget)),
        }
    }

    /// Ends a node of this process that was not added after all, or forgets one that has ended.
    pub(super) fn stop_local(&self, link: LinkId) {
        let mut nodes = lock(&self.nodes);
        if let Some(at) = nodes.iter().position(|(other, _)| *other == link) {
            let (_, node) = nodes.swap_remove(at);
            node.addr.do_send(Halt);
        }
    }

    /// Starts a node in this process; what it returns adds it to the scheduler, or ends it when it
    /// is dropped.
    pub(super) async fn start_local(
        self: &Arc<Self>,
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
                incarnation: Incarnation(random()),
                memory: Memory(random()),
                kinds: Vec::new(),
                labels: local.labels,
                config: local.config,
                probes: Vec::new(),
                refusal_means_dead: None,
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
            hold: self.hold.clone(),
        };
        let running = parts
            .start(self.host.control())
            .await
            .map_err(StartError::Thread)?;
        let link: LinkId = fresh_link();
        let sender = join(link, &running.inbox, inbox);
        let gone = running.gone.clone();
        lock(&self.nodes).push((link, running));
        self.forget_when_gone(link, gone);
        let threads = Arc::downgrade(self);
        let end = move || {
            if let Some(threads) = threads.upgrade() {
                threads.stop_local(link);
            }
        };
        Ok(AddNode {
            refusal_means_dead: None,
            name,
            reach: Reach::Local,
            workers: None,
            keep: false,
            linked: Some(Linked::new(link, sender, end)),
        })
    }
}
