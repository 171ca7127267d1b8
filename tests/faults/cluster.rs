//! The processes of one scenario: a scheduler and its nodes, each in its own namespace, and what is
//! done to them.
//!
//! Owns: their starts and ends, and the times of every kill and freeze. Does not know: what a
//! scenario wants, or how it is judged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::credentials::Credentials;
use crate::network::{self, Cut, Host, Network, address};
use crate::processes::{NodeProcess, Process, Role, own_binary};
use crate::proxy::{Control, Proxy};
use crate::record::Told;
use crate::scheduler::{self, PORT, Setup};
use crate::strikes;
use crate::work::{DIRECTORY, LEDGER, Ledger, now};

/// How many nodes a scenario has; those below [`DIALLED`] are dialled, the others join.
pub const NODES: u8 = 5;
const DIALLED: u8 = 3;
/// Where a node that is dialled listens.
pub const NODE_PORT: u16 = 7000;
pub const WORKERS: u32 = 8;

/// Longer than any scenario takes; only a failing one waits for it.
const LONGEST: Duration = Duration::from_secs(150);

/// How a cluster is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub heartbeat: Duration,
    pub lease: Duration,
    /// Whether the scheduler and its nodes reach each other through a proxy.
    pub proxy: bool,
    /// Whether their links are TLS.
    pub tls: bool,
}

impl Shape {
    /// Proofs of life often enough that a loss is noticed within a test. Four fifths of the lease,
    /// less a heartbeat and a second, are more than a short cut: it may cost no exclusive run
    /// either.
    pub const BRISK: Self = Self {
        heartbeat: Duration::from_millis(200),
        lease: Duration::from_millis(2500),
        proxy: false,
        tls: false,
    };
    /// The library's own defaults.
    pub const USUAL: Self = Self {
        heartbeat: Duration::from_secs(2),
        lease: Duration::from_secs(15),
        proxy: false,
        tls: false,
    };

    pub const fn with_proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    #[cfg(feature = "tls")]
    pub const fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }
}

/// When a process was not as it should be.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    pub killed: Option<u64>,
    /// From when to when it was frozen.
    pub frozen: Vec<(u64, u64)>,
}

impl Fate {
    pub fn was_frozen(&self, at: u64) -> bool {
        self.frozen
            .iter()
            .any(|&(from, to)| (from..=to).contains(&at))
    }

    pub fn was_dead(&self, at: u64) -> bool {
        self.killed.is_some_and(|killed| killed <= at)
    }
}

/// A second process of one name.
pub struct Claimant(Member);

/// A node and the ledger of its process.
struct Member {
    process: NodeProcess,
    ledger: String,
}

/// See the module. Dropped, all of it is gone.
pub struct Cluster {
    members: BTreeMap<u8, Member>,
    scheduler: SchedulerProcess,
    pub fates: BTreeMap<String, Fate>,
    starts: u32,
    proxy: Option<Proxy>,
    /// Whether drain and shutdown come in the middle of the fault.
    ending: bool,
    shape: Shape,
    credentials: Credentials,
    directory: tempfile::TempDir,
    network: Arc<Network>,
}

impl Cluster {
    /// Starts all of it, and waits until every node is up.
    pub async fn start(shape: Shape, delay: Duration, network: Arc<Network>, ending: bool) -> Self {
        let directory = network::directory();
        Ledger::prepare(directory.path());
        let by = |number| match shape.proxy {
            true => format!("{}:{}", address(Host::Proxy), NODE_PORT + u16::from(number)),
            false => format!("{}:{NODE_PORT}", address(Host::Node(number))),
        };
        let names: Vec<_> = (0..NODES).map(name).collect();
        let all = names.iter().map(String::as_str).chain([scheduler::NAME]);
        let credentials = Credentials::new(shape.tls, all);
        let setup = Setup {
            heartbeat: shape.heartbeat,
            lease: shape.lease,
            certificates: credentials.directory().map(Path::to_owned),
            nodes: (0..DIALLED)
                .map(|number| (name(number), by(number)))
                .collect(),
        };
        let mut cluster = Self {
            members: BTreeMap::new(),
            scheduler: SchedulerProcess::spawn(&network, &setup),
            fates: BTreeMap::new(),
            starts: 0,
            proxy: shape
                .proxy
                .then(|| strikes::proxy(&network.namespace(Host::Proxy), delay)),
            ending,
            shape,
            credentials,
            directory,
            network,
        };
        for number in 0..NODES {
            cluster.start_node(number).await;
        }
        cluster.until_up(0..NODES).await;
        cluster
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.scheduler.told()
    }

    fn role(&mut self, number: u8, host: Host) -> (Role, String) {
        self.starts += 1;
        let ledger = format!("{}-{}", name(number), self.starts);
        let directory = self.directory.path().to_str().unwrap();
        let role = Role::new(&name(number), WORKERS)
            .within(&self.network.namespace(host))
            .env(DIRECTORY, directory)
            .env(LEDGER, &*ledger);
        let role = self.credentials.give(role);
        self.fates.insert(ledger.clone(), Fate::default());
        (role, ledger)
    }

    /// Starts a process of node `number` in its namespace.
    pub async fn start_node(&mut self, number: u8) {
        let member = self.spawn(number, Host::Node(number)).await;
        self.members.insert(number, member);
    }

    async fn spawn(&mut self, number: u8, host: Host) -> Member {
        let (role, ledger) = self.role(number, host);
        let role = if number < DIALLED {
            role.listen(format!("{}:{NODE_PORT}", address(host)).parse().unwrap())
        } else if self.shape.proxy {
            // The scheduler sees the proxy's address, where no port of this node is.
            role.join(format!("{}:{PORT}", address(Host::Proxy)).parse().unwrap())
                .without_probe()
        } else {
            role.join(
                format!("{}:{PORT}", address(Host::Scheduler))
                    .parse()
                    .unwrap(),
            )
        };
        let process = NodeProcess::spawn(&role).await;
        Member { process, ledger }
    }

    /// Sends SIGKILL to all of these, and waits until they are no more. Returns when it was sent
    /// first.
    pub fn kill(&mut self, numbers: impl IntoIterator<Item = u8> + Clone) -> u64 {
        let at = now();
        for number in numbers.clone() {
            let member = &self.members[&number];
            self.fates.get_mut(&member.ledger).unwrap().killed = Some(now());
            member.process.signal(Signal::KILL);
        }
        for number in numbers {
            self.members.remove(&number).unwrap().process.kill();
        }
        at
    }

    /// Sends SIGSTOP, and returns the time.
    pub fn freeze(&mut self, number: u8) -> u64 {
        let member = &self.members[&number];
        let at = now();
        member.process.freeze();
        self.fates
            .get_mut(&member.ledger)
            .unwrap()
            .frozen
            .push((at, u64::MAX));
        at
    }

    /// Sends SIGCONT, and returns the time.
    pub fn thaw(&mut self, number: u8) -> u64 {
        let member = &self.members[&number];
        let at = now();
        self.fates
            .get_mut(&member.ledger)
            .unwrap()
            .frozen
            .last_mut()
            .unwrap()
            .1 = at;
        member.process.thaw();
        at
    }

    pub fn freeze_scheduler(&self) -> u64 {
        self.scheduler.process.freeze();
        now()
    }

    pub fn thaw_scheduler(&self) -> u64 {
        self.scheduler.process.thaw();
        now()
    }

    /// Does this to the network, and returns when it was begun and when it was done.
    pub async fn network(
        &self,
        what: impl FnOnce(&Network) -> Result<(), String> + Send + 'static,
    ) -> (u64, u64) {
        let network = Arc::clone(&self.network);
        let doing = tokio::task::spawn_blocking(move || {
            let begun = now();
            what(&network).unwrap();
            (begun, now())
        });
        doing.await.unwrap()
    }

    /// Returns when it was begun.
    pub async fn cut(&self, cut: Cut) -> u64 {
        self.network(move |network| network.cut(&cut)).await.0
    }

    /// Ends every cut; returns when that was done.
    pub async fn heal(&self) -> u64 {
        self.network(|network| network.cut(&Cut::default())).await.1
    }

    /// Hands in what the order says, and waits until it is accepted.
    pub async fn execute(&mut self, order: &str) {
        let before = self.told().batches;
        self.scheduler.order(order);
        self.until("all are accepted", |told| told.batches > before)
            .await;
    }

    pub fn order(&mut self, order: &str) {
        self.scheduler.order(order);
    }

    /// Marks the middle of a fault: here it may end.
    pub fn middle(&mut self) {
        if self.ending {
            self.order("drain node2");
            self.order("shutdown 2500");
        }
    }

    pub fn proxy_control(&self) -> Control {
        self.proxy.as_ref().unwrap().control()
    }

    /// Keeps what was written down, for those who ask why it failed, if they have said where.
    pub fn keep(&mut self, name: &str) {
        if let Ok(place) = std::env::var("CALLBOARD_FAULTS_KEEP") {
            let place = Path::new(&place).join(name.replace([' ', '/'], "_"));
            let told = self.told();
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("beliefs"), told.beliefs.join("\n")).unwrap();
            std::fs::write(place.join("reroutes"), format!("{:#?}", told.reroutes)).unwrap();
            drop(told);
            self.directory.disable_cleanup(true);
            std::fs::write(
                place.join("directory"),
                format!("{:?}", self.directory.path()),
            )
            .unwrap();
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn namespace(&self, host: Host) -> String {
        self.network.namespace(host)
    }

    /// Starts a second process that claims to be node `number`, on a machine of its own.
    pub async fn start_claimant(&mut self, number: u8) -> Claimant {
        Claimant(self.spawn(number, Host::Stranger).await)
    }

    /// Makes the claimant the node from now on; returns the process that was.
    pub fn replace(&mut self, number: u8, claimant: Claimant) -> NodeProcess {
        self.members.insert(number, claimant.0).unwrap().process
    }

    /// Waits until the scheduler has told this, or has ended by the wish of the scenario.
    pub async fn until(&self, what: &str, holds: impl Fn(&Told) -> bool) {
        self.scheduler.until(what, holds).await;
    }

    pub async fn until_settled(&self, count: usize) {
        self.until("so many have settled", |told| told.statuses.len() >= count)
            .await;
    }

    pub async fn until_up(&self, numbers: impl IntoIterator<Item = u8>) {
        let names: Vec<_> = numbers.into_iter().map(name).collect();
        self.until("the nodes are up", |told| {
            names.iter().all(|name| told.is(name, "Up"))
        })
        .await;
    }

    /// Waits until the nodes are up and were heard a heartbeat after this: what comes then is a
    /// cut of its own, since every lease was renewed. That a node is up is not enough. The
    /// welcome that renews its lease may be lost in the next cut.
    pub async fn until_renewed(&self, numbers: impl IntoIterator<Item = u8>, since: u64) {
        let names: Vec<_> = numbers.into_iter().map(name).collect();
        let heartbeat = self.shape.heartbeat.as_nanos() as u64;
        self.until("the leases are renewed", |told| {
            names
                .iter()
                .all(|name| told.stays_up(name, since, heartbeat))
        })
        .await;
    }

    /// Shuts the scheduler down, if that is not done, and waits until its process has ended.
    pub async fn shut_down(&mut self) {
        if !self.ending {
            self.scheduler.order("shutdown 30000");
        }
        self.until("the scheduler has ended", |told| told.ended)
            .await;
        assert!(self.scheduler.process.wait().success());
    }

    /// Ends every node at once, so that the ledgers are whole.
    pub fn stop_nodes(&mut self) {
        let numbers: Vec<_> = self.members.keys().copied().collect();
        self.kill(numbers);
    }
}

pub fn name(number: u8) -> String {
    format!("node{number}")
}

/// The process of a scheduler and what it has told.
struct SchedulerProcess {
    process: Process,
    orders: ChildStdin,
    told: Arc<Mutex<Told>>,
    news: watch::Receiver<u64>,
}

impl SchedulerProcess {
    fn spawn(network: &Network, setup: &Setup) -> Self {
        let (key, value) = setup.env();
        let mut child = own_binary(Some(&network.namespace(Host::Scheduler)))
            .env(key, value)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let orders = child.stdin.take().unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let (sender, news) = watch::channel(0);
        let reader = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                reader.lock().unwrap().line(&line);
                sender.send_modify(|lines| *lines += 1);
            }
        });
        Self {
            process: Process::new(child),
            orders,
            told,
            news,
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn holds(&self, holds: &impl Fn(&Told) -> bool) -> bool {
        let told = self.told();
        told.ended || holds(&told)
    }

    async fn until(&self, what: &str, holds: impl Fn(&Told) -> bool) {
        let mut news = self.news.clone();
        let waiting = async {
            while !self.holds(&holds) {
                assert!(
                    news.changed().await.is_ok() || self.holds(&holds),
                    "the scheduler has died"
                );
            }
        };
        if timeout(LONGEST, waiting).await.is_err() {
            let told = self.told();
            panic!(
                "it never came to this: {what}; {} accepted, {} settled, {:#?}",
                told.accepted.len(),
                told.statuses.len(),
                told.nodes
            );
        }
    }
}
