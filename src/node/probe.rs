//! The ports by which a scheduler can see that the process of a node lives.
//!
//! Owns: which ports are opened for that, and the addresses at which they are reached. Does not
//! know: who probes, or what a refusal proves.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpListener;

use crate::error::{ListenFault, NodeStartError};
use crate::host::Host;
use crate::net::text::spelled;
use crate::net::{Listener, Trust};

/// Where a node that joins can be probed.
#[derive(Debug)]
pub(super) enum ProbeAt {
    /// Where it listens on every address, or at a port that the system chooses.
    AnyPort,
    /// A socket of its own at this address.
    Address(String),
    Nowhere,
}

/// Ports by which it can be seen that this process lives.
#[derive(Default)]
pub(super) struct Probers {
    /// The sockets that are there for this alone.
    pub sockets: Vec<TcpListener>,
    /// The addresses of all of them, as hellos name them.
    pub addresses: Vec<String>,
}

/// Opens what there must be beside the listeners. Where there is no proof of trust, only this
/// machine can be a scheduler, and no other machine reaches the port.
pub(super) async fn open_probe(
    host: &Host,
    trust: &Trust,
    at: ProbeAt,
    listeners: &[Listener],
) -> Result<Probers, NodeStartError> {
    // A port that listens on every address serves as well.
    let everywhere = listeners
        .iter()
        .filter(|it| matches!(at, ProbeAt::AnyPort) && it.local_addr().ip().is_unspecified());
    let mut addresses = Vec::new();
    for listener in everywhere {
        let socket = listener.held().map_err(no_probe)?;
        addresses.extend(reached_at(&SockRef::from(&socket)).map_err(no_probe)?);
    }
    let covered = !addresses.is_empty();
    let lacks_ipv6 = !addresses.iter().any(|it| it.starts_with('['));
    let open = matches!(trust, Trust::Open);
    let bound = host.on_network(async move {
        match at {
            ProbeAt::Nowhere => Ok(Vec::new()),
            ProbeAt::Address(address) => Ok(vec![TcpListener::bind(address).await?]),
            // By which family it dials is not known yet. Where IPv6 is not to be had, the lease
            // decides for it.
            ProbeAt::AnyPort if covered => {
                let other = (Ipv6Addr::UNSPECIFIED, 0);
                let bound = if lacks_ipv6 {
                    TcpListener::bind(other).await.ok()
                } else {
                    None
                };
                Ok(bound.into_iter().collect())
            }
            ProbeAt::AnyPort if open => on_loopback().await,
            ProbeAt::AnyPort => {
                let any = [
                    SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                ];
                Ok(vec![TcpListener::bind(&any[..]).await?])
            }
        }
    });
    let sockets = bound.await.and_then(|bound| bound).map_err(no_probe)?;
    for socket in &sockets {
        addresses.extend(reached_at(&SockRef::from(socket)).map_err(no_probe)?);
    }
    Ok(Probers { sockets, addresses })
}

async fn on_loopback() -> io::Result<Vec<TcpListener>> {
    let first = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ];
    let first = TcpListener::bind(&first[..]).await?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    if address.is_ipv4() {
        let other = TcpListener::bind((Ipv6Addr::LOCALHOST, address.port())).await;
        sockets.extend(other);
    }
    Ok(sockets)
}

/// Returns the addresses at which a listening socket is reached: one on every address may serve
/// both families.
fn reached_at(socket: &SockRef<'_>) -> io::Result<Vec<String>> {
    let Some(address) = socket.local_addr()?.as_socket() else {
        return Ok(Vec::new());
    };
    let mut reached = vec![spelled(address)];
    if address.is_ipv6() && address.ip().is_unspecified() && !socket.only_v6()? {
        reached.push(spelled((Ipv4Addr::UNSPECIFIED, address.port()).into()));
    }
    Ok(reached)
}

fn no_probe(error: std::io::Error) -> NodeStartError {
    NodeStartError::Listen(ListenFault(format!(
        "no port to be probed at can be had: {error}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Secret;

    #[actix::test]
    async fn g11_without_a_proof_of_trust_no_other_machine_reaches_the_port_to_probe() {
        let host = Host::start().await.unwrap();
        let probers = open_probe(&host, &Trust::Open, ProbeAt::AnyPort, &[])
            .await
            .unwrap();
        assert!(!probers.sockets.is_empty());
        let local: Vec<_> = probers
            .sockets
            .iter()
            .map(|it| it.local_addr().unwrap())
            .collect();
        for address in &local {
            assert!(address.ip().is_loopback(), "{address}");
            assert_eq!(address.port(), local[0].port());
            assert!(probers.addresses.contains(&address.to_string()));
        }
        let secret = Trust::Secret(Secret::new("sixteen bytes or more").unwrap());
        let probers = open_probe(&host, &secret, ProbeAt::AnyPort, &[])
            .await
            .unwrap();
        let [socket] = &probers.sockets[..] else {
            panic!("{:?}", probers.sockets);
        };
        let address = socket.local_addr().unwrap();
        assert!(address.ip().is_unspecified());
        // An IPv4 link is probed there, too.
        let port = address.port();
        assert!(probers.addresses.contains(&format!("0.0.0.0:{port}")));
        let at = ProbeAt::Address("127.0.0.1:0".to_owned());
        let probers = open_probe(&host, &secret, at, &[]).await.unwrap();
        let address = probers.sockets[0].local_addr().unwrap();
        assert_eq!(probers.addresses, [address.to_string()]);
    }
}
