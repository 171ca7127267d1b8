//! The faults, one after another: what is done to a cluster that is at work, and what is promised
//! then.
//!
//! Owns: each fault from its beginning to the heal. Does not know: the load, or how it is judged.

mod links;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::cluster::{Cluster, NODES, Shape, name};
use crate::double::Double;
use crate::judge::Course;
use crate::network::{Cut, Host, address};
use crate::scheduler::PORT;

pub use links::proxy;
use links::{far, hello, narrow};

/// What is done to a cluster, and noted in the course.
pub type Strike =
    for<'a> fn(&'a mut Cluster, &'a mut Course) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One fault.
#[derive(Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    pub strike: Strike,
    pub shape: Shape,
    /// How long a run takes, in milliseconds: such that there is work until after the heal.
    pub mean: u64,
    /// Proxies delay by so much.
    pub delay: Duration,
    /// Whether it resets connections.
    pub resets: bool,
}

const MILLIS: fn(u64) -> Duration = Duration::from_millis;
/// A cut that is within the lease of [`Shape::BRISK`] less a heartbeat and a second.
const SHORT: Duration = Duration::from_millis(600);
/// Those that are struck when not all are: one that is dialled and one that joins.
const STRUCK: [u8; 2] = [1, 4];

macro_rules! fault {
    ($name:literal, $strike:ident) => {
        Fault {
            name: $name,
            strike: |cluster, course| Box::pin($strike(cluster, course)),
            shape: Shape::BRISK,
            mean: 150,
            delay: Duration::ZERO,
            resets: false,
        }
    };
}

/// 5 MiB take most of a minute over such a link, and there has to be work until then.
const NARROW: Fault = Fault {
    shape: Shape::USUAL,
    mean: 450,
    ..fault!("1 Mbit/s and 5 MiB of args", narrow)
};
const RESET: Fault = Fault {
    resets: true,
    ..fault!("reset of every link at once", reset)
};
const HELLO: Fault = Fault {
    shape: Shape::BRISK.with_proxy(),
    mean: 300,
    resets: true,
    ..fault!("cut during the hello", hello)
};

/// Those whose links are TLS: the link breaks in the middle of a handshake, and of records.
#[cfg(feature = "tls")]
const BY_TLS: [Fault; 3] = [
    Fault {
        name: "1 Mbit/s and 5 MiB of args by TLS",
        shape: NARROW.shape.with_tls(),
        ..NARROW
    },
    Fault {
        name: "reset of every link at once by TLS",
        shape: RESET.shape.with_tls(),
        ..RESET
    },
    Fault {
        name: "cut during the hello by TLS",
        shape: HELLO.shape.with_tls(),
        ..HELLO
    },
];
#[cfg(not(feature = "tls"))]
const BY_TLS: [Fault; 0] = [];

/// Returns all of them, the longest first, so that they do not wait for others.
pub fn all() -> Vec<Fault> {
    let mut faults = vec![
        NARROW,
        Fault {
            shape: Shape::USUAL.with_proxy(),
            mean: 200,
            delay: MILLIS(200),
            ..fault!("200 ms delay, 10 % loss, reordering", far)
        },
        Fault {
            mean: flapping_for().as_millis() as u64 / 40,
            ..fault!("flapping each 500 ms", flap)
        },
        Fault {
            shape: Shape::USUAL,
            mean: 300,
            ..fault!("silent machine, default lease", cut_long)
        },
        fault!("kill -9 of one node after another", kill_one),
        fault!("kill -9 of three at once", kill_three),
        fault!("kill -9 of all, then new ones", kill_all),
        RESET,
        fault!("full cut, shorter than the lease", cut_short),
        fault!("full cut, longer", cut_long),
        fault!("cut from the nodes, shorter", from_short),
        fault!("cut from the nodes, longer", from_long),
        fault!("cut to the nodes, shorter", to_short),
        fault!("cut to the nodes, longer", to_long),
        HELLO,
        fault!("SIGSTOP of a node, shorter than the lease", freeze_short),
        fault!("SIGSTOP of a node, longer", freeze_long),
        fault!("SIGSTOP of the scheduler, shorter", scheduler_short),
        fault!("SIGSTOP of the scheduler, longer", scheduler_long),
        fault!("restart under the old name", restart),
        Fault {
            mean: 200,
            ..fault!("two nodes claim one name", claim)
        },
        fault!("a node that breaks the rules", double),
    ];
    faults.extend(BY_TLS);
    // A stable order.
    faults.sort_by_key(|fault| !fault.name.starts_with(NARROW.name));
    faults
}

fn names(numbers: impl IntoIterator<Item = u8>) -> Vec<String> {
    numbers.into_iter().map(name).collect()
}

fn hosts(numbers: impl IntoIterator<Item = u8>) -> Vec<Host> {
    numbers.into_iter().map(Host::Node).collect()
}

/// Lets a fault last so long. There is no event to wait for: the length is what is tried.
async fn lasts(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Notes that what is to be short has ended.
fn ends(course: &mut Course, from: u64, to: u64) {
    course.longest = course.longest.max(Duration::from_nanos(to - from));
    course.healed = Some(to);
}

async fn kill_one(cluster: &mut Cluster, course: &mut Course) {
    course.reroute_within = Some(MILLIS(50));
    for number in [1, 4, 0, 3] {
        let at = cluster.kill([number]);
        course.faults.push((at, names([number])));
        if number == 4 {
            cluster.middle();
        }
        lasts(MILLIS(200)).await;
        cluster.start_node(number).await;
        let name = name(number);
        cluster
            .until("it is back", |told| told.came_up(&name, at))
            .await;
    }
    course.healed = Some(crate::work::now());
}

async fn kill_three(cluster: &mut Cluster, course: &mut Course) {
    kill_and_replace(cluster, course, vec![0, 1, 4]).await;
}

async fn kill_all(cluster: &mut Cluster, course: &mut Course) {
    kill_and_replace(cluster, course, (0..NODES).collect()).await;
}

async fn kill_and_replace(cluster: &mut Cluster, course: &mut Course, numbers: Vec<u8>) {
    course.reroute_within = Some(MILLIS(50));
    let at = cluster.kill(numbers.clone());
    course.faults.push((at, names(numbers.clone())));
    cluster.middle();
    lasts(MILLIS(300)).await;
    for &number in &numbers {
        cluster.start_node(number).await;
    }
    let names = names(numbers);
    cluster
        .until("they are back", |told| {
            names.iter().all(|name| told.came_up(name, at))
        })
        .await;
    course.healed = Some(crate::work::now());
}

async fn reset(cluster: &mut Cluster, course: &mut Course) {
    course.no_second_runs = true;
    let (_, done) = cluster
        .network(|network| network.reset(Host::Scheduler))
        .await;
    cluster.middle();
    course.healed = Some(done);
}

async fn cut_for(cluster: &mut Cluster, course: &mut Course, cut: Cut) {
    course.no_second_runs = true;
    let at = cluster.cut(cut).await;
    cluster.middle();
    lasts(SHORT).await;
    ends(course, at, cluster.heal().await);
}

async fn cut_until_lost(cluster: &mut Cluster, course: &mut Course, cut: Cut) {
    let lease = cluster.shape().lease;
    course.reroute_within = Some(lease + lease / 10);
    course.returns = true;
    let at = cluster.cut(cut).await;
    course.faults.push((at, names(STRUCK)));
    cluster.middle();
    until_lost(cluster).await;
    course.healed = Some(cluster.heal().await);
}

async fn until_lost(cluster: &Cluster) {
    let names = names(STRUCK);
    cluster
        .until("they are lost", |told| {
            names.iter().all(|name| told.is(name, "Lost"))
        })
        .await;
}

async fn cut_short(cluster: &mut Cluster, course: &mut Course) {
    cut_for(cluster, course, Cut::default().both(hosts(0..NODES))).await;
}

async fn cut_long(cluster: &mut Cluster, course: &mut Course) {
    cut_until_lost(cluster, course, Cut::default().both(hosts(STRUCK))).await;
}

async fn from_short(cluster: &mut Cluster, course: &mut Course) {
    cut_for(cluster, course, Cut::default().from(hosts(0..NODES))).await;
}

async fn from_long(cluster: &mut Cluster, course: &mut Course) {
    cut_until_lost(cluster, course, Cut::default().from(hosts(STRUCK))).await;
}

async fn to_short(cluster: &mut Cluster, course: &mut Course) {
    cut_for(cluster, course, Cut::default().to(hosts(0..NODES))).await;
}

async fn to_long(cluster: &mut Cluster, course: &mut Course) {
    cut_until_lost(cluster, course, Cut::default().to(hosts(STRUCK))).await;
    // The node is not silent until it gives the link up, after two heartbeats without an answer.
    let heard = cluster.shape().heartbeat * 2;
    course.reroute_within = course.reroute_within.map(|within| within + heard);
}

async fn freeze_short(cluster: &mut Cluster, course: &mut Course) {
    course.no_second_runs = true;
    let at = STRUCK.map(|number| cluster.freeze(number))[0];
    cluster.middle();
    lasts(SHORT).await;
    let [_, healed] = STRUCK.map(|number| cluster.thaw(number));
    ends(course, at, healed);
}

async fn freeze_long(cluster: &mut Cluster, course: &mut Course) {
    let lease = cluster.shape().lease;
    course.reroute_within = Some(lease + lease / 10);
    course.returns = true;
    for number in STRUCK {
        let at = cluster.freeze(number);
        course.faults.push((at, names([number])));
    }
    cluster.middle();
    until_lost(cluster).await;
    // Until after the exclusive tasks have waited out the lease and run elsewhere.
    lasts(MILLIS(500)).await;
    course.healed = STRUCK.map(|number| cluster.thaw(number)).last().copied();
}

async fn scheduler_short(cluster: &mut Cluster, course: &mut Course) {
    course.no_second_runs = true;
    cluster.middle();
    let at = cluster.freeze_scheduler();
    lasts(SHORT).await;
    ends(course, at, cluster.thaw_scheduler());
}

async fn scheduler_long(cluster: &mut Cluster, course: &mut Course) {
    cluster.middle();
    cluster.freeze_scheduler();
    lasts(MILLIS(3000)).await;
    course.healed = Some(cluster.thaw_scheduler());
}

async fn restart(cluster: &mut Cluster, course: &mut Course) {
    course.reroute_within = Some(MILLIS(50));
    for number in STRUCK {
        let at = cluster.kill([number]);
        course.faults.push((at, names([number])));
        cluster.start_node(number).await;
        if number == STRUCK[0] {
            cluster.middle();
        }
        let name = name(number);
        cluster
            .until("it is back", |told| told.came_up(&name, at))
            .await;
    }
    course.healed = Some(crate::work::now());
}

fn flapping_for() -> Duration {
    match std::env::var_os("CALLBOARD_FAULTS_MINUTE") {
        Some(_) => Duration::from_secs(60),
        None => Duration::from_secs(16),
    }
}

async fn flap(cluster: &mut Cluster, course: &mut Course) {
    course.no_second_runs = true;
    let half = MILLIS(500);
    for flap in 0..flapping_for().as_millis() / (2 * half.as_millis()) {
        let at = cluster.cut(Cut::default().both(hosts(0..NODES))).await;
        lasts(half).await;
        ends(course, at, cluster.heal().await);
        if flap == 2 {
            cluster.middle();
        }
        lasts(half).await;
        if cluster.told().ended {
            return;
        }
    }
}

/// Lets a second process claim a name: it is refused while the first is heard, and takes its place
/// when it is not.
async fn claim(cluster: &mut Cluster, course: &mut Course) {
    course.returns = true;
    let node = name(4);
    let first = cluster.told().nodes[&node].incarnation;
    let claimant = cluster.start_claimant(4).await;
    lasts(MILLIS(800)).await;
    let held = cluster.told().nodes[&node].incarnation;
    assert!(
        held == first || cluster.told().ended,
        "the claimant was let in"
    );
    let at = cluster.freeze(4);
    course.faults.push((at, names([4])));
    cluster.middle();
    cluster
        .until("the claimant has its place", |told| {
            told.is(&node, "Up") && told.nodes[&node].incarnation != first
        })
        .await;
    course.healed = Some(cluster.thaw(4));
    let mut replaced = cluster.replace(4, claimant);
    // A scheduler that ends first tells it nothing any more.
    tokio::select! {
        biased;
        (status, gone) = replaced.ended() => assert!(
            status.success() && gone.as_deref() == Some("Replaced"),
            "{status} {gone:?}"
        ),
        _ = cluster.until("the scheduler has ended", |told| told.ended) => {}
    }
}

async fn double(cluster: &mut Cluster, course: &mut Course) {
    // Within what is left of time it may come to nothing.
    course.breaks_rules = !course.cut_off;
    let namespace = cluster.namespace(Host::Stranger);
    let scheduler = format!("{}:{PORT}", address(Host::Scheduler));
    let double = Double::start(&namespace, scheduler, cluster.directory());
    cluster
        .fates
        .insert(crate::double::NAME.to_owned(), Default::default());
    cluster
        .until("it is up", |told| {
            told.nodes.contains_key(crate::double::NAME)
        })
        .await;
    cluster.middle();
    lasts(MILLIS(3000)).await;
    drop(double);
    course.healed = Some(crate::work::now());
}
