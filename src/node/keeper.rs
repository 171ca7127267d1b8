//! What keeps a node of this process until nothing of it runs any more.
//!
//! Owns: the node's actor, its listeners and its threads, from their start to the last word to its
//! scheduler, whether or not anybody holds the handle; and the ports, for as long as a handler may
//! be running, whatever becomes of all else. Does not know: why the node ends.

use std::io;
use std::sync::Arc;

use socket2::{SockRef, Socket};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::{NodeExit, NodeHandle, engine};
use crate::actors::node::NodeParts;
use crate::engine::node::NodeEvent;
use crate::host::Host;
use crate::net::Listener;
use crate::net::carrier::{Carrier, part};

/// The ports of a node, held open. That nobody listens there proves to a scheduler that the process
/// has ended, and with it every run.
pub(super) struct Ports {
    _sockets: Vec<Socket>,
    _closed: oneshot::Sender<()>,
}

impl Ports {
    /// Holds them open until it is dropped; also returns what resolves then.
    pub fn hold(
        listeners: &[Listener],
        probers: &[TcpListener],
    ) -> io::Result<(Arc<Self>, oneshot::Receiver<()>)> {
        let listeners = listeners.iter().map(Listener::held);
        let probers = probers.iter().map(|it| SockRef::from(it).try_clone());
        let sockets = listeners.chain(probers).collect::<io::Result<_>>()?;
        let (_closed, closed) = oneshot::channel();
        let ports = Self {
            _sockets: sockets,
            _closed,
        };
        Ok((Arc::new(ports), closed))
    }
}

/// See the module.
pub(super) struct Keeper {
    pub parts: NodeParts,
    pub carrier: Arc<Carrier<NodeEvent>>,
    pub listeners: Vec<Listener>,
    pub probers: Vec<TcpListener>,
    /// Resolves when the [`Ports`] are dropped.
    pub closed: oneshot::Receiver<()>,
    pub host: Host,
}

impl Keeper {
    /// Starts the node on its control thread. If nobody waits for the handle any more, the node
    /// stops.
    pub async fn start(self) -> io::Result<NodeHandle> {
        let (ready, started) = oneshot::channel();
        let control = self.host.control().cloned();
        let keep = move || {
            actix_rt::spawn(self.keep(ready));
        };
        match control {
            // Where it has ended, `ready` is dropped.
            Some(control) => drop(control.spawn_fn(keep)),
            None => keep(),
        }
        started.await.unwrap_or_else(|_| {
            Err(io::Error::other(
                "the thread of the node ended as it was started; the actix System is stopping",
            ))
        })
    }

    async fn keep(self, ready: oneshot::Sender<io::Result<NodeHandle>>) {
        let Self {
            parts,
            carrier,
            listeners,
            probers,
            closed,
            host,
        } = self;
        let name = Arc::clone(&parts.spec.name);
        let mut running = match parts.start(None).await {
            Ok(running) => running,
            Err(error) => {
                // Nobody may wait for it any more.
                let _ = ready.send(Err(error));
                return;
            }
        };
        let listening = listeners.first().map(Listener::local_addr);
        for listener in listeners {
            carrier.listen(listener, until_gone(running.gone.clone()));
        }
        for prober in probers {
            carrier.be_probed(prober, until_gone(running.gone.clone()));
        }
        let (over, is_over) = watch::channel(None);
        let handle = NodeHandle {
            name,
            listening,
            addr: running.addr.clone(),
            inbox: running.inbox.clone(),
            over: is_over,
            welcomed: running.welcomed.clone(),
        };
        // If nobody takes it, it is dropped, which stops the node.
        let _ = ready.send(Ok(handle));
        let gone = machine_gone(&mut running.gone).await;
        part(carrier.config.close_timeout).await;
        if gone.is_some() {
            // Nothing runs, so only what a handler has left on its thread can hold that up.
            let _ = timeout(carrier.config.close_timeout, closed).await;
        }
        over.send_replace(Some(gone.map_or(NodeExit::Failed, NodeExit::new)));
        host.stop();
    }
}

/// Returns what the machine said of its end; `None` if its actor has ended before.
async fn machine_gone(gone: &mut watch::Receiver<Option<engine::Gone>>) -> Option<engine::Gone> {
    let gone = gone.wait_for(Option::is_some).await;
    gone.ok().and_then(|gone| gone.clone())
}

async fn until_gone(mut gone: watch::Receiver<Option<engine::Gone>>) {
    machine_gone(&mut gone).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::WorkerThreads;
    use crate::actors::tests::lone_node;
    use crate::clock::Clock;
    use crate::handlers::Handlers;
    use crate::links::Connector;
    use crate::net::log_limiter::LogLimiter;
    use crate::net::traffic::LinkTraffic;
    use crate::net::{LinkConfig, Trust};

    struct Panics;

    impl Connector<NodeEvent> for Panics {
        fn dial(&self, _: String, _: String, _: Option<String>, _: Option<std::time::Duration>) {
            panic!("as it was told to");
        }

        fn probe(&self, _: String, _: Box<dyn FnOnce(bool) -> NodeEvent + Send>) {}
    }

    #[actix::test]
    async fn g8_a_node_whose_thread_panics_is_not_told_as_drained() {
        let host = Host::start().await.unwrap().with_one_thread();
        let handlers = Handlers::new().on("echo", async |n: u64| Ok(n));
        let mut parts = lone_node::parts(handlers, 1, WorkerThreads::Own(1), Clock::Process);
        parts.spec.local = false;
        parts.spec.joins = vec!["nowhere".to_owned()];
        parts.connector = Some(Box::new(Panics));
        let (ports, closed) = Ports::hold(&[], &[]).unwrap();
        parts.sign = ports;
        let carrier = Arc::new(Carrier {
            network: host.network().await.unwrap(),
            trust: Trust::Open,
            config: LinkConfig::default(),
            inbox: parts.inbox.clone(),
            refusals: LogLimiter::default(),
            traffic: LinkTraffic::default(),
        });
        let keeper = Keeper {
            parts,
            carrier,
            listeners: Vec::new(),
            probers: Vec::new(),
            closed,
            host,
        };
        let node = keeper.start().await.unwrap();
        assert_eq!(node.wait().await, NodeExit::Failed);
        assert_eq!(node.drain().await, NodeExit::Failed);
    }
}
