//! Links that are bad without being cut: narrow, far, or held back in the middle of what they
//! carry.
//!
//! Owns: these faults, and the proxy's part of a cluster. Does not know: the load, or how it is
//! judged.

use std::time::Duration;

use super::{SHORT, ends, hosts, lasts};
use crate::cluster::{Cluster, NODE_PORT, NODES};
use crate::judge::Course;
use crate::network::{Host, address};
use crate::proxy::Proxy;
use crate::scheduler::PORT;

pub(super) async fn narrow(cluster: &mut Cluster, course: &mut Course) {
    course.no_second_runs = true;
    cluster
        .network(|network| network.limit(Host::Node(0), "1mbit"))
        .await;
    // One of them for the narrow link, over which it takes most of a minute.
    cluster
        .execute(&format!("large 1000 1001 {} node0", 5 << 20))
        .await;
    cluster
        .execute(&format!("large 1001 1005 {} node1", 5 << 20))
        .await;
    cluster.middle();
}

pub(super) async fn far(cluster: &mut Cluster, course: &mut Course) {
    cluster
        .network(|network| {
            network.lose(10)?;
            for host in hosts(0..NODES)
                .into_iter()
                .chain([Host::Scheduler, Host::Proxy])
            {
                network.reorder(host, 20)?;
            }
            Ok(())
        })
        .await;
    course.no_second_runs = true;
    cluster.middle();
    lasts(Duration::from_secs(10)).await;
    cluster.proxy_control().delay(Duration::ZERO);
    course.healed = Some(cluster.network(|network| network.lose(0)).await.1);
}

/// Holds each connection back in the middle of its hello, one piece later each time.
pub(super) async fn hello(cluster: &mut Cluster, course: &mut Course) {
    course.no_second_runs = true;
    let control = cluster.proxy_control();
    for pieces in 0..8 {
        let (before, at) = (control.holds(), crate::work::now());
        control.hold_after(pieces);
        cut_off(cluster, course).await;
        if pieces == 4 {
            cluster.middle();
        }
        lasts(SHORT).await;
        if cluster.told().ended {
            return;
        }
        assert!(
            control.holds() > before,
            "no connection was held back after {pieces} pieces"
        );
        if pieces % 2 == 1 {
            // What was held back is lost, not late.
            cut_off(cluster, course).await;
        }
        control.release();
        let healed = crate::work::now();
        ends(course, at, healed);
        cluster.until_renewed(0..NODES, healed).await;
    }
}

/// Resets every connection of the proxy.
async fn cut_off(cluster: &Cluster, course: &Course) {
    // Then the scheduler may have ended, and nobody be connected.
    let may_be_over = course.cut_off;
    cluster
        .network(move |network| match network.reset(Host::Proxy) {
            Err(_) if may_be_over => Ok(()),
            other => other,
        })
        .await;
}

/// Makes the proxy's part of a cluster: it leads on to every node, and to the scheduler.
pub fn proxy(namespace: &str, delay: Duration) -> Proxy {
    let nodes = (0..NODES).map(|number| {
        let to = format!("{}:{NODE_PORT}", address(Host::Node(number)));
        (NODE_PORT + u16::from(number), to)
    });
    let scheduler = (PORT, format!("{}:{PORT}", address(Host::Scheduler)));
    let routes = nodes.chain([scheduler]);
    let routes = routes.map(|(port, to)| (port, to.parse().unwrap()));
    Proxy::start(namespace, delay, routes.collect())
}
